package snapdb

import (
	"bytes"

	"etcd-forensics/snapdb/page"
)

// Adopt takes leaves of one bucket for read that another tree of the file has read: those
// for which both trees promise the same keys, and which have room for their overflow here,
// too. A transaction writes anew what it changes (bbolt v1.5.0, tx.go, Commit), so most
// leaves of two transactions in a row are the same pages. sound says of a leaf of the other
// tree that nothing is wrong with it. For each leaf of the tree its number in the other is
// given, -1 where there is none. Call it after the walk of the one and the pass over the
// other.
func (t *Tree) Adopt(bucket int, other *Tree, otherBucket int, sound func(leaf int) bool) []int32 {
	of := make([]int32, len(t.Leaves))
	if t.File.PageSize != other.File.PageSize { // a page is another's bytes
		for i := range of {
			of[i] = -1
		}
		return of
	}
	at := make([]int32, other.pagesInUse()) // number of the other's leaf on a page, plus 1
	for k := range other.Leaves {
		if l := &other.Leaves[k]; l.adoptable(otherBucket) && l.ID < page.ID(len(at)) && sound(k) {
			at[l.ID] = int32(k) + 1
		}
	}
	for i := range t.Leaves {
		of[i] = -1
		l := &t.Leaves[i]
		if !l.adoptable(bucket) || l.ID >= page.ID(len(at)) || at[l.ID] == 0 {
			continue
		}
		k := at[l.ID] - 1
		lo, hi := t.Range(i)
		otherLo, otherHi := other.Range(int(k))
		overflow := other.Leaves[k].Overflow
		if sameBound(lo, otherLo) && sameBound(hi, otherHi) && t.Room(l.ID) > int64(overflow) && !t.pastMark(l.ID, overflow) {
			of[i], l.exact, l.Overflow = k, other.Leaves[k].exact, overflow
		}
	}
	return of
}

func (l *Leaf) adoptable(bucket int) bool {
	return int(l.Bucket) == bucket && l.ID != 0 && l.Parent >= 0 && !l.Broken && !l.damaged
}

func sameBound(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

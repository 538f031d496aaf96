package recover

import (
	"bytes"
	"cmp"
	"slices"
	"sort"

	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
)

// A lossKind tells what is missing: that decides what pages found elsewhere can be.
type lossKind uint8

const (
	// lossPage: the page itself is damaged, so any other is at best an older copy of it.
	lossPage lossKind = iota
	// lossReference: what leads to the pages is damaged, and they may be whole.
	lossReference
)

// A Loss is a range of keys of a bucket that the tree does not give.
type Loss struct {
	Page     *page.ID // that is damaged; nil when none is known
	Bucket   string
	From, To []byte // keys from From on, before To; nil is unbounded
	Reason   string
	Found    int64 // records in the range that were found elsewhere

	kind lossKind
	leaf bool // of a lost reference: it led to one leaf, which begins with From
}

func (l *Loss) holds(key []byte) bool {
	return (l.From == nil || bytes.Compare(key, l.From) >= 0) && (l.To == nil || bytes.Compare(key, l.To) < 0)
}

// FromWords and ToWords give the ends of a range of bucket key as revisions, "" for
// none. Keys of other buckets, and what is no revision, may be part of something else.
func (l *Loss) FromWords() string { return boundWords(l.From) }

// ToWords gives the end of the range; see FromWords.
func (l *Loss) ToWords() string { return boundWords(l.To) }

func boundWords(key []byte) string {
	rev, behind, ok := boundOf(key)
	switch {
	case !ok:
		return ""
	case behind:
		return "after " + rev.String()
	}
	return rev.String()
}

// boundOf reads an end of a range of bucket key, which may lie right behind a key.
func boundOf(key []byte) (rev keyspace.Revision, behind, ok bool) {
	if n := len(key); n > keyspace.RevisionSize && key[n-1] == 0 {
		if rev, ok = keyspace.DecodeRevision(key[:n-1]); ok {
			return rev, true, true
		}
	}
	rev, ok = keyspace.DecodeRevision(key)
	return rev, false, ok
}

// compareLosses puts losses in the order of their keys.
func compareLosses(x, y Loss) int {
	return cmp.Or(cmp.Compare(x.Bucket, y.Bucket), bytes.Compare(x.From, y.From), comparePages(x.Page, y.Page), bytes.Compare(x.To, y.To), cmp.Compare(x.Reason, y.Reason))
}

// comparePages puts none last.
func comparePages(x, y *page.ID) int {
	switch {
	case x == nil && y == nil:
		return 0
	case x == nil:
		return 1
	case y == nil:
		return -1
	}
	return cmp.Compare(*x, *y)
}

// A lossIndex finds the losses of one bucket that hold a key.
type lossIndex struct {
	losses []Loss
	groups []lossGroup // in key order, and none overlaps another
	found  []*Loss
}

// A lossGroup is a run of losses that overlap: losses[first:end].
type lossGroup struct {
	from, to   []byte
	first, end int
}

func newLossIndex(losses []Loss) *lossIndex {
	slices.SortStableFunc(losses, compareLosses)
	x := &lossIndex{losses: losses}
	for i := range losses {
		l := &losses[i]
		if n := len(x.groups); n > 0 {
			if g := &x.groups[n-1]; g.to == nil || l.From == nil || bytes.Compare(l.From, g.to) < 0 {
				g.end = i + 1
				if g.to != nil && (l.To == nil || bytes.Compare(l.To, g.to) > 0) {
					g.to = l.To
				}
				continue
			}
		}
		x.groups = append(x.groups, lossGroup{l.From, l.To, i, i + 1})
	}
	return x
}

// first gives a revision at or before the first key that a loss holds.
func (x *lossIndex) first() keyspace.Revision {
	if len(x.groups) == 0 {
		return keyspace.Revision{}
	}
	rev, _, _ := boundOf(x.groups[0].from)
	return rev
}

// at gives the losses that hold a key, until the next call.
func (x *lossIndex) at(key []byte) []*Loss {
	x.found = x.found[:0]
	near := x.near(key)
	for i := range near {
		if near[i].holds(key) {
			x.found = append(x.found, &near[i])
		}
	}
	return x.found
}

// hold says whether a loss holds a key. Several may ask at once.
func (x *lossIndex) hold(key []byte) bool {
	near := x.near(key)
	for i := range near {
		if near[i].holds(key) {
			return true
		}
	}
	return false
}

// near gives the losses of the group in which a key may lie.
func (x *lossIndex) near(key []byte) []Loss {
	n := sort.Search(len(x.groups), func(i int) bool { return x.groups[i].to == nil || bytes.Compare(x.groups[i].to, key) > 0 })
	if n == len(x.groups) {
		return nil
	}
	return x.losses[x.groups[n].first:x.groups[n].end]
}

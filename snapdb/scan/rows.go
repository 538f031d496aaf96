package scan

import (
	"bytes"
	"sort"

	"etcd-forensics/snapdb"
)

// maxRowBytes bounds one page of a small bucket.
const maxRowBytes = 4 << 20

// EachRow visits the records of one small bucket by itself, in key order, before
// the pass, for what the pass needs to know beforehand. Faults are left to the
// pass. Key and Value are valid during the call only.
func EachRow(tree *snapdb.Tree, bucket int, visit func(Row)) {
	newRowReader(tree, bucket, maxRowBytes).each(visit)
}

// A rowReader reads the records of one bucket in key order, and leaves faults to
// the pass.
type rowReader struct {
	tree      *snapdb.Tree
	bucket    int
	pageBytes int64 // read of one page at most
	leaves    []int32
	buf       []byte
	elements  []snapdb.Element
	held      int32 // leaf that buf and elements hold; -1 for none
}

func newRowReader(tree *snapdb.Tree, bucket int, pageBytes int64) *rowReader {
	r := &rowReader{tree: tree, bucket: bucket, pageBytes: pageBytes, held: -1}
	for i, l := range tree.Leaves {
		if int(l.Bucket) == bucket && l.ID != 0 {
			r.leaves = append(r.leaves, int32(i))
		}
	}
	return r
}

func (r *rowReader) each(visit func(Row)) {
	r.from(nil, func(row Row) bool {
		visit(row)
		return true
	})
}

// from begins with the record at or behind key, and goes on as long as visit says.
func (r *rowReader) from(key []byte, visit func(Row) bool) {
	if bk := &r.tree.Buckets[r.bucket]; bk.Inline != nil {
		elements, _ := r.tree.ReadInline(r.bucket)
		hand(elements, &Leaf{Index: -1, Page: bk.Holder, Offset: bk.InlineOffset}, key, visit)
		return
	}
	first := sort.Search(len(r.leaves), func(i int) bool {
		_, hi := r.tree.Range(int(r.leaves[i]))
		return key == nil || hi == nil || bytes.Compare(hi, key) > 0
	})
	var ignored snapdb.FaultList
	for _, i := range r.leaves[first:] {
		if r.read(i, &ignored) && !r.hand(i, key, visit) {
			return
		}
	}
}

// read reads leaf i, unless it is the one that was read last. It gives false for one
// that the machine does not give back.
func (r *rowReader) read(i int32, faults *snapdb.FaultList) bool {
	if i == r.held {
		return true
	}
	var err error
	r.held = -1
	if r.buf, err = r.tree.File.ReadPage(r.tree.Leaves[i].ID, r.pageBytes, r.buf); err != nil {
		return false
	}
	r.elements, r.held = r.tree.ReadLeaf(int(i), r.buf, r.elements[:0], faults), i
	return true
}

// hand gives the records of leaf i, which was read, at or behind key to visit.
func (r *rowReader) hand(i int32, key []byte, visit func(Row) bool) bool {
	id := r.tree.Leaves[i].ID
	return hand(r.elements, &Leaf{Index: int(i), Page: id, Offset: int64(id) * int64(r.tree.File.PageSize)}, key, visit)
}

// hand gives the records at or behind key to visit, and says whether it wants more.
func hand(elements []snapdb.Element, l *Leaf, key []byte, visit func(Row) bool) bool {
	for _, e := range elements {
		if e.Bucket || bytes.Compare(e.Key, key) < 0 {
			continue
		}
		if !visit(Row{Key: e.Key, Value: e.Value, Page: l.Page, Offset: l.Offset + int64(e.Offset), leaf: l.Index, element: e.Index}) {
			return false
		}
	}
	return true
}

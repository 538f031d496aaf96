package scan

import (
	"etcd-forensics/snapdb"
)

// maxRowBytes bounds one page of a small bucket.
const maxRowBytes = 4 << 20

// EachRow visits the records of one small bucket by itself, in key order, before
// the pass, for what the pass needs to know beforehand. Faults are left to the
// pass. Key and Value are valid during the call only.
func EachRow(tree *snapdb.Tree, bucket int, visit func(Row)) {
	eachRow(tree, bucket, maxRowBytes, visit)
}

// eachRow visits the records of a bucket in key order. pageBytes bounds what is
// read of one page.
func eachRow(tree *snapdb.Tree, bucket int, pageBytes int64, visit func(Row)) {
	var ignored snapdb.FaultList
	bk := &tree.Buckets[bucket]
	if bk.Inline != nil {
		elements, _ := tree.ReadInline(bucket)
		eachElement(elements, &Leaf{Index: -1, Page: bk.Holder, Offset: bk.InlineOffset}, visit)
		return
	}
	var buf []byte
	var elements []snapdb.Element
	for i := range tree.Leaves {
		l := tree.Leaves[i]
		if int(l.Bucket) != bucket || l.ID == 0 {
			continue
		}
		var err error
		if buf, err = tree.File.ReadPage(l.ID, pageBytes, buf); err != nil {
			continue
		}
		elements = tree.ReadLeaf(i, buf, elements[:0], &ignored)
		eachElement(elements, &Leaf{Index: i, Page: l.ID, Offset: int64(l.ID) * int64(tree.File.PageSize)}, visit)
	}
}

func eachElement(elements []snapdb.Element, l *Leaf, visit func(Row)) {
	for _, e := range elements {
		if !e.Bucket {
			visit(Row{Key: e.Key, Value: e.Value, Page: l.Page, Offset: l.Offset + int64(e.Offset), leaf: l.Index, element: e.Index})
		}
	}
}

package scan

import (
	"etcd-forensics/snapdb"
)

// maxRowLeaves bounds ReadRows: of the buckets it is meant for only bucket lease
// has more than a few leaves, with about 100 leases on each.
const maxRowLeaves = 1 << 16

// ReadRows reads the records of one small bucket by itself, before the pass, for
// what the pass needs to know beforehand. Faults are left to the pass.
func ReadRows(tree *snapdb.Tree, bucket int) []Row {
	var ignored snapdb.FaultList
	bk := &tree.Buckets[bucket]
	if bk.Inline != nil {
		elements, _ := tree.ReadInline(bucket)
		return appendRows(nil, elements, &Leaf{Index: -1, Page: bk.Holder, Offset: bk.InlineOffset})
	}
	var rows []Row
	for i, n := 0, 0; i < len(tree.Leaves) && n < maxRowLeaves; i++ {
		l := tree.Leaves[i]
		if int(l.Bucket) != bucket {
			continue
		}
		n++
		b, err := tree.File.ReadPage(l.ID, nil)
		if err != nil {
			continue
		}
		elements := tree.ReadLeaf(i, b, nil, &ignored)
		rows = appendRows(rows, elements, &Leaf{Index: i, Page: l.ID, Offset: int64(l.ID) * int64(tree.File.PageSize)})
	}
	return rows
}

func appendRows(rows []Row, elements []snapdb.Element, l *Leaf) []Row {
	for _, e := range elements {
		rows = append(rows, Row{Key: e.Key, Value: e.Value, Page: l.Page, Offset: l.Offset + int64(e.Offset), leaf: l.Index, element: e.Index})
	}
	return rows
}

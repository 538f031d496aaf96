package scan_test

import (
	"testing"

	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
	"etcd-forensics/snapdb/scan"
)

// The revisions that a pass came by are told whatever order a damaged leaf has them in.
func TestReachOfALeafInNoOrder(t *testing.T) {
	meter := scan.NewReachMeter(&snapdb.Tree{Buckets: make([]snapdb.Bucket, 2)}, 1)
	leaf := &scan.Leaf{Bucket: 1}
	for _, main := range []int64{5, 9, 2, 7} {
		leaf.Elements = append(leaf.Elements, snapdb.Element{LeafElement: page.LeafElement{Key: keyspace.Revision{Main: main}.Append(nil)}})
	}
	leaf.Elements = append(leaf.Elements, snapdb.Element{LeafElement: page.LeafElement{Key: []byte("no revision")}})
	meter.Sink().Leaf(leaf)
	meter.Sink().Leaf(&scan.Leaf{Bucket: 0, Elements: leaf.Elements})
	if r := meter.Reach(); r != (scan.Reach{Pages: 1, Records: 5, First: 2, Last: 9}) {
		t.Errorf("%+v", r)
	}
}

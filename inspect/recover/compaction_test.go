package recover

import (
	"testing"

	"etcd-forensics/inspect"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
)

// TestALaterCompactionMayBeLost: bucket meta that is damaged and has only the compaction
// that finished does not say whether another one was scheduled since.
func TestALaterCompactionMayBeLost(t *testing.T) {
	for _, test := range []struct {
		name                string
		scheduled, finished int64
		damaged, known      bool
	}{
		{"never compacted", -1, -1, false, true},
		{"both", 9, 7, true, true},
		{"both, sound", 9, 9, false, true},
		{"only the finished one", -1, 7, true, false},
		{"none left", -1, -1, true, false},
	} {
		tree := &snapdb.Tree{}
		if test.damaged {
			tree.Faults.Add(snapdb.Fault{Bucket: 1})
		}
		j := &job{base: &base{WalkedTree: &inspect.WalkedTree{
			Tree: tree, Bucket: map[string]int{keyspace.BucketMeta: 1}, Scheduled: test.scheduled, Finished: test.finished,
		}}}
		if got := j.compactionKnown(); got != test.known {
			t.Errorf("%s: known: %v", test.name, got)
		}
	}
}

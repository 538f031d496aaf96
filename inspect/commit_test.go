package inspect

import (
	"math"
	"testing"

	"etcd-forensics/walreader/raftlog"
)

// TestVotersDecideUntilTheyChange: entries behind a change of the voters that the
// statement of them does not know may need other votes.
func TestVotersDecideUntilTheyChange(t *testing.T) {
	change := func(index uint64, kind raftlog.ChangeType) raftlog.ConfChangeEntry {
		return raftlog.ConfChangeEntry{Index: index, ConfChange: raftlog.ConfChange{Changes: []raftlog.Change{{Type: kind, NodeID: 7}}}}
	}
	x := &examination{log: &raftlog.Log{ConfChanges: []raftlog.ConfChangeEntry{
		change(1, raftlog.AddNode), change(5, raftlog.AddLearnerNode), change(6, raftlog.UpdateNode), change(8, raftlog.AddNode), change(12, raftlog.RemoveNode),
	}}}
	for _, tt := range []struct{ at, want uint64 }{{0, 1}, {1, 8}, {7, 8}, {8, 12}, {12, math.MaxUint64}} {
		if got := x.votersUntil(tt.at); got != tt.want {
			t.Errorf("voters as of %d decide up to %d, want %d", tt.at, got, tt.want)
		}
	}
}

package inspect

import (
	"etcd-forensics/walreader"
	"etcd-forensics/walreader/raftlog"
)

// A trace is what a start needs of a log and its summary does not keep: where entries
// are that some versions cannot read.
type trace struct {
	v2    indexes // requests of the v2 store
	since indexes // requests that came with 3.5

	stopped bool // etcd reads nothing from here on
}

func (t *trace) fault(f walreader.Fault) {
	t.stopped = t.stopped || f.Kind.Stops() && f.Kind != walreader.FaultType
}

// entry takes the entries in the order of the files; a later one takes the place
// of all from its index on. r is nil for what is no request that can be read.
func (t *trace) entry(e raftlog.Entry, r *raftlog.Request) {
	if t.stopped {
		return
	}
	t.v2.cut(e.Index)
	t.since.cut(e.Index)
	if e.Type != raftlog.EntryNormal {
		return
	}
	switch kindOf(e, r) {
	case raftlog.KindV2:
		t.v2.add(e.Index)
	case "cluster_version_set", "cluster_member_attr_set", "downgrade_info_set", "auth_status":
		t.since.add(e.Index)
	}
}

// kindOf gives the kind of a request even when not all of it can be read; what names no
// kind has its place in the summary of the log.
func kindOf(e raftlog.Entry, r *raftlog.Request) raftlog.Kind {
	if r != nil {
		return r.Kind
	}
	k, err := raftlog.KindOf(e.Data)
	if err != nil {
		return raftlog.KindUnknown
	}
	return k
}

// indexes are raft indexes in ascending order, as runs with both ends included.
type indexes [][2]uint64

func (r *indexes) add(index uint64) {
	if n := len(*r); n > 0 && (*r)[n-1][1]+1 == index {
		(*r)[n-1][1] = index
		return
	}
	*r = append(*r, [2]uint64{index, index})
}

// cut removes index and all above it.
func (r *indexes) cut(index uint64) {
	for n := len(*r); n > 0 && (*r)[n-1][1] >= index; n = len(*r) {
		if (*r)[n-1][0] < index {
			(*r)[n-1][1] = index - 1
			return
		}
		*r = (*r)[:n-1]
	}
}

// first gives the lowest index that is at least from, 0 when there is none.
func (r indexes) first(from uint64) uint64 {
	for _, run := range r {
		if run[1] >= from {
			return max(run[0], from)
		}
	}
	return 0
}

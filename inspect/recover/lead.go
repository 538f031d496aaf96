package recover

import (
	"bytes"

	"etcd-forensics/inspect"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/walreader/raftlog"
)

// A lead is what an entry of a log says of a revision.
type lead struct {
	by       string // the log and the entry, in words
	log      int    // number of the log
	index    uint64
	revision int64 // 0 when the database has none that it can be
	agrees   bool  // with what the database holds

	// writes are what it leaves, in order, when whole is set; otherwise what it may leave.
	writes []leadWrite
	whole  bool
	// open is set when it may have written keys that are not among them.
	open bool
	// disputed is set when another log names another entry.
	disputed bool

	solved  bool // its records are proven
	records []record
}

// A leadWrite is one record that an entry leaves, but for its versions.
type leadWrite struct {
	key, value []byte
	lease      int64
	deletes    bool
	ranges     bool // it deletes a range of keys, of which this is the first
}

// maxLeads and maxLeadBytes bound what is kept of entries. Those beyond are for rolling
// the log forward.
const (
	maxLeads     = 1 << 14
	maxLeadBytes = 64 << 20
)

// newLead takes what it needs of an entry. Which entries write, and what, is as etcd
// applies them (etcd v3.7.3, server/etcdserver/txn/{put,delete,txn}.go): what is deleted by
// range or with a lease, or put with a value that was there, depends on the store.
func newLead(a inspect.Account) *lead {
	l := &lead{index: a.Index, revision: a.Revision, agrees: a.Agrees, whole: true}
	r := a.Request
	compares := false
	var branches [2]int // writes in each
	for i := range r.Ops {
		op := &r.Ops[i]
		switch op.Kind {
		case raftlog.OpCompare:
			compares = true
			continue
		case raftlog.OpTxn:
			l.whole = false
			continue
		case raftlog.OpPut, raftlog.OpDeleteRange:
		default:
			continue
		}
		if op.Depth > 0 && op.Branch == raftlog.BranchFailure {
			if !compares {
				continue // never taken
			}
			branches[1]++
		} else {
			branches[0]++
		}
		w := leadWrite{key: bytes.Clone(op.Key), deletes: op.Kind == raftlog.OpDeleteRange, ranges: len(op.RangeEnd) > 0}
		if !w.deletes {
			w.value, w.lease = bytes.Clone(op.Value.In(a.Data)), op.Lease
		}
		l.writes = append(l.writes, w)
		l.open = l.open || w.ranges
		l.whole = l.whole && !op.IgnoreValue && !op.IgnoreLease && len(op.RangeEnd) == 0 && len(op.Key) > 0
	}
	deletes := 0
	for _, w := range l.writes {
		if w.deletes {
			deletes++
		}
	}
	l.open = l.open || r.Kind == "lease_revoke" || len(r.Also) > 0 || r.OpsDropped > 0
	l.whole = l.whole && !l.open && l.revision > 0 && len(l.writes) > 0 && (branches[0] == 0 || branches[1] == 0) &&
		(deletes == 0 || len(l.writes) == 1)
	return l
}

func (l *lead) bytes() (n int) {
	for i := range l.writes {
		n += len(l.writes[i].key) + len(l.writes[i].value)
	}
	return n
}

// touches says whether it may have written a key.
func (l *lead) touches(key []byte) bool {
	for i := range l.writes {
		if bytes.Equal(l.writes[i].key, key) {
			return true
		}
	}
	return l.open
}

// left says whether a record is what the write leaves.
func (w *leadWrite) left(rec *record) bool {
	return w.deletes == rec.rev.Tombstone && bytes.Equal(w.key, rec.kv.Key) && bytes.Equal(w.value, rec.kv.Value) && w.lease == rec.kv.Lease
}

// A version is what the new file has of a key at a revision.
type version struct {
	rev             keyspace.Revision
	create, version int64
}

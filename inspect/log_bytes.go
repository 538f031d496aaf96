package inspect

import (
	"bytes"
	"slices"

	"etcd-forensics/walreader"
	"etcd-forensics/walreader/raftlog"
)

// A logBytes reads entries again whose places are known.
type logBytes struct {
	chain *walreader.Chain
	buf   []byte

	at      place // of the entry that was read last
	read    bool
	entry   raftlog.Entry
	request raftlog.Request
}

// load reads the entry of a write. ok is false when it cannot be read again.
func (b *logBytes) load(w *write) (ok bool) {
	if b.read && b.at == w.place {
		return true
	}
	b.at, b.read = w.place, false
	var rec walreader.Record
	var err error
	rec, b.buf, err = b.chain.ReadRecordAt(w.place.segment, w.place.offset, walreader.DefaultMaxRecord, b.buf)
	if err != nil {
		return false
	}
	if b.entry, err = raftlog.DecodeEntry(rec.Data); err != nil || b.entry.Index != w.index {
		return false
	}
	b.read = b.request.Decode(b.entry.Data) == nil
	return b.read
}

// explains says whether a write whose outcome depends on the store can have left
// the records of a revision.
func (b *logBytes) explains(w *write, records []record) bool {
	if !b.load(w) {
		return true // nothing is held against what cannot be read
	}
	r := &b.request
	if r.OpsDropped > 0 {
		return true
	}
	if r.Kind == "lease_revoke" {
		return !slices.ContainsFunc(records, func(r record) bool { return !r.Tombstone })
	}
	for _, name := range []raftlog.Branch{raftlog.BranchSuccess, raftlog.BranchFailure} {
		ops := opsOf(r.Ops, name)
		if len(ops) > 0 && b.wroteAll(ops, records) {
			return true
		}
	}
	return false
}

// opsOf gives the operations in one branch of the outermost transaction, with those of
// transactions in it. What is no transaction is the first branch.
func opsOf(ops []raftlog.Op, name raftlog.Branch) []raftlog.Op {
	if len(ops) > 0 && ops[0].Depth == 0 {
		if name == raftlog.BranchSuccess {
			return ops
		}
		return nil
	}
	inside := false
	first := -1
	for i, op := range ops {
		if op.Depth == 1 {
			inside = op.Branch == name
		}
		if inside && first < 0 {
			first = i
		}
		if !inside && first >= 0 {
			return ops[first:i]
		}
	}
	if first < 0 {
		return nil
	}
	return ops[first:]
}

// wroteAll says whether the operations can have left the records and no others. Both are
// in the order in which they were carried out: each record comes from one of them,
// and each put of the branch itself has left one. What a deletion or a transaction
// in it leaves depends on the store.
func (b *logBytes) wroteAll(ops []raftlog.Op, records []record) bool {
	at := 0
	for _, r := range records {
		for ; at < len(ops) && !b.wrote(&ops[at], r); at++ {
			if must(ops, at) {
				return false
			}
		}
		if at == len(ops) {
			return false
		}
		if ops[at].Kind == raftlog.OpPut {
			at++ // a deletion may leave several
		}
	}
	for ; at < len(ops); at++ {
		if must(ops, at) {
			return false
		}
	}
	return true
}

// must says whether an operation of a branch leaves a record in any case.
func must(ops []raftlog.Op, i int) bool {
	return ops[i].Kind == raftlog.OpPut && ops[i].Depth == ops[0].Depth
}

// wrote says whether an operation can have left a record.
func (b *logBytes) wrote(op *raftlog.Op, r record) bool {
	switch op.Kind {
	case raftlog.OpDeleteRange:
		return r.Tombstone && inRange(r.Key, op.Key, op.RangeEnd)
	case raftlog.OpPut:
		return !r.Tombstone && bytes.Equal(r.Key, op.Key) &&
			(op.IgnoreValue || bytes.Equal(r.Value, op.Value.In(b.entry.Data))) && (op.IgnoreLease || r.Lease == op.Lease)
	}
	return false
}

// inRange says whether a request for key and end asks for k: without an end for the
// one key, with a zero byte as the end for all from it on.
func inRange(k, key, end []byte) bool {
	switch {
	case len(end) == 0:
		return bytes.Equal(k, key)
	case len(end) == 1 && end[0] == 0:
		return bytes.Compare(k, key) >= 0
	}
	return bytes.Compare(k, key) >= 0 && bytes.Compare(k, end) < 0
}

package inspect

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/walreader/raftlog"
)

// alignLog lays what the database has applied of the log beside what it holds. It
// gives nil when the log does not reach the database, or one of the two cannot be relied on.
// last is the database's own revision.
func (x *examination) alignLog(last int64) *alignment { return x.alignCut(last, false) }

// alignCut does so where cut says that the database's last revisions may be missing.
func (x *examination) alignCut(last int64, cut bool) *alignment {
	d := x.db
	if x.log == nil || d == nil || d.tree == nil || d.remnant != nil || !x.log.Terms.Complete() {
		return nil
	}
	bucket, ok := d.bucket[keyspace.BucketKey]
	if !ok || d.tree.Faults.InBucket(bucket) || len(x.log.Undecodable) > 0 {
		return nil
	}
	first, ok := x.reach(d.meta.index)
	if !ok {
		return nil
	}
	writes := x.writes.between(first, d.meta.index)
	if len(writes) == 0 {
		return nil
	}
	free := x.writes.guarded
	if be := x.member.Backend; be.Auth == nil || be.Auth.Enabled || len(be.Alarms) > 0 {
		free = d.meta.index
	}
	n, whole := int64(len(writes)), x.fromTheBeginning(first) && last-firstRevision < int64(len(writes))
	if whole {
		n = last - firstRevision + 1
	}
	a := &alignment{
		writes: writes, cut: cut, free: free, whole: whole,
		revs: readNewest(d, bucket, n, last, x.writes.sums), bytes: &logBytes{chain: x.chain}, answers: map[pairing]bool{},
	}
	if !a.align() {
		return nil
	}
	return a
}

// firstRevision is that of the first write to an empty store (etcd v3.7.3,
// server/storage/mvcc/kvstore.go, NewStore: currentRev 1).
const firstRevision = 2

// fromTheBeginning says whether the log has every write that the store was ever made of,
// and all of them are at hand.
func (x *examination) fromTheBeginning(first uint64) bool {
	return first == 1 && !x.writes.dropped && !x.beganRestored()
}

// beganRestored says whether the log is that of a restored member. It begins with index 1,
// too: its first entries are membership changes, and a snapshot record stands for the
// database it was given (etcdutl/snapshot/v3_snapshot.go, saveWALAndSnap).
func (x *examination) beganRestored() bool {
	for _, s := range x.log.Snapshots {
		changes := uint64(0)
		for _, c := range x.log.ConfChanges {
			if c.Index <= s.Index {
				changes++
			}
		}
		if s.Index > 0 && changes >= s.Index {
			return true
		}
	}
	return false
}

// reach gives the first entry from which on the log holds, without a break and proven,
// everything up to an index.
func (x *examination) reach(index uint64) (first uint64, ok bool) {
	runs := x.log.Terms.Runs()
	i := slices.IndexFunc(runs, func(r raftlog.Run) bool { return r.First <= index && index <= r.Last })
	if i < 0 {
		return 0, false
	}
	if b := x.member.Backend; b == nil || b.Term != nil && *b.Term != runs[i].Term {
		return 0, false
	}
	stretch := x.log.Terms.Stretch(index)
	if len(stretch) == 0 {
		return 0, false
	}
	return stretch[0].First, true
}

// checkAgainstLog holds the database against its own log.
func (x *examination) checkAgainstLog(ctx context.Context) error {
	d := x.db
	if d == nil || d.keys == nil || x.log == nil || len(d.pass.Unreadable) > 0 {
		return nil
	}
	if d.tree.Released() {
		if err := d.tree.Restore(ctx); err != nil {
			x.note("%s beside the WAL: %v", d.file.Path, interruption(err))
			return err
		}
		defer x.release()
	}
	if a := x.alignLog(d.revision()); a != nil {
		x.checkAlignment(a)
	}
	return nil
}

func (x *examination) checkAlignment(a *alignment) {
	d := x.db
	if len(a.wrong) > a.fits {
		if len(x.found([]Code{CodeMemberIDMismatch})) > 0 {
			return // another member's database is none that this log led to
		}
		x.find(newFinding(CodeMVCCWALMismatch, x.src.Path, fmt.Sprintf("the log's entries %d to %d are not what led to revision %d: of %d that write keys only %d have their records",
			a.writes[a.skipped].index, d.meta.index, d.revision(), len(a.writes)-a.skipped, a.fits)).inFile(d.file.Path).atIndex(a.writes[a.skipped].index))
		return
	}
	slices.SortFunc(a.wrong, func(p, q contradiction) int {
		return cmp.Or(cmp.Compare(p.revision, q.revision), cmp.Compare(p.write, q.write))
	})
	for i, c := range a.wrong {
		if i == x.opts.Limits.PerCode {
			x.countRest(CodeMVCCWALMismatch, len(a.wrong), i, d.file.Path)
			return
		}
		x.find(a.finding(c, newFinding(CodeMVCCWALMismatch, x.src.Path, "").inFile(d.file.Path)))
	}
}

// finding fills in what a contradiction says, without any value.
func (a *alignment) finding(c contradiction, f Finding) Finding {
	var records []record
	if c.revision > 0 {
		records, _ = a.revs.records(c.revision)
		f = f.atRevision(c.revision)
	}
	if len(records) > 0 {
		f = f.at(records[0].row.Offset).onPage(records[0].row.Page)
		f.Location.Key = records[0].Key
	}
	if c.write < 0 {
		f.Message = fmt.Sprintf("revision %d is not in the database, and no entry of the WAL accounts for that", c.revision)
		if len(records) > 0 {
			f.Message = fmt.Sprintf("revision %d of key %s was written by no entry of the WAL", c.revision, quoteKey(records[0].Key))
		}
		return f
	}
	w := &a.writes[c.write]
	f = f.atIndex(w.index)
	key, what := a.wrote(w)
	if key != nil {
		f.Location.Key = key
	}
	switch {
	case c.revision == 0:
		f.Message = fmt.Sprintf("entry %d %s, and no revision of the database holds that", w.index, what)
	case len(records) == 0:
		f.Message = fmt.Sprintf("entry %d %s as revision %d, which is not in the database", w.index, what, c.revision)
	default:
		f.Message = fmt.Sprintf("entry %d %s as revision %d, and the database holds something else there: %s", w.index, what, c.revision, a.difference(w, records[0]))
	}
	return f
}

// wrote says what a write does, and to which key when it is one.
func (a *alignment) wrote(w *write) (key []byte, what string) {
	if !a.bytes.load(w) {
		return nil, "writes keys"
	}
	r := &a.bytes.request
	for i := range r.Ops {
		switch op := &r.Ops[i]; op.Kind {
		case raftlog.OpPut:
			return bytes.Clone(op.Key), "puts key " + quoteKey(op.Key)
		case raftlog.OpDeleteRange:
			return bytes.Clone(op.Key), "deletes key " + quoteKey(op.Key)
		}
	}
	return nil, "writes keys"
}

// difference says in what a record differs from what a write leaves.
func (a *alignment) difference(w *write, r record) string {
	if !a.bytes.load(w) {
		return "another record"
	}
	var put *raftlog.Op
	ops := a.bytes.request.Ops
	for i := range ops {
		if ops[i].Kind == raftlog.OpPut && bytes.Equal(ops[i].Key, r.Key) {
			put = &ops[i]
		}
	}
	switch {
	case r.Tombstone:
		return "a deletion of key " + quoteKey(r.Key)
	case put == nil:
		return "key " + quoteKey(r.Key)
	case !bytes.Equal(put.Value.In(a.bytes.entry.Data), r.Value):
		return fmt.Sprintf("a value of %d bytes that is not the one of %d bytes in the WAL", len(r.Value), put.Value.Len)
	case put.Lease != r.Lease:
		return fmt.Sprintf("lease %016x instead of %016x", uint64(r.Lease), uint64(put.Lease))
	}
	return fmt.Sprintf("sub-revision %d of the same key", r.Sub)
}

package recover

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
	"etcd-forensics/walreader/raftlog"
	"etcd-forensics/walreader/replay"
)

// checkBase looks whether base and logs are of one cluster and one history.
func (r *rolling) checkBase(ctx context.Context) error {
	if r.base == nil {
		for _, l := range r.logs.list {
			if l.Log.Entries.First == 1 && !l.FromTheBeginning() {
				return &RollRefusal{l.path + " is the log of a restored member: what it was restored from is not in it", "as --base the snapshot that it was restored from, restored once more, or the member's database"}
			}
		}
		return nil
	}
	known := r.known()
	for _, l := range r.Logs {
		if !slices.Contains(known, l.MemberID) {
			return &RollRefusal{fmt.Sprintf("%s is the log of member %s, which the base does not know: the base is of another cluster", l.Source, l.MemberID), "a base of cluster " + r.ClusterID.String() + ", or logs of the base's cluster"}
		}
	}
	r.check("ids", Proven, "the base knows every member whose log is given")
	return r.checkSplice(ctx)
}

// known lists the members that the base names, and those that entries behind it add.
func (r *rolling) known() []inspect.ID {
	known := slices.Clone(r.base.members)
	for _, l := range r.logs.list {
		for _, c := range l.Log.ConfChanges {
			for _, change := range c.Changes {
				if c.Index > r.base.index && (change.Type == raftlog.AddNode || change.Type == raftlog.AddLearnerNode) {
					known = append(known, inspect.ID(change.NodeID))
				}
			}
		}
	}
	return known
}

// checkSplice holds the entries that base and logs share against the base. Equal ids and
// terms are no proof: a cluster that was built again in the same way has the same.
func (r *rolling) checkSplice(ctx context.Context) error {
	why := "no log holds an entry that the base has applied"
	for i, l := range r.logs.list {
		run, ok := l.run(r.base.index)
		if !ok {
			continue
		}
		if r.base.term != nil && run.Term != *r.base.term {
			return r.foreign(l.path, fmt.Sprintf("entry %d is of term %d in it and of term %d in the base", r.base.index, run.Term, *r.base.term))
		}
		s, err := inspect.SpliceOf(ctx, r.o.WALs[i], r.base.file, inspect.Limits{})
		switch {
		case err != nil:
			return err
		case s.Why != "":
			why = s.Why
			continue
		case s.Wrong > 0 && s.Wrong <= s.Fits:
			return &RollRefusal{fmt.Sprintf("the base is not what %s led to: of %d of its entries that write keys and that the base has applied, %d are in the base and %d are contradicted by it", l.path, s.Entries, s.Fits, s.Wrong),
				"another base, or none when the log reaches back to entry 1 (its WAL folder alone as --wal); inspect on base and log together names the revisions"}
		case s.Wrong > 0:
			return r.foreign(l.path, fmt.Sprintf("of %d of its entries that write keys and that the base has applied, %d are in the base and %d are contradicted by it", s.Entries, s.Fits, s.Wrong))
		case s.Holds():
			r.check("splice", Proven, fmt.Sprintf("%d of the entries up to %d in %s have their records in the base, and nothing contradicts them", s.Fits, r.base.index, l.path))
			return nil
		}
		why = "the entries that both hold write no key whose record is still there"
	}
	r.check("splice", Unproven, why)
	return nil
}

func (r *rolling) foreign(path, detail string) error {
	return &RollRefusal{fmt.Sprintf("%s did not lead to the base: %s", path, detail), "a base and logs of one cluster: that they have the same ids says only that they were set up alike"}
}

// aim says up to which entry it goes.
func (r *rolling) aim() error {
	if r.base != nil && r.base.index > r.Committed { // as a consistent index proves of every database
		r.Committed, r.CommittedBy = r.base.index, "consistent index of the base"
	}
	last := r.Committed
	if end := r.logs.tail(); end > r.Committed {
		r.Beyond = end - r.Committed
	}
	r.Stopped = StopCommitted
	if r.o.Tail && r.Beyond > 0 {
		last, r.Stopped = r.Committed+r.Beyond, StopLog
	}
	if r.o.ToIndex > 0 {
		switch {
		case r.o.ToIndex > last:
			return &RollRefusal{fmt.Sprintf("entry %d is not reached: the evidence proves entries up to %d committed", r.o.ToIndex, r.Committed), r.whatHelps()}
		case r.o.ToIndex <= r.From.Index:
			return &RollRefusal{fmt.Sprintf("the base is at index %d already", r.From.Index), "an older --base"}
		}
		last, r.Stopped = r.o.ToIndex, StopIndex
	}
	if last <= r.From.Index {
		return &RollRefusal{fmt.Sprintf("there is nothing to apply: the base is at index %d, and nothing proves a later entry committed", r.From.Index), r.whatHelps()}
	}
	return r.route(last)
}

// route plans the way to an entry, or to the gap before it.
func (r *rolling) route(last uint64) error {
	r.end = last
	err := r.logs.plan(r.From.Index+1, last)
	if e, ok := errors.AsType[errDisagree](err); ok {
		return &RollRefusal{e.Error(), fmt.Sprintf("the log of another member, or --to-index %d", e.index-1)}
	}
	if e, ok := errors.AsType[errMissing](err); ok {
		if e.First == r.From.Index+1 || r.o.ToIndex > 0 {
			return &RollRefusal{e.Error(), fmt.Sprintf("a --wal that holds them (another member's has the same entries), or a --base of index %d or later", e.Last)}
		}
		r.Missing, r.Stopped, r.end = &e.Range, StopGap, e.First-1
		err = r.logs.plan(r.From.Index+1, r.end)
	}
	if err != nil {
		return err
	}
	term := uint64(0)
	if r.base != nil && r.base.term != nil {
		term = *r.base.term
	}
	if err := r.logs.checkTerms(term); err != nil {
		return err
	}
	if len(r.logs.spans) > 1 {
		r.check("terms", Proven, fmt.Sprintf("terms rise over the %d places where one log goes on for another", len(r.logs.spans)-1))
	}
	return nil
}

// A dbMark is a database at hand that the entries lead past.
type dbMark struct {
	path  string
	index uint64
	hash  inspect.HashKV
	err   error // why there is no hash
}

// holdDatabases has the hashes of the databases beside the logs computed, to compare them
// with when their index is passed. That goes on beside what follows, until it is stopped.
func (r *rolling) holdDatabases(ctx context.Context) (stop func()) {
	var of []*source.Source
	for i, l := range r.logs.list {
		if r.From.Index < l.Applied && l.Applied <= r.end {
			r.held = append(r.held, dbMark{path: l.path, index: l.Applied})
			of = append(of, r.o.WALs[i])
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	r.hashing.Go(func() {
		for i, s := range of {
			r.held[i].hash, r.held[i].err = inspect.HashKVAt(ctx, s, 0)
		}
	})
	return func() {
		cancel()
		r.hashing.Wait()
	}
}

func (r *rolling) marks() []uint64 {
	var marks []uint64
	for i := range r.held { // of which the hashes are being computed
		marks = append(marks, r.held[i].index)
	}
	slices.Sort(marks)
	return slices.Compact(marks)
}

// compareMarks holds the databases at hand against what the entries led to at their
// indexes.
func (r *rolling) compareMarks(marks []replay.Mark) error {
	for n := range r.held {
		i := slices.IndexFunc(marks, func(k replay.Mark) bool { return k.Index == r.held[n].index })
		if i < 0 {
			continue // it was stopped before
		}
		r.hashing.Wait()
		m := r.held[n]
		if m.err != nil {
			r.check("hashkv", Unproven, fmt.Sprintf("the database of %s: %v", m.path, m.err))
			continue
		}
		k := marks[i]
		switch {
		case k.Revision == m.hash.Revision && k.CompactRevision == m.hash.CompactRevision && k.Hash == m.hash.Hash:
			r.check("hashkv", Proven, fmt.Sprintf("at index %d it is that of the database of %s", m.index, m.path))
		case k.Revision == m.hash.Revision && k.CompactRevision != m.hash.CompactRevision:
			r.check("hashkv", Unproven, fmt.Sprintf("the database of %s is compacted at revision %d, and the entries up to its index %d lead to %d", m.path, m.hash.CompactRevision, m.index, k.CompactRevision))
		default:
			return &RollRefusal{fmt.Sprintf("at index %d the entries lead to revision %d with HashKV %d, and the database of %s has revision %d with %d", m.index, k.Revision, k.Hash, m.path, m.hash.Revision, m.hash.Hash),
				"another base, if this one is of another cluster; if that database is wrong, give its WAL folder alone as --wal"}
		}
	}
	return nil
}

package recover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"etcd-forensics/inspect"
	"etcd-forensics/walreader"
	"etcd-forensics/walreader/raftlog"
	"etcd-forensics/walreader/replay"
)

// A log is one log that entries are taken from.
type log struct {
	*inspect.LogReading
	path string
	cap  uint64 // entries behind it are of a segment that someone else wrote
	// knows is the highest index of which the log's own member knew that its entry is
	// committed: up to there the log is the cluster's. Up to sure that follows from all
	// logs together.
	knows, sure uint64

	reader *walreader.ChainReader
}

// A stretch is a range of entries that are taken from one log.
type stretch struct {
	log         int
	first, last uint64
}

// logs are all logs, and what is taken from which.
type logs struct {
	list  []*log
	spans []stretch
}

// openLogs reads the logs, and settles what is committed.
func (r *rolling) openLogs(ctx context.Context) error {
	readings, err := inspect.OpenLogs(ctx, r.o.WALs, inspect.Limits{})
	if err != nil {
		return err
	}
	r.logs = &logs{}
	for i, reading := range readings {
		if reading.Unfinished() {
			return fmt.Errorf("%s could not be read to its end", r.o.WALs[i].Path)
		}
		if err := r.addLog(reading, r.o.WALs[i].Path); err != nil {
			return err
		}
	}
	r.logs.settle()
	return nil
}

// settle says up to which entry each log is the cluster's. A member that was cut off may
// hold entries that others took the place of, and may never have learnt that. A log is
// the cluster's as far as its member knew of commits, wholly when no committed entry of
// a higher term is known, and else up to the last entry that it shares with such a log:
// logs that hold an entry with the same index and term are the same up to there (raft's
// log matching).
func (ls *logs) settle() {
	newest := uint64(0)
	for _, l := range ls.list {
		last, term := l.last()
		l.sure = last
		newest = max(newest, term, l.AppliedTerm())
		for _, s := range l.Log.Snapshots {
			if s.Accepted {
				newest = max(newest, s.Term)
			}
		}
	}
	for _, l := range ls.list {
		if _, term := l.last(); term < newest {
			l.sure = l.knows
		}
	}
	known := make([]uint64, len(ls.list))
	for i, l := range ls.list {
		known[i] = l.sure
	}
	for _, l := range ls.list {
		for i, other := range ls.list {
			l.sure = max(l.sure, l.shares(other, known[i]))
		}
	}
}

// shares gives the last entry up to an index that two logs both hold.
func (l *log) shares(other *log, until uint64) (last uint64) {
	as, bs := l.Log.Terms.Runs(), other.Log.Terms.Runs()
	for len(as) > 0 && len(bs) > 0 {
		a, b := as[0], bs[0]
		k := min(a.Last, b.Last, l.cap, other.cap, until)
		if a.Term == b.Term && a.Proof == walreader.Proven && b.Proof == walreader.Proven && k >= max(a.First, b.First) {
			last = k
		}
		if a.Last <= b.Last {
			as = as[1:]
		} else {
			bs = bs[1:]
		}
	}
	return last
}

// tail gives the last entry of the log that raft would elect.
func (ls *logs) tail() uint64 {
	best := slices.MaxFunc(ls.list, func(a, b *log) int {
		la, ta := a.last()
		lb, tb := b.last()
		return cmp.Or(cmp.Compare(ta, tb), cmp.Compare(la, lb))
	})
	last, _ := best.last()
	return min(last, best.sure)
}

func (r *rolling) addLog(reading *inspect.LogReading, path string) error {
	member, cluster := reading.IDs()
	l := &log{LogReading: reading, path: path, cap: math.MaxUint64}
	switch {
	case member == nil || cluster == nil:
		return &RollRefusal{path + ": the log does not say whose it is", "a log whose first segment can be read, or another member's"}
	case len(r.Logs) > 0 && r.ClusterID != *cluster:
		return &RollRefusal{fmt.Sprintf("%s is of cluster %s, and %s of cluster %s", path, *cluster, r.Logs[0].Source, r.ClusterID), "logs of one cluster"}
	case !reading.Log.Terms.Complete():
		return &RollRefusal{path + ": the log has too many terms", "another member's log"}
	}
	r.ClusterID = *cluster
	if c := reading.Log.Conflicts; len(c) > 0 {
		for _, s := range reading.Log.Segments {
			if s.Segment.File >= c[0].At.Segment && s.Entries > 0 {
				l.cap = s.FirstIndex - 1
				break
			}
		}
	}
	if h := reading.Log.Highest; h.Proof == walreader.Proven {
		l.knows = h.Index
	}
	for _, s := range reading.Log.Snapshots {
		if s.Accepted {
			l.knows = max(l.knows, s.Index)
		}
	}
	l.knows = max(l.knows, reading.Applied)
	part := LogPart{Source: path, MemberID: *member}
	part.Last, part.LastTerm = l.last()
	if runs := reading.Log.Terms.Runs(); part.Last > 0 {
		part.First = runs[slices.IndexFunc(runs, func(run raftlog.Run) bool { return run.Proof == walreader.Proven })].First
	}
	r.Logs = append(r.Logs, part)
	r.logs.list = append(r.logs.list, l)
	if c := reading.WAL.ProvenCommit; c != nil && *c > r.Committed {
		r.Committed, r.CommittedBy = *c, reading.WAL.ProvenBy
	}
	return nil
}

// run gives the run of entries of one term that an index lies in, as far as the
// entries can be relied on.
func (l *log) run(index uint64) (raftlog.Run, bool) {
	run, ok := l.Log.Terms.RunAt(index)
	run.Last = min(run.Last, l.cap, l.sure)
	return run, ok && run.Proof == walreader.Proven && index <= run.Last
}

// last gives the last entry that can be relied on.
func (l *log) last() (last, term uint64) {
	for _, run := range l.Log.Terms.Runs() {
		if run.Proof == walreader.Proven && run.First <= l.cap {
			last, term = min(run.Last, l.cap), run.Term
		}
	}
	return last, term
}

// errDisagree says that logs hold different entries, and nothing tells which is the
// cluster's.
type errDisagree struct {
	index uint64
	a, b  string
}

func (e errDisagree) Error() string {
	return fmt.Sprintf("%s and %s hold entry %d with different terms, and nothing tells which of them the cluster committed", e.a, e.b, e.index)
}

// at chooses the log to take an entry from, nil when none has it. until is the last
// entry for which the choice is the same.
func (ls *logs) at(index uint64) (chosen int, until uint64, err error) {
	var holding []int
	until = math.MaxUint64
	for i, l := range ls.list {
		run, ok := l.run(index)
		if ok {
			holding = append(holding, i)
			until = min(until, run.Last)
		} else if next := l.next(index); next > index {
			until = min(until, next-1)
		}
	}
	if len(holding) == 0 {
		return -1, until, nil
	}
	if ls.differ(holding, index) {
		first := holding[0]
		other := holding[slices.IndexFunc(holding, func(i int) bool { return ls.term(i, index) != ls.term(first, index) })]
		return -1, until, errDisagree{index, ls.list[first].path, ls.list[other].path}
	}
	return slices.MaxFunc(holding, func(a, b int) int {
		ra, _ := ls.list[a].run(index)
		rb, _ := ls.list[b].run(index)
		return cmp.Or(cmp.Compare(ra.Last, rb.Last), cmp.Compare(b, a))
	}), until, nil
}

func (ls *logs) term(i int, index uint64) uint64 {
	run, _ := ls.list[i].run(index)
	return run.Term
}

func (ls *logs) differ(holding []int, index uint64) bool {
	return slices.ContainsFunc(holding, func(i int) bool { return ls.term(i, index) != ls.term(holding[0], index) })
}

// next gives the first entry of the log behind an index, 0 for none.
func (l *log) next(index uint64) uint64 {
	for _, run := range l.Log.Terms.Runs() {
		if run.Proof == walreader.Proven && run.First > index && run.First <= min(l.cap, l.sure) {
			return run.First
		}
	}
	return 0
}

// plan says from which log each entry is taken.
func (ls *logs) plan(first, last uint64) error {
	ls.spans = nil
	for n := first; n <= last; {
		chosen, until, err := ls.at(n)
		if err != nil {
			return err
		}
		if chosen < 0 {
			return errMissing{ls.missing(n, last)}
		}
		until = min(until, last)
		if k := len(ls.spans); k > 0 && ls.spans[k-1].log == chosen {
			ls.spans[k-1].last = until
		} else {
			ls.spans = append(ls.spans, stretch{chosen, n, until})
		}
		n = until + 1
	}
	return nil
}

// errMissing says that entries are in no log.
type errMissing struct{ Range }

func (e errMissing) Error() string {
	return fmt.Sprintf("entries %d to %d are in none of the logs, or not whole", e.First, e.Last)
}

// missing gives the entries that nobody has, from index on.
func (ls *logs) missing(index, last uint64) Range {
	for _, l := range ls.list {
		if next := l.next(index); next > 0 {
			last = min(last, next-1)
		}
	}
	return Range{index, last}
}

// checkTerms looks whether terms rise along the entries that are taken.
func (ls *logs) checkTerms(term uint64) error {
	for _, s := range ls.spans {
		for n := s.first; n <= s.last; {
			run, _ := ls.list[s.log].run(n)
			if run.Term < term {
				return &RollRefusal{fmt.Sprintf("entry %d in %s has term %d, and the one before it %d", n, ls.list[s.log].path, run.Term, term), "logs and a base of one history"}
			}
			term, n = run.Term, run.Last+1
		}
	}
	return nil
}

// confStates gives what snapshot records state between two indexes.
func (ls *logs) confStates(after, until uint64) []replay.ConfState {
	var list []replay.ConfState
	for _, l := range ls.list {
		for _, s := range l.Log.Snapshots {
			if s.Proof == walreader.Proven && s.ConfState != nil && s.Index > after && s.Index <= until && s.Index <= l.cap {
				list = append(list, replay.ConfState{Index: s.Index, Voters: s.ConfState.Voters, Learners: s.ConfState.Learners})
			}
		}
	}
	slices.SortFunc(list, func(a, b replay.ConfState) int { return cmp.Compare(a.Index, b.Index) })
	return list
}

// send hands the entries of the plan to a child.
func (ls *logs) send(ctx context.Context, p *replay.Process, r *rolling) error {
	defer ls.close()
	r.Tail, r.moreTail = []TailKey{}, nil
	for _, s := range ls.spans {
		if err := ls.sendFrom(ctx, p, r, s); err != nil || p.Stopped() {
			return err
		}
	}
	return nil
}

// errChanged says that a log does not give the same entries again.
var errChanged = errors.New("the log does not give again what was read of it")

func (ls *logs) sendFrom(ctx context.Context, p *replay.Process, r *rolling, s stretch) error {
	l := ls.list[s.log]
	if l.reader == nil {
		l.reader = l.Chain.Reader(ctx, walreader.Options{})
	}
	sent := int64(0)
	next := s.first
	for next <= s.last && !p.Stopped() {
		e, ok, err := l.entry(next)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%s: %w", l.path, errChanged)
		}
		p.Send(e)
		if e.Index > r.Committed {
			r.noteTail(e)
		}
		next++
		if sent++; sent == progressEvery {
			r.progress(sent)
			sent = 0
		}
	}
	r.progress(sent)
	return nil
}

// progressEvery is the number of entries after which progress is told.
const progressEvery = 1000

func (r *rolling) progress(n int64) {
	if r.o.Progress != nil {
		r.o.Progress(n)
	}
}

// entry reads on to the entry with an index.
func (l *log) entry(index uint64) (e raftlog.Entry, ok bool, err error) {
	for l.reader.Next() {
		f := l.reader.Frame()
		if f.Record.Type != walreader.TypeEntry || f.Proof != walreader.Proven || f.Fault != nil && f.Fault.Kind == walreader.FaultOversize {
			continue
		}
		if e, err = raftlog.DecodeEntry(f.Record.Data); err != nil || e.Index < index || l.Overwritten(l.reader.Segment(), f.At.Offset, e.Index) {
			continue
		}
		return e, e.Index == index, nil
	}
	return e, false, l.reader.Err()
}

func (ls *logs) close() {
	for _, l := range ls.list {
		if l.reader != nil {
			l.reader.Close()
			l.reader = nil
		}
	}
}

// count says what was taken from the logs: the entries up to where the result ends. More may
// have been sent before the child said that it is there.
func (r *rolling) count() {
	if r.logs == nil {
		return
	}
	for _, s := range r.logs.spans {
		if last := min(s.last, r.To.Index); last >= s.first {
			r.Logs[s.log].Used += last - s.first + 1
		}
	}
	r.Tail = slices.DeleteFunc(r.Tail, func(k TailKey) bool { return k.Index > r.To.Index })
	for _, index := range r.moreTail {
		if index <= r.To.Index {
			r.MoreTail++
		}
	}
}

// maxTail is the number of keys of the unproven tail that are listed.
const maxTail = 1000

// noteTail lists the keys that an unproven entry writes.
func (r *rolling) noteTail(e raftlog.Entry) {
	if e.Type != raftlog.EntryNormal {
		return
	}
	request, err := raftlog.DecodeRequest(e.Data)
	if err != nil {
		return
	}
	for _, op := range request.Ops {
		switch {
		case op.Kind != raftlog.OpPut && op.Kind != raftlog.OpDeleteRange:
		case len(r.Tail) == maxTail:
			r.moreTail = append(r.moreTail, e.Index)
		default:
			r.Tail = append(r.Tail, TailKey{e.Index, slices.Clone(op.Key), op.Kind == raftlog.OpDeleteRange})
		}
	}
}

package inspect

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"

	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/scan"
	"etcd-forensics/walreader"
	"etcd-forensics/walreader/raftlog"
)

// A LogReading is a WAL that was read once, with what has to be known of the whole of it
// and of the files beside it before a single entry can be judged.
type LogReading struct {
	Chain    *walreader.Chain
	Log      *raftlog.Log
	WAL      *WAL      // as in a Member
	Findings []Finding // those of the log, the worst first

	Applied uint64 // the database's consistent index, 0 when there is none to be had
	// Revisions says for how many entries the revision is proven, and for which. Without
	// any, NoRevisions says why.
	Revisions   IndexSpan
	NoRevisions string

	// Clock estimates when entries were written.
	Clock *LogClock

	x       *examination
	cuts    []cut
	last    uint64  // index of the entry that was visited last
	writes  []write // with their revisions, see below
	produce []int64 // by write: the revision that it produced, 0 for none
}

// ErrNoLog is given for a source that holds no WAL segment.
var ErrNoLog = errors.New("no WAL segment in it")

// A cut is an entry that takes the place of all before it from its index on.
type cut struct {
	at    place
	index uint64
}

// OpenLog reads a WAL, and of the database beside it what tells which entries are
// committed and which revisions they produced.
func OpenLog(ctx context.Context, s *source.Source, limits Limits) (*LogReading, error) {
	rs, err := readLogs(ctx, []*source.Source{s}, everyRequest, limits)
	if err != nil {
		return nil, err
	}
	r := rs[0]
	if r.NoRevisions == "" {
		r.align(r.x)
	}
	return r, nil
}

// OpenLogs reads the WALs of several sources, and settles by all of them together which
// entries are committed. What those ask for is not looked at: there are no statistics, no
// timeline, no clock and no keys of unapplied entries, and no revisions.
func OpenLogs(ctx context.Context, sources []*source.Source, limits Limits) ([]*LogReading, error) {
	rs, err := readLogs(ctx, sources, 0, limits)
	for _, r := range rs {
		r.NoRevisions = "not asked for"
	}
	return rs, err
}

func readLogs(ctx context.Context, sources []*source.Source, upTo uint64, limits Limits) ([]*LogReading, error) {
	var rs []*LogReading
	var all []*examination
	for _, s := range sources {
		r, err := readLog(ctx, s, upTo, limits)
		if err != nil {
			return nil, err
		}
		rs, all = append(rs, r), append(all, r.x)
	}
	settleCommits(all)
	for _, r := range rs {
		r.finish(ctx)
	}
	return rs, nil
}

// everyRequest is the bound of a log whose requests are all looked into. With a lower one
// there are no statistics, no timeline and no clock: they are of the whole.
const everyRequest = math.MaxUint64

// readLog reads what one source says, and looks into requests up to an index.
func readLog(ctx context.Context, s *source.Source, upTo uint64, limits Limits) (*LogReading, error) {
	if len(s.WAL) == 0 {
		return nil, fmt.Errorf("%s: %w", s.Path, ErrNoLog)
	}
	x := newExamination(s, Options{Limits: limits.orDefault()})
	r := &LogReading{x: x}
	x.visit, x.upTo = r.visit, upTo
	if err := x.examineLog(ctx); err != nil {
		return nil, err
	}
	found := x.findings
	if err := x.examineSnaps(ctx); err != nil {
		return nil, err
	}
	var err error
	r.NoRevisions, err = x.consult(ctx)
	x.findings = found // not those of other files
	return r, err
}

// finish judges the log when it is settled what is committed.
func (r *LogReading) finish(ctx context.Context) {
	x := r.x
	found := x.findings
	x.listUnapplied(ctx)
	x.findings = found
	x.checkLog()
	for _, f := range x.src.WAL {
		if how := f.Changed(); how != "" {
			x.find(newFinding(CodeSourceChanged, x.src.Path, "the file changed while it was read: "+how).inFile(f.Path))
		}
	}
	sortFindings(x.findings, map[string]int{})
	r.Chain, r.Log, r.WAL, r.Findings, r.Clock = x.chain, x.log, x.member.WAL, x.findings, &x.clock
	if b := x.member.Backend; b != nil && b.ConsistentIndex != nil {
		r.Applied = *b.ConsistentIndex
	}
}

// visit notes the entries that take the place of others. Of two cuts the later and
// deeper one says all that the other does, so only few need to be kept.
func (r *LogReading) visit(e raftlog.Entry, at place) {
	if e.Index <= r.last {
		n := len(r.cuts)
		for n > 0 && r.cuts[n-1].index >= e.Index {
			n--
		}
		r.cuts = append(r.cuts[:n], cut{at, e.Index})
	}
	r.last = e.Index
}

// Overwritten says whether a later entry of the log takes the place of the one with an
// index at a place.
func (r *LogReading) Overwritten(segment int, offset int64, index uint64) bool {
	at := place{segment, offset}
	i := sort.Search(len(r.cuts), func(i int) bool { return at.before(r.cuts[i].at) })
	return i < len(r.cuts) && r.cuts[i].index <= index
}

// Revision gives the revision that the entry at a place produced, 0 when none or when
// the database does not prove it.
func (r *LogReading) Revision(segment int, offset int64, index uint64) int64 {
	i, ok := slices.BinarySearchFunc(r.writes, index, func(w write, i uint64) int { return compareUint64(w.index, i) })
	if !ok || r.writes[i].place != (place{segment, offset}) {
		return 0
	}
	return r.produce[i]
}

// align finds out which revisions the entries produced.
func (r *LogReading) align(x *examination) {
	a := x.alignLog(x.db.lastRevision())
	if a == nil || a.fits <= len(a.wrong) {
		r.NoRevisions = "log and database cannot be laid beside each other: the log does not reach up to what the database has applied, or one of the two is damaged"
		return
	}
	r.writes, r.produce = a.writes, a.produced
	if a.whole && a.fits > 0 && len(a.wrong) == 0 {
		if counted, ok := a.count(); ok {
			r.produce = counted
		}
	}
	for i, rev := range r.produce {
		if rev == 0 {
			continue
		}
		if r.Revisions.Count++; r.Revisions.FirstIndex == nil {
			r.Revisions.FirstIndex = &a.writes[i].index
		}
		r.Revisions.LastIndex = &a.writes[i].index
	}
	if r.Revisions.Count == 0 {
		r.NoRevisions = "the log holds no write that is in the database"
	}
}

// consult reads what the database says about the log, without looking at its pages one
// by one. why says what keeps it from proving revisions.
func (x *examination) consult(ctx context.Context) (why string, err error) {
	if x.src.DB == nil && len(x.src.Received) == 0 {
		return "there is no database beside the log", nil
	}
	f, err := x.chooseBackend(ctx)
	if err != nil {
		return "", err
	}
	d, err := openAsOf(ctx, x.src, f, -1)
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		return "the database cannot be read: " + err.Error(), nil
	}
	be := &Backend{File: f.Path, Alarms: []Alarm{}}
	x.db, x.member.Backend = d, be
	for _, name := range smallBuckets {
		b, ok := d.bucket[name]
		if !ok {
			continue
		}
		left := x.opts.Limits.BucketBytes
		scan.NewRows(d.tree, b).From(nil, func(row scan.Row) bool {
			row.Key, row.Value = slices.Clone(row.Key), slices.Clone(row.Value)
			left -= int64(len(row.Key) + len(row.Value))
			d.rows[name] = append(d.rows[name], row)
			return left > 0
		})
	}
	x.describeMeta(be, d)
	x.describeMembership(d)
	x.describeAlarms(be, d)
	x.describeAuth(be, d)
	if d.remnant != nil {
		return "no meta page of the database is valid", nil
	}
	return "", nil
}

// lastRevision gives the newest revision as database.revision does, without the pass.
func (d *database) lastRevision() int64 {
	highest := int64(0)
	if b, ok := d.bucket[keyspace.BucketKey]; ok {
		if rev, ok := keyspace.DecodeRevision(scan.NewRows(d.tree, b).Last()); ok {
			highest = rev.Main
		}
	}
	return max(1, highest, d.meta.scheduled, d.meta.finished)
}

// Unfinished says whether reading failed somewhere, as Case.Unfinished does.
func (r *LogReading) Unfinished() bool {
	c := Case{Findings: r.Findings}
	return c.Unfinished()
}

// Highest gives the highest severity among the findings, 0 when there are none.
func (r *LogReading) Highest() Severity {
	c := Case{Findings: r.Findings}
	return c.Highest()
}

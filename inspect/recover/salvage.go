package recover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
)

// Options control a salvage.
type Options struct {
	Out      string // the new file
	Snapshot bool   // end it with its SHA-256, as `etcdctl snapshot save` does
	// With are other databases of the same cluster, to take from what is lost.
	With []*source.Source
	// Strict leaves out what only nothing speaks against.
	Strict bool
	Limits inspect.Limits
}

// A Span is a run of revisions.
type Span struct{ First, Last int64 }

// A Helper is a database from which lost records were taken.
type Helper struct {
	File    string
	Records int64
}

// A Result is what was recovered, and what was not.
type Result struct {
	File   string // that was read
	Out    string
	Size   int64
	Origin string // of the tree that was used
	Mended []page.ID

	Revision        int64 // as etcd computes it at start
	CompactRevision int64 // -1 when never compacted
	CompactionKnown bool
	Index           uint64
	Records         int64 // of bucket key
	Keys            int64 // live
	Buckets         int

	Lost         []Loss
	Missing      []Span // of revisions above the compact revision, the first of them
	MissingCount int64
	Partial      []keyspace.Revision // revisions of which operations are missing before this one
	Doubts       []Doubt             // found, and not taken
	Unproven     []Doubt             // taken because nothing speaks against them
	Conflicts    []Conflict
	Statement    Statement
	Helpers      []Helper
	Notes        []string
	Findings     []inspect.Finding // of the new file
}

// A Refusal is why nothing was written.
type Refusal struct{ error }

func refuse(format string, args ...any) error { return Refusal{fmt.Errorf(format, args...)} }

// Salvage writes a new database of all records that the pages of a damaged one prove.
func Salvage(ctx context.Context, s *source.Source, opts Options) (*Result, error) {
	f, err := inspect.BackendFile(ctx, s, opts.Limits)
	if err != nil {
		return nil, Refusal{err}
	}
	b, err := openBase(ctx, f)
	if err != nil {
		return nil, err
	}
	j := &job{base: b, opts: opts, source: s, chosen: map[keyspace.Revision]int{},
		result: &Result{File: f.Path, Out: opts.Out, Origin: b.origin, Lost: []Loss{}}}
	if err := j.decide(ctx); err != nil {
		return nil, err
	}
	decided := *j.result
	if err := j.write(ctx); err != nil {
		return nil, err
	}
	again, err := j.consult(ctx)
	if err == nil && again {
		decided.Helpers = j.result.Helpers
		*j.result = decided
		if err = j.discard(); err == nil {
			err = j.write(ctx)
		}
	}
	if err != nil {
		return nil, errors.Join(err, j.discard())
	}
	if how := f.Changed(); how != "" {
		return nil, errors.Join(fmt.Errorf("%s: the file changed while it was read: %s", f.Path, how), j.discard())
	}
	return j.result, j.publish(ctx)
}

// A job is one salvage under way.
type job struct {
	*base
	opts   Options
	result *Result
	part   string // the new file until it is complete
	source *source.Source
	self   *witness // the tree itself
	extras []found  // records of bucket key that the tree lacks, in order of revision

	chosen   map[keyspace.Revision]int // places in extras, until these are in order
	contests []contest
	settled  bool // a witness told of all records at or below the compact revision whether they live
	council  *council
	hearsay  []hearsay

	// Of what was written: the revisions above the compact revision that are missing, and
	// those of transactions of which operations are.
	missing    []Span
	partialAll []keyspace.Revision
	broken     brokenChains
}

// decide settles which records to take.
func (j *job) decide(ctx context.Context) error {
	r := j.result
	for _, s := range j.mended.spots {
		r.Mended = append(r.Mended, s.id)
	}
	j.self = newWitness(j.base, j.file.Path)
	losses := newLossIndex(j.losses())
	r.CompactionKnown = j.compactionKnown()
	if !r.CompactionKnown {
		r.Notes = append(r.Notes, "the compact revision is not known: of records on pages that the tree has lost, only what nothing speaks against is taken")
	}
	witnesses, err := j.witnesses(ctx, losses)
	if err != nil {
		return err
	}
	if err := j.search(ctx, losses, witnesses); err != nil {
		return err
	}
	r.Lost = append(slices.Clone(losses.losses), j.otherLosses()...)
	return nil
}

// compactionKnown says whether the compact revision is. A compaction is scheduled before it
// runs, so where only the finished one is left, a later one may have been lost.
func (j *job) compactionKnown() bool { return j.Scheduled >= 0 || j.metaWhole() }

// metaWhole says whether nothing is wrong with bucket meta.
func (j *job) metaWhole() bool {
	meta, ok := j.Bucket[keyspace.BucketMeta]
	return ok && !j.Tree.Faults.InBucket(meta)
}

// witnesses opens the other databases, and holds each against this one.
func (j *job) witnesses(ctx context.Context, losses *lossIndex) ([]*witness, error) {
	var all []*witness
	for _, s := range j.opts.With {
		if s.DB == nil && len(s.Received) == 0 && len(s.WAL) > 0 {
			continue // a log by itself
		}
		f, err := inspect.BackendFile(ctx, s, j.opts.Limits)
		if err != nil {
			return nil, Refusal{err}
		}
		b, err := openBase(ctx, f)
		if err != nil {
			return nil, err
		}
		w := newWitness(b, f.Path)
		if err := w.agree(ctx, j.self, losses); err != nil {
			if _, foreign := errors.AsType[foreignError](err); foreign {
				return nil, Refusal{err}
			}
			return nil, err
		}
		if w.until < math.MaxInt64 {
			j.result.Notes = append(j.result.Notes, fmt.Sprintf("%s is relied on up to revision %d: behind it nothing shows that the two go on alike", w.name, w.until))
		}
		all = append(all, w)
	}
	if len(losses.losses) == 0 {
		return all, nil
	}
	older, err := j.olderWitness(ctx)
	if older != nil {
		all = append(all, older)
	}
	return all, err
}

// search looks for the records that the tree has lost: in the other databases, and on
// pages to which it does not lead.
func (j *job) search(ctx context.Context, losses *lossIndex, witnesses []*witness) error {
	bounds, finished := j.compactedBounds()
	var testimonies []testimony
	var heard error
	var hearing sync.WaitGroup
	hearing.Go(func() { testimonies, heard = hear(ctx, witnesses, losses, finished) })
	v, err := j.judged(ctx, losses, bounds, finished)
	hearing.Wait()
	if err = cmp.Or(err, heard); err != nil {
		return err
	}
	for n, w := range witnesses {
		t := testimonies[n]
		if t.settles && !j.settled {
			j.settled = true
			v.taken = slices.DeleteFunc(v.taken, func(f found) bool { return decided(f.rev, finished) })
		}
		for _, f := range t.taken {
			if j.take(f) {
				w.taken++
			}
		}
		j.hearsay = append(j.hearsay, t.hearsay...)
		j.contests = append(j.contests, w.differing...)
	}
	j.hearsay = slices.DeleteFunc(j.hearsay, func(h hearsay) bool {
		_, taken := j.chosen[place(h.rev)]
		return taken || j.settled && decided(h.rev, finished)
	})
	j.hearsay = j.hearsay[:min(len(j.hearsay), keysFollowed)]
	witnessed := maps.Clone(j.chosen)
	for _, f := range v.taken {
		j.take(f)
	}
	slices.SortFunc(j.extras, func(x, y found) int { return cmp.Or(x.rev.Compare(y.rev), cmp.Compare(x.page, y.page)) })
	j.contests = append(j.contests, v.contests...)
	j.count(losses, witnesses, v, witnessed, finished)
	return nil
}

// judged gives what is taken of the pages to which the tree does not lead.
func (j *job) judged(ctx context.Context, losses *lossIndex, bounds, finished int64) (v verdict, err error) {
	if len(losses.losses) > 0 {
		s, err := j.collect(ctx, losses, bounds, finished)
		if err != nil {
			return v, err
		}
		v = s.judge(losses, &leafView{witness: j.self})
	}
	if j.opts.Strict {
		v.leaveOut()
	}
	return v, nil
}

// hear gives the testimony of each witness.
func hear(ctx context.Context, witnesses []*witness, losses *lossIndex, finished int64) ([]testimony, error) {
	all := make([]testimony, len(witnesses))
	for n, w := range witnesses {
		all[n].taken = w.fills
		if len(losses.losses) > 0 {
			var err error
			if all[n], err = w.testify(ctx, losses, finished); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// take takes a record that was found, unless there is one of its revision: the trees of
// other databases come first, in the order in which they were given, then that of an older
// transaction, then pages to which no tree leads.
func (j *job) take(f found) bool {
	n, there := j.chosen[place(f.rev)]
	if !there {
		j.chosen[place(f.rev)] = len(j.extras)
		j.extras = append(j.extras, f)
		return true
	}
	if first := &j.extras[n]; first.sum != f.sum && len(j.contests) < maxOdd {
		j.contests = append(j.contests, contest{rev: f.rev, taken: first.origin(), reason: byOrigin, copies: []found{f}})
	}
	return false
}

// place gives a revision without what is done there: two records of it cannot both be.
func place(rev keyspace.Revision) keyspace.Revision {
	return keyspace.Revision{Main: rev.Main, Sub: rev.Sub}
}

// leaveOut makes doubts of what was taken because nothing speaks against it.
func (v *verdict) leaveOut() {
	out := map[keyspace.Revision]bool{}
	for _, d := range v.unproven {
		out[d.Revision] = true
	}
	v.taken = slices.DeleteFunc(v.taken, func(f found) bool { return out[f.rev] })
	v.doubts = append(v.doubts, v.unproven...)
	slices.SortFunc(v.doubts, func(x, y Doubt) int { return x.Revision.Compare(y.Revision) })
	v.unproven = nil
}

// compactedBounds gives the revision up to which records may have been deleted, and that
// up to which a compaction that finished has deleted all it deletes.
func (j *job) compactedBounds() (compacted, finished int64) {
	if !j.result.CompactionKnown {
		return math.MaxInt64, math.MaxInt64
	}
	return j.CompactRevision(), j.Finished
}

func (j *job) count(losses *lossIndex, witnesses []*witness, v verdict, witnessed map[keyspace.Revision]int, finished int64) {
	r := j.result
	for i := range losses.losses {
		losses.losses[i].Found = 0
	}
	for _, f := range j.extras {
		for _, l := range losses.at(f.rev.Append(nil)) {
			l.Found++
		}
	}
	for _, w := range witnesses {
		if w.taken > 0 {
			name := w.name
			if name == "" {
				name = w.origin
			}
			r.Helpers = append(r.Helpers, Helper{name, w.taken})
		}
	}
	r.Doubts = slices.DeleteFunc(v.doubts, func(d Doubt) bool {
		_, taken := j.chosen[place(d.Revision)]
		return taken || j.settled && decided(d.Revision, finished)
	})
	taking := map[keyspace.Revision]bool{}
	for _, f := range v.taken {
		taking[f.rev] = true
	}
	r.Unproven = slices.DeleteFunc(v.unproven, func(d Doubt) bool {
		_, proven := witnessed[place(d.Revision)]
		return !taking[d.Revision] || proven
	})
}

// decided says whether a witness that holds all up to the compact revision tells of a
// record whether it lives: not of a tombstone of that very revision, which some
// versions take away and others keep.
func decided(rev keyspace.Revision, compacted int64) bool {
	return rev.Main < compacted || rev.Main == compacted && !rev.Tombstone
}

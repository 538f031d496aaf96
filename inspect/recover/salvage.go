package recover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
)

// Options control a salvage.
type Options struct {
	Out      string // the new file
	Snapshot bool   // end it with its SHA-256, as `etcdctl snapshot save` does
	Scratch  string // folder for the work file, "" for the system's
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

	Revision, CompactRevision int64 // -1 when never compacted
	CompactionKnown           bool
	Index                     uint64
	Records                   int64 // of bucket key
	Keys                      int64 // live
	Buckets                   int

	Lost         []Loss
	Missing      []Span // of revisions above the compact revision, the first of them
	MissingCount int64
	Partial      []keyspace.Revision // revisions of which operations are missing before this one
	Doubts       []Doubt             // found, and not taken
	Unproven     []Doubt             // taken because nothing speaks against them
	Conflicts    []Doubt
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
	j := &job{base: b, opts: opts, result: &Result{File: f.Path, Out: opts.Out, Origin: b.origin, Lost: []Loss{}}}
	if err := j.decide(ctx); err != nil {
		return nil, err
	}
	if err := j.write(ctx); err != nil {
		return nil, err
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
	self   *witness // the tree itself
	extras []found  // records of bucket key that the tree lacks, in order of revision
}

// decide settles which records to take.
func (j *job) decide(ctx context.Context) error {
	r := j.result
	for _, s := range j.mended.spots {
		r.Mended = append(r.Mended, s.id)
	}
	j.self = newWitness(j.base, j.file.Path)
	losses := newLossIndex(j.losses())
	compacted := j.CompactRevision()
	r.CompactionKnown = compacted >= 0 || j.metaWhole()
	if !r.CompactionKnown {
		r.Notes = append(r.Notes, "the compact revision is not known: of records on pages that the tree has lost, only what nothing speaks against is taken")
	}
	witnesses, err := j.witnesses(ctx, losses)
	if err != nil {
		return err
	}
	if len(losses.losses) > 0 {
		if err := j.search(ctx, losses, witnesses); err != nil {
			return err
		}
	}
	r.Lost = append(slices.Clone(losses.losses), j.otherLosses()...)
	return nil
}

// metaWhole says whether nothing is wrong with bucket meta.
func (j *job) metaWhole() bool {
	meta, ok := j.Bucket[keyspace.BucketMeta]
	return ok && !j.Tree.Faults.InBucket(meta)
}

// witnesses opens the other databases, and holds each against this one.
func (j *job) witnesses(ctx context.Context, losses *lossIndex) ([]*witness, error) {
	var all []*witness
	for _, s := range j.opts.With {
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
	s, err := j.collect(ctx, losses, bounds, finished)
	if err != nil {
		return err
	}
	v := s.judge(losses, &leafView{witness: j.self})
	if j.opts.Strict {
		v.leaveOut()
	}
	taken := map[keyspace.Revision]bool{}
	settled := false
	for _, w := range witnesses {
		t, err := w.testify(ctx, losses, finished)
		if err != nil {
			return err
		}
		if t.settles && !settled {
			settled = true
			v.taken = slices.DeleteFunc(v.taken, func(f found) bool { return decided(f.rev, finished) })
		}
		for _, f := range t.taken {
			if !taken[f.rev] {
				taken[f.rev] = true
				w.taken++
				j.extras = append(j.extras, f)
			}
		}
	}
	witnessed := maps.Clone(taken)
	for _, f := range v.taken {
		if !taken[f.rev] {
			taken[f.rev] = true
			j.extras = append(j.extras, f)
		}
	}
	slices.SortFunc(j.extras, func(x, y found) int { return cmp.Or(x.rev.Compare(y.rev), cmp.Compare(x.page, y.page)) })
	j.count(losses, witnesses, v, taken, witnessed, settled, finished)
	return nil
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

func (j *job) count(losses *lossIndex, witnesses []*witness, v verdict, taken, witnessed map[keyspace.Revision]bool, settled bool, finished int64) {
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
	r.Doubts = slices.DeleteFunc(v.doubts, func(d Doubt) bool { return taken[d.Revision] || settled && decided(d.Revision, finished) })
	taking := map[keyspace.Revision]bool{}
	for _, f := range v.taken {
		taking[f.rev] = true
	}
	r.Unproven = slices.DeleteFunc(v.unproven, func(d Doubt) bool { return !taking[d.Revision] || witnessed[d.Revision] })
	r.Conflicts = v.conflicts
}

// decided says whether a witness that holds all up to the compact revision tells of a
// record whether it lives: not of a tombstone of that very revision, which versions
// before 3.6 take away and later ones keep.
func decided(rev keyspace.Revision, compacted int64) bool {
	return rev.Main < compacted || rev.Main == compacted && !rev.Tombstone
}

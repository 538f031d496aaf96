package query

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/kube"
	"etcd-forensics/snapdb/scan"
)

// DiffOptions say which states are compared: 0 is the newest revision of a source.
type DiffOptions struct {
	OldRevision, NewRevision int64
	MaxKeys                  int // keys listed at most, the first in key order
}

// A DiffSide is one of the two states.
type DiffSide struct {
	File     string
	Revision int64 // as of which
	Findings []inspect.Finding
	Whole    bool          // no record can be missing
	Reach    inspect.Reach // how far the reading came
	Read     bool          // to its end
}

// A DiffRow counts the keys that begin alike.
type DiffRow struct {
	Prefix                             []byte
	Added, Removed, Changed, Recreated int64
}

// A DiffKey is one key that is not the same.
type DiffKey struct {
	Key          []byte
	Change       scan.Change
	Old, New     int64 // mod revisions, 0 where it is not there
	RecordBytes  int64 // of the record that is there, the new one when both are
	ValueChanged bool
}

// A DiffResult says what became of the keys of a store.
type DiffResult struct {
	Old, New  DiffSide
	Counts    scan.DiffCounts
	Prefixes  []DiffRow // by prefix
	Keys      []DiffKey // by key
	OtherKeys int64     // that are not among Keys

	// Interrupted is set when ctx ended before the end. With both sides read, only names
	// are missing: of Keys, and of what Prefixes count. Otherwise nothing is told of a key
	// but that AtLeast keys of the old side cannot be the same on the new one.
	Interrupted bool
	AtLeast     int64
}

// Counted says whether Counts holds: both sides were read to their end.
func (r *DiffResult) Counted() bool { return r.Old.Read && r.New.Read }

// Diff compares the keys of two states. Each source is read twice at most; memory grows
// with the number of distinct keys, and not with the files. When ctx ends behind the first
// records, the result holds what they tell.
func Diff(ctx context.Context, from, to *source.Source, opts DiffOptions) (*DiffResult, error) {
	older, err := openSide(ctx, from, opts.OldRevision)
	if err != nil {
		return nil, err
	}
	newer, err := openSide(ctx, to, opts.NewRevision)
	if err != nil {
		return nil, err
	}
	r := &DiffResult{}
	d := scan.NewDiffer()
	r.Old, err = older.read(ctx, d.Of(scan.Old, older.Bucket, opts.OldRevision))
	if err == nil {
		r.New, err = newer.read(ctx, d.Of(scan.New, newer.Bucket, opts.NewRevision))
	} else {
		r.New = newer.side()
	}
	r.Interrupted = err != nil
	switch {
	case err == nil:
	case r.Old.Reach.Pages == 0:
		return nil, err
	case r.Old.Read && r.Old.Whole:
		r.AtLeast = d.Different()
		return r, err
	default:
		return r, err
	}
	difference := d.Finish()
	r.Counts = difference.Counts
	l := &diffList{max: opts.MaxKeys, rows: map[string]*DiffRow{}}
	c := &r.Counts
	if c.Removed > 0 {
		err = older.again(ctx, difference.Names(scan.Old, older.Bucket, opts.OldRevision, l.add))
	}
	if err == nil && c.Added+c.Changed+c.Recreated > 0 {
		err = newer.again(ctx, difference.Names(scan.New, newer.Bucket, opts.NewRevision, l.add))
	}
	r.Interrupted = err != nil
	l.trim()
	r.Keys, r.OtherKeys = l.keys, l.dropped
	if err != nil {
		r.OtherKeys = c.Removed + c.Added + c.Changed + c.Recreated - int64(len(l.keys))
	}
	for _, row := range l.rows {
		r.Prefixes = append(r.Prefixes, *row)
	}
	slices.SortFunc(r.Prefixes, func(a, b DiffRow) int { return bytes.Compare(a.Prefix, b.Prefix) })
	return r, err
}

// diffSource is a key space as of a revision.
type diffSource struct {
	*inspect.Keyspace
	revision int64
}

func openSide(ctx context.Context, s *source.Source, revision int64) (*diffSource, error) {
	k, err := inspect.OpenKeyspace(ctx, s, inspect.DefaultLimits)
	if err == nil {
		err = k.Check(revision)
	}
	if err != nil {
		return nil, err
	}
	if revision == 0 {
		revision = k.Revision
	}
	return &diffSource{k, revision}, nil
}

func (s *diffSource) read(ctx context.Context, c scan.Consumer) (DiffSide, error) {
	meter := s.Meter()
	pass, err := scan.Run(ctx, s.Tree, scan.Options{}, c, meter)
	side := DiffSide{File: s.File, Revision: s.revision, Reach: meter.Reach(), Read: err == nil}
	side.Findings, side.Whole = s.Judge(pass)
	side.Whole = side.Whole && err == nil
	return side, err
}

// side is one of which nothing was read.
func (s *diffSource) side() DiffSide {
	return DiffSide{File: s.File, Revision: s.revision, Reach: s.Meter().Reach()}
}

func (s *diffSource) again(ctx context.Context, c scan.Consumer) error {
	_, err := scan.Run(ctx, s.Tree, scan.Options{Again: true}, c)
	return err
}

// A diffList collects the keys that are not the same.
type diffList struct {
	mu      sync.Mutex
	max     int
	keys    []DiffKey
	dropped int64
	rows    map[string]*DiffRow
}

// maxDiffRows bounds the prefixes that are told apart.
const maxDiffRows = 1 << 16

// otherPrefixes is the prefix of the row that takes what finds none of its own.
const otherPrefixes = "(other)"

func (l *diffList) add(d *scan.Differing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	row := l.row(diffPrefix(d.Key))
	switch d.Change {
	case scan.Added:
		row.Added++
	case scan.Removed:
		row.Removed++
	case scan.Changed:
		row.Changed++
	case scan.Recreated:
		row.Recreated++
	}
	l.keys = append(l.keys, DiffKey{Key: bytes.Clone(d.Key), Change: d.Change, Old: d.OldRevision, New: d.NewRevision, RecordBytes: d.Size, ValueChanged: d.ValueChanged})
	if len(l.keys) >= 2*max(l.max, 1) {
		l.trim()
	}
}

func (l *diffList) row(prefix []byte) *DiffRow {
	if row := l.rows[string(prefix)]; row != nil {
		return row
	}
	if len(l.rows) >= maxDiffRows {
		prefix = []byte(otherPrefixes)
		if row := l.rows[otherPrefixes]; row != nil {
			return row
		}
	}
	row := &DiffRow{Prefix: bytes.Clone(prefix)}
	l.rows[string(prefix)] = row
	return row
}

// trim keeps the first keys in key order.
func (l *diffList) trim() {
	slices.SortFunc(l.keys, func(a, b DiffKey) int { return cmp.Or(bytes.Compare(a.Key, b.Key), cmp.Compare(a.Change, b.Change)) })
	if n := len(l.keys) - l.max; n > 0 {
		l.dropped += int64(n)
		l.keys = slices.Delete(l.keys, l.max, len(l.keys))
	}
}

var slash = []byte("/")

// diffPrefix gives the part of a key by which it is counted: prefix, group and resource
// of an object of Kubernetes, otherwise up to the second slash, one in the first
// position not counted.
func diffPrefix(key []byte) []byte {
	if prefix, ok := kube.PrefixOf(key); ok {
		if n, ok := kube.ParseKey(key, prefix); ok {
			return key[:n.ResourceEnd()]
		}
	}
	return key[:keyspace.PrefixEnd(key, slash, 2)]
}

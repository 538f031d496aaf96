package query

import (
	"context"
	"hash/maphash"
	"slices"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
)

// GetOptions say what is asked for.
type GetOptions struct {
	Keys
	Revision int64 // as of it; 0 is the newest
	Values   bool
}

// A GetResult is what the keys asked for held at a revision.
type GetResult struct {
	File     string
	Revision int64
	List     []Version // of keys that were there, by key
	Findings []inspect.Finding
	Whole    bool // no record can be missing

	// Interrupted says how far the reading came; nil when it came to its end. Otherwise
	// List has the newest version of each key among those that were read, deletions too:
	// newer ones may be among the others.
	Interrupted *inspect.Reach
}

// Get gives keys as they were at a revision. When ctx ends behind the first records, the
// result holds what they tell.
func Get(ctx context.Context, s *source.Source, opts GetOptions) (*GetResult, error) {
	k, err := inspect.OpenKeyspace(ctx, s, inspect.DefaultLimits)
	if err == nil {
		err = k.Check(opts.Revision)
	}
	if err != nil {
		return nil, err
	}
	v := &versions{keyspace: k, keys: opts.Keys, revision: opts.Revision, newest: true, values: opts.Values, seed: maphash.MakeSeed()}
	r := &GetResult{File: k.File, Revision: opts.Revision}
	if r.Revision == 0 {
		r.Revision = k.Revision
	}
	r.List, r.Findings, r.Whole, err = v.read(ctx)
	r.Interrupted = v.interrupted
	if err == nil {
		r.List = slices.DeleteFunc(r.List, func(v Version) bool { return v.Revision.Tombstone })
	} else if r.Interrupted == nil {
		return nil, err
	}
	return r, err
}

package inspect

import (
	"context"
	"fmt"

	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb"
)

// What recovery needs of the choice of a database and of its root: the same that
// judging it rests on.

// BackendFile gives the database of a source that etcd would open.
func BackendFile(ctx context.Context, s *source.Source, limits Limits) (*source.File, error) {
	if s.DB == nil && len(s.Received) == 0 {
		return nil, fmt.Errorf("%s: %w", s.Path, ErrNoDatabase)
	}
	x := newExamination(s, Options{Limits: limits.orDefault()})
	if len(s.Received) > 0 { // the log tells which database it is
		if err := x.examineLog(ctx); err != nil {
			return nil, err
		}
	}
	return x.chooseBackend(ctx)
}

// A WalkedTree is one tree of a database with what bucket meta says of it.
type WalkedTree struct {
	Tree   *snapdb.Tree
	Bucket map[string]int // top-level buckets by name, in Tree.Buckets

	Scheduled, Finished int64 // compactions; -1 where there was none
	Index               uint64
}

// Walk walks the tree of the meta in use; perKind bounds the faults kept of each kind.
func Walk(ctx context.Context, db *snapdb.File, perKind int) (*WalkedTree, error) {
	d := &database{db: db}
	if err := d.walk(ctx, perKind); err != nil {
		return nil, err
	}
	return &WalkedTree{d.tree, d.bucket, d.meta.scheduled, d.meta.finished, d.meta.index}, nil
}

// CompactRevision gives the compact revision as etcd has it at start, -1 when nothing
// was ever compacted.
func (w *WalkedTree) CompactRevision() int64 { return max(w.Scheduled, w.Finished) }

// FindRoot looks for the root without a meta: among the pages that can be it, the best
// of the latest. found is nil when no page can be.
func FindRoot(ctx context.Context, db *snapdb.File) (remains *snapdb.Remains, found *snapdb.File, err error) {
	if remains, err = snapdb.Survey(ctx, db); err != nil {
		return nil, nil, err
	}
	r := &remnant{Remains: remains}
	if err := r.choose(ctx); err != nil || r.best == nil {
		return remains, nil, err
	}
	return remains, r.AsRoot(r.best.root), nil
}

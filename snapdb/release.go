package snapdb

import (
	"context"
	"errors"
	"slices"
)

// ErrTreeChanged is given when a tree is not what it was when it was walked first: the
// file was written to.
var ErrTreeChanged = errors.New("the tree of the file has changed since it was read first")

// sizes are those of a tree that was released.
type sizes struct{ nodes, leaves, arena int }

// Release gives up what is known of the tree's pages, some 50 bytes a leaf and its
// separator; buckets and faults stay. Until Restore it has no nodes and no leaves. Only
// a tree without damage is released, and says so: what was found out about a page in
// the pass would be lost. So would buckets inside buckets, which the walk does not see.
func (t *Tree) Release() bool {
	if t.released != nil || t.Faults.Len() > 0 || len(t.Buckets) > t.walked {
		return t.released != nil
	}
	t.released = &sizes{len(t.Nodes), len(t.Leaves), len(t.arena)}
	t.Nodes, t.Leaves, t.arena, t.claimed, t.buf, t.depths = nil, nil, nil, nil, nil, nil
	return true
}

// Released says whether the tree waits for Restore.
func (t *Tree) Released() bool { return t.released != nil }

// Restore walks a released tree again, from the same root page; it does nothing to
// another. Leaves have no Overflow until they are read again.
func (t *Tree) Restore(ctx context.Context) error {
	s := t.released
	if s == nil {
		return nil
	}
	again := &Tree{File: t.File, Faults: FaultList{PerKind: t.Faults.PerKind},
		Nodes: make([]Node, 0, s.nodes), Leaves: make([]Leaf, 0, s.leaves), arena: make([]byte, 1, s.arena)}
	if err := again.walk(ctx); err != nil {
		return err
	}
	same := func(a, b Bucket) bool {
		return a.Root == b.Root && a.Parent == b.Parent && string(a.Name) == string(b.Name)
	}
	if again.Faults.Len() > 0 || !slices.EqualFunc(t.Buckets, again.Buckets, same) {
		return ErrTreeChanged
	}
	*t = *again
	return nil
}

package recover

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
	"etcd-forensics/snapdb/scan"
)

// faultsKept bounds the faults kept of each kind. With more of one, a bucket counts as
// damaged everywhere.
const faultsKept = 4096

// mendRounds bounds how often the tree is walked anew because headers were mended: a
// mended branch page may lead to more.
const mendRounds = 8

// A base is the tree of a database from which records are taken.
type base struct {
	file    *source.File
	mended  *mendedFile
	db      *snapdb.File
	remains *snapdb.Remains // nil when nobody asked for it
	*inspect.WalkedTree
	pages  *snapdb.PageMap
	origin string

	key    int         // bucket key in Tree.Buckets, -1 for none
	leaves []leafState // of bucket key, by Tree.Leaves
	inline leafState   // of bucket key, when it lies inline

	// behind is set when a newer transaction is known to have been there, whose tree
	// cannot be used.
	behind bool
	older  *inspect.WalkedTree // of the meta not in use; nil when it is not valid

	unread map[page.ID]error // pages of buckets other than key that the machine did not give
}

var errByteOrder = errors.New("the file is of a machine of the other byte order, which is not read")

// openBase chooses the tree and reads it. refused is why there is none.
func openBase(ctx context.Context, f *source.File) (*base, error) {
	b := &base{file: f, mended: &mendedFile{r: f, size: f.Size()}, unread: map[page.ID]error{}}
	for way := range waysToRoot {
		for range mendRounds {
			found, err := b.walk(ctx, way)
			if err != nil {
				return nil, err
			}
			if !found {
				break
			}
			if err := b.read(ctx, nil); err != nil {
				return nil, err
			}
			if !b.mend() {
				break
			}
		}
		if b.WalkedTree != nil && b.key >= 0 && !b.behind {
			return b, nil
		}
		if b.WalkedTree != nil && b.key >= 0 || way == waysToRoot-1 {
			return b.orKeyRoot(ctx)
		}
	}
	return nil, refuse("%s: no page leads to bucket key", f.Path)
}

// waysToRoot are tried one after another, until one leads to bucket key: the tree that
// bbolt would use or a later one, that of the other meta, and any that can be found.
const waysToRoot = 3

// walk walks the branch pages of the tree to which a way leads.
func (b *base) walk(ctx context.Context, way int) (bool, error) {
	db, err := snapdb.Open(b.mended, b.mended.length())
	if err != nil {
		return false, err
	}
	if db.SwappedOrder && db.Active < 0 {
		return false, refuse("%s: %w", b.file.Path, errByteOrder)
	}
	b.WalkedTree, b.behind, b.older = nil, way > 0, nil
	switch {
	case db.Active >= 0 && way == 0:
		return true, b.newest(ctx, db)
	case db.Active >= 0 && way == 1 && db.Metas[1-db.Active].Valid():
		db = db.As(1 - db.Active)
		b.origin = fmt.Sprintf("meta page %d, the older one", db.Active)
		return true, b.use(ctx, db)
	case way == 2 || db.Active < 0 && way == 0:
		found, err := b.findRoot(ctx, db)
		if found == nil {
			return false, err
		}
		return true, b.use(ctx, found)
	}
	return false, nil
}

// newest uses the tree that bbolt would use, or a whole one that is later: where one
// meta is broken, it may have been the newer.
func (b *base) newest(ctx context.Context, db *snapdb.File) error {
	b.origin = fmt.Sprintf("meta page %d", db.Active)
	if err := b.use(ctx, db); err != nil {
		return err
	}
	other := db.Metas[1-db.Active]
	if other.Valid() {
		var err error
		b.older, err = inspect.Walk(ctx, db.As(1-db.Active), faultsKept)
		return err
	}
	mine, origin := b.WalkedTree, b.origin
	found, err := b.findRoot(ctx, db)
	if found == nil || err != nil {
		b.origin = origin
		return err
	}
	if err := b.use(ctx, found); err != nil {
		return err
	}
	if later(b.WalkedTree, mine) <= 0 || b.Tree.Faults.Len() > 0 || b.remains.Misfits(b.Tree) > 0 {
		b.WalkedTree, b.db, b.origin = mine, db, origin
		b.behind = !other.Read || other.Meta.Txid >= db.Meta().Txid || other.Meta.Txid == 0
		return nil
	}
	b.older = mine
	return nil
}

// later compares two trees of one database as transactions.
func later(x, y *inspect.WalkedTree) int {
	return cmp.Or(cmp.Compare(newestRevision(x), newestRevision(y)), cmp.Compare(x.Finished, y.Finished),
		cmp.Compare(x.Scheduled, y.Scheduled), cmp.Compare(x.Index, y.Index), cmp.Compare(len(x.Bucket), len(y.Bucket)))
}

// newestRevision gives the last revision of a tree, as far as its last pages can be read.
func newestRevision(w *inspect.WalkedTree) int64 {
	highest := w.CompactRevision()
	if key, ok := w.Bucket[keyspace.BucketKey]; ok {
		if rev, ok := keyspace.DecodeRevision(scan.NewRows(w.Tree, key).Last()); ok {
			highest = max(highest, rev.Main)
		}
	}
	return highest
}

func (b *base) findRoot(ctx context.Context, db *snapdb.File) (*snapdb.File, error) {
	remains, found, err := inspect.FindRoot(ctx, db)
	b.remains = remains
	if found != nil {
		b.origin = fmt.Sprintf("page %d, taken for the root", found.Meta().Root)
	}
	return found, err
}

// use walks a tree.
func (b *base) use(ctx context.Context, db *snapdb.File) error {
	var err error
	b.db = db
	b.WalkedTree, err = inspect.Walk(ctx, db, faultsKept)
	return err
}

// read passes over all leaves, and settles which of bucket key are whole. Those that
// another tree of the file has, too, are as they are there.
func (b *base) read(ctx context.Context, other *base) error {
	b.key = -1
	if key, ok := b.Bucket[keyspace.BucketKey]; ok {
		b.key = key
	}
	judge := newLeafJudge(b.Tree, b.key)
	var opts scan.Options
	if other != nil && other.key >= 0 && b.key >= 0 {
		opts.Known = judge.adopt(other)
	}
	result, err := scan.Run(ctx, b.Tree, opts, judge)
	if err != nil {
		return err
	}
	b.pages = result.Pages
	b.leaves, b.inline = judge.leaves, judge.inline
	b.fitMisfits()
	b.reconsider()
	return nil
}

// mend mends the headers of the pages with faults. It says whether it mended any: then
// the tree is another.
func (b *base) mend() bool {
	any := false
	for _, f := range b.Tree.Faults.All() {
		switch f.Kind {
		case snapdb.FaultPageID, snapdb.FaultPageType, snapdb.FaultPageBounds, snapdb.FaultPageEmpty, snapdb.FaultPastEnd, snapdb.FaultPageShared:
			any = b.mended.mend(b.db, f.Page) || any
		}
	}
	return any
}

// lastRevision gives the highest revision that the tree holds.
func (b *base) lastRevision() keyspace.Revision {
	last := b.inline.last
	for i := range b.leaves {
		if b.leaves[i].last.Compare(last) > 0 {
			last = b.leaves[i].last
		}
	}
	return last
}

// inUse says whether the tree uses a page, so that it is none to look for records on.
func (b *base) inUse(id page.ID) bool {
	if id >= page.ID(len(b.pages.Class)) {
		return false
	}
	switch b.pages.Class[id] {
	case snapdb.ClassFree, snapdb.ClassUnreachable, snapdb.ClassDamaged:
		return false
	}
	return true
}

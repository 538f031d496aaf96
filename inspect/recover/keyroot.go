package recover

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"etcd-forensics/inspect"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
)

// keyRootsWalked bounds the trees of bucket key that are walked to choose one.
const keyRootsWalked = 32

// A keyRoot is a branch page that can be the root of bucket key.
type keyRoot struct {
	id          page.ID
	level       int
	first, last []byte // separators
	walked      *inspect.WalkedTree
	newest      int64
	records     int64
}

// orKeyRoot is for a file whose newest root page cannot be used: where the tree that was
// found, if any, is older than a whole tree of bucket key to which no root page leads,
// the latter is put in its place.
func (b *base) orKeyRoot(ctx context.Context) (*base, error) {
	best, err := b.findKeyRoot(ctx)
	if err != nil {
		return nil, err
	}
	usable := b.WalkedTree != nil && b.key >= 0
	if best == nil || usable && newestRevision(b.WalkedTree) >= best.newest {
		if !usable {
			return nil, refuse("%s: no page leads to bucket key", b.file.Path)
		}
		return b, nil
	}
	b.setRoot(best.id)
	b.mended.spots = nil
	for range mendRounds {
		db, err := snapdb.Open(b.mended, b.mended.length())
		if err != nil {
			return nil, err
		}
		if err := b.use(ctx, b.asRoot(db)); err != nil {
			return nil, err
		}
		if err := b.read(ctx, nil); err != nil {
			return nil, err
		}
		if !b.mend() {
			break
		}
	}
	b.older, b.behind = nil, true
	b.origin = fmt.Sprintf("page %d, taken for the root of bucket key, to which no root page leads", best.id)
	return b, nil
}

// asRoot gives the file as if a meta named the root page behind its end.
func (b *base) asRoot(db *snapdb.File) *snapdb.File {
	g := *db
	g.Active, g.StandIn, g.PageSize = 0, true, b.remains.PageSize
	g.DataSize = b.mended.length()
	root := page.ID(b.mended.rootAt / int64(g.PageSize))
	g.Metas[0].Meta = page.Meta{
		Magic: page.Magic, Version: page.Version, PageSize: uint32(g.PageSize), Root: root, Freelist: page.NoFreelist,
		Pgid: page.ID(b.mended.length() / int64(g.PageSize)),
	}
	return &g
}

// findKeyRoot looks for the latest whole tree of bucket key.
func (b *base) findKeyRoot(ctx context.Context) (*keyRoot, error) {
	db, err := snapdb.Open(b.mended, b.mended.length())
	if err != nil {
		return nil, err
	}
	if b.remains == nil {
		if b.remains, err = snapdb.Survey(ctx, db); err != nil {
			return nil, err
		}
	}
	if b.remains.PageSize == 0 {
		return nil, nil
	}
	roots, err := b.keyRoots(ctx, db)
	if err != nil {
		return nil, err
	}
	var best *keyRoot
	before := b.mended.root
	for i := range roots {
		r := &roots[i]
		b.setRoot(r.id)
		if db, err = snapdb.Open(b.mended, b.mended.length()); err != nil {
			return nil, err
		}
		w, err := inspect.Walk(ctx, b.asRoot(db), 0)
		if err != nil {
			return nil, err
		}
		key, ok := w.Bucket[keyspace.BucketKey]
		if !ok || w.Tree.Faults.Len() > 0 || b.misfits(w.Tree, key) > 0 {
			continue
		}
		r.walked, r.newest, r.records = w, newestRevision(w), b.remains.Records(w.Tree, key)
		if best == nil || cmp.Or(cmp.Compare(r.newest, best.newest), bytes.Compare(best.first, r.first), cmp.Compare(best.records, r.records)) > 0 {
			best = r
		}
	}
	b.mended.root = before
	return best, nil
}

// misfits counts the leaves that are not what the tree refers to, but for the root page,
// which is in no file.
func (b *base) misfits(t *snapdb.Tree, key int) int {
	n := b.remains.Misfits(t)
	for i := range t.Leaves {
		if t.Leaves[i].Bucket == 0 {
			n--
		}
	}
	return n
}

// keyRoots lists the branch pages of bucket key of the highest two levels, those with
// the latest separators first.
func (b *base) keyRoots(ctx context.Context, db *snapdb.File) ([]keyRoot, error) {
	child := map[page.ID]page.ID{}
	for id, first := range b.remains.Branches() {
		child[id] = first
	}
	var roots []keyRoot
	var buf []byte
	f := *db
	f.PageSize = b.remains.PageSize
	highest, n := 0, 0
	for id := range b.remains.Branches() {
		if n++; n%4096 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		r := keyRoot{id: id, level: levelOf(child, id)}
		if r.level < highest-1 {
			continue
		}
		var err error
		if buf, err = f.ReadPage(id, maxMended, buf); err != nil || !page.LaidOut(buf) {
			continue
		}
		if r.first, r.last = separators(buf); r.first == nil {
			continue
		}
		highest = max(highest, r.level)
		roots = append(roots, r)
	}
	roots = slices.DeleteFunc(roots, func(r keyRoot) bool { return r.level < highest-1 })
	slices.SortFunc(roots, func(x, y keyRoot) int {
		return cmp.Or(cmp.Compare(y.level, x.level), bytes.Compare(y.last, x.last), bytes.Compare(x.first, y.first), cmp.Compare(x.id, y.id))
	})
	return roots[:min(len(roots), keyRootsWalked)], nil
}

// maxLevels bounds the levels of branch pages.
const maxLevels = 32

func levelOf(child map[page.ID]page.ID, id page.ID) int {
	for level := range maxLevels {
		next, branch := child[id]
		if !branch {
			return level
		}
		id = next
	}
	return 0 // a cycle
}

// separators gives the first and last separator of a branch page when all are those of
// bucket key, in order.
func separators(buf []byte) (first, last []byte) {
	br, _ := page.OpenBranch(buf)
	for i := range br.Len() {
		e, fault := br.Element(i)
		if _, ok := keyspace.DecodeRevision(e.Key); !ok || fault != nil || bytes.Compare(last, e.Key) >= 0 {
			return nil, nil
		}
		if i == 0 {
			first = bytes.Clone(e.Key)
		}
		last = e.Key
	}
	return first, bytes.Clone(last)
}

// setRoot puts a root page behind the end of the file that names a root of bucket key
// and, when there is another tree, that tree's other buckets.
func (b *base) setRoot(key page.ID) {
	type entry struct{ name, value []byte }
	header := binary.LittleEndian.AppendUint64(nil, uint64(key))
	entries := []entry{{[]byte(keyspace.BucketKey), binary.LittleEndian.AppendUint64(header, 0)}}
	if b.WalkedTree != nil {
		for i := range b.Tree.Buckets {
			bk := &b.Tree.Buckets[i]
			if i == 0 || bk.Parent != 0 || string(bk.Name) == keyspace.BucketKey || slices.ContainsFunc(entries, func(e entry) bool { return bytes.Equal(e.name, bk.Name) }) {
				continue
			}
			value := binary.LittleEndian.AppendUint64(nil, uint64(bk.Root))
			value = binary.LittleEndian.AppendUint64(value, bk.Sequence)
			entries = append(entries, entry{bk.Name, append(value, bk.Inline...)})
		}
	}
	slices.SortFunc(entries, func(x, y entry) int { return bytes.Compare(x.name, y.name) })
	size := b.remains.PageSize
	b.mended.rootAt = (b.mended.size + int64(size) - 1) / int64(size) * int64(size)
	if b.mended.size%512 == snapdb.TrailerSize {
		b.mended.rootAt = (b.mended.size - snapdb.TrailerSize) / int64(size) * int64(size)
	}
	var table, data []byte
	for i, e := range entries {
		at := page.HeaderSize + i*page.ElementSize
		position := page.HeaderSize + len(entries)*page.ElementSize + len(data) - at
		for _, word := range []int{1, position, len(e.name), len(e.value)} {
			table = binary.LittleEndian.AppendUint32(table, uint32(word))
		}
		data = append(append(data, e.name...), e.value...)
	}
	used := page.HeaderSize + len(table) + len(data)
	h := page.Header{ID: page.ID(b.mended.rootAt / int64(size)), Flags: flagLeaf, Count: uint16(len(entries)), Overflow: uint32((used+size-1)/size - 1)}
	root := append(append(h.Append(nil), table...), data...)
	b.mended.root = append(root, make([]byte, (size-len(root)%size)%size)...)
}

package inspect

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
)

// treesWalked bounds the trees that are walked to choose a root among.
const treesWalked = 32

// A remnant is what is read of a database whose meta pages are both broken: its
// pages, and the root chosen among those that can be it.
type remnant struct {
	*snapdb.Remains
	candidates int
	best       *candidate   // nil when no page can be the root
	newer      *candidate   // of a higher consistent index, and not whole as best is
	loose      looseRecords // counted when there is no best
}

// A candidate is a page that can be the root.
type candidate struct {
	root    page.ID
	sum     uint64 // of its bytes, without its number
	twins   int    // others of the same bytes
	named   *snapdb.NamedRoot
	buckets int // of those that every etcd creates
	meta    metaRecords
	names   int   // all buckets
	highest int64 // the last revision of bucket key

	// Of the tree below it, once it was walked.
	faults, leaves int
	records        int64 // of bucket key
}

// findRoot looks for the root without a meta. When there is one, d is then read
// from it.
func (d *database) findRoot(ctx context.Context, perKind int) error {
	remains, err := snapdb.Survey(ctx, d.db)
	if err != nil {
		return err
	}
	r := &remnant{Remains: remains}
	if err := r.choose(ctx); err != nil {
		return err
	}
	if r.best == nil {
		err = r.countLoose(ctx, d.file)
	}
	if err != nil {
		return err
	}
	d.remnant = r
	if r.best == nil {
		return nil
	}
	d.db = r.AsRoot(r.best.root)
	return d.walk(ctx, perKind)
}

// choose compares the candidates: by a look into each, then by walking the trees of
// the best.
func (r *remnant) choose(ctx context.Context) error {
	best, err := r.glance(ctx)
	if err != nil {
		return err
	}
	for i := range best {
		c := &best[i]
		if b := r.best; b != nil && b.faults == 0 && (c.buckets < b.buckets || later(c, b) > 0) {
			break
		}
		if err := r.weigh(ctx, c); err != nil {
			return err
		}
		if r.best == nil || compareCandidates(c, r.best) < 0 {
			r.best = c
		}
	}
	for i := range best {
		if c := &best[i]; c.leaves > 0 && c.buckets == r.best.buckets && later(c, r.best) < 0 {
			r.newer = c
			break
		}
	}
	return nil
}

// glance gives the candidates that deserve a walk, those of the latest transactions
// that have all buckets first.
func (r *remnant) glance(ctx context.Context) ([]candidate, error) {
	named := map[page.ID]*snapdb.NamedRoot{}
	for _, n := range r.Named() {
		if before := named[n.Root]; before == nil || before.Txid < n.Txid {
			named[n.Root] = &n
		}
	}
	var best []candidate
	var look *snapdb.Glance
	for root := range r.Roots() {
		if r.candidates++; r.candidates%256 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		look = r.Glance(root, look)
		c := candidate{root: root, sum: look.Sum, named: named[root], names: look.Buckets()}
		for _, name := range requiredBuckets {
			if look.Has(name) {
				c.buckets++
			}
		}
		c.meta = glanceMeta(look)
		if rev, ok := keyspace.DecodeRevision(look.LastKey(keyspace.BucketKey)); ok {
			c.highest = rev.Main
		}
		best = insertCandidate(best, c)
	}
	return best, nil
}

// insertCandidate keeps the best, and of those with the same bytes one. A
// transaction that changes nothing leaves such pages.
func insertCandidate(best []candidate, c candidate) []candidate {
	if i := slices.IndexFunc(best, func(o candidate) bool { return o.sum == c.sum }); i >= 0 {
		c.twins = best[i].twins + 1
		if compareGlances(c, best[i]) > 0 {
			best[i].twins++
			return best
		}
		best = slices.Delete(best, i, i+1)
	}
	at, _ := slices.BinarySearchFunc(best, c, compareGlances)
	if at < treesWalked {
		best = slices.Insert(best, at, c)
	}
	return best[:min(len(best), treesWalked)]
}

func glanceMeta(g *snapdb.Glance) metaRecords {
	m := metaRecords{-1, -1, 0}
	if v, ok := g.Value(keyspace.BucketMeta, keyspace.MetaConsistentIndex); ok {
		m.index, _ = keyspace.DecodeUint64(v)
	}
	for key, to := range map[string]*int64{keyspace.MetaScheduledCompactRev: &m.scheduled, keyspace.MetaFinishedCompactRev: &m.finished} {
		v, _ := g.Value(keyspace.BucketMeta, key)
		if rev, ok := keyspace.DecodeRevision(v); ok {
			*to = rev.Main
		}
	}
	return m
}

func compareGlances(a, b candidate) int {
	return cmp.Or(cmp.Compare(b.buckets, a.buckets), later(&a, &b), cmp.Compare(b.txid(), a.txid()), cmp.Compare(a.root, b.root))
}

// later puts the root of the later transaction first, as far as a look tells.
// Revisions and compactions only go up, even where a restore sets the consistent
// index back, and buckets are only ever added.
func later(a, b *candidate) int {
	return cmp.Or(cmp.Compare(b.revision(), a.revision()), cmp.Compare(b.meta.finished, a.meta.finished),
		cmp.Compare(b.meta.scheduled, a.meta.scheduled), cmp.Compare(b.meta.index, a.meta.index), cmp.Compare(b.names, a.names))
}

// revision gives the newest revision, as database.revision does.
func (c *candidate) revision() int64 { return max(1, c.highest, c.meta.revision()) }

// txid gives the transaction that a broken meta names with the root, 0 when none
// names it.
func (c *candidate) txid() uint64 {
	if c.named == nil {
		return 0
	}
	return c.named.Txid
}

// weigh walks the tree of a candidate.
func (r *remnant) weigh(ctx context.Context, c *candidate) error {
	d := &database{db: r.AsRoot(c.root)}
	if err := d.walk(ctx, 0); err != nil {
		return err
	}
	c.faults, c.leaves = d.tree.Faults.Len()+r.Misfits(d.tree), len(d.tree.Leaves)
	if b, ok := d.bucket[keyspace.BucketKey]; ok {
		c.records = r.Records(d.tree, b)
	}
	return nil
}

// compareCandidates puts the better one first: a whole tree before one with pages
// that another transaction has taken or that are damaged, unless that one is later
// and has much more to read all the same; then the later one. While a compaction runs,
// it takes records away and nothing else may change. Transactions that leave the
// same behind cannot be told apart, and need not be; nor can a restore that only
// set the consistent index back be told from what was before it.
func compareCandidates(a, b *candidate) int {
	whole := 0
	switch {
	case a.faults == 0 && b.faults > 0:
		whole = preferWhole(a, b)
	case a.faults > 0 && b.faults == 0:
		whole = -preferWhole(b, a)
	case a.faults > 0:
		whole = cmp.Compare(b.leaves-b.faults, a.leaves-a.faults)
	}
	return cmp.Or(cmp.Compare(b.buckets, a.buckets), whole, later(a, b), cmp.Compare(a.records, b.records),
		cmp.Compare(b.txid(), a.txid()), cmp.Compare(a.root, b.root))
}

// preferWhole puts a whole tree before a damaged one, unless that is later and the
// whole one has less than nine tenths of its records. The last transactions change
// few pages, so a tree that is that small is one whose pages were taken by something
// else, or one of long ago.
func preferWhole(whole, damaged *candidate) int {
	if later(damaged, whole) < 0 && whole.records*10 < damaged.records*9 {
		return 1
	}
	return -1
}

// String says what was found without a meta page.
func (r *remnant) String() string {
	if r.PageSize == 0 {
		return "no branch or leaf page in the file carries its own number"
	}
	pages := fmt.Sprintf("at a page size of %d, %d pages carry their own number", r.PageSize, r.Own)
	b := r.best
	if b == nil {
		return fmt.Sprintf("%s, and none of them can be the root page; %s", pages, r.loose)
	}
	words := fmt.Sprintf("%s, and %s; its tree is of revision %d, consistent index %d", pages, r.choice(), b.revision(), b.meta.index)
	if n := r.newer; n != nil {
		words += fmt.Sprintf("; the tree below page %d is later (revision %d, consistent index %d), but %d of its pages are not what it refers to", n.root, n.revision(), n.meta.index, n.faults)
	}
	return words
}

func (r *remnant) choice() string {
	b := r.best
	if r.candidates == 1 {
		return fmt.Sprintf("page %d is taken for the root: no other can be", b.root)
	}
	words := fmt.Sprintf("page %d is taken for the root: it is the best of %d that can be", b.root, r.candidates)
	if b.named != nil {
		words = fmt.Sprintf("page %d is taken for the root: meta page %d names it, and it is the best of %d that can be", b.root, b.named.Slot, r.candidates)
	}
	switch {
	case b.twins == 1:
		words += " (one more has the same bytes)"
	case b.twins > 1:
		words += fmt.Sprintf(" (%d more have the same bytes)", b.twins)
	}
	return words
}

// A looseRecords counts the records of bucket key on pages to which no tree leads.
type looseRecords struct {
	pages, records int64
	highest        int64 // revision
}

func (l looseRecords) String() string {
	if l.pages == 0 {
		return "no page holds records of bucket key"
	}
	return fmt.Sprintf("%d leaf pages hold %d records of bucket key up to revision %d, copies from older transactions among them", l.pages, l.records, l.highest)
}

// countLoose counts the records that could be read page by page.
func (r *remnant) countLoose(ctx context.Context, file io.ReaderAt) error {
	return r.EachLeaf(ctx, snapdb.EveryPage, func(id page.ID, b []byte) {
		n, last := revisionKeys(b)
		if n == 0 {
			return
		}
		key := make([]byte, last.KeySize) // it may lie on a further page
		if m, _ := file.ReadAt(key, int64(id)*int64(r.PageSize)+int64(last.Position)); m < len(key) {
			return
		}
		if rev, ok := keyspace.DecodeRevision(key); ok {
			r.loose.pages++
			r.loose.records += int64(n)
			r.loose.highest = max(r.loose.highest, rev.Main)
		}
	})
}

// revisionKeys counts the elements of a leaf page all of whose keys have the length
// of a revision, and gives the last. Other pages have none.
func revisionKeys(b []byte) (n int, last page.RawElement) {
	l, fault := page.OpenLeaf(b)
	if fault != nil {
		return 0, last
	}
	for i := range l.Len() {
		last = l.Raw(i)
		if last.Flags != 0 || last.KeySize != keyspace.RevisionSize && last.KeySize != keyspace.MarkedRevisionSize {
			return 0, last
		}
	}
	return l.Len(), last
}

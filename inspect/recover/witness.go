package recover

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"math"
	"slices"

	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
)

// A witness is another database of the same cluster, or the tree of an older
// transaction of the same file, to take what is lost from.
type witness struct {
	*base
	name     string
	order    []int32
	complete bool // nothing of its bucket key is lost
	taken    int64

	err error // of reading a page again; see each

	// until is the last revision that it is relied on for.
	until int64
	// fills are records above the compact revision that it has and the tree lacks, where
	// no page is damaged.
	fills []found
	// differing are its records that the tree has with other bytes.
	differing []contest
}

func newWitness(b *base, name string) *witness {
	return &witness{base: b, name: name, order: b.order(), complete: len(b.losses()) == 0, until: math.MaxInt64}
}

// olderWitness reads the tree of the meta that is not in use.
func (b *base) olderWitness(ctx context.Context) (*witness, error) {
	if b.older == nil {
		return nil, nil
	}
	o := &base{file: b.file, mended: b.mended, db: b.older.Tree.File, WalkedTree: b.older, origin: "the tree of an older transaction", unread: map[page.ID]error{}}
	if err := o.read(ctx, b); err != nil || o.key < 0 {
		return nil, err
	}
	return newWitness(o, ""), nil
}

// each gives the proven records of bucket key in key order, from a leaf that may hold
// first on. A record is valid until the next. It ends early when a page that was read before
// is not given back by the machine: then err says so.
func (w *witness) each(first keyspace.Revision) iter.Seq[*record] {
	return func(yield func(*record) bool) {
		visit := func(records []record) bool {
			for i := range records {
				if !yield(&records[i]) {
					return false
				}
			}
			return true
		}
		if w.Tree.Buckets[w.key].Inline != nil {
			r := leafReader{base: w.base}
			visit(r.inline())
			return
		}
		from, _ := slices.BinarySearchFunc(w.order, first, func(i int32, rev keyspace.Revision) int {
			return w.leaves[i].last.Compare(rev)
		})
		w.err = w.eachLeaf(w.order[from:], visit)
	}
}

// A leafReader reads the records that are taken of a leaf of bucket key.
type leafReader struct {
	*base
	buf      []byte
	elements []snapdb.Element
	records  []record
}

// leaf reads leaf i.
func (r *leafReader) leaf(i int) error {
	var sound bool
	var err error
	r.records = r.records[:0]
	if r.buf, r.elements, sound, err = r.readLeaf(i, r.buf, r.elements[:0]); err != nil {
		return fmt.Errorf("page %d: %w", r.Tree.Leaves[i].ID, err)
	}
	r.records, _ = provenOn(r.Tree.Leaves[i].ID, r.elements, sound, len(r.buf), r.records)
	return nil
}

// inline reads the leaf of a bucket without pages of its own.
func (r *leafReader) inline() []record {
	elements, faults := r.Tree.ReadInline(r.key)
	r.records, _ = provenOn(r.Tree.Buckets[r.key].Holder, elements, len(faults) == 0, len(r.Tree.Buckets[r.key].Inline), r.records[:0])
	return r.records
}

// A testimony is what a witness says of the lost ranges.
type testimony struct {
	taken []found
	// settles is set when the witness says of every record at or below the compact
	// revision whether it lives.
	settles bool
	// hearsay are records at or below the compact revision of which it does not know that.
	hearsay []hearsay
}

// testify gives the records of the lost ranges that a witness proves. Above the compact
// revision that is all it has. At or below it, a record lives when it is the last of
// its key up to there, and is no tombstone: a witness that holds all up to the compact
// revision, and has itself compacted no further, knows.
func (w *witness) testify(ctx context.Context, losses *lossIndex, compacted int64) (testimony, error) {
	// A compaction under way has taken tombstones, and may have left what they deleted.
	knows := w.complete && min(w.lastRevision().Main, w.until) >= compacted && w.Scheduled <= w.Finished
	t := testimony{settles: knows && w.CompactRevision() <= compacted}
	pending := map[string]found{} // by key, at or below the compact revision
	n := 0
	for rec := range w.each(losses.first()) { // those before replace none of the lost ranges
		if n++; n%4096 == 0 && ctx.Err() != nil {
			return t, ctx.Err()
		}
		if rec.rev.Main <= compacted {
			w.follow(rec, losses, pending, compacted)
			continue
		}
		if rec.rev.Main <= w.until && losses.hold(rec.Key) {
			t.taken = append(t.taken, w.find(rec))
		}
	}
	if w.err != nil {
		return t, w.err
	}
	t.taken = append(t.taken, w.fills...)
	for key, f := range pending {
		if knows {
			t.taken = append(t.taken, f)
		} else if !f.rev.Tombstone && f.rev.Main <= w.until {
			t.hearsay = append(t.hearsay, hearsay{f.rev, []byte(key), f.origin()})
		}
	}
	slices.SortFunc(t.taken, func(x, y found) int { return x.rev.Compare(y.rev) })
	slices.SortFunc(t.hearsay, func(x, y hearsay) int { return x.rev.Compare(y.rev) })
	return t, nil
}

// follow keeps for each key that has a record in a lost range its last record.
func (w *witness) follow(rec *record, losses *lossIndex, pending map[string]found, compacted int64) {
	kept := rec.rev.Tombstone && w.CompactRevision() == compacted // tombstones that compaction left
	if losses.hold(rec.Key) && (!rec.rev.Tombstone || kept) {
		pending[string(rec.kv.Key)] = w.find(rec)
		return
	}
	delete(pending, string(rec.kv.Key))
}

// find notes where a record lies. rec.page is that of the leaf read last.
func (w *witness) find(rec *record) found {
	f := found{rev: rec.rev, page: rec.page, element: rec.Index, in: w.Tree.File, from: w, sum: sumOf(rec)}
	if w.Tree.Buckets[w.key].Inline != nil {
		f.inline = w
	}
	return f
}

// A leafView answers what the whole leaves of a tree say of a revision.
type leafView struct {
	*witness
	reader leafReader
	held   int32 // leaf that reader holds
}

// spans implements treeView.
func (v *leafView) spans(rev keyspace.Revision) (spanned, holds bool) {
	if v.reader.base == nil {
		v.reader.base, v.held = v.base, -1
	}
	n, _ := slices.BinarySearchFunc(v.order, rev, func(i int32, rev keyspace.Revision) int { return v.leaves[i].last.Compare(rev) })
	if n == len(v.order) {
		return false, false
	}
	i := v.order[n]
	state := &v.leaves[i]
	if state.first.Compare(rev) > 0 {
		return n > 0 && v.meet(v.order[n-1], i), false
	}
	if v.held != i {
		if v.reader.leaf(int(i)) != nil {
			v.held = -1
			return false, false
		}
		v.held = i
	}
	_, holds = slices.BinarySearchFunc(v.reader.records, rev, func(r record, rev keyspace.Revision) int { return r.rev.Compare(rev) })
	return state.class == leafWhole, holds
}

// sum implements treeView; rev is the one that spans was asked for last.
func (v *leafView) sum(rev keyspace.Revision) uint64 {
	i, _ := slices.BinarySearchFunc(v.reader.records, rev, func(r record, rev keyspace.Revision) int { return r.rev.Compare(rev) })
	return sumOf(&v.reader.records[i])
}

// meet says whether nothing can lie between the last key of leaf i and the first of leaf
// k: both are whole, and the range of one ends where that of the other begins.
func (v *leafView) meet(i, k int32) bool {
	_, hi := v.Tree.Range(int(i))
	lo, _ := v.Tree.Range(int(k))
	return v.leaves[i].class == leafWhole && v.leaves[k].class == leafWhole && hi != nil && bytes.Equal(hi, lo)
}

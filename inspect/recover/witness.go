package recover

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"

	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
)

// A witness is another database of the same cluster, or the tree of an older
// transaction of the same file, to take what is lost from.
type witness struct {
	*base
	name     string
	order    []int32
	complete bool // nothing of its bucket key is lost
	taken    int64
}

func newWitness(b *base, name string) *witness {
	return &witness{base: b, name: name, order: b.order(), complete: len(b.losses()) == 0}
}

// olderWitness reads the tree of the meta that is not in use.
func (b *base) olderWitness(ctx context.Context) (*witness, error) {
	if b.older == nil {
		return nil, nil
	}
	o := &base{file: b.file, mended: b.mended, db: b.older.Tree.File, WalkedTree: b.older, origin: "the tree of an older transaction"}
	if err := o.read(ctx); err != nil || o.key < 0 {
		return nil, err
	}
	return newWitness(o, ""), nil
}

// each gives the proven records of bucket key in key order, from a leaf that may hold
// key on. A record is valid until the next.
func (w *witness) each(key []byte) iter.Seq[*record] {
	return func(yield func(*record) bool) {
		r := leafReader{base: w.base}
		if w.Tree.Buckets[w.key].Inline != nil {
			for i := range r.inline() {
				if !yield(&r.records[i]) {
					return
				}
			}
			return
		}
		rev, _ := keyspace.DecodeRevision(key)
		first, _ := slices.BinarySearchFunc(w.order, rev, func(i int32, rev keyspace.Revision) int {
			return w.leaves[i].last.Compare(rev)
		})
		for _, i := range w.order[first:] {
			if !r.leaf(int(i)) {
				continue
			}
			for k := range r.records {
				if !yield(&r.records[k]) {
					return
				}
			}
		}
	}
}

// A leafReader reads the records that are taken of a leaf of bucket key.
type leafReader struct {
	*base
	buf      []byte
	elements []snapdb.Element
	records  []record
}

// leaf reads leaf i; false when the machine does not give it back.
func (r *leafReader) leaf(i int) bool {
	var sound bool
	var err error
	r.records = r.records[:0]
	if r.buf, r.elements, sound, err = r.readLeaf(i, r.buf, r.elements[:0]); err != nil {
		return false
	}
	r.records, _ = provenOn(r.Tree.Leaves[i].ID, r.elements, sound, len(r.buf), r.records)
	return true
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
}

// testify gives the records of the lost ranges that a witness proves. Above the compact
// revision that is all it has. At or below it, a record lives when it is the last of
// its key up to there, and is no tombstone: a witness that holds all up to the compact
// revision, and has itself compacted no further, knows.
func (w *witness) testify(ctx context.Context, losses *lossIndex, compacted int64) (testimony, error) {
	// A compaction under way has taken tombstones, and may have left what they deleted.
	knows := w.complete && w.lastRevision().Main >= compacted && w.Scheduled <= w.Finished
	t := testimony{settles: knows && w.CompactRevision() <= compacted}
	pending := map[string]found{} // by key, at or below the compact revision
	n := 0
	for rec := range w.each(nil) {
		if n++; n%4096 == 0 && ctx.Err() != nil {
			return t, ctx.Err()
		}
		if rec.rev.Main <= compacted {
			if knows {
				w.follow(rec, losses, pending, compacted)
			}
			continue
		}
		if len(losses.at(rec.Key)) > 0 {
			t.taken = append(t.taken, w.find(rec))
		}
	}
	for _, f := range pending {
		t.taken = append(t.taken, f)
	}
	slices.SortFunc(t.taken, func(x, y found) int { return x.rev.Compare(y.rev) })
	return t, nil
}

// follow keeps for each key that has a record in a lost range its last record.
func (w *witness) follow(rec *record, losses *lossIndex, pending map[string]found, compacted int64) {
	kept := rec.rev.Tombstone && w.CompactRevision() == compacted // tombstones that compaction left
	if len(losses.at(rec.Key)) > 0 && (!rec.rev.Tombstone || kept) {
		pending[string(rec.kv.Key)] = w.find(rec)
		return
	}
	delete(pending, string(rec.kv.Key))
}

// find notes where a record lies. rec.page is that of the leaf read last.
func (w *witness) find(rec *record) found {
	f := found{rev: rec.rev, page: rec.page, element: rec.Index, in: w.Tree.File}
	if w.Tree.Buckets[w.key].Inline != nil {
		f.inline = w
	}
	return f
}

// foreignError says why a database is none of the same cluster.
type foreignError struct{ name, why string }

func (e foreignError) Error() string {
	return fmt.Sprintf("%s is not of the same cluster: %s", e.name, e.why)
}

// agree holds what both have against each other: the records of bucket key are the same
// on all members of a cluster, but for what each has compacted.
func (w *witness) agree(ctx context.Context, b *witness, losses *lossIndex) error {
	from := max(w.CompactRevision(), b.CompactRevision())
	to := min(w.lastRevision().Main, b.lastRevision().Main)
	theirs, stop := iter.Pull(w.each(nil))
	defer stop()
	common := 0
	missing := func(rev keyspace.Revision, where string) error {
		return foreignError{w.name, fmt.Sprintf("revision %s is missing in %s", rev, where)}
	}
	their, ok := theirs()
	n := 0
	for mine := range b.each(nil) {
		if n++; n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		for ok && their.rev.Compare(mine.rev) < 0 {
			if rev := their.rev; rev.Main > from && rev.Main <= to && len(losses.at(their.Key)) == 0 {
				return missing(rev, "the file")
			}
			their, ok = theirs()
		}
		if !ok || their.rev.Compare(mine.rev) > 0 {
			if rev := mine.rev; rev.Main > from && rev.Main <= to && w.complete {
				return missing(rev, "it")
			}
			continue
		}
		if !bytes.Equal(their.Key, mine.Key) || !bytes.Equal(their.Value, mine.Value) {
			return foreignError{w.name, fmt.Sprintf("revision %s is another there", mine.rev)}
		}
		common++
		their, ok = theirs()
	}
	if common == 0 {
		return foreignError{w.name, "the two have no revision in common"}
	}
	return nil
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
		if !v.reader.leaf(int(i)) {
			return false, false
		}
		v.held = i
	}
	_, holds = slices.BinarySearchFunc(v.reader.records, rev, func(r record, rev keyspace.Revision) int { return r.rev.Compare(rev) })
	return state.class == leafWhole, holds
}

// meet says whether nothing can lie between the last key of leaf i and the first of leaf
// k: both are whole, and the range of one ends where that of the other begins.
func (v *leafView) meet(i, k int32) bool {
	_, hi := v.Tree.Range(int(i))
	lo, _ := v.Tree.Range(int(k))
	return v.leaves[i].class == leafWhole && v.leaves[k].class == leafWhole && hi != nil && bytes.Equal(hi, lo)
}

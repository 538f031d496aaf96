package recover

import (
	"encoding/binary"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"testing"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"etcd-forensics/fixtures"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
)

// TestLeavesReadAheadComeInTheirOrder compares what readers beside give with what is read
// leaf by leaf: of more leaves than are read at once, with leaves of more bytes than a
// batch may hold, one that cannot be read, and takers who stop early.
func TestLeavesReadAheadComeInTheirOrder(t *testing.T) {
	path := filepath.Join(fixtures.Dir(t, "healthy-3.6"), "m1", "member", "snap", "db")
	fixtures.Edit(t, path, func(tx *bbolt.Tx) error {
		for n := range int64(1500) {
			rev := keyspace.Revision{Main: 1_000_000 + n}
			size := 900
			if n%100 < 6 { // several in a row
				size = 300 << 10
			}
			kv := &mvccpb.KeyValue{Key: fmt.Appendf(nil, "key %d", n), Value: make([]byte, size), CreateRevision: rev.Main, ModRevision: rev.Main, Version: 1}
			b, err := proto.Marshal(kv)
			if err != nil {
				return err
			}
			if err := tx.Bucket([]byte(keyspace.BucketKey)).Put(rev.Append(nil), b); err != nil {
				return err
			}
		}
		return nil
	})
	b := baseOf(t, path)
	w := newWitness(b, "x")
	var want []keyspace.Revision
	var leafOf []int // of each record, its place in w.order
	r := leafReader{base: b}
	for n, i := range w.order {
		if err := r.leaf(int(i)); err != nil {
			t.Fatal(err)
		}
		for _, rec := range r.records {
			want, leafOf = append(want, rec.rev), append(leafOf, n)
		}
	}
	if len(w.order) < 8*aheadLeaves || len(want) < 1500 {
		t.Fatalf("%d leaves with %d records are too few", len(w.order), len(want))
	}
	for _, stop := range []int{1, 2, aheadLeaves, len(want) / 2, len(want) - 1, len(want) + 1} {
		var got []keyspace.Revision
		for rec := range w.each(keyspace.Revision{}) {
			if got = append(got, rec.rev); len(got) == stop {
				break
			}
		}
		if !slices.Equal(got, want[:min(stop, len(want))]) || w.err != nil {
			t.Errorf("stopped after %d: %d records of %d, %v", stop, len(got), len(want), w.err)
		}
	}
	whole := b.mended.r
	// A page may say more of itself than there is room for.
	at := w.order[len(w.order)/2]
	b.mended.r = &overlong{ReaderAt: whole, page: int64(b.Tree.Leaves[at].ID) * int64(b.db.PageSize)}
	b.leaves[at].sound = false
	if err := r.leaf(int(at)); err != nil || len(r.buf) < 1<<20 {
		t.Fatalf("%d bytes are read of a page that says it has a megabyte, %v", len(r.buf), err)
	}
	for left := w.order; len(left) > 0; {
		var batch leafBatch
		left = batch.cut(b, left)
		read := int64(0)
		for n, i := range batch.leaves {
			if read > aheadBytes || n == aheadLeaves {
				t.Fatalf("%d leaves of %d bytes are in one batch", len(batch.leaves), read)
			}
			if err := r.leaf(int(i)); err != nil {
				t.Fatal(err)
			}
			read += int64(len(r.buf))
		}
		if len(batch.leaves) == 0 || read > batch.bytes {
			t.Fatalf("%d leaves of %d bytes are said to have %d", len(batch.leaves), read, batch.bytes)
		}
	}
	b.mended.r = whole
	for _, n := range []int{0, 1, aheadLeaves - 1, aheadLeaves, len(w.order) / 2, len(w.order) - 1} {
		at := int64(b.Tree.Leaves[w.order[n]].ID) * int64(b.db.PageSize)
		b.mended.r = &failing{ReaderAt: whole, from: at, to: at + 1}
		var got []keyspace.Revision
		for rec := range w.each(keyspace.Revision{}) {
			got = append(got, rec.rev)
		}
		if before := slices.Index(leafOf, n); !slices.Equal(got, want[:before]) || w.err == nil {
			t.Errorf("leaf %d cannot be read: %d records, not %d, %v", n, len(got), before, w.err)
		}
	}
}

// overlong is a file of which one leaf page says that its first record has a megabyte.
type overlong struct {
	io.ReaderAt
	page int64
}

func (o *overlong) ReadAt(b []byte, offset int64) (int, error) {
	n, err := o.ReaderAt.ReadAt(b, offset)
	if offset == o.page && n >= page.HeaderSize+page.ElementSize {
		binary.LittleEndian.PutUint32(b[12:], 1000)                  // overflow
		binary.LittleEndian.PutUint32(b[page.HeaderSize+12:], 1<<20) // bytes of the value
	}
	return n, err
}

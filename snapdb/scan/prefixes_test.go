package scan_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"runtime"
	"slices"
	"testing"

	"go.etcd.io/bbolt"

	"etcd-forensics/fixtures"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/scan"
)

// firstWord cuts a key behind its first slash that is not in the first position.
func firstWord(key []byte) int {
	for i, c := range key {
		if c == '/' && i > 0 {
			return i + 1
		}
	}
	return 0
}

func countPrefixes(t *testing.T, path string, opts scan.PrefixOptions) *scan.PrefixResult {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	db, err := snapdb.Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	tree, err := snapdb.Walk(context.Background(), db, 10)
	if err != nil {
		t.Fatal(err)
	}
	bucket := slices.IndexFunc(tree.Buckets, func(b snapdb.Bucket) bool { return string(b.Name) == keyspace.BucketKey })
	r, err := scan.CountPrefixes(context.Background(), tree, bucket, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A plain count keeps every key in memory, by its bytes.
type plain struct {
	rows                 map[string]*scan.Counts
	total, bump, later   scan.Counts
	edge                 scan.Counts
	keys                 map[string]*scan.KeyCount
	keySizes, valueSizes map[int]int64
}

// countPlainly reads the records with bbolt, in key order.
func countPlainly(t *testing.T, path string, revision int64) *plain {
	t.Helper()
	p := &plain{rows: map[string]*scan.Counts{}, keys: map[string]*scan.KeyCount{}, keySizes: map[int]int64{}, valueSizes: map[int]int64{}}
	db, err := bbolt.Open(copyOf(t, path), 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("key")).ForEach(func(k, v []byte) error {
			p.record(t, k, v, revision)
			return nil
		})
	}); err != nil {
		t.Fatal(err)
	}
	for _, k := range p.keys {
		if len(k.Key) > 0 && !k.Revision.Tombstone {
			row := p.rows[string(k.Key[:firstWord(k.Key)])]
			for _, c := range []*scan.Counts{row, &p.total} {
				c.Live++
				c.LiveBytes += k.Bytes
			}
		}
	}
	return p
}

func (p *plain) record(t *testing.T, k, v []byte, revision int64) {
	rev, ok := keyspace.DecodeRevision(k)
	kv, err := keyspace.DecodeKeyValue(v)
	if !ok || err != nil {
		t.Fatalf("record %x: %v", k, err)
	}
	size := int64(len(k) + len(v))
	if revision > 0 && rev.Main > revision {
		p.later.Revisions++
		p.later.Bytes += size
		return
	}
	prefix := string(kv.Key[:firstWord(kv.Key)])
	if p.rows[prefix] == nil {
		p.rows[prefix] = &scan.Counts{}
	}
	counts := []*scan.Counts{p.rows[prefix], &p.total}
	if len(kv.Key) == 0 {
		counts = append(counts, &p.bump)
	} else {
		p.keySizes[len(kv.Key)]++
	}
	for _, c := range counts {
		c.Revisions++
		c.Bytes += size
		if rev.Tombstone {
			c.Tombstones++
		}
	}
	if rev.Tombstone && rev.Main == revision {
		p.edge.Tombstones++
		p.edge.Bytes += size
	}
	if !rev.Tombstone && len(kv.Key) > 0 {
		p.valueSizes[len(kv.Value)]++
	}
	before := int64(0)
	if old := p.keys[string(kv.Key)]; old != nil {
		before = old.Records
	}
	p.keys[string(kv.Key)] = &scan.KeyCount{Key: bytes.Clone(kv.Key), Records: before + 1, Revision: rev, Version: kv.Version, Bytes: size, ValueSize: int64(len(kv.Value))}
}

// most gives the measures of the keys of which there is most.
func (p *plain) most(n int, measure func(k *scan.KeyCount) int64) []int64 {
	var all []int64
	for _, k := range p.keys {
		if m := measure(k); m > 0 && len(k.Key) > 0 {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b int64) int { return cmp.Compare(b, a) })
	return all[:min(n, len(all))]
}

func TestPrefixCountsAreThoseOfAPlainCount(t *testing.T) {
	for _, name := range []string{"healthy-3.4", "healthy-3.6", "healthy-3.8", "bumped-3.6-started", "empty-3.7", "empty-compacted-3.7", "pagesize-512"} {
		t.Run(name, func(t *testing.T) {
			path := fixtures.Databases(t, name)[0]
			newest := countPrefixes(t, path, scan.PrefixOptions{Cut: firstWord, MaxRows: 1000, Top: 10}).Highest
			for _, revision := range []int64{0, newest, newest - 10, newest - 100} {
				if revision >= 0 {
					samePrefixes(t, path, revision)
				}
			}
		})
	}
}

func samePrefixes(t *testing.T, path string, revision int64) {
	t.Helper()
	want := countPlainly(t, path, revision)
	got := countPrefixes(t, path, scan.PrefixOptions{Revision: revision, Cut: firstWord, MaxRows: 1000, Top: 10, Edge: revision})
	rows := map[string]*scan.Counts{}
	for i := range got.Rows {
		rows[string(got.Rows[i].Prefix)] = &got.Rows[i].Counts
	}
	if !reflect.DeepEqual(rows, want.rows) {
		t.Errorf("at %d: rows %v, want %v", revision, describe(rows), describe(want.rows))
	}
	if got.Total != want.total || got.Bump != want.bump || got.Later != want.later || got.Edge != want.edge || got.OtherRows != 0 || got.Unread != 0 {
		t.Errorf("at %d: total %+v, bump %+v, later %+v, other rows %d, unread %d; want %+v, %+v, %+v", revision, got.Total, got.Bump, got.Later, got.OtherRows, got.Unread, want.total, want.bump, want.later)
	}
	for _, h := range []struct {
		name string
		got  scan.Histogram
		want map[int]int64
	}{{"keys", got.KeySizes, want.keySizes}, {"values", got.Values, want.valueSizes}} {
		for i, n := range h.got {
			for size, count := range h.want {
				if i == 0 && size == 0 || i > 0 && size >= 1<<(i-1) && size < 1<<i {
					n -= count
				}
			}
			if n != 0 {
				t.Errorf("at %d: sizes of %s, field %d: off by %d", revision, h.name, i, n)
			}
		}
	}
	sameKeys(t, want, got.Hottest, "hottest", func(k *scan.KeyCount) int64 { return orNone(k.Records) })
	sameKeys(t, want, got.Versions, "versions", func(k *scan.KeyCount) int64 {
		if k.Revision.Tombstone {
			return 0
		}
		return orNone(k.Version)
	})
	sameKeys(t, want, got.Largest, "largest", func(k *scan.KeyCount) int64 {
		if k.Revision.Tombstone {
			return 0
		}
		return k.Bytes
	})
}

func orNone(n int64) int64 {
	if n < 2 {
		return 0
	}
	return n
}

func sameKeys(t *testing.T, want *plain, got []scan.KeyCount, list string, measure func(k *scan.KeyCount) int64) {
	t.Helper()
	measures := []int64{}
	for i := range got {
		k := &got[i]
		measures = append(measures, measure(k))
		if !reflect.DeepEqual(k, want.keys[string(k.Key)]) {
			t.Errorf("%s: %+v, want %+v", list, k, want.keys[string(k.Key)])
		}
	}
	if most := want.most(10, measure); !slices.Equal(measures, most) {
		t.Errorf("%s: %v, want %v", list, measures, most)
	}
}

func describe(rows map[string]*scan.Counts) string {
	s := ""
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		s += fmt.Sprintf("%q %+v\n", name, *rows[name])
	}
	return s
}

// wholeKey makes every key a row.
func wholeKey(key []byte) int { return len(key) }

func TestRowsWithFewestRecordsAreFoldedAndTotalsStay(t *testing.T) {
	path := fixtures.Databases(t, "healthy-3.6")[0]
	all := countPrefixes(t, path, scan.PrefixOptions{Cut: wholeKey, MaxRows: 1 << 20, Top: 5})
	if all.OtherRows != 0 || len(all.Rows) < 500 {
		t.Fatalf("%d rows, %d folded", len(all.Rows), all.OtherRows)
	}
	for _, most := range []int{1, 40, 200, len(all.Rows) - 1, len(all.Rows)} {
		got := countPrefixes(t, path, scan.PrefixOptions{Cut: wholeKey, MaxRows: most, Top: 5})
		if got.Total != all.Total || got.Distinct != all.Distinct || !reflect.DeepEqual(got.Largest, all.Largest) || !reflect.DeepEqual(got.Hottest, all.Hottest) {
			t.Errorf("%d rows: total %+v of %d keys, want %+v of %d", most, got.Total, got.Distinct, all.Total, all.Distinct)
		}
		if len(got.Rows) > most || len(got.Rows)+int(got.OtherRows) != len(all.Rows) {
			t.Errorf("%d rows at most: %d, and %d folded of %d", most, len(got.Rows), got.OtherRows, len(all.Rows))
		}
		kept := map[string]scan.Counts{}
		sum, least := got.Other, all.Total.Revisions
		for _, r := range got.Rows {
			kept[string(r.Prefix)] = r.Counts
			least = min(least, r.Revisions)
			sum.Live += r.Live
			sum.Revisions += r.Revisions
			sum.Tombstones += r.Tombstones
			sum.LiveBytes += r.LiveBytes
			sum.Bytes += r.Bytes
		}
		if sum != all.Total {
			t.Errorf("%d rows: they add up to %+v, not %+v", most, sum, all.Total)
		}
		for _, r := range all.Rows {
			c, ok := kept[string(r.Prefix)]
			if ok && c != r.Counts {
				t.Errorf("%d rows: %q has %+v, want %+v", most, r.Prefix, c, r.Counts)
			}
			if !ok && r.Revisions >= least && len(kept) > 0 {
				t.Errorf("%d rows: %q with %d records is folded, one with %d is not", most, r.Prefix, r.Revisions, least)
			}
		}
	}
}

// TestPrefixCountsDoNotDependOnScheduling compares counts whose hashes have other seeds.
func TestPrefixCountsDoNotDependOnScheduling(t *testing.T) {
	path := fixtures.Databases(t, "healthy-3.7")[0]
	for _, most := range []int{1 << 20, 50} {
		opts := scan.PrefixOptions{Cut: wholeKey, MaxRows: most, Top: 7}
		first := countPrefixes(t, path, opts)
		for range 3 {
			again := countPrefixes(t, path, opts)
			first.Pass, again.Pass = nil, nil
			if !reflect.DeepEqual(first, again) {
				t.Fatalf("%d rows: two counts differ", most)
			}
		}
	}
}

func TestKeysOfOneMeasureComeByName(t *testing.T) {
	path := fixtures.Databases(t, "healthy-3.6")[0]
	got := countPrefixes(t, path, scan.PrefixOptions{Cut: firstWord, MaxRows: 10, Top: 100})
	ties := 0
	for i := 1; i < len(got.Hottest); i++ {
		if a, b := got.Hottest[i-1], got.Hottest[i]; a.Records == b.Records && b.Records > 2 {
			ties++
			if bytes.Compare(a.Key, b.Key) >= 0 {
				t.Errorf("%q comes before %q", a.Key, b.Key)
			}
		}
	}
	if ties == 0 {
		t.Fatal("no two keys have the same number of records")
	}
}

func TestInterruptedCountSaysSo(t *testing.T) {
	b, err := os.ReadFile(fixtures.Databases(t, "healthy-3.6")[0])
	if err != nil {
		t.Fatal(err)
	}
	db, err := snapdb.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := snapdb.Walk(context.Background(), db, 10)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r, err := scan.CountPrefixes(ctx, tree, 0, scan.PrefixOptions{Cut: wholeKey, MaxRows: 10})
	if !errors.Is(err, context.Canceled) || r.Reach.Pages != 0 || r.Total != (scan.Counts{}) {
		t.Errorf("%+v, %v", r, err)
	}
}

// A stopping reader ends a context with one of the reads.
type stoppingReader struct {
	io.ReaderAt
	reads int // that are left
	stop  func()
}

func (r *stoppingReader) ReadAt(b []byte, offset int64) (int, error) {
	if r.reads--; r.reads == 0 {
		r.stop()
	}
	return r.ReaderAt.ReadAt(b, offset)
}

// What an interrupt leaves is true of the part that was read, in whichever pass it comes.
func TestInterruptedCountHoldsWhatWasSeen(t *testing.T) {
	b, err := os.ReadFile(fixtures.Databases(t, "healthy-3.6")[0])
	if err != nil {
		t.Fatal(err)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // one read at a time
	count := func(rows, reads int) (*scan.PrefixResult, int, error) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r := &stoppingReader{bytes.NewReader(b), 0, cancel}
		db, err := snapdb.Open(r, int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		tree, err := snapdb.Walk(ctx, db, 10)
		if err != nil {
			t.Fatal(err)
		}
		bucket := slices.IndexFunc(tree.Buckets, func(b snapdb.Bucket) bool { return string(b.Name) == keyspace.BucketKey })
		r.reads = reads
		counted, err := scan.CountPrefixes(ctx, tree, bucket, scan.PrefixOptions{Cut: wholeKey, MaxRows: rows, Top: 3})
		return counted, reads - r.reads, err
	}
	for _, rows := range []int{5, 100000} {
		whole, reads, err := count(rows, 0)
		if err != nil || whole.Reach.Pages != whole.Reach.OfPages || whole.Reach.Records != whole.Total.Revisions {
			t.Fatalf("%+v, %v", whole.Reach, err)
		}
		parts, last := 0, int64(0)
		for stop := 1; stop <= reads; stop++ {
			r, _, err := count(rows, stop)
			if err == nil {
				continue // nothing that may be left out was read any more
			}
			parts++
			if r.Reach.Pages < last || r.Reach.Pages > r.Reach.OfPages || r.Reach.OfPages != whole.Reach.OfPages {
				t.Errorf("stopped at read %d: %+v after %d pages", stop, r.Reach, last)
			}
			last = r.Reach.Pages
			sum := r.Other
			for _, row := range r.Rows {
				sum.Revisions += row.Revisions
				sum.Bytes += row.Bytes
			}
			if r.Total.Revisions != r.Reach.Records || sum.Revisions != r.Total.Revisions || sum.Bytes != r.Total.Bytes || r.Total.Bytes > whole.Total.Bytes {
				t.Errorf("stopped at read %d: %+v of %+v, rows %+v", stop, r.Total, whole.Total, sum)
			}
			if r.Total.Live != 0 || r.Distinct != 0 || r.Hottest != nil || r.Largest != nil {
				t.Errorf("stopped at read %d: told which keys are there", stop)
			}
			if (r.OtherRows > 0) != (r.Other.Revisions > 0) {
				t.Errorf("stopped at read %d: %d other rows with %+v", stop, r.OtherRows, r.Other)
			}
		}
		if parts < 3 {
			t.Errorf("only %d of %d reads could be the last", parts, reads)
		}
	}
}

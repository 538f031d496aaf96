package snapdb_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"

	"etcd-forensics/fixtures"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/scan"
)

// record is one record of any bucket, by the path of bucket names.
type record struct {
	bucket     string
	key, value string
}

// ours collects every record in the order in which the walk yields the leaves.
type ours struct {
	tree   *snapdb.Tree
	inline map[int][]record
	leaves map[int][]record
}

func (o *ours) Sink() scan.Sink { return o }

func (o *ours) Leaf(l *scan.Leaf) {
	name := ""
	for b := l.Bucket; b > 0; b = o.tree.Buckets[b].Parent {
		name = "/" + string(o.tree.Buckets[b].Name) + name
	}
	var rs []record
	for _, e := range l.Elements {
		if !e.Bucket {
			rs = append(rs, record{name, string(e.Key), string(e.Value)})
		}
	}
	if l.Index < 0 {
		o.inline[l.Bucket] = rs
	} else {
		o.leaves[l.Index] = rs
	}
}

func (o *ours) records() []record {
	var all []record
	for b := range o.tree.Buckets {
		all = append(all, o.inline[b]...)
	}
	for i := range o.tree.Leaves {
		all = append(all, o.leaves[i]...)
	}
	return all
}

// theirs reads every record with bbolt itself.
func theirs(t *testing.T, db *bolt.DB) []record {
	t.Helper()
	var all []record
	var visit func(name string, b *bolt.Bucket) error
	visit = func(name string, b *bolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			if v == nil {
				return visit(name+"/"+string(k), b.Bucket(k))
			}
			all = append(all, record{name, string(k), string(v)})
			return nil
		})
	}
	err := db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error { return visit("/"+string(name), b) })
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWalkAgreesWithBbolt(t *testing.T) {
	for _, name := range fixtures.Names() {
		if name == "copied-while-running-3.6" {
			continue // a torn copy: bbolt itself may fail on it
		}
		t.Run(name, func(t *testing.T) {
			for _, path := range fixtures.Databases(t, name) {
				compareWithBbolt(t, path)
			}
		})
	}
}

func compareWithBbolt(t *testing.T, path string) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, _ := file.Stat()
	f, err := snapdb.Open(file, info.Size())
	if err != nil || f.Active < 0 {
		t.Fatalf("open: %v, active meta %d", err, f.Active)
	}
	tree, err := snapdb.Walk(context.Background(), f, 10)
	if err != nil {
		t.Fatal(err)
	}
	o := &ours{tree: tree, inline: map[int][]record{}, leaves: map[int][]record{}}
	res, err := scan.Run(context.Background(), tree, scan.Options{Parsers: 1}, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range tree.Faults.All() {
		t.Errorf("%s: %v", path, fault.Error())
	}
	// bbolt maps the file and takes a lock; this copy is the test's own.
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	byKey := func(a, b record) int {
		return slices.Compare([]string{a.bucket, a.key}, []string{b.bucket, b.key})
	}
	got, want := o.records(), theirs(t, db)
	if !slices.IsSortedFunc(bucketOf(got, "/key"), byKey) {
		t.Errorf("%s: the leaves of bucket key are not in key order", path)
	}
	slices.SortFunc(got, byKey)
	slices.SortFunc(want, byKey)
	if !slices.Equal(got, want) {
		t.Errorf("%s: %d records, bbolt reads %d; the first difference: %s", path, len(got), len(want), firstDifference(got, want))
	}
	comparePages(t, path, db, f, res.Pages)
}

func bucketOf(rs []record, bucket string) []record {
	var in []record
	for _, r := range rs {
		if r.bucket == bucket {
			in = append(in, r)
		}
	}
	return in
}

func firstDifference(a, b []record) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("%q and %q", a[i].key, b[i].key)
		}
	}
	return "one list is longer"
}

// comparePages holds the class of every page against what bbolt says of it.
func comparePages(t *testing.T, path string, db *bolt.DB, f *snapdb.File, m *snapdb.PageMap) {
	t.Helper()
	if f.Pages()*int64(f.PageSize) < f.DataSize || uint64(len(m.Class)) != uint64(f.Meta().Pgid) {
		t.Errorf("%s: %d pages, %d of them in use, for %d bytes", path, f.Pages(), len(m.Class), f.DataSize)
	}
	var sum int64
	for _, n := range m.Counts {
		sum += n
	}
	if sum != f.Pages() {
		t.Errorf("%s: the classes hold %d pages of %d", path, sum, f.Pages())
	}
	err := db.View(func(tx *bolt.Tx) error {
		overflow := 0
		for id := range int(f.Meta().Pgid) {
			p, err := tx.Page(id)
			if err != nil {
				return err
			}
			want := map[string]snapdb.Class{
				"meta": snapdb.ClassMeta, "branch": snapdb.ClassBranch, "leaf": snapdb.ClassLeaf,
				"freelist": snapdb.ClassFreelist, "free": snapdb.ClassFree,
			}[p.Type]
			switch {
			case overflow > 0:
				want = snapdb.ClassOverflow
				overflow--
			case p.Type != "free":
				overflow = p.OverflowCount
			}
			if got := m.Class[id]; got != want {
				t.Errorf("%s: page %d is class %d, bbolt says %s", path, id, got, p.Type)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// metaCase is one state of the two meta pages.
func TestActiveMetaIsChosenByChecksumFirst(t *testing.T) {
	path := fixtures.Databases(t, "healthy-3.7")[0]
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := snapdb.Open(bytes.NewReader(whole), int64(len(whole)))
	if err != nil {
		t.Fatal(err)
	}
	newer := f.Active
	for _, tt := range []struct {
		name    string
		change  func(b []byte)
		active  int
		swapped bool
	}{
		{"both valid", func([]byte) {}, newer, false},
		{"the newer one broken", func(b []byte) { b[f.Metas[newer].Offset+40] ^= 1 }, 1 - newer, false},
		{"the older one broken with a huge transaction id", func(b []byte) { b[f.Metas[1-newer].Offset+16+48+7] = 0xff }, newer, false},
		{"both broken", func(b []byte) { b[f.Metas[0].Offset+40] ^= 1; b[f.Metas[1].Offset+40] ^= 1 }, -1, false},
		{"the first page zeroed", func(b []byte) { clear(b[:f.PageSize]) }, 1, false},
		{"the other byte order", func(b []byte) {
			for _, m := range f.Metas {
				slices.Reverse(b[m.Offset+16 : m.Offset+20])
			}
		}, -1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := bytes.Clone(whole)
			tt.change(b)
			g, err := snapdb.Open(bytes.NewReader(b), int64(len(b)))
			if err != nil || g.Active != tt.active || g.SwappedOrder != tt.swapped {
				t.Errorf("active %d, swapped %v, %v; want %d, %v", g.Active, g.SwappedOrder, err, tt.active, tt.swapped)
			}
			if tt.active >= 0 && g.PageSize != f.PageSize {
				t.Errorf("page size %d, want %d", g.PageSize, f.PageSize)
			}
		})
	}
}

func TestOpenTakesAnySize(t *testing.T) {
	for _, n := range []int{0, 1, 16, 79, 80, 511, 512, 544, 4096, 70000} {
		if f, err := snapdb.Open(bytes.NewReader(make([]byte, n)), int64(n)); err != nil || f.Active >= 0 {
			t.Errorf("%d zero bytes: %v", n, err)
		}
	}
}

func TestFaultListKeepsTheFirstOfEachKindInAnyOrder(t *testing.T) {
	var forward, backward snapdb.FaultList
	forward.PerKind, backward.PerKind = 3, 3
	for i := range 10 {
		forward.Add(snapdb.Fault{Kind: snapdb.FaultPageID, Offset: int64(i)})
		backward.Add(snapdb.Fault{Kind: snapdb.FaultPageID, Offset: int64(9 - i)})
	}
	merged := snapdb.FaultList{PerKind: 3}
	merged.Merge(&backward)
	for name, l := range map[string]*snapdb.FaultList{"forward": &forward, "backward": &backward, "merged": &merged} {
		all := l.All()
		if len(all) != 3 || all[0].Offset != 0 || all[2].Offset != 2 || l.Count(snapdb.FaultPageID) != 10 || !l.InBucket(0) {
			t.Errorf("%s: %v, count %d", name, all, l.Count(snapdb.FaultPageID))
		}
	}
}

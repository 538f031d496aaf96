package recover_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"etcd-forensics/fixtures"
	"etcd-forensics/fixtures/mutants"
	"etcd-forensics/inspect/recover"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/page"
)

// contents are the records of a database by bucket and key.
type contents map[string]map[string]string

// dump reads a database with bbolt, and has it checked.
func dump(tb testing.TB, path string, check bool) contents {
	tb.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		tb.Fatalf("%s: %v", path, err)
	}
	defer db.Close()
	c := contents{}
	err = db.View(func(tx *bbolt.Tx) error {
		if check {
			for err := range tx.Check() {
				tb.Errorf("bbolt: %v", err)
			}
		}
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error { return c.add(string(name), b) })
	})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func (c contents) add(name string, b *bbolt.Bucket) error {
	rows := map[string]string{}
	c[name] = rows
	return b.ForEach(func(k, v []byte) error {
		if v == nil {
			return c.add(name+"/"+string(k), b.Bucket(k))
		}
		rows[string(k)] = string(v)
		return nil
	})
}

// An extent is where a record of bucket key lies: its element, then key and value.
type extent struct{ table, from, to int }

// extents finds the bytes of each record of bucket key of a sound database.
func extents(tb testing.TB, b []byte) map[string]extent {
	tb.Helper()
	f, err := snapdb.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		tb.Fatal(err)
	}
	tree, err := snapdb.Walk(context.Background(), f, 10)
	if err != nil {
		tb.Fatal(err)
	}
	found := map[string]extent{}
	for i, l := range tree.Leaves {
		if string(tree.Buckets[l.Bucket].Name) != "key" {
			continue
		}
		p, err := f.ReadPage(l.ID, 1<<30, nil)
		if err != nil {
			tb.Fatal(err)
		}
		var faults snapdb.FaultList
		at := int(l.ID) * f.PageSize
		for _, e := range tree.ReadLeaf(i, p, nil, &faults) {
			found[string(e.Key)] = extent{at + page.HeaderSize + e.Index*page.ElementSize, at + e.Offset, at + e.Offset + len(e.Key) + len(e.Value)}
		}
		if faults.Len() > 0 {
			tb.Fatalf("the healthy database has faults: %v", faults.All())
		}
	}
	return found
}

// untouched says whether none of a record's bytes were changed.
func (x extent) untouched(before, after []byte) bool {
	same := func(from, to int) bool { return to <= len(after) && bytes.Equal(before[from:to], after[from:to]) }
	return same(x.table, x.table+page.ElementSize) && same(x.from, x.to)
}

// salvage runs a salvage of a path to a new file.
func salvage(tb testing.TB, path string, opts recover.Options) (*recover.Result, error) {
	tb.Helper()
	s := open(tb, path)
	if opts.Out == "" {
		opts.Out = filepath.Join(tb.TempDir(), "out.db")
	}
	return recover.Salvage(context.Background(), s, opts)
}

func open(tb testing.TB, path string) *source.Source {
	tb.Helper()
	sources, problems := source.Open(context.Background(), []string{path}, source.Options{})
	if len(problems) > 0 {
		tb.Fatal(problems)
	}
	tb.Cleanup(func() { sources[0].Close() })
	return sources[0]
}

// A score is what was recovered of a database that was healthy before.
type score struct {
	records, touched int // of bucket key
	lost             int // of those whose bytes were not touched
	wrong, extra     int
	others           int // records of other buckets that are missing or wrong
	first            string
}

// compare holds what was recovered against the healthy original.
func compare(healthy, got contents, where map[string]extent, before, after []byte) (s score) {
	note := func(format string, args ...any) {
		if s.first == "" {
			s.first = fmt.Sprintf(format, args...)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(healthy["key"])) {
		s.records++
		v, there := got["key"][k]
		whole := where[k].untouched(before, after)
		if !whole {
			s.touched++
		}
		switch {
		case there && v != healthy["key"][k]:
			s.wrong++
			note("record %x is another", k)
		case !there && whole:
			s.lost++
			note("record %x is lost", k)
		}
	}
	for k := range got["key"] {
		if _, there := healthy["key"][k]; !there {
			s.extra++
			note("record %x was never there", k)
		}
	}
	for bucket, rows := range healthy {
		for k, v := range rows {
			if w, there := got[bucket][k]; bucket != "key" && (!there || v != w) {
				s.others++
				note("bucket %s: record %q is missing or another", bucket, k)
			}
		}
	}
	return s
}

func mutantsOfEach() int {
	n, err := strconv.Atoi(os.Getenv("MUTANTS"))
	if err != nil || testing.Short() {
		return 1
	}
	return n
}

// certainSpecimens is the number of specimens of which nothing that comes back is in
// doubt.
const certainSpecimens = 2

// specimens are databases with and without a stored freelist, with pages that a
// compaction has freed.
func specimens() []string {
	all := []string{"freelist-synced", "pagesize-512", "healthy-3.7", "healthy-3.4", "cluster3-3.7-crash", "cluster3-3.5-crash", "compaction-unfinished-3.6"}
	if testing.Short() {
		return all[:1]
	}
	if mutantsOfEach() == 1 {
		return all[:certainSpecimens]
	}
	return all
}

// thereAndMissing gives the keys of which a version is said to be missing that the new file
// has.
func thereAndMissing(t *testing.T, st *recover.Statement, have contents) (keys []string) {
	var there map[string]bool
	for _, l := range slices.Concat(st.CertainKeys, st.PossibleKeys) {
		for _, m := range l.Missing {
			if m.From == 0 || m.From != m.To {
				continue
			}
			if there == nil {
				there = map[string]bool{}
				for k, v := range have["key"] {
					there[fmt.Sprint(revisionOf(t, k).Main, string(keyValue(t, v).Key))] = true
				}
			}
			if there[fmt.Sprint(m.From, string(l.Key))] {
				keys = append(keys, fmt.Sprint(string(l.Key), m, l.Now))
			}
		}
	}
	return keys
}

// TestMutantsGiveBackWhatWasNotTouched injures copies of real databases in one place
// each. Every record whose bytes were not touched must come back, and none that is
// another than it was; one that was never there has to be said to be unproven.
func TestMutantsGiveBackWhatWasNotTouched(t *testing.T) {
	for _, name := range specimens() {
		s := mutants.NewSpecimen(t, name)
		dir := t.TempDir()
		path, out := filepath.Join(dir, "db"), filepath.Join(dir, "out.db")
		if err := os.WriteFile(path, s.Bytes, 0o600); err != nil {
			t.Fatal(err)
		}
		healthy, where := dump(t, path, false), extents(t, s.Bytes)
		total := map[string]int{}
		for k, m := range mutants.Mutations() {
			for n := range mutantsOfEach() {
				b := slices.Clone(s.Bytes)
				wrong, ok := m.Do(s, b, rand.New(rand.NewPCG(uint64(k), uint64(n))))
				if !ok {
					continue
				}
				if err := os.WriteFile(path, b, 0o600); err != nil {
					t.Fatal(err)
				}
				os.Remove(out)
				r, err := salvage(t, path, recover.Options{Out: out})
				if err != nil {
					t.Errorf("%s, %s, %d: %v", name, m.Name, n, err)
					continue
				}
				have := dump(t, out, true)
				got := compare(healthy, have, where, s.Bytes, b)
				total["extra"] += got.extra
				got.extra = beyond(have["key"], healthy["key"], r.Unproven)
				if k := slices.Index(specimens(), name); k >= certainSpecimens {
					got.lost -= min(got.lost, len(r.Doubts)) // they are said to be doubtful
				}
				if wrong == s.Root() { // the buckets that lie inline are those of the transaction before
					got.others = 0
				}
				total["copies"]++
				total["touched"] += got.touched
				total["lost"] += got.lost
				if got.wrong+got.extra+got.lost+got.others > 0 {
					t.Errorf("%s, %s, %d: %+v", name, m.Name, n, got)
				}
				if keys := thereAndMissing(t, &r.Statement, have); len(keys) > 0 {
					t.Errorf("%s, %s, %d: said to be missing of %q, and there", name, m.Name, n, keys[:min(len(keys), 3)])
				}
			}
		}
		t.Logf("%s: %v, %d records each", name, total, len(healthy["key"]))
	}
}

// notFromPages are injuries that the pages of a database cannot show, or that leave no
// database.
var notFromPages = map[string]string{
	"not-bbolt": "refused", "backend-missing": "refused", "byte-order-swapped": "refused",
	"value-bit-flipped": "a value with a flipped bit is whole", "cluster-diverged": "a value with a flipped bit is whole", "snapshot-bit-flipped": "a value with a flipped bit is whole",
	"lease-dangling": "the number of a lease is part of the value", "member-undecodable": "the record itself",
}

// TestInjuriesGiveBackWhatWasNotTouched does the same for the injured fixtures.
func TestInjuriesGiveBackWhatWasNotTouched(t *testing.T) {
	for _, injury := range fixtures.Injuries {
		if injury.Several || injury.Sources == nil || strings.HasPrefix(injury.Name, "database-") || strings.HasPrefix(injury.Name, "member-") && injury.Name != "member-undecodable" {
			continue
		}
		before := fixtures.Dir(t, injury.Base)
		after := fixtures.Dir(t, injury.Name)
		for _, src := range injury.Sources {
			db := src
			if !strings.HasSuffix(src, "db") {
				db = filepath.Join(src, "member", "snap", "db")
			}
			was, err := os.ReadFile(filepath.Join(before, db))
			if err != nil {
				continue
			}
			is, err := os.ReadFile(filepath.Join(after, db))
			if err == nil && bytes.Equal(was, is) {
				continue // it is the log that is injured
			}
			out := filepath.Join(t.TempDir(), "out.db")
			_, err = salvage(t, filepath.Join(after, src), recover.Options{Out: out})
			if why := notFromPages[injury.Name]; why == "refused" {
				if _, refused := errors.AsType[recover.Refusal](err); !refused {
					t.Errorf("%s: %v, not refused", injury.Name, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", injury.Name, err)
				continue
			}
			healthy := dump(t, filepath.Join(before, db), false)
			got := compare(healthy, dump(t, out, true), extents(t, was), was, is)
			if injury.Name == "metas-and-roots-zeroed" { // the other buckets lay on the roots
				got.others = 0
			}
			if notFromPages[injury.Name] != "" && got.wrong+got.others == 1 && got.extra+got.lost == 0 {
				continue
			}
			if got.wrong+got.extra+got.lost+got.others > 0 {
				t.Errorf("%s: %+v", injury.Name, got)
			} else {
				t.Logf("%s: %d records, %d touched", injury.Name, got.records, got.touched)
			}
		}
	}
}

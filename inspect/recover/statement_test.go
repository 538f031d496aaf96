package recover_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect/recover"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb/keyspace"
)

// edit changes bucket key of a database with bbolt.
func edit(tb testing.TB, path string, do func(b *bbolt.Bucket) error) {
	tb.Helper()
	fixtures.Edit(tb, path, func(tx *bbolt.Tx) error { return do(tx.Bucket([]byte("key"))) })
}

// A memberCopy is one member of a fixture in the test's own copy.
type memberCopy struct {
	dir, db string
	healthy contents
	order   []string // keys of bucket key
}

func copyOf(tb testing.TB, name, member string) *memberCopy {
	tb.Helper()
	m := &memberCopy{dir: filepath.Join(fixtures.Dir(tb, name), member)}
	m.db = filepath.Join(m.dir, "member", "snap", "db")
	m.healthy = dump(tb, m.db, false)
	m.order = slices.Sorted(maps.Keys(m.healthy["key"]))
	return m
}

func revisionOf(tb testing.TB, key string) keyspace.Revision {
	tb.Helper()
	rev, ok := keyspace.DecodeRevision([]byte(key))
	if !ok {
		tb.Fatalf("%q is no revision", key)
	}
	return rev
}

func keyValue(tb testing.TB, value string) keyspace.KeyValue {
	tb.Helper()
	kv, err := keyspace.DecodeKeyValue([]byte(value))
	if err != nil {
		tb.Fatal(err)
	}
	return kv
}

// TestWhatIsSaidOfTheNewFileIsTrueOfIt: of a store whose newest records a compaction has
// removed, and under the name that the file gets.
func TestWhatIsSaidOfTheNewFileIsTrueOfIt(t *testing.T) {
	m := copyOf(t, "healthy-3.7", "m1")
	beyond := revisionOf(t, m.order[len(m.order)-1]).Main + 7
	fixtures.Edit(t, m.db, func(tx *bbolt.Tx) error {
		mark := keyspace.Revision{Main: beyond}.Append(nil)
		return errors.Join(tx.Bucket([]byte("meta")).Put([]byte("scheduledCompactRev"), mark), tx.Bucket([]byte("meta")).Put([]byte("finishedCompactRev"), mark))
	})
	r, err := salvage(t, m.db, recover.Options{})
	if err != nil || r.Revision != beyond {
		t.Errorf("at revision %d, not %d: %v", r.Revision, beyond, err)
	}
	if len(r.Findings) == 0 {
		t.Error("that the file has no hash is not said")
	}
	for _, f := range r.Findings {
		if f.Member != r.Out || f.Location.File != r.Out {
			t.Errorf("%s is of %s, in %s", f.Code, f.Member, f.Location.File)
		}
	}
}

// alone lists the records above a revision that are the only ones of their revision, but
// for the last.
func (m *memberCopy) alone(tb testing.TB, above int64) (list []string) {
	tb.Helper()
	for i, k := range m.order[:len(m.order)-1] {
		rev := revisionOf(tb, k)
		if rev.Main > above && rev.Sub == 0 && revisionOf(tb, m.order[i+1]).Main != rev.Main {
			list = append(list, k)
		}
	}
	return list
}

// without salvages the member after records were deleted from its database.
func (m *memberCopy) without(tb testing.TB, keys []string, path string, opts recover.Options) (*recover.Result, contents) {
	tb.Helper()
	before, err := os.ReadFile(m.db)
	if err != nil {
		tb.Fatal(err)
	}
	edit(tb, m.db, func(b *bbolt.Bucket) error {
		for _, k := range keys {
			if err := b.Delete([]byte(k)); err != nil {
				return err
			}
		}
		return nil
	})
	opts.Out = filepath.Join(tb.TempDir(), "out.db")
	r, err := salvage(tb, path, opts)
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(m.db, before, 0o600); err != nil {
		tb.Fatal(err)
	}
	return r, dump(tb, opts.Out, true)
}

// lossOf gives what is said of a key.
func lossOf(list []recover.KeyLoss, key []byte) *recover.KeyLoss {
	i := slices.IndexFunc(list, func(l recover.KeyLoss) bool { return bytes.Equal(l.Key, key) })
	if i < 0 {
		return nil
	}
	return &list[i]
}

// compactedAt is the compact revision of cluster3-3.7-crash.
const compactedAt = 642

// TestVersionsThatAreMissingAreNamed takes single records out of a database without a log:
// where a later version of the key is left, its number says so, and its revision is a hole.
func TestVersionsThatAreMissingAreNamed(t *testing.T) {
	m := copyOf(t, "cluster3-3.7-crash", "m1")
	later := map[string]int64{} // version behind each record
	next := map[string]string{}
	for _, k := range slices.Backward(m.order) {
		kv := keyValue(t, m.healthy["key"][k])
		if n, there := next[string(kv.Key)]; there && !revisionOf(t, n).Tombstone {
			later[k] = keyValue(t, m.healthy["key"][n]).Version
		}
		next[string(kv.Key)] = k
	}
	tried := 0
	for _, k := range m.alone(t, compactedAt) {
		kv, rev := keyValue(t, m.healthy["key"][k]), revisionOf(t, k)
		if later[k] == 0 || rev.Tombstone || rev.Main%40 > 2 {
			continue
		}
		tried++
		r, _ := m.without(t, []string{k}, m.db, recover.Options{})
		st := &r.Statement
		l := lossOf(st.CertainKeys, kv.Key)
		if l == nil || l.State != recover.KeyHistory || len(l.Missing) != 1 || st.Certain != (recover.Tally{recover.KeyHistory: 1}) {
			t.Fatalf("revision %s: %+v", rev, st)
		}
		if x := l.Missing[0]; x.First != kv.Version || x.Last != later[k]-1 || x.From > rev.Main || x.To < rev.Main {
			t.Errorf("revision %s, version %d: said to be %+v", rev, kv.Version, x)
		}
		if !slices.Equal(st.Unknown, []recover.Span{{First: rev.Main, Last: rev.Main}}) || r.MissingCount != 1 || len(st.Ways) > 0 {
			t.Errorf("revision %s: %+v", rev, st)
		}
	}
	if tried < 3 {
		t.Fatalf("only %d records have later versions", tried)
	}
}

// TestHolesAreFilledFromTheLog takes records out of members' databases and salvages the
// members: what their own logs prove comes back as it was, and what they do not prove is
// named.
func TestHolesAreFilledFromTheLog(t *testing.T) {
	for _, name := range []string{"cluster3-3.5-crash", "cluster3-3.6-crash", "cluster3-3.7-crash"} {
		m := copyOf(t, name, "m1")
		list := m.alone(t, 700)
		for part := range 4 {
			var gone []string
			for i, k := range list {
				if i%29 == part*7 || part == 3 && i > len(list)/2 && i < len(list)/2+20 {
					gone = append(gone, k)
				}
			}
			r, got := m.without(t, gone, m.dir, recover.Options{})
			back := 0
			for _, k := range gone {
				if v, there := got["key"][k]; there {
					back++
					if v != m.healthy["key"][k] {
						t.Errorf("%s: revision %s is another", name, revisionOf(t, k))
					}
					continue
				}
				key := keyValue(t, m.healthy["key"][k]).Key
				if lossOf(r.Statement.CertainKeys, key) == nil && lossOf(r.Statement.PossibleKeys, key) == nil && r.Statement.UnknownCount == 0 {
					t.Errorf("%s: nothing is said of revision %s of %q", name, revisionOf(t, k), key)
				}
			}
			if len(got["key"]) != len(m.healthy["key"])-len(gone)+back {
				t.Errorf("%s: %d records, %d before, %d gone, %d back", name, len(got["key"]), len(m.healthy["key"]), len(gone), back)
			}
			if back*10 < len(gone)*9 {
				t.Errorf("%s: only %d of %d came back: %+v", name, back, len(gone), r.Statement)
			}
			if taken := helped(r, "the log of "+m.dir); taken != int64(back) {
				t.Errorf("%s: %d are said to be taken, %d came back", name, taken, back)
			}
			t.Logf("%s: %d of %d came back", name, back, len(gone))
		}
	}
}

func helped(r *recover.Result, file string) (n int64) {
	for _, h := range r.Helpers {
		if h.File == file {
			n += h.Records
		}
	}
	return n
}

// TestTheLogNamesWhatItCannotProve takes away the one record of a key from a database that
// has also lost a page with older records: whether the key was created by it, nothing says.
// So it is not taken, and the key is said to be gone, with the way to get it back.
func TestTheLogNamesWhatItCannotProve(t *testing.T) {
	dir := filepath.Join(fixtures.Dir(t, "leaf-zeroed"), "m1")
	db := filepath.Join(dir, "member", "snap", "db")
	whole := copyOf(t, "healthy-3.6", "m1")
	records := map[string]int{}
	for _, v := range whole.healthy["key"] {
		records[string(keyValue(t, v).Key)]++
	}
	list := whole.alone(t, 1000)
	k := list[slices.IndexFunc(list, func(k string) bool {
		return !revisionOf(t, k).Tombstone && records[string(keyValue(t, whole.healthy["key"][k]).Key)] == 1
	})]
	b, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	// The element begins to say that it is a bucket, which no record of bucket key is.
	at := extents(t, whole.read(t))[k].table
	b[at] |= 1
	if err := os.WriteFile(db, b, 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out.db")
	r, err := salvage(t, dir, recover.Options{Out: out})
	if err != nil {
		t.Fatal(err)
	}
	if _, there := dump(t, out, true)["key"][k]; there {
		t.Error("the record came back")
	}
	l := lossOf(r.Statement.CertainKeys, keyValue(t, whole.healthy["key"][k]).Key)
	if l == nil || l.State != recover.KeyGone || l.Missing[0].From != revisionOf(t, k).Main || r.Statement.Certain[recover.KeyGone] != 1 || len(r.Statement.Ways) != 1 {
		t.Fatalf("%+v", r.Statement)
	}
}

func (m *memberCopy) read(tb testing.TB) []byte {
	tb.Helper()
	b, err := os.ReadFile(m.db)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// TestADamagedLeafIsAccountedForByTheLog zeroes a page on which all records were compacted:
// the log says whose last versions lay on it.
func TestADamagedLeafIsAccountedForByTheLog(t *testing.T) {
	before := dump(t, fixtures.Databases(t, "healthy-3.6")[0], false)
	out := filepath.Join(t.TempDir(), "out.db")
	dir := filepath.Join(fixtures.Dir(t, "leaf-zeroed"), "m1")
	r, err := salvage(t, dir, recover.Options{Out: out})
	if err != nil {
		t.Fatal(err)
	}
	after := dump(t, out, true)
	st := &r.Statement
	n := 0
	for k, v := range before["key"] {
		if _, there := after["key"][k]; there {
			continue
		}
		n++
		if l := lossOf(st.PossibleKeys, keyValue(t, v).Key); l == nil || l.State != recover.KeyGone || l.Missing[0].From != revisionOf(t, k).Main {
			t.Errorf("revision %s: %+v", revisionOf(t, k), l)
		}
	}
	if n == 0 || st.Possible[recover.KeyGone] != int64(n) || st.Certain.Any() {
		t.Errorf("%d keys are gone: %+v", n, st)
	}
	want := []string{"etcd-forensics", "rollforward", "--wal", dir, "-o", "rolled.db"}
	if len(st.Ways) != 1 || !slices.Equal(st.Ways[0].Argv, want) {
		t.Errorf("%+v", st.Ways)
	}
}

// TestTheLogDecidesBetweenCopies flips a bit in the value of single records, in the
// database or in another member's. With the log at hand the record comes back as it was;
// without, what the tree has stays, and both are listed.
func TestTheLogDecidesBetweenCopies(t *testing.T) {
	dir := fixtures.Dir(t, "cluster3-3.7-crash")
	mine, other := copyOf(t, "cluster3-3.7-crash", "m1"), filepath.Join(dir, "m2")
	list := mine.alone(t, 800)
	k := list[slices.IndexFunc(list, func(k string) bool {
		return !revisionOf(t, k).Tombstone && len(keyValue(t, mine.healthy["key"][k]).Value) > 8
	})]
	flipped := []byte(mine.healthy["key"][k])
	at := bytes.Index(flipped, keyValue(t, mine.healthy["key"][k]).Value)
	flipped[at+4] ^= 1
	put := func(b *bbolt.Bucket) error { return b.Put([]byte(k), flipped) }
	otherDB := filepath.Join(other, "member", "snap", "db")
	for _, c := range []struct {
		name, path string
		flip       string
		with       []string
		whole      bool
		taken      string
		reason     string
	}{
		{"the tree, and its own log", mine.dir, mine.db, nil, true, "the log of ", "the log says so"},
		{"the tree, and another member with a log", mine.db, mine.db, []string{other}, true, "", "the log says so"},
		{"the tree, and another database", mine.db, mine.db, []string{otherDB}, false, "the tree", "no log tells"},
		{"another database, and the log", mine.dir, otherDB, []string{otherDB}, true, "the tree", "the log says so"},
		{"another database", mine.db, otherDB, []string{otherDB}, true, "the tree", "no log tells"},
	} {
		was, err := os.ReadFile(c.flip)
		if err != nil {
			t.Fatal(err)
		}
		edit(t, c.flip, put)
		opts := recover.Options{Out: filepath.Join(t.TempDir(), "out.db")}
		for _, w := range c.with {
			opts.With = append(opts.With, open(t, w))
		}
		r, err := salvage(t, c.path, opts)
		if err := os.WriteFile(c.flip, was, 0o600); err != nil {
			t.Fatal(err)
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := dump(t, opts.Out, true)["key"][k]; (got == mine.healthy["key"][k]) != c.whole {
			t.Errorf("%s: the record is whole: %t", c.name, !c.whole)
		}
		i := slices.IndexFunc(r.Conflicts, func(x recover.Conflict) bool { return x.Revision == revisionOf(t, k) })
		if i < 0 || !strings.Contains(r.Conflicts[i].Taken, c.taken) || !strings.Contains(r.Conflicts[i].Reason, c.reason) {
			t.Errorf("%s: %+v", c.name, r.Conflicts)
		}
	}
}

// TestADatabaseWithAFewDamagedRecordsStillGives flips bits in the database of another
// member: what is lost here comes from it all the same, and the damaged records are listed.
func TestADatabaseWithAFewDamagedRecordsStillGives(t *testing.T) {
	mine, other := copyOf(t, "cluster3-3.7-crash", "m1"), copyOf(t, "cluster3-3.7-crash", "m2")
	list := mine.alone(t, 900)
	lost := list[10:40]
	for _, n := range []int{1, 4} {
		was, err := os.ReadFile(other.db)
		if err != nil {
			t.Fatal(err)
		}
		edit(t, other.db, func(b *bbolt.Bucket) error {
			for i := range n {
				k := list[60+20*i]
				v := bytes.Clone(b.Get([]byte(k)))
				v[len(v)-1] ^= 4
				if err := b.Put([]byte(k), v); err != nil {
					return err
				}
			}
			return nil
		})
		r, got := mine.without(t, lost, mine.db, recover.Options{With: []*source.Source{open(t, other.db)}})
		if err := os.WriteFile(other.db, was, 0o600); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(got["key"], mine.healthy["key"]) {
			t.Errorf("%d damaged: the records are not those before", n)
		}
		if len(r.Conflicts) != n || helped(r, other.db) != int64(len(lost)) || r.Statement.Certain.Any() {
			t.Errorf("%d damaged: %d conflicts, %+v, %+v", n, len(r.Conflicts), r.Helpers, r.Statement)
		}
	}
}

// TestOneOtherRecordAtTheEndIsWhereRelianceEnds flips a bit in the newest record that another
// member has: whether more would follow, nothing shows.
func TestOneOtherRecordAtTheEndIsWhereRelianceEnds(t *testing.T) {
	mine, other := copyOf(t, "cluster3-3.7-crash", "m1"), copyOf(t, "cluster3-3.7-crash", "m1")
	k := mine.order[len(mine.order)-1]
	edit(t, other.db, func(b *bbolt.Bucket) error {
		v := bytes.Clone(b.Get([]byte(k)))
		v[len(v)-1] ^= 1
		return b.Put([]byte(k), v)
	})
	lost := mine.alone(t, 900)[:5]
	r, got := mine.without(t, lost, mine.db, recover.Options{With: []*source.Source{open(t, other.db)}})
	note := fmt.Sprintf("relied on up to revision %d", revisionOf(t, k).Main-1)
	if !maps.Equal(got["key"], mine.healthy["key"]) || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], note) || len(r.Conflicts) != 1 {
		t.Errorf("%d records of %d, notes %q, conflicts %+v", len(got["key"]), len(mine.healthy["key"]), r.Notes, r.Conflicts)
	}
}

// TestDatabasesThatDivergedAreRefused makes another member's database differ as members do
// that diverged, and as those of other clusters do.
func TestDatabasesThatDivergedAreRefused(t *testing.T) {
	mine, other := copyOf(t, "cluster3-3.7-crash", "m1"), copyOf(t, "cluster3-3.7-crash", "m2")
	puts := slices.DeleteFunc(slices.Clone(other.order), func(k string) bool { return revisionOf(t, k).Tombstone })
	last := revisionOf(t, puts[len(puts)-2]).Main
	// change puts another value at each record from a revision on.
	change := func(from int64, how func(v []byte) []byte) func(b *bbolt.Bucket) error {
		return func(b *bbolt.Bucket) error {
			for _, k := range other.order {
				rev := revisionOf(t, k)
				if rev.Main < from || rev.Tombstone {
					continue
				}
				if err := b.Put([]byte(k), how(b.Get([]byte(k)))); err != nil {
					return err
				}
			}
			return nil
		}
	}
	longer := func(v []byte) []byte {
		kv := keyValue(t, string(v))
		kv.Value = append(bytes.Clone(kv.Value), 'x')
		return kv.Append(nil)
	}
	lastBit := func(v []byte) []byte {
		v = bytes.Clone(v)
		v[len(v)-1] ^= 1
		return v
	}
	for name, do := range map[string]func(b *bbolt.Bucket) error{
		"other values from one revision on": change(last-100, longer),
		"the last two have a bit flipped":   change(last, lastBit),
		"one record in the middle is longer": func(b *bbolt.Bucket) error {
			k := []byte(mine.alone(t, 900)[5])
			return b.Put(k, longer(b.Get(k)))
		},
		"a write was left out, and all behind it moved": func(b *bbolt.Bucket) error {
			for _, k := range other.order {
				rev := revisionOf(t, k)
				if rev.Main < last-200 {
					continue
				}
				v := bytes.Clone(b.Get([]byte(k)))
				if err := b.Delete([]byte(k)); err != nil {
					return err
				}
				if rev.Main == last-200 {
					continue
				}
				rev.Main--
				if kv := keyValue(t, string(v)); !rev.Tombstone {
					kv.ModRevision--
					if kv.Version == 1 {
						kv.CreateRevision--
					}
					v = kv.Append(nil)
				}
				if err := b.Put(rev.Append(nil), v); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		was, err := os.ReadFile(other.db)
		if err != nil {
			t.Fatal(err)
		}
		edit(t, other.db, do)
		_, err = salvage(t, mine.db, recover.Options{With: []*source.Source{open(t, other.db)}})
		if err == nil || !strings.Contains(err.Error(), "is not of the same cluster") {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.WriteFile(other.db, was, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDatabasesOfOtherClustersAreRefused takes fixtures of different stories with each
// other.
func TestDatabasesOfOtherClustersAreRefused(t *testing.T) {
	names := []string{"healthy-3.6", "cluster3-3.5-crash", "cluster3-3.6-crash", "cluster3-3.7-crash", "auth-3.6", "compaction-unfinished-3.6"}
	for i, a := range names {
		b := names[(i+1)%len(names)]
		_, err := salvage(t, copyPath(t, a), recover.Options{With: []*source.Source{open(t, copyPath(t, b))}})
		if err == nil || !strings.Contains(err.Error(), "is not of the same cluster") {
			t.Errorf("%s with %s: %v", a, b, err)
		}
	}
}

func copyPath(tb testing.TB, name string) string {
	tb.Helper()
	return fixtures.Databases(tb, name)[0]
}

// TestARestoredCopyIsReliedOnAsFarAsBothAgree gives a lost record from the same backup that
// was restored with other members, and not what that wrote behind it.
func TestARestoredCopyIsReliedOnAsFarAsBothAgree(t *testing.T) {
	mine := copyOf(t, "healthy-3.6", "m1")
	restored := copyOf(t, "healthy-3.6", "m1")
	fixtures.Edit(t, restored.db, func(tx *bbolt.Tx) error {
		for _, name := range []string{"members", "members_removed"} {
			if err := tx.DeleteBucket([]byte(name)); err != nil {
				return err
			}
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		id := uint64(0x1234)
		if err := tx.Bucket([]byte("members")).Put([]byte(fmt.Sprintf("%x", id)), []byte(fmt.Sprintf(`{"id":%d,"name":"r"}`, id))); err != nil {
			return err
		}
		last := revisionOf(t, mine.order[len(mine.order)-1])
		kv := keyspace.KeyValue{Key: []byte("/of/the/other"), CreateRevision: last.Main + 1, ModRevision: last.Main + 1, Version: 1}
		return tx.Bucket([]byte("key")).Put(keyspace.Revision{Main: last.Main + 1}.Append(nil), kv.Append(nil))
	})
	lost := mine.alone(t, 1100)[3]
	r, got := mine.without(t, []string{lost}, mine.db, recover.Options{With: []*source.Source{open(t, restored.db)}})
	if !maps.Equal(got["key"], mine.healthy["key"]) || len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "relied on up to revision") {
		t.Errorf("%d records of %d, notes %q", len(got["key"]), len(mine.healthy["key"]), r.Notes)
	}
	edit(t, restored.db, func(b *bbolt.Bucket) error {
		k := []byte(mine.alone(t, 1100)[8])
		v := bytes.Clone(b.Get(k))
		v[len(v)-1] ^= 1
		return b.Put(k, v)
	})
	if _, err := salvage(t, mine.db, recover.Options{With: []*source.Source{open(t, restored.db)}}); err == nil || !strings.Contains(err.Error(), "no member of it") {
		t.Errorf("with another record: %v", err)
	}
}

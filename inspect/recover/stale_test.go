package recover_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.etcd.io/bbolt"

	"etcd-forensics/inspect/recover"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
)

// A store writes bucket key as etcd does: revisions appended, compactions that delete what
// later versions replaced, and pages that bbolt takes anew from those it freed.
type store struct {
	tb      testing.TB
	db      *bbolt.DB
	rnd     *rand.Rand
	rev     int64
	keys    map[string]*keyspace.KeyValue // the last version of each live key
	history map[string][]keyspace.Revision
}

func newStore(tb testing.TB, path string, seed uint64) *store {
	tb.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: 1024, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, NoSync: true})
	if err != nil {
		tb.Fatal(err)
	}
	s := &store{tb: tb, db: db, rnd: rand.New(rand.NewPCG(seed, 1)), rev: 1, keys: map[string]*keyspace.KeyValue{}, history: map[string][]keyspace.Revision{}}
	s.update(func(tx *bbolt.Tx) error {
		for _, name := range []string{"key", "meta", "members", "members_removed", "alarm", "lease", "auth", "authUsers", "authRoles"} {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
	return s
}

func (s *store) update(do func(*bbolt.Tx) error) {
	s.tb.Helper()
	if err := s.db.Update(do); err != nil {
		s.tb.Fatal(err)
	}
}

// write commits n revisions: updates of keys that stay, and keys that come and go, as
// events do.
func (s *store) write(n int) {
	s.update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("key"))
		b.FillPercent = 0.9
		for range n {
			s.rev++
			key := fmt.Sprintf("/stays/%03d", s.rnd.IntN(120))
			if s.rnd.IntN(3) > 0 {
				key = fmt.Sprintf("/event/%05d", s.rev)
			}
			old := s.oldest("/event/", 150)
			rev := keyspace.Revision{Main: s.rev}
			kv := &keyspace.KeyValue{Key: []byte(key), CreateRevision: s.rev, ModRevision: s.rev, Version: 1, Value: make([]byte, s.rnd.IntN(200))}
			switch before := s.keys[key]; {
			case old != "":
				rev.Tombstone = true
				kv = &keyspace.KeyValue{Key: []byte(old)}
				delete(s.keys, old)
				key = old
			case before != nil:
				kv.CreateRevision, kv.Version = before.CreateRevision, before.Version+1
				fallthrough
			default:
				s.keys[key] = kv
			}
			s.history[key] = append(s.history[key], rev)
			if err := b.Put(rev.Append(nil), kv.Append(nil)); err != nil {
				return err
			}
		}
		return tx.Bucket([]byte("meta")).Put([]byte("consistent_index"), binary.BigEndian.AppendUint64(nil, uint64(s.rev)))
	})
}

// oldest gives the oldest key with a prefix once there are more than n.
func (s *store) oldest(prefix string, n int) string {
	var found []string
	for k := range s.keys {
		if len(k) > len(prefix) && k[:len(prefix)] == prefix {
			found = append(found, k)
		}
	}
	if len(found) <= n {
		return ""
	}
	return slices.Min(found)
}

// compact deletes what a compaction at rev deletes (etcd v3.7.3,
// server/storage/mvcc/key_index.go, compact).
func (s *store) compact(at int64) {
	mark := keyspace.Revision{Main: at}.Append(nil)
	s.update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("scheduledCompactRev"), mark) })
	var gone []keyspace.Revision
	for key, revs := range s.history {
		n := 0
		for n < len(revs) && revs[n].Main <= at {
			n++
		}
		if n > 0 && (!revs[n-1].Tombstone || revs[n-1].Main == at) {
			n--
		}
		gone = append(gone, revs[:n]...)
		if s.history[key] = revs[n:]; len(revs) == n {
			delete(s.history, key)
		}
	}
	slices.SortFunc(gone, keyspace.Revision.Compare)
	for part := range slices.Chunk(gone, 100) {
		s.update(func(tx *bbolt.Tx) error {
			for _, rev := range part {
				if err := tx.Bucket([]byte("key")).Delete(rev.Append(nil)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	s.update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("finishedCompactRev"), mark) })
}

// keyPages lists the branch and leaf pages of bucket key.
func keyPages(tb testing.TB, b []byte) (branches, leaves []page.ID) {
	tb.Helper()
	f, err := snapdb.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		tb.Fatal(err)
	}
	tree, err := snapdb.Walk(context.Background(), f, 10)
	if err != nil {
		tb.Fatal(err)
	}
	for _, n := range tree.Nodes {
		if string(tree.Buckets[n.Bucket].Name) == "key" {
			branches = append(branches, n.ID)
		}
	}
	for _, l := range tree.Leaves {
		if string(tree.Buckets[l.Bucket].Name) == "key" {
			leaves = append(leaves, l.ID)
		}
	}
	return branches, leaves
}

// TestStalePagesAreNotTakenForLostOnes damages stores in which most keys were deleted and
// compacted away, so that freed pages are full of records that look as good as any. What is
// taken and was never there has to be among what is said to be unproven, and a strict
// salvage takes none of it.
func TestStalePagesAreNotTakenForLostOnes(t *testing.T) {
	var total score
	copies := 0
	for seed := range uint64(2 * mutantsOfEach()) {
		dir := t.TempDir()
		path, out := filepath.Join(dir, "db"), filepath.Join(dir, "out.db")
		s := newStore(t, path, seed)
		for i := range 120 {
			s.write(1 + s.rnd.IntN(20))
			if i%25 == 20+int(seed%5) {
				s.compact(s.rev - int64(s.rnd.IntN(200)))
			}
		}
		if err := s.db.Close(); err != nil {
			t.Fatal(err)
		}
		was, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		healthy, where := dump(t, path, false), extents(t, was)
		branches, leaves := keyPages(t, was)
		s.rnd.Shuffle(len(leaves), func(i, j int) { leaves[i], leaves[j] = leaves[j], leaves[i] })
		for _, id := range append(branches, leaves[:min(len(leaves), 6)]...) {
			is := slices.Clone(was)
			clear(is[int(id)*1024 : int(id+1)*1024])
			if err := os.WriteFile(path, is, 0o600); err != nil {
				t.Fatal(err)
			}
			for _, strict := range []bool{false, true} {
				os.Remove(out)
				r, err := salvage(t, path, recover.Options{Out: out, Strict: strict})
				if err != nil {
					t.Fatal(err)
				}
				got := compare(healthy, dump(t, out, true), where, was, is)
				if !strict {
					copies++
					total.lost, total.records, total.extra = total.lost+got.lost, total.records+got.records, total.extra+got.extra
					got.extra = beyond(dump(t, out, false)["key"], healthy["key"], r.Unproven)
				}
				got.lost -= len(r.Doubts) // they are said to be doubtful
				if got.wrong+got.extra+got.others > 0 || got.lost > 0 {
					t.Errorf("seed %d, page %d of %d branches, strict %v: %+v", seed, id, len(branches), strict, got)
				}
			}
		}
	}
	t.Logf("%d copies, %+v", copies, total)
}

// beyond counts the records that the healthy database does not have, and that are not
// said to be unproven.
func beyond(got, healthy map[string]string, unproven []recover.Doubt) (n int) {
	said := map[string]bool{}
	for _, d := range unproven {
		said[string(d.Revision.Append(nil))] = true
	}
	for k := range got {
		if _, there := healthy[k]; !there && !said[k] {
			n++
		}
	}
	return n
}

// TestWhatACompactionMayHaveTakenIsNotMissingForCertain clears the records of bucket meta, of
// both transactions, of a store that was compacted, and one page of bucket key. Keys that
// begin with a later version than the first may be what a compaction left: those alone of
// which a record was on the page, or was taken out of the middle, are affected for certain.
func TestWhatACompactionMayHaveTakenIsNotMissingForCertain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "db")
	s := newStore(t, path, 3)
	s.update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("filler"), make([]byte, 700)) })
	for range 60 {
		s.write(20)
	}
	at := s.rev - 600
	s.compact(at)
	s.write(5)
	gone := "" // a key without its middle version
	for key, revs := range s.history {
		if len(revs) > 2 && revs[0].Main > at && !revs[2].Tombstone && (gone == "" || key < gone) {
			gone = key
		}
	}
	s.update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("key")).Delete(s.history[gone][1].Append(nil)) })
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lost := map[string]bool{gone: true}
	_, leaves := keyPages(t, b)
	f, err := snapdb.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		tree, err := snapdb.Walk(t.Context(), f.As(n), 10)
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range tree.Leaves {
			at := b[l.ID*1024:][:1024]
			switch {
			case string(tree.Buckets[l.Bucket].Name) == "meta":
				clear(at)
			case n == f.Active && l.ID == leaves[len(leaves)-10]:
				for _, e := range tree.ReadLeaf(i, at, nil, &tree.Faults) {
					kv, err := keyspace.DecodeKeyValue(e.Value)
					if err != nil {
						t.Fatal(err)
					}
					lost[string(kv.Key)] = true
				}
			}
		}
	}
	clear(b[leaves[len(leaves)-10]*1024:][:1024])
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := salvage(t, path, recover.Options{Out: filepath.Join(dir, "out.db")})
	if err != nil {
		t.Fatal(err)
	}
	st := &r.Statement
	if r.CompactionKnown || len(lost) < 3 || !st.Certain.Any() || st.Possible[recover.KeyHistory] < 20 {
		t.Errorf("compaction known %v, %d keys without a record, certain %v, possible %v", r.CompactionKnown, len(lost), st.Certain, st.Possible)
	}
	for _, k := range st.CertainKeys {
		if !lost[string(k.Key)] {
			t.Errorf("%s of %q is certain, and nothing of it is missing: %+v", k.State, k.Key, k.Missing)
		}
	}
}

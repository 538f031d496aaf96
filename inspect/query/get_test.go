package query_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.uber.org/zap"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect/query"
	"etcd-forensics/inspect/source"
	"etcd-forensics/inspect/source/sourcetest"
	"etcd-forensics/snapdb/keyspace"
)

func openSource(tb testing.TB, path string) *source.Source {
	tb.Helper()
	return sourcetest.Open(tb, source.Options{}, path)[0]
}

// etcdStore opens a copy of a database with etcd's own store.
func etcdStore(t *testing.T, path string) mvcc.KV {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(copied, b, 0o600); err != nil {
		t.Fatal(err)
	}
	be := backend.NewDefaultBackend(zap.NewNop(), copied)
	store := mvcc.New(zap.NewNop(), be, &lease.FakeLessor{}, mvcc.StoreConfig{})
	t.Cleanup(func() { store.Close(); be.Close() })
	return store
}

// TestGetIsEtcds compares all keys, as of revisions from the compact revision to the
// newest, with what etcd's own store gives: values, revisions, versions and leases,
// deleted and recreated keys among them.
func TestGetIsEtcds(t *testing.T) {
	for _, name := range []string{"healthy-3.4", "healthy-3.5", "healthy-3.6", "healthy-3.7", "healthy-3.8", "empty-compacted-3.7", "pagesize-512"} {
		t.Run(name, func(t *testing.T) {
			path := fixtures.Databases(t, name)[0]
			store, src := etcdStore(t, path), openSource(t, path)
			first, last := max(store.FirstRev(), 1), store.Rev()
			for rev := first; rev <= last; rev += max(1, (last-first)/7) {
				theirs, err := store.Range(context.Background(), []byte{0}, []byte{}, mvcc.RangeOptions{Rev: rev})
				if err != nil {
					t.Fatal(err)
				}
				ours, err := query.Get(t.Context(), src, query.GetOptions{Keys: query.Keys{Prefix: true}, Revision: rev, Values: true})
				if err != nil {
					t.Fatal(err)
				}
				if len(ours.List) != len(theirs.KVs) || !ours.Whole {
					t.Fatalf("at %d: %d keys, etcd has %d", rev, len(ours.List), len(theirs.KVs))
				}
				for i, kv := range theirs.KVs {
					v := ours.List[i]
					if !bytes.Equal(v.Key, kv.Key) || !bytes.Equal(v.Value, kv.Value) || v.Revision.Main != kv.ModRevision ||
						v.CreateRevision != kv.CreateRevision || v.Version != kv.Version || v.Lease != kv.Lease || v.ValueSize != int64(len(kv.Value)) {
						t.Errorf("at %d: %+v, etcd has %+v", rev, v, kv)
					}
				}
			}
		})
	}
}

func TestGetTakesOneKeyOrAPrefix(t *testing.T) {
	src := openSource(t, fixtures.Databases(t, "healthy-3.6")[0])
	get := func(key string, prefix bool, rev int64) []query.Version {
		r, err := query.Get(t.Context(), src, query.GetOptions{Keys: query.Keys{Key: []byte(key), Prefix: prefix}, Revision: rev})
		if err != nil {
			t.Fatal(err)
		}
		return r.List
	}
	if got := get("txn/a-00", false, 0); len(got) != 0 {
		t.Errorf("a key that is not there: %v", got)
	}
	if got := get("txn/b-00", true, 0); len(got) != 10 || got[0].Value != nil {
		t.Errorf("%d keys with the prefix, values %q", len(got), got[0].Value)
	}
	if got := get("txn/a-001", false, 1044); len(got) != 1 || got[0].Revision.Main != 1044 {
		t.Errorf("before its deletion: %+v", got)
	}
	if got := get("txn/a-001", false, 1047); len(got) != 0 {
		t.Errorf("at its deletion: %+v", got)
	}
	for _, rev := range []int64{1041, 1197} {
		if _, err := query.Get(t.Context(), src, query.GetOptions{Keys: query.Keys{Key: []byte("x")}, Revision: rev}); err == nil {
			t.Errorf("revision %d is given", rev)
		}
	}
}

func history(t *testing.T, path, key string, prefix bool) *query.HistoryResult {
	t.Helper()
	r, err := query.History(t.Context(), openSource(t, path), query.HistoryOptions{Keys: query.Keys{Key: []byte(key), Prefix: prefix}, Values: true})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestHistoryHasEveryRecord compares with the records that bbolt reads: each is an
// event, once, and in the order of revisions for each key.
func TestHistoryHasEveryRecord(t *testing.T) {
	for _, name := range []string{"healthy-3.4", "healthy-3.7", "cluster3-3.5-crash"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(fixtures.Dir(t, name), "m1")
			type record struct {
				rev keyspace.Revision
				key string
			}
			want := map[record]bool{}
			db, err := bolt.Open(filepath.Join(dir, "member", "snap", "db"), 0o600, &bolt.Options{ReadOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			err = db.View(func(tx *bolt.Tx) error {
				return tx.Bucket([]byte("key")).ForEach(func(k, v []byte) error {
					rev, _ := keyspace.DecodeRevision(k)
					kv, err := keyspace.DecodeKeyValue(v)
					want[record{rev, string(kv.Key)}] = true
					return err
				})
			})
			db.Close()
			if err != nil {
				t.Fatal(err)
			}
			r := history(t, dir, "", true)
			proven, last := 0, query.Event{}
			for _, e := range r.List {
				if bytes.Equal(last.Key, e.Key) && last.Revision.Main > 0 && e.Revision.Main > 0 && last.Revision.Compare(e.Revision) >= 0 {
					t.Errorf("key %q: %v behind %v", e.Key, e.Revision, last.Revision)
				}
				last = e
				if !e.InDatabase {
					continue
				}
				at := record{e.Revision, string(e.Key)}
				if !want[at] {
					t.Errorf("%+v is no record, or given twice", at)
				}
				delete(want, at)
				if e.InWAL && e.Index > 0 && e.State == query.StateApplied {
					proven++
				}
			}
			if len(want) > 0 {
				t.Errorf("%d records are missing", len(want))
			}
			if proven < 500 {
				t.Errorf("only %d records are found in the log", proven)
			}
		})
	}
}

// TestHistoryTellsWhatOnlyTheLogHolds: versions that a compaction has removed, and
// writes that the database lacks.
func TestHistoryTellsWhatOnlyTheLogHolds(t *testing.T) {
	dir := filepath.Join(fixtures.Dir(t, "cluster3-3.7-crash"), "m1")
	r := history(t, dir, "load/c4/again-35", false)
	i := slices.IndexFunc(r.List, func(e query.Event) bool { return e.Index == 2445 })
	if i < 0 || r.List[i].InDatabase || r.List[i].State != query.StateCommitted || r.List[i].Action != query.ActionPut || i != len(r.List)-1 {
		t.Errorf("%+v", r.List)
	}
	updated := history(t, dir, "/registry/leases/kube-node-lease/node-00", false)
	removed := 0
	for _, e := range updated.List {
		if !e.InDatabase && e.InWAL && len(e.Value) == 0 && e.Action == query.ActionPut {
			t.Errorf("no value of %+v", e)
		}
		if !e.InDatabase {
			removed++
		}
	}
	if len(updated.List) != 8 || removed != 7 || !updated.List[7].InDatabase || !updated.List[7].InWAL {
		t.Errorf("%d events, %d of them in the log alone: %+v", len(updated.List), removed, updated.List)
	}
}

// TestHistoryWithoutADatabase reads the log alone.
func TestHistoryWithoutADatabase(t *testing.T) {
	dir := filepath.Join(fixtures.Dir(t, "healthy-3.6"), "m1", "member", "wal")
	r := history(t, dir, "txn/b-001", false)
	if len(r.List) != 1 || r.List[0].Action != query.ActionPut || !r.List[0].Unsure || r.List[0].ValueSize != 80 || r.List[0].Revision.Main != 0 {
		t.Errorf("%+v", r.List)
	}
}

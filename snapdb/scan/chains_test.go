package scan_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/pkg/v3/traceutil"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"

	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/scan"
)

// history writes a store with etcd's own code: puts, deletions and keys created
// again, compacted in the middle when compact is set. It gives the database's path.
func history(t *testing.T, compact bool) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	lg := zap.NewNop()
	be := backend.NewDefaultBackend(lg, path)
	defer be.Close()
	tx := be.BatchTx()
	tx.Lock()
	schema.UnsafeCreateMetaBucket(tx)
	tx.Unlock()
	store := mvcc.NewStore(lg, be, &lease.FakeLessor{}, mvcc.StoreConfig{})
	defer store.Close()
	_, trace := traceutil.EnsureTrace(context.Background(), lg, "test")
	rnd := rand.New(rand.NewPCG(5, 6))
	for i := range 2000 {
		key := fmt.Appendf(nil, "key-%03d", rnd.IntN(150))
		switch txn := store.Write(trace); {
		case rnd.IntN(4) == 0:
			txn.DeleteRange(key, nil)
			txn.End()
		default:
			txn.Put(key, fmt.Appendf(nil, "value %d", i), 0)
			if rnd.IntN(8) == 0 {
				txn.Put(append(key, "-twin"...), nil, 0)
			}
			txn.End()
		}
		if compact && i == 1000 {
			done, err := store.Compact(trace, store.Rev())
			if err != nil {
				t.Fatal(err)
			}
			select {
			case <-done:
			case <-time.After(time.Minute):
				t.Fatal("the compaction does not end")
			}
		}
	}
	be.ForceCommit()
	return path
}

// readFile makes a pass over a database file.
func readFile(t *testing.T, path string) (*scan.KeysResult, int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, _, r, compact := read(t, bytes.NewReader(b), int64(len(b)), 0, scan.Options{})
	return r, compact
}

// TestChainsThatBreak changes one record at a time in a store that etcd wrote, and
// asks for a fault at it or at the record of the same key behind it.
func TestChainsThatBreak(t *testing.T) {
	for _, compacted := range []bool{false, true} {
		t.Run(fmt.Sprintf("compacted %v", compacted), func(t *testing.T) {
			path := history(t, compacted)
			r, compact := readFile(t, path)
			if !r.Sound || len(r.Faults) > 0 {
				t.Fatalf("healthy: sound %v, faults %+v", r.Sound, r.Faults)
			}
			if compacted != (compact > 0) {
				t.Fatalf("compact revision %d", compact)
			}
			all := records(t, path)
			rnd := rand.New(rand.NewPCG(7, 8))
			tried := map[string]int{}
			for len(tried) < len(changes) || slices.ContainsFunc(changes, func(c change) bool { return tried[c.name] < 3 }) {
				at := rnd.IntN(len(all))
				for _, c := range changes {
					if tried[c.name] >= 3 {
						continue
					}
					if all[at].rev.Main <= compact || !c.fits(all, at) {
						continue
					}
					tried[c.name]++
					breakOne(t, path, all, at, c)
				}
			}
		})
	}
}

type record struct {
	raw []byte
	rev keyspace.Revision
	kv  *mvccpb.KeyValue
}

// next gives the index of the key's record behind at, -1 when there is none.
func next(all []record, at int) int {
	for i := at + 1; i < len(all); i++ {
		if bytes.Equal(all[i].kv.Key, all[at].kv.Key) {
			return i
		}
	}
	return -1
}

func records(t *testing.T, path string) []record {
	t.Helper()
	var all []record
	edit(t, path, func(b *bbolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			rev, ok := keyspace.DecodeRevision(k)
			kv := &mvccpb.KeyValue{}
			if err := proto.Unmarshal(v, kv); err != nil || !ok {
				t.Fatalf("%x: %v", k, err)
			}
			all = append(all, record{bytes.Clone(k), rev, kv})
			return nil
		})
	})
	return all
}

func edit(t *testing.T, path string, do func(*bbolt.Bucket) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(func(tx *bbolt.Tx) error { return do(tx.Bucket([]byte(keyspace.BucketKey))) }); err != nil {
		t.Fatal(err)
	}
}

// A change is one way to harm a record above the compact revision.
type change struct {
	name string
	fits func(all []record, at int) bool
	do   func(kv *mvccpb.KeyValue)
}

var changes = []change{
	// The first two contradict the record itself when its version is 1.
	{"version", func(all []record, at int) bool { return all[at].kv.Version > 1 }, func(kv *mvccpb.KeyValue) { kv.Version++ }},
	{"version far", func(all []record, at int) bool { return all[at].kv.Version > 1 }, func(kv *mvccpb.KeyValue) { kv.Version ^= 1 << 40 }},
	{"create revision", func(all []record, at int) bool { return all[at].kv.Version > 1 && all[at].kv.CreateRevision > 2 }, func(kv *mvccpb.KeyValue) { kv.CreateRevision-- }},
	{"key of a middle version", func(all []record, at int) bool {
		return all[at].kv.Version > 1 && next(all, at) >= 0
	}, func(kv *mvccpb.KeyValue) { kv.Key = append(bytes.Clone(kv.Key), '!') }},
	{"key of a first version", func(all []record, at int) bool {
		n := next(all, at)
		return all[at].kv.Version == 1 && n >= 0
	}, func(kv *mvccpb.KeyValue) { kv.Key = append(bytes.Clone(kv.Key), '!') }},
	{"key of a deletion", func(all []record, at int) bool { return all[at].rev.Tombstone }, func(kv *mvccpb.KeyValue) { kv.Key = append(bytes.Clone(kv.Key), '!') }},
}

// breakOne applies a change to a copy and looks for the fault.
func breakOne(t *testing.T, path string, all []record, at int, c change) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(copied, b, 0o600); err != nil {
		t.Fatal(err)
	}
	kv := proto.Clone(all[at].kv).(*mvccpb.KeyValue)
	c.do(kv)
	v, err := proto.Marshal(kv)
	if err != nil {
		t.Fatal(err)
	}
	edit(t, copied, func(b *bbolt.Bucket) error { return b.Put(all[at].raw, v) })
	r, _ := readFile(t, copied)
	revisions := []int64{all[at].rev.Main}
	if n := next(all, at); n >= 0 {
		revisions = append(revisions, all[n].rev.Main)
	}
	found := slices.ContainsFunc(r.Faults, func(f scan.RecordFault) bool {
		return f.Kind == scan.RecordChain && slices.Contains(revisions, f.Revision.Main)
	})
	if !found || len(r.Faults) > 3 {
		t.Errorf("%s at revision %s (key %q, version %d): faults %+v", c.name, all[at].rev, all[at].kv.Key, all[at].kv.Version, r.Faults)
	}
}

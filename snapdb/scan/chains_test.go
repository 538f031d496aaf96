package scan_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
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

	"etcd-forensics/snapdb"
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
	return readAsking(t, path, 0, nil)
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
	copied := copyOf(t, path)
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

// TestChainsThatBreakForMissingRevisions takes single records out of a store that etcd
// wrote: of a hole of revisions the hole alone is a fault, and the record that breaks its
// chain for it is told when that is asked for.
func TestChainsThatBreakForMissingRevisions(t *testing.T) {
	for _, compacted := range []bool{false, true} {
		path := history(t, compacted)
		_, compact := readFile(t, path)
		all := records(t, path)
		tried := 0
		for at := 3; at < len(all) && tried < 12; at += 53 {
			n := next(all, at)
			if all[at].rev.Main <= compact+1 || n < 0 || all[n].rev.Tombstone && all[at].kv.Version > 1 {
				continue // a version that is missing before a deletion is none that breaks anything
			}
			tried++
			gone := without(t, path, all[at].raw)
			r, _ := readAsking(t, gone, 0, nil)
			if r.FaultCount[scan.RecordGap] != 1 || r.FaultCount[scan.RecordChain] != 0 || len(r.Broken) > 0 || r.BrokenCount > 0 {
				t.Errorf("without revision %s: %+v, %+v", all[at].rev, r.FaultCount, r.Broken)
			}
			asked, _ := readAsking(t, gone, 5, nil)
			if fmt.Sprint(asked.Faults, asked.FaultCount) != fmt.Sprint(r.Faults, r.FaultCount) {
				t.Errorf("without revision %s: asking for more changes the faults: %+v", all[at].rev, asked.Faults)
			}
			if asked.BrokenCount != 1 || len(asked.Broken) != 1 || asked.Broken[0].Kind != scan.RecordChain || asked.Broken[0].Revision != all[n].rev {
				t.Errorf("without revision %s, before %s of the same key: %d, %+v", all[at].rev, all[n].rev, asked.BrokenCount, asked.Broken)
			}
		}
		if tried < 8 {
			t.Errorf("%d records were tried", tried)
		}
	}
}

// TestBrokenChainsAreAskedForWithFaults holds what is asked for against the faults, where
// no revision is missing; no more of it is kept than that.
func TestBrokenChainsAreAskedForWithFaults(t *testing.T) {
	path := history(t, false)
	all := records(t, path)
	edit(t, path, func(b *bbolt.Bucket) error {
		for n, at := 0, 5; n < 30; at++ {
			if kv := all[at].kv; kv.Version > 1 && next(all, at) >= 0 && !all[at].rev.Tombstone {
				n++
				kv.Version += 1000
				v, err := proto.Marshal(kv)
				if err == nil {
					err = b.Put(all[at].raw, v)
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
	few, _ := readAsking(t, path, 3, nil)
	many, _ := readAsking(t, path, 1000, nil)
	var chains []scan.RecordFault
	for _, f := range many.Faults {
		if f.Kind == scan.RecordChain {
			chains = append(chains, f)
		}
	}
	if len(chains) != 10 || len(few.Broken) != 3 || len(many.Broken) != many.BrokenCount || many.BrokenCount != 30 ||
		many.BrokenCount != many.FaultCount[scan.RecordChain] || few.BrokenCount != many.BrokenCount ||
		fmt.Sprint(few.Broken) != fmt.Sprint(many.Broken[:3]) || fmt.Sprint(chains) != fmt.Sprint(many.Broken[:10]) {
		t.Errorf("%d of %d are told, %d of %d, and %d faults", len(few.Broken), few.BrokenCount, len(many.Broken), many.BrokenCount, len(chains))
	}
}

// TestALeaseThatIsNotThereSaysNothingOfTheVersion takes a record out whose key's next
// record hangs on a lease that does not exist.
func TestALeaseThatIsNotThereSaysNothingOfTheVersion(t *testing.T) {
	path := history(t, false)
	all := records(t, path)
	at := slices.IndexFunc(all, func(r record) bool {
		n := slices.IndexFunc(all, func(x record) bool { return x.rev == r.rev })
		k := next(all, n)
		return r.kv.Version > 1 && k >= 0 && next(all, k) < 0 && !all[k].rev.Tombstone && all[k].kv.Version > 1
	})
	last := all[next(all, at)]
	last.kv.Lease = 77
	v, err := proto.Marshal(last.kv)
	if err != nil {
		t.Fatal(err)
	}
	edit(t, path, func(b *bbolt.Bucket) error { return b.Put(last.raw, v) })
	r, _ := readAsking(t, without(t, path, all[at].raw), 5, map[int64]bool{})
	if r.FaultCount[scan.RecordLease] != 1 || r.BrokenCount != 1 || len(r.Broken) != 1 || r.Broken[0].Revision != last.rev {
		t.Errorf("%+v, %+v", r.FaultCount, r.Broken)
	}
}

// TestEveryChainThatBreaksForAHoleIsTold leaves out the second version of each of many keys,
// so that each hole is followed by the record that breaks the chain for it: more of both
// than faults are kept, at several numbers of parsers.
func TestEveryChainThatBreaksForAHoleIsTold(t *testing.T) {
	const keys = 3000
	path := filepath.Join(t.TempDir(), "db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte(keyspace.BucketKey))
		for n := int64(0); err == nil && n < keys; n++ {
			first := 2 + 3*n
			for version := int64(1); err == nil && version <= 3; version += 2 {
				kv := keyspace.KeyValue{Key: fmt.Appendf(nil, "key %d", n), Value: make([]byte, 300), CreateRevision: first, ModRevision: first + version - 1, Version: version}
				err = b.Put(keyspace.Revision{Main: kv.ModRevision}.Append(nil), kv.Append(nil))
			}
		}
		return err
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	for _, procs := range []int{1, 2, 8} {
		before := runtime.GOMAXPROCS(procs)
		r, _ := readAsking(t, path, 2*keys, nil)
		runtime.GOMAXPROCS(before)
		if r.BrokenCount != keys || len(r.Broken) != keys || r.FaultCount[scan.RecordGap] != keys || r.FaultCount[scan.RecordChain] != 0 {
			t.Fatalf("%d processors: %d records of %d keys break their chains, %d are told; %+v", procs, r.BrokenCount, keys, len(r.Broken), r.FaultCount)
		}
		for n, f := range r.Broken {
			if f.Revision.Main != int64(4+3*n) {
				t.Fatalf("%d processors: record %d is revision %s", procs, n, f.Revision)
			}
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := snapdb.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := snapdb.Walk(ended, f, 10)
	if err != nil {
		t.Fatal(err)
	}
	asked := scan.NewKeys(tree, 1, 0, -1, 10)
	asked.Compacted, asked.Broken = true, keys
	if _, err := scan.Run(ended, tree, scan.Options{}, asked); err != nil {
		t.Fatal(err)
	}
	cancel()
	if r := asked.Finish(ended); r.BrokenCount != 0 || r.Revisions != 2*keys {
		t.Errorf("%d chains of %d records are followed after the end", r.BrokenCount, r.Revisions)
	}
}

// without copies a database and takes a record out of it.
func without(t *testing.T, path string, raw []byte) string {
	t.Helper()
	copied := copyOf(t, path)
	edit(t, copied, func(b *bbolt.Bucket) error { return b.Delete(raw) })
	return copied
}

// copyOf copies a database, to be changed.
func copyOf(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(copied, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return copied
}

// readAsking makes a pass over a database file that asks for broken chains.
func readAsking(t *testing.T, path string, broken int, leases map[int64]bool) (*scan.KeysResult, int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, _, r, compact := read(t, bytes.NewReader(b), int64(len(b)), 0, scan.Options{}, func(k *scan.Keys) { k.Broken, k.Leases = broken, leases })
	return r, compact
}

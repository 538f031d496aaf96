package inspect

import (
	"bytes"
	"context"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/txn"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect/source"
	"etcd-forensics/inspect/source/sourcetest"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/walreader"
	"etcd-forensics/walreader/raftlog"
)

// examineMember examines one member directory by itself.
func examineMember(t *testing.T, dir string) *examination {
	t.Helper()
	x := newExamination(sourcetest.Open(t, source.Options{}, dir)[0], Options{Limits: DefaultLimits})
	if err := x.run(context.Background()); err != nil {
		t.Fatal(err)
	}
	settleCommits([]*examination{x})
	x.reconcile()
	if err := x.checkFit(context.Background()); err != nil {
		t.Fatal(err)
	}
	return x
}

// logged has members where nothing was refused by authentication or an alarm. The
// WAL of the first one of each fixture begins with the first entry.
var logged = map[string][]string{
	"healthy-3.4": {"m1"}, "healthy-3.5": {"m1"}, "healthy-3.6": {"m1"}, "healthy-3.7": {"m1"}, "healthy-3.8": {"m1"},
	"cluster3-3.5-crash": {"m1", "m2", "m3"}, "cluster3-3.7-crash": {"m1", "m2", "m3"},
}

// An applier carries requests out in etcd's own store.
type applier struct {
	t      *testing.T
	kv     mvcc.WatchableKV
	lessor lease.Lessor
}

func newApplier(t *testing.T) *applier {
	cfg := backend.DefaultBackendConfig(zap.NewNop())
	cfg.Path, cfg.UnsafeNoFsync = filepath.Join(t.TempDir(), "db"), true
	be := backend.New(cfg)
	lessor := lease.NewLessor(zap.NewNop(), be, nil, lease.LessorConfig{MinLeaseTTL: 2})
	a := &applier{t: t, lessor: lessor, kv: mvcc.New(zap.NewNop(), be, lessor, mvcc.StoreConfig{})}
	t.Cleanup(func() { a.kv.Close(); lessor.Stop(); be.Close() })
	return a
}

// apply carries out one entry and gives the revision that it produced, or 0.
func (a *applier) apply(e raftlog.Entry) int64 {
	before := a.kv.Rev()
	var r pb.InternalRaftRequest
	if e.Type != raftlog.EntryNormal || len(e.Data) == 0 || proto.Unmarshal(e.Data, &r) != nil {
		return 0
	}
	ctx, lg := context.Background(), zap.NewNop()
	switch { // whatever is refused produces no revision
	case r.Put != nil:
		txn.Put(ctx, lg, a.lessor, a.kv, r.Put)
	case r.DeleteRange != nil:
		txn.DeleteRange(ctx, lg, a.kv, r.DeleteRange)
	case r.Txn != nil:
		txn.Txn(ctx, lg, r.Txn, false, a.kv, a.lessor, false)
	case r.LeaseGrant != nil:
		a.lessor.Grant(lease.LeaseID(r.LeaseGrant.ID), r.LeaseGrant.TTL)
	case r.LeaseRevoke != nil:
		a.lessor.Revoke(lease.LeaseID(r.LeaseRevoke.ID))
	}
	if after := a.kv.Rev(); after != before {
		return after
	}
	return 0
}

// replay gives the revision that each entry up to an index produced.
func replay(t *testing.T, x *examination, upTo uint64) map[uint64]int64 {
	t.Helper()
	var entries []raftlog.Entry
	_, err := raftlog.Summarize(context.Background(), x.chain, raftlog.Options{Visit: func(e raftlog.Entry, _ walreader.Position, _ bool) error {
		n, _ := slices.BinarySearchFunc(entries, e.Index, func(e raftlog.Entry, i uint64) int { return compareUint64(e.Index, i) })
		e.Data = bytes.Clone(e.Data)
		entries = append(entries[:n], e)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	a := newApplier(t)
	revisions := map[uint64]int64{}
	for _, e := range entries {
		if e.Index > upTo {
			break
		}
		if rev := a.apply(e); rev > 0 {
			revisions[e.Index] = rev
		}
	}
	return revisions
}

// TestRevisionsAreThoseOfEtcdsStore holds the revision that each entry is said to
// have produced against what etcd's own store does with the same entries.
func TestRevisionsAreThoseOfEtcdsStore(t *testing.T) {
	for name, members := range logged {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := fixtures.Dir(t, name)
			var truth map[uint64]int64
			var known uint64
			for _, m := range members {
				x := examineMember(t, filepath.Join(dir, m))
				a := x.alignLog(x.db.revision())
				if a == nil || len(a.wrong) > 0 {
					t.Fatalf("%s: no alignment, or not a clean one: %+v", m, a)
				}
				if truth == nil {
					known = x.log.Entries.Last
					truth = replay(t, x, known)
				}
				proven, shared := 0, 0
				for i := range a.writes {
					w := &a.writes[i]
					if w.index > known {
						break
					}
					above := truth[w.index] > a.revs.compact
					if above {
						shared++
					}
					if rev := a.produced[i]; rev != 0 {
						if above {
							proven++
						}
						if truth[w.index] != rev {
							t.Errorf("%s: entry %d produced revision %d, not %d", m, w.index, truth[w.index], rev)
						}
					}
					if a.sure(w) && truth[w.index] == 0 {
						t.Errorf("%s: entry %d is held to produce a revision in any case, and did not", m, w.index)
					}
				}
				if shared == 0 || proven*100 < shared*95 {
					t.Errorf("%s: %d of %d revisions above the compact revision are proven", m, proven, shared)
				}
			}
		})
	}
}

// A tampering changes one record of bucket key, or what follows from it.
type tampering struct {
	name   string
	of     func(r revision) bool // the revisions that it is tried on
	change func(b *bbolt.Bucket, k []byte, kv *mvccRecord) error
}

type mvccRecord struct{ keyspace.KeyValue }

var tamperings = []tampering{
	{name: "value changed", of: onePut, change: func(b *bbolt.Bucket, k []byte, kv *mvccRecord) error {
		kv.Value = append([]byte("x"), kv.Value...)
		return b.Put(k, kv.Append(nil))
	}},
	{name: "value emptied", of: onePut, change: func(b *bbolt.Bucket, k []byte, kv *mvccRecord) error {
		kv.Value = nil
		return b.Put(k, kv.Append(nil))
	}},
	{name: "lease changed", of: onePut, change: func(b *bbolt.Bucket, k []byte, kv *mvccRecord) error {
		kv.Lease ^= 0x55
		return b.Put(k, kv.Append(nil))
	}},
	{name: "key changed", of: onePut, change: func(b *bbolt.Bucket, k []byte, kv *mvccRecord) error {
		kv.Key = append(bytes.Clone(kv.Key), 'x')
		return b.Put(k, kv.Append(nil))
	}},
	{name: "record removed", of: onePut, change: func(b *bbolt.Bucket, k []byte, _ *mvccRecord) error { return b.Delete(k) }},
	{name: "deletion removed", of: oneDeletion, change: func(b *bbolt.Bucket, k []byte, _ *mvccRecord) error { return b.Delete(k) }},
	{name: "deletion of another key", of: oneDeletion, change: func(b *bbolt.Bucket, k []byte, kv *mvccRecord) error {
		kv.Key = append(bytes.Clone(kv.Key), 'x')
		return b.Put(k, kv.Append(nil))
	}},
	{name: "value changed in a transaction", of: severalRecords, change: func(b *bbolt.Bucket, k []byte, kv *mvccRecord) error {
		kv.Value = append([]byte("x"), kv.Value...)
		return b.Put(k, kv.Append(nil))
	}},
	{name: "record removed from a transaction", of: severalRecords, change: func(b *bbolt.Bucket, k []byte, _ *mvccRecord) error { return b.Delete(k) }},
}

func onePut(r revision) bool         { return r.records == 1 && r.deletes == 0 }
func oneDeletion(r revision) bool    { return r.records == 1 && r.deletes == 1 }
func severalRecords(r revision) bool { return r.records > 1 && r.deletes == 0 }

// TestTamperedRecordsAreFound changes one record in a copy of a real member's
// database, at revisions all over the log's reach. The finding has to name the
// revision, the key and the entry, and nothing else may be found of this kind. (A
// deletion that is the newest revision may as well not have deleted anything.)
func TestTamperedRecordsAreFound(t *testing.T) {
	InFullOnly(t)
	const each = 3
	tried := map[string]int{}
	for name, members := range logged {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(fixtures.Dir(t, name), members[0])
			x := examineMember(t, dir)
			entries := map[int64]uint64{}
			for index, rev := range replay(t, x, x.db.meta.index) {
				entries[rev] = index
			}
			revs := readNewest(x.db, x.db.bucket[keyspace.BucketKey], x.db.revision(), x.db.revision(), newRecordSums())
			rng := rand.New(rand.NewSource(1))
			for _, how := range tamperings {
				records := recordsOf(revs, how.of)
				records = slices.DeleteFunc(records, func(r keyspace.Revision) bool { return r.Tombstone && r.Main == revs.last })
				for i := 0; i < each && len(records) > 0; i++ {
					r := records[rng.Intn(len(records))]
					tried[how.name]++
					tamperWith(t, dir, how, revs, r, entries[r.Main])
				}
			}
		})
	}
	for _, how := range tamperings {
		if tried[how.name] < each {
			t.Errorf("%s: tried %d times", how.name, tried[how.name])
		}
	}
}

// tamperWith changes a record that an entry left, looks for the finding, and puts
// the database back.
func tamperWith(t *testing.T, dir string, how tampering, revs *newest, r keyspace.Revision, index uint64) {
	t.Helper()
	file := filepath.Join(dir, "member", "snap", "db")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(file, whole, 0o600)
	onBucketKey(t, file, func(b *bbolt.Bucket) error {
		key := r.Append(nil)
		kv, err := keyspace.DecodeKeyValue(b.Get(key))
		if err != nil {
			return err
		}
		return how.change(b, key, &mvccRecord{kv})
	})
	var found []Finding
	for _, f := range examineMember(t, dir).findings {
		if f.Code == CodeMVCCWALMismatch {
			found = append(found, f)
		}
	}
	if len(found) != 1 {
		t.Errorf("%s at revision %d: %d findings: %+v", how.name, r.Main, len(found), found)
		return
	}
	l := found[0].Location
	// Whether a deletion deletes anything is not decided by its entry alone, and next
	// to the compact revision another entry may have left no record either.
	unknown := l.Index == nil && (r.Tombstone || r.Main == revs.compact+1)
	if l.Revision == nil || *l.Revision != r.Main || !unknown && (l.Index == nil || *l.Index != index) {
		t.Errorf("%s at revision %d by entry %d: %s", how.name, r.Main, index, found[0].Message)
	}
}

func onBucketKey(t *testing.T, file string, change func(b *bbolt.Bucket) error) {
	t.Helper()
	fixtures.Edit(t, file, func(tx *bbolt.Tx) error { return change(tx.Bucket([]byte(keyspace.BucketKey))) })
}

// recordsOf gives the first record of each revision above the compact revision that is of
// a kind.
func recordsOf(revs *newest, of func(revision) bool) []keyspace.Revision {
	var all []keyspace.Revision
	for i, r := range revs.list {
		if rev := revs.low + int64(i); rev > max(revs.compact, 1) && of(r) {
			records, _ := revs.records(rev)
			all = append(all, records[0].Revision)
		}
	}
	return all
}

// TestAppliedEntryThatLeftNothing raises the consistent index of a database to the
// end of its log, as etcd 3.5.0 to 3.5.2 did before the entries were carried out.
func TestAppliedEntryThatLeftNothing(t *testing.T) {
	dir := filepath.Join(fixtures.Dir(t, "cluster3-3.7-crash"), "m1")
	x := examineMember(t, dir)
	have, last := x.db.meta.index, x.log.Entries.Last
	if have >= last || last >= 1<<16 {
		t.Fatalf("the log ends with entry %d, the database has %d", last, have)
	}
	fixtures.Edit(t, filepath.Join(dir, "member", "snap", "db"), func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(keyspace.BucketMeta)).Put([]byte("consistent_index"), []byte{0, 0, 0, 0, 0, 0, byte(last >> 8), byte(last)})
	})
	lost := 0
	for _, f := range examineMember(t, dir).findings {
		if f.Code != CodeMVCCWALMismatch || strings.HasSuffix(f.Message, "more of these are not listed") {
			continue
		}
		if f.Location.Index == nil || *f.Location.Index <= have {
			t.Errorf("%s", f.Message)
		}
		lost++
	}
	if lost == 0 || !strings.Contains(fmt.Sprint(x.findings), "wal-ahead-of-backend") {
		t.Errorf("%d entries that left nothing are found", lost)
	}
}

package inspect

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/pkg/v3/traceutil"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"etcd-forensics/walreader/raftlog"
)

// A builder writes a member directory with etcd's own log and store: each request is
// an entry, carried out as etcd does.
type builder struct {
	*applier
	t         *testing.T
	dir       string
	be        backend.Backend
	entries   []*raftpb.Entry
	revisions map[uint64]int64 // by index
	counted   bool             // all of them were told by count
}

func newBuilder(t *testing.T) *builder {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "member", "snap"), 0o700); err != nil {
		t.Fatal(err)
	}
	cfg := backend.DefaultBackendConfig(zap.NewNop())
	cfg.Path, cfg.UnsafeNoFsync = filepath.Join(dir, "member", "snap", "db"), true
	be := backend.New(cfg)
	lessor := lease.NewLessor(zap.NewNop(), be, nil, lease.LessorConfig{MinLeaseTTL: 2})
	a := &applier{t: t, lessor: lessor, kv: mvcc.New(zap.NewNop(), be, lessor, mvcc.StoreConfig{CompactionBatchLimit: 1000})}
	return &builder{applier: a, t: t, dir: dir, be: be, revisions: map[uint64]int64{}}
}

func (b *builder) do(r *pb.InternalRaftRequest) {
	r.Header = &pb.RequestHeader{ID: uint64(len(b.entries) + 1)}
	data, err := proto.Marshal(r)
	if err != nil {
		b.t.Fatal(err)
	}
	e := &raftpb.Entry{Index: new(uint64(len(b.entries) + 1)), Term: new(uint64(1)), Type: raftpb.EntryNormal.Enum(), Data: data}
	b.entries = append(b.entries, e)
	if rev := b.apply(raftlog.Entry{Type: raftlog.EntryNormal, Index: *e.Index, Term: 1, Data: data}); rev > 0 {
		b.revisions[*e.Index] = rev
	}
}

func (b *builder) put(key, value string) {
	b.do(&pb.InternalRaftRequest{Put: &pb.PutRequest{Key: []byte(key), Value: []byte(value)}})
}

func putOp(key, value string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte(value)}}}
}

func deleteOp(key, end string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)}}}
}

// absent is the comparison that a key is not there.
func absent(key string) []*pb.Compare {
	return []*pb.Compare{{Result: pb.Compare_EQUAL, Target: pb.Compare_VERSION, Key: []byte(key), TargetUnion: &pb.Compare_Version{}}}
}

// modIs is the comparison that a key was written last at a revision, 0 for none.
func modIs(key string, rev int64) []*pb.Compare {
	return []*pb.Compare{{Result: pb.Compare_EQUAL, Target: pb.Compare_MOD, Key: []byte(key), TargetUnion: &pb.Compare_ModRevision{ModRevision: rev}}}
}

func (b *builder) txn(compare []*pb.Compare, success, failure []*pb.RequestOp) {
	b.do(&pb.InternalRaftRequest{Txn: &pb.TxnRequest{Compare: compare, Success: success, Failure: failure}})
}

func (b *builder) compact(rev int64) {
	b.do(&pb.InternalRaftRequest{Compaction: &pb.CompactionRequest{Revision: rev, Physical: true}})
	_, trace := traceutil.EnsureTrace(context.Background(), zap.NewNop(), "compaction")
	if done, err := b.kv.Compact(trace, rev); err == nil {
		<-done
	}
}

// finish writes log and database and examines them.
func (b *builder) finish() *examination {
	b.t.Helper()
	w, err := wal.Create(zap.NewNop(), filepath.Join(b.dir, "member", "wal"), []byte{8, 1, 16, 2}) // member 1 of cluster 2
	if err != nil {
		b.t.Fatal(err)
	}
	last := uint64(len(b.entries))
	if err := w.Save(&raftpb.HardState{Term: new(uint64(1)), Vote: new(uint64(1)), Commit: &last}, b.entries); err != nil {
		b.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.t.Fatal(err)
	}
	tx := b.be.BatchTx()
	tx.LockOutsideApply()
	tx.UnsafeCreateBucket(schema.Meta)
	tx.UnsafeCreateBucket(schema.Auth)
	schema.UnsafeUpdateConsistentIndexForce(tx, last, 1)
	tx.Unlock()
	b.kv.Close()
	b.lessor.Stop()
	b.be.Close()
	return examineMember(b.t, b.dir)
}

// check fails when the log is held against the database, or an entry is said to have
// produced another revision than it did.
func (b *builder) check() (proven int) {
	b.t.Helper()
	x := b.finish()
	for _, f := range x.findings {
		if f.Code == CodeMVCCWALMismatch {
			b.t.Errorf("false alarm: %s", f.Message)
		}
	}
	a := x.alignLog(x.db.revision())
	if a == nil {
		return 0
	}
	for i := range a.writes {
		if rev := a.produced[i]; rev != 0 {
			proven++
			if b.revisions[a.writes[i].index] != rev {
				b.t.Errorf("entry %d produced revision %d, not %d", a.writes[i].index, b.revisions[a.writes[i].index], rev)
			}
		}
	}
	if counted, ok := a.count(); ok && a.whole && a.fits > 0 && len(a.wrong) == 0 {
		b.counted = true
		for i, rev := range counted {
			if b.revisions[a.writes[i].index] != rev {
				b.t.Errorf("entry %d produced revision %d, counted as %d", a.writes[i].index, b.revisions[a.writes[i].index], rev)
			}
		}
	}
	return proven
}

// TestSoundMembersAreNotContradicted builds members whose logs leave much open.
func TestSoundMembersAreNotContradicted(t *testing.T) {
	t.Run("a probe that writes one value again and again", func(t *testing.T) {
		b := newBuilder(t)
		for i := range 4 {
			b.put(fmt.Sprint("begin-", i), "x")
		}
		for range 400 {
			b.txn(absent("health"), []*pb.RequestOp{putOp("health", "ok")}, nil)
			b.txn(absent("health"), []*pb.RequestOp{putOp("health", "ok")}, nil)
			b.put("health", "ok")
		}
		b.put("end", "x")
		b.check()
	})
	t.Run("nothing but transactions, as an API server writes", func(t *testing.T) {
		b := newBuilder(t)
		of := map[string]int64{}
		write := func(key, value string, expected int64) {
			b.txn(modIs(key, expected), []*pb.RequestOp{putOp(key, value)}, nil)
		}
		for i := range 900 {
			key := fmt.Sprintf("/registry/leases/kube-node-lease/node-%02d", i%20)
			write(key, fmt.Sprint("renewed ", i), of[key])
			if i%7 == 0 { // somebody else was faster
				write(key, fmt.Sprint("late ", i), of[key]+1)
			}
			of[key] = b.kv.Rev()
			if i%50 == 49 {
				b.txn(modIs(key, of[key]), []*pb.RequestOp{deleteOp(key, "")}, nil)
				of[key] = 0
			}
			if i == 450 {
				b.compact(b.kv.Rev())
			}
		}
		if n, want := b.check(), 449+9; n < want {
			t.Errorf("%d revisions are proven, %d are above the compact revision", n, want)
		}
	})
	t.Run("nothing but the newest records are left", func(t *testing.T) {
		b := newBuilder(t)
		b.put("a", "1")
		b.txn(absent("b"), []*pb.RequestOp{putOp("b", "1")}, nil)
		b.put("a", "2")
		b.put("b", "2")
		b.compact(5)
		b.check()
	})
	t.Run("a deletion of more records than are kept in memory", func(t *testing.T) {
		b := newBuilder(t)
		for i := range 200 {
			var ops []*pb.RequestOp
			for j := range 100 {
				ops = append(ops, putOp(fmt.Sprintf("p/%05d", i*100+j), "x"))
			}
			b.txn(nil, ops, nil)
		}
		b.txn(nil, []*pb.RequestOp{deleteOp("p/", "p0"), putOp("done", "x")}, nil)
		if n := b.check(); n != 201 {
			t.Errorf("%d of 201 revisions are proven", n)
		}
	})
	t.Run("more operations than are decoded", func(t *testing.T) {
		b := newBuilder(t)
		b.put("a", "1")
		var ops []*pb.RequestOp
		for i := range 70000 {
			ops = append(ops, putOp(fmt.Sprint(i), ""))
		}
		b.txn(nil, ops, nil)
		b.put("b", "1")
		b.check()
	})
}

// TestRandomMembersAreNotContradicted builds members from random requests: transactions
// that succeed and fail, deletions that hit nothing, the same write twice, leases, and
// compactions.
func TestRandomMembersAreNotContradicted(t *testing.T) {
	proven, seeds := 0, 24
	if testing.Short() {
		seeds = 4
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			b := newBuilder(t)
			r := rand.New(rand.NewPCG(7, uint64(seed)))
			key := func() string { return fmt.Sprintf("k/%02d", r.IntN(12)) }
			value := func() string { return fmt.Sprint(r.IntN(3)) }
			for range 250 {
				switch r.IntN(14) {
				case 0, 1, 2:
					b.put(key(), value())
				case 3:
					b.do(&pb.InternalRaftRequest{DeleteRange: &pb.DeleteRangeRequest{Key: []byte(key())}})
				case 4:
					from, to := key(), key()
					b.do(&pb.InternalRaftRequest{DeleteRange: &pb.DeleteRangeRequest{Key: []byte(min(from, to)), RangeEnd: []byte(max(from, to))}})
				case 5, 6:
					k := key()
					b.txn(absent(k), []*pb.RequestOp{putOp(k, value())}, nil)
				case 7:
					k := key()
					b.txn(absent(k), []*pb.RequestOp{putOp(k, value())}, []*pb.RequestOp{deleteOp(k, ""), putOp(k+"x", value())})
				case 8:
					b.do(&pb.InternalRaftRequest{Put: &pb.PutRequest{Key: []byte(key()), IgnoreValue: true}})
				case 9:
					b.do(&pb.InternalRaftRequest{LeaseGrant: &pb.LeaseGrantRequest{ID: int64(1 + r.IntN(4)), TTL: 1000}})
					b.do(&pb.InternalRaftRequest{Put: &pb.PutRequest{Key: []byte(key()), Value: []byte(value()), Lease: int64(1 + r.IntN(5))}})
				case 10:
					b.do(&pb.InternalRaftRequest{LeaseRevoke: &pb.LeaseRevokeRequest{ID: int64(1 + r.IntN(5))}})
				case 12, 13: // as an API server, and now and then once more
					k := key()
					rev := max(0, b.kv.Rev()-int64(r.IntN(4)))
					op := []*pb.RequestOp{putOp(k, fmt.Sprint("unique ", r.Uint64()))}
					for range 1 + r.IntN(2) {
						b.txn(modIs(k, rev), op, nil)
						b.txn(absent(k), op, nil)
					}
				case 11:
					if rev := b.kv.Rev() - int64(r.IntN(20)); rev > 1 && r.IntN(6) == 0 {
						b.compact(rev)
					}
				}
			}
			proven += b.check()
		})
	}
	if proven < 2*seeds { // a few members prove a hundred, many prove none
		t.Errorf("only %d revisions are proven in %d members", proven, seeds)
	}
}

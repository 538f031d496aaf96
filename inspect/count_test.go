package inspect

import (
	"fmt"
	"math/rand/v2"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// TestWritesAreCountedFromTheEmptyStore: etcd's own store says which revision each
// entry produced, also those that were compacted away.
func TestWritesAreCountedFromTheEmptyStore(t *testing.T) {
	counted := 0
	const seeds = 8
	for seed := range seeds {
		b := newBuilder(t)
		r := rand.New(rand.NewPCG(11, uint64(seed)))
		key := func() string { return fmt.Sprintf("k/%02d", r.IntN(20)) }
		b.do(&pb.InternalRaftRequest{LeaseGrant: &pb.LeaseGrantRequest{ID: 7, TTL: 1000}})
		revoked := false
		for i := range 300 {
			k := key()
			switch r.IntN(9) {
			case 0, 1:
				b.put(k, fmt.Sprint(i))
			case 2:
				b.txn(modIs(k, b.kv.Rev()-int64(r.IntN(3))), []*pb.RequestOp{putOp(k, fmt.Sprint(i))}, []*pb.RequestOp{putOp(k+"-late", fmt.Sprint(i))})
			case 3:
				b.txn(absent(k), []*pb.RequestOp{putOp(k, fmt.Sprint(i))}, []*pb.RequestOp{deleteOp(k, "")})
			case 4:
				b.do(&pb.InternalRaftRequest{DeleteRange: &pb.DeleteRangeRequest{Key: []byte(k)}})
			case 5:
				if r.IntN(8) == 0 {
					b.do(&pb.InternalRaftRequest{DeleteRange: &pb.DeleteRangeRequest{Key: []byte(k), RangeEnd: []byte(k + "~")}})
				}
			case 6:
				if !revoked {
					b.do(&pb.InternalRaftRequest{Put: &pb.PutRequest{Key: []byte(k), Value: []byte("leased"), Lease: 7}})
				}
			case 7:
				if i > 200 && !revoked {
					b.do(&pb.InternalRaftRequest{LeaseRevoke: &pb.LeaseRevokeRequest{ID: 7}})
					revoked = true
				}
			case 8:
				if rev := b.kv.Rev() - 30; rev > 1 && r.IntN(8) == 0 {
					b.compact(rev)
				}
			}
		}
		for i := range 12 { // what nothing is open about, so that log and database meet
			b.put(fmt.Sprint("end-", i), "x")
		}
		b.check()
		if b.counted {
			counted++
		}
	}
	if counted < seeds/2 {
		t.Errorf("counted %d of %d members", counted, seeds)
	}
}

// TestCountThatDoesNotFitIsNotTaken: one write is left out, whose loss the number of
// revisions alone would not tell.
func TestCountThatDoesNotFitIsNotTaken(t *testing.T) {
	b := newBuilder(t)
	for i := range 40 {
		b.put(fmt.Sprint("k/", i%10), fmt.Sprint(i))
	}
	x := b.finish()
	a := x.alignLog(x.db.revision())
	if _, ok := a.count(); !ok || !a.whole {
		t.Fatal("the whole log is not counted")
	}
	// The first write in the place of the second: as many revisions, and no other key
	// or version than before is what no later write hides.
	clear(a.produced)
	a.writes[35] = a.writes[34]
	if _, ok := a.count(); ok {
		t.Error("a log is counted that does not lead to the database")
	}
}

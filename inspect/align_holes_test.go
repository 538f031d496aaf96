package inspect

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"etcd-forensics/fixtures"
	"etcd-forensics/snapdb/keyspace"
)

// lose deletes the records of revisions from the database of a member.
func lose(t *testing.T, dir string, gone func(rev int64) bool) {
	t.Helper()
	fixtures.Edit(t, filepath.Join(dir, "member", "snap", "db"), func(tx *bbolt.Tx) error {
		c := tx.Bucket([]byte(keyspace.BucketKey)).Cursor()
		var keys [][]byte
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			if rev, ok := keyspace.DecodeRevision(k); ok && gone(rev.Main) {
				keys = append(keys, slices.Clone(k))
			}
		}
		for _, k := range keys {
			if err := tx.Bucket([]byte(keyspace.BucketKey)).Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestWhatIsSaidOfLostRevisionsIsTrue takes revisions out of the databases of random
// members, in the middle and at the end: no entry is said to have produced one that it
// did not.
func TestWhatIsSaidOfLostRevisionsIsTrue(t *testing.T) {
	told, seeds := 0, 30
	if testing.Short() {
		seeds = 6
	}
	for seed := range seeds {
		for _, end := range []int64{0, 2} {
			t.Run(fmt.Sprint(seed, " ", end), func(t *testing.T) {
				b := newBuilder(t)
				r := rand.New(rand.NewPCG(11, uint64(seed)))
				key := func() string { return fmt.Sprintf("k/%d", r.IntN(3+seed%4)) }
				value := func() string { return fmt.Sprint(r.IntN(2 + seed%3)) }
				for i := range 60 {
					b.put(fmt.Sprint("u/", i%5), fmt.Sprint(i))
				}
				for range 120 {
					switch r.IntN(8) {
					case 0, 1, 2:
						b.put(key(), value())
					case 3:
						b.do(&pb.InternalRaftRequest{DeleteRange: &pb.DeleteRangeRequest{Key: []byte(key())}})
					case 4, 5:
						k := key()
						b.txn(absent(k), []*pb.RequestOp{putOp(k, value())}, nil)
					case 6:
						k := key()
						b.txn(modIs(k, max(0, b.kv.Rev()-int64(r.IntN(4)))), []*pb.RequestOp{putOp(k, value())}, nil)
					case 7:
						k := key()
						if seed%2 == 0 {
							b.txn(absent(k), []*pb.RequestOp{putOp(k, value())}, []*pb.RequestOp{deleteOp(k, ""), putOp(k+"x", value())})
						}
					}
				}
				last := b.kv.Rev()
				b.finish()
				holes := map[int64]bool{}
				for range 1 + seed%4 {
					holes[61+r.Int64N(last-62-end)] = true
				}
				lose(t, b.dir, func(rev int64) bool { return holes[rev] || rev > last-end })
				x := examineMember(t, b.dir)
				a := x.alignCut(x.db.lastRevision(), end > 0)
				if a == nil || len(a.wrong) > a.fits {
					return
				}
				say := func(i int, rev int64) {
					if truth := b.revisions[a.writes[i].index]; truth != rev {
						t.Errorf("end %d, holes %v: entry %d produced revision %d, not %d", end, holes, a.writes[i].index, truth, rev)
					} else if holes[rev] {
						told++
					}
				}
				for _, c := range a.wrong {
					if c.write >= 0 && c.revision != 0 {
						say(c.write, c.revision)
					}
				}
				for i, rev := range a.produced {
					if rev != 0 {
						say(i, rev)
					}
				}
			})
		}
	}
	if told < seeds {
		t.Errorf("only %d of the lost revisions have their entry", told)
	}
}

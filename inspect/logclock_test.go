package inspect

import (
	"fmt"
	"math"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"etcd-forensics/walreader"
	"etcd-forensics/walreader/raftlog"
)

// clockStart is when the first entry of these logs was written; each further one comes a
// second later.
var clockStart = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func writtenAt(index uint64) time.Time {
	return clockStart.Add(time.Duration(index) * time.Second)
}

// renewal is a put that names the moment of its writing.
func renewal(at time.Time) *pb.PutRequest {
	return &pb.PutRequest{Key: []byte("/registry/leases/kube-node-lease/n"), Value: fmt.Appendf(nil,
		`{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"n"},"spec":{"renewTime":%q}}`, at.Format("2006-01-02T15:04:05.000000Z"))}
}

// entryOf makes an entry of a request, as a LogClock takes it.
func entryOf(t *testing.T, index uint64, put *pb.PutRequest) (raftlog.Entry, *raftlog.Request) {
	t.Helper()
	data, err := proto.Marshal(&pb.InternalRaftRequest{Put: put})
	if err != nil {
		t.Fatal(err)
	}
	r, err := raftlog.DecodeRequest(data)
	if err != nil {
		t.Fatal(err)
	}
	return raftlog.Entry{Type: raftlog.EntryNormal, Index: index, Term: 1, Data: data}, &r
}

func (c *LogClock) renew(t *testing.T, index uint64, segment string, at time.Time) {
	e, r := entryOf(t, index, renewal(at))
	c.entry(e, walreader.Position{Segment: segment}, r)
}

// TestEntriesAndEventsHaveTheirTimes builds a member in whose log each tenth entry renews a
// lease.
func TestEntriesAndEventsHaveTheirTimes(t *testing.T) {
	b := newBuilder(t)
	for i := uint64(1); i <= 200; i++ {
		switch {
		case i%10 == 0:
			b.do(&pb.InternalRaftRequest{Put: renewal(writtenAt(i))})
		case i == 95:
			b.compact(40)
		default:
			b.put("other", fmt.Sprint(i))
		}
	}
	x := b.finish()
	for i := uint64(10); i <= 200; i++ {
		e, ok := x.clock.At(i)
		if !ok || e.Time.Sub(writtenAt(i)).Abs() > time.Second || e.Earliest.After(writtenAt(i)) || e.Latest.Before(writtenAt(i)) {
			t.Errorf("entry %d: %+v", i, e)
		}
	}
	if e, ok := x.clock.At(3); !ok || !e.Earliest.IsZero() || e.Latest.Before(writtenAt(3)) {
		t.Errorf("entry 3, before every renewal: %+v", e)
	}
	compacted := false
	for _, e := range x.member.WAL.Timeline {
		switch {
		case e.Event == EventCompaction:
			compacted = e.Time != nil && e.Time.Time.Sub(writtenAt(95)).Abs() < time.Second
		case e.Event == EventVote && e.Time == nil:
			t.Errorf("no time of %s", e.What)
		}
	}
	if !compacted {
		t.Errorf("the compaction has no time, or a wrong one: %+v", x.member.WAL.Timeline)
	}
}

// TestOverwrittenEntriesTellNoTime: what took their place was written later.
func TestOverwrittenEntriesTellNoTime(t *testing.T) {
	var c LogClock
	c.renew(t, 10, "a", writtenAt(10))
	c.renew(t, 11, "a", writtenAt(11))
	c.renew(t, 11, "a", writtenAt(500))
	if e, ok := c.At(11); !ok || !e.Time.Equal(writtenAt(500)) {
		t.Errorf("%+v", e)
	}
	if e, ok := c.At(10); !ok || !e.Time.Equal(writtenAt(10)) {
		t.Errorf("%+v", e)
	}
	if e, ok := c.Behind(10); !ok || e.Earliest.Before(writtenAt(10)) || e.Latest.Before(writtenAt(500)) {
		t.Errorf("between the two: %+v", e)
	}
}

// TestForeignSegmentsTellNoTime: they are of another member or cluster.
func TestForeignSegmentsTellNoTime(t *testing.T) {
	metadata := func(member byte, segment string) *walreader.Frame {
		return &walreader.Frame{At: walreader.Position{Segment: segment}, Record: walreader.Record{Type: walreader.TypeMetadata, Data: []byte{8, member, 16, 2}}, Proof: walreader.Proven}
	}
	var c LogClock
	c.frame(metadata(1, "a"))
	c.renew(t, 10, "a", writtenAt(10))
	c.frame(metadata(7, "b"))
	c.renew(t, 11, "b", writtenAt(100000))
	c.frame(metadata(1, "c"))
	c.renew(t, 12, "c", writtenAt(12))
	if e, ok := c.At(11); !ok || e.Time.Before(writtenAt(10)) || e.Time.After(writtenAt(12)) {
		t.Errorf("%+v", e)
	}
}

func TestAbsurdIndexesHaveNoTime(t *testing.T) {
	var c LogClock
	c.renew(t, 10, "a", writtenAt(10))
	c.renew(t, math.MaxUint64, "a", writtenAt(11))
	if e, ok := c.At(math.MaxUint64); ok {
		t.Errorf("%+v", e)
	}
	if e, ok := c.Behind(math.MaxUint64); ok {
		t.Errorf("%+v", e)
	}
	if e, ok := c.At(20); !ok || !e.Time.Equal(writtenAt(10)) {
		t.Errorf("%+v", e)
	}
}

// TestObjectsCreatedInATransactionTellWhen: where the transaction asks whether the key is
// there, creationTimestamp is the time of the write.
func TestObjectsCreatedInATransactionTellWhen(t *testing.T) {
	key := []byte("/registry/pods/shop/cart")
	put := raftlog.Op{Kind: raftlog.OpPut, Depth: 1, Branch: raftlog.BranchSuccess, Key: key}
	compare := func(target, result int32, number int64, key string) raftlog.Op {
		return raftlog.Op{Kind: raftlog.OpCompare, Depth: 1, Branch: raftlog.BranchIf, Target: target, Result: result, Number: number, Key: []byte(key)}
	}
	for _, c := range []struct {
		name    string
		ops     []raftlog.Op
		creates bool
	}{
		{"a put", []raftlog.Op{put}, false},
		{"mod revision 0", []raftlog.Op{compare(2, 0, 0, string(key)), put}, true},
		{"version 0, asked second", []raftlog.Op{compare(2, 0, 5, "/registry/pods/shop/other"), compare(0, 0, 0, string(key)), put}, true},
		{"an update", []raftlog.Op{compare(2, 0, 17, string(key)), put}, false},
		{"not 0", []raftlog.Op{compare(2, 3, 0, string(key)), put}, false},
		{"a lease", []raftlog.Op{compare(4, 0, 0, string(key)), put}, false},
		{"another key", []raftlog.Op{compare(2, 0, 0, "/registry/pods/shop/other"), put}, false},
	} {
		if creates(c.ops, key) != c.creates {
			t.Error(c.name)
		}
	}
}

package recover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/scan"
)

// members gives the paths of members of a fixture, in the test's own copy.
func members(t testing.TB, fixture string, names ...string) []string {
	t.Helper()
	dir := fixtures.Dir(t, fixture)
	for i, n := range names {
		names[i] = filepath.Join(dir, n)
	}
	return names
}

func TestMembersLeadToTheSameBytes(t *testing.T) {
	for _, fixture := range []string{"cluster3-3.5-crash", "cluster3-3.6-crash", "cluster3-3.7-crash"} {
		t.Run(fixture, func(t *testing.T) {
			sample(t, fixture, "cluster3-3.7-crash")
			t.Parallel()
			paths := members(t, fixture, "m1", "m2", "m3")
			var sums []string
			for _, set := range [][]string{{paths[0]}, {paths[2]}, {paths[1], paths[0]}, {paths[2], paths[1], paths[0]}} {
				r, err := roll(t, RollOptions{WALs: opened(t, set...), ToIndex: 2100})
				if err != nil {
					t.Fatal(set, err)
				}
				sums = append(sums, r.SHA256)
			}
			if len(slices.Compact(sums)) != 1 {
				t.Errorf("%v", sums)
			}
		})
	}
}

func TestLogsFillEachOthersGaps(t *testing.T) {
	m := members(t, "cluster3-3.7-crash", "m1", "m2", "m3")
	r, err := roll(t, RollOptions{WALs: opened(t, m...)})
	if err != nil {
		t.Fatal(err)
	}
	if r.To.Index != 2562 || r.Stopped != StopCommitted || r.Beyond != 2 || r.Missing != nil {
		t.Errorf("%+v", r)
	}
	proven := 0
	for _, c := range r.Checks {
		if c.What == "hashkv" && c.Outcome == Proven {
			proven++
		}
	}
	if proven != 3 {
		t.Errorf("%+v", r.Checks)
	}
	_, err = roll(t, RollOptions{WALs: opened(t, m[1])})
	refusal(t, err, "entries 1 to 467", "another member's")
	// The purged log goes on from a database that is as new as its first entry.
	base, err := roll(t, RollOptions{WALs: opened(t, m[0]), ToIndex: 500})
	if err != nil {
		t.Fatal(err)
	}
	on, err := roll(t, RollOptions{Base: opened(t, base.Out)[0], WALs: opened(t, m[1])})
	if err != nil {
		t.Fatal(err)
	}
	if on.To != r.To || on.HashKV != r.HashKV || on.From.Index != 500 {
		t.Errorf("%+v", on)
	}
	old, err := roll(t, RollOptions{WALs: opened(t, m[0]), ToIndex: 300})
	if err != nil {
		t.Fatal(err)
	}
	_, err = roll(t, RollOptions{Base: opened(t, old.Out)[0], WALs: opened(t, m[1])})
	refusal(t, err, "entries 301 to 467")
}

func TestADatabaseThatIsGoneComesBackFromItsLog(t *testing.T) {
	healthy, missing := members(t, "healthy-3.6", "m1")[0], members(t, "backend-missing", "m1")[0]
	r, err := roll(t, RollOptions{WALs: opened(t, missing)})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differences(t, databasePath(healthy), r.Out) {
		if !strings.HasPrefix(d, `meta "storageVersion"`) {
			t.Error(d)
		}
	}
}

func TestTheTailIsAppliedOnlyWhenAskedFor(t *testing.T) {
	m := members(t, "cluster3-3.7-crash", "m1")
	r, err := roll(t, RollOptions{WALs: opened(t, m...), Tail: true})
	if err != nil {
		t.Fatal(err)
	}
	if r.To.Index != 2562 || r.Committed != 2560 || r.Beyond != 2 || r.Stopped != StopLog || len(r.Tail) != 2 || r.Tail[0].Index != 2561 || len(r.Tail[0].Key) == 0 {
		t.Errorf("%+v", r)
	}
	_, err = roll(t, RollOptions{WALs: opened(t, m...), ToIndex: 2561})
	refusal(t, err, "--tail")
}

// TestWhatTheBaseHasAppliedWasCommitted, whatever the commit index in a log says: no tail is
// offered that the base has.
func TestWhatTheBaseHasAppliedWasCommitted(t *testing.T) {
	wal := filepath.Join(members(t, "cluster3-3.7-crash", "m1")[0], "member", "wal")
	base, err := roll(t, RollOptions{WALs: opened(t, wal), Tail: true})
	if err != nil || base.Beyond == 0 {
		t.Fatalf("%+v, %v", base, err)
	}
	_, err = roll(t, RollOptions{Base: opened(t, base.Out)[0], WALs: opened(t, wal)})
	refusal(t, err, "nothing proves a later entry committed")
	if refused, _ := errors.AsType[*RollRefusal](err); strings.Contains(refused.Help, "--tail") {
		t.Errorf("%q would add nothing", refused.Help)
	}
}

func TestToARevision(t *testing.T) {
	m := members(t, "healthy-3.7", "m1")
	for _, rev := range []int64{1050, 1100, 1196} {
		r, err := roll(t, RollOptions{WALs: opened(t, m...), ToRevision: rev})
		if err != nil {
			t.Fatal(err)
		}
		if r.To.Revision != rev || r.Stopped != StopRevision && rev < 1196 || r.Logs[0].Used != r.To.Index {
			t.Errorf("%+v", r)
		}
		want, err := inspect.HashKVAt(t.Context(), opened(t, m...)[0], rev)
		if err != nil || want.Hash != r.HashKV.Hash && want.CompactRevision == r.HashKV.CompactRevision {
			t.Errorf("at %d: %+v, %+v, %v", rev, r.HashKV, want, err)
		}
	}
	_, err := roll(t, RollOptions{WALs: opened(t, m...), ToRevision: 1197})
	refusal(t, err, "revision 1197 is not reached", "1196")
}

// TestTheTailUpToARevision stops in the middle of entries that nothing proves committed, of
// which more have been sent to the applier by then.
func TestTheTailUpToARevision(t *testing.T) {
	const puts, known, wanted = 3000, 500, 2000
	requests := make([]any, puts)
	for i := range requests {
		requests[i] = put(fmt.Sprint("key", i), "1")
	}
	r, err := roll(t, RollOptions{WALs: opened(t, writtenUpTo(t, known, history(t, requests...))), Tail: true, ToRevision: wanted})
	if err != nil {
		t.Fatal(err)
	}
	if n := uint64(len(r.Tail) + r.MoreTail); r.To != (Point{wanted, wanted}) || r.Logs[0].Used != wanted || len(r.Tail) != maxTail || n != wanted-known {
		t.Errorf("%d keys of %d, %+v, %+v", n, wanted-known, r.To, r.Logs)
	}
}

func TestBeforeAKeyWasDeleted(t *testing.T) {
	m := members(t, "healthy-3.6", "m1")
	tried := 0
	for _, p := range fixtures.LoadTruth(t, "healthy-3.6").Planted {
		if !p.Deleted {
			continue
		}
		tried++
		r, err := roll(t, RollOptions{WALs: opened(t, m...), Before: p.Key})
		if err != nil {
			t.Fatalf("%q: %v", p.Key, err)
		}
		// It may have been written again: that undoes nothing.
		if r.Undo == nil || !r.Undo.Deleted || r.Undo.Revision != p.Revision || r.To.Revision != p.Revision-1 || r.To.Index != r.Undo.Index-1 {
			t.Errorf("%q at %d: %+v, %+v", p.Key, p.Revision, r.Undo, r.To)
		}
		if tried == 2 {
			return
		}
	}
	if tried == 0 {
		t.Error("nothing planted was deleted")
	}
}

func TestBeforeRefusesAKeyThatNothingChanged(t *testing.T) {
	_, err := roll(t, RollOptions{WALs: opened(t, members(t, "healthy-3.6", "m1")...), Before: []byte("nobody wrote this")})
	refusal(t, err, "changed or deleted the key")
}

func TestABackupGoesOn(t *testing.T) {
	m := members(t, "healthy-3.5", "m1")
	base, err := roll(t, RollOptions{WALs: opened(t, m...), ToIndex: 700})
	if err != nil {
		t.Fatal(err)
	}
	r, err := roll(t, RollOptions{Base: opened(t, base.Out)[0], WALs: opened(t, m...)})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(r.Checks, func(c Check) bool { return c.What == "splice" && c.Outcome == Proven }) || r.From.Index != 700 || r.Counts.Applied != 511 {
		t.Errorf("%+v", r)
	}
	if d := differences(t, databasePath(m[0]), r.Out); len(d) > 0 {
		t.Errorf("%q", d)
	}
	_, err = roll(t, RollOptions{Base: opened(t, databasePath(m[0]))[0], WALs: opened(t, m...)})
	refusal(t, err, "nothing to apply")
	_, err = roll(t, RollOptions{Base: opened(t, base.Out)[0], WALs: opened(t, m...), ToIndex: 600})
	refusal(t, err, "index 700 already")
	_, err = roll(t, RollOptions{Base: opened(t, base.Out)[0], WALs: opened(t, m...), ToRevision: 100})
	refusal(t, err, "revision")
}

func TestTheBaseOfAnotherClusterIsRefused(t *testing.T) {
	three := members(t, "healthy-3.6", "m1")
	_, err := roll(t, RollOptions{Base: opened(t, members(t, "healthy-3.5", "m1")...)[0], WALs: opened(t, members(t, "healthy-3.7", "m1")...)})
	refusal(t, err, "does not know")
	_, err = roll(t, RollOptions{WALs: opened(t, append(three, members(t, "healthy-3.7", "m1")...)...)})
	refusal(t, err, "of cluster")
	_, err = roll(t, RollOptions{WALs: opened(t, members(t, "bumped-3.6-started", "m1")...)})
	refusal(t, err, "restored")
	_, err = roll(t, RollOptions{WALs: opened(t, members(t, "healthy-3.8", "m1")...)})
	refusal(t, err, "3.8.0", "--to-index 3")
	damaged := members(t, "leaf-zeroed", "m1")
	_, err = roll(t, RollOptions{Base: opened(t, damaged...)[0], WALs: opened(t, damaged...)})
	refusal(t, err, "damaged")
}

// written has etcd's own package write a log, of which all is committed.
func written(t testing.TB, node, cluster uint64, entries []*raftpb.Entry, snaps ...*walpb.Snapshot) string {
	t.Helper()
	return write(t, node, cluster, entries[len(entries)-1].GetIndex(), entries, snaps...)
}

// writtenUpTo has etcd write the log of a member of two that knows less to be committed.
func writtenUpTo(t *testing.T, commit uint64, entries []*raftpb.Entry) string {
	t.Helper()
	return write(t, ownNode+1, ownCluster, commit, entries)
}

func write(t testing.TB, node, cluster, commit uint64, entries []*raftpb.Entry, snaps ...*walpb.Snapshot) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "wal")
	metadata, err := proto.Marshal(&pb.Metadata{NodeID: &node, ClusterID: &cluster})
	if err != nil {
		t.Fatal(err)
	}
	w, err := wal.Create(zap.NewNop(), dir, metadata)
	if err != nil {
		t.Fatal(err)
	}
	w.SetUnsafeNoFsync()
	err = w.Save(&raftpb.HardState{Term: entries[len(entries)-1].Term, Vote: &node, Commit: &commit}, entries)
	for _, s := range snaps {
		err = errors.Join(err, w.SaveSnapshot(s))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

const (
	ownNode    = 0x8469673bd9d60b61
	ownCluster = 0x1055a386cdba4e91
)

// history makes entries of a log: a member, and then requests or the data of entries.
func history(t testing.TB, rest ...any) []*raftpb.Entry {
	t.Helper()
	change, err := proto.Marshal(&raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: new(uint64(ownNode)),
		Context: fmt.Appendf(nil, `{"id":%d,"peerURLs":["http://127.0.0.1:2380"],"name":"m1"}`, uint64(ownNode))})
	if err != nil {
		t.Fatal(err)
	}
	entries := []*raftpb.Entry{{Type: raftpb.EntryConfChange.Enum(), Data: change}}
	for _, r := range rest {
		switch r := r.(type) {
		case *pb.InternalRaftRequest:
			r.Header = &pb.RequestHeader{ID: uint64(len(entries))}
			data, err := proto.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			entries = append(entries, &raftpb.Entry{Data: data})
		case *raftpb.Entry:
			entries = append(entries, r)
		}
	}
	for i, e := range entries {
		e.Index, e.Term = new(uint64(i+1)), new(uint64(2))
	}
	return entries
}

func put(key, value string) *pb.InternalRaftRequest {
	return &pb.InternalRaftRequest{Put: &pb.PutRequest{Key: []byte(key), Value: []byte(value)}}
}

func TestEntriesThatTheApplierDoesNotKnowAreRefused(t *testing.T) {
	unknown := put("a", "1")
	unknown.ProtoReflect().SetUnknown([]byte{0xc2, 0xb8, 0x02, 0x00}) // field 5000, empty
	nested := put("a", "1")
	nested.Put.ProtoReflect().SetUnknown([]byte{0xc2, 0xb8, 0x02, 0x00})
	for _, c := range []struct {
		name  string
		entry any
		words []string
	}{
		{"a request of a newer etcd", &raftpb.Entry{Data: []byte{0xc2, 0xb8, 0x02, 0x00}}, []string{"does not know", "--to-index 2"}},
		{"a field of a newer etcd", unknown, []string{"does not know"}},
		{"a field in a known request", nested, []string{"does not know"}},
		{"a newer cluster", &pb.InternalRaftRequest{ClusterVersionSet: &membershippb.ClusterVersionSetRequest{Ver: "3.8.0"}}, []string{"3.8.0", "--to-index 2"}},
		{"a cluster version that is none", &pb.InternalRaftRequest{ClusterVersionSet: &membershippb.ClusterVersionSetRequest{Ver: "new"}}, []string{"none"}},
		{"joint consensus", &raftpb.Entry{Type: raftpb.EntryConfChangeV2.Enum()}, []string{"conf_change_v2"}},
		{"no message", &raftpb.Entry{Data: []byte{0xff}}, []string{"cannot be decoded"}},
		{"a change without a context", &raftpb.Entry{Type: raftpb.EntryConfChange.Enum()}, []string{"context"}},
		{"attributes of nobody", &pb.InternalRaftRequest{ClusterMemberAttrSet: &membershippb.ClusterMemberAttrSetRequest{Member_ID: 7, MemberAttributes: &membershippb.Attributes{Name: "x"}}}, []string{"gives up"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			sample(t, c.name, "a request of a newer etcd")
			dir := written(t, ownNode, ownCluster, history(t, put("a", "1"), c.entry, put("b", "2")))
			_, err := roll(t, RollOptions{WALs: opened(t, dir)})
			refusal(t, err, append(c.words, "entry 3")...)
			if r, err := roll(t, RollOptions{WALs: opened(t, dir), ToIndex: 2}); err != nil || r.To.Revision != 2 {
				t.Errorf("up to the entry before: %+v, %v", r, err)
			}
		})
	}
}

func TestASnapshotRecordThatContradictsTheMembershipIsRefused(t *testing.T) {
	record := func(learners ...uint64) *walpb.Snapshot {
		return &walpb.Snapshot{Index: new(uint64(2)), Term: new(uint64(2)), ConfState: &raftpb.ConfState{Voters: []uint64{ownNode}, Learners: learners}}
	}
	dir := written(t, ownNode, ownCluster, history(t, put("a", "1"), put("b", "1")), record(5))
	_, err := roll(t, RollOptions{WALs: opened(t, dir)})
	refusal(t, err, "entry 2", "--max-learners")
	dir = written(t, ownNode, ownCluster, history(t, put("a", "1"), put("b", "1")), record())
	if r, err := roll(t, RollOptions{WALs: opened(t, dir)}); err != nil || !slices.ContainsFunc(r.Checks, func(c Check) bool { return c.What == "conf-state" }) {
		t.Errorf("%+v, %v", r, err)
	}
}

// guarded makes a transaction that writes only when its key is at a version, as an API
// server does.
func guarded(key, value string, version int64) *pb.InternalRaftRequest {
	return &pb.InternalRaftRequest{Txn: &pb.TxnRequest{
		Compare: []*pb.Compare{{Key: []byte(key), Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{Version: version}}},
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte(value)}}}},
		Failure: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key)}}}},
	}}
}

// A cluster that is set up again in the same way has the same ids, the same terms and
// plausible indexes.
func TestATwinOfTheBasesClusterIsRefused(t *testing.T) {
	const n = 400
	made := map[string]func(cluster string, i int) any{
		"puts": func(cluster string, i int) any {
			return put(fmt.Sprint("/", cluster, "/", i%20), strings.Repeat("v", i))
		},
		"other values of the same keys": func(cluster string, i int) any { return put(fmt.Sprint("/", i%20), fmt.Sprint(cluster, i)) },
		"transactions": func(cluster string, i int) any {
			return guarded(fmt.Sprint("/", cluster, "/", i%20), fmt.Sprint(i), int64(i/20))
		},
		"fewer revisions": func(cluster string, i int) any {
			if cluster == "one" && i%2 == 0 {
				return &pb.InternalRaftRequest{LeaseGrant: &pb.LeaseGrantRequest{ID: int64(i + 1), TTL: 100}}
			}
			return put(fmt.Sprint("/", cluster, "/", i%20), fmt.Sprint(i))
		},
		"transactions that write nothing": func(cluster string, i int) any {
			version := int64(i / 20)
			if cluster == "one" && i%3 == 0 {
				version = 1000
			}
			return guarded(fmt.Sprint("/", i%20), fmt.Sprint(cluster, i), version)
		},
	}
	for name, entry := range made {
		t.Run(name, func(t *testing.T) {
			sample(t, name, "puts")
			var one, two []any
			for i := range n {
				one, two = append(one, entry("one", i)), append(two, entry("two", i))
			}
			own := written(t, ownNode, ownCluster, history(t, one...))
			base, err := roll(t, RollOptions{WALs: opened(t, own), ToIndex: n / 2})
			if err != nil {
				t.Fatal(err)
			}
			_, err = roll(t, RollOptions{Base: opened(t, base.Out)[0], WALs: opened(t, written(t, ownNode, ownCluster, history(t, two...)))})
			refusal(t, err, "did not lead to the base")
			whole, err := roll(t, RollOptions{WALs: opened(t, own)})
			if err != nil {
				t.Fatal(err)
			}
			// What there is no overlap to prove it by is not called proven.
			cut := written(t, ownNode, ownCluster, history(t, one...)[n/2:])
			r, err := roll(t, RollOptions{Base: opened(t, base.Out)[0], WALs: opened(t, cut)})
			if err != nil || r.SHA256 != whole.SHA256 || !slices.Contains(r.Checks, Check{"splice", Unproven, "no log holds an entry that the base has applied"}) {
				t.Errorf("%+v, %v", r, err)
			}
			if r, err = roll(t, RollOptions{Base: opened(t, base.Out)[0], WALs: opened(t, own)}); err != nil || r.SHA256 != whole.SHA256 {
				t.Errorf("with its own log: %+v, %v", r, err)
			}
		})
	}
}

// A log may hold more writes behind the base than are kept in memory: those that the base has
// must be held against it all the same.
func TestALongLogIsHeldAgainstAnOldBase(t *testing.T) {
	const n, shared = 300_000, 200
	list := func(cluster string, n int) []any {
		requests := make([]any, n)
		for i := range requests {
			requests[i] = put(fmt.Sprint("/", i%20), fmt.Sprint(cluster, i))
		}
		return requests
	}
	long := written(t, ownNode, ownCluster, history(t, list("one", n)...))
	for cluster, outcome := range map[string]string{"one": Proven, "two": ""} {
		base, err := roll(t, RollOptions{WALs: opened(t, written(t, ownNode, ownCluster, history(t, list(cluster, shared)...)))})
		if err != nil {
			t.Fatal(err)
		}
		r, err := roll(t, RollOptions{Base: opened(t, base.Out)[0], WALs: opened(t, long), ToIndex: shared + 10})
		if outcome == "" {
			refusal(t, err, "did not lead to the base")
			continue
		}
		if err != nil || !slices.ContainsFunc(r.Checks, func(c Check) bool { return c.What == "splice" && c.Outcome == outcome }) {
			t.Errorf("%+v, %v", r.Checks, err)
		}
	}
}

// A leader that is cut off writes entries that nobody else has; others take their place.
func TestTheLogOfALeaderThatWasCutOffGivesOnlyWhatWasCommitted(t *testing.T) {
	entries := func(who string, n int, lost int) []*raftpb.Entry {
		var list []any
		for i := range n {
			name := "both"
			if i >= lost {
				name = who
			}
			list = append(list, put(fmt.Sprint("/", name, "/", i), "v"))
		}
		h := history(t, list...)
		for _, e := range h[lost+1:] {
			if who == "new" {
				e.Term = new(uint64(3))
			}
		}
		return h
	}
	cutOff := writtenUpTo(t, 11, entries("old", 15, 10))
	newer := entries("new", 30, 10)
	whole := written(t, ownNode, ownCluster, newer)
	want, err := roll(t, RollOptions{WALs: opened(t, whole)})
	if err != nil {
		t.Fatal(err)
	}
	r, err := roll(t, RollOptions{WALs: opened(t, cutOff, whole)})
	if err != nil || r.SHA256 != want.SHA256 || r.To.Index != 31 {
		t.Errorf("%+v, %v", r, err)
	}
	// Where the new leader's entries are gone, those of the old one are no replacement.
	r, err = roll(t, RollOptions{WALs: opened(t, cutOff, written(t, ownNode, ownCluster, newer[16:]))})
	if err != nil || r.To.Index != 11 || r.Missing == nil || *r.Missing != (Range{12, 16}) || r.Stopped != StopGap {
		t.Errorf("%+v, %v", r, err)
	}
	// Entries that both have show that the log goes on rightly.
	r, err = roll(t, RollOptions{WALs: opened(t, writtenUpTo(t, 2, newer[:20]), written(t, ownNode, ownCluster, newer[18:]))})
	if err != nil || r.SHA256 != want.SHA256 {
		t.Errorf("%+v, %v", r, err)
	}
	alone, err := roll(t, RollOptions{WALs: opened(t, cutOff), Tail: true})
	if err != nil || alone.To.Index != 16 || len(alone.Tail) != 5 {
		t.Errorf("%+v, %v", alone, err)
	}
}

func TestInjuredLogsNeverLeadPastTheInjury(t *testing.T) {
	healthy := map[string]string{}
	dirOf := func(base string) string {
		if healthy[base] == "" {
			healthy[base] = fixtures.Dir(t, base)
		}
		return healthy[base]
	}
	for _, i := range fixtures.Injuries {
		if !strings.HasPrefix(i.Name, "wal-") || i.Name == "wal-missing" {
			continue
		}
		t.Run(i.Name, func(t *testing.T) {
			sample(t, i.Name, "wal-bit-flipped")
			for _, m := range i.Sources {
				dir := members(t, i.Name, m)[0]
				// The log alone: what its database proves committed is another matter.
				s := opened(t, filepath.Join(dir, "member", "wal"))
				r, err := roll(t, RollOptions{WALs: s})
				if err != nil {
					if _, refused := errors.AsType[*RollRefusal](err); !refused && !errors.Is(err, inspect.ErrNoLog) {
						t.Errorf("%s: %v", m, err)
					}
					continue
				}
				log, err := inspect.OpenLog(t.Context(), s[0], inspect.Limits{})
				if err != nil {
					t.Fatal(err)
				}
				if stop := log.Log.Stop; stop != nil && r.To.Index >= stop.Next {
					t.Errorf("%s: led to %d, and etcd reads up to %d", m, r.To.Index, stop.Next-1)
				}
				want, err := roll(t, RollOptions{WALs: opened(t, filepath.Join(dirOf(i.Base), m)), ToIndex: r.To.Index})
				if err != nil || want.HashKV != r.HashKV {
					t.Errorf("%s: at %d it is %+v, and without the injury %+v, %v", m, r.To.Index, r.HashKV, want.HashKV, err)
				}
			}
		})
	}
}

// What an injured database leads to is right, or nothing.
func TestInjuredBasesAreRefusedOrHarmless(t *testing.T) {
	logs := map[string]string{"healthy-3.6": "", "cluster3-3.7-crash": "", "healthy-3.4": ""}
	want := map[string]inspect.HashKV{}
	for base := range logs {
		logs[base] = filepath.Join(fixtures.Dir(t, base), "m1")
	}
	for _, i := range fixtures.Injuries {
		if logs[i.Base] == "" || strings.HasPrefix(i.Name, "wal-") {
			continue
		}
		t.Run(i.Name, func(t *testing.T) {
			sample(t, i.Name, "leaf-zeroed", "revision-gap")
			if _, known := want[i.Base]; !known {
				r, err := roll(t, RollOptions{WALs: opened(t, logs[i.Base])})
				if err != nil {
					t.Fatal(err)
				}
				want[i.Base] = r.HashKV
			}
			dir := fixtures.Dir(t, i.Name)
			for _, name := range i.Sources {
				found, _ := source.Open(t.Context(), []string{filepath.Join(dir, name)}, source.Options{})
				if len(found) != 1 {
					continue
				}
				defer found[0].Close()
				r, err := roll(t, RollOptions{Base: found[0], WALs: opened(t, filepath.Join(logs[i.Base], "member", "wal"))})
				if _, refused := errors.AsType[*RollRefusal](err); err != nil && !refused {
					t.Errorf("%s: %v", name, err)
				}
				if err == nil && r.HashKV != want[i.Base] {
					t.Errorf("%s led to %+v, not %+v, with %+v", name, r.HashKV, want[i.Base], r.Checks)
				}
			}
		})
	}
}

func TestTheOutputIsWhatEtcdTakes(t *testing.T) {
	m := members(t, "membership-3.7", "m1")
	r, err := roll(t, RollOptions{WALs: opened(t, m...)})
	if err != nil {
		t.Fatal(err)
	}
	again, err := roll(t, RollOptions{WALs: opened(t, m...)})
	if err != nil || again.SHA256 != r.SHA256 {
		t.Errorf("the second time: %v, %s, not %s", err, again.SHA256, r.SHA256)
	}
	copied := filepath.Join(t.TempDir(), "db")
	b, err := os.ReadFile(r.Out)
	if err != nil || int64(len(b)) != r.Size {
		t.Fatal(err, len(b))
	}
	if err := os.WriteFile(copied, b[:len(b)-32], 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(copied, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Error(err)
		}
		return nil
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	restored := filepath.Join(t.TempDir(), "r")
	err = snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath: r.Out, Name: "r", OutputDataDir: restored, PeerURLs: []string{peerURL},
		InitialCluster: "r=" + peerURL, InitialClusterToken: "t",
	})
	if err != nil {
		t.Fatalf("etcdutl does not restore it: %v", err)
	}
	serves(t, restored, m[0])
}

// peerURL is where the restored member would listen for peers: it has none.
const peerURL = "http://127.0.0.1:1"

// serves starts etcd on a restored directory and compares what it answers with the
// database of the member whose log led there.
func serves(t *testing.T, dir, member string) {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir, cfg.InitialCluster, cfg.EnableGRPCGateway = "r", dir, "r="+peerURL, false
	loopback, advertised := url.URL{Scheme: "http", Host: "127.0.0.1:0"}, url.URL{Scheme: "http", Host: "127.0.0.1:1"}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{loopback}, []url.URL{advertised}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{loopback}, []url.URL{advertised}
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(time.Minute):
		t.Fatal("it is not ready")
	}
	answer, err := e.Server.Range(t.Context(), &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if err != nil {
		t.Fatal(err)
	}
	k, err := inspect.OpenKeyspace(t.Context(), opened(t, member)[0], inspect.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	live := map[string]keyspace.KeyValue{}
	k.Rows.From(nil, func(row scan.Row) bool {
		kv, err := keyspace.DecodeKeyValue(row.Value)
		if err != nil {
			t.Fatal(err)
		}
		if rev, _ := keyspace.DecodeRevision(row.Key); rev.Tombstone {
			delete(live, string(kv.Key))
		} else {
			kv.Value = slices.Clone(kv.Value)
			live[string(kv.Key)] = kv
		}
		return true
	})
	if len(answer.Kvs) != len(live) || len(live) == 0 {
		t.Errorf("it has %d keys, and the member %d", len(answer.Kvs), len(live))
	}
	for _, kv := range answer.Kvs {
		want := live[string(kv.Key)]
		if !bytes.Equal(kv.Value, want.Value) || kv.ModRevision != want.ModRevision || kv.CreateRevision != want.CreateRevision || kv.Version != want.Version || kv.Lease != want.Lease {
			t.Errorf("key %q is at %d, and in the member at %d", kv.Key, kv.ModRevision, want.ModRevision)
		}
	}
}

func TestAnInterruptLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := opened(t, members(t, "cluster3-3.7-crash", "m1")...)
	out, room := t.TempDir(), t.TempDir()
	_, err := Roll(ctx, RollOptions{WALs: s, Out: filepath.Join(out, "out.db"), Scratch: room, Self: self(t), Applying: func(uint64) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	for _, dir := range []string{out, room} {
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// etcd's own checks of transactions and indexes are on.
func TestUnderEtcdsVerification(t *testing.T) {
	t.Setenv("ETCD_VERIFY", "all")
	for _, fixture := range []string{"auth-3.6", "membership-3.4"} {
		if _, err := roll(t, RollOptions{WALs: opened(t, members(t, fixture, "m1")...)}); err != nil {
			t.Errorf("%s: %v", fixture, err)
		}
	}
}

// A log is read on behind damage that is older than the base, and held against it there.
func TestDamageBeforeTheBase(t *testing.T) {
	sources := opened(t, members(t, "wal-middle-segment-empty", "m1")...)
	r, err := roll(t, RollOptions{Base: sources[0], WALs: sources})
	if err != nil {
		t.Fatal(err)
	}
	if log := r.Logs[0]; log.First != 1 || log.Last != 2562 || log.LastTerm != 5 || log.Used != 116 {
		t.Errorf("the log: %+v", log)
	}
	for _, c := range r.Checks {
		if c.Outcome != Proven {
			t.Errorf("%s: %v", c.What, c)
		}
	}
}

// TestADatabaseThatIsPassedIsHeldAgainstTheLog gives a member whose database is behind its
// log, as the log leads to it, of another history, and not whole.
func TestADatabaseThatIsPassedIsHeldAgainstTheLog(t *testing.T) {
	const passed = 4
	puts := func(value string) []any {
		return []any{put("a", strings.Repeat("1", 2000)), put("b", value), put("c", "1"), put("a", "2"), put("c", "2")}
	}
	database := func(entries ...any) []byte {
		r, err := roll(t, RollOptions{WALs: opened(t, written(t, ownNode, ownCluster, history(t, entries...))), ToIndex: passed})
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(r.Out)
		if err != nil {
			t.Fatal(err)
		}
		return data[:len(data)-snapdb.TrailerSize]
	}
	own, other := database(puts("1")...), database(puts("2")...)
	broken := slices.Clone(own)
	value := bytes.Index(broken, bytes.Repeat([]byte("1"), 2000))
	broken[value-value%os.Getpagesize()+8] = 0 // the flags of the leaf that it lies in
	for _, c := range []struct {
		name string
		data []byte
		want string // the outcome; "" for a refusal
	}{{"as the log leads to it", own, Proven}, {"of another history", other, ""}, {"not whole", broken, Unproven}} {
		for _, o := range []RollOptions{{}, {Before: []byte("c")}, {ToRevision: 4}} {
			dir := t.TempDir()
			snap := filepath.Join(dir, "member", "snap")
			err := errors.Join(os.MkdirAll(snap, 0o700), os.Rename(written(t, ownNode, ownCluster, history(t, puts("1")...)), filepath.Join(dir, "member", "wal")), os.WriteFile(filepath.Join(snap, "db"), c.data, 0o600))
			if err != nil {
				t.Fatal(err)
			}
			o.WALs = opened(t, dir)
			r, err := roll(t, o)
			if c.want == "" {
				refusal(t, err, fmt.Sprintf("at index %d the entries lead to revision 4", passed), dir)
				continue
			}
			if err != nil {
				t.Fatalf("%s, %+v: %v", c.name, o, err)
			}
			if i := slices.IndexFunc(r.Checks, func(c Check) bool { return c.What == "hashkv" }); i < 0 || r.Checks[i].Outcome != c.want {
				t.Errorf("%s, %+v: %+v", c.name, o, r.Checks)
			}
		}
	}
}

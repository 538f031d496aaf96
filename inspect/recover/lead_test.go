package recover

import (
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"etcd-forensics/inspect"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/walreader/raftlog"
)

func opPut(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte("v"), Lease: 7}}}
}

func opDelete(key, end string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)}}}
}

func opRange(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key)}}}
}

func txn(compares bool, success, failure []*pb.RequestOp) *pb.InternalRaftRequest {
	t := &pb.TxnRequest{Success: success, Failure: failure}
	if compares {
		t.Compare = []*pb.Compare{{Key: []byte("c"), Target: pb.Compare_MOD, TargetUnion: &pb.Compare_ModRevision{ModRevision: 3}}}
	}
	return &pb.InternalRaftRequest{Txn: t}
}

// leadOf makes a lead of a request as it stands in a log.
func leadOf(t testing.TB, r *pb.InternalRaftRequest, revision int64) *lead {
	t.Helper()
	data, err := proto.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	request, err := raftlog.DecodeRequest(data)
	if err != nil {
		t.Fatal(err)
	}
	return newLead(inspect.Account{Index: 9, Revision: revision, Request: &request, Data: data})
}

func TestWhatAnEntryProvesOfItsRevision(t *testing.T) {
	ops := func(list ...*pb.RequestOp) []*pb.RequestOp { return list }
	keep := &pb.InternalRaftRequest{Put: &pb.PutRequest{Key: []byte("a"), IgnoreValue: true}}
	for _, c := range []struct {
		name        string
		request     *pb.InternalRaftRequest
		whole, open bool
		keys        string
	}{
		{"a put", put("a", "v"), true, false, "a"},
		{"a put that keeps the value", keep, false, false, "a"},
		{"a deletion", &pb.InternalRaftRequest{DeleteRange: &pb.DeleteRangeRequest{Key: []byte("a")}}, true, false, "a"},
		{"a deletion of a range", &pb.InternalRaftRequest{DeleteRange: &pb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte("b")}}, false, true, "a"},
		{"the end of a lease", &pb.InternalRaftRequest{LeaseRevoke: &pb.LeaseRevokeRequest{ID: 7}}, false, true, ""},
		{"a transaction of puts", txn(false, ops(opPut("a"), opPut("b")), nil), true, false, "ab"},
		{"one that compares, and reads otherwise", txn(true, ops(opPut("a")), ops(opRange("a"))), true, false, "a"},
		{"one that writes either way", txn(true, ops(opPut("a")), ops(opPut("b"))), false, false, "ab"},
		{"one whose failure is never taken", txn(false, ops(opPut("a")), ops(opPut("b"))), true, false, "a"},
		{"one that deletes beside a put", txn(true, ops(opPut("a"), opDelete("b", "")), nil), false, false, "ab"},
		{"one that deletes one key", txn(true, ops(opDelete("a", "")), ops(opRange("a"))), true, false, "a"},
		{"one that deletes a range", txn(true, ops(opDelete("a", "b")), nil), false, true, "a"},
		{"one in another", txn(false, ops(&pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: txn(false, ops(opPut("a")), nil).Txn}}), nil), false, false, "a"},
	} {
		l := leadOf(t, c.request, 5)
		keys := ""
		for _, w := range l.writes {
			keys += string(w.key)
		}
		if l.whole != c.whole || l.open != c.open || keys != c.keys {
			t.Errorf("%s: whole %t, open %t, keys %q", c.name, l.whole, l.open, keys)
		}
		if leadOf(t, c.request, 0).whole {
			t.Errorf("%s: whole without a revision", c.name)
		}
	}
}

func TestWhatIsMissingBetweenTwoRecords(t *testing.T) {
	at := func(main, create, number int64) version {
		return version{keyspace.Revision{Main: main}, create, number}
	}
	deleted := func(main int64) version { return version{rev: keyspace.Revision{Main: main, Tombstone: true}} }
	const compacted = 100
	for _, c := range []struct {
		name         string
		before, next version
		broken       bool
		want         MissingVersion
	}{
		{"the next version", at(110, 105, 2), at(120, 105, 3), false, MissingVersion{}},
		{"a version is missing", at(110, 105, 2), at(120, 105, 4), true, MissingVersion{First: 3, Last: 3, From: 111, To: 119}},
		{"the first ones are missing", version{}, at(120, 105, 4), true, MissingVersion{First: 1, Last: 3, From: 105, To: 119}},
		{"the last one at the compaction is missing", version{}, at(120, 50, 4), true, MissingVersion{First: 3, Last: 3, From: 50, To: 119}},
		{"a first version", version{}, at(120, 120, 1), false, MissingVersion{}},
		{"a first version behind a deletion", deleted(110), at(120, 120, 1), false, MissingVersion{}},
		{"a deletion is missing", at(110, 105, 2), at(120, 120, 1), true, MissingVersion{First: 1, Last: 0, From: 111, To: 119, Deletion: true}},
		{"a deletion and more", at(110, 105, 2), at(120, 115, 3), true, MissingVersion{First: 1, Last: 2, From: 111, To: 119, Deletion: true}},
		{"a deletion", at(110, 105, 2), deleted(120), false, MissingVersion{}},
		{"what was deleted is missing", version{}, deleted(120), true, MissingVersion{From: 1, To: 119}},
		{"what was deleted again is missing", deleted(110), deleted(120), true, MissingVersion{From: 111, To: 119}},
	} {
		m, broken := c.before.gapTo(c.next, compacted)
		m.By = ""
		if broken != c.broken || broken && m != c.want {
			t.Errorf("%s: %t, %+v", c.name, broken, m)
		}
	}
}

func TestWhatAKeyHasComeTo(t *testing.T) {
	live, deleted := keyspace.Revision{Main: 10}, keyspace.Revision{Main: 10, Tombstone: true}
	for _, c := range []struct {
		name  string
		claim claim
		now   keyspace.Revision
		want  KeyState
	}{
		{"nothing is left", claim{last: 12}, keyspace.Revision{}, KeyGone},
		{"it was created again", claim{last: 12}, deleted, KeyGone},
		{"an older value", claim{last: 12}, live, KeyOlder},
		{"its deletion is missing", claim{last: 12, deletes: true}, live, KeyBack},
		{"all of a deleted key is missing", claim{last: 12, deletes: true}, keyspace.Revision{}, KeyHistory},
		{"a later value is there", claim{last: 9}, live, KeyHistory},
		{"it was deleted later", claim{last: 9}, deleted, KeyHistory},
	} {
		if got := c.claim.state(c.now); got != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

// FuzzLead makes a lead of any entry. What it keeps is no more than the entry has.
func FuzzLead(f *testing.F) {
	for _, r := range []*pb.InternalRaftRequest{put("a", "v"), txn(true, []*pb.RequestOp{opPut("a"), opDelete("b", "c")}, []*pb.RequestOp{opPut("d")})} {
		data, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := raftlog.DecodeRequest(data)
		if err != nil {
			return
		}
		l := newLead(inspect.Account{Revision: 1, Request: &r, Data: data})
		if l.bytes() > len(data) || l.whole && (len(l.writes) == 0 || l.open) || slices.ContainsFunc(l.writes, func(w leadWrite) bool { return !l.touches(w.key) }) {
			t.Fatalf("%+v", l)
		}
	})
}

// TestLogsThatDisagreeDecideNothing has two logs name different entries for one revision, of
// which a copy holds what the first one wrote.
func TestLogsThatDisagreeDecideNothing(t *testing.T) {
	kv := keyspace.KeyValue{Key: []byte("a"), Value: []byte("v"), CreateRevision: 5, ModRevision: 5, Version: 1}
	rev := keyspace.Revision{Main: 5}
	copied := found{rev: rev, made: &made{by: "a copy", kv: kv}}
	kv.Value = []byte("w")
	for _, c := range []struct {
		logs  []uint64 // entries that they name
		taken int
	}{{[]uint64{9}, 1}, {[]uint64{9, 9}, 1}, {[]uint64{9, 10}, 0}} {
		j := &job{result: &Result{}, council: &council{leads: map[int64]*lead{}, records: map[keyspace.Revision]record{rev: (&made{kv: kv}).record(rev)}}}
		j.contests = []contest{{rev: rev, key: kv.Key, taken: theTree, reason: byTree, copies: []found{copied}}}
		for _, index := range c.logs {
			l := leadOf(t, put("a", "v"), 5)
			l.index = index
			j.council.add(l)
		}
		if taken := j.takeCopies(j.council.leads[5], []int{0}); len(taken) != c.taken || (j.contests[0].reason == byNone) != (c.taken == 0) {
			t.Errorf("%d: %d are taken, since %s", c.logs, len(taken), j.contests[0].reason)
		}
	}
}

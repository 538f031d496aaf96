package query_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/mvcc"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect/query"
)

// What keys_answers_test.go says of keys, for get, history, diff and wal.

func get(t *testing.T, path, key string, prefix bool, rev int64) *query.GetResult {
	t.Helper()
	r, err := query.Get(t.Context(), openSource(t, path), query.GetOptions{Keys: query.Keys{Key: []byte(key), Prefix: prefix}, Revision: rev, Values: true})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func diff(t *testing.T, from, to string, opts query.DiffOptions) *query.DiffResult {
	t.Helper()
	opts.MaxKeys = 100
	r, err := query.Diff(t.Context(), openSource(t, from), openSource(t, to), opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestDeletionIsARevisionOfItsOwn: auger gives one revision too few where a deletion is the
// newest, and counts the deleted key.
func TestDeletionIsARevisionOfItsOwn(t *testing.T) {
	path := writeStore(t, func(kv mvcc.KV) {
		for n := range 40 { // revisions 2 to 41
			kv.Put(fmt.Appendf(nil, "/a/b/%02d", n), []byte("v"), lease.NoLease)
		}
		kv.DeleteRange([]byte("/a/b/07"), nil)
	})
	if r := get(t, path, "/a/", true, 0); r.Revision != 42 || len(r.List) != 39 || slices.ContainsFunc(r.List, func(v query.Version) bool { return string(v.Key) == "/a/b/07" }) {
		t.Errorf("revision %d, %d keys", r.Revision, len(r.List))
	}
	if r := get(t, path, "/a/b/07", false, 41); len(r.List) != 1 || r.List[0].Revision.Main != 9 {
		t.Errorf("before it: %+v", r.List)
	}
	h := history(t, path, "/a/b/07", false)
	if h.Revision != 42 || len(h.List) != 2 || h.List[1].Action != query.ActionDelete || h.List[1].Revision.Main != 42 || h.List[1].ValueSize != 0 || h.List[1].CreateRevision != 0 {
		t.Errorf("revision %d, %+v", h.Revision, h.List)
	}
	d := diff(t, path, path, query.DiffOptions{OldRevision: 41})
	if d.Old.Revision != 41 || d.New.Revision != 42 || d.Counts.Old != 40 || d.Counts.New != 39 || d.Counts.Removed != 1 || len(d.Keys) != 1 || string(d.Keys[0].Key) != "/a/b/07" {
		t.Errorf("%+v, %+v", d.Counts, d.Keys)
	}
}

// TestRecreatedKeyHasItsNewContent: tools that go by the first record of a key give the old
// one.
func TestRecreatedKeyHasItsNewContent(t *testing.T) {
	path := writeStore(t, func(kv mvcc.KV) {
		kv.Put([]byte("again"), []byte("old"), lease.NoLease) // revision 2
		kv.Put([]byte("again"), []byte("older"), lease.NoLease)
		kv.DeleteRange([]byte("again"), nil)
		kv.Put([]byte("again"), []byte("new"), lease.NoLease) // revision 5
	})
	r := get(t, path, "again", false, 0)
	if len(r.List) != 1 || string(r.List[0].Value) != "new" || r.List[0].CreateRevision != 5 || r.List[0].Revision.Main != 5 || r.List[0].Version != 1 {
		t.Errorf("%+v", r.List)
	}
	if r := get(t, path, "again", false, 3); len(r.List) != 1 || string(r.List[0].Value) != "older" || r.List[0].Version != 2 {
		t.Errorf("at revision 3: %+v", r.List)
	}
	if r := get(t, path, "again", false, 4); len(r.List) != 0 {
		t.Errorf("at its deletion: %+v", r.List)
	}
	var actions []string
	for _, e := range history(t, path, "again", false).List {
		actions = append(actions, fmt.Sprint(e.Action, " ", e.Revision.Main))
	}
	if want := []string{"create 2", "update 3", "delete 4", "create 5"}; !slices.Equal(actions, want) {
		t.Errorf("%q", actions)
	}
	if d := diff(t, path, path, query.DiffOptions{OldRevision: 3}); d.Counts.Recreated != 1 || d.Counts.Changed != 0 || d.Counts.New != 1 {
		t.Errorf("%+v", d.Counts)
	}
}

// TestVersionsOfAKeyAreOneKey: octosql and etcdutl 3.5 count revisions.
func TestVersionsOfAKeyAreOneKey(t *testing.T) {
	path := writeStore(t, func(kv mvcc.KV) {
		for n := range 5 {
			kv.Put([]byte("often"), fmt.Append(nil, n), lease.NoLease)
		}
	})
	if r := get(t, path, "", true, 0); len(r.List) != 1 || r.List[0].Version != 5 || string(r.List[0].Value) != "4" {
		t.Errorf("%+v", r.List)
	}
	if h := history(t, path, "", true); len(h.List) != 5 {
		t.Errorf("%d versions", len(h.List))
	}
	if d := diff(t, path, path, query.DiffOptions{OldRevision: 4}); d.Counts.Old != 1 || d.Counts.New != 1 || d.Counts.Changed != 1 {
		t.Errorf("%+v", d.Counts)
	}
}

// TestBumpRecordIsInNoAnswer: etcdutl 3.7 counts it as a key with an empty name.
func TestBumpRecordIsInNoAnswer(t *testing.T) {
	before, after := snapshotOf(t, "healthy-3.6"), fixtures.Databases(t, "bumped-3.6")[0]
	plain, bumped := get(t, before, "", true, 0), get(t, after, "", true, 0)
	if len(bumped.List) != len(plain.List) || bumped.Revision != plain.Revision+1000000 {
		t.Errorf("%d keys at %d, before the bump %d at %d", len(bumped.List), bumped.Revision, len(plain.List), plain.Revision)
	}
	for _, e := range history(t, after, "", true).List {
		if len(e.Key) == 0 {
			t.Errorf("the bump record is an event of a key: %+v", e)
		}
	}
	if d := diff(t, before, after, query.DiffOptions{}); d.Counts.Old != d.Counts.New || d.Counts.Same != d.Counts.Old || len(d.Keys) > 0 {
		t.Errorf("%+v, %+v", d.Counts, d.Keys)
	}
}

// TestServicesAndGroupsAreComparedByResource: octosql cuts the keys of services and of
// cluster-scoped objects with a group in the wrong places.
func TestServicesAndGroupsAreComparedByResource(t *testing.T) {
	old := writeStore(t, func(mvcc.KV) {})
	now := writeStore(t, func(kv mvcc.KV) {
		for _, key := range []string{
			"services/specs/default/kubernetes", "services/endpoints/default/kubernetes", "services/specs/shop/cart",
			"apiregistration.k8s.io/apiservices/v1.apps", "example.io/widgets/shop/w", "pods/shop/cart-0",
		} {
			kv.Put([]byte("/registry/"+key), []byte("v"), lease.NoLease)
		}
	})
	var rows []string
	for _, r := range diff(t, old, now, query.DiffOptions{}).Prefixes {
		rows = append(rows, fmt.Sprint(string(r.Prefix), " ", r.Added))
	}
	slices.Sort(rows)
	if want := []string{
		"/registry/apiregistration.k8s.io/apiservices/ 1", "/registry/example.io/widgets/ 1", "/registry/pods/ 1",
		"/registry/services/endpoints/ 1", "/registry/services/specs/ 2",
	}; !slices.Equal(rows, want) {
		t.Errorf("%q", rows)
	}
}

// TestWALIsShownFromItsBeginning: etcd-dump-logs begins behind the last snapshot, so that a
// log seems to be empty, prints pointers for numbers, and panics on entries of 3.7,
// which leave the type of a normal entry out.
func TestWALIsShownFromItsBeginning(t *testing.T) {
	w := openWAL(t, filepath.Join(fixtures.Dir(t, "cluster3-3.7-crash"), "m1"))
	rows, totals := rowsOf(t, w, query.WALFilter{})
	normal, snapshots := 0, 0
	commit := ""
	for _, r := range rows {
		switch {
		case r.Entry && r.Kind == "put":
			normal++
		case r.Type == "snapshot" && r.Index > 0:
			snapshots++
		case r.Type == "state":
			commit = string(r.Detail)
		}
	}
	first := slices.IndexFunc(rows, func(r query.WALRow) bool { return r.Entry })
	if rows[first].Index != 1 || totals.Entries != 2562 || normal < 1000 || snapshots == 0 {
		t.Errorf("from index %d on, %d entries, %d puts, %d snapshots", rows[first].Index, totals.Entries, normal, snapshots)
	}
	if want := fmt.Sprintf("commit index %d", *w.WAL.Commit); !strings.HasSuffix(commit, want) {
		t.Errorf("the last hard state is %q, not of %s", commit, want)
	}
}

// TestIndexIsNoRevision: OpenShift's restore takes the one for the other.
func TestIndexIsNoRevision(t *testing.T) {
	w := openWAL(t, filepath.Join(fixtures.Dir(t, "healthy-3.6"), "m1"))
	rows, _ := rowsOf(t, w, query.WALFilter{From: 1105, To: 1105})
	if len(rows) == 0 || rows[len(rows)-1].Index != 1105 || rows[len(rows)-1].Revision != 1094 {
		t.Errorf("%+v", rows)
	}
}

package query_test

import (
	"bytes"
	"context"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/storage/mvcc"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect/query"
	"etcd-forensics/snapdb/scan"
)

func keysAt(t *testing.T, store mvcc.KV, rev int64) map[string]*mvccpb.KeyValue {
	t.Helper()
	r, err := store.Range(context.Background(), []byte{0}, []byte{}, mvcc.RangeOptions{Rev: rev})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*mvccpb.KeyValue{}
	for _, kv := range r.KVs {
		all[string(kv.Key)] = kv
	}
	return all
}

func expected(old, now *mvccpb.KeyValue) scan.Change {
	switch {
	case old == nil:
		return scan.Added
	case now == nil:
		return scan.Removed
	case old.CreateRevision != now.CreateRevision:
		return scan.Recreated
	case old.ModRevision != now.ModRevision || old.Lease != now.Lease || !bytes.Equal(old.Value, now.Value):
		return scan.Changed
	}
	return scan.Same
}

// TestDiffIsThatOfEtcdsStore compares two members of a crashed cluster, and one store at
// two revisions, with what etcd's own store gives for the same.
func TestDiffIsThatOfEtcdsStore(t *testing.T) {
	crashed, healthy := fixtures.Databases(t, "cluster3-3.7-crash"), fixtures.Databases(t, "healthy-3.6")[0]
	for name, tt := range map[string]struct {
		from, to       string
		oldRev, newRev int64
	}{
		"a member that was stopped before another": {from: crashed[2], to: crashed[0]},
		"the other way round":                      {from: crashed[0], to: crashed[2]},
		"two revisions of one":                     {from: healthy, to: healthy, oldRev: 1050},
		"two revisions back":                       {from: healthy, to: healthy, oldRev: 1196, newRev: 1050},
	} {
		t.Run(name, func(t *testing.T) {
			old, now := keysAt(t, etcdStore(t, tt.from), tt.oldRev), keysAt(t, etcdStore(t, tt.to), tt.newRev)
			r, err := query.Diff(t.Context(), openSource(t, tt.from), openSource(t, tt.to), query.DiffOptions{OldRevision: tt.oldRev, NewRevision: tt.newRev, MaxKeys: 1 << 20})
			if err != nil {
				t.Fatal(err)
			}
			if r.Counts.Old != int64(len(old)) || r.Counts.New != int64(len(now)) {
				t.Errorf("%d and %d keys, etcd has %d and %d", r.Counts.Old, r.Counts.New, len(old), len(now))
			}
			found := map[string]bool{}
			for i, k := range r.Keys {
				a, b := old[string(k.Key)], now[string(k.Key)]
				if want := expected(a, b); want != k.Change || found[string(k.Key)] {
					t.Errorf("%q: %v, want %v; given before: %v", k.Key, k.Change, want, found[string(k.Key)])
				}
				found[string(k.Key)] = true
				if a != nil && k.Old != a.ModRevision || b != nil && k.New != b.ModRevision {
					t.Errorf("%q: mod revisions %d and %d", k.Key, k.Old, k.New)
				}
				if a != nil && b != nil && k.ValueChanged != (a.Lease != b.Lease || !bytes.Equal(a.Value, b.Value)) {
					t.Errorf("%q: value changed is %v", k.Key, k.ValueChanged)
				}
				if i > 0 && bytes.Compare(r.Keys[i-1].Key, k.Key) >= 0 {
					t.Errorf("%q behind %q", k.Key, r.Keys[i-1].Key)
				}
			}
			for key := range now {
				if expected(old[key], now[key]) != scan.Same && !found[key] {
					t.Errorf("%q is missing", key)
				}
			}
			for key := range old {
				if now[key] == nil && !found[key] {
					t.Errorf("%q is missing", key)
				}
			}
			var sum scan.DiffCounts
			for _, p := range r.Prefixes {
				sum.Added, sum.Removed, sum.Changed, sum.Recreated = sum.Added+p.Added, sum.Removed+p.Removed, sum.Changed+p.Changed, sum.Recreated+p.Recreated
			}
			sum.Old, sum.New, sum.Same = r.Counts.Old, r.Counts.New, r.Counts.Same
			if sum != r.Counts || len(found) == 0 || r.OtherKeys != 0 {
				t.Errorf("the prefixes add up to %+v, the whole is %+v", sum, r.Counts)
			}
		})
	}
}

func TestDiffListsTheFirstKeys(t *testing.T) {
	src := openSource(t, fixtures.Databases(t, "healthy-3.6")[0])
	all, err := query.Diff(t.Context(), src, src, query.DiffOptions{OldRevision: 1050, MaxKeys: 1000})
	if err != nil {
		t.Fatal(err)
	}
	few, err := query.Diff(t.Context(), src, src, query.DiffOptions{OldRevision: 1050, MaxKeys: 7})
	if err != nil {
		t.Fatal(err)
	}
	if len(few.Keys) != 7 || few.OtherKeys != int64(len(all.Keys)-7) || few.Counts != all.Counts {
		t.Errorf("%d keys and %d others of %d", len(few.Keys), few.OtherKeys, len(all.Keys))
	}
	for i := range few.Keys {
		if !bytes.Equal(few.Keys[i].Key, all.Keys[i].Key) {
			t.Errorf("%q in the place of %q", few.Keys[i].Key, all.Keys[i].Key)
		}
	}
}

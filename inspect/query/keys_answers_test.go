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

// Other tools answer these questions wrongly: etcdutl 3.5 counts revisions as keys, 3.7 a
// bumped store's mark as a key, auger deleted keys and one revision too few behind a
// deletion; octosql's tables count revisions and cut the keys of services and of groups
// in the wrong places.

func TestRevisionsAreNotKeys(t *testing.T) {
	path := writeStore(t, func(kv mvcc.KV) {
		for n := range 5 {
			kv.Put([]byte("/a/b/often"), fmt.Append(nil, n), lease.NoLease)
		}
		kv.Put([]byte("/a/b/once"), []byte("v"), lease.NoLease)
	})
	r := countKeys(t, path, defaults())
	if r.Live != 2 || r.Revisions != 6 || r.Tombstones != 0 || len(r.Hottest) != 1 || string(r.Hottest[0].Key) != "/a/b/often" || r.Hottest[0].Revisions != 5 || r.Hottest[0].Version != 5 {
		t.Errorf("%+v, %+v", r.KeyCounts, r.Hottest)
	}
	if len(r.Prefixes) != 1 || r.Prefixes[0].KeyCounts != r.KeyCounts {
		t.Errorf("%+v", r.Prefixes)
	}
}

func TestDeletionIsTheNewestRevisionAndItsKeyIsNotThere(t *testing.T) {
	path := writeStore(t, func(kv mvcc.KV) {
		for n := range 40 { // revisions 2 to 41
			kv.Put(fmt.Appendf(nil, "/a/b/%02d", n), []byte("v"), lease.NoLease)
		}
		kv.DeleteRange([]byte("/a/b/07"), nil)
	})
	r := countKeys(t, path, defaults())
	if r.Revision != 42 || r.Live != 39 || r.Revisions != 41 || r.Tombstones != 1 {
		t.Errorf("revision %d, %+v", r.Revision, r.KeyCounts)
	}
	opts := defaults()
	opts.Revision = 41
	if r := countKeys(t, path, opts); r.Revision != 41 || r.Live != 40 || r.Revisions != 40 || r.Tombstones != 0 {
		t.Errorf("before it: revision %d, %+v", r.Revision, r.KeyCounts)
	}
}

func TestRecreatedKeyCountsOnceAsItIsNow(t *testing.T) {
	const old, now = 5000, 10
	path := writeStore(t, func(kv mvcc.KV) {
		kv.Put([]byte("/a/b/again"), []byte(strings.Repeat("o", old)), lease.NoLease)
		kv.DeleteRange([]byte("/a/b/again"), nil)
		kv.Put([]byte("/a/b/again"), []byte(strings.Repeat("n", now)), lease.NoLease)
	})
	r := countKeys(t, path, defaults())
	if r.Live != 1 || r.Revisions != 3 || r.Tombstones != 1 || r.LiveBytes >= old || r.HistoryBytes <= old {
		t.Errorf("%+v", r.KeyCounts)
	}
	if len(r.Largest) != 1 || r.Largest[0].ValueSize != now || r.Largest[0].Version != 1 || len(r.Versions) != 0 {
		t.Errorf("largest %+v, versions %+v", r.Largest, r.Versions)
	}
}

func TestServicesAndGroupsHaveTheirOwnResourceAndNamespace(t *testing.T) {
	path := writeStore(t, func(kv mvcc.KV) {
		for _, key := range []string{
			"services/specs/default/kubernetes", "services/endpoints/default/kubernetes", "services/specs/shop/cart",
			"apiregistration.k8s.io/apiservices/v1.apps", "apiextensions.k8s.io/customresourcedefinitions/widgets.example.io",
			"example.io/widgets/shop/w", "namespaces/shop", "pods/shop/cart-0",
		} {
			kv.Put([]byte("/registry/"+key), []byte("v"), lease.NoLease)
		}
	})
	got := ""
	opts := defaults()
	opts.Sort = "prefix"
	for _, c := range countKeys(t, path, opts).Kubernetes.Cells {
		namespace := "-"
		if c.Namespace != nil {
			namespace = string(c.Namespace)
		}
		got += fmt.Sprintf("%s %s %d\n", c.Resource, namespace, c.Live)
	}
	if want := `apiextensions.k8s.io/customresourcedefinitions - 1
apiregistration.k8s.io/apiservices - 1
example.io/widgets shop 1
namespaces - 1
pods shop 1
services/endpoints default 1
services/specs default 1
services/specs shop 1
`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestBumpRecordIsNoKey compares a restored snapshot with the snapshot.
func TestBumpRecordIsNoKey(t *testing.T) {
	plain := countKeys(t, snapshotOf(t, "healthy-3.6"), defaults())
	bumped := countKeys(t, fixtures.Databases(t, "bumped-3.6")[0], defaults())
	want := plain.KeyCounts
	want.Revisions++
	want.HistoryBytes = bumped.HistoryBytes // the record has a few bytes
	if bumped.KeyCounts != want || bumped.Live != 782 || bumped.Revision != plain.Revision+1000000 || bumped.HistoryBytes <= plain.HistoryBytes {
		t.Errorf("%+v at %d, before the bump %+v at %d", bumped.KeyCounts, bumped.Revision, plain.KeyCounts, plain.Revision)
	}
	for _, k := range slices.Concat(bumped.Hottest, bumped.Versions, bumped.Largest) {
		if len(k.Key) == 0 {
			t.Errorf("the bump record is listed as a key: %+v", k)
		}
	}
}

func snapshotOf(t *testing.T, name string) string {
	t.Helper()
	return filepath.Join(fixtures.Dir(t, name), "snapshot.db")
}

// TestKeysOfOneMeasure names the first by name, or the oldest when there are too many to
// name them all. Here names run against revisions.
func TestKeysOfOneMeasure(t *testing.T) {
	for _, c := range []struct {
		keys int
		want string
	}{{200, "/a/b/800 /a/b/801 /a/b/802"}, {300, "/a/b/999 /a/b/998 /a/b/997"}} {
		path := writeStore(t, func(kv mvcc.KV) {
			for range 2 {
				for n := range c.keys {
					kv.Put(fmt.Appendf(nil, "/a/b/%d", 999-n), []byte("v"), lease.NoLease)
				}
			}
		})
		opts := defaults()
		opts.Top = 3
		r := countKeys(t, path, opts)
		for _, list := range [][]query.KeyCount{r.Hottest, r.Versions} {
			var names []string
			for _, k := range list {
				names = append(names, string(k.Key))
			}
			if got := strings.Join(names, " "); got != c.want {
				t.Errorf("%d keys: %s, want %s", c.keys, got, c.want)
			}
		}
	}
}

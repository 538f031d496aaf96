package query_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"go.etcd.io/etcd/pkg/v3/traceutil"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.uber.org/zap"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
	"etcd-forensics/inspect/source"
)

// defaults are the options of the command without flags.
func defaults() query.KeysOptions {
	return query.KeysOptions{Depth: 2, Delimiter: "/", Sort: query.KeySorts[0]}
}

func countKeys(t *testing.T, path string, opts query.KeysOptions) *query.KeysResult {
	t.Helper()
	r, err := query.CountKeys(t.Context(), openSource(t, path), opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// writeStore lets etcd's own store write a database.
func writeStore(t *testing.T, write func(mvcc.KV)) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "db")
	be := backend.NewDefaultBackend(zap.NewNop(), path)
	store := mvcc.New(zap.NewNop(), be, &lease.FakeLessor{}, mvcc.StoreConfig{})
	write(store)
	store.Commit()
	store.Close()
	if err := be.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func live(rows []query.KeyRow) map[string]int64 {
	of := map[string]int64{}
	for _, r := range rows {
		of[string(r.Prefix)] = r.Live
	}
	return of
}

func TestDepthCountsDelimiters(t *testing.T) {
	for _, c := range []struct {
		key, delimiter string
		depth          int
		prefix         string
	}{
		{"/registry/pods/ns/a", "/", 1, "/registry/"},
		{"/registry/pods/ns/a", "/", 2, "/registry/pods/"},
		{"/registry/pods/ns/a", "/", 3, "/registry/pods/ns/"},
		{"/registry/pods/ns/a", "/", 9, "/registry/pods/ns/"},
		{"a/b/c", "/", 2, "a/b/"},
		{"/registry/x", "/", 2, "/registry/"},
		{"plain", "/", 2, ""},
		{"/x", "/", 1, ""},
		{"//x", "/", 1, "//"},
		{"a//b", "/", 2, "a//"},
		{"a/", "/", 1, "a/"},
		{"a.b.c", ".", 1, "a."},
		{".a.b", ".", 1, ".a."},
		{"a→b→c", "→", 1, "a→"},
		{"→a→b", "→", 1, "→a→"},
		{"\xff/\x00/x", "/", 2, "\xff/\x00/"},
	} {
		path := writeStore(t, func(kv mvcc.KV) { kv.Put([]byte(c.key), []byte("v"), lease.NoLease) })
		opts := defaults()
		opts.Depth, opts.Delimiter = c.depth, c.delimiter
		for _, mode := range []query.KubernetesMode{query.KubernetesAuto, query.KubernetesOn, query.KubernetesOff} {
			opts.Kubernetes = mode
			if got := live(countKeys(t, path, opts).Prefixes); len(got) != 1 || got[c.prefix] != 1 {
				t.Errorf("%q at %d, mode %d: %v, want %q", c.key, c.depth, mode, got, c.prefix)
			}
		}
	}
}

// TestKeysAreInspects compares totals with those of the examination, and adds the file
// up, for everything that has keys at all, damaged or not.
func TestKeysAreInspects(t *testing.T) {
	var counted atomic.Int32
	t.Cleanup(func() {
		if n := counted.Load(); n < 100 {
			t.Errorf("only %d databases were counted", n)
		}
	})
	for _, f := range fixtures.All() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			dir := fixtures.Dir(t, f.Name)
			for _, s := range f.Sources {
				src := openSource(t, filepath.Join(dir, s))
				r, err := query.CountKeys(t.Context(), src, defaults())
				switch {
				case errors.Is(err, inspect.ErrNoKeys) || errors.Is(err, inspect.ErrNoMeta) || errors.Is(err, inspect.ErrNoDatabase):
					continue
				case err != nil:
					t.Fatal(err)
				}
				counted.Add(1)
				addsUpToTheFile(t, s, r)
				c, err := inspect.Inspect(t.Context(), []*source.Source{openSource(t, filepath.Join(dir, s))}, inspect.Options{})
				if err != nil {
					t.Fatal(err)
				}
				if be := c.Members[0].Backend; be.Complete {
					sameTotals(t, s, r, be)
				} else if r.Whole && be.Pages.Damaged > 0 {
					t.Errorf("%s: nothing is said of the damage", s)
				}
			}
		})
	}
}

func sameTotals(t *testing.T, name string, r *query.KeysResult, be *inspect.Backend) {
	t.Helper()
	want := query.KeyCounts{Live: be.Keys.Live, Revisions: be.Keys.Revisions, Tombstones: be.Keys.Tombstones, LiveBytes: be.Space.LiveBytes, HistoryBytes: be.Space.HistoryBytes}
	if r.KeyCounts != want || r.Revision != *be.Revision || r.CompactRevision != *be.CompactRevision || !r.Whole {
		t.Errorf("%s: %+v at %d, compacted at %d, whole %v; inspect has %+v at %d, compacted at %d", name, r.KeyCounts, r.Revision, r.CompactRevision, r.Whole, want, *be.Revision, *be.CompactRevision)
	}
	if fmt.Sprint(r.Alarms) != fmt.Sprint(be.Alarms) {
		t.Errorf("%s: alarms %v, inspect has %v", name, r.Alarms, be.Alarms)
	}
}

func addsUpToTheFile(t *testing.T, name string, r *query.KeysResult) {
	t.Helper()
	sum := r.Other.KeyCounts
	for _, row := range r.Prefixes {
		sum.Live += row.Live
		sum.Revisions += row.Revisions
		sum.Tombstones += row.Tombstones
		sum.LiveBytes += row.LiveBytes
		sum.HistoryBytes += row.HistoryBytes
	}
	if sum != r.KeyCounts {
		t.Errorf("%s: the prefixes add up to %+v, the total is %+v", name, sum, r.KeyCounts)
	}
	s := r.Space
	parts := s.LiveBytes + s.HistoryBytes + s.LaterBytes + s.OverheadBytes + s.MetaBytes + s.FreeBytes + s.UnreachableBytes + s.DamagedBytes + s.BeyondBytes + s.TrailerBytes
	if parts != s.FileBytes {
		t.Errorf("%s: %d bytes of %d: %+v", name, parts, s.FileBytes, s)
	}
	if r.Whole && (s.OverheadBytes < s.RoomBytes || s.RoomBytes < 0) {
		t.Errorf("%s: %d bytes of room in %d of overhead", name, s.RoomBytes, s.OverheadBytes)
	}
}

// TestKeysAsOfARevisionAreEtcds compares the live keys of each prefix with a range request
// at that revision.
func TestKeysAsOfARevisionAreEtcds(t *testing.T) {
	for _, name := range []string{"healthy-3.4", "healthy-3.6", "healthy-3.8"} {
		t.Run(name, func(t *testing.T) {
			path := fixtures.Databases(t, name)[0]
			store := etcdStore(t, path)
			first, last := max(store.FirstRev(), 1), store.Rev()
			for rev := first; rev <= last; rev += max(1, (last-first)/7) {
				theirs, err := store.Range(context.Background(), []byte{0}, []byte{}, mvcc.RangeOptions{Rev: rev})
				if err != nil {
					t.Fatal(err)
				}
				opts := defaults()
				opts.Revision = rev
				ours := countKeys(t, path, opts)
				addsUpToTheFile(t, name, ours)
				want := map[string]int64{}
				for _, kv := range theirs.KVs {
					words := bytes.SplitAfter(bytes.TrimPrefix(kv.Key, []byte("/")), []byte("/"))
					prefix := bytes.Join(words[:min(2, len(words)-1)], nil)
					if len(prefix) > 0 && kv.Key[0] == '/' {
						prefix = append([]byte("/"), prefix...)
					}
					want[string(prefix)]++
				}
				got := live(ours.Prefixes)
				maps.DeleteFunc(got, func(_ string, n int64) bool { return n == 0 })
				if !maps.Equal(got, want) || ours.Live != int64(len(theirs.KVs)) {
					t.Errorf("at %d: %v, etcd has %v", rev, got, want)
				}
			}
		})
	}
}

func TestRevisionsThatCannotBeHad(t *testing.T) {
	src := openSource(t, fixtures.Databases(t, "healthy-3.6")[0])
	for rev, want := range map[int64]error{1041: inspect.ErrCompacted, 1042: nil, 1196: nil, 1197: inspect.ErrFutureRev} {
		opts := defaults()
		opts.Revision = rev
		if _, err := query.CountKeys(t.Context(), src, opts); !errors.Is(err, want) {
			t.Errorf("at %d: %v", rev, err)
		}
	}
}

// TestCompactionAndDefragmentationFreeWhatWasSaid lets etcd do both.
func TestCompactionAndDefragmentationFreeWhatWasSaid(t *testing.T) {
	for _, name := range []string{"healthy-3.4", "healthy-3.6", "healthy-3.8", "bumped-3.6-started"} {
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile(fixtures.Databases(t, name)[0])
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "db")
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			before := countKeys(t, path, defaults())
			etcd(t, path, func(_ backend.Backend, kv mvcc.WatchableKV) {
				if before.Revision == before.CompactRevision {
					return // etcd refuses to
				}
				_, trace := traceutil.EnsureTrace(context.Background(), zap.NewNop(), "compaction")
				done, err := kv.Compact(trace, before.Revision)
				if err != nil {
					t.Fatal(err)
				}
				<-done
			})
			compacted := countKeys(t, path, defaults())
			c := before.Space.Compaction
			if compacted.Live != before.Live || compacted.LiveBytes != before.LiveBytes ||
				compacted.Revisions != before.Revisions-c.Records || compacted.HistoryBytes != before.HistoryBytes-c.FreeBytes {
				t.Errorf("%+v became %+v by a compaction that was to free %+v", before.KeyCounts, compacted.KeyCounts, c)
			}
			if again := compacted.Space.Compaction; again.Records != 0 || again.FreeBytes != 0 {
				t.Errorf("a second compaction is to free %+v", again)
			}
			var size int64
			etcd(t, path, func(be backend.Backend, _ mvcc.WatchableKV) {
				if err := be.Defrag(); err != nil {
					t.Fatal(err)
				}
				size = be.Size()
			})
			after := countKeys(t, path, defaults())
			s, a := compacted.Space, after.Space
			// Pages that were dense become a little less so, and some room goes.
			slack := s.SizeBytes / 50
			if freed := s.SizeBytes - size; freed < s.Defrag.FreeBytes-slack || freed > s.Defrag.FreeBytes+s.RoomBytes+slack {
				t.Errorf("a defragmentation that was to free %d, and of %d room some, has freed %d", s.Defrag.FreeBytes, s.RoomBytes, freed)
			}
			if a.SizeBytes < size || after.KeyCounts != compacted.KeyCounts {
				t.Errorf("etcd says %d bytes, the file %d; %+v became %+v", size, a.SizeBytes, compacted.KeyCounts, after.KeyCounts)
			}
		})
	}
}

func etcd(t *testing.T, path string, do func(backend.Backend, mvcc.WatchableKV)) {
	t.Helper()
	be := backend.NewDefaultBackend(zap.NewNop(), path)
	kv := mvcc.New(zap.NewNop(), be, &lease.FakeLessor{}, mvcc.StoreConfig{})
	do(be, kv)
	kv.Commit()
	kv.Close()
	if err := be.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRowsAreSortedAndFolded(t *testing.T) {
	path := fixtures.Databases(t, "healthy-3.6")[0]
	of := map[query.KeySort]func(c *query.KeyCounts) int64{
		"live-bytes": func(c *query.KeyCounts) int64 { return c.LiveBytes }, "history-bytes": func(c *query.KeyCounts) int64 { return c.HistoryBytes },
		"live": func(c *query.KeyCounts) int64 { return c.Live }, "revisions": func(c *query.KeyCounts) int64 { return c.Revisions },
		"tombstones": func(c *query.KeyCounts) int64 { return c.Tombstones }, "prefix": func(*query.KeyCounts) int64 { return 0 },
	}
	for _, by := range query.KeySorts {
		opts := defaults()
		opts.Sort = by
		r := countKeys(t, path, opts)
		if !slices.IsSortedFunc(r.Prefixes, func(a, b query.KeyRow) int {
			return cmp.Or(cmp.Compare(of[by](&b.KeyCounts), of[by](&a.KeyCounts)), bytes.Compare(a.Prefix, b.Prefix))
		}) {
			t.Errorf("by %s: %+v", by, r.Prefixes)
		}
		listed, rest := query.Listed(r.Prefixes, r.Other, 3)
		if len(listed) != 3 || rest.Rows != int64(len(r.Prefixes)-3) {
			t.Fatalf("by %s: %d rows and %d others of %d", by, len(listed), rest.Rows, len(r.Prefixes))
		}
		r.Prefixes, r.Other = listed, rest
		addsUpToTheFile(t, string(by), r)
	}
	opts := defaults()
	opts.Limits = inspect.Limits{Prefixes: 4}
	r := countKeys(t, path, opts)
	if len(r.Prefixes) > 4 || r.Other.Rows == 0 {
		t.Errorf("%d rows and %d others", len(r.Prefixes), r.Other.Rows)
	}
	addsUpToTheFile(t, "folded", r)
}

// objects are keys such as an API server writes, and some that are none of its own.
func objects(prefix string) []string {
	keys := []string{
		"/namespaces/default", "/namespaces/kube-system", "/services/specs/default/kubernetes", "/services/endpoints/default/kubernetes",
		"/masterleases/10.0.0.1", "/masterleases/10.0.0.2", "/ranges/serviceips", "/minions/node-1", "/events/default/a.1", "/events/default/a.2",
		"/apiregistration.k8s.io/apiservices/v1.apps", "/apiregistration.k8s.io/apiservices/v1.", "/apiextensions.k8s.io/customresourcedefinitions/a.b.c",
		"/management.cattle.io/clusters/local", "/management.cattle.io/clusters/c-1", "/management.cattle.io/nodes/local/n1", "/management.cattle.io/settings/x",
		"/catalog.cattle.io/apps/ns-1/app", "/cert-manager.io/certificates/ns-1/site", "/cert-manager.io/certificaterequests/ns-1/site-1", "/cert-manager.io/certificates/ns-2/site",
	}
	for n := range 40 {
		keys = append(keys, fmt.Sprintf("/pods/ns-%d/p-%d", n%4, n), fmt.Sprintf("/configmaps/ns-%d/c-%d", n%3, n))
	}
	for i := range keys {
		keys[i] = prefix + keys[i]
	}
	return keys
}

func writeObjects(t *testing.T, prefix string) (path string, keys []string) {
	t.Helper()
	keys = objects(prefix)
	path = writeStore(t, func(kv mvcc.KV) {
		for _, key := range append(keys, "compact_rev_key", prefix+"/pods/ns-9/gone", prefix+"/pods/ns-0/p-0") {
			kv.Put([]byte(key), []byte(key), lease.NoLease)
		}
		kv.DeleteRange([]byte(prefix+"/pods/ns-9/gone"), nil)
	})
	return path, keys
}

// awkLine counts keys as operators of Rancher do: cattle.io groups with their resource,
// everything else by the third word.
const awkLine = `{ if ($3 ~ /cattle.io/) {h[$3"/"$4]++} else { h[$3]++ }} END { for(k in h) print h[k], k }`

func TestResourcesAreThoseOfTheAwkLine(t *testing.T) {
	awk, err := exec.LookPath("awk")
	if err != nil {
		t.Skip("no awk here")
	}
	written, _ := writeObjects(t, "/registry")
	for name, path := range map[string]string{"objects of many groups": written, "healthy-3.6": fixtures.Databases(t, "healthy-3.6")[0], "healthy-3.8": fixtures.Databases(t, "healthy-3.8")[0]} {
		t.Run(name, func(t *testing.T) {
			listed, err := etcdStore(t, path).Range(context.Background(), []byte("/registry/"), []byte("/registry0"), mvcc.RangeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			keys := ""
			for _, kv := range listed.KVs {
				keys += string(kv.Key) + "\n"
			}
			cmd := exec.Command(awk, "-F/", awkLine)
			cmd.Stdin = strings.NewReader(keys)
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Split(strings.TrimSpace(string(out)), "\n")
			got := asAwkCounts(countKeys(t, path, defaults()).Kubernetes)
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) || len(want) < 5 {
				t.Errorf("%q, awk has %q", got, want)
			}
		})
	}
}

// asAwkCounts adds up what the awk line does not tell apart: other groups, and services, it
// knows by their first word alone.
func asAwkCounts(k *query.KubernetesKeys) []string {
	sums := map[string]int64{}
	for _, r := range k.Resources {
		name := string(r.Resource)
		if first, _, _ := strings.Cut(name, "/"); !strings.Contains(first, "cattle.io") {
			name = first
		}
		if r.Live > 0 {
			sums[name] += r.Live
		}
	}
	var lines []string
	for name, n := range sums {
		lines = append(lines, fmt.Sprintf("%d %s", n, name))
	}
	return lines
}

func TestObjectsAreCountedByResourceAndNamespace(t *testing.T) {
	for _, prefix := range []string{"/registry", "/kubernetes.io", "/my/own", ""} {
		path, _ := writeObjects(t, prefix)
		for _, depth := range []int{1, 2, 3, 9} {
			opts := defaults()
			opts.Depth = depth
			r := countKeys(t, path, opts)
			k := r.Kubernetes
			if k == nil || k.Prefix != prefix {
				t.Fatalf("%q: %+v", prefix, k)
			}
			resources := map[string]string{}
			for _, c := range k.Resources {
				resources[string(c.Resource)] = fmt.Sprintf("%s %d %d %d %d", c.Group, c.Live, c.Revisions, c.Tombstones, c.Namespaces)
				if !c.Namespaced {
					resources[string(c.Resource)] = fmt.Sprintf("%s %d cluster", c.Group, c.Live)
				}
			}
			for name, want := range map[string]string{
				"pods": " 40 43 1 4", "configmaps": " 40 40 0 3", "services/specs": " 1 1 0 1", "services/endpoints": " 1 1 0 1", "events": " 2 2 0 1",
				"masterleases": " 2 cluster", "namespaces": " 2 cluster", "minions": " 1 cluster", "ranges": " 1 cluster",
				"apiregistration.k8s.io/apiservices":             "apiregistration.k8s.io 2 cluster",
				"apiextensions.k8s.io/customresourcedefinitions": "apiextensions.k8s.io 1 cluster",
				"management.cattle.io/clusters":                  "management.cattle.io 2 cluster", "management.cattle.io/settings": "management.cattle.io 1 cluster",
				"management.cattle.io/nodes": "management.cattle.io 1 1 0 1", "catalog.cattle.io/apps": "catalog.cattle.io 1 1 0 1",
				"cert-manager.io/certificates": "cert-manager.io 2 2 0 2", "cert-manager.io/certificaterequests": "cert-manager.io 1 1 0 1",
			} {
				if resources[name] != want {
					t.Errorf("%q: %s is %q, want %q", prefix, name, resources[name], want)
				}
			}
			if len(resources) != 17 {
				t.Errorf("%q: %v", prefix, resources)
			}
			namespaces := map[string]string{}
			for _, n := range k.Namespaces {
				namespaces[string(n.Namespace)] = fmt.Sprintf("%d %d", n.Live, n.Resources)
			}
			if want := map[string]string{"default": "4 3", "local": "1 1", "ns-0": "24 2", "ns-1": "26 5", "ns-2": "24 3", "ns-3": "10 1", "ns-9": "0 0"}; !maps.Equal(namespaces, want) {
				t.Errorf("%q: namespaces %v, want %v", prefix, namespaces, want)
			}
			if k.Outside.Live != 1 || k.Folded.Rows != 0 {
				t.Errorf("%q: outside %+v, folded %+v", prefix, k.Outside, k.Folded)
			}
			opts.Kubernetes = query.KubernetesOff
			off := countKeys(t, path, opts)
			if off.Kubernetes != nil || fmt.Sprint(off.Prefixes) != fmt.Sprint(r.Prefixes) {
				t.Errorf("%q at depth %d: the prefixes are %v, and without Kubernetes %v", prefix, depth, live(r.Prefixes), live(off.Prefixes))
			}
		}
	}
}

func TestKubernetesIsFoundOutOrNamed(t *testing.T) {
	path := writeStore(t, func(kv mvcc.KV) {
		for n := range 20 {
			kv.Put(fmt.Appendf(nil, "/cluster/pods/default/p-%d", n), []byte("v"), lease.NoLease)
			kv.Put(fmt.Appendf(nil, "jobs/%d", n), []byte("v"), lease.NoLease)
			kv.Put(fmt.Appendf(nil, "jobs/%d", n), []byte("w"), lease.NoLease)
		}
		kv.Put([]byte("/registry/a/b"), []byte("v"), lease.NoLease)
	})
	for _, c := range []struct {
		mode   query.KubernetesMode
		named  string
		prefix string
		pods   int64 // -1 when they are not counted as an API server's
	}{
		{query.KubernetesAuto, "", "", -1}, // one key of an API server makes no API server
		{query.KubernetesOn, "", "/registry", 0},
		{query.KubernetesAuto, "/cluster", "/cluster", 20},
		{query.KubernetesAuto, "cluster/", "/cluster", 20},
		{query.KubernetesOn, "//cluster", "/cluster", 20},
		{query.KubernetesAuto, "/", "", 0},
		{query.KubernetesOff, "", "", -1},
	} {
		opts := defaults()
		opts.Kubernetes, opts.EtcdPrefix = c.mode, c.named
		k := countKeys(t, path, opts).Kubernetes
		if k == nil {
			if c.pods >= 0 {
				t.Errorf("%+v: not counted", c)
			}
			continue
		}
		var pods int64
		for _, r := range k.Resources {
			if string(r.Resource) == "pods" {
				pods = r.Live
			}
		}
		if k.Prefix != c.prefix || pods != c.pods {
			t.Errorf("%+v: %q with %d pods", c, k.Prefix, pods)
		}
	}
}

func TestQuotaIsHeldAgainstThePagesBelowTheMark(t *testing.T) {
	path := fixtures.Databases(t, "healthy-3.6")[0]
	r := countKeys(t, path, defaults())
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(copied, b, 0o600); err != nil {
		t.Fatal(err)
	}
	var size int64
	etcd(t, copied, func(be backend.Backend, _ mvcc.WatchableKV) { size = be.Size() })
	if s := r.Space; s.SizeBytes != size || len(s.Quotas) != 2 || s.Quotas[0].Bytes != 2<<30 || s.Quotas[1].Bytes != 8<<30 {
		t.Errorf("%d bytes against %+v, etcd says %d", s.SizeBytes, s.Quotas, size)
	}
	opts := defaults()
	opts.Quota = r.Space.SizeBytes / 2
	if q := countKeys(t, path, opts).Space.Quotas; len(q) != 1 || q[0].Share != 2 || q[0].LeftBytes != -opts.Quota {
		t.Errorf("%+v", q)
	}
}

package inspect_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/pkg/v3/traceutil"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/inspect/inspecttest"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb/keyspace"
)

func compareAll(t testing.TB, paths ...string) *inspect.Case {
	t.Helper()
	return inspecttest.Paths(t, inspect.Options{}, paths...)
}

// onDB changes a copied database.
func onDB(t testing.TB, member string, change func(b *bbolt.Bucket) error) {
	t.Helper()
	path := filepath.Join(member, "member", "snap", "db")
	if strings.HasSuffix(member, ".db") {
		path = member
	}
	fixtures.Edit(t, path, func(tx *bbolt.Tx) error { return change(tx.Bucket([]byte("key"))) })
}

// record finds the first record of a key at or behind a revision.
func record(b *bbolt.Bucket, from int64) (k []byte, kv *mvccpb.KeyValue) {
	c := b.Cursor()
	for k, v := c.Seek(keyspace.Revision{Main: from}.Append(nil)); k != nil; k, v = c.Next() {
		rev, _ := keyspace.DecodeRevision(k)
		kv := &mvccpb.KeyValue{}
		if err := proto.Unmarshal(v, kv); err == nil && !rev.Tombstone && len(kv.Value) > 0 {
			return slices.Clone(k), kv
		}
	}
	return nil, nil
}

func put(b *bbolt.Bucket, k []byte, kv *mvccpb.KeyValue) error {
	v, err := proto.Marshal(kv)
	if err != nil {
		return err
	}
	return b.Put(k, v)
}

// divergings are ways in which a member's database can come to differ: above the
// compact revision of cluster3-3.7-crash, 642, and at or below it.
var divergings = []struct {
	name, kind string
	from       int64
	change     func(b *bbolt.Bucket, k []byte, kv *mvccpb.KeyValue) error
}{
	{"a value changed", inspect.DivergenceValue, 1500, func(b *bbolt.Bucket, k []byte, kv *mvccpb.KeyValue) error {
		kv.Value[0] ^= 1
		return put(b, k, kv)
	}},
	{"a lease changed", inspect.DivergenceMetadata, 1510, func(b *bbolt.Bucket, k []byte, kv *mvccpb.KeyValue) error {
		kv.Version++
		return put(b, k, kv)
	}},
	{"a revision deleted", inspect.DivergenceMissing, 1520, func(b *bbolt.Bucket, k []byte, _ *mvccpb.KeyValue) error { return b.Delete(k) }},
	{"an extra record", inspect.DivergenceExtra, 1530, func(b *bbolt.Bucket, k []byte, kv *mvccpb.KeyValue) error {
		rev, _ := keyspace.DecodeRevision(k)
		rev.Sub = 7
		kv.Key = append(kv.Key, "-more"...)
		return put(b, rev.Append(nil), kv)
	}},
	{"a value changed below the compact revision", inspect.DivergenceValue, 1, func(b *bbolt.Bucket, k []byte, kv *mvccpb.KeyValue) error {
		kv.Value[0] ^= 1
		return put(b, k, kv)
	}},
	{"a key lost below the compact revision", inspect.DivergenceMissing, 1, func(b *bbolt.Bucket, k []byte, _ *mvccpb.KeyValue) error { return b.Delete(k) }},
}

// TestDivergenceNamesMemberRevisionAndKey injures each member of a real cluster in
// each way.
func TestDivergenceNamesMemberRevisionAndKey(t *testing.T) {
	dir := fixtures.Dir(t, "cluster3-3.7-crash")
	members := []string{"m1", "m2", "m3"}
	var paths []string
	for _, m := range members {
		paths = append(paths, filepath.Join(dir, m))
	}
	for i, how := range divergings {
		path := paths[i%3]
		if !testing.Short() {
			for _, path := range paths {
				t.Run(filepath.Base(path)+" "+how.name, func(t *testing.T) { oneDiverges(t, paths, path, i) })
			}
			continue
		}
		t.Run(how.name, func(t *testing.T) { oneDiverges(t, paths, path, i) })
	}
}

func oneDiverges(t *testing.T, paths []string, injured string, way int) {
	how := divergings[way]
	db := filepath.Join(injured, "member", "snap", "db")
	whole, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(db, whole, 0o600)
	var rev keyspace.Revision
	var key []byte
	onDB(t, injured, func(b *bbolt.Bucket) error {
		k, kv := record(b, how.from)
		rev, _ = keyspace.DecodeRevision(k)
		if err := how.change(b, k, kv); err != nil {
			return err
		}
		key = kv.Key
		return nil
	})
	if how.kind == inspect.DivergenceExtra {
		rev.Sub = 7
	}
	for _, order := range [][]int{{0, 1, 2}, {2, 0, 1}} {
		c := compareAll(t, paths[order[0]], paths[order[1]], paths[order[2]])
		if *c.Comparison.Agree || len(c.Comparison.Divergences) != 1 {
			t.Fatalf("agree %t, divergences %+v", *c.Comparison.Agree, c.Comparison.Divergences)
		}
		d := c.Comparison.Divergences[0]
		if d.Member != injured || d.Revision != rev.Main || !bytes.Equal(d.Key, key) || d.Kind != how.kind || len(d.Between) < 2 {
			t.Errorf("found %+v key %s; should be %s, revision %d, key %s, %s", d, d.Key, injured, rev.Main, key, how.kind)
		}
		i := slices.IndexFunc(c.Findings, func(f inspect.Finding) bool { return f.Code == inspect.CodeClusterDiverged })
		if f := c.Findings[i]; f.Member != injured || *f.Location.Revision != rev.Main || !bytes.Equal(f.Location.Key, key) {
			t.Errorf("finding %+v", f)
		}
		if c.Comparison.Best == injured || c.Comparison.Best == "" {
			t.Errorf("best is %q", c.Comparison.Best)
		}
	}
}

// TestLogsDecideBetweenTwo: two members are left, and their logs tell which of the
// databases is right.
func TestLogsDecideBetweenTwo(t *testing.T) {
	dir := fixtures.Dir(t, "cluster3-3.7-crash")
	a, b := filepath.Join(dir, "m1"), filepath.Join(dir, "m2")
	var rev keyspace.Revision
	onDB(t, b, func(bucket *bbolt.Bucket) error {
		k, kv := record(bucket, 2000)
		rev, _ = keyspace.DecodeRevision(k)
		kv.Value[0] ^= 1
		return put(bucket, k, kv)
	})
	c := compareAll(t, a, b)
	if d := c.Comparison.Divergences; len(d) != 1 || d[0].Member != b || d[0].Revision != rev.Main || d[0].Index == nil {
		t.Errorf("%+v", d)
	}
}

// TestNothingDecidesBetweenTwoSnapshots: the difference is named, and no one blamed.
func TestNothingDecidesBetweenTwoSnapshots(t *testing.T) {
	snap, err := fixtures.ReadFile("healthy-3.7", "snapshot.db")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")
	for _, path := range []string{a, b} {
		if err := os.WriteFile(path, snap[:len(snap)-32], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	onDB(t, b, func(bucket *bbolt.Bucket) error {
		k, kv := record(bucket, 1100)
		kv.Value[0] ^= 1
		return put(bucket, k, kv)
	})
	c := compareAll(t, a, b)
	if d := c.Comparison.Divergences; len(d) != 1 || d[0].Member != "" || len(d[0].Between) != 2 {
		t.Errorf("%+v", d)
	}
}

// TestBestLosesNothingThatIsProven: for every choice of members of real clusters
// that were killed under load.
func TestBestLosesNothingThatIsProven(t *testing.T) {
	for _, name := range []string{"cluster3-3.5-crash", "cluster3-3.6-crash", "cluster3-3.7-crash"} {
		dir := fixtures.Dir(t, name)
		for set := 1; set < 8; set++ {
			var paths []string
			for i := range 3 {
				if set&(1<<i) != 0 {
					paths = append(paths, filepath.Join(dir, fmt.Sprintf("m%d", i+1)))
				}
			}
			if len(paths) < 2 {
				continue
			}
			c := compareAll(t, paths...)
			if !*c.Comparison.Agree || len(c.Comparison.Ranking) != len(paths) {
				t.Errorf("%s %v: %+v", name, paths, c.Comparison)
			}
			best := c.Comparison.Ranking[0]
			if best.Member != c.Comparison.Best || !best.Usable || best.Loses.Entries > 0 || *best.Reach < *best.ProvenCommit {
				t.Errorf("%s %v: best is %+v", name, paths, best)
			}
			for _, m := range c.Members {
				if *m.WAL.ProvenCommit > *best.Reach {
					t.Errorf("%s %v: %s proves %d", name, paths, m.Source, *m.WAL.ProvenCommit)
				}
			}
			if q := c.Comparison.Quorum; !q.Enough || q.Needed != 2 || len(q.Voters) != 3 {
				t.Errorf("%s %v: quorum %+v", name, paths, q)
			}
		}
	}
}

// TestOrderOfPathsDoesNotMatter for what is found.
func TestOrderOfPathsDoesNotMatter(t *testing.T) {
	dir := fixtures.Dir(t, "membership-3.7")
	var first string
	for _, order := range [][]string{{"m1", "m2", "m4", "snapshot.db"}, {"snapshot.db", "m4", "m2", "m1"}} {
		var paths []string
		for _, name := range order {
			paths = append(paths, filepath.Join(dir, name))
		}
		b, err := json.Marshal(compareAll(t, paths...).Comparison)
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = string(b)
		}
		if string(b) != first {
			t.Errorf("%s\nwas\n%s", b, first)
		}
	}
}

// TestOthersAreNotCompared: a directory of another cluster and a snapshot of another
// store.
func TestOthersAreNotCompared(t *testing.T) {
	dir, other := fixtures.Dir(t, "cluster3-3.7-crash"), fixtures.Dir(t, "membership-3.7")
	m1, m2 := filepath.Join(dir, "m1"), filepath.Join(dir, "m2")
	foreign, snap := filepath.Join(other, "m1"), filepath.Join(other, "snapshot.db")
	c := compareAll(t, foreign, m1, m2, snap)
	reasons := map[string]string{}
	for _, n := range c.Comparison.NotCompared {
		reasons[n.Member] = n.Reason
	}
	if !*c.Comparison.Agree || len(reasons) != 2 || !strings.Contains(reasons[foreign], "another cluster") || !strings.Contains(reasons[snap], "another store") {
		t.Errorf("%+v", c.Comparison)
	}
	if got := codes(c); !slices.Contains(got, "cluster-id-mismatch") || !slices.Contains(got, "cluster-other-store") || slices.Contains(got, "cluster-diverged") {
		t.Errorf("%v", got)
	}
	if best := c.Comparison.Best; best != m1 && best != m2 {
		t.Errorf("best is %s", best)
	}
}

// TestSnapshotsRestoredUnderOneToken: members that were restored from different
// snapshots have the same ids and different content.
func TestSnapshotsRestoredUnderOneToken(t *testing.T) {
	snap, err := fixtures.ReadFile("healthy-3.7", "snapshot.db")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var rev keyspace.Revision
	var key []byte
	var paths []string
	for i, name := range []string{"a", "b"} {
		file := filepath.Join(dir, name+".db")
		if err := os.WriteFile(file, snap[:len(snap)-32], 0o600); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			onDB(t, file, func(b *bbolt.Bucket) error {
				k, kv := record(b, 1150)
				rev, _ = keyspace.DecodeRevision(k)
				key = kv.Key
				kv.Value = append(kv.Value, '!')
				return put(b, k, kv)
			})
		}
		out := filepath.Join(dir, name)
		err := snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
			SnapshotPath: file, Name: name, OutputDataDir: out, PeerURLs: []string{fmt.Sprintf("http://%s:2380", name)},
			InitialCluster: "a=http://a:2380,b=http://b:2380", InitialClusterToken: "one", SkipHashCheck: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, out)
	}
	c := compareAll(t, paths...)
	if d := c.Comparison.Divergences; len(d) != 1 || d[0].Revision != rev.Main || !bytes.Equal(d[0].Key, key) || d[0].Kind != inspect.DivergenceValue {
		t.Errorf("%+v", c.Comparison)
	}
}

// TestQuorumIsLostWithTwoOfThree: one directory of three voters cannot elect a
// leader.
func TestQuorumIsLostWithTwoOfThree(t *testing.T) {
	dir := fixtures.Dir(t, "membership-3.7")
	c := compareAll(t, filepath.Join(dir, "m1"), filepath.Join(dir, "snapshot.db"))
	if q := c.Comparison.Quorum; q == nil || q.Enough || len(q.Startable) != 1 || len(q.Voters) != 3 {
		t.Errorf("%+v", q)
	}
	if got := codes(c); !slices.Contains(got, "cluster-quorum-lost") {
		t.Errorf("%v", got)
	}
}

// TestOlderDatabaseUnderANewerLog: m3's database in m1's directory. Nothing
// diverges, and the log brings back what the database lacks.
func TestOlderDatabaseUnderANewerLog(t *testing.T) {
	dir := fixtures.Dir(t, "cluster3-3.7-crash")
	old, err := os.ReadFile(filepath.Join(dir, "m3", "member", "snap", "db"))
	if err != nil {
		t.Fatal(err)
	}
	m1, m2 := filepath.Join(dir, "m1"), filepath.Join(dir, "m2")
	if err := os.WriteFile(filepath.Join(m1, "member", "snap", "db"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	c := compareAll(t, m1, m2)
	for _, r := range c.Comparison.Ranking {
		if !r.Usable || r.Loses.Entries > 0 {
			t.Errorf("%+v", r)
		}
	}
	if !*c.Comparison.Agree || c.Comparison.Best != m2 {
		t.Errorf("%+v", c.Comparison)
	}
}

// TestKnownIncidentsAreNamed makes the traces that they leave.
func TestKnownIncidentsAreNamed(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(b *bbolt.Bucket) error
		says   string
	}{
		{"applied twice", func(b *bbolt.Bucket) error {
			last, v := b.Cursor().Last()
			rev, _ := keyspace.DecodeRevision(last)
			kv := &mvccpb.KeyValue{}
			if err := proto.Unmarshal(v, kv); err != nil {
				return err
			}
			rev.Main, rev.Sub = rev.Main+1, 0
			kv.ModRevision, kv.Version = rev.Main, kv.Version+1
			return put(b, rev.Append(nil), kv)
		}, "issues/14685"},
		{"a hole", func(b *bbolt.Bucket) error {
			k, _ := record(b, 1500)
			return b.Delete(k)
		}, ""},
		{"lost", func(b *bbolt.Bucket) error { // one write, so that all behind it have a revision less
			var later [][2][]byte
			c := b.Cursor()
			for k, v := c.Seek(keyspace.Revision{Main: 1500}.Append(nil)); k != nil; k, v = c.Next() {
				later = append(later, [2][]byte{slices.Clone(k), slices.Clone(v)})
			}
			for i, r := range later {
				if err := b.Delete(r[0]); err != nil {
					return err
				}
				rev, _ := keyspace.DecodeRevision(r[0])
				if rev.Main == 1500 {
					continue
				}
				kv := &mvccpb.KeyValue{}
				if err := proto.Unmarshal(later[i][1], kv); err != nil {
					return err
				}
				rev.Main--
				if !rev.Tombstone {
					kv.ModRevision--
					if kv.CreateRevision > 1500 {
						kv.CreateRevision--
					}
				}
				if err := put(b, rev.Append(nil), kv); err != nil {
					return err
				}
			}
			return nil
		}, "issues/13766"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := fixtures.Dir(t, "cluster3-3.5-crash")
			m3 := filepath.Join(dir, "m3")
			onDB(t, m3, c.change)
			found := compareAll(t, filepath.Join(dir, "m1"), filepath.Join(dir, "m2"), m3)
			i := slices.IndexFunc(found.Findings, func(f inspect.Finding) bool { return f.Code == inspect.CodeClusterDiverged })
			if i < 0 || found.Findings[i].Member != m3 || !strings.Contains(found.Findings[i].Message, c.says) || c.says == "" && strings.Contains(found.Findings[i].Message, "known of") {
				t.Errorf("%+v", found.Findings)
			}
		})
	}
}

// compactAt lets etcd's own store compact a member's database.
func compactAt(t testing.TB, member string, revision int64) {
	t.Helper()
	be := backend.NewDefaultBackend(zap.NewNop(), filepath.Join(member, "member", "snap", "db"))
	store := mvcc.New(zap.NewNop(), be, &lease.FakeLessor{}, mvcc.StoreConfig{})
	_, trace := traceutil.EnsureTrace(t.Context(), zap.NewNop(), "compaction")
	done, err := store.Compact(trace, revision)
	if err != nil {
		t.Fatal(err)
	}
	<-done
	store.Commit()
	store.Close()
	if err := be.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestMembersCompactedAtDifferentRevisions are compared by what the highest
// compaction keeps: they agree, and a difference below it is found.
func TestMembersCompactedAtDifferentRevisions(t *testing.T) {
	dir := fixtures.Dir(t, "cluster3-3.7-crash")
	m1, m2, m3 := filepath.Join(dir, "m1"), filepath.Join(dir, "m2"), filepath.Join(dir, "m3")
	compactAt(t, m1, 1700)
	compactAt(t, m2, 2300) // beyond m3's newest revision, 2100
	c := compareAll(t, m1, m2, m3)
	if !*c.Comparison.Agree || len(c.Comparison.NotCompared) > 0 {
		t.Fatalf("%+v", c.Comparison)
	}
	for _, injured := range []string{m1, m2, m3} {
		db := filepath.Join(injured, "member", "snap", "db")
		whole, err := os.ReadFile(db)
		if err != nil {
			t.Fatal(err)
		}
		var key []byte
		onDB(t, injured, func(b *bbolt.Bucket) error {
			k, kv := record(b, 1) // one that all compactions keep
			key = kv.Key
			kv.Value[0] ^= 1
			return put(b, k, kv)
		})
		c := compareAll(t, m1, m2, m3)
		if d := c.Comparison.Divergences; len(d) != 1 || d[0].Member != injured || !bytes.Equal(d[0].Key, key) || d[0].Kind != inspect.DivergenceValue {
			t.Errorf("%s: %+v", filepath.Base(injured), d)
		}
		if err := os.WriteFile(db, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDeletionsAtTheCompactRevisionAreNoDivergence: some versions keep them. The
// difference is named.
func TestDeletionsAtTheCompactRevisionAreNoDivergence(t *testing.T) {
	dir := fixtures.Dir(t, "cluster3-3.7-crash")
	m1, m2 := filepath.Join(dir, "m1"), filepath.Join(dir, "m2")
	onDB(t, m2, func(b *bbolt.Bucket) error {
		v, err := proto.Marshal(&mvccpb.KeyValue{Key: []byte("gone")})
		if err != nil {
			return err
		}
		return b.Put(keyspace.Revision{Main: 642, Sub: 9, Tombstone: true}.Append(nil), v)
	})
	c := compareAll(t, m1, m2)
	if !*c.Comparison.Agree || len(c.Comparison.Known) != 1 || c.Comparison.Known[0].Member != m2 || !strings.Contains(c.Comparison.Known[0].Reason, "1 deletion") {
		t.Errorf("%+v", c.Comparison)
	}
}

// TestLaggingSourcesHideNothing: what differs beyond the newest revision of one source
// is found between the others.
func TestLaggingSourcesHideNothing(t *testing.T) {
	dir := fixtures.Dir(t, "cluster3-3.7-crash")
	m1, m2, m3 := filepath.Join(dir, "m1"), filepath.Join(dir, "m2"), filepath.Join(dir, "m3") // m3 is at revision 2100
	var rev keyspace.Revision
	onDB(t, m1, func(b *bbolt.Bucket) error {
		k, kv := record(b, 2300)
		rev, _ = keyspace.DecodeRevision(k)
		kv.Value[0] ^= 1
		return put(b, k, kv)
	})
	for _, paths := range [][]string{{m1, m2}, {m1, m2, m3}} {
		c := compareAll(t, paths...)
		if d := c.Comparison.Divergences; len(d) != 1 || d[0].Member != m1 || d[0].Revision != rev.Main || c.Comparison.Best != m2 {
			t.Errorf("best %s, %+v", c.Comparison.Best, d)
		}
	}
}

// TestCopiesDoNotVote: a member counts once, and its own log weighs more than any
// majority.
func TestCopiesDoNotVote(t *testing.T) {
	dir := fixtures.Dir(t, "cluster3-3.7-crash")
	m1, m3 := filepath.Join(dir, "m1"), filepath.Join(dir, "m3")
	onDB(t, m3, func(b *bbolt.Bucket) error {
		k, kv := record(b, 2000)
		kv.Value[0] ^= 1
		return put(b, k, kv)
	})
	copied := filepath.Join(t.TempDir(), "m3")
	if err := os.CopyFS(copied, os.DirFS(m3)); err != nil {
		t.Fatal(err)
	}
	lone := filepath.Join(t.TempDir(), "db")
	b, err := os.ReadFile(filepath.Join(m3, "member", "snap", "db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(lone, b, 0o600); err != nil {
		t.Fatal(err)
	}
	c := compareAll(t, m1, m3, copied, lone)
	if c.Comparison.Best != m1 || len(c.Comparison.Divergences) != 3 {
		t.Errorf("best %s, %+v", c.Comparison.Best, c.Comparison.Divergences)
	}
	for _, d := range c.Comparison.Divergences {
		if d.Member == m1 || d.Member == "" {
			t.Errorf("%+v", d)
		}
	}
}

// TestSoundSourcesRankBeforeFlawedOnes: a snapshot that does not fit its hash is
// blamed, and not the best.
func TestSoundSourcesRankBeforeFlawedOnes(t *testing.T) {
	snap, err := fixtures.ReadFile("healthy-3.7", "snapshot.db")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	bad, good := filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")
	if err := os.WriteFile(good, snap, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bad, snap[:len(snap)-32], 0o600); err != nil {
		t.Fatal(err)
	}
	onDB(t, bad, func(b *bbolt.Bucket) error {
		k, kv := record(b, 1100)
		kv.Value[0] ^= 1
		return put(b, k, kv)
	})
	changed, err := os.ReadFile(bad)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bad, append(changed, snap[len(snap)-32:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	sources, problems := source.Open(context.Background(), []string{bad, good}, source.Options{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	c, err := inspect.Inspect(context.Background(), sources, inspect.Options{Digest: true})
	if err != nil {
		t.Fatal(err)
	}
	if d := c.Comparison.Divergences; c.Comparison.Best != good || len(d) != 1 || d[0].Member != bad {
		t.Errorf("best %s, %+v", c.Comparison.Best, d)
	}
}

// TestIndexesOfBeforeARestoreAreNotCompared: a snapshot, and a member that was
// restored from it and has served since.
func TestIndexesOfBeforeARestoreAreNotCompared(t *testing.T) {
	before, after := filepath.Join(fixtures.Dir(t, "healthy-3.6"), "snapshot.db"), filepath.Join(fixtures.Dir(t, "bumped-3.6-started"), "m1")
	c := compareAll(t, before, after)
	best := c.Comparison.Ranking[0]
	if best.Member != after || best.Loses.Entries > 0 || c.Comparison.Ranking[1].Loses.Entries > 0 || !strings.Contains(c.Comparison.Ranking[1].Reason, "restored in between") {
		t.Errorf("%+v", c.Comparison.Ranking)
	}
	if q := c.Comparison.Quorum; q == nil || !q.Enough {
		t.Errorf("%+v", q)
	}
}

// TestMostFilesSayWhichStoreItIs: a newer file of another store is the stranger.
func TestMostFilesSayWhichStoreItIs(t *testing.T) {
	dir := t.TempDir()
	var paths []string
	for _, name := range []string{"membership-3.5", "membership-3.5", "healthy-3.7"} {
		b, err := fixtures.ReadFile(name, "snapshot.db")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, fmt.Sprint(len(paths), ".db"))
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	c := compareAll(t, paths...)
	if n := c.Comparison.NotCompared; len(n) != 1 || n[0].Member != paths[2] || c.Comparison.Best == paths[2] {
		t.Errorf("%+v", c.Comparison)
	}
	for _, r := range c.Comparison.Ranking {
		if r.Loses.Entries > 0 {
			t.Errorf("%+v", r)
		}
	}
}

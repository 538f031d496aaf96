package inspect_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/inspect/inspecttest"
	"etcd-forensics/inspect/source"
)

// examine inspects the sources of an unpacked fixture. It fails the test when
// the evidence is not the same afterwards.
func examine(t testing.TB, dir string, f fixtures.Fixture) *inspect.Case {
	t.Helper()
	before := digests(t, dir)
	c := inspectOnly(t, dir, f)
	if after := digests(t, dir); before != after {
		t.Errorf("the evidence has changed:\n%s\nbecame\n%s", before, after)
	}
	return c
}

func inspectOnly(t testing.TB, dir string, f fixtures.Fixture) *inspect.Case {
	t.Helper()
	var paths []string
	for _, s := range f.Sources {
		paths = append(paths, filepath.Join(dir, s))
	}
	return inspecttest.Paths(t, inspect.Options{Digest: true}, paths...)
}

// digests describes every file below dir: name, mode, size, time and digest.
func digests(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var sum [32]byte
		if info.Mode().IsRegular() {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			h := sha256.New()
			if _, err := io.Copy(h, f); err != nil {
				return err
			}
			h.Sum(sum[:0])
		}
		fmt.Fprintf(&b, "%s %v %d %v %x\n", path, info.Mode(), info.Size(), info.ModTime(), sum)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func codes(c *inspect.Case) []string {
	var all []string
	for _, f := range c.Findings {
		if !slices.Contains(all, string(f.Code)) {
			all = append(all, string(f.Code))
		}
	}
	slices.Sort(all)
	return all
}

// Each fixture gives the findings that it was made for and no others, and every
// number that a live server stated comes out of its files.
func TestFixtures(t *testing.T) {
	for _, f := range fixtures.All() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			c := examine(t, fixtures.Dir(t, f.Name), f)
			want := slices.Clone(f.Codes)
			slices.Sort(want)
			if got := codes(c); !slices.Equal(got, want) {
				t.Errorf("codes %v, want %v", got, want)
				for _, f := range c.Findings {
					t.Logf("%s: %s", f.Code, f.Message)
				}
			}
			if !slices.Contains(fixtures.Names(), f.Name) {
				return // injured
			}
			truth := fixtures.LoadTruth(t, f.Name)
			for _, m := range c.Members {
				compareWithTruth(t, f.Name, m, truth)
			}
		})
	}
}

func compareWithTruth(t *testing.T, name string, m inspect.Member, truth fixtures.Truth) {
	t.Helper()
	b := m.Backend
	if b == nil {
		t.Fatalf("%s: no backend", m.Source)
	}
	if b.Pages.Total != b.Pages.Meta+b.Pages.Branch+b.Pages.Leaf+b.Pages.Overflow+b.Pages.Freelist+b.Pages.Free+b.Pages.Unreachable+b.Pages.Damaged+b.Pages.BeyondEnd {
		t.Errorf("%s: the page classes do not add up: %+v", m.Source, b.Pages)
	}
	if name != "bumped-3.6" { // no server has run on it
		compareLog(t, m, truth)
	}
	if name == "copied-while-running-3.6" || strings.HasSuffix(name, "-crash") || name == "received-snapshot-3.6" || name == "compaction-unfinished-3.6" {
		return // killed: the files are not of the moment of which the truth speaks
	}
	if strings.HasPrefix(name, "membership-") && !strings.HasSuffix(m.Source, "snapshot.db") {
		return // each member stopped at its own moment
	}
	if *b.Revision != truth.Revision || *b.CompactRevision != truth.CompactRevision {
		t.Errorf("%s: revision %d and compact revision %d, the server said %d and %d", m.Source, *b.Revision, *b.CompactRevision, truth.Revision, truth.CompactRevision)
	}
	for _, h := range truth.HashKVRestarted {
		if h.Revision != 0 && h.Revision != *b.Revision {
			continue
		}
		if b.HashKV.Hash != h.Hash || b.HashKV.CompactRevision != h.CompactRevision {
			t.Errorf("%s: hashKV %+v, the server said %+v", m.Source, *b.HashKV, h)
		}
	}
	if b.Keys.Live != int64(truth.LiveKeys) {
		t.Errorf("%s: %d live keys, the server had %d", m.Source, b.Keys.Live, truth.LiveKeys)
	}
	if *b.Leases != int64(len(truth.Leases)) {
		t.Errorf("%s: %d leases, the server had %d", m.Source, *b.Leases, len(truth.Leases))
	}
	var alarms []fixtures.TruthAlarm
	for _, a := range b.Alarms {
		alarms = append(alarms, fixtures.TruthAlarm{MemberID: a.MemberID.String(), Alarm: a.Alarm})
	}
	if !slices.Equal(alarms, truth.Alarms) && len(alarms)+len(truth.Alarms) > 0 {
		t.Errorf("%s: alarms %v, the server said %v", m.Source, alarms, truth.Alarms)
	}
	if b.Auth.Enabled != truth.Auth.Enabled || !slices.Equal(b.Auth.Users, truth.Auth.Users) && len(b.Auth.Users)+len(truth.Auth.Users) > 0 {
		t.Errorf("%s: auth %+v, the server said %+v", m.Source, *b.Auth, truth.Auth)
	}
	compareMembers(t, m, truth)
	if len(truth.Endpoints) == 1 && name != "bumped-3.6" { // on that no server has run
		e := truth.Endpoints[0]
		// 3.6 names 3.5.0 what has none.
		if e.StorageVersion != "" && (b.StorageVersion != nil || e.StorageVersion != "3.5.0") && (b.StorageVersion == nil || *b.StorageVersion != e.StorageVersion) {
			t.Errorf("%s: storage version %v, the server said %s", m.Source, b.StorageVersion, e.StorageVersion)
		}
		// What was asked after the status made entries of its own: lists of alarms,
		// the state of authentication.
		// 3.4 saves the index with the next write of a key only.
		lags := strings.HasPrefix(truth.EtcdVersion, "3.4")
		if b.ConsistentIndex == nil || *b.ConsistentIndex > e.RaftIndex+8 || *b.ConsistentIndex < e.RaftAppliedIndex && !lags {
			t.Errorf("%s: consistent index %v, the server said %d", m.Source, *b.ConsistentIndex, e.RaftAppliedIndex)
		}
		if b.Term != nil && *b.Term != e.RaftTerm {
			t.Errorf("%s: term %d, the server said %d", m.Source, *b.Term, e.RaftTerm)
		}
	}
}

// compareLog holds ids and the extent of the log against the member's own
// answers: it cannot end before what its server had applied.
func compareLog(t *testing.T, m inspect.Member, truth fixtures.Truth) {
	t.Helper()
	if m.WAL == nil {
		return
	}
	if m.ClusterID == nil || m.ClusterID.String() != truth.ClusterID {
		t.Errorf("%s: cluster %v, the server said %s", m.Source, m.ClusterID, truth.ClusterID)
	}
	for _, e := range truth.Endpoints {
		if e.Member != filepath.Base(m.Source) {
			continue
		}
		if m.MemberID == nil || m.MemberID.String() != e.MemberID {
			t.Errorf("%s: member %v, the server said %s", m.Source, m.MemberID, e.MemberID)
		}
		if m.Name == nil || *m.Name != e.Member {
			t.Errorf("%s: name %v, the server said %s", m.Source, m.Name, e.Member)
		}
		if w := m.WAL; w.LastIndex == nil || *w.LastIndex < e.RaftAppliedIndex || *w.Term < e.RaftTerm || *w.Commit < e.RaftAppliedIndex-1 {
			t.Errorf("%s: last index %v, term %v, commit %v; the server had applied %d in term %d", m.Source, deref(w.LastIndex), deref(w.Term), deref(w.Commit), e.RaftAppliedIndex, e.RaftTerm)
		}
	}
	for _, r := range truth.Recovered {
		// Started on copies, the cluster kept what was committed and added an entry
		// or two of its own.
		if proven := deref(m.WAL.ProvenCommit); proven == 0 || proven >= r.RaftAppliedIndex {
			t.Errorf("%s: proven up to %d, a cluster started on copies went on from below %d", m.Source, proven, r.RaftAppliedIndex)
		}
	}
}

func deref(p *uint64) uint64 {
	if p == nil {
		return 0
	}
	return *p
}

func compareMembers(t *testing.T, m inspect.Member, truth fixtures.Truth) {
	t.Helper()
	var got []string
	for _, mm := range m.Membership.Members {
		got = append(got, fmt.Sprintf("%s %q %v %v", mm.MemberID, mm.Name, mm.PeerURLs, mm.IsLearner))
	}
	var want []string
	for _, tm := range truth.Members {
		if slices.Contains(truth.Removed, tm.ID) {
			continue // a zombie, which 3.6 and later list all the same
		}
		want = append(want, fmt.Sprintf("%s %q %v %v", tm.ID, tm.Name, tm.PeerURLs, tm.IsLearner))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: members %v, the server said %v", m.Source, got, want)
	}
	var removed []string
	for _, id := range m.Membership.Removed {
		removed = append(removed, id.String())
	}
	for _, z := range m.Membership.Zombies {
		if id := z.MemberID.String(); slices.Contains(truth.Removed, id) && !slices.Contains(removed, id) {
			removed = append(removed, id)
		}
	}
	slices.Sort(removed)
	if wantRemoved := slices.Sorted(slices.Values(truth.Removed)); !slices.Equal(removed, wantRemoved) {
		t.Errorf("%s: removed %v, the server said %v", m.Source, removed, wantRemoved)
	}
}

// HashKVAt at older revisions, as the live server answered.
func TestOlderHashesAreThoseOfTheLiveServer(t *testing.T) {
	for _, name := range []string{"healthy-3.4", "healthy-3.5", "healthy-3.6", "healthy-3.7", "healthy-3.8", "empty-compacted-3.7"} {
		t.Run(name, func(t *testing.T) {
			truth := fixtures.LoadTruth(t, name)
			for _, path := range fixtures.Databases(t, name) {
				n := 0
				for _, h := range truth.HashKVRestarted {
					sources, problems := source.Open(context.Background(), []string{path}, source.Options{})
					if len(problems) > 0 {
						t.Fatal(problems)
					}
					got, err := inspect.HashKVAt(context.Background(), sources[0], h.Revision)
					if err != nil || got.Hash != h.Hash || got.CompactRevision != h.CompactRevision {
						t.Errorf("%s at %d: %+v, %v; the server said %+v", path, h.Revision, got, err, h)
					}
					sources[0].Close()
					n++
				}
				if name != "empty-compacted-3.7" && n < 6 {
					t.Errorf("only %d revisions compared", n)
				}
			}
		})
	}
}

func TestHashKVRefusesWhatEtcdRefuses(t *testing.T) {
	path := fixtures.Databases(t, "healthy-3.6")[0]
	truth := fixtures.LoadTruth(t, "healthy-3.6")
	for rev, words := range map[int64]string{
		truth.CompactRevision - 1: "required revision has been compacted",
		truth.Revision + 1:        "required revision is a future revision",
	} {
		sources, _ := source.Open(context.Background(), []string{path}, source.Options{})
		if _, err := inspect.HashKVAt(context.Background(), sources[0], rev); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("at %d: %v, want %q", rev, err, words)
		}
		sources[0].Close()
	}
}

func TestSameInputGivesTheSameBytes(t *testing.T) {
	for _, name := range []string{"healthy-3.7", "child-shared", "leaf-count-too-high", "metas-broken"} {
		f, err := fixtures.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		dir := fixtures.Dir(t, name)
		var want []byte
		for _, procs := range []int{1, 2, 8} {
			before := runtime.GOMAXPROCS(procs)
			for range 10 {
				got, err := json.Marshal(inspectOnly(t, dir, f))
				if err != nil {
					t.Fatal(err)
				}
				if want == nil {
					want = got
				}
				if !bytes.Equal(got, want) {
					t.Fatalf("%s, GOMAXPROCS %d: %s, want %s", name, procs, got, want)
				}
			}
			runtime.GOMAXPROCS(before)
		}
	}
}

func TestChangeWhileReadingIsNoticed(t *testing.T) {
	path := fixtures.Databases(t, "healthy-3.7")[0]
	sources, _ := source.Open(context.Background(), []string{path}, source.Options{})
	defer sources[0].Close()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.Write(make([]byte, 4096))
	f.Close()
	c, err := inspect.Inspect(context.Background(), sources, inspect.Options{Digest: true})
	if err != nil || !slices.Contains(codes(c), "source-changed") {
		t.Errorf("codes %v, %v", codes(c), err)
	}
}

func TestLogCutShortWhileReadingIsNoticed(t *testing.T) {
	dir := fixtures.Dir(t, "healthy-3.7")
	sources, problems := source.Open(context.Background(), []string{filepath.Join(dir, "m1")}, source.Options{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	defer sources[0].Close()
	if err := os.Truncate(sources[0].WAL[0].Path, 5000); err != nil {
		t.Fatal(err)
	}
	c, err := inspect.Inspect(context.Background(), sources, inspect.Options{Digest: true})
	if got := codes(c); err != nil || !slices.Contains(got, "wal-unreadable") || !slices.Contains(got, "source-changed") || !c.Unfinished() {
		t.Errorf("codes %v, %v", got, err)
	}
}

func TestInterruptedExaminationIsInconclusiveAndKeepsWhatWasSeen(t *testing.T) {
	sources, _ := source.Open(context.Background(), []string{fixtures.Databases(t, "healthy-3.7")[0]}, source.Options{})
	defer sources[0].Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c, err := inspect.Inspect(ctx, sources, inspect.Options{Digest: true})
	if err == nil || c.Verdict.Grade != inspect.Inconclusive || len(c.Members) != 1 || c.Members[0].Backend.PageSize != 4096 {
		t.Errorf("%v, verdict %v, %d members", err, c.Verdict, len(c.Members))
	}
}

func TestWithoutDigestASnapshotIsInconclusive(t *testing.T) {
	dir := fixtures.Dir(t, "healthy-3.7")
	for path, want := range map[string]inspect.Grade{"snapshot.db": inspect.Inconclusive, "m1": inspect.Sound} {
		sources, problems := source.Open(context.Background(), []string{filepath.Join(dir, path)}, source.Options{})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		c, err := inspect.Inspect(context.Background(), sources, inspect.Options{})
		if err != nil || c.Verdict.Grade != want {
			t.Errorf("%s: %v, %v; want %v", path, c.Verdict, err, want)
		}
		sources[0].Close()
	}
}

// A member that crashed between receiving a database and opening it has both:
// etcd opens the received one.
func TestReceivedDatabaseIsTheOneEtcdWouldOpen(t *testing.T) {
	dir := fixtures.Dir(t, "received-snapshot-3.6")
	whole := inspectOnly(t, dir, fixtures.Fixture{Sources: []string{"m3"}})
	snap := filepath.Join(dir, "m3", "member", "snap")
	b, err := os.ReadFile(filepath.Join(snap, "db"))
	if err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(snap, "*.snap"))
	if err != nil || len(names) == 0 {
		t.Fatal("no .snap file", err)
	}
	index := strings.TrimSuffix(filepath.Base(names[len(names)-1])[17:], ".snap")
	received := filepath.Join(snap, index+".snap.db")
	if err := os.WriteFile(received, b, 0o600); err != nil {
		t.Fatal(err)
	}
	// The older one: the same, with a consistent index from before.
	at := bytes.Index(b, []byte("consistent_index"))
	for ; at >= 0; at = nextIndex(b, at) {
		copy(b[at+len("consistent_index"):], []byte{0, 0, 0, 0, 0, 0, 0, 9})
	}
	if err := os.WriteFile(filepath.Join(snap, "db"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	c := inspectOnly(t, dir, fixtures.Fixture{Sources: []string{"m3"}})
	if got, want := c.Members[0].Backend, whole.Members[0].Backend; got.File != received || *got.ConsistentIndex != *want.ConsistentIndex {
		t.Errorf("opened %s with consistent index %d, want %s with %d", got.File, *got.ConsistentIndex, received, *want.ConsistentIndex)
	}
	if got, want := codes(c), codes(whole); !slices.Equal(got, want) {
		t.Errorf("codes %v, want %v", got, want)
	}
	if err := os.Remove(received); err != nil {
		t.Fatal(err)
	}
	if c := inspectOnly(t, dir, fixtures.Fixture{Sources: []string{"m3"}}); !slices.Contains(codes(c), "snap-ahead-of-backend") {
		t.Errorf("without the received database: codes %v", codes(c))
	}
}

func nextIndex(b []byte, after int) int {
	i := bytes.Index(b[after+1:], []byte("consistent_index"))
	if i < 0 {
		return -1
	}
	return after + 1 + i
}

// The only file of a log has a name that no segment has: there is nothing to judge.
func TestNoFileOfTheLogIsASegment(t *testing.T) {
	dir := filepath.Join(fixtures.Dir(t, "learner-promoted-3.5.17"), "m2")
	wal := filepath.Join(dir, "member", "wal")
	if err := os.Rename(filepath.Join(wal, "0000000000000000-0000000000000000.wal"), filepath.Join(wal, "x.wal")); err != nil {
		t.Fatal(err)
	}
	sources, problems := source.Open(context.Background(), []string{dir}, source.Options{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	defer sources[0].Close()
	log, err := inspect.OpenLog(t.Context(), sources[0], inspect.Limits{})
	if err != nil || len(log.Chain.Segments) > 0 || len(log.Chain.Leftovers) == 0 {
		t.Errorf("%+v, %v", log, err)
	}
	if c, err := inspect.Inspect(context.Background(), sources, inspect.Options{}); err != nil || len(c.Findings) == 0 {
		t.Errorf("inspect: %v, %v", codes(c), err)
	}
}

func TestWALElsewhere(t *testing.T) {
	dir := fixtures.Dir(t, "healthy-3.7")
	elsewhere := filepath.Join(dir, "elsewhere")
	if err := os.Rename(filepath.Join(dir, "m1", "member", "wal"), elsewhere); err != nil {
		t.Fatal(err)
	}
	for walDir, want := range map[string]string{elsewhere: "", "": "wal-missing"} {
		sources, problems := source.Open(context.Background(), []string{filepath.Join(dir, "m1")}, source.Options{WALDir: walDir})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		c, err := inspect.Inspect(context.Background(), sources, inspect.Options{Digest: true})
		if got := strings.Join(codes(c), " "); err != nil || got != want {
			t.Errorf("--wal-dir %q: codes %q, %v; want %q", walDir, got, err, want)
		}
		sources[0].Close()
	}
	if _, problems := source.Open(context.Background(), []string{filepath.Join(dir, "snapshot.db")}, source.Options{WALDir: elsewhere}); len(problems) != 1 {
		t.Errorf("--wal-dir beside a snapshot: %v", problems)
	}
}

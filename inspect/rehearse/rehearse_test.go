package rehearse_test

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/etcdutl/v3/etcdutl"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"google.golang.org/protobuf/proto"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/inspect/inspecttest"
	"etcd-forensics/inspect/rehearse"
	"etcd-forensics/inspect/restore"
	"etcd-forensics/inspect/source"
	"etcd-forensics/inspect/source/sourcetest"
	"etcd-forensics/walreader/replay"
)

// TestMain makes of the test's own program a child, and the etcd and etcdutl that a
// user would name.
func TestMain(m *testing.M) {
	switch {
	case filepath.Base(os.Args[0]) == "etcd":
		etcdmain.Main(os.Args)
	case filepath.Base(os.Args[0]) == "etcdutl":
		root := &cobra.Command{Use: "etcdutl"}
		root.AddCommand(etcdutl.NewSnapshotCommand(), etcdutl.NewVersionCommand())
		if root.Execute() != nil {
			os.Exit(1)
		}
	case len(os.Args) > 1 && os.Args[1] == rehearse.ChildCommand:
		os.Exit(rehearse.Child(os.Stdin, os.Stdout, os.Stderr))
	case len(os.Args) > 1 && os.Args[1] == replay.ChildCommand:
		os.Exit(replay.Child(os.Stdin, os.Stdout, os.Stderr))
	default:
		flag.Parse()
		if err := flag.Set("test.parallel", "6"); err != nil { // etcd mostly waits
			panic(err)
		}
		os.Exit(m.Run())
	}
}

// examine opens and inspects paths.
func examine(t *testing.T, paths ...string) (*inspect.Case, []*source.Source) {
	t.Helper()
	sources := sourcetest.Open(t, source.Options{Scratch: t.TempDir()}, paths...)
	return inspecttest.Sources(t, inspect.Options{}, sources), sources
}

// planned makes a plan that restores the first source for members of these names.
func planned(t *testing.T, c *inspect.Case, names ...string) *restore.Plan {
	t.Helper()
	b := c.Members[0].Backend
	p := &restore.Plan{
		Way: restore.WayRestoreDB, Source: c.Members[0].Source, EtcdVersion: "3.7", Token: "restored-1",
		File:     restore.Artifact{Path: b.File, Size: b.Size, Hashed: b.Trailer.Present},
		Revision: restore.Revision{Source: *b.Revision, Highest: *b.Revision},
	}
	if c.Sources[0].Kind == "snapshot" {
		p.Way = restore.WayRestoreSnapshot
	}
	urls := types.URLsMap{}
	for i, name := range names {
		url := fmt.Sprintf("https://10.0.0.%d:2380", i+1)
		urls[name] = types.MustNewURLs([]string{url})
		p.Members = append(p.Members, restore.Member{Name: name, PeerURLs: []string{url}})
	}
	cluster, err := membership.NewClusterFromURLsMap(nil, p.Token, urls)
	if err != nil {
		t.Fatal(err)
	}
	p.ClusterID = inspect.ID(cluster.ID())
	for i := range p.Members {
		id := inspect.ID(cluster.MemberByName(p.Members[i].Name).ID)
		p.Members[i].MemberID = &id
	}
	return p
}

// copied gives a fixture's folder in the test's own directory.
func copied(t *testing.T, name string, source string) string {
	t.Helper()
	return filepath.Join(fixtures.Dir(t, name), source)
}

// rehearsed rehearses a plan, and fails when anything of it is left or the evidence
// changed.
func rehearsed(t *testing.T, c *inspect.Case, p *restore.Plan, sources []*source.Source, o rehearse.Options) *rehearse.Receipt {
	t.Helper()
	before := digests(t, sources)
	if o.Scratch == "" {
		o.Scratch = t.TempDir()
	}
	o.Self = []string{executable(t), rehearse.ChildCommand}
	var log bytes.Buffer
	o.Log = &log
	r, err := rehearse.Run(t.Context(), c, p, sources, o)
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	left(t, o.Scratch)
	if after := digests(t, sources); after != before {
		t.Errorf("the evidence changed:\n%s\nbecame\n%s", before, after)
	}
	return r
}

func executable(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// left fails when anything lies in the folder.
func left(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left behind in the scratch folder: %v %v", entries, err)
	}
}

// digests describes every file of the sources, and what lies beside them.
func digests(t *testing.T, sources []*source.Source) string {
	t.Helper()
	var b strings.Builder
	for _, s := range sources {
		err := filepath.WalkDir(filepath.Dir(s.Path), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			info, err := d.Info()
			fmt.Fprintf(&b, "%s %s %v %x\n", path, info.Mode(), info.ModTime(), sha256.Sum256(content))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// states gives what became of a check, for all members.
func states(r *rehearse.Receipt, name string) (list []rehearse.State) {
	for _, c := range r.Checks {
		if c.Name == name {
			list = append(list, c.State)
		}
	}
	return list
}

// wantProven fails unless these checks were made and proven, for as many as are told.
func wantProven(t *testing.T, r *rehearse.Receipt, count int, names ...string) {
	t.Helper()
	for _, name := range names {
		got := states(r, name)
		if len(got) != count || slices.ContainsFunc(got, func(s rehearse.State) bool { return s != rehearse.StateProven }) {
			t.Errorf("%s: %v, not %d times proven", name, got, count)
		}
	}
}

// dump shows a receipt when a test failed.
func dump(t *testing.T, r *rehearse.Receipt) {
	t.Helper()
	if t.Failed() {
		t.Logf("%s: %s", r.Outcome, r.Why)
		for _, c := range r.Checks {
			t.Logf("%+v", c)
		}
		t.Logf("%+v", r.Stages)
	}
}

// restored are evidence of every version, and what of it cannot be asked.
var restored = []struct {
	fixture, source string
	names           []string
	bump            uint64
	skipped         []string
}{
	{"healthy-3.7", "snapshot.db", []string{"n1", "n2", "n3"}, 0, nil},
	{"healthy-3.4", "snapshot.db", []string{"n1"}, 0, nil},
	{"healthy-3.5", "m1/member/snap/db", []string{"n1"}, 1_000_000, nil},
	{"healthy-3.6", "m1", []string{"a name of three words", "$(reboot)", "n3"}, 1_000_000, nil},
	{"cluster3-3.7-crash", "m3", []string{"n1", "n2"}, 0, nil},
	{"empty-3.7", "snapshot.db", []string{"n1"}, 0, nil},
	{"pagesize-16384", "db", []string{"n1"}, 0, nil},
	{"compaction-unfinished-3.6", "m1", []string{"n1"}, 0, nil},
	{"auth-3.6", "m1", []string{"n1", "n2", "n3"}, 7, []string{rehearse.CheckWrite}},
	{"bumped-3.6", "m1", []string{"n1"}, 0, nil},
}

func TestWhatIsRestoredComesUpAsTheEvidenceHoldsIt(t *testing.T) {
	for i, test := range restored {
		if i > 0 && testing.Short() {
			break
		}
		t.Run(test.fixture+" "+filepath.ToSlash(test.source), func(t *testing.T) {
			t.Parallel()
			c, sources := examine(t, copied(t, test.fixture, test.source))
			p := planned(t, c, test.names...)
			p.Revision.Bump = test.bump
			p.Joining = []restore.Member{{Name: "later", PeerURLs: []string{"https://10.0.0.9:2380"}}}
			r := rehearsed(t, c, p, sources, rehearse.Options{})
			defer dump(t, r)
			if r.Outcome != rehearse.Proven {
				t.Errorf("%s: %s", r.Outcome, r.Why)
			}
			n := len(test.names)
			wantProven(t, r, n+1, rehearse.CheckPlannedIDs)
			wantProven(t, r, n, rehearse.CheckRestore, rehearse.CheckBoot, rehearse.CheckMembers, rehearse.CheckRevision, rehearse.CheckPrefixes, rehearse.CheckRecords, rehearse.CheckAlarms)
			wantProven(t, r, n-1, rehearse.CheckAgreement)
			wantProven(t, r, 1, rehearse.CheckAuth)
			if got := states(r, rehearse.CheckJoin); !slices.Equal(got, []rehearse.State{rehearse.StateNotTried}) {
				t.Errorf("that nobody joined is not said: %v", got)
			}
			if test.bump == 0 {
				wantProven(t, r, n, rehearse.CheckHashKV)
			} else {
				wantProven(t, r, n, rehearse.CheckCompaction)
			}
			for _, name := range test.skipped {
				if got := states(r, name); len(got) != 1 || got[0] != rehearse.StateNotTried {
					t.Errorf("%s: %v, and no password is known", name, got)
				}
			}
			if test.skipped == nil {
				wantProven(t, r, 1, rehearse.CheckWrite)
			}
			if want := p.Revision.Source + int64(test.bump); r.Members[0].Revision < want || r.Members[0].Revision > want+1 {
				t.Errorf("revision %d after %d", r.Members[0].Revision, want)
			}
			var keys int64
			for _, prefix := range r.Prefixes {
				keys += prefix.Actual[n-1]
			}
			if keys != c.Members[0].Backend.Keys.Live {
				t.Errorf("%d keys by prefix, %d live", keys, c.Members[0].Backend.Keys.Live)
			}
		})
	}
}

func TestAlarmsAreRestoredAndKeepTheKeyFromBeingWritten(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts etcd")
	}
	db := copied(t, "healthy-3.7", filepath.Join("m1", "member", "snap", "db"))
	record, err := proto.Marshal(&etcdserverpb.AlarmMember{MemberID: 0xabc, Alarm: etcdserverpb.AlarmType_NOSPACE})
	if err != nil {
		t.Fatal(err)
	}
	inBucket(t, db, "alarm", func(b *bbolt.Bucket) error { return b.Put(record, nil) })
	c, sources := examine(t, db)
	r := rehearsed(t, c, planned(t, c, "n1"), sources, rehearse.Options{})
	defer dump(t, r)
	if r.Outcome != rehearse.Proven || !slices.Equal(states(r, rehearse.CheckWrite), []rehearse.State{rehearse.StateNotTried}) {
		t.Errorf("%s: %s, write %v", r.Outcome, r.Why, states(r, rehearse.CheckWrite))
	}
	i := slices.IndexFunc(r.Checks, func(c rehearse.Check) bool { return c.Name == rehearse.CheckAlarms })
	if i < 0 || r.Checks[i].Actual != "NOSPACE of abc" {
		t.Errorf("%+v", r.Checks)
	}
}

// inBucket changes a bucket of a database that is the test's own.
func inBucket(t *testing.T, path, name string, change func(*bbolt.Bucket) error) {
	t.Helper()
	fixtures.Edit(t, path, func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(name))
		if err != nil {
			return err
		}
		return change(b)
	})
}

// TestWhatDiffersFromTheEvidenceIsNotProven restores another file than the one that was
// examined.
func TestWhatDiffersFromTheEvidenceIsNotProven(t *testing.T) {
	for _, test := range []struct {
		name, injury string
		change       func(*restore.Plan)
		failed, says string
	}{
		{"a value", "value-bit-flipped", nil, rehearse.CheckRecords, "1 changed"},
		{"a hash", "snapshot-bit-flipped", func(p *restore.Plan) { p.File.Hashed = true }, rehearse.CheckRestore, "expected sha256"},
		{"no pages", "metas-zeroed", nil, rehearse.CheckRestore, "invalid database"},
		{"a revision", "", func(p *restore.Plan) { p.Revision.Source += 5 }, rehearse.CheckRevision, "1197"},
		{"fewer revisions", "", func(p *restore.Plan) { p.Revision.Source -= 5 }, rehearse.CheckHashKV, "at revision 1191"},
		{"a bound of the plan", "", func(p *restore.Plan) { p.Revision.Restored = new(p.Revision.Source + 5) }, rehearse.CheckRevision, "1196"},
		{"an id", "", func(p *restore.Plan) { p.ClusterID++ }, rehearse.CheckPlannedIDs, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() {
				t.Skip("starts etcd")
			}
			dir := fixtures.Dir(t, "healthy-3.6")
			c, sources := examine(t, filepath.Join(dir, "m1"))
			p := planned(t, c, "n1")
			if test.injury != "" {
				f, err := fixtures.Lookup(test.injury)
				if err != nil {
					t.Fatal(err)
				}
				p.File.Path = copied(t, test.injury, f.Sources[0])
				if info, err := os.Stat(p.File.Path); err == nil && info.IsDir() {
					p.File.Path = filepath.Join(p.File.Path, "member", "snap", "db")
				}
			}
			if test.change != nil {
				test.change(p)
			}
			r := rehearsed(t, c, p, sources, rehearse.Options{})
			defer dump(t, r)
			i := slices.IndexFunc(r.Checks, func(c rehearse.Check) bool { return c.Name == test.failed && c.State == rehearse.StateFailed })
			if r.Outcome != rehearse.NotProven || i < 0 || !strings.Contains(r.Checks[max(i, 0)].Actual, test.says) {
				t.Errorf("%s: %s", r.Outcome, r.Why)
			}
		})
	}
}

func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	c, sources := examine(t, copied(t, "healthy-3.8", "snapshot.db"))
	refused := func(p *restore.Plan, o rehearse.Options, says string) {
		t.Helper()
		r := rehearsed(t, c, p, sources, o)
		if r.Outcome != rehearse.Refused || !strings.Contains(r.Why, says) || len(r.Checks) > 0 {
			t.Errorf("%s: %s", r.Outcome, r.Why)
		}
	}
	p := planned(t, c, "n1")
	refused(p, rehearse.Options{}, "the evidence is of etcd 3.8.0, which etcd 3.7.3 cannot start; give --etcd-binary")
	refused(p, rehearse.Options{EtcdBinary: "/nowhere/etcd"}, "/nowhere/etcd is no program")
	refused(p, rehearse.Options{EtcdutlBinary: "go"}, "does not say the version of etcd")
	no := "nothing is left"
	refused(&restore.Plan{Refused: &no}, rehearse.Options{}, no)
	other := planned(t, c, "n1")
	other.Source = "elsewhere"
	refused(other, rehearse.Options{}, "elsewhere is not among those given")
}

func TestThereMustBeRoom(t *testing.T) {
	t.Parallel()
	c, sources := examine(t, copied(t, "healthy-3.7", "snapshot.db"))
	p := planned(t, c, "n1")
	for i := range 1 << 17 { // 17 TiB
		p.Members = append(p.Members, restore.Member{Name: fmt.Sprint(i)})
	}
	scratch := t.TempDir()
	r, err := rehearse.Run(t.Context(), c, p, sources, rehearse.Options{Scratch: scratch, Self: []string{executable(t), rehearse.ChildCommand}})
	if err == nil || r.Outcome != rehearse.Unfinished || !strings.Contains(r.Why, fmt.Sprintf("(%d bytes) in %s", r.Space.Needed, scratch)) || !strings.Contains(r.Why, fmt.Sprintf("(%d bytes) are free", *r.Space.Free)) {
		t.Errorf("%v: %s: %s", err, r.Outcome, r.Why)
	}
	left(t, scratch)
}

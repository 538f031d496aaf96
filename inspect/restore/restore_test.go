package restore_test

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/inspect/inspecttest"
	"etcd-forensics/inspect/restore"
)

// caseOf inspects sources of a fixture; all of them when none are named.
func caseOf(t *testing.T, fixture string, sources ...string) *inspect.Case {
	t.Helper()
	dir := filepath.Join(t.TempDir(), fixture)
	if err := fixtures.Unpack(fixture, dir); err != nil {
		t.Fatal(err)
	}
	if len(sources) == 0 {
		f, err := fixtures.Lookup(fixture)
		if err != nil {
			t.Fatal(err)
		}
		sources = f.Sources
	}
	var paths []string
	for _, s := range sources {
		paths = append(paths, filepath.Join(dir, s))
	}
	return inspecttest.Paths(t, inspect.Options{Digest: true}, paths...)
}

func planned(t *testing.T, c *inspect.Case, o restore.Options) *restore.Plan {
	t.Helper()
	if err := o.Check(); err != nil {
		t.Fatal(err)
	}
	p := restore.New(c, o)
	if p.Refused != nil {
		t.Fatalf("refused: %s", *p.Refused)
	}
	return p
}

// restores are the restore commands of a plan, by host.
func restores(p *restore.Plan) map[string][]string {
	list := map[string][]string{}
	for _, h := range p.Hosts {
		for _, s := range h.Steps {
			if i := slices.Index(s.Argv, "restore"); i > 0 && s.Argv[i-1] == "snapshot" {
				list[h.Name] = s.Argv
			}
		}
	}
	return list
}

// flag gives the value of --name=value, and whether it is there.
func flag(argv []string, name string) (string, bool) {
	for _, a := range argv {
		if a == "--"+name {
			return "", true
		}
		if v, ok := strings.CutPrefix(a, "--"+name+"="); ok {
			return v, true
		}
	}
	return "", false
}

func warns(p *restore.Plan, about string) bool {
	return slices.ContainsFunc(p.Warnings, func(w restore.Warning) bool { return w.About == about })
}

var three = []restore.NewMember{
	{Name: "a", PeerURLs: []string{"https://10.0.0.1:2380"}}, {Name: "b", PeerURLs: []string{"https://10.0.0.2:2380"}}, {Name: "c", PeerURLs: []string{"https://10.0.0.3:2380"}},
}

// TestEveryHostGetsTheSameAndItsOwn: one file, one token, one initial cluster, one bump
// for all; its own name and URLs for each. Defaults would make three clusters of one.
func TestEveryHostGetsTheSameAndItsOwn(t *testing.T) {
	p := planned(t, caseOf(t, "healthy-3.6", "snapshot.db"), restore.Options{Members: three})
	commands := restores(p)
	if len(commands) != 3 {
		t.Fatalf("%d restore commands", len(commands))
	}
	for i, m := range three {
		argv := commands[m.Name]
		for name, want := range map[string]string{
			"name": m.Name, "initial-advertise-peer-urls": m.PeerURLs[0],
			"initial-cluster":       "a=https://10.0.0.1:2380,b=https://10.0.0.2:2380,c=https://10.0.0.3:2380",
			"initial-cluster-token": p.Token,
		} {
			if got, ok := flag(argv, name); !ok || got != want {
				t.Errorf("%s: --%s is %q, want %q", m.Name, name, got, want)
			}
		}
		if want := inspect.MemberIDOf(m.PeerURLs, p.Token); *p.Members[i].MemberID != want {
			t.Errorf("%s: id %s, want %s", m.Name, p.Members[i].MemberID, want)
		}
		if argv[3] != p.File.OnHost {
			t.Errorf("%s restores %q, not %q", m.Name, argv[3], p.File.OnHost)
		}
	}
	for _, h := range p.Hosts {
		guarded := slices.ContainsFunc(h.Steps, func(s restore.Step) bool {
			return slices.ContainsFunc(s.Refuses, func(g restore.Guard) bool {
				return g.Kind == restore.GuardDigest && g.SHA256 == *p.File.SHA256
			})
		})
		if !guarded {
			t.Errorf("%s may restore another file than the others", h.Name)
		}
	}
}

// TestFlagsFollowTheVersion: the tool and the flags of each version, exactly.
func TestFlagsFollowTheVersion(t *testing.T) {
	kubernetes := caseOf(t, "healthy-3.4", "snapshot.db")
	if kubernetes.Members[0].Backend.Kubernetes == nil {
		t.Fatal("the fixture is not of Kubernetes")
	}
	for _, c := range []struct {
		version, tool string
		bump          bool
		needs         string
	}{
		{"3.4.23", "etcdctl", false, ""}, {"3.4.26", "etcdctl", false, ""}, {"3.4.27", "etcdctl", true, ""}, {"3.4", "etcdctl", true, "3.4.27"},
		{"3.5.9", "etcdutl", false, ""}, {"3.5.10", "etcdutl", true, ""}, {"3.5", "etcdutl", true, "3.5.10"},
		{"3.6.0", "etcdutl", true, ""}, {"3.6", "etcdutl", true, ""}, {"3.7.3", "etcdutl", true, ""}, {"3.8", "etcdutl", true, ""},
	} {
		p := planned(t, kubernetes, restore.Options{EtcdVersion: c.version})
		for host, argv := range restores(p) {
			if argv[0] != c.tool {
				t.Errorf("%s on %s: %s", c.version, host, argv[0])
			}
			_, bump := flag(argv, "bump-revision")
			_, mark := flag(argv, "mark-compacted")
			if bump != c.bump || mark != c.bump {
				t.Errorf("%s: bump %v mark %v, want %v", c.version, bump, mark, c.bump)
			}
			if _, ok := flag(argv, "data-dir"); !ok {
				t.Errorf("%s: no --data-dir, which 3.5 insists on", c.version)
			}
		}
		if !c.bump && !warns(p, "revisions") {
			t.Errorf("%s: revisions go back without a warning", c.version)
		}
		if said := slices.ContainsFunc(p.Warnings, func(w restore.Warning) bool { return strings.Contains(w.Message, c.needs+" or later") }); c.needs != "" && !said {
			t.Errorf("%s: nothing says that %s is needed", c.version, c.needs)
		}
		for _, h := range p.Hosts {
			asked := slices.ContainsFunc(h.Steps, func(s restore.Step) bool {
				return s.Phase == restore.PhasePrepare && s.Expect != nil && s.Expect.Contains == "--bump-revision"
			})
			if asked != (c.needs != "") {
				t.Errorf("%s on %s: asked before anything is stopped whether the flag is there: %v", c.version, h.Name, asked)
			}
		}
	}
}

// TestToolsOfAnotherPatchAreNotTaken: 3.5.2 is not 3.5.21, and what is planned for a minor
// version takes all of its patches.
func TestToolsOfAnotherPatchAreNotTaken(t *testing.T) {
	c := caseOf(t, "healthy-3.5", "snapshot.db")
	for _, test := range []struct {
		version, prints string
		taken           bool
	}{
		{"3.5.2", "etcdutl version: 3.5.2\nAPI version: 3.5\n", true}, {"3.5.2", "etcdutl version: 3.5.21\nAPI version: 3.5\n", false},
		{"3.5", "etcdutl version: 3.5.21\nAPI version: 3.5\n", true}, {"3.5", "etcdutl version: 3.6.5\nAPI version: 3.6\n", false},
		{"3.8.0-alpha.0", "etcdutl version: 3.8.0-alpha.0\nAPI version: 3.8\n", true}, {"3.8.0", "etcdutl version: 3.8.0-alpha.0\nAPI version: 3.8\n", false},
		{"v3.6.16", "etcdutl version: 3.6.16\nAPI version: 3.6\n", true},
	} {
		asked := 0
		for _, s := range planned(t, c, restore.Options{EtcdVersion: test.version}).Hosts[0].Steps {
			if len(s.Argv) == 2 && s.Argv[1] == "version" {
				asked++
				if taken := strings.Contains(test.prints, s.Expect.Contains); taken != test.taken {
					t.Errorf("%s: %q is taken: %v", test.version, test.prints, taken)
				}
			}
		}
		if asked != 1 {
			t.Errorf("%s: the version is looked at %d times", test.version, asked)
		}
	}
}

// TestVersionsThatCannotReadTheData: what was measured of tools and servers on data of
// each version.
func TestVersionsThatCannotReadTheData(t *testing.T) {
	for _, c := range []struct {
		fixture, version string
		refused          bool
	}{
		{"healthy-3.4", "3.4", false}, {"healthy-3.4", "3.5", false}, {"healthy-3.4", "3.6", false}, {"healthy-3.4", "3.7", false},
		{"healthy-3.5", "3.4", false}, {"healthy-3.5", "3.7", false},
		{"healthy-3.6", "3.4", true}, {"healthy-3.6", "3.5", false}, {"healthy-3.6", "3.6", false}, {"healthy-3.6", "3.7", false},
		{"healthy-3.7", "3.4", true}, {"healthy-3.7", "3.5", false}, {"healthy-3.7", "3.6", true}, {"healthy-3.7", "3.7", false},
		{"healthy-3.8", "3.7", true}, {"healthy-3.8", "3.6", true}, {"healthy-3.8", "3.8", false},
	} {
		p := restore.New(caseOf(t, c.fixture, "snapshot.db"), restore.Options{EtcdVersion: c.version})
		if (p.Refused != nil) != c.refused {
			t.Errorf("%s restored for %s: refused %v, want %v", c.fixture, c.version, p.Refused, c.refused)
		}
		older := c.version < strings.TrimPrefix(c.fixture, "healthy-")
		if !c.refused && older && !warns(p, "version") {
			t.Errorf("%s restored for %s: a downgrade without a warning", c.fixture, c.version)
		}
		if c.refused && (p.Instead == "" || len(p.Hosts) > 0) {
			t.Errorf("%s for %s: %+v", c.fixture, c.version, p)
		}
	}
}

// TestHashCheckIsSkippedOnlyWhereThereIsNone: etcdutl refuses a file without a hash, and
// a check that is skipped hides damage.
func TestHashCheckIsSkippedOnlyWhereThereIsNone(t *testing.T) {
	for _, c := range []struct {
		fixture, source string
		skip, damaged   bool
	}{
		{"healthy-3.6", "snapshot.db", false, false},
		{"healthy-3.6", "m1/member/snap/db", true, false},
		{"trailer-missing", "snapshot.db", true, false},
		{"trailer-flipped", "snapshot.db", true, true},
		{"trailer-half", "snapshot.db", true, true},
		{"snapshot-bit-flipped", "snapshot.db", true, true},
	} {
		p := planned(t, caseOf(t, c.fixture, c.source), restore.Options{})
		for _, argv := range restores(p) {
			if _, skip := flag(argv, "skip-hash-check"); skip != c.skip {
				t.Errorf("%s: skip %v, want %v", c.fixture, skip, c.skip)
			}
		}
		if warns(p, "damage") != c.damaged {
			t.Errorf("%s: warned of damage: %v, want %v", c.fixture, !c.damaged, c.damaged)
		}
	}
}

// TestSourcesOfNoUseAreRefused: nothing can be made of them, or not without knowing which
// version it is for.
func TestSourcesOfNoUseAreRefused(t *testing.T) {
	for _, name := range []string{"not-bbolt", "backend-missing", "byte-order-swapped"} {
		p := restore.New(caseOf(t, name), restore.Options{})
		if p.Refused == nil || p.Instead == "" || len(p.Hosts) != 0 {
			t.Errorf("%s: a plan was made: %s %v", name, p.Way, p.Refused)
		}
	}
}

// TestWaysFollowTheEvidence: nothing is restored when enough members start, a copy is
// started only when the log holds what the database lacks.
func TestWaysFollowTheEvidence(t *testing.T) {
	for _, c := range []struct {
		fixture string
		sources []string
		options restore.Options
		want    restore.Way
		file    string
	}{
		{"cluster3-3.7-crash", nil, restore.Options{}, restore.WayRejoin, ""},
		{"cluster3-3.7-crash", []string{"m1", "m3"}, restore.Options{}, restore.WayRejoin, ""},
		{"cluster3-3.7-crash", []string{"m1"}, restore.Options{}, restore.WayRollForward, ""},
		{"cluster3-3.7-crash", nil, restore.Options{Single: true}, restore.WayRollForward, ""},
		{"cluster3-3.7-crash", []string{"m1"}, restore.Options{EtcdVersion: "3.8"}, restore.WayForceNewCluster, ""},
		{"backend-missing", nil, restore.Options{EtcdVersion: "3.6"}, restore.WayRollForward, ""},
		{"leaf-zeroed", nil, restore.Options{}, restore.WayRollForward, ""},
		// The log is read on behind damage that is older than the database.
		{"wal-middle-segment-empty", nil, restore.Options{}, restore.WayRollForward, ""},
		{"metas-zeroed-snapshot", nil, restore.Options{EtcdVersion: "3.6", Members: three}, restore.WaySalvage, ""},
		{"healthy-3.7", []string{"m1"}, restore.Options{}, restore.WayRejoin, ""},
		{"healthy-3.7", []string{"m1"}, restore.Options{Members: three}, restore.WayRestoreDB, "m1/member/snap/db"},
		{"healthy-3.7", []string{"snapshot.db"}, restore.Options{}, restore.WayRestoreSnapshot, "snapshot.db"},
		{"wal-missing", nil, restore.Options{}, restore.WayRestoreDB, "m1/member/snap/db"},
		// etcd 3.6 and later do not start on what 3.4 restored; 3.5 removes the zombies.
		{"restored-3.4", nil, restore.Options{EtcdVersion: "3.5.26"}, restore.WayRejoin, ""},
		{"restored-3.4", nil, restore.Options{EtcdVersion: "3.6"}, restore.WayRollForward, ""},
		{"restored-3.4", nil, restore.Options{EtcdVersion: "3.7"}, restore.WayRollForward, ""},
		// etcdutl panics or is killed by a bus error on these, or brings back a store with
		// holes, or etcd writes over pages that are in use.
		{"snapshot-truncated", nil, restore.Options{Members: three}, restore.WaySalvage, ""},
		{"snapshot-truncated-in-page", nil, restore.Options{Members: three}, restore.WaySalvage, ""},
		{"freelist-reachable", nil, restore.Options{Members: three, EtcdVersion: "3.6"}, restore.WaySalvage, ""},
		{"freelist-duplicate", nil, restore.Options{Members: three, EtcdVersion: "3.6"}, restore.WaySalvage, ""},
		{"branch-cycle", nil, restore.Options{}, restore.WayRollForward, ""},
		{"received-snapshot-3.6", []string{"m3"}, restore.Options{Members: three}, restore.WayRestoreDB, ""},
	} {
		got := planned(t, caseOf(t, c.fixture, c.sources...), c.options)
		if got.Way != c.want || !strings.HasSuffix(got.File.Path, c.file) {
			t.Errorf("%s %v %+v: %s of %s, want %s of %s", c.fixture, c.sources, c.options, got.Way, got.File.Path, c.want, c.file)
		}
	}
}

// TestMembersThatGoOnListOthers: a cluster that is started as it is lists those that are to
// be replaced as well; whoever counts must not stop it for that.
func TestMembersThatGoOnListOthers(t *testing.T) {
	for _, c := range []struct {
		options restore.Options
		sources []string
		want    string
	}{
		{restore.Options{}, []string{"m1", "m3"}, "; others may be listed, too"},
		{restore.Options{Single: true}, []string{"m2"}, "it lists 1 member with the id "},
	} {
		found := false
		for _, h := range planned(t, caseOf(t, "cluster3-3.7-crash", c.sources...), c.options).Hosts {
			for _, s := range h.Steps {
				found = found || strings.Contains(s.Check, c.want)
			}
		}
		if !found {
			t.Errorf("%v: no step says %q", c.sources, c.want)
		}
	}
}

// TestTheLogAloneCarriesNoDamageOn: what is made of the log has nothing of the database
// beside it, neither its damage nor its revision.
func TestTheLogAloneCarriesNoDamageOn(t *testing.T) {
	p := planned(t, caseOf(t, "leaf-zeroed"), restore.Options{})
	if p.Way != restore.WayRollForward || p.Base != "" {
		t.Fatalf("%s of %q", p.Way, p.Base)
	}
	for _, h := range p.Hosts {
		for _, s := range h.Steps {
			if strings.Contains(s.Check, fmt.Sprintf("the revision is %d", p.Revision.Source)) {
				t.Errorf("%s: of the damaged database", s.Check)
			}
		}
	}
	for _, w := range p.Warnings {
		if w.About == "damage" || strings.Contains(w.Message, "clients may have seen") {
			t.Error(w.Message)
		}
	}
}

// TestTheLogIsRightAgainstItsDatabase: a value that its own log contradicts is not restored
// where the log has the right one, and no step is planned that rollforward refuses.
func TestTheLogIsRightAgainstItsDatabase(t *testing.T) {
	p := planned(t, caseOf(t, "value-bit-flipped"), restore.Options{})
	if p.Way != restore.WayRollForward || p.Base != "" || len(p.Logs) != 1 || filepath.Base(p.Logs[0]) != "wal" {
		t.Errorf("%s of %q with %q", p.Way, p.Base, p.Logs)
	}
	if !strings.Contains(p.Reason, "revision 24") {
		t.Errorf("%q does not name the revision", p.Reason)
	}
	// The applier is 3.7, so that the log of a newer etcd is not applied: the salvage takes
	// from it what the database has wrong.
	p = planned(t, caseOf(t, "value-bit-flipped"), restore.Options{EtcdVersion: "3.8"})
	if p.Way != restore.WaySalvage || !strings.Contains(p.Reason, "revision 24") {
		t.Errorf("%s: %s", p.Way, p.Reason)
	}
}

// TestProvenEntriesAreNeverLostInSilence: what is proven committed is brought back or named
// as lost, wherever the log is damaged.
func TestProvenEntriesAreNeverLostInSilence(t *testing.T) {
	for _, c := range []struct {
		fixture     string
		first, last uint64 // lost in all, 0 for none
	}{
		{"wal-middle-segment-empty", 0, 0},
		{"wal-length-trashed-unapplied", 1208, 1210},
	} {
		given := caseOf(t, c.fixture)
		m := given.Members[0]
		if *m.WAL.ProvenCommit <= *m.Backend.ConsistentIndex {
			t.Fatalf("%s: the database lacks nothing", c.fixture)
		}
		var lost uint64
		for _, l := range planned(t, given, restore.Options{}).Losses {
			lost += l.Entries
			if l.Entries > 0 && !strings.Contains(l.What, "committed") {
				t.Errorf("%s: %s", c.fixture, l.What)
			}
		}
		want := uint64(0)
		if c.last > 0 {
			want = c.last - c.first + 1
		}
		if lost != want {
			t.Errorf("%s: %d entries are named as lost, want %d to %d", c.fixture, lost, c.first, c.last)
		}
	}
}

// TestHarmfulMovesAreNeverMade goes through the plans of all evidence, ways and versions
// and looks for what must not be in any.
func TestHarmfulMovesAreNeverMade(t *testing.T) {
	for i, f := range fixtures.All() {
		if testing.Short() && i%8 != 0 {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			c := caseOf(t, f.Name)
			for _, version := range []string{"", "3.4.23", "3.5", "3.6.16", "3.7", "3.8"} {
				for _, o := range []restore.Options{{}, {Single: true}, {Members: three}, {Members: three, Single: true, WALDir: "/wal"}} {
					for i, platform := range restore.Platforms() {
						if version != "" && i%4 != 0 {
							continue // platforms differ little by version
						}
						o.EtcdVersion, o.Platform = version, platform
						p := restore.New(c, o)
						for _, fault := range harms(p) {
							t.Errorf("%s %s %+v: %s", version, platform, o, fault)
						}
						if again := restore.New(c, o); !reflect.DeepEqual(p, again) {
							t.Errorf("%s %s %+v: two plans differ", version, platform, o)
						}
					}
				}
			}
		})
	}
}

// harms lists what is wrong with a plan, whatever it is for.
func harms(p *restore.Plan) (faults []string) {
	harm := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if p.Refused != nil {
		if len(p.Hosts) > 0 || len(p.Here) > 0 || *p.Refused == "" || p.Instead == "" {
			harm("refused, and yet there are steps or no way out: %s; %s", *p.Refused, p.Instead)
		}
		return faults
	}
	hosts := p.Hosts
	if len(hosts) == 0 { // all is done from where the evidence is
		hosts = []restore.Host{{Name: "here", Steps: slices.DeleteFunc(slices.Clone(p.Here), func(s restore.Step) bool { return s.Phase == restore.PhaseHere })}}
		if len(hosts[0].Steps) == 0 {
			harm("no steps")
		}
	}
	for _, h := range hosts {
		last := 0
		for _, s := range h.Steps {
			at := slices.Index(restore.Phases, s.Phase)
			if at < last {
				harm("%s: phase %s comes too late", h.Name, s.Phase)
			}
			last = at
			if s.Why == "" || s.Check == "" || s.IfNot == "" || s.Argv == nil {
				harm("%s: a step without a reason, a check, a way out, or a list of arguments: %s", h.Name, s.Why)
			}
			line := strings.Join(s.Argv, " ")
			for _, never := range []string{"--force-new-cluster", "--unsafe-no-fsync", "rm -r", "--endpoints= "} {
				if strings.Contains(line, never) {
					harm("%s: %s in %s", h.Name, never, line)
				}
			}
			if _, bump := flag(s.Argv, "bump-revision"); bump {
				if _, mark := flag(s.Argv, "mark-compacted"); !mark {
					harm("%s: --bump-revision alone", h.Name)
				}
			}
		}
	}
	for _, s := range p.Here {
		if s.Why == "" || s.Check == "" || s.IfNot == "" || s.Argv == nil {
			harm("here: a step without a reason, a check, a way out, or a list of arguments: %s", s.Why)
		}
		line := strings.Join(s.Argv, " ")
		if strings.Contains(line, "--force-new-cluster") && !strings.Contains(line, "--data-dir=copy-") {
			harm("the evidence itself is started: %s", line)
		}
	}
	for host, argv := range restores(p) {
		name, _ := flag(argv, "name")
		cluster, _ := flag(argv, "initial-cluster")
		urls, _ := flag(argv, "initial-advertise-peer-urls")
		for _, u := range strings.Split(urls, ",") {
			if !slices.Contains(strings.Split(cluster, ","), name+"="+u) {
				harm("%s: %s=%s is not in %s", host, name, u, cluster)
			}
		}
		if token, _ := flag(argv, "initial-cluster-token"); token == "" || token == "etcd-cluster" {
			harm("%s: token %q", host, token)
		}
		if p.OldClusterID != nil && *p.OldClusterID == p.ClusterID {
			harm("%s: the new cluster has the id of the old one", host)
		}
		if dir, _ := flag(argv, "data-dir"); !strings.Contains(dir, "restore-"+p.Tag) {
			harm("%s: restored into %s, which may hold data", host, dir)
		}
	}
	return faults
}

// TestTokensAreFreshAndTheSameAgain: the same evidence gives the same token, and evidence
// that came out of a plan gives another one.
func TestTokensAreFreshAndTheSameAgain(t *testing.T) {
	c := caseOf(t, "healthy-3.7", "snapshot.db")
	first := planned(t, c, restore.Options{Members: three})
	if again := planned(t, c, restore.Options{Members: three}); again.Token != first.Token {
		t.Errorf("%s, then %s", first.Token, again.Token)
	}
	id := first.ClusterID
	c.Members[0].ClusterID = &id
	if next := planned(t, c, restore.Options{Members: three}); next.Token == first.Token || next.ClusterID == first.ClusterID {
		t.Errorf("the cluster that comes out has the id that is there already: %s", next.ClusterID)
	}
	if p := planned(t, caseOf(t, "healthy-3.7", "m1"), restore.Options{Token: "etcd-cluster", Single: true}); p.OldClusterID != nil && *p.OldClusterID == p.ClusterID != warns(p, "token") {
		t.Error("the token of the old cluster is taken without a warning")
	}
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for _, o := range []restore.Options{
		{Platform: "windows"}, {EtcdVersion: "3"}, {EtcdVersion: "2.3"}, {EtcdVersion: "3.9"}, {EtcdVersion: "3.5.x"}, {EtcdVersion: "3.5-rc.0"}, {EtcdVersion: "3.5.0-"}, {EtcdVersion: "3.5.0-a b"},
		{DataDir: "etcd"}, {DataDir: "/"}, {WorkDir: "."}, {WALDir: "/wal\n"},
		{Members: []restore.NewMember{{Name: "a", PeerURLs: []string{"10.0.0.1:2380"}}}},
		{Members: []restore.NewMember{{Name: "a", PeerURLs: []string{"http://h1"}}}},
		{Members: []restore.NewMember{{Name: "a", PeerURLs: []string{"http://-oProxyCommand=halt:2380"}}}},
		{Members: []restore.NewMember{{Name: "a", PeerURLs: []string{"http://h1:2380/x"}}}},
		{Members: []restore.NewMember{{Name: "a", PeerURLs: []string{"http://h1:2380,http://h2:2380"}}}},
		{Members: []restore.NewMember{{Name: "a,b", PeerURLs: []string{"http://h1:2380"}}}},
		{Members: []restore.NewMember{{Name: "a\x1b[2J", PeerURLs: []string{"http://h1:2380"}}}},
		{Members: []restore.NewMember{{Name: "a", PeerURLs: []string{"http://h1:2380"}}, {Name: "b", PeerURLs: []string{"http://h1:2380"}}}},
	} {
		if err := o.Check(); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
	for _, text := range []string{"a", "=http://h:1", "a="} {
		if _, err := restore.ParseMembers([]string{text}); err == nil {
			t.Errorf("--member %q is taken", text)
		}
	}
}

// TestContentIsWarnedOf: alarms, users, leases, encryption, quota and learners that come
// along, or do not.
func TestContentIsWarnedOf(t *testing.T) {
	for _, c := range []struct {
		fixture, source string
		about           []string
	}{
		{"auth-3.6", "m1", []string{"alarms", "auth"}},
		{"healthy-3.6", "snapshot.db", []string{"leases", "kubernetes", "old-members"}},
		{"healthy-3.4", "snapshot.db", []string{"zombies", "old-members"}},
		{"bumped-3.6", "m1", []string{"restored-before"}},
	} {
		p := planned(t, caseOf(t, c.fixture, c.source), restore.Options{Members: three})
		for _, about := range c.about {
			if !warns(p, about) {
				t.Errorf("%s: no warning about %s", c.fixture, about)
			}
		}
	}
	for _, fixture := range []string{"membership-3.5", "membership-3.7"} {
		c := caseOf(t, fixture)
		p := restore.New(c, restore.Options{Members: three})
		learners := 0
		for _, m := range c.Membership().Membership.Members {
			if m.IsLearner {
				learners++
			}
		}
		said := slices.ContainsFunc(p.Losses, func(l restore.Loss) bool { return strings.Contains(l.What, "learners") })
		if learners > 0 != said {
			t.Errorf("%s: %d learners, told: %v", fixture, learners, said)
		}
	}
}

// TestAuthenticationNeedsAUser: nothing answers etcdctl without one, so the steps that ask
// say how to give it, and pass it on into containers.
func TestAuthenticationNeedsAUser(t *testing.T) {
	for _, fixture := range []string{"auth-3.6", "healthy-3.6"} {
		p := planned(t, caseOf(t, fixture, "m1"), restore.Options{Members: three, Platform: restore.PlatformDocker})
		for _, h := range p.Hosts {
			i := slices.IndexFunc(h.Steps, func(s restore.Step) bool { return s.Phase == restore.PhaseVerify })
			health := h.Steps[i]
			if says, passes := strings.Contains(health.IfNot, "ETCDCTL_USER"), slices.Contains(health.Argv, "--env=ETCDCTL_USER"); says != passes || says != (fixture == "auth-3.6") {
				t.Errorf("%s, %s: how to name a user is said %v, passed on %v", fixture, h.Name, says, passes)
			}
		}
	}
}

// TestARemovedMemberIsBehind: nothing in its directory tells what was written after it.
func TestARemovedMemberIsBehind(t *testing.T) {
	for source, removed := range map[string]bool{"m3": true, "m1": false} {
		p := planned(t, caseOf(t, "membership-3.7", source), restore.Options{})
		said := slices.ContainsFunc(p.Losses, func(l restore.Loss) bool { return strings.Contains(l.What, "was removed from its cluster") })
		if said != removed || warns(p, "removed") != removed {
			t.Errorf("%s: losses %+v, warnings %+v", source, p.Losses, p.Warnings)
		}
	}
}

// TestStrangersAreNamed: of sources of two clusters one is taken, and the other is said to
// be another one's, also when nothing has to be restored.
func TestStrangersAreNamed(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"cluster3-3.6-crash", "cluster3-3.7-crash"} {
		if err := fixtures.Unpack(name, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range []restore.Options{{}, {Single: true}} {
		var paths []string
		for _, path := range []string{"cluster3-3.6-crash/m1", "cluster3-3.7-crash/m1", "cluster3-3.7-crash/m2"} {
			paths = append(paths, filepath.Join(dir, filepath.FromSlash(path)))
		}
		c := inspecttest.Paths(t, inspect.Options{Digest: true}, paths...)
		p := planned(t, c, o)
		i := slices.IndexFunc(p.Warnings, func(w restore.Warning) bool { return w.About == "strangers" })
		if i < 0 || !strings.HasPrefix(p.Warnings[i].Message, paths[0]+": ") || strings.Contains(p.Source, "3.6") {
			t.Errorf("%s of %s, warned of %+v", p.Way, p.Source, p.Warnings)
		}
	}
	if p := planned(t, caseOf(t, "cluster3-3.7-crash"), restore.Options{}); warns(p, "strangers") {
		t.Error("members of one cluster are called strangers")
	}
}

// TestHighestRevisionCountsWhatLogsHold: a client can have seen what a log holds and no
// database does.
func TestHighestRevisionCountsWhatLogsHold(t *testing.T) {
	c := caseOf(t, "cluster3-3.7-crash")
	p := planned(t, c, restore.Options{Single: true})
	var highest int64
	for _, m := range c.Members {
		highest = max(highest, *m.Backend.Revision+int64(*m.WAL.LastIndex-*m.Backend.ConsistentIndex))
	}
	if p.Revision.Highest != highest {
		t.Errorf("highest %d, want %d", p.Revision.Highest, highest)
	}
	if p.Revision.Bump > 0 && p.Revision.Source+int64(p.Revision.Bump) <= highest {
		t.Errorf("%+v does not reach beyond what clients have seen", p.Revision)
	}
}

// TestRevisionsEnd: a revision that evidence makes up must not be raised beyond the last,
// where it would come out negative.
func TestRevisionsEnd(t *testing.T) {
	c := caseOf(t, "healthy-3.6", "snapshot.db")
	for revision, bumped := range map[int64]bool{1 << 40: true, math.MaxInt64 - 5: false, math.MaxInt64: false} {
		*c.Members[0].Backend.Revision = revision
		p := planned(t, c, restore.Options{})
		if p.Revision.Bump > 0 != bumped || p.Revision.Source+int64(p.Revision.Bump) < p.Revision.Source {
			t.Errorf("%d: %+v", revision, p.Revision)
		}
		if !bumped && !warns(p, "revisions") {
			t.Errorf("%d: that nothing is raised is not said", revision)
		}
	}
}

// TestPlansAreJSON: what a script reads has no null where the contract has a list.
func TestPlansAreJSON(t *testing.T) {
	for _, p := range []*restore.Plan{
		planned(t, caseOf(t, "healthy-3.7", "snapshot.db"), restore.Options{}),
		restore.New(caseOf(t, "not-bbolt"), restore.Options{}),
	} {
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, list := range []string{"hosts", "losses", "warnings", "alternatives", "here", "members", "joining", "steps", "argv"} {
			if strings.Contains(string(b), `"`+list+`":null`) {
				t.Errorf("%s is null", list)
			}
		}
	}
}

// TestJoinersNameAllMembersThereAre: two of five are lost; while the first is replaced the
// second is still a member.
func TestJoinersNameAllMembersThereAre(t *testing.T) {
	c := caseOf(t, "cluster3-3.7-crash")
	for i := range c.Members {
		ms := &c.Members[i].Membership
		ms.Members = append(slices.Clone(ms.Members),
			inspect.MembershipMember{MemberID: 4, Name: "m4", PeerURLs: []string{"http://10.0.0.4:2380"}},
			inspect.MembershipMember{MemberID: 5, Name: "m5", PeerURLs: []string{"http://10.0.0.5:2380"}},
			inspect.MembershipMember{MemberID: 6, Name: "l6", PeerURLs: []string{"http://10.0.0.6:2380"}, IsLearner: true})
	}
	p := planned(t, c, restore.Options{})
	if p.Way != restore.WayRejoin || len(p.Joining) != 2 {
		t.Fatalf("%s, %d join", p.Way, len(p.Joining))
	}
	for _, h := range p.Hosts[3:] {
		joined := false
		for _, s := range h.Steps {
			cluster, ok := flag(s.Argv, "initial-cluster")
			if !ok {
				continue
			}
			joined = true
			for _, name := range []string{"m1", "m2", "m3", "m4", "m5", "l6"} {
				if strings.Count(","+cluster, ","+name+"=") != 1 {
					t.Errorf("%s: %s is not once in %s", h.Name, name, cluster)
				}
			}
			if state, _ := flag(s.Argv, "initial-cluster-state"); state != "existing" {
				t.Errorf("%s: state %q", h.Name, state)
			}
		}
		if !joined {
			t.Errorf("%s does not join", h.Name)
		}
	}
}

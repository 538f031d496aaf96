package restore_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/inspect/inspecttest"
	"etcd-forensics/inspect/restore"
	"etcd-forensics/inspect/source"
	"etcd-forensics/inspect/source/sourcetest"
)

// TestTheCopyIsNoLinkToTheEvidence: etcd is started on the copy, and writes. The evidence
// may be links, and its log may lie elsewhere.
func TestTheCopyIsNoLinkToTheEvidence(t *testing.T) {
	dir := t.TempDir()
	if err := fixtures.Unpack("cluster3-3.7-crash", dir); err != nil {
		t.Fatal(err)
	}
	m2, outside := filepath.Join(dir, "m2"), filepath.Join(dir, "log of m2")
	link := func(to, at string) {
		t.Helper()
		if err := os.Symlink(to, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(filepath.Join(m2, "member", "wal"), outside); err != nil {
		t.Fatal(err)
	}
	link("m2", filepath.Join(dir, "without log"))
	plans := map[string]*restore.Plan{
		"log given": copyPlan(t, filepath.Join(dir, "without log"), source.Options{WALDir: outside}),
	}
	link(outside, filepath.Join(m2, "member", "wal"))
	link("m2", filepath.Join(dir, "linked"))
	plans["log linked"] = copyPlan(t, filepath.Join(dir, "linked"), source.Options{})
	plans["member directory"] = copyPlan(t, filepath.Join(dir, "linked", "member"), source.Options{})
	for name, p := range plans {
		at := t.TempDir()
		copied := p.Here[0]
		if len(copied.Clears) != 1 || !strings.HasPrefix(copied.Clears[0], "copy-") {
			t.Fatalf("%s: what a copy that was cut short has left stays: %q", name, copied.Clears)
		}
		cmd := exec.Command(copied.Argv[0], copied.Argv[1:]...)
		cmd.Dir = at
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		for from, to := range map[string]string{filepath.Join(m2, "member", "snap"): "snap", outside: "wal"} {
			same(t, name, from, filepath.Join(at, copied.Clears[0], "member", to))
		}
	}
}

// copyPlan is the plan to start a copy of one directory.
func copyPlan(t *testing.T, path string, o source.Options) *restore.Plan {
	t.Helper()
	c := inspecttest.Sources(t, inspect.Options{Digest: true}, sourcetest.Open(t, o, path))
	p := planned(t, c, restore.Options{Single: true, EtcdVersion: "3.8"}) // whose log only it applies
	if p.Way != restore.WayForceNewCluster {
		t.Fatalf("%s: %s", path, p.Way)
	}
	return p
}

// same wants the files of one folder in the other, as files of their own.
func same(t *testing.T, name, from, to string) {
	t.Helper()
	entries, err := os.ReadDir(from)
	if err != nil || len(entries) == 0 {
		t.Fatalf("%s: %v, %d files", name, err, len(entries))
	}
	for _, e := range entries {
		want, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(to, e.Name()))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %s is not in the copy as it was: %v", name, e.Name(), err)
		}
	}
	filepath.WalkDir(filepath.Dir(filepath.Dir(to)), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			t.Errorf("%s: %s is a link (%v)", name, path, err)
		}
		return nil
	})
}

// TestPlansThatDifferShareNoTag: scripts note under it what has been done, and a plan that
// is made again with another directory must not pass over what the one before has done.
func TestPlansThatDifferShareNoTag(t *testing.T) {
	snapshot, member := caseOf(t, "healthy-3.7", "snapshot.db"), caseOf(t, "cluster3-3.6-crash", "m1", "m3")
	seen := map[string]restore.Options{}
	for _, o := range []restore.Options{
		{}, {DataDir: "/var/lib/etcd/default"}, {WALDir: "/wal"}, {WorkDir: "/work"}, {EtcdVersion: "3.7.1"}, {Platform: restore.PlatformSystemd},
		{Token: "t"}, {Members: three}, {Members: three, Single: true}, {Members: three[:1]}, {Platform: restore.PlatformK3s}, {Platform: restore.PlatformRKE2},
	} {
		tag := planned(t, snapshot, o).Tag
		if other, taken := seen[tag]; taken {
			t.Errorf("%+v and %+v have the tag %s", o, other, tag)
		}
		seen[tag] = o
		if again := planned(t, snapshot, o).Tag; again != tag {
			t.Errorf("%+v: %s, then %s", o, tag, again)
		}
	}
	if one, other := planned(t, member, restore.Options{}), planned(t, member, restore.Options{DataDir: "/etcd"}); one.Tag == other.Tag {
		t.Errorf("directories apart, and both have the tag %s", one.Tag)
	}
}

// TestHostsAreToldApart: a script that is run on the host of another member must not stop
// and move away what that one serves.
func TestHostsAreToldApart(t *testing.T) {
	rejoin := planned(t, caseOf(t, "cluster3-3.6-crash", "m1", "m3"), restore.Options{})
	single := planned(t, caseOf(t, "cluster3-3.6-crash", "m1"), restore.Options{Single: true})
	moved := planned(t, caseOf(t, "cluster3-3.6-crash", "m1"), restore.Options{Members: three})
	others := func(p *restore.Plan, host string, phase restore.Phase) (list []inspect.ID) {
		for _, h := range p.Hosts {
			for i, s := range h.Steps {
				if h.Name != host || s.Phase != phase || i > 0 && h.Steps[i-1].Phase == phase {
					continue
				}
				for _, g := range s.Refuses {
					if g.Kind == restore.GuardOther {
						list = append(list, g.MemberIDs...)
					}
				}
			}
		}
		return list
	}
	for _, m := range rejoin.Members {
		if !slices.Contains(others(rejoin, "m2", restore.PhaseJoin), *m.MemberID) {
			t.Errorf("m2 may take the place of %s", m.Name)
		}
	}
	for _, tt := range []struct {
		host  string
		phase restore.Phase
		want  int
	}{{"m1", restore.PhaseRestore, 2}, {"m2", restore.PhaseStop, 3}, {"m2", restore.PhaseJoin, 3}} {
		list := others(single, tt.host, tt.phase)
		if len(list) != tt.want || slices.Contains(list, *single.Members[0].MemberID) == (tt.host == "m1") {
			t.Errorf("%s on %s is kept off %v", tt.phase, tt.host, list)
		}
	}
	// Whose host was whose before, nobody knows; what came out of the plan is known.
	if list := others(moved, "a", restore.PhaseRestore); len(list) != 2 {
		t.Errorf("kept off %v", list)
	}
}

// TestARestoreThatFailedCanBeTriedAgain: etcdutl takes neither a data directory nor a WAL
// directory that is there, and what it has made of both before it failed stays.
func TestARestoreThatFailedCanBeTriedAgain(t *testing.T) {
	p := planned(t, caseOf(t, "healthy-3.7", "snapshot.db"), restore.Options{WALDir: "/wal/etcd"})
	argv := restores(p)["m1"]
	for _, s := range p.Hosts[0].Steps {
		if !slices.Equal(s.Argv, argv) {
			continue
		}
		for _, name := range []string{"data-dir", "wal-dir"} {
			dir, _ := flag(argv, name)
			if !slices.Contains(s.Clears, dir) || !strings.Contains(dir, p.Tag) {
				t.Errorf("%s %s is not removed before it is made again: %v", name, dir, s.Clears)
			}
			if slices.ContainsFunc(s.Refuses, func(g restore.Guard) bool { return g.Kind == restore.GuardExists && g.Path == dir }) {
				t.Errorf("%s is refused", dir)
			}
		}
		return
	}
	t.Error("nothing is restored")
}

// TestALogElsewhereIsNamed: a log that lies outside of the data directory is named by its
// own path.
func TestALogElsewhereIsNamed(t *testing.T) {
	dir := t.TempDir()
	if err := fixtures.Unpack("cluster3-3.7-crash", dir); err != nil {
		t.Fatal(err)
	}
	m2, outside := filepath.Join(dir, "m2"), filepath.Join(dir, "log of m2")
	if err := os.Rename(filepath.Join(m2, "member", "wal"), outside); err != nil {
		t.Fatal(err)
	}
	c := inspecttest.Sources(t, inspect.Options{Digest: true}, sourcetest.Open(t, source.Options{WALDir: outside}, m2))
	p := planned(t, c, restore.Options{Single: true})
	if p.Way != restore.WayRollForward || !slices.Contains(p.Here[0].Argv, "--wal="+outside) || !slices.Contains(p.Here[0].Argv, "--base="+m2) {
		t.Errorf("%s: %q", p.Way, p.Here[0].Argv)
	}
}

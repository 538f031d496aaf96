package report_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	"etcd-forensics/report"
)

// evidenceOf inspects sources of a fixture, which it unpacks to the current folder.
func evidenceOf(t *testing.T, fixture string, sources ...string) *inspect.Case {
	t.Helper()
	if _, err := os.Stat(fixture); err != nil {
		if err := fixtures.Unpack(fixture, fixture); err != nil {
			t.Fatal(err)
		}
	}
	var paths []string
	for _, s := range sources {
		paths = append(paths, filepath.Join(fixture, s))
	}
	return inspecttest.Paths(t, inspect.Options{Digest: true}, paths...)
}

var three = []restore.NewMember{
	{Name: "a", PeerURLs: []string{"https://10.0.0.1:2380"}}, {Name: "b", PeerURLs: []string{"https://10.0.0.2:2380"}}, {Name: "c", PeerURLs: []string{"https://10.0.0.3:2380"}},
}

// takesMembers says whether --member has a meaning on the platform.
func takesMembers(platform string) bool {
	o := restore.Options{Platform: platform, Members: three}
	return o.Check() == nil
}

// TestPlansOfEveryPlatform compares the plans of one snapshot for three members, and of a
// member's database for one, with golden files.
func TestPlansOfEveryPlatform(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	snapshot, database := evidenceOf(t, "healthy-3.6", "snapshot.db"), evidenceOf(t, "healthy-3.6", "m1/member/snap/db")
	plans := map[string][]byte{}
	for _, platform := range restore.Platforms() {
		o := restore.Options{Platform: platform}
		if takesMembers(platform) {
			o.Members = three
		}
		var b bytes.Buffer
		outline(&b, restore.New(snapshot, o))
		b.WriteString("\n")
		outline(&b, restore.New(database, restore.Options{Platform: platform, Single: true}))
		plans[platform] = b.Bytes()
	}
	t.Chdir(here)
	for platform, text := range plans {
		golden(t, filepath.Join("plan", platform+".txt"), text)
	}
}

// outline writes a plan shortly: what each host does, without what it does like the host
// before, and why only where a person does it.
func outline(w io.Writer, p *restore.Plan) {
	if p.Refused != nil {
		fmt.Fprintf(w, "no plan: %s\ninstead: %s\n", *p.Refused, p.Instead)
		return
	}
	var about []string
	for _, warning := range p.Warnings {
		about = append(about, warning.About)
	}
	fmt.Fprintf(w, "%s of %s, members %d, joining %d, ids by platform %v\nbeware: %s\n", p.Way, p.File.Path, len(p.Members), len(p.Joining), p.IDsByPlatform, strings.Join(about, " "))
	var scripts []string // of sh -c, which stand once at the end
	hosts := append([]restore.Host{{Name: "here", Steps: p.Here}}, p.Hosts...)
	for _, phase := range append([]restore.Phase{restore.PhaseHere}, restore.Phases...) {
		var before []string
		for _, h := range hosts {
			var lines []string
			for _, s := range h.Steps {
				if s.Phase == phase {
					lines = append(lines, outlineStep(s, &scripts))
				}
			}
			own := slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return slices.Contains(before, l) })
			for _, line := range own {
				fmt.Fprintf(w, "%s %s: %s\n", phase, h.Name, line)
			}
			switch {
			case len(own) > 0 || len(lines) == 0:
			case len(lines) == len(before):
				fmt.Fprintf(w, "%s %s: as the host before\n", phase, h.Name)
			default:
				fmt.Fprintf(w, "%s %s: as the host before, %d of %d steps\n", phase, h.Name, len(lines), len(before))
			}
			if len(lines) > 0 {
				before = lines
			}
		}
	}
	for i, script := range scripts {
		fmt.Fprintf(w, "SCRIPT%d: %s\n", i+1, script)
	}
}

func outlineStep(s restore.Step, scripts *[]string) string {
	argv := slices.Clone(s.Argv)
	for i := range argv {
		if i < 2 || argv[i-1] != "-c" || argv[i-2] != "sh" {
			continue
		}
		n := slices.Index(*scripts, argv[i])
		if n < 0 {
			*scripts = append(*scripts, argv[i])
			n = len(*scripts) - 1
		}
		argv[i] = fmt.Sprintf("SCRIPT%d", n+1)
	}
	line := report.ShellLine(append(slices.Clone(s.Env), argv...))
	if len(s.Argv) == 0 {
		line = "(by hand) " + s.Why
	}
	if s.StdoutTo != "" {
		line += " >" + s.StdoutTo
	}
	if s.AppendTo != "" {
		line += " >>" + s.AppendTo
	}
	return line
}

// TestIDsOfThePlatformAreNotClaimed: where it gives them, no form of a plan has any.
func TestIDsOfThePlatformAreNotClaimed(t *testing.T) {
	t.Chdir(t.TempDir())
	c := evidenceOf(t, "healthy-3.6", "snapshot.db")
	for platform, own := range map[string]bool{"systemd": false, "k3s": true, "openshift": true, "talos": true, "kops": true} {
		p := restore.New(c, restore.Options{Platform: platform})
		var text, asJSON, runbook bytes.Buffer
		if err := errors.Join(report.Plan(&text, p, report.TextOptions{}), report.PlanJSON(&asJSON, p), report.PlanMarkdown(&runbook, p)); err != nil {
			t.Fatal(err)
		}
		var view struct {
			ClusterID, OldClusterID *string
			Token                   string
			IDsByPlatform           bool
			Members                 []struct{ MemberID *string }
		}
		if err := json.Unmarshal(asJSON.Bytes(), &view); err != nil {
			t.Fatal(err)
		}
		if (view.ClusterID == nil) != own || (view.Token == "") != own || view.IDsByPlatform != own || (view.Members[0].MemberID == nil) != own {
			t.Errorf("%s: JSON says %+v", platform, view)
		}
		for form, said := range map[string]string{"text": text.String(), "markdown": runbook.String()} {
			if given := strings.Contains(said, "member ids and token are given by "+platform); given != own {
				t.Errorf("%s: %s says %v that it gives the ids", platform, form, given)
			}
			if strings.Contains(said, "etcd-restore-") == own {
				t.Errorf("%s: %s has a token: %v", platform, form, !own)
			}
		}
	}
}

// somePlans are plans of every platform, way and form, by a name for tests.
func somePlans(t *testing.T, members []restore.NewMember, data, work string) map[string]*restore.Plan {
	t.Helper()
	cases := map[string]*inspect.Case{
		"snapshot": evidenceOf(t, "healthy-3.6", "snapshot.db"), "database": evidenceOf(t, "healthy-3.6", "m1/member/snap/db"),
		"log": evidenceOf(t, "healthy-3.4", "m1"), "rejoin": evidenceOf(t, "cluster3-3.6-crash", "m1", "m3"),
	}
	plans := map[string]*restore.Plan{}
	for _, platform := range restore.Platforms() {
		for evidence, c := range cases {
			o := restore.Options{Platform: platform, Single: evidence == "database", Members: members, DataDir: data, WorkDir: work}
			if evidence == "rejoin" {
				o.Members = nil
			} else if !takesMembers(platform) {
				o.Members = nil
			}
			if strings.HasPrefix(platform, "k3s") && platform != "k3s-external" || platform == "rke2" {
				if data != "" {
					o.DataDir = data + "/server/db/etcd"
				}
			}
			if err := o.Check(); err != nil { // where data is, is the platform's
				o.DataDir = ""
			}
			if err := o.Check(); err != nil {
				o.WorkDir = ""
			}
			if err := o.Check(); err != nil {
				t.Fatal(err)
			}
			if p := restore.New(c, o); p.Refused == nil {
				plans[platform+" "+evidence] = p
			} else if platform != "dcos" {
				t.Errorf("%s %s: refused: %s", platform, evidence, *p.Refused)
			}
		}
	}
	return plans
}

func TestScriptsPassShellcheck(t *testing.T) {
	if _, err := exec.LookPath("shellcheck"); err != nil {
		if os.Getenv("FULL") != "" {
			t.Fatal("there is no shellcheck on this machine")
		}
		t.Skip("skipped: there is no shellcheck on this machine")
	}
	t.Chdir(t.TempDir())
	args := []string{"--shell=sh", "--severity=style", "--format=gcc"}
	for name, p := range somePlans(t, three, "", "") {
		var first, last []byte // hosts between differ in nothing but names
		for _, s := range report.PlanScripts(p) {
			if !strings.HasSuffix(s.Name, ".sh") {
				continue
			}
			if last = s.Text; strings.HasPrefix(s.Name, "01-") || first == nil {
				first = s.Text
			}
		}
		for i, text := range [][]byte{first, last} {
			if i == 1 && bytes.Equal(first, last) || os.Getenv("FULL") == "" && !strings.HasSuffix(name, "database") && !strings.HasSuffix(name, "rejoin") {
				continue
			}
			path := fmt.Sprintf("%s-%d.sh", strings.ReplaceAll(name, " ", "-"), i)
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, path)
		}
	}
	out, err := exec.Command("shellcheck", args...).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%.4000s", err, out)
	}
}

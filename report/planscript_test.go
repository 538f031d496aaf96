package report_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"etcd-forensics/inspect/restore"
	"etcd-forensics/report"
)

// evilMembers are members as evidence of an attacker could name them.
var evilMembers = []restore.NewMember{
	{Name: "$(reboot)", PeerURLs: []string{"http://$(reboot):2380"}},
	{Name: "x; rm -rf /", PeerURLs: []string{"http://10.0.0.2:2380"}},
	{Name: "`halt`'\"\\&|>~*{a}", PeerURLs: []string{"http://10.0.0.3:2380"}},
}

// A sandbox has fake commands that log their arguments, byte for byte, and nothing else
// in its PATH but what the scripts' own functions need.
type sandbox struct {
	dir string
}

// movers are run by steps and by the scripts' own functions.
var movers = []string{"mkdir", "mv", "cp"}

// fake logs its name and arguments, and says what is prepared for them. The scripts' own
// functions give sha256sum no arguments. Commands in the background run beside others.
const fake = `#!/bin/sh
if [ "${0##*/}" = sha256sum ] && [ $# -eq 0 ]; then exec %s; fi
cd '%s' || exit 1
printf '%%s\0' "${0##*/}" "$@" >"call-$$"
key=$(%[1]s <"call-$$")
printf '\n\0' >>"call-$$"
cat "call-$$" >>log
if [ -e "say-${key%%%% *}" ]; then cat "say-${key%%%% *}"; fi
`

// libraryTools are run by the functions of the scripts.
var libraryTools = []string{"cat", "date", "env", "nohup", "od", "rm", "sha256sum", "sleep", "tee", "tr", "flock"}

func newSandbox(t *testing.T, argvs [][]string) *sandbox {
	t.Helper()
	s := &sandbox{dir: t.TempDir()}
	if err := os.Mkdir(filepath.Join(s.dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tool := range libraryTools {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Skipf("skipped: there is no %s on this machine", tool)
		}
		if tool == "sleep" {
			path = "/bin/true"
		}
		if err := os.Symlink(path, filepath.Join(s.dir, "bin", tool)); err != nil {
			t.Fatal(err)
		}
	}
	sum, err := exec.LookPath("sha256sum")
	if err != nil {
		t.Fatal(err)
	}
	names := append([]string{"sha256sum", "reboot", "halt"}, movers...)
	for _, argv := range argvs {
		names = append(names, filepath.Base(argv[0]))
	}
	for _, name := range names {
		path := filepath.Join(s.dir, "bin", name)
		os.Remove(path)
		s.write(t, path, fmt.Sprintf(fake, sum, s.dir), 0o700)
	}
	return s
}

func (s *sandbox) write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// calls are the logged commands in their order.
func (s *sandbox) calls(t *testing.T) [][]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var calls [][]string
	for _, call := range strings.SplitAfter(string(b), "\x00\n\x00") {
		if call = strings.TrimSuffix(call, "\x00\n\x00"); call != "" {
			calls = append(calls, strings.Split(call, "\x00"))
		}
	}
	return calls
}

// TestScriptsOfHostileNamesDoNothingElse runs the scripts of every platform for members
// whose names are commands, and compares the arguments of all that they run with the plan.
func TestScriptsOfHostileNamesDoNothingElse(t *testing.T) {
	for _, tool := range libraryTools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("skipped: there is no %s on this machine", tool)
		}
	}
	t.Chdir(t.TempDir())
	root := t.TempDir()
	plans := somePlans(t, evilMembers, root+"/data $(reboot)", root+"/work $(reboot)")
	i := 0
	for _, platform := range restore.Platforms() {
		for _, evidence := range []string{"snapshot", "database", "rejoin"} {
			p := plans[platform+" "+evidence]
			if p == nil || testing.Short() && platform != "systemd" && platform != "k3s" {
				continue
			}
			for k, shell := range shells {
				if path, err := exec.LookPath(shell); err != nil || (platform != "systemd" || evidence != "database") && k != i%len(shells) {
					continue
				} else {
					t.Run(platform+" "+evidence+" "+shell, func(t *testing.T) { runScripts(t, path, root, p) })
				}
			}
			i++
		}
	}
}

func runScripts(t *testing.T, shell, root string, p *restore.Plan) {
	all := append([][]restore.Step{p.Here}, stepsOfHosts(p)...)
	for _, s := range slices.Concat(all...) {
		if len(s.Argv) > 0 && filepath.IsAbs(s.Argv[0]) {
			s.Argv[0] = filepath.Base(s.Argv[0]) // there is none in the sandbox
		}
	}
	scripts := report.PlanScripts(p)
	i := 0
	for _, steps := range all {
		if len(steps) == 0 {
			continue
		}
		for !strings.HasSuffix(scripts[i].Name, ".sh") {
			i++
		}
		runScript(t, shell, root, p, scripts[i], steps)
		i++
	}
}

func stepsOfHosts(p *restore.Plan) [][]restore.Step {
	var list [][]restore.Step
	for _, h := range p.Hosts {
		list = append(list, h.Steps)
	}
	return list
}

func runScript(t *testing.T, shell, root string, p *restore.Plan, script report.Script, steps []restore.Step) {
	t.Helper()
	var want, background [][]string
	for _, s := range steps {
		switch {
		case s.Background:
			background = append(background, s.Argv)
		case len(s.Argv) > 0:
			want = append(want, s.Argv)
		}
	}
	box := newSandbox(t, slices.Concat(want, background))
	replies := map[string]string{} // by what asks for them; some ask twice for different answers
	for _, s := range steps {
		if len(s.Argv) > 0 && s.Expect != nil && !s.Expect.Empty {
			key := sha256.Sum256([]byte(strings.Join(s.Argv, "\x00") + "\x00"))
			replies["say-"+hex.EncodeToString(key[:])] += s.Expect.Contains + "\n"
		}
	}
	for name, text := range replies {
		box.write(t, filepath.Join(box.dir, name), text, 0o600)
	}
	box.write(t, filepath.Join(box.dir, script.Name), string(script.Text), 0o600)
	work := p.WorkDir
	if script.Name == "00-here.sh" {
		work = box.dir
	}
	for _, key := range []string{"here", "01", "02", "03"} {
		if err := os.MkdirAll(filepath.Join(work, p.Tag+"-state-"+key), 0o700); err != nil {
			t.Skipf("skipped: %v", err)
		}
	}
	for _, s := range steps { // the fake mkdir makes no folders
		if s.AppendTo != "" && filepath.IsAbs(s.AppendTo) {
			if err := os.MkdirAll(filepath.Dir(s.AppendTo), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	defer os.RemoveAll(filepath.Join(root, "data $(reboot)"))
	defer os.RemoveAll(filepath.Join(root, "work $(reboot)"))
	database := filepath.Join(p.DataDir, "member", "snap", "db")
	for _, phase := range append([]restore.Phase{restore.PhaseHere}, restore.Phases...) {
		if !slices.ContainsFunc(steps, func(s restore.Step) bool { return s.Phase == phase }) {
			continue
		}
		if phase == restore.PhaseRestore && p.File.OnHost != "" && strings.HasPrefix(p.File.OnHost, root) {
			copyFile(t, p.File.Path, p.File.OnHost)
		}
		if phase == restore.PhaseStart && strings.HasPrefix(database, root) {
			box.write(t, database, "", 0o600)
		}
		if phase == restore.PhaseJoin {
			os.RemoveAll(filepath.Join(p.DataDir, "member"))
		}
		cmd := exec.Command(shell, filepath.Join(box.dir, script.Name), string(phase))
		cmd.Dir, cmd.Env = box.dir, []string{"PATH=" + filepath.Join(box.dir, "bin"), "CONFIRM=yes"}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", script.Name, phase, err, out)
		}
	}
	for _, argv := range background {
		is := func(got []string) bool { return slices.Equal(got, argv) }
		for end := time.Now().Add(5 * time.Second); !slices.ContainsFunc(box.calls(t), is); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: not run in the background: %q", script.Name, argv)
			}
		}
	}
	got := slices.DeleteFunc(box.calls(t), func(argv []string) bool {
		return isLibraryCall(argv, p.Tag) || slices.ContainsFunc(background, func(b []string) bool { return slices.Equal(b, argv) })
	})
	if !slices.EqualFunc(got, want, slices.Equal) {
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) || !slices.Equal(got[i], want[i]) {
				t.Fatalf("%s: command %d of %d is\n%q\nnot\n%q", script.Name, i+1, len(want), at(got, i), at(want, i))
			}
		}
	}
}

func at(list [][]string, i int) []string {
	if i < len(list) {
		return list[i]
	}
	return nil
}

// isLibraryCall tells what the scripts' functions run from what the steps do: they make
// the folder of the state and put whole files in place.
func isLibraryCall(argv []string, tag string) bool {
	last := argv[len(argv)-1]
	switch argv[0] {
	case "mkdir":
		return len(argv) == 4 && strings.Contains(last, tag+"-state-")
	case "mv":
		return len(argv) == 3 && argv[1] == last+".part"
	case "cp":
		return len(argv) == 5 && argv[1] == "-p" && last == argv[3]+".part"
	}
	return false
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestFunctionsOfScripts tries those that no plan of a test reaches with real commands:
// what is appended is there once, whole, and silence is told from words.
func TestFunctionsOfScripts(t *testing.T) {
	p := &restore.Plan{Platform: "plain", Tag: "tag", Hosts: []restore.Host{}}
	step := func(argv []string, change func(*restore.Step)) restore.Step {
		s := restore.Step{Phase: restore.PhaseHere, Why: "w", Check: "c", IfNot: "n", Argv: argv}
		change(&s)
		return s
	}
	for _, shell := range shells {
		if _, err := exec.LookPath(shell); err != nil {
			continue
		}
		for _, tt := range []struct {
			name string
			step restore.Step
			ends bool
			file string // what is in the file afterwards
		}{
			{"append", step([]string{"printf", "more"}, func(s *restore.Step) { s.AppendTo = "file" }), true, "textmore"},
			{"append of what fails", step([]string{"sh", "-c", "printf more; exit 1"}, func(s *restore.Step) { s.AppendTo = "file" }), false, "text"},
			{"append to nothing", step([]string{"printf", "more"}, func(s *restore.Step) { s.AppendTo = "none" }), false, "text"},
			{"silence", step([]string{"true"}, func(s *restore.Step) { s.Expect = &restore.Expect{Empty: true} }), true, "text"},
			{"no silence", step([]string{"echo", "x"}, func(s *restore.Step) { s.Expect = &restore.Expect{Empty: true} }), false, "text"},
			{"silence of what fails", step([]string{"false"}, func(s *restore.Step) { s.Expect = &restore.Expect{Empty: true} }), false, "text"},
			{"there", step([]string{"true"}, func(s *restore.Step) { s.Refuses = []restore.Guard{{Kind: restore.GuardMissing, Path: "file"}} }), true, "text"},
			{"missing", step([]string{"true"}, func(s *restore.Step) { s.Refuses = []restore.Guard{{Kind: restore.GuardMissing, Path: "none"}} }), false, "text"},
		} {
			dir := t.TempDir()
			p.Here = []restore.Step{tt.step}
			if err := os.WriteFile(filepath.Join(dir, "file"), []byte("text"), 0o600); err != nil {
				t.Fatal(err)
			}
			text := report.PlanScripts(p)[1].Text
			for range 2 { // a second run does nothing more
				cmd := exec.Command(shell, "-s", "here")
				cmd.Dir, cmd.Stdin = dir, bytes.NewReader(text)
				if out, err := cmd.CombinedOutput(); (err == nil) != tt.ends {
					t.Errorf("%s, %s: %v\n%s", shell, tt.name, err, out)
				}
			}
			if got, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(got) != tt.file {
				t.Errorf("%s, %s: %q, %v", shell, tt.name, got, err)
			}
			if _, err := os.Stat(filepath.Join(dir, "file.part")); err == nil {
				t.Errorf("%s, %s: a part is left", shell, tt.name)
			}
		}
	}
}

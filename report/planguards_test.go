package report_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/restore"
	"etcd-forensics/report"
)

// oneStep writes the script of one step that succeeds or fails, and runs it.
func oneStep(t *testing.T, s restore.Step, env ...string) (says string, ended bool) {
	t.Helper()
	s.Phase, s.Why, s.Check, s.IfNot = restore.PhaseHere, "w", "it is so", "n"
	p := &restore.Plan{Platform: "plain", Tag: "tag", Here: []restore.Step{s}, Hosts: []restore.Host{}}
	cmd := exec.Command("sh", "-s", "here")
	cmd.Stdin, cmd.Env = strings.NewReader(string(report.PlanScripts(p)[1].Text)), append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// TestScriptsAreForOneHost: the log in place says whose it is, in every version.
func TestScriptsAreForOneHost(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, fixture := range []string{"healthy-3.4", "cluster3-3.5-crash", "cluster3-3.6-crash", "cluster3-3.7-crash"} {
		c := evidenceOf(t, fixture, "m1")
		guard := func(id inspect.ID) restore.Step {
			return restore.Step{Argv: []string{"true"}, Refuses: []restore.Guard{{Kind: restore.GuardOther, Path: filepath.Join(fixture, "m1", "member", "wal"), MemberIDs: []inspect.ID{0xabcdef0123456789, id}}}}
		}
		if says, ended := oneStep(t, guard(*c.Members[0].MemberID)); ended || !strings.Contains(says, "is of another member of the plan") {
			t.Errorf("%s: the log of another member is touched: %s", fixture, says)
		}
		if says, ended := oneStep(t, guard(*c.Members[0].ClusterID)); !ended {
			t.Errorf("%s: the right log is refused: %s", fixture, says)
		}
		if err := os.RemoveAll("tag-state-here"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAStepThatWasCutShort can be said to have been done: that it was, nothing has noted.
func TestAStepThatWasCutShort(t *testing.T) {
	t.Chdir(t.TempDir())
	step := restore.Step{Argv: []string{"mkdir", "made"}, Refuses: []restore.Guard{{Kind: restore.GuardExists, Path: "made"}}}
	killed := restore.Step{Argv: []string{"sh", "-c", "mkdir made; kill -9 $PPID"}, Refuses: step.Refuses}
	if says, ended := oneStep(t, killed); ended {
		t.Fatalf("it was not cut short: %s", says)
	}
	for range 2 { // refused, however often
		if says, ended := oneStep(t, step); ended || !strings.Contains(says, "when it has been done (it is so), say so: DONE=here-01") {
			t.Errorf("what to do is not said: %s", says)
		}
	}
	if says, ended := oneStep(t, step, "DONE=here-02"); ended {
		t.Errorf("that another step has been done is taken for it: %s", says)
	}
	if says, ended := oneStep(t, step, "DONE=here-01"); !ended {
		t.Errorf("that it has been done is not taken: %s", says)
	}
	if says, ended := oneStep(t, step); !ended {
		t.Errorf("it has been done, and is not noted: %s", says)
	}
	// A step that failed by itself was not cut short.
	fails := restore.Step{Argv: []string{"false"}}
	if err := os.RemoveAll("tag-state-here"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if says, ended := oneStep(t, fails); ended || strings.Contains(says, "cut short") {
			t.Errorf("a failure is called an interruption: %s", says)
		}
	}
}

// TestRestsAreRemoved before the command, all of them.
func TestRestsAreRemoved(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, dir := range []string{"one/member", "the other"} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if says, ended := oneStep(t, restore.Step{Argv: []string{"mkdir", "one", "the other"}, Clears: []string{"one", "the other", "none"}}); !ended {
		t.Error(says)
	}
}

// TestSettingsOfTheShellDoNotReachEtcdctl: endpoints are given by flags, and etcdctl ends
// when the environment has them as well.
func TestSettingsOfTheShellDoNotReachEtcdctl(t *testing.T) {
	t.Chdir(t.TempDir())
	step := restore.Step{
		Argv:   []string{"sh", "-c", `echo "${ETCDCTL_ENDPOINTS-none} ${ETCDCTL_API-none} $ETCDCTL_USER"`},
		Expect: &restore.Expect{Contains: "none none root:x"},
	}
	if says, ended := oneStep(t, step, "ETCDCTL_ENDPOINTS=http://elsewhere:2379", "ETCDCTL_API=2", "ETCDCTL_USER=root:x"); !ended {
		t.Error(says)
	}
}

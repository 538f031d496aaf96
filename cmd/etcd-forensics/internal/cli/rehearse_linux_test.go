package cli_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"etcd-forensics/cmd/etcd-forensics/internal/cli"
	"etcd-forensics/fixtures"
)

// program makes the program of the test's own, as a process of its own.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "etcd-forensics") // by which TestMain knows it
	if err := os.Link(exe, name); err != nil {
		t.Skip(err)
	}
	return exec.Command(name, args...)
}

// processesOf lists the processes that have anything open below dir, or name it.
func processesOf(t *testing.T, dir string) (list []string) {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if filepath.Base(p) == strconv.Itoa(os.Getpid()) {
			continue
		}
		open, _ := filepath.Glob(p + "/fd/*") // nothing of those that have ended
		for _, f := range append(open, p+"/cwd") {
			if to, err := os.Readlink(f); err == nil && strings.HasPrefix(to, dir) {
				list = append(list, p+" "+to)
				break
			}
		}
	}
	return list
}

// TestNothingIsLeftOfARehearsalThatEndsEarly ends the program while etcd runs.
func TestNothingIsLeftOfARehearsalThatEndsEarly(t *testing.T) {
	for _, test := range []struct {
		stage  string
		signal syscall.Signal
		exit   int
	}{
		{"restore", syscall.SIGINT, cli.ExitPartial},
		{"boot", syscall.SIGTERM, cli.ExitPartial},
		{"boot", syscall.SIGKILL, -1},
	} {
		t.Run(test.stage+" "+test.signal.String(), func(t *testing.T) {
			t.Parallel()
			if testing.Short() {
				t.Skip("starts etcd")
			}
			dir := fixtures.Dir(t, "healthy-3.7")
			before, err := describe(dir)
			if err != nil {
				t.Fatal(err)
			}
			scratch := t.TempDir()
			cmd := program(t, "rehearse", "--progress", "always", "--scratch", scratch, "--single", filepath.Join(dir, "snapshot.db"))
			var out bytes.Buffer
			cmd.Stdout = &out
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(stderr)
			for lines.Scan() && !strings.HasSuffix(lines.Text(), "rehearse: "+test.stage) {
			}
			if test.stage == "boot" {
				time.Sleep(300 * time.Millisecond) // etcd is up, and elects
			}
			if err := cmd.Process.Signal(test.signal); err != nil {
				t.Fatal(err)
			}
			rest, _ := io.ReadAll(stderr)
			if err := cmd.Wait(); err != nil && !isExit(err) {
				t.Fatal(err)
			}
			if got := cmd.ProcessState.ExitCode(); got != test.exit {
				t.Errorf("exit code %d, not %d\n%s%s", got, test.exit, out.String(), rest)
			}
			if test.exit == cli.ExitPartial && !strings.HasPrefix(out.String(), "rehearsal: unfinished: interrupted\n") {
				t.Errorf("stdout: %s", out.String())
			}
			var left []os.DirEntry
			var running []string
			for range 100 { // what was killed cannot wait for its children
				left, err = os.ReadDir(scratch)
				running = processesOf(t, scratch)
				if err == nil && len(left)+len(running) == 0 {
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
			if err != nil || len(left)+len(running) > 0 {
				t.Errorf("left: %v, running: %v, %v", left, running, err)
			}
			if after, err := describe(dir); err != nil || after != before {
				t.Errorf("the evidence has changed (%v)", err)
			}
		})
	}
}

func isExit(err error) bool {
	_, ok := errors.AsType[*exec.ExitError](err)
	return ok
}

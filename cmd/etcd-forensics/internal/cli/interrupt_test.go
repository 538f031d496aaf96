package cli_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"etcd-forensics/cmd/etcd-forensics/internal/cli"
	"etcd-forensics/fixtures"
	"etcd-forensics/fixtures/mutants"
)

// Every command that can take long ends soon after an interrupt, at whatever moment it comes: with exit code 3
// and what was seen so far, or nothing, and with no file left.
func TestAnInterruptEndsEveryCommand(t *testing.T) {
	crash := fixtures.Dir(t, "cluster3-3.7-crash")
	m1, m2, m3 := filepath.Join(crash, "m1"), filepath.Join(crash, "m2"), filepath.Join(crash, "m3")
	packed := filepath.Join(t.TempDir(), "m1.tar.xz")
	if err := os.WriteFile(packed, packedTar(xzWriter)(t, mutants.Files(folder(t, "cluster3-3.7-crash/m1"))), 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := describe(crash)
	if err != nil {
		t.Fatal(err)
	}
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	out := filepath.Join(t.TempDir(), "out")
	random := rand.New(rand.NewPCG(7, 7))
	// The answer is there whenever the examination had begun, unless half of one would be none.
	for _, line := range []struct {
		args  []string
		whole bool // its answer, or nothing
	}{
		{args: []string{"inspect", m1, m2, m3}}, {args: []string{"inspect", m1, m2, m3, "-w", "html", "-o", out}},
		{args: []string{"inspect", "--prove", m1, m2, m3, "-w", "json"}}, {args: []string{"inspect", packed, "-w", "json"}},
		{args: []string{"compare", m1, m2, "-w", "json"}}, {args: []string{"members", m1, m2}}, {args: []string{"verify", m1, m2, "-w", "json"}}, {args: []string{"verify", packed, "-w", "json"}},
		{args: []string{"plan", m1, m2, m3, "-w", "json"}}, {args: []string{"explain", "backend-page-type", m1, m2, m3}},
		{args: []string{"keys", m2, "-w", "json"}}, {args: []string{"keys", m2, "--kubernetes", "-w", "csv"}}, {args: []string{"get", m2, "/", "--prefix", "-w", "json"}},
		{args: []string{"history", m2, "/", "--prefix", "-w", "json"}}, {args: []string{"diff", m1, m2, "-w", "json"}}, {args: []string{"hashkv", packed}},
		{args: []string{"pages", m1, "-w", "json"}, whole: true}, {args: []string{"pages", m1, "--list"}}, {args: []string{"pages", m1, "2-200", "-w", "json"}},
		{args: []string{"wal", m1}}, {args: []string{"wal", m1, "--stats", "-w", "json"}, whole: true},
		{args: []string{"salvage", m1, "--with", m2, "-o", out}, whole: true},
		{args: []string{"rollforward", "--base", m3, "--wal", m1, "-o", out}, whole: true},
		{args: []string{"redact", m1, m2, "-o", out}, whole: true},
	} {
		name := line.args[0] + " " + strings.Join(line.args[2:], " ")
		began := time.Now()
		if exit, _, stderr := run(t, line.args...); exit == cli.ExitUsage || exit == cli.ExitPartial {
			t.Fatalf("%s: exit %d without an interrupt: %s", name, exit, stderr)
		}
		whole := time.Since(began)
		if err := os.RemoveAll(out); err != nil {
			t.Fatal(err)
		}
		stopped := 0
		for i := range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			if i == 0 {
				cancel()
			}
			stop := time.AfterFunc(time.Duration(random.Int64N(int64(whole))), cancel)
			began := time.Now()
			exit, answer, stderr := runWith(ctx, line.args...)
			took := time.Since(began)
			stop.Stop()
			interrupted := ctx.Err() != nil && strings.Contains(stderr, "interrupted")
			cancel()
			if interrupted {
				stopped++
			}
			if interrupted != (exit == cli.ExitPartial) || strings.Contains(stderr, "context canceled") || took > whole+5*time.Second {
				t.Errorf("%s: exit %d after %v, stderr %q", name, exit, took, stderr)
			}
			if err := wellFormed(line.args, outcome{exit: exit, out: []byte(answer), stderr: []byte(stderr)}); err != nil && line.args[0] != "inspect" {
				t.Errorf("%s: %v", name, err)
			}
			_, err := os.Lstat(out)
			switch written := err == nil; {
			case interrupted && line.whole && (answer != "" || written):
				t.Errorf("%s: half an answer, file written: %t: %.200s", name, written, answer)
			case !interrupted && answer == "" && !written:
				t.Errorf("%s: no answer and no interrupt", name)
			case strings.Contains(stderr, "the report holds what was seen") && answer == "" && !written:
				t.Errorf("%s: no report, stderr %q", name, stderr)
			}
			left, err := os.ReadDir(temporary)
			if err := errors.Join(err, os.RemoveAll(out)); len(left) > 0 || err != nil {
				t.Fatalf("%s: left behind: %v %v", name, left, err)
			}
		}
		if stopped == 0 {
			t.Errorf("%s: no interrupt came before its end", name)
		}
	}
	if after, err := describe(crash); err != nil || before != after {
		t.Errorf("the evidence has changed (%v)", err)
	}
}

// An answer that cannot be written is not finished, whatever was written beside it.
func TestAnswersThatCannotBeWritten(t *testing.T) {
	m1 := filepath.Join(fixtures.Dir(t, "zombie-3.7"), "m1")
	for _, args := range [][]string{{"inspect", m1}, {"pages", m1}, {"salvage", m1, "-o", "OUT"}, {"rollforward", "--base", m1, "--wal", m1, "-o", "OUT"}, {"redact", m1, "-o", "OUT"}} {
		if i := slices.Index(args, "OUT"); i >= 0 {
			args[i] = filepath.Join(t.TempDir(), "out")
		}
		var errs strings.Builder
		exit := cli.Run(t.Context(), cli.Streams{Out: fullDisk{}, Err: &errs}, args)
		if exit != cli.ExitPartial || !strings.Contains(errs.String(), "no space left") {
			t.Errorf("%s: exit %d, %q", args[0], exit, errs.String())
		}
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

var _ io.Writer = fullDisk{}

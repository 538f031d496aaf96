package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"etcd-forensics/cmd/etcd-forensics/internal/cli"
	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
)

// run executes one command line.
func run(t testing.TB, args ...string) (exit int, stdout, stderr string) {
	t.Helper()
	return runWith(t.Context(), args...)
}

func runWith(ctx context.Context, args ...string) (exit int, stdout, stderr string) {
	var out, errs bytes.Buffer
	exit = cli.Run(ctx, cli.Streams{Out: &out, Err: &errs}, args)
	return exit, out.String(), errs.String()
}

// printable fails when text holds anything but printable characters and line
// ends.
func printable(t *testing.T, text string) {
	t.Helper()
	for _, r := range text {
		if r != '\n' && (!unicode.IsPrint(r) || r == unicode.ReplacementChar) {
			t.Errorf("%+q in the output", r)
			return
		}
	}
}

// preallocated are the fixtures whose WAL segments have etcd's full size.
var preallocated = []string{"membership-3.4", "bumped-3.6", "bumped-3.6-started"}

func TestEveryFixtureIsInspectedAsTextAndAsJSON(t *testing.T) {
	for _, f := range fixtures.All() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			if slices.Contains(preallocated, f.Name) && testing.Short() {
				t.Skip("its WAL segments of 64 MiB take the race detector a minute")
			}
			dir := fixtures.Dir(t, f.Name)
			before, err := describe(dir)
			if err != nil {
				t.Fatal(err)
			}
			want := cli.ExitSound
			for _, code := range f.Codes {
				if e, _ := inspect.Explain(inspect.Code(code)); e.Severity == inspect.SeverityError {
					want = cli.ExitFindings
				}
			}
			args := []string{"inspect"}
			for _, s := range f.Sources {
				args = append(args, filepath.Join(dir, s))
			}

			exit, text, stderr := run(t, args...)
			if exit != want || stderr != "" {
				t.Errorf("text: exit code %d, not %d; stderr %q", exit, want, stderr)
			}
			printable(t, text)
			exit, out, stderr := run(t, append(args, "-w", "json")...)
			if exit != want || stderr != "" {
				t.Errorf("JSON: exit code %d, not %d; stderr %q", exit, want, stderr)
			}
			printable(t, out)

			var c struct {
				SchemaVersion int
				Verdict       struct{ Grade string }
				Members       []struct{ Source string }
				Findings      []struct{ Code, Message string }
			}
			if err := json.Unmarshal([]byte(out), &c); err != nil {
				t.Fatal(err)
			}
			if c.SchemaVersion != 1 || len(c.Members) < len(f.Sources) {
				t.Errorf("schema %d, %d members", c.SchemaVersion, len(c.Members))
			}
			if !strings.HasPrefix(text, "verdict: "+c.Verdict.Grade+": ") {
				t.Errorf("JSON says %s, text begins with %.60q", c.Verdict.Grade, text)
			}
			for _, finding := range c.Findings {
				if !strings.Contains(text, finding.Code) {
					t.Errorf("the text does not name %s", finding.Code)
				}
			}
			if after, err := describe(dir); err != nil || after != before {
				t.Errorf("the evidence has changed (%v):\n%s\nbecame\n%s", err, before, after)
			}
		})
	}
}

func TestSameInputGivesTheSameBytes(t *testing.T) {
	dir := fixtures.Dir(t, "copied-while-running-3.6") // many findings
	sound := fixtures.Dir(t, "membership-3.7")
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	runs := 10
	if testing.Short() { // under the race detector, which looks at one run as well as at ten
		runs = 2
	}
	for _, format := range []string{"text", "json"} {
		var first string
		for _, procs := range []int{1, 2, 8} {
			runtime.GOMAXPROCS(procs)
			for i := range runs {
				_, out, _ := run(t, "inspect", "-w", format, filepath.Join(dir, "m1"), filepath.Join(sound, "m4"))
				if first == "" {
					first = out
				}
				if out != first {
					t.Fatalf("%s differs in run %d at GOMAXPROCS %d:\n%s\nwas\n%s", format, i, procs, out, first)
				}
			}
		}
	}
}

// gzipped is the smallest gzip file.
const gzipped = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// unusable are paths of which nothing can be judged: how each comes to be, and
// what the sentence about it says.
var unusable = []struct {
	name string
	make func(path string) error
	says string
}{
	{"missing", func(string) error { return nil }, "no such file"},
	{"empty file", func(p string) error { return os.WriteFile(p, nil, 0o600) }, "empty"},
	{"text file", func(p string) error { return os.WriteFile(p, bytes.Repeat([]byte("no database\n"), 1000), 0o600) }, "not an etcd file"},
	{"one byte", func(p string) error { return os.WriteFile(p, []byte{0}, 0o600) }, "not an etcd file"},
	{"zeros", func(p string) error { return os.WriteFile(p, make([]byte, 1<<20), 0o600) }, "not an etcd file"},
	{"gzip", func(p string) error { return os.WriteFile(p, []byte(gzipped), 0o600) }, "nothing is packed in it"},
	{"zstd", func(p string) error {
		return os.WriteFile(p, []byte("\x28\xb5\x2f\xfd\x04\x00\x01\x00\x00\x99\xe9\xd8\x51"), 0o600)
	}, "nothing is packed in it"},
	{"empty directory", func(p string) error { return os.Mkdir(p, 0o700) }, "no etcd files"},
	{"directory of others' files", func(p string) error {
		return errors.Join(os.Mkdir(p, 0o700), os.WriteFile(filepath.Join(p, "notes.txt"), []byte("x"), 0o600), os.Mkdir(filepath.Join(p, "sub"), 0o700))
	}, "no etcd files"},
	{"directory loop", func(p string) error {
		return errors.Join(os.Mkdir(p, 0o700), os.Symlink(".", filepath.Join(p, "again")), os.Symlink("member", filepath.Join(p, "member")))
	}, "no etcd files"},
	{"link to itself", func(p string) error { return os.Symlink(p, p) }, "loop of symbolic links"},
	{"link to nothing", func(p string) error { return os.Symlink("nowhere", p) }, "no such file"},
	{"device", func(p string) error { return os.Symlink(os.DevNull, p) }, "not a regular file"},
	{"name with an escape \x1b[31m", func(string) error { return nil }, `\x1b[31m": no such file`},
}

func TestUnusablePathsGetOneSentence(t *testing.T) {
	for _, command := range []string{"inspect", "hashkv"} {
		for _, u := range unusable {
			t.Run(command+" "+strings.ToValidUTF8(strings.Map(plainRune, u.name), ""), func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, u.name)
				if err := u.make(path); err != nil {
					t.Fatal(err)
				}
				before, err := describe(dir)
				if err != nil {
					t.Fatal(err)
				}
				exit, out, stderr := run(t, command, path)
				refused(t, exit, out, stderr, u.says)
				if after, err := describe(dir); err != nil || after != before {
					t.Errorf("%v; was\n%s\nis\n%s", err, before, after)
				}
			})
		}
	}
}

func plainRune(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return -1
}

// refused insists on exit code 2 and one sentence on standard error alone.
func refused(t *testing.T, exit int, out, stderr, says string) {
	t.Helper()
	if exit != cli.ExitUsage || out != "" {
		t.Errorf("exit code %d, stdout %q", exit, out)
	}
	printable(t, stderr)
	message, rest, _ := strings.Cut(stderr, "\n")
	if !strings.HasPrefix(message, "etcd-forensics: ") || !strings.Contains(message, says) || strings.HasSuffix(message, ".") || rest != "" {
		t.Errorf("stderr is %q; it should say %q in one line", stderr, says)
	}
}

func TestUnusablePathAmongUsableOnesLeavesTheExaminationUnfinished(t *testing.T) {
	db := filepath.Join(fixtures.Dir(t, "freelist-synced"), "db")
	missing := filepath.Join(t.TempDir(), "missing.db")
	exit, out, stderr := run(t, "inspect", db, missing)
	if exit != cli.ExitPartial || !strings.Contains(stderr, "missing.db: no such file") {
		t.Errorf("exit code %d, stderr %q", exit, stderr)
	}
	if !strings.HasPrefix(out, "verdict: inconclusive") || !strings.Contains(out, "not examined: "+missing) {
		t.Errorf("stdout:\n%s", out)
	}
	exit, out, stderr = run(t, "inspect", missing, filepath.Join(t.TempDir(), "other.db"))
	if exit != cli.ExitUsage || out != "" || strings.Count(stderr, "no such file") != 2 || strings.Index(stderr, "missing.db") > strings.Index(stderr, "other.db") {
		t.Errorf("exit code %d, stdout %q, stderr %q", exit, out, stderr)
	}
}

func TestInterruptGivesWhatWasSeen(t *testing.T) {
	db := filepath.Join(fixtures.Dir(t, "freelist-synced"), "db")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	exit, out, stderr := runWith(ctx, "inspect", "-w", "json", db)
	if exit != cli.ExitPartial || !strings.Contains(stderr, "etcd-forensics: interrupted") {
		t.Errorf("exit code %d, stderr %q", exit, stderr)
	}
	var c struct{ Verdict struct{ Grade string } }
	if err := json.Unmarshal([]byte(out), &c); err != nil || c.Verdict.Grade != "inconclusive" {
		t.Errorf("%v, grade %q", err, c.Verdict.Grade)
	}
	if exit, out, stderr := runWith(ctx, "hashkv", db); exit != cli.ExitPartial || out != "" || !strings.Contains(stderr, "interrupted") {
		t.Errorf("hashkv: exit code %d, stdout %q, stderr %q", exit, out, stderr)
	}
}

// TestHelpStatesTheExitCodes holds the help to the constants.
func TestHelpStatesTheExitCodes(t *testing.T) {
	exit, out, _ := run(t, "--help")
	if exit != cli.ExitSound {
		t.Errorf("exit code %d", exit)
	}
	for _, code := range []int{cli.ExitSound, cli.ExitFindings, cli.ExitUsage, cli.ExitPartial} {
		if !strings.Contains(out, fmt.Sprintf("\n  %d  ", code)) {
			t.Errorf("--help does not state exit code %d", code)
		}
	}
}

func TestNoValueAndNoPasswordIsPrinted(t *testing.T) {
	dir := fixtures.Dir(t, "auth-3.6")
	var all strings.Builder
	for _, format := range []string{"text", "json"} {
		_, out, _ := run(t, "inspect", "-w", format, dir)
		all.WriteString(out)
	}
	values, passwords := 0, 0
	db, err := bbolt.Open(filepath.Join(dir, "m1", "member", "snap", "db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		return errors.Join(
			tx.Bucket([]byte("key")).ForEach(func(_, v []byte) error {
				var kv mvccpb.KeyValue
				if err := proto.Unmarshal(v, &kv); err != nil {
					return err
				}
				if len(kv.Value) >= 12 { // shorter ones are in anything
					values++
					if start := string(kv.Value[:min(len(kv.Value), 64)]); strings.Contains(all.String(), start) {
						t.Errorf("the value of %q is printed", kv.Key)
					}
				}
				return nil
			}),
			tx.Bucket([]byte("authUsers")).ForEach(func(_, v []byte) error {
				var u authpb.User
				if err := proto.Unmarshal(v, &u); err != nil {
					return err
				}
				if len(u.Password) > 0 {
					passwords++
					if strings.Contains(all.String(), string(u.Password)) {
						t.Errorf("the password's hash of %q is printed", u.Name)
					}
				}
				return nil
			}))
	})
	if err != nil {
		t.Fatal(err)
	}
	if values < 10 || passwords < 2 {
		t.Errorf("only %d values and %d passwords were looked for", values, passwords)
	}
}

// TestReadmeShowsWhatTheProgramPrints holds README's transcript to a run on what
// `make demo` unpacks, and what `make demo` runs to its transcript.
func TestReadmeShowsWhatTheProgramPrints(t *testing.T) {
	root := filepath.Join("..", "..", "..", "..")
	readme, makefile := readFile(t, filepath.Join(root, "README.md")), readFile(t, filepath.Join(root, "Makefile"))
	transcript := regexp.MustCompile("(?s)\n\\$ \\./etcd-forensics (inspect build/demo[^ \n]*)[^\n]*\n(.*?)```").FindStringSubmatch(readme)
	demo := regexp.MustCompile(`fixtures/unpack ([a-z0-9.-]+) `).FindStringSubmatch(makefile)
	if transcript == nil || demo == nil {
		t.Fatal("README has no transcript of inspect, or the Makefile no demo")
	}
	for _, command := range []string{"make demo", "make test"} {
		if !strings.Contains(readme, "\n"+command+" ") {
			t.Errorf("README does not tell %s", command)
		}
	}
	dir := t.TempDir()
	t.Chdir(dir)
	if err := fixtures.Unpack(demo[1], filepath.Join(dir, "build", "demo")); err != nil {
		t.Fatal(err)
	}
	_, out, _ := run(t, strings.Fields(transcript[1])...)
	shows(t, transcript[1], strings.Split(out, "\n"), strings.Split(strings.TrimSuffix(transcript[2], "\n"), "\n"))
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCompletionKnowsTheCodes(t *testing.T) {
	_, out, _ := run(t, "__complete", "explain", "")
	lines := strings.Split(out, "\n")
	for _, code := range inspect.Codes() {
		if !slices.Contains(lines, string(code)) {
			t.Errorf("completion does not offer %s", code)
		}
	}
}

// TestWhatIsNotThereIsCalledWhatItIs: a prefix is no key, and a store that was never
// compacted was not compacted at a revision.
func TestWhatIsNotThereIsCalledWhatItIs(t *testing.T) {
	m1 := filepath.Join(fixtures.Dir(t, "healthy-3.7"), "m1")
	exit, _, stderr := run(t, "get", m1, "--prefix", "/registry/nothing/")
	if exit != cli.ExitFindings || !strings.Contains(stderr, `no key that begins with "/registry/nothing/" is there`) || !strings.Contains(stderr, "history --prefix") {
		t.Errorf("exit %d: %s", exit, stderr)
	}
	exit, stdout, stderr := run(t, "rollforward", "--wal", m1, "--to-revision", "500", "-o", filepath.Join(t.TempDir(), "then.db"))
	if exit != 0 || !strings.Contains(stdout, "at revision 500 (never compacted)") {
		t.Errorf("exit %d: %s%s", exit, stdout, stderr)
	}
}

// brokenPipe is an output that takes nothing.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// TestAnAnswerThatCannotBeWrittenIsNotFinished: whoever reads the exit code must not take
// it for a mistake in the arguments, or for an answer.
func TestAnAnswerThatCannotBeWrittenIsNotFinished(t *testing.T) {
	dir := fixtures.Dir(t, "healthy-3.7")
	m1, db := filepath.Join(dir, "m1"), filepath.Join(dir, "snapshot.db")
	for _, args := range [][]string{
		{"inspect", db}, {"compare", m1, db}, {"members", m1}, {"keys", db}, {"get", db, "leased/kept-0"}, {"history", m1, "leased/kept-0"}, {"diff", db, m1},
		{"hashkv", db}, {"pages", db}, {"wal", m1}, {"verify", db}, {"plan", db}, {"explain", "wal-checksum"}, {"version"},
	} {
		var stderr bytes.Buffer
		exit := cli.Run(t.Context(), cli.Streams{Out: brokenPipe{}, Err: &stderr}, args)
		if exit != cli.ExitPartial || !strings.Contains(stderr.String(), "no space left on device") {
			t.Errorf("%v: exit %d: %s", args, exit, stderr.String())
		}
	}
}

package cli_test

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"etcd-forensics/cmd/etcd-forensics/internal/cli"
	"etcd-forensics/fixtures"
)

var repository = filepath.Join("..", "..", "..", "..")

// taskPages are the pages by task, with the fewest examples that each must have.
var taskPages = map[string]int{
	"backup-verification.md": 5, "corrupt.md": 8, "dead-member.md": 5, "deleted.md": 6, "disk-full.md": 5,
	"evidence.md": 3, "quorum-lost.md": 5, "recovery.md": 4, "restore.md": 5,
}

// TestTaskPagesShowWhatIsPrinted runs the commands of the pages by task, in their order
// and on the evidence that they name: each must exit as said and print what is shown.
func TestTaskPagesShowWhatIsPrinted(t *testing.T) {
	for page, fewest := range taskPages {
		text := readFile(t, filepath.Join(repository, "docs", page))
		t.Run(page, func(t *testing.T) {
			t.Chdir(t.TempDir())
			examples := 0
			for _, block := range regexp.MustCompile("(?s)```console\n(.*?)\n```").FindAllStringSubmatch(text, -1) {
				for example := range strings.SplitSeq(block[1], "\n$ ") {
					lines := strings.Split(strings.TrimPrefix(example, "$ "), "\n")
					command, ok := strings.CutPrefix(lines[0], "etcd-forensics ")
					if !ok {
						t.Errorf("%q is no command of etcd-forensics", lines[0])
						continue
					}
					runExample(t, command, lines[1:])
					examples++
				}
			}
			if examples < fewest {
				t.Errorf("only %d examples found", examples)
			}
		})
	}
}

// runExample runs one command where fixtures lie under their names, and compares what
// it prints with an excerpt of it. The last line of that can say how it exits.
func runExample(t *testing.T, command string, want []string) {
	t.Helper()
	args, code := words(command), 0
	for _, arg := range args {
		unpackNamed(t, arg)
	}
	if last := len(want) - 1; last >= 0 && want[last] == "(exit code 1)" {
		want, code = want[:last], 1
	}
	var out, stderr bytes.Buffer
	if got := cli.Run(context.Background(), cli.Streams{In: strings.NewReader(""), Out: &out, Err: &stderr}, args); got != code {
		t.Errorf("%s: exit code %d, not %d\n%s", command, got, code, stderr.String())
	}
	shows(t, command, strings.Split(out.String()+stderr.String(), "\n"), want)
}

// unpackNamed writes the fixture that a path begins with, when it does with one.
func unpackNamed(t *testing.T, path string) {
	t.Helper()
	name, _, _ := strings.Cut(path, "/")
	if _, err := fixtures.Lookup(name); err != nil {
		return
	}
	if _, err := os.Stat(name); err == nil {
		return
	}
	if err := fixtures.Unpack(name, name); err != nil {
		t.Fatal(err)
	}
}

// words splits a command as a shell does that knows single quotes only.
func words(command string) []string {
	var list []string
	for _, m := range regexp.MustCompile(`'([^']*)'|(\S+)`).FindAllStringSubmatch(command, -1) {
		list = append(list, m[1]+m[2])
	}
	return list
}

// shows compares an excerpt with what is printed: "..." stands for any lines, and a line
// behind it may be the end of a longer one.
func shows(t *testing.T, command string, printed, excerpt []string) {
	t.Helper()
	skipped := false
	for _, line := range excerpt {
		if line == "..." {
			skipped = true
			continue
		}
		among := printed
		if !skipped {
			among = printed[:min(1, len(printed))]
		}
		i := slices.IndexFunc(among, func(p string) bool { return p == line || skipped && strings.HasSuffix(p, " "+line) })
		if i < 0 {
			t.Errorf("%s: does not print %q where it is shown, but\n%s", command, line, strings.Join(printed[:min(30, len(printed))], "\n"))
			return
		}
		printed, skipped = printed[i+1:], false
	}
}

// TestDocumentsNameCommandsAndFlagsThatExist goes through whatever else in the documents
// begins with the program's name: examples that need a cluster, units, tables.
func TestDocumentsNameCommandsAndFlagsThatExist(t *testing.T) {
	call := regexp.MustCompile("^etcd-forensics ([a-z]+)([^`|<>]*)")
	flag := regexp.MustCompile(`(?:^|\s|\[)--([a-z][a-z-]*)`)
	documents, err := fs.Glob(os.DirFS(repository), "docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	help, seen := map[string]string{}, 0
	for _, doc := range append(documents, "README.md") {
		for _, line := range callsOf(readFile(t, filepath.Join(repository, doc))) {
			m := call.FindStringSubmatch(line)
			if m == nil {
				continue // the name alone
			}
			name := m[1]
			if help[name] == "" {
				_, help[name], _ = run(t, name, "--help")
			}
			if !strings.Contains(help[name], "  etcd-forensics "+name) {
				t.Errorf("%s: there is no command %s", doc, name)
				continue
			}
			for _, f := range flag.FindAllStringSubmatch(m[2], -1) {
				if seen++; !regexp.MustCompile(`--` + f[1] + `[ \n]`).MatchString(help[name]) {
					t.Errorf("%s: %s has no flag --%s", doc, name, f[1])
				}
			}
		}
	}
	if seen < 60 {
		t.Errorf("only %d flags were found", seen)
	}
}

// callsOf keeps what stands in a document as code, one call a line. In manifests the
// command's arguments are a list.
func callsOf(text string) []string {
	var calls []string
	for _, m := range regexp.MustCompile("(?s)```[a-z]*\n(.*?)```|`([^`\n]+)`").FindAllStringSubmatch(text, -1) {
		code := strings.ReplaceAll(m[1], "\\\n", " ") + m[2]
		code = regexp.MustCompile(`args: \[([^\]]*)\]`).ReplaceAllStringFunc(code, func(list string) string {
			return "etcd-forensics " + strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(list, "args: ["), "]"), ", ", " ")
		})
		for line := range strings.Lines(code) {
			if at := strings.Index(line, "etcd-forensics "); at >= 0 {
				calls = append(calls, strings.TrimSpace(line[at:]))
			}
		}
	}
	return calls
}

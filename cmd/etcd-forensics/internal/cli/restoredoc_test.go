package cli_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"etcd-forensics/cmd/etcd-forensics/internal/cli"
	"etcd-forensics/fixtures"
)

// TestRestoreDocumentShowsWhatIsPrinted runs the commands of docs/restore.md on the
// evidence that they name: each must exit as said and print what is shown.
func TestRestoreDocumentShowsWhatIsPrinted(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "docs", "restore.md"))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	blocks := regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 10 {
		t.Fatalf("only %d examples found", len(blocks))
	}
	for _, block := range blocks {
		lines := strings.Split(strings.TrimSuffix(block[1], "\n"), "\n")
		command, ok := strings.CutPrefix(lines[0], "$ etcd-forensics ")
		if !ok {
			t.Errorf("%q is no command of etcd-forensics", lines[0])
			continue
		}
		args := words(command)
		for _, arg := range args {
			name, _, _ := strings.Cut(arg, "/")
			if _, err := fixtures.Lookup(name); err != nil {
				continue
			}
			if _, err := os.Stat(name); err != nil {
				if err := fixtures.Unpack(name, name); err != nil {
					t.Fatal(err)
				}
			}
		}
		want, code := lines[1:], 0
		if last := len(want) - 1; want[last] == "(exit code 1)" {
			want, code = want[:last], 1
		}
		var out, stderr bytes.Buffer
		if got := cli.Run(context.Background(), cli.Streams{In: strings.NewReader(""), Out: &out, Err: &stderr}, args); got != code {
			t.Errorf("%s: exit code %d, not %d\n%s", command, got, code, stderr.String())
		}
		shows(t, command, strings.Split(out.String(), "\n"), want)
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
			t.Errorf("%s: does not print %q where it is shown", command, line)
			return
		}
		printed, skipped = printed[i+1:], false
	}
}

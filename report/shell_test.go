package report_test

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"etcd-forensics/report"
)

// shells are those in which what is quoted must come out as it went in.
var shells = []string{"sh", "dash", "bash"}

func TestShellsReadWordsBack(t *testing.T) {
	words := []string{
		"", "plain", "--data-dir=/x y", "a'b", "$(reboot)", "`reboot`", "a\nb", "*", "x; rm -rf /", "\x1b[2J", "\n", "a\n", "a\n\n", "\r", "-n", "-e", "%s", `a\b`, `\033`, "é", "\xff\xfe",
		"'", "''", `"`, "$HOME", "~", "#x", "!x", "a=b", "\u202egnp.exe", "a\n'b'$(reboot)\n", "%", "\\", "[x]", "{a,b}", "a&b", "<x", ">x", "|x",
	}
	for c := 1; c < 256; c++ {
		words = append(words, string([]byte{byte(c)}), "a"+string([]byte{byte(c)})+"7")
	}
	for _, name := range shells {
		shell, err := exec.LookPath(name)
		if err != nil {
			t.Logf("skipped: there is no %s", name)
			continue
		}
		// printf with the words as its arguments: each is printed between two bytes that
		// occur in none of them as a pair.
		script := "printf '<%s>\\n\\n' " + report.ShellLine(words)
		out, err := exec.Command(shell, "-c", script).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		var want bytes.Buffer
		for _, w := range words {
			want.WriteString("<" + w + ">\n\n")
		}
		if !bytes.Equal(out, want.Bytes()) {
			for _, w := range words {
				out, err := exec.Command(shell, "-c", "printf '%s' "+report.ShellWord(w)).Output()
				if err != nil || string(out) != w {
					t.Errorf("%s: %q: read back %q (%v)", name, w, out, err)
				}
			}
			t.Errorf("%s does not read the words back", name)
		}
	}
}

// TestShellWordsAreHarmlessOnTerminals: no control character but newlines at the very
// end of a word.
func TestShellWordsAreHarmlessOnTerminals(t *testing.T) {
	for c := range 256 {
		w := report.ShellWord("a" + string([]byte{byte(c)}) + "b")
		if strings.ContainsFunc(w, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("byte %#x: %q", c, w)
		}
	}
}

func FuzzShellWord(f *testing.F) {
	for _, s := range []string{"plain", "a'b", "$(reboot)", "a\nb\n", "\x1b[2J"} {
		f.Add(s)
	}
	shell, err := exec.LookPath("sh")
	if err != nil {
		f.Skip("skipped: there is no sh")
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(s, "\x00") {
			return
		}
		out, err := exec.Command(shell, "-c", "printf '%s' "+report.ShellWord(s)).Output()
		if err != nil || string(out) != s {
			t.Fatalf("%q: read back %q (%v)", s, out, err)
		}
	})
}

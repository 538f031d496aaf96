package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// program builds one that uses nothing but the runtime.
func program(t *testing.T, arch string) []byte {
	t.Helper()
	dir := t.TempDir()
	source, out := filepath.Join(dir, "main.go"), filepath.Join(dir, "program")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() { println() }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", out, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=darwin", "GOARCH="+arch)
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWhatGoLinksWouldStart(t *testing.T) {
	for arch, want := range map[string]string{"amd64": "CpuAmd64 for macOS 12 and later, not signed, as it need not be", "arm64": "CpuArm64 for macOS 12 and later, signed ad hoc, "} {
		if says, err := check(program(t, arch)); err != nil || !strings.HasPrefix(says, want) {
			t.Errorf("%s: %q, %v", arch, says, err)
		}
	}
}

// load gives where the first load command of a kind lies.
func load(t *testing.T, b []byte, kind uint32) int {
	t.Helper()
	for at, n := 32, binary.LittleEndian.Uint32(b[16:]); n > 0; n-- { // behind mach_header_64
		if binary.LittleEndian.Uint32(b[at:]) == kind {
			return at
		}
		at += int(binary.LittleEndian.Uint32(b[at+4:]))
	}
	t.Fatalf("no load command %#x", kind)
	return 0
}

func TestWhatWouldNotStart(t *testing.T) {
	sound := program(t, "arm64")
	signed := load(t, sound, loadCodeSignature)
	blob := int(binary.LittleEndian.Uint32(sound[signed+8:]))
	directory := blob + int(binary.BigEndian.Uint32(sound[blob+16:]))
	for name, c := range map[string]struct {
		damage func(b []byte) []byte
		want   string
	}{
		"a byte of the code":      {func(b []byte) []byte { b[blob/2]++; return b }, "the hash of page"},
		"a byte of the last page": {func(b []byte) []byte { b[blob-1]++; return b }, "the hash of page"},
		"a hash":                  {func(b []byte) []byte { b[len(b)-40]++; return b }, "the hash of page"},
		"cut short":               {func(b []byte) []byte { return b[:len(b)-1] }, "beyond the end of the file"},
		"no signature":            {func(b []byte) []byte { b[signed] = 0x26; return b }, "not signed"},
		"signature of zeros":      {func(b []byte) []byte { clear(b[blob:]); return b }, "no signature there"},
		"no code directory":       {func(b []byte) []byte { b[directory]++; return b }, "no code directory"},
		"too many pages":          {func(b []byte) []byte { b[directory+28]++; return b }, "hashes for"},
		"hashes beyond the end":   {func(b []byte) []byte { b[directory+16]++; return b }, "do not fit"},
		"covers less":             {func(b []byte) []byte { b[directory+35]--; return b }, "covers"},
		"another library": {func(b []byte) []byte {
			return bytes.Replace(b, []byte("/usr/lib/libSystem"), []byte("/opt/lib/libSystem"), 1)
		}, "needs /opt/lib/libSystem"},
		"a later macOS":   {func(b []byte) []byte { b[load(t, b, loadBuildVersion)+14]++; return b }, "not for macOS 12"},
		"no entry":        {func(b []byte) []byte { clear(b[load(t, b, loadMain)+8:][:8]); return b }, "no entry point"},
		"another linker":  {func(b []byte) []byte { b[load(t, b, loadDylinker)+13]++; return b }, "not for /usr/lib/dyld"},
		"fixed addresses": {func(b []byte) []byte { b[26] = 0; return b }, "no position independent program"},
		"no program":      {func(b []byte) []byte { return b[:10] }, "EOF"},
	} {
		if says, err := check(c.damage(bytes.Clone(sound))); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q, %v; want %q", name, says, err, c.want)
		}
	}
}

package redact_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect/redact"
	"etcd-forensics/inspect/source"
)

// Whatever is flipped in a database or a log, no password, user or key is left in the copy, and nothing
// panics.
func TestDamageHidesNoSecret(t *testing.T) {
	dir := filepath.Join(fixtures.Dir(t, "auth-3.6"), "m1")
	hidden := append(hashes(t, dir), "certificate-only", "pods-writer", "fixture-alice", "no-permission")
	files, err := filepath.Glob(filepath.Join(dir, "member", "*", "*"))
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	for _, f := range files { // without what is preallocated
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, append(bytes.TrimRight(b, "\x00"), make([]byte, 4096-len(bytes.TrimRight(b, "\x00"))%4096)...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	n := 20
	if testing.Short() {
		n = 5
	}
	for range n {
		file := files[random.IntN(len(files))]
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		hurt := bytes.Clone(whole)
		used := len(bytes.TrimRight(hurt, "\x00"))
		secret := max(0, bytes.Index(hurt, []byte("$2a$10$")))
		for i := range 1 + random.IntN(40) {
			at := random.IntN(used)
			if i%2 == 0 { // beside a secret, where elements and lengths lead to it
				at = max(0, min(used-1, secret-600+random.IntN(700)))
			}
			hurt[at] ^= 1 << random.IntN(8)
		}
		if err := os.WriteFile(file, hurt, 0o600); err != nil {
			t.Fatal(err)
		}
		sources, problems := source.Open(t.Context(), []string{dir}, source.Options{})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		out := filepath.Join(t.TempDir(), "out")
		if _, err := redact.Run(t.Context(), sources, out, redact.Options{Seed: "damage"}); err != nil {
			t.Fatal(err)
		}
		sources[0].Close()
		for _, s := range hidden {
			if n := count(t, out, s); n > 0 {
				t.Errorf("%s damaged: %q is in the copy", filepath.Base(file), s)
			}
		}
		if err := os.WriteFile(file, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(out); err != nil {
			t.Fatal(err)
		}
	}
}

package inspect_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
)

// TestEveryBitOfALogCounts flips single bits in logs and .snap files: each lies
// under a checksum, in a length or in a place that is zero in every log, so each
// must be reported, and at the file it lies in.
func TestEveryBitOfALogCounts(t *testing.T) {
	inspect.InFullOnly(t)
	dir := fixtures.Dir(t, "healthy-3.6")
	snaps := fixtures.Dir(t, "cluster3-3.7-crash")
	var files []string
	for _, pattern := range []string{filepath.Join(dir, "m1", "member", "wal", "*.wal"), filepath.Join(snaps, "m1", "member", "snap", "*.snap")} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) < 2 {
			t.Fatalf("%s: %d files, %v", pattern, len(found), err)
		}
		files = append(files, found[0], found[len(found)-1])
	}
	for k, path := range files {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		used := len(bytes.TrimRight(whole, "\x00"))
		source := fixtures.Fixture{Sources: []string{"m1"}}
		root := dir
		if strings.HasPrefix(path, snaps) {
			root = snaps
		}
		for n := range 12 * mutantsOfEach(t) {
			rnd := rand.New(rand.NewPCG(uint64(k), uint64(n)))
			b := bytes.Clone(whole)
			at, bit := rnd.IntN(used), byte(1)<<rnd.IntN(8)
			b[at] ^= bit
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if c := inspectOnly(t, root, source); !namesFile(c, path) {
				t.Errorf("%s: bit %#x of byte %d of %d: findings %s", filepath.Base(path), bit, at, used, messages(c))
			}
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// namesFile says whether a finding above note lies in a file, or at the head of
// the segment after it.
func namesFile(c *inspect.Case, path string) bool {
	for _, f := range c.Findings {
		if f.Severity > inspect.SeverityNote && (f.Location.File == path || strings.HasSuffix(path, ".wal") && strings.HasSuffix(f.Location.File, ".wal")) {
			return true
		}
	}
	return false
}

// TestEveryCutOfALogCounts ends the last segment early, by the file's end or by
// zeros: the database has applied its last entry, so each cut must be reported.
func TestEveryCutOfALogCounts(t *testing.T) {
	inspect.InFullOnly(t)
	dir := fixtures.Dir(t, "healthy-3.7")
	found, err := filepath.Glob(filepath.Join(dir, "m1", "member", "wal", "*.wal"))
	if err != nil || len(found) == 0 {
		t.Fatal(found, err)
	}
	path := found[len(found)-1]
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(whole, "\x00"))
	for n := range 20 * mutantsOfEach(t) {
		rnd := rand.New(rand.NewPCG(99, uint64(n)))
		at := rnd.IntN(used - 64) // the last record may be a commit index alone
		b := bytes.Clone(whole[:at])
		if n%2 == 1 {
			b = append(b, make([]byte, len(whole)-at)...)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if c := inspectOnly(t, dir, fixtures.Fixture{Sources: []string{"m1"}}); c.Highest() < inspect.SeverityError {
			t.Errorf("cut at byte %d of %d, zeros %v: findings %s", at, used, n%2 == 1, messages(c))
		}
	}
}

package recover_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.etcd.io/bbolt"

	"etcd-forensics/inspect/recover"
)

// TestALogKeepsTheVersionOfWhatWasCompacted flips a bit in values at or below the compact
// revision. The versions before are compacted away, and the log gives the value back, not
// create revision and version.
func TestALogKeepsTheVersionOfWhatWasCompacted(t *testing.T) {
	m := copyOf(t, "cluster3-3.7-crash", "m1")
	records := map[string]int{}
	for _, v := range m.healthy["key"] {
		records[string(keyValue(t, v).Key)]++
	}
	tried := 0
	for _, k := range slices.Backward(m.order) {
		kv, rev := keyValue(t, m.healthy["key"][k]), revisionOf(t, k)
		if rev.Main > compactedAt || rev.Tombstone || kv.Version < 2 || len(kv.Value) <= 8 || records[string(kv.Key)] > 1 {
			continue
		}
		if tried == 3 {
			break
		}
		tried++
		flipped := []byte(m.healthy["key"][k])
		flipped[bytes.Index(flipped, kv.Value)+4] ^= 1
		was := m.read(t)
		edit(t, m.db, func(b *bbolt.Bucket) error { return b.Put([]byte(k), flipped) })
		out := filepath.Join(t.TempDir(), "out.db")
		r, err := salvage(t, m.dir, recover.Options{Out: out})
		m.write(t, was)
		if err != nil {
			t.Fatal(err)
		}
		if got := dump(t, out, true)["key"][k]; got != m.healthy["key"][k] {
			now := keyValue(t, got)
			t.Errorf("revision %s, created at %d, version %d: created at %d, version %d, conflicts %+v", rev, kv.CreateRevision, kv.Version, now.CreateRevision, now.Version, r.Conflicts)
		}
	}
	if tried == 0 {
		t.Fatal("no key was written last before the compaction")
	}
}

func (m *memberCopy) write(tb testing.TB, b []byte) {
	tb.Helper()
	if err := os.WriteFile(m.db, b, 0o600); err != nil {
		tb.Fatal(err)
	}
}

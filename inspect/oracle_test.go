package inspect_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
)

// TestSnapshotStatusAgrees holds revision and key count against what `etcdutl
// snapshot status` says of a copy. It counts the bump record as a key; we do not.
func TestSnapshotStatusAgrees(t *testing.T) {
	inspect.InFullOnly(t)
	n := 0
	for _, name := range fixtures.Names() {
		f, err := fixtures.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		dir := fixtures.Dir(t, name)
		for i, s := range f.Sources {
			if !strings.HasSuffix(s, "snapshot.db") {
				continue
			}
			n++
			c := inspectOnly(t, dir, f)
			b, err := os.ReadFile(filepath.Join(dir, s))
			if err != nil {
				t.Fatal(err)
			}
			copied := filepath.Join(t.TempDir(), "snapshot.db")
			if err := os.WriteFile(copied, b, 0o600); err != nil {
				t.Fatal(err)
			}
			theirs, err := snapshot.NewV3(zap.NewNop()).Status(copied)
			if err != nil {
				t.Fatal(err)
			}
			ours := c.Members[i].Backend
			if theirs.Revision != *ours.Revision && theirs.Revision != 0 || int64(theirs.TotalKey) != ours.Keys.Live {
				t.Errorf("%s: revision %d with %d keys, etcdutl says %d with %d", name, *ours.Revision, ours.Keys.Live, theirs.Revision, theirs.TotalKey)
			}
		}
	}
	if n < 6 {
		t.Errorf("only %d snapshots compared", n)
	}
}

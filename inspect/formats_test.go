package inspect_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"etcd-forensics/fixtures"
)

// TestGenerationsLeaveWhatTheDocumentSays holds the first table of docs/formats.md
// against what servers of each version wrote.
func TestGenerationsLeaveWhatTheDocumentSays(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "formats.md"))
	if err != nil {
		t.Fatal(err)
	}
	versions := []string{"3.4", "3.5", "3.6", "3.7", "3.8"}
	found := map[string]map[string]bool{}
	for _, version := range versions {
		found[version] = has(t, filepath.Join(fixtures.Dir(t, "healthy-"+version), "m1"))
	}
	compared := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimPrefix(line, "| "), " | ")
		if len(cells) != len(versions)+2 || !strings.Contains(cells[0], "`") {
			continue
		}
		for i, version := range versions {
			if says := map[bool]string{true: "yes", false: "no"}[found[version][cells[0]]]; cells[i+1] != says {
				t.Errorf("%s in %s: the document says %s, the fixture %s", cells[0], version, cells[i+1], says)
			}
			compared++
		}
	}
	if compared < 60 {
		t.Errorf("only %d statements were compared", compared)
	}
}

// has collects the bucket records and the kinds of entries of one member, as the
// document calls them.
func has(t *testing.T, member string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, k := range compareAll(t, member).Members[0].WAL.Statistics.Kinds {
		found["log: kind `"+k.Kind+"`"] = true
	}
	db, err := bbolt.Open(filepath.Join(member, "member", "snap", "db"), 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(bucket []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, _ []byte) error {
				found[fmt.Sprintf("bucket `%s`: `%s`", bucket, k)] = true
				return nil
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

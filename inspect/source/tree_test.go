package source

import (
	"context"
	"strings"
	"testing"

	"etcd-forensics/fixtures"
)

// barred is a folder in which nothing but | separates the parts of a path.
type barred struct {
	disk
	root string
}

// at gives the path on the disk; that of nothing when it has the system's separator in it.
func (b barred) at(path string) string {
	below := strings.TrimPrefix(path, b.root)
	if strings.ContainsAny(below, `/\`) {
		return ""
	}
	return b.root + strings.ReplaceAll(below, "|", "/")
}

func (b barred) list(dir string) ([]node, error) { return b.disk.list(b.at(dir)) }
func (b barred) open(path string) (*File, error) { return b.disk.open(b.at(path)) }
func (b barred) hasMeta(path string) bool        { return b.disk.hasMeta(b.at(path)) }
func (b barred) isPacked(path string) bool       { return b.disk.isPacked(b.at(path)) }
func (b barred) join(elements ...string) string  { return strings.Join(elements, "|") }

// TestSourcesAreFoundWhateverTheSeparator: archives have another one than Windows.
func TestSourcesAreFoundWhateverTheSeparator(t *testing.T) {
	root := fixtures.Dir(t, "healthy-3.7")
	sources, problems := finder{context.Background(), barred{root: root}, Options{}}.dir(root)
	if len(sources) != 2 || len(problems) > 0 {
		t.Fatalf("%d sources, %v", len(sources), problems)
	}
	for _, s := range sources {
		defer s.Close()
	}
	s := sources[0]
	if s.Kind != KindDataDir || s.DB == nil || len(s.WAL) == 0 || len(s.Unread) > 0 || s.SnapDir != root+"|m1|member|snap" || s.WALDir != root+"|m1|member|wal" {
		t.Errorf("%+v", s)
	}
}

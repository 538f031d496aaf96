package walreader_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/walreader"
)

// walDirs are the WAL directories of a fixture.
func walDirs(t *testing.T, dir string) []string {
	t.Helper()
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && e.Name() == "wal" {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

// TestEveryFixtureIsReadAsEtcdReadsIt covers what servers of 3.4 to 3.8 left,
// also the ones that were killed.
func TestEveryFixtureIsReadAsEtcdReadsIt(t *testing.T) {
	n := 0
	for _, name := range fixtures.Names() {
		t.Run(name, func(t *testing.T) {
			for _, dir := range walDirs(t, fixtures.Dir(t, name)) {
				n++
				if kind := compareWithEtcd(t, dir, dir); kind != walreader.FaultUnknown {
					t.Errorf("%s: %v", dir, kind)
				}
				frames, ends := read(t, openChain(t, dir), walreader.Options{})
				for _, f := range frames {
					if f.Proof != walreader.Proven || f.Fault != nil {
						t.Errorf("%v: %v, %v", f.At, f.Proof, f.Fault)
					}
				}
				for i, e := range ends {
					if b, err := os.ReadFile(filepath.Join(dir, e.Segment.File)); err != nil || e.FaultCount != 0 ||
						e.Tail == walreader.TailExact && e.End != int64(len(b)) {
						t.Errorf("%+v, %v", e, err)
					}
					if i < len(ends)-1 && e.Tail != walreader.TailExact {
						t.Errorf("%s ends %v though more segments follow", e.Segment.File, e.Tail)
					}
				}
			}
		})
	}
	if n < 20 {
		t.Errorf("only %d WAL directories", n)
	}
}

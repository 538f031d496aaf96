package snapdb_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/snapdb"
)

func walked(t *testing.T, path string) *snapdb.Tree {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	db, err := snapdb.Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	tree, err := snapdb.Walk(context.Background(), db, 10)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// shape is what the walk found, without what only reading a leaf tells.
func shape(tree *snapdb.Tree) (list []string) {
	for i, l := range tree.Leaves {
		lo, hi := tree.Range(i)
		list = append(list, string(rune(l.Bucket))+string(lo)+"|"+string(hi))
		for _, id := range tree.PathTo(i) {
			list = append(list, string(rune(id)))
		}
	}
	return list
}

func TestRestoreFindsTheTreeThatWasReleased(t *testing.T) {
	tree := walked(t, filepath.Join(fixtures.Dir(t, "healthy-3.7"), "snapshot.db"))
	before, buckets := shape(tree), len(tree.Buckets)
	if !tree.Release() || !tree.Released() || len(tree.Leaves)+len(tree.Nodes) > 0 {
		t.Fatalf("not released: %d leaves, %d nodes", len(tree.Leaves), len(tree.Nodes))
	}
	if !tree.Release() || len(tree.Buckets) != buckets {
		t.Error("a second release changed something")
	}
	if err := tree.Restore(context.Background()); err != nil {
		t.Fatal(err)
	}
	if tree.Released() || len(before) == 0 || !slices.Equal(shape(tree), before) {
		t.Error("another tree than before")
	}
}

func TestADamagedTreeIsNotReleased(t *testing.T) {
	tree := walked(t, filepath.Join(fixtures.Dir(t, "child-out-of-range"), "m1", "member", "snap", "db"))
	leaves := len(tree.Leaves)
	if tree.Release() || tree.Released() || len(tree.Leaves) != leaves {
		t.Error("released")
	}
}

// A file that is written to between two readings gives no other tree in silence.
func TestRestoreTellsOfAnotherTree(t *testing.T) {
	path := filepath.Join(fixtures.Dir(t, "healthy-3.7"), "snapshot.db")
	tree := walked(t, path)
	tree.Release()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	root := int64(tree.Buckets[0].Root) * int64(tree.File.PageSize)
	if _, err := f.WriteAt(make([]byte, tree.File.PageSize), root); err != nil {
		t.Fatal(err)
	}
	if err := tree.Restore(context.Background()); err == nil || !tree.Released() {
		t.Errorf("restored: %v", err)
	}
}

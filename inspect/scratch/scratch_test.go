package scratch_test

import (
	"os"
	"testing"

	"etcd-forensics/inspect/scratch"
)

func TestFileGoesAway(t *testing.T) {
	dir := t.TempDir()
	f, err := scratch.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := f.WriteAt([]byte("x"), 1<<20); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if _, err := scratch.New(dir + "/nowhere"); err == nil {
		t.Error("made a file in a folder that is not there")
	}
}

func TestFreeSpaceIsKnownHere(t *testing.T) {
	if free, known := scratch.Free(t.TempDir()); !known || free <= 0 {
		t.Errorf("%d, %t", free, known)
	}
	if _, known := scratch.Free(t.TempDir() + "/nowhere"); known {
		t.Error("known for a folder that is not there")
	}
}

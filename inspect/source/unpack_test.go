package source

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"

	"etcd-forensics/inspect/scratch"
)

// TestScratchFolderIsNotFilled: the free space is asked before it is taken, and
// again while it is.
func TestScratchFolderIsNotFilled(t *testing.T) {
	content := make([]byte, 8<<20)
	rand.Read(content[1<<20:])
	for id := range 8 { // pages that carry their number
		content[id*4096], content[id*4096+8] = byte(id), 2
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(content)
	z.Close()
	path := filepath.Join(t.TempDir(), "backup.gz")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		free  int64
		known bool
		says  string
	}{
		{spared + 1<<20, true, "needs more than the 64 MiB that are free in"},
		{0, true, "needs more than the 0 B that are free in"},
		{spared + 16<<20, true, ""},
		{0, false, ""},
	} {
		f, err := openFile(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		u := newUnpacker(context.Background(), f, Options{Scratch: t.TempDir()})
		free := c.free
		u.free = func(string) (int64, bool) {
			is := free
			free = min(free, spared) // whatever it was has been written by then
			return is, c.known
		}
		err = u.unpack("gzip")
		u.tree.close()
		f.Close()
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%d free: %v", c.free, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || !IsLimit(err)):
			t.Errorf("%d free: %v", c.free, err)
		}
		if left, err := os.ReadDir(u.opts.Scratch); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
	}
}

// TestHolesCount: a sparse file of zeros takes no space in an archive, and time to
// go through.
func TestHolesCount(t *testing.T) {
	f, err := scratch.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	u := &unpacker{ctx: context.Background(), opts: Options{ScratchLimit: 1 << 20}}
	for i := range 3 {
		err = u.copy(f, bytes.NewReader(make([]byte, 400<<10)))
		if (err != nil) != (i == 2) || err != nil && !IsLimit(err) {
			t.Errorf("file %d: %v", i, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	u = &unpacker{ctx: ctx, opts: Options{ScratchLimit: 1 << 20}}
	if err := u.copy(f, bytes.NewReader(nil)); err != context.Canceled {
		t.Error(err)
	}
}

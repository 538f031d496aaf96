package recover

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/page"
)

// seedDB gives a small database with freed pages.
func seedDB(f *testing.F) []byte {
	f.Helper()
	b, err := os.ReadFile(fixtures.Databases(f, "pagesize-512")[0])
	if err != nil || len(b) == 0 {
		f.Fatalf("no seed: %v", err)
	}
	return b[:min(len(b), 256<<10)]
}

// FuzzSalvage overwrites a part of a database. Whatever comes out is a refusal or a
// database that was found to be whole, in key order.
func FuzzSalvage(f *testing.F) {
	b := seedDB(f)
	f.Add(uint32(0), []byte{1, 2, 3})
	for at := 0; at < len(b); at += 16 << 10 {
		f.Add(uint32(at), make([]byte, 512))
		f.Add(uint32(at+10), []byte{0xff, 0xff})
	}
	f.Fuzz(func(t *testing.T, at uint32, with []byte) {
		dir := t.TempDir()
		hurt := bytes.Clone(b)
		copy(hurt[int(at)%len(hurt):], with)
		path, out := filepath.Join(dir, "db"), filepath.Join(dir, "out")
		if err := os.WriteFile(path, hurt, 0o600); err != nil {
			t.Fatal(err)
		}
		sources, problems := source.Open(context.Background(), []string{path}, source.Options{})
		if len(problems) > 0 {
			return
		}
		defer sources[0].Close()
		_, err := Salvage(context.Background(), sources[0], Options{Out: out})
		if _, refused := errors.AsType[Refusal](err); err != nil && !refused {
			t.Fatal(err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*.partial")); len(left) > 0 {
			t.Fatalf("%v was left", left)
		}
	})
}

// FuzzProvenOn reads any bytes as a leaf. What is proven rises in key order, lies inside
// the page, and has no more bytes than it.
func FuzzProvenOn(f *testing.F) {
	b := seedDB(f)
	n := 0
	for at := 1024; at+4096 <= len(b) && n < 100; at += 512 {
		if p := b[at : at+4096]; p[8] == flagLeaf && page.LaidOut(p) {
			f.Add(p)
			n++
		}
	}
	if n == 0 {
		f.Fatal("no seeds")
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var elements []snapdb.Element
		sound := false
		if len(b) >= page.HeaderSize {
			file, err := snapdb.Open(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			file.PageSize = max(512, len(b))
			_, elements, sound, _ = readStray(file, 0, nil, nil)
		}
		for _, e := range [][]snapdb.Element{elements, sift(b, 512)} {
			records, missing := provenOn(0, e, sound, len(b), nil)
			if len(records)+missing != len(e) {
				t.Fatalf("%d records and %d missing of %d", len(records), missing, len(e))
			}
			bytes := 0
			for i, r := range records {
				if bytes += len(r.Key) + len(r.Value); bytes > len(b) {
					t.Fatal("more bytes than the page has")
				}
				if i > 0 && records[i-1].rev.Compare(r.rev) >= 0 {
					t.Fatalf("%v does not lie above %v", r.rev, records[i-1].rev)
				}
			}
		}
	})
}

package scan_test

import (
	"bytes"
	"context"
	"os"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/page"
	"etcd-forensics/snapdb/scan"
)

// smallDatabases are whole files to mutate: with one leaf a bucket, with inline
// buckets, with pages of 512 bytes.
func smallDatabases(tb testing.TB) [][]byte {
	var all [][]byte
	for _, name := range []string{"empty-3.7", "empty-compacted-3.7", "pagesize-512"} {
		paths := fixtures.Databases(tb, name)
		b, err := os.ReadFile(paths[len(paths)-1])
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, b[:min(len(b), 256<<10)])
	}
	return all
}

func TestDatabaseSeedsExist(t *testing.T) {
	for i, b := range smallDatabases(t) {
		if f, err := snapdb.Open(bytes.NewReader(b), int64(len(b))); err != nil || f.Active < 0 {
			t.Errorf("seed %d has no valid meta: %v", i, err)
		}
	}
}

// FuzzDatabase changes a run of bytes of a real database, mends the metas'
// checksums when asked to, and reads it: no panic, no end of memory, every page
// in exactly one class.
func FuzzDatabase(f *testing.F) {
	seeds := smallDatabases(f)
	f.Add(uint8(0), uint32(8192), []byte{2, 0, 0, 0}, true, uint32(0))
	f.Add(uint8(1), uint32(16), []byte{0xed}, true, uint32(4096))
	f.Add(uint8(2), uint32(700), []byte{1, 0, 3, 0, 0xff, 0xff}, false, uint32(0))
	f.Add(uint8(2), uint32(4096+8), []byte{1, 0}, false, uint32(0))
	f.Fuzz(func(t *testing.T, which uint8, at uint32, change []byte, mend bool, cut uint32) {
		b := bytes.Clone(seeds[int(which)%len(seeds)])
		copy(b[int(at)%len(b):], change)
		b = b[:len(b)-int(cut)%len(b)]
		if mend {
			mendMetas(b)
		}
		db, err := snapdb.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if db.Active < 0 {
			return
		}
		tree, err := snapdb.Walk(context.Background(), db, 5)
		if err != nil {
			t.Fatal(err)
		}
		keys := scan.NewKeys(tree, len(tree.Buckets)-1, 0, int64(at%64), 5)
		keys.Compacted = which&0x40 != 0
		res, err := scan.Run(context.Background(), tree, scan.Options{Digest: which&0x80 != 0}, keys)
		if err != nil {
			t.Fatal(err)
		}
		keys.Finish(context.Background())
		var sum int64
		for _, n := range res.Pages.Counts {
			sum += n
		}
		if sum != db.Pages() {
			t.Fatalf("the classes hold %d pages of %d", sum, db.Pages())
		}
		for _, fault := range tree.Faults.All() {
			if fault.Offset < 0 || fault.Offset > int64(len(b)) {
				t.Fatalf("a fault outside the file of %d bytes: %v", len(b), fault.Error())
			}
		}
	})
}

// mendMetas gives both metas the checksum that their bytes ask for, so that a
// changed field is believed.
func mendMetas(b []byte) {
	for _, at := range []int{0, 512, 4096} {
		if at+page.HeaderSize+page.MetaSize > len(b) {
			continue
		}
		raw := b[at+page.HeaderSize : at+page.HeaderSize+page.MetaSize]
		m := page.DecodeMeta((*[page.MetaSize]byte)(raw))
		if m.Magic == page.Magic {
			m.Checksum = m.Sum()
			copy(raw, m.Append(nil))
		}
	}
}

package inspect_test

import (
	"os"
	"slices"
	"testing"

	"go.etcd.io/bbolt"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/snapdb/page"
)

// TestPageSizeOfAMetaIsTakenForWhatItIs changes the page size that a meta page names,
// under a checksum that is right. bbolt goes by the first one.
func TestPageSizeOfAMetaIsTakenForWhatItIs(t *testing.T) {
	for _, name := range []string{"healthy-3.6", "compaction-unfinished-3.6", "pagesize-512", "pagesize-16384"} {
		path := fixtures.Databases(t, name)[0]
		from, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		healthy := examineBytes(t, path, from).Members[0].Backend
		for slot, want := range []inspect.Code{inspect.CodeBackendMetaImpossible, inspect.CodeBackendMetaPageSize} {
			for _, size := range []uint32{uint32(healthy.PageSize) * 2, uint32(healthy.PageSize) / 2, 5000} {
				if slot == 0 && !page.ValidSize(size) {
					continue // no bbolt takes it
				}
				b := slices.Clone(from)
				at := slot*healthy.PageSize + page.HeaderSize
				m := page.DecodeMeta((*[page.MetaSize]byte)(b[at:]))
				m.PageSize = size
				m.Checksum = m.Sum()
				copy(b[at:], m.Append(nil))
				c := examineBytes(t, path, b)
				got := c.Members[0].Backend
				i := slices.IndexFunc(c.Findings, func(f inspect.Finding) bool { return f.Code == want })
				if i < 0 || *c.Findings[i].Location.Page != uint64(slot) {
					t.Errorf("%s: page size %d in slot %d: %v", name, size, slot, c.Findings)
				}
				if got.PageSize != healthy.PageSize || got.Keys == nil || *got.Keys != *healthy.Keys && slot == 1 {
					t.Errorf("%s: page size %d in slot %d: read with %d, keys %+v, want %+v", name, size, slot, got.PageSize, got.Keys, healthy.Keys)
				}
				if slot == 1 {
					opensInBbolt(t, path, b)
				}
			}
		}
	}
}

func opensInBbolt(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Errorf("bbolt does not open it: %v", err)
		return
	}
	defer db.Close()
	if err := db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("key")).ForEach(func(_, _ []byte) error { return nil })
	}); err != nil {
		t.Error(err)
	}
}

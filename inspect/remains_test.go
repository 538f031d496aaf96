package inspect_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/page"
)

// withoutMetas gives a copy of a database whose two meta pages are zeros, and what
// the metas said.
func withoutMetas(t *testing.T, b []byte) ([]byte, *snapdb.File) {
	t.Helper()
	f, err := snapdb.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil || f.Active < 0 {
		t.Fatalf("no valid meta: %v", err)
	}
	injured := slices.Clone(b)
	clear(injured[:2*f.PageSize])
	return injured, f
}

func metaNone(t *testing.T, c *inspect.Case) inspect.Finding {
	t.Helper()
	i := slices.IndexFunc(c.Findings, func(f inspect.Finding) bool { return f.Code == inspect.CodeBackendMetaNone })
	if i < 0 {
		t.Fatalf("codes %v", codes(c))
	}
	return c.Findings[i]
}

// sameTree says whether two pages are the same root: one page, or two whose bytes
// differ in nothing but the page number, as transactions leave them that change
// nothing.
func sameTree(b []byte, size int, x, y uint64) bool {
	body := func(id uint64) []byte { return b[int(id)*size+8 : (int(id)+1)*size] }
	return x == y || bytes.Equal(body(x), body(y))
}

// With both metas gone, all of them: the root is found, and everything that was in
// the tree is read.
func TestEveryDatabaseIsReadWithoutMetas(t *testing.T) {
	for _, name := range fixtures.Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, path := range fixtures.Databases(t, name) {
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				healthy := examineBytes(t, path, b).Members[0].Backend
				injured, f := withoutMetas(t, b)
				c := examineBytes(t, path, injured)
				got := c.Members[0].Backend
				switch {
				case !healthy.Complete: // its newest tree is damaged, so an older one is better
					if got.Keys == nil || got.Pages.Damaged > 0 {
						t.Errorf("%s: keys %v, pages %+v", path, got.Keys, got.Pages)
					}
					continue
				case name == "bumped-3.6":
					// The last transaction of a restore sets the consistent index back and
					// nothing else.
					got.ConsistentIndex, got.Term = healthy.ConsistentIndex, healthy.Term
				}
				if root := metaNone(t, c).RelatedPages; name != "bumped-3.6" && (len(root) != 1 || !sameTree(b, f.PageSize, root[0], uint64(f.Meta().Root))) {
					t.Errorf("%s: root %v, want %d", path, root, f.Meta().Root)
				}
				if c.Verdict.Grade != inspect.Unusable || got.Complete || got.HashKV != nil || got.ActiveMeta != nil || got.PageSize != f.PageSize {
					t.Errorf("%s: verdict %v, complete %v, hashKV %v, active meta %v, page size %d", path, c.Verdict, got.Complete, got.HashKV, got.ActiveMeta, got.PageSize)
				}
				content := func(b *inspect.Backend) string {
					of := *b
					of.Complete, of.HashKV, of.ActiveMeta, of.Txid, of.Trailer = false, nil, nil, 0, inspect.Trailer{}
					of.Pages, of.Space = inspect.Pages{}, nil
					text, err := json.Marshal(of)
					if err != nil {
						t.Fatal(err)
					}
					return string(text)
				}
				if got, want := content(got), content(healthy); got != want {
					t.Errorf("%s:\n%s, want\n%s", path, got, want)
				}
				if got.Pages.Total != healthy.Pages.Total || got.Pages.Leaf != healthy.Pages.Leaf || got.Pages.Damaged != 0 {
					t.Errorf("%s: pages %+v, want %+v", path, got.Pages, healthy.Pages)
				}
			}
		})
	}
}

// putMeta writes fields of a meta without a checksum that fits.
func putMeta(b []byte, at int, m page.Meta) { copy(b[at+page.HeaderSize:], m.Append(nil)) }

func TestRootIsChosenAmongWhatIsLeft(t *testing.T) {
	b, err := os.ReadFile(fixtures.Databases(t, "cluster3-3.7-crash")[0])
	if err != nil {
		t.Fatal(err)
	}
	zeroed, f := withoutMetas(t, b)
	newest, older := f.Meta(), f.Metas[1-f.Active].Meta
	if sameTree(b, f.PageSize, uint64(newest.Root), uint64(older.Root)) {
		t.Fatal("both metas name one tree")
	}
	tests := map[string]struct {
		injure func(b []byte)
		want   page.ID
		words  string
	}{
		"the newer meta's checksum is broken, the older one is gone": {func(b []byte) {
			newest := newest
			newest.Checksum++
			putMeta(b, 0, newest)
		}, newest.Root, "meta page 0 names it"},
		"only the older meta's root is left": {func(b []byte) {
			putMeta(b, f.PageSize, page.Meta{Root: older.Root, Txid: older.Txid})
		}, newest.Root, "is the best of"},
		"a meta names a page that is no root": {func(b []byte) {
			putMeta(b, 0, page.Meta{Root: newest.Root + 1, Txid: 1 << 40})
		}, newest.Root, "is the best of"},
		"a meta names another page size": {func(b []byte) {
			putMeta(b, 0, page.Meta{PageSize: 512})
		}, newest.Root, "at a page size of 4096"},
		"the newest root is gone": {func(b []byte) { clear(b[int(newest.Root)*f.PageSize:][:f.PageSize]) }, older.Root, "no other can be"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			injured := slices.Clone(zeroed)
			tt.injure(injured)
			found := metaNone(t, examineBytes(t, t.TempDir()+"/db", injured))
			if len(found.RelatedPages) != 1 || !sameTree(b, f.PageSize, found.RelatedPages[0], uint64(tt.want)) || !strings.Contains(found.Message, tt.words) {
				t.Errorf("root %v, want %d: %s", found.RelatedPages, tt.want, found.Message)
			}
		})
	}
}

// A damaged page of the newest tree alone makes the tree before it the better one.
func TestWholeTreeIsBetterThanALaterDamagedOne(t *testing.T) {
	b, err := os.ReadFile(fixtures.Databases(t, "cluster3-3.7-crash")[0])
	if err != nil {
		t.Fatal(err)
	}
	injured, f := withoutMetas(t, b)
	own := ownLeaves(t, f)
	if len(own) == 0 {
		t.Fatal("the two trees have the same leaves")
	}
	for id := range own {
		clear(injured[int(id)*f.PageSize:][:f.PageSize])
	}
	found := metaNone(t, examineBytes(t, t.TempDir()+"/db", injured))
	if want := uint64(f.Metas[1-f.Active].Meta.Root); !sameTree(b, f.PageSize, found.RelatedPages[0], want) {
		t.Errorf("root %v, want %d: %s", found.RelatedPages, want, found.Message)
	}
}

// One damaged page more does not cost the rest: an old tree whose pages were taken
// by others looks whole, and holds next to nothing.
func TestOneDamagedLeafCostsItselfWithoutMetas(t *testing.T) {
	b, err := os.ReadFile(fixtures.Databases(t, "healthy-3.6")[0])
	if err != nil {
		t.Fatal(err)
	}
	zeroed, f := withoutMetas(t, b)
	want := examineBytes(t, t.TempDir()+"/db", zeroed).Members[0].Backend.Keys.Revisions
	tree, err := snapdb.Walk(t.Context(), f, 1)
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for i, l := range tree.Leaves {
		if i%19 != 3 || string(tree.Buckets[l.Bucket].Name) != "key" {
			continue
		}
		injured := slices.Clone(zeroed)
		clear(injured[int(l.ID)*f.PageSize:][:f.PageSize])
		c := examineBytes(t, t.TempDir()+"/db", injured)
		named := slices.ContainsFunc(c.Findings, func(f inspect.Finding) bool { return f.Location.Page != nil && *f.Location.Page == uint64(l.ID) })
		if got := c.Members[0].Backend.Keys.Revisions; got < want*9/10 || got >= want || !named {
			t.Errorf("page %d zeroed: %d of %d records read, page named: %v", l.ID, got, want, named)
		}
		tried++
	}
	if tried < 5 {
		t.Errorf("only %d pages tried", tried)
	}
}

// ownLeaves gives the leaves of the newest tree, without its root, that the tree
// before it has not.
func ownLeaves(t *testing.T, f *snapdb.File) map[page.ID]bool {
	own := map[page.ID]bool{}
	for _, l := range leavesOf(t, f) {
		own[l] = true
	}
	for _, l := range leavesOf(t, f.As(1-f.Active)) {
		delete(own, l)
	}
	delete(own, f.Meta().Root)
	return own
}

func leavesOf(t *testing.T, f *snapdb.File) []page.ID {
	t.Helper()
	tree, err := snapdb.Walk(t.Context(), f, 1)
	if err != nil {
		t.Fatal(err)
	}
	var ids []page.ID
	for _, l := range tree.Leaves {
		ids = append(ids, l.ID)
	}
	return ids
}

// Without any root, the records that lie on pages are counted.
func TestRecordsAreCountedWithoutARoot(t *testing.T) {
	path := fixtures.Databases(t, "healthy-3.6")[0]
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	revision := *examineBytes(t, path, b).Members[0].Backend.Revision
	injured, f := withoutMetas(t, b)
	for at := 2 * f.PageSize; at+f.PageSize <= len(b); at += f.PageSize {
		if p := b[at : at+f.PageSize]; p[8] == 2 && binary.LittleEndian.Uint32(p[page.HeaderSize:]) == 1 { // a leaf of buckets
			clear(injured[at : at+f.PageSize])
		}
	}
	c := examineBytes(t, path, injured)
	want := fmt.Sprintf("up to revision %d,", revision)
	if found := metaNone(t, c); !strings.Contains(found.Message, want) || !strings.Contains(found.Message, "none of them can be the root page") {
		t.Errorf("%s; want %q in it", found.Message, want)
	}
	if m := c.Members[0]; m.Backend.PageSize != f.PageSize || m.Backend.Keys != nil || len(m.NotExamined) == 0 {
		t.Errorf("%+v", m)
	}
}

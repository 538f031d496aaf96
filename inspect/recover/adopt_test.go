package recover

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
)

// TestTheOlderTreeIsReadAsByItself damages databases, and reads the tree of the meta that is
// not in use twice: with the leaves that it shares with the other tree taken from there, and
// all of it.
func TestTheOlderTreeIsReadAsByItself(t *testing.T) {
	trees, damaged, adopted, all := 0, 0, 0, 0
	for seed := range uint64(80) {
		fixture := []string{"cluster3-3.6-crash", "compaction-unfinished-3.6", "healthy-3.5", "bumped-3.6"}[seed/20]
		path := filepath.Join(fixtures.Dir(t, fixture), "m1", "member", "snap", "db")
		whole := baseOf(t, path)
		rnd := rand.New(rand.NewPCG(seed, 1))
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		size := whole.db.PageSize
		leaf := func() []byte {
			return b[int(whole.Tree.Leaves[whole.order()[rnd.IntN(len(whole.order()))]].ID)*size:][:size]
		}
		branch := func() []byte { return b[int(whole.Tree.Nodes[rnd.IntN(len(whole.Tree.Nodes))].ID)*size:][:size] }
		for n := range seed % 4 {
			switch p := leaf(); (seed/4 + n) % 5 {
			case 0:
				clear(p)
			case 1:
				p[rnd.IntN(200)] ^= 1 << rnd.IntN(8)
			case 2:
				copy(p, leaf())
			case 3:
				branch()[16+rnd.IntN(100)] ^= 1 << rnd.IntN(8)
			default:
				p[12]++ // its overflow
			}
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		newer := baseOf(t, path)
		if newer.older == nil {
			continue
		}
		newWitness(newer, "")
		read := func(other *base) (*base, string) {
			tree, err := inspect.Walk(t.Context(), newer.older.Tree.File, faultsKept)
			if err != nil {
				t.Fatal(err)
			}
			o := &base{file: newer.file, mended: newer.mended, db: tree.Tree.File, WalkedTree: tree}
			if err := o.read(t.Context(), other); err != nil {
				t.Fatal(err)
			}
			said := fmt.Sprintf("%+v %+v %d %+v", o.leaves, o.inline, o.key, *o.pages)
			for _, f := range o.Tree.Faults.All() {
				said += fmt.Sprintf("\n%s on page %d, element %d, %v: %v", f.Kind, f.Page, f.Element, f.Path, f.Err)
			}
			return o, said
		}
		alone, said := read(nil)
		_, shared := read(newer)
		if said != shared {
			t.Errorf("seed %d: by itself it is\n%s\nand beside the other\n%s", seed, said, shared)
		}
		trees++
		if alone.Tree.Faults.Len() > 0 {
			damaged++
		}
		judge := newLeafJudge(alone.Tree, alone.key)
		known := judge.adopt(newer)
		for i := range alone.Tree.Leaves {
			if int(alone.Tree.Leaves[i].Bucket) == alone.key {
				all++
				if known(i) {
					adopted++
				}
			}
		}
	}
	if trees < 40 || damaged < 10 || 2*adopted < all || adopted == all {
		t.Errorf("%d trees, %d of them damaged; %d of %d leaves are shared", trees, damaged, adopted, all)
	}
}

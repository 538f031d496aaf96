package snapdb_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/page"
)

func survey(t *testing.T, r io.ReaderAt, size int64) *snapdb.Remains {
	t.Helper()
	f, err := snapdb.Open(r, size)
	if err != nil {
		t.Fatal(err)
	}
	found, err := snapdb.Survey(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// specimens are databases of each page size that the fixtures have, without their
// metas.
func specimens(tb testing.TB) map[int][]byte {
	all := map[int][]byte{}
	for size, name := range map[int]string{512: "pagesize-512", 4096: "healthy-3.6", 16384: "pagesize-16384"} {
		b, err := os.ReadFile(fixtures.Databases(tb, name)[0])
		if err != nil {
			tb.Fatal(err)
		}
		clear(b[:2*size])
		all[size] = b
	}
	return all
}

func TestPageSizeIsToldByThePages(t *testing.T) {
	for size, b := range specimens(t) {
		r := survey(t, bytes.NewReader(b), int64(len(b)))
		if r.PageSize != size || len(slices.Collect(r.Roots())) == 0 || r.Leaves == 0 || r.Own < r.Leaves {
			t.Errorf("page size %d, want %d; %d pages, %d leaves, roots %v", r.PageSize, size, r.Own, r.Leaves, slices.Collect(r.Roots()))
		}
		// Values may hold anything, a few pages of another size among it.
		planted := slices.Clone(b)
		other := map[int]int{512: 4096, 4096: 512, 16384: 512}[size]
		h := page.Header{Flags: 2, Count: 1}
		for id := len(b)/other - 3; id < len(b)/other; id++ {
			h.ID = page.ID(id)
			copy(planted[id*other:], append(h.Append(nil), 0, 0, 0, 0, 16, 0, 0, 0))
		}
		if r := survey(t, bytes.NewReader(planted), int64(len(b))); r.PageSize != size {
			t.Errorf("page size %d, want %d", r.PageSize, size)
		}
	}
}

func TestMarkIsBehindTheLastPageInUse(t *testing.T) {
	for _, name := range []string{"healthy-3.6", "pagesize-512"} {
		b, err := os.ReadFile(fixtures.Databases(t, name)[0])
		if err != nil {
			t.Fatal(err)
		}
		f, err := snapdb.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil || f.Active < 0 {
			t.Fatal(err)
		}
		clear(b[:2*f.PageSize])
		if r := survey(t, bytes.NewReader(b), int64(len(b))); r.Mark != f.Meta().Pgid {
			t.Errorf("%s: mark %d, want %d", name, r.Mark, f.Meta().Pgid)
		}
	}
}

func TestNothingIsFoundWhereNothingIs(t *testing.T) {
	text := bytes.Repeat([]byte("This is no database.\n"), 10000)
	for _, b := range [][]byte{nil, {1}, make([]byte, 511), make([]byte, 1<<20), text} {
		r := survey(t, bytes.NewReader(b), int64(len(b)))
		if r.PageSize != 0 || r.Own != 0 || len(slices.Collect(r.Roots())) != 0 || len(r.Named()) != 0 {
			t.Errorf("%d bytes: %+v", len(b), r)
		}
		if err := r.EachLeaf(context.Background(), snapdb.EveryPage, func(page.ID, []byte) { t.Error("a leaf") }); err != nil {
			t.Error(err)
		}
	}
}

// badRange does not give back the bytes from one offset to another.
type badRange struct {
	io.ReaderAt
	from, to int64
}

var errDisk = errors.New("input/output error")

func (r badRange) ReadAt(b []byte, at int64) (int, error) {
	if at < r.to && at+int64(len(b)) > r.from {
		return 0, errDisk
	}
	return r.ReaderAt.ReadAt(b, at)
}

func TestUnreadablePagesCostThemselves(t *testing.T) {
	b := specimens(t)[4096]
	whole := survey(t, bytes.NewReader(b), int64(len(b)))
	from := int64(0)
	for root := range whole.Roots() {
		from = int64(root) * 4096
		break
	}
	r := survey(t, badRange{bytes.NewReader(b), from, from + 100}, int64(len(b)))
	if r.Bad != 4096 || r.Own != whole.Own-1 || len(slices.Collect(r.Roots())) != len(slices.Collect(whole.Roots()))-1 {
		t.Errorf("%d bytes bad, %d pages, roots %v; of the whole %d pages, roots %v", r.Bad, r.Own, slices.Collect(r.Roots()), whole.Own, slices.Collect(whole.Roots()))
	}
}

func TestSurveyEndsWithItsContext(t *testing.T) {
	b := specimens(t)[4096]
	f, err := snapdb.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := snapdb.Survey(ctx, f); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// A glance gives what the walk gives.
func TestGlanceAgreesWithTheWalk(t *testing.T) {
	for size, b := range specimens(t) {
		r := survey(t, bytes.NewReader(b), int64(len(b)))
		for root := range r.Roots() {
			tree, err := snapdb.Walk(context.Background(), r.AsRoot(root), 10)
			if err != nil {
				t.Fatal(err)
			}
			if tree.Faults.Len()+r.Misfits(tree) > 0 {
				continue // taken by later transactions
			}
			g := r.Glance(root, nil)
			if g.Buckets() != len(tree.Buckets)-1 {
				t.Errorf("page size %d, root %d: %d buckets, the walk found %d", size, root, g.Buckets(), len(tree.Buckets)-1)
			}
			for _, bk := range tree.Buckets[1:] {
				if !g.Has(string(bk.Name)) {
					t.Errorf("page size %d, root %d: no bucket %s", size, root, bk.Name)
				}
			}
			if v, ok := g.Value("meta", "consistent_index"); g.Has("meta") && (!ok || len(v) != 8) {
				t.Errorf("page size %d, root %d: consistent index %x", size, root, v)
			}
			if _, ok := g.Value("meta", "no such key"); ok {
				t.Errorf("page size %d, root %d: a key that is not there was found", size, root)
			}
		}
	}
}

func surveySeeds(tb testing.TB) [][]byte {
	all := specimens(tb)
	return [][]byte{all[512][:256<<10], all[4096][:min(len(all[4096]), 256<<10)], all[16384][:512<<10]}
}

func TestSurveySeedsExist(t *testing.T) {
	for i, b := range surveySeeds(t) {
		if r := survey(t, bytes.NewReader(b), int64(len(b))); r.Own < 3 {
			t.Errorf("seed %d has %d pages", i, r.Own)
		}
	}
}

// FuzzSurvey changes a run of bytes of a database without metas and looks for its
// root: no panic, no end of memory, every page inside the file, and trees that can
// be walked.
func FuzzSurvey(f *testing.F) {
	seeds := surveySeeds(f)
	f.Add(uint8(0), uint32(8192), []byte{2, 0, 0, 0}, uint32(0))
	f.Add(uint8(1), uint32(3*4096+8), []byte{1, 0, 0xff, 0xff}, uint32(4096))
	f.Add(uint8(2), uint32(16), []byte{0xed, 0xda, 0x0c, 0xed, 2, 0, 0, 0, 0, 2, 0, 0}, uint32(100))
	f.Add(uint8(1), uint32(4*4096+16), []byte{1, 0, 0, 0, 16, 0, 0, 0}, uint32(0))
	f.Fuzz(func(t *testing.T, which uint8, at uint32, change []byte, cut uint32) {
		b := bytes.Clone(seeds[int(which)%len(seeds)])
		copy(b[int(at)%len(b):], change)
		b = b[:len(b)-int(cut)%len(b)]
		r := survey(t, bytes.NewReader(b), int64(len(b)))
		if r.PageSize == 0 {
			return
		}
		pages := page.ID((len(b) + r.PageSize - 1) / r.PageSize)
		if r.Mark > pages || r.Own > int64(pages) {
			t.Fatalf("mark %d and %d pages of %d", r.Mark, r.Own, pages)
		}
		var look *snapdb.Glance
		walks := 0
		for root := range r.Roots() {
			if root < 2 || root >= pages {
				t.Fatalf("root %d of %d pages", root, pages)
			}
			look = r.Glance(root, look)
			look.Value("meta", "consistent_index")
			look.LastKey("key")
			if walks++; walks > 4 {
				continue
			}
			tree, err := snapdb.Walk(context.Background(), r.AsRoot(root), 5)
			if err != nil {
				t.Fatal(err)
			}
			if r.Misfits(tree) > len(tree.Leaves) || r.Records(tree, 0) < 0 {
				t.Fatal("more misfits than leaves")
			}
			for _, fault := range tree.Faults.All() {
				if fault.Offset < 0 || fault.Offset > int64(len(b)) {
					t.Fatalf("a fault outside the file of %d bytes: %v", len(b), fault.Error())
				}
			}
		}
		if err := r.EachLeaf(context.Background(), snapdb.EveryPage, func(page.ID, []byte) {}); err != nil {
			t.Fatal(err)
		}
	})
}

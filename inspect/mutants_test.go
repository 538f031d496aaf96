package inspect_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb/page"
)

// A specimen is a healthy database whose pages are known by kind, to injure
// copies of.
type specimen struct {
	name   string
	b      []byte
	size   int // of a page
	active int // meta slot
	pages  map[page.Kind][]page.ID
	leaves []page.ID // of bucket key: with a parent, and more than two elements
	free   []page.ID

	branches []page.ID // of bucket key
}

// newSpecimen reads the page kinds off a database that a healthy walk has shown
// to be whole: what bbolt calls free is left out by following the tree.
func newSpecimen(tb testing.TB, name string) *specimen {
	tb.Helper()
	paths := fixtures.Databases(tb, name)
	b, err := os.ReadFile(paths[0])
	if err != nil {
		tb.Fatal(err)
	}
	s := &specimen{name: name, b: b, pages: map[page.Kind][]page.ID{}}
	m0 := s.meta(0, 4096)
	s.size = int(m0.PageSize)
	if m1 := s.meta(s.size, 0); m1.Txid > m0.Txid {
		s.active = 1
	}
	m := s.meta(s.active*s.size, 0)
	used := map[page.ID]bool{0: true, 1: true}
	if m.Freelist != page.NoFreelist {
		s.pages[page.KindFreelist] = []page.ID{m.Freelist}
		for o := range s.header(m.Freelist).Overflow + 1 {
			used[m.Freelist+page.ID(o)] = true
		}
	}
	s.collect(m.Root, used, false, false)
	for id := page.ID(2); id < m.Pgid; id++ {
		if !used[id] {
			s.free = append(s.free, id)
		}
	}
	return s
}

func (s *specimen) meta(at, _ int) page.Meta {
	return page.DecodeMeta((*[page.MetaSize]byte)(s.b[at+page.HeaderSize:]))
}

func (s *specimen) header(id page.ID) page.Header {
	return page.DecodeHeader((*[page.HeaderSize]byte)(s.b[int(id)*s.size:]))
}

func (s *specimen) whole(id page.ID) []byte {
	return s.b[int(id)*s.size : (int(id)+int(s.header(id).Overflow)+1)*s.size]
}

func (s *specimen) collect(id page.ID, used map[page.ID]bool, inKey, below bool) {
	h := s.header(id)
	for o := range h.Overflow + 1 {
		used[id+page.ID(o)] = true
	}
	s.pages[h.Kind()] = append(s.pages[h.Kind()], id)
	switch h.Kind() {
	case page.KindBranch:
		if inKey {
			s.branches = append(s.branches, id)
		}
		p, _ := page.OpenBranch(s.whole(id))
		for i := range p.Len() {
			e, _ := p.Element(i)
			s.collect(e.Child, used, inKey, true)
		}
	case page.KindLeaf:
		p, _ := page.OpenLeaf(s.whole(id))
		if inKey && below && p.Len() > 2 {
			s.leaves = append(s.leaves, id)
		}
		for i := range p.Len() {
			if e, _ := p.Element(i); e.Bucket {
				if bk, _ := page.DecodeBucket(e.Value); bk.Root != 0 {
					s.collect(bk.Root, used, string(e.Key) == "key", false)
				}
			}
		}
	}
}

// A mutation changes b, a copy of the specimen, and names the page that is wrong
// then. ok is false when the specimen has nothing of the kind.
type mutation struct {
	name string
	do   func(s *specimen, b []byte, rnd *rand.Rand) (wrong page.ID, ok bool)
}

func pick(rnd *rand.Rand, ids []page.ID) page.ID { return ids[rnd.IntN(len(ids))] }

// onPage makes mutations of a field of a page header of each kind.
func onPage(name string, kinds []page.Kind, change func(p []byte, rnd *rand.Rand) bool) []mutation {
	var all []mutation
	for _, k := range kinds {
		all = append(all, mutation{fmt.Sprintf("%s: %s", k, name), func(s *specimen, b []byte, rnd *rand.Rand) (page.ID, bool) {
			ids := s.pages[k]
			if k == page.KindLeaf {
				ids = s.leaves
			}
			if len(ids) == 0 {
				return 0, false
			}
			id := pick(rnd, ids)
			return id, change(b[int(id)*s.size:int(id)*s.size+s.size], rnd)
		}})
	}
	return all
}

// onElement makes mutations of a word of an element.
func onElement(name string, kind page.Kind, word int, change func(old uint32, rnd *rand.Rand) uint32) mutation {
	return mutation{fmt.Sprintf("%s element: %s", kind, name), func(s *specimen, b []byte, rnd *rand.Rand) (page.ID, bool) {
		ids := s.pages[kind]
		if kind == page.KindLeaf {
			ids = s.leaves
		}
		if len(ids) == 0 {
			return 0, false
		}
		id := pick(rnd, ids)
		n := int(s.header(id).Count)
		i := rnd.IntN(n)
		// A size that is too small leaves a gap before the next element. The last
		// one has none: a shorter value is one that etcd could have written, and a
		// shorter separator is still a lower bound.
		if last := i == n-1; last && (change(9, rnd) < 9 || word == 3) {
			i = 0
		}
		at := int(id)*s.size + page.HeaderSize + i*page.ElementSize + word*4
		old := binary.LittleEndian.Uint32(b[at:])
		now := change(old, rnd)
		binary.LittleEndian.PutUint32(b[at:], now)
		return id, now != old
	}}
}

func onMeta(name string, mend bool, change func(m *page.Meta, rnd *rand.Rand)) mutation {
	if mend {
		name += " with the checksum mended"
	}
	return mutation{"meta: " + name, func(s *specimen, b []byte, rnd *rand.Rand) (page.ID, bool) {
		at := s.active*s.size + page.HeaderSize
		m := page.DecodeMeta((*[page.MetaSize]byte)(b[at:]))
		change(&m, rnd)
		if mend {
			m.Checksum = m.Sum()
		}
		copy(b[at:], m.Append(nil))
		return page.ID(s.active), true
	}}
}

var tree = []page.Kind{page.KindBranch, page.KindLeaf}

func flipBit(old uint32, rnd *rand.Rand) uint32 { return old ^ 1<<rnd.IntN(32) }
func zero(uint32, *rand.Rand) uint32            { return 0 }
func highest(uint32, *rand.Rand) uint32         { return 1<<32 - 1 }
func oneMore(old uint32, _ *rand.Rand) uint32   { return old + 1 }
func oneLess(old uint32, _ *rand.Rand) uint32   { return old - 1 }

// mutations are faults whose page is known, every field of every page kind among
// them.
func mutations() []mutation {
	all := slices.Concat(
		onPage("another number", append(tree, page.KindFreelist), func(p []byte, rnd *rand.Rand) bool { p[rnd.IntN(3)] ^= 1 << rnd.IntN(8); return true }),
		onPage("another type", append(tree, page.KindFreelist), func(p []byte, rnd *rand.Rand) bool { p[8] ^= 1 << rnd.IntN(8); return true }),
		onPage("type with high bits", tree, func(p []byte, rnd *rand.Rand) bool { p[9] = 0x80; return true }),
		onPage("count one higher", tree, func(p []byte, _ *rand.Rand) bool {
			binary.LittleEndian.PutUint16(p[10:], binary.LittleEndian.Uint16(p[10:])+1)
			return true
		}),
		onPage("count one lower", tree, func(p []byte, _ *rand.Rand) bool {
			n := binary.LittleEndian.Uint16(p[10:])
			binary.LittleEndian.PutUint16(p[10:], n-1)
			return n > 1
		}),
		onPage("count highest", append(tree, page.KindFreelist), func(p []byte, _ *rand.Rand) bool { p[10], p[11] = 0xff, 0xff; return true }),
		onPage("count zero", tree, func(p []byte, _ *rand.Rand) bool { p[10], p[11] = 0, 0; return true }),
		onPage("overflow flipped", tree, func(p []byte, rnd *rand.Rand) bool {
			binary.LittleEndian.PutUint32(p[12:], binary.LittleEndian.Uint32(p[12:])^1<<(1+rnd.IntN(31)))
			return true
		}),
		onPage("zeroed", append(tree, page.KindFreelist), func(p []byte, _ *rand.Rand) bool { clear(p); return true }),
		onPage("header zeroed", append(tree, page.KindFreelist), func(p []byte, _ *rand.Rand) bool { clear(p[:page.HeaderSize]); return true }),
		onPage("random bytes", append(tree, page.KindFreelist), func(p []byte, rnd *rand.Rand) bool {
			for i := range p {
				p[i] = byte(rnd.Uint32())
			}
			return true
		}),
		onPage("first sector zeroed", tree, func(p []byte, _ *rand.Rand) bool { clear(p[:min(512, len(p))]); return true }),
	)
	for _, k := range tree {
		words := map[string]int{"flags": 0, "position": 1, "key size": 2, "value size": 3}
		if k == page.KindBranch {
			words = map[string]int{"position": 0, "key size": 1}
		}
		for _, field := range []string{"flags", "position", "key size", "value size"} {
			w, ok := words[field]
			if !ok {
				continue
			}
			all = append(all, onElement(field+" flipped", k, w, flipBit), onElement(field+" highest", k, w, highest))
			if field != "flags" {
				all = append(all, onElement(field+" one more", k, w, oneMore), onElement(field+" one less", k, w, oneLess), onElement(field+" zero", k, w, zero))
			}
		}
	}
	return append(all,
		mutation{"branch element: child out of range", func(s *specimen, b []byte, rnd *rand.Rand) (page.ID, bool) {
			return redirect(s, b, rnd, func(page.ID) page.ID { return s.meta(s.active*s.size, 0).Pgid + page.ID(rnd.IntN(1000)) })
		}},
		mutation{"branch element: child is a meta page", func(s *specimen, b []byte, rnd *rand.Rand) (page.ID, bool) {
			return redirect(s, b, rnd, func(page.ID) page.ID { return page.ID(rnd.IntN(2)) })
		}},
		mutation{"branch element: child of another element", func(s *specimen, b []byte, rnd *rand.Rand) (page.ID, bool) {
			return redirect(s, b, rnd, func(old page.ID) page.ID {
				if other := pick(rnd, s.leaves); other != old {
					return other
				}
				return s.leaves[0]
			})
		}},
		mutation{"leaf: two keys exchanged", func(s *specimen, b []byte, rnd *rand.Rand) (page.ID, bool) {
			id := pick(rnd, s.leaves)
			p, _ := page.OpenLeaf(b[int(id)*s.size : (int(id)+int(s.header(id).Overflow)+1)*s.size])
			x, _ := p.Element(0)
			y, _ := p.Element(1)
			if len(x.Key) != len(y.Key) {
				return 0, false
			}
			for i := range x.Key {
				x.Key[i], y.Key[i] = y.Key[i], x.Key[i]
			}
			return id, true
		}},
		mutation{"leaf: another leaf's bytes under its own number", func(s *specimen, b []byte, rnd *rand.Rand) (page.ID, bool) {
			var single []page.ID
			for _, id := range s.leaves {
				if s.header(id).Overflow == 0 {
					single = append(single, id)
				}
			}
			if len(single) < 2 {
				return 0, false
			}
			i := rnd.IntN(len(single) - 1)
			to, from := single[i], single[i+1]
			copy(b[int(to)*s.size:(int(to)+1)*s.size], s.b[int(from)*s.size:(int(from)+1)*s.size])
			binary.LittleEndian.PutUint64(b[int(to)*s.size:], uint64(to))
			return to, true
		}},
		onMeta("magic", false, func(m *page.Meta, _ *rand.Rand) { m.Magic++ }),
		onMeta("version", false, func(m *page.Meta, _ *rand.Rand) { m.Version++ }),
		onMeta("checksum", false, func(m *page.Meta, rnd *rand.Rand) { m.Checksum ^= 1 << rnd.IntN(64) }),
		onMeta("root", false, func(m *page.Meta, _ *rand.Rand) { m.Root++ }),
		onMeta("transaction id", false, func(m *page.Meta, _ *rand.Rand) { m.Txid += 1000 }),
		onMeta("high-water mark", false, func(m *page.Meta, _ *rand.Rand) { m.Pgid++ }),
		onMeta("root past the mark", true, func(m *page.Meta, _ *rand.Rand) { m.Root = m.Pgid }),
		onMeta("page size", true, func(m *page.Meta, _ *rand.Rand) { m.PageSize = 5000 }),
		onMeta("another page size", true, func(m *page.Meta, rnd *rand.Rand) { m.PageSize = m.PageSize << 1 >> (2 * rnd.IntN(2)) }),
		onMeta("mark too low", true, func(m *page.Meta, _ *rand.Rand) { m.Pgid = 3 }),
		onMeta("freelist past the mark", true, func(m *page.Meta, _ *rand.Rand) { m.Freelist = m.Pgid + 5 }),
		mutation{"metas: both zeroed", func(s *specimen, b []byte, _ *rand.Rand) (page.ID, bool) {
			clear(b[:2*s.size])
			return 0, true
		}},
		mutation{"metas: both random", func(s *specimen, b []byte, rnd *rand.Rand) (page.ID, bool) {
			for i := range b[:2*s.size] {
				b[i] = byte(rnd.Uint32())
			}
			return 0, true
		}},
		mutation{"freelist: a page in use", func(s *specimen, b []byte, rnd *rand.Rand) (page.ID, bool) {
			return listFree(s, b, rnd, pick(rnd, s.leaves))
		}},
		mutation{"freelist: a page past the mark", func(s *specimen, b []byte, rnd *rand.Rand) (page.ID, bool) {
			return listFree(s, b, rnd, s.meta(s.active*s.size, 0).Pgid+7)
		}},
		mutation{"freelist: a page twice", func(s *specimen, b []byte, rnd *rand.Rand) (page.ID, bool) {
			if len(s.free) < 2 {
				return 0, false
			}
			return listFree(s, b, rnd, 0)
		}},
	)
}

// redirect changes the child of an element of a branch page.
func redirect(s *specimen, b []byte, rnd *rand.Rand, to func(old page.ID) page.ID) (page.ID, bool) {
	if len(s.branches) == 0 {
		return 0, false
	}
	id := pick(rnd, s.branches)
	at := int(id)*s.size + page.HeaderSize + rnd.IntN(int(s.header(id).Count))*page.ElementSize + 8
	old := page.ID(binary.LittleEndian.Uint64(b[at:]))
	now := to(old)
	binary.LittleEndian.PutUint64(b[at:], uint64(now))
	return id, now != old
}

// listFree puts a page number in the place of one in the stored freelist; 0
// stands for its neighbour's.
func listFree(s *specimen, b []byte, rnd *rand.Rand, id page.ID) (page.ID, bool) {
	lists := s.pages[page.KindFreelist]
	if len(lists) == 0 {
		return 0, false
	}
	at := int(lists[0])*s.size + page.HeaderSize
	n := int(s.header(lists[0]).Count)
	i := 1 + rnd.IntN(n-1)
	if id == 0 {
		id = page.ID(binary.LittleEndian.Uint64(b[at+(i-1)*8:]))
	}
	binary.LittleEndian.PutUint64(b[at+i*8:], uint64(id))
	return lists[0], true
}

// mutantsOfEach is the number of copies of each kind; MUTANTS sets another.
func mutantsOfEach(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("MUTANTS"))
	if err != nil {
		n = 1
	}
	if testing.Short() {
		n = 1
	}
	return n
}

// TestMutantsAreReportedWithTheirPage injures copies of real databases in one
// place each. Every one must be reported with the page that is wrong, within a
// multiple of the time that the healthy file takes.
func TestMutantsAreReportedWithTheirPage(t *testing.T) {
	each := mutantsOfEach(t)
	for _, name := range []string{"freelist-synced", "pagesize-512"} {
		s := newSpecimen(t, name)
		path := filepath.Join(t.TempDir(), "db")
		start := time.Now()
		if c := examineBytes(t, path, s.b); len(c.Findings) > 0 {
			t.Fatalf("%s: the healthy specimen has findings: %v", name, c.Findings)
		}
		healthy := time.Since(start)
		all := mutations()
		for k, m := range all {
			missed := 0
			for n := range each {
				rnd := rand.New(rand.NewPCG(uint64(k), uint64(n)))
				b := slices.Clone(s.b)
				wrong, ok := m.do(s, b, rnd)
				if !ok {
					continue
				}
				start := time.Now()
				c := examineBytes(t, path, b)
				if took := time.Since(start); took > 5*healthy+500*time.Millisecond {
					t.Errorf("%s, %s, %d: took %v, the healthy file %v", name, m.name, n, took, healthy)
				}
				if !reports(c, wrong) && missed < 2 {
					missed++
					t.Errorf("%s, %s, %d: page %d is wrong, findings: %s", name, m.name, n, wrong, messages(c))
				}
			}
		}
		t.Logf("%s: %d kinds, %d copies of each", name, len(all), each)
	}
}

func examineBytes(t *testing.T, path string, b []byte) *inspect.Case {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	sources, problems := source.Open(context.Background(), []string{path}, source.Options{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	defer sources[0].Close()
	c, err := inspect.Inspect(context.Background(), sources, inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// reports says whether a finding above note names the page.
func reports(c *inspect.Case, wrong page.ID) bool {
	return slices.ContainsFunc(c.Findings, func(f inspect.Finding) bool {
		return f.Severity > inspect.SeverityNote && f.Location.Page != nil && *f.Location.Page == uint64(wrong)
	})
}

func messages(c *inspect.Case) string {
	text := ""
	for i, f := range c.Findings {
		if i == 3 {
			return text + fmt.Sprintf(" and %d more", len(c.Findings)-3)
		}
		text += fmt.Sprintf("\n    %s: %s", f.Code, f.Message)
	}
	return text
}

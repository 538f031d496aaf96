package snapdb

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"etcd-forensics/snapdb/page"
)

// A Bucket is one bucket of the database. Buckets[0] of a Tree is the root
// bucket, whose records are the other buckets.
type Bucket struct {
	Name     []byte
	Parent   int // index of the bucket that holds it, -1 for the root bucket
	Root     page.ID
	Sequence uint64

	// An inline bucket has no page of its own: its one leaf lies in the value of
	// the record that names it.
	Inline       []byte
	InlineOffset int64 // of Inline, in the file

	Holder   page.ID // leaf page that names the bucket
	Element  int     // on Holder
	Doubtful bool    // elements of Holder are damaged, so Name may be part of something else

	depth int // levels of branch pages above the leaves, -1 when not known
}

// A Node is one branch page that the walk read.
type Node struct {
	ID       page.ID
	Parent   int32 // index in Tree.Nodes, -1 for a bucket's root
	Bucket   int32
	Overflow uint32
	Level    int32
}

// A Leaf is a reference to a leaf page, in key order within its bucket. The
// walk does not read it, except in the root bucket.
type Leaf struct {
	ID       page.ID
	Parent   int32 // index in Tree.Nodes, -1 when the leaf is a bucket's root
	Bucket   int32
	lo, hi   uint32 // separators in the tree's arena, 0 for none
	Overflow uint32 // further pages, once the leaf was read; 0 when the page's own count cannot be right
	Broken   bool   // read, and not a leaf page
	exact    bool   // its first key is the separator above it, as bbolt writes it
	damaged  bool   // an element is not as it should be
}

// A Tree is what the walk of the branch pages found.
type Tree struct {
	File    *File
	Buckets []Bucket
	Nodes   []Node
	Leaves  []Leaf
	Faults  FaultList

	depths  map[page.ID]int // by root page, as probeDepth found them
	arena   []byte
	claimed []uint64 // bit per page: some reference leads to it
	again   []repeat // references to pages that were claimed before
	buf     []byte

	walked   int    // buckets that Walk found; the pass may find more
	released *sizes // see Release; nil for a tree that is there
}

// A repeat is a reference to a page to which another one led first.
type repeat struct {
	visit
	bucket int
}

// maxWalked bounds the bytes read of one page before the pass. Branch pages have
// at most a few keys more than a page holds, and the root bucket's records are
// bucket headers.
const maxWalked = 256 << 10

// maxNesting bounds buckets inside buckets. etcd nests none.
const maxNesting = 64

// Walk reads the branch pages of every bucket named in the root bucket, as of
// the meta in use, with random reads. It stops early only when ctx ends; the
// tree then holds what was seen.
//
// perKind bounds the faults kept of each kind; the rest is counted.
func Walk(ctx context.Context, f *File, perKind int) (*Tree, error) {
	t := &Tree{File: f, arena: make([]byte, 1, 4096), Faults: FaultList{PerKind: perKind}}
	return t, t.walk(ctx)
}

func (t *Tree) walk(ctx context.Context) error {
	t.depths = map[page.ID]int{}
	m := t.File.Meta()
	t.claimed = make([]uint64, t.pagesInUse()/64+1)
	t.Buckets = []Bucket{{Parent: -1, Root: m.Root, Sequence: m.Sequence, Holder: page.ID(t.File.Active), Element: -1}}
	if err := t.walkBucket(ctx, 0); err != nil {
		return err
	}
	for i := 0; i < len(t.Leaves); i++ {
		if t.Leaves[i].Bucket != 0 {
			continue
		}
		if err := t.readBuckets(ctx, i); err != nil {
			return err
		}
	}
	t.walked = len(t.Buckets)
	return t.SettleRepeats(ctx)
}

// readBuckets reads leaf i for the buckets it names and walks them.
func (t *Tree) readBuckets(ctx context.Context, i int) error {
	buf, err := t.File.ReadPage(t.Leaves[i].ID, maxWalked, nil)
	if err != nil {
		t.Report(t.UnreadableLeaf(i, err))
		return nil
	}
	elements := t.ReadLeaf(i, buf, nil, &t.Faults)
	plain, first := 0, 0
	for k := len(elements) - 1; k >= 0; k-- {
		if !elements[k].Bucket {
			plain, first = plain+1, k
		}
	}
	switch at := int64(page.HeaderSize); {
	case plain == 0:
	case plain == len(elements):
		t.Report(t.leafFault(i, FaultPageRange, -1, at, errors.New("no record of the page is a bucket, as all records of the root bucket are")))
	default:
		e := elements[first]
		t.Report(t.leafFault(i, FaultBucket, e.Index, at+int64(e.Index*page.ElementSize),
			fmt.Errorf("a record of the root bucket that is no bucket; %d of %d are not", plain, len(elements))))
	}
	budget := len(buf)
	for _, e := range elements {
		// Damaged elements may lie over each other: together they have no more
		// bytes than the page.
		if budget -= len(e.Key) + len(e.Value); !e.Bucket || budget < 0 {
			continue
		}
		if err := t.AddBucket(ctx, i, e); err != nil {
			return err
		}
	}
	return nil
}

// AddBucket adds the bucket that element e of leaf i names, and walks it. Its
// leaves are appended to Leaves.
func (t *Tree) AddBucket(ctx context.Context, i int, e Element) error {
	l := &t.Leaves[i]
	at := int64(l.ID)*int64(t.File.PageSize) + int64(e.Offset)
	b, fault := page.DecodeBucket(e.Value)
	if fault != nil {
		t.Report(t.leafFault(i, FaultBucket, e.Index, int64(e.Offset), fault))
		return nil
	}
	depth := 0
	for p := int(l.Bucket); p > 0; p = t.Buckets[p].Parent {
		if depth++; depth > maxNesting {
			t.Report(t.leafFault(i, FaultBucket, e.Index, int64(e.Offset), fmt.Errorf("buckets are nested more than %d deep", maxNesting)))
			return nil
		}
	}
	t.Buckets = append(t.Buckets, Bucket{
		Name: slices.Clone(e.Key), Parent: int(l.Bucket), Root: b.Root, Sequence: b.Sequence,
		Inline: slices.Clone(b.Inline), InlineOffset: at + int64(len(e.Key)) + page.BucketHeaderSize,
		Holder: l.ID, Element: e.Index, Doubtful: l.damaged,
	})
	if b.Root == 0 {
		return nil
	}
	return t.walkBucket(ctx, len(t.Buckets)-1)
}

// A visit is one page still to be looked at.
type visit struct {
	id      page.ID
	parent  int32
	element int // of the parent's page (of the holder's for a bucket's root)
	level   int32
	lo, hi  uint32
	before  uint32 // separator of the element before, 0 for the first
}

// walkBucket appends the nodes and leaves of bucket b, in key order.
func (t *Tree) walkBucket(ctx context.Context, b int) error {
	bk := &t.Buckets[b]
	depth, known := t.depths[bk.Root]
	if !known {
		depth = t.probeDepth(bk.Root)
		t.depths[bk.Root] = depth
	}
	bk.depth = depth
	return t.walkFrom(ctx, b, visit{id: bk.Root, parent: -1, element: bk.Element})
}

// walkFrom appends the nodes and leaves below a reference of bucket b.
func (t *Tree) walkFrom(ctx context.Context, b int, from visit) error {
	bk := &t.Buckets[b]
	stack := []visit{from}
	for n := 0; len(stack) > 0; n++ {
		if n%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if !t.refer(b, v) {
			continue
		}
		if int(v.level) >= bk.depth {
			t.Leaves = append(t.Leaves, Leaf{ID: v.id, Parent: v.parent, Bucket: int32(b), lo: v.lo, hi: v.hi})
			continue
		}
		children := t.readBranch(b, v)
		slices.Reverse(children)
		stack = append(stack, children...)
	}
	return nil
}

// refer checks the reference v and claims its page. It returns false when there
// is nothing to follow.
func (t *Tree) refer(b int, v visit) bool {
	hwm := t.File.Meta().Pgid
	var kind FaultKind
	var err error
	switch {
	case v.id < 2:
		kind, err = FaultOutOfRange, fmt.Errorf("refers to page %d, which is a meta page", v.id)
	case v.id >= hwm:
		kind, err = FaultOutOfRange, fmt.Errorf("refers to page %d, the high-water mark is %d", v.id, hwm)
	case v.id >= page.ID(t.File.Pages()):
		kind, err = FaultPastEnd, fmt.Errorf("refers to page %d, the file ends with page %d", v.id, t.File.Pages()-1)
	case t.claimed[v.id/64]&(1<<(v.id%64)) == 0:
		t.claimed[v.id/64] |= 1 << (v.id % 64)
		return true
	case t.above(v):
		kind, err = FaultPageCycle, fmt.Errorf("refers to page %d, which is above it", v.id)
	default:
		t.again = append(t.again, repeat{v, b})
		return false
	}
	holder, offset := t.referenceAt(b, v)
	t.Report(Fault{Kind: kind, Page: holder, Offset: offset, Element: v.element, Related: []page.ID{v.id}, Bucket: b,
		Path: t.pathTo(b, v.parent), Lo: t.separator(v.lo), Hi: t.separator(v.hi), Err: err})
	return false
}

// above says whether the page that v leads to is one of those that lead to v.
func (t *Tree) above(v visit) bool {
	for p := v.parent; p >= 0; p = t.Nodes[p].Parent {
		if t.Nodes[p].ID == v.id {
			return true
		}
	}
	return false
}

// referenceAt gives the page that holds reference v and the file offset of its
// element.
func (t *Tree) referenceAt(b int, v visit) (page.ID, int64) {
	size := int64(t.File.PageSize)
	if v.parent >= 0 {
		id := t.Nodes[v.parent].ID
		return id, int64(id)*size + page.HeaderSize + int64(v.element)*page.ElementSize
	}
	bk := t.Buckets[b]
	if v.element < 0 {
		return bk.Holder, t.File.Metas[t.File.Active].Offset + page.HeaderSize + 16 // Meta.Root
	}
	return bk.Holder, int64(bk.Holder)*size + page.HeaderSize + int64(v.element)*page.ElementSize
}

// readBranch reads a page where a branch belongs, reports what is wrong with it,
// and gives its children in key order.
func (t *Tree) readBranch(b int, v visit) []visit {
	base := int64(v.id) * int64(t.File.PageSize)
	report := func(kind FaultKind, element int, at int64, err error) {
		t.Report(Fault{Kind: kind, Page: v.id, Offset: base + at, Element: element, Bucket: b,
			Path: append(t.pathTo(b, v.parent), v.id), Lo: t.separator(v.lo), Hi: t.separator(v.hi), Err: err})
	}
	buf, err := t.File.ReadPage(v.id, maxWalked, t.buf)
	if err != nil {
		report(FaultUnreadable, -1, 0, err)
		return nil
	}
	t.buf = buf
	if len(buf) < page.HeaderSize {
		report(FaultPastEnd, -1, 0, fmt.Errorf("the file ends inside the page"))
		return nil
	}
	h := page.DecodeHeader((*[page.HeaderSize]byte)(buf))
	if h.Kind() != page.KindBranch {
		if h.ID == v.id && page.LaidOut(buf) {
			t.misled(b, v, h, "a branch")
			return nil
		}
		report(FaultPageType, -1, 8, notKind(h, "a branch"))
		return nil
	}
	foreign := h.ID != v.id
	if foreign {
		report(FaultPageID, -1, 0, fmt.Errorf("the page carries number %d", h.ID))
	}
	cut := t.isCut(v.id, h.Overflow)
	switch {
	case t.pastMark(v.id, h.Overflow):
		report(FaultPageBounds, -1, 12, fmt.Errorf("overflow of %d pages leaves the file's pages in use", h.Overflow))
	case cut:
		report(FaultPastEnd, -1, 0, errCut)
	}
	br, fault := page.OpenBranch(buf)
	if fault != nil && !cut {
		report(pageFaults[fault.Kind], fault.Element, fault.Offset, fault.Err)
	}
	if br.Len() == 0 && fault == nil {
		report(FaultPageEmpty, -1, 10, errors.New("a branch page with no elements"))
	}
	clean := fault == nil && !cut && !t.pastMark(v.id, h.Overflow)
	self := int32(len(t.Nodes))
	t.Nodes = append(t.Nodes, Node{ID: v.id, Parent: v.parent, Bucket: int32(b), Overflow: h.Overflow, Level: v.level})
	children := make([]visit, 0, br.Len())
	var before []byte
	var bad *page.Fault // the first; the others follow from it more often than not
	badElements, ranged := 0, foreign
	note := func(f *page.Fault) {
		if badElements++; bad == nil {
			bad = f
		}
	}
	lo, hi := t.separator(v.lo), t.separator(v.hi)
	for i := range br.Len() {
		e, fault := br.Element(i)
		c := visit{id: e.Child, parent: self, element: i, level: v.level + 1}
		switch {
		case fault != nil:
			note(fault)
		case page.OrderFault(i, before, e.Key) != nil:
			note(page.OrderFault(i, before, e.Key))
		case outside(e.Key, lo, hi) && !ranged && bad == nil:
			ranged = true
			if before := t.separator(v.before); i == 0 && before != nil && bytes.Compare(before, e.Key) < 0 && outside(e.Key, lo, nil) {
				t.badSeparator(b, v)
			} else {
				report(FaultPageRange, i, int64(page.HeaderSize+i*page.ElementSize), errOutside)
			}
		}
		if e.Key != nil && fault == nil {
			before = e.Key
			c.lo = t.intern(e.Key)
		}
		children = append(children, c)
	}
	if bad != nil && !cut {
		clean = false
		if badElements > 1 {
			bad.Err = fmt.Errorf("%w; %d of %d elements are not as they should be", bad.Err, badElements, br.Len())
		}
		report(pageFaults[bad.Kind], bad.Element, bad.Offset, bad.Err)
	}
	for i := range children {
		if i+1 < len(children) {
			children[i].hi = children[i+1].lo
			children[i+1].before = children[i].lo
		} else {
			children[i].hi = v.hi
		}
		// A separator that is itself out of order promises nothing.
		if lo, hi := t.separator(children[i].lo), t.separator(children[i].hi); lo != nil && hi != nil && bytes.Compare(lo, hi) >= 0 {
			children[i].lo, children[i].hi = 0, 0
		}
	}
	if clean {
		if of := h.CheckOverflow(br.End(), t.File.PageSize); of != nil {
			report(FaultPageBounds, -1, of.Offset, of.Err)
		}
	}
	return children
}

// badSeparator reports the separator of reference v, below which the keys of its
// page begin while they do lie behind the separator before: it is that of no
// page.
func (t *Tree) badSeparator(b int, v visit) {
	holder, offset := t.referenceAt(b, v)
	t.Report(Fault{Kind: FaultPageRange, Page: holder, Offset: offset, Element: v.element, Related: []page.ID{v.id}, Bucket: b,
		Path: t.pathTo(b, v.parent), Lo: t.separator(v.before), Hi: t.separator(v.hi), Err: fmt.Errorf("the separator above page %d does not fit the page's keys", v.id)})
}

// misled reports a reference that leads to a whole page of another kind than its
// place asks for: the reference is wrong, not the page. The page is free for the
// reference that means it.
func (t *Tree) misled(b int, v visit, h page.Header, want string) {
	t.claimed[v.id/64] &^= 1 << (v.id % 64)
	holder, offset := t.referenceAt(b, v)
	t.Report(Fault{Kind: FaultPageType, Page: holder, Offset: offset, Element: v.element, Related: []page.ID{v.id}, Bucket: b,
		Path: t.pathTo(b, v.parent), Lo: t.separator(v.lo), Hi: t.separator(v.hi),
		Err: fmt.Errorf("refers to page %d, a %s, where %s belongs", v.id, h.Kind(), want)})
}

// pagesInUse gives the pages below the high-water mark that begin in the file.
func (t *Tree) pagesInUse() int64 {
	return int64(min(uint64(t.File.Meta().Pgid), uint64(t.File.Pages())))
}

// Room gives the number of pages from id on before the next one to which a
// reference leads, or before the end: more than that cannot be one page with its
// overflow. Call it when no walk is under way.
func (t *Tree) Room(id page.ID) int64 {
	end := page.ID(t.pagesInUse())
	next := id + 1
	for next < end {
		word := t.claimed[next/64] >> (next % 64)
		if word != 0 {
			next += page.ID(bits.TrailingZeros64(word))
			break
		}
		next = (next/64 + 1) * 64
	}
	return int64(min(next, end) - id)
}

// pastMark says whether a page with its overflow leaves the pages in use.
func (t *Tree) pastMark(id page.ID, overflow uint32) bool {
	return uint64(id)+uint64(overflow) >= uint64(t.File.Meta().Pgid)
}

// isCut says whether a page below the high-water mark leaves the file.
func (t *Tree) isCut(id page.ID, overflow uint32) bool {
	end := (uint64(id) + uint64(overflow) + 1) * uint64(t.File.PageSize)
	return end > uint64(t.File.DataSize) && !t.pastMark(id, overflow)
}

func outside(key, lo, hi []byte) bool {
	return lo != nil && bytes.Compare(key, lo) < 0 || hi != nil && bytes.Compare(key, hi) >= 0
}

// probeDepth finds how many levels of branch pages lie above the leaves of the
// tree at root. bbolt keeps all leaves of a bucket at one depth: it splits
// upwards from the leaves and collapses a root with one child (node.go). Several
// ways down are tried, so that one damaged page does not decide.
func (t *Tree) probeDepth(root page.ID) int {
	votes := map[int]int{}
	for way := range 7 {
		if d, ok := t.descend(root, way); ok {
			votes[d]++
			if d == 0 {
				return 0 // the root itself is a leaf
			}
		}
	}
	best, most := 0, 0
	for d, n := range votes {
		if n > most || n == most && d > best {
			best, most = d, n
		}
	}
	return best
}

// maxDepth bounds the levels of branch pages in one bucket: with two children each,
// there are no more pages for it.
const maxDepth = 32

// descend follows one way from root to a leaf: at each branch page it takes the
// child at way sixths of the elements.
func (t *Tree) descend(root page.ID, way int) (depth int, ok bool) {
	id := root
	var seen [maxDepth]page.ID
	for depth = 0; depth < maxDepth; depth++ {
		if slices.Contains(seen[:depth], id) {
			return 0, false
		}
		seen[depth] = id
		if id < 2 || id >= t.File.Meta().Pgid || id >= page.ID(t.File.Pages()) {
			return 0, false
		}
		buf, err := t.File.ReadPage(id, maxWalked, t.buf)
		if err != nil || len(buf) < page.HeaderSize {
			return 0, false
		}
		t.buf = buf
		switch h := page.DecodeHeader((*[page.HeaderSize]byte)(buf)); h.Kind() {
		case page.KindLeaf:
			return depth, h.ID == id
		case page.KindBranch:
			br, fault := page.OpenBranch(buf)
			if fault != nil || br.Len() == 0 {
				return 0, false
			}
			if _, fault := br.Element(0); fault != nil {
				if br.Len() < 2 {
					return 0, false
				}
				if _, fault := br.Element(1); fault != nil {
					return 0, false // not laid out as a branch
				}
			}
			e, _ := br.Element((br.Len() - 1) * way / 6)
			id = e.Child
		default:
			return 0, false
		}
	}
	return 0, false
}

// Report adds a fault to the tree's list.
func (t *Tree) Report(f Fault) { t.Faults.Add(f) }

// pathTo gives the pages from the root bucket's root down to node n of bucket b.
func (t *Tree) pathTo(b int, n int32) []page.ID {
	var path []page.ID
	for ; n >= 0; n = t.Nodes[n].Parent {
		path = append(path, t.Nodes[n].ID)
	}
	for ; b > 0; b = t.Buckets[b].Parent {
		path = append(path, t.Buckets[b].Holder)
	}
	slices.Reverse(path)
	return path
}

// intern keeps a separator. When the arena is full the separator is dropped: an
// unbounded range is the safe answer.
func (t *Tree) intern(key []byte) uint32 {
	at := uint64(len(t.arena))
	if at+uint64(len(key))+2 > math.MaxUint32 || len(key) > math.MaxUint16 {
		return 0
	}
	t.arena = binary.LittleEndian.AppendUint16(t.arena, uint16(len(key)))
	t.arena = append(t.arena, key...)
	return uint32(at)
}

func (t *Tree) separator(at uint32) []byte {
	if at == 0 {
		return nil
	}
	n := uint32(binary.LittleEndian.Uint16(t.arena[at:]))
	return t.arena[at+2 : at+2+n : at+2+n]
}

// Range gives the keys that the parents of leaf i promise: [lo, hi), nil for
// unbounded.
func (t *Tree) Range(i int) (lo, hi []byte) {
	return t.separator(t.Leaves[i].lo), t.separator(t.Leaves[i].hi)
}

// PathTo gives the page numbers from the root page down to leaf i.
func (t *Tree) PathTo(i int) []page.ID {
	return append(t.pathTo(int(t.Leaves[i].Bucket), t.Leaves[i].Parent), t.Leaves[i].ID)
}

package snapdb

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"iter"
	"math/bits"

	"etcd-forensics/snapdb/page"
)

// Remains is what the pages of a file say of themselves, for a file of which no
// meta is valid. A page carries its own number, which at the right page size is its
// offset divided by that size, so page size and pages can be told without a meta.
// What only a meta tells is which page the root is: bbolt never writes a page in
// use again, so copies of the root from older transactions lie on freed pages.
type Remains struct {
	PageSize int     // bytes; 0 when no page was found
	Own      int64   // branch, leaf and freelist pages that carry their own number
	Leaves   int64   // leaf pages among them
	Mark     page.ID // behind the last page that is in use by its looks
	Bad      int64   // bytes that the machine could not read

	file     *File
	leaves   []leafStart   // of every page; zero where no leaf begins
	branches []branchStart // in the order of the pages
	roots    []uint64      // bit per page: it can be the root page
}

// A leafStart is what is kept of a leaf page to hold the tree's references against.
type leafStart struct {
	first uint32 // hash of the first key; keyUnread when it is not known, 0 for no leaf
	count uint16
}

// keyUnread stands for the first key of a leaf that has none on its first page.
const keyUnread = 1

// A branchStart is the first reference of a branch page.
type branchStart struct{ id, child page.ID }

const (
	surveyChunk = 1 << 20 // bytes read at once, a multiple of every page size
	surveyStep  = page.MinSize

	// enoughVotes is the lead at which the page size is settled.
	enoughVotes = 1000

	// maxRootDepth bounds the branch pages looked for above the leaves of the root
	// bucket. etcd has ten buckets, which even at 512 bytes need one level.
	maxRootDepth = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func hashKey(key []byte) uint32 { return max(crc32.Checksum(key, castagnoli), keyUnread+1) }

// Survey reads the file once or twice from front to back. Only the end of ctx is
// an error: what cannot be read is counted.
func Survey(ctx context.Context, f *File) (*Remains, error) { return SurveyOf(ctx, f, EveryPage) }

// EveryPage wants all pages.
func EveryPage(page.ID) bool { return true }

// SurveyOf looks at the wanted pages alone, and reads no more of the file than that takes.
func SurveyOf(ctx context.Context, f *File, wanted func(page.ID) bool) (*Remains, error) {
	g := *f
	r := &Remains{file: &g}
	size, err := g.votePageSize(ctx)
	if err != nil || size == 0 {
		return r, err
	}
	r.PageSize, g.PageSize = size, size
	if g.Metas[1].Offset != int64(size) {
		if s, err := g.readSlot(int64(size)); err == nil {
			g.Metas[1] = s
		}
	}
	r.leaves = make([]leafStart, g.Pages())
	r.roots = make([]uint64, g.Pages()/64+1)
	r.Bad, err = g.eachFirstPage(ctx, wanted, r.look)
	if err != nil {
		return r, err
	}
	for _, n := range r.Named() {
		if n.Mark > r.Mark && n.Mark <= page.ID(g.Pages()) {
			r.Mark = n.Mark
		}
	}
	return r, r.findBranchRoots(ctx)
}

// eachChunk visits the bytes of the pages from front to back until visit says no.
// Where the disk does not give a chunk back it is read step by step; what is
// missing then is zero, and counted.
func (f *File) eachChunk(ctx context.Context, step int64, visit func(offset int64, b []byte) bool) (bad int64, err error) {
	buf := make([]byte, min(surveyChunk, f.DataSize))
	for offset := int64(0); offset < f.DataSize; offset += surveyChunk {
		if err := ctx.Err(); err != nil {
			return bad, err
		}
		b := buf[:min(surveyChunk, f.DataSize-offset)]
		bad += f.readSteps(b, offset, step)
		if !visit(offset, b) {
			return bad, nil
		}
	}
	return bad, nil
}

// readSteps fills b, step by step where the disk does not give it at once. The bytes that
// are missing then are zero, and counted.
func (f *File) readSteps(b []byte, offset, step int64) (bad int64) {
	if n, _ := f.r.ReadAt(b, offset); n == len(b) {
		return 0
	}
	for at := int64(0); at < int64(len(b)); at += step {
		part := b[at:min(at+step, int64(len(b)))]
		if n, _ := f.r.ReadAt(part, offset+at); n < len(part) {
			clear(part)
			bad += int64(len(part))
		}
	}
	return bad
}

// votePageSize finds the page size, 0 when there are no pages. A page at its
// offset fits one page size only; the bytes of values and overflow pages fit none
// but by accident or intent, so the majority decides. A meta whose field for it
// survives has a vote as well.
func (f *File) votePageSize(ctx context.Context) (int, error) {
	var votes [17]int64 // by power of two
	for _, s := range f.Metas {
		if s.Read && page.ValidSize(s.Meta.PageSize) {
			votes[bits.TrailingZeros32(s.Meta.PageSize)]++
		}
	}
	pages := int64(0)
	_, err := f.eachChunk(ctx, surveyStep, func(offset int64, b []byte) bool {
		for at := 0; at+2*page.HeaderSize <= len(b); at += surveyStep {
			if size := sizeOf(offset+int64(at), b[at:]); size > 0 {
				votes[bits.TrailingZeros32(size)]++
				pages++
			}
		}
		first, second := leaders(votes[:])
		return votes[first]-votes[second] < enoughVotes
	})
	if err != nil || pages == 0 {
		return 0, err
	}
	first, _ := leaders(votes[:])
	return 1 << first, nil
}

// leaders gives the places of the two highest numbers, the lower place among
// equals.
func leaders(votes []int64) (first, second int) {
	for i := range votes {
		if votes[i] > votes[first] {
			first = i
		}
	}
	if first == 0 {
		second = 1
	}
	for i := range votes {
		if i != first && votes[i] > votes[second] {
			second = i
		}
	}
	return first, second
}

// sizeOf gives the page size at which a branch or leaf page that begins here
// carries its own number, 0 when nothing looks like one. bbolt lays the first key
// directly behind the elements.
func sizeOf(offset int64, b []byte) uint32 {
	h := page.DecodeHeader((*[page.HeaderSize]byte)(b))
	kind := h.Kind()
	if h.ID < 2 || h.ID > page.ID(offset) || h.Count == 0 || kind != page.KindBranch && kind != page.KindLeaf {
		return 0
	}
	position := b[page.HeaderSize:]
	if kind == page.KindLeaf {
		position = position[4:]
	}
	size := offset / int64(h.ID)
	if offset%int64(h.ID) != 0 || size > page.MaxSize || !page.ValidSize(uint32(size)) ||
		binary.LittleEndian.Uint32(position) != uint32(h.Count)*page.ElementSize {
		return 0
	}
	return uint32(size)
}

// look takes in the first bytes of page id.
func (r *Remains) look(id page.ID, b []byte) {
	if len(b) < page.HeaderSize || id < 2 {
		return
	}
	h := page.DecodeHeader((*[page.HeaderSize]byte)(b))
	if h == (page.Header{}) {
		return
	}
	r.Mark = max(r.Mark, id+1)
	if h.ID != id {
		return
	}
	switch h.Kind() {
	case page.KindLeaf:
		r.Leaves++
		r.leaves[id] = leafStart{firstKeyHash(b), h.Count}
		if r.allBuckets(h, b) {
			r.roots[id/64] |= 1 << (id % 64)
		}
	case page.KindBranch:
		if br, fault := page.OpenBranch(b); fault == nil && br.Len() > 0 {
			e, _ := br.Element(0)
			r.branches = append(r.branches, branchStart{id, e.Child})
		}
	case page.KindFreelist:
	default:
		return
	}
	r.Own++
	r.Mark = max(r.Mark, min(id+page.ID(h.Overflow)+1, page.ID(r.file.Pages())))
}

func firstKeyHash(b []byte) uint32 {
	l, fault := page.OpenLeaf(b)
	if l.Len() == 0 || fault != nil {
		return keyUnread
	}
	raw := l.Raw(0)
	end := raw.Position + uint64(raw.KeySize)
	if end > uint64(len(b)) {
		return keyUnread
	}
	return hashKey(b[raw.Position:end])
}

// allBuckets says whether a leaf page can be one of the root bucket's, whose
// records are all buckets.
func (r *Remains) allBuckets(h page.Header, b []byte) bool {
	n := int(h.Count)
	if n == 0 || page.HeaderSize+n*page.ElementSize > len(b) {
		return false
	}
	for i := range n {
		if binary.LittleEndian.Uint32(b[page.HeaderSize+i*page.ElementSize:]) != 1 {
			return false
		}
	}
	if h.Overflow > 0 {
		var err error
		if b, err = r.file.ReadPage(h.ID, maxWalked, nil); err != nil {
			return false
		}
	}
	if !page.LaidOut(b) {
		return false
	}
	l, _ := page.OpenLeaf(b)
	var before []byte
	for i := range l.Len() {
		e, fault := l.Element(i)
		if fault != nil || page.OrderFault(i, before, e.Key) != nil {
			return false
		}
		bk, fault := page.DecodeBucket(e.Value)
		if fault != nil || bk.Root == 1 || bk.Root >= page.ID(r.file.Pages()) {
			return false
		}
		before = e.Key
	}
	return true
}

func (r *Remains) canBeRoot(id page.ID) bool {
	return id < page.ID(len(r.leaves)) && r.roots[id/64]&(1<<(id%64)) != 0
}

// findBranchRoots adds the branch pages below which only leaves of the root bucket
// lie.
func (r *Remains) findBranchRoots(ctx context.Context) error {
	var buf []byte
	for range maxRootDepth {
		found := false
		for n, br := range r.branches {
			if n%4096 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			if !r.canBeRoot(br.child) || r.canBeRoot(br.id) {
				continue
			}
			var err error
			if buf, err = r.file.ReadPage(br.id, maxWalked, buf); err == nil && page.LaidOut(buf) && r.childrenCanBeRoots(buf) {
				r.roots[br.id/64] |= 1 << (br.id % 64)
				found = true
			}
		}
		if !found {
			break
		}
	}
	return nil
}

func (r *Remains) childrenCanBeRoots(b []byte) bool {
	br, _ := page.OpenBranch(b)
	for i := range br.Len() {
		if e, _ := br.Element(i); !r.canBeRoot(e.Child) {
			return false
		}
	}
	return true
}

// Roots gives the pages that can be the root page, in the order of the pages.
func (r *Remains) Roots() iter.Seq[page.ID] {
	return func(yield func(page.ID) bool) {
		for w, word := range r.roots {
			for ; word != 0; word &= word - 1 {
				if !yield(page.ID(w*64 + bits.TrailingZeros64(word))) {
					return
				}
			}
		}
	}
}

// Branches gives the branch pages that carry their own number, each with the page of its
// first reference, in the order of the pages.
func (r *Remains) Branches() iter.Seq2[page.ID, page.ID] {
	return func(yield func(id, child page.ID) bool) {
		for _, b := range r.branches {
			if !yield(b.id, b.child) {
				return
			}
		}
	}
}

// A NamedRoot is what a meta that is not valid says of the root, where a page lies
// that can be one.
type NamedRoot struct {
	Slot int
	Root page.ID
	Txid uint64
	Mark page.ID // high-water mark
}

// Named gives the roots that the broken metas name, in the order of the metas.
func (r *Remains) Named() []NamedRoot {
	var named []NamedRoot
	for i, s := range r.file.Metas {
		if s.Read && r.canBeRoot(s.Meta.Root) {
			named = append(named, NamedRoot{i, s.Meta.Root, s.Meta.Txid, s.Meta.Pgid})
		}
	}
	return named
}

// Metas gives the two meta pages, the second from where the page size says.
func (r *Remains) Metas() [2]Slot { return r.file.Metas }

// AsRoot gives the file as if page 0 were a meta that names root.
func (r *Remains) AsRoot(root page.ID) *File {
	g := *r.file
	g.Active, g.StandIn = 0, true
	g.Metas[0].Meta = page.Meta{
		Magic: page.Magic, Version: page.Version, PageSize: uint32(r.PageSize), Root: root, Freelist: page.NoFreelist, Pgid: r.Mark,
	}
	return &g
}

// Misfits counts the leaves of a walked tree that are not what it refers to: no
// leaf that carries its own number, or one that begins with another key than the
// separator above it. bbolt writes every separator as its page's first key
// (node.go, spill), so a page that another transaction has taken shows.
func (r *Remains) Misfits(t *Tree) int {
	n := 0
	for i := range t.Leaves {
		l := &t.Leaves[i]
		if l.ID >= page.ID(len(r.leaves)) {
			n++
			continue
		}
		first := r.leaves[l.ID].first
		lo, _ := t.Range(i)
		if first == 0 || lo != nil && first != keyUnread && first != hashKey(lo) {
			n++
		}
	}
	return n
}

// Records gives the number of records of a bucket, as the headers of its leaves
// have it.
func (r *Remains) Records(t *Tree, bucket int) int64 {
	var n int64
	for i := range t.Leaves {
		if l := &t.Leaves[i]; int(l.Bucket) == bucket && l.ID < page.ID(len(r.leaves)) {
			n += int64(r.leaves[l.ID].count)
		}
	}
	return n
}

// EachLeaf visits the first page of every leaf that is wanted, carries its own number and
// is laid out as one as far as that page shows, in the order of the pages. b is valid
// during the call only.
func (r *Remains) EachLeaf(ctx context.Context, wanted func(page.ID) bool, visit func(id page.ID, b []byte)) error {
	if r.PageSize == 0 {
		return nil
	}
	isLeaf := func(id page.ID) bool { return r.leaves[id].first != 0 && wanted(id) }
	_, err := r.file.eachFirstPage(ctx, isLeaf, func(id page.ID, b []byte) {
		if len(b) >= 2*page.HeaderSize && sizeOf(int64(id)*int64(r.PageSize), b) == uint32(r.PageSize) {
			visit(id, b)
		}
	})
	return err
}

// blockBytes are read at once where pages are wanted, a multiple of every page size.
const blockBytes = 64 << 10

// eachFirstPage visits pages by themselves, without their overflow, in their order. Blocks
// of which none is wanted are not read. What cannot be read is zero, and counted.
func (f *File) eachFirstPage(ctx context.Context, wanted func(page.ID) bool, visit func(id page.ID, b []byte)) (bad int64, err error) {
	size := int64(f.PageSize)
	buf := make([]byte, min(blockBytes, f.DataSize))
	ids := make([]page.ID, 0, blockBytes/size)
	for offset := int64(0); offset < f.DataSize; offset += blockBytes {
		if err := ctx.Err(); err != nil {
			return bad, err
		}
		b := buf[:min(blockBytes, f.DataSize-offset)]
		ids = ids[:0]
		for at := int64(0); at < int64(len(b)); at += size {
			if id := page.ID((offset + at) / size); id < page.ID(f.Pages()) && wanted(id) {
				ids = append(ids, id)
			}
		}
		if len(ids) == 0 {
			continue
		}
		bad += f.readSteps(b, offset, size)
		for _, id := range ids {
			at := int64(id)*size - offset
			visit(id, b[at:min(at+size, int64(len(b)))])
		}
	}
	return bad, nil
}

// Package scan reads a database once, in file order, and feeds every leaf page to
// any number of consumers while the same bytes go through SHA-256.
//
// The walk of the branch pages (snapdb.Walk) comes first and says which pages
// are leaves. The pass then reads the file in chunks. With a digest, one
// goroutine fills a ring of buffers, one hashes, and the others parse; without,
// each parser reads the chunks that hold leaves for itself. Leaves arrive at
// consumers in no particular order and from several goroutines; what depends on
// key order is put together afterwards, so results do not depend on scheduling.
package scan

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/page"
)

const (
	chunkSize = 1 << 18 // bytes read at once
	ringSize  = 32      // chunks in memory with a digest
)

// A Leaf is one decoded leaf page. It and everything it refers to is valid only
// during the call that hands it over.
type Leaf struct {
	Index    int // in Tree.Leaves, -1 for the leaf of an inline bucket
	Bucket   int // in Tree.Buckets
	Page     page.ID
	Offset   int64 // of the page, from the start of the file
	Bytes    []byte
	Elements []snapdb.Element
	Sound    bool // nothing was wrong with the page
}

// A Consumer takes leaves. Sink is called once for each parser, before the pass.
type Consumer interface {
	Sink() Sink
}

// A Sink takes the leaves that one parser decoded. It is used by one goroutine.
type Sink interface {
	Leaf(*Leaf)
}

// Options control a pass.
type Options struct {
	Digest  bool // compute SHA-256 of the file
	Parsers int  // 0: one fewer than GOMAXPROCS with a digest, at least 1
	Again   bool // another pass was made over this tree: it has all faults and buckets
	// Known says of the leaves that are not read, since what they hold is known; see
	// snapdb.Tree.Adopt.
	Known func(leaf int) bool
}

// A Result is what the pass itself found.
type Result struct {
	Digest        [sha256.Size]byte // of the whole file
	DataDigest    [sha256.Size]byte // of the bytes before the trailer
	DigestValid   bool              // both digests were computed, over readable bytes
	Unreadable    []Region          // what the machine could not read, in file order
	UnreadableAll int               // number of such regions
	Pages         *snapdb.PageMap
}

// A Region is a run of bytes that could not be read.
type Region struct {
	Offset, Length int64
	Err            error
}

// maxRegions bounds the list of unreadable regions.
const maxRegions = 64

// Run makes the pass. On an error (ctx ended) the result holds what was seen.
func Run(ctx context.Context, tree *snapdb.Tree, opts Options, consumers ...Consumer) (*Result, error) {
	p := &pass{ctx: ctx, tree: tree, file: tree.File, opts: opts, result: &Result{}}
	if p.opts.Parsers == 0 {
		p.opts.Parsers = runtime.GOMAXPROCS(0)
		if opts.Digest {
			p.opts.Parsers = max(1, p.opts.Parsers-1)
		}
	}
	p.opts.Parsers = min(p.opts.Parsers, 8)
	for range p.opts.Parsers {
		ps := &parser{pass: p, faults: snapdb.FaultList{PerKind: tree.Faults.PerKind}}
		for _, c := range consumers {
			ps.sinks = append(ps.sinks, c.Sink())
		}
		p.parsers = append(p.parsers, ps)
	}
	err := p.run()
	for _, ps := range p.parsers {
		if !opts.Again {
			tree.Faults.Merge(&ps.faults)
		}
	}
	if err == nil && !opts.Again {
		p.result.Pages = tree.Account()
	}
	slices.SortFunc(p.result.Unreadable, func(a, b Region) int { return int(min(max(a.Offset-b.Offset, -1), 1)) })
	return p.result, err
}

type pass struct {
	ctx     context.Context
	tree    *snapdb.Tree
	file    *snapdb.File
	opts    Options
	parsers []*parser
	order   []int32 // leaves of this round by page number
	mu      sync.Mutex
	result  *Result
}

// run makes one sequential pass, then one round for each level of buckets that
// leaves named (etcd has none), until nothing new turns up.
func (p *pass) run() error {
	done, inlined := 0, 0
	for round := 0; ; round++ {
		for ; inlined < len(p.tree.Buckets); inlined++ {
			if p.tree.Buckets[inlined].Inline != nil {
				p.parsers[0].inline(inlined)
			}
		}
		p.arrange(done)
		done = len(p.tree.Leaves)
		if round > 0 && len(p.order) == 0 {
			return nil
		}
		var err error
		if round == 0 && p.opts.Digest {
			err = p.digest()
		} else {
			err = p.plain()
		}
		if err != nil {
			return err
		}
		if err := p.nested(); err != nil {
			return err
		}
		if len(p.tree.Leaves) == done && len(p.tree.Buckets) == inlined {
			return nil
		}
	}
}

// wants says whether leaf i is to be read.
func (p *pass) wants(i int) bool {
	return p.tree.Leaves[i].ID != 0 && (p.opts.Known == nil || !p.opts.Known(i))
}

// arrange puts the leaves from number done on into the order of their pages.
func (p *pass) arrange(done int) {
	leaves := p.tree.Leaves
	p.order = slices.Grow(p.order[:0], len(leaves)-done)
	if p.arrangeByPage(done) {
		return
	}
	p.order = p.order[:0]
	for i := done; i < len(leaves); i++ {
		if p.wants(i) {
			p.order = append(p.order, int32(i))
		}
	}
	slices.SortFunc(p.order, func(a, b int32) int { return cmp.Compare(leaves[a].ID, leaves[b].ID) })
}

// arrangeByPage does so without a sort where most pages are leaves. It says whether
// it could.
func (p *pass) arrangeByPage(done int) bool {
	leaves := p.tree.Leaves
	pages := page.ID(p.file.Pages())
	if uint64(pages) > 4*uint64(len(leaves)-done) {
		return false
	}
	at := make([]int32, pages) // number of the leaf on a page, plus 1
	for i := done; i < len(leaves); i++ {
		id := leaves[i].ID
		if !p.wants(i) {
			continue
		}
		if id >= pages || at[id] != 0 {
			return false
		}
		at[id] = int32(i) + 1
	}
	for _, n := range at {
		if n > 0 {
			p.order = append(p.order, n-1)
		}
	}
	return true
}

// nested adds the buckets that leaves outside the root bucket named.
func (p *pass) nested() error {
	if p.opts.Again {
		return nil
	}
	var found []nestedBucket
	for _, ps := range p.parsers {
		found = append(found, ps.nested...)
		ps.nested = nil
	}
	slices.SortFunc(found, func(a, b nestedBucket) int {
		if a.leaf != b.leaf {
			return a.leaf - b.leaf
		}
		return a.element.Index - b.element.Index
	})
	for _, n := range found {
		if err := p.tree.AddBucket(p.ctx, n.leaf, n.element); err != nil {
			return err
		}
	}
	return p.tree.SettleRepeats(p.ctx)
}

// A chunk is a run of whole pages of the file in memory.
type chunk struct {
	index  int64
	offset int64
	b      []byte
	bad    []Region // not readable; zero in b
	refs   atomic.Int32
}

func (p *pass) chunks() int64 { return (p.file.Size() + chunkSize - 1) / chunkSize }

// read fills c with chunk index.
func (p *pass) read(c *chunk, index int64) {
	c.index, c.offset, c.bad = index, index*chunkSize, nil
	n := min(chunkSize, p.file.Size()-c.offset)
	c.b = c.b[:n]
	r := p.file.ReaderAt()
	if m, err := r.ReadAt(c.b, c.offset); int64(m) == n || err == nil {
		return
	}
	// A failing disk: read page by page, so that one bad page costs one page.
	step := int64(max(p.file.PageSize, page.MinSize))
	for at := int64(0); at < n; at += step {
		b := c.b[at:min(at+step, n)]
		if m, err := r.ReadAt(b, c.offset+at); m < len(b) {
			clear(b)
			c.bad = append(c.bad, Region{c.offset + at, int64(len(b)), err})
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.result.UnreadableAll += len(c.bad)
	if room := maxRegions - len(p.result.Unreadable); room > 0 {
		p.result.Unreadable = append(p.result.Unreadable, c.bad[:min(room, len(c.bad))]...)
	}
}

// digest reads the whole file through the ring.
func (p *pass) digest() error {
	chunks := p.chunks()
	ring := int(min(ringSize, chunks))
	free := make(chan *chunk, ring)
	for range ring {
		free <- &chunk{b: make([]byte, min(chunkSize, p.file.Size()))}
	}
	toHash, toParse := make(chan *chunk, ring), make(chan *chunk, ring)
	release := func(c *chunk) {
		if c.refs.Add(-1) == 0 {
			free <- c
		}
	}
	var err error
	var wait sync.WaitGroup
	wait.Go(func() {
		defer close(toHash)
		defer close(toParse)
		for i := range chunks {
			if err = p.ctx.Err(); err != nil {
				return
			}
			c := <-free
			p.read(c, i)
			c.refs.Store(2)
			toHash <- c
			toParse <- c
		}
	})
	var readable bool
	wait.Go(func() { readable = p.hash(toHash, release) })
	for _, ps := range p.parsers {
		wait.Go(func() {
			for c := range toParse {
				ps.chunk(c)
				release(c)
			}
		})
	}
	wait.Wait()
	p.result.DigestValid = err == nil && readable
	return err
}

// hash takes the chunks in file order.
func (p *pass) hash(in <-chan *chunk, release func(*chunk)) (readable bool) {
	readable = true
	h := sha256.New()
	for c := range in {
		readable = readable && len(c.bad) == 0
		p.hashChunk(h, c)
		release(c)
	}
	if p.file.DataSize == p.file.Size() {
		h.Sum(p.result.DataDigest[:0])
	}
	h.Sum(p.result.Digest[:0])
	return readable
}

// hashChunk hashes c, and takes the digest of the data where the trailer begins.
func (p *pass) hashChunk(h hash.Hash, c *chunk) {
	b := c.b
	if end := p.file.DataSize - c.offset; end >= 0 && end < int64(len(b)) {
		h.Write(b[:end])
		h.Sum(p.result.DataDigest[:0])
		b = b[end:]
	}
	h.Write(b)
}

// plain lets each parser read the chunks that hold leaves.
func (p *pass) plain() error {
	var next atomic.Int64
	chunks := p.chunks()
	var wait sync.WaitGroup
	for _, ps := range p.parsers {
		wait.Go(func() {
			c := &chunk{b: make([]byte, min(chunkSize, p.file.Size()))}
			for p.ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= chunks {
					return
				}
				if from, to := p.leavesIn(i * chunkSize); from < to {
					p.read(c, i)
					ps.chunk(c)
				}
			}
		})
	}
	wait.Wait()
	return p.ctx.Err()
}

// leavesIn gives the part of order whose pages begin in the chunk at offset.
func (p *pass) leavesIn(offset int64) (from, to int) {
	size := int64(p.file.PageSize)
	find := func(offset int64) int {
		id := page.ID((offset + size - 1) / size)
		i, _ := slices.BinarySearchFunc(p.order, id, func(l int32, id page.ID) int {
			if p.tree.Leaves[l].ID < id {
				return -1
			}
			return 1
		})
		return i
	}
	return find(offset), find(offset + chunkSize)
}

type nestedBucket struct {
	leaf    int
	element snapdb.Element
}

// A parser decodes leaves and hands them to its sinks.
type parser struct {
	*pass
	sinks    []Sink
	faults   snapdb.FaultList
	elements []snapdb.Element
	nested   []nestedBucket
	buf      []byte
}

// chunk decodes the leaves that begin in c. A leaf that goes on past the end of
// c is read again by itself: it is in the machine's cache by then, or will be
// when the pass comes to it.
func (ps *parser) chunk(c *chunk) {
	from, to := ps.leavesIn(c.offset)
	for _, i := range ps.order[from:to] {
		l := &ps.tree.Leaves[i]
		offset := int64(l.ID) * int64(ps.file.PageSize)
		b := c.b[offset-c.offset:]
		b = b[:min(int64(len(b)), ps.file.DataSize-offset)]
		whole, room := int64(ps.file.PageSize), ps.tree.Room(l.ID)
		if len(b) >= page.HeaderSize {
			if h := page.DecodeHeader((*[page.HeaderSize]byte)(b)); h.Kind() == page.KindLeaf {
				whole *= min(int64(h.Overflow)+1, room)
			}
		}
		err := badIn(c.bad, offset, min(whole, int64(len(b))))
		if whole > int64(len(b)) {
			if err == nil && offset+int64(len(b)) < ps.file.DataSize {
				ps.buf, err = ps.file.ReadPage(l.ID, whole, ps.buf)
				b = ps.buf
			}
		} else {
			b = b[:whole]
		}
		if err != nil {
			l.Broken = true
			ps.faults.Add(ps.tree.UnreadableLeaf(int(i), err))
			continue
		}
		ps.leaf(int(i), offset, b)
	}
}

func badIn(bad []Region, offset, n int64) error {
	for _, r := range bad {
		if r.Offset < offset+n && offset < r.Offset+r.Length {
			return fmt.Errorf("%d bytes at %d: %w", r.Length, r.Offset, orUnexpected(r.Err))
		}
	}
	return nil
}

func orUnexpected(err error) error {
	if err == nil {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (ps *parser) leaf(i int, offset int64, b []byte) {
	before := ps.faults.Len()
	l := &ps.tree.Leaves[i]
	if l.Bucket == 0 {
		// The walk has read the root bucket's leaves and reported on them.
		var again snapdb.FaultList
		ps.elements = ps.tree.ReadLeaf(i, b, ps.elements[:0], &again)
		ps.hand(&Leaf{Index: i, Bucket: 0, Page: l.ID, Offset: offset, Bytes: b, Elements: ps.elements, Sound: again.Len() == 0})
		return
	}
	ps.elements = ps.tree.ReadLeaf(i, b, ps.elements[:0], &ps.faults)
	budget := len(b) // damaged elements may lie over each other
	for n := range ps.elements {
		e := &ps.elements[n]
		if budget -= len(e.Key) + len(e.Value); budget < 0 {
			break // and no further: thousands of them would wrap an int of 32 bits around
		}
		if e.Bucket {
			named := *e
			named.Key, named.Value = slices.Clone(e.Key), slices.Clone(e.Value)
			ps.nested = append(ps.nested, nestedBucket{i, named})
		}
	}
	ps.hand(&Leaf{Index: i, Bucket: int(l.Bucket), Page: l.ID, Offset: offset, Bytes: b, Elements: ps.elements, Sound: ps.faults.Len() == before})
}

func (ps *parser) inline(b int) {
	elements, faults := ps.tree.ReadInline(b)
	for _, f := range faults {
		ps.faults.Add(f)
	}
	bk := &ps.tree.Buckets[b]
	ps.hand(&Leaf{Index: -1, Bucket: b, Page: bk.Holder, Offset: bk.InlineOffset, Bytes: bk.Inline, Elements: elements, Sound: len(faults) == 0})
}

func (ps *parser) hand(l *Leaf) {
	for _, s := range ps.sinks {
		s.Leaf(l)
	}
}

package redact

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"io"

	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/page"
)

// A database is one bbolt file on its way through.
type database struct {
	*redactor
	file *snapdb.File
	size int // bytes of a page
	// Pages that a reference leads to, and those of the tree before the last transaction.
	starts, older pageSet
	listed        page.ID // the stored freelist, 0 when there is none

	out   *writer
	sums  []hash.Hash // of the bytes before and after, where a hash of them follows
	buf   []byte
	check func() error
}

// maxRun bounds the bytes of one page with its overflow that are held. What is behind
// is overwritten as a whole.
const maxRun = 64 << 20

// database redacts a bbolt file, from front to back.
func (r *redactor) database(ctx context.Context, src io.ReaderAt, size int64, out *writer) error {
	f, err := snapdb.Open(src, size)
	if err != nil {
		return err
	}
	d := &database{redactor: r, file: f, size: f.PageSize, out: out, check: ctx.Err}
	if !r.survey && f.HasTrailer() {
		d.sums = []hash.Hash{sha256.New(), sha256.New()}
	}
	if f.Active >= 0 {
		if err := d.walk(ctx); err != nil {
			return err
		}
	} else {
		remains, err := snapdb.Survey(ctx, f)
		if err != nil {
			return err
		}
		d.size = remains.PageSize
	}
	if d.size == 0 {
		return d.noPages(src, size)
	}
	if err := d.pages(src); err != nil {
		return err
	}
	return d.trailer(src, size)
}

// walk notes where pages begin, of the tree in use and of the one before.
func (d *database) walk(ctx context.Context) error {
	for i, s := range d.file.Metas {
		if !s.Valid() {
			continue
		}
		to := &d.older
		if i == d.file.Active {
			to = &d.starts
		}
		f := d.file.As(i)
		t, err := snapdb.Walk(ctx, f, 0)
		if err != nil {
			return err
		}
		to.room(f.Pages())
		for _, n := range t.Nodes {
			to.add(n.ID)
		}
		for _, l := range t.Leaves {
			to.add(l.ID)
		}
		if m := f.Meta(); m.Freelist != page.NoFreelist {
			to.add(m.Freelist)
			if i == d.file.Active {
				d.listed = m.Freelist
			}
		}
	}
	return nil
}

// noPages overwrites a file in which there is nothing of bbolt's.
func (d *database) noPages(src io.ReaderAt, size int64) error {
	return d.over(src, 0, size, func(b []byte) { d.blot(b) })
}

// over puts the bytes of a range through change, chunk by chunk.
func (d *database) over(src io.ReaderAt, from, to int64, change func([]byte)) error {
	for from < to {
		b, err := d.read(src, from, min(to-from, chunkSize))
		if err != nil {
			return err
		}
		d.sum(0, b)
		change(b)
		if err := d.put(b); err != nil {
			return err
		}
		from += int64(len(b))
	}
	return nil
}

func (d *database) read(src io.ReaderAt, at, n int64) ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	if int64(cap(d.buf)) < n {
		d.buf = make([]byte, n)
	}
	return readAt(src, d.buf[:n], at)
}

func (d *database) sum(which int, b []byte) {
	if d.sums != nil {
		d.sums[which].Write(b)
	}
}

func (d *database) put(b []byte) error {
	if d.survey {
		return nil
	}
	d.sum(1, b)
	return d.out.write(b)
}

// pages goes through the file page by page, a page with its overflow at once.
func (d *database) pages(src io.ReaderAt) error {
	end := d.file.DataSize
	size := int64(d.size)
	for at := int64(0); at < end; {
		id := page.ID(at / size)
		first, err := d.read(src, at, min(size, end-at))
		if err != nil {
			return err
		}
		if int64(len(first)) < size || id < 2 {
			d.sum(0, first)
			d.part(first, id)
			if err := d.put(first); err != nil {
				return err
			}
			at += int64(len(first))
			continue
		}
		run, err := d.run(src, id, first)
		if err != nil {
			return err
		}
		to := min(at+run*size, end)
		held := min(to, at+maxRun)
		b, err := d.read(src, at, held-at)
		if err != nil {
			return err
		}
		d.sum(0, b)
		d.page(b, id)
		if err := d.put(b); err != nil {
			return err
		}
		if err := d.over(src, held, to, func(b []byte) { d.blot(b) }); err != nil {
			return err
		}
		at = to
	}
	return nil
}

// run gives the pages that belong to the one at id: its overflow, as far as no other page
// begins in it.
func (d *database) run(src io.ReaderAt, id page.ID, first []byte) (int64, error) {
	h := page.DecodeHeader((*[page.HeaderSize]byte)(first))
	used := d.starts.has(id)
	if h.Overflow == 0 || !used && h.ID != id {
		return 1, nil
	}
	switch h.Kind() {
	case page.KindLeaf, page.KindBranch, page.KindFreelist:
	default:
		return 1, nil
	}
	all := (d.file.DataSize + int64(d.size) - 1) / int64(d.size)
	most := min(int64(h.Overflow)+1, all-int64(id))
	var head [page.HeaderSize]byte
	for n := int64(1); n < most; n++ {
		next := id + page.ID(n)
		if d.starts.has(next) {
			return n, nil
		}
		if used {
			continue
		}
		if d.older.has(next) {
			return n, nil
		}
		if _, err := readAt(src, head[:], int64(next)*int64(d.size)); err != nil {
			return n, nil // the end of the file
		}
		if other := page.DecodeHeader(&head); other.ID == next && other.Kind() != page.KindUnknown {
			return n, nil
		}
	}
	return most, nil
}

// part redacts a meta page, or a page that the file does not hold to its end.
func (d *database) part(b []byte, id page.ID) {
	if id >= 2 {
		d.page(b, id)
		return
	}
	keep := 0
	if n := page.HeaderSize + page.MetaSize; len(b) >= n && looksLikeMeta(b) {
		keep = n
		d.pageHead(b)
		d.meta(b[page.HeaderSize:])
	}
	d.blot(b[keep:])
}

// looksLikeMeta says whether two of the things that every meta page says are there.
func looksLikeMeta(b []byte) bool {
	h := page.DecodeHeader((*[page.HeaderSize]byte)(b))
	body := b[page.HeaderSize:]
	signs := 0
	for _, sign := range []bool{
		h.Kind() == page.KindMeta,
		binary.LittleEndian.Uint32(body) == page.Magic || binary.BigEndian.Uint32(body) == page.Magic,
		binary.LittleEndian.Uint32(body[4:]) == page.Version || binary.BigEndian.Uint32(body[4:]) == page.Version,
		page.ValidSize(binary.LittleEndian.Uint32(body[8:])) || page.ValidSize(binary.BigEndian.Uint32(body[8:])),
	} {
		if sign {
			signs++
		}
	}
	return signs >= 2
}

// page redacts a page with its overflow.
func (d *database) page(b []byte, id page.ID) {
	if len(b) < page.HeaderSize {
		d.blot(b)
		return
	}
	h := page.DecodeHeader((*[page.HeaderSize]byte)(b))
	used := d.starts.has(id) || d.older.has(id)
	if !used && h.ID != id {
		d.blot(b)
		return
	}
	defer d.pageHead(b)
	switch {
	case h.Kind() == page.KindLeaf && (used || page.LaidOut(b)):
		d.leaf(b, "")
	case h.Kind() == page.KindBranch && (used || page.LaidOut(b)):
		d.branch(b)
	case h.Kind() == page.KindFreelist && (id == d.listed || d.isFreelist(b)):
		d.freelist(b)
	default:
		d.blot(b[page.HeaderSize:])
	}
}

// isFreelist says whether a page lists pages of the file.
func (d *database) isFreelist(b []byte) bool {
	f, fault := page.OpenFreelist(b)
	if fault != nil {
		return false
	}
	for i := range f.Len() {
		if f.At(i) >= page.ID(d.file.DataSize/int64(d.size)) {
			return false
		}
	}
	return true
}

func (d *database) freelist(b []byte) {
	f, _ := page.OpenFreelist(b)
	end := page.HeaderSize + f.Len()*8
	if f.Count == 0xFFFF {
		end += 8
	}
	d.blot(b[min(end, len(b)):])
}

// trailer writes the SHA-256 of a snapshot: the right one where it was right, otherwise one that
// differs from it as the other did.
func (d *database) trailer(src io.ReaderAt, size int64) error {
	at := d.file.DataSize
	b, err := d.read(src, at, size-at)
	if err != nil || d.survey {
		return err
	}
	if d.sums == nil {
		d.blot(b)
		return d.out.write(b)
	}
	before, after := d.sums[0].Sum(nil), d.sums[1].Sum(nil)
	for i := range b {
		b[i] ^= before[i] ^ after[i]
	}
	return d.out.write(b)
}

// A pageSet is a set of page numbers.
type pageSet struct{ words []uint64 }

func (s *pageSet) room(pages int64) { s.words = make([]uint64, (pages+63)/64) }

func (s *pageSet) add(id page.ID) {
	if id/64 < page.ID(len(s.words)) {
		s.words[id/64] |= 1 << (id % 64)
	}
}

func (s *pageSet) has(id page.ID) bool {
	return id/64 < page.ID(len(s.words)) && s.words[id/64]>>(id%64)&1 == 1
}

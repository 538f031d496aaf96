// Package snapdb opens one bbolt database, a member's backend or a snapshot,
// and walks its branch pages. It reads through an io.ReaderAt, never maps or
// locks, and takes any bytes.
//
// A file is pages of one size, which only the meta pages tell. Pages 0 and 1
// are metas; the valid one with the higher transaction id is the truth
// (bbolt v1.5.0, db.go, meta: checksum first). etcd appends the SHA-256 of the
// database to a snapshot, so a size of 32 modulo 512 means that the last 32
// bytes are not the database's (etcd v3.7.3, etcdutl/snapshot/v3_snapshot.go,
// hasChecksum).
package snapdb

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	"etcd-forensics/snapdb/page"
)

// TrailerSize is the length in bytes of the SHA-256 that ends a snapshot.
const TrailerSize = sha256.Size

// trailerUnit is what etcd takes as the smallest page when it looks for a trailer.
const trailerUnit = 512

// A Slot is one of the two meta pages as it stands in the file.
type Slot struct {
	Offset  int64       // of the page; -1 when its place is not known
	Header  page.Header // of the page; the meta's checksum does not cover it
	Meta    page.Meta
	Read    bool    // the bytes were there to be read
	Invalid []error // why the meta cannot be used; empty for a valid one
	// OtherSize is set on slot 1 when it names another page size than slot 0. bbolt
	// goes by slot 0 as long as that is valid (db.go, getPageSize).
	OtherSize bool
	// Misplaced is set on slot 0 when bbolt would take it, and slot 1 lies at another
	// page size than it names, and says so.
	Misplaced bool
}

// Valid says whether the meta can be used.
func (s Slot) Valid() bool { return s.Read && len(s.Invalid) == 0 }

// Accepted says whether bbolt would take the meta: it looks at magic, version and
// checksum only, and then dies of the rest.
func (s Slot) Accepted() bool { return s.Read && s.Meta.Accepted() }

// A File is one opened database.
type File struct {
	r    io.ReaderAt
	size int64

	DataSize int64 // bytes before the trailer
	PageSize int   // bytes; 0 when no meta is valid
	Metas    [2]Slot
	Active   int // the slot in use, -1 when none is valid
	// StandIn is set when the meta in use is none that stands in the file: see
	// Remains.
	StandIn bool
	// SwappedOrder is set when a meta's magic reads right with the bytes turned
	// round: the file comes from a machine of the other byte order.
	SwappedOrder bool
}

// Open reads the meta pages. It fails only when r fails; a file without a valid
// meta opens with Active -1.
func Open(r io.ReaderAt, size int64) (*File, error) {
	f := &File{r: r, size: size, DataSize: size, Active: -1}
	if f.HasTrailer() {
		f.DataSize = size - TrailerSize
	}
	if err := f.readMetas(); err != nil {
		return nil, err
	}
	for i, s := range f.Metas {
		if s.Valid() && (f.Active < 0 || s.Meta.Txid > f.Metas[f.Active].Meta.Txid) {
			f.Active = i
		}
	}
	if f.Active >= 0 {
		f.PageSize = f.pageSize()
	}
	return f, nil
}

// pageSize gives the page size that bbolt goes by.
func (f *File) pageSize() int {
	if f.Metas[0].Valid() {
		return int(f.Metas[0].Meta.PageSize)
	}
	return int(f.Metas[f.Active].Meta.PageSize)
}

// HasTrailer says whether the size leaves room for a snapshot's hash.
func (f *File) HasTrailer() bool { return f.size%trailerUnit == TrailerSize }

// Size gives the file's bytes, trailer included.
func (f *File) Size() int64 { return f.size }

// ReaderAt gives the bytes that the file was opened on.
func (f *File) ReaderAt() io.ReaderAt { return f.r }

// Meta gives the meta in use, or what stands in for it; only with Active >= 0.
func (f *File) Meta() page.Meta { return f.Metas[f.Active].Meta }

// Pages gives the number of pages that begin in the file.
func (f *File) Pages() int64 {
	if f.PageSize == 0 {
		return 0
	}
	return (f.DataSize + int64(f.PageSize) - 1) / int64(f.PageSize)
}

// As gives the same file seen from meta slot i, which must be valid.
func (f *File) As(i int) *File {
	g := *f
	g.Active = i
	g.PageSize = g.pageSize()
	return &g
}

func (f *File) readMetas() error {
	first, err := f.readSlot(0)
	if err != nil {
		return err
	}
	f.Metas[0] = first
	f.Metas[1] = Slot{Offset: -1}
	if first.Valid() {
		size := first.Meta.PageSize
		if f.Metas[1], err = f.readSlot(int64(size)); err != nil {
			return err
		}
		if second := &f.Metas[1]; second.Accepted() {
			if second.OtherSize = second.Meta.PageSize != size; second.OtherSize {
				asked := second.Meta
				asked.PageSize = size
				second.Invalid = asked.Problems()
			}
			return nil
		}
		return f.misplaced()
	}
	// Without the first meta the page size is not known: the second is where a
	// valid one names the distance it lies at.
	for size := int64(page.MinSize); size <= page.MaxSize; size *= 2 {
		s, err := f.readSlot(size)
		if err != nil {
			return err
		}
		if s.Valid() && int64(s.Meta.PageSize) == size {
			f.Metas[1] = s
			return nil
		}
		if f.Metas[1].Offset < 0 && s.Read && s.Meta.Magic == page.Magic {
			f.Metas[1] = s // the best guess for the report
		}
	}
	return nil
}

// misplaced looks for a second meta where the first one does not say that it lies.
// One that is whole and names its own place as the page size tells that the first
// one's page size is wrong.
func (f *File) misplaced() error {
	for size := int64(page.MinSize); size <= page.MaxSize; size *= 2 {
		s, err := f.readSlot(size)
		if err != nil {
			return err
		}
		if s.Valid() && int64(s.Meta.PageSize) == size && s.Header.ID == 1 && s.Header.Kind() == page.KindMeta {
			first := &f.Metas[0]
			first.Misplaced = true
			first.Invalid = []error{fmt.Errorf("page size is %d, and meta page 1 lies at %d and says so", first.Meta.PageSize, size)}
			f.Metas[1] = s
			return nil
		}
	}
	return nil
}

func (f *File) readSlot(offset int64) (Slot, error) {
	s := Slot{Offset: offset}
	var b [page.HeaderSize + page.MetaSize]byte
	if offset+int64(len(b)) > f.DataSize {
		s.Invalid = []error{fmt.Errorf("the file ends at byte %d, before this meta", f.DataSize)}
		return s, nil
	}
	if n, err := f.r.ReadAt(b[:], offset); n < len(b) {
		return s, fmt.Errorf("read meta at %d: %w", offset, err)
	}
	s.Read = true
	s.Header = page.DecodeHeader((*[page.HeaderSize]byte)(b[:]))
	body := (*[page.MetaSize]byte)(b[page.HeaderSize:])
	s.Meta = page.DecodeMeta(body)
	s.Invalid = s.Meta.Problems()
	if binary.BigEndian.Uint32(body[:]) == page.Magic {
		f.SwappedOrder = true
	}
	return s, nil
}

// ReadPage reads the bytes of page id with its overflow into buf, which grows
// when needed. The length is bounded by limit, by what the elements claim, by the
// overflow count and by the file; of a page of no known kind only the page itself
// is read. A page that begins past the end, or of which not even the header is
// there, gives no bytes.
func (f *File) ReadPage(id page.ID, limit int64, buf []byte) ([]byte, error) {
	if id >= page.ID(f.Pages()) {
		return buf[:0], nil
	}
	offset := int64(id) * int64(f.PageSize)
	first := min(int64(f.PageSize), f.DataSize-offset)
	if first < page.HeaderSize {
		return buf[:0], nil
	}
	buf, err := f.readAt(buf, offset, first)
	if err != nil {
		return buf[:0], err
	}
	h := page.DecodeHeader((*[page.HeaderSize]byte)(buf))
	whole := min((int64(h.Overflow)+1)*int64(f.PageSize), f.DataSize-offset)
	kind := h.Kind()
	if whole <= first || kind == page.KindUnknown || kind == page.KindMeta {
		return buf, nil
	}
	if kind == page.KindLeaf {
		// A trashed overflow must not make us hold half the file: what the
		// elements claim is enough.
		if table := min(int64(page.HeaderSize)+int64(h.Count)*page.ElementSize, whole); table > first {
			if buf, err = f.readOn(buf, offset, table); err != nil {
				return buf[:0], err
			}
		}
		whole = min(whole, max(first, clampInt64(page.Extent(buf))))
	}
	whole = min(whole, max(first, limit))
	if buf, err = f.readOn(buf, offset, whole); err != nil {
		return buf[:0], err
	}
	return buf, nil
}

// maxPageBytes bounds the bytes held for one page with its overflow. etcd's
// largest request is 1.5 MiB by default; a page of 1 GiB is not etcd's.
const maxPageBytes = 1 << 30

func clampInt64(n uint64) int64 { return int64(min(n, 1<<62)) }

// readOn gives the n bytes at offset, of which buf holds the first.
func (f *File) readOn(buf []byte, offset, n int64) ([]byte, error) {
	held := int64(len(buf))
	if n <= held {
		return buf[:n], nil
	}
	if int64(cap(buf)) < n {
		grown := make([]byte, n)
		copy(grown, buf)
		buf = grown
	}
	_, err := f.readAt(buf[held:n], offset+held, n-held)
	return buf[:n], err
}

func (f *File) readAt(buf []byte, offset, n int64) ([]byte, error) {
	if int64(cap(buf)) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if m, err := f.r.ReadAt(buf, offset); int64(m) < n {
		return buf[:0], fmt.Errorf("read %d bytes at %d: %w", n, offset, err)
	}
	return buf, nil
}

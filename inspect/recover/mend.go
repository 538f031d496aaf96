package recover

import (
	"cmp"
	"encoding/binary"
	"io"
	"slices"

	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/page"
)

// A mendedFile gives the bytes of a file with some page headers replaced. The file is
// as it was.
type mendedFile struct {
	r     io.ReaderAt
	size  int64
	spots []spot // by offset

	// root is a root page that is in no file, and lies behind the end of this one.
	root   []byte
	rootAt int64
}

// A spot is one page header that stands in for the one in the file.
type spot struct {
	offset int64
	id     page.ID
	header [page.HeaderSize]byte
}

// ReadAt implements io.ReaderAt.
func (m *mendedFile) ReadAt(b []byte, offset int64) (int, error) {
	n, err := m.readAt(b, offset)
	first, _ := slices.BinarySearchFunc(m.spots, offset-page.HeaderSize+1, func(s spot, at int64) int { return cmp.Compare(s.offset, at) })
	for _, s := range m.spots[first:] {
		if s.offset >= offset+int64(n) {
			break
		}
		if at := s.offset - offset; at >= 0 {
			copy(b[at:n], s.header[:])
		} else {
			copy(b[:n], s.header[-at:])
		}
	}
	return n, err
}

// readAt reads what is in the file and, behind its last whole page, the root page.
func (m *mendedFile) readAt(b []byte, offset int64) (int, error) {
	if m.root == nil || offset+int64(len(b)) <= m.rootAt {
		return m.r.ReadAt(b, offset)
	}
	n := 0
	if offset < m.rootAt {
		var err error
		if n, err = m.r.ReadAt(b[:m.rootAt-offset], offset); int64(n) < m.rootAt-offset {
			return n, err
		}
	}
	n += copy(b[n:], m.root[min(offset+int64(n)-m.rootAt, int64(len(m.root))):])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// length gives the bytes of the file, with its root page.
func (m *mendedFile) length() int64 {
	if m.root == nil {
		return m.size
	}
	return m.rootAt + int64(len(m.root))
}

// mend puts a header over that of page id when all its elements lie as bbolt lays them
// and the header alone is wrong. It says whether it did.
func (m *mendedFile) mend(f *snapdb.File, id page.ID) bool {
	at, there := slices.BinarySearchFunc(m.spots, int64(id)*int64(f.PageSize), func(s spot, at int64) int { return cmp.Compare(s.offset, at) })
	if there || id < 2 || id >= page.ID(f.Pages()) {
		return false
	}
	h, ok := m.headerOf(f, id)
	if !ok {
		return false
	}
	s := spot{offset: int64(id) * int64(f.PageSize), id: id}
	copy(s.header[:], h.Append(nil))
	m.spots = slices.Insert(m.spots, at, s)
	return true
}

// maxMended bounds the bytes read of a page whose header is in doubt.
const maxMended = 16 << 20

// flags of page headers.
const (
	flagBranch = 0x01
	flagLeaf   = 0x02
)

// headerOf gives the header that the elements of a page ask for; ok is false when they
// do not, or the page has it.
func (m *mendedFile) headerOf(f *snapdb.File, id page.ID) (page.Header, bool) {
	offset := int64(id) * int64(f.PageSize)
	b := make([]byte, min(int64(f.PageSize), f.DataSize-offset))
	if n, _ := m.readAt(b, offset); n < len(b) || n < page.HeaderSize+page.ElementSize {
		return page.Header{}, false
	}
	is := page.DecodeHeader((*[page.HeaderSize]byte)(b))
	for _, flags := range []uint16{flagLeaf, flagBranch} {
		position := b[page.HeaderSize:]
		if flags == flagLeaf {
			position = position[4:]
		}
		table := int64(binary.LittleEndian.Uint32(position))
		if table == 0 || table%page.ElementSize != 0 || table/page.ElementSize > 0xFFFF {
			continue
		}
		want := page.Header{ID: id, Flags: flags, Count: uint16(table / page.ElementSize)}
		used, ok := m.laidOut(f, want, offset)
		if !ok {
			continue
		}
		want.Overflow = is.Overflow
		if want.CheckOverflow(used, f.PageSize) != nil {
			want.Overflow = uint32((used+f.PageSize-1)/f.PageSize - 1)
		}
		return want, want != is
	}
	return page.Header{}, false
}

// laidOut says whether the bytes at offset are, under header h, laid out as bbolt lays
// a page, and how many they are.
func (m *mendedFile) laidOut(f *snapdb.File, h page.Header, offset int64) (used int, ok bool) {
	end := int64(page.HeaderSize + int(h.Count)*page.ElementSize)
	b := make([]byte, min(max(end, int64(f.PageSize)), f.DataSize-offset))
	if n, _ := m.readAt(b, offset); n < len(b) || int64(n) < end {
		return 0, false
	}
	copy(b, h.Append(nil))
	if h.Kind() == page.KindLeaf {
		claimed := page.Extent(b)
		if claimed > uint64(min(maxMended, f.DataSize-offset)) {
			return 0, false
		}
		if claimed > uint64(len(b)) {
			b = append(b, make([]byte, int(claimed)-len(b))...)
			if n, _ := m.readAt(b, offset); n < len(b) {
				return 0, false
			}
			copy(b, h.Append(nil))
		}
	}
	if !page.LaidOut(b) {
		return 0, false
	}
	if h.Kind() == page.KindLeaf {
		return int(page.Extent(b)), true
	}
	br, _ := page.OpenBranch(b)
	for i := range br.Len() {
		if e, fault := br.Element(i); fault != nil || e.Child < 2 || e.Child >= page.ID(f.Pages()) {
			return 0, false
		}
	}
	return br.End(), true
}

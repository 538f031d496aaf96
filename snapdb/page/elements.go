package page

import (
	"bytes"
	"encoding/binary"
)

// LaidOut says whether the elements of a branch or leaf page lie as bbolt lays
// them: then the page is what it says it is.
func LaidOut(b []byte) bool {
	h, n, f := openElements(b, 4)
	switch h.Kind() {
	case KindLeaf:
		return f == nil && inRow(b, n, 4)
	case KindBranch:
		h, n, f = openElements(b, 0)
		return f == nil && n > 0 && inRow(b, n, 0)
	}
	return false
}

// A LeafElement is one record of a leaf page. Key and Value lie in the page's
// own bytes.
type LeafElement struct {
	Bucket     bool // the value is a bucket header
	Key, Value []byte
}

// A Leaf gives bounded access to the elements of a leaf page. The zero Leaf is
// empty.
type Leaf struct {
	Header
	b    []byte
	n    int // elements that can be addressed
	next int // where the next element's key belongs, from the start of b; -1 behind a fault
	used int // end of the bytes of the elements read
}

// OpenLeaf prepares the bytes of a page, header included, for reading as a
// leaf. When the count is wrong the fault says so, and as many elements can be
// read as the first one's position shows to be there, or as fit.
func OpenLeaf(b []byte) (Leaf, *Fault) {
	h, n, f := openElements(b, 4)
	return Leaf{Header: h, b: b, n: n, next: HeaderSize + n*ElementSize}, f
}

// maxElements is what the count of a page can say.
const maxElements = 0xFFFF

// openElements reads the header and settles the number of elements. pos is the
// offset of the position within an element: keys begin where the elements end,
// so the first element's position tells their number once more.
func openElements(b []byte, pos int) (Header, int, *Fault) {
	if len(b) < HeaderSize {
		return Header{}, 0, fault(FaultCount, -1, 0, "%d bytes are too few for a page header", len(b))
	}
	h := DecodeHeader((*[HeaderSize]byte)(b))
	n, room := int(h.Count), (len(b)-HeaderSize)/ElementSize
	if room == 0 {
		if n > 0 {
			return h, 0, fault(FaultCount, -1, 10, "%d elements, room for none", n)
		}
		return h, 0, nil
	}
	shown := uint64(binary.LittleEndian.Uint32(b[HeaderSize+pos:]))
	if shown == uint64(n)*ElementSize && n <= room {
		return h, n, nil // nearly always; where the elements lie is seen when they are read
	}
	trusted := shown%ElementSize == 0 && shown > 0 && shown/ElementSize <= uint64(min(room, maxElements)) && inRow(b, int(shown/ElementSize), pos)
	switch {
	case trusted && int(shown/ElementSize) != n:
		return h, int(shown / ElementSize), fault(FaultCount, -1, 10, "the count is %d, the elements are %d", n, shown/ElementSize)
	case n > room:
		return h, min(room, maxElements), fault(FaultCount, -1, 10, "%d elements, room for %d", n, room)
	}
	return h, n, nil
}

// inRow says whether n elements lie as bbolt lays them: each key begins where
// the bytes of the element before it end.
func inRow(b []byte, n, pos int) bool {
	next := uint64(HeaderSize + n*ElementSize)
	for i := range n {
		at := HeaderSize + i*ElementSize
		e := b[at : at+ElementSize]
		if uint64(at)+uint64(binary.LittleEndian.Uint32(e[pos:])) != next {
			return false
		}
		next += uint64(binary.LittleEndian.Uint32(e[pos+4:]))
		if pos == 4 { // a leaf's element has a value, too
			next += uint64(binary.LittleEndian.Uint32(e[12:]))
		}
		if next > uint64(len(b)) {
			return false
		}
	}
	return true
}

// Len gives the number of elements that can be addressed.
func (l *Leaf) Len() int { return l.n }

// Element reads element i. An element whose bytes leave the page is a fault and
// cannot be read (the element is zero); one whose bytes are inside the page but
// not directly behind those of its predecessor is a fault and is read where it
// points, as bbolt would. Elements are meant to be read in order.
func (l *Leaf) Element(i int) (LeafElement, *Fault) {
	at := HeaderSize + i*ElementSize
	e := l.b[at : at+ElementSize : at+ElementSize]
	flags := binary.LittleEndian.Uint32(e)
	pos := uint64(binary.LittleEndian.Uint32(e[4:])) + uint64(at)
	ksize := uint64(binary.LittleEndian.Uint32(e[8:]))
	vsize := uint64(binary.LittleEndian.Uint32(e[12:]))
	end := pos + ksize + vsize // at most 3*2^32 + a page: no overflow
	expected := l.next
	l.next = -1 // behind a fault nothing is expected of the next element
	if end > uint64(len(l.b)) {
		return LeafElement{}, fault(FaultElement, i, int64(at), "key and value end at byte %d of %d", end, len(l.b))
	}
	l.used = max(l.used, int(end))
	el := LeafElement{
		Bucket: flags&flagBucket != 0,
		Key:    l.b[pos : pos+ksize : pos+ksize],
		Value:  l.b[pos+ksize : end : end],
	}
	switch {
	case expected >= 0 && int(pos) != expected:
		return el, fault(FaultElement, i, int64(at), "key begins at byte %d, its place is %d", pos, expected)
	case flags > flagBucket:
		return el, fault(FaultElement, i, int64(at), "element flags are %#x", flags)
	case ksize == 0:
		return el, fault(FaultElement, i, int64(at), "key is empty")
	case ksize > MaxKeySize:
		return el, fault(FaultElement, i, int64(at), "key has %d bytes, the limit is %d", ksize, MaxKeySize)
	}
	l.next = int(end)
	return el, nil
}

// Placed reads element i into el, and the place of its key, from the start of the
// page, into offset, when it lies where it belongs and nothing is wrong with it, which
// is nearly always. When it says no, ask Element.
func (l *Leaf) Placed(i int, el *LeafElement, offset *int) bool {
	at := HeaderSize + i*ElementSize
	e := (*[ElementSize]byte)(l.b[at:])
	head, size := binary.LittleEndian.Uint64(e[:]), binary.LittleEndian.Uint64(e[8:])
	flags, ksize := uint32(head), uint32(size)
	pos := head>>32 + uint64(at)
	value := pos + uint64(ksize)
	end := value + size>>32
	if l.next < 0 || pos != uint64(l.next) || flags > flagBucket || ksize-1 >= MaxKeySize || end > uint64(len(l.b)) {
		return false
	}
	l.next = int(end)
	l.used = max(l.used, l.next)
	el.Bucket, el.Key, el.Value = flags == flagBucket, l.b[pos:value:value], l.b[value:end:end]
	*offset = int(pos)
	return true
}

// Offset gives the place of an element's key, from the start of the page.
func (l *Leaf) Offset(i int) int {
	at := HeaderSize + i*ElementSize
	return at + int(binary.LittleEndian.Uint32(l.b[at+4:]))
}

// End gives the number of bytes used by header, elements, keys and values, as
// far as the elements were read.
func (l *Leaf) End() int { return max(l.used, HeaderSize+l.n*ElementSize) }

// Extent gives the bytes that the element table of a leaf claims, header
// included, without needing the keys and values: table holds the header and
// as much of the element table as could be read.
func Extent(table []byte) uint64 {
	n := min(int(DecodeHeader((*[HeaderSize]byte)(table)).Count), (len(table)-HeaderSize)/ElementSize)
	end := uint64(HeaderSize + n*ElementSize)
	for i := range n {
		at := HeaderSize + i*ElementSize
		e := table[at : at+ElementSize]
		sum := uint64(at) + uint64(binary.LittleEndian.Uint32(e[4:])) +
			uint64(binary.LittleEndian.Uint32(e[8:])) + uint64(binary.LittleEndian.Uint32(e[12:]))
		end = max(end, sum)
	}
	return end
}

// A BranchElement is one child of a branch page. Key lies in the page's bytes.
type BranchElement struct {
	Key   []byte
	Child ID
}

// A Branch gives bounded access to the elements of a branch page.
type Branch struct {
	Header
	b    []byte
	n    int
	next int
	used int
}

// OpenBranch is OpenLeaf for branch pages.
func OpenBranch(b []byte) (Branch, *Fault) {
	h, n, f := openElements(b, 0)
	return Branch{Header: h, b: b, n: n, next: HeaderSize + n*ElementSize}, f
}

// Len gives the number of elements that can be addressed.
func (p *Branch) Len() int { return p.n }

// Element reads element i, under the rules of Leaf.Element. When the key's
// bytes leave the page, Key is nil and Child is read all the same.
func (p *Branch) Element(i int) (BranchElement, *Fault) {
	at := HeaderSize + i*ElementSize
	e := p.b[at : at+ElementSize]
	pos := uint64(binary.LittleEndian.Uint32(e)) + uint64(at)
	ksize := uint64(binary.LittleEndian.Uint32(e[4:]))
	el := BranchElement{Child: ID(binary.LittleEndian.Uint64(e[8:]))}
	end := pos + ksize
	expected := p.next
	p.next = -1
	if end > uint64(len(p.b)) {
		return el, fault(FaultElement, i, int64(at), "key ends at byte %d of %d", end, len(p.b))
	}
	p.used = max(p.used, int(end))
	el.Key = p.b[pos:end:end]
	switch {
	case expected >= 0 && int(pos) != expected:
		return el, fault(FaultElement, i, int64(at), "key begins at byte %d, its place is %d", pos, expected)
	case ksize == 0:
		return el, fault(FaultElement, i, int64(at), "key is empty")
	case ksize > MaxKeySize:
		return el, fault(FaultElement, i, int64(at), "key has %d bytes, the limit is %d", ksize, MaxKeySize)
	}
	p.next = int(end)
	return el, nil
}

// End gives the number of bytes used, as far as the elements were read.
func (p *Branch) End() int { return max(p.used, HeaderSize+p.n*ElementSize) }

// OrderFault reports the fault of element i whose key does not lie above the
// key before it, or nil.
func OrderFault(i int, before, key []byte) *Fault {
	if before == nil || bytes.Compare(before, key) < 0 {
		return nil
	}
	word := "below"
	if bytes.Equal(before, key) {
		word = "equal to"
	}
	return fault(FaultOrder, i, int64(HeaderSize+i*ElementSize), "key is %s the key before it", word)
}

// CheckOverflow reports a fault when a page's overflow is not what its bytes
// need: used is End of the page. bbolt up to 1.3.5 gave a page that is exactly
// full one page more (node.go, spill), so that is accepted.
func (h Header) CheckOverflow(used, pageSize int) *Fault {
	need := int64((used + pageSize - 1) / pageSize)
	have := int64(h.Overflow) + 1
	if have == need || have == int64(used/pageSize+1) {
		return nil
	}
	return fault(FaultOverflow, -1, 12, "overflow is %d, the elements need %d", h.Overflow, need-1)
}

// A Bucket is a bucket header.
type Bucket struct {
	Root     ID
	Sequence uint64
	Inline   []byte // the inline leaf page when Root is 0, else nil
}

// DecodeBucket reads the value of a leaf element that is a bucket.
func DecodeBucket(v []byte) (Bucket, *Fault) {
	if len(v) < BucketHeaderSize {
		return Bucket{}, fault(FaultBucket, -1, 0, "bucket header has %d bytes of %d", len(v), BucketHeaderSize)
	}
	b := Bucket{Root: ID(binary.LittleEndian.Uint64(v)), Sequence: binary.LittleEndian.Uint64(v[8:])}
	switch {
	case b.Root != 0 && len(v) != BucketHeaderSize:
		return b, fault(FaultBucket, -1, 0, "bucket with root page %d has %d bytes after its header", b.Root, len(v)-BucketHeaderSize)
	case b.Root == 0:
		b.Inline = v[BucketHeaderSize:]
		if len(b.Inline) < HeaderSize {
			return b, fault(FaultBucket, -1, 0, "inline bucket has %d bytes, a page header needs %d", len(b.Inline), HeaderSize)
		}
	}
	return b, nil
}

// A Freelist gives bounded access to the page numbers of a freelist page.
//
// count below 0xFFFF is the number of ids; at 0xFFFF the first 8 bytes after
// the header are the number (bbolt v1.5.0, internal/common/page.go,
// FreelistPageCount).
type Freelist struct {
	Header
	ids []byte
}

// OpenFreelist prepares the bytes of a freelist page, overflow included.
func OpenFreelist(b []byte) (Freelist, *Fault) {
	if len(b) < HeaderSize {
		return Freelist{}, fault(FaultFreelist, -1, 0, "%d bytes are too few for a page header", len(b))
	}
	f := Freelist{Header: DecodeHeader((*[HeaderSize]byte)(b))}
	b = b[HeaderSize:]
	n := uint64(f.Count)
	at := int64(10)
	if n == 0xFFFF {
		if len(b) < 8 {
			return f, fault(FaultFreelist, -1, HeaderSize, "the long count is cut off")
		}
		n, b, at = binary.LittleEndian.Uint64(b), b[8:], HeaderSize
		if n < 0xFFFF {
			f.ids = b[:min(n, uint64(len(b)/8))*8]
			return f, fault(FaultFreelist, -1, 10, "%d page numbers do not need the long count", n)
		}
	}
	if room := uint64(len(b) / 8); n > room {
		f.ids = b[:room*8]
		return f, fault(FaultFreelist, -1, at, "%d page numbers, room for %d", n, room)
	}
	f.ids = b[:n*8]
	return f, nil
}

// Len gives the number of page numbers that can be read.
func (f *Freelist) Len() int { return len(f.ids) / 8 }

// At gives page number i.
func (f *Freelist) At(i int) ID { return ID(binary.LittleEndian.Uint64(f.ids[i*8:])) }

// Package page decodes single pages of a bbolt database from their bytes. It
// does no I/O, knows no file, and accepts any input: every position and length
// is compared with what is left before it is used.
//
// Layout, little-endian on the machines etcd supports (bbolt casts structs onto
// the mapping, so a file carries the byte order of its writer; source: bbolt
// v1.5.0, internal/common/page.go, meta.go, inode.go, bucket.go).
//
// Page header, 16 bytes:
//
//	offset size name      meaning
//	0      8    id        page number: the page's offset divided by the page size
//	8      2    flags     1 branch, 2 leaf, 4 meta, 16 freelist; never combined
//	10     2    count     elements on the page
//	12     4    overflow  further pages that belong to this one
//
// Branch element, 16 bytes, count of them after the header:
//
//	0      4    pos       distance from this element's first byte to its key
//	4      4    ksize     bytes of the key
//	8      8    pgid      child page; all its keys are >= this key
//
// Leaf element, 16 bytes, count of them after the header:
//
//	0      4    flags     bit 0: the value is a bucket header
//	4      4    pos       distance from this element's first byte to its key
//	8      4    ksize     bytes of the key
//	12     4    vsize     bytes of the value, which follows the key directly
//
// The keys (and values) lie after the last element, in order and without gaps
// (WriteInodeToPage in internal/common/inode.go). Nothing in bbolt relies on
// that, but every version has written it, so a gap or an overlap is damage.
//
// Meta, 64 bytes after the header of pages 0 and 1:
//
//	0      4    magic     0xED0CDAED
//	4      4    version   2
//	8      4    pageSize  bytes
//	12     4    flags     0
//	16     8    root      page of the root bucket
//	24     8    sequence  the root bucket's counter
//	32     8    freelist  page of the freelist; all ones when it is not stored
//	40     8    pgid      high-water mark: the first page number never used
//	48     8    txid      transaction that wrote this meta
//	56     8    checksum  FNV-1a, 64 bits, over the 56 bytes before it
//
// Bucket header, the value of a leaf element with flag 1: root page (8) and
// sequence (8). With root 0 the bucket is inline: one leaf page, header and
// all, follows in the value.
package page

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
)

const (
	HeaderSize       = 16 // bytes of a page header
	ElementSize      = 16 // bytes of a branch or leaf element
	MetaSize         = 64 // bytes of a meta after its page header
	BucketHeaderSize = 16 // bytes of a bucket header

	MinSize = 512     // smallest page size looked for
	MaxSize = 1 << 16 // largest page size looked for

	MaxKeySize = 32768 // longest key bbolt accepts (bbolt v1.5.0, bucket.go)
)

// An ID is a page number.
type ID uint64

// NoFreelist in Meta.Freelist says that the freelist is not stored, which is
// etcd's choice on Linux.
const NoFreelist = ID(0xffffffffffffffff)

// Kind is what a page says it is.
type Kind uint8

const (
	KindUnknown Kind = iota // flags that bbolt never writes
	KindBranch
	KindLeaf
	KindMeta
	KindFreelist
)

var kindNames = [...]string{"unknown", "branch", "leaf", "meta", "freelist"}

func (k Kind) String() string { return kindNames[k] }

const (
	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFreelist = 0x10

	flagBucket = 0x01 // of a leaf element
)

// A Header is the first 16 bytes of a page.
type Header struct {
	ID       ID
	Flags    uint16
	Count    uint16
	Overflow uint32
}

// DecodeHeader reads a header. Every input decodes; whether it fits the file is
// for the caller to judge.
func DecodeHeader(b *[HeaderSize]byte) Header {
	return Header{
		ID:       ID(binary.LittleEndian.Uint64(b[0:])),
		Flags:    binary.LittleEndian.Uint16(b[8:]),
		Count:    binary.LittleEndian.Uint16(b[10:]),
		Overflow: binary.LittleEndian.Uint32(b[12:]),
	}
}

// Append writes the header as bbolt does.
func (h Header) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(h.ID))
	b = binary.LittleEndian.AppendUint16(b, h.Flags)
	b = binary.LittleEndian.AppendUint16(b, h.Count)
	return binary.LittleEndian.AppendUint32(b, h.Overflow)
}

// Kind gives the page's kind; bbolt compares the flags as a whole, so a
// combination is unknown.
func (h Header) Kind() Kind {
	switch h.Flags {
	case flagBranch:
		return KindBranch
	case flagLeaf:
		return KindLeaf
	case flagMeta:
		return KindMeta
	case flagFreelist:
		return KindFreelist
	}
	return KindUnknown
}

// A FaultKind is a rule of the page format that a page breaks.
type FaultKind uint8

const (
	FaultID       FaultKind = iota + 1 // the page carries another page's number
	FaultType                          // the page is not of the kind its place asks for
	FaultCount                         // more elements than the page has room for
	FaultElement                       // an element's bytes are not where every bbolt writes them
	FaultOverflow                      // the overflow count does not fit the page's elements or the file
	FaultOrder                         // keys do not rise strictly
	FaultBucket                        // a bucket header that cannot be one
	FaultFreelist                      // the freelist's own bytes cannot be right
)

var faultNames = map[FaultKind]string{
	FaultID: "page id", FaultType: "page type", FaultCount: "element count", FaultElement: "element bounds",
	FaultOverflow: "overflow", FaultOrder: "key order", FaultBucket: "bucket header", FaultFreelist: "freelist",
}

func (k FaultKind) String() string { return faultNames[k] }

// A Fault is a broken rule inside one page.
type Fault struct {
	Kind    FaultKind
	Element int   // element concerned, -1 for the page as a whole
	Offset  int64 // first byte of the broken thing, from the start of the page
	Err     error // the numbers
}

func (f *Fault) Error() string { return fmt.Sprintf("%s: %v", f.Kind, f.Err) }

func fault(kind FaultKind, element int, offset int64, format string, args ...any) *Fault {
	return &Fault{Kind: kind, Element: element, Offset: offset, Err: fmt.Errorf(format, args...)}
}

const (
	Magic   = 0xED0CDAED // first word of a meta
	Version = 2          // file format version of every bbolt and etcd 3
)

// A Meta is the content of page 0 or 1.
type Meta struct {
	Magic, Version, PageSize, Flags uint32

	Root     ID // page of the root bucket
	Sequence uint64
	Freelist ID // NoFreelist when not stored
	Pgid     ID // high-water mark
	Txid     uint64
	Checksum uint64

	sum uint64
}

// DecodeMeta reads a meta from the bytes after the page header. Every input
// decodes; ask Problems whether it is valid.
func DecodeMeta(b *[MetaSize]byte) Meta {
	le := binary.LittleEndian
	h := fnv.New64a()
	h.Write(b[:56])
	return Meta{
		Magic: le.Uint32(b[0:]), Version: le.Uint32(b[4:]), PageSize: le.Uint32(b[8:]), Flags: le.Uint32(b[12:]),
		Root: ID(le.Uint64(b[16:])), Sequence: le.Uint64(b[24:]),
		Freelist: ID(le.Uint64(b[32:])), Pgid: ID(le.Uint64(b[40:])), Txid: le.Uint64(b[48:]),
		Checksum: le.Uint64(b[56:]), sum: h.Sum64(),
	}
}

// Append writes the meta with its checksum as it stands in m.
func (m Meta) Append(b []byte) []byte {
	le := binary.LittleEndian
	for _, w := range []uint32{m.Magic, m.Version, m.PageSize, m.Flags} {
		b = le.AppendUint32(b, w)
	}
	for _, w := range []uint64{uint64(m.Root), m.Sequence, uint64(m.Freelist), uint64(m.Pgid), m.Txid, m.Checksum} {
		b = le.AppendUint64(b, w)
	}
	return b
}

// Sum computes the checksum the meta should carry.
func (m Meta) Sum() uint64 {
	h := fnv.New64a()
	h.Write(m.Append(nil)[:56])
	return h.Sum64()
}

// Problems says why a meta cannot be used, in the order in which bbolt looks
// (internal/common/meta.go, Validate), then what bbolt trusts a valid checksum
// for: page size, root, high-water mark and freelist.
func (m Meta) Problems() []error {
	switch {
	case m.Magic != Magic:
		return []error{fmt.Errorf("magic is %08x, not %08x", m.Magic, uint32(Magic))}
	case m.Version != Version:
		return []error{fmt.Errorf("version is %d, not %d", m.Version, Version)}
	case m.Checksum != m.sum:
		return []error{fmt.Errorf("checksum is %016x, the bytes give %016x", m.Checksum, m.sum)}
	}
	var problems []error
	if !ValidSize(m.PageSize) {
		problems = append(problems, fmt.Errorf("page size is %d", m.PageSize))
	}
	if m.Pgid < 4 {
		problems = append(problems, fmt.Errorf("high-water mark is %d; a new database already has 4 pages", m.Pgid))
	}
	if m.Root < 2 || m.Root >= m.Pgid {
		problems = append(problems, fmt.Errorf("root page is %d, pages in use are 2 to %d", m.Root, m.Pgid-1))
	}
	if m.Freelist != NoFreelist && (m.Freelist < 2 || m.Freelist >= m.Pgid) {
		problems = append(problems, fmt.Errorf("freelist page is %d, pages in use are 2 to %d", m.Freelist, m.Pgid-1))
	}
	return problems
}

// Accepted says whether bbolt accepts the meta (internal/common/meta.go,
// Validate).
func (m Meta) Accepted() bool {
	return m.Magic == Magic && m.Version == Version && m.Checksum == m.sum
}

// ValidSize says whether n is a page size: a power of two from 512 to 65536.
func ValidSize(n uint32) bool { return n >= MinSize && n <= MaxSize && n&(n-1) == 0 }

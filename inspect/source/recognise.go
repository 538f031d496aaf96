package source

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// What recognition needs to know of bbolt's format; package snapdb/page has all
// of it.
const (
	metaMagic       = 0xED0CDAED
	metaMagicOffset = 16 // behind the page header
	minPage         = 512
	maxPage         = 1 << 16
	trailerSize     = 32

	headSize  = maxPage + 4096 // bytes at the start in which both metas lie
	probeSize = 4 << 20        // bytes at the start looked at for pages when no meta is there
)

const tarMagic, tarMagicOffset = "ustar", 257

var packed = []struct {
	name   string
	offset int
	magic  string
}{
	{"gzip", 0, "\x1f\x8b\x08"},
	{"zstd", 0, "\x28\xb5\x2f\xfd"},
	{"xz", 0, "\xfd7zXZ\x00"},
	{"zip", 0, "PK\x03\x04"},
	{"empty zip", 0, "PK\x05\x06"},
	{"bzip2", 0, "BZh"},
	{"lz4", 0, "\x04\x22\x4d\x18"},
	{"compress (.Z)", 0, "\x1f\x9d"},
	{"zlib", 0, "\x78\x9c"},
	{"age-encrypted", 0, "age-encryption.org/"},
	{"tar", tarMagicOffset, tarMagic},
}

// recognise tells a snapshot from a backend, and either from anything else.
func recognise(f *File) (Kind, error) {
	if f.Size() == 0 {
		return "", errors.New("the file is empty")
	}
	head := make([]byte, min(f.Size(), headSize))
	if n, err := f.f.ReadAt(head, 0); n < len(head) {
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	if format := packedAs(head); format != "" {
		return "", packedError(format)
	}
	if kind, ok := byMeta(head, f.Size()); ok {
		return kind, nil
	}
	if isWALFrame(head) {
		return "", errors.New("a WAL segment by itself; give the directory that holds it")
	}
	pages, err := hasPages(f.f, f.Size())
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot be read: %w", err)
	case pages && f.Size()%minPage == trailerSize:
		return KindSnapshot, nil
	case pages:
		return KindBackend, nil
	}
	return "", errNoPages
}

// errNoPages says that a file is none of etcd's.
var errNoPages = sentence{"not an etcd file: no bbolt page, WAL frame or .snap in it", errNothing}

// packedAs names the format of an archive or a compressed file, "" when it is none.
// A database whose first page is damaged can begin like one; a tar archive can
// have a database's first page where a page size of 512 bytes has the second.
func packedAs(head []byte) string {
	isMeta := hasMagic(head, 0)
	if !isMeta && !hasPrefixAt(head, tarMagic, tarMagicOffset) {
		_, isMeta = byMeta(head, 0)
	}
	if isMeta {
		return ""
	}
	for _, p := range packed {
		if hasPrefixAt(head, p.magic, p.offset) {
			return p.name
		}
	}
	return ""
}

func hasPrefixAt(b []byte, prefix string, at int) bool {
	return len(b) >= at && strings.HasPrefix(string(b[at:min(len(b), at+len(prefix))]), prefix)
}

// A packedError is the format of what has to be unpacked first.
type packedError string

func (e packedError) Error() string { return string(e) + " data; unpack it first" }

// byMeta looks for the magic number of a meta page, in either byte order, where
// page 0 or 1 has it, and tells a snapshot by its metas and size (contract: a
// file whose two metas have the same root and consecutive transaction ids and
// whose size is the high-water mark was written by `snapshot save` or like it).
func byMeta(head []byte, size int64) (Kind, bool) {
	first := hasMagic(head, 0)
	kind := KindBackend
	if size%minPage == trailerSize {
		kind = KindSnapshot
	}
	for at := minPage; at <= maxPage; at *= 2 {
		if !hasMagic(head, at) || first && int(binary.LittleEndian.Uint32(head[metaMagicOffset+8:])) != at {
			continue
		}
		if first && writtenAtOnce(head, at, size) {
			kind = KindSnapshot
		}
		return kind, true
	}
	return kind, first
}

func hasMagic(head []byte, at int) bool {
	at += metaMagicOffset
	return len(head) >= at+64 &&
		(binary.LittleEndian.Uint32(head[at:]) == metaMagic || binary.BigEndian.Uint32(head[at:]) == metaMagic)
}

// writtenAtOnce says whether the metas at 0 and at the page size are those of
// one bbolt Tx.WriteTo: all alike but for the transaction id, one lower in the
// second. The size must be the page count's or differ by less than a page, as it
// does when a trailer is cut off or something was appended; a server's file is
// preallocated, and its metas name different roots.
func writtenAtOnce(head []byte, pageSize int, size int64) bool {
	a, b := head[metaMagicOffset:metaMagicOffset+56], head[pageSize+metaMagicOffset:pageSize+metaMagicOffset+56]
	if !bytes.Equal(a[:48], b[:48]) || binary.LittleEndian.Uint64(a[48:]) != binary.LittleEndian.Uint64(b[48:])+1 {
		return false
	}
	pages := binary.LittleEndian.Uint64(a[40:])
	over := size - int64(min(pages, 1<<40))*int64(pageSize)
	return over < int64(pageSize)
}

// hasPages says whether pages that carry their own number lie in the first part of
// the file: two of them at one page size are no accident.
func hasPages(r io.ReaderAt, size int64) (bool, error) {
	b := make([]byte, min(size, probeSize))
	if n, err := r.ReadAt(b, 0); n < len(b) {
		return false, err
	}
	return pagesIn(b), nil
}

// pagesIn is hasPages for the first bytes of a file.
func pagesIn(b []byte) bool {
	for pageSize := minPage; pageSize <= maxPage; pageSize *= 2 {
		found := 0
		for id := 1; (id+1)*pageSize <= len(b); id++ {
			h := b[id*pageSize:]
			flags := binary.LittleEndian.Uint16(h[8:])
			if binary.LittleEndian.Uint64(h) == uint64(id) && (flags == 1 || flags == 2 || flags == 4 || flags == 16) {
				if found++; found == 2 {
					return true
				}
			}
		}
	}
	return false
}

// isWALFrame says whether a WAL segment begins here: a frame header without
// padding or with, then a record of type 4 (the running CRC; etcd v3.7.3,
// server/storage/wal/encoder.go and walpb/record.proto).
func isWALFrame(head []byte) bool {
	if len(head) < 16 {
		return false
	}
	w := binary.LittleEndian.Uint64(head)
	n := w &^ (0xff << 56)
	return n >= 2 && n < 32 && head[8] == 0x08 && head[9] == 0x04
}

// HasPages says whether pages of a bbolt file lie in the database's first part,
// whatever its metas say.
func (s *Source) HasPages() bool {
	if s.DB == nil || s.DB.Size() == 0 {
		return false
	}
	found, err := hasPages(s.DB.f, s.DB.Size())
	return found && err == nil
}

package redact

import (
	"encoding/binary"

	"etcd-forensics/snapdb/page"
)

// textLike is the least number of 32 bits of which the highest byte is printable. No count, size, position or
// page number of a file that there is comes near it, so what does is text that damage has put there.
const textLike = 0x20000000

// words blots each word that is no number of etcd's. It stays as far beyond all that there can be
// as it was.
func (r *redactor) words(b []byte) {
	for ; len(b) >= 4; b = b[4:] {
		if binary.LittleEndian.Uint32(b) >= textLike {
			r.blot(b[:4])
		}
	}
}

// pageHead redacts the header of a page: id, flags, count and overflow. The counts of kinds that there are
// can be any.
func (r *redactor) pageHead(b []byte) {
	h := page.DecodeHeader((*[page.HeaderSize]byte)(b))
	r.words(b[:8])
	if h.Kind() == page.KindUnknown {
		r.words(b[8:12])
	}
	r.words(b[12:page.HeaderSize])
}

// bucketHead redacts root page and sequence, which etcd does not use.
func (r *redactor) bucketHead(b []byte) {
	r.words(b[:8])
	r.blot(b[8:page.BucketHeaderSize])
}

// meta redacts a meta whose checksum does not match: any of it can be something else.
func (r *redactor) meta(b []byte) {
	m := page.DecodeMeta((*[page.MetaSize]byte)(b))
	if m.Checksum == m.Sum() {
		return
	}
	for at := 0; at < page.MetaSize; at += 8 {
		if field := b[at : at+8]; binary.LittleEndian.Uint64(field) != uint64(page.NoFreelist) && at >= 16 {
			r.words(field)
		}
	}
}

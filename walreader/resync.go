package walreader

import "encoding/binary"

// shape tells whether b, the first bytes of a place with remain bytes left,
// looks like a frame that etcd wrote: a length word with the padding that goes
// with it, and a record whose own fields add up to that length.
func shape(b []byte, remain int64) (FrameHeader, prefix, bool) {
	if len(b) < FrameHeaderSize+4 {
		return FrameHeader{}, prefix{}, false
	}
	word := binary.LittleEndian.Uint64(b)
	h := headerOf(word)
	if h.RecordLen < 4 || word != headerFor(h.RecordLen).word() || h.RecordLen > remain-FrameHeaderSize-h.PadLen {
		return h, prefix{}, false
	}
	b = b[FrameHeaderSize:]
	if int64(len(b)) > h.RecordLen {
		b = b[:h.RecordLen]
	}
	p, ok := readPrefix(b)
	ok = ok && p.whole && p.typ.Known() && p.recordLen() == h.RecordLen
	return h, p, ok
}

// A sight is what a place looks like.
type sight uint8

const (
	nothing   sight = iota
	endOrZero       // the end of the segment, or a length word of zero as in what is preallocated
	aFrame
)

// look says what is at off. It does not move the window. An error counts as nothing:
// the next read will meet it.
func (r *Reader) look(off int64) sight {
	if off == r.w.size {
		return endOrZero
	}
	var scratch [FrameHeaderSize + maxPrefix]byte
	b, err := r.w.peek(scratch[:], off)
	if err != nil || len(b) < FrameHeaderSize {
		return nothing
	}
	if binary.LittleEndian.Uint64(b) == 0 {
		return endOrZero
	}
	if _, _, ok := shape(b, r.w.size-off); ok {
		return aFrame
	}
	return nothing
}

// follows says whether a frame may end at off.
func (r *Reader) follows(off int64) bool { return r.look(off) != nothing }

// seek looks from r.off on for the next place where a frame and the one
// after it line up. Frames begin at multiples of 8, because etcd pads them so.
// It returns false at the end of the segment.
func (r *Reader) seek() bool {
	const need = FrameHeaderSize + maxPrefix
	off := (r.off + 7) &^ 7
	for off < r.w.size {
		n := min(chunkSize, r.w.size-off)
		if d := off - r.w.off; d >= 0 && d < int64(len(r.w.buf)) {
			// Use up what is there, but leave room for the longest prefix.
			if have := int64(len(r.w.buf)) - d; have > need {
				n = min(n, have)
			}
		}
		b, err := r.w.at(off, n)
		if err != nil {
			r.fail(err)
			return false
		}
		atEnd := off+n == r.w.size
		i := 0
		for ; i+FrameHeaderSize <= len(b) && (atEnd || i+need <= len(b)); i += 8 {
			// The cheap test first: no segment has a frame of 4 GiB, so two
			// bytes of the word are zero and the top one is 0 or 0x81 to 0x87.
			if b[i+6]|b[i+5]|b[i+4] != 0 || b[i+7]&0x78 != 0 {
				continue
			}
			at := off + int64(i)
			h, p, ok := shape(b[i:], r.w.size-at)
			if !ok {
				continue
			}
			if r.peeks > 0 && p.typ != TypeCRC {
				r.peeks--
				if !r.follows(at + h.Size()) {
					continue
				}
			}
			r.off, r.resync = at, false
			return true
		}
		if i == 0 || atEnd {
			break
		}
		off += int64(i)
	}
	r.finish(TailFault)
	return false
}

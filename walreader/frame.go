package walreader

import "encoding/binary"

// FrameHeaderSize is the length in bytes of the word in front of every record.
const FrameHeaderSize = 8

// A FrameHeader is the little-endian 64-bit word in front of every record.
//
//	bit   63      set when PadLen is in use
//	bits  56..58  PadLen
//	bits   0..55  RecordLen
//
// (encoder.go, encodeFrameSize, v3.7.3)
type FrameHeader struct {
	RecordLen int64 // bytes of the record message
	PadLen    int64 // bytes of zero padding after the message, 0 to 7
}

// DecodeFrameHeader reads a header. Every input decodes; whether the lengths
// fit the file is for the caller to judge, who knows where the file ends.
func DecodeFrameHeader(b [FrameHeaderSize]byte) FrameHeader {
	return headerOf(binary.LittleEndian.Uint64(b[:]))
}

func headerOf(w uint64) FrameHeader {
	h := FrameHeader{RecordLen: int64(w &^ (0xff << 56))}
	if w>>63 == 1 {
		h.PadLen = int64(w >> 56 & 7)
	}
	return h
}

// AppendFrameHeader appends the length word of h to b. Bits of RecordLen above
// 55 and of PadLen above 2 are dropped, because the word has no place for them.
func AppendFrameHeader(b []byte, h FrameHeader) []byte {
	return binary.LittleEndian.AppendUint64(b, h.word())
}

func (h FrameHeader) word() uint64 {
	w := uint64(h.RecordLen) &^ (0xff << 56)
	if h.PadLen&7 != 0 {
		w |= uint64(0x80|h.PadLen&7) << 56
	}
	return w
}

// Size is the number of bytes the whole frame takes: word, record and padding.
func (h FrameHeader) Size() int64 { return FrameHeaderSize + h.RecordLen + h.PadLen }

// Aligned says whether the padding fills the record up to a multiple of 8, as
// etcd always writes it.
func (h FrameHeader) Aligned() bool { return h.PadLen == -h.RecordLen&7 }

// headerFor is the header that etcd writes for a record of n bytes.
func headerFor(n int64) FrameHeader { return FrameHeader{RecordLen: n, PadLen: -n & 7} }

// AppendFrame appends the frame that etcd writes for rec: word, record and
// padding. The checksum is taken as it stands in rec.
func AppendFrame(b []byte, rec Record) []byte {
	h := headerFor(int64(rec.size()))
	b = AppendFrameHeader(b, h)
	b = AppendRecord(b, rec)
	return append(b, make([]byte, h.PadLen)...)
}

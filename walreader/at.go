package walreader

import (
	"errors"
	"fmt"
	"io"
)

var errFrame = errors.New("no frame fits there")

// ReadRecordAt reads one record again, whose place is known, into buf or a larger
// buffer. Its checksum is not looked at. segment is a number in c.Segments, maxRecord the
// longest record in bytes that is read.
func (c *Chain) ReadRecordAt(segment int, offset, maxRecord int64, buf []byte) (Record, []byte, error) {
	s := c.Segments[segment]
	src, closer, err := s.open()
	if err != nil {
		return Record{}, buf, err
	}
	defer closer.Close()
	var word [FrameHeaderSize]byte
	if _, err := src.ReadAt(word[:], offset); err != nil && err != io.EOF {
		return Record{}, buf, err
	}
	h := DecodeFrameHeader(word)
	if room := s.Size - offset - FrameHeaderSize; h.RecordLen <= 0 || h.RecordLen > min(room, maxRecord) {
		return Record{}, buf, fmt.Errorf("%s at 0x%x: %w", s.File, offset, errFrame)
	}
	if int64(cap(buf)) < h.RecordLen {
		buf = make([]byte, h.RecordLen)
	}
	buf = buf[:h.RecordLen]
	if _, err := src.ReadAt(buf, offset+FrameHeaderSize); err != nil && err != io.EOF {
		return Record{}, buf, err
	}
	rec, err := DecodeRecord(buf)
	return rec, buf, err
}

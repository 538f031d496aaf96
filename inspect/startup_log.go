package inspect

import (
	"errors"
	"io"
	"slices"

	"etcd-forensics/inspect/source"

	"etcd-forensics/walreader"
	"etcd-forensics/walreader/raftlog"
)

// A place is a position in a log by the number of its segment.
type place struct {
	segment int
	offset  int64
}

func (p place) before(q place) bool {
	return p.segment < q.segment || p.segment == q.segment && p.offset < q.offset
}

// A logEnd is what etcd's decoder meets where it stops.
type logEnd struct {
	at   place
	err  string // "" at the end of the last segment
	eof  bool   // io.ErrUnexpectedEOF, which etcd takes for a torn write
	code Code
}

// errCRC is what a record or, since 3.6, a crc record gives whose checksum is not
// the one that the bytes lead to (3.4 and 3.5, wal/wal.go, ErrCRCMismatch; 3.6 and
// later, storage/wal/walpb).
const errCRC = "walpb: crc mismatch"

func (b *boot) errSeed() string {
	if b.minor <= 5 {
		return "wal: crc mismatch"
	}
	return errCRC
}

// readSegments follows the decoder from a segment on (wal/decoder.go,
// decodeRecord), which begins without a checksum and takes a zero length word for
// the end of a segment. all says that the kinds of records matter, as they do to
// ReadAll and not to ValidSnapshotEntries. ok is false when it cannot be told.
func (b *boot) readSegments(from int, all bool) (end logEnd, ok bool) {
	l := b.log
	passed := false // a record of an unknown type, at which the summary of the log stops
	gap := false    // the segment before has records behind its zeros
	for i := from; i < len(l.Segments); i++ {
		s := l.Segments[i]
		if i > from && (gap || b.missingBefore(s)) && !s.Empty() {
			return logEnd{at: place{i, 0}, err: b.errSeed(), code: CodeWALSegmentMissing}, true
		}
		gap = false
		for _, f := range s.Faults {
			if !f.Kind.Stops() || f.Kind == walreader.FaultSeed && f.At.Frame == 0 && i == from {
				continue
			}
			if f.Kind == walreader.FaultType && !all {
				passed = true
				continue
			}
			if f.Kind == walreader.FaultZeroGap && i < len(l.Segments)-1 {
				gap = true
				break
			}
			end, ok = b.endAt(i, f)
			return end, ok && (end.err != "" || !passed)
		}
	}
	b.whole = b.whole || passed
	return logEnd{at: place{segment: len(l.Segments)}}, true
}

// missingBefore says whether a segment is missing before another, so that the
// checksum does not go on. A number left out in the names alone does not matter to
// the decoder.
func (b *boot) missingBefore(s raftlog.Segment) bool {
	_, hole := holeBefore(b.log, s)
	return hole && !s.NameFollows()
}

// misnumbered says whether a number is left out in the names and no segment is
// missing. What follows is not counted as accepted by the summary of the log, and
// etcd reads it.
func (b *boot) misnumbered() bool {
	return slices.ContainsFunc(b.log.Segments, func(s raftlog.Segment) bool {
		_, hole := holeBefore(b.log, s)
		return hole && s.NameFollows()
	})
}

// numbersRise is etcd's look at the names (wal/util.go, isValidSeq): each number is one
// more than the one before, which is not asked behind number 0.
func (b *boot) numbersRise(from int) bool {
	var before uint64
	for _, s := range b.log.Segments[from:] {
		if before != 0 && before != s.Segment.Name.Seq-1 {
			return false
		}
		before = s.Segment.Name.Seq
	}
	return true
}

// endAt says what the decoder returns at a fault.
func (b *boot) endAt(segment int, f walreader.Fault) (logEnd, bool) {
	s := b.log.Segments[segment]
	last := segment == len(b.log.Segments)-1
	end := logEnd{at: place{segment, f.At.Offset}, code: walFaultCode(f, s, last)}
	switch f.Kind {
	case walreader.FaultZeroGap:
	case walreader.FaultShortHeader, walreader.FaultTorn:
		end.eof = true
	case walreader.FaultChecksum:
		end.err = errCRC
	case walreader.FaultSeed:
		end.err = b.errSeed()
		if foreign(b.log, s) {
			end.code = CodeWALMetadataMismatch
		}
		if f.At.Frame == 0 && segment > 0 && b.log.Segments[segment-1].Empty() {
			end.code = CodeWALSegmentEmpty
		}
	case walreader.FaultType:
		end.err = "unexpected block type"
	case walreader.FaultTruncated, walreader.FaultLength, walreader.FaultRecord:
		if f.Torn {
			end.eof = true
			return end, true
		}
		return b.frameEnd(end, segment)
	default:
		return end, false
	}
	return end, true
}

// maxEntry34 is the size at which 3.4 refuses a record unread (wal/decoder.go,
// maxWALEntrySizeLimit).
const maxEntry34 = 10 << 20

// frameEnd looks at a frame whose length or record is wrong as the decoder does:
// the length against the rest of the file, then the record as a message. Up to 3.6
// the message decoder (gogo protobuf) gives io.ErrUnexpectedEOF for a record that is
// cut short, which etcd takes for a torn write, and protobuf-go since 3.7 does not.
func (b *boot) frameEnd(end logEnd, segment int) (logEnd, bool) {
	file := b.segmentFile(segment)
	if file == nil {
		return end, false
	}
	var word [walreader.FrameHeaderSize]byte
	if n, _ := file.ReadAt(word[:], end.at.offset); n < len(word) {
		return end, false
	}
	h := walreader.DecodeFrameHeader(word)
	body := end.at.offset + walreader.FrameHeaderSize
	switch {
	case b.minor == 4 && h.RecordLen >= maxEntry34-h.PadLen:
		end.err = "wal: max entry size limit exceeded"
		return end, true
	case h.RecordLen+h.PadLen > file.Size()-body:
		end.eof = true
		return end, true
	case h.RecordLen > b.opts.Limits.BucketBytes:
		return end, false
	}
	rec := make([]byte, h.RecordLen)
	if n, _ := file.ReadAt(rec, body); n < len(rec) {
		return end, false
	}
	r, err := walreader.DecodeRecord(rec)
	switch {
	case err == nil && r.Type == walreader.TypeCRC:
		return end, false
	case err == nil:
		end.err = errCRC
	case b.minor <= 6 && errors.Is(err, io.ErrUnexpectedEOF):
		end.eof = true
	default:
		end.err = "proto: "
	}
	return end, true
}

func (b *boot) segmentFile(segment int) *source.File {
	name := b.log.Segments[segment].Segment.File
	for _, f := range b.src.WAL {
		if f.Name() == name {
			return f
		}
	}
	return nil
}

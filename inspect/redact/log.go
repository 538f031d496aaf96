package redact

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"

	"google.golang.org/protobuf/encoding/protowire"

	"etcd-forensics/walreader"
)

// A link says how a record's checksum follows from those before it.
type link uint8

const (
	linked  link = iota // from one of the sums
	broken              // from none: it differs from the first one's
	unknown             // nothing before it is known
)

// A record is one frame that waits for being written: its checksum can still change as long as
// the id of a request before it can.
type record struct {
	segment int
	at      int64
	frame   []byte // its data redacted
	data    []byte // in frame
	free    []byte // in data: the low bytes of a request's id
	id      []byte // what these were
	crcAt   int    // of the checksum's number, in frame
	crcSize int    // its bytes
	header  walreader.FrameHeader
	isCRC   bool // a crc record, which states the sum before it

	link  link
	which int    // linked: the sum
	off   uint32 // broken: the difference
	fresh uint32 // unknown: what it states now

	sums []uint32 // that it may go on from
	want uint32   // its checksum
}

// errNoFit says that a checksum takes more bytes than it had, and nothing before it can be
// changed: another key of the run will do.
var errNoFit = errors.New("a checksum does not fit its place")

// maxPending and maxWaiting bound the records that wait, and their bytes.
const (
	maxPending = 1024
	maxWaiting = 16 << 20
)

// A logCopy redacts the segments of one WAL.
type logCopy struct {
	*redactor
	chain   *walreader.Chain
	files   []input
	outs    []*writer
	done    []int64 // bytes written of each segment
	pending []*record
	waiting int      // bytes of those
	was, is []uint32 // the sums that the next record may go on from, before and after
}

// log redacts the segments of a WAL. Checksums are computed anew; where one was wrong, it
// stays wrong.
func (r *redactor) log(ctx context.Context, files []input, outs []*writer) error {
	l := &logCopy{redactor: r, files: files, outs: outs, done: make([]int64, len(files)), was: []uint32{0}, is: []uint32{0}}
	var in []walreader.File
	for _, f := range files {
		in = append(in, walreader.File{Name: f.name, R: f.r, Size: f.size})
	}
	l.chain = walreader.NewChain(in)
	order := l.order()
	reader := l.chain.Reader(ctx, walreader.Options{MaxFaults: 1})
	defer reader.Close()
	for reader.Next() {
		if err := l.frame(order[reader.Segment()], reader.Frame()); err != nil {
			return err
		}
	}
	if err := reader.Err(); err != nil {
		return err
	}
	if err := l.flush(); err != nil {
		return err
	}
	for i := range files {
		if err := l.gap(ctx, i, files[i].size); err != nil {
			return err
		}
	}
	return nil
}

// order gives the file of each segment.
func (l *logCopy) order() []int {
	var order []int
	for _, s := range l.chain.Segments {
		for i, f := range l.files {
			if f.name == s.File {
				order = append(order, i)
			}
		}
	}
	return order
}

// reached gives the end of what was taken of a segment.
func (l *logCopy) reached(segment int) int64 {
	if n := len(l.pending); n > 0 && l.pending[n-1].segment == segment {
		last := l.pending[n-1]
		return last.at + int64(len(last.frame))
	}
	return l.done[segment]
}

// frame takes one frame. What is not taken is overwritten with what lies between the frames.
func (l *logCopy) frame(segment int, f *walreader.Frame) error {
	size := f.Header.Size()
	oversize := f.Fault != nil && f.Fault.Kind == walreader.FaultOversize
	if oversize || f.At.Offset < l.reached(segment) || f.At.Offset+size > l.files[segment].size {
		return nil
	}
	b, err := readAt(l.files[segment].r, make([]byte, size), f.At.Offset)
	if err != nil {
		return err
	}
	rec := &record{segment: segment, at: f.At.Offset, frame: b, header: f.Header, isCRC: f.Record.Type == walreader.TypeCRC}
	if !l.lay(rec) {
		return nil
	}
	l.connect(rec, f)
	l.freeID = nil
	l.content(rec.data, f.Record.Type)
	if l.survey {
		l.done[segment] = rec.at + size
		return nil
	}
	if f.Fault != nil && f.Fault.Torn {
		restoreZeros(rec.data, f.Record.Data)
	}
	l.count.Records++
	if l.freeID != nil {
		rec.free, rec.id = l.freeID, bytes.Clone(l.freeID)
	}
	return l.take(rec)
}

// restoreZeros keeps zeros where they were, and makes no others: a sector of them is how a
// torn write is told.
func restoreZeros(b, was []byte) {
	for i := range b {
		if was[i] == 0 {
			b[i] = 0
		} else if b[i] == 0 {
			b[i] = 1
		}
	}
}

// lay finds the parts of a frame.
func (l *logCopy) lay(rec *record) bool {
	end := walreader.FrameHeaderSize + int(rec.header.RecordLen)
	body := rec.frame[walreader.FrameHeaderSize:end]
	parts, _, ok := split(body, nil)
	for _, p := range parts {
		switch p.num {
		case 1:
		case 2:
			rec.crcAt, rec.crcSize = walreader.FrameHeaderSize+p.body, p.end-p.body
		case 3:
			rec.data = body[p.body:p.end:p.end]
		default:
			l.blot(body[p.body:p.end])
		}
	}
	l.blot(rec.frame[end:])
	return ok && rec.crcSize > 0
}

// content redacts the data of a record.
func (l *logCopy) content(b []byte, t walreader.RecordType) {
	switch t {
	case walreader.TypeMetadata:
		l.message(b, logMetadata)
	case walreader.TypeEntry:
		l.message(b, logEntry)
	case walreader.TypeState:
		l.message(b, logState)
	case walreader.TypeSnapshot:
		l.message(b, logSnapshot)
	default:
		l.blot(b)
	}
}

// connect says how the checksum of a record follows from those before it, as the
// reader does.
func (l *logCopy) connect(rec *record, f *walreader.Frame) {
	said := f.Record.CRC
	after := func(sum uint32) uint32 {
		if rec.isCRC {
			return sum
		}
		return walreader.Checksum(sum, f.Record.Data)
	}
	if rec.isCRC || f.Proof != walreader.Plausible || f.Linked {
		for i, sum := range l.was {
			if after(sum) == said {
				rec.link, rec.which = linked, i
				l.was = []uint32{said}
				return
			}
		}
	}
	wrong := f.Proof == walreader.Contradicted || f.Fault != nil && f.Fault.Kind == walreader.FaultSeed
	if wrong && len(l.was) > 0 {
		first := after(l.was[0])
		rec.link, rec.off = broken, said^first
		l.was = []uint32{first, said}
		if rec.isCRC {
			l.was = l.was[1:]
		}
		return
	}
	rec.link = unknown
	if said != 0 { // 0 is what etcd does not compare
		sum := l.cipher.digest("sum", string(binary.LittleEndian.AppendUint32(nil, said)))
		rec.fresh = 1 + binary.LittleEndian.Uint32(sum[:])%said
	}
	l.was = []uint32{said}
}

// state gives the record's checksum, and the sums that the next one may go on from.
func (rec *record) state(sums []uint32) (want uint32, next []uint32) {
	after := func(i int) uint32 {
		if rec.isCRC {
			return sums[i]
		}
		return walreader.Checksum(sums[i], rec.data)
	}
	switch rec.link {
	case linked:
		want = after(rec.which)
	case broken:
		first := after(0)
		if want = first ^ rec.off; !rec.isCRC {
			return want, []uint32{first, want}
		}
	default:
		want = rec.fresh
	}
	return want, []uint32{want}
}

// fits says whether the checksum has room: that of the one before, and the padding.
func (rec *record) fits() bool {
	return protowire.SizeVarint(uint64(rec.want)) <= rec.crcSize+int(rec.header.PadLen)
}

// take puts a record behind those that wait, once those that need not wait any
// more are written.
func (l *logCopy) take(rec *record) error {
	if rec.free != nil || len(l.pending) >= maxPending || l.waiting > maxWaiting {
		if err := l.flush(); err != nil {
			return err
		}
	}
	rec.sums = l.is
	l.pending = append(l.pending, rec)
	l.waiting += len(rec.frame)
	return l.settle()
}

// settle computes the checksums of all that wait. When one does not fit its place, the id of
// the first is changed until all do.
func (l *logCopy) settle() error {
	last := l.pending[len(l.pending)-1]
	var next []uint32
	if last.want, next = last.state(last.sums); last.fits() {
		l.is = next
		return nil
	}
	first := l.pending[0]
	for try := uint32(1); first.free != nil && try < maxTries; try++ {
		for i := range first.free { // the bit that says that more follow stays
			first.free[i] = 0x80 | (first.id[i]+byte(try>>(7*i)))&0x7f
		}
		if l.compute() {
			return nil
		}
	}
	return errNoFit
}

// maxTries bounds the ids tried: one in 16 makes one checksum fit.
const maxTries = 1 << (7 * idBytes)

// idBytes are the bytes of a request's id that may change; they count requests since the
// member's start.
const idBytes = 2

// compute gives every record that waits its checksum, and says whether all fit.
func (l *logCopy) compute() bool {
	sums := l.pending[0].sums
	for _, rec := range l.pending {
		rec.sums = sums
		if rec.want, sums = rec.state(sums); !rec.fits() {
			return false
		}
	}
	l.is = sums
	return true
}

// flush writes the records that wait.
func (l *logCopy) flush() error {
	for _, rec := range l.pending {
		if err := l.gap(context.Background(), rec.segment, rec.at); err != nil {
			return err
		}
		b := rec.written()
		if err := l.outs[rec.segment].write(b); err != nil {
			return err
		}
		l.done[rec.segment] += int64(len(b))
	}
	l.pending, l.waiting = l.pending[:0], 0
	return nil
}

// written gives the frame with its checksum. The number fills the place of the one before, or takes
// of the padding.
func (rec *record) written() []byte {
	more := max(0, protowire.SizeVarint(uint64(rec.want))-rec.crcSize)
	b := make([]byte, 0, len(rec.frame))
	if more > 0 {
		h := rec.header
		h.RecordLen, h.PadLen = h.RecordLen+int64(more), h.PadLen-int64(more)
		b = walreader.AppendFrameHeader(b, h)
	} else {
		b = append(b, rec.frame[:walreader.FrameHeaderSize]...)
	}
	b = append(b, rec.frame[walreader.FrameHeaderSize:rec.crcAt]...)
	b = appendLong(b, uint64(rec.want), rec.crcSize+more)
	return append(b, rec.frame[rec.crcAt+rec.crcSize:len(rec.frame)-more]...)
}

// appendLong appends a number of protobuf in n bytes, more than it needs when it must.
func appendLong(b []byte, v uint64, n int) []byte {
	for range n - 1 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// gap overwrites what lies between what is written of a segment and `to`. The length word and the head of the
// record with which it begins stay: they say what is wrong.
func (l *logCopy) gap(ctx context.Context, segment int, to int64) error {
	begins := true
	for l.done[segment] < to {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := readAt(l.files[segment].r, make([]byte, min(chunkSize, to-l.done[segment])), l.done[segment])
		if err != nil {
			return err
		}
		keep := 0
		if begins {
			keep = headOf(b)
			l.lengthWord(b[:min(keep, walreader.FrameHeaderSize)])
		}
		begins = false
		l.blot(b[keep:])
		if !l.survey {
			if err := l.outs[segment].write(b); err != nil {
				return err
			}
		}
		l.done[segment] += int64(len(b))
	}
	return nil
}

// lengthWord blots a length of 4 GiB or more, which is none. Its upper byte, the padding's, stays, and so
// does what is wrong.
func (l *logCopy) lengthWord(b []byte) {
	if len(b) == walreader.FrameHeaderSize && !zeros(b[4:7]) {
		l.blot(b[:7])
	}
}

// headOf gives the bytes of a length word and the head of a record as etcd writes it: type, checksum and
// length of the data.
func headOf(b []byte) int {
	const word = walreader.FrameHeaderSize
	at := min(len(b), word)
	if len(b) < word+4 || b[word] != 1<<3 || b[word+2] != 2<<3 {
		return at
	}
	at += 3
	at += headLen(b[at:])
	if at < len(b) && b[at] == 3<<3|2 {
		at++
		at += headLen(b[at:])
	}
	return at
}

package walreader

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// DefaultMaxRecord is the longest record whose data a Reader hands out unless
// told otherwise. etcd warns from requests of 10 MiB on.
const DefaultMaxRecord = 64 << 20

// DefaultMaxFaults is the number of faults that a Reader keeps unless told
// otherwise. The others are counted.
const DefaultMaxFaults = 100

// Options say how segments are read. The zero value is ready for use.
type Options struct {
	MaxRecord int64       // in bytes; 0 means DefaultMaxRecord
	MaxFaults int         // faults kept for each segment; 0 means DefaultMaxFaults
	Progress  func(int64) // told the number of bytes of each read
	OnFault   func(Fault) // told of each fault that is kept, when it is met
}

// A Running is the state that goes over from one segment to the next.
type Running struct {
	CRC      uint32 // the running checksum
	Known    bool   // CRC is what the records lead to
	Unbroken bool   // etcd would have read everything up to here
}

// Start is the state at the begin of a chain, as etcd's decoder has it.
func Start() Running { return Running{Known: true, Unbroken: true} }

// A Frame is one frame as a Reader found it.
type Frame struct {
	At     Position
	Header FrameHeader
	Record Record // Data is valid until the next call of Next
	Proof  Proof
	// Linked says that the checksum follows from the one that the frame before
	// states. It is what a plausible frame can have at best.
	Linked bool
	// Clears says that the frame before was contradicted and that this one's
	// checksum follows from that one's bytes: only the sum it stated was wrong.
	Clears bool
	// Unbroken says that nothing before the frame, in this segment and the ones
	// before it, would keep etcd from reading it.
	Unbroken bool
	// DataLen is the length of the record's data. It differs from
	// len(Record.Data) only for a record over Options.MaxRecord.
	DataLen int64
	// Fault is the rule that this frame itself breaks, or nil.
	Fault *Fault
}

// Accepted says whether etcd reads the frame: nothing before it stops etcd, nor
// does the frame itself.
func (f *Frame) Accepted() bool {
	// A wrong padding stops etcd at the frame that follows.
	return f.Unbroken && (f.Fault == nil || !f.Fault.Kind.Stops() || f.Fault.Kind == FaultPadding)
}

// A Reader visits the frames of one segment. It reads on after a fault: at the
// next frame when the lengths still tell where that is, else at the next place
// where a frame, a record type and the frame after it line up.
type Reader struct {
	w     window
	name  string
	last  bool
	opts  Options
	run   Running
	frame Frame

	off     int64 // next length word
	count   int   // frames visited
	taken   bool  // the next fault is in a frame that etcd takes for torn
	resync  bool  // no length tells where the next frame is: look from off on
	peeks   int   // what is left for looking ahead of a resync candidate
	work    int64 // bytes of all frames looked at, the same ones again included
	scratch [FrameHeaderSize + maxPrefix]byte

	// sums are the checksums that the next record may go on from: what the bytes
	// lead to, and after a mismatch what the record states as well.
	sums   [2]uint32
	nsums  int
	proven bool // an unbroken chain leads here from the head of the segment

	done   bool
	err    error
	tail   Tail
	stop   *Fault
	after  int // frames found after stop
	end    int64
	faults []Fault
	nfault int
}

// NewReader prepares to read one segment of the given size. last says that it is the
// last of its directory: etcd looks for a torn write nowhere else. run is the
// state that the segment before ended with, Start() for the first.
func NewReader(ctx context.Context, src io.ReaderAt, name string, size int64, last bool, run Running, opts Options) *Reader {
	r := &Reader{}
	r.reset(ctx, src, name, size, last, run, opts)
	return r
}

func (r *Reader) reset(ctx context.Context, src io.ReaderAt, name string, size int64, last bool, run Running, opts Options) {
	if opts.MaxRecord <= 0 {
		opts.MaxRecord = DefaultMaxRecord
	}
	if opts.MaxFaults <= 0 {
		opts.MaxFaults = DefaultMaxFaults
	}
	buf := r.w.buf // the buffer is used again from segment to segment
	*r = Reader{
		w:    window{ctx: ctx, src: src, size: max(size, 0), progress: opts.Progress, buf: buf[:0]},
		name: name, last: last, opts: opts, run: run, peeks: 1 << 16,
		proven: run.Known && run.Unbroken,
	}
	if run.Known {
		r.sums[0], r.nsums = run.CRC, 1
	}
	if size < 0 {
		r.fail(fmt.Errorf("size %d", size))
	}
}

// Next goes on to the next frame. It returns false at the end of the segment and when
// the segment cannot be read; Err tells which.
func (r *Reader) Next() bool {
	for !r.done {
		if r.resync && !r.seek() {
			return false
		}
		if r.step() {
			r.count++
			if r.stop != nil && r.frame.Fault != r.stop {
				r.after++
			}
			return true
		}
	}
	return false
}

// Frame is the frame that Next went to. It is valid until the next call of Next.
func (r *Reader) Frame() *Frame { return &r.frame }

// Record is the record of the frame that Next went to.
func (r *Reader) Record() Record { return r.frame.Record }

// Err tells why the segment could not be read: the context ended, the machine
// failed, or the segment is shorter than it was said to be. Faults of the bytes are
// no error.
func (r *Reader) Err() error { return r.err }

// Tail says how the segment ends, once Next has returned false without error.
func (r *Reader) Tail() Tail { return r.tail }

// Stop is the first fault at which etcd stops reading the segment, or nil.
func (r *Reader) Stop() *Fault { return r.stop }

// AfterStop is the number of frames that were found by reading on after Stop.
func (r *Reader) AfterStop() int { return r.after }

// Faults lists the faults in the order of their places, up to the limit.
func (r *Reader) Faults() []Fault { return r.faults }

// FaultCount is the number of faults met, including those not kept.
func (r *Reader) FaultCount() int { return r.nfault }

// Frames is the number of frames visited.
func (r *Reader) Frames() int { return r.count }

// End is the first byte after the last frame that etcd reads.
func (r *Reader) End() int64 { return r.end }

// Running is the state that goes over to the next segment.
func (r *Reader) Running() Running {
	run := Running{Unbroken: r.run.Unbroken && r.stop == nil}
	if r.nsums == 1 && (r.proven || r.frame.Linked) {
		run.CRC, run.Known = r.sums[0], true
	}
	return run
}

func (r *Reader) fail(err error) {
	r.err, r.done, r.tail = fmt.Errorf("%s: %w", r.name, err), true, TailUnknown
}

func (r *Reader) here() Position { return Position{r.name, r.off, r.count} }

// note records a fault. The cause is made only while faults are kept, because
// a hostile file can break a rule every few bytes.
func (r *Reader) note(kind FaultKind, at Position, cause func() error) *Fault {
	torn := r.taken
	r.taken = false
	r.nfault++
	first := r.stop == nil && kind.Stops()
	if !first && len(r.faults) >= r.opts.MaxFaults {
		return &Fault{Kind: kind, At: at, Torn: torn}
	}
	f := Fault{Kind: kind, At: at, Torn: torn}
	if cause != nil {
		f.Err = cause()
	}
	if len(r.faults) < r.opts.MaxFaults {
		r.faults = append(r.faults, f)
	}
	if first {
		r.stop = &f
	}
	if r.opts.OnFault != nil {
		r.opts.OnFault(f)
	}
	return &f
}

// lose records a fault after which no length tells where the next frame is.
func (r *Reader) lose(kind FaultKind, from int64, cause func() error) {
	r.note(kind, r.here(), cause)
	r.proven = false
	r.nsums = 0
	r.off, r.resync = from, true
}

// finish ends the segment.
func (r *Reader) finish(tail Tail) {
	r.done = true
	switch {
	case r.stop == nil:
		r.tail = tail
	case r.stop.Kind == FaultTorn && r.after == 0:
		r.tail = TailTorn
	default:
		r.tail = TailFault
	}
}

// step reads what is at off. It returns true when that is a frame.
func (r *Reader) step() bool {
	remain := r.w.size - r.off
	if remain == 0 {
		r.finish(TailExact)
		return false
	}
	if remain < FrameHeaderSize {
		r.note(FaultShortHeader, r.here(), func() error {
			return fmt.Errorf("need %d bytes, %d remain", FrameHeaderSize, remain)
		})
		r.proven = false
		r.nsums = 0
		r.finish(TailFault)
		return false
	}
	b, err := r.w.at(r.off, FrameHeaderSize)
	if err != nil {
		r.fail(err)
		return false
	}
	word := binary.LittleEndian.Uint64(b)
	if word == 0 {
		r.zeros()
		return false
	}
	h := headerOf(word)
	switch {
	case h.RecordLen == 0:
		r.lose(FaultLength, r.off+FrameHeaderSize, func() error {
			return fmt.Errorf("word 0x%016x gives a record of 0 bytes", word)
		})
		return false
	case h.RecordLen > remain-FrameHeaderSize-h.PadLen:
		return r.beyond(h, remain)
	}
	if r.work += h.Size(); r.work > maxWork*(r.w.size+chunkSize) {
		r.note(FaultTangled, r.here(), func() error {
			return fmt.Errorf("%d bytes of frames in a segment of %d", r.work, r.w.size)
		})
		r.proven, r.nsums = false, 0
		r.finish(TailFault)
		return false
	}
	if h.Size() > chunkSize {
		// Before so much is read or held, the record has to agree with the length.
		if ok, done := r.longFrame(h); !ok || done {
			return ok
		}
	}
	b, err = r.w.at(r.off, h.Size())
	if err != nil {
		r.fail(err)
		return false
	}
	return r.record(word, h, b)
}

// zeros tells preallocated zeros from a hole.
func (r *Reader) zeros() {
	next, err := r.w.nonZero(r.off)
	if err != nil {
		r.fail(err)
		return
	}
	if next == r.w.size {
		r.finish(TailZeroed)
		return
	}
	from := r.off
	r.lose(FaultZeroGap, next&^7, func() error {
		return fmt.Errorf("%d zero bytes, then others at 0x%x", next-from, next)
	})
}

// beyond handles a length word that leads out of the segment.
func (r *Reader) beyond(h FrameHeader, remain int64) bool {
	cause := func() error { return fmt.Errorf("need %d bytes, %d remain", h.Size(), remain) }
	b, err := r.w.peek(r.scratch[:], r.off)
	if err != nil {
		r.fail(err)
		return false
	}
	p, ok := readPrefix(b[FrameHeaderSize:])
	agrees := ok && h.Aligned() && (!p.whole || p.recordLen() == h.RecordLen)
	if agrees {
		r.lose(FaultTruncated, r.off+FrameHeaderSize, cause)
		return false
	}
	if again, ok := r.restated(p, ok); ok {
		return r.reread(again, p, func() error {
			return fmt.Errorf("need %d bytes, %d remain; by its own fields the record has %d bytes, not %d",
				h.Size(), remain, p.recordLen(), h.RecordLen)
		})
	}
	r.lose(FaultLength, r.off+FrameHeaderSize, cause)
	return false
}

// restated gives the frame at off as the record's own fields have it, when
// another frame follows there.
func (r *Reader) restated(p prefix, ok bool) (FrameHeader, bool) {
	if !ok || !p.whole {
		return FrameHeader{}, false
	}
	h := headerFor(p.recordLen())
	if h.RecordLen > r.w.size-r.off-FrameHeaderSize-h.PadLen {
		return h, false
	}
	return h, r.follows(r.off + h.Size())
}

// reread goes on behind a wrong length word with the length that the record's
// own fields give. It returns true when the checksum agrees: then the record is
// whole and only the word is wrong.
func (r *Reader) reread(h FrameHeader, p prefix, cause func() error) bool {
	if h.RecordLen <= r.opts.MaxRecord && p.typ != TypeCRC {
		b, err := r.w.at(r.off, h.Size())
		if err != nil {
			r.fail(err)
			return false
		}
		data := b[FrameHeaderSize+p.size : FrameHeaderSize+h.RecordLen]
		for _, sum := range r.sums[:r.nsums] {
			if Checksum(sum, data) == p.crc {
				fault := r.note(FaultLength, r.here(), cause)
				r.proven = false
				again := r.record(h.word(), h, b)
				r.frame.Fault, r.frame.Unbroken = fault, r.run.Unbroken && r.stop == fault
				return again
			}
		}
	}
	r.lose(FaultLength, r.off+h.Size(), cause)
	return false
}

// longFrame examines a frame of more than a chunk before it is read. ok is false when it is
// no frame; done is true when the frame was visited without being held.
func (r *Reader) longFrame(h FrameHeader) (ok, done bool) {
	b, err := r.w.peek(r.scratch[:], r.off)
	if err != nil {
		r.fail(err)
		return false, false
	}
	p, usual := readPrefix(b[FrameHeaderSize:])
	if !usual || !p.whole || p.recordLen() != h.RecordLen {
		if r.last && h.RecordLen <= r.opts.MaxRecord {
			return true, false // it may be torn: the bytes decide
		}
		cause := func() error {
			return fmt.Errorf("%d bytes, and the record's own fields do not agree", h.RecordLen)
		}
		if again, ok := r.restated(p, usual); ok {
			return r.reread(again, p, cause), true
		}
		r.lose(FaultLength, r.off+FrameHeaderSize, cause)
		return false, false
	}
	if h.RecordLen <= r.opts.MaxRecord {
		return true, false
	}
	return r.oversize(h, p), true
}

// oversize visits a frame without holding its data. The checksum is carried
// over the data chunk by chunk.
func (r *Reader) oversize(h FrameHeader, p prefix) bool {
	at := r.here()
	rec := Record{Type: p.typ, CRC: p.crc}
	sums := r.sums
	for pos, left := r.off+FrameHeaderSize+p.size, p.dataLen; left > 0; {
		n := min(left, chunkSize)
		b, err := r.w.at(pos, n)
		if err != nil {
			r.fail(err)
			return false
		}
		for i := range sums[:r.nsums] {
			sums[i] = Checksum(sums[i], b)
		}
		pos, left = pos+n, left-n
	}
	r.frame = Frame{At: at, Header: h, Record: rec, Unbroken: r.unbroken(), DataLen: p.dataLen}
	r.frame.Fault = r.note(FaultOversize, at, func() error {
		return fmt.Errorf("%d bytes, limit %d", h.RecordLen, r.opts.MaxRecord)
	})
	r.judge(sums, func() bool { return false })
	r.advance(h, h.Aligned())
	return true
}

func (r *Reader) unbroken() bool { return r.run.Unbroken && r.stop == nil }

// record reads the frame in b. It returns false when the record does not decode.
func (r *Reader) record(word uint64, h FrameHeader, b []byte) bool {
	body := b[FrameHeaderSize : FrameHeaderSize+h.RecordLen]
	rec, ok := decodeUsual(body)
	if !ok {
		var err error
		if rec, err = DecodeRecord(body); err != nil {
			return r.undecodable(h, b, err)
		}
	}
	f := &r.frame
	f.At = Position{r.name, r.off, r.count}
	f.Header, f.Record, f.DataLen = h, rec, int64(len(rec.Data))
	f.Unbroken, f.Fault = r.unbroken(), nil
	if rec.Type == TypeCRC {
		r.seed()
	} else {
		sums := r.sums
		for i := range sums[:r.nsums] {
			sums[i] = Checksum(sums[i], rec.Data)
		}
		r.judge(sums, func() bool { return r.last && r.torn(b) })
		if !rec.Type.Known() && f.Proof != Contradicted {
			f.Fault = r.note(FaultType, f.At, func() error { return errors.New(rec.Type.String()) })
		}
	}
	if word != h.word() || !h.Aligned() || firstNonZero(b[FrameHeaderSize+h.RecordLen:]) < int(h.PadLen) {
		r.odd(word, h)
		return true
	}
	r.advance(h, true)
	return true
}

// advance goes behind the frame. sure is false when its length is doubtful.
func (r *Reader) advance(h FrameHeader, sure bool) {
	r.off += h.Size()
	if r.stop == nil {
		r.end = r.off
	}
	r.resync = !sure
}

// judge compares the record's checksum with what the bytes lead to from each
// of r.sums, and sets what the next record may go on from.
func (r *Reader) judge(sums [2]uint32, torn func() bool) {
	f := &r.frame
	stated := f.Record.CRC
	n := r.nsums
	f.Linked = n > 0 && sums[0] == stated || n > 1 && sums[1] == stated
	f.Clears = n > 1 && sums[0] == stated
	switch {
	case f.Linked && r.proven:
		f.Proof = Proven
	case f.Linked, n == 0:
		f.Proof = Plausible
	default:
		f.Proof = Contradicted
		want := sums[0]
		kind := FaultChecksum
		if torn() {
			kind, r.taken = FaultTorn, true
		}
		f.Fault = r.note(kind, f.At, func() error {
			return fmt.Errorf("record states %08x, its bytes give %08x", stated, want)
		})
		r.proven = false
		// Either the data or the stated sum is wrong: the next record tells which.
		r.sums, r.nsums = [2]uint32{want, stated}, 2
		return
	}
	r.sums[0], r.nsums = stated, 1
}

// seed takes a crc record. At the head of a segment it restarts the chain.
func (r *Reader) seed() {
	f := &r.frame
	stated := f.Record.CRC
	f.Linked, f.Clears = false, false
	matches := r.nsums == 0
	for _, sum := range r.sums[:r.nsums] {
		f.Linked = f.Linked || sum == stated
		// etcd does not compare a sum of 0: its decoder has read nothing then
		// (wal.go, ReadAll).
		matches = matches || sum == stated || sum == 0
	}
	head := f.At.Offset == 0
	if !matches {
		sum := r.sums[0]
		f.Fault = r.note(FaultSeed, f.At, func() error {
			return fmt.Errorf("record states %08x, the records before it give %08x", stated, sum)
		})
		r.proven = false
	}
	switch {
	case head:
		r.proven, f.Proof = true, Proven
	case r.proven:
		f.Proof = Proven
	default:
		f.Proof = Plausible
	}
	r.sums[0], r.nsums = stated, 1
}

// undecodable handles a frame whose record is no message: which of the two
// lengths is wrong, or neither, shows by the checksum and by what follows.
func (r *Reader) undecodable(h FrameHeader, b []byte, cause error) bool {
	body := b[FrameHeaderSize:]
	next := r.off + h.Size()
	p, ok := readPrefix(body[:min(len(body), maxPrefix)])
	again, restates := r.restated(p, ok)
	restates = restates && again.RecordLen != h.RecordLen
	behind := nothing
	if h.Aligned() {
		behind = r.look(next)
	}
	r.taken = r.last && r.torn(b)
	switch {
	case behind == aFrame:
		r.lose(r.orTorn(FaultRecord), next, func() error { return cause })
	case restates: // a length that leads into preallocated zeros seems to fit as well
		return r.reread(again, p, func() error {
			return fmt.Errorf("%d bytes; by its own fields the record has %d: %w", h.RecordLen, p.recordLen(), cause)
		})
	case behind == endOrZero && !r.taken:
		r.lose(FaultRecord, next, func() error { return cause })
	default:
		r.lose(r.orTorn(FaultRecord), r.off+FrameHeaderSize, func() error { return cause })
	}
	return false
}

// orTorn gives the kind of a fault in a frame that etcd may take for torn.
func (r *Reader) orTorn(kind FaultKind) FaultKind {
	if r.taken {
		return FaultTorn
	}
	return kind
}

// odd handles a frame that decodes but whose word or padding etcd does not write so.
func (r *Reader) odd(word uint64, h FrameHeader) {
	f := &r.frame
	next := r.off + h.Size()
	if h.Aligned() || r.follows(next) {
		if f.Fault == nil && (word>>56 != 0 || h.PadLen != 0) {
			f.Fault = r.note(FaultReserved, f.At, func() error {
				return fmt.Errorf("word 0x%016x, %d bytes of padding", word, h.PadLen)
			})
		}
		r.advance(h, true)
		return
	}
	fault := r.note(FaultPadding, f.At, func() error {
		return fmt.Errorf("record of %d bytes, padding of %d: no frame at 0x%x", h.RecordLen, h.PadLen, next)
	})
	if f.Fault == nil {
		f.Fault = fault
	}
	r.end = next // etcd has read this frame and fails at the next
	r.proven = false
	right := headerFor(h.RecordLen)
	if again := r.off + right.Size(); again <= r.w.size && r.follows(again) {
		r.off, r.resync = again, false
		return
	}
	r.nsums = 0
	r.off, r.resync = min(r.off+FrameHeaderSize, r.w.size), true
}

// maxWork is how often over a segment's bytes are looked at. Sound segments and
// ordinary damage take one or two. Without a limit a made-up segment, in which
// each of many small frames leads to a large broken one, would take hours.
const maxWork = 8

// sectorSize is the unit of etcd's rule for torn writes, in bytes of the file.
const sectorSize = 512

// torn applies etcd's rule (decoder.go, isTornEntry, v3.7.3) to a frame at
// r.off: some sector's share of the record and its padding is all zero.
func (r *Reader) torn(frame []byte) bool {
	b := frame[FrameHeaderSize:]
	pos := r.off + FrameHeaderSize
	for len(b) > 0 {
		n := min(int(sectorSize-pos%sectorSize), len(b))
		if firstNonZero(b[:n]) == n {
			return true
		}
		b, pos = b[n:], pos+int64(n)
	}
	return false
}

package walreader

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// A segmentWriter makes segments as etcd does.
type segmentWriter struct {
	b   []byte
	sum uint32
	at  []int // where each frame begins
}

func (w *segmentWriter) add(t RecordType, data []byte) {
	if t != TypeCRC {
		w.sum = Checksum(w.sum, data)
	}
	w.at = append(w.at, len(w.b))
	w.b = AppendFrame(w.b, Record{t, w.sum, data})
}

// entryData is different for each i, and its length is no multiple of 8 for most.
func entryData(i int) []byte { return bytes.Repeat([]byte{byte(i + 1)}, 40+i*13) }

// segment makes a segment that begins with sum: a crc record, a metadata record and
// n entries. Frame 2 is the first entry.
func segment(sum uint32, n int) *segmentWriter {
	w := &segmentWriter{sum: sum}
	w.add(TypeCRC, nil)
	w.add(TypeMetadata, []byte("\x08\x01\x10\x02"))
	for i := range n {
		w.add(TypeEntry, entryData(i))
	}
	return w
}

// readSegment visits a segment as the last of its directory unless told
// otherwise, and gives copies of the frames.
func readSegment(t testing.TB, b []byte, last bool, run Running, opts Options) ([]Frame, *Reader) {
	t.Helper()
	r := NewReader(context.Background(), bytes.NewReader(b), "a.wal", int64(len(b)), last, run, opts)
	var frames []Frame
	for r.Next() {
		f := *r.Frame()
		f.Record.Data = bytes.Clone(f.Record.Data)
		frames = append(frames, f)
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return frames, r
}

func proofs(frames []Frame) string {
	var s strings.Builder
	for _, f := range frames {
		switch {
		case f.Proof == Proven && f.Unbroken:
			s.WriteByte('P')
		case f.Proof == Proven:
			s.WriteByte('p')
		case f.Proof == Plausible && f.Linked:
			s.WriteByte('l')
		case f.Proof == Plausible:
			s.WriteByte('?')
		default:
			s.WriteByte('x')
		}
	}
	return s.String()
}

// zeros is a preallocated end.
func zeros(b []byte) []byte { return append(b, make([]byte, 4096)...) }

func TestASegmentWith(t *testing.T) {
	const entries = 6 // frames 2 to 7
	flip := func(at int, mask byte) func(*segmentWriter) {
		return func(w *segmentWriter) { w.b[at] ^= mask }
	}
	frame := func(n, offset int, mask byte) func(*segmentWriter) {
		return func(w *segmentWriter) { flip(w.at[n]+offset, mask)(w) }
	}
	// crc is where the checksum of an entry record lies, data where its data begins.
	const crc, data = FrameHeaderSize + 3, FrameHeaderSize + 10
	for _, test := range []struct {
		name   string
		injure func(*segmentWriter)
		notEnd bool // more segments follow
		tail   Tail
		kind   FaultKind
		frame  int // of the first fault
		// P proven, p proven but behind a fault, l plausible and linked to the
		// frame before, ? plausible, x contradicted
		proofs string
	}{
		{"nothing wrong and preallocated zeros", func(w *segmentWriter) { w.b = zeros(w.b) }, false, TailZeroed, 0, 0, "PPPPPPPP"},
		{"nothing wrong and no byte after the last frame", func(*segmentWriter) {}, true, TailExact, 0, 0, "PPPPPPPP"},
		{"no bytes", func(w *segmentWriter) { w.b = nil }, false, TailExact, 0, 0, ""},
		{"zeros only", func(w *segmentWriter) { w.b = zeros(nil) }, false, TailZeroed, 0, 0, ""},
		{"five bytes of a length word", func(w *segmentWriter) { w.b = w.b[:w.at[7]+5] }, false, TailFault, FaultShortHeader, 7, "PPPPPPP"},
		{"five zero bytes at the end", func(w *segmentWriter) { w.b = append(w.b, 0, 0, 0, 0, 0) }, false, TailFault, FaultShortHeader, 8, "PPPPPPPP"},
		{"an end inside the last frame", func(w *segmentWriter) { w.b = w.b[:w.at[7]+60] }, false, TailFault, FaultTruncated, 7, "PPPPPPP"},
		{"a length word and no more", func(w *segmentWriter) { w.b = w.b[:w.at[7]+8] }, false, TailFault, FaultTruncated, 7, "PPPPPPP"},
		{"a length beyond the end", frame(4, 2, 0xff), false, TailFault, FaultLength, 4, "PPPPllll"},
		{"a length that is a little too long", frame(4, 0, 8), false, TailFault, FaultLength, 4, "PPPPllll"},
		{"a length that leads into preallocated zeros", func(w *segmentWriter) { w.b = zeros(w.b); w.b[w.at[4]+1] ^= 0x20 }, false, TailFault, FaultLength, 4, "PPPPllll"},
		{"a length that is a little too short", frame(4, 0, 0x40), false, TailFault, FaultLength, 4, "PPPPllll"},
		{"a length of zero with padding", func(w *segmentWriter) { copy(w.b[w.at[4]:], make([]byte, 7)); w.b[w.at[4]+7] = 0x83 }, false, TailFault, FaultLength, 4, "PPPP?ll"},
		{"eight zero bytes where a length word was", func(w *segmentWriter) { copy(w.b[w.at[4]:], make([]byte, 8)) }, false, TailFault, FaultZeroGap, 4, "PPPP?ll"},
		{"another bit in the data", frame(4, data+3, 1), false, TailFault, FaultChecksum, 4, "PPPPxlll"},
		{"another bit in the stated checksum", frame(4, crc, 1), false, TailFault, FaultChecksum, 4, "PPPPxlll"},
		{"another bit in the data of the last record", frame(7, data+3, 1), false, TailFault, FaultChecksum, 7, "PPPPPPPx"},
		{"another type", frame(4, FrameHeaderSize+1, 0x40), false, TailFault, FaultType, 4, "PPPPPppp"},
		{"another tag", frame(4, FrameHeaderSize+2, 0x07), false, TailFault, FaultRecord, 4, "PPPP?ll"},
		{"a data length that is too long", frame(4, FrameHeaderSize+9, 0x10), false, TailFault, FaultRecord, 4, "PPPP?ll"},
		{"a reserved bit of a length word", frame(4, 7, 0x10), false, TailZeroed, FaultReserved, 4, "PPPPPPPP"},
		{"a padding byte that is not zero", func(w *segmentWriter) { w.b[w.at[5]-1] = 1 }, false, TailZeroed, FaultReserved, 4, "PPPPPPPP"},
		{"another padding length", frame(4, 7, 0x02), false, TailFault, FaultPadding, 4, "PPPPPlll"},
		{"a zeroed sector in the last record", func(w *segmentWriter) {
			w.add(TypeEntry, bytes.Repeat([]byte{7}, 2000))
			clear(w.b[1024:1536])
		}, false, TailTorn, FaultTorn, 8, "PPPPPPPPx"},
		{"a zeroed sector in the last record though more segments follow", func(w *segmentWriter) {
			w.add(TypeEntry, bytes.Repeat([]byte{7}, 2000))
			clear(w.b[1024:1536])
		}, true, TailFault, FaultChecksum, 8, "PPPPPPPPx"},
		{"a zeroed sector in a record before others", func(w *segmentWriter) {
			w.add(TypeEntry, bytes.Repeat([]byte{7}, 2000))
			w.add(TypeEntry, entryData(1))
			clear(w.b[1024:1536])
		}, false, TailFault, FaultTorn, 8, "PPPPPPPPxl"},
		{"a crc record in the middle that goes on", func(w *segmentWriter) { w.add(TypeCRC, nil); w.add(TypeEntry, entryData(1)) }, false, TailZeroed, 0, 0, "PPPPPPPPPP"},
		{"a crc record in the middle that does not", func(w *segmentWriter) { w.sum++; w.add(TypeCRC, nil); w.add(TypeEntry, entryData(1)) }, false, TailFault, FaultSeed, 8, "PPPPPPPP?l"},
		{"no crc record", func(w *segmentWriter) {
			*w = segmentWriter{}
			w.add(TypeMetadata, []byte("m"))
			w.add(TypeEntry, []byte("e"))
		}, false, TailZeroed, 0, 0, "PP"},
		{"zeros for the first sector", func(w *segmentWriter) { clear(w.b[:w.at[3]]) }, false, TailFault, FaultZeroGap, 0, "?llll"},
		{"garbage", func(w *segmentWriter) { w.b = bytes.Repeat([]byte("not a WAL at all. "), 300) }, false, TailFault, FaultLength, 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := segment(0, entries)
			test.injure(w)
			b := w.b
			if test.tail == TailZeroed || test.tail == TailTorn {
				b = zeros(b)
			}
			frames, r := readSegment(t, b, !test.notEnd, Start(), Options{})
			if r.Tail() != test.tail {
				t.Errorf("tail %v, want %v", r.Tail(), test.tail)
			}
			var first Fault
			if len(r.Faults()) > 0 {
				first = r.Faults()[0]
			}
			if first.Kind != test.kind || first.At.Frame != test.frame {
				t.Errorf("fault %v, want %v at frame %d", r.Faults(), test.kind, test.frame)
			}
			if test.kind != 0 && test.frame < len(w.at) && first.At.Offset != int64(w.at[test.frame]) {
				t.Errorf("%v does not name the begin 0x%x of the frame", first.At, w.at[test.frame])
			}
			if r.FaultCount() > 1 {
				t.Errorf("one injury gives %d faults: %v", r.FaultCount(), r.Faults())
			}
			if got := proofs(frames); got != test.proofs {
				t.Errorf("proofs %s, want %s", got, test.proofs)
			}
		})
	}
}

func TestTheNextRecordTellsWhetherDataOrChecksumWasWrong(t *testing.T) {
	const crc, data = FrameHeaderSize + 3, FrameHeaderSize + 12
	for at, clears := range map[int]bool{crc: true, data: false} {
		w := segment(0, 4)
		w.b[w.at[3]+at] ^= 1
		frames, _ := readSegment(t, w.b, true, Start(), Options{})
		if frames[4].Clears != clears {
			t.Errorf("bit at +%d: Clears is %v", at, frames[4].Clears)
		}
	}
}

func TestTheChecksumIsCarriedFromSegmentToSegment(t *testing.T) {
	a := segment(0, 3)
	b := segment(a.sum, 3)
	lost := segment(0, 2) // a without its last entry
	for _, test := range []struct {
		name   string
		first  []byte
		proofs string
		kinds  []FaultKind
	}{
		{"whole", a.b, "PPPPPPPPPP", nil},
		{"an entry lost at the end of the first", zeros(lost.b), "PPPPPpppp", []FaultKind{FaultSeed}},
		{"a bit in the first", flipped(a.b, a.at[3]+30), "PPPxlppppp", []FaultKind{FaultChecksum}},
		{"the first is empty", nil, "PPPPP", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := NewChain([]File{
				{SegmentName{1, 4}.String(), bytes.NewReader(b.b), int64(len(b.b))},
				{SegmentName{0, 0}.String(), bytes.NewReader(test.first), int64(len(test.first))},
			})
			r := c.Reader(context.Background(), Options{})
			var frames []Frame
			for r.Next() {
				frames = append(frames, *r.Frame())
			}
			if err := r.Err(); err != nil {
				t.Fatal(err)
			}
			if got := proofs(frames); got != test.proofs {
				t.Errorf("proofs %s, want %s", got, test.proofs)
			}
			var kinds []FaultKind
			for _, e := range r.Ends() {
				for _, f := range e.Faults {
					kinds = append(kinds, f.Kind)
				}
			}
			if fmt.Sprint(kinds) != fmt.Sprint(test.kinds) {
				t.Errorf("faults %v, want %v", kinds, test.kinds)
			}
		})
	}
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

func TestAHoleInTheSequenceBreaksTheChain(t *testing.T) {
	a, b := segment(0, 1), segment(77, 1)
	c := NewChain([]File{
		{SegmentName{0, 0}.String(), bytes.NewReader(a.b), int64(len(a.b))},
		{SegmentName{3, 9}.String(), bytes.NewReader(b.b), int64(len(b.b))},
		{"0.tmp", bytes.NewReader(nil), 0},
	})
	if len(c.Holes) != 1 || c.Holes[0].FromSeq != 1 || c.Holes[0].ToSeq != 2 {
		t.Fatalf("holes %v", c.Holes)
	}
	if len(c.Leftovers) != 1 || c.Leftovers[0].Class != NamePreallocated {
		t.Fatalf("leftovers %v", c.Leftovers)
	}
	r := c.Reader(context.Background(), Options{})
	var frames []Frame
	for r.Next() {
		frames = append(frames, *r.Frame())
	}
	if got := proofs(frames); got != "PPPppp" {
		t.Errorf("proofs %s", got)
	}
	for _, e := range r.Ends() {
		if e.FaultCount != 0 {
			t.Errorf("%s: %v", e.Segment.File, e.Faults)
		}
	}
}

func TestALongRecord(t *testing.T) {
	w := segment(0, 1)
	long := bytes.Repeat([]byte("0123456789abcdef"), 3<<16) // 3 MiB
	w.add(TypeEntry, long)
	w.add(TypeEntry, entryData(2))
	b := zeros(w.b)

	frames, r := readSegment(t, b, true, Start(), Options{})
	if got := proofs(frames); got != "PPPPP" || !bytes.Equal(frames[3].Record.Data, long) {
		t.Errorf("proofs %s, faults %v", got, r.Faults())
	}

	t.Run("over the limit is checked and not held", func(t *testing.T) {
		frames, r := readSegment(t, b, true, Start(), Options{MaxRecord: 1 << 20})
		if got := proofs(frames); got != "PPPPP" {
			t.Errorf("proofs %s", got)
		}
		f := frames[3]
		if f.Record.Data != nil || f.DataLen != int64(len(long)) || f.Fault.Kind != FaultOversize || r.Tail() != TailZeroed {
			t.Errorf("%+v, tail %v", f, r.Tail())
		}
	})
	t.Run("over the limit with another bit", func(t *testing.T) {
		frames, r := readSegment(t, flipped(b, w.at[3]+2<<20), true, Start(), Options{MaxRecord: 1 << 20})
		if got := proofs(frames); got != "PPPxl" || r.Tail() != TailFault {
			t.Errorf("proofs %s, tail %v", got, r.Tail())
		}
	})
	t.Run("a length of a terabyte in a small file", func(t *testing.T) {
		b := bytes.Clone(b)
		binary.LittleEndian.PutUint64(b[w.at[2]:], 1<<40)
		frames, r := readSegment(t, b, true, Start(), Options{})
		if got := proofs(frames); got != "PPlll" || r.Stop().Kind != FaultLength {
			t.Errorf("proofs %s, %v", got, r.Stop())
		}
	})
}

func TestFaultsOverTheLimitAreCounted(t *testing.T) {
	w := segment(0, 50)
	for _, at := range w.at[2:] {
		w.b[at+FrameHeaderSize+3] ^= 1
	}
	_, r := readSegment(t, w.b, true, Start(), Options{MaxFaults: 5})
	if len(r.Faults()) != 5 || r.FaultCount() != 50 {
		t.Errorf("%d faults kept, %d counted", len(r.Faults()), r.FaultCount())
	}
}

// TestFramesMadeToOverlapEnd has small frames that each lead to a broken one of
// half a megabyte, inside which the next small frame lies.
func TestFramesMadeToOverlapEnd(t *testing.T) {
	var b []byte
	for len(b) < 4<<20 {
		b = AppendFrame(b, Record{TypeEntry, uint32(len(b)), []byte("x")})
		b = AppendFrame(b, Record{TypeEntry, 1, []byte("y")})
		b = binary.LittleEndian.AppendUint64(b, 1<<19)
		b = append(b, 0x0a, 0x00, 0x7b, 0x7b, 0x7b, 0x7b, 0x7b, 0x7b)
	}
	_, r := readSegment(t, b, true, Start(), Options{MaxFaults: 1 << 20})
	last := r.Faults()[len(r.Faults())-1]
	if last.Kind != FaultTangled || r.Tail() != TailFault {
		t.Errorf("%v, tail %v", &last, r.Tail())
	}
}

type failingReader struct {
	io.ReaderAt
	from int64
}

var errDisk = errors.New("disk")

func (f failingReader) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > f.from {
		return 0, errDisk
	}
	return f.ReaderAt.ReadAt(b, off)
}

func TestWhatCannotBeReadIsNoFault(t *testing.T) {
	w := segment(0, 3)
	b := append(w.b, make([]byte, 3<<20)...)
	t.Run("the machine fails", func(t *testing.T) {
		r := NewReader(context.Background(), failingReader{bytes.NewReader(b), 2 << 20}, "a.wal", int64(len(b)), true, Start(), Options{})
		n := 0
		for r.Next() {
			n++
		}
		if !errors.Is(r.Err(), errDisk) || r.Tail() != TailUnknown || n != 5 || r.FaultCount() != 0 {
			t.Errorf("%d frames, %v, %v, %d faults", n, r.Err(), r.Tail(), r.FaultCount())
		}
	})
	t.Run("the file is shorter than it was said to be", func(t *testing.T) {
		r := NewReader(context.Background(), bytes.NewReader(b), "a.wal", int64(len(b))+100, true, Start(), Options{})
		for r.Next() {
		}
		if !errors.Is(r.Err(), io.ErrUnexpectedEOF) {
			t.Errorf("%v", r.Err())
		}
	})
	t.Run("the context ends", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		r := NewReader(ctx, bytes.NewReader(b), "a.wal", int64(len(b)), true, Start(), Options{})
		n := 0
		for r.Next() {
			n++
			cancel()
		}
		if !errors.Is(r.Err(), context.Canceled) || n != 5 {
			t.Errorf("%d frames, %v", n, r.Err())
		}
	})
}

func TestProgressCountsTheBytesRead(t *testing.T) {
	b := append(segment(0, 3000).b, make([]byte, 5<<20)...)
	var n int64
	readSegment(t, b, true, Start(), Options{Progress: func(m int64) { n += m }})
	if n != int64(len(b)) {
		t.Errorf("%d bytes of %d", n, len(b))
	}
}

func TestFaultsNameBothNumbers(t *testing.T) {
	w := segment(0, 2)
	_, r := readSegment(t, w.b[:w.at[3]+20], true, Start(), Options{})
	const want = "a.wal+0x68 (frame 3): segment ends inside a frame: need 72 bytes, 20 remain"
	if got := r.Stop().Error(); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

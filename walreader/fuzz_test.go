package walreader_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"etcd-forensics/walreader"
)

// seeds are the used bytes of segments that etcd's own package wrote.
func seeds(f *testing.F) [][]byte {
	dir := etcdWAL(f, 30, 4<<10, sizes)
	var all [][]byte
	for _, name := range segmentFiles(f, dir) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, append(bytes.TrimRight(b, "\x00"), make([]byte, 64)...))
	}
	if len(all) < 2 {
		f.Fatalf("%d seeds", len(all))
	}
	return all
}

func FuzzFrame(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b[:walreader.FrameHeaderSize])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < walreader.FrameHeaderSize {
			return
		}
		h := walreader.DecodeFrameHeader([8]byte(b))
		if h.RecordLen < 0 || h.PadLen < 0 || h.PadLen > 7 || h.Size() < walreader.FrameHeaderSize {
			t.Fatalf("%+v", h)
		}
		if again := walreader.DecodeFrameHeader([8]byte(walreader.AppendFrameHeader(nil, h))); again != h {
			t.Fatalf("%+v does not survive a round trip: %+v", h, again)
		}
	})
}

func FuzzRecord(f *testing.F) {
	for _, b := range seeds(f) {
		for len(b) >= walreader.FrameHeaderSize {
			h := walreader.DecodeFrameHeader([8]byte(b))
			if h.RecordLen == 0 {
				break
			}
			f.Add(b[walreader.FrameHeaderSize : walreader.FrameHeaderSize+h.RecordLen])
			b = b[h.Size():]
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, err := walreader.DecodeRecord(b)
		if err != nil {
			return
		}
		again, err := walreader.DecodeRecord(walreader.AppendRecord(nil, rec))
		if err != nil || again.Type != rec.Type || again.CRC != rec.CRC || !bytes.Equal(again.Data, rec.Data) || (again.Data == nil) != (rec.Data == nil) {
			t.Fatalf("%+v does not survive a round trip: %+v, %v", rec, again, err)
		}
	})
}

func FuzzSegment(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b, true)
		f.Add(b[:len(b)/2], false)
	}
	f.Fuzz(func(t *testing.T, b []byte, last bool) {
		src := bytes.NewReader(b)
		r := walreader.NewReader(context.Background(), src, "a.wal", int64(len(b)), last, walreader.Start(), walreader.Options{MaxRecord: 1 << 12})
		var end int64
		for r.Next() {
			fr := r.Frame()
			// A frame whose length word is wrong is taken by its own fields, so
			// that its header is the corrected one.
			if fr.At.Offset < end || fr.At.Offset+fr.Header.Size() > int64(len(b)) {
				t.Fatalf("%v of %d bytes, the frame before ends at 0x%x, the segment at 0x%x", fr.At, fr.Header.Size(), end, len(b))
			}
			end = fr.At.Offset + fr.Header.Size()
			if fr.Fault != nil {
				// Its length may be wrong, and the next frame inside it.
				end = fr.At.Offset + walreader.FrameHeaderSize
			}
			if fr.Proof == walreader.Proven && fr.Fault == nil {
				body := b[fr.At.Offset+walreader.FrameHeaderSize:][:fr.Header.RecordLen]
				if again, err := walreader.DecodeRecord(walreader.AppendRecord(nil, fr.Record)); err != nil || again.CRC != fr.Record.CRC || !bytes.Equal(again.Data, fr.Record.Data) {
					t.Fatalf("%v: %x does not survive a round trip", fr.At, body)
				}
			}
		}
		if r.Err() != nil || r.Tail() == walreader.TailUnknown {
			t.Fatalf("%v, %v", r.Err(), r.Tail())
		}
		if (r.Stop() != nil) != (r.Tail() == walreader.TailTorn || r.Tail() == walreader.TailFault) {
			t.Fatalf("%v, %v", r.Stop(), r.Tail())
		}
		if r.Stop() != nil && r.Stop().Kind == walreader.FaultUnknown || r.End() < 0 || r.End() > int64(len(b)) {
			t.Fatalf("%v, end 0x%x", r.Stop(), r.End())
		}
		for _, fault := range r.Faults() {
			if fault.At.Offset < 0 || fault.At.Offset >= int64(len(b)) {
				t.Fatalf("%v is outside the segment", fault.At)
			}
		}
	})
}

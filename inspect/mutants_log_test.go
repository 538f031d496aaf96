package inspect_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/walreader"
)

// A logSpecimen is the healthy log of one member, to injure copies of.
type logSpecimen struct {
	name, root string
	wal, snap  []string // paths, in order
	files      map[string][]byte
	frames     map[string][]walFrame // of the segments
}

// A walFrame is one frame as it lies in a segment.
type walFrame struct {
	off, end, record int // record: bytes of the message
	entry            bool
}

func newLogSpecimen(tb testing.TB, name string) *logSpecimen {
	tb.Helper()
	s := &logSpecimen{name: name, root: fixtures.Dir(tb, name), files: map[string][]byte{}, frames: map[string][]walFrame{}}
	s.wal, _ = filepath.Glob(filepath.Join(s.root, "m1", "member", "wal", "*-*.wal"))
	s.snap, _ = filepath.Glob(filepath.Join(s.root, "m1", "member", "snap", "*.snap"))
	if len(s.wal) == 0 {
		tb.Fatalf("%s: no segments", name)
	}
	for _, path := range slices.Concat(s.wal, s.snap) {
		b, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		s.files[path] = b
	}
	for _, path := range s.wal {
		s.frames[path] = framesOf(s.files[path])
	}
	return s
}

func framesOf(b []byte) []walFrame {
	var frames []walFrame
	for off := 0; off+walreader.FrameHeaderSize <= len(b); {
		h := walreader.DecodeFrameHeader([8]byte(b[off:]))
		if h.RecordLen == 0 {
			break
		}
		f := walFrame{off: off, end: off + walreader.FrameHeaderSize + int(h.RecordLen+h.PadLen), record: int(h.RecordLen)}
		f.entry = b[off+walreader.FrameHeaderSize+1] == 2
		frames = append(frames, f)
		off = f.end
	}
	return frames
}

// A logMutation changes the files of a specimen, of which a nil one is removed, and
// gives the bytes where a finding must lie: a file, and [from, to] in it. Without a
// file any file will do.
type logMutation struct {
	name  string
	needs func(s *logSpecimen) bool // nil for no need
	do    func(s *logSpecimen, files map[string][]byte, rnd *rand.Rand) (file string, from, to int)
}

// inFrame makes a mutation of an entry's frame. The frame behind it may be blamed:
// a checksum covers what lies before it.
func inFrame(name string, change func(b []byte, f walFrame, rnd *rand.Rand)) logMutation {
	return logMutation{name, nil, func(s *logSpecimen, files map[string][]byte, rnd *rand.Rand) (string, int, int) {
		path, frames, i := s.entry(rnd)
		change(files[path], frames[i], rnd)
		return path, frames[i].off, frames[i+1].off
	}}
}

// entry picks an entry's frame that is not among the last of its segment.
func (s *logSpecimen) entry(rnd *rand.Rand) (path string, frames []walFrame, i int) {
	type place struct {
		path string
		i    int
	}
	var places []place
	for _, path := range s.wal {
		for i, f := range s.frames[path] {
			if f.entry && i+3 < len(s.frames[path]) {
				places = append(places, place{path, i})
			}
		}
	}
	at := places[rnd.IntN(len(places))]
	return at.path, s.frames[at.path], at.i
}

// spliced makes a mutation that puts other bytes in the place of [from, to) of an
// entry's frame.
func spliced(name string, with func(b []byte, f, next walFrame, rnd *rand.Rand) []byte) logMutation {
	return logMutation{name, nil, func(s *logSpecimen, files map[string][]byte, rnd *rand.Rand) (string, int, int) {
		path, frames, i := s.entry(rnd)
		b := files[path]
		files[path] = slices.Concat(b[:frames[i].off], with(b, frames[i], frames[i+1], rnd), b[frames[i+1].end:])
		return path, frames[i].off, frames[i+2].off
	}}
}

// onSegments makes a mutation of the set of segments.
func onSegments(name string, change func(s *logSpecimen, files map[string][]byte, rnd *rand.Rand)) logMutation {
	several := func(s *logSpecimen) bool { return len(s.wal) > 1 }
	return logMutation{name, several, func(s *logSpecimen, files map[string][]byte, rnd *rand.Rand) (string, int, int) {
		change(s, files, rnd)
		return "", 0, 0
	}}
}

func hasSnap(s *logSpecimen) bool { return len(s.snap) > 0 }

// onSnap makes a mutation of the newest .snap file.
func onSnap(name string, change func(b []byte, rnd *rand.Rand) []byte) logMutation {
	return logMutation{name, hasSnap, func(s *logSpecimen, files map[string][]byte, rnd *rand.Rand) (string, int, int) {
		path := s.snap[len(s.snap)-1]
		files[path] = change(files[path], rnd)
		return path, 0, len(s.files[path])
	}}
}

func fillRandom(b []byte, rnd *rand.Rand) {
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
}

var logMutations = []logMutation{
	inFrame("length: one bit", func(b []byte, f walFrame, rnd *rand.Rand) { b[f.off+rnd.IntN(7)] ^= 1 << rnd.IntN(8) }),
	inFrame("length: beyond the file", func(b []byte, f walFrame, rnd *rand.Rand) { b[f.off+4+rnd.IntN(3)] |= 0x40 }),
	inFrame("length: zero", func(b []byte, f walFrame, _ *rand.Rand) { clear(b[f.off : f.off+8]) }),
	inFrame("length: one more", func(b []byte, f walFrame, _ *rand.Rand) { b[f.off]++ }),
	inFrame("padding: other", func(b []byte, f walFrame, _ *rand.Rand) { b[f.off+7] ^= 1 }),
	inFrame("type: other", func(b []byte, f walFrame, rnd *rand.Rand) { b[f.off+9] ^= byte(1 + rnd.IntN(127)) }),
	inFrame("checksum: one bit", func(b []byte, f walFrame, rnd *rand.Rand) { b[f.off+11+rnd.IntN(3)] ^= 1 << rnd.IntN(7) }),
	inFrame("data: one bit", func(b []byte, f walFrame, rnd *rand.Rand) {
		b[f.off+20+rnd.IntN(f.record-12)] ^= 1 << rnd.IntN(8)
	}),
	inFrame("record: random", func(b []byte, f walFrame, rnd *rand.Rand) { fillRandom(b[f.off+8:f.off+8+f.record], rnd) }),
	inFrame("record: zero", func(b []byte, f walFrame, _ *rand.Rand) { clear(b[f.off+8 : f.end]) }),
	inFrame("frame: zero", func(b []byte, f walFrame, _ *rand.Rand) { clear(b[f.off:f.end]) }),
	inFrame("frame: random", func(b []byte, f walFrame, rnd *rand.Rand) { fillRandom(b[f.off:f.end], rnd) }),
	spliced("two entries swapped", func(b []byte, f, next walFrame, _ *rand.Rand) []byte {
		return slices.Concat(b[next.off:next.end], b[f.off:f.end])
	}),
	spliced("an entry twice", func(b []byte, f, next walFrame, _ *rand.Rand) []byte {
		return slices.Concat(b[f.off:f.end], b[f.off:f.end], b[next.off:next.end])
	}),
	spliced("an entry missing", func(b []byte, _, next walFrame, _ *rand.Rand) []byte { return b[next.off:next.end] }),
	spliced("zeros between entries", func(b []byte, f, next walFrame, rnd *rand.Rand) []byte {
		return slices.Concat(b[f.off:f.end], make([]byte, 8*(1+rnd.IntN(100))), b[next.off:next.end])
	}),
	spliced("random bytes between entries", func(b []byte, f, next walFrame, rnd *rand.Rand) []byte {
		junk := make([]byte, 8*(1+rnd.IntN(100)))
		fillRandom(junk, rnd)
		return slices.Concat(b[f.off:f.end], junk, b[next.off:next.end])
	}),
	{"sector zero", nil, func(s *logSpecimen, files map[string][]byte, rnd *rand.Rand) (string, int, int) {
		path := s.wal[rnd.IntN(len(s.wal))]
		frames := s.frames[path]
		used := frames[max(0, len(frames)-3)].off
		if used < 2048 {
			path = s.wal[0]
			frames = s.frames[path]
			used = frames[len(frames)-3].off
		}
		at := 512 * (1 + rnd.IntN(used/512-1))
		clear(files[path][at:min(at+512, used)])
		i := slices.IndexFunc(frames, func(f walFrame) bool { return f.end > at })
		return path, frames[i].off, at + 512
	}},
	onSegments("segment: removed", func(s *logSpecimen, files map[string][]byte, rnd *rand.Rand) {
		files[s.wal[1+rnd.IntN(len(s.wal)-1)]] = nil // the first may be one that is not needed
	}),
	onSegments("segment: empty", func(s *logSpecimen, files map[string][]byte, rnd *rand.Rand) {
		files[s.wal[rnd.IntN(len(s.wal))]] = []byte{}
	}),
	onSegments("segment: zeros", func(s *logSpecimen, files map[string][]byte, rnd *rand.Rand) {
		clear(files[s.wal[rnd.IntN(len(s.wal))]])
	}),
	onSegments("segments: swapped", func(s *logSpecimen, files map[string][]byte, _ *rand.Rand) {
		files[s.wal[0]], files[s.wal[1]] = files[s.wal[1]], files[s.wal[0]]
	}),
	onSegments("segment: another's in its place", func(s *logSpecimen, files map[string][]byte, _ *rand.Rand) {
		files[s.wal[1]] = bytes.Clone(files[s.wal[0]])
	}),
	onSegments("segment: first index of the name", func(s *logSpecimen, files map[string][]byte, rnd *rand.Rand) {
		path := s.wal[1+rnd.IntN(len(s.wal)-1)]
		name := []byte(path)
		name[len(name)-6] = "0123456789abcdef"[rnd.IntN(16)]
		if string(name) == path {
			name[len(name)-6] ^= 1
		}
		files[string(name)], files[path] = files[path], nil
	}),
	onSegments("segment: cut", func(s *logSpecimen, files map[string][]byte, rnd *rand.Rand) {
		path := s.wal[rnd.IntN(len(s.wal))]
		frames := s.frames[path]
		files[path] = files[path][:1+rnd.IntN(frames[len(frames)/2].off)]
	}),
	onSnap("snap: one bit", func(b []byte, rnd *rand.Rand) []byte { b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8); return b }),
	onSnap("snap: cut", func(b []byte, rnd *rand.Rand) []byte { return b[:rnd.IntN(len(b))] }),
	onSnap("snap: random", func(b []byte, rnd *rand.Rand) []byte { fillRandom(b, rnd); return b }),
	onSnap("snap: zeros", func(b []byte, _ *rand.Rand) []byte { clear(b); return b }),
	onSnap("snap: longer", func(b []byte, rnd *rand.Rand) []byte { return append(b, byte(1+rnd.IntN(255))) }),
	{"snap: missing", hasSnap, func(s *logSpecimen, files map[string][]byte, _ *rand.Rand) (string, int, int) {
		files[s.snap[len(s.snap)-1]] = nil
		return "", 0, 0
	}},
}

// TestMutantsOfLogsAreReportedWhereTheyLie injures copies of real logs, of each
// kind as many as mutantsOfEach says: each must be reported, at its file and frame,
// in bounded time and memory.
func TestMutantsOfLogsAreReportedWhereTheyLie(t *testing.T) {
	inspect.InFullOnly(t)
	for _, name := range []string{"healthy-3.6", "healthy-3.4", "cluster3-3.7-crash"} {
		s := newLogSpecimen(t, name)
		start := time.Now()
		if c := inspectOnly(t, s.root, fixtures.Fixture{Sources: []string{"m1"}}); c.Highest() > inspect.SeverityNote {
			t.Fatalf("%s: healthy, findings %s", name, messages(c))
		}
		healthy := max(time.Since(start), 50*time.Millisecond)
		for k, m := range logMutations {
			if m.needs != nil && !m.needs(s) {
				continue
			}
			for n := range mutantsOfEach(t) {
				rnd := rand.New(rand.NewPCG(uint64(k)+1000, uint64(n)))
				files := map[string][]byte{}
				for path, b := range s.files {
					files[path] = bytes.Clone(b)
				}
				file, from, to := m.do(s, files, rnd)
				replace(t, s.files, files)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				start := time.Now()
				c := inspectOnly(t, s.root, fixtures.Fixture{Sources: []string{"m1"}})
				took := time.Since(start)
				runtime.ReadMemStats(&after)
				if !reportedAt(c, file, from, to) {
					t.Errorf("%s, %s, number %d: at %s [%d, %d]; findings %s", name, m.name, n, filepath.Base(file), from, to, messages(c))
				}
				if took > 20*healthy {
					t.Errorf("%s, %s, number %d: took %v, the healthy log %v", name, m.name, n, took, healthy)
				}
				if grown := after.TotalAlloc - before.TotalAlloc; grown > 256<<20 {
					t.Errorf("%s, %s, number %d: %d bytes allocated", name, m.name, n, grown)
				}
				replace(t, files, s.files)
			}
		}
	}
}

// replace puts the files of to in the place of those of from.
func replace(t *testing.T, from, to map[string][]byte) {
	t.Helper()
	for path := range from {
		if to[path] == nil {
			if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
	}
	for path, b := range to {
		if b == nil {
			if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			continue
		}
		if bytes.Equal(from[path], b) && from[path] != nil {
			continue
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// reportedAt says whether a finding above note lies at [from, to] of file.
func reportedAt(c *inspect.Case, file string, from, to int) bool {
	return slices.ContainsFunc(c.Findings, func(f inspect.Finding) bool {
		switch {
		case f.Severity <= inspect.SeverityNote:
			return false
		case file == "":
			return true
		case f.Location.File != file:
			return false
		case strings.HasSuffix(file, ".snap"):
			return true
		}
		return f.Location.Offset != nil && *f.Location.Offset >= int64(from) && *f.Location.Offset <= int64(to)
	})
}

package walreader_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"

	"etcd-forensics/walreader"
)

// etcdWAL makes a WAL with etcd's own package: n entries with data of different
// sizes, cut into segments of about segment bytes.
func etcdWAL(t testing.TB, n int, segment int64, dataSize func(i int) int) string {
	t.Helper()
	old := wal.SegmentSizeBytes
	wal.SegmentSizeBytes = segment
	defer func() { wal.SegmentSizeBytes = old }()
	dir := filepath.Join(t.TempDir(), "wal")
	w, err := wal.Create(nil, dir, []byte("\x08\x01\x10\x02"))
	if err != nil {
		t.Fatal(err)
	}
	w.SetUnsafeNoFsync()
	rng := rand.New(rand.NewSource(int64(n)))
	for i := 1; i <= n; i++ {
		data := make([]byte, dataSize(i))
		rng.Read(data)
		entry := &raftpb.Entry{Index: ptr(uint64(i)), Term: ptr(uint64(1 + i/10)), Data: data}
		if i%7 == 0 {
			entry.Data = nil
		}
		state := &raftpb.HardState{Term: ptr(uint64(1 + i/10)), Vote: ptr(uint64(5)), Commit: ptr(uint64(i - 1))}
		if err := w.Save(state, []*raftpb.Entry{entry}); err != nil {
			t.Fatal(err)
		}
		if i%20 == 0 {
			snap := &walpb.Snapshot{Index: ptr(uint64(i)), Term: ptr(uint64(1 + i/10)), ConfState: &raftpb.ConfState{Voters: []uint64{5, 6}}}
			if err := w.SaveSnapshot(snap); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func ptr[T any](v T) *T { return &v }

func sizes(i int) int { return i * 37 % 700 }

// An oracle is what etcd reads of a WAL directory.
type oracle struct {
	records []*walpb.Record
	err     error // nil at a clean end
}

// readAsEtcd decodes with etcd's decoder and checks crc records as ReadAll does.
func readAsEtcd(t testing.TB, dir string) oracle {
	t.Helper()
	var readers []fileutil.FileReader
	for _, name := range segmentFiles(t, dir) {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		readers = append(readers, fileutil.NewFileReader(f))
	}
	var o oracle
	d := wal.NewDecoder(readers...)
	for {
		rec := &walpb.Record{}
		if err := d.Decode(rec); err != nil {
			if !errors.Is(err, io.EOF) {
				o.err = err
			}
			return o
		}
		if rec.GetType() < 1 || rec.GetType() > 5 {
			o.err = fmt.Errorf("unexpected block type %d", rec.GetType())
			return o
		}
		if rec.GetType() == wal.CrcType {
			if sum := d.LastCRC(); sum != 0 && rec.Validate(sum) != nil {
				o.err = wal.ErrCRCMismatch
				return o
			}
			d.UpdateCRC(rec.GetCrc())
		}
		o.records = append(o.records, rec)
	}
}

func segmentFiles(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".wal") {
			names = append(names, e.Name())
		}
	}
	return names
}

func openChain(t testing.TB, dir string) *walreader.Chain {
	t.Helper()
	c, err := walreader.OpenChain(os.DirFS(dir), ".")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// read visits every frame and gives copies.
func read(t testing.TB, c *walreader.Chain, opts walreader.Options) ([]walreader.Frame, []walreader.SegmentEnd) {
	t.Helper()
	r := c.Reader(context.Background(), opts)
	var frames []walreader.Frame
	for r.Next() {
		f := *r.Frame()
		f.Record.Data = bytes.Clone(f.Record.Data)
		frames = append(frames, f)
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return frames, r.Ends()
}

func TestEtcdsOwnSegmentsAreReadAsEtcdReadsThem(t *testing.T) {
	dir := etcdWAL(t, 300, 8<<10, sizes)
	want := readAsEtcd(t, dir)
	if want.err != nil {
		t.Fatal(want.err)
	}
	c := openChain(t, dir)
	if len(c.Segments) < 3 || len(c.Holes) != 0 {
		t.Fatalf("%d segments, holes %v", len(c.Segments), c.Holes)
	}
	frames, ends := read(t, c, walreader.Options{})
	if len(frames) != len(want.records) {
		t.Fatalf("%d frames, etcd has %d", len(frames), len(want.records))
	}
	next := map[string]int64{}
	for i, f := range frames {
		rec := want.records[i]
		if int64(f.Record.Type) != rec.GetType() || f.Record.CRC != rec.GetCrc() || !bytes.Equal(f.Record.Data, rec.Data) {
			t.Fatalf("%v: %v, etcd has %v", f.At, f.Record.Type, rec.GetType())
		}
		if f.Proof != walreader.Proven || !f.Linked && f.Record.Type != walreader.TypeCRC || !f.Unbroken || f.Fault != nil {
			t.Fatalf("%v: %+v", f.At, f)
		}
		if f.At.Offset != next[f.At.Segment] {
			t.Fatalf("%v does not follow 0x%x", f.At, next[f.At.Segment])
		}
		next[f.At.Segment] = f.At.Offset + f.Header.Size()
	}
	for i, e := range ends {
		wantTail := walreader.TailExact
		if i == len(ends)-1 {
			wantTail = walreader.TailZeroed
		}
		if e.Tail != wantTail || e.FaultCount != 0 || e.Stop != nil || e.End != next[e.Segment.File] {
			t.Errorf("%s: %+v", e.Segment.File, e)
		}
	}
}

// TestFramesAreWrittenAsEtcdWritesThem encodes every frame again and compares
// the bytes of the files.
func TestFramesAreWrittenAsEtcdWritesThem(t *testing.T) {
	dir := etcdWAL(t, 100, 8<<10, sizes)
	frames, ends := read(t, openChain(t, dir), walreader.Options{})
	files := map[string][]byte{}
	for _, f := range frames {
		files[f.At.Segment] = walreader.AppendFrame(files[f.At.Segment], f.Record)
	}
	for _, e := range ends {
		b, err := os.ReadFile(filepath.Join(dir, e.Segment.File))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b[:e.End], files[e.Segment.File]) {
			t.Errorf("%s differs", e.Segment.File)
		}
	}
}

// TestAChecksumCoversItsOwnData settles what etcd's wal/doc.go and decoder.go
// disagree about.
func TestAChecksumCoversItsOwnData(t *testing.T) {
	dir := etcdWAL(t, 20, 64<<10, sizes)
	var sum uint32
	checked := 0
	for _, rec := range readAsEtcd(t, dir).records {
		if rec.GetType() == wal.CrcType {
			sum = rec.GetCrc()
			continue
		}
		before := sum
		sum = walreader.Checksum(sum, rec.Data)
		if rec.GetCrc() != sum {
			t.Fatalf("record states %08x, with its data the sum is %08x", rec.GetCrc(), sum)
		}
		if len(rec.Data) > 0 && before != sum {
			checked++
		}
	}
	if checked < 20 {
		t.Fatalf("only %d records tell the two readings apart", checked)
	}
}

// class reduces what stops etcd and us to what both can say.
func class(o oracle) string {
	switch {
	case o.err == nil:
		return "end"
	case errors.Is(o.err, io.ErrUnexpectedEOF):
		return "short"
	case errors.Is(o.err, wal.ErrCRCMismatch):
		return "checksum"
	}
	return "other"
}

var classOf = map[walreader.FaultKind]string{
	walreader.FaultShortHeader: "short",
	walreader.FaultTruncated:   "short",
	walreader.FaultTorn:        "short",
	walreader.FaultChecksum:    "checksum",
	walreader.FaultSeed:        "checksum",
	walreader.FaultRecord:      "other or checksum", // before 3.7 a wrong wire type is an error, since then it is passed over
	walreader.FaultType:        "other",
	// A length can be too long for the file, or lead to a record that does not
	// decode, or to one with another checksum; a padding to any of these.
	walreader.FaultLength:  "",
	walreader.FaultPadding: "",
	walreader.FaultZeroGap: "",
}

func compareWithEtcd(t *testing.T, what, dir string) walreader.FaultKind {
	t.Helper()
	want := readAsEtcd(t, dir)
	frames, ends := read(t, openChain(t, dir), walreader.Options{})
	n := 0
	for _, f := range frames {
		if !f.Accepted() {
			break
		}
		if n < len(want.records) {
			rec := want.records[n]
			if int64(f.Record.Type) != rec.GetType() || !bytes.Equal(f.Record.Data, rec.Data) {
				t.Fatalf("%s: %v is not what etcd reads", what, f.At)
			}
		}
		n++
	}
	kind, got := walreader.FaultUnknown, "end"
	for _, e := range ends {
		if e.Stop != nil {
			kind = e.Stop.Kind
			got = classOf[kind]
			break
		}
	}
	if kind == walreader.FaultZeroGap {
		// etcd goes on with the next segment, whose crc record gives it away.
		if n > len(want.records) {
			t.Fatalf("%s: %v: %d frames unbroken, etcd reads %d", what, kind, n, len(want.records))
		}
		return kind
	}
	if n != len(want.records) {
		t.Fatalf("%s: %v: %d frames unbroken, etcd reads %d and then: %v", what, kind, n, len(want.records), want.err)
	}
	if got != "" && !strings.Contains(got, class(want)) {
		t.Fatalf("%s: %v, etcd says %v", what, kind, want.err)
	}
	return kind
}

func TestDamageIsMetWhereEtcdMeetsIt(t *testing.T) {
	dir := etcdWAL(t, 60, 8<<10, sizes)
	names := segmentFiles(t, dir)
	rng := rand.New(rand.NewSource(1))
	seen := map[walreader.FaultKind]int{}
	rounds := 2000
	if testing.Short() {
		rounds = 200
	}
	for round := range rounds {
		name := names[rng.Intn(len(names))]
		path := filepath.Join(dir, name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b := bytes.Clone(whole)
		used := len(bytes.TrimRight(b, "\x00"))
		at := rng.Intn(used)
		var what string
		switch rng.Intn(6) {
		case 0:
			bit := rng.Intn(8)
			b[at] ^= 1 << bit
			what = fmt.Sprintf("round %d: %s: bit %d of 0x%x flipped", round, name, bit, at)
		case 1:
			b = b[:at]
			what = fmt.Sprintf("round %d: %s cut to 0x%x", round, name, at)
		case 2:
			n := min(1+rng.Intn(1024), used-at)
			clear(b[at : at+n])
			what = fmt.Sprintf("round %d: %s: %d bytes from 0x%x zeroed", round, name, n, at)
		case 3:
			at &^= 511
			clear(b[at:min(at+512, len(b))])
			what = fmt.Sprintf("round %d: %s: sector 0x%x zeroed", round, name, at)
		case 4:
			n := min(1+rng.Intn(16), used-at)
			rng.Read(b[at : at+n])
			what = fmt.Sprintf("round %d: %s: %d bytes from 0x%x random", round, name, n, at)
		case 5:
			at &^= 7
			clear(b[at:])
			what = fmt.Sprintf("round %d: %s: zeroed from 0x%x on", round, name, at)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		seen[compareWithEtcd(t, what, dir)]++
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range walreader.FaultKinds() {
		if !testing.Short() && k.Stops() && k != walreader.FaultType && k != walreader.FaultTangled && seen[k] == 0 {
			t.Errorf("no round met %v", k)
		}
	}
	t.Log(seen)
}

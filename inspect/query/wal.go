package query

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb/kube"
	"etcd-forensics/walreader"
	"etcd-forensics/walreader/raftlog"
)

// A WAL is a write-ahead log whose records can be asked for.
type WAL struct{ *inspect.LogReading }

// OpenWAL reads a log, and of the database beside it what tells which entries are
// committed and which revisions they produced.
func OpenWAL(ctx context.Context, s *source.Source) (*WAL, error) {
	r, err := inspect.OpenLog(ctx, s, inspect.Limits{})
	if err != nil {
		return nil, err
	}
	return &WAL{r}, nil
}

// Types of rows that are no record.
const (
	RowFault = "fault" // a broken rule
	RowGap   = "gap"   // entries that are not there
)

// The states of an entry.
const (
	StateApplied     = "applied"     // proven committed, and in the database
	StateCommitted   = "committed"   // proven committed; not in the database, or there is none
	StateUncommitted = "uncommitted" // nothing proves it committed
	StateOverwritten = "overwritten" // a later entry of the log takes its place
	StatePlausible   = "plausible"   // found behind damage: no unbroken chain of checksums leads to it
	StateForeign     = "foreign"     // in a segment of another member or cluster
)

// RowTypes lists what a filter can ask for: the types of rows, then the kinds of
// entries.
func RowTypes() []string {
	types := []string{RowFault, RowGap}
	for t := walreader.TypeMetadata; t.Known(); t++ {
		types = append(types, t.String())
	}
	types = append(types, raftlog.EntryConfChange.String(), raftlog.EntryConfChangeV2.String())
	for _, k := range raftlog.Kinds() {
		types = append(types, inspect.KindName(k))
	}
	return types
}

// A WALRow is one record of a log, or what is wrong at a place of it. It is valid until
// the next one is given.
type WALRow struct {
	File   string
	Offset int64 // first byte of the frame
	Frame  int   // 0 for the first of the file

	Type      string
	Entry     bool // the record is an entry that could be read
	HasIndex  bool
	HasTerm   bool
	Plausible bool   // no unbroken chain of checksums leads to the record
	Index     uint64 // of an entry or snapshot record
	Term      uint64
	Expected  uint64 // of a fault or gap: the index that belongs there
	Size      int64  // bytes of the record's data; of an entry, of its request
	Kind      string // of an entry
	State     string // of an entry
	Revision  int64  // that an entry produced; 0 when none, or when that is not proven
	User      string // who asked, when authentication is on
	// Time is when the record was written, as times that values near it name let it be
	// estimated; nil when nothing does.
	Time     *kube.Estimate
	Keys     [][]byte
	MoreKeys int // keys that are not among Keys
	Detail   []byte

	// Of an entry with a request: its operations, and the bytes that their values lie in.
	Ops  []raftlog.Op
	Data []byte
}

// Proven says whether an entry is proven to be committed.
func (r *WALRow) Proven() bool { return r.State == StateApplied || r.State == StateCommitted }

// A WALFilter says which rows are wanted. The zero value wants all.
type WALFilter struct {
	From, To uint64 // raft indexes, both included; 0 for no bound
	Term     *uint64
	Types    []string // names of RowTypes; none for all
	Prefix   []byte   // of keys; nil for all rows
}

// byIndex says whether only rows are wanted that have an index.
func (f *WALFilter) byIndex() bool { return f.From > 0 || f.To > 0 }

func (f *WALFilter) holds(index uint64) bool {
	return index >= f.From && (f.To == 0 || index <= f.To)
}

// wants decides on everything but keys.
func (f *WALFilter) wants(r *WALRow) bool {
	switch {
	case f.byIndex() && r.HasIndex && !f.holds(r.Index):
		return false
	case f.byIndex() && !r.HasIndex && (r.Expected == 0 || !f.holds(r.Expected)):
		return false
	case f.Term != nil && (!r.HasTerm || r.Term != *f.Term):
		return false
	}
	return len(f.Types) == 0 || slices.Contains(f.Types, r.Type) || r.Kind != "" && slices.Contains(f.Types, r.Kind)
}

// WALTotals count what a log holds, whatever the filter let through.
type WALTotals struct {
	Shown       int64 // rows
	Records     int64 // frames whose checksum does not contradict them
	Entries     int64
	Plausible   int64 // entries
	Overwritten int64 // entries
	Faults      int64
	Unlisted    int64 // of them, those that have no row
	Gaps        int64 // for which no received snapshot accounts
	Received    int64 // gaps for which one does
}

// maxFaultRows is the number of faults of one segment that have a row.
const maxFaultRows = 1000

// Rows reads the log again and gives its rows in the order of the files. Memory does
// not grow with the log.
func (w *WAL) Rows(ctx context.Context, f WALFilter, visit func(*WALRow) error) (WALTotals, error) {
	s := &rowStream{wal: w, filter: f, visit: visit}
	r := w.Chain.Reader(ctx, walreader.Options{MaxFaults: maxFaultRows, OnFault: func(f walreader.Fault) { s.faults = append(s.faults, f) }})
	defer r.Close()
	var err error
	for err == nil && r.Next() {
		if err = s.giveFaults(); err == nil {
			err = s.frame(r.Segment(), r.Frame())
		}
	}
	if err == nil {
		err = s.giveFaults()
	}
	if err == nil {
		err = r.Err()
	}
	for _, end := range r.Ends() {
		s.totals.Faults += int64(end.FaultCount)
		s.totals.Unlisted += int64(end.FaultCount - len(end.Faults))
	}
	return s.totals, err
}

// A rowStream makes rows of frames.
type rowStream struct {
	wal    *WAL
	filter WALFilter
	visit  func(*WALRow) error
	totals WALTotals

	row     WALRow
	request raftlog.Request
	detail  []byte
	time    kube.Estimate
	seen    map[string]bool // keys of one row, once there are many

	faults   []walreader.Fault // not given yet
	file     string
	segment  int
	foreign  bool   // the segment's metadata is not that of the first one
	expected uint64 // the index that comes next, 0 when that is not known
	snapshot uint64 // the highest since the last entry
	hole     bool   // since the last entry
	damage   bool   // since the last entry
}

// enter goes on to a segment, and to those between, which hold nothing.
func (s *rowStream) enter(file string) {
	if s.file == file {
		return
	}
	first := s.file == ""
	s.file = file
	segments := s.wal.Chain.Segments
	for i := range segments {
		if segments[i].File == file {
			s.segment = i
		}
	}
	name := segments[s.segment].Name
	hole := s.segment > 0 && name.Seq-segments[s.segment-1].Name.Seq != 1
	s.hole = s.hole || hole
	s.foreign = slices.ContainsFunc(s.wal.Log.Conflicts, func(c raftlog.MetadataConflict) bool { return c.At.Segment == file })
	if first {
		s.expected = max(name.Index, 1)
	}
}

func (s *rowStream) giveFaults() error {
	for _, f := range s.faults {
		s.enter(f.At.Segment)
		s.damage = s.damage || f.Kind.Stops()
		r := s.begin(f.At, RowFault)
		r.Expected = s.expected
		s.detail = append(s.detail, f.Kind.String()...)
		if f.Err != nil {
			s.detail = append(append(s.detail, ": "...), f.Err.Error()...)
		}
		if stop := s.wal.Log.Stop; stop != nil && stop.Fault.At == f.At && stop.Fault.Kind == f.Kind {
			s.detail = append(s.detail, "; etcd reads nothing from here on"...)
		}
		if err := s.give(); err != nil {
			return err
		}
	}
	s.faults = s.faults[:0]
	return nil
}

// begin makes an empty row.
func (s *rowStream) begin(at walreader.Position, typ string) *WALRow {
	s.row = WALRow{File: at.Segment, Offset: at.Offset, Frame: at.Frame, Type: typ, Keys: s.row.Keys[:0]}
	s.detail = s.detail[:0]
	return &s.row
}

// give hands the row on unless it is not wanted.
func (s *rowStream) give() error {
	if s.filter.Prefix != nil || !s.filter.wants(&s.row) {
		return nil
	}
	return s.show()
}

func (s *rowStream) show() error {
	s.row.Detail = s.detail
	s.totals.Shown++
	return s.visit(&s.row)
}

func (s *rowStream) frame(segment int, f *walreader.Frame) error {
	s.enter(f.At.Segment)
	if f.Proof == walreader.Contradicted {
		// What it says may be anything, even what must not be shown. Its fault has a row.
		if f.Record.Type == walreader.TypeEntry && s.expected > 0 {
			s.expected++
		}
		return nil
	}
	s.totals.Records++
	if f.Record.Type == walreader.TypeEntry && (f.Fault == nil || f.Fault.Kind != walreader.FaultOversize) {
		e, err := raftlog.DecodeEntry(f.Record.Data)
		if err == nil {
			return s.entry(segment, f, e)
		}
	}
	return s.record(f)
}

// record makes the row of a record that is no entry, or cannot be read.
func (s *rowStream) record(f *walreader.Frame) error {
	r := s.begin(f.At, f.Record.Type.String())
	r.Size, r.Plausible = f.DataLen, f.Proof != walreader.Proven
	var err error
	switch f.Record.Type {
	case walreader.TypeMetadata:
		var m raftlog.Metadata
		if m, err = raftlog.DecodeMetadata(f.Record.Data); err == nil {
			s.detail = appendMetadata(s.detail, m)
		}
	case walreader.TypeState:
		var h raftlog.HardState
		if h, err = raftlog.DecodeHardState(f.Record.Data); err == nil {
			r.Term, r.HasTerm = h.Term, true
			s.detail = appendHardState(s.detail, h)
			s.behind()
		}
	case walreader.TypeSnapshot:
		var n raftlog.SnapshotRecord
		if n, err = raftlog.DecodeSnapshotRecord(f.Record.Data); err == nil {
			r.Index, r.HasIndex, r.Term, r.HasTerm = n.Index, true, n.Term, true
			s.snapshot = max(s.snapshot, n.Index)
			s.detail = appendSnapshot(s.detail, n, s.expected)
			s.behind()
		}
	case walreader.TypeCRC:
		s.detail = fmt.Appendf(s.detail, "checksum so far %08x", f.Record.CRC)
	default:
		s.detail = append(s.detail, "not examined"...)
	}
	if err != nil {
		s.detail = fmt.Appendf(s.detail[:0], "cannot be read: %v", err)
	}
	return s.give()
}

// entry makes the row of an entry, after that of a gap before it.
func (s *rowStream) entry(segment int, f *walreader.Frame, e raftlog.Entry) error {
	if s.expected > 0 && e.Index > s.expected {
		if err := s.gap(f.At, e.Index); err != nil {
			return err
		}
	}
	s.expected, s.snapshot, s.hole, s.damage = e.Index+1, 0, false, false
	s.totals.Entries++
	r := s.begin(f.At, f.Record.Type.String())
	r.Entry, r.HasIndex, r.HasTerm = true, true, true
	r.Index, r.Term, r.Size, r.Plausible = e.Index, e.Term, int64(len(e.Data)), f.Proof != walreader.Proven
	s.state(segment, e)
	if s.filter.byIndex() && !s.filter.holds(e.Index) {
		return nil
	}
	var problem error
	if e.Type == raftlog.EntryNormal {
		var k raftlog.Kind
		if k, problem = raftlog.KindOf(e.Data); problem == nil {
			r.Kind = inspect.KindName(k)
		}
	} else {
		r.Kind = e.Type.String()
	}
	if !s.filter.wants(r) {
		return nil
	}
	if problem == nil {
		problem = s.describe(e)
	}
	if problem != nil {
		s.detail = fmt.Appendf(s.detail[:0], "cannot be read: %v", problem)
	}
	if s.filter.Prefix != nil && (e.Type != raftlog.EntryNormal || !touches(s.request.Ops, s.filter.Prefix)) {
		return nil
	}
	r.Revision = s.wal.Revision(segment, f.At.Offset, e.Index)
	if s.wal.Clock.Any() && r.State != StateOverwritten && r.State != StateForeign {
		s.when(s.wal.Clock.At(e.Index))
	}
	return s.show()
}

// when takes an estimate of the row's time.
func (s *rowStream) when(e kube.Estimate, ok bool) {
	if ok {
		s.time = e
		s.row.Time = &s.time
	}
}

// behind estimates when a record behind the entry before it was written.
func (s *rowStream) behind() {
	if s.expected > 0 && !s.foreign {
		s.when(s.wal.Clock.Behind(s.expected - 1))
	}
}

// state says what is known of an entry.
func (s *rowStream) state(segment int, e raftlog.Entry) {
	r := &s.row
	w := s.wal
	switch {
	case s.foreign:
		r.State = StateForeign
	case w.Overwritten(segment, r.Offset, e.Index):
		r.State = StateOverwritten
		s.totals.Overwritten++
	case r.Plausible:
		r.State = StatePlausible
	case w.WAL.ProvenCommit == nil || e.Index > *w.WAL.ProvenCommit:
		r.State = StateUncommitted
	case e.Index <= w.Applied:
		r.State = StateApplied
	default:
		r.State = StateCommitted
	}
	if r.Plausible {
		s.totals.Plausible++
	}
}

// gap makes the row of entries that are not there, before the one with index next.
func (s *rowStream) gap(at walreader.Position, next uint64) error {
	r := s.begin(at, RowGap)
	r.Expected = s.expected
	s.detail = fmt.Appendf(s.detail, "entries %d to %d (%d) are not here", s.expected, next-1, next-s.expected)
	if s.snapshot >= next-1 {
		s.totals.Received++
	} else {
		s.totals.Gaps++
	}
	switch {
	case s.snapshot >= next-1:
		s.detail = fmt.Appendf(s.detail, ": the member received the snapshot at index %d instead of them, which is normal", s.snapshot)
	case s.hole:
		s.detail = append(s.detail, ": a segment is missing"...)
	case s.damage:
		s.detail = append(s.detail, ": they stood where the log is damaged"...)
	default:
		s.detail = append(s.detail, ", and nothing accounts for that"...)
	}
	return s.give()
}

// describe fills in what an entry says.
func (s *rowStream) describe(e raftlog.Entry) error {
	s.request.Ops = s.request.Ops[:0] // those of the entry before
	if e.Type != raftlog.EntryNormal {
		c, err := raftlog.DecodeConfChange(e.Type, e.Data)
		if err != nil {
			return err
		}
		s.detail = append(s.detail, inspect.DescribeConfChange(c)...)
		return nil
	}
	if err := s.request.Decode(e.Data); err != nil {
		return err
	}
	if len(e.Data) == 0 {
		s.detail = append(strconv.AppendUint(append(s.detail, "a leader began term "...), e.Term, 10), ", without a request"...)
		return nil
	}
	s.row.User, s.row.Ops, s.row.Data = s.request.User, s.request.Ops, e.Data
	s.takeKeys()
	s.detail = appendRequest(s.detail, &s.request)
	return nil
}

// maxRowKeys is the number of keys that a row names; the others are counted.
const maxRowKeys = 16

// takeKeys lists each key that the request names once, those it writes first.
func (s *rowStream) takeKeys() {
	r := &s.row
	ops := s.request.Ops
	if len(ops) > maxRowKeys && s.seen == nil {
		s.seen = map[string]bool{}
	}
	clear(s.seen)
	for _, writes := range []bool{true, false} {
		for i := range ops {
			op := &ops[i]
			if op.Kind == raftlog.OpTxn || (op.Kind == raftlog.OpPut || op.Kind == raftlog.OpDeleteRange) != writes {
				continue
			}
			switch {
			case len(r.Keys) < maxRowKeys:
				if !slices.ContainsFunc(r.Keys, func(k []byte) bool { return bytes.Equal(k, op.Key) }) {
					r.Keys = append(r.Keys, op.Key)
				}
			case !slices.ContainsFunc(r.Keys, func(k []byte) bool { return bytes.Equal(k, op.Key) }) && !s.seen[string(op.Key)]:
				s.seen[string(op.Key)] = true
				r.MoreKeys++
			}
		}
	}
}

// touches says whether one of the operations is about a key with a prefix.
func touches(ops []raftlog.Op, prefix []byte) bool {
	return slices.ContainsFunc(ops, func(op raftlog.Op) bool {
		if op.Kind == raftlog.OpTxn {
			return false
		}
		if bytes.HasPrefix(op.Key, prefix) {
			return true
		}
		if len(op.RangeEnd) == 0 || bytes.Compare(op.Key, prefix) > 0 {
			return false
		}
		// The range begins before the prefix: does it end behind it?
		return len(op.RangeEnd) == 1 && op.RangeEnd[0] == 0 || bytes.Compare(op.RangeEnd, prefix) > 0
	})
}

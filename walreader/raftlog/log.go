package raftlog

import (
	"context"
	"errors"
	"fmt"

	"etcd-forensics/walreader"
)

// DefaultMaxList is the number of items kept in each list of a Log unless told
// otherwise. The others are counted.
const DefaultMaxList = 10000

// Options say how a log is summed up. The zero value is ready for use.
type Options struct {
	Reader  walreader.Options
	MaxList int // items kept in each list; 0 means DefaultMaxList
	// Frame is called for each frame before it is looked at, contradicted ones
	// included.
	Frame func(*walreader.Frame) error
	// Visit is called for each entry that decodes, in the order of the files,
	// contradicted ones left out. Entries may be overwritten by later
	// ones. proven says that an unbroken chain of checksums leads to the entry.
	// Its data is valid during the call only.
	Visit func(e Entry, at walreader.Position, proven bool) error
}

// A Stretch is the part of a log between two raft indexes.
type Stretch struct {
	First, Last uint64 // 0 when Count is 0
	LastTerm    uint64
	Count       int64 // entries in the files, overwritten ones included
}

// A Log is what a write-ahead log says, summed up.
//
// What etcd would read and what is there are two things once a fault stops
// etcd. Entries, HardState and the like speak of the former; fields named Found of
// all frames whose checksum does not contradict them.
type Log struct {
	Metadata  *Metadata // of the first metadata record; nil when there is none
	Conflicts []MetadataConflict

	Entries Stretch // what etcd reads
	Found   Stretch
	Terms   Terms // of all entries found

	HardState *HardState // the last one that etcd reads; nil when there is none
	Highest   Commit     // the highest commit index found

	Snapshots   []Snapshot
	ConfChanges []ConfChangeEntry
	Attributes  []AttributesEntry // in the order of the files
	Versions    []VersionEntry
	TermChanges []TermChange // of hard state, in the order of the files
	Overwrites  []Overwrite
	Overwritten uint64 // entries in all Overwrites
	Gaps        []Gap
	Backsteps   []Backstep
	Undecodable []Undecodable

	// Dropped counts the items over the limit by the name of their list.
	Dropped map[string]int

	Requests []KindCount // entries of type normal by kind, kinds that occur only
	Segments []Segment
	Holes    []walreader.Hole

	// Stop is the first fault at which etcd stops, nil when it reads to the end.
	Stop *Stop
}

// A Commit is a commit index and where it is stated.
type Commit struct {
	Index uint64 // 0 when no hard state was found
	At    walreader.Position
	Proof walreader.Proof
}

// A MetadataConflict is a metadata record that differs from the first one.
type MetadataConflict struct {
	At       walreader.Position
	Metadata Metadata
}

// A Snapshot is a snapshot record and where it stands.
type Snapshot struct {
	SnapshotRecord
	At       walreader.Position
	Proof    walreader.Proof
	Accepted bool
	// After is the last entry before the record. When the files hold none, it is
	// the one that the name of the first segment goes on from.
	After uint64
}

// Received says that the record is ahead of the log that was written before it:
// the member was sent the snapshot instead of the entries.
func (s Snapshot) Received() bool { return s.Index > s.After }

// A ConfChangeEntry is an entry that changes the membership.
type ConfChangeEntry struct {
	Index, Term uint64
	ConfChange
	At         walreader.Position
	Proof      walreader.Proof
	Unbroken   bool
	Overwrites bool // an entry with a lower or the same index cut the log here
}

// An AttributesEntry is an entry by which a member publishes its name and
// client URLs: cluster_member_attr_set, or a v2 request in 3.4 and 3.5.
type AttributesEntry struct {
	Index, Term uint64
	Member
	At       walreader.Position
	Proof    walreader.Proof
	Accepted bool
}

// A VersionEntry is an entry that sets the cluster version, or a downgrade.
type VersionEntry struct {
	Index, Term uint64
	Kind        Kind
	Version
	At       walreader.Position
	Proof    walreader.Proof
	Accepted bool
}

// A TermChange is a hard state with another term or vote than the one before.
type TermChange struct {
	HardState
	At    walreader.Position
	Proof walreader.Proof
	After uint64 // the last entry before the record, as in Snapshot
}

// An Overwrite is an entry that takes the place of earlier ones.
type Overwrite struct {
	At      walreader.Position
	From    uint64 // first index that is replaced
	To      uint64 // last one
	OldTerm uint64 // of the entry at From
	NewTerm uint64
}

// A Gap is a jump in the indexes.
type Gap struct {
	At       walreader.Position // the entry after the gap
	After    uint64             // last index before
	Next     uint64             // first index after
	Snapshot uint64             // index of the snapshot record between the two, 0 for none
	// Fault and Hole say that frames or segments are missing in between.
	Fault, Hole bool
}

// Explained says that a snapshot received stands for the missing entries.
func (g Gap) Explained() bool { return g.Snapshot >= g.Next-1 }

// A Backstep is an entry whose term is lower than the one before, which raft
// rules out.
type Backstep struct {
	At         walreader.Position
	Index      uint64
	Term       uint64
	TermBefore uint64
}

// An Undecodable is a record whose checksum is right and whose data is not
// the message it should be.
type Undecodable struct {
	At   walreader.Position
	Type walreader.RecordType
	Err  error
	// Snapshot is what protobuf-go makes of a snapshot record with fields of another
	// kind than they should be; nil for other records.
	Snapshot *SnapshotRecord
}

// A KindCount is the number of requests of one kind.
type KindCount struct {
	Kind    Kind
	Entries int64
	Bytes   int64 // of entry data
}

// A Segment is one segment of a log.
type Segment struct {
	walreader.SegmentEnd
	FirstIndex uint64 // of its first entry, 0 when it has none
	LastIndex  uint64 // of its last entry
	Entries    int64
	// Expected is the index that the file name should state, one more than what
	// was saved before. 0 when nothing was.
	Expected uint64
}

// NameFollows says whether the index in the file name goes on from what was
// saved before. When it does not, entries from Expected on are missing before it.
func (s Segment) NameFollows() bool {
	return s.Expected == 0 || s.Expected == s.Segment.Name.Index
}

// A Stop is the fault at which etcd stops reading.
type Stop struct {
	Fault walreader.Fault
	Next  uint64 // the raft index that the log would have gone on with
}

// TermAt gives the term of the entry at an index of the log.
func (l *Log) TermAt(index uint64) (term uint64, ok bool) { return l.Terms.At(index) }

// A summary is a Log in the making.
type summary struct {
	*Log
	opts  Options
	kinds map[Kind]*KindCount

	segment   int
	saved     uint64 // what etcd's next segment would be named after, less one
	before    uint64 // the last entry before this place, see Snapshot.After
	snapshot  uint64 // of the last snapshot record since the last entry
	lastState HardState
	hadState  bool
	fault     bool // since the last entry
	hole      bool
	breaks    int    // see Run.Breaks
	broken    string // the last segment with such a fault
}

// Summarize reads a chain from its begin to its end. With an error it returns what it has
// seen so far: the context ended, a segment could not be read, or a callback
// failed.
func Summarize(ctx context.Context, c *walreader.Chain, opts Options) (*Log, error) {
	if opts.MaxList <= 0 {
		opts.MaxList = DefaultMaxList
	}
	s := &summary{Log: &Log{Holes: c.Holes, Dropped: map[string]int{}}, opts: opts, kinds: map[Kind]*KindCount{}, segment: -1}
	reader := opts.Reader
	reader.OnFault = func(f walreader.Fault) {
		if f.Kind.Stops() {
			s.fault = true
			if s.broken != f.At.Segment {
				s.breaks++
				s.broken = f.At.Segment
			}
		}
		if opts.Reader.OnFault != nil {
			opts.Reader.OnFault(f)
		}
	}
	r := c.Reader(ctx, reader)
	defer r.Close()
	var err error
	for err == nil && r.Next() {
		for s.segment < r.Segment() {
			s.begin(c)
		}
		err = s.frame(r.Frame())
	}
	err = errors.Join(err, r.Err())
	for s.segment < len(r.Ends())-1 {
		s.begin(c)
	}
	s.finish(r.Ends())
	return s.Log, err
}

// begin goes on to the next segment.
func (s *summary) begin(c *walreader.Chain) {
	s.segment++
	seg := Segment{}
	if s.segment == 0 {
		if n := c.Segments[0].Name.Index; n > 0 {
			s.before = n - 1
		}
	}
	if i := s.segment; i > 0 {
		if c.Segments[i].Name.Seq-c.Segments[i-1].Name.Seq != 1 {
			s.hole = true
			s.breaks++
		}
		if s.saved > 0 {
			seg.Expected = s.saved + 1
		}
	}
	s.Segments = append(s.Segments, seg)
}

func (s *summary) finish(ends []walreader.SegmentEnd) {
	for i := range s.Segments {
		if i < len(ends) {
			s.Segments[i].SegmentEnd = ends[i]
		}
		if stop := s.Segments[i].Stop; stop != nil && s.Log.Stop == nil {
			s.Log.Stop = &Stop{Fault: *stop, Next: s.Entries.Last + 1}
		}
	}
	for _, k := range Kinds() {
		if n := s.kinds[k]; n != nil {
			s.Requests = append(s.Requests, *n)
		}
	}
}

// full counts an item that has no place in its list.
func (s *summary) full(list string, n int) bool {
	if n < s.opts.MaxList {
		return false
	}
	s.Dropped[list]++
	return true
}

func (s *summary) frame(f *walreader.Frame) error {
	if s.opts.Frame != nil {
		if err := s.opts.Frame(f); err != nil {
			return err
		}
	}
	if f.Proof == walreader.Contradicted || f.Fault != nil && f.Fault.Kind == walreader.FaultOversize {
		return nil
	}
	var err error
	switch f.Record.Type {
	case walreader.TypeEntry:
		var e Entry
		if e, err = DecodeEntry(f.Record.Data); err == nil {
			return s.entry(f, e)
		}
	case walreader.TypeState:
		err = s.state(f)
	case walreader.TypeSnapshot:
		err = s.snapshotRecord(f)
	case walreader.TypeMetadata:
		err = s.metadata(f)
	}
	if err != nil {
		s.undecodable(f, err)
	}
	return nil
}

func (s *summary) undecodable(f *walreader.Frame, err error) {
	if !s.full("undecodable", len(s.Undecodable)) {
		u := Undecodable{At: f.At, Type: f.Record.Type, Err: err}
		if u.Type == walreader.TypeSnapshot && errors.Is(err, ErrWireType) {
			u.Snapshot = usualFields(f.Record.Data)
		}
		s.Undecodable = append(s.Undecodable, u)
	}
}

func (s *summary) metadata(f *walreader.Frame) error {
	m, err := DecodeMetadata(f.Record.Data)
	switch {
	case err != nil:
		return err
	case s.Metadata == nil:
		s.Metadata = &m
	case *s.Metadata != m && !s.full("conflicts", len(s.Conflicts)):
		s.Conflicts = append(s.Conflicts, MetadataConflict{f.At, m})
	}
	return nil
}

func (s *summary) state(f *walreader.Frame) error {
	h, err := DecodeHardState(f.Record.Data)
	if err != nil {
		return err
	}
	if f.Accepted() {
		if s.HardState == nil {
			s.HardState = new(HardState)
		}
		*s.HardState = h
	}
	if h.Commit > s.Highest.Index || h.Commit == s.Highest.Index && f.Proof > s.Highest.Proof {
		s.Highest = Commit{h.Commit, f.At, f.Proof}
	}
	if !s.hadState || h.Term != s.lastState.Term || h.Vote != s.lastState.Vote {
		if !s.full("termChanges", len(s.TermChanges)) {
			s.TermChanges = append(s.TermChanges, TermChange{h, f.At, f.Proof, s.before})
		}
	}
	s.lastState, s.hadState = h, true
	return nil
}

func (s *summary) snapshotRecord(f *walreader.Frame) error {
	r, err := DecodeSnapshotRecord(f.Record.Data)
	if err != nil {
		return err
	}
	s.snapshot = max(s.snapshot, r.Index)
	s.saved = max(s.saved, r.Index)
	if !s.full("snapshots", len(s.Snapshots)) {
		s.Snapshots = append(s.Snapshots, Snapshot{r, f.At, f.Proof, f.Accepted(), s.before})
	}
	return nil
}

func (s *summary) entry(f *walreader.Frame, e Entry) error {
	overwrites := s.place(f, e)
	seg := &s.Segments[s.segment]
	if seg.Entries == 0 {
		seg.FirstIndex = e.Index
	}
	seg.LastIndex = e.Index
	seg.Entries++
	s.saved, s.before = e.Index, e.Index
	s.snapshot, s.fault, s.hole = 0, false, false
	switch e.Type {
	case EntryNormal:
		k, err := KindOf(e.Data)
		if err != nil {
			s.undecodable(f, fmt.Errorf("entry %d: %w", e.Index, err))
			break
		}
		n := s.kinds[k]
		if n == nil {
			n = &KindCount{Kind: k}
			s.kinds[k] = n
		}
		n.Entries++
		n.Bytes += int64(len(e.Data))
		switch k {
		case KindV2, "cluster_member_attr_set", "cluster_version_set", "downgrade_info_set":
			s.published(f, e, k)
		}
	default:
		c, err := DecodeConfChange(e.Type, e.Data)
		if err != nil {
			s.undecodable(f, fmt.Errorf("entry %d: %w", e.Index, err))
		} else if !s.full("confChanges", len(s.ConfChanges)) {
			s.ConfChanges = append(s.ConfChanges, ConfChangeEntry{e.Index, e.Term, c, f.At, f.Proof, f.Accepted(), overwrites})
		}
	}
	if s.opts.Visit != nil {
		return s.opts.Visit(e, f.At, f.Proof == walreader.Proven)
	}
	return nil
}

// published lists what concerns the membership and the version of the cluster.
func (s *summary) published(f *walreader.Frame, e Entry, k Kind) {
	r, err := DecodeRequest(e.Data)
	if err != nil {
		s.undecodable(f, fmt.Errorf("entry %d: %w", e.Index, err))
		return
	}
	if r.Member != nil && !s.full("attributes", len(s.Attributes)) {
		s.Attributes = append(s.Attributes, AttributesEntry{e.Index, e.Term, *r.Member, f.At, f.Proof, f.Accepted()})
	}
	if r.Version != nil && !s.full("versions", len(s.Versions)) {
		s.Versions = append(s.Versions, VersionEntry{e.Index, e.Term, k, *r.Version, f.At, f.Proof, f.Accepted()})
	}
}

// place puts an entry into the log by its index.
func (s *summary) place(f *walreader.Frame, e Entry) (overwrites bool) {
	last, any := s.Terms.last()
	switch {
	case !any:
	case e.Index <= last.Last:
		overwrites = true
		old, _ := s.Terms.At(e.Index)
		n := s.Terms.cut(e.Index)
		s.Overwritten += n
		if !s.full("overwrites", len(s.Overwrites)) {
			s.Overwrites = append(s.Overwrites, Overwrite{f.At, e.Index, last.Last, old, e.Term})
		}
		last, any = s.Terms.last()
	case e.Index-last.Last > 1 && !s.full("gaps", len(s.Gaps)):
		s.Gaps = append(s.Gaps, Gap{f.At, last.Last, e.Index, s.snapshot, s.fault, s.hole})
	}
	if any && e.Term < last.Term && !s.full("backsteps", len(s.Backsteps)) {
		s.Backsteps = append(s.Backsteps, Backstep{f.At, e.Index, e.Term, last.Term})
	}
	run := Run{First: e.Index, Last: e.Index, Term: e.Term, Proof: f.Proof, Accepted: f.Accepted()}
	s.Found.take(e)
	if run.Accepted {
		s.Entries.take(e)
	} else {
		run.Breaks = s.breaks
	}
	s.Terms.add(run)
	return overwrites
}

func (s *Stretch) take(e Entry) {
	if s.Count == 0 || e.Index < s.First {
		s.First = e.Index
	}
	s.Last, s.LastTerm = e.Index, e.Term
	s.Count++
}

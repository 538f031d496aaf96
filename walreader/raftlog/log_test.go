package raftlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"

	"etcd-forensics/walreader"
)

// A step is what etcd's WAL is told to save.
type step struct {
	entries []*raftpb.Entry
	state   *raftpb.HardState
	snap    *walpb.Snapshot
}

func put(key string, size int) []byte {
	m := &pb.InternalRaftRequest{Put: &pb.PutRequest{Key: []byte(key), Value: bytes.Repeat([]byte{'v'}, size)}}
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

func entry(index, term uint64, size int) *raftpb.Entry {
	return &raftpb.Entry{Index: &index, Term: &term, Data: put(fmt.Sprint("k", index), size)}
}

func state(term, vote, commit uint64) *raftpb.HardState {
	return &raftpb.HardState{Term: &term, Vote: &vote, Commit: &commit}
}

func snap(index, term uint64) *walpb.Snapshot {
	return &walpb.Snapshot{Index: &index, Term: &term, ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}}}
}

// save has etcd's own package write a WAL.
func save(t testing.TB, segment int64, steps ...step) string {
	t.Helper()
	old := wal.SegmentSizeBytes
	wal.SegmentSizeBytes = segment
	defer func() { wal.SegmentSizeBytes = old }()
	dir := filepath.Join(t.TempDir(), "wal")
	w, err := wal.Create(nil, dir, marshal(t, &pb.Metadata{NodeID: ptr(uint64(0xa1)), ClusterID: ptr(uint64(0xc1))}))
	if err != nil {
		t.Fatal(err)
	}
	w.SetUnsafeNoFsync()
	for _, s := range steps {
		if s.snap != nil {
			err = errors.Join(err, w.SaveSnapshot(s.snap))
		}
		if s.state != nil || s.entries != nil {
			err = errors.Join(err, w.Save(s.state, s.entries))
		}
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func chain(t testing.TB, dir string) *walreader.Chain {
	t.Helper()
	c, err := walreader.OpenChain(os.DirFS(dir), ".")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func summarize(t testing.TB, dir string, opts Options) *Log {
	t.Helper()
	l, err := Summarize(context.Background(), chain(t, dir), opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func entries(from, to, term uint64, size int) step {
	var s step
	for i := from; i <= to; i++ {
		s.entries = append(s.entries, entry(i, term, size))
	}
	s.state = state(term, 1, to-1)
	return s
}

// figure7 is a log in which a new leader overwrites what the old one wrote.
func figure7() []step {
	return []step{
		entries(1, 5, 1, 200), entries(6, 10, 1, 200), entries(11, 12, 2, 200), entries(13, 15, 2, 200),
		entries(13, 17, 3, 200), entries(18, 20, 3, 200),
	}
}

func TestALogIsSummedUpAsEtcdReadsIt(t *testing.T) {
	dir := save(t, 1<<10, figure7()...)
	w, err := wal.OpenForRead(nil, dir, &walpb.Snapshot{})
	if err != nil {
		t.Fatal(err)
	}
	_, st, ents, err := w.ReadAll()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	var visited []uint64
	l := summarize(t, dir, Options{Visit: func(e Entry, at walreader.Position, proven bool) error {
		if !proven {
			t.Errorf("%v is not proven", at)
		}
		visited = append(visited, e.Index)
		return nil
	}})
	if len(visited) != 23 || l.Entries.Count != 23 {
		t.Errorf("visited %v, counted %d", visited, l.Entries.Count)
	}
	if l.Entries != l.Found || l.Entries.First != ents[0].GetIndex() || l.Entries.Last != ents[len(ents)-1].GetIndex() || l.Entries.LastTerm != 3 {
		t.Errorf("%+v", l.Entries)
	}
	for _, e := range ents {
		if term, ok := l.TermAt(e.GetIndex()); !ok || term != e.GetTerm() {
			t.Errorf("term of %d is %d, etcd has %d", e.GetIndex(), term, e.GetTerm())
		}
	}
	if _, ok := l.TermAt(21); ok {
		t.Error("a term beyond the end")
	}
	if *l.HardState != (HardState{st.GetTerm(), st.GetVote(), st.GetCommit()}) || l.Highest.Index != 19 || l.Highest.Proof != walreader.Proven {
		t.Errorf("%+v, %+v", l.HardState, l.Highest)
	}
	if l.Overwritten != 3 || len(l.Overwrites) != 1 {
		t.Fatalf("%d overwritten, %+v", l.Overwritten, l.Overwrites)
	}
	if o := l.Overwrites[0]; o.From != 13 || o.To != 15 || o.OldTerm != 2 || o.NewTerm != 3 {
		t.Errorf("%+v", o)
	}
	if *l.Metadata != (Metadata{0xa1, 0xc1}) || l.Conflicts != nil || l.Gaps != nil || l.Backsteps != nil || l.Undecodable != nil || l.Stop != nil {
		t.Errorf("%+v", l)
	}
	if len(l.Segments) < 3 {
		t.Fatalf("%d segments", len(l.Segments))
	}
	for _, s := range l.Segments {
		if !s.NameFollows() {
			t.Errorf("%s: expected %d", s.Segment.File, s.Expected)
		}
	}
	if len(l.TermChanges) != 3 || !reflect.DeepEqual(l.Requests[0].Kind, Kind("put")) || l.Requests[0].Entries != 23 {
		t.Errorf("%+v, %+v", l.TermChanges, l.Requests)
	}
}

func TestASnapshotReceivedExplainsTheGap(t *testing.T) {
	dir := save(t, 1<<20, entries(1, 5, 1, 10), step{snap: snap(90, 2)}, entries(91, 95, 2, 10))
	l := summarize(t, dir, Options{})
	if len(l.Gaps) != 1 || !l.Gaps[0].Explained() || l.Gaps[0].After != 5 || l.Gaps[0].Next != 91 || l.Gaps[0].Fault || l.Gaps[0].Hole {
		t.Errorf("%+v", l.Gaps)
	}
	s := l.Snapshots[len(l.Snapshots)-1]
	if !s.Received() || s.Index != 90 || s.After != 5 || !reflect.DeepEqual(s.ConfState.Voters, []uint64{1, 2, 3}) {
		t.Errorf("%+v", s)
	}
	if first := l.Snapshots[0]; first.Received() || first.ConfState != nil {
		t.Errorf("%+v", first)
	}
}

func TestAGapWithoutASnapshotIsNotExplained(t *testing.T) {
	dir := save(t, 1<<20, entries(1, 5, 1, 10), step{snap: snap(7, 2)}, entries(91, 95, 2, 10))
	l := summarize(t, dir, Options{})
	if len(l.Gaps) != 1 || l.Gaps[0].Explained() || l.Gaps[0].Snapshot != 7 {
		t.Errorf("%+v", l.Gaps)
	}
}

func TestATermThatGoesBackIsListed(t *testing.T) {
	dir := save(t, 1<<20, entries(1, 5, 4, 10), entries(6, 8, 3, 10))
	l := summarize(t, dir, Options{})
	if len(l.Backsteps) != 1 || l.Backsteps[0].Index != 6 || l.Backsteps[0].TermBefore != 4 {
		t.Errorf("%+v", l.Backsteps)
	}
}

func TestASegmentThatIsGoneLeavesAHoleAndAGap(t *testing.T) {
	dir := save(t, 1<<10, entries(1, 10, 1, 100), entries(11, 20, 1, 100), entries(21, 30, 1, 100), entries(31, 40, 1, 100), entries(41, 60, 1, 100))
	c := chain(t, dir)
	if len(c.Segments) < 3 {
		t.Fatalf("%d segments", len(c.Segments))
	}
	gone := c.Segments[1]
	if err := os.Remove(filepath.Join(dir, gone.File)); err != nil {
		t.Fatal(err)
	}
	l := summarize(t, dir, Options{})
	if len(l.Holes) != 1 || l.Holes[0].FromSeq != 1 || l.Holes[0].ToSeq != 1 {
		t.Errorf("%+v", l.Holes)
	}
	if len(l.Gaps) != 1 || !l.Gaps[0].Hole || l.Gaps[0].After != gone.Name.Index-1 {
		t.Errorf("%+v", l.Gaps)
	}
	if l.Segments[1].NameFollows() || l.Segments[1].Expected != gone.Name.Index {
		t.Errorf("%+v", l.Segments[1])
	}
	if l.Entries.Last != gone.Name.Index-1 || l.Found.Last != 60 {
		t.Errorf("%+v, %+v", l.Entries, l.Found)
	}
	if run, ok := l.Terms.RunAt(60); !ok || run.Accepted || run.Proof != walreader.Proven {
		t.Errorf("%+v", run)
	}
}

func TestEntriesLostAtTheEndOfASegmentAreMissedAtTheHeadOfTheNext(t *testing.T) {
	dir := save(t, 1<<10, entries(1, 10, 1, 100), entries(11, 20, 1, 100), entries(21, 40, 1, 100))
	c := chain(t, dir)
	var third int64 // where the third last entry of the first segment is
	summarize(t, dir, Options{Visit: func(e Entry, at walreader.Position, _ bool) error {
		if e.Index == 18 {
			third = at.Offset
		}
		return nil
	}})
	path := filepath.Join(dir, c.Segments[0].File)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(b[third:])
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	l := summarize(t, dir, Options{})
	if l.Segments[0].Tail != walreader.TailZeroed || l.Segments[1].Expected != 18 || l.Segments[1].NameFollows() {
		t.Errorf("%+v", l.Segments[1])
	}
	if l.Stop == nil || l.Stop.Fault.Kind != walreader.FaultSeed || l.Stop.Next != 18 {
		t.Errorf("%+v", l.Stop)
	}
	if l.Entries.Last != 17 || l.Found.Last != 40 || len(l.Gaps) != 1 || !l.Gaps[0].Fault {
		t.Errorf("%+v, %+v, %+v", l.Entries, l.Found, l.Gaps)
	}
}

func TestADamagedEntryIsNotCounted(t *testing.T) {
	dir := save(t, 1<<20, entries(1, 20, 1, 100))
	c := chain(t, dir)
	path := filepath.Join(dir, c.Segments[0].File)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte("k10"))
	b[at+20] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	var unproven int
	frames := 0
	l := summarize(t, dir, Options{
		Frame: func(*walreader.Frame) error { frames++; return nil },
		Visit: func(e Entry, _ walreader.Position, proven bool) error {
			if e.Index == 10 {
				t.Error("the damaged entry was visited")
			}
			if !proven {
				unproven++
			}
			return nil
		},
	})
	if l.Entries.Last != 9 || l.Found.Last != 20 || unproven != 10 || frames != l.Segments[0].Frames {
		t.Errorf("%+v, %+v, %d unproven, %d frames", l.Entries, l.Found, unproven, frames)
	}
	if l.Stop.Next != 10 || l.Stop.Fault.Kind != walreader.FaultChecksum || l.HardState != nil || l.Highest.Index != 19 || l.Highest.Proof != walreader.Plausible {
		t.Errorf("%+v, %+v, %+v", l.Stop, l.HardState, l.Highest)
	}
	if l.Segments[0].Tail != walreader.TailFault {
		t.Errorf("tail %v", l.Segments[0].Tail)
	}
}

func TestListsAreBoundedAndTheRestIsCounted(t *testing.T) {
	var steps []step
	for i := uint64(1); i <= 30; i++ {
		index, term := i, uint64(1)
		change := marshal(t, &raftpb.ConfChange{NodeId: &index})
		steps = append(steps, step{
			entries: []*raftpb.Entry{{Index: &index, Term: &term, Type: raftpb.EntryConfChange.Enum(), Data: change}},
			state:   state(1, i, i-1),
			snap:    nil,
		})
	}
	l := summarize(t, save(t, 1<<20, steps...), Options{MaxList: 10})
	if len(l.ConfChanges) != 10 || l.Dropped["confChanges"] != 20 || len(l.TermChanges) != 10 || l.Dropped["termChanges"] != 20 {
		t.Errorf("%d, %d, %v", len(l.ConfChanges), len(l.TermChanges), l.Dropped)
	}
}

func TestARecordThatIsNoMessageIsListed(t *testing.T) {
	dir := save(t, 1<<20, step{entries: []*raftpb.Entry{
		{Index: ptr(uint64(1)), Term: ptr(uint64(1)), Data: []byte{0xff}},
		{Index: ptr(uint64(2)), Term: ptr(uint64(1)), Type: raftpb.EntryConfChange.Enum(), Data: []byte{0xff}},
	}})
	l := summarize(t, dir, Options{})
	if len(l.Undecodable) != 2 || l.Entries.Last != 2 || l.Stop != nil {
		t.Errorf("%+v, %+v", l.Undecodable, l.Entries)
	}
}

func TestWhatStopsTheSummaryGivesWhatWasSeen(t *testing.T) {
	dir := save(t, 1<<20, entries(1, 20, 1, 100))
	full := errors.New("full")
	l, err := Summarize(context.Background(), chain(t, dir), Options{Visit: func(e Entry, _ walreader.Position, _ bool) error {
		if e.Index == 7 {
			return full
		}
		return nil
	}})
	if !errors.Is(err, full) || l.Entries.Last != 7 {
		t.Errorf("%v, %+v", err, l.Entries)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if l, err = Summarize(ctx, chain(t, dir), Options{}); !errors.Is(err, context.Canceled) || l == nil {
		t.Errorf("%v", err)
	}
}

func TestAnEmptyDirectoryIsAnEmptyLog(t *testing.T) {
	l := summarize(t, t.TempDir(), Options{})
	if l.Metadata != nil || l.HardState != nil || l.Entries.Count != 0 || len(l.Segments) != 0 {
		t.Errorf("%+v", l)
	}
}

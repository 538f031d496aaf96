package inspect

import (
	"context"
	"errors"
	"sync"

	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb/scan"
	"etcd-forensics/walreader"
	"etcd-forensics/walreader/raftlog"
)

// examineLog reads the WAL: the segments once for their records, and once,
// beside that, for their digests.
func (x *examination) examineLog(ctx context.Context) error {
	files := x.src.WAL
	if len(files) == 0 {
		if x.src.WALDir != "" && x.src.DB != nil {
			x.find(newFinding(CodeWALMissing, x.src.Path, "no WAL segment beside the database").inFile(x.src.WALDir))
		}
		return nil
	}
	var wait sync.WaitGroup
	var digestErr error
	if x.opts.Digest {
		wait.Go(func() { digestErr = digestAll(ctx, files) })
	}
	segments := make([]walreader.File, len(files))
	for i, f := range files {
		segments[i] = walreader.File{Name: f.Name(), R: f, Size: f.Size()}
	}
	x.chain = walreader.NewChain(segments)
	g := newGathering(x)
	options := raftlog.Options{Reader: walreader.Options{MaxFaults: x.opts.Limits.PerCode + 1, OnFault: x.trace.fault}, Visit: g.visit}
	if x.upTo == everyRequest {
		options.Frame, options.Visit = g.frame, g.entry
	}
	log, err := raftlog.Summarize(ctx, x.chain, options)
	wait.Wait()
	if ctx.Err() != nil {
		return ctx.Err() // where a part of a log ends is not where the log does
	}
	x.writes.trim()
	x.log = log
	x.describeLog()
	if x.upTo == everyRequest {
		w := x.member.WAL
		w.Statistics = g.stats.finish(log)
		w.Timeline, w.Statistics.Events = g.timeline.finish(log)
		w.timeEvents(&x.clock)
	}
	if err := errors.Join(err, digestErr); err != nil {
		x.find(newFinding(CodeWALUnreadable, x.src.Path, err.Error()).inFile(x.src.WALDir))
		x.note("the rest of %s: %v", x.src.WALDir, err)
	}
	return nil
}

// digestAll computes the digests of files.
func digestAll(ctx context.Context, files []*source.File) error {
	for _, f := range files {
		sum, err := scan.Digest(ctx, f, f.Size())
		if err != nil {
			return err
		}
		f.SetDigest(sum)
	}
	return nil
}

// describeLog fills in what the WAL says by itself.
func (x *examination) describeLog() {
	l := x.log
	w := &WAL{Dir: x.src.WALDir, Segments: []Segment{}}
	x.member.WAL = w
	for _, s := range l.Segments {
		w.Segments = append(w.Segments, Segment{
			File: s.Segment.File, FirstIndex: indexOrNil(s.FirstIndex, s.Entries), LastIndex: indexOrNil(s.LastIndex, s.Entries), Tail: s.Tail.String(),
		})
	}
	w.FirstIndex, w.LastIndex = indexOrNil(l.Entries.First, l.Entries.Count), indexOrNil(l.Entries.Last, l.Entries.Count)
	if l.Entries.Count > 0 {
		w.LastTerm = &l.Entries.LastTerm
	}
	if h := l.HardState; h != nil {
		w.Term = &h.Term
		if h.Vote != 0 {
			vote := ID(h.Vote)
			w.Vote = &vote
		}
		w.Commit = &l.Highest.Index
	}
	if n := len(l.Segments); n > 0 {
		w.Tail = l.Segments[n-1].Tail.String()
	}
	if l.Stop != nil {
		w.Fault = &WALFault{File: l.Stop.Fault.At.Segment, Offset: l.Stop.Fault.At.Offset, Index: &l.Stop.Next}
	}
	w.OfRestored = x.beganRestored()
	if m := l.Metadata; m != nil {
		node, cluster := ID(m.NodeID), ID(m.ClusterID)
		x.member.MemberID, x.member.ClusterID = &node, &cluster
	}
}

func indexOrNil(i uint64, count int64) *uint64 {
	if count == 0 {
		return nil
	}
	return &i
}

// newestSnapshot gives the newest snapshot record that etcd would start from: one
// that it reads, at or below the commit index (etcd v3.7.3,
// server/storage/wal/wal.go, ValidSnapshotEntries). Index 0 stands for none.
func newestSnapshot(l *raftlog.Log) raftlog.Snapshot {
	var newest raftlog.Snapshot
	for _, s := range l.Snapshots {
		if s.Accepted && s.Index >= newest.Index && l.HardState != nil && s.Index <= l.HardState.Commit {
			newest = s
		}
	}
	return newest
}

// A gathering takes the entries of a log for what its summary does not keep.
type gathering struct {
	x       *examination
	request raftlog.Request
	segment int // number of the one that the last entry lies in

	stats    logStats
	timeline timeline
}

func newGathering(x *examination) *gathering {
	x.writes = newWriteLog()
	return &gathering{x: x}
}

func (g *gathering) frame(f *walreader.Frame) error {
	g.x.clock.frame(f)
	return nil
}

// entry takes what is kept of the whole log.
func (g *gathering) entry(e raftlog.Entry, at walreader.Position, proven bool) error {
	r := g.take(e, at)
	g.stats.entry(e, at, r)
	g.x.clock.entry(e, at, r)
	g.timeline.entry(e, at, g.segment, proven, r)
	g.x.trace.entry(e, r)
	return nil
}

// visit takes what is kept of a part of the log.
func (g *gathering) visit(e raftlog.Entry, at walreader.Position, _ bool) error {
	g.take(e, at)
	return nil
}

// take notes what the entry writes, and gives its request, nil when that is not looked into.
func (g *gathering) take(e raftlog.Entry, at walreader.Position) (r *raftlog.Request) {
	for g.segment < len(g.x.chain.Segments)-1 && g.x.chain.Segments[g.segment].File != at.Segment {
		g.segment++
	}
	if e.Index <= g.x.upTo && e.Type == raftlog.EntryNormal && g.request.Decode(e.Data) == nil {
		r = &g.request
	}
	here := place{g.segment, at.Offset}
	g.x.writes.entry(e, here, r)
	if g.x.visit != nil {
		g.x.visit(e, here)
	}
	return r
}

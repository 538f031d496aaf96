package inspect

import (
	"fmt"
	"path/filepath"
	"slices"

	"etcd-forensics/walreader"
	"etcd-forensics/walreader/raftlog"
)

// walCodes says what each fault of a WAL segment is called. A torn write is
// harmless only where nothing follows it; see walFaultCode.
var walCodes = map[walreader.FaultKind]Code{
	walreader.FaultShortHeader: CodeWALLength,
	walreader.FaultTruncated:   CodeWALLength,
	walreader.FaultLength:      CodeWALLength,
	walreader.FaultZeroGap:     CodeWALLength,
	walreader.FaultTangled:     CodeWALLength,
	walreader.FaultOversize:    CodeWALLength,
	walreader.FaultTorn:        CodeWALTornTail,
	walreader.FaultChecksum:    CodeWALChecksum,
	walreader.FaultSeed:        CodeWALChecksum,
	walreader.FaultRecord:      CodeWALRecordInvalid,
	walreader.FaultType:        CodeWALRecordInvalid,
	walreader.FaultPadding:     CodeWALRecordInvalid,
	walreader.FaultReserved:    CodeWALRecordInvalid,
}

// checkLog judges the WAL by itself and against the database. There may be files of which none has a
// segment's name.
func (x *examination) checkLog() {
	l := x.log
	if l == nil || len(l.Segments) == 0 {
		return
	}
	lost := x.checkSegments()
	for _, c := range l.Conflicts {
		x.find(newFinding(CodeWALMetadataMismatch, x.src.Path, fmt.Sprintf("metadata says member %s of cluster %s, before it was member %s of cluster %s",
			ID(c.Metadata.NodeID), ID(c.Metadata.ClusterID), ID(l.Metadata.NodeID), ID(l.Metadata.ClusterID))).inFile(x.segmentPath(c.At)).at(c.At.Offset))
	}
	for i, u := range l.Undecodable {
		if i == x.opts.Limits.PerCode {
			x.countRest(CodeWALRecordInvalid, len(l.Undecodable), i, x.src.WALDir)
			break
		}
		x.find(newFinding(CodeWALRecordInvalid, x.src.Path, fmt.Sprintf("%s: a %s record whose checksum is right: %v", u.At, u.Type, u.Err)).
			inFile(x.segmentPath(u.At)).at(u.At.Offset))
	}
	lost = x.checkGaps() || lost
	x.checkEnd(lost)
}

func (x *examination) segmentPath(at walreader.Position) string {
	return filepath.Join(x.src.WALDir, at.Segment)
}

// checkSegments judges each segment's faults and the sequence of the names. It
// says whether entries are missing or cannot be read because of that.
func (x *examination) checkSegments() (lost bool) {
	l := x.log
	listed, total := map[Code]int{}, map[Code]int{}
	start := x.startSnapshot()
	broken := false // the end of the segment before cannot be trusted
	for i, s := range l.Segments {
		if h, ok := holeBefore(l, s); ok {
			broken = true
			if i > 0 {
				lost = true
				x.find(newFinding(CodeWALSegmentMissing, x.src.Path, h.String()).
					inFile(x.src.WALDir).atIndex(l.Segments[i-1].LastIndex + 1))
			}
		}
		if s.Empty() {
			broken = true
			lost = true
			x.find(newFinding(CodeWALSegmentEmpty, x.src.Path, fmt.Sprintf("%d bytes without a record", s.Segment.Size)).inFile(filepath.Join(x.src.WALDir, s.Segment.File)).at(0))
			continue
		}
		last := i == len(l.Segments)-1
		for _, f := range s.Faults {
			if f.Kind == walreader.FaultSeed && f.At.Frame == 0 && (broken || foreign(l, s)) {
				lost = lost || foreign(l, s)
				continue // the checksum goes on from bytes that are not there
			}
			code := walFaultCode(f, s, last)
			total[code]++
			lost = lost || f.Kind.Stops() && code != CodeWALTornTail
			if listed[code]++; listed[code] > x.opts.Limits.PerCode {
				continue
			}
			x.find(newFinding(code, x.src.Path, x.describeWALFault(f, s)).inFile(x.segmentPath(f.At)).at(f.At.Offset))
		}
		if i > 0 && !broken && !s.NameFollows() && len(s.Faults) == 0 {
			x.find(newFinding(CodeWALSegmentMisnamed, x.src.Path, fmt.Sprintf("the name says that the segment begins with index %d; what comes next is %d", s.Segment.Name.Index, s.Expected)).
				inFile(filepath.Join(x.src.WALDir, s.Segment.File)).atIndex(s.Expected))
		}
		broken = s.Stop != nil
	}
	for code, n := range total {
		x.countRest(code, n, min(listed[code], x.opts.Limits.PerCode), x.src.WALDir)
	}
	if len(l.Segments) > 0 && l.Segments[0].Segment.Name.Index > start {
		lost = true
		x.find(newFinding(CodeWALSegmentMissing, x.src.Path, fmt.Sprintf("the first segment is %s, etcd would start reading at index %d",
			l.Segments[0].Segment.File, start+1)).inFile(x.src.WALDir).atIndex(start + 1))
	}
	return lost
}

// foreign says whether a segment's metadata is that of another member.
func foreign(l *raftlog.Log, s raftlog.Segment) bool {
	return slices.ContainsFunc(l.Conflicts, func(c raftlog.MetadataConflict) bool { return c.At.Segment == s.Segment.File })
}

func walFaultCode(f walreader.Fault, s raftlog.Segment, last bool) Code {
	if f.Kind == walreader.FaultTorn && (!last || s.AfterStop > 0) {
		return CodeWALChecksum
	}
	return walCodes[f.Kind]
}

// describeWALFault says what a fault costs: how many frames lie behind it, which
// etcd does not read.
func (x *examination) describeWALFault(f walreader.Fault, s raftlog.Segment) string {
	text := f.Error()
	if s.Stop != nil && s.Stop.At == f.At {
		if stop := x.log.Stop; stop != nil && stop.Fault.At == f.At {
			text += fmt.Sprintf("; the log would go on with index %d", stop.Next)
		}
		if s.AfterStop > 0 {
			text += fmt.Sprintf("; %d records behind it in this segment can be read, and etcd does not", s.AfterStop)
		}
	}
	return text
}

func holeBefore(l *raftlog.Log, s raftlog.Segment) (walreader.Hole, bool) {
	for _, h := range l.Holes {
		if h.Before == s.Segment.File {
			return h, true
		}
	}
	return walreader.Hole{}, false
}

// checkGaps judges jumps in the indexes for which neither a fault nor a missing
// segment nor a snapshot received accounts.
func (x *examination) checkGaps() (lost bool) {
	l := x.log
	for _, g := range l.Gaps {
		if g.Explained() || g.Fault || g.Hole {
			lost = lost || !g.Explained()
			continue
		}
		lost = true
		code := CodeWALIndexGap
		if x.zeroedBefore(g.At.Segment) {
			code = CodeWALZeroedTail
		}
		x.find(newFinding(code, x.src.Path, fmt.Sprintf("%s: index %d follows %d: entries %d to %d are not there", g.At, g.Next, g.After, g.After+1, g.Next-1)).
			inFile(x.segmentPath(g.At)).at(g.At.Offset).atIndex(g.After + 1))
	}
	return lost
}

// zeroedBefore says whether the segment before the named one ends in zeros.
func (x *examination) zeroedBefore(segment string) bool {
	for i, s := range x.log.Segments {
		if s.Segment.File == segment {
			return i > 0 && x.log.Segments[i-1].Tail == walreader.TailZeroed
		}
	}
	return false
}

// checkEnd compares the end of the log with what other evidence says was there.
// lost says that the reason is known already.
func (x *examination) checkEnd(lost bool) {
	l := x.log
	last := l.Found.Last
	for _, s := range l.Snapshots {
		last = max(last, s.Index) // a received snapshot stands for the entries before it
	}
	var index, term uint64
	if b := x.member.Backend; b != nil {
		index, term = deref(b.ConsistentIndex, 0), deref(b.Term, 0)
	}
	commit := l.Highest.Index
	zeroed := x.member.WAL.Tail == walreader.TailZeroed.String()
	switch {
	case max(index, commit) > last && zeroed && !lost:
		x.find(newFinding(CodeWALZeroedTail, x.src.Path, fmt.Sprintf("the log ends in zeros behind index %d, the commit index is %d and the database has applied %d",
			last, commit, index)).inFile(x.endOfLog()).atIndex(last + 1))
	default:
		if index > last {
			x.find(newFinding(CodeWALBehindBackend, x.src.Path, fmt.Sprintf("the database has applied index %d, the log ends with %d", index, last)).
				inFile(x.endOfLog()).atIndex(last + 1))
		}
		if commit > last && index <= last && !lost {
			x.find(newFinding(CodeWALCommitBeyondEnd, x.src.Path, fmt.Sprintf("%s: the commit index is %d, the log ends with %d", l.Highest.At, commit, last)).
				inFile(x.segmentPath(l.Highest.At)).at(l.Highest.At.Offset).atIndex(commit))
		}
	}
	if l.HardState != nil && term > l.HardState.Term && index <= last && !lost {
		x.find(newFinding(CodeWALBehindBackend, x.src.Path, fmt.Sprintf("the database has applied an entry of term %d, the log's term is %d", term, l.HardState.Term)).
			inFile(x.endOfLog()))
	}
	if n := x.member.WAL.Unapplied; n.Count > 0 && x.member.Backend != nil {
		x.find(newFinding(CodeWALAheadOfBackend, x.src.Path, fmt.Sprintf("entries %d to %d (%d) are proven committed and not in the database", *n.FirstIndex, *n.LastIndex, n.Count)).
			inFile(x.src.WALDir).atIndex(*n.FirstIndex))
	}
	if n := x.member.WAL.Uncommitted.Count; n > 0 {
		x.find(newFinding(CodeWALUncommittedTail, x.src.Path, fmt.Sprintf("entries %d to %d (%d) are not proven committed; proven up to %d: %s",
			l.Entries.Last-n+1, l.Entries.Last, n, deref(x.member.WAL.ProvenCommit, 0), x.member.WAL.ProvenBy)).inFile(x.endOfLog()).atIndex(l.Entries.Last))
	}
}

func (x *examination) endOfLog() string {
	return filepath.Join(x.src.WALDir, x.log.Segments[len(x.log.Segments)-1].Segment.File)
}

package inspect

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/walreader"
	"etcd-forensics/walreader/raftlog"
	"etcd-forensics/walreader/snapfile"
)

// PanicUnknownRequest is how etcd 3.4 ends on a request that it does not know, word
// for word (etcd v3.4.23, etcdserver/apply.go, Apply).
const PanicUnknownRequest = "panic: not implemented"

// findSnapshot looks for the snapshot records of the WAL, for which etcd reads all
// segments that are there (wal/wal.go, ValidSnapshotEntries). A torn end does not
// matter here.
func (b *boot) findSnapshot() *ending {
	end, ok := b.readSegments(0, false)
	switch {
	case !ok:
		return cannotTell()
	case end.err != "":
		return exits(end.err, end.code)
	}
	if b.misnumbered() {
		if end.at.segment < len(b.log.Segments) {
			return cannotTell(CodeWALSegmentMissing)
		}
		b.whole = true
	}
	if b.minor < 7 {
		return nil
	}
	b.start, b.started = b.lastSnapshot() // etcdserver/bootstrap.go, recoverSnapshot
	return nil
}

// lastSnapshot gives the last snapshot record in the files that the commit index has
// reached. ok is false when there is none, not even that for the beginning.
func (b *boot) lastSnapshot() (last raftlog.SnapshotRecord, ok bool) {
	number := map[string]int{}
	for i, s := range b.log.Segments {
		number[s.Segment.File] = i
	}
	at := place{-1, 0}
	take := func(s raftlog.SnapshotRecord, p walreader.Position) {
		if here := (place{number[p.Segment], p.Offset}); at.before(here) && s.Index <= b.commit() {
			last, at, ok = s, here, true
		}
	}
	for _, s := range b.log.Snapshots {
		if b.reads(s.Accepted) {
			take(s.SnapshotRecord, s.At)
		}
	}
	for _, u := range b.log.Undecodable {
		if u.Snapshot != nil && b.passesOver(u) {
			take(*u.Snapshot, u.At)
		}
	}
	return last, ok
}

// passesOver says whether etcd takes a field of another kind than it should be for an
// unknown one: since 3.7 always, and in 3.4, whose snapshot records have no field 3,
// where that is the one.
func (b *boot) passesOver(u raftlog.Undecodable) bool {
	return errors.Is(u.Err, raftlog.ErrWireType) && (b.minor >= 7 || b.minor == 4 && u.Snapshot != nil)
}

// loadStore reads the newest .snap that a snapshot record names; what cannot be read
// or is not named is passed over (3.4 to 3.6, etcdserver/api/snap/snapshotter.go,
// LoadNewestAvailable). Since 3.7 .snap files are not read.
func (b *boot) loadStore() *ending {
	if b.minor >= 7 {
		return nil
	}
	s := b.loadedSnap()
	if s == nil {
		return nil
	}
	b.start = raftlog.SnapshotRecord{Index: s.Index, Term: s.Term}
	switch {
	case s.Store == nil:
		return exits("failed to recover from snapshot", CodeSnapChecksum) // NewServer, v2store.Recovery
	case s.Store.Dropped > 0:
		return cannotTell()
	case !s.Store.Complete:
		return exits("failed to recover from snapshot", CodeSnapChecksum)
	case b.minor == 6 && s.Store.CustomCount > 0: // storage/util.go, AssertNoV2StoreContent; the default is write-only
		return exits("detected disallowed custom content in v2store")
	}
	return nil
}

func (b *boot) loadedSnap() *snapshot {
	if b.minor >= 7 {
		return nil
	}
	byName := slices.Clone(b.snaps)
	slices.SortFunc(byName, func(x, y snapshot) int { return cmp.Compare(y.file.Name(), x.file.Name()) })
	for _, s := range byName {
		if s.Valid && b.recorded(s.Index, s.Term) {
			return &s
		}
	}
	return nil
}

// recorded says whether there is a valid snapshot record of this index and term.
func (b *boot) recorded(index, term uint64) bool {
	return slices.ContainsFunc(b.log.Snapshots, func(s raftlog.Snapshot) bool { return s.Index == index && s.Term == term && b.valid(s) })
}

// valid says whether etcd reads a snapshot record and the commit index has reached it.
func (b *boot) valid(s raftlog.Snapshot) bool { return b.reads(s.Accepted) && s.Index <= b.commit() }

// reads says whether etcd reads what the summary of the log calls accepted or not.
func (b *boot) reads(accepted bool) bool { return accepted || b.whole }

// recoverBackend asks for the database that the snapshot came with when db is behind
// it (etcdserver/backend.go, recoverSnapshotBackend; since 3.6 storage/backend.go).
func (b *boot) recoverBackend() *ending {
	switch {
	case b.src.DB == nil && b.db != nil && !b.received(b.start.Index, b.db.file.Name()):
		return cannotTell()
	case b.start.Index <= b.consistentIndex():
		return nil
	}
	for _, f := range b.src.Received {
		if !b.received(b.start.Index, f.Name()) {
			continue
		}
		if b.db == nil || b.db.file != f {
			return cannotTell()
		}
		return exits("does not match with snapshot", CodeSnapAheadOfBackend) // NewServer
	}
	return exits("failed to find database snapshot file", CodeSnapAheadOfBackend, CodeBackendMissing)
}

func (b *boot) received(index uint64, name string) bool {
	class, n := snapfile.ClassifyName(name)
	return class == snapfile.NameReceived && n.Index == index
}

// validateSchema refuses a database of a later version (3.6 and later,
// storage/schema/schema.go, Validate). 3.4 and 3.5 do not look at the storage version.
func (b *boot) validateSchema() *ending {
	be := b.member.Backend
	if b.minor < 6 || be == nil || be.StorageVersion == nil {
		return nil
	}
	if minor, ok := minorOf(*be.StorageVersion); !ok {
		return cannotTell()
	} else if minor > b.minor {
		return exits(fmt.Sprintf("version %q is not supported", *be.StorageVersion), CodeVersionNotSupported)
	}
	return nil
}

// minorOf gives the minor version of etcd 3, and more than any for a later major.
func minorOf(version string) (int, bool) {
	major, minor, ok := keyspace.Minor(version)
	if major > 3 {
		return 1 << 20, ok
	}
	return int(minor), ok && major == 3
}

// readLog reads the entries behind the snapshot, from the segment on whose name
// leads there (wal/wal.go, Open and ReadAll). A torn end is cut off, in the last
// segment only (etcdserver/storage.go, readWAL; wal/repair.go).
func (b *boot) readLog() *ending {
	from := -1
	for i, s := range b.log.Segments {
		if s.Segment.Name.Index <= b.start.Index {
			from = i
		}
	}
	if from < 0 {
		return exits("wal: file not found", CodeWALSegmentMissing)
	}
	if !b.numbersRise(from) {
		if b.minor <= 5 {
			return exits("wal: file not found", CodeWALSegmentMissing)
		}
		return exits("do not increase continuously", CodeWALSegmentMissing)
	}
	end, ok := b.readSegments(from, true)
	if !ok {
		return cannotTell()
	}
	if e := b.readEntries(from, end); e != nil {
		return e
	}
	lastSegment := end.at.segment == len(b.log.Segments)-1
	switch {
	case end.err != "":
		return exits(errReadWAL+end.err, end.code)
	case end.eof && !lastSegment:
		return exits(errReadWAL+"unexpected EOF", end.code)
	case end.at.segment < len(b.log.Segments):
		// Cut by Repair, or zeroed by ReadAll behind the zeros that end the log.
		b.cuts = b.notAccepted()
		b.because = append(b.because, end.code)
	}
	read := b.log.Entries
	if b.whole {
		read = b.log.Found
	}
	b.last = b.start.Index
	if read.Count > 0 {
		b.last = max(b.last, read.Last)
	}
	if !b.started && b.minor >= 7 { // bootstrapping asks a snapshot of none for its conf state
		return exits("invalid memory address or nil pointer dereference", CodeWALSegmentEmpty, CodeWALZeroedTail)
	}
	if b.log.Metadata == nil && b.minor <= 6 { // the member has no id (raft, Config.validate)
		return exits("cannot use none as id", CodeWALSegmentEmpty, CodeWALZeroedTail)
	}
	return nil
}

const errReadWAL = "failed to read WAL, cannot be repaired: "

// notAccepted counts the entries that are in the files and that etcd does not read.
func (b *boot) notAccepted() (n uint64) {
	for _, r := range b.log.Terms.Runs() {
		if !r.Accepted {
			n += r.Last - r.First + 1
		}
	}
	return n
}

// readEntries looks for what ReadAll ends on before the decoder does: whatever of
// it comes first in the files.
func (b *boot) readEntries(from int, end logEnd) *ending {
	l := b.log
	number := map[string]int{}
	for i, s := range l.Segments {
		number[s.Segment.File] = i
	}
	var first *ending
	at := end.at
	meet := func(segment string, offset int64, e *ending) {
		if p := (place{number[segment], offset}); p.segment >= from && p.before(at) {
			first, at = e, p
		}
	}
	for _, g := range l.Gaps {
		if g.Next > max(g.After, b.start.Index)+1 {
			meet(g.At.Segment, g.At.Offset, exits(errReadWAL+"wal: slice bounds out of range", CodeWALIndexGap, CodeWALZeroedTail, CodeWALSegmentMissing))
		}
	}
	for _, s := range l.Segments[from:] {
		if s.Entries > 0 {
			if s.FirstIndex > b.start.Index+1 {
				meet(s.Segment.File, 0, exits(errReadWAL+"wal: slice bounds out of range", CodeWALIndexGap, CodeWALSegmentMissing))
			}
			break
		}
	}
	for _, c := range l.Conflicts {
		meet(c.At.Segment, c.At.Offset, exits(errReadWAL+"wal: conflicting metadata found", CodeWALMetadataMismatch))
	}
	for _, u := range l.Undecodable {
		e := exits(errUnmarshal, CodeWALRecordInvalid)
		switch s := u.Snapshot; {
		case !b.passesOver(u):
		case s == nil:
			e = cannotTell(CodeWALRecordInvalid)
		case s.Index != b.start.Index || s.Term == b.start.Term:
			continue
		default:
			e = exits(errReadWAL+"wal: snapshot mismatch", CodeWALRecordInvalid)
		}
		meet(u.At.Segment, u.At.Offset, e)
	}
	return first
}

// errUnmarshal is how etcd panics on a message that it wrote itself and cannot read
// (pkg/pbutil/pbutil.go, MustUnmarshal).
const errUnmarshal = "unmarshal should never fail"

// restartRaft gives raft the entries and the hard state (raft/raft.go, loadState).
func (b *boot) restartRaft() *ending {
	commit := b.commit()
	if commit > b.last || commit > 0 && commit < b.start.Index {
		return exits(fmt.Sprintf("state.commit %d is out of range [%d, %d]", commit, b.start.Index, b.last),
			CodeWALCommitBeyondEnd, CodeWALZeroedTail, CodeWALBehindBackend)
	}
	return nil
}

func (b *boot) commit() uint64 {
	switch {
	case b.whole:
		return b.log.Highest.Index
	case b.log.HardState == nil:
		return 0
	}
	return b.log.HardState.Commit
}

// errDowngrade is the end of a server that finds a later cluster version
// (etcdserver/api/membership, mustDetectDowngrade; since 3.6 etcdserver/version).
const errDowngrade = "invalid downgrade; server version is lower than determined cluster version"

// recoverCluster reads members and cluster version: from the v2 store in 3.4 and
// 3.5, from the database since (etcdserver/api/membership/cluster.go, Recover).
func (b *boot) recoverCluster() *ending {
	var version string
	if b.minor <= 5 {
		if s := b.loadedSnap(); s != nil && s.Store != nil {
			version = s.Store.ClusterVersion
		}
	} else if be := b.member.Backend; be != nil {
		if e := b.readMembers(); e != nil {
			return e
		}
		version = deref(be.ClusterVersion, "")
	}
	if minor, ok := minorOf(version); ok && minor > b.minor {
		return b.downgrade()
	}
	return b.countLearners()
}

// countLearners ends a start with more learners than --max-learners allows, 1 unless
// told otherwise (since 3.6, etcdserver/bootstrap.go, Finalize). 3.6 takes the word of
// the v2 store for those that were promoted (etcdserver/api/membership/cluster.go,
// SyncLearnerPromotionIfNeeded).
func (b *boot) countLearners() *ending {
	if b.minor <= 5 {
		return nil
	}
	promoted := newRoster()
	if s := b.loadedSnap(); b.minor == 6 && s != nil && s.Store != nil {
		promoted = rosterOfStore(s.Store)
	}
	learners := 0
	for id, m := range b.bucket.members {
		if s, ok := promoted.members[id]; m.IsLearner && (!ok || s.IsLearner) {
			learners++
		}
	}
	if learners <= 1 {
		return nil
	}
	if c := b.member.Membership.Applied; c == nil || len(c.Learners) > 1 {
		return cannotTell() // the flag was raised
	}
	return exits("membership: too many learner members in cluster", CodeMemberLearnerMismatch)
}

// downgrade ends a start, except that 3.5 lets a downgrade to itself pass, which
// depends on when it was begun.
func (b *boot) downgrade() *ending {
	if b.minor == 5 && b.downgrading() {
		return cannotTell()
	}
	return exits(errDowngrade, CodeVersionNotSupported)
}

func (b *boot) downgrading() bool {
	if b.db != nil {
		for _, r := range b.db.rows[keyspace.BucketCluster] {
			if string(r.Key) == keyspace.ClusterDowngrade && len(r.Value) > 0 {
				return true
			}
		}
	}
	return b.log != nil && slices.ContainsFunc(b.log.Versions, func(v raftlog.VersionEntry) bool { return v.Enabled })
}

// errRemoved is what a removed member ends with (etcdserver/server.go,
// applyEntries).
const errRemoved = "the member has been permanently removed from the cluster"

// replay applies the committed entries behind the snapshot: all of them to what is
// kept in memory, those above the consistent index to the database as well
// (etcdserver/server.go, apply). A sole voter elects itself and commits the rest.
func (b *boot) replay() *ending {
	from, to := b.start.Index+1, b.commit()
	if b.onlyVoter() {
		to = b.last
	}
	var first *ending
	at := to + 1
	meet := func(index uint64, e *ending) {
		if index >= from && index < at {
			first, at = e, index
		}
	}
	if b.minor >= 7 {
		// Since 3.7 all entries are read as requests of the v3 API
		// (etcdserver/apply/apply.go, Apply).
		meet(b.trace.v2.first(from), exits(errUnmarshal, CodeVersionNotSupported))
	}
	if b.minor == 4 {
		// What 3.4 does to the database is one of the requests that it knows
		// (etcdserver/apply.go, Apply).
		meet(b.trace.since.first(max(from, b.consistentIndex()+1)), exits(PanicUnknownRequest, CodeVersionNotSupported))
	}
	for _, v := range b.log.Versions {
		if minor, ok := minorOf(v.Version.Version); ok && minor > b.minor && b.reads(v.Accepted) && b.knows(v.Kind) {
			meet(v.Index, b.downgrade())
		}
	}
	for _, c := range b.log.ConfChanges {
		if b.reads(c.Unbroken) && b.removesSelf(c) {
			meet(c.Index, exits(errRemoved, CodeMemberRemoved))
		}
	}
	return first
}

// knows says whether the version obeys a request that sets the cluster version.
// 3.4 passes over the fields that came with 3.5.
func (b *boot) knows(k raftlog.Kind) bool {
	switch k {
	case raftlog.KindV2:
		return b.minor <= 6
	case "cluster_version_set":
		return b.minor >= 5
	}
	return false
}

// removesSelf says whether a conf change ends the member that applies it. Since 3.6
// one above the consistent index is checked against the database, which may
// know of the removal already, and is passed over then
// (etcdserver/api/membership/cluster.go, ValidateConfigurationChange).
func (b *boot) removesSelf(c raftlog.ConfChangeEntry) bool {
	if b.minor >= 6 && c.Index > b.consistentIndex() && b.member.MemberID != nil && b.removed(*b.member.MemberID) {
		return false
	}
	return slices.ContainsFunc(c.Changes, func(ch raftlog.Change) bool {
		return ch.Type == raftlog.RemoveNode && b.member.MemberID != nil && ID(ch.NodeID) == *b.member.MemberID
	})
}

// bootstrapNew makes a new log beside the database that is there. Where other
// members can be reached, they know the member already
// (etcdserver/cluster_util.go, isMemberBootstrapped).
func (b *boot) bootstrapNew() *ending {
	b.because = append(b.because, CodeWALMissing)
	if !b.onlyVoter() {
		return exits("has already been bootstrapped")
	}
	b.last = 1 // the conf change that adds the member itself
	return nil
}

// serves says whether the server takes writes at once, and because of what it does
// not. What an entry at or below the consistent index asks for is not done: the one
// that a new leader begins its term with may be such an entry, those of clients
// may not.
func (b *boot) serves() (*bool, []Code) {
	yes, no := true, false
	if be := b.member.Backend; be != nil && len(be.Alarms) > 0 {
		return &no, []Code{CodeAlarmCorrupt, CodeAlarmNoSpace}
	}
	if b.member.MemberID != nil && (b.isLearner(*b.member.MemberID) || b.removed(*b.member.MemberID)) {
		return &no, nil
	}
	behind := []Code{CodeWALBehindBackend, CodeWALZeroedTail, CodeWALSegmentEmpty}
	lost := b.consistentIndex() > b.last || b.cuts > 0
	switch {
	case b.waits():
		return &no, []Code{CodeMemberIDMismatch, CodeMemberZombie}
	case !b.onlyVoter() && lost:
		return nil, behind // the others may still have the entries, or raft panics: "tocommit is out of range"
	case b.consistentIndex() > b.last+1:
		return &no, behind
	}
	return &yes, nil
}

func (b *boot) isLearner(id ID) bool {
	return slices.ContainsFunc(b.member.Membership.Members, func(m MembershipMember) bool { return m.MemberID == id && m.IsLearner })
}

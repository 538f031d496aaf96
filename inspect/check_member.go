package inspect

import (
	"cmp"
	"fmt"
	"slices"

	"etcd-forensics/snapdb"
	"etcd-forensics/walreader/raftlog"
	"etcd-forensics/walreader/snapfile"
)

// checkFit judges what the files of one member say together. It is called when
// every source has been read.
func (x *examination) checkFit() {
	x.mergeMembership()
	if x.log != nil && len(x.log.Segments) > 0 {
		x.checkLog()
	}
	x.checkSnaps()
	x.checkSnapAhead()
	x.checkIdentity()
	x.checkAgainstLog()
	x.checkVersion()
	x.checkOneMoment()
}

// checkSnapAhead misses the database that a snapshot record asks for.
func (x *examination) checkSnapAhead() {
	b := x.member.Backend
	at := x.startSnapshot()
	if b == nil || b.ConsistentIndex == nil || *b.ConsistentIndex >= at {
		return
	}
	x.find(newFinding(CodeSnapAheadOfBackend, x.src.Path, fmt.Sprintf("the WAL starts from a snapshot at index %d, the database has applied only %d, and there is no %016x.snap.db",
		at, *b.ConsistentIndex, at)).inFile(b.File).atIndex(at))
}

// checkIdentity asks whether the database knows the member whose WAL lies beside
// it. A database of 3.4 is not asked: a restore by 3.4 leaves the old members in
// it (etcd v3.4, clientv3/snapshot/v3_snapshot.go).
func (x *examination) checkIdentity() {
	b := x.member.Backend
	if x.member.MemberID == nil || b == nil || b.ConfState == nil {
		return
	}
	id := *x.member.MemberID
	listed := 0
	known := slices.Contains(x.member.Membership.Removed, id) || slices.Contains(b.ConfState.Voters, id) || slices.Contains(b.ConfState.Learners, id)
	for _, m := range x.member.Membership.Members {
		if slices.Contains(m.StatedBy, StatedByMembers) {
			listed++
			known = known || m.MemberID == id
		}
	}
	// The database of a member that has just joined may be older than itself.
	added := x.log != nil && slices.ContainsFunc(x.log.ConfChanges, func(c raftlog.ConfChangeEntry) bool {
		return c.Index > deref(b.ConsistentIndex, 0) && slices.ContainsFunc(c.Changes, func(ch raftlog.Change) bool { return ID(ch.NodeID) == id })
	})
	if listed > 0 && !known && !added {
		x.find(newFinding(CodeMemberIDMismatch, x.src.Path, fmt.Sprintf("the WAL is that of member %s, which the database beside it does not know", id)).inFile(x.src.WALDir))
	}
}

// checkOneMoment asks whether the database's own pages are of one moment. A page
// that carries its own number and is whole, but is not what the tree asks for
// there, was written by a later transaction: the file was copied while a server
// wrote to it. Damage by a disk or a crash leaves other traces.
func (x *examination) checkOneMoment() {
	if x.db == nil || x.db.tree == nil || x.db.db.StandIn || x.src.SnapDir == "" {
		return
	}
	faults := &x.db.tree.Faults
	later := 0
	for _, f := range x.db.faults {
		switch f.Kind {
		case snapdb.FaultPageRange:
			later++
		case snapdb.FaultPageType:
			if x.db.ownNumber(f.Page) {
				later++
			}
		case snapdb.FaultPageID, snapdb.FaultPageBounds, snapdb.FaultPageOrder, snapdb.FaultPastEnd, snapdb.FaultUnreadable:
			return
		}
	}
	if later < 2 {
		return
	}
	x.find(newFinding(CodeCopiedWhileRunning, x.src.Path, fmt.Sprintf("%d pages are whole and carry their own number, but belong to another transaction than the tree of transaction %d; %d faults follow from that",
		later, x.db.db.Meta().Txid, faults.Len())).inFile(x.db.file.Path))
}

// Places that state membership, as Membership.StatedBy names them.
const (
	StatedByMembers   = "members"   // bucket members of the database
	StatedByConfState = "confState" // key confState in bucket meta
	StatedBySnap      = "snap"      // conf state of the newest valid .snap
	StatedByStore     = "store"     // v2 store in it
	StatedByLog       = "wal"       // conf changes in the WAL
)

// mergeMembership puts together what each place states, by id; which of them is
// right where they differ is not decided here. The members bucket gives names
// and URLs where it has them.
func (x *examination) mergeMembership() {
	ms := &x.member.Membership
	at := map[ID]int{}
	for i, m := range ms.Members {
		at[m.MemberID] = i
	}
	state := func(id ID, place string, fill func(m *MembershipMember)) {
		i, ok := at[id]
		if !ok {
			if slices.Contains(ms.Removed, id) {
				return
			}
			i = len(ms.Members)
			at[id] = i
			ms.Members = append(ms.Members, MembershipMember{MemberID: id, PeerURLs: []string{}, ClientURLs: []string{}})
			fill(&ms.Members[i])
		}
		if m := &ms.Members[i]; !slices.Contains(m.StatedBy, place) {
			m.StatedBy = append(m.StatedBy, place)
		}
	}
	if b := x.member.Backend; b != nil && b.ConfState != nil && !x.restored() {
		for _, id := range b.ConfState.Voters {
			state(id, StatedByConfState, func(*MembershipMember) {})
		}
		for _, id := range b.ConfState.Learners {
			state(id, StatedByConfState, func(m *MembershipMember) { m.IsLearner = true })
		}
	}
	for i := len(x.snaps) - 1; i >= 0; i-- {
		if s := x.snaps[i]; s.Valid {
			x.mergeSnap(s, state)
			break
		}
	}
	x.mergeLog(state)
	slices.SortFunc(ms.Members, func(a, b MembershipMember) int { return cmp.Compare(a.MemberID, b.MemberID) })
	x.nameMember()
}

// restored says whether the database's conf state is one that a restore left
// behind: no server has run since, so it is still the old cluster's (see
// etcdutl/snapshot/v3_snapshot.go of etcd v3.7.3, which does not write it).
func (x *examination) restored() bool {
	b := x.member.Backend
	if x.member.MemberID == nil {
		return false
	}
	return !slices.Contains(b.ConfState.Voters, *x.member.MemberID) && !slices.Contains(b.ConfState.Learners, *x.member.MemberID)
}

func (x *examination) mergeSnap(s snapshot, state func(ID, string, func(*MembershipMember))) {
	// A .snap older than the database says less than the database does.
	if b := x.member.Backend; b != nil && deref(b.ConsistentIndex, 0) > s.Index && len(x.member.Membership.Members) > 0 {
		known := x.member.Membership.Members
		inner := state
		state = func(id ID, place string, fill func(*MembershipMember)) {
			if slices.ContainsFunc(known, func(m MembershipMember) bool { return m.MemberID == id }) {
				inner(id, place, fill)
			}
		}
	}
	for _, id := range s.ConfState.Voters {
		state(ID(id), StatedBySnap, func(*MembershipMember) {})
	}
	for _, id := range s.ConfState.Learners {
		state(ID(id), StatedBySnap, func(m *MembershipMember) { m.IsLearner = true })
	}
	if s.Store == nil {
		return
	}
	for _, m := range s.Store.Members {
		state(ID(m.ID), StatedByStore, func(to *MembershipMember) { fillFromStore(to, m) })
	}
}

func fillFromStore(to *MembershipMember, m snapfile.Member) {
	to.Name, to.PeerURLs, to.ClientURLs, to.IsLearner = m.Name, orEmpty(m.PeerURLs), orEmpty(m.ClientURLs), m.IsLearner
}

// mergeLog states the members that conf changes in the WAL added and none removed.
func (x *examination) mergeLog(state func(ID, string, func(*MembershipMember))) {
	if x.log == nil {
		return
	}
	added := map[ID]*raftlog.Member{}
	var order []ID
	for _, c := range x.log.ConfChanges {
		for _, ch := range c.Changes {
			id := ID(ch.NodeID)
			switch ch.Type {
			case raftlog.AddNode, raftlog.AddLearnerNode, raftlog.UpdateNode:
				if _, ok := added[id]; !ok {
					order = append(order, id)
				}
				if c.Member != nil && !c.Promotes {
					added[id] = c.Member
				} else if added[id] == nil {
					added[id] = &raftlog.Member{ID: ch.NodeID}
				}
			case raftlog.RemoveNode:
				delete(added, id)
			}
		}
	}
	for _, id := range order {
		if m, ok := added[id]; ok {
			state(id, StatedByLog, func(to *MembershipMember) {
				to.Name, to.PeerURLs, to.ClientURLs, to.IsLearner = m.Name, orEmpty(m.PeerURLs), orEmpty(m.ClientURLs), m.IsLearner
			})
		}
	}
}

// nameMember finds the name of the member itself.
func (x *examination) nameMember() {
	if x.member.MemberID == nil {
		return
	}
	for _, m := range x.member.Membership.Members {
		if m.MemberID == *x.member.MemberID && m.Name != "" {
			name := m.Name
			x.member.Name = &name
		}
	}
	if x.log == nil || x.member.Name != nil {
		return
	}
	for _, a := range x.log.Attributes {
		if ID(a.ID) == *x.member.MemberID && a.Name != "" {
			name := a.Name
			x.member.Name = &name
		}
	}
}

// checkClusters finds members that are of another cluster than most of those
// handed in with them.
func checkClusters(all []*examination) {
	count := map[ID]int{}
	var order []ID
	for _, x := range all {
		if id := x.member.ClusterID; id != nil {
			if count[*id] == 0 {
				order = append(order, *id)
			}
			count[*id]++
		}
	}
	if len(order) < 2 {
		return
	}
	// The order of the paths must not matter: among equals the lowest id counts.
	most := slices.MaxFunc(order, func(a, b ID) int { return cmp.Or(cmp.Compare(count[a], count[b]), cmp.Compare(b, a)) })
	for _, x := range all {
		if id := x.member.ClusterID; id != nil && *id != most {
			x.find(newFinding(CodeClusterIDMismatch, x.src.Path, fmt.Sprintf("the WAL is of cluster %s, %d of the other directories are of cluster %s", *id, count[most], most)).inFile(x.src.WALDir))
		}
	}
}

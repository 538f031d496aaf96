package inspect

import (
	"cmp"
	"maps"
	"slices"

	"etcd-forensics/walreader/raftlog"
)

// Places that state membership, as Membership.StatedBy names them.
const (
	StatedByMembers   = "members"   // bucket members of the database
	StatedByConfState = "confState" // key confState in bucket meta
	StatedBySnap      = "snap"      // conf state of the newest valid .snap
	StatedByStore     = "store"     // v2 store in it
	StatedByLog       = "wal"       // snapshot records and conf changes in the WAL
)

// reconcile brings together what each place states about the membership, as of the
// last index that is proven to be committed. Where raft's configuration follows from
// the log it decides who is a member; names and URLs are those of the newest
// place that has them.
func (x *examination) reconcile() {
	ms := &x.member.Membership
	ms.Statements = x.statements()
	proven := x.provenIndex()
	members, believed := x.assemble(proven)
	if b := x.member.Backend; b != nil && b.ConsistentIndex != nil {
		ms.Applied = x.configurationAt(*b.ConsistentIndex)
	}
	if believed {
		ms.Proven = members.configuration(proven)
	} else if ms.Applied != nil && ms.Applied.Index == proven {
		ms.Proven = ms.Applied
	}
	ms.Members = members.sorted()
	for i := range ms.Members {
		ms.Members[i].StatedBy = statedBy(ms.Statements, ms.Members[i].MemberID)
	}
	ms.Zombies = x.zombies()
	ms.Members = slices.DeleteFunc(ms.Members, func(m MembershipMember) bool {
		return slices.ContainsFunc(ms.Zombies, func(z MembershipMember) bool { return z.MemberID == m.MemberID })
	})
	x.listChanges(proven)
	x.listRemoved(members)
	x.identify(x.founders())
	x.nameMember()
}

// provenIndex gives the last index that is proven to be committed: at least the one
// that the database has applied.
func (x *examination) provenIndex() uint64 {
	var index uint64
	if b := x.member.Backend; b != nil {
		index = deref(b.ConsistentIndex, 0)
	}
	if w := x.member.WAL; w != nil {
		index = max(index, deref(w.ProvenCommit, 0))
		if x.log.Entries.Count > 0 {
			index = max(min(index, x.log.Entries.Last), deref(ofBackendIndex(x.member.Backend), 0))
		}
	}
	return index
}

func ofBackendIndex(b *Backend) *uint64 {
	if b == nil {
		return nil
	}
	return b.ConsistentIndex
}

// configurationAt gives raft's configuration as of the database's consistent index: as
// the log tells it, otherwise as the database itself does.
func (x *examination) configurationAt(applied uint64) *RaftConfiguration {
	if r, known := x.at(applied); known {
		return r.configuration(applied)
	}
	if r, ok := x.confState(); ok {
		return r.configuration(applied)
	}
	return nil
}

// confState gives raft's configuration as the database has it, unless that is of
// another cluster: a restore leaves the old one's conf state (etcd v3.7.3,
// etcdutl/snapshot/v3_snapshot.go, which does not write it).
func (x *examination) confState() (r roster, ok bool) {
	b := x.member.Backend
	if b == nil || b.ConfState == nil || x.staleConfState() {
		return roster{}, false
	}
	return rosterOf(b.ConfState.Voters, b.ConfState.Learners), true
}

// staleConfState says whether the database's conf state is that of a cluster from
// which it was restored: it lacks the member itself, or has members that the database
// neither has nor has removed.
func (x *examination) staleConfState() bool {
	b := x.member.Backend
	if b == nil || b.ConfState == nil {
		return false
	}
	if x.restored() {
		return true
	}
	if len(x.bucket.members) == 0 {
		return false
	}
	foreign := func(id ID) bool {
		_, member := x.bucket.members[id]
		_, removed := x.bucket.removed[id]
		return !member && !removed
	}
	return slices.ContainsFunc(b.ConfState.Voters, foreign) || slices.ContainsFunc(b.ConfState.Learners, foreign)
}

// restored says whether the database's conf state does not know the member itself.
func (x *examination) restored() bool {
	b := x.member.Backend
	if x.member.MemberID == nil || b == nil || b.ConfState == nil {
		return false
	}
	return !slices.Contains(b.ConfState.Voters, *x.member.MemberID) && !slices.Contains(b.ConfState.Learners, *x.member.MemberID)
}

// assemble gives the members as of an index. believed says that raft's configuration
// as of then follows from the log.
func (x *examination) assemble(index uint64) (r roster, believed bool) {
	base, from := x.newestDetails()
	details, _ := x.replay(base, from, index, nil)
	raft, believed := x.at(index)
	if !believed {
		if cs, ok := x.confState(); ok && len(details.members) == 0 {
			return cs, false
		}
		return details, false
	}
	r = newRoster()
	r.removed = details.removed
	maps.Copy(r.removed, raft.removed)
	for id, m := range raft.members {
		if raft.unsure[id] {
			if _, ok := details.members[id]; !ok && from > 0 {
				continue
			}
		}
		if d, ok := details.members[id]; ok && len(d.PeerURLs) > 0 {
			d.IsLearner = m.IsLearner
			m = x.published(d, index)
		} else if len(m.PeerURLs) == 0 {
			m = x.described(m)
		}
		r.add(m)
	}
	return r, true
}

// published gives a member without a name the one that it has published up to an index:
// 3.5 does not write into the bucket what a v2 request publishes.
func (x *examination) published(m MembershipMember, index uint64) MembershipMember {
	if m.Name != "" || x.log == nil {
		return m
	}
	for _, a := range x.log.Attributes {
		if ID(a.ID) == m.MemberID && a.Index <= index {
			m.Name, m.ClientURLs = a.Name, a.ClientURLs
		}
	}
	return m
}

// newestDetails gives the newest membership with names and URLs that is written down,
// and as of which index.
func (x *examination) newestDetails() (r roster, index uint64) {
	r = newRoster()
	for _, s := range x.snaps {
		if s.Valid && s.Store != nil && len(s.Store.Members) > 0 && s.Index >= index {
			r, index = rosterOfStore(s.Store), s.Index
		}
	}
	applied := deref(ofBackendIndex(x.member.Backend), 0)
	if len(x.bucket.members) > 0 && applied >= index {
		return x.bucket.copy(), applied
	}
	return r, index
}

// described fills in what the conf changes say of a member.
func (x *examination) described(m MembershipMember) MembershipMember {
	for _, c := range x.changes() {
		for _, ch := range c.Changes {
			if ID(ch.NodeID) == m.MemberID && c.Member != nil && !c.Promotes && ch.Type != raftlog.RemoveNode {
				learner := m.IsLearner
				m = newcomer(ch, c.Member)
				m.IsLearner = learner
			}
		}
	}
	return m
}

// statements lists what each place says by itself.
func (x *examination) statements() []Statement {
	list := []Statement{}
	state := func(place, file string, index *uint64, r roster) {
		removed := slices.Sorted(maps.Keys(r.removed))
		list = append(list, Statement{Place: place, File: file, Index: index, Members: r.sorted(), Removed: append([]ID{}, removed...)})
	}
	if b := x.member.Backend; b != nil {
		if len(x.bucket.members)+len(x.bucket.removed) > 0 {
			state(StatedByMembers, b.File, b.ConsistentIndex, x.bucket)
		}
		if b.ConfState != nil {
			state(StatedByConfState, b.File, b.ConsistentIndex, rosterOf(b.ConfState.Voters, b.ConfState.Learners))
		}
	}
	for i := len(x.snaps) - 1; i >= 0; i-- {
		s := x.snaps[i]
		if !s.Valid {
			continue
		}
		if len(s.ConfState.Voters)+len(s.ConfState.Learners) > 0 {
			state(StatedBySnap, s.file.Path, &s.Index, rosterOf(ids(s.ConfState.Voters), ids(s.ConfState.Learners)))
		}
		if s.Store != nil {
			state(StatedByStore, s.file.Path, &s.Index, rosterOfStore(s.Store))
		}
		break
	}
	if r, index, ok := x.logStates(); ok {
		state(StatedByLog, x.src.WALDir, &index, r)
	}
	return list
}

// logStates gives the members by the log alone: from its begin or its newest snapshot
// record, with every conf change behind that is proven to be committed.
func (x *examination) logStates() (r roster, index uint64, ok bool) {
	if x.log == nil {
		return r, 0, false
	}
	r, from := newRoster(), uint64(0)
	for _, b := range x.raftBases() {
		if b.place == StatedByLog {
			r, from = b.roster(), b.index
		}
	}
	if from == 0 {
		// Without its begin, the log tells of those that it adds.
		r = newRoster()
	}
	index = max(from, min(x.provenIndex(), x.log.Entries.Last))
	r, _ = x.replay(r, from, index, nil)
	for id, m := range r.members {
		if len(m.PeerURLs) == 0 {
			learner := m.IsLearner
			m = x.described(m)
			m.IsLearner = learner
			r.members[id] = m
		}
	}
	return r, index, len(r.members) > 0
}

// statedBy lists the places that have a member.
func statedBy(statements []Statement, id ID) []string {
	places := []string{}
	for _, s := range statements {
		if slices.ContainsFunc(s.Members, func(m MembershipMember) bool { return m.MemberID == id }) {
			places = append(places, s.Place)
		}
	}
	return places
}

// listChanges lists the conf changes in the log.
func (x *examination) listChanges(proven uint64) {
	ms := &x.member.Membership
	ms.Changes = []MembershipChange{}
	for _, c := range x.changes() {
		for _, ch := range c.Changes {
			m := MembershipChange{Index: c.Index, Term: c.Term, Change: ch.Type.String(), MemberID: ID(ch.NodeID), PeerURLs: []string{}, Proven: c.Index <= proven}
			if c.Promotes {
				m.Change = "promote"
			}
			if c.Member != nil && !c.Promotes {
				m.Name, m.PeerURLs = c.Member.Name, orEmpty(c.Member.PeerURLs)
			}
			ms.Changes = append(ms.Changes, m)
		}
	}
}

// listRemoved lists who was removed, with what is known of them.
func (x *examination) listRemoved(members roster) {
	ms := &x.member.Membership
	removed := maps.Clone(members.removed)
	for _, s := range ms.Statements {
		for _, id := range s.Removed {
			if _, ok := removed[id]; !ok {
				removed[id] = 0
			}
		}
	}
	for id := range members.members {
		delete(removed, id)
	}
	ms.Removed, ms.Removals = []ID{}, []Removal{}
	for _, id := range slices.Sorted(maps.Keys(removed)) {
		r := Removal{MemberID: id, PeerURLs: []string{}}
		for _, c := range ms.Changes {
			switch {
			case c.MemberID != id:
			case c.Change == "remove" && c.Proven && r.Index == nil:
				index := c.Index
				r.Index = &index
			case len(c.PeerURLs) > 0:
				r.Name, r.PeerURLs = cmp.Or(c.Name, r.Name), c.PeerURLs
			}
		}
		if x.log != nil {
			for _, a := range x.log.Attributes {
				if ID(a.ID) == id {
					r.Name = a.Name
				}
			}
		}
		ms.Removed, ms.Removals = append(ms.Removed, id), append(ms.Removals, r)
	}
}

// founders lists the members that the log begins with, nil when its begin is not there.
// They are added in term 1, before any leader is elected, and in an order of their
// own (raft's bootstrap.go).
func (x *examination) founders() []MembershipMember {
	if x.log == nil || x.log.Entries.Count == 0 || x.log.Entries.First != 1 {
		return nil
	}
	var list []MembershipMember
	for _, c := range x.changes() {
		if c.Index != uint64(len(list))+1 || c.Term != 1 || c.Member == nil || len(c.Changes) != 1 || c.Changes[0].Type != raftlog.AddNode {
			break
		}
		list = append(list, newcomer(c.Changes[0], c.Member))
	}
	return list
}

// nameMember finds the name of the member itself.
func (x *examination) nameMember() {
	if x.member.MemberID == nil {
		return
	}
	ms := &x.member.Membership
	for _, m := range slices.Concat(ms.Zombies, ms.Members) {
		if m.MemberID == *x.member.MemberID && m.Name != "" {
			x.member.Name = &m.Name
		}
	}
	if x.log == nil || x.member.Name != nil {
		return
	}
	for _, a := range x.log.Attributes {
		if ID(a.ID) == *x.member.MemberID && a.Name != "" {
			x.member.Name = &a.Name
		}
	}
}

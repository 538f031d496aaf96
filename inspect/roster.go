package inspect

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"sort"
	"strings"

	"etcd-forensics/walreader/raftlog"
	"etcd-forensics/walreader/snapfile"
)

// A roster is the membership as of one raft index.
type roster struct {
	members map[ID]MembershipMember
	removed map[ID]uint64 // index of the removal, 0 when it is not known
	owner   map[string]ID // of each peer URL
	// unsure are members of which the log alone does not tell whether etcd took them in:
	// how many learners it allows is a flag, and a conf state knows no URLs.
	unsure map[ID]bool
	// bare says that members may have URLs that are not known.
	bare bool
}

func newRoster() roster {
	return roster{members: map[ID]MembershipMember{}, removed: map[ID]uint64{}, owner: map[string]ID{}, unsure: map[ID]bool{}}
}

// copy gives a roster that can be changed without the other.
func (r roster) copy() roster {
	return roster{maps.Clone(r.members), maps.Clone(r.removed), maps.Clone(r.owner), maps.Clone(r.unsure), r.bare}
}

// add puts a member in, or in the place of what it was.
func (r roster) add(m MembershipMember) {
	r.drop(m.MemberID)
	m.PeerURLs, m.ClientURLs, m.StatedBy = orEmpty(m.PeerURLs), orEmpty(m.ClientURLs), []string{}
	r.members[m.MemberID] = m
	for _, u := range m.PeerURLs {
		r.owner[u] = m.MemberID
	}
}

func (r roster) drop(id ID) {
	for _, u := range r.members[id].PeerURLs {
		if r.owner[u] == id {
			delete(r.owner, u)
		}
	}
	delete(r.members, id)
	delete(r.unsure, id)
}

func (r roster) learners() (n int) {
	for _, m := range r.members {
		if m.IsLearner {
			n++
		}
	}
	return n
}

// rosterOf gives the members of raft's configuration: ids, and who is a learner.
func rosterOf(voters, learners []ID) roster {
	r := newRoster()
	r.bare = true
	for _, id := range voters {
		r.add(MembershipMember{MemberID: id})
	}
	for _, id := range learners {
		r.add(MembershipMember{MemberID: id, IsLearner: true})
	}
	return r
}

// rosterOfStore gives the members of a v2 store.
func rosterOfStore(s *snapfile.Store) roster {
	r := newRoster()
	for _, m := range s.Members {
		r.add(MembershipMember{MemberID: ID(m.ID), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner})
	}
	for _, id := range s.Removed {
		r.removed[ID(id)] = 0
	}
	return r
}

// apply carries a conf change out. What etcd refuses changes nothing: it passes an
// empty change on to raft (etcd v3.7.3, server/etcdserver/api/membership/cluster.go,
// ValidateConfigurationChange).
func (r roster) apply(c raftlog.ConfChangeEntry) {
	for _, ch := range c.Changes {
		id := ID(ch.NodeID)
		m, known := r.members[id]
		if _, gone := r.removed[id]; gone && ch.Type != raftlog.RemoveNode {
			continue
		}
		unsure := r.unsure[id]
		switch ch.Type {
		case raftlog.AddNode, raftlog.AddLearnerNode:
			switch {
			case c.Promotes && known && m.IsLearner:
				m.IsLearner = false
			case c.Promotes, known, c.Member != nil && r.taken(c.Member.PeerURLs, id):
				continue
			default:
				m = newcomer(ch, c.Member)
				unsure = r.bare || m.IsLearner && r.learners() > 0
			}
		case raftlog.UpdateNode:
			if !known || c.Member == nil || r.taken(c.Member.PeerURLs, id) {
				continue
			}
			m.PeerURLs = c.Member.PeerURLs
		case raftlog.RemoveNode:
			if known {
				r.drop(id)
				r.removed[id] = c.Index
			}
			continue
		default:
			continue
		}
		r.add(m)
		if unsure {
			r.unsure[id] = true
		}
	}
}

// newcomer gives the member that a change adds.
func newcomer(ch raftlog.Change, described *raftlog.Member) MembershipMember {
	m := MembershipMember{MemberID: ID(ch.NodeID), IsLearner: ch.Type == raftlog.AddLearnerNode}
	if described != nil {
		m.Name, m.PeerURLs, m.ClientURLs = described.Name, described.PeerURLs, described.ClientURLs
	}
	return m
}

// taken says whether a peer URL is that of another member.
func (r roster) taken(urls []string, id ID) bool {
	return slices.ContainsFunc(urls, func(u string) bool {
		owner, ok := r.owner[u]
		return ok && owner != id
	})
}

// sorted lists the members by id.
func (r roster) sorted() []MembershipMember {
	return slices.SortedFunc(maps.Values(r.members), func(a, b MembershipMember) int { return cmp.Compare(a.MemberID, b.MemberID) })
}

// configuration gives what raft knows of a roster.
func (r roster) configuration(index uint64) *RaftConfiguration {
	c := &RaftConfiguration{Index: index, Voters: []ID{}, Learners: []ID{}}
	for _, m := range r.sorted() {
		if m.IsLearner {
			c.Learners = append(c.Learners, m.MemberID)
		} else {
			c.Voters = append(c.Voters, m.MemberID)
		}
	}
	return c
}

// sameConfiguration says whether two rosters are one to raft, as far as is sure.
func (r roster) sameConfiguration(o roster) bool {
	return r.within(o) && o.within(r)
}

func (r roster) within(o roster) bool {
	for id, m := range r.members {
		other, ok := o.members[id]
		if !r.unsure[id] && !o.unsure[id] && (!ok || other.IsLearner != m.IsLearner) {
			return false
		}
	}
	return true
}

// sameIDs says whether two rosters have the same members.
func (r roster) sameIDs(o roster) bool {
	return maps.EqualFunc(r.members, o.members, func(MembershipMember, MembershipMember) bool { return true })
}

// maxRoster bounds the members of a cluster whose conf changes are followed. etcd's
// clusters have 7 at most, and some learners.
const maxRoster = 1000

// A basis is a membership that one place states as of an index, from which later
// ones follow by the conf changes in the log.
type basis struct {
	place  string
	file   string
	index  uint64
	roster func() roster
}

// raftBases lists the configurations of raft that are written down, by index.
func (x *examination) raftBases() []basis {
	var all []basis
	if x.log != nil {
		if x.log.Entries.Count > 0 && x.log.Entries.First == 1 {
			all = append(all, basis{StatedByLog, x.src.WALDir, 0, newRoster})
		}
		for _, s := range x.log.Snapshots {
			if s.ConfState != nil && s.Accepted {
				all = append(all, basis{StatedByLog, s.At.Segment, s.Index, func() roster { return rosterOf(ids(s.ConfState.Voters), ids(s.ConfState.Learners)) }})
			}
		}
	}
	for _, s := range x.snaps {
		if s.Valid && len(s.ConfState.Voters) > 0 {
			all = append(all, basis{StatedBySnap, s.file.Path, s.Index, s.roster})
		}
	}
	slices.SortStableFunc(all, func(a, b basis) int { return cmp.Compare(a.index, b.index) })
	return all
}

// roster gives raft's configuration with what the v2 store beside it knows of the
// members.
func (s snapshot) roster() roster {
	r := rosterOf(ids(s.ConfState.Voters), ids(s.ConfState.Learners))
	if s.Store == nil || !s.Store.Complete {
		return r
	}
	store := rosterOfStore(s.Store)
	r.bare = false
	r.removed = store.removed
	for id, m := range r.members {
		known, ok := store.members[id]
		if !ok {
			r.bare = true
			continue
		}
		known.IsLearner = m.IsLearner
		r.add(known)
	}
	return r
}

// changes lists the conf changes that no later entry has taken the place of, by
// index.
func (x *examination) changes() []raftlog.ConfChangeEntry {
	if x.log == nil || x.confChanges != nil {
		return x.confChanges
	}
	last := map[uint64]raftlog.ConfChangeEntry{}
	for _, c := range x.log.ConfChanges {
		if term, ok := x.log.TermAt(c.Index); ok && term == c.Term {
			last[c.Index] = c
		}
	}
	x.confChanges = slices.AppendSeq(make([]raftlog.ConfChangeEntry, 0, len(last)), maps.Values(last))
	slices.SortFunc(x.confChanges, func(a, b raftlog.ConfChangeEntry) int { return cmp.Compare(a.Index, b.Index) })
	return x.confChanges
}

// covers says whether the log holds every entry between two indexes, the first
// excluded, so that no conf change between them is unknown.
func (x *examination) covers(from, to uint64) bool {
	if from >= to {
		return from == to
	}
	l := x.log
	if l == nil || l.Entries.Count == 0 || l.Entries.First > from+1 || l.Entries.Last < to || l.Dropped["confChanges"] > 0 || len(l.Undecodable) > 0 {
		return false
	}
	return !slices.ContainsFunc(l.Gaps, func(g raftlog.Gap) bool { return g.Next > from+1 && g.After < to })
}

// at gives raft's membership as of an index, as far as a basis and the log tell it.
func (x *examination) at(index uint64) (r roster, known bool) {
	bases := x.raftBases()
	for i := len(bases) - 1; i >= 0; i-- {
		if b := bases[i]; b.index <= index && x.covers(b.index, index) {
			return x.replay(b.roster(), b.index, index, nil)
		}
	}
	return roster{}, false
}

// replay applies to a roster the conf changes and published attributes behind an
// index, up to another, and has visit look at it after each.
func (x *examination) replay(r roster, from, to uint64, visit func(roster)) (roster, bool) {
	changes := x.changes()
	var attributes []raftlog.AttributesEntry
	if x.log != nil {
		attributes = x.log.Attributes
	}
	publish := func(until uint64) {
		for len(attributes) > 0 && attributes[0].Index <= until {
			a := attributes[0]
			attributes = attributes[1:]
			if m, ok := r.members[ID(a.ID)]; ok && a.Index > from {
				m.Name, m.ClientURLs = a.Name, a.ClientURLs
				unsure := r.unsure[m.MemberID]
				r.add(m)
				if unsure {
					r.unsure[m.MemberID] = true
				}
			}
		}
	}
	for _, c := range changes[sort.Search(len(changes), func(i int) bool { return changes[i].Index > from }):] {
		if c.Index > to {
			break
		}
		publish(c.Index)
		r.apply(c)
		if len(r.members) > maxRoster {
			return r, false
		}
		if visit != nil {
			visit(r)
		}
	}
	publish(to)
	return r, true
}

// A span is what raft's membership was at some time from one index on: a place that
// is written before its index is may be ahead of it.
type span struct {
	known   bool
	first   roster
	ever    map[ID]bool // members at some time
	always  map[ID]bool // at all times
	voter   map[ID]bool // at some time
	learner map[ID]bool
	unsure  map[ID]bool
	urls    map[ID][]string // peer URLs that each had, joined
	names   map[ID][]string
}

func newSpan() span {
	return span{
		ever: map[ID]bool{}, always: map[ID]bool{}, voter: map[ID]bool{}, learner: map[ID]bool{}, unsure: map[ID]bool{},
		urls: map[ID][]string{}, names: map[ID][]string{},
	}
}

// spanOf gives the span of one membership alone.
func spanOf(r roster) span {
	s := newSpan()
	s.known = true
	s.begin(r)
	return s
}

func (s *span) begin(r roster) {
	s.first = r.copy()
	for id := range r.members {
		s.always[id] = true
	}
	s.look(r)
}

// look takes one membership in.
func (s *span) look(r roster) {
	for id, m := range r.members {
		s.ever[id] = true
		s.voter[id] = s.voter[id] || !m.IsLearner
		s.learner[id] = s.learner[id] || m.IsLearner
		s.unsure[id] = s.unsure[id] || r.unsure[id]
		if u := joined(m.PeerURLs); u != "" && !slices.Contains(s.urls[id], u) {
			s.urls[id] = append(s.urls[id], u)
		}
		if m.Name != "" && !slices.Contains(s.names[id], m.Name) {
			s.names[id] = append(s.names[id], m.Name)
		}
	}
	for id := range s.always {
		if _, ok := r.members[id]; !ok {
			delete(s.always, id)
		}
	}
}

// joined puts URLs into one text in which their order does not matter.
func joined(urls []string) string { return strings.Join(slices.Sorted(slices.Values(urls)), " ") }

// allows says whether a configuration can be one of the span, as far as is sure.
func (s *span) allows(cs roster) bool {
	for id, m := range cs.members {
		if !s.unsure[id] && (!s.ever[id] || m.IsLearner && !s.learner[id] || !m.IsLearner && !s.voter[id]) {
			return false
		}
	}
	for id := range s.always {
		if _, ok := cs.members[id]; !ok && !s.unsure[id] {
			return false
		}
	}
	return true
}

// since gives raft's membership from an index on, to the end of the log.
func (x *examination) since(index uint64) span {
	s := newSpan()
	r, known := x.at(index)
	if !known {
		return s
	}
	s.begin(r)
	_, s.known = x.replay(r, index, math.MaxUint64, s.look)
	return s
}

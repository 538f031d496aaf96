package inspect

import (
	"cmp"
	"slices"
)

// A MembershipReport is the membership of one cluster as all sources state it
// together.
type MembershipReport struct {
	ClusterID *ID `json:"clusterID"`
	// Membership is that of the source whose log reaches furthest, with what the others
	// know besides. Its statements are those of all sources of the cluster.
	Membership Membership         `json:"membership"`
	Sources    []MembershipSource `json:"sources"`
	Findings   []Finding          `json:"findings"` // about the membership
	Others     []Finding          `json:"-"`        // the rest
	// Interrupted is there when not all was examined. Sources that were not examined to their
	// end have no part in Membership.
	Interrupted *Interruption `json:"interrupted,omitempty"`
}

// A MembershipSource is what one source says about the membership.
type MembershipSource struct {
	Source
	MemberID  *ID     `json:"memberID"`
	ClusterID *ID     `json:"clusterID"`
	Name      *string `json:"name"`
	// Included says that the source is of the cluster reported.
	Included    bool       `json:"included"`
	Membership  Membership `json:"membership"`
	NotExamined []string   `json:"notExamined"`
	Interrupted bool       `json:"interrupted,omitempty"`
}

// membershipCodes are the codes of findings about the membership.
var membershipCodes = []Code{
	CodeMemberSourcesDisagree, CodeMemberLearnerMismatch, CodeMemberZombie, CodeMemberRemoved, CodeMemberDuplicate,
	CodeMemberIDUnexplained, CodeMemberRestored, CodeMemberForcedNew, CodeMemberIDMismatch, CodeClusterIDMismatch,
}

// Membership brings together what the sources of a case say about the membership. Of
// several clusters it takes the one of most sources.
func (c *Case) Membership() *MembershipReport {
	r := &MembershipReport{ClusterID: c.mainCluster(), Sources: []MembershipSource{}, Findings: []Finding{}, Interrupted: c.Interrupted}
	for i, m := range c.Members {
		r.Sources = append(r.Sources, MembershipSource{
			Source: c.Sources[i], MemberID: m.MemberID, ClusterID: m.ClusterID, Name: m.Name, Membership: m.Membership, NotExamined: m.NotExamined,
			Interrupted: m.Interrupted,
		})
	}
	for _, f := range c.Findings {
		if slices.Contains(membershipCodes, f.Code) {
			r.Findings = append(r.Findings, f)
		} else {
			r.Others = append(r.Others, f)
		}
	}
	r.include()
	r.merge()
	return r
}

// mainCluster gives the cluster of most sources, the one with the lowest id of several.
func (c *Case) mainCluster() *ID {
	count := map[ID]int{}
	var most *ID
	for _, m := range c.Members {
		if id := m.ClusterID; id != nil && !m.Interrupted {
			count[*id]++
		}
	}
	for id, n := range count {
		if most == nil || n > count[*most] || n == count[*most] && id < *most {
			most = &id
		}
	}
	return most
}

// include marks the sources of the cluster. A snapshot says nothing of its cluster: it
// is of this one when it has a member in common.
func (r *MembershipReport) include() {
	var known []ID
	for i := range r.Sources {
		s := &r.Sources[i]
		if !s.Interrupted && s.ClusterID != nil && *s.ClusterID == *r.ClusterID {
			s.Included = true
			for _, m := range s.Membership.Members {
				known = append(known, m.MemberID)
			}
		}
	}
	for i := range r.Sources {
		s := &r.Sources[i]
		if !s.Interrupted && s.ClusterID == nil && (r.ClusterID == nil || slices.ContainsFunc(s.Membership.Members, func(m MembershipMember) bool { return slices.Contains(known, m.MemberID) })) {
			s.Included = true
		}
	}
}

// merge takes the membership of the source that reaches furthest, and adds what the
// others know.
func (r *MembershipReport) merge() {
	var order []*Membership
	for i := range r.Sources {
		if r.Sources[i].Included {
			order = append(order, &r.Sources[i].Membership)
		}
	}
	reach := func(m *Membership) uint64 {
		if m.Proven == nil {
			return 0
		}
		return m.Proven.Index
	}
	// What two sources say that reach equally far is the same, or there is a finding.
	slices.SortStableFunc(order, func(a, b *Membership) int {
		return cmp.Or(-cmp.Compare(reach(a), reach(b)), -cmp.Compare(len(a.Statements), len(b.Statements)), -cmp.Compare(len(a.Changes), len(b.Changes)))
	})
	to := &r.Membership
	if len(order) == 0 {
		*to = Membership{Members: []MembershipMember{}, Removed: []ID{}, Removals: []Removal{}, Zombies: []MembershipMember{}, Changes: []MembershipChange{}, Statements: []Statement{}}
		return
	}
	*to = *order[0]
	to.Members, to.Removals, to.Changes = slices.Clone(to.Members), slices.Clone(to.Removals), slices.Clone(to.Changes)
	to.Zombies, to.Statements = slices.Clone(to.Zombies), []Statement{}
	for _, m := range order[1:] {
		to.take(m)
	}
	for _, s := range r.Sources {
		if s.Included {
			to.Statements = append(to.Statements, s.Membership.Statements...)
		}
	}
	to.sortAll()
}

// take adds what another source of the cluster knows.
func (to *Membership) take(m *Membership) {
	for _, other := range m.Members {
		i := slices.IndexFunc(to.Members, func(mm MembershipMember) bool { return mm.MemberID == other.MemberID })
		if i < 0 {
			continue // gone, as the one that reaches furthest knows
		}
		mine := &to.Members[i]
		if mine.Name == "" {
			mine.Name, mine.ClientURLs = other.Name, other.ClientURLs
		}
		if len(mine.PeerURLs) == 0 {
			mine.PeerURLs = other.PeerURLs
		}
		mine.StatedBy = unite(mine.StatedBy, other.StatedBy)
	}
	for _, other := range m.Removals {
		i := slices.IndexFunc(to.Removals, func(r Removal) bool { return r.MemberID == other.MemberID })
		switch {
		case i >= 0:
			mine := &to.Removals[i]
			if mine.Index == nil {
				mine.Index = other.Index
			}
			if mine.Name == "" {
				mine.Name = other.Name
			}
			if len(mine.PeerURLs) == 0 {
				mine.PeerURLs = other.PeerURLs
			}
		case !slices.ContainsFunc(to.Members, func(mm MembershipMember) bool { return mm.MemberID == other.MemberID }):
			to.Removals = append(to.Removals, other)
		}
	}
	for _, other := range m.Zombies {
		if !slices.ContainsFunc(slices.Concat(to.Zombies, to.Members), func(z MembershipMember) bool { return z.MemberID == other.MemberID }) {
			to.Zombies = append(to.Zombies, other)
		}
	}
	for _, other := range m.Changes {
		i := slices.IndexFunc(to.Changes, func(c MembershipChange) bool {
			return c.Index == other.Index && c.Term == other.Term && c.MemberID == other.MemberID && c.Change == other.Change
		})
		if i < 0 {
			to.Changes = append(to.Changes, other)
		} else {
			to.Changes[i].Proven = to.Changes[i].Proven || other.Proven
		}
	}
	if id := m.Identity; id != nil && (to.Identity == nil || to.Identity.Token == nil && id.Token != nil || len(to.Identity.Initial) == 0) {
		to.Identity = id
	}
}

// unite gives the places of both lists, in the order in which they are named.
func unite(a, b []string) []string {
	both := []string{}
	for _, p := range []string{StatedByMembers, StatedByConfState, StatedBySnap, StatedByStore, StatedByLog} {
		if slices.Contains(a, p) || slices.Contains(b, p) {
			both = append(both, p)
		}
	}
	return both
}

func (to *Membership) sortAll() {
	slices.SortFunc(to.Removals, func(a, b Removal) int { return cmp.Compare(a.MemberID, b.MemberID) })
	slices.SortFunc(to.Zombies, func(a, b MembershipMember) int { return cmp.Compare(a.MemberID, b.MemberID) })
	slices.SortStableFunc(to.Changes, func(a, b MembershipChange) int {
		return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.Term, b.Term))
	})
	to.Removed = []ID{}
	for _, r := range to.Removals {
		to.Removed = append(to.Removed, r.MemberID)
	}
}

package inspect

import (
	"fmt"
	"slices"
	"strings"

	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/walreader/raftlog"
)

// checkMembership judges whether the places that state the membership agree.
func (x *examination) checkMembership() {
	x.checkOrigin()
	x.checkConfigurations()
	x.checkStore()
	if !x.foreignDatabase() {
		x.checkZombies()
		x.checkBucket()
	}
	x.checkDuplicates()
	x.checkIDs()
}

// applied gives the database's consistent index.
func (x *examination) applied() uint64 { return deref(ofBackendIndex(x.member.Backend), 0) }

// zombies lists the members of bucket members that raft did not have at the consistent
// index and was not given later.
func (x *examination) zombies() []MembershipMember {
	list := []MembershipMember{}
	if len(x.bucket.members) == 0 || x.foreignDatabase() {
		return list
	}
	is := x.zombieByDatabase()
	if s := x.since(x.applied()); s.known {
		is = func(id ID) bool { return !s.ever[id] }
	}
	for _, m := range x.bucket.sorted() {
		if is(m.MemberID) {
			m.StatedBy = statedBy(x.member.Membership.Statements, m.MemberID)
			list = append(list, m)
		}
	}
	return list
}

// zombieByDatabase tells zombies where no log says what raft has: by the database's own
// conf state, which a restore leaves as it was. What was removed and is there is one
// always.
func (x *examination) zombieByDatabase() func(ID) bool {
	cs, ok := x.confState()
	members := x.bucket.sorted()
	if _, n := tokenOf(members, append(slices.Clone(x.opts.Tokens), Tokens...)); n == len(members) || x.freshlyRestored() {
		ok = false // all are of one making: restored under the token of the old cluster
	}
	return func(id ID) bool {
		if _, removed := x.bucket.removed[id]; removed {
			return true
		}
		_, known := cs.members[id]
		added := slices.ContainsFunc(x.member.Membership.Statements, func(s Statement) bool {
			return (s.Place == StatedByLog || s.Place == StatedBySnap) && slices.ContainsFunc(s.Members, func(m MembershipMember) bool { return m.MemberID == id })
		})
		return ok && !known && !added
	}
}

// freshlyRestored says whether the database is as a restore leaves it: it has applied
// one entry for each member, in term 1.
func (x *examination) freshlyRestored() bool {
	b := x.member.Backend
	return b != nil && deref(b.Term, 0) == 1 && x.applied() == uint64(len(x.bucket.members))
}

func (x *examination) checkZombies() {
	for _, m := range x.member.Membership.Zombies {
		how := "raft does not have it"
		if x.log == nil {
			how = "the conf state in bucket meta does not, unless it is that of a cluster from which this one was restored under the same token"
		}
		if _, removed := x.bucket.removed[m.MemberID]; removed {
			how += ", and bucket members_removed lists it as well"
		}
		x.find(newFinding(CodeMemberZombie, x.src.Path, fmt.Sprintf("bucket members lists %s as of index %d; %s", described(m), x.applied(), how)).
			inFile(x.member.Backend.File))
	}
}

// described names a member for a message.
func described(m MembershipMember) string {
	s := "member " + m.MemberID.String()
	if m.Name != "" {
		s += " (" + quoteKey([]byte(m.Name)) + ")"
	}
	return s
}

// checkBucket holds bucket members against raft's membership.
func (x *examination) checkBucket() {
	b := x.member.Backend
	if b == nil || b.ConsistentIndex == nil || len(x.bucket.members) == 0 {
		return
	}
	s := x.since(x.applied())
	by := "the log"
	if !s.known {
		cs, ok := x.confState()
		if !ok {
			return
		}
		s, by = spanOf(cs), "the conf state in bucket meta"
	}
	for _, m := range x.bucket.sorted() {
		id := m.MemberID
		if s.unsure[id] || !s.ever[id] {
			continue
		}
		switch {
		case m.IsLearner && !s.learner[id]:
			x.find(newFinding(CodeMemberLearnerMismatch, x.src.Path, fmt.Sprintf("bucket members has %s as a learner, by %s raft has it as a voter%s", described(m), by, x.promotion(id))).inFile(b.File))
		case !m.IsLearner && !s.voter[id]:
			x.find(newFinding(CodeMemberLearnerMismatch, x.src.Path, fmt.Sprintf("bucket members has %s as a voter, by %s raft has it as a learner%s", described(m), by, x.update(id))).inFile(b.File))
		}
		x.checkDetails(m, s)
	}
	if !x.bucketWhole() {
		return
	}
	for _, m := range s.first.sorted() {
		if _, listed := x.bucket.members[m.MemberID]; !listed && s.always[m.MemberID] && !s.unsure[m.MemberID] {
			x.find(newFinding(CodeMemberSourcesDisagree, x.src.Path, fmt.Sprintf("bucket members lacks %s, which raft has by %s", described(m), by)).inFile(b.File))
		}
	}
}

// promotion says where a learner was promoted.
func (x *examination) promotion(id ID) string {
	for _, c := range slices.Backward(x.member.Membership.Changes) {
		if c.MemberID == id && c.Change == "promote" && c.Index <= x.applied() {
			return fmt.Sprintf(" since index %d; etcd 3.5.1 to 3.5.19 does not write a promotion into the bucket", c.Index)
		}
	}
	return "; etcd 3.5.1 to 3.5.19 does not write a promotion into the bucket"
}

// update says where a learner was updated.
func (x *examination) update(id ID) string {
	for _, c := range slices.Backward(x.member.Membership.Changes) {
		if c.MemberID == id && c.Change == raftlog.UpdateNode.String() && c.Index <= x.applied() {
			return fmt.Sprintf("; it was updated at index %d, and etcd before 3.5.31 and 3.6.12 forgets then that it is a learner", c.Index)
		}
	}
	return ""
}

// checkDetails compares a member's name and URLs in the bucket with those that the log
// gives it.
func (x *examination) checkDetails(m MembershipMember, s span) {
	if urls := s.urls[m.MemberID]; len(urls) > 0 && len(m.PeerURLs) > 0 && !slices.Contains(urls, joined(m.PeerURLs)) {
		x.find(newFinding(CodeMemberSourcesDisagree, x.src.Path, fmt.Sprintf("bucket members has %s at %s, by the log it is at %s",
			described(m), quoteKey([]byte(strings.Join(m.PeerURLs, " "))), quoteKey([]byte(urls[0])))).inFile(x.member.Backend.File))
	}
	names := s.names[m.MemberID]
	if x.log != nil {
		for _, a := range x.log.Attributes {
			if ID(a.ID) == m.MemberID {
				names = append(names, a.Name)
			}
		}
	}
	if m.Name != "" && len(names) > 0 && !slices.Contains(names, m.Name) {
		x.find(newFinding(CodeMemberSourcesDisagree, x.src.Path, fmt.Sprintf("bucket members has %s, which the log calls %s", described(m), quoteKey([]byte(names[0])))).inFile(x.member.Backend.File))
	}
}

// bucketWhole says whether every record of bucket members could be read.
func (x *examination) bucketWhole() bool {
	d := x.db
	if d == nil || d.tree == nil || d.remnant != nil || x.badRecords > 0 || slices.Contains(d.tooLarge, keyspace.BucketMembers) {
		return false
	}
	b, ok := d.bucket[keyspace.BucketMembers]
	return ok && !d.tree.Faults.InBucket(b) && x.member.Backend.Complete
}

// checkConfigurations holds the conf states against each other: each follows from the
// one before it by the conf changes in between.
func (x *examination) checkConfigurations() {
	bases := x.raftBases()
	for i := 1; i < len(bases); i++ {
		a, b := bases[i-1], bases[i]
		if !x.covers(a.index, b.index) {
			continue
		}
		if r, ok := x.replay(a.roster(), a.index, b.index, nil); ok && !r.sameConfiguration(b.roster()) {
			x.find(newFinding(CodeMemberSourcesDisagree, x.src.Path, fmt.Sprintf("the conf state as of index %d is %s, by the one of index %d and the log it is %s",
				b.index, shownConfiguration(b.roster()), a.index, shownConfiguration(r))).inFile(b.file).atIndex(b.index))
			return // what follows from a wrong one is wrong as well
		}
	}
	cs, ok := x.confState()
	if !ok || x.foreignDatabase() || x.restoredAt() > 0 {
		return
	}
	s := x.since(x.applied())
	if !s.known {
		return
	}
	if !s.allows(cs) {
		x.find(newFinding(CodeMemberSourcesDisagree, x.src.Path, fmt.Sprintf("the conf state in bucket meta is %s, by the log raft's as of index %d is %s",
			shownConfiguration(cs), x.applied(), shownConfiguration(s.first))).inFile(x.member.Backend.File))
	}
}

func shownConfiguration(r roster) string {
	const most = 10
	var voters, learners []string
	for _, m := range r.sorted() {
		if m.IsLearner {
			learners = append(learners, m.MemberID.String())
		} else {
			voters = append(voters, m.MemberID.String())
		}
	}
	if len(voters)+len(learners) > most {
		return fmt.Sprintf("%d voters and %d learners", len(voters), len(learners))
	}
	s := "voters " + strings.Join(voters, " ")
	if len(learners) > 0 {
		s += ", learners " + strings.Join(learners, " ")
	}
	return s
}

// checkStore holds the v2 store of the newest .snap against the conf state in it.
func (x *examination) checkStore() {
	for _, s := range slices.Backward(x.snaps) {
		if !s.Valid {
			continue
		}
		if s.Store == nil || !s.Store.Complete || s.Store.Dropped > 0 || len(s.Store.Members) == 0 || len(s.ConfState.Voters) == 0 {
			return
		}
		store, raft := rosterOfStore(s.Store), rosterOf(ids(s.ConfState.Voters), ids(s.ConfState.Learners))
		for _, m := range store.sorted() {
			r, ok := raft.members[m.MemberID]
			if ok && r.IsLearner != m.IsLearner {
				x.find(newFinding(CodeMemberLearnerMismatch, x.src.Path, fmt.Sprintf("the v2 store has %s with learner %t, the conf state beside it %t", described(m), m.IsLearner, r.IsLearner)).inFile(s.file.Path).atIndex(s.Index))
			}
		}
		if !store.sameIDs(raft) {
			x.find(newFinding(CodeMemberSourcesDisagree, x.src.Path, fmt.Sprintf("the v2 store has %s, the conf state beside it %s", shownConfiguration(store), shownConfiguration(raft))).inFile(s.file.Path).atIndex(s.Index))
		}
		return
	}
}

// foreignDatabase says whether the database does not know the member whose WAL lies
// beside it. A database of 3.4 is not asked: a restore by 3.4 leaves the old members in
// it (etcd v3.4, clientv3/snapshot/v3_snapshot.go).
func (x *examination) foreignDatabase() bool {
	b := x.member.Backend
	if x.member.MemberID == nil || b == nil || b.ConfState == nil || len(x.bucket.members) == 0 {
		return false
	}
	id := *x.member.MemberID
	_, member := x.bucket.members[id]
	_, removed := x.bucket.removed[id]
	if member || removed || slices.Contains(b.ConfState.Voters, id) || slices.Contains(b.ConfState.Learners, id) {
		return false
	}
	// The database of a member that has just joined may be older than itself.
	return x.log == nil || !slices.ContainsFunc(x.log.ConfChanges, func(c raftlog.ConfChangeEntry) bool {
		return c.Index > x.applied() && slices.ContainsFunc(c.Changes, func(ch raftlog.Change) bool { return ID(ch.NodeID) == id })
	})
}

// checkIdentity asks whether the database knows the member whose WAL lies beside it.
func (x *examination) checkIdentity() {
	if x.foreignDatabase() {
		x.find(newFinding(CodeMemberIDMismatch, x.src.Path, fmt.Sprintf("the WAL is that of member %s, which the database beside it does not know", *x.member.MemberID)).inFile(x.src.WALDir))
	}
}

// checkRemoved finds the directories of members that were removed, as they themselves
// or others of the same cluster know.
func checkRemoved(all []*examination) {
	for _, x := range all {
		id, cluster := x.member.MemberID, x.member.ClusterID
		if id == nil || cluster == nil {
			continue
		}
		var by []string
		var index *uint64
		for _, y := range all {
			if y.member.ClusterID == nil || *y.member.ClusterID != *cluster {
				continue
			}
			for _, r := range y.member.Membership.Removals {
				if r.MemberID == *id {
					by = append(by, y.src.Path)
					if index == nil {
						index = r.Index
					}
				}
			}
		}
		if len(by) == 0 {
			continue
		}
		name := ""
		if x.member.Name != nil {
			name = *x.member.Name
		}
		slices.Sort(by)
		x.member.Removed = true
		f := newFinding(CodeMemberRemoved, x.src.Path, "")
		f.Message = described(MembershipMember{MemberID: *id, Name: name}) + " was removed from the cluster"
		if index != nil {
			f.Message += fmt.Sprintf(" at index %d", *index)
			f = f.atIndex(*index)
		}
		if others := slices.DeleteFunc(by, func(p string) bool { return p == x.src.Path }); len(others) == len(by) {
			f.Message += ", as " + strings.Join(others, ", ") + " knows"
		}
		x.find(f.inFile(x.src.WALDir))
	}
}

// checkDuplicates finds members that share a name or a URL.
func (x *examination) checkDuplicates() {
	type use struct{ what, text string }
	by := map[use][]string{}
	var order []use
	for _, m := range x.member.Membership.Members {
		uses := []use{{"name", m.Name}}
		for _, u := range m.PeerURLs {
			uses = append(uses, use{"peer URL", u})
		}
		for _, u := range m.ClientURLs {
			uses = append(uses, use{"client URL", u})
		}
		for _, u := range uses {
			if u.text == "" || slices.Contains(by[u], m.MemberID.String()) {
				continue
			}
			if by[u] = append(by[u], m.MemberID.String()); len(by[u]) == 2 {
				order = append(order, u)
			}
		}
	}
	for _, u := range order {
		x.find(newFinding(CodeMemberDuplicate, x.src.Path, fmt.Sprintf("members %s have the %s %s", strings.Join(by[u], " and "), u.what, quoteKey([]byte(u.text)))))
	}
}

// confStateFits says whether the database's conf state is of the members in the bucket.
func (x *examination) confStateFits() bool {
	cs, ok := x.confState()
	return ok && cs.sameIDs(x.bucket)
}

// checkOrigin tells of a directory that was restored or forced new.
func (x *examination) checkOrigin() {
	if at := x.restoredAt(); at > 0 {
		x.find(newFinding(CodeMemberRestored, x.src.Path, fmt.Sprintf("behind the members with which the log begins stands a snapshot of them at index %d, as a restore writes it", at)).inFile(x.src.WALDir).atIndex(at))
	} else if x.log == nil && x.member.MemberID == nil && (x.staleConfState() || x.freshlyRestored() && !x.confStateFits()) {
		x.find(newFinding(CodeMemberRestored, x.src.Path, "the conf state in bucket meta is of members that bucket members does not have").inFile(x.member.Backend.File))
	}
	var forced []raftlog.ConfChangeEntry
	for _, c := range x.changes() {
		if forcesNew(&c.ConfChange) {
			forced = append(forced, c)
		}
	}
	if len(forced) > 0 {
		first := forced[0]
		x.find(newFinding(CodeMemberForcedNew, x.src.Path, fmt.Sprintf("by --force-new-cluster, not by a request, members were removed from index %d on: %d", first.Index, len(forced))).
			inFile(x.src.WALDir).atIndex(first.Index))
	}
}

// restoredAt gives the index of the snapshot that a restore writes behind the members
// with which it begins the log, 0 when there is none (etcd v3.7.3,
// etcdutl/snapshot/v3_snapshot.go, saveWALAndSnap). A server is not done with its first
// entries before it has begun term 2.
func (x *examination) restoredAt() uint64 {
	n := uint64(len(x.founders()))
	if n == 0 {
		return 0
	}
	for _, s := range x.log.Snapshots {
		if s.Index == n && s.Term == 1 && s.After == n {
			return n
		}
	}
	return 0
}

// checkIDs asks whether the ids follow from what they are made of.
func (x *examination) checkIDs() {
	id, founders := x.member.Membership.Identity, x.founders()
	if id.Follows != nil && !*id.Follows {
		x.find(newFinding(CodeMemberIDUnexplained, x.src.Path, fmt.Sprintf("the WAL is of cluster %s; the %d members with which it begins make cluster %s",
			*x.member.ClusterID, len(founders), ClusterIDOf(id.Initial))).inFile(x.src.WALDir))
	}
	if id.Token == nil {
		return
	}
	for _, m := range founders {
		if MemberIDOf(m.PeerURLs, *id.Token) != m.MemberID {
			x.find(newFinding(CodeMemberIDUnexplained, x.src.Path, fmt.Sprintf("the id of %s does not follow from its peer URLs and token %s, which explains others",
				described(m), quoteKey([]byte(*id.Token)))).inFile(x.src.WALDir))
		}
	}
}

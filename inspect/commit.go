package inspect

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"etcd-forensics/walreader"
	"etcd-forensics/walreader/raftlog"
)

// A claim is an index that one piece of evidence proves committed.
type claim struct {
	index uint64
	by    string
}

// settleCommits says of each member up to which index entries are proven to be
// committed, by the evidence of all members of its cluster together, and what
// follows for its own log.
//
// A commit index in a file lags behind what was acknowledged, because hard
// states that change nothing but the commit index are written without a sync.
// Proof is any of: a hard state's commit index, a database's consistent index (a
// database holds committed entries only), a snapshot's index, the whole log of a
// single voter, and an entry that a majority of the voters' logs hold with the
// highest term seen.
func settleCommits(all []*examination) {
	clusters := map[ID][]*examination{}
	for _, x := range all {
		if x.member.ClusterID != nil {
			clusters[*x.member.ClusterID] = append(clusters[*x.member.ClusterID], x)
		}
	}
	for _, xs := range clusters {
		var claims []claim
		for _, x := range xs {
			claims = append(claims, x.claims(len(all) > 1)...)
		}
		if m, ok := majority(xs); ok {
			claims = append(claims, m)
		}
		best := slices.MaxFunc(append(claims, claim{}), func(a, b claim) int {
			return cmp.Or(cmp.Compare(a.index, b.index), -cmp.Compare(a.by, b.by))
		})
		for _, x := range xs {
			x.settle(best)
		}
	}
}

// claims lists what one member's files prove by themselves.
func (x *examination) claims(several bool) []claim {
	of := ""
	if several {
		of = " of " + x.src.Path
	}
	var claims []claim
	if x.log != nil {
		if c := x.log.Highest; c.Index > 0 {
			claims = append(claims, claim{c.Index, "commit index in the WAL" + of})
		}
		for _, s := range x.log.Snapshots {
			claims = append(claims, claim{s.Index, "snapshot record in the WAL" + of})
		}
		if voters, at := x.voters(); len(voters) == 1 && x.member.MemberID != nil && voters[0] == *x.member.MemberID && x.log.Entries.Count > 0 {
			claims = append(claims, claim{min(x.log.Entries.Last, x.votersUntil(at)), "the log of the only voter"})
		}
	}
	if b := x.member.Backend; b != nil && b.ConsistentIndex != nil {
		claims = append(claims, claim{*b.ConsistentIndex, "consistent index of the database" + of})
	}
	for _, s := range x.snaps {
		if s.Valid {
			claims = append(claims, claim{s.Index, ".snap file" + of})
		}
	}
	return claims
}

// votersUntil gives the last index that voters as of an index decide on: that of the
// next entry that changes them, which the old ones have to commit.
func (x *examination) votersUntil(at uint64) uint64 {
	until := uint64(math.MaxUint64)
	for _, c := range x.log.ConfChanges {
		changes := slices.ContainsFunc(c.Changes, func(c raftlog.Change) bool { return c.Type != raftlog.UpdateNode && c.Type != raftlog.AddLearnerNode })
		if c.Index > at && changes {
			until = min(until, c.Index)
		}
	}
	return until
}

// voters gives the voting members as the member's newest statement has them, and the index
// as of which: as the log tells, the conf state of the database (since 3.5), of the newest
// .snap, or the members that are no learners.
func (x *examination) voters() (voters []ID, at uint64) {
	applied := uint64(0)
	if b := x.member.Backend; b != nil && b.ConsistentIndex != nil {
		applied = *b.ConsistentIndex
	}
	if r, known := x.at(applied); known && len(r.members) > 0 {
		return r.configuration(applied).Voters, applied
	}
	if r, ok := x.confState(); ok {
		return r.configuration(applied).Voters, applied
	}
	for i := len(x.snaps) - 1; i >= 0; i-- {
		if x.snaps[i].Valid {
			return ids(x.snaps[i].ConfState.Voters), x.snaps[i].Index
		}
	}
	for _, m := range x.bucket.sorted() {
		if !m.IsLearner {
			voters = append(voters, m.MemberID)
		}
	}
	return voters, applied
}

// majority finds the highest index that a majority of the voters' logs hold with
// the highest term seen: an entry of the newest term on a majority cannot be
// overwritten any more.
func majority(xs []*examination) (claim, bool) {
	var voters []ID
	var newest uint64 // index up to which the one who states them has applied
	var at uint64     // and as of which they are stated
	var term uint64
	for _, x := range xs {
		b := x.member.Backend
		if b != nil && b.ConsistentIndex != nil && (voters == nil || *b.ConsistentIndex > newest) {
			voters, at = x.voters()
			newest = *b.ConsistentIndex
		}
		if x.log != nil && x.log.HardState != nil {
			term = max(term, x.log.HardState.Term, x.log.Entries.LastTerm)
		}
	}
	var lasts []uint64
	seen := map[ID]bool{}
	for _, x := range xs {
		id := x.member.MemberID
		if id == nil || seen[*id] || !slices.Contains(voters, *id) || x.log == nil || x.log.Entries.LastTerm != term {
			continue
		}
		seen[*id] = true
		lasts = append(lasts, x.log.Entries.Last)
	}
	quorum := len(voters)/2 + 1
	if len(voters) < 2 || len(lasts) < quorum {
		return claim{}, false
	}
	slices.Sort(lasts)
	until := uint64(math.MaxUint64)
	for _, x := range xs {
		if x.log != nil {
			until = min(until, x.votersUntil(at))
		}
	}
	return claim{min(lasts[len(lasts)-quorum], until), fmt.Sprintf("%d of %d voters' logs hold it with the highest term, %d", quorum, len(voters), term)}, true
}

// settle says what the proven commit index means for this member's log.
func (x *examination) settle(proven claim) {
	w := x.member.WAL
	if w == nil {
		return
	}
	defer w.settleEvents()
	if proven.index == 0 {
		return
	}
	w.ProvenCommit, w.ProvenBy = &proven.index, proven.by
	first, last := x.log.Entries.First, x.log.Entries.Last
	if x.log.Entries.Count == 0 {
		return
	}
	if b := x.member.Backend; b != nil && b.ConsistentIndex != nil {
		first = max(first, *b.ConsistentIndex+1)
		if to := min(max(last, x.wholeBehind(*b.ConsistentIndex)), proven.index); to >= first {
			w.Unapplied.IndexSpan = IndexSpan{Count: to - first + 1, FirstIndex: &first, LastIndex: &to}
		}
	}
	if last > proven.index {
		w.Uncommitted.Count = last - max(proven.index, x.log.Entries.First-1)
	}
}

// wholeBehind gives the last entry that the log holds without a break behind an index that
// the database has applied, where etcd stops at damage that is older than that: a segment
// that goes on behind it proves its entries by itself. 0 when there is none, or when more
// may be missing than what the database has.
func (x *examination) wholeBehind(applied uint64) uint64 {
	l := x.log
	if l.Stop == nil || l.Stop.Next > applied || len(l.Conflicts) > 0 || !l.Terms.Complete() {
		return 0
	}
	runs := l.Terms.Stretch(applied + 1)
	if len(runs) == 0 {
		return 0
	}
	if held, ok := l.Terms.RunAt(applied); ok && held.Proof == walreader.Proven && runs[0].First > applied {
		return 0 // there is damage between the two
	}
	return runs[len(runs)-1].Last
}

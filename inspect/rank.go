package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
)

// Ranked is one source in the order in which to trust them.
type Ranked struct {
	Member          string  `json:"member"`
	LastTerm        *uint64 `json:"lastTerm"`
	LastIndex       *uint64 `json:"lastIndex"`
	ProvenCommit    *uint64 `json:"provenCommit"`
	ConsistentIndex *uint64 `json:"consistentIndex"`
	Revision        *int64  `json:"revision"`
	// Reach is the last index of the proven entries that come back when this source is
	// used: by its log, which agrees with the newest log up to there, or else by its
	// database.
	Reach  *uint64 `json:"reach"`
	Usable bool    `json:"usable"`
	Reason string  `json:"reason"`
	// Loses is what choosing it loses of what is proven, or of what the best one has
	// when nothing is proven.
	Loses Loss `json:"loses"`
	// Behind is what the best one's database has seen since; nil when nothing, or when the
	// two cannot be compared.
	Behind *Behind `json:"behind"`
	// Alone is set when it was examined, but not compared with the others: then Reason says
	// nothing of how it compares, and Loses and Behind mean nothing.
	Alone bool `json:"-"`
}

// A Loss counts what a choice loses.
type Loss struct {
	Entries   uint64 `json:"entries"`
	Revisions int64  `json:"revisions"` // that the best one's database has
	Keys      int64  `json:"keys"`      // that these entries write, deletions included
	AtLeast   bool   `json:"atLeast"`   // Keys is a lower bound
}

// Quorum says how many of the voters could start from what is there.
type Quorum struct {
	Voters    []ID     `json:"voters"`
	Startable []string `json:"startable"` // directories of voters that could start
	Needed    int      `json:"needed"`
	Enough    bool     `json:"enough"`
}

// A contender is a source on its way to be ranked.
type contender struct {
	x      *examination
	ranked Ranked
	proven uint64 // that it reaches, at most the proven commit
	reach  uint64
	term   uint64

	elsewhere bool   // its index is of another raft history
	flaws     []Code // error findings that do not make it unusable
}

// rankSources ranks sources: usable ones first, those without an error before the
// others, then by what they hold of what is proven, then as raft elects (last term, last index; etcd-io/raft v3.6.0, raft.go,
// Step: a vote goes to a log that is up to date), then members before snapshots.
func rankSources(ctx context.Context, all []*examination, c *Comparison) (err error) {
	cluster := mainCluster(all)
	reference := newestLog(all, cluster)
	proven := provenBy(all, c, cluster)
	newest := newestMember(all, c, cluster)
	var list []*contender
	for _, x := range all {
		list = append(list, newContender(x, c, cluster, reference, newest, proven))
	}
	slices.SortFunc(list, compareContenders)
	if list[0].ranked.Usable {
		c.Best = list[0].x.src.Path
	}
	for _, k := range list {
		k.explain(list[0], reference, proven)
		if k.ranked.Usable {
			var failed error
			k.ranked.Behind, failed = behind(ctx, list[0].x.held, k.x.held)
			err = errors.Join(err, failed)
		}
		c.Ranking = append(c.Ranking, k.ranked)
	}
	return err
}

// rankAlone ranks the sources that were examined to their end when not all were, or when they
// were not compared: by what each is by itself, then as raft elects.
func rankAlone(all []*examination, c *Comparison) {
	var list []*contender
	for _, x := range all {
		if x.interrupted {
			continue
		}
		k := newContender(x, c, nil, nil, nil, 0)
		if x.log != nil {
			k.term, k.reach = x.log.Entries.LastTerm, max(k.reach, x.log.Entries.Last)
		}
		k.ranked.Alone, k.ranked.Reach = true, nil
		if k.ranked.Usable {
			k.ranked.Reason = "it was examined to its end, and compared with nothing"
			if len(k.flaws) > 0 {
				k.ranked.Reason += fmt.Sprintf("; there is %s", k.flaws[0])
			}
		}
		list = append(list, k)
	}
	slices.SortFunc(list, compareContenders)
	for _, k := range list {
		c.Ranking = append(c.Ranking, k.ranked)
	}
}

// provenBy gives the highest index that the cluster's members prove committed. Files
// that name no cluster have a say only when there is no member: their index may be
// of before a restore.
func provenBy(all []*examination, c *Comparison, cluster *ID) (proven uint64) {
	for _, x := range all {
		if !inCluster(x, cluster) || cluster != nil && x.member.ClusterID == nil || c.isStranger(x) {
			continue
		}
		if w := x.member.WAL; w != nil {
			proven = max(proven, deref(w.ProvenCommit, 0))
		}
		if b := x.member.Backend; b != nil {
			proven = max(proven, deref(b.ConsistentIndex, 0)) // a database holds committed entries only
		}
	}
	return proven
}

// newestMember is the member's database with the highest revision; nil when there is
// no member.
func newestMember(all []*examination, c *Comparison, cluster *ID) *examination {
	var newest *examination
	for _, x := range all {
		if x.member.ClusterID == nil || !inCluster(x, cluster) || x.held == nil || c.isStranger(x) {
			continue
		}
		if newest == nil || x.held.revision > newest.held.revision {
			newest = x
		}
	}
	return newest
}

// otherHistory says whether a file's index is of another raft history than the
// members': of two states of one store the one with the higher revision has applied
// more.
func otherHistory(x, newest *examination) bool {
	if x.member.ClusterID != nil || newest == nil || x.held == nil {
		return false
	}
	revision, index := x.held.revision, x.db.meta.index
	return revision < newest.held.revision && index > newest.db.meta.index || revision > newest.held.revision && index < newest.db.meta.index
}

// isStranger says whether a source's content is of another store.
func (c *Comparison) isStranger(x *examination) bool {
	return slices.ContainsFunc(c.NotCompared, func(n NotCompared) bool { return n.Member == x.src.Path && n.Reason == otherStore })
}

func inCluster(x *examination, cluster *ID) bool {
	return x.member.ClusterID == nil || cluster == nil || *x.member.ClusterID == *cluster
}

// newestLog is the log that raft would elect; nil when there is none.
func newestLog(all []*examination, cluster *ID) *examination {
	var newest *examination
	for _, x := range all {
		if x.log == nil || x.log.Entries.Count == 0 || !inCluster(x, cluster) || x.member.ClusterID == nil {
			continue
		}
		if newest == nil || cmp.Or(cmp.Compare(x.log.Entries.LastTerm, newest.log.Entries.LastTerm), cmp.Compare(x.log.Entries.Last, newest.log.Entries.Last),
			cmp.Compare(deref(newest.member.MemberID, 0), deref(x.member.MemberID, 0))) > 0 {
			newest = x
		}
	}
	return newest
}

func newContender(x *examination, c *Comparison, cluster *ID, reference, newest *examination, proven uint64) *contender {
	k := &contender{x: x, ranked: Ranked{Member: x.src.Path}}
	if w := x.member.WAL; w != nil {
		k.ranked.LastTerm, k.ranked.LastIndex, k.ranked.ProvenCommit = w.LastTerm, w.LastIndex, w.ProvenCommit
	}
	if b := x.member.Backend; b != nil {
		k.ranked.ConsistentIndex, k.ranked.Revision = b.ConsistentIndex, b.Revision
		k.reach, k.term = deref(b.ConsistentIndex, 0), deref(b.Term, 0)
	}
	if x.log != nil && reference != nil && x.replays() {
		if at := x.agreesUpTo(reference); at > k.reach {
			k.reach = at
		}
		k.term = x.log.Entries.LastTerm
	}
	if k.elsewhere = otherHistory(x, newest); k.elsewhere {
		k.reach = 0
	}
	k.proven = min(k.reach, proven)
	if k.reach > 0 {
		k.ranked.Reach = &k.reach
	}
	k.ranked.Reason = x.unusable(c, cluster)
	k.ranked.Usable = k.ranked.Reason == ""
	k.flaws = judge(x.findings, true).Codes
	return k
}

// replays says whether etcd would replay the member's log on its database: the log
// begins at or before what the database holds.
func (x *examination) replays() bool {
	b := x.member.Backend
	if b == nil || b.ConsistentIndex == nil || x.log.Entries.Count == 0 {
		return false
	}
	return x.log.Entries.First <= *b.ConsistentIndex+1 && len(x.found([]Code{CodeWALSegmentMissing, CodeWALIndexGap, CodeMemberIDMismatch})) == 0
}

// agreesUpTo gives the last index at which two logs have the same term: raft's log
// matching says that they are the same up to there.
func (x *examination) agreesUpTo(reference *examination) uint64 {
	if x == reference {
		return x.log.Entries.Last
	}
	runs := x.log.Terms.Runs()
	for i := len(runs) - 1; i >= 0; i-- {
		for _, r := range slices.Backward(reference.log.Terms.Runs()) {
			if last := min(runs[i].Last, r.Last); r.Term == runs[i].Term && last >= max(runs[i].First, r.First) {
				return last
			}
		}
	}
	return 0
}

// unusable says why a source is none to go on from, "" when it is one.
func (x *examination) unusable(c *Comparison, cluster *ID) string {
	id := x.member.MemberID
	switch {
	case !inCluster(x, cluster):
		return "it is of another cluster"
	case c.isStranger(x):
		return otherStore
	case x.member.Backend == nil || x.member.Backend.Revision == nil:
		return "it has no database that can be read"
	case id != nil && slices.Contains(x.member.Membership.Removed, *id):
		return "the member was removed from the cluster"
	case id != nil && x.isLearner(*id):
		return "the member is a learner, which may lack what voters have acknowledged"
	case x.diverged:
		return "its content has diverged from what the others or its own log say"
	case judge(x.findings, true).Grade == Unusable:
		return "it is damaged: " + string(judge(x.findings, true).Codes[0])
	}
	return ""
}

const otherStore = "its content is that of another store"

func (x *examination) isLearner(id ID) bool {
	return slices.ContainsFunc(x.member.Membership.Members, func(m MembershipMember) bool { return m.MemberID == id && m.IsLearner })
}

func compareContenders(a, b *contender) int {
	usable := func(k *contender) int {
		if k.ranked.Usable {
			return 0
		}
		return 1
	}
	flawed := func(k *contender) int { return min(len(k.flaws), 1) }
	isFile := func(k *contender) int {
		if k.x.src.SnapDir == "" {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(usable(a), usable(b)), cmp.Compare(flawed(a), flawed(b)), cmp.Compare(b.proven, a.proven), cmp.Compare(b.term, a.term), cmp.Compare(b.reach, a.reach),
		cmp.Compare(deref(b.ranked.Revision, 0), deref(a.ranked.Revision, 0)), cmp.Compare(isFile(a), isFile(b)),
		cmp.Compare(deref(a.x.member.MemberID, 0), deref(b.x.member.MemberID, 0)), cmp.Compare(a.x.src.Path, b.x.src.Path))
}

// explain says in one sentence what choosing a source means.
func (k *contender) explain(best *contender, reference *examination, proven uint64) {
	l := &k.ranked.Loses
	l.Revisions = max(0, deref(best.ranked.Revision, 0)-deref(k.ranked.Revision, 0))
	if k.ranked.Reason != "" && (k.x.member.ClusterID == nil || k.x.log == nil) {
		return // of another store, or nothing to compare
	}
	most := max(proven, best.proven)
	if k.proven < most && !k.elsewhere {
		l.Entries = most - k.proven
		l.Keys, l.AtLeast = keysBetween(reference, k.proven+1, most)
	}
	if k.ranked.Reason != "" {
		return
	}
	loses := "it loses nothing that is proven"
	switch {
	case k.elsewhere:
		loses = fmt.Sprintf("its index is of another raft history: the cluster was restored in between; it is %d revisions behind", l.Revisions)
	case l.Entries > 0:
		atLeast := ""
		if l.AtLeast {
			atLeast = "at least "
		}
		loses = fmt.Sprintf("it loses %d proven entries (%d to %d), which write %s%d keys", l.Entries, k.proven+1, most, atLeast, l.Keys)
		if l.Entries == 1 {
			loses = fmt.Sprintf("it loses 1 proven entry (%d)", most)
			switch {
			case l.Keys == 1:
				loses += ", which writes " + atLeast + "1 key"
			case l.Keys > 1:
				loses += fmt.Sprintf(", which writes %s%d keys", atLeast, l.Keys)
			}
		}
	}
	switch {
	case k == best && reference == k.x:
		k.ranked.Reason = fmt.Sprintf("its log is the newest by raft's rule (term %d, index %d); %s", k.term, k.reach, loses)
	case k.x.src.SnapDir == "" && k.elsewhere:
		k.ranked.Reason = "a database by itself; " + loses
	case k.x.src.SnapDir == "":
		k.ranked.Reason = fmt.Sprintf("a database by itself, as of index %d; %s", k.reach, loses)
	default:
		k.ranked.Reason = fmt.Sprintf("its log and database reach index %d (term %d); %s", k.reach, k.term, loses)
	}
	if len(k.flaws) > 0 {
		k.ranked.Reason += fmt.Sprintf("; but there is %s", k.flaws[0])
	}
}

// keysBetween counts the keys that entries write. atLeast is set when not all of
// them could be read again.
func keysBetween(x *examination, first, last uint64) (keys int64, atLeast bool) {
	if x == nil {
		return 0, true
	}
	list := unappliedList{u: &Unapplied{}, seed: maphash.MakeSeed(), at: map[uint64]int{}}
	read := &logBytes{chain: x.chain}
	writes := x.writes.between(first, last)
	for i := range writes {
		switch w := &writes[i]; {
		case w.discarded:
		case read.load(w):
			list.entry(w.index, &read.request)
		default:
			atLeast = true
		}
	}
	atLeast = atLeast || x.log.Entries.First > first || x.log.Entries.Last < last || x.writes.dropped
	return list.u.OtherKeys, atLeast
}

// countVoters says whether enough voters could start. ok is false when no member
// directory says who votes.
func countVoters(all []*examination, c *Comparison) (q Quorum, ok bool) {
	cluster := mainCluster(all)
	best := mostApplied(all, cluster)
	if best == nil {
		return q, false
	}
	q.Voters, _ = best.voters()
	q.Voters = slices.Sorted(slices.Values(q.Voters))
	q.Needed, q.Startable = len(q.Voters)/2+1, []string{}
	seen := map[ID]bool{}
	for _, x := range all {
		id := x.member.MemberID
		if id == nil || seen[*id] || !inCluster(x, cluster) || !slices.Contains(q.Voters, *id) || !x.couldStart() {
			continue
		}
		seen[*id] = true
		q.Startable = append(q.Startable, x.src.Path)
	}
	slices.Sort(q.Startable) // whatever the order of the paths
	q.Enough = len(q.Startable) >= q.Needed
	return q, len(q.Voters) > 0
}

// mostApplied is the member directory that has applied most, and so knows best who
// the members are.
func mostApplied(all []*examination, cluster *ID) *examination {
	var best *examination
	for _, x := range all {
		if x.member.ClusterID == nil || x.member.Backend == nil || !inCluster(x, cluster) {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(deref(x.member.Backend.ConsistentIndex, 0), deref(best.member.Backend.ConsistentIndex, 0)),
			cmp.Compare(deref(best.member.MemberID, 0), deref(x.member.MemberID, 0))) > 0 {
			best = x
		}
	}
	return best
}

// couldStart says whether any version of etcd would stay up on the directory.
func (x *examination) couldStart() bool {
	return slices.ContainsFunc(x.member.Startup, func(s Startup) bool { return s.Starts != nil && *s.Starts })
}

// checkMembers finds members that lag, and quorum that is lost.
func checkMembers(all []*examination, c *Comparison) []Finding {
	for _, k := range c.Ranking {
		i := slices.IndexFunc(all, func(x *examination) bool { return x.src.Path == k.Member })
		// A cluster never stops with all logs alike; what counts is whether writes are
		// missing.
		if x := all[i]; k.Usable && x.member.WAL != nil && x.src.SnapDir != "" && (k.Loses.Keys > 0 || k.Loses.AtLeast) {
			x.find(newFinding(CodeClusterMemberBehind, x.src.Path, fmt.Sprintf("it lacks %d entries that are proven committed, up to %d, which write %d keys",
				k.Loses.Entries, deref(k.Reach, 0)+k.Loses.Entries, k.Loses.Keys)).inFile(x.src.WALDir).atIndex(deref(k.Reach, 0) + 1))
		}
	}
	q, ok := countVoters(all, c)
	if !ok {
		return nil
	}
	c.Quorum = &q
	if q.Enough {
		return nil
	}
	return []Finding{newFinding(CodeClusterQuorumLost, "", fmt.Sprintf("%d of %d voters could start from the directories given, %d are needed",
		len(q.Startable), len(q.Voters), q.Needed))}
}

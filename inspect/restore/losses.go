package restore

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"

	"etcd-forensics/inspect"
	"etcd-forensics/snapdb/kube"
)

// countLosses says what the plan does not bring back.
func (b *builder) countLosses() {
	l, ok := b.lossOf(b.member.Source)
	if ok {
		b.p.Losses = append(b.p.Losses, l)
	}
	b.countLog()
	if l.Entries == 0 {
		b.countProven()
	}
	m := b.member
	if wrong, ok := b.contradicted(m); ok && b.p.Way != WaySalvage && b.p.Way != WayRollForward {
		b.p.Losses = append(b.p.Losses, Loss{What: "what its own log says was written " + revisionsNamed(wrong) + ": the database holds something else there, and that is restored"})
	}
	if b.p.Way == WaySalvage {
		b.p.Losses = append(b.p.Losses, Loss{What: "what the damaged pages do not prove: the salvage lists it, by page and by revision"})
	}
	if c := b.c.Comparison; c != nil && c.Quorum != nil && !c.Quorum.Enough || c == nil && len(b.voters()) > 1 {
		if m.WAL != nil {
			b.p.Losses = append(b.p.Losses, Loss{What: "fewer than a majority of the voters are in hand, so acknowledged writes may be missing of which nothing here tells"})
		}
	}
	if m.MemberID != nil && slices.Contains(b.old.Removed, *m.MemberID) {
		b.p.Losses = append(b.p.Losses, Loss{What: fmt.Sprintf("everything written since %s was removed from its cluster, of which it does not tell", m.Source)})
		b.p.warn("removed", fmt.Sprintf("%s is of a member (%s) that was removed from its cluster: what it holds ends there", m.Source, m.MemberID), "look for the directories of the members that stayed, or a snapshot of theirs")
	}
	if m.WAL == nil {
		b.p.Losses = append(b.p.Losses, Loss{What: fmt.Sprintf("everything written after revision %d, of which this source does not tell", deref(b.backend().Revision))})
	}
	if n := len(b.learners()); n > 0 {
		b.p.Losses = append(b.p.Losses, Loss{What: fmt.Sprintf("%d learners: a restore cannot make learners; they can be added again afterwards", n)})
	}
}

func (b *builder) learners() []inspect.MembershipMember {
	var list []inspect.MembershipMember
	for _, m := range b.old.Members {
		if m.IsLearner {
			list = append(list, m)
		}
	}
	return list
}

// countLog counts the entries of the source's own log that the way leaves out: what
// the database lacks, or when its copy is started what is beyond the log's own commit.
func (b *builder) countLog() {
	w := b.member.WAL
	if w == nil || w.Unapplied.Count == 0 || w.Unapplied.FirstIndex == nil {
		return
	}
	if b.p.Way == WayRollForward {
		return
	}
	first, last := *w.Unapplied.FirstIndex, *w.Unapplied.LastIndex
	what := "committed entries %d to %d of the log that is in hand: the database had not applied them"
	if b.p.Way == WayForceNewCluster {
		if first = max(first, deref(w.Commit)+1); first > last {
			return
		}
		what = "committed entries %d to %d of the log that is in hand: its own commit lags, and --force-new-cluster drops what is beyond"
	}
	l := Loss{What: fmt.Sprintf(what, first, last), Entries: last - first + 1}
	var keys [][]byte
	for _, k := range w.Unapplied.Keys {
		if k.Index >= first {
			keys = append(keys, k.Key)
		}
	}
	l.Keys = int64(len(keys))
	if w.Unapplied.OtherKeys > 0 {
		l.AtLeast = true
	}
	l.Prefixes = b.byPrefix(keys)
	b.p.Losses = append(b.p.Losses, l)
}

// countProven counts the entries that are proven committed and that neither the database
// nor what is whole of any log in hand holds.
func (b *builder) countProven() {
	w := b.member.WAL
	if w == nil || w.ProvenCommit == nil || b.backend().ConsistentIndex == nil {
		return
	}
	held := max(*b.backend().ConsistentIndex, deref(w.Unapplied.LastIndex))
	if b.p.Way == WayRollForward {
		for _, m := range b.c.Members {
			if m.WAL != nil && b.related(&m) {
				held = max(held, deref(m.WAL.LastIndex))
			}
		}
	}
	if held < *w.ProvenCommit {
		b.p.Losses = append(b.p.Losses, Loss{
			What:    fmt.Sprintf("entries %d to %d are proven committed (%s), and neither the database nor what is whole of its log holds them", held+1, *w.ProvenCommit, w.ProvenBy),
			Entries: *w.ProvenCommit - held,
		})
	}
}

// byPrefix counts keys that begin alike, the most first.
func (b *builder) byPrefix(keys [][]byte) []PrefixLoss {
	count := map[string]int64{}
	for _, k := range keys {
		count[string(prefixOf(k))]++
	}
	return b.namePrefixes(count)
}

func (b *builder) namePrefixes(count map[string]int64) []PrefixLoss {
	var list []PrefixLoss
	for prefix, n := range count {
		list = append(list, PrefixLoss{Prefix: []byte(prefix), Resource: b.resourceOf([]byte(prefix)), Keys: n})
	}
	slices.SortFunc(list, func(p, q PrefixLoss) int {
		return cmp.Or(cmp.Compare(q.Keys, p.Keys), bytes.Compare(p.Prefix, q.Prefix))
	})
	return list
}

// prefixOf gives a key up to its second slash, one in the first position not counted.
func prefixOf(key []byte) []byte {
	end := 0
	for n := 0; n < 2; n++ {
		at := max(end, 1)
		if at > len(key) {
			break
		}
		i := bytes.IndexByte(key[at:], '/')
		if i < 0 {
			break
		}
		end = at + i + 1
	}
	return key[:end]
}

// resourceOf names the resource of which an API server keeps the objects under a
// prefix, "" when the keys are not an API server's.
func (b *builder) resourceOf(prefix []byte) string {
	k := b.backend().Kubernetes
	if k == nil {
		return ""
	}
	n, ok := kube.ParseKey(prefix, k.Prefix)
	if !ok {
		return ""
	}
	return strings.TrimPrefix(string(n.Group)+"/"+string(n.Resource), "/")
}

// lossOf says what taking a source loses, by the comparison. ok is false when it
// loses nothing that is known.
func (b *builder) lossOf(source string) (l Loss, ok bool) {
	if b.c.Comparison == nil {
		return l, false
	}
	i := slices.IndexFunc(b.c.Comparison.Ranking, func(r inspect.Ranked) bool { return r.Member == source })
	if i < 0 {
		return l, false
	}
	r := &b.c.Comparison.Ranking[i]
	l = Loss{Entries: r.Loses.Entries, Revisions: r.Loses.Revisions, Keys: r.Loses.Keys, AtLeast: r.Loses.AtLeast}
	if r.Behind != nil {
		count := map[string]int64{}
		for _, p := range r.Behind.Prefixes {
			count[string(p.Prefix)] += p.Keys
		}
		l.Prefixes = b.namePrefixes(count)
		if l.Entries == 0 {
			l.Keys, l.AtLeast = r.Behind.Keys, r.Behind.AtLeast
		}
	}
	if l.Entries == 0 && l.Revisions == 0 && l.Keys == 0 {
		return l, false
	}
	l.What = fmt.Sprintf("what the best source %s has and this one lacks", b.c.Comparison.Best)
	return l, true
}

// listAlternatives says of the other sources what taking them would lose.
func (b *builder) listAlternatives() {
	if b.c.Comparison == nil {
		return
	}
	for _, r := range b.c.Comparison.Ranking {
		if r.Member == b.member.Source {
			continue
		}
		a := Alternative{Source: r.Member, Usable: r.Usable, Reason: r.Reason}
		a.Loss, _ = b.lossOf(r.Member)
		b.p.Alternatives = append(b.p.Alternatives, a)
	}
}

package restore

import (
	"fmt"
	"slices"
	"strings"

	"etcd-forensics/inspect"
)

// newestApplied is the newest minor version of etcd whose log our etcd applies.
const newestApplied = 7

// logTells says whether applying the source's log to its database brings back what
// the database lacks, and loses nothing that is proven.
func (b *builder) logTells() bool {
	m := b.member
	return m.Backend != nil && m.WAL != nil && m.WAL.Unapplied.Count > 0 && b.appliesLog(b.wholeBehindDatabase()) &&
		m.Backend.ConsistentIndex != nil && m.WAL.FirstIndex != nil && *m.WAL.FirstIndex <= *m.Backend.ConsistentIndex+1 &&
		m.Verdict.Grade != inspect.Unusable && !hasBrokenFreelist(m) && !slices.ContainsFunc(m.Verdict.Codes, inspect.Code.OfDatabase)
}

// contradicted lists the revisions of a member's database for which its log has something
// else. ok is false when there are none, or when the two do not go together at all, so that
// nothing says which of them is right.
func (b *builder) contradicted(m *inspect.Member) (revisions []int64, ok bool) {
	for _, f := range b.c.Findings {
		if f.Member == m.Source && f.Code == inspect.CodeMVCCWALMismatch {
			if f.Location.Key != nil || f.Location.Revision != nil {
				ok = true
			}
			if r := f.Location.Revision; r != nil && !slices.Contains(revisions, *r) {
				revisions = append(revisions, *r)
			}
		}
	}
	slices.Sort(revisions)
	return revisions, ok
}

// logIsRight says whether the source's log contradicts its database, and knows of
// everything that the database has applied that it is committed.
func (b *builder) logIsRight() bool {
	m := b.member
	_, ok := b.contradicted(m)
	return ok && m.WAL != nil && deref(m.WAL.Commit) >= deref(b.backend().ConsistentIndex)
}

// wholeBehindDatabase says whether damage to the source's log keeps back nothing that the
// database lacks: the log has been read on behind it, up to the last entry that is proven.
func (b *builder) wholeBehindDatabase() bool {
	w := b.member.WAL
	return w.Unapplied.LastIndex != nil && *w.Unapplied.LastIndex == deref(w.ProvenCommit)
}

// logTellsAll says whether the source's log alone makes its database anew.
func (b *builder) logTellsAll() bool {
	m := b.member
	return m.WAL != nil && (m.Backend == nil || m.Verdict.Grade == inspect.Unusable || b.logIsRight()) && b.appliesLog(false) &&
		m.WAL.FirstIndex != nil && *m.WAL.FirstIndex == 1 && !m.WAL.OfRestored
}

// fromLogAlone says whether what is restored is made of the log and of no database.
func (b *builder) fromLogAlone() bool { return b.p.Way == WayRollForward && b.p.Base == "" }

// olderDamage are findings of a log that is read on behind them.
var olderDamage = []inspect.Code{inspect.CodeWALChecksum, inspect.CodeWALLength, inspect.CodeWALRecordInvalid, inspect.CodeWALSegmentMissing, inspect.CodeWALSegmentEmpty, inspect.CodeWALIndexGap}

// appliesLog says whether the source's log is whole as far as it is needed, is of a
// version that is known, and can be named in a command. damagedBefore says that it may be
// damaged before what is needed.
func (b *builder) appliesLog(damagedBefore bool) bool {
	m := b.member
	if deref(m.WAL.ProvenCommit) == 0 || !b.onDisk(m) || b.version.Minor > newestApplied || m.WAL.Fault != nil && !damagedBefore {
		return false
	}
	if data, known := b.dataVersion(); known && data.Minor > newestApplied {
		return false
	}
	return !slices.ContainsFunc(b.c.Findings, func(f inspect.Finding) bool {
		return f.Member == m.Source && f.Severity == inspect.SeverityError && strings.HasPrefix(string(f.Code), "wal-") &&
			!(damagedBefore && slices.Contains(olderDamage, f.Code))
	})
}

// onDisk says whether a source can be named in a command as it is: not one of several
// in an archive.
func (b *builder) onDisk(m *inspect.Member) bool {
	for _, s := range b.c.Sources {
		if s.Path == m.Source {
			return !slices.ContainsFunc(s.Files, func(f inspect.SourceFile) bool { return strings.Contains(f.Path, "!") })
		}
	}
	return false
}

// beyondSalvage are findings of a database in which there is nothing to prove, or which
// is not the cluster's.
var beyondSalvage = []inspect.Code{
	inspect.CodeBackendNotBbolt, inspect.CodeBackendMissing, inspect.CodeBackendByteOrder, inspect.CodeClusterOtherStore,
}

// contradictedAlone says whether a salvage puts right what the log contradicts, and leaves
// out nothing that the log has.
func (b *builder) contradictedAlone() bool {
	_, ok := b.contradicted(b.member)
	return ok && b.member.WAL != nil && b.member.WAL.Unapplied.Count == 0 && b.onDisk(b.member) && salvageable(b.member)
}

// salvageable says whether a damaged database may still prove records.
func salvageable(m *inspect.Member) bool {
	return m.Backend != nil && m.Backend.Size > 0 && !slices.ContainsFunc(m.Verdict.Codes, func(c inspect.Code) bool { return slices.Contains(beyondSalvage, c) })
}

// brokenFreelist are findings with which etcd would write over pages that are in use.
var brokenFreelist = []inspect.Code{inspect.CodeBackendFreeReachable, inspect.CodeBackendFreeDuplicate, inspect.CodeBackendFreeInvalid}

func hasBrokenFreelist(m *inspect.Member) bool {
	return slices.ContainsFunc(m.Verdict.Codes, func(c inspect.Code) bool { return slices.Contains(brokenFreelist, c) })
}

// leastDamaged is the first source, as they are ranked, of which something can be made
// although it cannot be restored as it is; -1 when there is none.
func (b *builder) leastDamaged() int {
	for _, r := range b.c.Comparison.Ranking {
		i := slices.IndexFunc(b.c.Members, func(m inspect.Member) bool { return m.Source == r.Member })
		m := &b.c.Members[i]
		foreign := m.ClusterID != nil && b.p.OldClusterID != nil && *m.ClusterID != *b.p.OldClusterID
		removed := m.MemberID != nil && slices.Contains(m.Membership.Removed, *m.MemberID)
		if !foreign && !removed && m.Verdict.Grade == inspect.Unusable && (salvageable(m) || m.WAL != nil) {
			return i
		}
	}
	return -1
}

// siblings are the other directories of the cluster, by path.
func (b *builder) siblings(usable func(*inspect.Member) bool) []string {
	var list []string
	for i := range b.c.Members {
		m := &b.c.Members[i]
		if m.Source == b.member.Source || m.ClusterID == nil || b.member.ClusterID == nil || *m.ClusterID != *b.member.ClusterID || !b.onDisk(m) || !usable(m) {
			continue
		}
		list = append(list, m.Source)
	}
	slices.Sort(list)
	return list
}

// logOf gives the path by which a source's log is named: the source, whose database is a
// proof then, or the folder of the log where it lies elsewhere, or where the two contradict
// each other.
func (b *builder) logOf(m *inspect.Member) string {
	if _, wrong := b.contradicted(m); wrong || m == b.member && !strings.HasPrefix(m.WAL.Dir, m.Source) {
		return m.WAL.Dir
	}
	return m.Source
}

// revisionsNamed lists revisions in words.
func revisionsNamed(revisions []int64) string {
	if len(revisions) == 0 {
		return "in its newest revisions"
	}
	const most = 5
	text := "at revision "
	if len(revisions) > 1 {
		text = "at revisions "
	}
	for i, r := range revisions[:min(len(revisions), most)] {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprint(r)
	}
	if len(revisions) > most {
		text += " and others"
	}
	return text
}

// rollForward applies the logs with etcd's own code. Other members' logs prove more
// entries committed, and fill what this one lacks.
func (b *builder) rollForward() []Step {
	p := b.p
	p.Logs = []string{b.logOf(b.member)}
	for _, path := range b.siblings(func(m *inspect.Member) bool { return m.WAL != nil && m.WAL.LastIndex != nil }) {
		i := slices.IndexFunc(b.c.Members, func(m inspect.Member) bool { return m.Source == path })
		p.Logs = append(p.Logs, b.logOf(&b.c.Members[i]))
	}
	argv := []string{"etcd-forensics", "rollforward"}
	if p.Base != "" {
		argv = append(argv, "--base="+p.Base)
	}
	for _, log := range p.Logs {
		argv = append(argv, "--wal="+log)
	}
	return []Step{{
		Why:   "apply the committed entries of the log to a copy of the database, with etcd's own code; the evidence stays as it is",
		Argv:  append(argv, "-o", p.File.Path),
		Check: fmt.Sprintf("it says that it stopped behind entry %d or a later one", deref(b.member.WAL.ProvenCommit)),
		IfNot: "what it says would help; otherwise restore the database as it is: plan --from with the directory's snap/db by itself",
	}}
}

// salvage writes what a damaged database proves to a new one.
func (b *builder) salvage() []Step {
	p := b.p
	p.With = b.siblings(func(m *inspect.Member) bool { return m.Backend != nil && m.Backend.Revision != nil })
	argv := []string{"etcd-forensics", "salvage", p.Source, "--snapshot"}
	for _, other := range p.With {
		argv = append(argv, "--with="+other)
	}
	return []Step{{
		Why:   "write every record that the pages still prove to a new database; the evidence stays as it is",
		Argv:  append(argv, "-o", p.File.Path),
		Check: "read what it lists as lost: revisions, keys and pages",
		IfNot: "what it says would help",
	}}
}

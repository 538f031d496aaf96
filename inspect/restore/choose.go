package restore

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"etcd-forensics/inspect"
)

// New makes the plan for a case, with options that passed their check. A case that allows
// none gives a plan that is refused.
func New(c *inspect.Case, o Options) *Plan {
	b := &builder{c: c, o: o, p: refuse("", "")}
	b.p.Refused = nil
	if r := b.build(); r != nil {
		p := refuse(r.why, r.instead)
		p.Source, p.Alternatives = b.p.Source, b.p.Alternatives
		return p
	}
	return b.p
}

// A refusal is why there is no plan, and what to do instead.
type refusal struct{ why, instead string }

// A builder makes one plan.
type builder struct {
	c *inspect.Case
	o Options
	p *Plan

	old      inspect.Membership // of the cluster
	member   *inspect.Member    // that is restored from
	version  Version
	platform *platform
}

func (b *builder) build() *refusal {
	if b.c.Interrupted != nil {
		return &refusal{"the examination was interrupted, so nothing says which source is best", "run it to its end"}
	}
	b.old = b.c.Membership().Membership
	b.p.OldClusterID = b.c.Membership().ClusterID
	if r := b.chooseSource(); r != nil {
		return r
	}
	if r := b.chooseVersion(); r != nil {
		return r
	}
	b.choosePlatform()
	b.chooseWay()
	if b.p.Way == WayRejoin {
		return b.buildRejoin()
	}
	b.listAlternatives()
	if r := b.checkSource(); r != nil {
		return r
	}
	if err := b.membership(); err != nil {
		return &refusal{err.Error(), "say who the members are to be: --member NAME=PEERURL for each of them"}
	}
	b.describeFile()
	b.identify()
	b.leaveToPlatform()
	b.bump()
	b.p.Tag = b.tag()
	b.countLosses()
	b.warnings()
	return b.restoreSteps()
}

// chooseSource takes the source that is asked for, otherwise the best.
func (b *builder) chooseSource() *refusal {
	path := b.o.From
	if path == "" {
		switch {
		case b.c.Comparison != nil:
			path = b.c.Comparison.Best
		case len(b.c.Members) == 1:
			path = b.c.Members[0].Source
		}
	}
	i := slices.IndexFunc(b.c.Members, func(m inspect.Member) bool { return m.Source == path })
	if i < 0 {
		if b.o.From != "" {
			return &refusal{fmt.Sprintf("--from %s is none of the sources", b.o.From), "name one of the paths as it was given"}
		}
		if i = b.leastDamaged(); i < 0 {
			return &refusal{"none of the sources can be restored from: " + b.whyNone(), "look for an older backup; what can be read of the damaged ones is shown by inspect and keys"}
		}
	}
	b.member = &b.c.Members[i]
	b.p.Source = b.member.Source
	return nil
}

// whyNone says of each source why it is of no use.
func (b *builder) whyNone() string {
	var why []string
	for _, r := range b.c.Comparison.Ranking {
		why = append(why, fmt.Sprintf("%s: %s", r.Member, r.Reason))
	}
	return strings.Join(why, "; ")
}

// checkSource refuses a source that etcd could not restore.
func (b *builder) checkSource() *refusal {
	m := b.member
	switch {
	case b.p.Way == WayRollForward || b.p.Way == WaySalvage:
		return nil
	case m.Backend == nil || m.Backend.Revision == nil:
		return &refusal{fmt.Sprintf("%s has no database that can be read", m.Source), "give a snapshot, or the directory of another member"}
	case m.Verdict.Grade == inspect.Unusable:
		return &refusal{fmt.Sprintf("%s is damaged: %s", m.Source, joinCodes(m.Verdict.Codes)),
			"look for another member's directory or an older backup; etcd-forensics inspect says what is lost in this one"}
	}
	return nil
}

func joinCodes(codes []inspect.Code) string {
	var list []string
	for _, c := range codes {
		list = append(list, string(c))
	}
	return strings.Join(list, ", ")
}

// chooseVersion decides which etcd will run, and refuses one that cannot read the data.
func (b *builder) chooseVersion() *refusal {
	data, known := b.dataVersion()
	if b.o.EtcdVersion != "" {
		b.version, _ = ParseVersion(b.o.EtcdVersion)
	} else if known {
		b.version = data
	} else {
		return &refusal{"the evidence does not say which version of etcd wrote it", "say which version will run: --etcd-version 3.5"}
	}
	b.p.EtcdVersion = b.version.String()
	if !known || b.version.Minor >= data.Minor {
		return nil
	}
	why := fmt.Sprintf("the data is of etcd %s, which etcd %s ", data, b.version)
	switch {
	case b.version.Minor == 4:
		why += "cannot restore: it stops with \"unsupported storage version\""
		if data.Minor == 5 {
			// 3.5 leaves no storage version; 3.4 restores and serves it.
			b.p.warn("version", fmt.Sprintf("the data is of etcd %s and will be served by %s: downgrades are not what etcd is tested for", data, b.version), "run etcd "+data.String())
			return nil
		}
	case data.Minor == 7 && b.version.Minor == 6:
		why += "does not start on: its schema is newer"
	case data.Minor <= 7 && b.version.Minor == 5:
		// Measured with 3.5.35 on what 3.6 and 3.7 wrote: it reads versions and members from the v2 store.
		b.p.warn("version", fmt.Sprintf("the data is of etcd %s and will be served by %s, which passes over what it does not know", data, b.version), "run etcd "+data.String())
		return nil
	default:
		why += "does not know"
	}
	return &refusal{why, "run etcd " + data.String() + " or later: --etcd-version " + data.String()}
}

// dataVersion is the minor version of etcd that the data of the source needs: the
// cluster's version, or the storage version when that is higher.
func (b *builder) dataVersion() (v Version, known bool) {
	be := b.backend()
	for _, text := range []*string{be.ClusterVersion, be.StorageVersion} {
		if text == nil {
			continue
		}
		if got, err := ParseVersion(*text); err == nil && got.Minor > v.Minor {
			v, known = Version{Minor: got.Minor, Patch: -1}, true
		}
	}
	return v, known
}

func (b *builder) choosePlatform() {
	b.p.Platform = cmp.Or(b.o.Platform, PlatformPlain)
	b.platform = platforms[b.p.Platform]
	b.p.DataDir = cmp.Or(b.o.DataDir, b.platform.dataDir)
	b.p.WALDir = b.o.WALDir
	b.p.WorkDir = cmp.Or(b.o.WorkDir, DefaultWorkDir)
}

// chooseWay decides by what the source is.
func (b *builder) chooseWay() {
	m := b.member
	isDir := m.WAL != nil && m.Backend != nil && b.kind() != "wal-dir"
	switch {
	case b.enoughStart():
		b.p.Way = WayRejoin
		b.p.Reason = fmt.Sprintf("%d of %d voters start as they are, %d are needed: nothing has to be restored", len(b.starters()), len(b.voters()), len(b.voters())/2+1)
	case b.logTells():
		b.p.Way, b.p.Base = WayRollForward, m.Source
		b.p.Reason = fmt.Sprintf("its log holds committed entries up to %d that its database lacks; etcd's own code applies them to a copy of it", deref(m.WAL.ProvenCommit))
	case b.logTellsAll():
		b.p.Way = WayRollForward
		why := "its database is of no use"
		if wrong, ok := b.contradicted(m); ok {
			why = "its database contradicts its own log " + revisionsNamed(wrong)
		}
		b.p.Reason = fmt.Sprintf("%s, and its log reaches back to the first entry; etcd's own code makes the database anew of entries 1 to %d", why, deref(m.WAL.ProvenCommit))
	case (m.Verdict.Grade == inspect.Unusable || hasBrokenFreelist(m)) && salvageable(m):
		b.p.Way = WaySalvage
		b.p.Reason = fmt.Sprintf("its database is damaged (%s); what its pages still prove is written to a new one", joinCodes(m.Verdict.Codes))
	case isDir && b.logHelps():
		b.p.Way, b.p.Copy = WayForceNewCluster, m.Source
		b.p.Reason = fmt.Sprintf("its log holds committed entries up to %d that its database lacks; etcd applies them when it is started alone on a copy", *m.WAL.Commit)
	case b.kind() == "snapshot" && m.Backend != nil && m.Backend.Trailer.Present:
		b.p.Way = WayRestoreSnapshot
		b.p.Reason = "it is a snapshot"
	case b.contradictedAlone():
		wrong, _ := b.contradicted(m)
		b.p.Way = WaySalvage
		b.p.Reason = fmt.Sprintf("its database contradicts its own log %s; what is written to a new one is taken from the log there", revisionsNamed(wrong))
	default:
		b.p.Way = WayRestoreDB
		b.p.Reason = "it is a member's database"
	}
	if b.c.Comparison != nil && b.p.Way != WayRejoin && b.o.From == "" {
		for _, r := range b.c.Comparison.Ranking {
			if r.Member == m.Source && r.Reason != "" {
				b.p.Reason = r.Reason + "; " + b.p.Reason
			}
		}
	}
}

func (b *builder) kind() string {
	for _, s := range b.c.Sources {
		if s.Path == b.member.Source {
			return s.Kind
		}
	}
	return ""
}

// startupOf gives what the version does with a directory; nil when nothing says.
func (b *builder) startupOf(m *inspect.Member) *inspect.Startup {
	for i := range m.Startup {
		if m.Startup[i].EtcdVersion == fmt.Sprintf("3.%d", b.version.Minor) {
			return &m.Startup[i]
		}
	}
	return nil
}

// starts says whether the version starts on a directory, serves, and cuts nothing. From
// 3.6 on the v3 store is what etcd believes. With zombies in it, as a restore by 3.4 leaves
// them (etcd-io/etcd#13196), a server panics on some directories and comes up on others,
// so none is trusted with them.
func (b *builder) starts(m *inspect.Member) bool {
	if b.version.Minor >= 6 && len(m.Membership.Zombies) > 0 {
		return false
	}
	s := b.startupOf(m)
	return s != nil && s.Starts != nil && *s.Starts && (s.Serves == nil || *s.Serves) && (s.CutsEntries == nil || *s.CutsEntries == 0)
}

// logHelps says whether starting the source alone brings back entries that its
// database lacks. The log's own commit counts, as --force-new-cluster drops what is
// beyond (etcd v3.7.3, server/etcdserver/bootstrap.go).
func (b *builder) logHelps() bool {
	m := b.member
	if m.WAL.Commit == nil || m.Backend.ConsistentIndex == nil || *m.WAL.Commit <= *m.Backend.ConsistentIndex || m.WAL.Unapplied.Count == 0 {
		return false
	}
	if survives, _ := sinceForcedSurvives.has(b.version); !survives && b.hasLearners() {
		return false
	}
	return b.starts(m)
}

func (b *builder) hasLearners() bool {
	return slices.ContainsFunc(b.old.Members, func(m inspect.MembershipMember) bool { return m.IsLearner })
}

// starters are the directories of voters that start as they are, one a voter, by path.
func (b *builder) starters() []*inspect.Member {
	var list []*inspect.Member
	seen := map[inspect.ID]bool{}
	for i := range b.c.Members {
		m := &b.c.Members[i]
		if m.MemberID == nil || seen[*m.MemberID] || !b.isVoter(*m.MemberID) || !b.usable(m) || !b.starts(m) {
			continue
		}
		seen[*m.MemberID] = true
		list = append(list, m)
	}
	slices.SortFunc(list, func(m, n *inspect.Member) int { return strings.Compare(m.Source, n.Source) })
	return list
}

// usable says whether a member's directory is one to go on from.
func (b *builder) usable(m *inspect.Member) bool {
	if b.c.Comparison == nil {
		return m.Verdict.Grade == inspect.Sound || m.Verdict.Grade == inspect.Inconclusive
	}
	i := slices.IndexFunc(b.c.Comparison.Ranking, func(r inspect.Ranked) bool { return r.Member == m.Source })
	return i >= 0 && b.c.Comparison.Ranking[i].Usable && len(m.Verdict.Codes) == 0
}

func (b *builder) isVoter(id inspect.ID) bool {
	return slices.ContainsFunc(b.voters(), func(m inspect.MembershipMember) bool { return m.MemberID == id })
}

// enoughStart says whether the cluster comes back by itself, and nothing else was
// asked for.
func (b *builder) enoughStart() bool {
	if b.o.Single || len(b.o.Members) > 0 || b.o.From != "" {
		return false
	}
	voters := b.voters()
	return len(voters) > 0 && len(b.starters()) >= len(voters)/2+1
}

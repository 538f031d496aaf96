package restore

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"etcd-forensics/inspect"
)

// buildRejoin plans for a cluster of which a majority starts as it is: nothing is
// restored, and a member that does not start is replaced.
func (b *builder) buildRejoin() *refusal {
	starters := b.starters()
	startable := func(id inspect.ID) bool {
		return slices.ContainsFunc(starters, func(m *inspect.Member) bool { return *m.MemberID == id })
	}
	b.p.Token, b.p.File = "", Artifact{}
	b.p.ClusterID = deref(b.p.OldClusterID)
	r := &b.p.Revision
	r.Source, r.Highest = deref(b.backend().Revision), b.highestRevision()
	voters := b.voters()
	var lost []inspect.MembershipMember
	for _, v := range voters {
		m := Member{Name: v.Name, PeerURLs: orEmpty(v.PeerURLs), ClientURLs: orEmpty(v.ClientURLs)}
		if badMember(m.Name, m.PeerURLs) != "" {
			continue // never started: the others go on without it
		}
		if startable(v.MemberID) {
			m.MemberID = &v.MemberID
			b.p.Members = append(b.p.Members, m)
		} else {
			lost = append(lost, v)
			b.p.Joining = append(b.p.Joining, m)
		}
	}
	if len(b.p.Members) == 0 {
		return &refusal{"the voters that could start have no name or peer URL", "start them as they were started before"}
	}
	b.p.Tag = b.tag()
	b.warnStrangers()
	b.warnRejoin(lost)
	b.warnContent()
	if b.platform.rejoin != nil {
		return b.platform.rejoin(b, lost)
	}
	for i := range b.p.Members {
		m := &b.p.Members[i]
		h := Host{Name: m.Name}
		h.add(b.phase(PhaseStart, b.needData(b.call(b.platform.start, m)))...)
		h.add(b.phase(PhaseVerify, b.verify(m))...)
		b.p.Hosts = append(b.p.Hosts, h)
	}
	there := append([]Member(nil), b.p.Members...)
	for i := range b.p.Joining {
		h := b.joiningHost(&b.p.Joining[i], there, b.stillMembers(lost[i+1:]), &lost[i].MemberID)
		h.Steps = append(b.reallyLost(&lost[i]), h.Steps...)
		b.p.Hosts = append(b.p.Hosts, h)
		there = append(there, b.p.Joining[i])
	}
	return nil
}

// reallyLost has a person look whether a member that is not in hand has to be replaced.
func (b *builder) reallyLost(m *inspect.MembershipMember) []Step {
	if b.inHand(m.MemberID) {
		return nil
	}
	return b.phase(PhasePrepare, []Step{{
		Why:   "make sure that the directory of " + quoted(m.Name) + " is really lost: it was not in hand, so nothing here shows that",
		Check: "it cannot be read, or etcd does not start on it",
		IfNot: "start etcd on it and leave the steps of " + quoted(m.Name) + " out: it catches up by itself",
	}})
}

// stillMembers are the members that stay such while one of the lost is replaced: those
// that are replaced later, learners, and voters that never started.
func (b *builder) stillMembers(later []inspect.MembershipMember) []Member {
	list := []Member{}
	for _, m := range b.old.Members {
		isLater := slices.ContainsFunc(later, func(l inspect.MembershipMember) bool { return l.MemberID == m.MemberID })
		if !isLater && !m.IsLearner && badMember(m.Name, m.PeerURLs) == "" || len(m.PeerURLs) == 0 {
			continue
		}
		list = append(list, Member{Name: cmp.Or(m.Name, m.MemberID.String()), PeerURLs: m.PeerURLs})
	}
	return list
}

// inHand says whether a member's directory is among the sources.
func (b *builder) inHand(id inspect.ID) bool {
	return slices.ContainsFunc(b.c.Members, func(m inspect.Member) bool { return m.MemberID != nil && *m.MemberID == id })
}

func (b *builder) warnRejoin(lost []inspect.MembershipMember) {
	for _, m := range lost {
		why := "its directory is not in hand"
		for i := range b.c.Members {
			s := &b.c.Members[i]
			if s.MemberID == nil || *s.MemberID != m.MemberID {
				continue
			}
			why = s.Source + " does not start"
			if st := b.startupOf(s); st != nil && st.Error != "" {
				why += ": " + st.Error
			} else if len(s.Verdict.Codes) > 0 {
				why += " safely: " + joinCodes(s.Verdict.Codes)
			}
		}
		b.p.warn("replaced", fmt.Sprintf("member %q (%s) is replaced, as %s", m.Name, m.MemberID, why),
			"when its directory on the host is whole after all, start it instead: it catches up by itself. Never restore a snapshot into one member of a running cluster")
	}
}

// joiningHost gives the steps on the host of a member that joins those that are there.
// replaces is the id under which it was a member, nil when the new cluster never knew
// it: the others are told first to forget it, since with a dead voter still counted one
// more failure would end the cluster. others are members as well while it joins, though
// nobody asks them: a server that joins insists on exactly the members that there are
// (etcd v3.7.3, server/etcdserver/api/membership/cluster.go, ValidateClusterAndAssignIDs).
func (b *builder) joiningHost(m *Member, there, others []Member, replaces *inspect.ID) Host {
	h := Host{Name: m.Name}
	var endpoints []string
	for i := range there {
		endpoints = append(endpoints, there[i].endpoint())
	}
	ask := *m
	ask.through = strings.Join(endpoints, ",")
	cluster := initialCluster(slices.Concat(there, others, []Member{*m}))
	var steps []Step
	h.add(b.phase(PhasePrepare, b.call(b.platform.look, m))...)
	if b.p.Way != WayRejoin {
		h.add(b.phase(PhaseStop, b.rightHost(m, b.stopAll(m)))...)
	} else {
		steps = append(steps, b.call(b.platform.stop, m)...)
	}
	member := path.Join(b.p.DataDir, "member")
	inUse := Guard{Kind: GuardInUse, Path: path.Join(member, "snap", "db")}
	steps = append(steps, Step{
		Why:     "a member joins with an empty directory; keep the old data",
		Argv:    []string{"sh", "-c", `if [ -e "$1" ]; then mv "$1" "$2"; fi`, "sh", member, b.kept()},
		Refuses: []Guard{inUse, {Kind: GuardExists, Path: b.kept()}},
		Check:   member + " is gone",
		IfNot:   "stop what holds the directory",
	})
	if b.p.WALDir != "" {
		old := b.p.WALDir + ".before-" + b.p.Tag
		steps = append(steps, Step{
			Why:     "keep the old log as well",
			Argv:    []string{"sh", "-c", `if [ -e "$1" ]; then mv "$1" "$2"; fi`, "sh", b.p.WALDir, old},
			Refuses: []Guard{{Kind: GuardExists, Path: old}},
			Check:   b.p.WALDir + " is gone",
			IfNot:   "when the WAL directory is a mount, move what is in it instead",
		})
	}
	if replaces != nil {
		steps = append(steps, Step{
			Why:    "the others forget the dead member first, so that the majority is counted without it",
			Argv:   b.asking(&ask, removeOnce, replaces.String()),
			Expect: &Expect{Seconds: upSeconds},
			Check:  "etcdctl member list does not show it",
			IfNot:  "at \"unhealthy cluster\" wait until all members that are there are healthy",
		})
	}
	steps = append(steps, Step{
		Why:    "make it known, as a learner that does not count for the majority until it has caught up",
		Argv:   b.asking(&ask, addOnce, m.Name, strings.Join(m.PeerURLs, ",")),
		Expect: &Expect{Seconds: upSeconds},
		Check:  fmt.Sprintf("etcdctl member list shows %d members", len(there)+1),
		IfNot:  "at \"unhealthy cluster\" wait until those that are there are connected; at \"too many learner members\" promote the one before first",
	})
	if b.platform.join != nil {
		steps = append(steps, b.platform.join(b, m, cluster)...)
	}
	steps = append(steps, Step{
		Why:    "make it a voter when it has caught up",
		Argv:   b.asking(&ask, promote, m.PeerURLs[0]),
		Expect: &Expect{Seconds: upSeconds, Contains: "promoted"},
		Check:  "etcdctl member list shows it started, IS LEARNER false",
		IfNot:  "at \"in sync with leader\" wait and run it again",
	}, Step{
		Why:    "it serves clients itself only when it has made itself known",
		Argv:   b.client(m, "endpoint", "health"),
		Expect: &Expect{Contains: "is healthy", Seconds: upSeconds},
		Check:  "it says \"is healthy\"",
		IfNot:  "read etcd's log; etcd-forensics explain says what a line means",
	})
	steps = append(steps, b.call(b.platform.startClients, m)...)
	h.add(b.phase(PhaseJoin, b.rightHost(m, steps))...)
	return h
}

// What a joining host asks of the members that are there. A command that was answered too
// late has been carried out all the same, so each looks first. The arguments are followed
// by etcdctl and its flags.
const (
	removeOnce = `id=$1; shift; if "$@" member list | grep "^$id,"; then "$@" member remove "$id"; fi`
	addOnce    = `name=$1 url=$2; shift 2; if "$@" member list | grep -F ", $url,"; then :; else "$@" member add "$name" "--peer-urls=$url" --learner; fi`
	// The id depends on when it was added; "promoted" stands for a voter already, too.
	promote = `url=$1; shift; line=$("$@" member list | grep -F ", $url,"); case $line in *", false") echo promoted ;; *) "$@" member promote "${line%%,*}" ;; esac`
)

// asking is etcdctl for a member within a script, with the script's arguments before it.
func (b *builder) asking(ask *Member, script string, args ...string) []string {
	return append(append([]string{"sh", "-c", script, "sh"}, args...), b.remote(ask)...)
}

package symptom

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"etcd-forensics/inspect"
)

// id reads a fact that is a member or cluster id, in hex as etcd writes it.
func (m Match) id(name string) (inspect.ID, bool) {
	n, err := strconv.ParseUint(m.Fact(name), 16, 64)
	return inspect.ID(n), err == nil
}

// number reads a fact that is a decimal number.
func (m Match) number(name string) (uint64, bool) {
	n, err := strconv.ParseUint(m.Fact(name), 10, 64)
	return n, err == nil
}

// each asks every source for one proof; "" is none.
func each(c *inspect.Case, of func(*inspect.Member) string) []Proof {
	var proofs []Proof
	for i := range c.Members {
		if message := of(&c.Members[i]); message != "" {
			proofs = append(proofs, Proof{Member: c.Members[i].Source, Message: message})
		}
	}
	return proofs
}

// ofTheseClusters finds the sources that are of the clusters that the line names.
func ofTheseClusters(m Match, c *inspect.Case) []Proof {
	own, _ := m.id("cluster")
	other, named := m.id("remoteCluster")
	if !named {
		return nil
	}
	return each(c, func(x *inspect.Member) string {
		switch {
		case x.ClusterID == nil:
		case *x.ClusterID == other:
			return fmt.Sprintf("it is of cluster %s, the other one of the line", other)
		case *x.ClusterID == own:
			return fmt.Sprintf("it is of cluster %s, that of the member which wrote the line", own)
		}
		return ""
	})
}

func lists(x *inspect.Member, id inspect.ID) (inspect.MembershipMember, bool) {
	i := slices.IndexFunc(x.Membership.Members, func(m inspect.MembershipMember) bool { return m.MemberID == id })
	if i < 0 {
		return inspect.MembershipMember{}, false
	}
	return x.Membership.Members[i], true
}

// peerNotListed finds sources that state members, and not the peer of the line.
func peerNotListed(m Match, c *inspect.Case) []Proof {
	peer, named := m.id("peer")
	if !named {
		return nil
	}
	return each(c, func(x *inspect.Member) string {
		_, listed := lists(x, peer)
		switch {
		case slices.Contains(x.Membership.Removed, peer):
			return fmt.Sprintf("member %s was removed", peer)
		case listed || len(x.Membership.Members) == 0:
			return ""
		}
		return fmt.Sprintf("member %s is not among the %d that it states", peer, len(x.Membership.Members))
	})
}

// idListed finds sources that know the member which the line names.
func idListed(m Match, c *inspect.Case) []Proof {
	id, named := m.id("peer")
	if !named {
		id, named = m.id("member")
	}
	if !named {
		return nil
	}
	return each(c, func(x *inspect.Member) string {
		if listed, ok := lists(x, id); ok {
			return fmt.Sprintf("member %s is stated, with peer URLs %s", id, strconv.QuoteToASCII(strings.Join(listed.PeerURLs, " ")))
		}
		return ""
	})
}

// idRemoved finds sources that state an id of the line, or their own one, as removed.
func idRemoved(m Match, c *inspect.Case) []Proof {
	var ids []inspect.ID
	for _, name := range []string{"peer", "removedPeer", "removed", "member", "found"} {
		if id, ok := m.id(name); ok && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return ownIDRemoved(m, c)
	}
	return each(c, func(x *inspect.Member) string {
		for _, id := range ids {
			if slices.Contains(x.Membership.Removed, id) {
				return fmt.Sprintf("member %s was removed", id)
			}
		}
		return ""
	})
}

// ownIDRemoved finds sources whose own member any of them states as removed; of the
// one that the line names, if it does.
func ownIDRemoved(m Match, c *inspect.Case) []Proof {
	named, only := m.id("member")
	return each(c, func(x *inspect.Member) string {
		if x.MemberID == nil || only && *x.MemberID != named {
			return ""
		}
		for _, other := range c.Members {
			if slices.Contains(other.Membership.Removed, *x.MemberID) && sameCluster(x, &other) {
				return fmt.Sprintf("its member %s was removed, as %s states", *x.MemberID, strconv.QuoteToASCII(other.Source))
			}
		}
		return ""
	})
}

func sameCluster(a, b *inspect.Member) bool {
	return a.ClusterID == nil || b.ClusterID == nil || *a.ClusterID == *b.ClusterID
}

// ownIDNotListed finds sources that state members, and not their own one.
func ownIDNotListed(_ Match, c *inspect.Case) []Proof {
	return each(c, func(x *inspect.Member) string {
		if x.MemberID == nil || len(x.Membership.Members) == 0 {
			return ""
		}
		if _, ok := lists(x, *x.MemberID); ok {
			return ""
		}
		return fmt.Sprintf("its own member %s is not among the %d that it states", *x.MemberID, len(x.Membership.Members))
	})
}

func learnersListed(_ Match, c *inspect.Case) []Proof {
	return each(c, func(x *inspect.Member) string {
		return membersThat(x, "learner", func(m inspect.MembershipMember) bool { return m.IsLearner })
	})
}

func neverStarted(_ Match, c *inspect.Case) []Proof {
	return each(c, func(x *inspect.Member) string {
		return membersThat(x, "member that never started", func(m inspect.MembershipMember) bool { return m.Name == "" && len(m.ClientURLs) == 0 })
	})
}

// membersThat names the members that are of some kind.
func membersThat(x *inspect.Member, kind string, are func(inspect.MembershipMember) bool) string {
	var ids []string
	for _, m := range x.Membership.Members {
		if are(m) {
			ids = append(ids, m.MemberID.String())
		}
	}
	if len(ids) == 0 {
		return ""
	}
	return "it states as " + kind + ": " + list(ids)
}

// logEndsThere finds logs that end at the index that the line calls the last one.
func logEndsThere(m Match, c *inspect.Case) []Proof {
	last, named := m.number("lastIndex")
	if !named {
		return nil
	}
	return each(c, func(x *inspect.Member) string {
		if x.WAL == nil || x.WAL.LastIndex == nil || *x.WAL.LastIndex != last {
			return ""
		}
		return fmt.Sprintf("its log ends at index %d, as the line says", last)
	})
}

// brokenSegment finds what a repair of the log has left.
func brokenSegment(_ Match, c *inspect.Case) []Proof {
	return each(c, func(x *inspect.Member) string {
		for _, s := range x.Startup {
			if s.CutsEntries != nil && *s.CutsEntries > 0 {
				return fmt.Sprintf("etcd %s would cut %d entries off its log at start", s.EtcdVersion, *s.CutsEntries)
			}
		}
		return ""
	})
}

// termReached finds logs that have come to the term of the line.
func termReached(m Match, c *inspect.Case) []Proof {
	term, named := m.number("term")
	if !named {
		return nil
	}
	return each(c, func(x *inspect.Member) string {
		if x.WAL == nil || x.WAL.Term == nil || *x.WAL.Term < term {
			return ""
		}
		return fmt.Sprintf("its log has come to term %d", *x.WAL.Term)
	})
}

// wouldNotServe finds members on which a server would stay up and take no writes.
func wouldNotServe(_ Match, c *inspect.Case) []Proof {
	return each(c, func(x *inspect.Member) string {
		var versions []string
		for _, s := range x.Startup {
			if s.Starts != nil && *s.Starts && s.Serves != nil && !*s.Serves {
				versions = append(versions, s.EtcdVersion)
			}
		}
		if len(versions) == 0 {
			return ""
		}
		return "etcd " + list(versions) + " would start on it and never take a write, even with the other voters in reach"
	})
}

// clusterVersionIs finds sources that state the cluster version of the line.
func clusterVersionIs(m Match, c *inspect.Case) []Proof {
	return each(c, func(x *inspect.Member) string {
		if x.Backend == nil || x.Backend.ClusterVersion == nil || !sameMinor(*x.Backend.ClusterVersion, m.Fact("clusterVersion")) {
			return ""
		}
		return "its cluster version is " + strconv.QuoteToASCII(*x.Backend.ClusterVersion)
	})
}

// storageVersionIs finds databases of the storage version of the line.
func storageVersionIs(m Match, c *inspect.Case) []Proof {
	return each(c, func(x *inspect.Member) string {
		if x.Backend == nil || x.Backend.StorageVersion == nil || !sameMinor(*x.Backend.StorageVersion, m.Fact("storageVersion")) {
			return ""
		}
		return "its storage version is " + strconv.QuoteToASCII(*x.Backend.StorageVersion)
	})
}

// sameMinor compares the first two numbers of two versions.
func sameMinor(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	return len(x) > 1 && len(y) > 1 && x[0] == y[0] && x[1] == y[1]
}

// revisionAhead finds databases that have not come to the revision of the line.
func revisionAhead(m Match, c *inspect.Case) []Proof {
	rev, named := m.number("revision")
	if !named {
		return nil
	}
	return each(c, func(x *inspect.Member) string {
		if x.Backend == nil || x.Backend.Revision == nil || uint64(max(*x.Backend.Revision, 0)) >= rev {
			return ""
		}
		return fmt.Sprintf("its newest revision is %d, below that of the line", *x.Backend.Revision)
	})
}

// hashesDiffer finds databases with one revision and compact revision whose contents
// differ.
func hashesDiffer(_ Match, c *inspect.Case) []Proof {
	first := map[[2]int64]*inspect.Member{}
	return each(c, func(x *inspect.Member) string {
		if x.Backend == nil || x.Backend.HashKV == nil {
			return ""
		}
		h := x.Backend.HashKV
		at := [2]int64{h.Revision, h.CompactRevision}
		other := first[at]
		if other == nil {
			first[at] = x
			return ""
		}
		if other.Backend.HashKV.Hash == h.Hash {
			return ""
		}
		return fmt.Sprintf("its HashKV at revision %d is %d, that of %s is %d", h.Revision, h.Hash, strconv.QuoteToASCII(other.Source), other.Backend.HashKV.Hash)
	})
}

// noTrailer finds databases without a SHA-256 at their end.
func noTrailer(_ Match, c *inspect.Case) []Proof {
	return each(c, func(x *inspect.Member) string {
		if x.Backend == nil || x.Backend.Trailer.Present {
			return ""
		}
		return "the database has no SHA-256 at its end"
	})
}

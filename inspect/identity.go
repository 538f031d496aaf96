package inspect

import (
	"crypto/sha1"
	"encoding/binary"
	"slices"
	"strings"
)

// Tokens are the values of --initial-cluster-token that are tried against ids:
// etcd's default, what Rancher restores with, examples in etcd's documentation,
// and none, as K3s has it.
var Tokens = []string{"etcd-cluster", "etcd-cluster-1", "tkn", "k8s_etcd", ""}

// An Identity says how the ids of a cluster came about.
type Identity struct {
	// Initial are the members that the cluster was made with; empty when the
	// evidence does not tell.
	Initial []ID `json:"initial"`
	// Token explains the ids of all of them; nil when no token that was tried does.
	Token *string `json:"token"`
	// Follows says whether the cluster's id is made of theirs; nil when that is not
	// known.
	Follows *bool `json:"clusterIDFollows"`
}

// maxInitial bounds the members of which all subsets are tried as those that a
// cluster was made with.
const maxInitial = 12

// MemberIDOf computes the id of a member that its cluster was made with. One added
// later has the time in seconds in place of the token (etcd v3.7.3,
// server/etcdserver/api/membership/member.go, computeMemberID).
func MemberIDOf(peerURLs []string, token string) ID {
	urls := slices.Sorted(slices.Values(peerURLs))
	sum := sha1.Sum([]byte(strings.Join(urls, "") + token))
	return ID(binary.BigEndian.Uint64(sum[:]))
}

// ClusterIDOf computes the id of a cluster from those of the members that it was
// made with (etcd v3.7.3, server/etcdserver/api/membership/cluster.go, genID).
func ClusterIDOf(members []ID) ID {
	var b []byte
	for _, id := range slices.Sorted(slices.Values(members)) {
		b = binary.BigEndian.AppendUint64(b, uint64(id))
	}
	sum := sha1.Sum(b)
	return ID(binary.BigEndian.Uint64(sum[:]))
}

// initialOf finds those among ids of which a cluster's id is made, nil when there
// are none or too many to try.
func initialOf(cluster ID, ids []ID) []ID {
	if len(ids) > maxInitial {
		return nil
	}
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	for set := 1; set < 1<<len(ids); set++ {
		var some []ID
		for i, id := range ids {
			if set>>i&1 == 1 {
				some = append(some, id)
			}
		}
		if ClusterIDOf(some) == cluster {
			return some
		}
	}
	return nil
}

// tokenOf finds the token from which the ids of members follow, and how many of them
// follow from the one that explains most.
func tokenOf(members []MembershipMember, tokens []string) (token string, explained int) {
	for _, t := range tokens {
		n := 0
		for _, m := range members {
			if len(m.PeerURLs) > 0 && MemberIDOf(m.PeerURLs, t) == m.MemberID {
				n++
			}
		}
		if n > explained {
			token, explained = t, n
		}
	}
	return token, explained
}

// identify says how the ids of the member's cluster came about. founders are the
// members with which its log begins, nil when its begin is not there.
func (x *examination) identify(founders []MembershipMember) {
	ms := &x.member.Membership
	id := &Identity{Initial: []ID{}}
	ms.Identity = id
	tokens := append(slices.Clone(x.opts.Tokens), Tokens...)
	known := founders
	if cluster := x.member.ClusterID; cluster != nil {
		for _, m := range founders {
			id.Initial = append(id.Initial, m.MemberID)
		}
		follows := len(founders) > 0 && ClusterIDOf(id.Initial) == *cluster
		if !follows {
			all := slices.Clone(ms.Removed)
			for _, m := range ms.Members {
				all = append(all, m.MemberID)
			}
			if initial := initialOf(*cluster, all); initial != nil {
				id.Initial, follows = initial, true
			}
		}
		if follows || len(founders) > 0 {
			id.Follows = &follows
		}
	}
	slices.Sort(id.Initial)
	if known == nil {
		for _, m := range ms.Members {
			if len(id.Initial) == 0 || slices.Contains(id.Initial, m.MemberID) {
				known = append(known, m)
			}
		}
	}
	if token, n := tokenOf(known, tokens); n > 0 {
		id.Token = &token
	}
}

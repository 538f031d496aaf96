package rehearse

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/restore"
	"etcd-forensics/inspect/source"
)

// idsOf asks etcd's own code for the ids that follow from URLs and a token.
func idsOf(urls map[string][]string, token string) (cluster inspect.ID, members map[string]inspect.ID, err error) {
	byName := types.URLsMap{}
	for name, list := range urls {
		if byName[name], err = types.NewURLs(list); err != nil {
			return 0, nil, fmt.Errorf("peer URLs of %q: %w", name, err)
		}
	}
	c, err := membership.NewClusterFromURLsMap(nil, token, byName)
	if err != nil {
		return 0, nil, err
	}
	members = map[string]inspect.ID{}
	for _, m := range c.Members() {
		members[m.Name] = inspect.ID(m.ID)
	}
	return inspect.ID(c.ID()), members, nil
}

// checkPlannedIDs holds the plan's ids against etcd's own code.
func (h *rehearsal) checkPlannedIDs() error {
	if h.plan.IDsByPlatform {
		h.receipt.skip(CheckPlannedIDs, "", "", h.plan.Platform+" gives token and ids itself")
		return nil
	}
	urls := map[string][]string{}
	for _, m := range h.plan.Members {
		urls[m.Name] = m.PeerURLs
	}
	cluster, members, err := idsOf(urls, h.plan.Token)
	if err != nil {
		return failure{err, CheckPlannedIDs, "", h.plan.ClusterID.String()}
	}
	h.receipt.compare(CheckPlannedIDs, "", h.plan.ClusterID.String(), cluster.String(), "")
	for _, m := range h.plan.Members {
		if m.MemberID == nil {
			h.receipt.skip(CheckPlannedIDs, m.Name, "", "the plan does not name its id")
			continue
		}
		h.receipt.compare(CheckPlannedIDs, m.Name, m.MemberID.String(), members[m.Name].String(), "")
	}
	return nil
}

// expectedIDs are the ids that must come up: those that follow from the URLs of the
// rehearsal by the formulas that plans use, or the old ones when the old members start
// again.
func (h *rehearsal) expectedIDs() (cluster inspect.ID, members map[string]inspect.ID) {
	if h.plan.Way == restore.WayRejoin {
		members = map[string]inspect.ID{}
		for _, m := range h.plan.Members {
			members[m.Name] = *m.MemberID
		}
		return h.plan.ClusterID, members
	}
	members = map[string]inspect.ID{}
	var ids []inspect.ID
	for _, m := range h.receipt.Members {
		members[m.Name] = inspect.MemberIDOf([]string{m.URL}, h.plan.Token)
		ids = append(ids, members[m.Name])
	}
	return inspect.ClusterIDOf(ids), members
}

// checkMembers holds the members that came up against those that must.
func (h *rehearsal) checkMembers(name string, list []listed, cluster inspect.ID) {
	wantCluster, want := h.expectedIDs()
	expected, actual := []string{"cluster " + wantCluster.String()}, []string{"cluster " + cluster.String()}
	for n, id := range want {
		expected = append(expected, fmt.Sprintf("%q %s", n, id))
	}
	for _, m := range list {
		if h.replaced(m.id) {
			continue
		}
		actual = append(actual, fmt.Sprintf("%q %s", m.name, m.id))
		for i := range h.receipt.Members {
			if h.receipt.Members[i].Name == m.name {
				h.receipt.Members[i].MemberID = &m.id
			}
		}
	}
	slices.Sort(expected[1:])
	slices.Sort(actual[1:])
	h.receipt.compare(CheckMembers, name, strings.Join(expected, ", "), strings.Join(actual, ", "), "")
}

// readMembers takes from a member's files what it would not tell without a password.
func (h *rehearsal) readMembers(ctx context.Context, name string, s *source.Source) error {
	c, err := inspect.Inspect(ctx, []*source.Source{s}, inspect.Options{})
	if err != nil {
		return err
	}
	var list []listed
	m := &c.Members[0]
	for _, other := range m.Membership.Members {
		list = append(list, listed{other.Name, other.MemberID})
	}
	var cluster inspect.ID
	if m.ClusterID != nil {
		cluster = *m.ClusterID
	}
	h.checkMembers(name, list, cluster)
	return nil
}

// replaced says whether a member is one of the old cluster that the plan replaces after
// the others have started.
func (h *rehearsal) replaced(id inspect.ID) bool {
	return h.plan.Way == restore.WayRejoin && !slices.ContainsFunc(h.plan.Members, func(m restore.Member) bool { return *m.MemberID == id })
}

// listed is a member as another lists it.
type listed struct {
	name string
	id   inspect.ID
}

// checkVersion says when the rehearsal does not run with what will run.
func (h *rehearsal) checkVersion() error {
	planned, ran := h.plan.EtcdVersion, strings.TrimPrefix(h.tools.etcdVersion, "v")
	if planned == ran || planned == minorOf(ran) {
		h.receipt.compare(CheckVersion, "", planned, planned, "")
		return nil
	}
	h.receipt.skip(CheckVersion, "", planned, "rehearsed with "+ran+"; --etcd-binary and --etcdutl-binary rehearse with the version that will run")
	return nil
}

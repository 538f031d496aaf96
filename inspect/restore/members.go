package restore

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"etcd-forensics/inspect"
)

// badMember says why etcd would not take a name or a peer URL, "" when it would
// (etcd v3.7.3, client/pkg/types/urls.go, NewURLs, and urlsmap.go: --initial-cluster
// is cut at commas and at the first equals sign).
func badMember(name string, peerURLs []string) string {
	if name == "" {
		return "a member has no name, since it never started"
	}
	if strings.ContainsAny(name, ",=") || strings.ContainsFunc(name, unprintable) || strings.TrimSpace(name) != name {
		return fmt.Sprintf("the name %q cannot be written in --initial-cluster", name)
	}
	if len(peerURLs) == 0 {
		return fmt.Sprintf("no peer URL is known of %q", name)
	}
	for _, text := range peerURLs {
		u, err := url.Parse(text)
		switch {
		case err != nil:
			return fmt.Sprintf("the peer URL %q of %q cannot be read", text, name)
		case u.Scheme != "http" && u.Scheme != "https":
			return fmt.Sprintf("the peer URL %q of %q must begin with http:// or https://", text, name)
		case strings.ContainsAny(text, ",\x00") || u.Path != "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
			return fmt.Sprintf("the peer URL %q of %q must be scheme, host and port only", text, name)
		}
		if host, port, err := net.SplitHostPort(u.Host); err != nil || host == "" || port == "" {
			return fmt.Sprintf("the peer URL %q of %q does not have the form \"host:port\"", text, name)
		} else if host[0] == '-' {
			return fmt.Sprintf("the peer URL %q of %q has a host that commands take for a flag", text, name)
		}
	}
	return ""
}

// checkTogether finds members that cannot be in one cluster.
func checkTogether(members []NewMember) error {
	names, urls := map[string]bool{}, map[string]string{}
	for _, m := range members {
		if names[m.Name] {
			return fmt.Errorf("two members are named %q", m.Name)
		}
		names[m.Name] = true
		for _, u := range m.PeerURLs {
			if other, taken := urls[u]; taken {
				return fmt.Errorf("%q and %q have the peer URL %s", other, m.Name, u)
			}
			urls[u] = m.Name
		}
	}
	return nil
}

// membership decides who is restored and who joins afterwards.
func (b *builder) membership() error {
	old := b.voters()
	members, joining := b.o.Members, []NewMember(nil)
	if len(members) == 0 {
		for _, m := range old {
			members = append(members, NewMember{m.Name, m.PeerURLs})
		}
	}
	if b.o.Single {
		var err error
		if members, joining, err = b.divide(old); err != nil {
			return err
		}
	}
	if len(members) == 0 {
		return errors.New("nothing says who the members are")
	}
	for _, m := range slices.Concat(members, joining) {
		if why := badMember(m.Name, m.PeerURLs); why != "" {
			return errors.New(why)
		}
	}
	if err := checkTogether(slices.Concat(members, joining)); err != nil {
		return err
	}
	b.p.Members, b.p.Joining = newMembers(old, members), newMembers(old, joining)
	return nil
}

// newMembers describes members, by name.
func newMembers(old []inspect.MembershipMember, members []NewMember) []Member {
	list := []Member{}
	for _, m := range members {
		list = append(list, Member{Name: m.Name, PeerURLs: slices.Clone(m.PeerURLs), ClientURLs: clientURLs(old, m)})
	}
	slices.SortFunc(list, func(m, n Member) int { return strings.Compare(m.Name, n.Name) })
	return list
}

// divide says who is restored alone, and who joins: of those that --member names the
// first and the others, otherwise the survivor and the other old voters that have a
// name.
func (b *builder) divide(old []inspect.MembershipMember) (one, others []NewMember, err error) {
	if len(b.o.Members) > 1 {
		return b.o.Members[:1], b.o.Members[1:], nil
	}
	one = b.o.Members
	if len(one) == 0 {
		m, err := b.survivor(old)
		if err != nil {
			return nil, nil, err
		}
		one = []NewMember{m}
	}
	for _, m := range old {
		if badMember(m.Name, m.PeerURLs) == "" && m.Name != one[0].Name && !sameURL(m.PeerURLs, one[0].PeerURLs) {
			others = append(others, NewMember{m.Name, m.PeerURLs})
		}
	}
	return one, others, nil
}

// voters gives the voters of the old cluster, by name.
func (b *builder) voters() []inspect.MembershipMember {
	var list []inspect.MembershipMember
	for _, m := range b.old.Members {
		if !m.IsLearner {
			list = append(list, m)
		}
	}
	slices.SortFunc(list, func(m, n inspect.MembershipMember) int {
		return cmp.Or(strings.Compare(m.Name, n.Name), cmp.Compare(m.MemberID, n.MemberID))
	})
	return list
}

// survivor is the member that is restored alone: the one whose directory is restored
// from, otherwise the first by name.
func (b *builder) survivor(old []inspect.MembershipMember) (NewMember, error) {
	for _, m := range old {
		if b.member.MemberID != nil && m.MemberID == *b.member.MemberID {
			return NewMember{m.Name, m.PeerURLs}, nil
		}
	}
	for _, m := range old {
		if badMember(m.Name, m.PeerURLs) == "" {
			return NewMember{m.Name, m.PeerURLs}, nil
		}
	}
	return NewMember{}, errors.New("nothing says the name and peer URL of the member")
}

// clientURLs gives where the old member of the same name or URL was reached.
func clientURLs(old []inspect.MembershipMember, m NewMember) []string {
	for _, o := range old {
		if sameURL(o.PeerURLs, m.PeerURLs) || o.Name == m.Name && sameHost(o.PeerURLs, m.PeerURLs) {
			return orEmpty(o.ClientURLs)
		}
	}
	return []string{}
}

func sameURL(a, b []string) bool {
	return slices.ContainsFunc(a, func(u string) bool { return slices.Contains(b, u) })
}

func sameHost(a, b []string) bool {
	return len(a) > 0 && len(b) > 0 && hostOf(a[0]) != "" && hostOf(a[0]) == hostOf(b[0])
}

// hostOf gives the host of a URL without its port, "" when there is none.
func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return slices.Clone(list)
}

// initialCluster is the value of --initial-cluster for members.
func initialCluster(members []Member) string {
	var pairs []string
	for _, m := range members {
		for _, u := range m.PeerURLs {
			pairs = append(pairs, m.Name+"="+u)
		}
	}
	return strings.Join(pairs, ",")
}

// endpoint is where clients reach a member: as it published itself, otherwise
// port 2379 of its peer URL's host.
func (m *Member) endpoint() string {
	if m.through != "" {
		return m.through
	}
	for _, u := range m.ClientURLs {
		if h := hostOf(u); h != "" && h != "0.0.0.0" && h != "::" {
			return u
		}
	}
	u, err := url.Parse(m.PeerURLs[0])
	if err != nil {
		return ""
	}
	u.Host = net.JoinHostPort(u.Hostname(), "2379")
	return u.String()
}

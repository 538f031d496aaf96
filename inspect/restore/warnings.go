package restore

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"etcd-forensics/inspect"
	"etcd-forensics/snapdb/kube"
)

// defaultQuota is --quota-backend-bytes when it is not given (etcd v3.7.3,
// server/storage/quota.go).
const defaultQuota = 2 << 30

// warnings says what the content and the membership ask the operator to beware of.
func (b *builder) warnings() {
	b.warnStrangers()
	b.warnDamage()
	b.warnContent()
	b.warnKubernetes()
	b.warnMembers()
	b.warnOldMembers()
	if b.platform.warn != nil {
		b.platform.warn(b)
	}
	if b.p.Way == WayForceNewCluster {
		b.p.warn("isolation", "the copy that is started keeps the ids of the old cluster and knows its peers' URLs", "do it on a machine that cannot reach the old members, or under unshare -n with the loopback up")
		if b.authEnabled() {
			b.p.warn("auth", "authentication is on, so that no snapshot can be taken of the copy without a password: its database is used as it is after it has ended", "")
		}
	}
	if b.p.Way == WaySalvage || b.fromLogAlone() {
		b.p.warn("content", "what the new database holds is known only when it has been made: alarms, users, leases, keys of Kubernetes", "plan again with the new database as the source when it is there")
	}
	if b.p.File.SHA256 == nil && !b.made() {
		b.p.warn("digest", "the digest of the file was not computed, so that nothing shows that all hosts restore the same bytes", "leave --no-digest out")
	}
}

// warnStrangers names the sources that are of another cluster than the one that the plan is
// for: which of them is meant, nothing in them says.
func (b *builder) warnStrangers() {
	var list []string
	for i := range b.c.Members {
		m := &b.c.Members[i]
		other := m.ClusterID != nil && b.p.OldClusterID != nil && *m.ClusterID != *b.p.OldClusterID ||
			slices.ContainsFunc(b.c.Findings, func(f inspect.Finding) bool {
				return f.Code == inspect.CodeClusterOtherStore && f.Member == m.Source
			})
		if other && m.Source != b.member.Source {
			list = append(list, m.Source)
		}
	}
	if len(list) > 0 {
		b.p.warn("strangers", fmt.Sprintf("%s: of another cluster than %s, for which this plan is", strings.Join(list, ", "), b.member.Source),
			"make sure that it is the cluster that you mean; leave the sources of the other one out, or name one of them with --from")
	}
}

// warnDamage names error findings about the content that a restore carries along. What
// the log alone makes anew has nothing of the database.
func (b *builder) warnDamage() {
	if b.fromLogAlone() {
		return
	}
	var codes []string
	for _, code := range b.member.Verdict.Codes {
		if code.OfDatabase() || strings.HasPrefix(string(code), "cluster-") {
			codes = append(codes, string(code))
		}
	}
	if len(codes) > 0 {
		b.p.warn("damage", fmt.Sprintf("%s has %s: the restored store will hold what is wrong there", b.member.Source, strings.Join(codes, ", ")), "read the findings of inspect before anything is started; prefer an older sound backup when what they name matters")
	}
}

func (b *builder) warnContent() {
	be := b.backend()
	for _, a := range be.Alarms {
		switch a.Alarm {
		case "NOSPACE":
			b.p.warn("alarms", fmt.Sprintf("the alarm NOSPACE of member %s is in the data and stays: the restored cluster refuses writes", a.MemberID),
				"raise --quota-backend-bytes before the start, then etcdctl alarm disarm")
		case "CORRUPT":
			b.p.warn("alarms", fmt.Sprintf("the alarm CORRUPT of member %s is in the data and stays: the restored cluster refuses every request", a.MemberID),
				"prove the content first (compare with the other members), then etcdctl alarm disarm")
		}
	}
	if b.authEnabled() {
		b.p.warn("auth", fmt.Sprintf("authentication stays on, with %d users: requests without a user are refused, and tokens given out before are void", len(be.Auth.Users)),
			"have the password of root at hand: etcdctl --user root, and for scripts ETCDCTL_USER=root:PASSWORD in the environment")
	}
	if n := deref(be.Leases); n > 0 && b.p.Way != WayRejoin {
		b.p.warn("leases", fmt.Sprintf("the clocks of %d leases begin anew with their whole time to live when a leader is elected", n), "")
	}
	if be.Size > defaultQuota {
		b.p.warn("quota", fmt.Sprintf("the database has %d bytes, more than the default quota of %d: the first write raises the alarm NOSPACE", be.Size, int64(defaultQuota)),
			"set --quota-backend-bytes before the start, up to 8589934592; etcdutl defrag --data-dir before the start gives free pages back")
	}
}

func (b *builder) warnKubernetes() {
	k := b.backend().Kubernetes
	if k == nil {
		return
	}
	b.p.warn("kubernetes", "objects made after this state are gone and deleted ones are back: volumes, load balancers and pods that nobody knows any more may be left on nodes and in the cloud",
		"stop every API server before the restore, and restart controllers, schedulers and kubelets after it")
	var keys []string
	for i := range k.Encryption {
		if e := &k.Encryption[i]; e.Provider != kube.Identity && !slices.Contains(keys, e.How()) {
			keys = append(keys, e.How())
		}
	}
	if len(keys) > 0 {
		b.p.warn("encryption", "values are encrypted by "+strings.Join(keys, ", "), "the API servers need the EncryptionConfiguration (or KMS key) of the time of this state, and the same service account keys and CA")
	}
	if slices.ContainsFunc(k.Resources, func(r inspect.KubernetesResource) bool { return r.Resource == "masterleases" }) {
		b.p.warn("masterleases", fmt.Sprintf("%s/masterleases names API servers by address; those that no longer exist stay endpoints of the service kubernetes", k.Prefix),
			"delete those of dead addresses after the start: etcdctl del "+k.Prefix+"/masterleases/ADDRESS")
	}
}

func (b *builder) warnMembers() {
	b.warnAddresses()
	if len(b.p.Members)%2 == 0 {
		b.p.warn("members", fmt.Sprintf("%d voters bear no more failures than %d", len(b.p.Members), len(b.p.Members)-1), "")
	}
	for _, z := range b.old.Zombies {
		if b.version.Minor == 4 {
			b.p.warn("zombies", fmt.Sprintf("member %s (%q) is only in the v3 store; a restore by 3.4 leaves it there, and etcd 3.6 and later do not start on what it writes", z.MemberID, z.Name), "upgrade through 3.5.26 or later, which removes it")
		}
	}
	if b.version.Minor == 4 && len(b.old.Zombies) == 0 {
		b.p.warn("zombies", "a restore by etcd 3.4 leaves the old members in the v3 store: etcd 3.6 and later do not start on such a directory", "upgrade through 3.5.26 or later, or restore with the etcdutl of the newer version")
	}
	if s := b.staleConfState(); s {
		b.p.warn("restored-before", "the database has been restored before: its conf state is still that of the cluster before", "make sure that it is of the cluster that you mean")
	}
}

// warnAddresses names peer URLs that only their own machine reaches, and names that
// have to be looked up.
func (b *builder) warnAddresses() {
	var local, names []string
	for _, m := range b.p.Members {
		for _, u := range m.PeerURLs {
			switch host := hostOf(u); {
			case host == "localhost" || net.ParseIP(host).IsLoopback():
				local = append(local, quoted(m.Name)+" "+u)
			case net.ParseIP(host) == nil && !slices.Contains(names, host):
				names = append(names, host)
			}
		}
	}
	if len(local) > 0 && len(b.p.Members)+len(b.p.Joining) > 1 {
		b.p.warn("localhost", "these peer URLs reach nobody but their own machine: "+strings.Join(local, ", "), "give each member an address that the others reach: --member NAME=PEERURL")
	}
	if len(names) > 0 {
		b.p.warn("dns", "peer URLs have names, which the restore command and the server look up: "+strings.Join(names, ", "), "make sure that getent hosts finds them on every host")
	}
}

// staleConfState says whether the database names voters that it does not have as
// members: a restore leaves the old conf state.
func (b *builder) staleConfState() bool {
	return slices.ContainsFunc(b.c.Findings, func(f inspect.Finding) bool {
		return f.Code == inspect.CodeMemberRestored && f.Member == b.member.Source
	})
}

// warnOldMembers says which members must never start again.
func (b *builder) warnOldMembers() {
	var names []string
	for _, m := range b.old.Members {
		names = append(names, fmt.Sprintf("%q (%s)", m.Name, m.MemberID))
	}
	if len(names) == 0 {
		return
	}
	b.p.warn("old-members", "the old members "+strings.Join(names, ", ")+" must not start again on their old directories", "the plan keeps their directories aside; remove them when the cluster has proven itself")
}

package restore

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"etcd-forensics/inspect"
)

// A platform says how one kind of installation stops, owns, starts and asks etcd. The
// parts that are nil are what PlatformPlain does.
type platform struct {
	dataDir string // on the hosts

	// look compares what is set up on a member's host with the plan; it changes nothing.
	look func(b *builder, m *Member) []Step
	// stopClients stops what uses etcd on a member's host, startClients starts it again.
	stopClients, startClients func(b *builder, m *Member) []Step
	// stop stops etcd, start starts it on the data directory.
	stop, start func(b *builder, m *Member) []Step
	// own gives a directory to whom etcd runs as; path is on the host.
	own func(b *builder, path string) []Step
	// command wraps a command of etcd so that it runs with the version and the paths of
	// the platform. inside turns a path on the host into the one that such a command sees.
	command func(b *builder, argv []string) []string
	inside  func(b *builder, path string) string
	// client is etcdctl with what it needs to reach a member's server.
	client func(b *builder, m *Member) []string
	// remote is the same on a host whose own etcd is stopped; nil when client works there.
	remote func(b *builder, m *Member) []string
	// join makes etcd of a host join the members that are there; id is the argument
	// --initial-cluster.
	join func(b *builder, m *Member, initialCluster string) []Step

	// warn names what only this platform has to beware of.
	warn func(b *builder)
	// noFlags are flags of plan that have no meaning here, and why.
	noFlags map[string]string
	// dataDirEnds is how the data directory ends whatever the installation is; "" when
	// it can be anywhere.
	dataDirEnds string

	// hosts makes all steps, for a platform that restores by itself: token and ids of the
	// new cluster are then its own, and so is what it does with revisions. The first
	// member is restored and the others join it.
	hosts func(b *builder) *refusal
	// rejoin makes all steps where enough voters start, for such a platform.
	rejoin func(b *builder, lost []inspect.MembershipMember) *refusal
	// revisions says what it does with them.
	revisions string
	// local says that the file is used where the evidence is, by a tool that speaks to
	// the hosts.
	local bool
}

// The platforms.
const (
	PlatformPlain       = "plain"
	PlatformSystemd     = "systemd"
	PlatformDocker      = "docker"
	PlatformRKE1        = "rke1"
	PlatformKubeadm     = "kubeadm"
	PlatformK3s         = "k3s"
	PlatformK3sExternal = "k3s-external"
	PlatformRKE2        = "rke2"
	PlatformOpenShift   = "openshift"
	PlatformKops        = "kops"
	PlatformTalos       = "talos"
	PlatformDCOS        = "dcos"
)

var platforms map[string]*platform

func init() {
	platforms = map[string]*platform{
		PlatformPlain:       plain(),
		PlatformSystemd:     systemd(),
		PlatformDocker:      docker(),
		PlatformRKE1:        rke1(),
		PlatformKubeadm:     kubeadm(),
		PlatformK3s:         k3s(),
		PlatformK3sExternal: k3sExternal(),
		PlatformRKE2:        rke2(),
		PlatformOpenShift:   openshift(),
		PlatformKops:        kops(),
		PlatformTalos:       talos(),
		PlatformDCOS:        dcos(),
	}
}

// Platforms lists the names, sorted.
func Platforms() []string { return slices.Sorted(maps.Keys(platforms)) }

// checkPlatform finds flags that have no meaning on the platform.
func (o *Options) checkPlatform() error {
	p := platforms[o.Platform]
	if p == nil {
		return nil
	}
	flags := []struct {
		name string
		set  bool
	}{{"--token", o.Token != ""}, {"--member", len(o.Members) > 0}, {"--data-dir", o.DataDir != ""}, {"--new-wal-dir", o.WALDir != ""}, {"--work-dir", o.WorkDir != ""}}
	for _, f := range flags {
		if why := p.noFlags[f.name]; f.set && why != "" {
			return fmt.Errorf("%s has no meaning with --platform %s: %s", f.name, o.Platform, why)
		}
	}
	if o.DataDir != "" && !strings.HasSuffix(o.DataDir, p.dataDirEnds) {
		return fmt.Errorf("--data-dir %q must end with %s with --platform %s: that is where etcd's data is", o.DataDir, p.dataDirEnds, o.Platform)
	}
	return nil
}

// leaveToPlatform takes out of the plan what a platform that restores by itself decides
// itself.
func (b *builder) leaveToPlatform() {
	if b.platform.hosts == nil {
		return
	}
	p := b.p
	p.IDsByPlatform, p.Token, p.ClusterID = true, "", 0
	first := 0
	for i := range p.Members {
		m := &p.Members[i]
		m.MemberID = nil
		if b.isFirst(m) {
			first = i
		}
	}
	joining := append(slices.Delete(slices.Clone(p.Members), first, first+1), p.Joining...)
	slices.SortFunc(joining, func(m, n Member) int { return strings.Compare(m.Name, n.Name) })
	p.Members, p.Joining = []Member{p.Members[first]}, joining
	if len(b.o.Members) > 0 {
		p.warn("members", "--member only tells the hosts apart: names, peer URLs and ids are given by "+p.Platform, "")
	}
}

// isFirst says whether a member is the one to restore alone: the first that was asked
// for, or the one whose directory is restored from.
func (b *builder) isFirst(m *Member) bool {
	if len(b.o.Members) > 0 {
		return m.Name == b.o.Members[0].Name
	}
	for _, old := range b.old.Members {
		if b.member.MemberID != nil && old.MemberID == *b.member.MemberID {
			return m.Name == old.Name
		}
	}
	return false
}

// keepScript moves a file or a folder out of the way, if it is there.
const keepScript = `if [ -e "$1" ]; then mv "$1" "$2"; fi`

// keepStep moves something out of the way; to must not exist.
func keepStep(why, from, to, ifNot string) Step {
	return Step{
		Why:     why,
		Argv:    []string{"sh", "-c", keepScript, "sh", from, to},
		Refuses: []Guard{{Kind: GuardExists, Path: to}},
		Check:   to + " holds it, if there was any",
		IfNot:   ifNot,
	}
}

// needData keeps etcd from being started without data: units, containers and pods make
// an empty directory then, and a new cluster comes up in it.
func (b *builder) needData(steps []Step) []Step {
	if len(steps) > 0 {
		steps[0].Refuses = append(steps[0].Refuses, Guard{Kind: GuardMissing, Path: b.p.DataDir + "/member/snap/db"})
	}
	return steps
}

// isFirstHost says whether a member's host is the one on which that is done which is to
// be done once.
func (b *builder) isFirstHost(m *Member) bool { return m.Name == b.p.Members[0].Name }

// stopAPIServers has a person stop the API servers, which can run anywhere, before the
// first host stops etcd.
func stopAPIServers(b *builder, m *Member) []Step {
	if b.backend().Kubernetes == nil || !b.isFirstHost(m) {
		return nil
	}
	return []Step{{
		Why:   "stop every API server that uses this etcd, wherever it runs, with its controllers and schedulers: move their manifests out of /etc/kubernetes/manifests, or stop their units",
		Check: "no host listens on the API servers' port, often 6443",
		IfNot: "what is written now is lost, and what is watched now is missed",
	}}
}

func startAPIServers(b *builder, m *Member) []Step {
	if b.backend().Kubernetes == nil || !b.isFirstHost(m) {
		return nil
	}
	return []Step{{
		Why:   "start the API servers again; --etcd-servers must name the members of the new cluster only",
		Check: "kubectl get --raw=/readyz says ok",
		IfNot: "read the API server's log",
	}, {
		Why:   b.restartWhat(),
		Check: "kubectl get nodes shows them Ready, with a heartbeat of now",
		IfNot: "restart the kubelet of a node that stays NotReady",
	}}
}

// restartWhat says what has to be restarted after the API servers.
func (b *builder) restartWhat() string {
	if b.p.Revision.Bump > 0 {
		return "restart controller managers, schedulers and every kubelet; other clients notice by themselves that their revision is compacted"
	}
	return "restart controller managers, schedulers, cloud controllers, operators, network plugins, kube-proxy and every kubelet: they remember revisions that are given out a second time"
}

// hashedCopy makes a copy of the file that ends with its own SHA-256, as one that etcdctl
// snapshot save writes, for a platform that takes no other. The hash is checked by what
// restores it (etcd v3.7.3, etcdutl/snapshot/v3_snapshot.go, saveDB).
func (b *builder) hashedCopy(from, to string) []Step {
	size := "the size of the file and 32 bytes"
	if b.p.File.Size > 0 {
		size = fmt.Sprintf("%d bytes", b.p.File.Size+32)
	}
	return []Step{{
		Why:    "the file is a member's database without a hash, which " + b.p.Platform + " refuses as \"snapshot missing hash\": make a copy",
		Argv:   []string{"cp", "--", from, to},
		Clears: []string{to},
		Check:  to + " is there",
		IfNot:  "free disk space for a copy",
	}, {
		Why:      "give the copy what etcdctl snapshot save would: the SHA-256 of all before it, in 32 bytes",
		Argv:     []string{"openssl", "dgst", "-sha256", "-binary", from},
		AppendTo: to,
		Check:    to + " has " + size + "; etcd-forensics verify finds its hash right",
		IfNot:    "without openssl: sha256sum prints the same in hex, which xxd -r -p turns into bytes",
	}}
}

// plainBytes mean nothing to a shell.
const plainBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:,=@+[]"

// plainOr gives a text for a command or setting within a sentence, which people copy
// without quoting it; what a shell could take for more is left out of there.
func plainOr(s, otherwise string) string {
	if s == "" || strings.Trim(s, plainBytes) != "" {
		return otherwise
	}
	return s
}

// asPrinted is the value of --initial-cluster within a sentence.
func asPrinted(initialCluster string) string {
	return plainOr(initialCluster, "(what member add has printed as ETCD_INITIAL_CLUSTER)")
}

// names lists members in a sentence.
func names(members []Member) string {
	var list []string
	for _, m := range members {
		list = append(list, quoted(m.Name))
	}
	return strings.Join(list, ", ")
}

package restore

import (
	"maps"
	"slices"
)

// A platform says how one kind of installation stops, owns, starts and asks etcd. The
// parts that are nil are what PlatformPlain does.
type platform struct {
	dataDir string // on the hosts

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
	// join makes etcd of a host join the members that are there; id is the argument
	// --initial-cluster.
	join func(b *builder, m *Member, initialCluster string) []Step

	// hosts makes all steps, for a platform that restores by itself.
	hosts func(b *builder) *refusal
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
		PlatformPlain:   plain(),
		PlatformSystemd: systemd(),
		PlatformDocker:  docker(),
	}
}

// Platforms lists the names, sorted.
func Platforms() []string { return slices.Sorted(maps.Keys(platforms)) }

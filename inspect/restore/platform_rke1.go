package restore

import (
	"slices"
	"strings"

	"etcd-forensics/inspect"
)

// rkeComponents are the containers of an RKE control plane host that use etcd. A host can
// have the role etcd alone; then it has none of them (rancher/rke, services/services.go).
var rkeComponents = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"}

// rke1 is Rancher Kubernetes Engine before RKE2: every part is a container of docker. The
// container etcd sees the host's /var/lib/etcd as /var/lib/rancher/etcd, and has
// certificates and endpoint in its environment (rancher/rke, services/etcd.go and
// cluster/plan.go).
func rke1() *platform {
	p := container{data: "/var/lib/rancher/etcd"}.platform()
	p.stopClients = func(b *builder, m *Member) []Step {
		steps := []Step{{
			Why:   "stop the API server and what belongs to it, where this host is a control plane",
			Argv:  append([]string{"sh", "-c", stopContainers, "sh"}, rkeComponents...),
			Check: "docker ps lists none of " + rkeComponents[0] + ", " + rkeComponents[1] + ", " + rkeComponents[2],
			IfNot: "docker kill them",
		}}
		if b.isFirstHost(m) {
			steps = append(steps, Step{
				Why:   "do the same on control plane hosts that have no etcd: docker update --restart=no and docker stop of kube-apiserver, kube-controller-manager, kube-scheduler",
				Check: "no host listens on port 6443 any more",
				IfNot: "what is written now is lost, and what is watched now is missed",
			})
		}
		return steps
	}
	p.startClients = func(b *builder, m *Member) []Step {
		steps := []Step{{
			Why:   "start the API server and what belongs to it, where this host is a control plane",
			Argv:  append([]string{"sh", "-c", startContainers, "sh"}, rkeComponents...),
			Check: "curl -ks https://127.0.0.1:6443/readyz says ok, or that it is not authorized to ask",
			IfNot: "docker logs kube-apiserver",
		}, {
			Why:   b.restartWhat(),
			Argv:  []string{"sh", "-c", `for c; do if docker inspect "$c" >/dev/null 2>&1; then docker restart "$c" || exit 1; fi; done`, "sh", "kubelet", "kube-proxy"},
			Check: "kubectl get nodes shows the node Ready",
			IfNot: "docker logs kubelet",
		}}
		if b.isFirstHost(m) {
			steps = append(steps, Step{
				Why:   "do the same on hosts that have no etcd: control planes first, then docker restart kubelet on every worker",
				Check: "kubectl get nodes shows all nodes Ready",
				IfNot: "docker logs kubelet on those that are not",
			})
		}
		return steps
	}
	p.join = func(b *builder, m *Member, initialCluster string) []Step {
		steps := container{}.join(b, m, initialCluster)
		steps[0].IfNot += "; rke up with the host in cluster.yml under role etcd makes the container as well"
		return steps
	}
	p.warn = func(b *builder) {
		b.p.warn("rke1", "rke etcd snapshot-restore does all of this by itself when cluster.yml and its cluster.rkestate are at hand, but removes the cluster first (containers, /etc/kubernetes, /var/lib/etcd, network plugin), wants the same file (MD5) on all etcd hosts, and always takes the token etcd-cluster-1, so that its ids are those of the cluster before",
			"use it with copies of /var/lib/etcd, cluster.yml and cluster.rkestate kept elsewhere, or follow this plan, which keeps all of them in place")
		if !b.p.File.Hashed {
			b.p.warn("hash", "rke etcd snapshot-restore has no way to skip the hash of a file, and this one has none", "follow this plan, or append the hash first: openssl dgst -sha256 -binary db >> copy-of-db")
		}
		if slices.ContainsFunc(b.c.Sources, func(s inspect.Source) bool { return s.Path == b.p.Source && strings.HasSuffix(s.Path, ".zip") }) {
			b.p.warn("rkestate", "a snapshot of RKE 1.1.4 or later may hold the cluster's state, with all certificates and keys", "keep the archive closed to others; its entry etc/kubernetes/NAME.rkestate is what rke needs when cluster.rkestate is lost")
		}
	}
	return p
}

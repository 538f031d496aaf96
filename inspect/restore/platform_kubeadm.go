package restore

import (
	"path"
	"strings"
)

const manifests = "/etc/kubernetes/manifests"

// etcdPKI are the certificates with which kubeadm's own probe asks etcd.
var etcdPKI = []string{
	"--cacert=/etc/kubernetes/pki/etcd/ca.crt",
	"--cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt", "--key=/etc/kubernetes/pki/etcd/healthcheck-client.key",
}

// kubeadm is etcd as a static pod on control plane nodes, one ("single") or on each of
// several ("stacked"): data through a hostPath volume, certificates in
// /etc/kubernetes/pki/etcd, no token of its own (kubernetes, cmd/kubeadm/app/phases/etcd/local.go).
// The kubelet runs what lies in the manifests' folder, so stopping a pod is taking its
// manifest out of there.
func kubeadm() *platform {
	return &platform{
		dataDir: "/var/lib/etcd",
		look: func(b *builder, m *Member) []Step {
			return []Step{{
				Why:    "the static pod must agree with the plan: etcd started on another directory comes up empty",
				Argv:   []string{"grep", "-E", "--", "--(name|data-dir|wal-dir|initial-cluster|initial-advertise-peer-urls|force-new-cluster)=|path: ", path.Join(manifests, "etcd.yaml")},
				Expect: &Expect{Contains: "--name=" + m.Name},
				Check:  "--name=" + m.Name + ", --data-dir and the volume's hostPath " + b.p.DataDir + ", --initial-advertise-peer-urls=" + plainOr(strings.Join(m.PeerURLs, ","), "(its peer URLs)") + ", no --force-new-cluster",
				IfNot:  "plan again with --member and --data-dir as they are there",
			}}
		},
		stopClients: func(b *builder, m *Member) []Step {
			steps := b.keepKubernetes("pki")
			steps = append(steps, b.moveManifests("stop the API server, the controller manager and the scheduler", "kube-apiserver", "kube-controller-manager", "kube-scheduler")...)
			if b.isFirstHost(m) {
				steps = append(steps, Step{
					Why:   "stop them on control plane nodes that have no etcd as well",
					Check: "no host listens on port 6443 any more",
					IfNot: "what is written now is lost, and what is watched now is missed",
				})
			}
			return steps
		},
		stop: func(b *builder, _ *Member) []Step { return b.moveManifests("stop etcd", "etcd") },
		client: func(_ *builder, m *Member) []string {
			// The image has no shell; the certificates are mounted where they lie on the host.
			return append([]string{
				"sh", "-c", `id=$(crictl ps -q --name "^etcd\$") && [ -n "$id" ] && exec crictl exec "$id" "$@"`, "sh",
				"etcdctl", "--endpoints=" + m.endpoint(),
			}, etcdPKI...)
		},
		remote: func(_ *builder, m *Member) []string {
			return append([]string{"etcdctl", "--endpoints=" + m.endpoint()}, etcdPKI...)
		},
		start: func(b *builder, _ *Member) []Step {
			return []Step{b.putBack("start etcd; --initial-cluster-state=existing in its manifest does nothing any more", "etcd",
				"crictl logs of the container shows \"restarting local member\" with the ids of this plan", "crictl logs; "+b.startTrouble())}
		},
		startClients: func(b *builder, _ *Member) []Step {
			return []Step{
				b.putBack("start the API server", "kube-apiserver", "kubectl get --raw=/readyz says ok", "crictl logs of kube-apiserver; the pods that kubectl shows for static pods may be old until the kubelet is restarted"),
				b.putBack("start the controller manager", "kube-controller-manager", "crictl ps lists it", "crictl logs of it"),
				b.putBack("start the scheduler", "kube-scheduler", "crictl ps lists it", "crictl logs of it"),
				{
					Why:   b.restartWhat() + "; here the kubelet of this node, on workers do the same",
					Argv:  []string{"systemctl", "restart", "kubelet"},
					Check: "kubectl get nodes shows the node Ready",
					IfNot: "journalctl -u kubelet",
				},
			}
		},
		join: func(b *builder, m *Member, initialCluster string) []Step {
			return []Step{{
				Why: "in " + b.manifest("etcd") + " set --initial-cluster-state=existing, --initial-cluster=" + asPrinted(initialCluster) +
					" and --initial-advertise-peer-urls=" + plainOr(strings.Join(m.PeerURLs, ","), "(its peer URLs)"),
				Check: "grep initial- shows them",
				IfNot: "or let kubeadm do all of this: here kubeadm reset -f when " + b.kept() + " holds the old data; on a node that runs kubeadm init phase upload-certs --upload-certs and kubeadm token create --print-join-command; then here kubeadm join ... --control-plane --certificate-key KEY, which adds the member itself (so undo member add first) and hangs when the members' peer URL is http://localhost:2380",
			}, b.putBack("start etcd, which gets the data from the others", "etcd", "crictl logs of it shows that it joined", "crictl logs; \"member count is unequal\" means that --initial-cluster is not what member add printed")}
		},
		warn: func(b *builder) {
			b.p.warn("manifests", "the kubelet runs every file in "+manifests+", backup copies too", "keep copies elsewhere; the plan moves manifests to "+b.onHost("manifests"))
			b.p.warn("hostpath", "when "+b.p.DataDir+" is missing as the manifest comes back, the volume makes it anew and an empty cluster comes up", "the scripts refuse to start without data; to use another folder change hostPath.path alone")
			b.p.warn("pki", "the data fits only to the CA, the service account keys and the EncryptionConfiguration of its time", "keep /etc/kubernetes/pki of the time of the backup; on a new machine put it back before the API server starts")
			if len(b.p.Members) > 1 {
				b.p.warn("same-file", "kubeadm starts etcd with the initial corruption check: members restored from different files end with \"found data inconsistency with peers\"", "restore the same file on every node")
			}
		},
	}
}

// manifest is where a manifest is kept while its pod is stopped.
func (b *builder) manifest(name string) string {
	return path.Join(b.onHost("manifests"), name+".yaml")
}

// keepKubernetes keeps certificates, keys and manifests; holds is the folder of the first.
func (b *builder) keepKubernetes(holds string) []Step {
	kept := b.onHost("etc-kubernetes")
	return []Step{{
		Why:    "keep certificates, keys and manifests",
		Argv:   []string{"cp", "-a", "/etc/kubernetes", kept},
		Clears: []string{kept},
		Check:  kept + "/" + holds + " is there",
		IfNot:  "make the folder " + b.p.WorkDir + " first",
	}, {
		Why:   "a place for the manifests of stopped pods, outside of " + manifests,
		Argv:  []string{"mkdir", "-p", "-m", "700", b.onHost("manifests")},
		Check: "it is there",
		IfNot: "make it by hand",
	}}
}

// moveManifests stops pods and waits until their containers are gone.
func (b *builder) moveManifests(why string, names ...string) []Step {
	move := []string{"sh", "-c", `d=$1; shift; for f; do if [ -e "$f" ]; then mv "$f" "$d/" || exit 1; fi; done`, "sh", b.onHost("manifests")}
	for _, name := range names {
		move = append(move, path.Join(manifests, name+".yaml"))
	}
	return []Step{{
		Why:   why + ": the kubelet ends a pod whose manifest is gone",
		Argv:  move,
		Check: b.onHost("manifests") + " holds " + strings.Join(names, ", "),
		IfNot: "move them by hand",
	}, {
		Why:    "wait until " + strings.Join(names, ", ") + " " + isOrAre(names) + " gone",
		Argv:   []string{"crictl", "ps", "-q", "--name", "^(" + strings.Join(names, "|") + ")$"},
		Expect: &Expect{Empty: true, Seconds: upSeconds},
		Check:  "it prints nothing",
		IfNot:  "systemctl status kubelet: without it nothing ends; crictl stop of what is left",
	}}
}

func isOrAre(names []string) string {
	if len(names) == 1 {
		return "is"
	}
	return "are"
}

// putBack starts a pod again.
func (b *builder) putBack(why, name, check, ifNot string) Step {
	to := path.Join(manifests, name+".yaml")
	return Step{
		Why:   why,
		Argv:  []string{"sh", "-c", `if [ -e "$1" ]; then mv "$1" "$2"; fi; [ -e "$2" ]`, "sh", b.manifest(name), to},
		Check: check,
		IfNot: ifNot,
	}
}

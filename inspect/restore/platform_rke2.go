package restore

// rke2 is K3s' engine with etcd and the API server as static pods, which go on running
// when the unit is stopped.
func rke2() *platform {
	const base = "/var/lib/rancher/rke2"
	p := distribution{
		name: "RKE2", program: "rke2", unit: "rke2-server", agent: "rke2-agent", base: base,
		kubectl: []string{base + "/bin/kubectl", "--kubeconfig=/etc/rancher/rke2/rke2.yaml"}, kill: "rke2-killall.sh",
	}.platform()
	common := p.warn
	p.warn = func(b *builder) {
		common(b)
		b.p.warn("cis", "with a CIS profile etcd runs as etcd:etcd", "when etcd says \"permission denied\" after the restore: chown -R etcd:etcd "+b.p.DataDir)
		b.p.warn("rancher", "a cluster that Rancher made is restored by Rancher: spec.rkeConfig.etcdSnapshotRestore of its Cluster, with generation raised", "remove etcd nodes that are gone first, and do not restore by hand beside it")
	}
	return p
}

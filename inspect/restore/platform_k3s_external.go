package restore

// k3sExternal is K3s on an etcd of its own (--datastore-endpoint), which is a unit of
// systemd. K3s itself has nothing to restore then: --cluster-reset does not apply.
func k3sExternal() *platform {
	p := systemd()
	p.stopClients = func(b *builder, m *Member) []Step {
		if !b.isFirstHost(m) {
			return nil
		}
		return []Step{{
			Why:   "on every K3s server: systemctl stop k3s (the API server is inside)",
			Check: "systemctl is-active k3s says inactive on all of them",
			IfNot: "systemctl kill k3s",
		}}
	}
	p.startClients = func(b *builder, m *Member) []Step {
		if !b.isFirstHost(m) {
			return nil
		}
		endpoints := ""
		for i := range b.p.Members {
			if i > 0 {
				endpoints += ","
			}
			endpoints += b.p.Members[i].endpoint()
		}
		return []Step{{
			Why:   "on every K3s server --datastore-endpoint must name the new members only: " + plainOr(endpoints, "(their client URLs)") + " (in k3s.service or /etc/rancher/k3s/config.yaml; then systemctl daemon-reload)",
			Check: "grep datastore-endpoint shows them",
			IfNot: "K3s waits for members that are gone",
		}, {
			Why:   "on every K3s server: systemctl start k3s, one after another",
			Check: "k3s kubectl get --raw=/readyz says ok",
			IfNot: "journalctl -u k3s; errors about bootstrap data: it is another server token than that of the time of the backup",
		}, {
			Why:   "on every agent systemctl restart k3s-agent; also " + b.restartWhat(),
			Check: "k3s kubectl get nodes shows them Ready",
			IfNot: "journalctl -u k3s-agent",
		}}
	}
	p.warn = func(b *builder) {
		b.p.warn("server-token", "K3s keeps CA and keys under /bootstrap in etcd, encrypted with its server token: with another token than that of the time of the backup it does not start", "have /var/lib/rancher/k3s/server/token, or what was given as --token, at hand")
		b.p.warn("cluster-reset", "k3s server --cluster-reset is for K3s' own etcd and does not apply here", "restore etcd as planned and start K3s as it was")
		b.p.warn("docker", "where this etcd runs in docker, its steps are those of --platform docker; those on the K3s servers are the same", "")
	}
	return p
}

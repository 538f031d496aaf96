package restore

import (
	"net"
	"strings"
)

// plain is etcd that a person starts and stops.
func plain() *platform {
	return &platform{
		dataDir:     "/var/lib/etcd",
		stopClients: stopAPIServers, startClients: startAPIServers,
		stop: func(_ *builder, m *Member) []Step {
			return []Step{{
				Why:   "stop etcd on the host of " + quoted(m.Name) + ", and whatever starts it again",
				Check: "no process holds the data directory",
				IfNot: "find it: fuser -v on the database",
			}}
		},
		start: startPlain,
		join: func(b *builder, m *Member, initialCluster string) []Step {
			step := serverStep(b, m)
			if len(step.Argv) == 0 {
				step.Why += "; with --initial-cluster-state=existing and --initial-cluster=" + asPrinted(initialCluster) + " this once"
				return []Step{step}
			}
			step.Why = "start etcd, which gets the data from the others"
			step.Argv = append(step.Argv, "--initial-cluster-state=existing", "--initial-cluster="+initialCluster, "--initial-advertise-peer-urls="+strings.Join(m.PeerURLs, ","))
			return []Step{step}
		},
	}
}

func startPlain(b *builder, m *Member) []Step { return []Step{serverStep(b, m)} }

// serverStep starts a server without TLS. Which certificates one with TLS has, nothing
// in its data says.
func serverStep(b *builder, m *Member) Step {
	client := m.endpoint()
	for _, u := range append([]string{client}, m.PeerURLs...) {
		if !strings.HasPrefix(u, "http://") {
			return Step{
				Why:   "start etcd of " + quoted(m.Name) + " as it was started before, with --data-dir=" + b.p.DataDir + "; --initial-cluster and the other --initial flags do nothing any more",
				Check: "its log says \"restarting local member\" with the ids of this plan",
				IfNot: b.startTrouble(),
			}
		}
	}
	var listen []string
	for _, u := range m.PeerURLs {
		listen = append(listen, listenURL(u))
	}
	argv := []string{
		"etcd", "--name=" + m.Name, "--data-dir=" + b.p.DataDir,
		"--listen-peer-urls=" + strings.Join(listen, ","),
		"--listen-client-urls=" + listenURL(client), "--advertise-client-urls=" + client,
	}
	if b.p.WALDir != "" {
		argv = append(argv, "--wal-dir="+b.p.WALDir)
	}
	return Step{
		Why:        "start etcd of every member at about the same time: the first is ready when a majority is there",
		Argv:       argv,
		Background: true, LogTo: b.onHost("etcd.log"), PIDFile: b.onHost("etcd.pid"),
		Check: "its log says \"restarting local member\" with the ids of this plan",
		IfNot: b.startTrouble(),
	}
}

func isIP(host string) bool { return net.ParseIP(host) != nil }

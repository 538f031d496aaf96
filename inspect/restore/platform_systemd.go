package restore

import "strings"

// systemd is etcd as a unit of systemd, as distributions package it. Debian's keeps its
// data in /var/lib/etcd/default, that of Red Hat in /var/lib/etcd/default.etcd, and many
// that are set up by hand in /var/lib/etcd.
func systemd() *platform {
	return &platform{
		dataDir:     "/var/lib/etcd",
		stopClients: stopAPIServers, startClients: startAPIServers,
		look: func(b *builder, m *Member) []Step {
			return []Step{{
				Why:   "the unit's own settings must agree with the plan: etcd started on another directory comes up empty",
				Argv:  []string{"systemctl", "show", "etcd", "-p", "Environment", "-p", "EnvironmentFiles", "-p", "ExecStart", "-p", "User"},
				Check: "data directory " + b.p.DataDir + ", name " + quoted(m.Name) + ", WAL directory " + orNone(b.p.WALDir) + ", no --force-new-cluster; they stand there, in /etc/default/etcd, /etc/etcd/etcd.conf or a file of --config-file",
				IfNot: "plan again with --data-dir and --new-wal-dir as they are there: /var/lib/etcd/default and /var/lib/etcd/default.etcd are usual, too",
			}}
		},
		stop: func(b *builder, m *Member) []Step {
			return []Step{{
				Why:   "stop etcd",
				Argv:  []string{"systemctl", "stop", "etcd"},
				Check: "systemctl is-active etcd says inactive",
				IfNot: "systemctl kill etcd",
			}}
		},
		own: func(_ *builder, dir string) []Step {
			return []Step{{
				Why:   "the files were made by root and etcd runs as etcd",
				Argv:  []string{"chown", "-R", "etcd:etcd", dir},
				Check: "ls -l shows etcd as the owner",
				IfNot: "take the user that systemctl show etcd -p User prints",
			}}
		},
		start: func(b *builder, _ *Member) []Step {
			return []Step{{
				Why:   "start etcd without waiting: the unit is ready only when a majority of the members is started",
				Argv:  []string{"systemctl", "start", "--no-block", "etcd"},
				Check: "journalctl -u etcd shows \"restarting local member\" with the ids of this plan",
				IfNot: "journalctl -u etcd; " + b.startTrouble(),
			}}
		},
		join: func(b *builder, m *Member, initialCluster string) []Step {
			return []Step{{
				Why: "in the unit's settings put ETCD_INITIAL_CLUSTER_STATE=existing, ETCD_INITIAL_CLUSTER=" + asPrinted(initialCluster) +
					" and ETCD_INITIAL_ADVERTISE_PEER_URLS=" + plainOr(strings.Join(m.PeerURLs, ","), "(its peer URLs)") + " (or the flags of the same names)",
				Check: "systemctl show etcd or its configuration file has them",
				IfNot: "without them etcd says \"member count is unequal\" or \"has already been bootstrapped\"",
			}, {
				Why:   "start etcd, which gets the data from the others",
				Argv:  []string{"systemctl", "start", "etcd"},
				Check: "systemctl is-active etcd says active",
				IfNot: "journalctl -u etcd; " + b.startTrouble(),
			}}
		},
	}
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

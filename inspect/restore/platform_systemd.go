package restore

import "strings"

// systemd is etcd as a unit of systemd, as distributions package it.
func systemd() *platform {
	return &platform{
		dataDir: "/var/lib/etcd",
		stop: func(b *builder, m *Member) []Step {
			return []Step{{
				Why:   "the unit's own settings must agree with the plan: etcd started on another directory comes up empty",
				Argv:  []string{"systemctl", "show", "etcd", "-p", "Environment", "-p", "EnvironmentFiles", "-p", "ExecStart", "-p", "User"},
				Check: "data directory " + b.p.DataDir + ", name " + quoted(m.Name) + ", no --force-new-cluster; often in /etc/default/etcd, /etc/etcd/etcd.conf or a file of --config-file",
				IfNot: "plan again with --data-dir and --new-wal-dir as they are there",
			}, {
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
				Why: "in the unit's settings put ETCD_INITIAL_CLUSTER_STATE=existing, ETCD_INITIAL_CLUSTER=" + initialCluster +
					" and ETCD_INITIAL_ADVERTISE_PEER_URLS=" + strings.Join(m.PeerURLs, ",") + " (or the flags of the same names)",
				Check: "systemctl show etcd or its configuration file has them",
				IfNot: "",
			}, {
				Why:   "start etcd, which gets the data from the others",
				Argv:  []string{"systemctl", "start", "etcd"},
				Check: "systemctl is-active etcd says active",
				IfNot: "journalctl -u etcd; " + b.startTrouble(),
			}}
		},
	}
}

package restore

import (
	"path"
	"strings"
)

// containerData and containerWork are where the platform's container sees the data
// directory and the working folder.
const (
	containerData = "/etcd-data"
	containerWork = "/etcd-restore"
)

// docker is etcd in one container called etcd, with a folder of the host as its data
// directory. Images since 3.5.7 have no shell, so each command is run by itself, and
// what moves files runs on the host.
func docker() *platform {
	return &platform{
		dataDir: "/var/lib/etcd",
		stop: func(b *builder, _ *Member) []Step {
			return []Step{{
				Why:      "keep how the container was made, to be able to make it again",
				Argv:     []string{"docker", "inspect", "etcd"},
				StdoutTo: b.onHost("etcd-container.json"),
				Check:    "under Mounts, " + b.p.DataDir + " is the Source of the container's data directory",
				IfNot:    "plan again with the Source there as --data-dir",
			}, {
				Why:   "docker would start it again",
				Argv:  []string{"docker", "update", "--restart=no", "etcd"},
				Check: "it prints etcd",
				IfNot: "take the container's name from docker ps",
			}, {
				Why:   "stop etcd",
				Argv:  []string{"docker", "stop", "etcd"},
				Check: "docker ps does not list it",
				IfNot: "docker kill etcd",
			}}
		},
		command: func(b *builder, argv []string) []string {
			return append([]string{
				"docker", "run", "--rm", "--net=host", "-v", b.p.WorkDir + ":" + containerWork + ":ro", "-v", b.p.DataDir + ":" + containerData,
				"--entrypoint=/usr/local/bin/" + argv[0], "gcr.io/etcd-development/etcd:" + b.imageTag(),
			}, argv[1:]...)
		},
		inside: containerPath,
		client: func(_ *builder, m *Member) []string {
			return []string{"docker", "exec", "etcd", "/usr/local/bin/etcdctl", "--endpoints=" + m.endpoint()}
		},
		start: func(b *builder, _ *Member) []Step {
			return []Step{{
				Why:   "start etcd; the --initial flags of its command do nothing any more",
				Argv:  []string{"docker", "start", "etcd"},
				Check: "docker logs etcd shows \"restarting local member\" with the ids of this plan",
				IfNot: "docker logs etcd; " + b.startTrouble(),
			}, {
				Why:   "docker may start it again from now on",
				Argv:  []string{"docker", "update", "--restart=always", "etcd"},
				Check: "it prints etcd",
				IfNot: "",
			}}
		},
		join: func(_ *builder, m *Member, initialCluster string) []Step {
			return []Step{{
				Why: "make the container again as it was (docker inspect of it was kept), with --initial-cluster-state=existing, --initial-cluster=" + initialCluster +
					" and --initial-advertise-peer-urls=" + strings.Join(m.PeerURLs, ",") + "; docker rm etcd first",
				Check: "docker logs etcd shows that it joined",
				IfNot: "docker logs etcd",
			}}
		},
	}
}

// containerPath gives a path on the host as the container sees it.
func containerPath(b *builder, p string) string {
	if rest, ok := strings.CutPrefix(p, b.p.DataDir); ok {
		return path.Join(containerData, rest)
	}
	if rest, ok := strings.CutPrefix(p, b.p.WorkDir); ok {
		return path.Join(containerWork, rest)
	}
	return p
}

// imageTag names the image of the version. Without a patch the operator puts it in.
func (b *builder) imageTag() string {
	if b.version.Patch < 0 {
		return "v" + b.version.String() + ".PATCH"
	}
	return "v" + b.version.String()
}

package restore

import (
	"fmt"
	"path"
	"strings"
)

// Where a container that restores sees the working folder, and the folder that holds the
// WAL directory.
const (
	containerWork = "/etcd-restore"
	containerWAL  = "/etcd-wal"
)

// A container is etcd in one container called etcd, on the host's network. Images since
// 3.5.7 have no shell, so each command is run by itself, and what moves files runs on the
// host.
type container struct {
	data string // where it sees the data directory
}

// look keeps how the container was made, and lists what must agree with the plan.
func (c container) look(b *builder, m *Member) []Step {
	return []Step{{
		Why:      "keep how the container was made, to be able to make it again; its settings must agree with the plan, as etcd started on another directory comes up empty",
		Argv:     []string{"docker", "inspect", "etcd"},
		StdoutTo: b.onHost("etcd-container.json"),
		Check:    "under Mounts, " + b.p.DataDir + " (or a folder above it) is the Source of the container's --data-dir, --name is " + quoted(m.Name) + ", and there is no --force-new-cluster",
		IfNot:    "take the container's name from docker ps -a; plan again with the Source there as --data-dir",
	}}
}

// stopContainers stops containers for good, those that are there.
const stopContainers = `for c; do if docker inspect "$c" >/dev/null 2>&1; then docker update --restart=no "$c" && docker stop "$c" || exit 1; fi; done`

// startContainers starts them again, those that are there.
const startContainers = `for c; do if docker inspect "$c" >/dev/null 2>&1; then docker start "$c" && docker update --restart=always "$c" || exit 1; fi; done`

func (c container) stop(*builder, *Member) []Step {
	return []Step{{
		Why:   "without this docker starts it again when its daemon does",
		Argv:  []string{"docker", "update", "--restart=no", "etcd"},
		Check: "it prints etcd",
		IfNot: "take the container's name from docker ps -a",
	}, {
		Why:   "stop etcd",
		Argv:  []string{"docker", "stop", "etcd"},
		Check: "docker ps does not list it",
		IfNot: "docker kill etcd",
	}}
}

// command runs a tool of the container's own image. The label of what it writes is that
// of the directory: under SELinux a container of its own could not write there.
func (c container) command(b *builder, argv []string) []string {
	volumes := []string{b.p.WorkDir + ":" + containerWork + ":ro", b.p.DataDir + ":" + c.data}
	if b.p.WALDir != "" {
		volumes = append(volumes, path.Dir(b.p.WALDir)+":"+containerWAL)
	}
	var script strings.Builder
	script.WriteString(`image=$(docker inspect -f "{{.Config.Image}}" etcd) || exit 1; `)
	for i := range volumes {
		fmt.Fprintf(&script, "v%d=$%d ", i+1, i+1)
	}
	fmt.Fprintf(&script, "tool=$%d; shift %d; exec docker run --rm --net=host --user=0 --security-opt=label=disable", len(volumes)+1, len(volumes)+1)
	if b.version.Minor == 4 {
		script.WriteString(" --env=ETCDCTL_API=3")
	}
	for i := range volumes {
		fmt.Fprintf(&script, ` --volume="$v%d"`, i+1)
	}
	script.WriteString(` --entrypoint="$tool" "$image" "$@"`)
	return append(append([]string{"sh", "-c", script.String(), "sh"}, volumes...), argv...)
}

// inside gives a path on the host as the container sees it.
func (c container) inside(b *builder, p string) string {
	mounts := []struct{ host, there string }{{b.p.DataDir, c.data}, {b.p.WorkDir, containerWork}}
	if b.p.WALDir != "" {
		mounts = append(mounts, struct{ host, there string }{path.Dir(b.p.WALDir), containerWAL})
	}
	for _, m := range mounts {
		if rest, ok := strings.CutPrefix(p, m.host+"/"); ok || p == m.host {
			return path.Join(m.there, rest)
		}
	}
	return p
}

// client asks from inside the container, which on RKE has its certificates in the
// environment. etcdctl ends when a flag is given for what the environment says as well
// (etcd v3.7.3, pkg/flags/flag.go, verifyEnv), so the endpoint is set there, too.
func (c container) client(b *builder, m *Member) []string {
	argv := []string{"docker", "exec", "--env=ETCDCTL_API=3", "--env=ETCDCTL_ENDPOINTS=" + m.endpoint()}
	if b.authEnabled() {
		argv = append(argv, "--env=ETCDCTL_USER") // as it is on the host
	}
	return append(argv, "etcd", "etcdctl")
}

// remoteScript runs etcdctl in a container of its own, with the mounts and the
// environment of the one that is stopped: those have the certificates on RKE.
const remoteScript = `image=$(docker inspect -f "{{.Config.Image}}" etcd) && endpoints=$1 && shift && docker inspect -f "{{range .Config.Env}}{{println .}}{{end}}" etcd | ` +
	`docker run --rm --net=host --volumes-from=etcd:ro --security-opt=label=disable --env-file=/dev/stdin --env=ETCDCTL_API=3 --env=ETCDCTL_ENDPOINTS="$endpoints" --entrypoint=etcdctl "$image" "$@"`

func (c container) remote(_ *builder, m *Member) []string {
	return []string{"sh", "-c", remoteScript, "sh", m.endpoint()}
}

func (c container) start(b *builder, _ *Member) []Step {
	return []Step{{
		Why:   "start etcd; the --initial flags of its command do nothing any more",
		Argv:  []string{"docker", "start", "etcd"},
		Check: "docker logs etcd shows \"restarting local member\" with the ids of this plan",
		IfNot: "docker logs etcd; at \"permission denied\" under SELinux the mount needs :z; " + b.startTrouble(),
	}, {
		Why:   "docker may start it again from now on",
		Argv:  []string{"docker", "update", "--restart=always", "etcd"},
		Check: "it prints etcd",
		IfNot: "do it before the host is restarted; the policy that it had is in " + b.onHost("etcd-container.json") + " under RestartPolicy",
	}}
}

func (c container) join(b *builder, m *Member, initialCluster string) []Step {
	return []Step{{
		Why: "make the container again as it was (" + b.onHost("etcd-container.json") + " says how; docker rename etcd etcd-old first), with --initial-cluster-state=existing, --initial-cluster=" +
			asPrinted(initialCluster) + " and --initial-advertise-peer-urls=" + plainOr(strings.Join(m.PeerURLs, ","), "(its peer URLs)"),
		Check: "docker logs etcd shows that it joined",
		IfNot: "docker logs etcd; \"member count is unequal\" means that --initial-cluster is not what member add printed",
	}}
}

func (c container) platform() *platform {
	return &platform{
		dataDir: "/var/lib/etcd", look: c.look, stop: c.stop, command: c.command, inside: c.inside, client: c.client, remote: c.remote, start: c.start, join: c.join,
		stopClients: stopAPIServers, startClients: startAPIServers,
	}
}

package restore

import (
	"fmt"
	"strings"

	"etcd-forensics/inspect"
)

// A distribution is K3s or RKE2, which have the same engine: servers with etcd inside
// that restore one server and let the others join it anew. The restore is called with an
// empty token and then forced to be a cluster of one (k3s-io/k3s, pkg/etcd/etcd.go).
type distribution struct {
	name    string   // of the platform, as people write it
	program string   // that restores
	unit    string   // of a server
	agent   string   // unit of the others
	base    string   // of its data, without --data-dir
	kubectl []string // with what it needs
	// kill ends what the unit leaves running when it is stopped; "" when it leaves nothing.
	kill string
}

const embeddedEtcd = "/server/db/etcd"

func k3s() *platform {
	return distribution{
		name: "K3s", program: "k3s", unit: "k3s", agent: "k3s-agent", base: "/var/lib/rancher/k3s", kubectl: []string{"k3s", "kubectl"},
	}.platform()
}

func (d distribution) platform() *platform {
	return &platform{
		dataDir: d.base + embeddedEtcd, dataDirEnds: embeddedEtcd,
		noFlags: map[string]string{
			"--token":       d.name + " restores with an empty etcd token; its own server token is something else",
			"--new-wal-dir": "its log is in its data directory",
		},
		hosts: d.hosts, rejoin: d.rejoin, warn: d.warn,
		revisions: d.name + " cannot raise revisions when it restores: those after the restored one are given out a second time, and clients that watch miss changes",
	}
}

// dir is the folder of the data of one host: --data-dir of K3s, not of its etcd.
func (d distribution) dir(b *builder) string { return strings.TrimSuffix(b.p.DataDir, embeddedEtcd) }

// ifMoved is the flag for data that is elsewhere.
func (d distribution) ifMoved(b *builder) []string {
	if d.dir(b) == d.base {
		return nil
	}
	return []string{"--data-dir=" + d.dir(b)}
}

func (d distribution) hosts(b *builder) *refusal {
	first := &b.p.Members[0]
	h := Host{Name: first.Name}
	h.add(b.phase(PhasePrepare, append([]Step{b.sameFile()}, d.look(b)...))...)
	h.add(b.phase(PhaseStop, d.stop(b))...)
	h.add(b.phase(PhaseRestore, d.restore(b))...)
	h.add(b.phase(PhaseStart, b.needData([]Step{d.start(b)}))...)
	h.add(b.phase(PhaseVerify, d.verify(b))...)
	h.add(b.phase(PhaseResume, d.resume(b))...)
	b.p.Hosts = append(b.p.Hosts, h)
	for _, m := range b.p.Joining {
		j := Host{Name: m.Name}
		j.add(b.phase(PhaseStop, d.stop(b))...)
		j.add(b.phase(PhaseJoin, d.join(b))...)
		b.p.Hosts = append(b.p.Hosts, j)
	}
	return nil
}

func (d distribution) look(b *builder) []Step {
	return []Step{{
		Why:   "the version must be that of the backup or a later one, never an earlier minor one",
		Argv:  []string{d.program, "--version"},
		Check: "compare it with that of the nodes at the time of the backup",
		IfNot: "install that version first",
	}, {
		Why:   "the restore command reads " + d.name + "'s configuration file, but not the flags of its unit",
		Argv:  []string{"systemctl", "cat", d.unit},
		Check: "--data-dir is not there, or " + d.dir(b) + "; no --cluster-reset; flags such as --node-name, --token and --secrets-encryption",
		IfNot: "plan again with --data-dir (of etcd, which ends with " + embeddedEtcd + "), and give the other flags to the restore command as well",
	}, {
		Why:    "the server token must be the one of the time of the backup: what the servers share (CA, keys) is kept encrypted with it",
		Argv:   []string{"sh", "-c", `[ -s "$1" ] && echo "the token is there"`, "sh", d.dir(b) + "/server/token"},
		Expect: &Expect{Contains: "the token is there"},
		Check:  d.dir(b) + "/server/token is the token of the time of the backup",
		IfNot:  "put it there, or give it to the restore command as --token=TOKEN; with another token " + d.name + " does not start",
	}}
}

func (d distribution) stop(b *builder) []Step {
	steps := []Step{{
		Why:   "stop the server on every host before anything is restored: API server and etcd",
		Argv:  []string{"systemctl", "stop", d.unit},
		Check: "systemctl is-active " + d.unit + " says inactive",
		IfNot: "systemctl kill " + d.unit,
	}}
	if d.kill != "" {
		steps = append(steps, Step{
			Why:     "its pods go on running without it, API server and etcd too: end them",
			Argv:    []string{d.kill},
			IfThere: true,
			Check:   "crictl ps, or ps, shows no kube-apiserver and no etcd",
			IfNot:   "end them by hand",
		})
	}
	return steps
}

func (d distribution) restore(b *builder) []Step {
	base, file := d.dir(b), b.p.File.OnHost
	inUse := Guard{Kind: GuardInUse, Path: b.p.DataDir + "/member/snap/db"}
	kept := b.onHost("server.tar.gz")
	steps := []Step{{
		Why:      "keep certificates, keys and tokens; the restore replaces them by those in the data",
		Argv:     []string{"sh", "-c", `if [ -d "$1/server" ]; then exec tar -czf - -C "$1" --exclude=server/db server; fi`, "sh", base},
		StdoutTo: kept,
		Refuses:  []Guard{inUse},
		Check:    "tar -tzf " + kept + " lists server/token and server/tls",
		IfNot:    "on a new machine there is nothing to keep, and the file is empty",
	}, {
		Why:    "keep a copy of the old etcd data; " + d.name + " only renames it, to etcd-old-TIME",
		Argv:   []string{"sh", "-c", `if [ -e "$1" ]; then cp -a "$1" "$2"; fi`, "sh", b.p.DataDir, b.onHost("etcd")},
		Clears: []string{b.onHost("etcd")},
		Check:  b.onHost("etcd") + " holds it, if there was any",
		IfNot:  "free disk space for a copy",
	}, keepStep("a reset that was done before leaves a flag, with which no other is done", base+"/server/db/reset-flag", b.onHost("reset-flag"), "move it by hand")}
	if !b.p.File.Hashed {
		hashed := b.onHost("hashed.db")
		steps = append(steps, b.hashedCopy(file, hashed)...)
		file = hashed
	}
	return append(steps, Step{
		Why:     "restore here, and only here: a cluster of one comes out; --etcd-s3=false keeps it from looking for the file in S3",
		Argv:    append([]string{d.program, "server", "--cluster-reset", "--cluster-reset-restore-path=" + file, "--etcd-s3=false"}, d.ifMoved(b)...),
		Refuses: []Guard{inUse, {Kind: GuardExists, Path: base + "/server/db/reset-flag"}},
		Expect:  &Expect{Contains: "Managed etcd cluster membership has been reset"},
		Check:   "it ends by itself and says \"Managed etcd cluster membership has been reset\"",
		IfNot:   "\"snapshot path does not exist\": no such file; \"snapshot missing hash\": see the step before; \"reset-flag\": an attempt before has succeeded, go on; errors about bootstrap data: it is the wrong token",
	})
}

func (d distribution) start(b *builder) Step {
	return Step{
		Why:   "start the server, without --cluster-reset",
		Argv:  []string{"systemctl", "start", d.unit},
		Check: "systemctl is-active " + d.unit + " says active; no file in /etc/rancher sets cluster-reset",
		IfNot: "journalctl -u " + d.unit + "; with RKE2's CIS profile the data must belong to etcd:etcd",
	}
}

// atLeastResourceVersion fails when the list that the command after it prints is of a
// revision below its first argument. The first metadata is that of the list.
const atLeastResourceVersion = `r=$("$@" | sed -n 's/^[^}]*"metadata":{"resourceVersion":"\([0-9]*\)".*/\1/p'); echo "revision $r"; [ "$r" -ge "$0" ]`

func (d distribution) verify(b *builder) []Step {
	ask := func(args ...string) []string { return append(append([]string(nil), d.kubectl...), args...) }
	return []Step{{
		Why:    "the API server must be up",
		Argv:   ask("get", "--raw=/readyz"),
		Expect: &Expect{Contains: "ok", Seconds: 300},
		Check:  "it says ok",
		IfNot:  "journalctl -u " + d.unit,
	}, {
		Why:   "the content must be that of the evidence",
		Argv:  append([]string{"sh", "-c", atLeastResourceVersion, fmt.Sprint(b.p.Revision.Source)}, ask("get", "--raw=/api/v1/namespaces?limit=1")...),
		Check: b.p.revisionToBe(),
		IfNot: "stop " + d.unit + " before more is written, and compare its data directory with that of the plan",
	}, {
		Why:   "nodes of the time of the backup are back",
		Argv:  ask("get", "nodes", "-o", "wide"),
		Check: "this node is Ready; others are until they are found missing",
		IfNot: "journalctl -u " + d.unit,
	}}
}

func (d distribution) resume(b *builder) []Step {
	return []Step{{
		Why:   "on every agent systemctl restart " + d.agent + "; also " + b.restartWhat(),
		Check: "kubectl get nodes shows the agents Ready",
		IfNot: "journalctl -u " + d.agent,
	}, {
		Why:   "nodes that are in the backup and exist no more must go, so that their volumes and pods do: kubectl delete node NAME",
		Check: "kubectl get nodes shows only what is there",
		IfNot: "a server with the same name cannot join before",
	}}
}

// join lets a server join anew. What it held is kept.
func (d distribution) join(b *builder) []Step {
	db := d.dir(b) + "/server/db"
	keep := keepStep("a server joins with no data of its own; never do this on the host that was restored", db, db+".before-"+b.p.Tag, "stop what holds it")
	keep.Refuses = append(keep.Refuses, Guard{Kind: GuardInUse, Path: b.p.DataDir + "/member/snap/db"})
	return []Step{keep, {
		Why:   "start the server, which joins and gets the data; its configuration must say server: https://HOST of the one that was restored",
		Argv:  []string{"systemctl", "start", d.unit},
		Check: "kubectl get nodes shows it Ready, with the role etcd",
		IfNot: "journalctl -u " + d.unit + "; \"duplicate node name\" or a password that is refused: kubectl delete node of it first",
	}}
}

// rejoin starts the servers whose data is whole; the others join anew.
func (d distribution) rejoin(b *builder, lost []inspect.MembershipMember) *refusal {
	for _, m := range b.p.Members {
		h := Host{Name: m.Name}
		h.add(b.phase(PhaseStart, b.needData([]Step{d.start(b)}))...)
		h.add(b.phase(PhaseVerify, d.verify(b)[:1])...)
		b.p.Hosts = append(b.p.Hosts, h)
	}
	for i, m := range b.p.Joining {
		h := Host{Name: m.Name}
		node := m.Name
		if at := strings.LastIndexByte(node, '-'); at > 0 {
			node = node[:at]
		}
		forget := Step{
			Why:   fmt.Sprintf("on a server that runs: %s delete node %s, with which %s takes the member %s (%s) out of etcd", strings.Join(d.kubectl, " "), plainOr(node, "NODE"), d.name, quoted(m.Name), lost[i].MemberID),
			Check: "etcd has a member less; kubectl get nodes does not list it",
			IfNot: "etcd's members are named after their node and eight hex digits",
		}
		h.add(b.reallyLost(&lost[i])...)
		h.add(b.phase(PhaseStop, d.stop(b))...)
		h.add(b.phase(PhaseJoin, append([]Step{forget}, d.join(b)...))...)
		b.p.Hosts = append(b.p.Hosts, h)
	}
	return nil
}

func (d distribution) warn(b *builder) {
	p := b.p
	p.warn("server-token", d.name+" keeps CA and keys in the data, encrypted with its server token: with another token than that of the time of the backup it does not start", "have "+d.dir(b)+"/server/token, or what was given as --token, at hand")
	p.warn("reset-flag", "after a reset the file server/db/reset-flag keeps "+d.name+" from doing another", "the plan moves it aside before it resets")
	p.warn("s3", "when backups are configured to go to S3, the restore looks for the file there", "the plan says --etcd-s3=false; to restore from S3 itself give the file name alone, and its settings as flags, as a Secret cannot be read yet")
	if len(p.Joining) > 0 {
		p.warn("wipe", "the database directory is taken away on "+names(p.Joining)+" only, never on "+names(p.Members), "")
	}
	p.warn("ids", d.name+" restores with an empty etcd token: on the same address the ids are the same after every restore, so nothing fences off a server with older data", "never start another server on its old "+d.dir(b)+"/server/db")
}

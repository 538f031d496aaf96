package restore

import (
	"fmt"
	"strings"

	"etcd-forensics/inspect"
)

// talos is Talos Linux, which has no shell: all is done with talosctl, from where the
// evidence is. It restores one control plane machine; the others join by themselves.
func talos() *platform {
	t := talosLinux{}
	own := "Talos decides it"
	return &platform{
		dataDir: "/var/lib/etcd",
		noFlags: map[string]string{"--token": own, "--data-dir": own, "--new-wal-dir": own, "--work-dir": "nothing is copied to the hosts"},
		hosts:   t.hosts, rejoin: t.rejoin, warn: t.warn, local: true,
		revisions: "Talos cannot raise revisions when it restores: those after the restored one are given out a second time, and clients that watch miss changes",
	}
}

type talosLinux struct{}

func (t talosLinux) all(b *builder) []Member {
	return append(append([]Member(nil), b.p.Members...), b.p.Joining...)
}

func node(m *Member) string { return hostOf(m.PeerURLs[0]) }

// at is its address within a sentence.
func at(m *Member) string { return plainOr(node(m), "ADDRESS") }

func (t talosLinux) hosts(b *builder) *refusal {
	p, first := b.p, &b.p.Members[0]
	all := t.all(b)
	var nodes []string
	for i := range all {
		nodes = append(nodes, node(&all[i]))
	}
	prepare := []Step{{
		Why:   "etcd must be beyond help, as enough members that start lose nothing: talosctl -n " + plainOr(strings.Join(nodes, ","), "ADDRESS,...") + " service etcd",
		Check: "no majority of them is Running and healthy; none is of the machine type init",
		IfNot: "where it is only stopped: talosctl -n ADDRESS service etcd start",
	}}
	for i := range all {
		kept := "talos-" + p.Tag + "-" + harmlessName(fmt.Sprintf("%d-%s", i+1, all[i].Name))
		prepare = append(prepare, t.keep(&all[i], kept))
	}
	steps := b.phase(PhasePrepare, prepare)
	steps = append(steps, b.phase(PhaseStop, []Step{{
		Why: "reset every control plane machine, API servers and etcd with it: talosctl -n " + plainOr(strings.Join(nodes, ","), "ADDRESS,...") +
			" reset --graceful=false --reboot --system-labels-to-wipe=EPHEMERAL. This deletes all under /var on them, local volumes, too",
		Check: "they have rebooted; talosctl service etcd says Preparing on each",
		IfNot: "do not go on while one of them still runs the old etcd",
	}})...)
	restore := []string{"talosctl", "--nodes=" + node(first), "bootstrap", "--recover-from=" + p.File.OnHost}
	why := "restore on one machine, and never bootstrap a second one"
	if !p.File.Hashed {
		restore = append(restore, "--recover-skip-hash-check")
		why += "; the file is a member's database and has no hash"
	}
	steps = append(steps, b.phase(PhaseRestore, []Step{{
		Why:    "etcd must wait for its bootstrap",
		Argv:   []string{"talosctl", "--nodes=" + node(first), "service", "etcd"},
		Expect: &Expect{Contains: "Preparing", Seconds: 600},
		Check:  "STATE is Preparing",
		IfNot:  "talosctl dmesg; the machine configuration must be that of the old cluster",
	}, {
		Why: why, Argv: restore,
		Check: "talosctl -n " + at(first) + " service etcd says Running, OK",
		IfNot: "talosctl -n " + at(first) + " logs etcd; at \"already bootstrapped\" the machine was not reset",
	}})...)
	steps = append(steps, b.phase(PhaseVerify, []Step{{
		Why:    "etcd must be up",
		Argv:   []string{"talosctl", "--nodes=" + node(first), "service", "etcd"},
		Expect: &Expect{Contains: "Running", Seconds: 300},
		Check:  "STATE is Running, HEALTH is OK",
		IfNot:  "talosctl -n " + at(first) + " logs etcd",
	}, {
		Why:   "the content must be that of the evidence",
		Argv:  append([]string{"sh", "-c", atLeastResourceVersion, fmt.Sprint(p.Revision.Source)}, "kubectl", "get", "--raw=/api/v1/namespaces?limit=1"),
		Check: p.revisionToBe(),
		IfNot: "talosctl -n " + at(first) + " logs etcd shows which file was restored",
	}})...)
	steps = append(steps, b.phase(PhaseResume, []Step{{
		Why:   "on every worker talosctl -n ADDRESS service kubelet restart; also " + b.restartWhat(),
		Check: "kubectl get nodes shows all Ready",
		IfNot: "talosctl -n ADDRESS logs kubelet",
	}})...)
	if len(all) > 1 {
		steps = append(steps, b.phase(PhaseJoin, []Step{{
			Why:   "the other control planes join by themselves",
			Argv:  []string{"talosctl", "--nodes=" + node(first), "etcd", "members"},
			Check: fmt.Sprintf("it lists %d members, none of them a learner", len(all)),
			IfNot: "talosctl -n ADDRESS service etcd of the one that is missing; never bootstrap it",
		}})...)
	}
	p.Here = append(p.Here, steps...)
	return nil
}

// keep copies what a machine has. A person does it, as the machine may be gone.
func (t talosLinux) keep(m *Member, to string) Step {
	return Step{
		Why:   "keep what " + quoted(m.Name) + " has, if it answers, as the reset deletes it: talosctl -n " + at(m) + " copy /var/lib/etcd " + to,
		Check: to + " holds member/snap/db, or the machine is gone",
		IfNot: "do not reset a machine whose data is not kept",
	}
}

// harmlessName keeps of a member's name what is harmless in a path.
func harmlessName(name string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, name)
}

func (t talosLinux) rejoin(b *builder, lost []inspect.MembershipMember) *refusal {
	var start, join []Step
	for i := range b.p.Members {
		m := &b.p.Members[i]
		start = append(start, Step{
			Why:   "etcd of " + quoted(m.Name) + " must run",
			Argv:  []string{"talosctl", "--nodes=" + node(m), "service", "etcd", "start"},
			Check: "talosctl -n " + at(m) + " service etcd says Running, OK",
			IfNot: "talosctl -n " + at(m) + " logs etcd",
		})
	}
	for i := range b.p.Joining {
		m := &b.p.Joining[i]
		kept := "talos-" + b.p.Tag + "-" + harmlessName(m.Name)
		join = append(join, t.keep(m, kept), Step{
			Why:   "the others forget the dead member first, so that the majority is counted without it",
			Argv:  []string{"talosctl", "--nodes=" + node(&b.p.Members[0]), "etcd", "remove-member", lost[i].MemberID.String()},
			Check: "talosctl -n " + at(&b.p.Members[0]) + " etcd members does not show it",
			IfNot: "older versions of talosctl take the name of the machine in place of the id",
		}, Step{
			Why:   "reset its machine, which then joins by itself: talosctl -n " + at(m) + " reset --graceful=false --reboot --system-labels-to-wipe=EPHEMERAL. This deletes all under /var on it, local volumes, too",
			Check: "talosctl etcd members shows it again",
			IfNot: "talosctl -n " + at(m) + " logs etcd; never bootstrap it",
		})
	}
	for i := range lost {
		b.p.Here = append(b.p.Here, b.reallyLost(&lost[i])...)
	}
	b.p.Here = append(append(b.p.Here, b.phase(PhaseStart, start)...), b.phase(PhaseJoin, join)...)
	return nil
}

func (t talosLinux) warn(b *builder) {
	b.p.warn("secrets", "the secrets of the machine configurations (certificates, the key that encrypts Secrets) must be those of the time of the backup", "have talsecret.yaml, or controlplane.yaml of then, at hand; apply it before the bootstrap where machines are new")
	b.p.warn("ephemeral", "the reset deletes everything under /var on the control planes, local volumes of pods, too", "move what is needed elsewhere first; the plan keeps etcd's directories")
	b.p.warn("bootstrap", "a second bootstrap makes a second cluster", "bootstrap "+names(b.p.Members)+" only")
	if strings.HasSuffix(b.p.File.Path, ".age") {
		b.p.warn("talos-backup", "the file is encrypted with age", "decrypt it first: age --decrypt")
	}
}

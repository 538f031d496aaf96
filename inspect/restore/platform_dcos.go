package restore

import (
	"fmt"
	"regexp"

	"etcd-forensics/inspect"
)

// dcos is Kubernetes as a package of DC/OS, which is no longer made. Its backups are
// objects (Heptio Ark), not snapshots of etcd, and it takes no snapshot back
// (mesosphere/dcos-docs-site, services/kubernetes).
func dcos() *platform {
	const own = "DC/OS decides it"
	return &platform{
		dataDir: "/var/lib/etcd",
		noFlags: map[string]string{"--token": own, "--member": own, "--data-dir": own, "--new-wal-dir": own, "--work-dir": "nothing is copied to the hosts"},
		hosts: func(b *builder) *refusal {
			return &refusal{
				fmt.Sprintf("DC/OS takes no snapshot of etcd back, and %d of %d voters start: its etcd is lost", len(b.starters()), len(b.voters())),
				"make the cluster anew from its own backup (dcos kubernetes restore, objects that dcos kubernetes backup has kept); what it lacks can be taken out of this evidence: etcd-forensics get -w yaml, or served by an etcd outside of DC/OS: plan --platform plain",
			}
		},
		rejoin: rejoinDCOS, local: true,
	}
}

// dcosPod finds the pod in the name of its task: etcd-1-peer is that of the pod etcd-1.
var dcosPod = regexp.MustCompile(`etcd-\d+`)

func rejoinDCOS(b *builder, lost []inspect.MembershipMember) *refusal {
	steps := b.phase(PhaseStart, []Step{{
		Why:   "the tasks of " + names(b.p.Members) + " must run: DC/OS starts a task that ended on the same agent, with its data",
		Check: "dcos task lists them as running",
		IfNot: "when an agent is lost for good, so is the data on it",
	}})
	for i, m := range b.p.Joining {
		pod := dcosPod.FindString(m.Name)
		if pod == "" {
			pod = "etcd-N"
		}
		steps = append(steps, b.phase(PhaseJoin, []Step{{
			Why:   fmt.Sprintf("replace %s (%s) on another agent: dcos kubernetes --name=SERVICE pod replace %s", quoted(m.Name), lost[i].MemberID, pod),
			Check: "it prints the pod with its tasks " + pod + "-peer and " + pod + "-recover; dcos task lists the first as running",
			IfNot: "dcos kubernetes --name=SERVICE pod status; one at a time, and never a second one before the first is back",
		}})...)
	}
	b.p.warn("backup", "when a second member is lost, the cluster can only be made anew from its own backup", "dcos kubernetes backup first, and a snapshot: dcos task exec SERVICE__etcd-0-peer find . -name etcdctl -exec {} --endpoints https://etcd-0-peer.SERVICE.mesos:2379 --cacert ca-crt.pem --cert etcd-crt.pem --key etcd-key.pem snapshot save etcd-0-peer.db ;")
	for i := range lost {
		b.p.Here = append(b.p.Here, b.reallyLost(&lost[i])...)
	}
	b.p.Here = append(b.p.Here, steps...)
	return nil
}

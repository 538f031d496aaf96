package restore

import (
	"regexp"

	"etcd-forensics/inspect"
)

// kops is kOps, where etcd-manager restores from its own store: it starts a temporary
// etcd on the backup, and puts key after key into a new cluster with a random token. So
// revisions begin anew, and leases and history do not come back (kubernetes-sigs/etcd-manager,
// pkg/controller and pkg/etcd/restore.go).
func kops() *platform {
	k := kopsEtcdManager{}
	own := "etcd-manager decides it"
	return &platform{
		dataDir: "/mnt/master-vol",
		noFlags: map[string]string{"--token": own, "--member": own, "--data-dir": own, "--new-wal-dir": own, "--work-dir": "nothing is copied to the hosts"},
		hosts:   k.hosts, rejoin: k.rejoin, warn: k.warn, local: true,
		revisions: "etcd-manager puts key after key into a new cluster: revisions begin near 1 again, and nothing can raise them",
	}
}

type kopsEtcdManager struct{}

// kopsBackup finds etcd-manager's name of a backup in the path of its file.
var kopsBackup = regexp.MustCompile(`(?:^|/)(?:(main|events)/)?(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ-\d{6})/etcd\.backup(?:\.gz)?(?:!|$)`)

func (k kopsEtcdManager) hosts(b *builder) *refusal {
	p := b.p
	p.Losses = append(p.Losses, Loss{What: "all leases, all older revisions, and the revisions themselves: etcd-manager restores keys and values only"})
	steps, name := []Step{}, ""
	which := "main"
	if found := kopsBackup.FindStringSubmatch(p.File.Path); found != nil {
		name = found[2]
		if found[1] != "" {
			which = found[1]
		}
	}
	if name == "" {
		name = "NAME"
		steps = append(steps, k.intoStore(b)...)
	}
	const manager = "etcd-manager-ctl --backup-store=STORE/backups/etcd/"
	other := "events"
	if which == "events" {
		other = "main"
	}
	steps = append(b.phase(PhaseHere, steps), b.phase(PhasePrepare, []Step{{
		Why:   "all control plane machines must be up, as many as the cluster had members: etcd-manager waits for them",
		Check: "kops get instances, or the cloud, shows them running",
		IfNot: "its log says \"insufficient peers in our gossip group\" until they are",
	}, {
		Why:   "list the backups: " + manager + which + " list-backups (STORE is what kops get cluster -o yaml shows under etcdClusters, backups, backupStore, up to /backups)",
		Check: "it lists " + name,
		IfNot: "the store is another, or the name",
	}})...)
	steps = append(steps, b.phase(PhaseStop, []Step{{
		Why:   "stop the API server on every control plane machine: move kube-apiserver.manifest out of /etc/kubernetes/manifests",
		Check: "no machine listens on port 443 or 6443 of the API server",
		IfNot: "what is written now is lost, and what is watched now is missed",
	}})...)
	steps = append(steps, b.phase(PhaseRestore, []Step{{
		Why:   "command the restore: " + manager + which + " restore-backup " + name,
		Check: "it says that the restore is queued",
		IfNot: "a command that cannot be carried out comes again and again: delete it from STORE/backups/etcd/" + which + "/control",
	}, {
		Why:   "command that of " + other + " as well, of the same time: " + manager + other + " restore-backup NAME",
		Check: "it says that the restore is queued",
		IfNot: "events can be given up; main cannot",
	}})...)
	steps = append(steps, b.phase(PhaseStart, []Step{{
		Why:   "restart etcd-manager on every control plane machine: crictl stop of the containers etcd-manager; the kubelet starts them again",
		Check: "/var/log/etcd.log and /var/log/etcd-events.log show the restore, and then the new cluster",
		IfNot: "old data lies in trashcan beside the new on each volume; nothing was deleted",
	}})...)
	steps = append(steps, b.phase(PhaseVerify, []Step{{
		Why:   "count keys and compare with etcd-forensics keys of the evidence: etcdctl --endpoints=https://127.0.0.1:4001 get /registry --prefix --count-only --write-out=fields, with certificates of /etc/kubernetes/pki/kube-apiserver",
		Check: "the number is that of the evidence",
		IfNot: "read /var/log/etcd.log; do not start the API servers",
	}})...)
	steps = append(steps, b.phase(PhaseResume, []Step{{
		Why:   "delete addresses of API servers that are gone: etcdctl --endpoints=https://127.0.0.1:4001 del /registry/masterleases/ADDRESS",
		Check: "etcdctl get /registry/masterleases --prefix --keys-only lists machines that are there",
		IfNot: "clients inside the cluster are sent to dead addresses",
	}, {
		Why:   "start the API servers: move the manifests back",
		Check: "kubectl get --raw=/readyz says ok",
		IfNot: "/var/log/kube-apiserver.log",
	}, {
		Why:   b.restartWhat(),
		Check: "kubectl get nodes shows all Ready",
		IfNot: "restart the kubelet of those that are not",
	}})...)
	p.Here = append(p.Here, steps...)
	return nil
}

// intoStore makes of the file a backup such as etcd-manager has in its store.
func (k kopsEtcdManager) intoStore(b *builder) []Step {
	file := b.p.File.OnHost
	var steps []Step
	if !b.p.File.Hashed {
		hashed := "hashed-" + b.p.Tag + ".db"
		steps = b.hashedCopy(file, hashed)
		file = hashed
	}
	packed := "etcd.backup-" + b.p.Tag + ".gz"
	return append(steps, Step{
		Why:      "etcd-manager keeps its backups compressed",
		Argv:     []string{"gzip", "-c", "--", file},
		StdoutTo: packed,
		Check:    "gzip -t " + packed,
		IfNot:    "free disk space",
	}, Step{
		Why:   "put it into the store as STORE/backups/etcd/main/NAME/etcd.backup.gz, with NAME as 2006-01-02T15:04:05Z-000001 and a copy of another backup's _etcd_backup.meta beside it, in which etcdVersion and memberCount must be right",
		Check: "etcd-manager-ctl lists NAME",
		IfNot: "compare with another backup in the store",
	})
}

func (k kopsEtcdManager) rejoin(b *builder, lost []inspect.MembershipMember) *refusal {
	steps := b.phase(PhaseStart, []Step{{
		Why:   "start the machines of " + names(b.p.Members) + "; etcd-manager starts etcd on their volumes by itself",
		Check: "/var/log/etcd.log on each shows that a leader was elected",
		IfNot: "etcd-manager looks for volumes by their tags: they must be attached",
	}})
	for i, m := range b.p.Joining {
		steps = append(steps, b.phase(PhaseJoin, []Step{{
			Why:   "replace " + quoted(m.Name) + " (" + lost[i].MemberID.String() + "): keep a snapshot of its volume, then let its machine come up with an empty volume of the same tags; etcd-manager gives it a member",
			Check: "etcdctl --endpoints=https://127.0.0.1:4001 member list shows it started",
			IfNot: "/var/log/etcd.log of the leader says why not",
		}})...)
	}
	for i := range lost {
		b.p.Here = append(b.p.Here, b.reallyLost(&lost[i])...)
	}
	b.p.Here = append(b.p.Here, steps...)
	return nil
}

func (k kopsEtcdManager) warn(b *builder) {
	b.p.warn("two-clusters", "kOps has two clusters, main and events, each with backups of its own", "restore both to the same time")
	b.p.warn("control", "a restore command that fails is tried again at each start", "delete it from the store")
}

package restore

import (
	"fmt"
	"path"

	"etcd-forensics/inspect"
)

// openshift is OpenShift 4, whose own script restores one control plane host; the etcd
// operator then gives the others their members anew (openshift/cluster-etcd-operator,
// bindata/etcd/cluster-restore.sh and restore-pod.yaml).
func openshift() *platform {
	o := openshift4{}
	own := "OpenShift's script has its own"
	return &platform{
		dataDir: "/var/lib/etcd",
		noFlags: map[string]string{"--token": own + ", a new one each time", "--data-dir": own, "--new-wal-dir": own},
		hosts:   o.hosts, rejoin: o.rejoin, warn: o.warn,
		revisions: "whether revisions are raised is up to the script: since 4.18 always, from 4.11 to 4.17 with ETCD_ETCDCTL_RESTORE_ENABLE_BUMP=true, which the plan sets, before 4.11 never",
	}
}

type openshift4 struct{}

const (
	restoreScript = "/usr/local/bin/cluster-restore.sh"
	scriptBackup  = "/var/lib/etcd-backup" // where the script moves the old member to
	recoveryEnv   = "KUBECONFIG=/etc/kubernetes/static-pod-resources/kube-apiserver-certs/secrets/node-kubeconfigs/localhost-recovery.kubeconfig"
)

func (o openshift4) hosts(b *builder) *refusal {
	first := &b.p.Members[0]
	folder := b.onHost("backup")
	h := Host{Name: first.Name}
	h.add(b.phase(PhasePrepare, []Step{b.sameFile(), {
		Why:   "the script must be there: it comes with the release, which must be of the same z-stream as the backup",
		Argv:  []string{"ls", "-l", restoreScript},
		Check: "it is there; oc get clusterversion, or the name of the backup, tells the release",
		IfNot: "this host is no control plane of OpenShift 4: plan with another member first (--member)",
	}})...)
	h.add(b.phase(PhaseStop, b.moveOpenShiftPods())...)
	h.add(b.phase(PhaseRestore, o.restore(b, folder))...)
	h.add(b.phase(PhaseStart, []Step{{
		Why:    "the script has put a restore pod in place of etcd's, which restores and then serves: wait until it runs",
		Argv:   []string{"sh", "-c", `[ -n "$(crictl ps -q --name "$1")" ]`, "sh", "^etcd$"},
		Expect: &Expect{Seconds: upSeconds},
		Check:  "crictl logs of it says \"restoring to a single node cluster\", then \"ready to serve client requests\"",
		IfNot:  "crictl logs: \"please delete the contents of data directory\" means that something was left in " + b.p.DataDir,
	}, b.putBackPod("start the API server again", "kube-apiserver"), b.putBackPod("start the controller manager again", "kube-controller-manager"), b.putBackPod("start the scheduler again", "kube-scheduler"), {
		Why:   "the kubelet remembers revisions of before",
		Argv:  []string{"systemctl", "restart", "kubelet"},
		Check: "systemctl is-active kubelet says active",
		IfNot: "journalctl -u kubelet",
	}})...)
	h.add(b.phase(PhaseVerify, []Step{{
		Why:    "the API server must be up",
		Argv:   []string{"oc", "get", "--raw=/readyz"},
		Env:    []string{recoveryEnv},
		Expect: &Expect{Contains: "ok", Seconds: 600},
		Check:  "it says ok",
		IfNot:  "crictl logs of kube-apiserver",
	}, {
		Why:   "the content must be that of the evidence",
		Argv:  append([]string{"sh", "-c", atLeastResourceVersion, fmt.Sprint(b.p.Revision.Source)}, "oc", "get", "--raw=/api/v1/namespaces?limit=1"),
		Env:   []string{recoveryEnv},
		Check: fmt.Sprintf("the revision is %d or more: since 4.18 the script raises it", b.p.Revision.Source),
		IfNot: "do not go on: nothing that exists must be deleted by an operator that sees an empty cluster",
	}})...)
	h.add(b.phase(PhaseResume, o.resume(b))...)
	b.p.Hosts = append(b.p.Hosts, h)
	for _, m := range b.p.Joining {
		j := Host{Name: m.Name}
		stop := b.moveOpenShiftPods()
		stop = append(stop, keepStep("the member of this host must not come back as it was: keep its data aside; the operator makes a new one", b.p.DataDir+"/member", b.onHost("member"), "stop what holds it"))
		stop[len(stop)-1].Refuses = append(stop[len(stop)-1].Refuses, Guard{Kind: GuardInUse, Path: b.p.DataDir + "/member/snap/db"})
		j.add(b.phase(PhaseStop, stop)...)
		j.add(b.phase(PhaseJoin, []Step{{
			Why:   "the operator puts the pods of this host back, and etcd joins: wait for it, and do not reboot or scale meanwhile",
			Check: "oc -n openshift-etcd get pods shows etcd-" + m.Name + " with all containers ready",
			IfNot: "where the machine is gone: delete its Machine, so that a new one is made; where its certificates have run out: oc get csr, oc adm certificate approve NAME",
		}})...)
		b.p.Hosts = append(b.p.Hosts, j)
	}
	return nil
}

// moveOpenShiftPods stops the API server and what belongs to it, and etcd last.
func (b *builder) moveOpenShiftPods() []Step {
	steps := b.keepKubernetes("static-pod-resources")
	steps = append(steps, b.moveManifests("stop the API server, the controller manager and the scheduler", "kube-apiserver-pod", "kube-controller-manager-pod", "kube-scheduler-pod")...)
	steps[len(steps)-1].Argv[4] = "^(kube-apiserver|kube-controller-manager|kube-scheduler)$"
	etcd := b.moveManifests("stop etcd", "etcd-pod")
	etcd[1].Argv[4] = "^(etcd|etcdctl|etcd-metrics|etcd-readyz|etcd-rev)$"
	return append(steps, etcd...)
}

func (b *builder) putBackPod(why, name string) Step {
	return b.putBack(why, name+"-pod", "crictl ps lists it", "crictl logs of "+name)
}

func (o openshift4) restore(b *builder, folder string) []Step {
	data, file := b.p.DataDir, b.p.File.OnHost
	snapshot := path.Join(folder, "snapshot_"+b.p.Tag+".db")
	steps := []Step{{
		Why:   "the script takes the newest pair of a folder: snapshot_*.db and static_kuberesources_*.tar.gz",
		Argv:  []string{"mkdir", "-p", "-m", "700", folder},
		Check: "it is there",
		IfNot: "make it by hand",
	}}
	if b.p.File.Hashed {
		steps = append(steps, Step{
			Why: "the file under the name that the script looks for", Argv: []string{"cp", "--", file, snapshot}, Clears: []string{snapshot},
			Check: snapshot + " is there", IfNot: "free disk space for a copy",
		})
	} else {
		steps = append(steps, b.hashedCopy(file, snapshot)...)
	}
	inUse := Guard{Kind: GuardInUse, Path: path.Join(data, "member", "snap", "db")}
	run := Step{
		Why:     "restore: the old member moves to " + scriptBackup + ", and a pod takes etcd's place that restores to a cluster of one with a token of its own",
		Argv:    []string{restoreScript, folder},
		Env:     []string{"ETCD_ETCDCTL_RESTORE_ENABLE_BUMP=true"},
		Refuses: []Guard{inUse, {Kind: GuardExists, Path: scriptBackup + "/member"}},
		Expect:  &Expect{Contains: "starting restore-etcd static pod"},
		Check:   "it says \"starting restore-etcd static pod\"",
		IfNot:   "\"required dependencies not found\": etcd never ran on this host; \"is not empty\": move what is named elsewhere; \"integrity check failed\": the file is damaged",
	}
	return append(steps, Step{
		Why:   "put static_kuberesources_*.tar.gz of the same backup into " + folder + "; it holds encryption keys, so keep it closed to others (chmod 600)",
		Check: folder + " holds one snapshot_*.db and one static_kuberesources_*.tar.gz",
		IfNot: "without the one of the same backup, one of the same release and the same control plane hosts is the next best, if the encryption keys have not changed since",
	}, keepStep("the script deletes what a restore before has moved there: keep it", scriptBackup+"/member", path.Join(scriptBackup, "before-"+b.p.Tag), "move it by hand"), Step{
		Why:    "the script stops at anything in " + data + " that is not the member",
		Argv:   []string{"find", data, "-mindepth", "1", "-maxdepth", "1", "!", "-name", "member", "!", "-name", "revision.json", "!", "-name", "etcd_perf*"},
		Expect: &Expect{Empty: true},
		Check:  "it prints nothing",
		IfNot:  "move what it prints elsewhere",
	}, run)
}

func (o openshift4) resume(b *builder) []Step {
	return []Step{{
		Why:   "until the cluster is stable again: since 4.16 oc adm wait-for-stable-cluster; before, the same patch for kubeapiserver, kubecontrollermanager and kubescheduler as for etcd in the next step",
		Check: "oc get clusteroperators shows all Available and none Progressing",
		IfNot: "oc get csr; oc adm certificate approve of those that are pending",
	}, {
		Why:   "have the operator roll etcd out anew on all control planes",
		Argv:  []string{"oc", "patch", "etcd", "cluster", "--type=merge", "-p", `{"spec":{"forceRedeploymentReason":"recovery-` + b.p.Tag + `"}}`},
		Env:   []string{recoveryEnv},
		Check: "oc get etcd -o yaml shows all nodes at the latest revision",
		IfNot: "oc -n openshift-etcd-operator logs deployment/etcd-operator",
	}, {
		Why:   b.restartWhat() + "; on OpenShift that is systemctl restart kubelet on every node, and the network pods of openshift-ovn-kubernetes",
		Check: "oc get nodes shows all Ready",
		IfNot: "a node whose certificate was renewed after the backup: move /var/lib/kubelet/pki/*.pem away on it, restart its kubelet, approve its requests",
	}}
}

// rejoin replaces members that do not start, as the documentation does for one that is in
// a crash loop.
func (o openshift4) rejoin(b *builder, lost []inspect.MembershipMember) *refusal {
	for _, m := range b.p.Members {
		h := Host{Name: m.Name}
		h.add(b.phase(PhaseStart, []Step{b.putBack("etcd must run here", "etcd-pod", "crictl ps lists etcd", "crictl logs of it")})...)
		h.add(b.phase(PhaseVerify, []Step{{
			Why:    "the API server must be up to replace a member",
			Argv:   []string{"oc", "get", "--raw=/readyz"},
			Env:    []string{recoveryEnv},
			Expect: &Expect{Contains: "ok", Seconds: upSeconds},
			Check:  "it says ok",
			IfNot:  "crictl logs of kube-apiserver and of etcd",
		}})...)
		b.p.Hosts = append(b.p.Hosts, h)
	}
	for i, m := range b.p.Joining {
		h := Host{Name: m.Name}
		h.add(b.reallyLost(&lost[i])...)
		h.add(b.phase(PhaseJoin, o.replace(b, &m, lost[i].MemberID))...)
		b.p.Hosts = append(b.p.Hosts, h)
	}
	return nil
}

func (o openshift4) replace(b *builder, m *Member, old inspect.ID) []Step {
	data := b.p.DataDir
	steps := b.keepKubernetes("static-pod-resources")
	steps = append(steps, b.moveManifests("stop the etcd that does not start", "etcd-pod")...)
	steps[len(steps)-1].Argv[4] = "^(etcd|etcdctl|etcd-metrics|etcd-readyz|etcd-rev)$"
	keep := keepStep("a member joins with an empty directory; keep the old data", data+"/member", b.onHost("member"), "stop what holds it")
	keep.Refuses = append(keep.Refuses, Guard{Kind: GuardInUse, Path: data + "/member/snap/db"})
	survivor := "etcd-" + b.p.Members[0].Name
	return append(steps, keep, Step{
		Why:   "the others forget the dead member first, so that the majority is counted without it",
		Argv:  []string{"oc", "-n", "openshift-etcd", "exec", survivor, "-c", "etcdctl", "--", "etcdctl", "member", "remove", old.String()},
		Check: "etcdctl member list there does not show it",
		IfNot: "without a kubeconfig of a cluster administrator: export " + recoveryEnv,
	}, Step{
		Why:   "let the operator roll out with a member missing",
		Argv:  []string{"oc", "patch", "etcd/cluster", "--type=merge", "-p", `{"spec":{"unsupportedConfigOverrides":{"useUnsupportedUnsafeNonHANonProductionUnstableEtcd":true}}}`},
		Check: "it says patched",
		IfNot: "before 4.9 there is no such guard: go on",
	}, Step{
		Why:   "certificates of the old member must be made anew",
		Argv:  []string{"oc", "-n", "openshift-etcd", "delete", "secret", "--ignore-not-found", "etcd-peer-" + m.Name, "etcd-serving-" + m.Name, "etcd-serving-metrics-" + m.Name},
		Check: "oc -n openshift-etcd get secrets shows them again, younger",
		IfNot: "they are in the copy of /etc/kubernetes, too",
	}, Step{
		Why:   "have the operator make the member anew",
		Argv:  []string{"oc", "patch", "etcd", "cluster", "--type=merge", "-p", `{"spec":{"forceRedeploymentReason":"single-master-recovery-` + b.p.Tag + `"}}`},
		Check: "oc -n openshift-etcd get pods shows etcd-" + m.Name + " with all containers ready; etcdctl member list in one of them shows it started",
		IfNot: "oc -n openshift-etcd-operator logs deployment/etcd-operator",
	}, Step{
		Why:   "when all members are healthy, guard the majority again",
		Argv:  []string{"oc", "patch", "etcd/cluster", "--type=merge", "-p", `{"spec":{"unsupportedConfigOverrides":null}}`},
		Check: "oc get etcd/cluster -o yaml shows no unsupportedConfigOverrides",
		IfNot: "patch it again: without the guard two members may be taken down at once",
	})
}

func (o openshift4) warn(b *builder) {
	p := b.p
	p.warn("z-stream", "a restore needs the same z-stream release as the backup", "reinstall or update the hosts to it first")
	p.warn("static-kuberesources", "the script restores static pods and encryption keys from static_kuberesources_*.tar.gz of the same backup, without which encrypted objects cannot be read", "keep both files together; a name with __POSSIBLY_DIRTY__ says that the backup was forced")
	p.warn("scripts-backup", "the script deletes the member that a restore before has moved to "+scriptBackup, "the plan keeps it aside")
	p.warn("single", "ETCD_ETCDCTL_RESTORE=1 makes the script restore with the default name and URL and without raising revisions", "do not set it, unless the cluster has a single node")
	p.warn("quorum-restore", "since 4.18 sudo -E /usr/local/bin/quorum-restore.sh on a host whose data is whole brings its etcd back as a cluster of one, without any backup", "take it when this source is such a host and its directory is still in place")
	if len(p.Joining) > 0 {
		p.warn("reboot", "until all members are healthy no control plane may be rebooted, replaced or scaled", "")
	}
}

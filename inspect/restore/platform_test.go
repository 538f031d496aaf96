package restore_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/restore"
)

// linesOf are the commands of a plan in the order in which they are run on hosts in step:
// phase, host, arguments with spaces between; what a person does begins with "by hand".
func linesOf(p *restore.Plan) []string {
	var lines []string
	add := func(host string, steps []restore.Step, phase restore.Phase) {
		for _, s := range steps {
			if s.Phase != phase {
				continue
			}
			line := fmt.Sprintf("%s %s: %s", phase, host, strings.Join(append(slices.Clone(s.Env), s.Argv...), " "))
			if len(s.Argv) == 0 {
				line = fmt.Sprintf("%s %s: by hand: %s", phase, host, s.Why)
			}
			if s.StdoutTo != "" {
				line += " >" + s.StdoutTo
			}
			if s.AppendTo != "" {
				line += " >>" + s.AppendTo
			}
			lines = append(lines, line)
		}
	}
	for _, phase := range append([]restore.Phase{restore.PhaseHere}, restore.Phases...) {
		add("here", p.Here, phase)
		for _, h := range p.Hosts {
			add(h.Name, h.Steps, phase)
		}
	}
	return lines
}

// inOrder looks for texts in lines, each in the line of the one before or behind it.
func inOrder(t *testing.T, what string, lines, texts []string) {
	t.Helper()
	rest := lines
	for _, text := range texts {
		i := slices.IndexFunc(rest, func(l string) bool { return strings.Contains(l, text) })
		if i < 0 {
			t.Errorf("%s: no %q from %q on, in\n%s", what, text, rest[0], strings.Join(lines, "\n"))
			return
		}
		rest = rest[i:]
	}
}

// TestPlatformsDoWhatTheirDocumentationSays holds each platform's plan against its
// essentials: paths, commands, and their order.
func TestPlatformsDoWhatTheirDocumentationSays(t *testing.T) {
	snapshot, database, crashed := caseOf(t, "healthy-3.6", "snapshot.db"), caseOf(t, "healthy-3.6", "m1/member/snap/db"), caseOf(t, "cluster3-3.6-crash", "m1")
	tests := []struct {
		platform string
		c        *inspect.Case
		single   bool
		want     []string
		warns    []string
	}{
		{"plain", snapshot, false, []string{
			"stop a: by hand: stop every API server", "stop a: by hand: stop etcd", "restore a: etcdutl snapshot restore", "restore a: chmod 700 /var/lib/etcd",
			"start a: by hand: start etcd", "resume a: by hand: start the API servers",
		}, nil},
		{"systemd", snapshot, false, []string{
			"prepare a: systemctl show etcd -p Environment -p EnvironmentFiles -p ExecStart -p User",
			"stop a: by hand: stop every API server", "stop a: systemctl stop etcd", "stop c: systemctl stop etcd",
			"restore a: etcdutl snapshot restore", "restore a: sh -c if [ -e \"$1\" ]; then mv \"$1\" \"$2\"; fi sh /var/lib/etcd/member /var/lib/etcd/before-",
			"restore a: mv", "restore a: chown -R etcd:etcd /var/lib/etcd", "restore a: chmod 700 /var/lib/etcd", "restore a: restorecon -R /var/lib/etcd",
			"restore c: etcdutl snapshot restore", "start a: systemctl start --no-block etcd", "start c: systemctl start --no-block etcd", "verify a: etcdctl", "resume a: by hand: start the API servers",
		}, []string{"kubernetes"}},
		{"docker", database, false, []string{
			"prepare a: sh -c image=$(docker inspect -f \"{{.Config.Image}}\" etcd)", "prepare a: docker inspect etcd >",
			"stop a: by hand: stop every API server", "stop a: docker update --restart=no etcd", "stop a: docker stop etcd",
			"--volume=\"$v1\" --volume=\"$v2\" --entrypoint=\"$tool\" \"$image\" \"$@\" sh /var/lib/etcd-restore:/etcd-restore:ro /var/lib/etcd:/etcd-data etcdutl snapshot restore /etcd-restore/",
			"restore a: chown -R --reference=/var/lib/etcd", "start a: docker start etcd", "start a: docker update --restart=always etcd", "verify a: docker exec",
		}, nil},
		{"docker", snapshot, true, []string{
			"join b: sh -c if [ -e", "docker run --rm --net=host --volumes-from=etcd:ro", "etcdctl", "join b: by hand: make the container again as it was", "--initial-cluster-state=existing",
		}, nil},
		{"rke1", snapshot, false, []string{
			"prepare a: docker inspect etcd >", "stop a: sh -c for c; do if docker inspect", "kube-apiserver kube-controller-manager kube-scheduler", "stop a: docker stop etcd",
			"/var/lib/etcd:/var/lib/rancher/etcd etcdutl snapshot restore /etcd-restore/", "start a: docker start etcd", "start a: docker update --restart=always etcd",
			"verify a: docker exec --env=ETCDCTL_API=3 --env=ETCDCTL_ENDPOINTS=https://10.0.0.1:2379 etcd etcdctl endpoint health",
			"resume a: sh -c for c; do if docker inspect", "sh kubelet kube-proxy",
		}, []string{"rke1"}},
		{"kubeadm", snapshot, false, []string{
			"prepare a: grep -E -- --(name|data-dir|wal-dir|initial-cluster|initial-advertise-peer-urls|force-new-cluster)=|path:  /etc/kubernetes/manifests/etcd.yaml",
			"stop a: cp -a /etc/kubernetes /var/lib/etcd-restore/", "/etc/kubernetes/manifests/kube-apiserver.yaml", "stop a: crictl ps -q --name ^(kube-apiserver|",
			"stop a: sh -c d=$1; shift;", "/etc/kubernetes/manifests/etcd.yaml", "stop a: crictl ps -q --name ^(etcd)$", "stop c: crictl ps -q --name ^(etcd)$",
			"restore a: etcdutl snapshot restore", "--bump-revision=1000000000 --mark-compacted", "restore a: chown -R --reference=/var/lib/etcd", "restore a: chmod 700 /var/lib/etcd", "restore a: restorecon -R /var/lib/etcd",
			"start a: sh -c if [ -e", "/etc/kubernetes/manifests/etcd.yaml", "verify a: sh -c id=$(crictl ps -q --name \"^etcd\\$\")",
			"--cacert=/etc/kubernetes/pki/etcd/ca.crt --cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt --key=/etc/kubernetes/pki/etcd/healthcheck-client.key endpoint health",
			"resume a: sh -c if [ -e", "/etc/kubernetes/manifests/kube-apiserver.yaml", "kube-controller-manager.yaml", "resume a: systemctl restart kubelet", "resume c: systemctl restart kubelet",
		}, []string{"manifests", "hostpath", "pki", "same-file"}},
		{"kubeadm", snapshot, true, []string{
			"stop a: crictl ps -q --name ^(kube-apiserver|", "stop b: crictl ps -q --name ^(etcd)$", "restore a: etcdutl", "join b: sh -c", "/var/lib/etcd/member", "join b: sh -c", "etcdctl --endpoints=https://10.0.0.1:2379 --cacert=",
			"join b: by hand: in /var/lib/etcd-restore/", "--initial-cluster-state=existing, --initial-cluster=a=https://10.0.0.1:2380,b=https://10.0.0.2:2380", "join c: ",
		}, nil},
		{"k3s-external", snapshot, false, []string{
			"stop a: by hand: on every K3s server: systemctl stop k3s", "stop a: systemctl stop etcd", "restore a: etcdutl", "start a: systemctl start --no-block etcd",
			"resume a: by hand: on every K3s server --datastore-endpoint must name the new members only: https://10.0.0.1:2379,https://10.0.0.2:2379", "resume a: by hand: on every K3s server: systemctl start k3s",
		}, []string{"server-token", "cluster-reset"}},
		{"k3s", snapshot, false, []string{
			"prepare a: sha256sum", "/var/lib/rancher/k3s/server/token", "stop a: systemctl stop k3s", "stop b: systemctl stop k3s", "stop c: systemctl stop k3s",
			"/var/lib/rancher/k3s/server/db/reset-flag", "restore a: k3s server --cluster-reset --cluster-reset-restore-path=/var/lib/etcd-restore/", "start a: systemctl start k3s",
			"verify a: k3s kubectl get --raw=/readyz", "resume a: by hand: on every agent systemctl restart k3s-agent",
			"join b: sh -c if [ -e \"$1\" ]; then mv \"$1\" \"$2\"; fi sh /var/lib/rancher/k3s/server/db /var/lib/rancher/k3s/server/db.before-", "join b: systemctl start k3s", "join c: systemctl start k3s",
		}, []string{"server-token", "reset-flag", "s3", "wipe", "ids", "revisions"}},
		{"k3s", database, true, []string{
			"restore a: cp -- /var/lib/etcd-restore/", "restore a: openssl dgst -sha256 -binary /var/lib/etcd-restore/", "hashed.db --etcd-s3=false",
		}, nil},
		{"rke2", snapshot, false, []string{
			"stop a: systemctl stop rke2-server", "stop a: rke2-killall.sh", "stop c: rke2-killall.sh", "restore a: rke2 server --cluster-reset --cluster-reset-restore-path=/var/lib/etcd-restore/",
			"start a: systemctl start rke2-server", "verify a: /var/lib/rancher/rke2/bin/kubectl --kubeconfig=/etc/rancher/rke2/rke2.yaml get --raw=/readyz",
			"/var/lib/rancher/rke2/server/db /var/lib/rancher/rke2/server/db.before-", "join b: systemctl start rke2-server",
		}, []string{"cis", "rancher", "server-token", "reset-flag"}},
		{"openshift", database, false, []string{
			"prepare a: ls -l /usr/local/bin/cluster-restore.sh", "stop a: sh -c d=$1", "/etc/kubernetes/manifests/kube-apiserver-pod.yaml", "stop a: crictl ps -q --name ^(kube-apiserver|", "/etc/kubernetes/manifests/etcd-pod.yaml",
			"stop b: sh -c if [ -e", "/var/lib/etcd/member", "restore a: mkdir -p -m 700", "-backup/snapshot_", "restore a: openssl dgst -sha256 -binary", "restore a: by hand: put static_kuberesources_*.tar.gz",
			"/var/lib/etcd-backup/member /var/lib/etcd-backup/before-", "restore a: find /var/lib/etcd -mindepth 1", "restore a: ETCD_ETCDCTL_RESTORE_ENABLE_BUMP=true /usr/local/bin/cluster-restore.sh /var/lib/etcd-restore/",
			"start a: systemctl restart kubelet", "oc get --raw=/readyz", "resume a: by hand: until the cluster is stable again", `"forceRedeploymentReason":"recovery-`, "join b: by hand: the operator puts",
		}, []string{"z-stream", "static-kuberesources", "scripts-backup", "quorum-restore", "revisions"}},
		{"kops", database, false, []string{
			"here here: openssl dgst", "here here: gzip -c --", "here here: by hand: put it into the store", "prepare here: by hand: all control plane machines must be up",
			"prepare here: by hand: list the backups: etcd-manager-ctl --backup-store=STORE/backups/etcd/main list-backups", "stop here: by hand: stop the API server",
			"restore here: by hand: command the restore: etcd-manager-ctl --backup-store=STORE/backups/etcd/main restore-backup", "etcd-manager-ctl --backup-store=STORE/backups/etcd/events restore-backup",
			"start here: by hand: restart etcd-manager", "resume here: by hand: delete addresses of API servers that are gone: etcdctl --endpoints=https://127.0.0.1:4001 del /registry/masterleases/", "resume here: by hand: start the API servers",
		}, []string{"revisions", "two-clusters"}},
		{"talos", database, false, []string{
			"talosctl -n 10.0.0.1,10.0.0.2,10.0.0.3 service etcd", "prepare here: by hand: keep what \"a\" has, if it answers, as the reset deletes it: talosctl -n 10.0.0.1 copy /var/lib/etcd talos-", "talosctl -n 10.0.0.3 copy /var/lib/etcd",
			"stop here: by hand: reset every control plane machine, API servers and etcd with it: talosctl -n 10.0.0.1,10.0.0.2,10.0.0.3 reset --graceful=false --reboot --system-labels-to-wipe=EPHEMERAL",
			"restore here: talosctl --nodes=10.0.0.1 service etcd", "restore here: talosctl --nodes=10.0.0.1 bootstrap --recover-from=", "--recover-skip-hash-check", "join here: talosctl --nodes=10.0.0.1 etcd members",
		}, []string{"secrets", "ephemeral", "bootstrap", "members"}},
		{"dcos", crashed, false, nil, nil},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s single=%v", tt.platform, tt.single), func(t *testing.T) {
			o := restore.Options{Platform: tt.platform, Members: three, Single: tt.single}
			if tt.platform == "dcos" || tt.platform == "kops" {
				o.Members = nil
			}
			if tt.want == nil {
				p := restore.New(tt.c, o)
				if p.Refused == nil || !strings.Contains(*p.Refused, "1 of 3 voters start") || !strings.Contains(p.Instead, "dcos kubernetes restore") {
					t.Errorf("not refused, or not with the way out: %+v", p)
				}
				return
			}
			p := planned(t, tt.c, o)
			inOrder(t, tt.platform, linesOf(p), tt.want)
			for _, about := range tt.warns {
				if !warns(p, about) {
					t.Errorf("no warning about %s", about)
				}
			}
			for _, f := range harms(p) {
				t.Error(f)
			}
		})
	}
}

// byThemselves are the platforms that give token and ids themselves.
var byThemselves = []string{"k3s", "rke2", "openshift", "kops", "talos"}

func TestNothingIsClaimedThatThePlatformDecides(t *testing.T) {
	c := caseOf(t, "healthy-3.6", "snapshot.db")
	for _, platform := range restore.Platforms() {
		if platform == "dcos" {
			continue
		}
		p := planned(t, c, restore.Options{Platform: platform})
		own := slices.Contains(byThemselves, platform)
		if p.IDsByPlatform != own || (p.Token == "") != own || (p.ClusterID == 0) != own || (p.Members[0].MemberID == nil) != own || (p.Revision.Bump == 0) != own || (p.Revision.Restored == nil) != own {
			t.Errorf("%s: by platform %v, token %q, cluster %s, member %v, %+v", platform, p.IDsByPlatform, p.Token, p.ClusterID, p.Members[0].MemberID, p.Revision)
		}
		for _, line := range linesOf(p) {
			if own && (strings.Contains(line, "initial-cluster") || strings.Contains(line, "bump-revision")) {
				t.Errorf("%s: %s", platform, line)
			}
		}
	}
}

func TestFlagsWithoutMeaningAreRefused(t *testing.T) {
	for _, tt := range []struct {
		o    restore.Options
		want string
	}{
		{restore.Options{Platform: "k3s", Token: "x"}, "--token has no meaning with --platform k3s"},
		{restore.Options{Platform: "rke2", WALDir: "/wal"}, "--new-wal-dir has no meaning"},
		{restore.Options{Platform: "k3s", DataDir: "/data/etcd"}, "must end with /server/db/etcd"},
		{restore.Options{Platform: "k3s", DataDir: "/data/k3s/server/db/etcd"}, ""},
		{restore.Options{Platform: "k3s", Members: three}, ""},
		{restore.Options{Platform: "openshift", DataDir: "/data"}, "--data-dir has no meaning"},
		{restore.Options{Platform: "kops", Members: three}, "--member has no meaning"},
		{restore.Options{Platform: "talos", Token: "x"}, "--token has no meaning"},
		{restore.Options{Platform: "talos", WorkDir: "/work"}, "--work-dir has no meaning"},
		{restore.Options{Platform: "dcos", Members: three}, "--member has no meaning"},
		{restore.Options{Platform: "systemd", Token: "x", Members: three, DataDir: "/data", WALDir: "/wal", WorkDir: "/work"}, ""},
	} {
		err := tt.o.Check()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.o, err, tt.want)
		}
	}
	moved := planned(t, caseOf(t, "healthy-3.6", "snapshot.db"), restore.Options{Platform: "k3s", DataDir: "/data/k3s/server/db/etcd"})
	inOrder(t, "data elsewhere", linesOf(moved), []string{"/data/k3s/server/token", "--etcd-s3=false --data-dir=/data/k3s"})
}

// TestContainersSeeEveryPath: each path that a command in a container is given lies under
// one of its mounts.
func TestContainersSeeEveryPath(t *testing.T) {
	for _, o := range []restore.Options{{}, {WALDir: "/wal/etcd"}, {DataDir: "/data", WorkDir: "/data-restore"}, {DataDir: "/var/lib/docker/volumes/etcd-data/_data/etcd", WorkDir: "/srv/work"}} {
		for platform, data := range map[string]string{"docker": "/etcd-data", "rke1": "/var/lib/rancher/etcd"} {
			o.Platform, o.Members, o.EtcdVersion = platform, three, "3.6"
			for _, argv := range restores(planned(t, caseOf(t, "healthy-3.6", "snapshot.db"), o)) {
				i := slices.Index(argv, "snapshot")
				dir, _ := flag(argv, "data-dir")
				wal, hasWAL := flag(argv, "wal-dir")
				if !strings.HasPrefix(argv[i+2], "/etcd-restore/") || !strings.HasPrefix(dir, data+"/restore-") || hasWAL != (o.WALDir != "") || hasWAL && !strings.HasPrefix(wal, "/etcd-wal/etcd.restore-") {
					t.Errorf("%+v: %q", o, argv)
				}
				if hasWAL && !slices.Contains(argv, "/wal:/etcd-wal") {
					t.Errorf("no mount for the log: %q", argv)
				}
			}
		}
	}
	old := planned(t, caseOf(t, "healthy-3.4", "snapshot.db"), restore.Options{Platform: "docker"})
	inOrder(t, "an image of 3.4", linesOf(old), []string{"--env=ETCDCTL_API=3", "etcdctl snapshot restore"})
}

// TestEtcdIsNotStartedWithoutData: units, containers and pods make an empty directory
// where there is none, and an empty cluster comes up in it.
func TestEtcdIsNotStartedWithoutData(t *testing.T) {
	c := caseOf(t, "healthy-3.6", "snapshot.db")
	for _, platform := range []string{"plain", "systemd", "docker", "rke1", "kubeadm", "k3s", "k3s-external", "rke2"} {
		for _, h := range planned(t, c, restore.Options{Platform: platform, Members: three, Single: true}).Hosts {
			i := slices.IndexFunc(h.Steps, func(s restore.Step) bool { return s.Phase == restore.PhaseStart })
			if i < 0 {
				continue // joins
			}
			if !slices.ContainsFunc(h.Steps[i].Refuses, func(g restore.Guard) bool {
				return g.Kind == restore.GuardMissing && strings.HasSuffix(g.Path, "/member/snap/db")
			}) {
				t.Errorf("%s starts %s whatever is there", platform, h.Name)
			}
		}
	}
}

// TestOneLostMemberIsReplaced: with a majority that starts nothing is restored, on any
// platform.
func TestOneLostMemberIsReplaced(t *testing.T) {
	c := caseOf(t, "cluster3-3.6-crash", "m1", "m3")
	for platform, want := range map[string][]string{
		"systemd":   {"start m1: systemctl start", "join m2: systemctl stop etcd", "/var/lib/etcd/before-", "join m2: sh -c", "9feae7ddbad852a2", "join m2: systemctl start etcd"},
		"docker":    {"start m1: docker start etcd", "join m2: docker stop etcd", "--volumes-from=etcd:ro"},
		"rke1":      {"start m1: docker start etcd", "join m2: docker stop etcd", "9feae7ddbad852a2"},
		"kubeadm":   {"start m1: sh -c", "join m2: crictl ps", "--cacert=/etc/kubernetes/pki/etcd/ca.crt", "by hand: in "},
		"k3s":       {"start m1: systemctl start k3s", "join m2: by hand: on a server that runs: k3s kubectl delete node", "/var/lib/rancher/k3s/server/db", "join m2: systemctl start k3s"},
		"rke2":      {"start m1: systemctl start rke2-server", "join m2: systemctl start rke2-server"},
		"openshift": {"join m2: cp -a /etc/kubernetes", "/etc/kubernetes/manifests/etcd-pod.yaml", "/var/lib/etcd/member", "oc -n openshift-etcd exec etcd-m1 -c etcdctl -- etcdctl member remove 9feae7ddbad852a2", "oc -n openshift-etcd delete secret --ignore-not-found etcd-peer-m2 etcd-serving-m2 etcd-serving-metrics-m2", "single-master-recovery-", `"unsupportedConfigOverrides":null`},
		"kops":      {"join here: by hand: replace \"m2\" (9feae7ddbad852a2)"},
		"talos":     {"start here: talosctl", "talosctl -n 127.0.0.1 copy /var/lib/etcd", "etcd remove-member 9feae7ddbad852a2", "by hand: reset its machine"},
		"dcos":      {"join here: by hand: replace \"m2\" (9feae7ddbad852a2) on another agent: dcos kubernetes --name=SERVICE pod replace"},
	} {
		p := planned(t, c, restore.Options{Platform: platform})
		inOrder(t, platform, linesOf(p), want)
		if p.Way != restore.WayRejoin || p.IDsByPlatform {
			t.Errorf("%s: way %s", platform, p.Way)
		}
		for _, f := range harms(p) {
			t.Errorf("%s: %s", platform, f)
		}
	}
}

// TestSentencesHoldNoCommandsOfTheEvidence: what a person is told to do is copied by hand,
// so that no name in it may be one that a shell takes for more.
func TestSentencesHoldNoCommandsOfTheEvidence(t *testing.T) {
	c := caseOf(t, "healthy-3.6", "snapshot.db")
	evil := []restore.NewMember{
		{Name: "$(reboot)", PeerURLs: []string{"http://$(reboot):2380"}}, {Name: "x; rm -rf /", PeerURLs: []string{"http://10.0.0.2:2380"}}, {Name: "`halt`'\"&|>", PeerURLs: []string{"http://10.0.0.3:2380"}},
	}
	for _, platform := range restore.Platforms() {
		o := restore.Options{Platform: platform, Members: evil, Single: true}
		if o.Check() != nil {
			continue // takes no members
		}
		p := planned(t, c, o)
		steps := slices.Clone(p.Here)
		for _, h := range p.Hosts {
			steps = append(steps, h.Steps...)
		}
		for _, s := range steps {
			rest := s.Why
			for _, m := range evil {
				rest = strings.ReplaceAll(rest, fmt.Sprintf("%q", m.Name), "")
			}
			for _, part := range []string{"$(", "rm -rf", "`"} {
				if len(s.Argv) == 0 && strings.Contains(rest, part) || strings.Contains(s.IfNot, part) {
					t.Errorf("%s: %s; %s", platform, s.Why, s.IfNot)
				}
			}
		}
	}
}

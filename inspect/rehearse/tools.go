package rehearse

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/version"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/restore"
	"etcd-forensics/inspect/source"
)

// tools are the etcd and the restore command of a rehearsal.
type tools struct {
	etcd, etcdutl               string // paths; "" for those that are built in
	etcdVersion, etcdutlVersion string // as 3.5.21
}

// toolTimeout is how long a program may take to say its version.
const toolTimeout = 20 * time.Second

// findTools asks the binaries for their versions.
func findTools(ctx context.Context, o Options) (tools, error) {
	t := tools{etcdVersion: version.Version, etcdutlVersion: version.Version}
	var err error
	if o.EtcdBinary != "" {
		if t.etcd, t.etcdVersion, err = askVersion(ctx, o.EtcdBinary, "--version", `(?m)^etcd Version: (\S+)`); err != nil {
			return t, err
		}
	}
	if o.EtcdutlBinary != "" {
		if t.etcdutl, t.etcdutlVersion, err = askVersion(ctx, o.EtcdutlBinary, "version", `(?m)^etcd(?:utl|ctl) version: (\S+)`); err != nil {
			return t, err
		}
	}
	if minorOf(t.etcdVersion) != minorOf(t.etcdutlVersion) {
		return t, fmt.Errorf("etcd %s would run on what the restore command of %s made; give --etcd-binary and --etcdutl-binary of one minor version", t.etcdVersion, t.etcdutlVersion)
	}
	return t, nil
}

// askVersion finds a program and its version.
func askVersion(ctx context.Context, name, argument, says string) (path, version string, err error) {
	if path, err = exec.LookPath(name); err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", "", fmt.Errorf("%s is no program: %w", name, errors.Unwrap(err))
	}
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, argument)
	cmd.Env = append(cmd.Environ(), "ETCDCTL_API=3")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	found := regexp.MustCompile(says).FindSubmatch(out)
	if found == nil {
		return "", "", fmt.Errorf("%s %s does not say the version of etcd (%v)", name, argument, err)
	}
	return path, string(found[1]), nil
}

// versions say what runs.
func (t *tools) versions() Versions {
	in := func(path, name, version string) string {
		if path == "" {
			return name + " " + version + " (built in)"
		}
		return filepath.Base(path) + " " + version
	}
	return Versions{Restore: in(t.etcdutl, "etcdutl", t.etcdutlVersion), Etcd: in(t.etcd, "etcd", t.etcdVersion)}
}

// minorOf gives 3.7 of 3.7.3.
func minorOf(version string) string {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 2 {
		return version
	}
	return parts[0] + "." + parts[1]
}

// newer says whether the minor version of one is above that of the other.
func newer(one, other string) bool {
	number := func(version string) int {
		_, minor, _ := strings.Cut(minorOf(version), ".")
		n, err := strconv.Atoi(minor)
		if err != nil {
			return -1
		}
		return n
	}
	return number(one) > number(other)
}

const giveBinaries = "give --etcd-binary and --etcdutl-binary of the version that will run"

// refuses says why the etcd of the rehearsal would not start what the evidence holds: no
// server goes back behind the versions that a database names, nor starts every directory
// of another version.
func (h *rehearsal) refuses() string {
	ran, b := h.tools.etcdVersion, h.member.Backend
	if b == nil {
		b = &inspect.Backend{}
	}
	for _, v := range []*string{b.StorageVersion, b.ClusterVersion} {
		if v != nil && newer(*v, ran) {
			return fmt.Sprintf("the evidence is of etcd %s, which etcd %s cannot start; %s", *v, ran, giveBinaries)
		}
	}
	if minorOf(h.plan.EtcdVersion) == minorOf(ran) {
		return ""
	}
	for _, s := range h.started() {
		for _, u := range h.memberOf(s).Startup {
			if u.EtcdVersion == minorOf(ran) && u.Starts != nil && !*u.Starts {
				return fmt.Sprintf("etcd %s does not start %s (%s); %s", ran, s.Path, u.Error, giveBinaries)
			}
		}
	}
	return ""
}

// started are the directories that the plan starts as they are.
func (h *rehearsal) started() []*source.Source {
	switch h.plan.Way {
	case restore.WayRejoin:
		return h.comeBack()
	case restore.WayForceNewCluster:
		return []*source.Source{h.source}
	}
	return nil
}

// restore makes the order that restores a member.
func (t *tools) restore(o restoreOrder) order {
	if t.etcdutl == "" {
		return order{Restore: &o}
	}
	argv := []string{
		t.etcdutl, "snapshot", "restore", o.File, "--data-dir=" + o.DataDir, "--name=" + o.Name, "--initial-cluster=" + o.InitialCluster,
		"--initial-advertise-peer-urls=" + o.PeerURL, "--initial-cluster-token=" + o.Token,
	}
	if o.SkipHashCheck {
		argv = append(argv, "--skip-hash-check")
	}
	if o.Bump > 0 {
		argv = append(argv, "--bump-revision="+strconv.FormatUint(o.Bump, 10), "--mark-compacted")
	}
	return order{Run: &runOrder{Argv: argv, Ends: true}}
}

// serve makes the order that starts a member.
func (t *tools) serve(o serveOrder) order {
	if t.etcd == "" {
		return order{Serve: &o}
	}
	argv := []string{
		t.etcd, "--name=" + o.Name, "--data-dir=" + o.DataDir, "--listen-peer-urls=" + o.PeerURL, "--initial-advertise-peer-urls=" + o.PeerURL,
		"--listen-client-urls=" + o.ClientURL, "--advertise-client-urls=" + o.ClientURL, "--initial-cluster=" + o.InitialCluster,
		"--quota-backend-bytes=" + strconv.FormatInt(o.Quota, 10),
	}
	if o.ForceNewCluster {
		argv = append(argv, "--force-new-cluster")
	}
	return order{Run: &runOrder{Argv: argv}}
}

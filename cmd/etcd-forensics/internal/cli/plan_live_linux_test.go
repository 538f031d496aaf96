package cli_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"etcd-forensics/cmd/etcd-forensics/internal/cli"
	"etcd-forensics/fixtures"
)

// The scripts that plan writes are run here as an operator would run them, with real
// etcd of the version that the plan names. The hosts of one cluster are addresses of the
// loopback network.

// liveVersions are the minor versions asked for in the environment, as 3.4,3.5; the
// current one when it is not set.
func liveVersions() []string {
	if v := os.Getenv("PLAN_LIVE_VERSIONS"); v != "" {
		return strings.Split(v, ",")
	}
	return []string{"3.7"}
}

// toolsModules have etcd, etcdctl and etcdutl of one minor version each.
var toolsModules = map[string]string{"3.5": "tools35", "3.6": "tools36", "3.7": "tools37"}

var (
	toolsOnce sync.Mutex
	toolsMade = map[string]string{}
)

// etcdTools gives a folder with the binaries of a minor version.
func etcdTools(t *testing.T, minor string) string {
	t.Helper()
	toolsOnce.Lock()
	defer toolsOnce.Unlock()
	if dir := toolsMade[minor]; dir != "" {
		return dir
	}
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("etcd-forensics-tools-%d-%s", os.Getpid(), minor))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	toolsMade[minor] = dir
	if minor == "3.4" {
		for _, name := range []string{"etcd", "etcdctl"} {
			path, err := exec.LookPath(name)
			if err != nil {
				t.Skip("skipped: there is no etcd 3.4 on this machine")
			}
			if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	for name, pkg := range map[string]string{"etcd": "server", "etcdctl": "etcdctl", "etcdutl": "etcdutl"} {
		build := exec.Command("go", "build", "-o", filepath.Join(dir, name), "go.etcd.io/etcd/"+pkg+"/v3")
		build.Dir = filepath.Join("..", "..", "..", "..", "fixtures", "gen", toolsModules[minor])
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("building %s of etcd %s: %v\n%s", name, minor, err, out)
		}
	}
	return dir
}

func removeTools() {
	for _, dir := range toolsMade {
		os.RemoveAll(dir)
	}
}

// A liveHost is one host of a rehearsed cluster.
type liveHost struct {
	name, addr string // addr is where clients reach it
	root       string // of the host's folders
	script     string
}

func (h *liveHost) dataDir() string { return filepath.Join(h.root, "etcd") }
func (h *liveHost) workDir() string { return filepath.Join(h.root, "work") }

// A liveCluster runs the scripts of one plan.
type liveCluster struct {
	t     *testing.T
	tools string
	dir   string
	hosts []*liveHost
	plan  struct {
		Way  string
		File struct {
			Path, OnHost string
			SHA256       *string
		}
		Revision struct {
			Source, Highest int64
			Bump            uint64
		}
		Members, Joining []struct {
			Name, MemberID string
			ClientURLs     []string
		}
		Refused   *string
		ClusterID string
	}
}

// newLiveCluster plans for n hosts as the members of the cluster to be, each with folders
// of its own. args are further arguments of plan.
func newLiveCluster(t *testing.T, minor string, n int, paths []string, args ...string) *liveCluster {
	t.Helper()
	var net [2]byte
	rand.Read(net[:])
	var hosts []*liveHost
	for i := range n {
		hosts = append(hosts, &liveHost{name: fmt.Sprintf("n%d", i+1), addr: fmt.Sprintf("127.%d.%d.%d:2379", 1+net[0]%200, net[1], i+1)})
	}
	c := newLiveHosts(t, minor, hosts)
	c.makePlans(paths, append(append([]string{"--token", "live-token"}, memberArgs(hosts)...), args...)...)
	return c
}

// newLiveHosts makes the folders of hosts.
func newLiveHosts(t *testing.T, minor string, hosts []*liveHost) *liveCluster {
	t.Helper()
	c := &liveCluster{t: t, tools: etcdTools(t, minor), dir: t.TempDir(), hosts: hosts}
	for _, h := range hosts {
		h.root = filepath.Join(c.dir, h.name)
		for _, dir := range []string{h.dataDir(), h.workDir()} {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Cleanup(c.kill)
	// A fake scp, for hosts that are all this machine.
	if err := os.Mkdir(filepath.Join(c.dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	c.write(filepath.Join("bin", "scp"), "#!/bin/sh\n[ \"$1\" = -p ] && exec cp -p \"$2\" \"${3#*:}\"\n", 0o700)
	// The program itself, which steps where the evidence is may run: this test under the
	// program's name.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.dir, "bin", "etcd-forensics"), b, 0o700); err != nil {
		t.Fatal(err)
	}
	return c
}

// makePlans plans for each host, whose folders differ from the others', and does what is
// done where the evidence is.
func (c *liveCluster) makePlans(paths []string, args ...string) {
	c.t.Helper()
	for _, h := range c.hosts {
		scripts := filepath.Join(h.root, "scripts")
		all := []string{"plan", "-w", "json", "--etcd-version", c.version(), "--data-dir", h.dataDir(), "--work-dir", h.workDir(), "--script", scripts}
		all = append(all, args...)
		var out, complaints bytes.Buffer
		if code := cli.Run(context.Background(), cli.Streams{Out: &out, Err: &complaints}, append(all, paths...)); code != cli.ExitSound {
			c.t.Fatalf("plan: exit %d: %s%s", code, complaints.String(), out.String())
		}
		if err := json.Unmarshal(out.Bytes(), &c.plan); err != nil {
			c.t.Fatal(err)
		}
		for i, m := range append(c.plan.Members, c.plan.Joining...) {
			if m.Name == h.name {
				h.script = filepath.Join(scripts, fmt.Sprintf("%02d-%s.sh", i+1, h.name))
			}
		}
		here := filepath.Join(scripts, "00-here.sh")
		if _, err := os.Stat(here); err == nil {
			c.here(h, here)
		}
	}
}

// version is that of the binaries, with its patch.
func (c *liveCluster) version() string {
	c.t.Helper()
	out, err := exec.Command(filepath.Join(c.tools, "etcdctl"), "version").Output()
	if err != nil {
		c.t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(out), "etcdctl version: ")
	text, _, _ = strings.Cut(text, "\n")
	return text
}

// memberArgs name the hosts as members of the new cluster.
func memberArgs(hosts []*liveHost) []string {
	var args []string
	for _, h := range hosts {
		args = append(args, "--member", h.name+"=http://"+strings.Replace(h.addr, ":2379", ":2380", 1))
	}
	return args
}

func (c *liveCluster) write(name, text string, mode os.FileMode) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), mode); err != nil {
		c.t.Fatal(err)
	}
}

func (c *liveCluster) env() []string {
	env := []string{"PATH=" + c.tools + ":" + filepath.Join(c.dir, "bin") + ":" + os.Getenv("PATH"), "CONFIRM=yes", "HOME=" + c.dir}
	return append(env, "ETCD_UNSUPPORTED_ARCH="+runtime.GOARCH)
}

// shell runs a script and gives what it says.
func (c *liveCluster) shell(dir, script string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", append([]string{script}, args...)...)
	cmd.Dir, cmd.Env = dir, c.env()
	out, err := os.CreateTemp(c.dir, "out-")
	if err != nil {
		c.t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out // a file: a server in the background keeps it open
	err = cmd.Run()
	text, _ := os.ReadFile(out.Name())
	return string(text), err
}

// here runs what is done where the evidence is, once for all hosts.
func (c *liveCluster) here(h *liveHost, script string) {
	c.t.Helper()
	dir := filepath.Join(c.dir, "here-"+h.name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	if out, err := c.shell(dir, script, "here"); err != nil {
		c.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// run runs a phase on all hosts, at once where that matters.
func (c *liveCluster) run(phase string, hosts ...*liveHost) {
	c.t.Helper()
	for _, h := range hosts {
		if out, err := c.shell(h.root, h.script, phase); err != nil {
			c.t.Fatalf("%s on %s: %v\n%s\n%s", phase, h.name, err, out, c.logs())
		}
	}
}

func (c *liveCluster) logs() string {
	var all strings.Builder
	names, _ := filepath.Glob(filepath.Join(c.dir, "*", "work", "*etcd.log"))
	for _, name := range names {
		b, _ := os.ReadFile(name)
		fmt.Fprintf(&all, "--- %s\n%s\n", name, b[max(0, len(b)-4000):])
	}
	return all.String()
}

// restore goes through all phases of the hosts that are restored.
func (c *liveCluster) restore(hosts ...*liveHost) {
	c.t.Helper()
	for _, phase := range []string{"prepare", "stop", "restore", "start", "verify"} {
		c.run(phase, hosts...)
	}
}

func (c *liveCluster) kill() {
	names, _ := filepath.Glob(filepath.Join(c.dir, "*", "work", "*.pid"))
	for _, name := range names {
		if b, err := os.ReadFile(name); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && pid > 1 {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
}

func (c *liveCluster) etcdctl(h *liveHost, args ...string) string {
	c.t.Helper()
	cmd := exec.Command(filepath.Join(c.tools, "etcdctl"), append([]string{"--endpoints=http://" + h.addr}, args...)...)
	cmd.Env = append(c.env(), "ETCDCTL_API=3")
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("etcdctl %v: %v\n%s\n%s", args, err, complaints.String(), c.logs())
	}
	return string(out)
}

// equals compares what a member serves with the evidence, key by key.
func (c *liveCluster) equals(h *liveHost, evidence string) {
	c.t.Helper()
	snapshot := filepath.Join(c.dir, "served-by-"+h.name+".db")
	c.etcdctl(h, "snapshot", "save", snapshot)
	var out, complaints bytes.Buffer
	code := cli.Run(context.Background(), cli.Streams{Out: &out, Err: &complaints}, []string{"diff", "-w", "json", evidence, snapshot})
	if code != cli.ExitSound {
		c.t.Fatalf("diff: exit %d: %s", code, complaints.String())
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(out.Bytes(), &raw); err != nil {
		c.t.Fatal(err)
	}
	for _, name := range []string{"added", "removed", "changed", "recreated"} {
		if got := string(raw[name]); got != "0" {
			c.t.Errorf("%s: %s is %s\n%.2000s", h.name, name, got, out.String())
		}
	}
}

// writable writes a key through one member and reads it through the others.
func (c *liveCluster) writable(hosts ...*liveHost) {
	c.t.Helper()
	c.etcdctl(hosts[0], "put", "etcd-forensics-live", hosts[0].addr)
	for _, h := range hosts {
		if got := c.etcdctl(h, "get", "--print-value-only", "etcd-forensics-live"); strings.TrimSpace(got) != hosts[0].addr {
			c.t.Errorf("%s: read back %q", h.name, got)
		}
	}
}

// members compares the ids and the number of members with the plan.
func (c *liveCluster) members(h *liveHost, n int) {
	c.t.Helper()
	list := c.etcdctl(h, "member", "list")
	if got := strings.Count(list, "started"); got != n {
		c.t.Errorf("%d started members, want %d:\n%s", got, n, list)
	}
	for _, m := range c.plan.Members {
		if !strings.Contains(list, m.MemberID) {
			c.t.Errorf("the plan promised member %s:\n%s", m.MemberID, list)
		}
	}
}

func unpacked(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := fixtures.Unpack(name, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestScriptsRestoreWithRealEtcd(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: real servers are started")
	}
	for _, minor := range liveVersions() {
		t.Run(minor, func(t *testing.T) { restoreWith(t, minor) })
	}
}

func restoreWith(t *testing.T, minor string) {
	healthy := unpacked(t, "healthy-"+minor)
	snapshot, db := filepath.Join(healthy, "snapshot.db"), filepath.Join(healthy, "m1", "member", "snap", "db")
	t.Run("one member from a snapshot", func(t *testing.T) {
		c := newLiveCluster(t, minor, 1, []string{snapshot})
		c.restore(c.hosts...)
		c.members(c.hosts[0], 1)
		c.equals(c.hosts[0], snapshot)
		c.writable(c.hosts[0])
	})
	t.Run("three members from a database", func(t *testing.T) {
		c := newLiveCluster(t, minor, 3, []string{db})
		c.restore(c.hosts...)
		c.members(c.hosts[2], 3)
		for _, h := range c.hosts {
			c.equals(h, db)
		}
		c.writable(c.hosts...)
	})
	t.Run("one grows to three", func(t *testing.T) {
		c := newLiveCluster(t, minor, 3, []string{snapshot}, "--single")
		c.restore(c.hosts[0])
		for _, h := range c.hosts[1:] {
			c.run("stop", h)
			c.run("join", h)
		}
		c.members(c.hosts[1], 3)
		for _, h := range c.hosts {
			c.equals(h, snapshot)
		}
		c.writable(c.hosts...)
	})
	t.Run("a majority is lost", func(t *testing.T) {
		several := "cluster3-" + minor + "-crash"
		if minor == "3.4" {
			several = "membership-3.4"
		}
		m1 := filepath.Join(unpacked(t, several), "m1")
		c := newLiveCluster(t, minor, 3, []string{m1})
		c.restore(c.hosts...)
		c.members(c.hosts[0], 3)
		served := c.revision(c.hosts[0])
		if p := c.plan.Revision; served < p.Source+int64(p.Bump) || served > p.Highest+int64(p.Bump) {
			t.Errorf("revision %d, planned %+v", served, p)
		}
		c.agree()
		if minor == "3.4" { // ended in good order: the log proves no key beyond the database
			c.equals(c.hosts[0], filepath.Join(m1, "member", "snap", "db"))
		} else {
			c.holdsProven(m1)
		}
		c.writable(c.hosts...)
	})
}

// TestScriptsReplaceAMemberWithRealEtcd: of a cluster of three the database of one is
// damaged; the others start as they are, and it joins anew.
func TestScriptsReplaceAMemberWithRealEtcd(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: real servers are started")
	}
	evidence := unpacked(t, "cluster3-3.7-crash")
	var hosts []*liveHost
	var paths []string
	for _, name := range []string{"m1", "m2", "m3"} {
		hosts = append(hosts, &liveHost{name: name})
		paths = append(paths, filepath.Join(evidence, name))
	}
	damaged := filepath.Join(evidence, "m2", "member", "snap", "db")
	b, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	clear(b[8192 : len(b)/2])
	if err := os.WriteFile(damaged, b, 0o600); err != nil {
		t.Fatal(err)
	}
	c := newLiveHosts(t, "3.7", hosts)
	for i, h := range hosts {
		if err := os.CopyFS(h.dataDir(), os.DirFS(paths[i])); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(h.dataDir(), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	c.makePlans(paths)
	if c.plan.Way != "rejoin" || len(c.plan.Members) != 2 || len(c.plan.Joining) != 1 || c.plan.Joining[0].Name != "m2" {
		t.Fatalf("plan: %+v", c.plan)
	}
	for _, m := range slices.Concat(c.plan.Members, c.plan.Joining) {
		h := hosts[slices.IndexFunc(hosts, func(h *liveHost) bool { return h.name == m.Name })]
		h.addr = strings.TrimPrefix(m.ClientURLs[0], "http://")
	}
	c.run("start", hosts[0], hosts[2])
	c.run("verify", hosts[0], hosts[2])
	c.run("join", hosts[1])
	c.writable(hosts...)
	c.agree()
	if kept, err := filepath.Glob(filepath.Join(hosts[1].dataDir(), "before-*", "snap", "db")); err != nil || len(kept) != 1 {
		t.Errorf("the damaged database was not kept: %v %v", kept, err)
	}
}

// TestScriptsRefuseHarm: each guard stops a script before it does harm, and once its
// reason is gone the same script goes on.
func TestScriptsRefuseHarm(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: real servers are started")
	}
	healthy := unpacked(t, "healthy-3.7")
	c := newLiveCluster(t, "3.7", 1, []string{filepath.Join(healthy, "m1")}, "--from", filepath.Join(healthy, "m1"))
	h := c.hosts[0]
	member := filepath.Join(h.dataDir(), "member")
	refused := func(phase, why string) {
		t.Helper()
		out, err := c.shell(h.root, h.script, phase)
		if err == nil || !strings.Contains(out, "STOPPED: ") || !strings.Contains(out, why) {
			t.Errorf("%s: %v, want %q:\n%s", phase, err, why, out)
		}
	}
	refused("restore", "has not ended on this host")
	if out, err := c.shell(h.root, h.script); err == nil || !strings.Contains(out, "usage:") {
		t.Errorf("without a phase: %v %s", err, out)
	}
	c.run("prepare", h)
	c.run("stop", h)
	c.run("prepare", h) // again: nothing happens

	// A directory of another cluster.
	if err := os.CopyFS(h.dataDir(), os.DirFS(filepath.Join(unpacked(t, "cluster3-3.7-crash"), "m1"))); err != nil {
		t.Fatal(err)
	}
	refused("restore", "is of another cluster than the plan")
	if err := os.RemoveAll(member); err != nil {
		t.Fatal(err)
	}
	// The right one, in use.
	if err := os.CopyFS(h.dataDir(), os.DirFS(filepath.Join(healthy, "m1"))); err != nil {
		t.Fatal(err)
	}
	db, err := os.OpenFile(filepath.Join(member, "snap", "db"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(db.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	refused("restore", "is in use")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	// A file that has changed.
	file, err := os.OpenFile(c.onHost(h), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	flip := func() {
		var b [1]byte
		if _, err := file.ReadAt(b[:], 9000); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1
		if _, err := file.WriteAt(b[:], 9000); err != nil {
			t.Fatal(err)
		}
	}
	flip()
	refused("restore", "is not the file of the plan")
	flip()
	// A restore that was cut short leaves a directory, which the next attempt removes.
	staging, err := filepath.Glob(filepath.Join(h.dataDir(), "restore-*"))
	if err != nil || len(staging) != 0 {
		t.Fatalf("a refused restore left %v (%v)", staging, err)
	}
	broken := filepath.Join(c.dir, "bin", "etcdutl")
	c.write(filepath.Join("bin", "etcdutl"), "#!/bin/sh\nfor a; do case $a in --data-dir=*) mkdir -p \"${a#*=}/member/snap\" ;; esac; done\nexit 1\n", 0o700)
	c.tools, broken = filepath.Dir(broken)+":"+c.tools, c.tools
	refused("restore", "that failed")
	c.tools = broken
	os.Remove(filepath.Join(c.dir, "bin", "etcdutl"))
	for _, phase := range []string{"restore", "start", "verify"} {
		c.run(phase, h)
	}
	c.members(h, 1)
	if kept, err := filepath.Glob(filepath.Join(h.dataDir(), "before-*", "wal", "*.wal")); err != nil || len(kept) == 0 {
		t.Errorf("the old data was not kept: %v %v", kept, err)
	}
	// All of it once more: every step has been done, and nothing is.
	for _, phase := range []string{"prepare", "stop", "restore", "start", "verify"} {
		c.run(phase, h)
	}
	c.writable(h)
}

// onHost is where a host has the file that is restored.
func (c *liveCluster) onHost(h *liveHost) string {
	return filepath.Join(h.workDir(), filepath.Base(c.plan.File.OnHost))
}

// revision is the one that a member serves.
func (c *liveCluster) revision(h *liveHost) int64 {
	c.t.Helper()
	for line := range strings.Lines(c.etcdctl(h, "endpoint", "status", "--write-out=fields")) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), `"Revision" : `); ok {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				c.t.Fatal(err)
			}
			return n
		}
	}
	c.t.Fatal("no revision")
	return 0
}

// agree insists on one hash on all hosts.
func (c *liveCluster) agree() {
	c.t.Helper()
	hashes := map[string]bool{}
	for _, h := range c.hosts {
		_, hash, _ := strings.Cut(strings.TrimSpace(c.etcdctl(h, "endpoint", "hashkv")), ", ")
		hashes[hash] = true
	}
	if len(hashes) != 1 {
		c.t.Errorf("hashes differ: %v", hashes)
	}
}

// holdsProven looks for every key that the member's log proves written beyond its
// database.
func (c *liveCluster) holdsProven(dir string) {
	c.t.Helper()
	var out, complaints bytes.Buffer
	cli.Run(context.Background(), cli.Streams{Out: &out, Err: &complaints}, []string{"inspect", "-w", "json", dir})
	var seen struct {
		Members []struct {
			WAL struct {
				Unapplied struct {
					Keys []struct {
						Key, Change string
						Index       uint64
						Conditional bool
					}
				}
			}
		}
	}
	if err := json.Unmarshal(out.Bytes(), &seen); err != nil {
		c.t.Fatalf("%v: %s", err, complaints.String())
	}
	looked := 0
	for _, k := range seen.Members[0].WAL.Unapplied.Keys {
		if k.Change != "put" || k.Conditional {
			continue
		}
		looked++
		if got := c.etcdctl(c.hosts[0], "get", "--keys-only", k.Key); strings.TrimSpace(got) != k.Key {
			c.t.Errorf("entry %d put %q, which is gone", k.Index, k.Key)
		}
	}
	if c.plan.Way != "restore-db" && looked == 0 {
		c.t.Error("the log proves no key beyond the database, so nothing was looked for")
	}
}

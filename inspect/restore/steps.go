package restore

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"etcd-forensics/inspect"
)

// seconds that a cluster is given to come up.
const upSeconds = 120

// staging is where the new data directory is made, within the old one: one rename away,
// under the same owner and label, even where the data directory is a mount. A restore
// that fails leaves what the old directory holds untouched, and its own rest is removed
// before the next attempt: etcdutl refuses a directory that is not empty.
func (b *builder) staging() string { return path.Join(b.p.DataDir, "restore-"+b.p.Tag) }

// kept is where the old data goes.
func (b *builder) kept() string { return path.Join(b.p.DataDir, "before-"+b.p.Tag) }

// onHost is the path of a file of this plan on a host.
func (b *builder) onHost(name string) string { return path.Join(b.p.WorkDir, b.p.Tag+"-"+name) }

// restoreSteps makes the steps of a plan that restores a file.
func (b *builder) restoreSteps() *refusal {
	b.p.File.OnHost = b.onHost("snapshot.db")
	b.hereSteps()
	if b.platform.hosts != nil {
		return b.platform.hosts(b)
	}
	for i := range b.p.Members {
		b.p.Hosts = append(b.p.Hosts, b.restoredHost(&b.p.Members[i]))
	}
	there := append([]Member(nil), b.p.Members...)
	for i := range b.p.Joining {
		b.p.Hosts = append(b.p.Hosts, b.joiningHost(&b.p.Joining[i], there, nil, nil))
		there = append(there, b.p.Joining[i])
	}
	return nil
}

// restoredHost gives the steps on the host of a member that is restored.
func (b *builder) restoredHost(m *Member) Host {
	h := Host{Name: m.Name}
	h.add(b.prepare()...)
	h.add(b.phase(PhasePrepare, b.call(b.platform.look, m))...)
	h.add(b.phase(PhaseStop, b.rightHost(m, b.stopAll(m)))...)
	h.add(b.phase(PhaseRestore, b.rightHost(m, b.restoreDir(m)))...)
	h.add(b.phase(PhaseStart, b.needData(b.call(b.platform.start, m)))...)
	h.add(b.phase(PhaseVerify, b.verify(m))...)
	h.add(b.phase(PhaseResume, b.call(b.platform.startClients, m))...)
	return h
}

// rightHost keeps steps for one member off the hosts of the others.
func (b *builder) rightHost(m *Member, steps []Step) []Step {
	var others []inspect.ID
	planned := slices.Concat(b.p.Members, b.p.Joining)
	for i := range planned {
		n := &planned[i]
		if n.Name == m.Name {
			continue
		}
		if n.MemberID != nil {
			others = append(others, *n.MemberID)
		}
		for _, old := range b.old.Members {
			if stoodFor(old, n) && !stoodFor(old, m) && !slices.Contains(others, old.MemberID) {
				others = append(others, old.MemberID)
			}
		}
	}
	if len(steps) > 0 && len(others) > 0 {
		slices.Sort(others)
		steps[0].Refuses = append([]Guard{{Kind: GuardOther, Path: b.walOnHost(), MemberIDs: others}}, steps[0].Refuses...)
	}
	return steps
}

// stoodFor says whether an old member was on the host of a planned one.
func stoodFor(old inspect.MembershipMember, m *Member) bool {
	return old.Name == m.Name || sameURL(old.PeerURLs, m.PeerURLs)
}

// walOnHost is where the log of a host's member lies.
func (b *builder) walOnHost() string {
	if b.p.WALDir != "" {
		return b.p.WALDir
	}
	return path.Join(b.p.DataDir, "member", "wal")
}

func (h *Host) add(steps ...Step) { h.Steps = append(h.Steps, steps...) }

func (b *builder) phase(p Phase, steps []Step) []Step {
	for i := range steps {
		steps[i].Phase = p
		if steps[i].Argv == nil {
			steps[i].Argv = []string{}
		}
	}
	return steps
}

func (b *builder) call(make func(*builder, *Member) []Step, m *Member) []Step {
	if make == nil {
		return nil
	}
	return make(b, m)
}

// sameFile looks whether the file is on the host, and is that of the plan.
func (b *builder) sameFile() Step {
	f := &b.p.File
	look := Step{
		Why:   "the file must be the same on every host: members that are restored from different ones diverge without a word",
		Argv:  []string{"sha256sum", f.OnHost},
		Check: "the digest is the same on every host",
		IfNot: "copy the file again",
	}
	if len(b.p.Members) == 1 {
		look.Why, look.Check = "the file must be the one that was examined", "the digest is the one where the evidence is"
	}
	if f.SHA256 != nil {
		look.Expect = &Expect{Contains: *f.SHA256}
		look.Check = "it prints " + *f.SHA256
	}
	return look
}

// prepare looks whether all is there, and changes nothing.
func (b *builder) prepare() []Step {
	version := Step{
		Why:   fmt.Sprintf("the restore must be done by the tool of the version that will run, %s", b.version),
		Argv:  b.command([]string{b.version.restoreTool(), "version"}),
		Check: "it names version " + b.version.String(),
		IfNot: "install that version's " + b.version.restoreTool(),
	}
	version.Expect = &Expect{Contains: b.version.printed()}
	steps := []Step{b.sameFile(), version}
	if _, needs := sinceBump.has(b.version); needs != "" && b.p.Revision.Bump > 0 {
		steps = append(steps, Step{
			Why:    "early patches of " + b.version.String() + " cannot raise revisions",
			Argv:   b.command([]string{b.version.restoreTool(), "snapshot", "restore", "--help"}),
			Env:    b.restoreEnv(),
			Expect: &Expect{Contains: "--bump-revision"},
			Check:  "it names --bump-revision",
			IfNot:  "install " + b.version.restoreTool() + " " + needs + " or later, or plan again with --etcd-version and the patch that is there",
		})
	}
	return b.phase(PhasePrepare, steps)
}

// stopAll stops what uses etcd, then etcd.
func (b *builder) stopAll(m *Member) []Step {
	return append(b.call(b.platform.stopClients, m), b.call(b.platform.stop, m)...)
}

// command wraps a command of etcd for the platform.
func (b *builder) command(argv []string) []string {
	if b.platform.command == nil {
		return argv
	}
	return b.platform.command(b, argv)
}

// inside gives a path on the host as the platform's commands see it.
func (b *builder) inside(p string) string {
	if b.platform.inside == nil {
		return p
	}
	return b.platform.inside(b, p)
}

// client is etcdctl for a member.
func (b *builder) client(m *Member, args ...string) []string {
	prefix := []string{"etcdctl", "--endpoints=" + m.endpoint()}
	if b.platform.client != nil {
		prefix = b.platform.client(b, m)
	}
	return append(append([]string(nil), prefix...), args...)
}

// remote is etcdctl for members on other hosts, where the host's own etcd is stopped.
func (b *builder) remote(m *Member, args ...string) []string {
	if b.platform.remote == nil {
		return b.client(m, args...)
	}
	return append(b.platform.remote(b, m), args...)
}

// restoreDir makes the new data directory and puts it in place of the old one.
func (b *builder) restoreDir(m *Member) []Step {
	p := b.p
	member := path.Join(p.DataDir, "member")
	inUse := Guard{Kind: GuardInUse, Path: path.Join(member, "snap", "db")}
	steps := []Step{
		{
			Why:   "the data directory must be there, closed to others",
			Argv:  []string{"mkdir", "-p", "-m", "700", p.DataDir},
			Check: "the directory is there",
			IfNot: "make it by hand, as root",
		},
		{
			Why:    "make this member's data from the file, beside the old data",
			Argv:   b.restoreCommand(m),
			Env:    b.restoreEnv(),
			Clears: []string{b.staging()},
			Check:  fmt.Sprintf("it exits with 0 and logs \"added member\" with cluster-id %s and the ids %s", p.ClusterID, b.memberIDs()),
			IfNot:  b.restoreTrouble(),
		},
	}
	steps[1].Refuses = b.restoreGuards(inUse)
	if p.WALDir != "" {
		steps[1].Clears = append(steps[1].Clears, b.walStaging())
	}
	steps = append(steps, Step{
		Why:     "keep the old data, which may still be needed",
		Argv:    []string{"sh", "-c", `if [ -e "$1" ]; then mv "$1" "$2"; fi`, "sh", member, b.kept()},
		Refuses: []Guard{inUse, {Kind: GuardExists, Path: b.kept()}},
		Check:   b.kept() + " holds the old data, if there was any",
		IfNot:   "stop what holds the directory; nothing has been lost",
	}, Step{
		Why:     "put the new data in its place",
		Argv:    []string{"mv", path.Join(b.staging(), "member"), member},
		Refuses: []Guard{{Kind: GuardExists, Path: member}},
		Check:   member + "/snap/db is there",
		IfNot:   "put the old data back: mv " + b.kept() + " " + member,
	}, Step{
		Why:   "the rest of the restore is empty",
		Argv:  []string{"rmdir", b.staging()},
		Check: b.staging() + " is gone",
		IfNot: "look what is in it before it is removed",
	})
	steps = append(steps, b.moveWAL()...)
	steps = append(steps, b.own(p.DataDir)...)
	return steps
}

// whichCluster says which cluster must answer.
func (b *builder) whichCluster() string {
	if b.p.Way == WayRejoin {
		return "the cluster must be that of the evidence"
	}
	return "the cluster must be the new one"
}

// listed says what the list of members must show. Members that are started as they are go
// on listing those that are to be replaced, and learners.
func (b *builder) listed() string {
	switch {
	case b.p.Way == WayRejoin:
		return "it lists the ids " + b.memberIDs() + "; others may be listed, too"
	case len(b.p.Members) == 1:
		return "it lists 1 member with the id " + b.memberIDs()
	}
	return fmt.Sprintf("it lists %d members with the ids %s", len(b.p.Members), b.memberIDs())
}

func (b *builder) memberIDs() string {
	var ids []string
	for _, m := range b.p.Members {
		ids = append(ids, m.MemberID.String())
	}
	return strings.Join(ids, ", ")
}

// restoreGuards keep the restore off a directory that is in use, and off one that is not
// of the cluster that the plan is for.
func (b *builder) restoreGuards(inUse Guard) []Guard {
	p := b.p
	guards := []Guard{inUse}
	if p.File.SHA256 != nil {
		guards = append(guards, Guard{Kind: GuardDigest, Path: p.File.OnHost, SHA256: *p.File.SHA256})
	}
	if p.OldClusterID != nil {
		guards = append(guards, Guard{Kind: GuardForeign, Path: b.walOnHost(), ClusterIDs: []inspect.ID{*p.OldClusterID, p.ClusterID}})
	}
	return guards
}

// restoreEnv is what the restore command needs in its environment: etcdctl before 3.4
// spoke version 2 of the API by default, and shells are often set up for it.
func (b *builder) restoreEnv() []string {
	if b.version.Minor == 4 && b.platform.command == nil {
		return []string{"ETCDCTL_API=3"}
	}
	return nil
}

// restoreCommand restores the file for one member (reference: etcdutl's
// snapshot_command.go of each version).
func (b *builder) restoreCommand(m *Member) []string {
	p := b.p
	argv := []string{
		b.version.restoreTool(), "snapshot", "restore", b.inside(p.File.OnHost),
		"--name=" + m.Name,
		"--data-dir=" + b.inside(b.staging()),
		"--initial-cluster=" + initialCluster(p.Members),
		"--initial-cluster-token=" + p.Token,
		"--initial-advertise-peer-urls=" + strings.Join(m.PeerURLs, ","),
	}
	if p.WALDir != "" {
		argv = append(argv, "--wal-dir="+b.inside(b.walStaging()))
	}
	if !p.File.Hashed {
		argv = append(argv, "--skip-hash-check")
	}
	if p.Revision.Bump > 0 {
		argv = append(argv, "--bump-revision="+strconv.FormatUint(p.Revision.Bump, 10), "--mark-compacted")
	}
	return b.command(argv)
}

// restoreTrouble is what to do when the restore command fails.
func (b *builder) restoreTrouble() string {
	s := "the old data is untouched; read the message, mend its cause and run the step again"
	if _, needs := sinceBump.has(b.version); needs != "" && b.p.Revision.Bump > 0 {
		s += "; at \"unknown flag: --bump-revision\" use " + needs + " or later, or plan again with --etcd-version and the patch that is there"
	}
	if has, needs := sinceMemoryMap.has(b.version); has {
		s += "; at \"mmap failed\" add --initial-memory-map-size=" + strconv.FormatInt(max(2*b.p.File.Size, 1<<30), 10)
		if needs != "" {
			s += " (" + needs + " or later)"
		}
	}
	return s
}

// walStaging is where the log of the new member is made when it lies outside.
func (b *builder) walStaging() string { return b.p.WALDir + ".restore-" + b.p.Tag }

// moveWAL puts the log in place where it lies outside the data directory.
func (b *builder) moveWAL() []Step {
	if b.p.WALDir == "" {
		return nil
	}
	old := b.p.WALDir + ".before-" + b.p.Tag
	return append([]Step{{
		Why:     "keep the old log",
		Argv:    []string{"sh", "-c", `if [ -e "$1" ]; then mv "$1" "$2"; fi`, "sh", b.p.WALDir, old},
		Refuses: []Guard{{Kind: GuardExists, Path: old}},
		Check:   old + " holds the old log, if there was one",
		IfNot:   "when the WAL directory is a mount, move what is in it instead",
	}, {
		Why:     "put the new log in its place: etcd starts anew when it finds none",
		Argv:    []string{"mv", b.walStaging(), b.p.WALDir},
		Refuses: []Guard{{Kind: GuardExists, Path: b.p.WALDir}},
		Check:   b.p.WALDir + " holds one segment",
		IfNot:   "do not start etcd without it",
	}}, b.own(b.p.WALDir)...)
}

// own gives a directory to whom etcd runs as.
func (b *builder) own(dir string) []Step {
	var steps []Step
	if b.platform.own != nil {
		steps = b.platform.own(b, dir)
	} else {
		steps = []Step{{
			Why:   "the new files must belong to whom the directory belongs to, as whom etcd runs",
			Argv:  []string{"chown", "-R", "--reference=" + dir, dir},
			Check: "ls -l shows one owner",
			IfNot: "run it as root; etcd says \"permission denied\" otherwise",
		}}
	}
	return append(steps, Step{
		Why:   "etcd wants its directory closed to others, and 3.4.10 to 3.4.12 do not start otherwise",
		Argv:  []string{"chmod", "700", dir},
		Check: "its mode is drwx------",
		IfNot: "run it as root",
	}, Step{
		Why:     "under SELinux the new files need the label of their place",
		Argv:    []string{"restorecon", "-R", dir},
		IfThere: true,
		Check:   "it exits with 0",
		IfNot:   "etcd says \"permission denied\" though owner and mode are right",
	})
}

// atLeastRevision fails when what the command after it says is of a revision below its
// first argument. Leases that end may have raised it meanwhile.
const atLeastRevision = `r=$("$@" | sed -n 's/^"Revision" : //p'); echo "revision $r"; [ "$r" -ge "$0" ]`

// verify asks the new cluster what it is.
func (b *builder) verify(m *Member) []Step {
	p := b.p
	revision := strconv.FormatInt(p.Revision.least(), 10)
	steps := []Step{{
		Why:    "the server must be up and have a leader",
		Argv:   b.client(m, "endpoint", "health"),
		Expect: &Expect{Contains: "is healthy", Seconds: upSeconds},
		Check:  "it says \"is healthy\"",
		IfNot:  b.askTrouble(),
	}, {
		Why:    b.whichCluster() + ": an empty one comes up when etcd looks at another directory",
		Argv:   b.client(m, "member", "list"),
		Expect: &Expect{Contains: m.MemberID.String()},
		Check:  b.listed(),
		IfNot:  "stop etcd before anything writes to it, and compare its --data-dir and --wal-dir with those of the plan",
	}, {
		Why:   "the content must be that of the evidence",
		Argv:  append([]string{"sh", "-c", atLeastRevision, revision}, b.client(m, "endpoint", "status", "--write-out=fields")...),
		Check: p.revisionToBe(),
		IfNot: "stop etcd before anything writes to it",
	}, {
		Why:   "alarms survive a restore",
		Argv:  b.client(m, "alarm", "list"),
		Check: "it prints nothing",
		IfNot: "see the warnings of this plan about alarms",
	}}
	if b.authEnabled() {
		steps = steps[:3] // the list of alarms needs a user
	}
	return steps
}

func (b *builder) startTrouble() string {
	s := "read etcd's log"
	if len(b.p.Members) > 1 {
		s += "; it is ready only when a majority of the members is started"
	}
	return s + "; etcd-forensics explain says what a line means"
}

// askTrouble is what to do when a member that is asked does not answer. With authentication
// on, etcdctl endpoint health of every version is refused without a user, and etcd 3.7
// refuses member list and endpoint status as well.
func (b *builder) askTrouble() string {
	if b.authEnabled() {
		return "at \"user name is empty\" run it again with ETCDCTL_USER=root:PASSWORD in the environment; otherwise " + b.startTrouble()
	}
	return b.startTrouble()
}

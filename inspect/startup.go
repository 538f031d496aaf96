package inspect

import (
	"fmt"
	"slices"

	"etcd-forensics/walreader/raftlog"
)

// Will it start? The rules are etcd's own: what its server does between the start
// of the process and the first write, in the order in which it does it. The first
// step that cannot be taken ends the process. Where a rule names a file without a
// version it is the same in all of
//
//	3.4.23  3.5.21  3.6.16  3.7.3  3.8.0-alpha.0
//
// which are the versions that the rules were read from and are tested against.

// minors are the minor versions of etcd 3 that are asked about.
var minors = []int{4, 5, 6, 7, 8}

// assumedFlags stands for --name, --initial-cluster and so on. They matter when
// there is no WAL; otherwise etcd passes over them.
const assumedFlags = "the flags of the first start"

// predictStartup says what each minor version would do with a member directory.
func (x *examination) predictStartup() {
	if x.src.SnapDir == "" {
		return
	}
	for _, minor := range minors {
		x.member.Startup = append(x.member.Startup, x.startWith(minor))
	}
}

func (x *examination) startWith(minor int) Startup {
	s := Startup{EtcdVersion: fmt.Sprintf("3.%d", minor), BecauseOf: []Code{}, Assumed: assumedFlags}
	b := &boot{examination: x, minor: minor}
	if !x.readWhole() {
		return s
	}
	because := func(codes []Code) { s.BecauseOf = x.reasons(append(codes, b.because...)) }
	yes, no := true, false
	for _, step := range stepsOf(minor, x.log != nil) {
		e := step(b)
		switch {
		case e == nil:
			continue
		case e.unknown:
			because(e.because)
		default:
			s.Starts, s.Serves, s.CutsEntries, s.Error = &no, &no, &b.cuts, e.err
			because(e.because)
		}
		return s
	}
	serves, codes := b.serves()
	s.Starts, s.Serves, s.CutsEntries = &yes, serves, &b.cuts
	because(codes)
	return s
}

// readWhole says whether everything that a start depends on was read, as far as
// that is not damage which stops etcd too.
func (x *examination) readWhole() bool {
	for _, f := range x.findings {
		switch f.Code {
		case CodeWALUnreadable, CodeBackendUnreadable, CodeSourceChanged:
			return false
		}
	}
	return len(x.src.Unread) == 0 && !x.interrupted && (x.log == nil || x.log.Terms.Complete() && x.kept())
}

// kept says whether the log's summary holds every item that a start depends on.
func (x *examination) kept() bool {
	for _, list := range []string{"snapshots", "confChanges", "versions", "gaps", "conflicts", "undecodable"} {
		if x.log.Dropped[list] > 0 {
			return false
		}
	}
	return true
}

// found gives those of the codes that the examination has found, sorted.
func (x *examination) found(codes []Code) []Code {
	list := []Code{}
	for _, f := range x.findings {
		if slices.Contains(codes, f.Code) && !slices.Contains(list, f.Code) {
			list = append(list, f.Code)
		}
	}
	slices.Sort(list)
	return list
}

// reasons gives those of the codes that were found, and the one that says of itself
// that it needs no finding: one version refuses what another wrote.
func (x *examination) reasons(codes []Code) []Code {
	list := x.found(codes)
	if at, found := slices.BinarySearch(list, CodeVersionNotSupported); !found && slices.Contains(codes, CodeVersionNotSupported) {
		list = slices.Insert(list, at, CodeVersionNotSupported)
	}
	return list
}

// A boot is one start of one version, as far as it has come.
type boot struct {
	*examination
	minor int

	whole   bool                   // all of the log is read, whatever its summary says
	start   raftlog.SnapshotRecord // where raft starts from; index 0 for no snapshot
	started bool                   // a snapshot record says so (3.7 and later)
	last    uint64                 // last entry that raft has
	cuts    uint64                 // entries dropped so far
	because []Code                 // why they were
}

// An ending is why a start goes no further.
type ending struct {
	unknown bool // it cannot be told
	err     string
	because []Code
}

func exits(err string, because ...Code) *ending { return &ending{err: err, because: because} }

func cannotTell(because ...Code) *ending { return &ending{unknown: true, because: because} }

// A step is one part of a start. It gives nil when the start goes on.
type step func(*boot) *ending

// stepsOf lists the steps in the order of NewServer in etcdserver/server.go (3.4 and
// 3.5) and of bootstrap in server/etcdserver/bootstrap.go (3.6 and later), and what
// raft's first Ready brings (etcdserver/server.go, applyEntries).
func stepsOf(minor int, haveWAL bool) []step {
	switch {
	case !haveWAL:
		return []step{(*boot).openBackend, (*boot).validateSchema, (*boot).bootstrapNew, (*boot).restoreStores}
	case minor <= 5:
		return []step{
			(*boot).openBackend, (*boot).findSnapshot, (*boot).loadStore, (*boot).recoverBackend, (*boot).readLog, (*boot).restartRaft,
			(*boot).recoverCluster, (*boot).restoreStores, (*boot).replay, (*boot).publish,
		}
	default:
		return []step{
			(*boot).openBackend, (*boot).findSnapshot, (*boot).loadStore, (*boot).recoverBackend, (*boot).validateSchema, (*boot).readLog,
			(*boot).recoverCluster, (*boot).restartRaft, (*boot).restoreStores, (*boot).replay, (*boot).publish,
		}
	}
}

// consistentIndex gives what the database has applied.
func (b *boot) consistentIndex() uint64 {
	if b.db == nil {
		return 0
	}
	return b.db.meta.index
}

// onlyVoter says whether the member needs nobody to elect it.
func (b *boot) onlyVoter() bool {
	voters := b.raftVoters()
	return len(voters) == 0 || len(voters) == 1 && (b.member.MemberID == nil || voters[0] == *b.member.MemberID)
}

// raftVoters gives the voters that raft goes by. Since 3.7 it starts with those of
// bucket members, and applies to them the conf changes that the database lacks
// (etcdserver/bootstrap.go, buildConfStateFromV3store; server.go, applyConfChange).
func (b *boot) raftVoters() []ID {
	if b.minor < 7 || b.log == nil || len(b.bucket.members) == 0 {
		return b.currentVoters()
	}
	r, ok := b.examination.replay(b.bucket.copy(), b.consistentIndex(), b.commit(), nil)
	if !ok {
		return b.currentVoters()
	}
	return r.configuration(b.commit()).Voters
}

// waits says whether raft waits for the votes of members that the cluster does not
// have: without them there is no majority.
func (b *boot) waits() bool {
	voters, members := b.raftVoters(), b.currentVoters()
	there := 0
	for _, id := range voters {
		if slices.Contains(members, id) {
			there++
		}
	}
	return b.minor >= 7 && len(voters) > 0 && 2*there <= len(voters)
}

// currentVoters gives the voters of the member's own cluster: in a database that was
// restored the conf state is the old one's.
func (b *boot) currentVoters() []ID {
	if be := b.member.Backend; be == nil || be.ConfState == nil || !b.restored() {
		voters, _ := b.voters()
		return voters
	}
	var voters []ID
	for _, m := range b.member.Membership.Members {
		if !m.IsLearner {
			voters = append(voters, m.MemberID)
		}
	}
	return voters
}

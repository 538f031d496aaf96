// Package rehearse carries a plan out in a scratch folder: what the plan restores is
// restored for every member, with URLs on loopback in place of the planned ones, all
// are started, and what comes up is compared with what the evidence promised.
//
// All of etcd runs in child processes: the program itself under a hidden command, or
// the binaries of the version that will run. Evidence is read, by our own readers and
// by `etcdutl snapshot restore`, which copies it (etcd v3.7.3,
// etcdutl/snapshot/v3_snapshot.go, copyAndVerifyDB).
package rehearse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
	"etcd-forensics/inspect/restore"
	"etcd-forensics/inspect/scratch"
	"etcd-forensics/inspect/source"
)

// Options say where and with what a plan is rehearsed.
type Options struct {
	Scratch string // folder for the members; "" for the system's

	EtcdBinary    string // "" for the etcd that is built in
	EtcdutlBinary string // etcdutl, or etcdctl of 3.4 and 3.5; "" for the one that is built in

	// Self is the program with the argument that makes it a child; nil for this program
	// with ChildCommand.
	Self []string
	// Log takes a line for every stage; nil for none.
	Log io.Writer
}

// A rehearsal is one run.
type rehearsal struct {
	opts    Options
	plan    *restore.Plan
	receipt *Receipt
	room    *room
	tools   tools

	source  *source.Source  // of the plan
	member  *inspect.Member // what the examination says of it
	given   []*source.Source
	members []inspect.Member
	made    []*source.Source // in the scratch folder

	promise promise
	wrote   int64 // keys that the rehearsal itself has written
	auth    bool  // authentication is on
	locked  bool  // the members do not tell who they are without a password
}

// A promise is what the evidence holds, and must come up again.
type promise struct {
	file     string         // that is restored
	hashed   bool           // it ends with its SHA-256
	source   *source.Source // that holds the content
	of       string         // what that is, when it is not the evidence
	revision int64          // of the content
	newest   int64          // that of its newest record, which a bump is added to
	hashKV   *inspect.HashKV
	tally    *query.Tally
	alarms   []inspect.Alarm
	auth     bool
	leases   bool
}

// Run rehearses a plan that was made of a case and its sources. An error says that it
// could not be finished; the receipt says how far it came.
func Run(ctx context.Context, c *inspect.Case, p *restore.Plan, sources []*source.Source, o Options) (*Receipt, error) {
	r := &Receipt{
		SchemaVersion: SchemaVersion, Source: p.Source, Way: p.Way, File: p.File, Token: p.Token, ClusterID: p.ClusterID,
		EtcdVersion: p.EtcdVersion, Checks: []Check{}, Members: []Member{}, Prefixes: []Prefix{}, Stages: []Stage{},
	}
	h := &rehearsal{opts: o, plan: p, receipt: r}
	for _, m := range p.Members {
		r.Members = append(r.Members, Member{Name: m.Name, PlannedURLs: append([]string{}, m.PeerURLs...), PlannedID: m.MemberID})
	}
	if p.Refused != nil {
		r.refuse("there is no plan: " + *p.Refused)
		return r, nil
	}
	if why := h.find(c, sources); why != "" {
		r.refuse(why)
		return r, nil
	}
	var err error
	if h.tools, err = findTools(ctx, o); err != nil {
		r.refuse(err.Error())
		return r, nil
	}
	r.Versions = h.tools.versions()
	if why := h.refuses(); why != "" {
		r.refuse(why)
		return r, nil
	}
	err = h.run(ctx)
	if failed, ok := errors.AsType[failure](err); ok {
		r.fail(failed.check, failed.member, failed.expected, failed.Error())
		err = nil
	}
	if err != nil {
		r.Outcome, r.Why = Unfinished, unfinished(err)
		return r, err
	}
	r.judge()
	r.complete()
	h.leftOut()
	return r, nil
}

// A failure is a step that did not do what the plan promises.
type failure struct {
	error
	check, member, expected string
}

func unfinished(err error) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	return err.Error()
}

// find looks up what the plan names.
func (h *rehearsal) find(c *inspect.Case, sources []*source.Source) (refused string) {
	h.given, h.members = sources, c.Members
	for _, s := range sources {
		if s.Path == h.plan.Source {
			h.source = s
		}
	}
	for i := range c.Members {
		if c.Members[i].Source == h.plan.Source {
			h.member = &c.Members[i]
		}
	}
	switch {
	case h.source == nil || h.member == nil:
		return "the plan's source " + h.plan.Source + " is not among those given"
	case (h.source.DB == nil || h.member.Backend == nil) && h.plan.Way != restore.WayRollForward:
		return "the plan's source " + h.plan.Source + " has no database"
	}
	return ""
}

func (h *rehearsal) say(format string, args ...any) {
	if h.opts.Log != nil {
		fmt.Fprintf(h.opts.Log, format+"\n", args...)
	}
}

func (h *rehearsal) run(ctx context.Context) (err error) {
	self := h.opts.Self
	if self == nil {
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		self = []string{exe, ChildCommand}
	}
	h.receipt.Space = h.space()
	if h.room, err = newRoom(h.opts.Scratch, self, h.receipt.Space); err != nil {
		return err
	}
	defer func() {
		for _, s := range h.made {
			s.Close()
		}
		err = errors.Join(err, h.room.close())
	}()
	if err := h.checkVersion(); err != nil {
		return err
	}
	if h.plan.Way == restore.WayRejoin {
		return h.rejoin(ctx)
	}
	if err := h.checkPlannedIDs(); err != nil {
		return err
	}
	if err := h.prepare(ctx); err != nil {
		return err
	}
	return h.cluster(ctx, "restore", h.restoreAll)
}

// space says what the rehearsal takes at most.
func (h *rehearsal) space() Space {
	size := dbSize(h.source)
	one := size + walBytes
	needed := marginBytes + int64(len(h.plan.Members))*one
	switch h.plan.Way {
	case restore.WayRejoin:
		needed = marginBytes
		for _, s := range h.comeBack() {
			needed += directorySize(s) + walBytes
		}
	case restore.WayForceNewCluster:
		needed += directorySize(h.source) + walBytes + size // the copy, and the snapshot of it
	case restore.WayRollForward, restore.WaySalvage:
		needed += 3 * max(size, directorySize(h.source)) // the work file, the new one, and the entries
	default:
		if h.packed() {
			needed += size
		}
	}
	s := Space{Needed: needed}
	if free, known := scratch.Free(scratch.Dir(h.opts.Scratch)); known {
		s.Free = &free
	}
	return s
}

// packed says whether the file to restore lies in an archive.
func (h *rehearsal) packed() bool { return h.source.Archive != nil }

// promiseContent takes from the evidence what must come up again.
func (h *rehearsal) promiseContent() {
	b := h.member.Backend
	if b == nil {
		b = &inspect.Backend{}
	}
	h.promise = promise{
		source: h.source, revision: h.plan.Revision.Source, hashKV: b.HashKV,
		alarms: b.Alarms, auth: b.Auth != nil && b.Auth.Enabled, leases: b.Leases == nil || *b.Leases > 0,
	}
}

// prepare makes the promise, and the file that is restored.
func (h *rehearsal) prepare(ctx context.Context) error {
	h.promiseContent()
	pr := &h.promise
	pr.file, pr.hashed = h.plan.File.Path, h.plan.File.Hashed
	switch {
	case h.plan.Way == restore.WayForceNewCluster:
		return h.recover(ctx)
	case h.plan.Way == restore.WayRollForward:
		return h.rollForward(ctx)
	case h.plan.Way == restore.WaySalvage:
		return h.salvage(ctx)
	case h.packed():
		pr.file = h.room.path("source.db")
		db := openedDB(h.source, h.member.Backend.File)
		if err := h.stage("unpack", func() error { return copyFile(ctx, pr.file, db, db.Size()) }); err != nil {
			return err
		}
	default:
		file, err := filepath.Abs(pr.file)
		if err != nil {
			return err
		}
		pr.file = file
	}
	return nil
}

// cluster lays out every member's directory, starts all, and holds them against the
// promise.
func (h *rehearsal) cluster(ctx context.Context, how string, layOut func(context.Context) error) error {
	n := len(h.plan.Members)
	if n == 0 {
		return failure{errors.New("the plan restores no member"), CheckRestore, "", "members"}
	}
	peers, err := keepPorts(n)
	if err != nil {
		return err
	}
	defer release(peers)
	h.placeMembers(peers)
	if err := h.stage(how, func() error { return layOut(ctx) }); err != nil {
		return err
	}
	clients, err := keepPorts(n)
	if err != nil {
		return err
	}
	defer release(clients)
	var nodes []*node
	err = h.stage("boot", func() error {
		release(peers)
		release(clients)
		nodes, err = h.boot(ctx, clients)
		return err
	})
	if err != nil {
		return err
	}
	if err := h.stage("ask", func() error { return h.ask(ctx, nodes) }); err != nil {
		return err
	}
	if err := h.stage("stop", func() error { return stopAll(nodes) }); err != nil {
		return err
	}
	return h.stage("compare", func() error { return h.compareContent(ctx) })
}

// placeMembers gives every member its URL of the rehearsal.
func (h *rehearsal) placeMembers(peers []port) {
	for i := range h.receipt.Members {
		h.receipt.Members[i].URL = peers[i].url
	}
}

// initialCluster is that of the rehearsal.
func (h *rehearsal) initialCluster() string {
	var list []string
	for _, m := range h.receipt.Members {
		list = append(list, m.Name+"="+m.URL)
	}
	return strings.Join(list, ",")
}

// dataDir is that of the member of this number.
func (h *rehearsal) dataDir(i int) string { return h.room.path(fmt.Sprintf("member%d", i+1)) }

// restoreAll carries out the plan's restore command for every member, as many at a
// time as there are processors.
func (h *rehearsal) restoreAll(ctx context.Context) error {
	errs := make([]error, len(h.receipt.Members))
	turns := make(chan struct{}, max(1, runtime.GOMAXPROCS(0)))
	var wg sync.WaitGroup
	for i, m := range h.receipt.Members {
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			if ctx.Err() == nil {
				errs[i] = h.restoreOne(ctx, i, m)
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	for i, err := range errs {
		m := h.receipt.Members[i].Name
		if err != nil {
			return failure{err, CheckRestore, m, "restored"}
		}
		h.receipt.compare(CheckRestore, m, "restored", "restored", "")
	}
	return nil
}

func (h *rehearsal) restoreOne(ctx context.Context, i int, m Member) error {
	o := restoreOrder{
		File: h.promise.file, Name: m.Name, DataDir: h.dataDir(i), PeerURL: m.URL, InitialCluster: h.initialCluster(),
		Token: h.plan.Token, SkipHashCheck: !h.promise.hashed, Bump: h.plan.Revision.Bump,
	}
	c, err := h.room.start(h.tools.restore(o), h.room.path(fmt.Sprintf("restore%d.log", i+1)))
	if err != nil {
		return err
	}
	defer c.kill()
	return c.await(ctx, eventDone, h.patience())
}

// patience is how long a step may take that reads or writes the whole database: a
// minute, and what a slow disk takes for its bytes.
func (h *rehearsal) patience() time.Duration {
	const bytesPerSecond = 8 << 20
	return time.Minute + time.Duration(dbSize(h.source)/bytesPerSecond)*time.Second
}

// leftOut notes what of the plan no rehearsal tries.
func (h *rehearsal) leftOut() {
	for _, m := range h.plan.Joining {
		h.receipt.skip(CheckJoin, m.Name, "it joins the others", "joining is not rehearsed: it needs the members that run")
	}
	if h.plan.IDsByPlatform {
		h.receipt.skip(CheckPlatform, "", "restored by "+h.plan.Platform, "etcd's own restore stood in for that of "+h.plan.Platform)
	}
}

// complete notes the checks that an earlier failure prevented.
func (r *Receipt) complete() {
	if r.Outcome != NotProven || r.Way == restore.WayRejoin {
		return
	}
	for _, name := range []string{CheckRestore, CheckBoot, CheckMembers, CheckRevision, CheckHashKV, CheckPrefixes, CheckRecords, CheckAlarms, CheckAuth, CheckWrite} {
		if !slices.ContainsFunc(r.Checks, func(c Check) bool { return c.Name == name }) {
			r.skip(name, "", "", "what comes before it failed")
		}
	}
}

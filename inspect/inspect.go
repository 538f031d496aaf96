// Package inspect judges evidence: what was handed in, what each file says,
// whether it is sound, and which findings decided that. Readers state facts;
// every severity in the project comes from the catalogue in this package.
package inspect

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"runtime"

	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/walreader"
	"etcd-forensics/walreader/raftlog"
)

// Options control an examination.
type Options struct {
	Digest bool // compute SHA-256 of every file read
	Limits Limits
	Tokens []string      // values of --initial-cluster-token to try besides Tokens
	Prove  Prover        // proves databases by their logs; nil for not
	Broken *BrokenChains // of a single database, nil when nobody asks for them

	blocks *maphash.Seed // of the sums by which several sources are compared
}

// BrokenChains are the records of a database that break the chains of their keys'
// versions. Where revisions are missing a finding tells of the hole alone; here are the
// records that break chains for it, too.
type BrokenChains struct {
	Keep      int                 // how many are asked for
	Revisions []keyspace.Revision // of the first of them, in file order
	Count     int                 // of all
}

// Inspect examines the sources and gives the case. An error (ctx ended, or a database
// changed between two readings) comes beside the case with what was seen.
func Inspect(ctx context.Context, sources []*source.Source, opts Options) (*Case, error) {
	opts.Limits = opts.Limits.orDefault()
	c := &Case{SchemaVersion: SchemaVersion, Sources: []Source{}, Members: []Member{}, Findings: []Finding{}, NotExamined: []string{}}
	order := map[string]int{}
	if len(sources) > 1 {
		seed := maphash.MakeSeed()
		opts.blocks = &seed
	}
	var failed error
	fail := func(err error) {
		if failed == nil {
			failed = err
		}
	}
	var all, whole []*examination
	for i, s := range sources {
		order[s.Path] = i
		x := newExamination(s, opts)
		fail(x.run(ctx))
		if len(sources) > 1 {
			// The next one takes the memory of this one, and none beside it.
			x.release()
			runtime.GC()
		}
		all = append(all, x)
		if !x.interrupted {
			whole = append(whole, x)
		}
	}
	// What is said of several sources rests on those that were read to their end.
	settleCommits(whole)
	if len(whole) == len(all) {
		checkClusters(all) // which of them are the odd ones depends on all
	}
	for _, x := range whole {
		x.reconcile()
	}
	checkRemoved(whole)
	for _, x := range whole {
		fail(x.fit(ctx))
		x.listUnapplied(ctx)
		fail(x.prove(ctx, sources))
	}
	if failed == nil {
		fail(c.compare(ctx, all))
	}
	for _, x := range all {
		x.member.Interrupted = x.interrupted
		x.member.Verdict = judge(x.findings, len(x.member.NotExamined) == 0)
		c.Sources = append(c.Sources, x.source())
		c.Members = append(c.Members, x.member)
		c.Findings = append(c.Findings, x.findings...)
	}
	sortFindings(c.Findings, order)
	if failed != nil {
		c.Interrupt(failed)
		c.compareNothing(all)
	}
	c.judge()
	return c, failed
}

// fit asks whether the files of a source fit each other.
func (x *examination) fit(ctx context.Context) error {
	err := x.checkFit(ctx)
	if err != nil {
		x.interrupted = true
		x.note("whether log and database of %s fit each other: %v", x.src.Path, interruption(err))
	}
	return err
}

// AddProblems notes paths that could not be opened beside others that could.
func (c *Case) AddProblems(problems []error) {
	for _, p := range problems {
		c.NotExamined = append(c.NotExamined, p.Error())
	}
	c.judge()
}

func (c *Case) judge() {
	var verdicts []Verdict
	for _, m := range c.Members {
		verdicts = append(verdicts, m.Verdict)
	}
	c.Verdict = ofCase(verdicts, c.Complete())
}

// An examination looks at one source.
type examination struct {
	src      *source.Source
	opts     Options
	member   Member
	findings []Finding

	badRecords  int  // records of small buckets that cannot be read
	interrupted bool // the examination did not come to its end

	log    *raftlog.Log // nil when there is no WAL to read
	trace  trace        // of that log
	writes writeLog     // of that log
	clock  LogClock     // of that log
	chain  *walreader.Chain
	upTo   uint64                     // of that log: index up to which requests are looked into
	visit  func(raftlog.Entry, place) // told of each entry of that log, when not nil
	snaps  []snapshot                 // by term and index
	db     *database                  // the one that etcd would open; nil when none was read

	confChanges []raftlog.ConfChangeEntry // see changes; nil when not asked for yet
	bucket      roster                    // buckets members and members_removed of the database

	aligned     *alignment // of log and database, once it was asked for
	alignedOnce bool
	held        *holder // what is compared with other sources; nil when nothing is
	diverged    bool    // from the other sources, and blamed for it
}

func newExamination(s *source.Source, opts Options) *examination {
	return &examination{src: s, opts: opts, upTo: everyRequest, bucket: newRoster(), member: Member{
		Source: s.Path, Snapshots: []Snap{}, Leftovers: []Leftover{}, Startup: []Startup{}, NotExamined: []string{},
		Membership: Membership{
			Members: []MembershipMember{}, Removed: []ID{}, Removals: []Removal{}, Zombies: []MembershipMember{},
			Changes: []MembershipChange{}, Statements: []Statement{},
		},
	}}
}

func (x *examination) find(f Finding) { x.findings = append(x.findings, f) }

func (x *examination) note(format string, args ...any) {
	x.member.NotExamined = append(x.member.NotExamined, fmt.Sprintf(format, args...))
}

// run reads the source's files. Only the end of ctx is an error.
func (x *examination) run(ctx context.Context) error {
	err := x.examineFiles(ctx)
	if err != nil {
		x.interrupted = true
		x.note("the rest of %s: %v", x.src.Path, interruption(err))
	}
	for _, f := range x.src.Files() {
		if how := f.Changed(); how != "" {
			x.find(newFinding(CodeSourceChanged, x.src.Path, "the file changed while it was read: "+how).inFile(f.Path))
			x.note("%s at one moment: it changed while it was read", f.Path)
		}
	}
	return err
}

// release gives up the pages of the database's tree, so that several sources take the
// memory of one. Whoever reads the database again restores them for that time.
func (x *examination) release() {
	if d := x.db; d != nil && d.tree != nil && d.remnant == nil {
		d.tree.Release()
	}
}

func interruption(err error) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	return err.Error()
}

func (x *examination) examineFiles(ctx context.Context) error {
	for _, err := range x.src.Unread {
		x.note("%v", err)
	}
	if err := x.digestArchive(ctx); err != nil {
		return err
	}
	if err := x.examineLog(ctx); err != nil {
		return err
	}
	if err := x.examineSnaps(ctx); err != nil {
		return err
	}
	if x.src.Kind == source.KindWALDir {
		return nil
	}
	if x.src.DB == nil && len(x.src.Received) == 0 {
		x.find(newFinding(CodeBackendMissing, x.src.Path, "no snap/db in the member directory"))
		return nil
	}
	f, err := x.chooseBackend(ctx)
	if err != nil {
		return err
	}
	return x.examineBackend(ctx, f)
}

// digestArchive computes the digest of the archive from which the files were
// unpacked, once for all of its sources.
func (x *examination) digestArchive(ctx context.Context) error {
	a := x.src.Archive
	if a == nil || !x.opts.Digest {
		return nil
	}
	if _, known := a.Digest(); known {
		return nil
	}
	err := digestAll(ctx, []*source.File{a})
	if err != nil && ctx.Err() == nil {
		x.note("the digest of %s: %v", a.Path, err)
		return nil
	}
	return err
}

// source describes what was handed in.
func (x *examination) source() Source {
	s := Source{Path: x.src.Path, Kind: string(x.src.Kind), Files: []SourceFile{}}
	for _, f := range x.src.Files() {
		sf := SourceFile{Path: f.Path, Size: f.Size()}
		if sum, ok := f.Digest(); ok {
			text := hex.EncodeToString(sum[:])
			sf.SHA256 = &text
		}
		s.Files = append(s.Files, sf)
	}
	return s
}

// Package recover makes databases anew: from a base and the committed entries of logs,
// applied by etcd's own applier in a child process. Everything happens on copies in a
// scratch folder, and a file appears only when it is complete.
package recover

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
	"etcd-forensics/walreader/replay"
)

// RollOptions say what is rolled forward, and how far.
type RollOptions struct {
	Base *source.Source   // nil for none: the logs reach back to the first entry
	WALs []*source.Source // of one cluster; they fill each other's gaps
	Out  string           // the new file

	ToIndex    uint64 // stop behind this entry; 0 for no such bound
	ToRevision int64  // stop behind the entry that makes it; 0 for no such bound
	Before     []byte // stop before the last entry that changed or deleted this key; nil for none
	Tail       bool   // apply the entries that nothing proves committed, too

	MaxLearners int   // etcd's --max-learners; 0 for its default
	MinLeaseTTL int64 // in seconds; 0 for what etcd's default election timeout leads to

	Scratch  string               // folder for the copy; "" for the system's
	Self     []string             // this program as a child: it calls replay.Child
	Applying func(entries uint64) // told, each time it begins, how many entries there are to apply
	Progress func(entries int64)  // told how many were sent since the last call
}

// etcd's defaults (etcd v3.7.3, server/embed/config.go; MinLeaseTTL is one and a half
// elections in seconds, rounded up, server/etcdserver/server.go, NewServer).
const (
	defaultMaxLearners = 1
	defaultMinLeaseTTL = 2
)

// A RollRefusal is why nothing was made, and what would help.
type RollRefusal struct{ Why, Help string }

func (r *RollRefusal) Error() string { return r.Why }

// Why the end is where it is.
const (
	StopCommitted = "end-of-committed" // nothing proves a later entry committed
	StopLog       = "end-of-log"       // --tail: the logs hold no further entry
	StopIndex     = "to-index"
	StopRevision  = "to-revision"
	StopBefore    = "before-key"
	StopGap       = "gap" // the next entry is in none of the logs, or not whole
)

// The outcomes of a check.
const (
	Proven   = "proven"
	Unproven = "unproven" // nothing to check it by
)

// A Check is one thing that was checked on the way.
type Check struct {
	What    string // terms, ids, splice, conf-state, hashkv, output
	Outcome string
	Detail  string
}

// A Point is a place in the history of a cluster.
type Point struct {
	Index    uint64
	Revision int64
}

// A LogPart is one of the logs.
type LogPart struct {
	Source      string
	MemberID    inspect.ID
	First, Last uint64 // of its entries; 0 when it has none
	LastTerm    uint64
	Used        uint64 // entries taken from it
}

// A Range is a range of indexes, both included.
type Range struct{ First, Last uint64 }

// A TailKey is a key that an entry writes which nothing proves committed.
type TailKey struct {
	Index   uint64
	Key     []byte
	Deletes bool
}

// An Undo is the entry before which it was stopped.
type Undo struct {
	Key      []byte
	Index    uint64
	Revision int64
	Deleted  bool
}

// A Rollforward is what was made, and of what.
type Rollforward struct {
	Base      string // as it was given; "" for none
	BaseFile  string // the database of it
	From      Point
	To        Point
	Term      uint64
	ClusterID inspect.ID
	Logs      []LogPart

	Committed   uint64 // the highest index that all evidence proves
	CommittedBy string
	Beyond      uint64 // entries behind it in the logs
	Tail        []TailKey
	MoreTail    int // keys that are not among Tail

	Counts  replay.Counts
	Stopped string
	Missing *Range // the entries that nobody has, when something is known to be missing
	Undo    *Undo

	Checks []Check
	Out    string
	Size   int64
	SHA256 string
	HashKV inspect.HashKV
}

// A rolling is a Rollforward in the making.
type rolling struct {
	*Rollforward
	o    RollOptions
	base *rollBase
	logs *logs
	end  uint64 // the last entry to be applied
	room string // the private folder
	held []dbMark

	hashing  sync.WaitGroup // of the databases held
	moreTail []uint64       // the entries of keys that are not among Tail
}

// Roll rolls a base forward. The result is there beside a *RollRefusal, too, as far as it got.
func Roll(ctx context.Context, o RollOptions) (*Rollforward, error) {
	r := newRolling(o)
	err := r.run(ctx)
	r.count()
	return r.Rollforward, err
}

func newRolling(o RollOptions) *rolling {
	if o.MaxLearners == 0 {
		o.MaxLearners = defaultMaxLearners
	}
	if o.MinLeaseTTL == 0 {
		o.MinLeaseTTL = defaultMinLeaseTTL
	}
	return &rolling{o: o, Rollforward: &Rollforward{Logs: []LogPart{}, Tail: []TailKey{}, Checks: []Check{}, Out: o.Out}}
}

// prepare examines base and logs and says how far it goes.
func (r *rolling) prepare(ctx context.Context) error {
	if err := r.openBase(ctx); err != nil {
		return err
	}
	if err := r.openLogs(ctx); err != nil {
		return err
	}
	if err := r.checkBase(ctx); err != nil {
		return err
	}
	return r.aim()
}

func (r *rolling) run(ctx context.Context) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	if err := r.checkSpace(); err != nil {
		return err
	}
	return r.inRoom(ctx)
}

// inRoom works in a private folder that goes away in any case.
func (r *rolling) inRoom(ctx context.Context) (err error) {
	if r.room, err = newRoom(r.o.Scratch); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.room)) }()
	if r.o.Before != nil {
		if err := r.findChange(ctx); err != nil {
			return err
		}
	}
	defer r.holdDatabases(ctx)()
	part, err := partial(r.Out)
	if err != nil {
		return err
	}
	defer os.Remove(part)
	order := replay.Order{Out: part, ToRevision: r.o.ToRevision, Marks: r.marks()}
	written, err := r.apply(ctx, order, func(done *replay.Done) error { return r.conclude(ctx, part, done) })
	if err != nil {
		return err
	}
	r.Size, r.SHA256 = written.Size, hex.EncodeToString(written.SHA256)
	if is, err := os.Stat(part); err != nil {
		return err
	} else if is.Size() != r.Size {
		return fmt.Errorf("the file that was written has %d bytes, and %d were written", is.Size(), r.Size)
	}
	r.check("output", Proven, "read again: its HashKV is the one that etcd computed")
	if n := len(r.logs.confStates(r.From.Index, r.To.Index)); n > 0 {
		r.check("conf-state", Proven, fmt.Sprintf("%d snapshot records state the membership that the entries lead to", n))
	}
	return appear(part, r.Out)
}

// findChange applies everything once to learn which entry changed the key last.
func (r *rolling) findChange(ctx context.Context) error {
	var done *replay.Done
	_, err := r.apply(ctx, replay.Order{Watch: r.o.Before, ToRevision: r.o.ToRevision}, func(d *replay.Done) error { done = d; return nil })
	if err != nil {
		return err
	}
	if done.Change == nil {
		return &RollRefusal{"no entry behind the base, up to index " + fmt.Sprint(done.Index) + ", changed or deleted the key", "an older --base, or logs that reach further"}
	}
	r.Undo = &Undo{Key: r.o.Before, Index: done.Change.Index, Revision: done.Change.Revision, Deleted: done.Change.Deleted}
	r.end, r.Stopped, r.o.ToRevision = done.Change.Index-1, StopBefore, 0
	return r.logs.plan(r.From.Index+1, r.end)
}

// apply copies the base and applies the entries to the copy. What was done goes to look
// while the child computes its file's hash and brings it to the disk.
func (r *rolling) apply(ctx context.Context, order replay.Order, look func(*replay.Done) error) (written *replay.Written, err error) {
	if order.Work, err = r.copyBase(ctx); err != nil {
		return nil, err
	}
	defer os.Remove(order.Work)
	order.Sweep = r.room
	order.MemberID, order.ClusterID = uint64(r.Logs[0].MemberID), uint64(r.ClusterID)
	order.MaxLearners, order.MinLeaseTTL = r.o.MaxLearners, r.o.MinLeaseTTL
	order.ConfStates = r.logs.confStates(r.From.Index, r.end)
	p, state, err := replay.Start(ctx, r.o.Self, order)
	if err != nil {
		return nil, explain(err)
	}
	if state.Index != r.From.Index {
		p.Kill()
		return nil, fmt.Errorf("etcd reads consistent index %d of the copy, and the base has %d", state.Index, r.From.Index)
	}
	r.From.Revision = state.Revision
	if r.o.Applying != nil {
		r.o.Applying(r.end - r.From.Index)
	}
	if order.ToRevision > 0 && order.ToRevision <= state.Revision {
		p.Kill()
		return nil, &RollRefusal{fmt.Sprintf("the base is at revision %d already", state.Revision), "an older --base"}
	}
	if err := r.logs.send(ctx, p, r); err != nil {
		p.Kill()
		return nil, err
	}
	done, err := p.Finish(ctx)
	if err != nil {
		return nil, explain(err)
	}
	err = r.judge(order, done, p.Marks)
	if err == nil {
		err = look(done)
	}
	written, ended := p.Wait(ctx)
	if ended != nil {
		err = errors.Join(err, explain(ended))
	}
	return written, err
}

// judge holds what came out against what was asked for and what is known.
func (r *rolling) judge(order replay.Order, done *replay.Done, marks []replay.Mark) error {
	switch {
	case order.ToRevision == 0 && done.Index != r.end:
		return fmt.Errorf("entries up to %d were handed on, and the last one applied is %d", r.end, done.Index)
	case order.ToRevision > 0 && done.Revision < order.ToRevision:
		return &RollRefusal{fmt.Sprintf("revision %d is not reached: the entries lead to %d", order.ToRevision, done.Revision), r.whatHelps()}
	case order.ToRevision > 0:
		if r.Undo == nil {
			r.Stopped, r.Missing = StopRevision, nil
		}
	}
	return r.compareMarks(marks)
}

// whatHelps says what would let the roll go further.
func (r *rolling) whatHelps() string {
	if r.Missing != nil {
		return fmt.Sprintf("a --wal that holds entries %d to %d", r.Missing.First, r.Missing.Last)
	}
	if r.Beyond > 0 && !r.o.Tail {
		return fmt.Sprintf("the WALs of the other members, or --tail for entries %d to %d, which nothing proves committed", r.Committed+1, r.Committed+r.Beyond)
	}
	return "logs that reach further"
}

// conclude checks the file that was written and takes over what was done.
func (r *rolling) conclude(ctx context.Context, part string, done *replay.Done) error {
	r.To, r.Term, r.Counts = Point{done.Index, done.Revision}, done.Term, done.Counts
	r.HashKV = inspect.HashKV{Hash: done.Hash, Revision: done.Revision, CompactRevision: done.CompactRevision}
	sources, problems := source.Open(ctx, []string{part}, source.Options{})
	if len(sources) == 0 {
		return errors.Join(problems...)
	}
	defer sources[0].Close()
	own, err := inspect.HashKVAt(ctx, sources[0], 0)
	if err != nil {
		return err
	}
	if own != r.HashKV {
		return fmt.Errorf("the file that was written has HashKV %+v, and etcd computed %+v", own, r.HashKV)
	}
	return nil
}

func (r *rolling) check(what, outcome, detail string) {
	r.Checks = append(r.Checks, Check{what, outcome, detail})
}

// explain makes a refusal of what a child refused.
func explain(err error) error {
	f, ok := replay.IsFailure(err)
	if !ok {
		return err
	}
	before := fmt.Sprintf("--to-index %d stops before it", f.Index-1)
	switch f.Reason {
	case replay.ReasonUnknown, replay.ReasonVersion:
		return &RollRefusal{f.Error(), before + "; what a newer etcd wrote, only that etcd can apply"}
	case replay.ReasonChangeV2:
		return &RollRefusal{f.Error(), before}
	case replay.ReasonConfState:
		return &RollRefusal{f.Error(), "--max-learners as the servers had it, or another --base"}
	case replay.ReasonEntry:
		return &RollRefusal{f.Error(), "another member's --wal, or " + before}
	case replay.ReasonApplier:
		if f.Index > 0 {
			return &RollRefusal{f.Error(), "another --base: with this one the entries make no sense"}
		}
		return &RollRefusal{f.Error(), "inspect the base, and a base that is sound"}
	}
	return err
}

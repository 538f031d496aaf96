package query

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"slices"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb/kube"
	"etcd-forensics/walreader/raftlog"
)

// HistoryOptions say what is asked for.
type HistoryOptions struct {
	Keys
	Revision int64 // nothing above it; 0 for all
	Values   bool
}

// What happened to a key.
const (
	ActionCreate = "create"
	ActionUpdate = "update"
	ActionPut    = "put" // by the log alone, which does not tell a creation from an update
	ActionDelete = "delete"
)

// An Event is one thing that happened to a key, as database and log tell it.
type Event struct {
	Version // Revision 0 when it is not known

	Action     string
	InDatabase bool
	InWAL      bool
	Index      uint64 // of the entry in the log, with InWAL
	Term       uint64
	State      string // of the entry, as in a WALRow
	// Unsure is set when the entry may not have touched the key: it is a deletion of a
	// range or in a transaction, and nothing proves what came of it.
	Unsure bool
	Time   *kube.Estimate // when, as other objects in the database let it be estimated
}

// A HistoryResult is what is known of some keys, oldest first.
type HistoryResult struct {
	File            string // database, "" when there is none
	Revision        int64
	CompactRevision int64 // older versions may have been removed from the database; -1 when it was never compacted
	Log             bool  // a log was read, too
	List            []Event
	Findings        []inspect.Finding
	Whole           bool

	// Interrupted says how far the reading of the database came; nil when everything was
	// read. With all of its pages it was the log that was not read to its end.
	Interrupted *inspect.Reach
	Unread      LogPart // what of the log was not read
}

// A LogPart is what an interrupt left of a log.
type LogPart string

// What may be left.
const (
	LogNone LogPart = ""     // nothing, or there is no log
	LogRest LogPart = "rest" // what lies behind some entries
	LogAll  LogPart = "all"
)

// History gives every version of keys that database and log still hold. When ctx ends
// behind the first records, the result holds what they tell.
func History(ctx context.Context, s *source.Source, opts HistoryOptions) (*HistoryResult, error) {
	r := &HistoryResult{Whole: true, CompactRevision: -1}
	h := &historian{HistoryResult: r, opts: opts, seed: maphash.MakeSeed()}
	if s.DB == nil && len(s.Received) == 0 && len(s.WAL) == 0 {
		return nil, errors.Join(inspect.ErrNoDatabase, inspect.ErrNoLog)
	}
	err := h.read(ctx, s)
	if err != nil && r.Interrupted == nil {
		return nil, err
	}
	h.sort()
	return r, err
}

// read reads the database, and then the log. An entry is known to have made a version only
// when all entries were read.
func (r *historian) read(ctx context.Context, s *source.Source) error {
	if s.DB != nil || len(s.Received) > 0 {
		if err := r.readDatabase(ctx, s); err != nil {
			return err
		}
	}
	if len(s.WAL) > 0 {
		if err := r.readLog(ctx, s); err != nil {
			return r.cutLog(ctx, err)
		}
	}
	r.merge()
	for i := range r.List {
		r.estimate(&r.List[i])
	}
	return nil
}

// A historian puts a history together.
type historian struct {
	*HistoryResult
	opts     HistoryOptions
	seed     maphash.Seed
	revision kube.Clock      // by revision, as the database tells
	log      *WAL            // nil when there is none
	reach    inspect.Reach   // in the database
	known    map[int64][]int // revision to places in List
}

// estimate says when something happened, as database or log tell it more closely.
func (r *historian) estimate(e *Event) {
	if e.Revision.Main > 0 {
		if at, ok := r.revision.At(e.Revision.Main); ok {
			e.Time = &at
		}
	}
	if r.log == nil || e.Index == 0 {
		return
	}
	if at, ok := r.log.Clock.At(e.Index); ok && (e.Time == nil || at.Closer(*e.Time)) {
		e.Time = &at
	}
}

func (r *historian) readDatabase(ctx context.Context, s *source.Source) error {
	opts := r.opts
	k, err := inspect.OpenKeyspace(ctx, s, inspect.DefaultLimits)
	if err != nil {
		return err
	}
	v := &versions{keyspace: k, keys: opts.Keys, revision: opts.Revision, values: opts.Values, clock: &r.revision, seed: r.seed}
	list, findings, whole, err := v.read(ctx)
	if err != nil && v.interrupted == nil {
		return err
	}
	r.Interrupted, r.reach = v.interrupted, v.reach
	if err != nil && len(s.WAL) > 0 {
		r.Unread = LogAll
	}
	r.File, r.Revision, r.CompactRevision, r.Findings, r.Whole = k.File, k.Revision, k.CompactRevision, findings, whole
	for _, version := range list {
		e := Event{Version: version, InDatabase: true, Action: ActionUpdate}
		switch {
		case version.Revision.Tombstone:
			e.Action = ActionDelete
		case version.Version == 1:
			e.Action = ActionCreate
		}
		r.List = append(r.List, e)
	}
	return err
}

// cutLog notes that ctx ended before the log was read to its end, with err.
func (r *historian) cutLog(ctx context.Context, err error) error {
	if ctx.Err() == nil || !errors.Is(err, ctx.Err()) || r.File == "" && r.log == nil {
		return err
	}
	r.Interrupted, r.Whole, r.Unread = &r.reach, false, LogAll
	if r.log != nil {
		r.Unread = LogRest
	}
	return err
}

// readLog adds what the log says of the keys.
func (r *historian) readLog(ctx context.Context, s *source.Source) error {
	log, err := OpenWAL(ctx, s)
	if err != nil {
		return err
	}
	r.Log, r.log = true, log
	r.known = map[int64][]int{}
	for i := range r.List {
		r.known[r.List[i].Revision.Main] = append(r.known[r.List[i].Revision.Main], i)
	}
	_, err = log.Rows(ctx, WALFilter{}, func(row *WALRow) error {
		if !row.Entry || row.State == StateOverwritten || row.State == StateForeign {
			return nil
		}
		if r.opts.Revision > 0 && row.Revision > r.opts.Revision {
			return nil
		}
		return r.takeRow(row)
	})
	return err
}

// takeRow adds what one entry does to the keys.
func (r *historian) takeRow(row *WALRow) error {
	opts, known := &r.opts, r.known
	if row.Revision > 0 {
		for _, i := range known[row.Revision] {
			e := &r.List[i]
			e.InWAL, e.Index, e.Term, e.State = true, row.Index, row.Term, row.State
		}
		if row.Revision > r.CompactRevision {
			return nil // the database has all of that revision
		}
	}
	for i := range row.Ops {
		op := &row.Ops[i]
		e := Event{InWAL: true, Index: row.Index, Term: row.Term, State: row.State}
		e.Revision.Main = row.Revision
		switch {
		case op.Kind == raftlog.OpPut && opts.Has(op.Key):
			e.Action, e.Key, e.Lease, e.ValueSize = ActionPut, bytes.Clone(op.Key), op.Lease, int64(op.Value.Len)
			e.Unsure = op.Depth > 0 && row.Revision == 0
			e.sum = maphash.Bytes(r.seed, op.Value.In(row.Data))
			if opts.Values {
				e.Value = append([]byte{}, op.Value.In(row.Data)...)
			}
		case op.Kind == raftlog.OpDeleteRange && !opts.Prefix && covers(op, opts.Key):
			e.Action, e.Key = ActionDelete, bytes.Clone(opts.Key)
			e.Revision.Tombstone = true
			e.Unsure = !deleted(row, op)
		case op.Kind == raftlog.OpDeleteRange && opts.Prefix && len(op.RangeEnd) == 0 && opts.Has(op.Key):
			e.Action, e.Key = ActionDelete, bytes.Clone(op.Key)
			e.Revision.Tombstone = true
			e.Unsure = !deleted(row, op)
		default:
			continue
		}
		if has(r.List, known[row.Revision], e.Key) {
			continue
		}
		if len(r.List) >= maxVersions {
			return ErrTooMany
		}
		r.List = append(r.List, e)
	}
	return nil
}

// deleted says whether an entry is certain to have deleted a key: it produced a
// revision, and has no other operation that can have done so.
func deleted(row *WALRow, op *raftlog.Op) bool {
	if row.Revision == 0 || len(op.RangeEnd) > 0 {
		return false
	}
	writes := 0
	for i := range row.Ops {
		if kind := row.Ops[i].Kind; kind == raftlog.OpPut || kind == raftlog.OpDeleteRange {
			writes++
		}
	}
	return writes == 1
}

// merge makes one event of a version in the database and a put in the log, when of that
// key only these two have that value.
func (r *historian) merge() {
	type content struct {
		key string
		sum uint64
	}
	inDatabase, inLog := map[content][]int{}, map[content][]int{}
	for i := range r.List {
		e := &r.List[i]
		c := content{string(e.Key), e.sum}
		switch {
		case e.Revision.Tombstone:
		case e.InDatabase && !e.InWAL:
			inDatabase[c] = append(inDatabase[c], i)
		case !e.InDatabase && e.Revision.Main == 0 && e.State == StateApplied:
			inLog[c] = append(inLog[c], i)
		}
	}
	merged := map[int]bool{}
	for c, at := range inDatabase {
		from := inLog[c]
		if len(at) != 1 || len(from) != 1 {
			continue
		}
		to, e := &r.List[at[0]], &r.List[from[0]]
		to.InWAL, to.Index, to.Term, to.State = true, e.Index, e.Term, e.State
		merged[from[0]] = true
	}
	kept := r.List[:0]
	for i := range r.List {
		if !merged[i] {
			kept = append(kept, r.List[i])
		}
	}
	r.List = kept
}

func has(list []Event, at []int, key []byte) bool {
	return slices.ContainsFunc(at, func(i int) bool { return bytes.Equal(list[i].Key, key) })
}

// covers says whether an operation on a range is about a key.
func covers(op *raftlog.Op, key []byte) bool {
	switch {
	case len(op.RangeEnd) == 0:
		return bytes.Equal(op.Key, key)
	case bytes.Compare(key, op.Key) < 0:
		return false
	}
	return len(op.RangeEnd) == 1 && op.RangeEnd[0] == 0 || bytes.Compare(key, op.RangeEnd) < 0
}

// sort puts the events of each key in order. An entry whose revision is not known
// lies behind the events of entries before it.
func (r *HistoryResult) sort() {
	order := slices.Clone(r.List)
	slices.SortStableFunc(order, func(a, b Event) int { return cmp.Compare(a.Index, b.Index) })
	behind := map[uint64]int64{} // index to the highest revision that an entry up to it produced
	highest := int64(0)
	for i := range order {
		if order[i].Index > 0 {
			highest = max(highest, order[i].Revision.Main)
			behind[order[i].Index] = highest
		}
	}
	at := func(e *Event) int64 {
		switch {
		case e.Revision.Main > 0:
			return e.Revision.Main
		case e.State == StateCommitted || e.State == StateUncommitted || e.State == StatePlausible && behind[e.Index] == 0:
			return r.Revision + 1
		}
		return behind[e.Index]
	}
	slices.SortStableFunc(r.List, func(a, b Event) int {
		return cmp.Or(bytes.Compare(a.Key, b.Key), cmp.Compare(at(&a), at(&b)), a.Revision.Compare(b.Revision), cmp.Compare(a.Index, b.Index))
	})
}

package inspect

import (
	"context"

	"etcd-forensics/inspect/source"
	"etcd-forensics/walreader/raftlog"
)

// IDs gives the ids that the log states, nil when it states none.
func (r *LogReading) IDs() (member, cluster *ID) { return r.x.member.MemberID, r.x.member.ClusterID }

// AppliedTerm gives the term that the database beside the log states for its consistent
// index, 0 when it states none.
func (r *LogReading) AppliedTerm() uint64 {
	if b := r.x.member.Backend; b != nil {
		return deref(b.Term, 0)
	}
	return 0
}

// FromTheBeginning says whether the log has every write that the store was ever made of,
// from the first entry on: a restored member's log has not.
func (r *LogReading) FromTheBeginning() bool {
	// That older writes are not kept in memory says nothing of the log.
	return r.Log.Entries.First == 1 && !r.x.beganRestored()
}

// A Splice is how a log and a database that shall go together overlap.
type Splice struct {
	Entries int // writes that both have
	Fits    int // of them, those whose records the database proves
	Wrong   int // places where it contradicts them
	// First is the oldest entry that was held against the database.
	First uint64
	Why   string // why there is no overlap to look at; "" when there is one
}

// Holds says that the overlap proves that the log led to the database.
func (s Splice) Holds() bool { return s.Fits > 0 && s.Wrong == 0 }

// SpliceOf lays the newest entries of a log that a database of its cluster has applied
// beside the database's newest revisions.
func SpliceOf(ctx context.Context, log *source.Source, db *source.File, limits Limits) (Splice, error) {
	_, a, why, err := layBeside(ctx, log, db, false, limits)
	if a == nil {
		return Splice{Why: why}, err
	}
	return Splice{Entries: len(a.writes) - a.skipped, Fits: a.fits, Wrong: len(a.wrong), First: a.writes[a.skipped].index}, nil
}

// layBeside lays a log beside a database that it may have led to. a is nil when that
// cannot be done, and why says what keeps it. cut says that the database's last revisions
// may be missing.
func layBeside(ctx context.Context, log *source.Source, db *source.File, cut bool, limits Limits) (r *LogReading, a *alignment, why string, err error) {
	both := &source.Source{Path: log.Path, Kind: source.KindDataDir, DB: db, ByPlace: true, WAL: log.WAL, WALDir: log.WALDir}
	// Later writes are not in the database, and there may be more of them than are kept.
	upTo, err := consistentIndex(ctx, db)
	if err != nil {
		return nil, nil, "", err
	}
	r, err = readLog(ctx, both, upTo, limits)
	if err == nil && r.x.db != nil && r.x.db.meta.index > upTo { // of what remains of a damaged one
		r, err = readLog(ctx, both, everyRequest, limits)
	}
	if err != nil {
		return nil, nil, "", err
	}
	if r.NoRevisions != "" {
		return r, nil, r.NoRevisions, nil
	}
	index := r.x.db.meta.index
	if first, ok := r.x.reach(index); !ok {
		return r, nil, "the log does not hold the entry that the database applied last, or holds another one", nil
	} else if len(r.x.writes.between(first, index)) == 0 {
		return r, nil, "the log holds no write that the database has applied", nil
	}
	if a = r.x.alignCut(r.x.db.lastRevision(), cut); a == nil {
		return r, nil, "log and database cannot be laid beside each other", nil
	}
	return r, a, "", nil
}

// An Account is what an entry of a log says of a revision of a database that has applied
// it.
type Account struct {
	Index uint64
	// Revision is the one that it produced; 0 when it surely produced one, and the
	// database has none that it can be.
	Revision int64
	// Agrees says that the database holds what the entry leaves.
	Agrees bool
	// Request and its data are valid during the call.
	Request *raftlog.Request
	Data    []byte
}

// Accounts is how far a log accounts for the revisions of a database.
type Accounts struct {
	Why  string // why for none; "" when it does for some
	Last int64  // revision of the database

	First, End uint64 // entries of the log, 0 for none
	Beginning  bool   // the log has every write that the store was ever made of
	Proven     uint64 // the last entry that the log itself proves committed
}

// AccountFor lays a log beside a database as SpliceOf does, and gives each entry that the
// database contradicts, and of those that it agrees with the ones of wanted revisions.
// Nothing is said when more of it is contradicted than not. cut says that the database's
// last revisions may be missing.
func AccountFor(ctx context.Context, log *source.Source, db *source.File, cut bool, limits Limits, wanted func(revision int64) bool, visit func(Account)) (Accounts, error) {
	r, a, why, err := layBeside(ctx, log, db, cut, limits)
	if err != nil {
		return Accounts{}, err
	}
	settleCommits([]*examination{r.x})
	r.finish(ctx)
	of := Accounts{Why: why, First: r.Log.Entries.First, End: r.Log.Entries.Last, Beginning: r.FromTheBeginning()}
	if c := r.WAL.ProvenCommit; c != nil {
		of.Proven = *c
	}
	if a == nil {
		return of, ctx.Err()
	}
	of.Last = a.revs.last
	if len(a.wrong) > a.fits {
		of.Why = "the database contradicts more of the log than it agrees with"
		return of, nil
	}
	tell := func(i int, revision int64, agrees bool) {
		if w := &a.writes[i]; a.bytes.load(w) {
			visit(Account{Index: w.index, Revision: revision, Agrees: agrees, Request: &a.bytes.request, Data: a.bytes.entry.Data})
		}
	}
	for _, c := range a.wrong {
		if c.write >= 0 {
			tell(c.write, c.revision, false)
		}
	}
	for i, revision := range a.produced {
		if revision > 0 && wanted(revision) {
			tell(i, revision, true)
		}
	}
	return of, ctx.Err()
}

// ConsistentIndexOf reads a database's consistent index, 0 when it has none.
func ConsistentIndexOf(ctx context.Context, f *source.File) (uint64, error) {
	return consistentIndex(ctx, f)
}

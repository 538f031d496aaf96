package inspect

import (
	"context"

	"etcd-forensics/inspect/source"
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
	// That older writes are not kept in memory says nothing about the log.
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
	both := &source.Source{Path: log.Path, Kind: source.KindDataDir, DB: db, ByPlace: true, WAL: log.WAL, WALDir: log.WALDir}
	r, err := readLog(ctx, both, limits)
	if err != nil {
		return Splice{}, err
	}
	if r.NoRevisions != "" {
		return Splice{Why: r.NoRevisions}, nil
	}
	index := r.x.db.meta.index
	if first, ok := r.x.reach(index); !ok {
		return Splice{Why: "the log does not hold the entry that the database applied last, or holds another one"}, nil
	} else if len(r.x.writes.between(first, index)) == 0 {
		return Splice{Why: "the log holds no write that the database has applied"}, nil
	}
	a := r.x.alignLog(r.x.db.lastRevision())
	if a == nil {
		return Splice{Why: "log and database cannot be laid beside each other"}, nil
	}
	return Splice{Entries: len(a.writes) - a.skipped, Fits: a.fits, Wrong: len(a.wrong), First: a.writes[a.skipped].index}, nil
}

// ConsistentIndexOf reads a database's consistent index, 0 when it has none.
func ConsistentIndexOf(ctx context.Context, f *source.File) (uint64, error) {
	return consistentIndex(ctx, f)
}

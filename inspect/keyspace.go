package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/scan"
)

// A Keyspace is bucket key of the database that etcd would open.
type Keyspace struct {
	File            string
	DB              *snapdb.File
	Tree            *snapdb.Tree
	Bucket          int // bucket key in Tree.Buckets
	Rows            *scan.Rows
	Revision        int64 // the newest, as etcd computes it at start
	LastRecord      int64 // revision of the newest record, which a compaction may have left below it; 0 for none
	CompactRevision int64 // the scheduled one when it is higher; -1 when nothing was ever compacted

	x *examination
	d *database
}

// ErrNoKeys is given for a database without bucket key.
var ErrNoKeys = errors.New("no bucket key in it")

// Errors in etcd's words (etcd v3.7.3, server/storage/mvcc/kv.go).
var (
	ErrCompacted = errors.New("mvcc: required revision has been compacted")
	ErrFutureRev = errors.New("mvcc: required revision is a future revision")
)

// OpenKeyspace opens the database that etcd would open, and reads its branch pages
// and bucket meta.
func OpenKeyspace(ctx context.Context, s *source.Source, limits Limits) (*Keyspace, error) {
	x, d, err := openSource(ctx, s, -1, limits)
	if err != nil {
		return nil, err
	}
	key, ok := d.bucket[keyspace.BucketKey]
	if !ok {
		return nil, fmt.Errorf("%s: %w", d.file.Path, ErrNoKeys)
	}
	rows := scan.NewRows(d.tree, key)
	last, _ := keyspace.DecodeRevision(rows.Last())
	return &Keyspace{
		File: d.file.Path, DB: d.db, Tree: d.tree, Bucket: key, Rows: rows,
		Revision: newestRevision(last.Main, d.meta), LastRecord: last.Main, CompactRevision: d.meta.revision(), x: x, d: d,
	}, nil
}

// Check says why nothing can be told as of a revision; 0 is the newest.
func (k *Keyspace) Check(rev int64) error {
	switch {
	case rev > 0 && rev < k.CompactRevision:
		return fmt.Errorf("%s: %w: %d is below %d", k.File, ErrCompacted, rev, k.CompactRevision)
	case rev > k.Revision:
		return fmt.Errorf("%s: %w: %d is above %d", k.File, ErrFutureRev, rev, k.Revision)
	}
	return nil
}

// Limits are those that hold for what is told of it.
func (k *Keyspace) Limits() Limits { return k.x.opts.Limits }

// Alarms gives the alarms that are raised, as far as their records can be read.
func (k *Keyspace) Alarms() []Alarm {
	alarms := []Alarm{}
	b, ok := k.d.bucket[keyspace.BucketAlarm]
	if !ok {
		return alarms
	}
	scan.NewRows(k.Tree, b).From(nil, func(r scan.Row) bool {
		if a, err := keyspace.DecodeAlarm(r.Key); err == nil {
			alarms = append(alarms, Alarm{MemberID: ID(a.MemberID), Alarm: a.Type.String()})
		}
		return len(alarms) < k.x.opts.Limits.PerCode
	})
	return alarms
}

// Leases gives the ids of all leases, nil when they cannot all be read.
func (k *Keyspace) Leases() map[int64]bool {
	k.d.readLeases(0)
	return k.d.leases
}

// Judge gives the findings that the pages alone tell, after a pass. whole is false
// when records may be missing from what the pass counted.
func (k *Keyspace) Judge(pass *scan.Result) (findings []Finding, whole bool) {
	k.d.pass = pass
	k.x.judgePages(k.d)
	whole = k.d.remnant == nil && len(pass.Unreadable) == 0
	for _, f := range k.d.faults {
		whole = whole && !treeFault(f.Kind)
	}
	return k.x.findings, whole
}

// A Reach says how far a pass came in bucket key.
type Reach = scan.Reach

// Meter gives the consumer that tells how far a pass comes in bucket key.
func (k *Keyspace) Meter() *scan.ReachMeter { return scan.NewReachMeter(k.Tree, k.Bucket) }

// HashKVAt computes HashKV as of a revision, 0 for the newest, as a server that
// had just started on the file would. An interrupt is an UnhashedError.
func HashKVAt(ctx context.Context, s *source.Source, rev int64) (HashKV, error) {
	k, err := OpenKeyspace(ctx, s, DefaultLimits)
	if err == nil {
		err = k.Check(rev)
	}
	if err != nil {
		return HashKV{}, err
	}
	meter := k.Meter()
	if err := k.d.read(ctx, false, rev, DefaultLimits, meter); err != nil {
		return HashKV{}, &UnhashedError{k.File, cmp.Or(rev, k.Revision), k.CompactRevision, meter.Reach(), err}
	}
	if how := k.d.file.Changed(); how != "" {
		return HashKV{}, fmt.Errorf("%s: the file changed while it was read: %s", k.File, how)
	}
	if !k.d.complete() {
		return HashKV{}, fmt.Errorf("%s: the database is damaged, so no hash of it means anything; inspect tells where", k.File)
	}
	return HashKV{Hash: k.d.keys.Hash, Revision: cmp.Or(rev, k.Revision), CompactRevision: k.CompactRevision}, nil
}

// An UnhashedError says how far the pass came that was to give a hash, when ctx ended.
// There is no hash of a part: it would be taken for that of the whole.
type UnhashedError struct {
	File                      string
	Revision, CompactRevision int64 // as in HashKV
	Reach                     Reach
	Cause                     error
}

func (e *UnhashedError) Error() string { return e.Cause.Error() }

// Unwrap gives the cause.
func (e *UnhashedError) Unwrap() error { return e.Cause }

package recover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"slices"

	"etcd-forensics/snapdb/keyspace"
)

// foreignError says why a database is none of the same cluster.
type foreignError struct{ name, why string }

func (e foreignError) Error() string {
	if e.why == nothingInCommon {
		return fmt.Sprintf("%s is not shown to be of the same cluster: %s", e.name, e.why)
	}
	return fmt.Sprintf("%s is not of the same cluster: %s", e.name, e.why)
}

// Two databases of one cluster hold the same records, but for what each has compacted. A
// record that is another there is damage when it is one of very few, looks like damage,
// and the two agree again behind it. Members that diverged differ from some revision on,
// since a write that only one of them applied moves all revisions behind it.
const (
	// agreeing is how many records have to be alike for each one that is not.
	agreeing = 100
	// settled is how many records have to be alike behind one that is not, so that it is
	// not the first of many.
	settled = 16
	// flippedBits bounds the bits that are others in a record of which any part may be
	// damaged.
	flippedBits = 8
)

// An agreement is what holding two databases against each other shows.
type agreement struct {
	common int64 // records that are alike
	odd    int64 // records that are others there, or of which only one has its operation
	absent int64 // records of revisions that only one has: both had all, so a hole is damage
	last   keyspace.Revision
	// tail counts the odd ones that are not followed by enough records that are alike.
	// first is the first of them, alike what follows the last of them.
	tail, alike int64
	first       keyspace.Revision
}

func (a *agreement) same(rev keyspace.Revision) {
	a.common++
	a.last = rev
	if a.alike++; a.alike >= settled {
		a.tail = 0
	}
}

// strange counts an odd record.
func (a *agreement) strange(rev keyspace.Revision) {
	if a.odd++; a.tail == 0 {
		a.first = rev
	}
	a.tail++
	a.alike = 0
}

// agree holds what both have against each other. What is odd is kept, so that it is taken
// or listed; until says how far the witness is relied on.
func (w *witness) agree(ctx context.Context, b *witness, losses *lossIndex) error {
	from := max(w.CompactRevision(), b.CompactRevision())
	to := min(w.lastRevision().Main, b.lastRevision().Main)
	own := newLossIndex(w.losses())
	between := func(rev keyspace.Revision) bool { return rev.Main > from && rev.Main <= to }
	theirs, stop := iter.Pull(w.each(keyspace.Revision{}))
	defer stop()
	var a agreement
	var before, theirBefore int64 // main revisions of the records passed last
	only := func(rev keyspace.Revision, mains ...int64) {
		if slices.Contains(mains, rev.Main) {
			a.strange(rev)
		} else {
			a.absent++
		}
	}
	their, ok := theirs()
	n := 0
	for mine := range b.each(keyspace.Revision{}) {
		if n++; n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		for ok && their.rev.Compare(mine.rev) < 0 {
			if between(their.rev) && !losses.hold(their.Key) {
				only(their.rev, before, mine.rev.Main)
				if len(w.fills) < maxOdd {
					w.fills = append(w.fills, w.find(their))
				}
			}
			theirBefore = their.rev.Main
			their, ok = theirs()
		}
		before = mine.rev.Main
		if !ok || their.rev.Compare(mine.rev) > 0 {
			if between(mine.rev) && len(own.at(mine.Key)) == 0 {
				next := int64(0)
				if ok {
					next = their.rev.Main
				}
				only(mine.rev, theirBefore, next)
			}
			continue
		}
		switch {
		case bytes.Equal(their.Key, mine.Key) && bytes.Equal(their.Value, mine.Value):
			a.same(mine.rev)
		case !looksDamaged(mine, their):
			return foreignError{w.name, fmt.Sprintf("revision %s is another there", mine.rev)}
		default:
			a.strange(mine.rev)
			if len(w.differing) < maxOdd {
				w.differing = append(w.differing, contest{rev: mine.rev, key: bytes.Clone(mine.kv.Key), taken: theTree, reason: byTree, copies: []found{w.find(their)}})
			}
		}
		theirBefore = their.rev.Main
		their, ok = theirs()
	}
	if err := errors.Join(b.err, w.err); err != nil {
		return err
	}
	return w.conclude(&a, b)
}

// nothingInCommon is said where nothing was found that could contradict, either: a tree that
// is damaged near its root gives no records to compare.
const nothingInCommon = "no revision can be read in the trees of both, so there is nothing to compare"

// maxOdd bounds the odd records that are kept: a database with more of them does not
// agree.
const maxOdd = 1 << 16

// conclude says whether the witness is of the cluster, and how far it is relied on.
func (w *witness) conclude(a *agreement, b *witness) error {
	kin := w.kin(b)
	switch {
	case a.common == 0 && a.absent == 0:
		return foreignError{w.name, nothingInCommon}
	case a.common == 0:
		return foreignError{w.name, "the two have no revision in common"}
	case kin == kinNone && (a.odd > 0 || a.common < agreeing):
		return foreignError{w.name, fmt.Sprintf("no member of it is one of the file's, %d records are alike, and %d are others", a.common, a.odd)}
	case a.odd*agreeing > a.common || a.odd > maxOdd || a.absent > a.common:
		return foreignError{w.name, fmt.Sprintf("%d of the records that both should have are others, %d are in only one, and %d are alike", a.odd, a.absent, a.common)}
	case a.tail > 1:
		return foreignError{w.name, fmt.Sprintf("from revision %s on the two are no longer alike: one of them has diverged", a.first)}
	case a.tail == 1:
		w.until = a.first.Main - 1
	case kin == kinNone:
		w.until = a.last.Main // a restored copy of the same backup may have gone on by itself
	}
	if w.until < a.last.Main {
		before := w.fills[:0]
		for _, f := range w.fills {
			if f.rev.Main <= w.until {
				before = append(before, f)
			}
		}
		w.fills = before
	}
	return nil
}

// How the members of two databases go together.
type kinship uint8

const (
	kinUnknown kinship = iota // one of them names none
	kinNone                   // none of one is in the other
	kinSome
)

// kin compares the ids of the members that are there or were removed.
func (w *witness) kin(b *witness) kinship {
	theirs, mine := w.memberIDs(), b.memberIDs()
	if len(theirs) == 0 || len(mine) == 0 {
		return kinUnknown
	}
	for id := range mine {
		if theirs[id] {
			return kinSome
		}
	}
	return kinNone
}

func (b *base) memberIDs() map[uint64]bool {
	ids := map[uint64]bool{}
	for _, name := range []string{keyspace.BucketMembers, keyspace.BucketMembersRemoved} {
		bucket, ok := b.Bucket[name]
		if !ok {
			continue
		}
		b.rows(bucket, nil, func(r row) error {
			if id, err := keyspace.DecodeMemberID(r.key); err == nil {
				ids[id] = true
			}
			return nil
		})
	}
	return ids
}

// looksDamaged says whether two records of one revision can be one that was damaged: they
// are as long, and a few bits are others, or the value alone is.
func looksDamaged(x, y *record) bool {
	if x.rev.Tombstone != y.rev.Tombstone || len(x.Value) != len(y.Value) {
		return false
	}
	n := 0
	for i := range x.Value {
		n += bits.OnesCount8(x.Value[i] ^ y.Value[i])
	}
	return n <= flippedBits || bytes.Equal(x.kv.Key, y.kv.Key) && len(x.kv.Value) == len(y.kv.Value) &&
		x.kv.CreateRevision == y.kv.CreateRevision && x.kv.Version == y.kv.Version && x.kv.Lease == y.kv.Lease
}

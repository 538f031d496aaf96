package scan

import (
	"hash/maphash"

	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
)

// A Side is one of the two states that a Differ compares.
type Side int

// The sides.
const (
	Old Side = iota
	New
)

// A keyState is what one side says of a key, in pieces of 32 bits so that an entry
// of the table has no padding.
type keyState struct {
	high, low         uint32 // main revision of the latest record, and a bit that it is a tombstone; 0 for none
	created, created2 uint32 // create revision
	sum, sum2         uint32 // of value and lease
}

func (k *keyState) at() uint64     { return uint64(k.high)<<32 | uint64(k.low) }
func (k *keyState) there() bool    { return k.at() != 0 && k.low&1 == 0 }
func (k *keyState) main() int64    { return int64(k.at() >> 1) }
func (k *keyState) create() uint64 { return uint64(k.created)<<32 | uint64(k.created2) }

type keyStates [2]keyState

func latestStates(old, v *keyStates) {
	for i := range old {
		if v[i].at() > old[i].at() {
			old[i] = v[i]
		}
	}
}

// A Change says what became of a key.
type Change uint8

// The changes.
const (
	Same      Change = iota
	Added            // it is new
	Removed          // it is gone
	Changed          // another value, lease or mod revision
	Recreated        // it was deleted and created anew
)

var changeWords = [...]string{"same", "added", "removed", "changed", "recreated"}

func (c Change) String() string { return changeWords[c] }

func (s *keyStates) change() Change {
	old, now := &s[Old], &s[New]
	switch {
	case !old.there() && !now.there():
		return Same
	case !old.there():
		return Added
	case !now.there():
		return Removed
	case old.create() != now.create():
		return Recreated
	case *old != *now:
		return Changed
	}
	return Same
}

// A Differ compares the keys of two states of a store, in two passes, one over each. It
// keeps no key and no value: 64 bytes a distinct key at least, 128 at most.
type Differ struct {
	hasher hasher
	values maphash.Seed
	table  *table[keyStates]
	sides  []*sideSink
}

// NewDiffer starts without keys.
func NewDiffer() *Differ {
	return &Differ{hasher: newHasher(), values: maphash.MakeSeed(), table: newTable(latestStates)}
}

// Of gives the consumer for the pass over one side. bucket is bucket key; records above
// a revision do not count, 0 for all.
func (d *Differ) Of(side Side, bucket int, revision int64) Consumer {
	return &differSide{d, side, bucket, revision}
}

type differSide struct {
	*Differ
	side     Side
	bucket   int
	revision int64
}

type sideSink struct {
	*differSide
	batch batcher[keyStates]
}

// Sink implements Consumer.
func (d *differSide) Sink() Sink {
	s := &sideSink{differSide: d}
	s.batch.table = d.table
	d.sides = append(d.sides, s)
	return s
}

// Leaf implements Sink.
func (s *sideSink) Leaf(l *Leaf) {
	s.eachRecord(l, func(rev keyspace.Revision, e *snapdb.Element, kv *keyspace.KeyValue) {
		hash, hash2 := s.hasher.hashes(kv.Key)
		var v keyStates
		v[s.side] = s.state(rev, kv)
		s.batch.add(hash, hash2, v)
	})
}

// eachRecord visits the records of a leaf that count.
func (s *differSide) eachRecord(l *Leaf, visit func(keyspace.Revision, *snapdb.Element, *keyspace.KeyValue)) {
	if l.Bucket != s.bucket {
		return
	}
	for i := range l.Elements {
		e := &l.Elements[i]
		rev, ok := keyspace.DecodeRevision(e.Key)
		if !ok || e.Bucket || s.revision > 0 && rev.Main > s.revision || len(e.Value) == 0 { // the bump record has no value
			continue
		}
		if kv, err := keyspace.DecodeKeyValue(e.Value); err == nil {
			visit(rev, e, &kv)
		}
	}
}

func (s *differSide) state(rev keyspace.Revision, kv *keyspace.KeyValue) keyState {
	at := uint64(rev.Main) << 1
	if rev.Tombstone {
		return keyState{high: uint32((at | 1) >> 32), low: uint32(at | 1)}
	}
	var h maphash.Hash
	h.SetSeed(s.values)
	h.Write(kv.Value)
	maphash.WriteComparable(&h, kv.Lease)
	sum := h.Sum64()
	return keyState{
		high: uint32(at >> 32), low: uint32(at), sum: uint32(sum >> 32), sum2: uint32(sum),
		created: uint32(uint64(kv.CreateRevision) >> 32), created2: uint32(kv.CreateRevision),
	}
}

// DiffCounts says how many keys each change befell, and how many there are on each side.
type DiffCounts struct {
	Old, New  int64 // keys
	Same      int64
	Added     int64
	Removed   int64
	Changed   int64
	Recreated int64
}

// A Difference finds again the keys that are not the same on both sides.
type Difference struct {
	Counts DiffCounts
	differ *Differ
	keys   map[keyHash]keyStates
}

type keyHash struct {
	hash  uint64
	hash2 uint32
}

// Finish compares, after both passes.
func (d *Differ) Finish() *Difference {
	for _, s := range d.sides {
		s.batch.flush()
	}
	d.table.settleAll()
	r := &Difference{differ: d, keys: map[keyHash]keyStates{}}
	for n := range shards {
		d.table.each(n, func(e *entry[keyStates]) {
			r.count(e)
		})
	}
	d.table, d.sides = nil, nil
	return r
}

// Different counts the keys of the old side that cannot be the same on the new one, whatever
// records of that were not read: it has a later record of the key, or another one of the
// same revision. Nothing can be asked afterwards.
func (d *Differ) Different() (n int64) {
	for _, s := range d.sides {
		s.batch.flush()
	}
	d.table.settleAll()
	for i := range shards {
		d.table.each(i, func(e *entry[keyStates]) {
			old, now := &e.v[Old], &e.v[New]
			if old.there() && now.main() >= old.main() && *old != *now {
				n++
			}
		})
	}
	return n
}

func (r *Difference) count(e *entry[keyStates]) {
	c := &r.Counts
	if e.v[Old].there() {
		c.Old++
	}
	if e.v[New].there() {
		c.New++
	}
	switch e.v.change() {
	case Same:
		if e.v[Old].there() {
			c.Same++
		}
		return
	case Added:
		c.Added++
	case Removed:
		c.Removed++
	case Changed:
		c.Changed++
	case Recreated:
		c.Recreated++
	}
	r.keys[keyHash{e.hash, e.hash2}] = e.v
}

// A Differing is one key that is not the same on both sides.
type Differing struct {
	Key                  []byte // valid during the call
	Change               Change
	OldRevision          int64 // mod revision, 0 where it is not there
	NewRevision          int64
	Size                 int64 // bytes of the record that is there, the new one when both are
	OldCreate, NewCreate int64
	ValueChanged         bool // value or lease, where it is there on both sides
}

// Names gives the consumer that finds the keys that have changed: those that are there
// on the new side in a pass over that, those that are gone in one over the old. visit
// is called in no order and from several goroutines.
func (r *Difference) Names(side Side, bucket int, revision int64, visit func(*Differing)) Consumer {
	return &nameSide{differSide{r.differ, side, bucket, revision}, r, visit}
}

type nameSide struct {
	differSide
	diff  *Difference
	visit func(*Differing)
}

// Sink implements Consumer.
func (n *nameSide) Sink() Sink { return n }

// Leaf implements Sink.
func (n *nameSide) Leaf(l *Leaf) {
	n.eachRecord(l, func(rev keyspace.Revision, e *snapdb.Element, kv *keyspace.KeyValue) {
		hash, hash2 := n.differ().hashes(kv.Key)
		s, ok := n.diff.keys[keyHash{hash, hash2}]
		if !ok || rev.Tombstone || s[n.side].main() != rev.Main {
			return
		}
		change := s.change()
		if (change == Removed) != (n.side == Old) {
			return
		}
		d := Differing{Key: kv.Key, Change: change, Size: int64(len(e.Key) + len(e.Value))}
		if s[Old].there() {
			d.OldRevision, d.OldCreate = s[Old].main(), int64(s[Old].create())
		}
		if s[New].there() {
			d.NewRevision, d.NewCreate = s[New].main(), int64(s[New].create())
		}
		d.ValueChanged = s[Old].there() && s[New].there() && (s[Old].sum != s[New].sum || s[Old].sum2 != s[New].sum2)
		n.visit(&d)
	})
}

func (n *nameSide) differ() *hasher { return &n.Differ.hasher }

// Contradictions counts the keys of the new side that were last written at revision
// or before and yet are not the same on the old side, which was read as of revision:
// none, where both are states of one store.
func (r *Difference) Contradictions(revision int64) (n int64) {
	for _, v := range r.keys {
		if contradicts(&v[New], revision) {
			n++
		}
	}
	return n
}

func contradicts(now *keyState, revision int64) bool { return now.there() && now.main() <= revision }

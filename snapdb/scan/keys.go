package scan

import (
	"context"
	"hash/crc32"
	"math"

	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
)

// Keys counts bucket key and computes its HashKV as of a revision.
//
// HashKV (etcd v3.7.3, server/storage/mvcc/hash.go and key_index.go, keep) is
// the CRC-32C of the word "key" and of every counting record's key and value in
// key order. A record counts when its main revision is at most Revision, and
// either lies above CompactRevision or is its key's latest at Revision and no
// tombstone; a tombstone at CompactRevision never counts; when no key is alive
// at Revision, records below CompactRevision all count. Servers of 3.4 and early
// 3.5, which have no rule for the tombstone, have deleted it by then.
type Keys struct {
	Revision        int64 // records above it do not count; 0 for all
	CompactRevision int64 // -1 when nothing was ever compacted
	PerKind         int   // record faults kept of each kind
	// Compacted says that no compaction is under way, so that what it leaves is
	// all there is at or below the compact revision.
	Compacted bool
	// Broken is how many records are asked for that break chains, whether or not for
	// revisions that are missing; 0 for none.
	Broken int
	// Leases are the ids of all leases; nil when they are not known, and then no
	// key is held against them.
	Leases map[int64]bool
	// Classes, when it is set, gives each parser a function that tells the class of a
	// key and its value, below MaxClasses. Live keys are counted by it.
	Classes func() func(key, value []byte) uint16

	tree   *snapdb.Tree
	bucket int
	hasher hasher
	table  *table[latest]
	chains *table[chain]
	sums   sumBlocks
	leaves []leafSums // by Tree.Leaves; leaf 0 of an inline bucket is extra
	inline leafSums
	sinks  []*keySink
}

// NewKeys prepares the count for bucket number bucket of tree, -1 when the tree
// has no bucket key.
func NewKeys(tree *snapdb.Tree, bucket int, revision, compactRevision int64, perKind int) *Keys {
	return &Keys{
		Revision: revision, CompactRevision: compactRevision, PerKind: perKind, tree: tree, bucket: bucket,
		hasher: newHasher(), table: newTable(keepLatest), chains: newTable((*chain).add), leaves: make([]leafSums, len(tree.Leaves)),
	}
}

// A KeysResult is what bucket key says as of a revision.
type KeysResult struct {
	Revisions  int64 // records
	Tombstones int64 // of them, deletions
	Live       int64 // keys whose latest record is no tombstone; without the bump record
	Distinct   int64 // keys that any record names; without the bump record
	Bumped     bool  // the record that --bump-revision leaves is there

	LiveBytes    int64 // keys and values of the live keys' latest records, as stored
	HistoryBytes int64 // those of all other records

	Highest keyspace.Revision // of any record, counting or not; zero when there is none
	Hash    uint32            // HashKV; meaningless when a leaf was damaged
	Sound   bool              // every leaf and record of the bucket could be read

	Classes []ClassCount // by class, up to the highest that there is

	Faults     []RecordFault // the first of each kind, in file order
	FaultCount map[RecordFaultKind]int

	Broken      []RecordFault // of the kind RecordChain, in file order; see Keys.Broken
	BrokenCount int           // 0 when they were not asked for
}

type keySink struct {
	keys    *Keys
	classOf func(key, value []byte) uint16 // nil without Keys.Classes
	kept    keptSums
	batch   batcher[latest]
	chains  chainSums
	faults  map[RecordFaultKind]*recordFaults
	unsound bool
	leased  map[uint64]leasedRecord // by key hash: the latest record whose lease does not exist

	revisions, tombstones, bytes int64
	highest                      keyspace.Revision
}

// Sink implements Consumer.
func (k *Keys) Sink() Sink {
	s := &keySink{keys: k, faults: map[RecordFaultKind]*recordFaults{}}
	s.kept.of = &k.sums
	if k.Classes != nil {
		s.classOf, k.sums.classed = k.Classes(), true
	}
	s.batch.table, s.chains.batch.table = k.table, k.chains
	s.chains.open = make([]uint64, groups)
	k.sinks = append(k.sinks, s)
	return s
}

// Leaf implements Sink.
func (s *keySink) Leaf(l *Leaf) {
	k := s.keys
	if l.Bucket != k.bucket {
		return
	}
	s.unsound = s.unsound || !l.Sound
	limit := k.Revision
	if limit == 0 {
		limit = math.MaxInt64
	}
	sums := leafSums{first: s.kept.reserve(l, k.CompactRevision)}
	start := 0
	if len(l.Elements) > 0 {
		start = l.Elements[0].Offset
	}
	headEnd, tailEnd := start, start
	for i := range l.Elements {
		e := &l.Elements[i]
		rev, ok := keyspace.DecodeRevision(e.Key)
		if !ok || e.Bucket {
			if l.Sound { // what a damaged page holds is the page's fault
				s.fault(RecordKey, l, e, rev, &keyspace.KeyValue{})
			}
			continue
		}
		if s.highest.Compare(rev) < 0 {
			s.highest = rev
		}
		if rev.Main > limit {
			continue
		}
		kv, err := keyspace.DecodeKeyValue(e.Value)
		hash, hash2 := k.hasher.hashes(kv.Key)
		if l.Sound {
			if kind := k.judge(rev, e.Value, &kv, err); kind != 0 {
				s.fault(kind, l, e, rev, &kv)
			}
		}
		s.revisions++
		size := uint32(len(e.Key) + len(e.Value))
		s.bytes += int64(size)
		ref, end := size, e.Offset+int(size)
		var class uint16
		if s.classOf != nil {
			class = s.classOf(kv.Key, kv.Value)
		}
		if rev.Main > k.CompactRevision {
			at := span{rev.Main, rev.Sub}
			switch {
			case sums.from.main == 0:
				sums.from = at
			case l.Sound && !at.follows(sums.to):
				s.gap(l, e, rev, sums.to)
			}
			sums.to = at
		} else {
			if l.Sound { // a damaged leaf has no part in a hash
				sums.headCRC = crc32.Update(sums.headCRC, castagnoli, l.Bytes[e.Offset:end])
			}
			deleted := rev.Tombstone && rev.Main == k.CompactRevision
			kept := recordSum{crc: sums.headCRC, size: size}
			if !rev.Tombstone {
				kept.link = link(incarnation(hash, kv.CreateRevision), kv.Version)
			}
			ref = s.kept.add(kept, class, deleted)
			class = 0 // it stands beside the record
			sums.kept++
			sums.deleted = sums.deleted || deleted
			headEnd = end
		}
		tailEnd = end
		if rev.Tombstone {
			s.tombstones++
			ref |= tombstone
		}
		s.batch.add(hash, hash2, newLatest(rev.Main, ref).of(class))
		s.chains.add(hash, hash2, rev, &kv, k.CompactRevision)
		if kv.Lease != 0 && k.Leases != nil && !k.Leases[kv.Lease] {
			s.lease(l, e, hash, rev, &kv)
		}
	}
	if l.Sound {
		sums.headLen, sums.tailLen = uint32(headEnd-start), uint32(tailEnd-headEnd)
		sums.tailCRC = crc32.Checksum(l.Bytes[headEnd:tailEnd], castagnoli)
	}
	if l.Index < 0 {
		k.inline = sums
	} else if l.Index < len(k.leaves) {
		k.leaves[l.Index] = sums
	}
}

// judge gives the kind of fault of a record by itself, 0 for none.
func (k *Keys) judge(rev keyspace.Revision, value []byte, kv *keyspace.KeyValue, err error) RecordFaultKind {
	switch {
	case err != nil:
		return RecordValue
	case rev.Tombstone: // a key alone
	case len(value) == 0:
		// Only the bump record is empty, and it lies where the compaction that
		// came with it was marked.
		if rev.Main > k.CompactRevision {
			return RecordValue
		}
	case kv.ModRevision != rev.Main:
		return RecordMod
	case !chained(kv):
		return RecordChain
	}
	return 0
}

// Finish puts the parsers' parts together. Call it once, after the pass. Once ctx has
// ended, no chain is followed any further.
func (k *Keys) Finish(ctx context.Context) *KeysResult {
	r := &KeysResult{FaultCount: map[RecordFaultKind]int{}, Sound: true}
	var bytes int64
	for _, s := range k.sinks {
		s.batch.flush()
		s.chains.batch.flush()
		r.Revisions += s.revisions
		r.Tombstones += s.tombstones
		bytes += s.bytes
		r.Sound = r.Sound && !s.unsound
		if r.Highest.Compare(s.highest) < 0 {
			r.Highest = s.highest
		}
		for kind, f := range s.faults {
			r.FaultCount[kind] += f.count
			r.Faults = append(r.Faults, f.first...)
		}
	}
	r.Sound = r.Sound && r.FaultCount[RecordKey]+r.FaultCount[RecordValue] == 0 && k.bucket >= 0 && !k.tree.Faults.InBucket(k.bucket)

	k.table.settleAll()
	k.chains.settleAll()
	k.gaps(r)
	k.dangling(r)
	alive := k.alive()
	k.count(r, alive)
	k.brokenChains(ctx, r, alive)
	r.Faults = firstOfEachKind(r.Faults, k.PerKind)
	r.HistoryBytes = bytes - r.LiveBytes
	marks := alive.marks
	if alive.live == 0 {
		marks = nil // then etcd leaves nothing out
	}
	r.Hash = k.join(marks)
	return r
}

// A latest is what the table of keys holds of a key's latest record: its main
// revision in two halves, and a reference. A transaction changes a key once (etcd
// v3.7.3, server/etcdserver/api/v3rpc/key.go, checkIntervals), so the main
// revision alone says which record is the latest.
type latest struct {
	ref      uint32
	high, lo uint32
}

// tombstone in latest.ref marks a deletion. The other bits are the record's
// number among those kept for HashKV, when it lies at or below the compact
// revision, and otherwise the bytes of its key and value.
const tombstone = 1 << 31

func newLatest(main int64, ref uint32) latest {
	return latest{ref, uint32(main >> 32), uint32(main)}
}

func (l *latest) main() int64 { return int64(l.high&l.mainBits())<<32 | int64(l.lo) }
func (l *latest) dead() bool  { return l.ref&tombstone != 0 }

// keepLatest puts v in the place of old when it is newer. Two records of one key
// in one revision are damage; the choice between them depends on their content
// alone.
func keepLatest(old, v *latest) {
	switch a, b := old.main(), v.main(); {
	case b > a || b == a && v.ref > old.ref:
		*old = *v
	case b == a && v.ref == old.ref && v.class() != old.class():
		*old = old.of(0)
	}
}

// An aliveKeys is what the table says of the keys, the bump record's included.
type aliveKeys struct {
	distinct, live int64
	bytes          int64 // of the latest records that lie above the compact revision
	classes        classCounts
	marks          []uint64 // bit per kept record: it is its key's latest, and no tombstone
	open           []uint64 // sum of the hashes, by group
}

// alive goes through the table.
func (k *Keys) alive() *aliveKeys {
	var parts []*aliveKeys
	eachShard(func() func(n int) {
		p := &aliveKeys{marks: make([]uint64, k.sums.count()/64), open: make([]uint64, groups)}
		parts = append(parts, p)
		return func(n int) {
			k.table.each(n, func(e *entry[latest]) {
				p.distinct++
				if e.v.dead() {
					return
				}
				p.live++
				p.open[groupOf(e.hash2)] += e.hash
				if e.v.main() <= k.CompactRevision {
					p.marks[e.v.ref/64] |= 1 << (e.v.ref % 64)
				} else {
					p.bytes += int64(e.v.ref)
					if k.Classes != nil {
						p.classes.add(e.v.class(), int64(e.v.ref))
					}
				}
			})
		}
	})
	all := parts[0]
	for _, p := range parts[1:] {
		all.distinct += p.distinct
		all.live += p.live
		all.bytes += p.bytes
		all.classes.join(p.classes)
		for n, word := range p.marks {
			all.marks[n] |= word
		}
		for g, sum := range p.open {
			all.open[g] += sum
		}
	}
	return all
}

// count fills in what a tells. The bump record has no key; etcd files it under
// the empty one.
func (k *Keys) count(r *KeysResult, a *aliveKeys) {
	r.Distinct, r.Live, r.LiveBytes = a.distinct, a.live, a.bytes+k.sums.size(a.marks, &a.classes)
	r.Classes = a.classes
	if bump := k.table.get(k.hasher.hashes(nil)); bump != nil {
		r.Bumped = true
		r.Distinct--
		if !bump.dead() {
			r.Live--
			r.LiveBytes -= k.size(bump)
			if k.Classes != nil {
				r.Classes[k.class(bump)].subtract(k.size(bump))
			}
		}
	}
}

// size gives the bytes of key and value of a key's latest record.
func (k *Keys) size(l *latest) int64 {
	ref := l.ref &^ tombstone
	if l.main() > k.CompactRevision {
		return int64(ref)
	}
	return int64(k.sums.at(ref).size &^ deletedAtCompaction)
}

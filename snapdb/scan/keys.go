package scan

import (
	"cmp"
	"hash/crc32"
	"math"
	"slices"
	"sync"

	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
)

// RecordFaultKind is a rule of bucket key that a record breaks.
type RecordFaultKind uint8

const (
	RecordKey   RecordFaultKind = iota + 1 // the key is not a revision
	RecordValue                            // the value does not decode
	RecordMod                              // the value's mod revision is not its key's
	RecordChain                            // version and create revision contradict the mod revision
	RecordLease                            // a live key hangs on a lease that does not exist
	RecordGap                              // revisions before this one are missing
)

// RecordFaultKinds lists every kind, for tests that walk them.
func RecordFaultKinds() []RecordFaultKind {
	return []RecordFaultKind{RecordKey, RecordValue, RecordMod}
}

// A RecordFault is a record of bucket key that cannot be what etcd wrote.
type RecordFault struct {
	Kind     RecordFaultKind
	Page     page.ID
	Element  int
	Offset   int64 // of the record's key, from the start of the file
	Raw      []byte
	Revision keyspace.Revision // of the record's key; zero for RecordKey
	Key      []byte            // the key of the store, for the kinds whose value decodes
	Value    keyspace.KeyValue // without key and value bytes

	After keyspace.Revision // for RecordGap: the revision before the gap
}

// Keys counts bucket key and computes its HashKV as of a revision.
//
// HashKV (etcd v3.7.3, server/storage/mvcc/hash.go and key_index.go, keep) is
// the CRC-32C of the word "key" and of every counting record's key and value in
// key order. A record counts when its main revision is at most Revision, and
// either lies above CompactRevision or is its key's latest at Revision and no
// tombstone; a tombstone at CompactRevision never counts; when no key is alive
// at Revision, records below CompactRevision all count. Servers of 3.4 and 3.5,
// which have no rule for the tombstone, have deleted it by then.
type Keys struct {
	Revision        int64 // records above it do not count; 0 for all
	CompactRevision int64 // -1 when nothing was ever compacted
	PerKind         int   // record faults kept of each kind
	// Leases are the ids of all leases; nil when they are not known, and then no
	// key is held against them.
	Leases map[int64]bool

	tree   *snapdb.Tree
	bucket int
	table  *table
	leaves []leafSums // by Tree.Leaves; leaf 0 of an inline bucket is extra
	inline leafSums
	sinks  []*keySink
}

// leafSums is what the joining of the CRCs needs of one leaf. The records at or
// below the compact revision come first.
type leafSums struct {
	headCRC, tailCRC uint32
	headLen, tailLen uint32
	first            uint32 // number of the first record kept
	kept             uint16
	deleted          bool // a tombstone at the compact revision is among them

	// The first and last revision above the compact revision, for the search for
	// gaps between leaves.
	from, to span
}

// A span end is a revision without its mark; main 0 stands for none.
type span struct {
	main, sub int64
}

// follows says whether etcd can have given out s directly behind before: the next
// operation of the same transaction, or the first of the next one.
func (s span) follows(before span) bool {
	return s.main == before.main && s.sub == before.sub+1 || s.main == before.main+1 && s.sub == 0
}

// recordSum is the CRC and length of one record at or below the compact revision.
type recordSum struct {
	crc, size uint32
}

const sumBlock = 1 << 16

// NewKeys prepares the count for bucket number bucket of tree, -1 when the tree
// has no bucket key.
func NewKeys(tree *snapdb.Tree, bucket int, revision, compactRevision int64, perKind int) *Keys {
	k := &Keys{Revision: revision, CompactRevision: compactRevision, PerKind: perKind, tree: tree, bucket: bucket, table: newTable()}
	k.leaves = make([]leafSums, len(tree.Leaves))
	return k
}

// blocks hands out numbers for recordSums.
type sumBlocks struct {
	mu     sync.Mutex
	blocks [][]recordSum
}

func (s *sumBlocks) next() (number int, block []recordSum) {
	s.mu.Lock()
	defer s.mu.Unlock()
	block = make([]recordSum, sumBlock)
	s.blocks = append(s.blocks, block)
	return len(s.blocks) - 1, block
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

	Faults     []RecordFault // the first of each kind, in file order
	FaultCount map[RecordFaultKind]int
}

type keySink struct {
	keys    *Keys
	sums    *sumBlocks
	batch   batcher
	block   []recordSum
	number  int // of block
	used    int
	faults  map[RecordFaultKind]*recordFaults
	unsound bool
	leased  map[uint64]leasedRecord // by key hash: the latest record whose lease does not exist

	revisions, tombstones, bytes int64
	highest                      keyspace.Revision
}

type recordFaults struct {
	first []RecordFault
	count int
}

// Sink implements Consumer.
func (k *Keys) Sink() Sink {
	s := &keySink{keys: k, faults: map[RecordFaultKind]*recordFaults{}}
	s.batch.table = k.table
	if len(k.sinks) == 0 {
		s.sums = &sumBlocks{}
	} else {
		s.sums = k.sinks[0].sums
	}
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
	var sums leafSums
	if room := sumBlock - s.used; s.block == nil || len(l.Elements) > room {
		// Only a leaf that holds records to keep needs a block.
		if n := k.countKept(l); n > 0 && (s.block == nil || n > room) {
			s.number, s.block = s.sums.next()
			s.used = 0
		}
	}
	sums.first = uint32(s.number*sumBlock + s.used)
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
				s.fault(RecordKey, l, e, rev, keyspace.KeyValue{})
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
		switch {
		case !l.Sound:
		case err != nil:
			s.fault(RecordValue, l, e, rev, keyspace.KeyValue{})
		case rev.Tombstone: // a key alone
		case len(e.Value) == 0:
			// Only the bump record is empty, and it lies where the compaction that
			// came with it was marked.
			if rev.Main > k.CompactRevision {
				s.fault(RecordValue, l, e, rev, keyspace.KeyValue{})
			}
		case kv.ModRevision != rev.Main:
			s.fault(RecordMod, l, e, rev, kv)
		case !chained(kv):
			s.fault(RecordChain, l, e, rev, kv)
		}
		s.revisions++
		size := uint32(len(e.Key) + len(e.Value))
		s.bytes += int64(size)
		v := version{main: rev.Main, ref: size}
		end := e.Offset + int(size)
		if at := (span{rev.Main, rev.Sub}); rev.Main > k.CompactRevision {
			switch {
			case sums.from.main == 0:
				sums.from = at
			case l.Sound && !at.follows(sums.to):
				s.gap(l, e, rev, sums.to)
			}
			sums.to = at
		}
		if rev.Main <= k.CompactRevision {
			s.block[s.used] = recordSum{size: size}
			if l.Sound { // a damaged leaf has no part in a hash
				s.block[s.used].crc = crc32.Checksum(l.Bytes[e.Offset:end], castagnoli)
			}
			v.ref = uint32(s.number*sumBlock + s.used)
			s.used++
			sums.kept++
			headEnd = end
			if rev.Tombstone && rev.Main == k.CompactRevision {
				sums.deleted = true
				s.block[s.used-1].size |= deletedAtCompaction
			}
		}
		tailEnd = end
		if rev.Tombstone {
			s.tombstones++
			v.ref |= tombstone
		}
		v.hash, v.hash2 = k.table.hashes(kv.Key)
		s.batch.add(v)
		if kv.Lease != 0 && k.Leases != nil && !k.Leases[kv.Lease] {
			s.lease(l, e, v, rev, kv)
		}
	}
	if l.Sound {
		if headEnd > start {
			sums.headCRC, sums.headLen = crc32.Checksum(l.Bytes[start:headEnd], castagnoli), uint32(headEnd-start)
		}
		if tailEnd > headEnd {
			sums.tailCRC, sums.tailLen = crc32.Checksum(l.Bytes[headEnd:tailEnd], castagnoli), uint32(tailEnd-headEnd)
		}
	}
	if l.Index < 0 {
		k.inline = sums
	} else if l.Index < len(k.leaves) {
		k.leaves[l.Index] = sums
	}
}

// countKept counts the records of a leaf at or below the compact revision.
func (k *Keys) countKept(l *Leaf) int {
	n := 0
	for i := range l.Elements {
		if rev, ok := keyspace.DecodeRevision(l.Elements[i].Key); ok && rev.Main <= k.CompactRevision {
			n++
		}
	}
	return n
}

// gap reports a record before which revisions are missing.
func (s *keySink) gap(l *Leaf, e *snapdb.Element, rev keyspace.Revision, after span) {
	s.fault(RecordGap, l, e, rev, keyspace.KeyValue{})
	f := s.faults[RecordGap].first
	for i := range f {
		if f[i].Offset == l.Offset+int64(e.Offset) {
			f[i].After = keyspace.Revision{Main: after.main, Sub: after.sub}
		}
	}
}

// gaps looks for revisions missing between one leaf and the next, in key order.
// Where a leaf was damaged nothing can be said.
func (k *Keys) gaps(r *KeysResult) {
	if !r.Sound {
		return
	}
	// The first revision above the compaction is the next one; a store that was
	// never compacted begins at 2 (kvstore.go, NewStore: currentRev 1).
	before := span{max(k.CompactRevision, 1), math.MaxInt64 - 1}
	look := func(s *leafSums, id page.ID) {
		if s.from.main == 0 {
			return
		}
		if !s.from.follows(before) {
			r.FaultCount[RecordGap]++
			r.Faults = append(r.Faults, RecordFault{Kind: RecordGap, Page: id, Offset: int64(id) * int64(k.tree.File.PageSize),
				Revision: keyspace.Revision{Main: s.from.main, Sub: s.from.sub}, After: keyspace.Revision{Main: before.main}})
		}
		before = s.to
	}
	if k.tree.Buckets[k.bucket].Inline != nil {
		look(&k.inline, k.tree.Buckets[k.bucket].Holder)
	}
	for i := range k.leaves {
		if l := &k.tree.Leaves[i]; int(l.Bucket) == k.bucket {
			look(&k.leaves[i], l.ID)
		}
	}
}

// chained says whether version and create revision can be those of a version
// written at the mod revision: a key's first version is created there, and each
// further one takes a revision at least (etcd v3.7.3,
// server/storage/mvcc/kvstore_txn.go, put).
func chained(kv keyspace.KeyValue) bool {
	return kv.Version >= 1 && kv.CreateRevision >= 1 && kv.CreateRevision <= kv.ModRevision &&
		(kv.Version == 1) == (kv.CreateRevision == kv.ModRevision) && kv.Version-1 <= kv.ModRevision-kv.CreateRevision
}

// A leasedRecord is a record whose lease does not exist. It is a fault only when
// it is its key's latest, which is known after the pass.
type leasedRecord struct {
	main  int64
	fault RecordFault
}

// maxLeased bounds the leased records one parser keeps.
const maxLeased = 1 << 18

func (s *keySink) lease(l *Leaf, e *snapdb.Element, v version, rev keyspace.Revision, kv keyspace.KeyValue) {
	if old, ok := s.leased[v.hash]; ok && old.main >= rev.Main || !ok && len(s.leased) >= maxLeased {
		return
	}
	if s.leased == nil {
		s.leased = map[uint64]leasedRecord{}
	}
	s.leased[v.hash] = leasedRecord{rev.Main, newRecordFault(RecordLease, l, e, rev, kv)}
}

func newRecordFault(kind RecordFaultKind, l *Leaf, e *snapdb.Element, rev keyspace.Revision, kv keyspace.KeyValue) RecordFault {
	r := RecordFault{Kind: kind, Page: l.Page, Element: e.Index, Offset: l.Offset + int64(e.Offset), Revision: rev,
		Raw: slices.Clone(e.Key[:min(len(e.Key), 64)]), Key: slices.Clone(kv.Key[:min(len(kv.Key), 4096)]), Value: kv}
	r.Value.Key, r.Value.Value = nil, nil
	return r
}

func (s *keySink) fault(kind RecordFaultKind, l *Leaf, e *snapdb.Element, rev keyspace.Revision, kv keyspace.KeyValue) {
	f := s.faults[kind]
	if f == nil {
		f = &recordFaults{}
		s.faults[kind] = f
	}
	f.count++
	at := RecordFault{Kind: kind, Offset: l.Offset + int64(e.Offset)}
	if len(f.first) == s.keys.PerKind && (len(f.first) == 0 || compareRecordFaults(at, f.first[len(f.first)-1]) >= 0) {
		return
	}
	r := newRecordFault(kind, l, e, rev, kv)
	i, _ := slices.BinarySearchFunc(f.first, r, compareRecordFaults)
	f.first = slices.Insert(f.first, i, r)
	f.first = f.first[:min(len(f.first), s.keys.PerKind)]
}

func compareRecordFaults(a, b RecordFault) int {
	return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Kind, b.Kind))
}

// Finish puts the parsers' parts together. Call it once, after the pass.
func (k *Keys) Finish() *KeysResult {
	r := &KeysResult{FaultCount: map[RecordFaultKind]int{}, Sound: true}
	var bytes int64
	for _, s := range k.sinks {
		s.batch.flush()
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

	k.gaps(r)
	k.dangling(r)
	r.Faults = firstOfEachKind(r.Faults, k.PerKind)

	var sums *sumBlocks
	if len(k.sinks) > 0 {
		sums = k.sinks[0].sums
	}
	alive := k.live(r, sums)
	r.HistoryBytes = bytes - r.LiveBytes
	r.Hash = k.join(sums, alive)
	return r
}

// dangling keeps, of the records whose lease does not exist, those that are their
// keys' latest.
func (k *Keys) dangling(r *KeysResult) {
	for _, s := range k.sinks {
		for _, l := range s.leased {
			if v := k.table.get(l.fault.Key); v != nil && v.main == l.main && v.ref&tombstone == 0 {
				r.FaultCount[RecordLease]++
				r.Faults = append(r.Faults, l.fault)
			}
		}
	}
}

func firstOfEachKind(faults []RecordFault, n int) []RecordFault {
	slices.SortFunc(faults, compareRecordFaults)
	seen := map[RecordFaultKind]int{}
	return slices.DeleteFunc(faults, func(f RecordFault) bool {
		seen[f.Kind]++
		return seen[f.Kind] > n
	})
}

// live counts the keys and marks the records that count for HashKV although they
// lie at or below the compact revision. It gives nil when no key is alive: then
// etcd leaves nothing out.
func (k *Keys) live(r *KeysResult, sums *sumBlocks) []uint64 {
	var marks []uint64
	if sums != nil {
		marks = make([]uint64, len(sums.blocks)*sumBlock/64)
	}
	kept := false
	size := func(v *version) int64 {
		if v.main > k.CompactRevision {
			return int64(v.ref)
		}
		return int64(sums.blocks[v.ref/sumBlock][v.ref%sumBlock].size &^ deletedAtCompaction)
	}
	k.table.each(func(v *version) {
		r.Distinct++
		if v.ref&tombstone != 0 {
			return
		}
		kept = true
		r.Live++
		r.LiveBytes += size(v)
		if v.main <= k.CompactRevision {
			marks[v.ref/64] |= 1 << (v.ref % 64)
		}
	})
	// The bump record has no key; etcd files it under the empty one.
	if bump := k.table.get(nil); bump != nil {
		r.Bumped = true
		r.Distinct--
		if bump.ref&tombstone == 0 {
			r.Live--
			r.LiveBytes -= size(bump)
		}
	}
	if !kept {
		return nil
	}
	return marks
}

// join computes HashKV from the leaves' parts in key order.
func (k *Keys) join(sums *sumBlocks, alive []uint64) uint32 {
	crc := crc32.Checksum([]byte(keyspace.BucketKey), castagnoli)
	if k.bucket < 0 {
		return crc
	}
	add := func(l *leafSums) {
		if l.kept > 0 && (l.deleted || alive != nil && !allMarked(alive, l.first, uint32(l.kept))) {
			crc = k.joinRecords(crc, l, sums, alive)
		} else if l.headLen > 0 {
			crc = joinCRC(crc, l.headCRC, uint64(l.headLen))
		}
		if l.tailLen > 0 {
			crc = joinCRC(crc, l.tailCRC, uint64(l.tailLen))
		}
	}
	if k.tree.Buckets[k.bucket].Inline != nil {
		add(&k.inline)
	}
	for i := range k.leaves {
		if int(k.tree.Leaves[i].Bucket) == k.bucket {
			add(&k.leaves[i])
		}
	}
	return crc
}

// joinRecords adds the records of a leaf of which some do not count.
func (k *Keys) joinRecords(crc uint32, l *leafSums, sums *sumBlocks, alive []uint64) uint32 {
	for n := l.first; n < l.first+uint32(l.kept); n++ {
		s := sums.blocks[n/sumBlock][n%sumBlock]
		if s.size&deletedAtCompaction != 0 || alive != nil && alive[n/64]&(1<<(n%64)) == 0 {
			continue
		}
		crc = joinCRC(crc, s.crc, uint64(s.size))
	}
	return crc
}

// deletedAtCompaction in recordSum.size marks a tombstone at the compact
// revision. No record is that long: a page of 2 GiB cannot be read.
const deletedAtCompaction = 1 << 31

func allMarked(marks []uint64, first, n uint32) bool {
	for i := first; i < first+n; i++ {
		if marks[i/64]&(1<<(i%64)) == 0 {
			return false
		}
	}
	return true
}

package scan

import (
	"cmp"
	"math"
	"slices"

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
	RecordChain                            // version and create revision contradict the mod revision, or the key's other records
	RecordLease                            // a live key hangs on a lease that does not exist
	RecordGap                              // revisions before this one are missing
)

// RecordFaultKinds lists every kind, for tests that walk them.
func RecordFaultKinds() []RecordFaultKind {
	return []RecordFaultKind{RecordKey, RecordValue, RecordMod, RecordChain, RecordLease, RecordGap}
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
	Why   string            // for RecordChain: what it contradicts, when that is another record
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

type recordFaults struct {
	first []RecordFault
	count int
}

// gap reports a record before which revisions are missing.
func (s *keySink) gap(l *Leaf, e *snapdb.Element, rev keyspace.Revision, after span) {
	s.fault(RecordGap, l, e, rev, &keyspace.KeyValue{})
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
func chained(kv *keyspace.KeyValue) bool {
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

func (s *keySink) lease(l *Leaf, e *snapdb.Element, hash uint64, rev keyspace.Revision, kv *keyspace.KeyValue) {
	if old, ok := s.leased[hash]; ok && old.main >= rev.Main || !ok && len(s.leased) >= maxLeased {
		return
	}
	if s.leased == nil {
		s.leased = map[uint64]leasedRecord{}
	}
	s.leased[hash] = leasedRecord{rev.Main, newRecordFault(RecordLease, l, e, rev, kv)}
}

// maxFaultKey and maxFaultRaw bound what a fault keeps of a key of the store and
// of a record's own key.
const (
	maxFaultKey = 4096
	maxFaultRaw = 64
)

func clip(b []byte, most int) []byte { return slices.Clone(b[:min(len(b), most)]) }

func newRecordFault(kind RecordFaultKind, l *Leaf, e *snapdb.Element, rev keyspace.Revision, kv *keyspace.KeyValue) RecordFault {
	r := RecordFault{Kind: kind, Page: l.Page, Element: e.Index, Offset: l.Offset + int64(e.Offset), Revision: rev,
		Raw: clip(e.Key, maxFaultRaw), Key: clip(kv.Key, maxFaultKey), Value: *kv}
	r.Value.Key, r.Value.Value = nil, nil
	return r
}

func (s *keySink) fault(kind RecordFaultKind, l *Leaf, e *snapdb.Element, rev keyspace.Revision, kv *keyspace.KeyValue) {
	f := s.faults[kind]
	if f == nil {
		f = &recordFaults{}
		s.faults[kind] = f
	}
	if !f.wants(l.Offset+int64(e.Offset), s.keys.keep(kind)) {
		f.count++
		return
	}
	f.add(newRecordFault(kind, l, e, rev, kv), s.keys.keep(kind))
}

// wants says whether a fault at offset would be among those kept.
func (f *recordFaults) wants(offset int64, keep int) bool {
	return len(f.first) < keep || keep > 0 && offset < f.first[len(f.first)-1].Offset
}

// add counts a fault, and keeps it when it is one of the first.
func (f *recordFaults) add(r RecordFault, keep int) {
	f.count++
	i, _ := slices.BinarySearchFunc(f.first, r, compareRecordFaults)
	f.first = slices.Insert(f.first, i, r)
	f.first = f.first[:min(len(f.first), keep)]
}

func compareRecordFaults(a, b RecordFault) int {
	return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Kind, b.Kind))
}

// dangling keeps, of the records whose lease does not exist, those that are their
// keys' latest.
func (k *Keys) dangling(r *KeysResult) {
	for _, s := range k.sinks {
		for _, l := range s.leased {
			if v := k.table.get(k.hasher.hashes(l.fault.Key)); v != nil && v.main() == l.main && !v.dead() {
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

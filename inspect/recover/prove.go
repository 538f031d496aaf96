// Package recover gets the records out of a damaged database: those that its pages
// prove, and no others.
package recover

import (
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
)

// A proof is how far a record of bucket key shows by itself to be what etcd wrote.
type proof uint8

const (
	unproven proof = iota
	// byPlace is all that a tombstone and the record of --bump-revision have: their values
	// do not name their revision, so they have to lie where bbolt lays them.
	byPlace
	// byValue is a value that decodes, and names the revision of its key.
	byValue
)

// prove judges a record of bucket key by itself.
func prove(key, value []byte) (keyspace.Revision, keyspace.KeyValue, proof) {
	rev, ok := keyspace.DecodeRevision(key)
	if !ok || rev.Main < 1 {
		return rev, keyspace.KeyValue{}, unproven
	}
	kv, err := keyspace.DecodeKeyValue(value)
	switch {
	case err != nil:
		return rev, kv, unproven
	case rev.Tombstone:
		// etcd v3.7.3, server/storage/mvcc/kvstore_txn.go, delete: the key and nothing else.
		if len(kv.Key) == 0 || kv.CreateRevision|kv.ModRevision|kv.Version|kv.Lease != 0 || len(kv.Value) > 0 {
			return rev, kv, unproven
		}
		return rev, kv, byPlace
	case len(value) == 0 && rev.Sub == 0:
		// etcd v3.7.3, etcdutl/snapshot/v3_snapshot.go, unsafeBumpBucketsRevision.
		return rev, kv, byPlace
	case kv.ModRevision != rev.Main || !chained(&kv):
		return rev, kv, unproven
	}
	return rev, kv, byValue
}

// chained says whether version and create revision can be those of a version written
// at the mod revision (etcd v3.7.3, server/storage/mvcc/kvstore_txn.go, put).
func chained(kv *keyspace.KeyValue) bool {
	return kv.Version >= 1 && kv.CreateRevision >= 1 && kv.CreateRevision <= kv.ModRevision &&
		(kv.Version == 1) == (kv.CreateRevision == kv.ModRevision) && kv.Version-1 <= kv.ModRevision-kv.CreateRevision
}

// A record is one proven record of bucket key, with its place.
type record struct {
	snapdb.Element
	rev  keyspace.Revision
	kv   keyspace.KeyValue
	page page.ID // that it lies on
}

// provenOn gives the records of a leaf of bucket key that are proven, in key order, and
// how many elements are not. On a sound page the page's own order and layout stand
// for the place of each record. size is the number of the page's bytes: damaged
// elements may lie over each other, and together they have no more.
func provenOn(id page.ID, elements []snapdb.Element, sound bool, size int, records []record) (proven []record, missing int) {
	first := len(records)
	budget := size
	for i := range elements {
		e := &elements[i]
		rev, kv, p := proveElement(e)
		if budget -= len(e.Key) + len(e.Value); budget < 0 || p == unproven || p == byPlace && !sound && !placed(elements, i) {
			continue
		}
		records = append(records, record{*e, rev, kv, id})
	}
	if !sound {
		records = inOrder(records, first)
	}
	return records, len(elements) - (len(records) - first)
}

func proveElement(e *snapdb.Element) (keyspace.Revision, keyspace.KeyValue, proof) {
	if e.Bucket {
		return keyspace.Revision{}, keyspace.KeyValue{}, unproven
	}
	return prove(e.Key, e.Value)
}

// placed says whether the bytes of element i lie directly between those of both its
// neighbours, as far as there are any.
func placed(elements []snapdb.Element, i int) bool {
	meets := func(a, b *snapdb.Element) bool {
		return a.Index+1 == b.Index && a.Offset+len(a.Key)+len(a.Value) == b.Offset
	}
	return (i == 0 || meets(&elements[i-1], &elements[i])) && (i+1 == len(elements) || meets(&elements[i], &elements[i+1]))
}

// inOrder leaves out of records, from first on, all that are out of order with another:
// of two keys that changed places neither is where it was written.
func inOrder(records []record, first int) []record {
	part := records[first:]
	highest := make([]keyspace.Revision, len(part)+1) // before each
	for i := range part {
		highest[i+1] = highest[i]
		if part[i].rev.Compare(highest[i]) > 0 {
			highest[i+1] = part[i].rev
		}
	}
	kept := len(part)
	var lowest *keyspace.Revision // of those behind
	keep := make([]bool, len(part))
	for i := len(part) - 1; i >= 0; i-- {
		rev := part[i].rev
		keep[i] = rev.Compare(highest[i]) > 0 && (lowest == nil || rev.Compare(*lowest) < 0)
		if !keep[i] {
			kept--
		}
		if lowest == nil || rev.Compare(*lowest) < 0 {
			lowest = &part[i].rev
		}
	}
	if kept == len(part) {
		return records
	}
	out := records[:first]
	for i := range part {
		if keep[i] {
			out = append(out, part[i])
		}
	}
	return out
}

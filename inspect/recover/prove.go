// Package recover gets the records out of a damaged database: those that its pages
// prove, and no others.
package recover

import (
	"math"
	"slices"
	"sort"

	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
)

// A proof is how far a record of bucket key shows by itself to be what etcd wrote.
type proof uint8

const (
	unproven proof = iota
	// byPage is all that the empty record of --bump-revision has: a page on which nothing
	// is wrong.
	byPage
	// byOrder is a tombstone: its value is a key and nothing else, and does not name its
	// revision, so the order of the page's keys has to.
	byOrder
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
		return rev, kv, byOrder
	case len(value) == 0 && rev.Sub == 0:
		// etcd v3.7.3, etcdutl/snapshot/v3_snapshot.go, unsafeBumpBucketsRevision.
		return rev, kv, byPage
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

// maxWork bounds how often the bytes of a page are looked at because damaged elements lie
// over each other.
const maxWork = 64

// provenOn gives the records of a leaf of bucket key that are proven, in key order, and
// how many elements are not. size is the number of the page's bytes: damaged elements
// may lie over each other, and together they have no more.
func provenOn(id page.ID, elements []snapdb.Element, sound bool, size int, records []record) (proven []record, missing int) {
	first := len(records)
	room, work := size, maxWork*int64(size)
	for i := range elements {
		e := &elements[i]
		n := len(e.Key) + len(e.Value)
		if work -= int64(n); work < 0 {
			break
		}
		rev, kv, p := proveElement(e)
		if p == unproven || p == byPage && !sound || n > room {
			continue
		}
		room -= n
		records = append(records, record{*e, rev, kv, id})
	}
	if !sound {
		records = append(records[:first], inOrder(records[first:], elements)...)
	}
	return records, len(elements) - (len(records) - first)
}

func proveElement(e *snapdb.Element) (keyspace.Revision, keyspace.KeyValue, proof) {
	if e.Bucket {
		return keyspace.Revision{}, keyspace.KeyValue{}, unproven
	}
	return prove(e.Key, e.Value)
}

// placed says for each element whether its bytes meet those of a neighbour.
func placed(elements []snapdb.Element) map[int]bool {
	at := map[int]bool{}
	for i := 1; i < len(elements); i++ {
		a, b := &elements[i-1], &elements[i]
		if a.Index+1 == b.Index && a.Offset+len(a.Key)+len(a.Value) == b.Offset {
			at[a.Index], at[b.Index] = true, true
		}
	}
	return at
}

// inOrder leaves out records that are out of order with another: of two keys that changed
// places neither is where it was written. Those that lie among their neighbours' bytes
// decide about those that do not.
func inOrder(records []record, elements []snapdb.Element) []record {
	at := placed(elements)
	var home, away []record
	for i := range records {
		if at[records[i].Index] {
			home = append(home, records[i])
		} else {
			away = append(away, records[i])
		}
	}
	home = rising(home)
	fits := away[:0]
	for i := range away {
		n := sort.Search(len(home), func(k int) bool { return home[k].Index > away[i].Index })
		if (n == 0 || home[n-1].rev.Compare(away[i].rev) < 0) && (n == len(home) || home[n].rev.Compare(away[i].rev) > 0) {
			fits = append(fits, away[i])
		}
	}
	all := append(home, rising(fits)...)
	slices.SortFunc(all, func(x, y record) int { return x.rev.Compare(y.rev) })
	return all
}

// rising keeps the records that lie above all before them and below all behind them.
func rising(records []record) []record {
	highest := make([]keyspace.Revision, len(records)+1) // before each
	for i := range records {
		highest[i+1] = highest[i]
		if records[i].rev.Compare(highest[i]) > 0 {
			highest[i+1] = records[i].rev
		}
	}
	keep := make([]bool, len(records))
	lowest := keyspace.Revision{Main: math.MaxInt64, Sub: math.MaxInt64} // of those behind
	for i := len(records) - 1; i >= 0; i-- {
		rev := records[i].rev
		keep[i] = rev.Compare(highest[i]) > 0 && rev.Compare(lowest) < 0
		if rev.Compare(lowest) < 0 {
			lowest = rev
		}
	}
	var kept []record
	for i := range records {
		if keep[i] {
			kept = append(kept, records[i])
		}
	}
	return kept
}

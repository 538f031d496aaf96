package inspect

import (
	"slices"

	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/scan"
)

// A revision is what the database holds of one revision.
type revision struct {
	sum     uint64 // of its records, as writes have it
	key     uint64 // hash of the key of its first record
	records uint32
	deletes uint32 // of them, tombstones
}

// newest are the newest revisions of a database, those that a log may have led to.
type newest struct {
	rows    *scan.Rows
	sums    recordSums
	low     int64 // the first of list
	last    int64 // the last of list, the database's own revision
	compact int64 // at and below it records may have been removed
	list    []revision

	cached map[int64]recordList
	size   int // bytes of cached
}

// A recordList is the records of one revision, or the first of them.
type recordList struct {
	list []record
	cut  bool
}

// A record is one record of bucket key.
type record struct {
	keyspace.Revision
	keyspace.KeyValue
	row scan.Row
}

// readNewest reads the last n revisions, or those behind the last one of which a
// record cannot be read. last is the database's own revision.
func readNewest(d *database, bucket int, n, last int64, sums recordSums) *newest {
	r := &newest{rows: scan.NewRows(d.tree, bucket), sums: sums, low: max(last-n+1, 1), last: last, compact: d.meta.revision(), cached: map[int64]recordList{}}
	r.list = make([]revision, max(last-r.low+1, 0))
	bad := int64(0)
	r.rows.From(keyspace.Revision{Main: r.low}.Append(nil), func(row scan.Row) bool {
		rev, ok := keyspace.DecodeRevision(row.Key)
		if !ok || rev.Main < r.low || rev.Main > last {
			return true // not a revision, or out of order: the examination of the file says so
		}
		kv, err := keyspace.DecodeKeyValue(row.Value)
		if err != nil {
			bad = max(bad, rev.Main)
			return true
		}
		of := &r.list[rev.Main-r.low]
		if of.records == 0 {
			of.key = sums.key(kv.Key)
		}
		of.sum += sums.record(rev.Sub, rev.Tombstone, kv.Key, kv.Value, kv.Lease)
		of.records++
		if rev.Tombstone {
			of.deletes++
		}
		return true
	})
	if bad > 0 {
		r.list = r.list[bad-r.low+1:]
		r.low = bad + 1
	}
	return r
}

func (r *newest) at(rev int64) *revision { return &r.list[rev-r.low] }

// Limits of the records kept at hand, in bytes.
const (
	maxCached        = 16 << 20
	maxRevisionBytes = 4 << 20 // of one revision; the rest is left out
	recordOverhead   = 256
)

// records reads the records of one revision. whole is false when there are more than
// are kept.
func (r *newest) records(rev int64) (list []record, whole bool) {
	if found, ok := r.cached[rev]; ok {
		return found.list, !found.cut
	}
	cut, size := false, 0
	r.rows.From(keyspace.Revision{Main: rev}.Append(nil), func(row scan.Row) bool {
		at, ok := keyspace.DecodeRevision(row.Key)
		if !ok || at.Main != rev {
			return false
		}
		if size += recordOverhead + len(row.Value); size > maxRevisionBytes && len(list) > 0 {
			cut = true
			return false
		}
		row.Key, row.Value = slices.Clone(row.Key), slices.Clone(row.Value)
		if kv, err := keyspace.DecodeKeyValue(row.Value); err == nil {
			list = append(list, record{at, kv, row})
		}
		return true
	})
	if r.size += size; r.size > maxCached {
		clear(r.cached)
		r.size = size
	}
	r.cached[rev] = recordList{list, cut}
	return list, !cut
}

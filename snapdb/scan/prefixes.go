package scan

import (
	"bytes"
	"context"
	"maps"
	"math"
	"math/bits"
	"slices"
	"sync"

	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
)

// PrefixOptions say how keys are counted.
type PrefixOptions struct {
	Revision int64                // records above it do not count; 0 for all
	Cut      func(key []byte) int // length of the part of a key that names its row
	MaxRows  int                  // rows beyond it are folded into one, the smallest first
	Top      int                  // keys named in each list of keys
	Edge     int64                // deletions of this revision are counted by themselves, too
}

// Counts are what a row, or the whole, holds. Bytes are those of the records' keys
// and values as stored.
type Counts struct {
	Live       int64 // keys that are there
	Revisions  int64 // records
	Tombstones int64 // of them, deletions
	LiveBytes  int64 // of the latest record of each key that is there
	Bytes      int64 // of all records
}

func (c *Counts) add(o *Counts) {
	c.Live += o.Live
	c.Revisions += o.Revisions
	c.Tombstones += o.Tombstones
	c.LiveBytes += o.LiveBytes
	c.Bytes += o.Bytes
}

// A PrefixRow is the count of the keys that begin alike.
type PrefixRow struct {
	Prefix []byte
	Counts
}

// A KeyCount is one key among those of which there is most.
type KeyCount struct {
	Key     []byte
	Records int64 // that the database holds of it

	// Of its latest record.
	Revision  keyspace.Revision
	Version   int64 // 0 of a deletion
	Bytes     int64 // as stored
	ValueSize int64 // bytes
}

// A Histogram counts sizes: Histogram[0] those of 0 bytes, Histogram[i] those from
// 2^(i-1) to below 2^i.
type Histogram [33]int64

// SizesOf gives the least and the largest size that field i counts; the last field
// counts larger ones, too.
func SizesOf(i int) (from, to int64) {
	if i == 0 {
		return 0, 0
	}
	return 1 << (i - 1), 1<<i - 1
}

func (h *Histogram) add(size int) { h[min(bits.Len(uint(size)), len(h)-1)]++ }

// A PrefixResult is what bucket key holds as of a revision. After an interrupt it is what
// was seen until then: which keys are there is not told, so Live, LiveBytes, Distinct and
// the lists of keys are empty.
type PrefixResult struct {
	Rows      []PrefixRow // by prefix
	Other     Counts      // of the rows that were folded
	OtherRows int64       // how many there are
	Total     Counts      // without the bump record in Live
	Distinct  int64       // keys that any record names
	Hottest   []KeyCount  // keys with most records, and at least two
	Versions  []KeyCount  // keys that are there, by version, and at least the second
	Largest   []KeyCount  // keys that are there, by the size of their latest record
	KeySizes  Histogram   // of all records but the bump record
	Values    Histogram   // of all records but deletions and the bump record
	Bump      Counts      // the bump record, in Revisions and Bytes
	Edge      Counts      // deletions of the revision Edge, in Tombstones and Bytes
	Later     Counts      // records above the revision, in Revisions and Bytes
	Unread    int64       // records that do not decode
	Highest   int64       // revision of any record
	UsedBytes int64       // of the pages of the bucket's leaves: headers, elements, records
	LeafBytes int64       // of these pages
	Pass      *Result
	Reach     Reach // of the first pass
}

// CountPrefixes counts bucket key by prefix, in one pass over the database. When
// there are more rows than MaxRows, two further passes find the larger ones. Others
// may look at the records of the first pass. On an error (ctx ended) the result holds
// what the first pass has seen.
func CountPrefixes(ctx context.Context, tree *snapdb.Tree, bucket int, opts PrefixOptions, others ...Consumer) (*PrefixResult, error) {
	p, meter := newPrefixes(tree, bucket, opts), NewReachMeter(tree, bucket)
	pass, err := Run(ctx, tree, Options{}, append([]Consumer{p, meter}, others...)...)
	r := &PrefixResult{Pass: pass, Reach: meter.Reach()}
	if err == nil && !p.rows.over {
		p.finish(r)
		return r, nil
	}
	p.part(r)
	if err != nil {
		return r, err
	}
	p = newPrefixes(tree, bucket, opts)
	sizes := &rowSizes{opts: opts, bucket: bucket, hasher: p.hasher, table: newTable(addRowSize)}
	if _, err := Run(ctx, tree, Options{Again: true}, sizes); err != nil {
		return r, err
	}
	p.rows.allowed, p.rows.folded = sizes.largest(opts.MaxRows, maxNameBytes)
	if _, err := Run(ctx, tree, Options{Again: true}, p); err != nil {
		return r, err
	}
	r = &PrefixResult{Pass: pass, Reach: r.Reach}
	p.finish(r)
	return r, nil
}

// maxNameBytes bounds the bytes of the names of rows, which may be as long as keys.
const maxNameBytes = 64 << 20

// other is the row of what was folded.
const other = 0

// A rowTable hands out numbers for rows.
type rowTable struct {
	mu    sync.RWMutex
	ids   map[string]uint32
	names [][]byte
	max   int
	bytes int  // of the names
	over  bool // there are more rows than there is room for

	allowed map[prefixHash]bool // when not nil, the rows that are not folded
	folded  int64
}

type prefixHash struct {
	hash  uint64
	hash2 uint32
}

// id gives the number of a row.
func (t *rowTable) id(h *hasher, prefix []byte) uint32 {
	t.mu.RLock()
	id, ok := t.ids[string(prefix)]
	t.mu.RUnlock()
	if ok {
		return id
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if id, ok := t.ids[string(prefix)]; ok {
		return id
	}
	switch {
	case t.allowed != nil:
		if hash, hash2 := h.hashes(prefix); !t.allowed[prefixHash{hash, hash2}] {
			return other
		}
	case len(t.names) > t.max || t.bytes+len(prefix) > maxNameBytes:
		t.over = true
		return other
	}
	t.bytes += len(prefix)
	id = uint32(len(t.names))
	t.names = append(t.names, bytes.Clone(prefix))
	t.ids[string(prefix)] = id
	return id
}

type prefixes struct {
	opts   PrefixOptions
	tree   *snapdb.Tree
	bucket int
	hasher hasher
	table  *table[counted]
	rows   rowTable
	sinks  []*prefixSink
}

func newPrefixes(tree *snapdb.Tree, bucket int, opts PrefixOptions) *prefixes {
	return &prefixes{
		opts: opts, tree: tree, bucket: bucket, hasher: newHasher(), table: newTable(addCounted),
		rows: rowTable{ids: map[string]uint32{}, names: [][]byte{nil}, max: opts.MaxRows},
	}
}

// counted is what the table holds of a key: its latest record, its row and the
// number of its records.
type counted struct {
	latest  // ref: bytes of the latest record
	version uint32
	row     uint32
	n       uint32
}

func addCounted(old, v *counted) {
	before := old.latest
	keepLatest(&old.latest, &v.latest)
	switch {
	case old.latest != before:
		old.version = v.version
	case before == v.latest: // two records of one revision are damage
		old.version = max(old.version, v.version)
	}
	old.n += v.n
}

type prefixSink struct {
	of       *prefixes
	batch    batcher[counted]
	ids      map[string]uint32
	counts   []Counts // by row
	keySizes Histogram
	values   Histogram
	bump     Counts
	edge     Counts
	later    Counts
	unread   int64
	highest  int64
	used     int64
	leaves   int64
}

// Sink implements Consumer.
func (p *prefixes) Sink() Sink {
	s := &prefixSink{of: p, ids: map[string]uint32{}}
	s.batch.table = p.table
	p.sinks = append(p.sinks, s)
	return s
}

// Leaf implements Sink.
func (s *prefixSink) Leaf(l *Leaf) {
	p := s.of
	if l.Bucket != p.bucket {
		return
	}
	end := page.HeaderSize
	for i := range l.Elements {
		e := &l.Elements[i]
		end = max(end, e.Offset+len(e.Key)+len(e.Value))
		rev, ok := keyspace.DecodeRevision(e.Key)
		if !ok || e.Bucket {
			s.unread++
			continue
		}
		s.highest = max(s.highest, rev.Main)
		size := uint32(len(e.Key) + len(e.Value))
		if p.opts.Revision > 0 && rev.Main > p.opts.Revision {
			s.later.Revisions++
			s.later.Bytes += int64(size)
			continue
		}
		kv, err := keyspace.DecodeKeyValue(e.Value)
		if err != nil {
			s.unread++
			continue
		}
		s.record(rev, &kv, size)
	}
	if l.Index >= 0 && !p.tree.Leaves[l.Index].Broken {
		s.used += int64(end)
		s.leaves += int64(len(l.Bytes))
	}
}

// record counts one record of size bytes.
func (s *prefixSink) record(rev keyspace.Revision, kv *keyspace.KeyValue, size uint32) {
	p := s.of
	row := s.row(kv.Key[:p.opts.Cut(kv.Key)])
	for int(row) >= len(s.counts) {
		s.counts = append(s.counts, Counts{})
	}
	c := &s.counts[row]
	c.Revisions++
	c.Bytes += int64(size)
	ref := size
	switch {
	case rev.Tombstone:
		c.Tombstones++
		ref |= tombstone
		if rev.Main == p.opts.Edge {
			s.edge.Tombstones++
			s.edge.Bytes += int64(size)
		}
		s.keySizes.add(len(kv.Key))
	case len(kv.Key) == 0:
		s.bump.Revisions++
		s.bump.Bytes += int64(size)
	default:
		s.keySizes.add(len(kv.Key))
		s.values.add(len(kv.Value))
	}
	hash, hash2 := p.hasher.hashes(kv.Key)
	version := uint32(min(max(kv.Version, 0), math.MaxUint32))
	s.batch.add(hash, hash2, counted{newLatest(rev.Main, ref), version, row, 1})
}

const (
	maxRowCache  = 1 << 16 // rows that a parser knows without asking
	maxCacheName = 256     // bytes of such a row's name
)

func (s *prefixSink) row(prefix []byte) uint32 {
	if id, ok := s.ids[string(prefix)]; ok {
		return id
	}
	id := s.of.rows.id(&s.of.hasher, prefix)
	if len(s.ids) < maxRowCache && len(prefix) <= maxCacheName {
		s.ids[string(prefix)] = id
	}
	return id
}

// finish puts together what the passes have counted.
func (p *prefixes) finish(r *PrefixResult) {
	counts := p.sum(r)
	for _, s := range p.sinks {
		s.batch.flush()
	}
	p.table.settleAll()
	p.live(r, counts)
	p.list(r, counts)
	lists := p.mostOf([]measure{records, versions, recordSize})
	r.Hottest, r.Versions, r.Largest = lists[0], lists[1], lists[2]
}

// part puts together what is true of the records that were seen, whatever the others are.
func (p *prefixes) part(r *PrefixResult) {
	if p.rows.over {
		p.rows.folded = 1 // at least
	}
	p.list(r, p.sum(r))
}

// sum adds up what the parsers have counted, and gives what falls to each row.
func (p *prefixes) sum(r *PrefixResult) []Counts {
	counts := make([]Counts, len(p.rows.names))
	for _, s := range p.sinks {
		for row := range s.counts {
			counts[row].add(&s.counts[row])
		}
		for i := range r.KeySizes {
			r.KeySizes[i] += s.keySizes[i]
			r.Values[i] += s.values[i]
		}
		r.Unread += s.unread
		r.Bump.add(&s.bump)
		r.Edge.add(&s.edge)
		r.Later.add(&s.later)
		r.Highest = max(r.Highest, s.highest)
		r.UsedBytes += s.used
		r.LeafBytes += s.leaves
	}
	return counts
}

// list makes the rows.
func (p *prefixes) list(r *PrefixResult, counts []Counts) {
	for row := range counts {
		r.Total.add(&counts[row])
		if row != other {
			r.Rows = append(r.Rows, PrefixRow{p.rows.names[row], counts[row]})
		}
	}
	r.Other, r.OtherRows = counts[other], p.rows.folded
	slices.SortFunc(r.Rows, func(a, b PrefixRow) int { return bytes.Compare(a.Prefix, b.Prefix) })
}

// live counts the keys that are there, by row.
func (p *prefixes) live(r *PrefixResult, counts []Counts) {
	type part struct {
		counts   []Counts
		distinct int64
	}
	var parts []*part
	eachShard(func() func(n int) {
		l := &part{counts: make([]Counts, len(counts))}
		parts = append(parts, l)
		return func(n int) {
			p.table.each(n, func(e *entry[counted]) {
				l.distinct++
				if !e.v.dead() {
					c := &l.counts[e.v.row]
					c.Live++
					c.LiveBytes += int64(e.v.ref)
				}
			})
		}
	})
	for _, l := range parts {
		r.Distinct += l.distinct
		for row := range l.counts {
			counts[row].add(&l.counts[row])
		}
	}
	// The bump record has no key; etcd files it under the empty one.
	if bump := p.table.get(p.hasher.hashes(nil)); bump != nil {
		r.Distinct--
		if !bump.dead() {
			counts[bump.row].Live--
			counts[bump.row].LiveBytes -= int64(bump.ref)
		}
	}
}

// rowSizes counts the records of each row, without their names.
type rowSizes struct {
	opts   PrefixOptions
	bucket int
	hasher hasher
	table  *table[rowSize]
	sinks  []*rowSizeSink
}

// A rowSize is the number of a row's records, and the length of its name.
type rowSize struct{ n, name uint32 }

func addRowSize(old, v *rowSize) { old.n += v.n }

type rowSizeSink struct {
	of    *rowSizes
	batch batcher[rowSize]
}

// Sink implements Consumer.
func (s *rowSizes) Sink() Sink {
	sink := &rowSizeSink{of: s}
	sink.batch.table = s.table
	s.sinks = append(s.sinks, sink)
	return sink
}

// Leaf implements Sink.
func (s *rowSizeSink) Leaf(l *Leaf) {
	if l.Bucket != s.of.bucket {
		return
	}
	for i := range l.Elements {
		e := &l.Elements[i]
		rev, ok := keyspace.DecodeRevision(e.Key)
		if !ok || s.of.opts.Revision > 0 && rev.Main > s.of.opts.Revision {
			continue
		}
		if kv, err := keyspace.DecodeKeyValue(e.Value); err == nil {
			prefix := kv.Key[:s.of.opts.Cut(kv.Key)]
			hash, hash2 := s.of.hasher.hashes(prefix)
			s.batch.add(hash, hash2, rowSize{1, uint32(len(prefix))})
		}
	}
}

// largest gives the rows with most records, as far as there is room for them and
// for their names: those with at least so many records that all of them fit.
func (s *rowSizes) largest(maxRows, maxBytes int) (rows map[prefixHash]bool, folded int64) {
	for _, sink := range s.sinks {
		sink.batch.flush()
	}
	s.table.settleAll()
	each := func(visit func(e *entry[rowSize])) {
		for n := range shards {
			s.table.each(n, visit)
		}
	}
	type need struct{ rows, bytes int }
	bySize := map[uint32]need{}
	each(func(e *entry[rowSize]) {
		n := bySize[e.v.n]
		bySize[e.v.n] = need{n.rows + 1, n.bytes + int(e.v.name)}
	})
	least := uint32(math.MaxUint32)
	var sum need
	for _, n := range slices.Backward(slices.Sorted(maps.Keys(bySize))) {
		sum.rows += bySize[n].rows
		sum.bytes += bySize[n].bytes
		if sum.rows > maxRows || sum.bytes > maxBytes {
			break
		}
		least = n
	}
	rows = map[prefixHash]bool{}
	each(func(e *entry[rowSize]) {
		if e.v.n >= least {
			rows[prefixHash{e.hash, e.hash2}] = true
		} else {
			folded++
		}
	})
	return rows, folded
}

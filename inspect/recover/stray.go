package recover

import (
	"bytes"
	"context"
	"hash/maphash"

	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
	"etcd-forensics/snapdb/scan"
)

// A strayPage is a leaf page of bucket key to which the tree does not lead: one that the
// tree has lost, or a copy that some transaction gave up.
type strayPage struct {
	id       page.ID
	sound    bool // laid out, and every record proven
	lost     bool // a stored freelist does not list it as free: the tree has lost it
	free     bool // a stored freelist lists it
	from, to int  // its records in strays.records
	stale    bool // it holds a record that is dead, so it was written before that died

	// Of the runs that it is part of: how many, and how many begin and end with it.
	runs, begins, ends int
}

// A run is a part of a branch page to which the tree does not lead: leaves in a row, each
// of which is still what the branch refers to. Together they are what one page would be
// that reached from the first record to the last.
type run struct{ first, last keyspace.Revision }

// A strayRecord is one proven record on such a page.
type strayRecord struct {
	rev             keyspace.Revision
	create, version int64
	key             *keyFacts
	sum             uint64 // of its bytes
	page            int32
	element         int32
	orphan          bool // its lease does not exist
}

// keyFacts is what is known of the other records of a key.
type keyFacts struct {
	key []byte
	// The last record that a finished compaction may have touched, and the first that it
	// cannot have, wherever they were found.
	below, above keyspace.Revision
	next         keyspace.KeyValue // of above, without key and value
}

// strays are the pages that lie in ranges that the tree has lost.
type strays struct {
	file *snapdb.File
	// Up to compacted records may have been deleted. Up to finished they have been, as far
	// as compaction deletes them: it may have been interrupted.
	compacted, finished int64

	pages   []strayPage
	records []strayRecord
	runs    []run
	rows    [][]int        // pages of each run
	order   []int32        // of records, by revision
	leases  map[int64]bool // nil when not all are known
	keys    map[string]*keyFacts
}

// see takes in a record of a key, from wherever.
func (f *keyFacts) see(rev keyspace.Revision, kv *keyspace.KeyValue, finished int64) {
	if rev.Main <= finished {
		if rev.Compare(f.below) > 0 {
			f.below = rev
		}
		return
	}
	if f.above.Main == 0 || rev.Compare(f.above) < 0 {
		f.above = rev
		f.next = keyspace.KeyValue{CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Version: kv.Version}
	}
}

// sumSeed makes equal bytes equal sums within one run; nothing else depends on them.
var sumSeed = maphash.MakeSeed()

// sumOf sums up the bytes of a record.
func sumOf(rec *record) uint64 {
	var h maphash.Hash
	h.SetSeed(sumSeed)
	h.Write(rec.Key)
	h.Write(rec.Value)
	return h.Sum64()
}

// A strayReader collects pages.
type strayReader struct {
	base     *base
	strays   *strays
	remains  *snapdb.Remains       // of all pages, or of those outside the tree
	outside  func(page.ID) bool    // the tree takes no records from it
	wanted   func(key []byte) bool // in a range that is lost
	buf      []byte
	elements []snapdb.Element
	records  []record
}

// collect looks through all leaf pages of the file that the tree does not use, for those
// with records in a lost range, and then once more through them and the tree for other
// records of the same keys.
func (b *base) collect(ctx context.Context, losses *lossIndex, compacted, finished int64) (*strays, error) {
	s := &strays{file: b.db, compacted: compacted, finished: finished, keys: map[string]*keyFacts{}}
	r := &strayReader{base: b, strays: s, wanted: losses.hold, remains: b.remains, outside: b.outside()}
	if r.remains == nil {
		var err error
		if r.remains, err = snapdb.SurveyOf(ctx, b.db, r.outside); err != nil {
			return nil, err
		}
	}
	s.leases = b.leases()
	if err := r.eachPage(ctx, r.take); err != nil {
		return nil, err
	}
	if err := r.join(ctx); err != nil {
		return nil, err
	}
	if len(s.keys) == 0 {
		return s, nil
	}
	if err := r.eachPage(ctx, r.seeKeys); err != nil {
		return nil, err
	}
	return s, b.eachTreeRecord(ctx, s)
}

// outside says of pages whether they are other than those that the tree takes records from.
func (b *base) outside() func(page.ID) bool {
	misfit := map[page.ID]bool{}
	for i := range b.leaves {
		if c := b.leaves[i].class; c == leafMisfit {
			misfit[b.Tree.Leaves[i].ID] = true
		}
	}
	return func(id page.ID) bool { return misfit[id] || !b.inUse(id) }
}

// eachPage visits the leaf pages that the tree does not take records from.
func (r *strayReader) eachPage(ctx context.Context, visit func(id page.ID)) error {
	return r.remains.EachLeaf(ctx, r.outside, func(id page.ID, head []byte) {
		if revisionFirst(head) {
			visit(id)
		}
	})
}

// revisionFirst says whether the first key of a leaf page has the length of a revision.
func revisionFirst(head []byte) bool {
	l, _ := page.OpenLeaf(head)
	if l.Len() == 0 {
		return false
	}
	raw := l.Raw(0)
	return raw.Flags == 0 && (raw.KeySize == keyspace.RevisionSize || raw.KeySize == keyspace.MarkedRevisionSize)
}

// read reads the proven records of a page.
func (r *strayReader) read(id page.ID) (sound bool) {
	r.records = r.records[:0]
	var missing int
	buf, elements, sound, ok := readStray(r.base.db, id, r.buf, r.elements[:0])
	r.buf, r.elements = buf, elements
	if !ok {
		return false
	}
	r.records, missing = provenOn(id, elements, sound, len(buf), r.records)
	return sound && missing == 0
}

// readStray reads the elements of a leaf page by itself. sound says that they are laid
// out as bbolt lays them, in order.
func readStray(f *snapdb.File, id page.ID, buf []byte, elements []snapdb.Element) (_ []byte, _ []snapdb.Element, sound, ok bool) {
	buf, err := f.ReadPage(id, maxMended, buf)
	if err != nil || len(buf) < page.HeaderSize {
		return buf, elements, false, false
	}
	l, fault := page.OpenLeaf(buf)
	if l.Kind() != page.KindLeaf {
		return buf, elements, false, false
	}
	sound = fault == nil && l.ID == id
	var before []byte
	for k := range l.Len() {
		var e page.LeafElement
		var at int
		if !l.Placed(k, &e, &at) {
			var fault *page.Fault
			e, fault = l.Element(k)
			at = l.Offset(k)
			sound = false
			if fault != nil && e.Key == nil {
				continue
			}
		}
		sound = sound && page.OrderFault(k, before, e.Key) == nil
		before = e.Key
		elements = append(elements, snapdb.Element{LeafElement: e, Index: k, Offset: at})
	}
	return buf, elements, sound, true
}

// take adds a page that has records in a lost range.
func (r *strayReader) take(id page.ID) {
	sound := r.read(id)
	wanted := false
	for i := range r.records {
		wanted = wanted || r.wanted(r.records[i].Key)
	}
	if !wanted {
		return
	}
	s := r.strays
	p := strayPage{id: id, sound: sound, from: len(s.records)}
	if r.base.pages.FreelistStored && id < page.ID(len(r.base.pages.Class)) {
		p.lost = r.base.pages.Class[id] == snapdb.ClassUnreachable
		p.free = r.base.pages.Class[id] == snapdb.ClassFree
	}
	for i := range r.records {
		rec := &r.records[i]
		key := s.keys[string(rec.kv.Key)]
		if key == nil {
			key = &keyFacts{key: append([]byte(nil), rec.kv.Key...)}
			s.keys[string(rec.kv.Key)] = key
		}
		s.records = append(s.records, strayRecord{rev: rec.rev, create: rec.kv.CreateRevision, version: rec.kv.Version, key: key,
			sum: sumOf(rec), page: int32(len(s.pages)), element: int32(rec.Index),
			orphan: rec.kv.Lease != 0 && s.leases != nil && !s.leases[rec.kv.Lease]})
	}
	p.to = len(s.records)
	s.pages = append(s.pages, p)
}

// seeKeys takes in what a page says of the keys that matter.
func (r *strayReader) seeKeys(id page.ID) {
	r.read(id)
	for i := range r.records {
		rec := &r.records[i]
		if key := r.strays.keys[string(rec.kv.Key)]; key != nil {
			key.see(rec.rev, &rec.kv, r.strays.finished)
		}
	}
}

// eachTreeRecord takes in what the tree says of the keys that matter.
func (b *base) eachTreeRecord(ctx context.Context, s *strays) error {
	sink := &factSink{base: b, strays: s}
	_, err := scan.Run(ctx, b.Tree, scan.Options{Again: true, Parsers: 1}, sink)
	return err
}

// A factSink is both consumer and its one sink.
type factSink struct {
	base    *base
	strays  *strays
	records []record
}

// Sink implements scan.Consumer.
func (f *factSink) Sink() scan.Sink { return f }

// Leaf implements scan.Sink.
func (f *factSink) Leaf(l *scan.Leaf) {
	if l.Bucket != f.base.key || l.Index >= len(f.base.leaves) {
		return
	}
	f.records, _ = provenOn(l.Page, l.Elements, l.Sound, len(l.Bytes), f.records[:0])
	for i := range f.records {
		rec := &f.records[i]
		if key := f.strays.keys[string(rec.kv.Key)]; key != nil {
			key.see(rec.rev, &rec.kv, f.strays.finished)
		}
	}
}

// leases gives the ids of all leases, nil when they may not be all.
func (b *base) leases() map[int64]bool {
	bucket, ok := b.Bucket[keyspace.BucketLease]
	if !ok || b.behind || b.Tree.Faults.InBucket(bucket) || b.Tree.Faults.InBucket(0) {
		return nil
	}
	ids := map[int64]bool{}
	whole := true
	b.rows(bucket, func() { whole = false }, func(r row) error {
		if l, err := keyspace.DecodeLease(r.key, r.value); err == nil {
			ids[l.ID] = true
		}
		return nil
	})
	if !whole {
		return nil
	}
	return ids
}

// join finds the runs of the branch pages to which the tree does not lead.
func (r *strayReader) join(ctx context.Context) error {
	s, b := r.strays, r.base
	byID := map[page.ID]int{}
	for i := range s.pages {
		byID[s.pages[i].id] = i
	}
	var buf []byte
	n := 0
	for id := range r.remains.Branches() {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if b.inUse(id) {
			continue
		}
		var err error
		if buf, err = b.db.ReadPage(id, maxMended, buf); err != nil || !page.LaidOut(buf) {
			continue
		}
		if first, _ := separators(buf); first == nil {
			continue
		}
		br, _ := page.OpenBranch(buf)
		row := []int{}
		for i := range br.Len() {
			e, _ := br.Element(i)
			if p, there := byID[e.Child]; there && s.pages[p].sound && bytes.Equal(e.Key, s.records[s.pages[p].from].rev.Append(nil)) {
				row = append(row, p)
				continue
			}
			s.addRun(row)
			row = row[:0]
		}
		s.addRun(row)
		if len(row) == br.Len() {
			s.rows = append(s.rows, row)
		}
	}
	return nil
}

// addRun adds the pages of a row, when there are several and none overlaps the next.
func (s *strays) addRun(row []int) {
	if len(row) < 2 {
		return
	}
	for i := 1; i < len(row); i++ {
		if s.records[s.pages[row[i-1]].to-1].rev.Compare(s.records[s.pages[row[i]].from].rev) >= 0 {
			return
		}
	}
	s.runs = append(s.runs, run{s.records[s.pages[row[0]].from].rev, s.records[s.pages[row[len(row)-1]].to-1].rev})
	for _, p := range row {
		s.pages[p].runs++
	}
	s.pages[row[0]].begins++
	s.pages[row[len(row)-1]].ends++
}

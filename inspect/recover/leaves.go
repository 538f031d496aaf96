package recover

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
	"etcd-forensics/snapdb/scan"
)

// leafClass is what a leaf page of bucket key is good for.
type leafClass uint8

const (
	leafUnread  leafClass = iota // nothing on it is proven
	leafWhole                    // sound, and every record is proven
	leafPartial                  // some records are
	leafMisfit                   // records that are not of its place in the tree
)

// A leafState is what the pass found on one leaf of bucket key.
type leafState struct {
	first, last keyspace.Revision
	records     int32
	missing     int32 // elements that are not proven
	class       leafClass
	alone       bool // nothing is wrong with the page but its place
	sound       bool // nothing is wrong with it at all
}

// fitMisfits takes pages for what they are that lie outside what their parents promise,
// and between the keys of their neighbours all the same: then a separator is wrong.
func (b *base) fitMisfits() {
	var order []int // leaves of bucket key with records
	for i := range b.leaves {
		if int(b.Tree.Leaves[i].Bucket) == b.key && b.Tree.Leaves[i].ID != 0 {
			order = append(order, i)
		}
	}
	for n, i := range order {
		s := &b.leaves[i]
		if s.class != leafMisfit || !s.alone {
			continue
		}
		fits := (n == 0 || b.leaves[order[n-1]].records > 0 && b.leaves[order[n-1]].last.Compare(s.first) < 0) &&
			(n+1 == len(order) || b.leaves[order[n+1]].records > 0 && b.leaves[order[n+1]].first.Compare(s.last) > 0)
		if fits {
			s.class = leafWhole
		}
	}
}

// A leafJudge classes the leaves of bucket key.
type leafJudge struct {
	tree   *snapdb.Tree
	bucket int
	leaves []leafState
	inline leafState
}

func newLeafJudge(tree *snapdb.Tree, bucket int) *leafJudge {
	return &leafJudge{tree: tree, bucket: bucket, leaves: make([]leafState, len(tree.Leaves))}
}

// adopt takes over what is known of the leaves of another tree of the file, and says of
// the leaves which these are.
func (j *leafJudge) adopt(other *base) (known func(leaf int) bool) {
	of := j.tree.Adopt(j.bucket, other.Tree, other.key, func(leaf int) bool {
		s := &other.leaves[leaf]
		return s.class == leafWhole && s.sound
	})
	for i, k := range of {
		if k >= 0 {
			j.leaves[i] = other.leaves[k]
		}
	}
	return func(leaf int) bool { return leaf < len(of) && of[leaf] >= 0 }
}

// Sink implements scan.Consumer.
func (j *leafJudge) Sink() scan.Sink { return &leafSink{judge: j} }

type leafSink struct {
	judge   *leafJudge
	records []record
}

// Leaf implements scan.Sink. Each leaf is given once, so no two write to one place.
func (s *leafSink) Leaf(l *scan.Leaf) {
	j := s.judge
	if l.Bucket != j.bucket || j.bucket < 0 {
		return
	}
	var missing int
	s.records, missing = provenOn(l.Page, l.Elements, l.Sound, len(l.Bytes), s.records[:0])
	state := &j.inline
	var lo, hi []byte
	if l.Index >= 0 {
		if l.Index >= len(j.leaves) {
			return // a leaf of a bucket inside bucket key, which etcd never has
		}
		state = &j.leaves[l.Index]
		lo, hi = j.tree.Range(l.Index)
	}
	state.records, state.missing = int32(len(s.records)), int32(missing)
	if len(s.records) == 0 {
		if l.Sound && missing == 0 {
			state.class = leafWhole // the only page of an empty bucket
		}
		return
	}
	first, last := &s.records[0], &s.records[len(s.records)-1]
	state.first, state.last = first.rev, last.rev
	state.sound = l.Sound && missing == 0
	state.alone = l.Sound || missing == 0 && page.LaidOut(l.Bytes)
	switch {
	case state.sound:
		state.class = leafWhole
	case lo != nil && bytes.Compare(first.Key, lo) < 0 || hi != nil && bytes.Compare(last.Key, hi) >= 0:
		state.class = leafMisfit
	default:
		state.class = leafPartial
	}
}

// order gives the leaves of bucket key that have records to take, in key order. Of two
// that overlap, which no sound tree has, the later is a misfit.
func (b *base) order() []int32 {
	var order []int32
	for i := range b.leaves {
		if c := b.leaves[i].class; (c == leafWhole || c == leafPartial) && b.leaves[i].records > 0 {
			order = append(order, int32(i))
		}
	}
	slices.SortStableFunc(order, func(x, y int32) int { return b.leaves[x].first.Compare(b.leaves[y].first) })
	kept := order[:0]
	for _, i := range order {
		if n := len(kept); n > 0 && b.leaves[i].first.Compare(b.leaves[kept[n-1]].last) <= 0 {
			b.leaves[i].class = leafMisfit
			continue
		}
		kept = append(kept, i)
	}
	return kept
}

// losses lists what the tree does not give of bucket key, by page.
func (b *base) losses() []Loss {
	var losses []Loss
	leaf := map[page.ID]int{}
	reasons := map[page.ID]string{}
	for i := range b.Tree.Leaves {
		if l := &b.Tree.Leaves[i]; int(l.Bucket) == b.key && l.ID != 0 && b.leaves[i].class != leafWhole {
			leaf[l.ID] = i
		}
	}
	counted := map[snapdb.FaultKind]int{}
	for _, f := range b.Tree.Faults.All() {
		if f.Bucket != b.key {
			continue
		}
		counted[f.Kind]++
		if _, isLeaf := leaf[f.Page]; isLeaf {
			if reasons[f.Page] == "" {
				reasons[f.Page] = f.Kind.String() + ": " + f.Err.Error()
			}
			continue
		}
		id := f.Page
		losses = append(losses, Loss{Page: &id, Bucket: keyspace.BucketKey, From: f.Lo, To: f.Hi, Reason: f.Kind.String() + ": " + f.Err.Error(), kind: b.referenceKind(f), leaf: b.toLeaf(f)})
	}
	for kind, n := range counted {
		if n < b.Tree.Faults.Count(kind) && n >= faultsKept {
			losses = append(losses, Loss{Bucket: keyspace.BucketKey, Reason: fmt.Sprintf("more than %d faults of the kind %s", faultsKept, kind), kind: lossReference})
		}
	}
	for _, i := range leaf {
		losses = append(losses, b.leafLosses(i, reasons[b.Tree.Leaves[i].ID])...)
	}
	if b.behind {
		after := append(b.lastRevision().Append(nil), 0)
		losses = append(losses, Loss{Bucket: keyspace.BucketKey, From: after, Reason: "the tree is that of an older transaction: " + b.origin, kind: lossReference})
	}
	return losses
}

// toLeaf says whether a fault is that of a reference where leaves are referred to, with a
// separator that can be relied on.
func (b *base) toLeaf(f snapdb.Fault) bool {
	switch f.Kind {
	case snapdb.FaultOutOfRange, snapdb.FaultPastEnd, snapdb.FaultPageShared, snapdb.FaultPageCycle:
		return f.Element >= 0 && f.Lo != nil && len(f.Path) == b.Tree.Depth(b.key)
	}
	return false
}

// referenceKind tells a lost reference from a lost page, for a fault that is not on a
// leaf: a page past the end of the file, referred to where leaves are, is gone.
func (b *base) referenceKind(f snapdb.Fault) lossKind {
	if f.Kind == snapdb.FaultPastEnd && len(f.Path) == b.Tree.Depth(b.key) {
		return lossPage
	}
	return lossReference
}

// leafLosses lists what is not proven on leaf i.
func (b *base) leafLosses(i int, reason string) []Loss {
	l := &b.Tree.Leaves[i]
	lo, hi := b.Tree.Range(i)
	id := l.ID
	whole := Loss{Page: &id, Bucket: keyspace.BucketKey, From: lo, To: hi, Reason: reason}
	if whole.Reason == "" {
		whole.Reason = "records that do not prove themselves"
	}
	buf, elements, sound, err := b.readLeaf(i, nil, nil)
	if err != nil {
		return []Loss{whole}
	}
	laidOut := page.LaidOut(buf)
	own := laidOut && page.DecodeHeader((*[page.HeaderSize]byte)(buf)).ID == id
	if class := b.leaves[i].class; class == leafMisfit || class == leafUnread {
		// A page that is what it says is not the one that belongs here; the root of a
		// bucket may have been a branch.
		if own && b.leaves[i].missing == 0 || l.Parent < 0 {
			whole.kind, whole.leaf = lossReference, l.Parent >= 0 && lo != nil
		}
		return []Loss{whole}
	}
	records, _ := provenOn(id, elements, sound, len(buf), nil)
	return gapsBetween(records, elements, laidOut, whole)
}

// gapsBetween lists the ranges between the proven records of a partly readable leaf.
func gapsBetween(records []record, elements []snapdb.Element, laidOut bool, whole Loss) []Loss {
	var losses []Loss
	from, next := whole.From, 0 // next is the element that would follow without a gap
	for _, r := range records {
		if r.Index != next {
			gap := whole
			gap.From, gap.To = from, bytes.Clone(r.Key)
			losses = append(losses, gap)
		}
		from, next = append(bytes.Clone(r.Key), 0), r.Index+1
	}
	if n := len(elements); !laidOut || n > 0 && elements[n-1].Index >= next {
		gap := whole
		gap.From = from
		losses = append(losses, gap)
	}
	return losses
}

// readLeaf reads leaf i of bucket key: as the tree does or, when the page is not laid out
// as a leaf, element by element. buf has its bytes.
func (b *base) readLeaf(i int, buf []byte, elements []snapdb.Element) (_ []byte, _ []snapdb.Element, sound bool, err error) {
	id := b.Tree.Leaves[i].ID
	if buf, err = b.Tree.File.ReadPage(id, maxMended, buf); err != nil {
		return buf, elements, false, err
	}
	var faults snapdb.FaultList
	first := len(elements)
	elements = b.Tree.ReadLeaf(i, buf, elements, &faults)
	if faults.Len() == 0 || page.LaidOut(buf) {
		return buf, elements, faults.Len() == 0, nil
	}
	raw, err := b.raw(id)
	if err != nil {
		return buf, elements, false, nil
	}
	if salvaged := sift(raw, b.db.PageSize); len(salvaged) > provenCount(elements[first:]) {
		return raw, append(elements[:first], salvaged...), false, nil
	}
	return buf, elements, false, nil
}

// raw gives the bytes of page id and of those behind it that the tree does not use and
// that are no pages by themselves: they can be its overflow.
func (b *base) raw(id page.ID) ([]byte, error) {
	size := int64(b.db.PageSize)
	offset := int64(id) * size
	raw := make([]byte, min(size, b.db.DataSize-offset))
	if _, err := b.mended.ReadAt(raw, offset); err != nil {
		return nil, err
	}
	next := make([]byte, size)
	for n := int64(1); n < b.Tree.Room(id) && int64(len(raw)) < maxMended; n++ {
		if _, err := b.mended.ReadAt(next, offset+n*size); err != nil || page.DecodeHeader((*[page.HeaderSize]byte)(next)).ID == id+page.ID(n) {
			break
		}
		raw = append(raw, next...)
	}
	return raw, nil
}

func provenCount(elements []snapdb.Element) (n int) {
	for i := range elements {
		if _, _, p := proveElement(&elements[i]); p != unproven {
			n++
		}
	}
	return n
}

// sift finds the elements of a leaf of bucket key whose header or first elements are
// gone: an element says where its bytes lie, and these prove themselves.
func sift(b []byte, pageSize int) []snapdb.Element {
	var found []snapdb.Element
	// The table ends where keys begin, and on the first page as far as one can rely on it.
	end, work := min(len(b), pageSize), maxWork*int64(len(b))
	for k := 0; page.HeaderSize+(k+1)*page.ElementSize <= end && k < maxElements; k++ {
		at := page.HeaderSize + k*page.ElementSize
		raw := binary.LittleEndian.Uint32(b[at+8:])
		if raw != keyspace.RevisionSize && raw != keyspace.MarkedRevisionSize || binary.LittleEndian.Uint32(b[at:]) != 0 {
			continue
		}
		from := uint64(at) + uint64(binary.LittleEndian.Uint32(b[at+4:]))
		value := from + uint64(raw)
		to := value + uint64(binary.LittleEndian.Uint32(b[at+12:]))
		if to > uint64(len(b)) || from < uint64(at+page.ElementSize) {
			continue
		}
		e := snapdb.Element{LeafElement: page.LeafElement{Key: b[from:value:value], Value: b[value:to:to]}, Index: k, Offset: int(from)}
		if work -= int64(to - from); work < 0 {
			break
		}
		if _, _, p := proveElement(&e); p != unproven {
			found = append(found, e)
			end = min(end, int(from))
		}
	}
	return found
}

// maxElements is what the count of a page can say.
const maxElements = 0xFFFF

// reconsider looks once more at the leaves on which nothing, or not all, was proven.
func (b *base) reconsider() {
	r := leafReader{base: b}
	for i := range b.leaves {
		s := &b.leaves[i]
		if l := &b.Tree.Leaves[i]; int(l.Bucket) != b.key || l.ID == 0 || s.class == leafWhole || s.class == leafMisfit {
			continue
		}
		if r.leaf(i) != nil || len(r.records) <= int(s.records) {
			continue
		}
		lo, hi := b.Tree.Range(i)
		first, last := &r.records[0], &r.records[len(r.records)-1]
		s.first, s.last, s.records, s.missing = first.rev, last.rev, int32(len(r.records)), max(s.missing, 1)
		s.class = leafPartial
		if lo != nil && bytes.Compare(first.Key, lo) < 0 || hi != nil && bytes.Compare(last.Key, hi) >= 0 {
			s.class = leafMisfit
		}
	}
}

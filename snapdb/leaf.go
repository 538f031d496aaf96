package snapdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"etcd-forensics/snapdb/page"
)

// An Element is one record of a leaf, with its place.
type Element struct {
	page.LeafElement
	Index  int
	Offset int // of the key, from the start of the page
}

// ReadLeaf decodes the bytes of leaf i: it checks the header, every position and
// length before use, the order of the keys, and their place between the
// separators above. Elements are appended to elements, which may be reused between
// calls. An element whose bytes leave the page is missing from the result. Of the
// tree only Leaves[i] is written, so different leaves may be read at once.
func (t *Tree) ReadLeaf(i int, b []byte, elements []Element, faults *FaultList) []Element {
	l := &t.Leaves[i]
	report := func(kind FaultKind, element int, offset int64, err error) {
		faults.Add(t.leafFault(i, kind, element, offset, err))
	}
	if len(b) < page.HeaderSize {
		l.Broken = true
		report(FaultPastEnd, -1, 0, errCut)
		return elements
	}
	h := page.DecodeHeader((*[page.HeaderSize]byte)(b))
	if h.Kind() != page.KindLeaf {
		l.Broken = true
		if h.ID == l.ID && page.LaidOut(b) && l.Parent >= 0 {
			f := t.leafFault(i, FaultPageType, -1, 0, fmt.Errorf("refers to page %d, a %s, where a leaf belongs", l.ID, h.Kind()))
			f.Page, f.Related, f.Path = t.Nodes[l.Parent].ID, []page.ID{l.ID}, f.Path[:len(f.Path)-1]
			f.Offset = int64(f.Page) * int64(t.File.PageSize)
			faults.Add(f)
			return elements
		}
		report(FaultPageType, -1, 8, notKind(h, "a leaf"))
		return elements
	}
	// What a page says of itself is judged once: a cut page has no bad elements,
	// and a page that carries another's number has no keys out of range.
	cut := t.isCut(l.ID, h.Overflow)
	foreign := h.ID != l.ID
	switch {
	case cut:
		report(FaultPastEnd, -1, 0, errCut)
	case foreign:
		report(FaultPageID, -1, 0, fmt.Errorf("the page carries number %d", h.ID))
	}
	if t.pastMark(l.ID, h.Overflow) {
		report(FaultPageBounds, -1, 12, fmt.Errorf("overflow of %d pages leaves the file's pages in use", h.Overflow))
	} else if !cut {
		l.Overflow = h.Overflow
	}
	leaf, fault := page.OpenLeaf(b)
	switch {
	case fault != nil && !cut && h.Count == 0 && l.Parent >= 0:
		report(FaultPageEmpty, -1, 10, fault.Err)
	case fault != nil && !cut:
		report(pageFaults[fault.Kind], fault.Element, fault.Offset, fault.Err)
	}
	if leaf.Len() == 0 && fault == nil && l.Parent >= 0 {
		report(FaultPageEmpty, -1, 10, errNoElements)
	}
	first := len(elements)
	elements, bad, badElements := readElements(&leaf, elements)
	switch {
	case cut:
	case bad != nil:
		l.damaged = true
		if badElements > 1 {
			bad.Err = fmt.Errorf("%w; %d of %d elements are not as they should be", bad.Err, badElements, leaf.Len())
		}
		report(pageFaults[bad.Kind], bad.Element, bad.Offset, bad.Err)
	default:
		if of := h.CheckOverflow(leaf.End(), t.File.PageSize); of != nil && fault == nil && !t.pastMark(l.ID, h.Overflow) {
			l.Overflow = 0
			report(FaultPageBounds, -1, of.Offset, of.Err)
		}
		if !foreign {
			t.checkRange(i, elements[first:], faults)
		}
	}
	return elements
}

var (
	errCut        = errors.New("the file ends inside the page")
	errNoElements = errors.New("no elements on a page below a branch")
)

// notKind says what a page is that should be something else.
func notKind(h page.Header, want string) error {
	if h == (page.Header{}) {
		return fmt.Errorf("the page header is all zeros where %s belongs", want)
	}
	return fmt.Errorf("flags are %#04x (%s) where %s belongs", h.Flags, h.Kind(), want)
}

// readElements decodes the elements of a leaf. It gives the first fault among
// them and how many elements have one; once positions are at fault, the order of
// the keys says nothing.
func readElements(leaf *page.Leaf, elements []Element) ([]Element, *page.Fault, int) {
	var first *page.Fault
	n := 0
	note := func(f *page.Fault) {
		if n++; first == nil {
			first = f
		}
	}
	elements = slices.Grow(elements, leaf.Len())
	var before []byte
	for k := range leaf.Len() {
		elements = elements[:len(elements)+1]
		e := &elements[len(elements)-1]
		e.Index = k
		var fault *page.Fault
		if !leaf.Placed(k, &e.LeafElement, &e.Offset) {
			e.LeafElement, fault = leaf.Element(k)
			e.Offset = leaf.Offset(k)
		}
		if fault != nil {
			note(fault)
			if e.Key == nil {
				elements = elements[:len(elements)-1]
				continue
			}
		} else if before != nil && !less(before, e.Key) && (first == nil || first.Kind == page.FaultOrder) {
			note(page.OrderFault(k, before, e.Key))
		}
		before = e.Key
	}
	return elements, first, n
}

// less says whether a sorts before b. Revisions differ in their first or their last
// eight bytes.
func less(a, b []byte) bool {
	const word = 8
	if len(a) > 2*word && len(b) > 2*word && a[word] == b[word] {
		x, y := binary.BigEndian.Uint64(a), binary.BigEndian.Uint64(b)
		if x == y {
			x, y = binary.BigEndian.Uint64(a[word+1:]), binary.BigEndian.Uint64(b[word+1:])
		}
		if x != y {
			return x < y
		}
	}
	return bytes.Compare(a, b) < 0
}

// checkRange holds the first and last key of a leaf, between which the others
// lie, against what the parents promise.
func (t *Tree) checkRange(i int, elements []Element, faults *FaultList) {
	if len(elements) == 0 {
		return
	}
	l := &t.Leaves[i]
	lo, hi := t.Range(i)
	first, last := elements[0], elements[len(elements)-1]
	l.exact = bytes.Equal(first.Key, lo)
	low, high := outside(first.Key, lo, nil), outside(last.Key, nil, hi)
	if !low && !high {
		return
	}
	e := first
	if high && !low {
		e = last
	}
	f := t.leafFault(i, FaultPageRange, e.Index, int64(page.HeaderSize+e.Index*page.ElementSize), errOutside)
	f.Key = bytes.Clone(e.Key)
	switch {
	case low && !high && t.fitsBetween(i, first.Key):
		t.blameParent(&f, i)
	case high && !low:
		f.leaf = i + 1 // the next leaf may tell that the separator is wrong
	}
	faults.Add(f)
}

// fitsBetween says whether a leaf whose first key lies below its separator fits
// its place all the same: behind the beginning of the leaf before it. Then the
// separator is wrong; a page of elsewhere would hardly fit.
func (t *Tree) fitsBetween(i int, first []byte) bool {
	if i == 0 || t.Leaves[i-1].Bucket != t.Leaves[i].Bucket || t.Leaves[i].Parent < 0 {
		return false
	}
	before, _ := t.Range(i - 1)
	return before != nil && bytes.Compare(before, first) < 0
}

// blameParent places a range fault of leaf i on the page that holds the
// separator.
func (t *Tree) blameParent(f *Fault, i int) {
	l := &t.Leaves[i]
	f.Page, f.Element, f.Related = t.Nodes[l.Parent].ID, -1, []page.ID{l.ID}
	f.Offset = int64(f.Page) * int64(t.File.PageSize)
	f.Path = t.pathTo(int(l.Bucket), l.Parent)
	f.Err = fmt.Errorf("the separator above page %d does not fit the page's keys", l.ID)
}

// settleRanges decides, for each leaf whose last key lies at or past its upper
// separator, whether that separator is wrong: then the next leaf does not begin
// with it, as bbolt has every leaf begin. Call it after every leaf was read.
func (t *Tree) settleRanges() {
	k := &t.Faults.kinds[FaultPageRange]
	for n := range k.first {
		f := &k.first[n]
		i := f.leaf - 1
		if i < 0 || i+1 >= len(t.Leaves) {
			continue
		}
		if next := &t.Leaves[i+1]; next.Bucket == t.Leaves[i].Bucket && next.Parent >= 0 && !next.exact && !next.Broken {
			t.blameParent(f, i+1)
		}
	}
	slices.SortFunc(k.first, compareFaults)
}

var errOutside = errors.New("the key lies outside what the parents promise")

// ReadInline decodes the one leaf of an inline bucket, as ReadLeaf does.
func (t *Tree) ReadInline(b int) ([]Element, []Fault) {
	bk := &t.Buckets[b]
	leaf, fault := page.OpenLeaf(bk.Inline)
	at := func(kind FaultKind, element int, offset int64, err error) Fault {
		return Fault{Kind: kind, Page: bk.Holder, Offset: bk.InlineOffset + offset, Element: element, Bucket: b,
			Path: t.pathTo(b, -1), Err: err}
	}
	var faults []Fault
	if fault != nil {
		faults = append(faults, at(pageFaults[fault.Kind], -1, fault.Offset, fmt.Errorf("inline bucket: %w", fault.Err)))
	}
	if leaf.Kind() != page.KindLeaf {
		return nil, append(faults, at(FaultPageType, -1, 8, fmt.Errorf("inline bucket: flags are %#04x (%s) where a leaf belongs", leaf.Flags, leaf.Kind())))
	}
	if leaf.Header.ID != 0 || leaf.Header.Overflow != 0 {
		faults = append(faults, at(FaultPageID, -1, 0, fmt.Errorf("inline bucket: page number %d, overflow %d; both are 0 in an inline page", leaf.Header.ID, leaf.Header.Overflow)))
	}
	elements, bad, _ := readElements(&leaf, nil)
	switch {
	case bad != nil:
		faults = append(faults, at(pageFaults[bad.Kind], bad.Element, bad.Offset, fmt.Errorf("inline bucket: %w", bad.Err)))
	case fault == nil && leaf.End() != len(bk.Inline):
		faults = append(faults, at(FaultPageBounds, -1, int64(leaf.End()), fmt.Errorf("inline bucket: its elements end at byte %d of %d", leaf.End(), len(bk.Inline))))
	}
	for _, e := range elements {
		if e.Bucket { // bbolt inlines only buckets that hold none
			faults = append(faults, at(FaultBucket, e.Index, int64(page.HeaderSize+e.Index*page.ElementSize), errors.New("inline bucket: a record says that it is a bucket")))
			break
		}
	}
	return elements, faults
}

// leafFault places a fault on leaf i; offset counts from the start of the page.
func (t *Tree) leafFault(i int, kind FaultKind, element int, offset int64, err error) Fault {
	l := &t.Leaves[i]
	lo, hi := t.Range(i)
	return Fault{Kind: kind, Page: l.ID, Offset: int64(l.ID)*int64(t.File.PageSize) + offset, Element: element,
		Bucket: int(l.Bucket), Path: t.PathTo(i), Lo: lo, Hi: hi, Err: err}
}

// UnreadableLeaf is the fault of leaf i whose bytes the machine could not read.
func (t *Tree) UnreadableLeaf(i int, err error) Fault {
	return t.leafFault(i, FaultUnreadable, -1, 0, err)
}

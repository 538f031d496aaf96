package snapdb

import (
	"bytes"
	"fmt"

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
	if len(b) < page.HeaderSize {
		l.Broken = true
		faults.Add(t.leafFault(i, FaultPastEnd, -1, 0, fmt.Errorf("the file ends inside the page")))
		return elements
	}
	h := page.DecodeHeader((*[page.HeaderSize]byte)(b))
	if h.Kind() != page.KindLeaf {
		l.Broken = true
		faults.Add(t.leafFault(i, FaultPageType, -1, 8, fmt.Errorf("flags are %#04x (%s) where a leaf belongs", h.Flags, h.Kind())))
		return elements
	}
	if h.ID != l.ID {
		faults.Add(t.leafFault(i, FaultPageID, -1, 0, fmt.Errorf("the page carries number %d", h.ID)))
	}
	if t.pastEnd(l.ID, h.Overflow) {
		faults.Add(t.leafFault(i, FaultPageBounds, -1, 12, fmt.Errorf("overflow of %d pages leaves the file", h.Overflow)))
	} else {
		l.Overflow = h.Overflow
	}
	leaf, fault := page.OpenLeaf(b)
	clean := fault == nil
	if fault != nil {
		faults.Add(t.leafFault(i, pageFaults[fault.Kind], fault.Element, fault.Offset, fault.Err))
	}
	if leaf.Len() == 0 && clean && l.Parent >= 0 {
		faults.Add(t.leafFault(i, FaultPageEmpty, -1, 10, fmt.Errorf("a leaf page with no elements below a branch")))
	}
	lo, hi := t.Range(i)
	elements, sound := t.readElements(i, &leaf, lo, hi, elements, faults)
	if clean && sound {
		if of := h.CheckOverflow(leaf.End(), t.File.PageSize); of != nil {
			l.Overflow = 0
			faults.Add(t.leafFault(i, FaultPageBounds, -1, of.Offset, of.Err))
		}
	}
	return elements
}

func (t *Tree) readElements(i int, leaf *page.Leaf, lo, hi []byte, elements []Element, faults *FaultList) ([]Element, bool) {
	var before []byte
	sound := true
	ranged := false // one finding a leaf says that it lies in the wrong place
	for k := range leaf.Len() {
		e, fault := leaf.Element(k)
		if fault != nil {
			sound = false
			faults.Add(t.leafFault(i, pageFaults[fault.Kind], k, fault.Offset, fault.Err))
			if e.Key == nil {
				continue
			}
		}
		el := Element{LeafElement: e, Index: k, Offset: leaf.End() - len(e.Value) - len(e.Key)}
		if before != nil && bytes.Compare(before, e.Key) >= 0 {
			of := page.OrderFault(k, before, e.Key)
			f := t.leafFault(i, FaultPageOrder, k, of.Offset, of.Err)
			f.Key = bytes.Clone(e.Key)
			faults.Add(f)
		}
		if !ranged && fault == nil && (k == 0 || k == leaf.Len()-1) && outside(e.Key, lo, hi) {
			ranged = true
			f := t.leafFault(i, FaultPageRange, k, int64(page.HeaderSize+k*page.ElementSize), fmt.Errorf("key lies outside what the parents promise"))
			f.Key = bytes.Clone(e.Key)
			faults.Add(f)
		}
		before = e.Key
		elements = append(elements, el)
	}
	return elements, sound
}

// ReadInline decodes the one leaf of an inline bucket, as ReadLeaf does.
func (t *Tree) ReadInline(b int) ([]Element, []Fault) {
	bk := &t.Buckets[b]
	leaf, fault := page.OpenLeaf(bk.Inline)
	at := func(kind FaultKind, element int, offset int64, err error) Fault {
		return Fault{Kind: kind, Page: bk.Holder, Offset: bk.InlineOffset + offset, Element: element, Bucket: b,
			Path: append(t.pathTo(b, -1), bk.Holder), Err: err}
	}
	var faults []Fault
	if fault != nil {
		faults = append(faults, at(pageFaults[fault.Kind], -1, fault.Offset, fmt.Errorf("inline bucket %q: %w", bk.Name, fault.Err)))
	}
	if leaf.Kind() != page.KindLeaf {
		return nil, append(faults, at(FaultPageType, -1, 8, fmt.Errorf("inline bucket %q: flags are %#04x (%s) where a leaf belongs", bk.Name, leaf.Flags, leaf.Kind())))
	}
	if leaf.Header.ID != 0 || leaf.Header.Overflow != 0 {
		faults = append(faults, at(FaultPageID, -1, 0, fmt.Errorf("inline bucket %q: page number %d, overflow %d; both are 0 in an inline page", bk.Name, leaf.Header.ID, leaf.Header.Overflow)))
	}
	var elements []Element
	var before []byte
	for k := range leaf.Len() {
		e, fault := leaf.Element(k)
		if fault != nil {
			faults = append(faults, at(pageFaults[fault.Kind], k, fault.Offset, fmt.Errorf("inline bucket %q: %w", bk.Name, fault.Err)))
			if e.Key == nil {
				continue
			}
		}
		if of := page.OrderFault(k, before, e.Key); of != nil {
			faults = append(faults, at(FaultPageOrder, k, of.Offset, fmt.Errorf("inline bucket %q: %w", bk.Name, of.Err)))
		}
		before = e.Key
		elements = append(elements, Element{LeafElement: e, Index: k, Offset: leaf.End() - len(e.Value) - len(e.Key)})
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

package snapdb

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"etcd-forensics/snapdb/page"
)

// SettleRepeats decides, for every page to which two references lead, which of
// them is wrong: the one whose promised range the page's first key does not lie
// in. When both or neither fit, the later one in key order is named. Call it
// when no walk is under way.
func (t *Tree) SettleRepeats(ctx context.Context) error {
	for len(t.again) > 0 { // a subtree that was found late may hold repeats again
		if err := t.settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// repeated is what a page is to which two references lead.
type repeated struct {
	first         []byte // its first key
	known, branch bool   // first was read; it is a branch page
}

func (t *Tree) settle(ctx context.Context) error {
	again := t.again
	t.again = nil
	leaves := t.leavesByID()
	nodes := t.nodesByID()
	seen := map[page.ID]repeated{} // a page may be referred to thousands of times
	for _, r := range again {
		wrong := r
		p, looked := seen[r.id]
		if !looked {
			p.first, p.known = t.firstKey(r.id)
			p.branch = t.isBranch(r.id)
			seen[r.id] = p
		}
		first, known := p.first, p.known
		at, isLeaf := slices.BinarySearchFunc(leaves, r.id, func(i int32, id page.ID) int { return compareIDs(t.Leaves[i].ID, id) })
		if isLeaf && known {
			l := &t.Leaves[leaves[at]]
			fitsFirst := !outside(first, t.separator(l.lo), t.separator(l.hi))
			fitsAgain := !outside(first, t.separator(r.lo), t.separator(r.hi))
			if p.branch && int(r.level) < t.Buckets[r.bucket].depth && !l.Broken {
				// A leaf's place led here first; the page is a branch and r means it.
				wrong = repeat{visit{id: l.ID, parent: l.Parent, element: t.elementOf(l.Parent, l.ID), lo: l.lo, hi: l.hi}, int(l.Bucket)}
				l.Broken = true
				l.ID = 0 // nothing is read for it
				if err := t.walkFrom(ctx, r.bucket, r.visit.unclaimed(t)); err != nil {
					return err
				}
				l = &t.Leaves[leaves[at]]
			} else if fitsAgain && !fitsFirst {
				wrong = repeat{visit{id: l.ID, parent: l.Parent, element: t.elementOf(l.Parent, l.ID), lo: l.lo, hi: l.hi}, int(l.Bucket)}
				l.Parent, l.Bucket, l.lo, l.hi = r.parent, int32(r.bucket), r.lo, r.hi
			}
		}
		related := []page.ID{r.id}
		if isLeaf {
			related = appendParent(related, t, t.Leaves[leaves[at]].Parent)
		} else if n, ok := slices.BinarySearchFunc(nodes, r.id, func(i int32, id page.ID) int { return compareIDs(t.Nodes[i].ID, id) }); ok {
			related = appendParent(related, t, t.Nodes[nodes[n]].Parent)
		}
		holder, offset := t.referenceAt(wrong.bucket, wrong.visit)
		t.Report(Fault{Kind: FaultPageShared, Page: holder, Offset: offset, Element: wrong.element, Related: related,
			Bucket: wrong.bucket, Path: t.pathTo(wrong.bucket, wrong.parent), Lo: t.separator(wrong.lo), Hi: t.separator(wrong.hi),
			Err: fmt.Errorf("refers to page %d, to which another reference leads too", r.id)})
	}
	return nil
}

// unclaimed frees the page of a reference, so that it can be followed.
func (v visit) unclaimed(t *Tree) visit {
	t.claimed[v.id/64] &^= 1 << (v.id % 64)
	return v
}

func (t *Tree) isBranch(id page.ID) bool {
	buf, err := t.File.ReadPage(id, maxWalked, t.buf)
	if err != nil || len(buf) < page.HeaderSize {
		return false
	}
	t.buf = buf
	h := page.DecodeHeader((*[page.HeaderSize]byte)(buf))
	return h.Kind() == page.KindBranch && h.ID == id && page.LaidOut(buf)
}

func appendParent(ids []page.ID, t *Tree, parent int32) []page.ID {
	if parent >= 0 {
		return append(ids, t.Nodes[parent].ID)
	}
	return ids
}

func compareIDs(a, b page.ID) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (t *Tree) leavesByID() []int32 {
	order := make([]int32, len(t.Leaves))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return compareIDs(t.Leaves[a].ID, t.Leaves[b].ID) })
	return order
}

func (t *Tree) nodesByID() []int32 {
	order := make([]int32, len(t.Nodes))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return compareIDs(t.Nodes[a].ID, t.Nodes[b].ID) })
	return order
}

// firstKey reads the first key of a page, whatever its kind.
func (t *Tree) firstKey(id page.ID) ([]byte, bool) {
	buf, err := t.File.ReadPage(id, maxWalked, t.buf)
	if err != nil || len(buf) < page.HeaderSize {
		return nil, false
	}
	t.buf = buf
	switch h := page.DecodeHeader((*[page.HeaderSize]byte)(buf)); {
	case h.Kind() == page.KindLeaf:
		if l, _ := page.OpenLeaf(buf); l.Len() > 0 {
			e, fault := l.Element(0)
			return bytes.Clone(e.Key), fault == nil
		}
	case h.Kind() == page.KindBranch:
		if b, _ := page.OpenBranch(buf); b.Len() > 0 {
			e, fault := b.Element(0)
			return bytes.Clone(e.Key), fault == nil
		}
	}
	return nil, false
}

// elementOf finds the element of node n that refers to page id, -1 when there
// is none.
func (t *Tree) elementOf(n int32, id page.ID) int {
	if n < 0 {
		return -1
	}
	buf, err := t.File.ReadPage(t.Nodes[n].ID, maxWalked, t.buf)
	if err != nil {
		return -1
	}
	t.buf = buf
	b, _ := page.OpenBranch(buf)
	for i := range b.Len() {
		if e, _ := b.Element(i); e.Child == id {
			return i
		}
	}
	return -1
}

// Class says what a page of the file is.
type Class uint8

const (
	ClassFree        Class = iota // not in use; with a stored freelist: and listed there
	ClassMeta                     // page 0 or 1
	ClassBranch                   // first page of a branch
	ClassLeaf                     // first page of a leaf
	ClassOverflow                 // a further page of a branch, leaf or freelist
	ClassFreelist                 // first page of the stored freelist
	ClassUnreachable              // neither in use nor in the stored freelist
	ClassDamaged                  // referred to, and not what the reference asks for
	ClassBeyondEnd                // at or past the high-water mark
)

// A PageMap gives every page of the file exactly one class.
type PageMap struct {
	Class  []Class // of the pages below the high-water mark; the others are ClassBeyondEnd
	Counts [ClassBeyondEnd + 1]int64
	// FreelistStored says whether free pages are the freelist's word or simply
	// what nothing refers to.
	FreelistStored bool
}

// Account classes every page and checks the stored freelist. Call it after every
// leaf was read.
func (t *Tree) Account() *PageMap {
	t.settleRanges()
	m := &PageMap{Class: make([]Class, t.pagesInUse())}
	m.Counts[ClassBeyondEnd] = t.File.Pages() - int64(len(m.Class))
	meta := t.File.Meta()
	for id := range min(2, len(m.Class)) {
		m.Class[id] = ClassMeta
	}
	type run struct {
		id       page.ID
		overflow uint32
		class    Class
		bucket   int
		parent   int32
	}
	runs := make([]run, 0, len(t.Nodes))
	for _, n := range t.Nodes {
		runs = append(runs, run{n.ID, n.Overflow, ClassBranch, int(n.Bucket), n.Parent})
	}
	// First pages before overflow pages, so that an overflow that runs into
	// another page is what is reported.
	put := func(id page.ID, c Class) {
		if id < page.ID(len(m.Class)) {
			m.Class[id] = c
		}
	}
	for _, r := range runs {
		put(r.id, r.class)
	}
	for _, l := range t.Leaves {
		c := ClassLeaf
		if l.ID == 0 {
			continue // its page belongs elsewhere
		}
		if l.Broken {
			c = ClassDamaged
		}
		put(l.ID, c)
	}
	for w, bits := range t.claimed { // claimed and neither read as branch nor as leaf
		for b := 0; bits != 0; b, bits = b+1, bits>>1 {
			if id := w*64 + b; bits&1 != 0 && id < len(m.Class) && m.Class[id] == ClassFree {
				m.Class[id] = ClassDamaged
			}
		}
	}
	var list page.Freelist
	stored := false
	if meta.Freelist != page.NoFreelist {
		list, stored = t.readFreelist(m)
	}
	m.FreelistStored = stored
	extend := func(id page.ID, overflow uint32, bucket int, parent int32) {
		for o := page.ID(1); o <= page.ID(overflow) && id+o < page.ID(len(m.Class)); o++ {
			if c := m.Class[id+o]; c != ClassFree {
				t.Report(Fault{Kind: FaultPageShared, Page: id, Offset: int64(id)*int64(t.File.PageSize) + 12, Element: -1,
					Related: []page.ID{id + o}, Bucket: bucket, Path: append(t.pathTo(max(bucket, 0), parent), id),
					Err: fmt.Errorf("its overflow of %d pages covers page %d, which is in use by itself", overflow, id+o)})
				return
			}
			m.Class[id+o] = ClassOverflow
		}
	}
	for _, r := range runs {
		extend(r.id, r.overflow, r.bucket, r.parent)
	}
	for i := range t.Leaves {
		if l := &t.Leaves[i]; l.Overflow > 0 {
			extend(l.ID, l.Overflow, int(l.Bucket), l.Parent)
		}
	}
	if stored {
		extend(meta.Freelist, list.Overflow, -1, -1)
		t.checkFree(m, &list)
	}
	for _, c := range m.Class {
		m.Counts[c]++
	}
	return m
}

// readFreelist reads the stored freelist, reports what is wrong with its page,
// and classes it.
func (t *Tree) readFreelist(m *PageMap) (page.Freelist, bool) {
	id := t.File.Meta().Freelist
	base := int64(id) * int64(t.File.PageSize)
	bad := func(kind FaultKind, offset int64, err error) {
		t.Report(Fault{Kind: kind, Page: id, Offset: base + offset, Element: -1, Bucket: -1, Err: err})
	}
	wrong := func(kind FaultKind, err error) {
		slot := t.File.Active
		t.Report(Fault{Kind: kind, Page: page.ID(slot), Offset: t.File.Metas[slot].Offset + page.HeaderSize + 32, // Meta.Freelist
			Element: -1, Related: []page.ID{id}, Bucket: -1, Err: err})
	}
	if id >= page.ID(len(m.Class)) {
		wrong(FaultPastEnd, fmt.Errorf("the freelist is page %d, the file ends with page %d", id, t.File.Pages()-1))
		return page.Freelist{}, false
	}
	if c := m.Class[id]; c != ClassFree {
		wrong(FaultFreelist, fmt.Errorf("meta names page %d as the freelist, which the tree uses as a page of its own", id))
		return page.Freelist{}, false
	}
	// It names each page of the file once at most, whatever its overflow says.
	buf, err := t.File.ReadPage(id, min(maxPageBytes, page.HeaderSize+8*(t.File.Pages()+1)), nil)
	if err != nil {
		bad(FaultUnreadable, 0, err)
		return page.Freelist{}, false
	}
	list, fault := page.OpenFreelist(buf)
	m.Class[id] = ClassFreelist
	switch {
	case len(buf) < page.HeaderSize || list.Kind() != page.KindFreelist:
		bad(FaultFreelist, 8, fmt.Errorf("flags are %#04x (%s) where the freelist belongs", list.Flags, list.Kind()))
		m.Class[id] = ClassDamaged
		return list, false
	case list.ID != id:
		bad(FaultPageID, 0, fmt.Errorf("the page carries number %d", list.ID))
	case t.pastMark(id, list.Overflow) || t.isCut(id, list.Overflow):
		bad(FaultFreelist, 12, fmt.Errorf("overflow of %d pages leaves the file", list.Overflow))
	}
	if fault != nil {
		bad(FaultFreelist, fault.Offset, fault.Err)
	}
	return list, true
}

// checkFree compares the stored freelist with what the tree uses.
func (t *Tree) checkFree(m *PageMap, list *page.Freelist) {
	meta := t.File.Meta()
	free := make([]uint64, len(m.Class)/64+1)
	base := int64(meta.Freelist)*int64(t.File.PageSize) + page.HeaderSize
	if list.Count == 0xFFFF {
		base += 8
	}
	for i := range list.Len() {
		id := list.At(i)
		bad := Fault{Page: meta.Freelist, Offset: base + int64(i)*8, Element: i, Related: []page.ID{id}, Bucket: -1}
		switch {
		case id < 2 || id >= meta.Pgid:
			bad.Kind, bad.Err = FaultFreelist, fmt.Errorf("page %d is listed as free, pages in use are 2 to %d", id, meta.Pgid-1)
		case id >= page.ID(len(m.Class)):
			continue // past the end of a file that is cut off
		case free[id/64]&(1<<(id%64)) != 0:
			bad.Kind, bad.Err = FaultFreeTwice, fmt.Errorf("page %d is listed as free twice", id)
		case m.Class[id] != ClassFree:
			bad.Kind, bad.Err = FaultFreeReachable, fmt.Errorf("page %d is listed as free and in use", id)
		}
		if bad.Err != nil {
			t.Report(bad)
		}
		if bad.Kind != FaultFreelist {
			free[id/64] |= 1 << (id % 64)
		}
	}
	for id := range m.Class {
		if m.Class[id] == ClassFree && free[id/64]&(1<<(id%64)) == 0 {
			m.Class[id] = ClassUnreachable
			t.Report(Fault{Kind: FaultUnreachable, Page: page.ID(id), Offset: int64(id) * int64(t.File.PageSize), Element: -1, Bucket: -1,
				Err: fmt.Errorf("page %d is neither in use nor listed as free", id)})
		}
	}
}

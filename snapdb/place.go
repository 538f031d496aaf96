package snapdb

import (
	"bytes"
	"slices"

	"etcd-forensics/snapdb/page"
)

// A Reference is one place of the file that names a page.
type Reference struct {
	To      page.ID
	Holder  page.ID   // the page that names it
	Element int       // on Holder, -1 for a field of a meta page
	Bucket  int       // to which To belongs by this reference, -1 for the freelist
	Path    []page.ID // from the root page down to Holder; empty for a meta page
	Lo, Hi  []byte    // To's keys are promised to lie in [Lo, Hi); nil is unbounded
}

// maxReferences bounds the references that are kept to one page. One is right, two
// are a fault.
const maxReferences = 16

// References finds the references to the wanted pages, in the order of the pages
// that hold them. It reads all branch pages again. Call it when no walk is under
// way.
func (t *Tree) References(want func(page.ID) bool) []Reference {
	var found []Reference
	m := t.File.Meta()
	meta := page.ID(t.File.Active)
	if want(m.Root) {
		found = append(found, Reference{To: m.Root, Holder: meta, Element: -1, Bucket: 0})
	}
	if m.Freelist != page.NoFreelist && want(m.Freelist) {
		found = append(found, Reference{To: m.Freelist, Holder: meta, Element: -1, Bucket: -1})
	}
	for b, bk := range t.Buckets {
		if b > 0 && bk.Root != 0 && want(bk.Root) {
			found = append(found, Reference{To: bk.Root, Holder: bk.Holder, Element: bk.Element, Bucket: b, Path: t.PathFromRoot(b, -1)})
		}
	}
	count := map[page.ID]int{}
	room := func(id page.ID) bool {
		if !want(id) {
			return false
		}
		count[id]++
		return count[id] <= maxReferences
	}
	for n := range t.Nodes {
		found = t.childReferences(int32(n), room, found)
	}
	slices.SortStableFunc(found, func(a, b Reference) int { return compareIDs(a.Holder, b.Holder) })
	return found
}

// childReferences adds the references of branch page n to wanted pages.
func (t *Tree) childReferences(n int32, want func(page.ID) bool, found []Reference) []Reference {
	buf, err := t.File.ReadPage(t.Nodes[n].ID, maxWalked, nil)
	if err != nil {
		return found
	}
	br, _ := page.OpenBranch(buf)
	for i := range br.Len() {
		e, _ := br.Element(i)
		if !want(e.Child) {
			continue
		}
		b := int(t.Nodes[n].Bucket)
		found = append(found, Reference{To: e.Child, Holder: t.Nodes[n].ID, Element: i, Bucket: b, Path: t.PathFromRoot(b, n),
			Lo: bytes.Clone(e.Key), Hi: t.upperBound(buf, n, i)})
	}
	return found
}

// upperBound gives the separator before which the keys below element i of branch
// page n end: the next element's or, for the last one, that of the page above.
func (t *Tree) upperBound(buf []byte, n int32, i int) []byte {
	for {
		br, _ := page.OpenBranch(buf)
		if i >= 0 && i+1 < br.Len() {
			e, _ := br.Element(i + 1)
			return bytes.Clone(e.Key)
		}
		parent := t.Nodes[n].Parent
		if parent < 0 {
			return nil
		}
		i = t.elementOf(parent, t.Nodes[n].ID)
		var err error
		if buf, err = t.File.ReadPage(t.Nodes[parent].ID, maxWalked, buf); err != nil || i < 0 {
			return nil
		}
		n = parent
	}
}

// PathFromRoot gives the pages from the root page down to node n of bucket b, and
// with n -1 down to the page that names bucket b.
func (t *Tree) PathFromRoot(b int, n int32) []page.ID {
	var path []page.ID
	for {
		for ; n >= 0; n = t.Nodes[n].Parent {
			path = append(path, t.Nodes[n].ID)
		}
		if b <= 0 {
			break
		}
		holder := t.Buckets[b].Holder
		path = append(path, holder)
		b = t.Buckets[b].Parent
		if i := slices.IndexFunc(t.Leaves, func(l Leaf) bool { return l.ID == holder && int(l.Bucket) == b }); i >= 0 {
			n = t.Leaves[i].Parent
		}
	}
	slices.Reverse(path)
	return path
}

// Depth gives the levels of pages of a bucket, 1 when its root is a leaf or lies
// inline, as bbolt's Bucket.Stats counts them.
func (t *Tree) Depth(b int) int { return max(t.Buckets[b].depth, 0) + 1 }

// Owners gives, for every page below the high-water mark, 1 + the bucket that it
// belongs to as the first page of a branch or leaf, or 0. Damaged pages belong to
// the bucket whose fault names them.
func (t *Tree) Owners() []int32 {
	owners := make([]int32, t.pagesInUse())
	put := func(id page.ID, b int32) {
		if id < page.ID(len(owners)) && owners[id] == 0 {
			owners[id] = b + 1
		}
	}
	for _, n := range t.Nodes {
		put(n.ID, n.Bucket)
	}
	for _, l := range t.Leaves {
		if l.ID != 0 {
			put(l.ID, l.Bucket)
		}
	}
	for _, f := range t.Faults.All() {
		if f.Bucket >= 0 && f.Page >= 2 {
			put(f.Page, int32(f.Bucket))
		}
	}
	return owners
}

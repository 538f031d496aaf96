package snapdb

import (
	"cmp"
	"fmt"
	"slices"

	"etcd-forensics/snapdb/page"
)

// A FaultKind is a rule of the file format that a page or a reference breaks.
type FaultKind uint8

const (
	FaultPageID        FaultKind = iota + 1 // a page carries another page's number
	FaultPageType                           // a page is of another kind than its place asks for
	FaultPageBounds                         // elements, sizes or the overflow leave their page
	FaultPageOrder                          // keys do not rise inside a page
	FaultPageRange                          // a key lies outside the range its parents promise
	FaultPageShared                         // two references lead to one page
	FaultPageCycle                          // a page is its own descendant
	FaultOutOfRange                         // a reference to page 0 or 1, or at or past the high-water mark
	FaultPastEnd                            // a page below the high-water mark that the file does not hold
	FaultPageEmpty                          // a page with no elements below a branch
	FaultBucket                             // a bucket header that cannot be one
	FaultFreeReachable                      // a page in use is in the stored freelist
	FaultFreeTwice                          // a page is in the stored freelist twice
	FaultFreelist                           // the stored freelist cannot be read as one
	FaultUnreadable                         // the machine could not read the bytes
	FaultUnreachable                        // neither in use nor in the stored freelist
)

var faultNames = [...]string{
	FaultPageID: "page id", FaultPageType: "page type", FaultPageBounds: "page bounds", FaultPageOrder: "key order",
	FaultPageRange: "key range", FaultPageShared: "shared page", FaultPageCycle: "cycle", FaultOutOfRange: "page out of range",
	FaultPastEnd: "page past the end of the file", FaultPageEmpty: "empty page", FaultBucket: "bucket header",
	FaultFreeReachable: "free page in use", FaultFreeTwice: "page freed twice", FaultFreelist: "freelist",
	FaultUnreadable: "unreadable", FaultUnreachable: "unreachable page",
}

// FaultKinds lists every kind, for tests that walk them.
func FaultKinds() []FaultKind {
	kinds := make([]FaultKind, 0, len(faultNames))
	for k := FaultPageID; int(k) < len(faultNames); k++ {
		kinds = append(kinds, k)
	}
	return kinds
}

func (k FaultKind) String() string { return faultNames[k] }

// A Fault is a broken rule at a known place of a file.
type Fault struct {
	Kind    FaultKind
	Page    page.ID   // the page whose bytes are wrong; for a bad reference the page that holds it
	Offset  int64     // of the broken thing, from the start of the file
	Element int       // on Page, -1 for the page as a whole
	Related []page.ID // other pages the fault concerns, such as the child a bad reference names

	Bucket int       // index in Tree.Buckets, -1 when no bucket is concerned
	Path   []page.ID // from the root page to Page, where that is known
	Lo, Hi []byte    // keys in [Lo, Hi) cannot be trusted; nil is unbounded
	Key    []byte    // a key concerned, where there is one

	Err error // the numbers

	leaf int // for FaultPageRange: 1 + the leaf, whose last key is the one concerned
}

func (f Fault) Error() string {
	return fmt.Sprintf("page %d at %d: %s: %v", f.Page, f.Offset, f.Kind, f.Err)
}

var pageFaults = map[page.FaultKind]FaultKind{
	page.FaultID: FaultPageID, page.FaultType: FaultPageType, page.FaultCount: FaultPageBounds,
	page.FaultElement: FaultPageBounds, page.FaultOverflow: FaultPageBounds, page.FaultOrder: FaultPageOrder,
	page.FaultBucket: FaultBucket, page.FaultFreelist: FaultFreelist,
}

// A FaultList keeps the first faults of each kind in file order, whatever the
// order in which they are added, and counts the rest.
type FaultList struct {
	PerKind int // faults kept of each kind; 0 keeps none

	kinds [len(faultNames)]struct {
		first []Fault // sorted
		count int
	}
	buckets map[int]bool
}

// Add takes a fault in.
func (l *FaultList) Add(f Fault) {
	k := &l.kinds[f.Kind]
	k.count++
	if l.buckets == nil {
		l.buckets = map[int]bool{}
	}
	l.buckets[f.Bucket] = true
	l.keep(f)
}

func (l *FaultList) keep(f Fault) {
	k := &l.kinds[f.Kind]
	if len(k.first) >= l.PerKind && (l.PerKind == 0 || compareFaults(f, k.first[len(k.first)-1]) >= 0) {
		return
	}
	at, _ := slices.BinarySearchFunc(k.first, f, compareFaults)
	k.first = slices.Insert(k.first, at, f)
	if len(k.first) > l.PerKind {
		k.first = k.first[:l.PerKind]
	}
}

func compareFaults(a, b Fault) int {
	return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Element, b.Element),
		slices.Compare(a.Related, b.Related))
}

// Merge adds the faults of another list.
func (l *FaultList) Merge(o *FaultList) {
	for kind := range o.kinds {
		l.kinds[kind].count += o.kinds[kind].count
		for _, f := range o.kinds[kind].first {
			l.keep(f)
		}
	}
	for b := range o.buckets {
		if l.buckets == nil {
			l.buckets = map[int]bool{}
		}
		l.buckets[b] = true
	}
}

// All gives the faults that were kept, in file order.
func (l *FaultList) All() []Fault {
	var all []Fault
	for kind := range l.kinds {
		all = append(all, l.kinds[kind].first...)
	}
	slices.SortStableFunc(all, compareFaults)
	return all
}

// Count gives the number of faults of a kind that were added.
func (l *FaultList) Count(kind FaultKind) int { return l.kinds[kind].count }

// Len gives the number of faults that were added.
func (l *FaultList) Len() int {
	n := 0
	for kind := range l.kinds {
		n += l.kinds[kind].count
	}
	return n
}

// InBucket says whether a fault concerns bucket b.
func (l *FaultList) InBucket(b int) bool { return l.buckets[b] }

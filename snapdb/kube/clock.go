package kube

import (
	"bytes"
	"cmp"
	"slices"
	"sort"
	"time"
)

// How says where the time of an anchor stands.
type How uint8

const (
	FromNothing How = iota
	FromRenewTime
	FromAcquireTime
	FromCreation
	FromEvent
	FromManagedFields
	FromDeletion
)

func (h How) String() string {
	return [...]string{"", "spec.renewTime of a Lease", "spec.acquireTime of a Lease", "metadata.creationTimestamp", "the time of an Event", "metadata.managedFields", "metadata.deletionTimestamp"}[h]
}

// An Anchor is a time that a value names. The value was written at Time or later.
type Anchor struct {
	Time time.Time
	How  How
	// Unit is how far Time may have been cut down: a second or a microsecond.
	Unit time.Duration
	// Fresh: the time was taken for this very write. A Lease names the moment of
	// its renewal, a first version that of its creation. Other times may be older
	// than the write.
	Fresh bool
}

// AnchorOf gives the newest time that a value names, or the one that was taken
// for this write. version counts the versions since the key was created, as in
// etcd's KeyValue.
func AnchorOf(m *Meta, version int64) (Anchor, bool) {
	switch {
	case !m.Renewed.IsZero():
		return Anchor{m.Renewed, FromRenewTime, time.Microsecond, true}, true
	case !m.Acquired.IsZero():
		return Anchor{m.Acquired, FromAcquireTime, time.Microsecond, false}, true
	case version == 1 && !m.Created.IsZero():
		return Anchor{m.Created, FromCreation, time.Second, true}, true
	}
	a := Anchor{Unit: time.Second}
	newer := func(t time.Time, how How) {
		if t.After(a.Time) {
			a.Time, a.How = t, how
		}
	}
	newer(m.Created, FromCreation)
	newer(m.Observed, FromEvent)
	for i := range m.Managed {
		newer(m.Managed[i].Time, FromManagedFields)
	}
	newer(m.deletionRequested(), FromDeletion)
	return a, a.How != FromNothing
}

// Objects that name the moment of their writing most often: leases of nodes and
// events.
var timed = [][]byte{[]byte("/leases/"), []byte("/events/")}

// Timed says whether the values of a key name the moment of their writing most often.
func Timed(key []byte) bool {
	return slices.ContainsFunc(timed, func(word []byte) bool { return bytes.Contains(key, word) })
}

// maxTimedText is the size in bytes of the largest value in JSON or CBOR that is read
// for a time. Leases and events are far smaller.
const maxTimedText = 64 << 10

// AnchorIn gives the time that the value of a key names. Values that have to be read
// whole for their metadata, those in JSON and CBOR, are read only where Timed.
// version is 0 when it is not known.
func AnchorIn(key, value []byte, version int64) (a Anchor, ok bool) {
	e := DecodeEnvelope(value)
	switch e.Encoding {
	case Protobuf:
	case JSON, CBOR:
		if len(value) > maxTimedText || !Timed(key) {
			return a, false
		}
	default:
		return a, false
	}
	m, err := DecodeMeta(e)
	if err != nil {
		return a, false
	}
	return AnchorOf(&m, version)
}

// deletionRequested gives the moment at which deletion was asked for:
// deletionTimestamp is that moment and the grace period (apiserver v0.34.4,
// pkg/registry/rest/delete.go).
func (m *Meta) deletionRequested() time.Time {
	const day = 24 * 60 * 60
	if m.Deleted.IsZero() || m.GracePeriodSeconds < 0 || m.GracePeriodSeconds > day {
		return time.Time{}
	}
	return m.Deleted.Add(-time.Duration(m.GracePeriodSeconds) * time.Second)
}

const (
	// maxAnchors bounds what a Clock keeps: 32 bytes each.
	maxAnchors = 1 << 17
	// commitTime is how long a write is taken to need from its stamp to its
	// revision.
	commitTime = time.Second
	// skewed is how far a clock has to be off its neighbours to be disbelieved.
	skewed = 2 * time.Second
	// neighbours that are asked about one anchor, and how many have to be there.
	neighbours, minNeighbours = 9, 3
)

// A Clock estimates when a revision was written, from the anchors of others. It
// takes them in any order, and the order makes no difference. Clocks of nodes that are off
// the others by more than two seconds are left out, as far as others are there
// to tell.
type Clock struct {
	points []point
	shift  uint // one anchor is kept for 1<<shift revisions
	// settled says that points are sorted, and floor and ceiling follow from them.
	settled        bool
	floor, ceiling []bound
}

type point struct {
	revision int64
	at       int64 // microseconds since 1970
	unit     int64 // microseconds
	how      How
	fresh    bool
}

// A bound says that what was written at its revision or later (floor), or at its
// revision or earlier (ceiling), was written at that time or later, or earlier.
type bound struct {
	revision int64
	at       int64 // microseconds since 1970
	best     int64 // where in the bound's unit the write is taken to be
	how      How
}

// Add takes the anchor of a value that was written at a revision.
func (c *Clock) Add(revision int64, a Anchor) {
	if a.How == FromNothing {
		return
	}
	c.points = append(c.points, point{revision, a.Time.UnixMicro(), a.Unit.Microseconds(), a.How, a.Fresh})
	c.settled = false
	if len(c.points) >= 2*maxAnchors {
		c.thin()
	}
}

// Cut forgets the anchors of a revision and later ones, where all were added in the order of
// their revisions.
func (c *Clock) Cut(revision int64) {
	for n := len(c.points); n > 0 && c.points[n-1].revision >= revision; n = len(c.points) {
		c.points, c.settled = c.points[:n-1], false
	}
}

// Any says whether there is an anchor.
func (c *Clock) Any() bool { return len(c.points) > 0 }

// thin keeps the best anchor of each run of revisions, and makes the runs longer
// while there are too many.
func (c *Clock) thin() {
	for {
		slices.SortFunc(c.points, func(a, b point) int {
			return cmp.Or(cmp.Compare(a.revision>>c.shift, b.revision>>c.shift), compareFresh(a, b),
				cmp.Compare(a.revision, b.revision), cmp.Compare(a.at, b.at), cmp.Compare(a.how, b.how))
		})
		c.points = slices.CompactFunc(c.points, func(a, b point) bool { return a.revision>>c.shift == b.revision>>c.shift })
		if len(c.points) <= maxAnchors || c.shift == 63 {
			return
		}
		c.shift++
	}
}

// compareFresh sorts fresh anchors first.
func compareFresh(a, b point) int {
	switch {
	case a.fresh == b.fresh:
		return 0
	case a.fresh:
		return -1
	}
	return 1
}

// settle works out floor and ceiling.
func (c *Clock) settle() {
	if c.settled {
		return
	}
	c.settled = true
	c.thin()
	c.floor, c.ceiling = nil, nil
	var fresh []point
	for _, p := range c.points {
		if p.fresh {
			fresh = append(fresh, p)
		}
	}
	after := 0 // fresh anchors up to the point
	for _, p := range c.points {
		for after < len(fresh) && fresh[after].revision <= p.revision {
			after++
		}
		if m, ok := median(fresh[after:min(after+neighbours, len(fresh))]); ok && p.at > m+skewed.Microseconds() {
			continue
		}
		if n := len(c.floor); n == 0 || p.at > c.floor[n-1].at {
			best := p.at
			if p.fresh {
				best += p.unit / 2
			}
			c.floor = append(c.floor, bound{p.revision, p.at, best, p.how})
		}
	}
	for i := len(fresh) - 1; i >= 0; i-- {
		p := fresh[i]
		if m, ok := median(fresh[max(i-neighbours, 0):i]); ok && p.at+p.unit < m-skewed.Microseconds() {
			continue
		}
		at := p.at + p.unit + commitTime.Microseconds()
		if n := len(c.ceiling); n == 0 || at < c.ceiling[n-1].at {
			c.ceiling = append(c.ceiling, bound{p.revision, at, p.at + p.unit/2, p.how})
		}
	}
	slices.Reverse(c.ceiling)
}

func median(points []point) (int64, bool) {
	if len(points) < minNeighbours {
		return 0, false
	}
	var at [neighbours]int64
	for i, p := range points {
		at[i] = p.at
	}
	slices.Sort(at[:len(points)])
	return at[len(points)/2], true
}

// An Estimate says when a revision was written.
type Estimate struct {
	Time time.Time
	// Earliest and Latest bound it; zero when nothing does.
	Earliest, Latest time.Time
	// How is where the nearest bound stands.
	How How
}

// Uncertainty is how far Time may be off. ok is false when one side is open.
func (e Estimate) Uncertainty() (d time.Duration, ok bool) {
	if e.Earliest.IsZero() || e.Latest.IsZero() {
		return 0, false
	}
	return max(e.Time.Sub(e.Earliest), e.Latest.Sub(e.Time)), true
}

// Closer says whether an estimate is closer bounded than another one.
func (e Estimate) Closer(than Estimate) bool {
	mine, bounded := e.Uncertainty()
	theirs, theyAre := than.Uncertainty()
	return bounded && (!theyAre || mine < theirs)
}

// At estimates when a revision was written. ok is false when no anchor is there.
func (c *Clock) At(revision int64) (e Estimate, ok bool) {
	c.settle()
	below := sort.Search(len(c.floor), func(i int) bool { return c.floor[i].revision > revision }) - 1
	above := sort.Search(len(c.ceiling), func(i int) bool { return c.ceiling[i].revision >= revision })
	switch {
	case below < 0 && above == len(c.ceiling):
		return Estimate{}, false
	case below < 0:
		hi := c.ceiling[above]
		return Estimate{Time: utc(hi.best), Latest: utc(hi.at), How: hi.how}, true
	case above == len(c.ceiling):
		lo := c.floor[below]
		return Estimate{Time: utc(lo.best), Earliest: utc(lo.at), How: lo.how}, true
	}
	lo, hi := c.floor[below], c.ceiling[above]
	e = Estimate{Earliest: utc(min(lo.at, hi.at)), Latest: utc(max(lo.at, hi.at)), How: lo.how}
	if hi.revision-revision < revision-lo.revision {
		e.How = hi.how
	}
	e.Time = utc(min(max(between(lo, hi, revision), e.Earliest.UnixMicro()), e.Latest.UnixMicro()))
	return e, true
}

// between draws a straight line from one bound to the other.
func between(lo, hi bound, revision int64) int64 {
	if hi.revision <= lo.revision {
		return lo.best
	}
	part := float64(revision-lo.revision) / float64(hi.revision-lo.revision)
	return lo.best + int64(part*float64(hi.best-lo.best))
}

// Newest gives the newest time that the anchors agree on. ok is false when there
// is none.
func (c *Clock) Newest() (t time.Time, ok bool) {
	c.settle()
	if len(c.floor) == 0 {
		return time.Time{}, false
	}
	return utc(c.floor[len(c.floor)-1].at), true
}

func utc(micros int64) time.Time { return time.UnixMicro(micros).UTC() }

package kube

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"
	"time"
)

// NoteKind says what a Note is about.
type NoteKind string

const (
	OwnerMissing NoteKind = "owner-missing" // an owner's uid belongs to no live object
	Deleting     NoteKind = "deleting"      // deletion was asked for, and finalizers hold it up
	NodeSilent   NoteKind = "node-silent"   // a node's lease was not renewed in time
)

// A Note is something about one live object that an operator would want to know.
type Note struct {
	Kind     NoteKind
	Key      string
	Revision int64
	// Since: when deletion was asked for, or the lease was renewed last. Zero for
	// an owner.
	Since time.Time
	// Owner that does not exist.
	Owner Owner
	// Finalizers that hold the object up.
	Finalizers []string
}

const (
	// nodeLeases is the namespace in which nodes renew their leases (api v0.34.4,
	// core/v1/types.go, NamespaceNodeLease).
	nodeLeases = "kube-node-lease"
	// silentAfter is how long a node may be silent when its lease does not say
	// (kubelet's nodeLeaseDurationSeconds).
	silentAfter = 40 * time.Second
	// stuckAfter is how long a deletion may take before it counts as stuck.
	stuckAfter = time.Minute
	// maxUIDs bounds the uids that are kept, 8 bytes each.
	maxUIDs = 16 << 20
	// maxReferences bounds the bytes that references to owners take.
	maxReferences = 64 << 20
	// maxNoted bounds the candidates of each other kind.
	maxNoted = 1 << 16
)

// Checks looks at the live objects of a cluster one by one, in any order, and
// tells what does not fit together. It keeps hashes of uids, so two objects may
// be taken for one with odds of 2^-64 a pair.
type Checks struct {
	seed       maphash.Seed
	uids       []uint64
	references []reference
	bytes      int // that references take
	unreadable map[string]bool
	deleting   []Note
	leases     []lease
	cutShort   bool
}

type reference struct {
	uid      uint64
	owner    Owner
	key      string
	revision int64
}

type lease struct {
	key      string
	revision int64
	renewed  time.Time
	patience time.Duration
}

// NewChecks starts without objects.
func NewChecks() *Checks {
	return &Checks{seed: maphash.MakeSeed(), unreadable: map[string]bool{}}
}

// Add takes the newest version of a live key.
func (c *Checks) Add(key []byte, revision int64, m *Meta) {
	c.addUID(m.UID)
	for _, o := range m.Owners {
		c.addReference(key, revision, o)
	}
	if !m.Deleted.IsZero() && len(m.Finalizers) > 0 {
		c.addDeleting(key, revision, m)
	}
	if m.isLease() && m.Namespace == nodeLeases && !m.Renewed.IsZero() {
		c.addLease(key, revision, m)
	}
}

func (c *Checks) addDeleting(key []byte, revision int64, m *Meta) {
	if len(c.deleting) == maxNoted {
		c.cutShort = true
		return
	}
	since := m.deletionRequested()
	if since.IsZero() {
		since = m.Deleted
	}
	c.deleting = append(c.deleting, Note{Kind: Deleting, Key: string(key), Revision: revision, Since: since, Finalizers: slices.Sorted(slices.Values(m.Finalizers))})
}

func (c *Checks) addLease(key []byte, revision int64, m *Meta) {
	if len(c.leases) == maxNoted {
		c.cutShort = true
		return
	}
	c.leases = append(c.leases, lease{string(key), revision, m.Renewed, patience(m.LeaseSeconds)})
}

// patience gives how long a node may be silent.
func patience(leaseSeconds int64) time.Duration {
	const day = 24 * 60 * 60
	if leaseSeconds <= 0 || leaseSeconds > day {
		return silentAfter
	}
	return max(silentAfter, time.Duration(leaseSeconds)*time.Second)
}

func (c *Checks) addUID(uid string) {
	switch {
	case uid == "":
	case len(c.uids) == maxUIDs:
		c.cutShort = true
	default:
		c.uids = append(c.uids, maphash.String(c.seed, uid))
	}
}

func (c *Checks) addReference(key []byte, revision int64, o Owner) {
	if o.UID == "" {
		return
	}
	const overhead = 128 // of a reference, without its texts
	n := overhead + len(key) + len(o.APIVersion) + len(o.Kind) + len(o.Name) + len(o.UID)
	if c.bytes+n > maxReferences {
		c.cutShort = true
		return
	}
	c.bytes += n
	c.references = append(c.references, reference{maphash.String(c.seed, o.UID), o, string(key), revision})
}

// AddUnreadable takes the resource of a live key whose value is encrypted or
// damaged: owners of that kind may be there.
func (c *Checks) AddUnreadable(resource []byte) {
	if len(c.unreadable) == maxNoted {
		c.cutShort = true
		return
	}
	c.unreadable[string(resource)] = true
}

// Notes tells what was found, sorted by key. newest is the newest time that the
// evidence names (Clock.Newest), zero when it names none: then nothing is said
// of nodes and deletions. complete is false when there was more than is kept.
func (c *Checks) Notes(newest time.Time) (notes []Note, complete bool) {
	notes = c.missingOwners()
	if !newest.IsZero() {
		for _, n := range c.deleting {
			if newest.Sub(n.Since) > stuckAfter {
				notes = append(notes, n)
			}
		}
		for _, l := range c.leases {
			if newest.Sub(l.renewed) > l.patience {
				notes = append(notes, Note{Kind: NodeSilent, Key: l.key, Revision: l.revision, Since: l.renewed})
			}
		}
	}
	slices.SortFunc(notes, func(a, b Note) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(string(a.Kind), string(b.Kind)),
			strings.Compare(a.Owner.UID, b.Owner.UID))
	})
	return notes, !c.cutShort
}

// missingOwners says nothing when not all uids, or not all unreadable resources,
// are known.
func (c *Checks) missingOwners() []Note {
	notes := []Note{}
	if len(c.uids) == maxUIDs || len(c.unreadable) == maxNoted {
		return notes
	}
	slices.Sort(c.uids)
	for _, r := range c.references {
		if _, found := slices.BinarySearch(c.uids, r.uid); !found && !c.mayBeUnreadable(r.owner) {
			notes = append(notes, Note{Kind: OwnerMissing, Key: r.key, Revision: r.revision, Owner: r.owner})
		}
	}
	return notes
}

// mayBeUnreadable says whether an owner may be among the values that could not
// be read. The resource of a kind is not in the evidence, so the plurals that
// English would form are tried.
func (c *Checks) mayBeUnreadable(o Owner) bool {
	kind := strings.ToLower(o.Kind)
	for _, plural := range []string{kind + "s", kind + "es", strings.TrimSuffix(kind, "y") + "ies", kind} {
		kept := plural
		if as, ok := keptAs[plural]; ok {
			kept = as
		}
		if c.unreadable[kept] || c.unreadable[group(o.APIVersion)+"/"+plural] {
			return true
		}
	}
	return false
}

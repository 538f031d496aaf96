package query

import (
	"cmp"
	"context"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"etcd-forensics/inspect"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/kube"
	"etcd-forensics/snapdb/scan"
)

// LeaseUnused is the kind of a note on a lease of etcd to which no key that is there is
// bound, though keys were.
const LeaseUnused kube.NoteKind = "lease-unused"

// Objects says what the newest versions of an API server's objects tell together.
type Objects struct {
	Notes  []ObjectNote // by key
	Newest time.Time    // that the objects name; zero when they name none
	// Whole is false when there was more than is kept in memory, so that notes may be
	// missing.
	Whole      bool
	Unreadable int64 // objects whose values are encrypted or damaged
	Encryption []inspect.KubernetesEncryption
	// Missing are the rows of Encryption whose keys a configuration lacks; nil without
	// one.
	Missing []inspect.KubernetesEncryption
}

// An ObjectNote is worth a look.
type ObjectNote struct {
	kube.Note
	Lease int64 // of LeaseUnused; then Key is the last one that was bound to it
}

// maxAnchors bounds the times that are compared to find the newest: those of the newest
// revisions.
const maxAnchors = 1 << 16

// objects looks at the newest version of each key as of a revision, from the newest to
// the oldest record, and decodes it.
type objects struct {
	prefix   string
	revision int64
	config   *kube.EncryptionConfig // nil for none

	seed    maphash.Seed
	seen    map[uint64]bool // keys by hash: whether it is there
	checks  *kube.Checks
	clock   kube.Clock
	anchors int
	census  kube.Census
	leases  map[int64]*boundLease // nil when they are not known
	result  *Objects

	leaseBytes int // of keys in leases
}

// A boundLease is what a lease is bound to.
type boundLease struct {
	used     bool   // by a key that is there
	key      string // the newest one that was bound to it, and is gone
	revision int64
}

// maxLeaseKeys bounds the bytes of keys that were bound to leases.
const maxLeaseKeys = 64 << 20

// readObjects reads bucket key from its end, page by page. A key takes 16 to 32 bytes of
// memory.
func readObjects(ctx context.Context, k *inspect.Keyspace, prefix string, distinct int64, opts KeysOptions) (*Objects, error) {
	o := &objects{
		prefix: prefix, revision: cmp.Or(opts.Revision, k.Revision), config: opts.Decryption.keys(),
		seed: maphash.MakeSeed(), seen: make(map[uint64]bool, distinct), checks: kube.NewChecks(),
		result: &Objects{Whole: true},
	}
	if opts.Revision == 0 { // which leases there were is not kept
		if ids := k.Leases(); ids != nil {
			o.leases = make(map[int64]*boundLease, len(ids))
			for id := range ids {
				o.leases[id] = &boundLease{}
			}
		}
	}
	if err := k.Rows.Back(ctx, o.visit); err != nil {
		return nil, err
	}
	return o.finish(), nil
}

// visit takes one record.
func (o *objects) visit(r scan.Row) bool {
	rev, ok := keyspace.DecodeRevision(r.Key)
	if !ok || rev.Main > o.revision {
		return true
	}
	kv, err := keyspace.DecodeKeyValue(r.Value)
	if err != nil || len(kv.Key) == 0 {
		return true
	}
	hash := maphash.Bytes(o.seed, kv.Key)
	_, older := o.seen[hash]
	if !older {
		o.seen[hash] = !rev.Tombstone
	}
	if kv.Lease != 0 && !rev.Tombstone {
		o.bind(&kv, !older, o.seen[hash])
	}
	if !older && !rev.Tombstone {
		o.object(rev.Main, &kv)
	}
	return true
}

// bind notes that a record hangs on a lease. there says whether its key still is.
func (o *objects) bind(kv *keyspace.KeyValue, newest, there bool) {
	l := o.leases[kv.Lease]
	switch {
	case l == nil:
	case newest:
		l.used = true
	case there || l.key != "":
	case o.leaseBytes+len(kv.Key) > maxLeaseKeys:
		o.result.Whole = false
	default:
		o.leaseBytes += len(kv.Key)
		l.key, l.revision = string(kv.Key), kv.ModRevision
	}
}

// object takes the newest version of a key that is there.
func (o *objects) object(revision int64, kv *keyspace.KeyValue) {
	name, ok := kube.ParseKey(kv.Key, o.prefix)
	if !ok {
		return
	}
	resource := kv.Key[len(o.prefix)+1 : name.ResourceEnd()-1]
	e := kube.DecodeEnvelope(kv.Value)
	o.census.Add(resource, &e)
	if e.Encoding == kube.Encrypted && o.config != nil {
		if plain, err := o.config.Decrypt(kv.Key, kv.Value); err == nil {
			e = kube.DecodeEnvelope(plain)
		}
	}
	meta, err := kube.DecodeMeta(e)
	if err != nil {
		o.result.Unreadable++
		o.checks.AddUnreadable(resource)
		return
	}
	o.checks.Add(kv.Key, revision, &meta)
	if a, ok := kube.AnchorOf(&meta, kv.Version); ok && o.anchors < maxAnchors {
		o.anchors++
		o.clock.Add(revision, a)
	}
}

func (o *objects) finish() *Objects {
	r := o.result
	r.Newest, _ = o.clock.Newest()
	notes, whole := o.checks.Notes(r.Newest)
	r.Whole = r.Whole && whole
	r.Notes = []ObjectNote{}
	for _, n := range notes {
		r.Notes = append(r.Notes, ObjectNote{Note: n})
	}
	for id, l := range o.leases {
		if !l.used && l.key != "" {
			r.Notes = append(r.Notes, ObjectNote{kube.Note{Kind: LeaseUnused, Key: l.key, Revision: l.revision}, id})
		}
	}
	slices.SortStableFunc(r.Notes, func(a, b ObjectNote) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(string(a.Kind), string(b.Kind)), cmp.Compare(uint64(a.Lease), uint64(b.Lease)))
	})
	rows := o.census.Rows()
	r.Encryption = encryptionOf(rows)
	if o.config != nil {
		r.Missing = missingKeys(o.config, rows)
	}
	return r
}

// encryptionOf gives the rows of the resources of which any value is encrypted.
func encryptionOf(rows []kube.CensusRow) []inspect.KubernetesEncryption {
	any := map[string]bool{}
	for i := range rows {
		if rows[i].Encrypted() {
			any[rows[i].Resource] = true
		}
	}
	list := []inspect.KubernetesEncryption{}
	for i := range rows {
		if any[rows[i].Resource] {
			list = append(list, encryption(&rows[i]))
		}
	}
	return list
}

func encryption(r *kube.CensusRow) inspect.KubernetesEncryption {
	return inspect.KubernetesEncryption{Resource: r.Resource, Provider: cmp.Or(r.Provider, kube.Identity), Version: r.Version, KeyName: r.KeyName, KeyID: r.KeyID, Keys: r.Keys}
}

func missingKeys(config *kube.EncryptionConfig, rows []kube.CensusRow) []inspect.KubernetesEncryption {
	list := []inspect.KubernetesEncryption{}
	for _, r := range config.Missing(rows) {
		list = append(list, encryption(&r))
	}
	return list
}

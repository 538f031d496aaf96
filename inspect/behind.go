package inspect

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"maps"
	"slices"
	"time"

	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/kube"
)

// Behind says what has happened in the best source's database since the revision of
// another one.
type Behind struct {
	Revisions int64          `json:"revisions"`
	Keys      int64          `json:"keys"` // that were written or deleted
	AtLeast   bool           `json:"atLeast"`
	Prefixes  []BehindPrefix `json:"prefixes"` // those with most of these keys
	// Seconds is the time between their newest writes, as leases and events of Kubernetes
	// tell; nil when they do not. It is an estimate.
	Seconds *int64 `json:"seconds"`
}

// BehindPrefix counts keys that begin alike, up to the second slash, one in the
// first position not counted.
type BehindPrefix struct {
	Prefix []byte `json:"-"` // renderers quote it
	Keys   int64  `json:"keys"`
}

const (
	behindRecords  = 1 << 20 // records read to count what has happened since
	behindPrefixes = 10      // listed
	newestRecords  = 1 << 13 // revisions read for the time of the newest write
)

var prefixSlash = []byte("/")

// behind compares a source with the best one; nil when it is not behind, or when one
// of them cannot be compared.
func behind(ctx context.Context, best, h *holder) (*Behind, error) {
	if best == nil || h == nil || best == h || h.revision >= best.revision {
		return nil, nil
	}
	if err := errors.Join(best.open(ctx), h.open(ctx)); err != nil {
		return nil, err
	}
	defer h.close()
	b := &Behind{Revisions: best.revision - h.revision, Prefixes: []BehindPrefix{}}
	seed := maphash.MakeSeed()
	seen := map[uint64]bool{}
	prefixes := map[string]int64{}
	read := 0
	best.between(max(h.revision, best.compact)+1, best.revision, func(_ keyspace.Revision, _, value []byte) bool {
		if read++; read > behindRecords {
			b.AtLeast = true
			return false
		}
		kv, err := keyspace.DecodeKeyValue(value)
		if err != nil || seen[maphash.Bytes(seed, kv.Key)] {
			return true
		}
		seen[maphash.Bytes(seed, kv.Key)] = true
		b.Keys++
		prefix := kv.Key[:keyspace.PrefixEnd(kv.Key, prefixSlash, 2)]
		if _, known := prefixes[string(prefix)]; known || len(prefixes) < maxBaseKeys {
			prefixes[string(prefix)]++
		}
		return true
	})
	b.AtLeast = b.AtLeast || h.revision < best.compact
	for _, prefix := range slices.Sorted(maps.Keys(prefixes)) {
		b.Prefixes = append(b.Prefixes, BehindPrefix{[]byte(prefix), prefixes[prefix]})
	}
	slices.SortStableFunc(b.Prefixes, func(p, q BehindPrefix) int { return cmp.Compare(q.Keys, p.Keys) })
	b.Prefixes = b.Prefixes[:min(len(b.Prefixes), behindPrefixes)]
	if was, ok := h.newest(); ok {
		if is, ok := best.newest(); ok {
			seconds := int64(is.Sub(was).Round(time.Second) / time.Second)
			b.Seconds = &seconds
		}
	}
	return b, nil
}

// newest estimates when the newest records were written.
func (h *holder) newest() (time.Time, bool) {
	var clock kube.Clock
	h.between(max(1, h.revision-newestRecords), h.revision, func(rev keyspace.Revision, _, value []byte) bool {
		kv, err := keyspace.DecodeKeyValue(value)
		if err != nil || rev.Tombstone || !bytes.Contains(kv.Key, []byte("/leases/")) && !bytes.Contains(kv.Key, []byte("/events/")) {
			return true
		}
		if meta, err := kube.DecodeMeta(kube.DecodeEnvelope(kv.Value)); err == nil {
			if a, ok := kube.AnchorOf(&meta, kv.Version); ok {
				clock.Add(rev.Main, a)
			}
		}
		return true
	})
	return clock.Newest()
}

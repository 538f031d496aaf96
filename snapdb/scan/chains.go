package scan

import (
	"context"
	"fmt"
	"math/bits"
	"slices"

	"etcd-forensics/snapdb/keyspace"
)

// Chains of versions (etcd v3.7.3, server/storage/mvcc/kvstore_txn.go, put and
// delete): the first version of a key is 1, created at its own mod revision; each
// further one counts up and keeps the create revision; only a key that is there
// is deleted, and only then it begins again at 1. Of each key a compaction leaves
// at most one version at or below the compact revision.
//
// Records arrive in no order, so the pass adds up what healthy chains determine,
// whatever the order. Where something is off, the bucket is read again in order,
// and only the keys that may be meant are followed.
//
//   - For each incarnation of a key that has versions above 1 past the compact
//     revision: their number, sum and lowest. They are lowest, lowest+1 and so on;
//     from 2 when the incarnation began past the compact revision, and otherwise
//     from behind a version at or below it, which is known by its link.
//   - For a group of keys: each version 1 past the compact revision, and each version
//     at or below it, adds the key's hash; each tombstone past it, and each key
//     alive in the end, takes it away. Nothing remains.
//
// The only record of a key cannot be held against another.

// A chain sums up the versions above 1 of one incarnation of a key.
type chain struct {
	n   uint32
	sum uint32 // of the versions, modulo 2^32
	low uint32 // lowest version; begunPast when the incarnation began past the compact revision
}

const (
	begunPast  = 1 << 31
	versionMax = begunPast - 1
)

func (c *chain) add(o *chain) {
	c.n += o.n
	c.sum += o.sum
	c.low = min(c.low, o.low)
}

// whole says whether the versions are lowest, lowest+1 and so on.
func (c *chain) whole() bool {
	low := c.low &^ begunPast
	return c.sum == c.n*low+uint32(uint64(c.n)*uint64(c.n-1)/2) && (c.low&begunPast == 0 || low == 2)
}

const (
	groupBits = 14
	groups    = 1 << groupBits
)

// groupOf gives the group of a key by its second hash.
func groupOf(hash2 uint32) uint32 { return hash2 >> (32 - groupBits) }

// chainSums is one parser's part.
type chainSums struct {
	batch batcher[chain]
	open  []uint64 // by group
}

// add counts one record in.
func (c *chainSums) add(hash uint64, hash2 uint32, rev keyspace.Revision, kv *keyspace.KeyValue, compact int64) {
	switch past := rev.Main > compact; {
	case rev.Tombstone:
		if past {
			c.open[groupOf(hash2)] -= hash
		}
	case !past || kv.Version <= 1:
		c.open[groupOf(hash2)] += hash
	default:
		v := uint32(min(uint64(kv.Version), versionMax))
		one := chain{n: 1, sum: v, low: v}
		if kv.CreateRevision > compact {
			one.low |= begunPast
		}
		c.batch.add(incarnation(hash, kv.CreateRevision), hash2, one)
	}
}

// incarnation gives the hash of a key's life that began at a revision; never 0.
func incarnation(hash uint64, created int64) uint64 {
	return hash ^ uint64(created)*0x9E3779B97F4A7C15 | 1
}

// link stands for one version of an incarnation, in 31 bits of its hash; never 0.
func link(incarnation uint64, version int64) uint32 {
	h := (incarnation ^ uint64(version)) * 0xD6E8FEB86659FD93
	return uint32(h>>32) | 1
}

// A linkSet holds links.
type linkSet struct {
	slots []uint32
}

func newLinkSet(n int) linkSet { return linkSet{make([]uint32, 1<<bits.Len(uint(2*n)))} }

// find gives the place of a link, or the empty one where it belongs.
func (s linkSet) find(link uint32) *uint32 {
	for at := link >> 1; ; at++ {
		if slot := &s.slots[at%uint32(len(s.slots))]; *slot == link || *slot == 0 {
			return slot
		}
	}
}

// superseded gives the links of the kept records that are not their keys' latest.
func (k *Keys) superseded(latest []uint64) linkSet {
	each := func(visit func(link uint32)) {
		for i, word := range latest {
			block := k.sums.blocks[i*64/sumBlock]
			for word = ^word; word != 0; word &= word - 1 {
				if link := block[(i*64+bits.TrailingZeros64(word))%sumBlock].link; link != 0 {
					visit(link)
				}
			}
		}
	}
	n := 0
	each(func(uint32) { n++ })
	set := newLinkSet(n)
	each(func(link uint32) { *set.find(link) = link })
	return set
}

// A suspicion is the set of keys whose chains have to be followed.
type suspicion struct {
	hashes map[uint32]bool // second hashes
	group  [groups]bool
	any    bool
}

func (s *suspicion) holds(hash2 uint32) bool { return s.group[groupOf(hash2)] || s.hashes[hash2] }

// suspects holds the sums against each other.
func (k *Keys) suspects(alive *aliveKeys) *suspicion {
	s := &suspicion{hashes: map[uint32]bool{}}
	for g, sum := range alive.open {
		for _, sink := range k.sinks {
			sum -= sink.chains.open[g]
		}
		s.group[g] = sum != 0
		s.any = s.any || sum != 0
	}
	before := k.superseded(alive.marks)
	for n := range k.chains.shard {
		k.chains.each(n, func(c *entry[chain]) {
			if !c.v.whole() || c.v.low&begunPast == 0 && *before.find(link(c.hash, int64(c.v.low)-1)) == 0 {
				s.hashes[c.hash2], s.any = true, true
			}
		})
	}
	return s
}

// maxRecordPage bounds the bytes read of one page of bucket key.
const maxRecordPage = 1 << 30

// maxFollowed bounds the keys whose chains are followed at once.
const maxFollowed = 1 << 20

// A tip is the state of one key's chain while its records are read in order.
type tip struct {
	state            tipState
	created, version int64
}

type tipState uint8

const (
	tipAbsent  tipState = iota // the key is not there
	tipThere                   // created and version are those of its latest record
	tipUnknown                 // its latest record is at fault
)

// brokenChains adds the records that break chains. Where records are missing, or a
// compaction left only some, that is no fault of their own.
func (k *Keys) brokenChains(ctx context.Context, r *KeysResult, alive *aliveKeys) {
	var found recordFaults
	whole := r.FaultCount[RecordGap] == 0
	if ctx.Err() == nil && k.Compacted && k.Revision == 0 && r.Sound && (k.Broken > 0 || whole) {
		if s := k.suspects(alive); s.any {
			found = k.follow(ctx, s)
		}
	}
	if k.Broken > 0 {
		all := slices.DeleteFunc(slices.Concat(r.Faults, found.first), func(f RecordFault) bool { return f.Kind != RecordChain })
		r.Broken, r.BrokenCount = firstOfEachKind(all, k.Broken), r.FaultCount[RecordChain]+found.count
	}
	if whole {
		r.FaultCount[RecordChain] += found.count
		r.Faults = append(r.Faults, found.first...)
	}
}

// keep gives how many faults of a kind are kept while the bucket is read.
func (k *Keys) keep(kind RecordFaultKind) int {
	if kind == RecordChain {
		return max(k.PerKind, k.Broken)
	}
	return k.PerKind
}

// follow reads the bucket in order and gives the records that break the chains of
// suspected keys.
func (k *Keys) follow(ctx context.Context, s *suspicion) (found recordFaults) {
	tips := map[string]tip{}
	n := 0
	NewRows(k.tree, k.bucket).From(nil, func(row Row) bool {
		if n++; n%4096 == 0 && ctx.Err() != nil {
			return false
		}
		rev, _ := keyspace.DecodeRevision(row.Key)
		kv, err := keyspace.DecodeKeyValue(row.Value)
		_, hash2 := k.hasher.hashes(kv.Key)
		if !s.holds(hash2) || len(row.Value) == 0 {
			return true
		}
		l, known := tips[string(kv.Key)]
		if !known && len(tips) == maxFollowed {
			return true
		}
		why := ""
		switch past := rev.Main > k.CompactRevision; {
		case k.judge(rev, row.Value, &kv, err) != 0: // a fault of its own
			l.state = tipUnknown
		case rev.Tombstone:
			if past && l.state == tipAbsent {
				why = "it deletes a key that is not there"
			}
			l = tip{}
		default:
			if past {
				why = l.breaks(&kv)
			}
			l = tip{tipThere, kv.CreateRevision, kv.Version}
		}
		tips[string(kv.Key)] = l
		if why != "" {
			f := RecordFault{Kind: RecordChain, Page: row.Page, Element: row.element, Offset: row.Offset, Revision: rev, Key: clip(kv.Key, maxFaultKey), Value: kv, Why: why}
			f.Value.Key, f.Value.Value = nil, nil
			found.add(f, k.keep(RecordChain))
		}
		return true
	})
	return found
}

// breaks says why kv cannot follow the tip, "" when it can.
func (l *tip) breaks(kv *keyspace.KeyValue) string {
	switch {
	case l.state == tipUnknown:
	case kv.Version == 1 && l.state == tipThere:
		return "it creates a key that is there already"
	case kv.Version == 1:
	case l.state == tipAbsent:
		return "the versions before it are not there"
	case kv.CreateRevision != l.created || kv.Version != l.version+1:
		return fmt.Sprintf("the record before it says version %d, created at %d", l.version, l.created)
	}
	return ""
}

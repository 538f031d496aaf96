package scan

import (
	"hash/maphash"
	"math/bits"
	"sync"
)

// A version is what the table needs to know of one record of a key. The key
// itself is known only by 96 bits of two seeded hashes: among n keys two fall
// together with a probability of about n*n/2^97, 1 in 10^15 for ten million.
// The seeds are drawn anew for each table, so nobody can prepare such keys.
//
// A transaction changes a key once (etcd v3.7.3, server/etcdserver/api/v3rpc/key.go,
// checkIntervals), so the main revision alone says which record is the latest.
type version struct {
	hash  uint64
	hash2 uint32
	ref   uint32 // see refer
	main  int64
}

// tombstone in version.ref marks a deletion. The other bits are the record's
// number among those kept for HashKV, when it lies at or below the compact
// revision, and otherwise the bytes of its key and value.
const tombstone = 1 << 31

const (
	shards    = 1024
	batchSize = 128 // versions handed to a shard at once
)

// A table holds the latest version of every key, by the key's hash.
type table struct {
	seed, seed2 maphash.Seed
	shard       [shards]shard
}

type shard struct {
	mu    sync.Mutex
	slots []version // hash, hash2 both 0: empty
	used  int
}

func newTable() *table { return &table{seed: maphash.MakeSeed(), seed2: maphash.MakeSeed()} }

// hashes gives the 96 bits by which the table knows a key.
func (t *table) hashes(key []byte) (uint64, uint32) {
	h := maphash.Bytes(t.seed, key)
	h2 := uint32(maphash.Bytes(t.seed2, key))
	if h2 == 0 && h == 0 {
		h2 = 1
	}
	return h, h2
}

// newer says whether v takes the place of o. Two records of one key in one
// revision are damage; the choice between them depends on their content alone.
func (v *version) newer(o *version) bool {
	return v.main > o.main || v.main == o.main && v.ref > o.ref
}

// put takes a batch of versions that belong to shard s.
func (s *shard) put(batch []version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range batch {
		if (s.used+1)*5 > len(s.slots)*4 {
			s.grow()
		}
		v := &batch[i]
		slot := s.find(v.hash, v.hash2)
		if slot.hash == 0 && slot.hash2 == 0 {
			*slot = *v
			s.used++
		} else if v.newer(slot) {
			*slot = *v
		}
	}
}

// find gives the slot of a key, or the empty one where it belongs.
func (s *shard) find(hash uint64, hash2 uint32) *version {
	n := uint64(len(s.slots))
	hi, _ := bits.Mul64(hash<<10, n) // the shard is the upper ten bits
	for i := hi; ; {
		slot := &s.slots[i]
		if slot.hash == hash && slot.hash2 == hash2 || slot.hash == 0 && slot.hash2 == 0 {
			return slot
		}
		if i++; i == n {
			i = 0
		}
	}
}

// grow adds a half, so that memory stays near what the keys need: 45 bytes for
// each at most.
func (s *shard) grow() {
	old := s.slots
	s.slots = make([]version, max(8, len(old)+len(old)/2))
	for i := range old {
		if old[i].hash != 0 || old[i].hash2 != 0 {
			*s.find(old[i].hash, old[i].hash2) = old[i]
		}
	}
}

// each visits the latest version of every key, in no order.
func (t *table) each(visit func(v *version)) {
	for s := range t.shard {
		for i := range t.shard[s].slots {
			if v := &t.shard[s].slots[i]; v.hash != 0 || v.hash2 != 0 {
				visit(v)
			}
		}
	}
}

// get gives the latest version of a key, nil when there is none.
func (t *table) get(key []byte) *version {
	h, h2 := t.hashes(key)
	s := &t.shard[h>>(64-10)]
	if len(s.slots) == 0 {
		return nil
	}
	if v := s.find(h, h2); v.hash != 0 || v.hash2 != 0 {
		return v
	}
	return nil
}

// A batcher collects one parser's versions, a batch for each shard.
type batcher struct {
	table   *table
	pending [shards][]version
}

func (b *batcher) add(v version) {
	s := v.hash >> (64 - 10)
	p := append(b.pending[s], v)
	if len(p) == batchSize {
		b.table.shard[s].put(p)
		p = p[:0]
	}
	b.pending[s] = p
}

func (b *batcher) flush() {
	for s := range b.pending {
		if len(b.pending[s]) > 0 {
			b.table.shard[s].put(b.pending[s])
			b.pending[s] = nil
		}
	}
}

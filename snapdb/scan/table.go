package scan

import (
	"hash/maphash"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
)

// A hasher tells keys apart by 96 bits of two seeded hashes: among n keys two
// fall together with a probability of about n*n/2^97, 1 in 10^15 for ten million.
// The seeds are drawn anew for each hasher, so nobody can prepare such keys.
type hasher struct {
	seed, seed2 maphash.Seed
}

func newHasher() hasher { return hasher{maphash.MakeSeed(), maphash.MakeSeed()} }

func (h *hasher) hashes(key []byte) (uint64, uint32) {
	h1 := maphash.Bytes(h.seed, key)
	h2 := uint32(maphash.Bytes(h.seed2, key))
	if h2 == 0 && h1 == 0 {
		h2 = 1
	}
	return h1, h2
}

const (
	shardBits  = 9 // upper bits of a hash that tell its shard
	shards     = 1 << shardBits
	batchSize  = 32      // entries handed to a shard at once
	blockSize  = 64      // entries a shard grows by
	firstLimit = 1 << 12 // entries of a shard before it is looked at
	scoutEvery = 64
)

// An entry is what a table holds under one hash: 24 bytes when V takes 12.
type entry[V any] struct {
	hash  uint64
	hash2 uint32
	v     V
}

// A table holds one V for each hash. Several batchers fill it at once.
//
// A shard is a heap to which entries are only added. When it has some thousands,
// and then whenever it has twice as many as hashes, entries of one hash are merged, in
// a scratch index that fits the processor's cache. So memory is touched in order,
// nothing is copied to grow, and beyond some 50 MiB a hash takes 48 bytes at most.
// While few hashes come again, and merging would win little, it waits for the end.
type table[V any] struct {
	merge   func(old, v *V) // adds v to what is there
	shard   [shards]shard[V]
	scouted atomic.Int64 // hashes of a scout when it was last merged
}

type shard[V any] struct {
	mu     sync.Mutex
	blocks []*[blockSize]entry[V]
	n      int // entries
	limit  int // merge at this many
}

func newTable[V any](merge func(old, v *V)) *table[V] { return &table[V]{merge: merge} }

func (s *shard[V]) at(i int) *entry[V] { return &s.blocks[i/blockSize][i%blockSize] }

// put adds a batch of entries that belong to shard number n.
func (t *table[V]) put(n int, batch []entry[V], index *mergeIndex) {
	s := &t.shard[n]
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(batch) > 0 {
		if s.n == len(s.blocks)*blockSize {
			s.blocks = append(s.blocks, new([blockSize]entry[V]))
		}
		added := copy(s.blocks[s.n/blockSize][s.n%blockSize:], batch)
		batch = batch[added:]
		s.n += added
	}
	if s.n >= s.limit {
		t.look(n, s, index)
	}
}

// look merges the entries of a shard that has reached its limit, when that is
// worth it, and sets the next limit. How many hashes an unmerged shard has is not
// known, but they are spread evenly over the shards: the scouts, one in scoutEvery,
// are merged often enough to tell.
func (t *table[V]) look(n int, s *shard[V], index *mergeIndex) {
	scout := n%scoutEvery == 0
	hashes := int(t.scouted.Load())
	if s.limit > 0 && (scout || 3*hashes < 2*s.n) {
		t.settle(s, index)
		hashes = s.n
	}
	if scout {
		t.scouted.Store(int64(hashes))
		s.limit = max(firstLimit/2, s.n+s.n/8)
		return
	}
	// The first limits differ, so that the shards are not all full at once.
	s.limit = max(firstLimit+n%32*firstLimit/64, 2*hashes)
}

// A mergeIndex finds entries by hash while a shard is merged: numbers of entries
// plus 1, by the bits below the shard's.
type mergeIndex struct {
	slots []uint32
}

func (m *mergeIndex) reset(entries int) {
	n := 1 << bits.Len(uint(2*entries))
	if n > cap(m.slots) {
		m.slots = make([]uint32, n)
		return
	}
	m.slots = m.slots[:n]
	clear(m.slots)
}

// settle merges the entries of a shard that have the same hash.
func (t *table[V]) settle(s *shard[V], index *mergeIndex) {
	index.reset(s.n)
	slots := index.slots
	shift := 64 - bits.Len(uint(len(slots)-1))
	kept := 0
	for i := range s.n {
		e := s.at(i)
		for at := e.hash << shardBits >> shift; ; at++ {
			slot := &slots[at%uint64(len(slots))]
			if *slot == 0 {
				if kept < i {
					*s.at(kept) = *e
				}
				kept++
				*slot = uint32(kept)
				break
			}
			if old := s.at(int(*slot - 1)); old.hash == e.hash && old.hash2 == e.hash2 {
				t.merge(&old.v, &e.v)
				break
			}
		}
	}
	s.n = kept
}

// settleAll merges what is left to merge. Call it when everything was put.
func (t *table[V]) settleAll() {
	eachShard(func() func(n int) {
		var index mergeIndex
		return func(n int) { t.settle(&t.shard[n], &index) }
	})
}

// eachShard does something for every shard, on all processors. begin is called
// once for each of them.
func eachShard(begin func() func(n int)) {
	var next atomic.Int32
	var wait sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		visit := begin()
		wait.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= shards {
					return
				}
				visit(n)
			}
		})
	}
	wait.Wait()
}

// each visits the entries of shard n, in no order, after settleAll.
func (t *table[V]) each(n int, visit func(e *entry[V])) {
	s := &t.shard[n]
	for i := 0; i < s.n; i += blockSize {
		block := s.blocks[i/blockSize]
		for j := range block[:min(blockSize, s.n-i)] {
			visit(&block[j])
		}
	}
}

// get searches for what is known under a hash, after settleAll; nil when there is
// nothing.
func (t *table[V]) get(hash uint64, hash2 uint32) *V {
	s := &t.shard[hash>>(64-shardBits)]
	for i := range s.n {
		if e := s.at(i); e.hash == hash && e.hash2 == hash2 {
			return &e.v
		}
	}
	return nil
}

// A batcher collects what one parser has for a table, a batch for each shard.
type batcher[V any] struct {
	table   *table[V]
	pending [][batchSize]entry[V] // by shard; nil until the first is added
	used    [shards]uint16
	index   mergeIndex
}

func (b *batcher[V]) add(hash uint64, hash2 uint32, v V) {
	if b.pending == nil {
		b.pending = make([][batchSize]entry[V], shards)
	}
	n := int(hash >> (64 - shardBits))
	batch, used := &b.pending[n], b.used[n]
	batch[used%batchSize] = entry[V]{hash, hash2, v}
	if used++; used == batchSize {
		b.table.put(n, batch[:], &b.index)
		used = 0
	}
	b.used[n] = used
}

// flush hands over what is left. Nothing can be added afterwards.
func (b *batcher[V]) flush() {
	for n, used := range b.used {
		if used > 0 {
			b.table.put(n, b.pending[n][:used], &b.index)
		}
	}
	b.pending, b.used, b.index = nil, [shards]uint16{}, mergeIndex{}
}

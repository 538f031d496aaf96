package scan

import (
	"hash/crc32"
	"math/bits"
	"sync"

	"etcd-forensics/snapdb/keyspace"
)

// leafSums is what the joining of the CRCs needs of one leaf. The records at or
// below the compact revision come first.
type leafSums struct {
	headCRC, tailCRC uint32
	headLen, tailLen uint32
	first            uint32 // number of the first record kept
	kept             uint16
	deleted          bool // a tombstone at the compact revision is among them

	// The first and last revision above the compact revision, for the search for
	// gaps between leaves.
	from, to span
}

// A recordSum is one record at or below the compact revision: the CRC of its leaf
// from the first record up to it, its length in bytes, and its link.
type recordSum struct {
	crc, size, link uint32
}

// deletedAtCompaction in recordSum.size marks a tombstone at the compact
// revision. No record is that long: a page of 2 GiB cannot be read.
const deletedAtCompaction = 1 << 31

const sumBlock = 1 << 16

// sumBlocks holds recordSums by number, in blocks of which each belongs to one
// parser.
type sumBlocks struct {
	mu      sync.Mutex
	blocks  []*[sumBlock]recordSum
	classed bool                // records come with a class
	classes []*[sumBlock]uint16 // as blocks, when records have a class
}

func (s *sumBlocks) next() (number int, block *[sumBlock]recordSum, classes *[sumBlock]uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	block = new([sumBlock]recordSum)
	s.blocks = append(s.blocks, block)
	if s.classed {
		classes = new([sumBlock]uint16)
		s.classes = append(s.classes, classes)
	}
	return len(s.blocks) - 1, block, classes
}

// count gives the number of recordSums there is room for.
func (s *sumBlocks) count() int { return len(s.blocks) * sumBlock }

func (s *sumBlocks) at(n uint32) *recordSum { return &s.blocks[n/sumBlock][n%sumBlock] }

// size adds up the bytes of the marked records, and counts those that have a class.
func (s *sumBlocks) size(marks []uint64, counts *classCounts) int64 {
	var sum int64
	for i, word := range marks {
		block := s.blocks[i*64/sumBlock]
		var classes *[sumBlock]uint16
		if s.classed {
			classes = s.classes[i*64/sumBlock]
		}
		for ; word != 0; word &= word - 1 {
			n := (i*64 + bits.TrailingZeros64(word)) % sumBlock
			size := int64(block[n].size &^ deletedAtCompaction)
			sum += size
			if classes != nil {
				counts.add(classes[n], size)
			}
		}
	}
	return sum
}

// keptSums is one parser's place in the blocks.
type keptSums struct {
	of      *sumBlocks
	block   *[sumBlock]recordSum
	classes *[sumBlock]uint16
	base    uint32 // number of the block's first
	used    uint32
}

// reserve makes room for the records of a leaf at or below the compact revision,
// which get consecutive numbers, and gives the first. A page has fewer records
// than a block has places.
func (k *keptSums) reserve(l *Leaf, compact int64) uint32 {
	n := 0
	if compact < 0 {
		return k.base + k.used // no record lies below
	}
	if k.block == nil || int(k.used)+len(l.Elements) > sumBlock {
		for i := range l.Elements {
			if rev, ok := keyspace.DecodeRevision(l.Elements[i].Key); ok && rev.Main <= compact {
				n++
			}
		}
	}
	if n > 0 && (k.block == nil || int(k.used)+n > sumBlock) {
		number, block, classes := k.of.next()
		k.block, k.classes, k.base, k.used = block, classes, uint32(number)*sumBlock, 0
	}
	return k.base + k.used
}

// add keeps one record and gives its number.
func (k *keptSums) add(r recordSum, class uint16, deleted bool) uint32 {
	if deleted {
		r.size |= deletedAtCompaction
	}
	k.block[k.used] = r
	if k.classes != nil {
		k.classes[k.used] = class
	}
	k.used++
	return k.base + k.used - 1
}

// join computes HashKV from the leaves' parts in key order.
func (k *Keys) join(alive []uint64) uint32 {
	crc := crc32.Checksum([]byte(keyspace.BucketKey), castagnoli)
	if k.bucket < 0 {
		return crc
	}
	add := func(l *leafSums) {
		if l.kept > 0 && (l.deleted || alive != nil && !allMarked(alive, l.first, uint32(l.kept))) {
			crc = k.joinRecords(crc, l, alive)
		} else if l.headLen > 0 {
			crc = joinCRC(crc, l.headCRC, uint64(l.headLen))
		}
		if l.tailLen > 0 {
			crc = joinCRC(crc, l.tailCRC, uint64(l.tailLen))
		}
	}
	if k.tree.Buckets[k.bucket].Inline != nil {
		add(&k.inline)
	}
	for i := range k.leaves {
		if int(k.tree.Leaves[i].Bucket) == k.bucket {
			add(&k.leaves[i])
		}
	}
	return crc
}

// joinRecords adds the records of a leaf of which some do not count, in runs of
// those that do.
func (k *Keys) joinRecords(crc uint32, l *leafSums, alive []uint64) uint32 {
	before, run := uint32(0), uint64(0) // CRC before the run, its bytes so far
	after := uint32(0)
	flush := func() {
		if run > 0 {
			crc = joinCRC(crc, joinCRC(before, after, run), run)
		}
		run = 0
	}
	for n := l.first; n < l.first+uint32(l.kept); n++ {
		s := k.sums.at(n)
		if s.size&deletedAtCompaction != 0 || alive != nil && alive[n/64]&(1<<(n%64)) == 0 {
			flush()
			before, after = s.crc, s.crc
			continue
		}
		run += uint64(s.size)
		after = s.crc
	}
	flush()
	return crc
}

func allMarked(marks []uint64, first, n uint32) bool {
	for i := first; i < first+n; i++ {
		if marks[i/64]&(1<<(i%64)) == 0 {
			return false
		}
	}
	return true
}

package scan

import (
	"hash/maphash"
	"maps"

	"etcd-forensics/snapdb/keyspace"
)

// BlockBits says how many revisions one block of Blocks takes: 2^BlockBits.
const BlockBits = 12

// A Block sums up the records of 2^BlockBits revisions, or of all up to the compact
// revision, whatever their order. Two blocks with the same records are equal; two
// others are so with a probability of 2^-64.
type Block struct {
	Records int64
	Sum     uint64
}

func (b *Block) add(o Block) {
	b.Records += o.Records
	b.Sum += o.Sum
}

// Blocks sums up the records of bucket key, so that databases can be compared
// without reading them side by side.
type Blocks struct {
	seed            maphash.Seed
	bucket          int
	compactRevision int64
	sinks           []*blockSink
}

// NewBlocks prepares the sums of a bucket. Only sums of one seed can be compared.
func NewBlocks(seed maphash.Seed, bucket int, compactRevision int64) *Blocks {
	return &Blocks{seed: seed, bucket: bucket, compactRevision: compactRevision}
}

// BlockSums are the sums of one database.
type BlockSums struct {
	// Above has the records above the compact revision, by main revision >>
	// BlockBits.
	Above map[int64]Block
	// Base has those at or below it, but for deletions at the compact revision
	// itself: some versions of etcd keep them, others do not (etcd v3.7.3,
	// server/storage/mvcc/key_index.go, keep).
	Base Block
	// Deletions counts those.
	Deletions int64
}

type blockSink struct {
	of   *Blocks
	sums BlockSums
	at   int64 // block of the last record
	here Block
}

// Sink implements Consumer.
func (b *Blocks) Sink() Sink {
	s := &blockSink{of: b, sums: BlockSums{Above: map[int64]Block{}}}
	b.sinks = append(b.sinks, s)
	return s
}

// Leaf implements Sink.
func (s *blockSink) Leaf(l *Leaf) {
	if l.Bucket != s.of.bucket {
		return
	}
	for i := range l.Elements {
		e := &l.Elements[i]
		rev, ok := keyspace.DecodeRevision(e.Key)
		if !ok || e.Bucket {
			continue
		}
		sum := Block{1, s.of.sum(e.Key, e.Value)}
		switch {
		case rev.Main > s.of.compactRevision:
			if at := rev.Main >> BlockBits; at != s.at {
				s.flush()
				s.at = at
			}
			s.here.add(sum)
		case rev.Main < s.of.compactRevision || !rev.Tombstone:
			s.sums.Base.add(sum)
		default:
			s.sums.Deletions++
		}
	}
}

func (s *blockSink) flush() {
	if s.here.Records > 0 {
		b := s.sums.Above[s.at]
		b.add(s.here)
		s.sums.Above[s.at] = b
	}
	s.here = Block{}
}

func (b *Blocks) sum(key, value []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(b.seed)
	h.Write(key)
	h.Write(value)
	return h.Sum64()
}

// Finish puts the parsers' parts together. Call it once, after the pass.
func (b *Blocks) Finish() BlockSums {
	all := BlockSums{Above: map[int64]Block{}}
	for _, s := range b.sinks {
		s.flush()
		all.Base.add(s.sums.Base)
		all.Deletions += s.sums.Deletions
		for at, sum := range maps.All(s.sums.Above) {
			was := all.Above[at]
			was.add(sum)
			all.Above[at] = was
		}
	}
	return all
}

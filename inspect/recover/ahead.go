package recover

import "sync"

// Leaves are read ahead of who takes their records.
const (
	aheadReaders = 2
	aheadBatches = 12 * aheadReaders
	aheadLeaves  = 32        // of one batch
	aheadBytes   = 256 << 10 // of one batch, and one leaf more
	aheadTotal   = 8 << 20   // of all batches under way, and one batch more

	// What was made for a larger leaf is not kept for the next.
	keptBytes   = 32 << 10
	keptRecords = 1024
)

// A leafBatch is some leaves in a row, and what was read of the first of them.
type leafBatch struct {
	leaves  []int32
	bytes   int64 // of them, at most
	readers [aheadLeaves]leafReader
	read    int // leaves
	done    chan struct{}
}

// cut makes a batch of the first of some leaves, as many as it may hold, and gives the
// others.
func (l *leafBatch) cut(b *base, leaves []int32) []int32 {
	l.leaves, l.bytes = leaves[:0], 0
	for len(l.leaves) < min(aheadLeaves, len(leaves)) && l.bytes <= aheadBytes {
		l.bytes += b.leafBytes(leaves[len(l.leaves)])
		l.leaves = leaves[:len(l.leaves)+1]
	}
	return leaves[len(l.leaves):]
}

// leafBytes gives how much is read of a leaf at most: of one that is not sound nobody knows
// what it says of itself.
func (b *base) leafBytes(leaf int32) int64 {
	if !b.leaves[leaf].sound {
		return maxMended
	}
	return min((int64(b.Tree.Leaves[leaf].Overflow)+1)*int64(b.db.PageSize), maxMended)
}

// fill reads the leaves of a batch, and none behind one that cannot be read.
func (l *leafBatch) fill(b *base) {
	for l.read = 0; l.read < len(l.leaves); l.read++ {
		r := &l.readers[l.read]
		r.base = b
		if r.leaf(int(l.leaves[l.read])) != nil {
			break
		}
	}
	l.done <- struct{}{}
}

// eachLeaf gives the records of leaves of bucket key, until visit says that it is enough.
// They are valid until it returns. An error is that of the leaf behind those given.
func (b *base) eachLeaf(leaves []int32, visit func([]record) bool) error {
	own := leafReader{base: b}
	direct := func(leaves []int32) (more bool, err error) {
		for _, i := range leaves {
			if err := own.leaf(int(i)); err != nil {
				return false, err
			}
			if !visit(own.records) {
				return false, nil
			}
		}
		return true, nil
	}
	if len(leaves) <= aheadLeaves {
		_, err := direct(leaves)
		return err
	}
	work := make(chan *leafBatch, aheadBatches)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer close(work)
	for range aheadReaders {
		readers.Go(func() {
			for batch := range work {
				batch.fill(b)
			}
		})
	}
	var queue []*leafBatch // in the order of the leaves
	free, ahead := make([]*leafBatch, aheadBatches), int64(0)
	for i := range free {
		free[i] = &leafBatch{done: make(chan struct{}, 1)}
	}
	send := func() {
		for len(leaves) > 0 && len(free) > 0 && ahead <= aheadTotal {
			batch := free[0]
			free = free[1:]
			leaves = batch.cut(b, leaves)
			ahead += batch.bytes
			work <- batch
			queue = append(queue, batch)
		}
	}
	for send(); len(queue) > 0; send() {
		batch := queue[0]
		queue = queue[1:]
		<-batch.done
		for n := range batch.read {
			r := &batch.readers[n]
			if !visit(r.records) {
				return nil
			}
			if cap(r.buf) > keptBytes || cap(r.records) > keptRecords {
				*r = leafReader{}
			}
		}
		if more, err := direct(batch.leaves[batch.read:]); !more {
			return err
		}
		ahead -= batch.bytes
		free = append(free, batch)
	}
	return nil
}

package recover

import "sync"

// Leaves are read ahead of who takes their records.
const (
	aheadReaders = 2
	aheadBatches = 2 * aheadReaders
	aheadLeaves  = 32        // of one batch
	aheadBytes   = 256 << 10 // read for one batch, and one leaf more

	// What was made for a larger leaf is not kept for the next.
	keptBytes   = 32 << 10
	keptRecords = 1024
)

// A leafBatch is some leaves in a row, and what was read of the first of them.
type leafBatch struct {
	leaves  []int32
	readers [aheadLeaves]leafReader
	read    int // leaves
	done    chan struct{}
}

// fill reads as many leaves as a batch may hold, and none behind one that cannot be read.
func (l *leafBatch) fill(b *base) {
	l.read = 0
	for bytes := 0; l.read < len(l.leaves) && bytes <= aheadBytes; l.read++ {
		r := &l.readers[l.read]
		if cap(r.buf) > keptBytes || cap(r.records) > keptRecords {
			*r = leafReader{}
		}
		r.base = b
		if r.leaf(int(l.leaves[l.read])) != nil {
			break
		}
		bytes += len(r.buf)
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
	send := func(batch *leafBatch) {
		n := min(aheadLeaves, len(leaves))
		if n == 0 {
			return
		}
		batch.leaves, leaves = leaves[:n], leaves[n:]
		work <- batch
		queue = append(queue, batch)
	}
	for range aheadBatches {
		send(&leafBatch{done: make(chan struct{}, 1)})
	}
	for len(queue) > 0 {
		batch := queue[0]
		queue = queue[1:]
		<-batch.done
		for n := range batch.read {
			if !visit(batch.readers[n].records) {
				return nil
			}
		}
		if more, err := direct(batch.leaves[batch.read:]); !more {
			return err
		}
		send(batch)
	}
	return nil
}

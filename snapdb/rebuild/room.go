package rebuild

import (
	"os"
	"sync"
)

const (
	roomAhead = 16 << 20  // bytes: several transactions
	roomChunk = 128 << 10 // of which a system finds all that is asked for
)

// A room is what was set aside for a file and is not written yet. The memory for it is
// found ahead of who writes, beside him.
type room struct {
	file    *os.File
	size    int64
	fetch   func(file *os.File, at, n int64)
	from    newest // where the next transaction writes
	finding sync.WaitGroup
}

// finders is how many look for memory at a time: where a system has none at hand, one finds
// less than is written meanwhile.
const finders = 3

func beginRoom(file *os.File, size int64, fetch func(file *os.File, at, n int64)) *room {
	r := &room{file: file, size: size, fetch: fetch, from: make(newest, 1)}
	chunks := make(chan int64)
	r.finding.Go(func() { r.find(chunks) })
	for range finders {
		r.finding.Go(func() {
			for at := range chunks {
				r.fetch(r.file, at, min(roomChunk, r.size-at))
			}
		})
	}
	return r
}

// find says what to look for next.
func (r *room) find(chunks chan<- int64) {
	defer close(chunks)
	at := int64(0)
	for from := range r.from {
		for at = max(at, from); at < min(from+roomAhead, r.size); at += roomChunk {
			chunks <- at
		}
	}
}

// writeFrom tells where the next transaction writes.
func (r *room) writeFrom(at int64) {
	if r != nil {
		r.from.tell(at)
	}
}

// end waits until nothing is done to the file any more.
func (r *room) end() {
	if r != nil {
		close(r.from)
		r.finding.Wait()
	}
}

// A newest holds the newest number alone, so that no one waits to tell it.
type newest chan int64

func (c newest) tell(n int64) {
	select {
	case <-c:
	default:
	}
	c <- n
}

package rebuild

import (
	"os"
	"testing"
)

// TestRoomIsFoundAheadOfTheWriter follows what memory is asked for while a writer goes on,
// and jumps ahead: each part once, at most so much ahead, nothing behind the end or behind
// the writer.
func TestRoomIsFoundAheadOfTheWriter(t *testing.T) {
	const size = 3*roomAhead + roomChunk/2
	type part struct{ at, n int64 }
	asked := make(chan part)
	r := beginRoom(nil, size, func(_ *os.File, at, n int64) { asked <- part{at, n} })
	at := int64(0)
	until := func(to int64) {
		t.Helper()
		left := map[int64]int64{} // parts by where they begin; they are asked for several at a time
		for ; at < to; at += roomChunk {
			left[at] = min(roomChunk, size-at)
		}
		at = to
		for len(left) > 0 {
			p := <-asked
			if left[p.at] != p.n {
				t.Fatalf("%d bytes at %d are asked for, which are not among %v", p.n, p.at, left)
			}
			delete(left, p.at)
		}
	}
	r.writeFrom(0)
	until(roomAhead)
	r.writeFrom(roomChunk)
	until(roomAhead + roomChunk)
	at = roomAhead + 5*roomChunk // what was passed by is not asked for
	r.writeFrom(at)
	until(2*roomAhead + 5*roomChunk)
	at = size - roomChunk
	r.writeFrom(at)
	until(size)
	r.writeFrom(size)
	r.end()
	select {
	case p := <-asked:
		t.Errorf("%d bytes at %d are asked for behind the end", p.n, p.at)
	default:
	}
}

// TestNoRoomIsNone covers file systems that set none aside.
func TestNoRoomIsNone(t *testing.T) {
	var none *room
	none.writeFrom(1)
	none.end()
}

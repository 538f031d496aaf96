package replay

import (
	"math"
	"runtime/debug"
	"runtime/metrics"
)

// garbageBytes is how much memory may lie about, in bytes, beside what is in use: the
// index of the keys, and what a transaction holds.
const garbageBytes = 216 << 20

// overhead is which part of what is in use the runtime takes beside it: the limit counts
// that, too, and the room between the objects of a large index is not to use up the rest.
const overhead = 8

// limitStep is by how many bytes what is in use changes before the limit follows it.
const limitStep = 8 << 20

// A garbage lets memory be taken back when garbageBytes of it are not in use any more,
// however much is. The runtime's own pace, a percentage of what is in use, takes back
// too often while the index is small, and lets too much lie about when it is large.
type garbage struct{ inUse uint64 }

// limit follows what was in use when memory was taken back last. It is not for a store that
// is being opened: the index of a large one grows past any limit that was set before, and
// memory would be taken back all the time.
func (g *garbage) limit() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	inUse := live[0].Value.Uint64()
	if g.inUse > 0 && inUse < g.inUse+limitStep && g.inUse < inUse+limitStep {
		return
	}
	if g.inUse == 0 {
		debug.SetGCPercent(-1)
	}
	g.inUse = max(inUse, 1)
	debug.SetMemoryLimit(int64(min(inUse+inUse/overhead, math.MaxInt64-garbageBytes)) + garbageBytes)
}

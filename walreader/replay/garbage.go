package replay

import (
	"math"
	"runtime/debug"
	"runtime/metrics"
)

// How much memory may lie about, in bytes, beside what is in use, which is the index of the
// keys, and what a transaction holds. Memory that nobody has used yet takes longer to come
// than a little more that is taken back; of a large index it is long that this takes.
const (
	garbageBytes    = 112 << 20
	garbagePart     = 4 // and this part of what is in use
	maxGarbageBytes = 216 << 20
)

// overhead is which part of what is in use the runtime takes beside it: the limit counts
// that, too, and the room between the objects of a large index is not to use up the rest.
const overhead = 8

// limitStep is by how many bytes what is in use changes before the limit follows it.
const limitStep = 8 << 20

// A garbage lets memory be taken back when more than mayLieAbout of it is not in use any
// more. The runtime's own pace, a percentage of what is in use, takes back too often while
// the index is small, and lets too much lie about when it is large.
type garbage struct {
	inUse  uint64 // when memory was taken back last, in bytes; 0 before there is a limit
	cycles uint64 // how often it was taken back until then
}

// limit follows what was in use when memory was taken back last. It is not for a store that
// is being opened: the index of a large one grows past any limit that was set before, and
// memory would be taken back all the time.
func (g *garbage) limit() {
	is := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(is)
	inUse, cycles := is[0].Value.Uint64(), is[2].Value.Uint64()
	switch {
	case g.inUse == 0:
		debug.SetGCPercent(-1)
		inUse = is[1].Value.Uint64() // an index has grown since memory was taken back
	case cycles == g.cycles, inUse < g.inUse+limitStep && g.inUse < inUse+limitStep:
		return
	}
	g.inUse, g.cycles = max(inUse, 1), cycles
	debug.SetMemoryLimit(int64(min(inUse+inUse/overhead, math.MaxInt64-maxGarbageBytes) + mayLieAbout(inUse)))
}

// mayLieAbout gives how much memory may, beside so much in use.
func mayLieAbout(inUse uint64) uint64 {
	return min(garbageBytes+inUse/garbagePart, maxGarbageBytes)
}

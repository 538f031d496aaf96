package inspect

import (
	"bytes"
	"math"

	"etcd-forensics/snapdb/kube"
	"etcd-forensics/walreader"
	"etcd-forensics/walreader/raftlog"
)

// A LogClock estimates when entries were written, from the times that values which
// they put name. Entries stand at even places, and what lies between two of them at the odd
// one.
type LogClock struct {
	clock kube.Clock
	last  uint64 // index of the entry that came last

	timed, others attempts // of keys that are Timed, and of all others

	metadata *raftlog.Metadata // the first
	foreign  string            // segment that another member or cluster wrote
}

// maxClocked is the highest index that has a place.
const maxClocked = math.MaxInt64 / 4

// placeOf gives the place of an entry, 0 for none.
func placeOf(index uint64) int64 {
	if index > maxClocked {
		return 0
	}
	return 2 * int64(index)
}

// placeBehind gives the place of what was written after an entry and before the next.
func placeBehind(index uint64) int64 {
	if index > maxClocked {
		return 0
	}
	return 2*int64(index) + 1
}

// frame looks for segments of others, whose times say nothing about this log.
func (c *LogClock) frame(f *walreader.Frame) {
	if f.Record.Type != walreader.TypeMetadata || f.Proof == walreader.Contradicted {
		return
	}
	switch m, err := raftlog.DecodeMetadata(f.Record.Data); {
	case err != nil:
	case c.metadata == nil:
		c.metadata = &m
	case *c.metadata != m:
		c.foreign = f.At.Segment
	}
}

// entry takes the times that an entry's values name, in place of those of entries
// that it overwrites.
func (c *LogClock) entry(e raftlog.Entry, at walreader.Position, r *raftlog.Request) {
	if e.Index <= c.last {
		c.clock.Cut(placeOf(e.Index))
	}
	c.last = e.Index
	if r == nil || e.Index > maxClocked || c.foreign != "" && c.foreign == at.Segment {
		return
	}
	for i := range r.Ops {
		op := &r.Ops[i]
		if op.Kind != raftlog.OpPut || op.Value.Len == 0 {
			continue
		}
		if a, ok := c.anchor(r.Ops, op, e.Data); ok {
			c.clock.Add(placeOf(e.Index), a)
		}
	}
}

// barren is the number of puts without a time behind which objects of any kind are asked
// for one.
const barren = 16

// anchor gives the time that a put names. Where that is tried in vain, it is tried ever
// more seldom, so that a log of anything else is not slower for it.
func (c *LogClock) anchor(ops []raftlog.Op, op *raftlog.Op, data []byte) (a kube.Anchor, ok bool) {
	timed, others := c.timed.now(), c.others.now()
	if !timed && !others {
		return a, false
	}
	try := &c.others
	switch is := kube.Timed(op.Key); {
	case is && timed:
		try = &c.timed
	case is || !others:
		return a, false
	}
	version := int64(0)
	if creates(ops, op.Key) {
		version = 1
	}
	a, ok = kube.AnchorIn(op.Key, op.Value.In(data), version)
	try.came(ok)
	if ok {
		c.others.pass = barren
	}
	return a, ok
}

// attempts says when to try again what was in vain: pass puts later.
type attempts struct{ pass, next int }

// maxPassed is the number of puts that are passed over at most.
const maxPassed = 1 << 8

func (t *attempts) now() bool {
	if t.pass > 0 {
		t.pass--
		return false
	}
	return true
}

func (t *attempts) came(ok bool) {
	if t.next = min(2*t.next+1, maxPassed); ok {
		t.next = 0
	}
	t.pass = t.next
}

// Targets of a compare that is about whether a key is there (api/etcdserverpb/rpc.proto,
// v3.7.3): version, create revision and mod revision are 0 when it is not.
const lastNumberTarget = 2

// creates says whether a transaction goes on only where a key is not there yet.
func creates(ops []raftlog.Op, key []byte) bool {
	for i := range ops {
		op := &ops[i]
		if op.Kind != raftlog.OpCompare || op.Depth > 1 {
			return false // compares come first
		}
		if op.Target <= lastNumberTarget && op.Target >= 0 && op.Result == 0 && op.Number == 0 && len(op.RangeEnd) == 0 && bytes.Equal(op.Key, key) {
			return true
		}
	}
	return false
}

// Any says whether there is anything to estimate from.
func (c *LogClock) Any() bool { return c.clock.Any() }

// At estimates when the entry with an index was written.
func (c *LogClock) At(index uint64) (kube.Estimate, bool) { return c.at(placeOf(index)) }

// Behind estimates when a record was written that stands behind the entry with an index.
func (c *LogClock) Behind(index uint64) (kube.Estimate, bool) { return c.at(placeBehind(index)) }

func (c *LogClock) at(place int64) (e kube.Estimate, ok bool) {
	if place == 0 || !c.Any() {
		return e, false
	}
	return c.clock.At(place)
}

package scan

import (
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
)

// A Reach says how far a pass came in bucket key.
type Reach struct {
	Pages, OfPages int64 // leaf pages whose records were seen, and all that there are
	Records        int64 // on these pages
	First, Last    int64 // lowest and highest revision among them, 0 when there is none
}

// A ReachMeter is the consumer that tells how far a pass comes.
type ReachMeter struct {
	tree   *snapdb.Tree
	bucket int
	parts  []*reachSink
}

// NewReachMeter prepares to follow a pass through bucket key, which is number bucket of
// tree.
func NewReachMeter(tree *snapdb.Tree, bucket int) *ReachMeter {
	return &ReachMeter{tree: tree, bucket: bucket}
}

type reachSink struct {
	Reach
	bucket int
}

// Sink implements Consumer.
func (m *ReachMeter) Sink() Sink {
	s := &reachSink{bucket: m.bucket}
	m.parts = append(m.parts, s)
	return s
}

// Leaf implements Sink.
func (s *reachSink) Leaf(l *Leaf) {
	if l.Bucket != s.bucket {
		return
	}
	s.Pages++
	s.Records += int64(len(l.Elements))
	for i := range l.Elements { // which a damaged leaf may have in any order
		if rev, ok := keyspace.DecodeRevision(l.Elements[i].Key); ok {
			s.add(rev.Main, rev.Main)
		}
	}
}

func (r *Reach) add(first, last int64) {
	if r.First == 0 || first > 0 && first < r.First {
		r.First = first
	}
	r.Last = max(r.Last, last)
}

// Reach gives how far the pass came, after it.
func (m *ReachMeter) Reach() Reach {
	var r Reach
	for _, s := range m.parts {
		r.Pages += s.Pages
		r.Records += s.Records
		r.add(s.First, s.Last)
	}
	if m.tree.Buckets[m.bucket].Inline != nil {
		r.OfPages = 1
	}
	for _, l := range m.tree.Leaves {
		if int(l.Bucket) == m.bucket && l.ID != 0 {
			r.OfPages++
		}
	}
	return r
}

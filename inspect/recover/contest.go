package recover

import (
	"bytes"
	"slices"

	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
)

// A Conflict is a copy of a record that has other bytes than the one that was taken.
type Conflict struct {
	Revision keyspace.Revision
	Key      []byte
	Page     *page.ID // of the copy that was not taken; nil when it lies on none
	Taken    string   // where what was taken comes from
	Left     string   // where the other comes from
	Reason   string
}

// theTree is where a record comes from that the tree has.
const theTree = "the tree"

// Why one copy was taken and not the other.
const (
	byTree   = "what the tree leads to comes before any other copy, and no log tells"
	byOrigin = "whole trees come before single pages, newer ones before older ones, and no log tells"
	byCopies = "sound pages, then most copies, then the page written last come first, and no log tells"
	byLog    = "the log says so"
	byNone   = "two logs name different entries for it, so none decides"
	byHalf   = "the log says otherwise, and does not prove which version it wrote"
)

// A contest is a revision of which there are copies with other bytes than what is taken.
type contest struct {
	rev    keyspace.Revision
	key    []byte
	taken  string
	reason string
	copies []found // in the order in which they would be taken
}

// conflicts lists what was decided of each contest, in order of revision.
func conflicts(contests []contest) []Conflict {
	var list []Conflict
	for _, c := range contests {
		for i := range c.copies {
			f := &c.copies[i]
			one := Conflict{Revision: c.rev, Key: c.key, Taken: c.taken, Left: f.origin(), Reason: c.reason}
			if f.page != 0 {
				one.Page = &f.page
			}
			if one.Left != one.Taken {
				list = append(list, one)
			}
		}
	}
	slices.SortStableFunc(list, func(x, y Conflict) int { return x.Revision.Compare(y.Revision) })
	return slices.CompactFunc(list, func(x, y Conflict) bool {
		return x.Revision == y.Revision && x.Left == y.Left && x.Taken == y.Taken && bytes.Equal(x.Key, y.Key)
	})
}

// A made record is one that a log proves: the entry has what was written, and the records
// around it which version that was.
type made struct {
	by    string
	kv    keyspace.KeyValue
	index uint64
}

func (m *made) record(rev keyspace.Revision) record {
	kv := m.kv
	if !rev.Tombstone {
		kv.ModRevision = rev.Main
	}
	return record{Element: snapdb.Element{LeafElement: page.LeafElement{Key: rev.Append(nil), Value: kv.Append(nil)}}, rev: rev, kv: kv}
}

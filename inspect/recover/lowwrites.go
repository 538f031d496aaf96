package recover

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"etcd-forensics/inspect"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
)

// lowWrites follow what a log wrote at or below the compact revision: of each key the last
// version there is what a compaction leaves, unless it is a deletion.
type lowWrites struct {
	log  string
	last map[string]lowWrite
	// revisions are all of which the log tells, in order; open those of them that may have
	// written or deleted any key.
	revisions, open []int64
}

type lowWrite struct {
	rev     keyspace.Revision // its place among the others of its revision is known when whole is set
	index   uint64
	whole   bool
	deletes bool
}

func newLowWrites(log string) *lowWrites { return &lowWrites{log: log, last: map[string]lowWrite{}} }

// add takes an entry; they come in the order of the log.
func (s *lowWrites) add(a inspect.Account) {
	l := newLead(a)
	s.revisions = append(s.revisions, a.Revision)
	if l.open {
		s.open = append(s.open, a.Revision)
	}
	for n, w := range l.writes {
		if w.ranges {
			continue
		}
		rev := keyspace.Revision{Main: a.Revision}
		if l.whole {
			rev.Sub = int64(n)
		}
		s.last[string(w.key)] = lowWrite{rev, a.Index, l.whole, w.deletes}
	}
}

// told says whether the log tells of every revision behind one up to another, and of each
// which keys it wrote.
func (s *lowWrites) told(after, until int64) bool {
	n, _ := slices.BinarySearch(s.revisions, after+1)
	opened, _ := slices.BinarySearch(s.open, after+1)
	return opened == len(s.open) && int64(len(s.revisions)-n) == until-after
}

// claimLow takes the keys whose last version at or below the compact revision lay in a
// range that is lost, as the logs tell it.
func (j *job) claimLow(tree *snapdb.Tree, all *claims) {
	if !slices.ContainsFunc(j.council.low, func(s *lowWrites) bool { return len(s.last) > 0 }) {
		return
	}
	compacted := j.CompactRevision()
	for row := range rows(tree, keyspace.BucketKey) {
		rev, _ := keyspace.DecodeRevision(row.Key)
		if rev.Main > compacted {
			break
		}
		kv, _ := keyspace.DecodeKeyValue(row.Value)
		for _, s := range j.council.low {
			if w, named := s.last[string(kv.Key)]; named && w.rev.Compare(rev) <= 0 {
				delete(s.last, string(kv.Key))
			}
		}
	}
	lost := newLossIndex(j.keyLosses())
	for _, s := range j.council.low {
		for _, key := range slices.Sorted(maps.Keys(s.last)) {
			w := s.last[key]
			if w.deletes || len(lost.at(w.rev.Append(nil))) == 0 {
				continue
			}
			sure := possible
			if w.whole && s.told(w.rev.Main, compacted) {
				sure = certain
			}
			all.at(sure, []byte(key)).add(w.rev.Main, false,
				MissingVersion{From: w.rev.Main, To: w.rev.Main, By: fmt.Sprintf("the log of %s, entry %d", s.log, w.index)})
		}
	}
}

// keyLosses are those of bucket key.
func (j *job) keyLosses() []Loss {
	return slices.DeleteFunc(slices.Clone(j.result.Lost), func(l Loss) bool { return l.Bucket != keyspace.BucketKey })
}

// endLost says whether what is lost reaches to the end of the keys.
func (j *job) endLost() bool {
	return slices.ContainsFunc(j.keyLosses(), func(l Loss) bool { return l.To == nil })
}

// lowTold says whether a log tells of everything at or below the compact revision from
// where the first range begins that is lost.
func (j *job) lowTold() bool {
	first := int64(math.MaxInt64)
	for _, l := range j.keyLosses() {
		rev, _, _ := boundOf(l.From)
		first = min(first, rev.Main)
	}
	return slices.ContainsFunc(j.council.low, func(s *lowWrites) bool { return s.told(first-1, j.CompactRevision()) })
}

package recover

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"sort"

	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
)

// A found is a record that was found outside the tree.
type found struct {
	rev     keyspace.Revision
	page    page.ID
	element int
	in      *snapdb.File
	inline  *witness // whose bucket key lies inline and holds it; nil for others
	from    *witness // nil for a page to which the tree does not lead
	sum     uint64   // of its bytes
	made    *made    // what a log says of it; nil for others
	was     string   // where it was taken from, when it is not taken any more
	instead bool     // it takes the place of a record that the tree has
}

// origin says where it was found.
func (f *found) origin() string {
	switch {
	case f.was != "":
		return f.was
	case f.made != nil:
		return f.made.by
	case f.from == nil:
		return fmt.Sprintf("page %d, to which the tree does not lead", f.page)
	case f.from.name == "":
		return f.from.origin
	}
	return f.from.name
}

// A Doubt is a record that was found and is not taken.
type Doubt struct {
	Revision keyspace.Revision
	Page     page.ID
	Key      []byte
	Reason   string
}

// A verdict is what was decided of all records that were found.
type verdict struct {
	taken    []found // in order of revision
	doubts   []Doubt // in order of revision
	unproven []Doubt // taken because nothing speaks against them
	contests []contest
}

// Why a record is not taken.
const (
	doubtStale       = "the page holds records that were deleted later, and nothing shows that this one was not"
	doubtOlder       = "the page is at best an older copy of the damaged one, and nothing shows that the record was not deleted later"
	doubtFree        = "the page is listed as free, and nothing shows that the record lives elsewhere"
	doubtDamaged     = "the page is damaged, and nothing shows that the record was not deleted"
	doubtBorder      = "of two pages that may be the lost one, one has the record and the other ends before it"
	doubtContrary    = "what is known of the key says both that it lives and that it was deleted"
	doubtUnsupported = "nothing speaks against the page, and nothing shows that it was in use"
)

// A treeView answers what the sound leaves of the tree say of a revision: whether they
// reach across it, and whether they hold it.
type treeView interface {
	spans(rev keyspace.Revision) (spanned, holds bool)
	// sum is that of the record of a revision that it holds.
	sum(rev keyspace.Revision) uint64
}

// judge decides which of the records that were found are taken. Above the compact
// revision nothing is deleted, so every copy is right. At or below it, a page that
// reaches across a record without holding it was written later than the record was
// deleted: revisions are only appended, so a page with a later one was written after the
// record was.
func (s *strays) judge(losses *lossIndex, tree treeView) verdict {
	order := make([]int32, len(s.records))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(x, y int32) int {
		return cmp.Or(s.records[x].rev.Compare(s.records[y].rev), cmp.Compare(s.pages[s.records[x].page].id, s.pages[s.records[y].page].id))
	})
	s.order = order
	fates := s.fates(order, tree)
	for i := range s.records {
		if p := &s.pages[s.records[i].page]; fates[i]&deadBit != 0 && s.records[i].rev.Main <= s.compacted {
			p.stale = true
		}
	}
	possible := make([]bool, len(s.pages))
	for i := range s.pages {
		possible[i] = s.possible(&s.pages[i], losses)
	}
	s.doubtBorders(fates, possible)
	supported := s.support(fates, losses)
	var v verdict
	for from := 0; from < len(order); {
		to := from + 1
		for to < len(order) && s.records[order[to]].rev.Compare(s.records[order[from]].rev) == 0 {
			to++
		}
		s.settle(order[from:to], fates, possible, supported, losses, tree, &v)
		from = to
	}
	return v
}

// Bits of what is known of a record.
const (
	deadBit  = 1 << iota // something says that it was deleted
	livesBit             // something says that it was not
	// borderBit: another page that may be the lost one has what lies beside the record on
	// its page, and ends before it.
	borderBit
)

// fates gives for each record at or below the compact revision what is known of it.
func (s *strays) fates(order []int32, tree treeView) []uint8 {
	fates := make([]uint8, len(s.records))
	var firsts, lasts []keyspace.Revision // of the sound pages
	for i := range s.pages {
		if p := &s.pages[i]; p.sound && p.to > p.from {
			firsts = append(firsts, s.records[p.from].rev)
			lasts = append(lasts, s.records[p.to-1].rev)
		}
	}
	for _, r := range s.runs {
		firsts, lasts = append(firsts, r.first), append(lasts, r.last)
	}
	slices.SortFunc(firsts, keyspace.Revision.Compare)
	slices.SortFunc(lasts, keyspace.Revision.Compare)
	begun, ended := 0, 0
	for from := 0; from < len(order); {
		rev := s.records[order[from]].rev
		if rev.Main > s.compacted {
			break
		}
		for begun < len(firsts) && firsts[begun].Compare(rev) < 0 {
			begun++
		}
		for ended < len(lasts) && lasts[ended].Compare(rev) <= 0 {
			ended++
		}
		to, within := from, 0
		for ; to < len(order) && s.records[order[to]].rev.Compare(rev) == 0; to++ {
			i := int(order[to])
			p := &s.pages[s.records[i].page]
			if p.sound && i > p.from && i+1 < p.to {
				within++
			}
			within += p.runs
			if i == p.from {
				within -= p.begins
			}
			if i+1 == p.to {
				within -= p.ends
			}
		}
		var all uint8
		if begun-ended > within {
			all = deadBit
		}
		if spanned, holds := tree.spans(rev); spanned && !holds {
			all |= deadBit
		} else if holds {
			all = livesBit
		}
		for _, i := range order[from:to] {
			fates[i] = all | s.records[i].chainFate(s.finished)
		}
		from = to
	}
	return fates
}

// chainFate tells from the other records of its key whether a record was deleted by the
// last compaction that finished.
func (r *strayRecord) chainFate(finished int64) uint8 {
	switch {
	case r.rev.Main > finished:
		return 0
	case r.orphan && r.key.above.Main == 0:
		return deadBit // its lease is gone, and takes its keys along
	case r.rev.Tombstone:
		// Compaction takes tombstones; later versions (3.5.21 and 3.6 among them) keep that
		// of the compact revision itself.
		if r.rev.Main < finished {
			return deadBit
		}
		return 0
	case r.key.below.Compare(r.rev) > 0:
		return deadBit
	case r.key.above.Main == 0 || r.key.above.Tombstone:
		return 0
	case r.key.next.CreateRevision != r.create || r.key.next.Version <= r.version:
		return deadBit
	case r.key.next.Version == r.version+1:
		return livesBit
	}
	return 0
}

// possible says whether a page can be one that the tree has lost, so that what it holds
// lives.
func (s *strays) possible(p *strayPage, losses *lossIndex) bool {
	if !p.sound || p.stale || p.free || p.to == p.from {
		return false
	}
	first, last := s.records[p.from].rev.Append(nil), s.records[p.to-1].rev.Append(nil)
	for _, l := range losses.at(first) {
		if l.kind == lossReference && l.holds(last) && (!l.leaf || bytes.Equal(first, l.From)) {
			return true
		}
	}
	return p.lost
}

// support says for each page whether something shows that it is one that the tree has
// lost, beside that nothing speaks against it: a record on it that lives, a lost
// reference to a leaf that begins as it does, a stored freelist that does not list it, or
// a branch page that still leads to all its pages, of which none is stale. Without, all of its records
// may have been deleted, and all traces of that be gone.
func (s *strays) support(fates []uint8, losses *lossIndex) []bool {
	supported := make([]bool, len(s.pages))
	for _, row := range s.rows {
		clean := !slices.ContainsFunc(row, func(p int) bool { return s.pages[p].stale })
		for _, p := range row {
			supported[p] = supported[p] || clean
		}
	}
	for i := range s.pages {
		p := &s.pages[i]
		supported[i] = supported[i] || p.lost
		for k := p.from; k < p.to && !supported[i]; k++ {
			supported[i] = s.records[k].rev.Main > s.compacted || fates[k]&livesBit != 0
		}
		if p.to > p.from && !supported[i] {
			for _, l := range losses.at(s.records[p.from].rev.Append(nil)) {
				supported[i] = supported[i] || l.leaf && l.kind == lossReference
			}
		}
	}
	return supported
}

// maxPairs bounds the pairs of pages that are compared.
const maxPairs = 1 << 26

// doubtBorders marks the records at or below the compact revision by which one of two
// overlapping pages reaches farther than the other: the shorter one was written before
// they were, or after they were deleted. A record among them that lives tells that it was
// before.
func (s *strays) doubtBorders(fates []uint8, possible []bool) {
	var pages []int
	for i := range s.pages {
		if possible[i] {
			pages = append(pages, i)
		}
	}
	first := func(i int) keyspace.Revision { return s.records[s.pages[i].from].rev }
	last := func(i int) keyspace.Revision { return s.records[s.pages[i].to-1].rev }
	slices.SortFunc(pages, func(x, y int) int { return cmp.Or(first(x).Compare(first(y)), cmp.Compare(x, y)) })
	pairs := 0
	for n, x := range pages {
		for _, y := range pages[n+1:] {
			if first(y).Compare(last(x)) > 0 {
				break
			}
			if pairs++; pairs > maxPairs {
				break
			}
			s.doubtBorder(x, y, fates)
			s.doubtBorder(y, x, fates)
		}
	}
}

// beside says whether a page before first or behind last holds a revision: then a page
// that reaches from first to last ends there because the next one begins.
func (s *strays) beside(rev, first, last keyspace.Revision) bool {
	n := sort.Search(len(s.order), func(i int) bool { return s.records[s.order[i]].rev.Compare(rev) >= 0 })
	for ; n < len(s.order) && s.records[s.order[n]].rev.Compare(rev) == 0; n++ {
		p := &s.pages[s.records[s.order[n]].page]
		if p.sound && (s.records[p.from].rev.Compare(last) > 0 || s.records[p.to-1].rev.Compare(first) < 0) {
			return true
		}
	}
	return false
}

// doubtBorder marks what page x has before the beginning and behind the end of page y,
// which overlaps it.
func (s *strays) doubtBorder(x, y int, fates []uint8) {
	first, last := s.records[s.pages[y].from].rev, s.records[s.pages[y].to-1].rev
	for _, beyond := range []func(rev keyspace.Revision) bool{
		func(rev keyspace.Revision) bool { return rev.Compare(first) < 0 },
		func(rev keyspace.Revision) bool { return rev.Compare(last) > 0 },
	} {
		lives := false
		for i := s.pages[x].from; i < s.pages[x].to && !lives; i++ {
			r := &s.records[i]
			lives = beyond(r.rev) && (r.rev.Main > s.compacted || fates[i]&livesBit != 0)
		}
		for i := s.pages[x].from; i < s.pages[x].to && !lives; i++ {
			if rev := s.records[i].rev; beyond(rev) && !s.beside(rev, first, last) {
				fates[i] |= borderBit
			}
		}
	}
}

// settle decides about the copies of one revision.
func (s *strays) settle(copies []int32, fates []uint8, possible, supported []bool, losses *lossIndex, tree treeView, v *verdict) {
	rev := s.records[copies[0]].rev
	if _, holds := tree.spans(rev); holds {
		s.contest(copies, contest{rev: rev, key: s.records[copies[0]].key.key, taken: theTree, reason: byTree}, tree.sum(rev), v)
		return
	}
	in := losses.at(rev.Append(nil))
	if len(in) == 0 {
		return
	}
	best, reason := -1, ""
	votes := map[uint64]int{}
	for _, i := range copies {
		votes[s.records[i].sum]++
	}
	for _, i := range copies {
		why := s.refuse(i, fates[i], possible)
		if why == "" && (best < 0 || s.better(i, int32(best), votes)) {
			best = int(i)
		}
		if why != "" && (reason == "" || reason == whyDead) {
			reason = why
		}
	}
	if best < 0 {
		if reason != whyDead {
			r := &s.records[copies[0]]
			v.doubts = append(v.doubts, Doubt{rev, s.pages[r.page].id, r.key.key, reason})
		}
		return
	}
	taken := &s.records[best]
	if !s.shown(copies, fates, possible, supported) {
		v.unproven = append(v.unproven, Doubt{rev, s.pages[taken.page].id, taken.key.key, doubtUnsupported})
	}
	chosen := s.find(int32(best))
	v.taken = append(v.taken, chosen)
	for _, l := range in {
		l.Found++
	}
	s.contest(copies, contest{rev: rev, key: taken.key.key, taken: chosen.origin(), reason: byCopies}, taken.sum, v)
}

// find gives the place of a record.
func (s *strays) find(i int32) found {
	r := &s.records[i]
	return found{rev: r.rev, page: s.pages[r.page].id, element: int(r.element), in: s.file, sum: r.sum}
}

// contest notes the copies that have other bytes than what is taken.
func (s *strays) contest(copies []int32, c contest, taken uint64, v *verdict) {
	for _, i := range copies {
		if s.records[i].sum != taken {
			c.copies = append(c.copies, s.find(i))
		}
	}
	if len(c.copies) > 0 && len(v.contests) < maxOdd {
		v.contests = append(v.contests, c)
	}
}

// shown says whether a copy is above the compact revision, is known to live, or lies on a
// page that something supports.
func (s *strays) shown(copies []int32, fates []uint8, possible, supported []bool) bool {
	return slices.ContainsFunc(copies, func(i int32) bool {
		r := &s.records[i]
		return r.rev.Main > s.compacted || fates[i]&livesBit != 0 || possible[r.page] && supported[r.page]
	})
}

// whyDead is no doubt: the record was deleted.
const whyDead = "dead"

// refuse gives why a copy cannot be taken, "" when it can.
func (s *strays) refuse(i int32, fate uint8, possible []bool) string {
	r := &s.records[i]
	p := &s.pages[r.page]
	switch {
	case r.rev.Main > s.compacted:
		return ""
	case fate&deadBit != 0 && fate&livesBit != 0:
		return doubtContrary
	case fate&deadBit != 0:
		return whyDead
	case fate&livesBit != 0 || possible[r.page] && fate&borderBit == 0:
		return ""
	case possible[r.page]:
		return doubtBorder
	case !p.sound:
		return doubtDamaged
	case p.free:
		return doubtFree
	case p.stale:
		return doubtStale
	}
	return doubtOlder
}

// better says whether copy x is to be preferred: of a sound page, then by how many copies
// say the same, since a record is never changed, then that of the page that was written
// later, since it reaches farther.
func (s *strays) better(x, y int32, votes map[uint64]int) bool {
	sound := func(i int32) int {
		if s.pages[s.records[i].page].sound {
			return 1
		}
		return 0
	}
	last := func(i int32) keyspace.Revision { return s.records[s.pages[s.records[i].page].to-1].rev }
	return cmp.Or(cmp.Compare(sound(x), sound(y)), cmp.Compare(votes[s.records[x].sum], votes[s.records[y].sum]), last(x).Compare(last(y))) > 0
}

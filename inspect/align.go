package inspect

import (
	"maps"
	"slices"
)

// Which revision did an entry produce? The log does not say, and the database does
// not name entries. But the database's newest revision stands for its consistent
// index, each entry produces one revision or none, and revisions are given out one
// by one. So the writes of the log are laid beside the revisions of the database,
// both in their order, in the way that contradicts least.
//
// An entry that fits may still have produced nothing: a transaction may have taken
// its other branch, and the same request may have come twice. So several ways may be
// as good. It is done from the newest entry down, to the first and to the last place
// that is as good as any, and from each of these up, each time with the first chance
// taken: that gives the outermost ways. Only what comes out all ways is held to be
// proven. The same goes for contradictions. In a sound member the true way
// contradicts nothing, so none is ever reported of one. Where revisions are missing, each
// costs any way as much as the true one, so what is said of them is true, too; and where the
// last ones may be, the newest writes cost nothing without one.

// The costs of one way to lay them beside each other; what fits, and what may have
// produced nothing, costs nothing.
const (
	costOtherValue = 6  // the revision has the entry's key, with another value or lease
	costMissing    = 6  // the database lacks the revision, whichever entry produced it
	costOtherKey   = 12 // dearer than to be skipped: else many entries without a revision go any way
	costSkipped    = 8  // an entry that surely produced a revision has none
	costNobody     = 8  // a revision that no entry produced
	costChance     = 4  // an entry that may have produced nothing, though one revision has its records and no other entry leaves them

	costPruned = 24 // a way so much worse than the best one is given up
)

// beam is the number of ways that are followed at once: one for each number of revisions
// passed, next to each other. Some of it is room for the next step.
const (
	beam     = 64
	beamRoom = 8
)

// An alignment is how the writes of a log and the revisions of a database lie beside each
// other.
type alignment struct {
	writes []write // of the entries that the database has applied, as far back as the log and the records reach
	whole  bool    // they are all that the store was ever made of: each revision from 2 on has one
	cut    bool    // the database's last revisions may be missing: the newest writes may have none
	free   uint64  // index behind which neither authentication nor an alarm refused anything
	revs   *newest
	bytes  *logBytes

	answers map[pairing]bool // of explained
	only    []bool           // by write: see onlyOnes

	skipped  int     // of the writes, the oldest, which are laid beside nothing
	produced []int64 // by write: the revision that it produced; 0 when none, or when that is not proven
	fits     int     // how many are proven by their records
	wrong    []contradiction
}

// A contradiction is a place where the database is not what its log made of it.
type contradiction struct {
	write    int   // number of the write; -1 when it is not known
	revision int64 // 0 when the write has none
}

// align lays writes and revisions beside each other. ok is false when no way to do
// it leads from one end to the other.
func (a *alignment) align() (ok bool) {
	n := len(a.writes)
	a.only = a.onlyOnes()
	down := a.way(n, func(p int) int { return n - 1 - p }, a.revs.last, -1, len(a.revs.list))
	down.through = a.whole
	down.run()
	steps, first, last := down.ends()
	a.skipped = n - steps
	var paths []path
	for _, passed := range []int{first, last} {
		up := a.way(steps, func(p int) int { return a.skipped + p }, a.revs.last-int64(passed)+1, 1, passed)
		up.through = true
		up.run()
		if up.overflow || !up.reaches(passed) {
			return false
		}
		paths = append(paths, down.trace(wayEnd{steps, passed}), up.trace(wayEnd{steps, passed}))
	}
	a.agree(paths)
	return steps > 0
}

// agree keeps what all ways say.
func (a *alignment) agree(paths []path) {
	a.produced = make([]int64, len(a.writes))
	told := map[int64]bool{}
	for i := a.skipped; i < len(a.writes); i++ {
		rev := paths[0].produced[i]
		if slices.ContainsFunc(paths, func(p path) bool { return p.produced[i] != rev }) {
			continue
		}
		w := &a.writes[i]
		switch {
		case rev == 0:
			if a.sure(w) {
				a.wrong = append(a.wrong, contradiction{i, 0})
			}
		case a.fit(w, rev) == misfit:
			a.wrong = append(a.wrong, contradiction{i, rev})
			told[rev] = true
		default:
			a.produced[i] = rev
			a.fits++
		}
	}
	// They may blame different entries for what a revision holds.
	misfits := a.misfits(paths[0])
	for _, p := range paths[1:] {
		also := a.misfits(p)
		maps.DeleteFunc(misfits, func(rev int64, _ bool) bool { return !also[rev] })
	}
	for rev := range misfits {
		if !told[rev] {
			a.wrong = append(a.wrong, contradiction{-1, rev})
		}
	}
}

// misfits gives the revisions above the compact revision that no entry fits, on one path.
func (a *alignment) misfits(p path) map[int64]bool {
	set := map[int64]bool{}
	for i, rev := range p.produced {
		if rev > max(a.revs.compact, 0) && a.fit(&a.writes[i], rev) == misfit { // 0: none
			set[rev] = true
		}
	}
	for _, rev := range p.nobody {
		if rev > a.revs.compact {
			set[rev] = true
		}
	}
	return set
}

// onlyOnes says of each write that may have produced nothing whether a single revision has
// its records, and no other entry leaves them. It would be chance if another entry had
// produced that revision: one from before the log. Where what entries leave depends
// on the store, nothing is said.
func (a *alignment) onlyOnes() []bool {
	only := make([]bool, len(a.writes))
	type count struct{ writes, revisions int }
	counts := map[uint64]*count{}
	deletions := a.toldApart()
	for i := range a.writes {
		w := &a.writes[i]
		if w.mixed {
			return only
		}
		if !a.sure(w) {
			for _, sum := range w.sums() {
				counts[sum] = &count{}
			}
		}
	}
	if len(counts) == 0 {
		return only
	}
	for i := range a.writes {
		for _, sum := range a.writes[i].sums() {
			if n := counts[sum]; n != nil {
				n.writes++
			}
		}
	}
	for i := range a.revs.list {
		r := &a.revs.list[i]
		if n := counts[r.sum]; n != nil && (r.deletes == 0 || r.records == 1 && deletions(r.key)) {
			n.revisions++
		}
	}
	for i := range a.writes {
		if w := &a.writes[i]; !a.sure(w) {
			only[i] = slices.ContainsFunc(w.sums(), func(sum uint64) bool { return *counts[sum] == count{1, 1} })
		}
	}
	return only
}

// toldApart says of which keys a deletion was surely asked for by name: no range is
// deleted, and no lease ends that the key was put with.
func (a *alignment) toldApart() func(key uint64) bool {
	revoked, leased := map[int64]bool{}, map[uint64]bool{}
	for i := range a.writes {
		if w := &a.writes[i]; w.revokes {
			revoked[w.lease] = true
		}
	}
	for i := range a.writes {
		switch w := &a.writes[i]; {
		case w.ranges, w.leases, !w.revokes && revoked[w.lease] && w.key == 0:
			return func(uint64) bool { return false }
		case !w.revokes && revoked[w.lease]:
			leased[w.key] = true
		}
	}
	return func(key uint64) bool { return !leased[key] }
}

// sums gives the sums of what its branches write, as far as the entry alone tells.
func (w *write) sums() []uint64 {
	sums := make([]uint64, 0, 2)
	if w.success != 0 {
		sums = append(sums, w.success)
	}
	if w.failure != 0 && w.failure != w.success {
		sums = append(sums, w.failure)
	}
	return sums
}

// sure says whether a write produced a revision whatever the store held.
func (a *alignment) sure(w *write) bool { return w.sure && w.index > a.free }

// fitness says how a write and a revision go together.
type fitness uint8

const (
	misfit  fitness = iota
	weakFit         // nothing contradicts it: the records are gone
	fitting
)

func (a *alignment) fit(w *write, rev int64) fitness {
	r := a.revs.at(rev)
	compacted := rev <= a.revs.compact
	switch {
	case r.records == 0 && compacted:
		return weakFit
	case r.records == 0:
		return misfit
	case r.sum == w.success && w.success != 0, r.sum == w.failure && w.failure != 0:
		return fitting
	case w.several && compacted:
		return weakFit
	case w.loose && w.mayBegin(r.key) && a.explained(w, rev):
		return fitting
	}
	return misfit
}

// maxExplained is how many answers of explained are kept.
const maxExplained = 1 << 16

// explained says whether the operations of a write can have left the records of a
// revision. It is asked several times of the same two.
func (a *alignment) explained(w *write, rev int64) bool {
	pair := pairing{w.index, rev}
	yes, known := a.answers[pair]
	if !known {
		records, whole := a.revs.records(rev)
		yes = !whole || a.bytes.explains(w, records) // nothing is held against what is not seen in full
		if len(a.answers) == maxExplained {
			clear(a.answers)
		}
		a.answers[pair] = yes
	}
	return yes
}

type pairing struct {
	index    uint64
	revision int64
}

// cost gives what it costs to say that a write produced a revision; ok is false when
// that cannot be said.
func (a *alignment) cost(w *write, rev int64) (cost int32, ok bool) {
	r := a.revs.at(rev)
	switch f := a.fit(w, rev); {
	case f == fitting:
		return 0, true
	case f == weakFit:
		return 0, true
	case r.records == 0:
		return costMissing, true
	case r.records == 1 && r.key == w.key && w.key != 0:
		return costOtherValue, true
	case a.sure(w):
		return costOtherKey, true
	}
	return 0, false
}

// A way lays writes and revisions beside each other in one direction.
type way struct {
	*alignment
	write func(p int) int // number of the write at a step
	n     int             // steps
	first int64           // the first revision to be produced
	by    int64           // to the next one: 1 or -1
	total int             // revisions there are
	// through is set when all of them have to be passed in the end.
	through bool

	layers   []layer
	score    [beam]int32 // by revisions passed, from the last layer's low on
	overflow bool        // more ways were possible than are followed
	alone    wayEnd      // the last place that was better than all others after as many steps
}

// A layer says how each number of revisions passed was come to at one step.
type layer struct {
	low     int    // of the numbers that bit 0 stands for
	produce uint64 // bit per number: the write produced the revision before it
	nobody  uint64 // bit per number: nobody produced the revision before it
}

// A wayEnd is a place on a way: steps taken and revisions passed.
type wayEnd struct{ steps, passed int }

const unreachable = int32(1) << 30

func (a *alignment) way(n int, write func(int) int, first, by int64, total int) *way {
	return &way{alignment: a, write: write, n: n, first: first, by: by, total: total}
}

// revision gives the next revision when k have been passed.
func (v *way) revision(k int) int64 { return v.first + v.by*int64(k) }

// newest says whether no revision is newer than those that come next when k have been passed.
func (v *way) newest(k int) bool { return v.by < 0 && k == 0 || v.by > 0 && k == v.total }

// run takes all steps, or as many as can be followed.
func (v *way) run() {
	v.layers = make([]layer, 0, v.n+1)
	for i := range v.score {
		v.score[i] = unreachable
	}
	v.score[0] = 0
	v.settle(layer{})
	for p := range v.n {
		if v.overflow = !v.settle(v.step(p)); v.overflow {
			return
		}
	}
}

// step decides what the write at p did, for each number of revisions passed.
func (v *way) step(p int) layer {
	w := &v.writes[v.write(p)]
	l := layer{low: v.layers[p].low}
	none := int32(0)
	switch {
	case v.sure(w):
		none = costSkipped
	case v.only[v.write(p)]:
		none = costChance
	}
	before := v.score
	for i := range v.score {
		if !v.cut || !v.newest(l.low+i) {
			v.score[i] += none
		}
	}
	for i, s := range before {
		if k := l.low + i; s < unreachable && k < v.total {
			c, ok := v.cost(w, v.revision(k))
			// Whoever has passed the revision already took the first chance.
			if ok && s+c < v.score[i+1] {
				v.score[i+1] = s + c
				l.produce |= 1 << (i + 1)
			}
		}
	}
	return l
}

// settle lets revisions be passed that nobody produced, gives up what is much worse than
// the best way, and stores the rest. It says whether all of that can be followed.
func (v *way) settle(l layer) bool {
	best := unreachable
	for i := range v.score {
		if i > 0 && l.low+i <= v.total && v.score[i-1]+costNobody < v.score[i] {
			v.score[i] = v.score[i-1] + costNobody
			l.produce &^= 1 << i
			l.nobody |= 1 << i
		}
		if v.through && l.low+i < v.total-(v.n-len(v.layers)) {
			v.score[i] = unreachable // too few steps are left
		}
		best = min(best, v.score[i])
	}
	if best == unreachable {
		return false
	}
	lowest, highest := beam, 0
	for i := range v.score {
		if v.score[i] -= best; v.score[i] > costPruned {
			v.score[i] = unreachable
		} else {
			lowest, highest = min(lowest, i), i
		}
	}
	if highest-lowest >= beam-beamRoom {
		return false
	}
	if at := slices.Index(v.score[:], 0); !slices.Contains(v.score[at+1:], 0) {
		v.alone = wayEnd{len(v.layers), l.low + at}
	}
	copy(v.score[:], v.score[lowest:])
	for i := beam - lowest; i < beam; i++ {
		v.score[i] = unreachable
	}
	v.layers = append(v.layers, layer{l.low + lowest, l.produce >> lowest, l.nobody >> lowest})
	return true
}

// ends gives the ends of the best ways: behind all steps, the one that has passed the
// fewest revisions and the one that has passed the most. Where there were too
// many ways, it is the last place that was the only best one.
func (v *way) ends() (steps, first, last int) {
	if v.overflow {
		return v.alone.steps, v.alone.passed, v.alone.passed
	}
	best := slices.Min(v.score[:])
	first, last = -1, 0
	for i, s := range v.score {
		if s == best {
			if last = v.layers[v.n].low + i; first < 0 {
				first = last
			}
		}
	}
	return v.n, first, last
}

// reaches says whether a way leads to a place behind all steps.
func (v *way) reaches(passed int) bool {
	i := passed - v.layers[v.n].low
	return i >= 0 && i < beam && v.score[i] < unreachable
}

// A path is one way from begin to end.
type path struct {
	produced []int64 // by write
	nobody   []int64 // revisions that nobody produced
}

// trace follows a way back from its end.
func (v *way) trace(end wayEnd) path {
	t := path{produced: make([]int64, len(v.writes))}
	k := end.passed
	for p := end.steps; p >= 0; p-- {
		l := &v.layers[p]
		for l.nobody>>(k-l.low)&1 != 0 {
			k--
			t.nobody = append(t.nobody, v.revision(k))
		}
		if p > 0 && l.produce>>(k-l.low)&1 != 0 {
			k--
			t.produced[v.write(p-1)] = v.revision(k)
		}
	}
	return t
}

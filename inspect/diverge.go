package inspect

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/scan"
)

// A holder is a source whose records are compared.
type holder struct {
	x        *examination
	revision int64      // its newest
	compact  int64      // below which it holds only what a compaction keeps
	settled  bool       // no compaction is under way
	rows     *scan.Rows // nil while its tree is released
}

func newHolder(x *examination) *holder {
	d := x.db
	return &holder{
		x: x, revision: d.revision(), compact: d.meta.revision(), settled: d.meta.scheduled <= d.meta.finished,
	}
}

// open makes its records readable.
func (h *holder) open(ctx context.Context) error {
	if h.rows != nil {
		return nil
	}
	if err := h.x.db.tree.Restore(ctx); err != nil {
		return fmt.Errorf("%s: %w", h.x.db.file.Path, err)
	}
	h.rows = scan.NewRows(h.x.db.tree, h.x.db.keyBucket())
	return nil
}

func (h *holder) close() {
	h.x.release()
	h.rows = nil
}

// compareHolders sorts by what does not depend on the order of the paths.
func compareHolders(a, b *holder) int {
	return cmp.Or(cmp.Compare(deref(a.x.member.MemberID, 0), deref(b.x.member.MemberID, 0)), cmp.Compare(b.revision, a.revision),
		cmp.Compare(a.x.src.Path, b.x.src.Path))
}

// keyBucket gives the number of bucket key, -1 when there is none.
func (d *database) keyBucket() int {
	if b, ok := d.bucket[keyspace.BucketKey]; ok {
		return b
	}
	return -1
}

// divergences finds where holders differ.
//
// Above the highest compact revision all of them hold every record, so each must
// hold the same ones, up to the lowest of their revisions: sums of blocks of
// revisions, taken in the pass, tell which blocks differ, and only these are read
// again. At or below it they hold what the compaction keeps, the newest record of
// each key that is there: the sums of that are compared when all were compacted at
// the same revision, and otherwise the states of the keys as of it, in a pass of
// their own.
type divergences struct {
	ctx     context.Context
	holders []*holder
	limit   int // differences listed

	open      bool            // all trees stay restored: see openAll
	told      map[string]bool // differences that are in list, by revision and key
	more      int64           // differences beyond those in list
	moreLast  int64           // their highest revision
	strangers []*holder       // those of another store
	behind    []*holder       // those whose newest revision others have compacted away
	common    int64           // the lowest revision
	compact   int64           // the highest compact revision
	list      []difference
}

// A difference is one record that is not the same everywhere.
type difference struct {
	revision keyspace.Revision
	key      []byte
	kind     string
	blamed   []*holder // those that a majority or the log contradicts
	between  []*holder
	index    *uint64
}

// find compares all of them.
func (d *divergences) find() error {
	if err := d.sortOut(); err != nil || len(d.holders) < 2 {
		return err
	}
	d.bounds()
	d.told = map[string]bool{}
	if err := d.compareSegments(); err != nil {
		return err
	}
	if err := d.compareBase(); err != nil {
		return err
	}
	if err := d.compareIndexes(); err != nil {
		return err
	}
	slices.SortStableFunc(d.list, func(a, b difference) int { return cmp.Or(a.revision.Compare(b.revision), bytes.Compare(a.key, b.key)) })
	return nil
}

// bounds finds the lowest revision and the highest compact revision, and those whose
// newest revision lies below that.
func (d *divergences) bounds() {
	d.compact = -1
	for _, h := range d.holders {
		d.compact = max(d.compact, h.compact)
	}
	d.behind = nil
	d.common = 0
	for _, h := range d.holders {
		if h.revision < d.compact {
			d.behind = append(d.behind, h)
		}
		if d.common == 0 || h.revision < d.common {
			d.common = h.revision
		}
	}
}

// level are those that have a state at the highest compact revision.
func (d *divergences) level() (list []*holder) {
	for _, h := range d.holders {
		if !slices.Contains(d.behind, h) {
			list = append(list, h)
		}
	}
	return list
}

// sortOut leaves out the lone files that are of another store: a directory names
// its cluster, a file does not.
func (d *divergences) sortOut() error {
	first, err := d.reference()
	if first == nil || err != nil {
		return err
	}
	kept := d.holders[:0:0]
	for _, h := range d.holders {
		if h != first && h.x.member.ClusterID == nil {
			related, err := d.related(first, h)
			if err != nil {
				return err
			}
			if !related {
				d.strangers = append(d.strangers, h)
				continue
			}
		}
		kept = append(kept, h)
	}
	d.holders = kept
	return nil
}

// maxPairs bounds the files that are each held against each other to find out which
// store most of them are of.
const maxPairs = 8

// reference is the holder that the others are held against: one that names the
// cluster, or the file that most others are related to.
func (d *divergences) reference() (*holder, error) {
	if i := slices.IndexFunc(d.holders, func(h *holder) bool { return h.x.member.ClusterID != nil }); i >= 0 {
		return d.holders[i], nil
	}
	var best *holder
	most := -1
	for i, h := range d.holders {
		n := 0
		for _, o := range d.holders {
			if o == h || len(d.holders) > maxPairs {
				continue
			}
			related, err := d.related(h, o)
			if err != nil {
				return nil, err
			}
			if related {
				n++
			}
		}
		if n > most {
			best, most = d.holders[i], n
		}
	}
	return best, nil
}

// related says whether two are of one store: more of their keys agree than contradict.
func (d *divergences) related(a, b *holder) (bool, error) {
	if d.alike(a, b) {
		return true, nil
	}
	same, differ, err := d.shared(a, b)
	return differ <= same, err
}

// alike says whether the sums alone show two to be of one store: the same base, or a
// whole block of revisions that both hold.
func (d *divergences) alike(a, b *holder) bool {
	if a.compact == b.compact && a.settled && b.settled && a.x.db.blocks.Base == b.x.db.blocks.Base && a.x.db.blocks.Base.Records > 0 {
		return true
	}
	lo, hi := max(a.compact, b.compact), min(a.revision, b.revision)
	for at, sum := range a.x.db.blocks.Above {
		if at<<scan.BlockBits > lo && (at+1)<<scan.BlockBits <= hi+1 && b.x.db.blocks.Above[at] == sum {
			return true
		}
	}
	return false
}

// openAll makes the records of all of them readable, and keeps them so: where they
// differ they are read side by side.
func (d *divergences) openAll() error {
	d.open = true
	for _, h := range d.holders {
		if err := h.open(d.ctx); err != nil {
			return err
		}
	}
	return nil
}

// close gives up the tree of one that is read by itself.
func (d *divergences) close(h *holder) {
	if !d.open {
		h.close()
	}
}

// pass reads all records of one again.
func (d *divergences) pass(h *holder, consumer scan.Consumer) error {
	if err := h.open(d.ctx); err != nil {
		return err
	}
	defer d.close(h)
	_, err := scan.Run(d.ctx, h.x.db.tree, scan.Options{Again: true}, consumer)
	return err
}

// shared counts the keys that two have in common, and those that contradict.
func (d *divergences) shared(a, b *holder) (same, differ int64, err error) {
	if a.revision > b.revision {
		a, b = b, a
	}
	differ64, difference, err := d.states(a, b, 0, 0)
	if err != nil {
		return 0, 0, err
	}
	differ = differ64.Contradictions(a.revision)
	return difference.Same, differ, nil
}

// states compares the keys of two as of revisions, 0 for the newest.
func (d *divergences) states(a, b *holder, atA, atB int64) (*scan.Difference, *scan.DiffCounts, error) {
	differ := scan.NewDiffer()
	if err := d.pass(a, differ.Of(scan.Old, a.x.db.keyBucket(), atA)); err != nil {
		return nil, nil, err
	}
	if err := d.pass(b, differ.Of(scan.New, b.x.db.keyBucket(), atB)); err != nil {
		return nil, nil, err
	}
	difference := differ.Finish()
	return difference, &difference.Counts, nil
}

// compareBase compares what is left at or below the highest compact revision.
func (d *divergences) compareBase() error {
	if d.compact < 0 {
		return nil
	}
	level := d.level()
	if len(level) == 0 {
		return nil
	}
	first := level[0]
	differing := map[string]*baseKey{}
	for _, h := range d.holders {
		isBehind := slices.Contains(d.behind, h)
		if h == first || !isBehind && h.compact == first.compact && h.settled && first.settled && h.x.db.blocks.Base == first.x.db.blocks.Base {
			continue
		}
		if err := d.compareStates(first, h, isBehind, differing); err != nil {
			return err
		}
	}
	if len(differing) == 0 {
		return nil
	}
	if err := d.openAll(); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(differing)) {
		d.addBase(first, []byte(key), differing[key])
	}
	return nil
}

// A baseKey is a key whose state at the compact revision differs from the first
// holder's.
type baseKey struct {
	revision int64
	kind     map[*holder]string
}

// maxBaseKeys bounds the keys collected; a database put back from long ago differs
// in all of them.
const maxBaseKeys = 1 << 16

// compareStates collects the keys whose states at the compact revision differ
// between two. One whose newest revision has been compacted away by the first is
// held against what the first has not written since.
func (d *divergences) compareStates(first, h *holder, isBehind bool, differing map[string]*baseKey) error {
	at, visible := d.compact, d.compact
	if isBehind {
		at, visible = 0, h.revision
	}
	difference, counts, err := d.states(h, first, at, at)
	if err != nil || counts.Added+counts.Removed+counts.Changed+counts.Recreated == 0 {
		return err
	}
	var mu sync.Mutex
	add := func(e *scan.Differing) {
		if isBehind && (e.NewRevision == 0 || e.NewRevision > visible) {
			return // written or deleted since
		}
		mu.Lock()
		defer mu.Unlock()
		k := differing[string(e.Key)]
		if k == nil {
			if len(differing) >= maxBaseKeys {
				d.more++
				d.moreLast = max(d.moreLast, e.OldRevision, e.NewRevision)
				return
			}
			k = &baseKey{revision: max(e.OldRevision, e.NewRevision), kind: map[*holder]string{}}
			differing[string(e.Key)] = k
		}
		k.revision = min(k.revision, max(e.OldRevision, e.NewRevision))
		k.kind[h] = kindOfState(e)
	}
	if err := d.pass(first, difference.Names(scan.New, first.x.db.keyBucket(), at, add)); err != nil || isBehind {
		return err
	}
	return d.pass(h, difference.Names(scan.Old, h.x.db.keyBucket(), at, add))
}

// kindOfState says how the old side, a holder, differs from the new one, the first.
func kindOfState(e *scan.Differing) string {
	switch {
	case e.OldRevision == 0:
		return DivergenceMissing
	case e.NewRevision == 0:
		return DivergenceExtra
	case e.ValueChanged:
		return DivergenceValue
	}
	return DivergenceMetadata
}

// addBase adds a key of the base.
func (d *divergences) addBase(first *holder, key []byte, k *baseKey) {
	rev := keyspace.Revision{Main: k.revision}
	if d.told[mark(rev.Main, key)] {
		return
	}
	diff := difference{revision: rev, key: key, between: []*holder{first}}
	states := map[*holder]uint64{first: 0}
	number := map[string]uint64{}
	for _, h := range d.holders {
		kind := k.kind[h]
		if kind == "" {
			states[h] = 0
			continue
		}
		if number[kind] == 0 {
			number[kind] = uint64(len(number) + 1)
			diff.kind = kind
		}
		states[h] = number[kind]
		diff.between = append(diff.between, h)
	}
	d.blame(&diff, states)
	if slices.Contains(diff.blamed, first) {
		diff.kind = opposite(diff.kind)
	} else if len(diff.blamed) > 0 {
		diff.kind = k.kind[diff.blamed[0]]
	}
	d.list = append(d.list, diff)
}

// mark names a difference.
func mark(revision int64, key []byte) string { return fmt.Sprint(revision, " ", string(key)) }

func opposite(kind string) string {
	switch kind {
	case DivergenceMissing:
		return DivergenceExtra
	case DivergenceExtra:
		return DivergenceMissing
	}
	return kind
}

// walk goes through the records of several holders side by side.
func (d *divergences) walk(level []*holder, lists [][]stamp) {
	for {
		var next *keyspace.Revision
		for _, l := range lists {
			if len(l) > 0 && (next == nil || compareStamps(l[0].revision, *next) < 0) {
				next = &l[0].revision
			}
		}
		if next == nil {
			return
		}
		rev := *next
		states := map[uint64][]*holder{} // by sum; 0 for those that lack it
		for i, l := range lists {
			sum := uint64(0)
			if len(l) > 0 && compareStamps(l[0].revision, rev) == 0 {
				sum = max(l[0].sum, 1)
				lists[i] = l[1:]
			}
			states[sum] = append(states[sum], level[i])
		}
		if len(states) > 1 {
			d.addRecord(rev, states)
		}
	}
}

// compareStamps orders by main and sub revision: a tombstone and a value at one
// place are two states of it.
func compareStamps(a, b keyspace.Revision) int {
	return cmp.Or(cmp.Compare(a.Main, b.Main), cmp.Compare(a.Sub, b.Sub))
}

// addRecord adds one record above the compact revisions.
func (d *divergences) addRecord(rev keyspace.Revision, states map[uint64][]*holder) {
	if len(d.list) >= maxBaseKeys {
		d.more++
		d.moreLast = max(d.moreLast, rev.Main)
		return
	}
	diff := difference{revision: rev}
	of := map[*holder]uint64{}
	for _, sum := range slices.Sorted(maps.Keys(states)) {
		for _, h := range states[sum] {
			of[h] = sum
			diff.between = append(diff.between, h)
		}
	}
	slices.SortFunc(diff.between, compareHolders)
	lack := states[0]
	has := slices.DeleteFunc(slices.Clone(diff.between), func(h *holder) bool { return slices.Contains(lack, h) })
	diff.key = has[0].keyAt(rev)
	d.blame(&diff, of)
	switch {
	case len(lack) == 0:
		diff.kind = kindOfRecords(rev, states)
	case len(diff.blamed) > 0 && !slices.Contains(lack, diff.blamed[0]):
		diff.kind = DivergenceExtra
		diff.key = diff.blamed[0].keyAt(rev)
	default:
		diff.kind = DivergenceMissing
	}
	d.told[mark(rev.Main, diff.key)] = true
	d.list = append(d.list, diff)
}

// recordAt gives a record's value, nil when there is none.
func (h *holder) recordAt(rev keyspace.Revision) (value []byte, tombstone bool) {
	h.between(rev.Main, rev.Main, func(at keyspace.Revision, _, v []byte) bool {
		if at.Sub == rev.Sub {
			value, tombstone = bytes.Clone(v), at.Tombstone
			return false
		}
		return at.Sub < rev.Sub
	})
	return value, tombstone
}

func (h *holder) keyAt(rev keyspace.Revision) []byte {
	value, _ := h.recordAt(rev)
	kv, err := keyspace.DecodeKeyValue(value)
	if err != nil {
		return nil
	}
	return kv.Key
}

// kindOfRecords says how the records of one revision differ.
func kindOfRecords(rev keyspace.Revision, states map[uint64][]*holder) string {
	var first *keyspace.KeyValue
	for _, sum := range slices.Sorted(maps.Keys(states)) {
		value, _ := states[sum][0].recordAt(rev)
		kv, err := keyspace.DecodeKeyValue(value)
		if err != nil {
			return DivergenceValue
		}
		if first == nil {
			first = &kv
		} else if !bytes.Equal(kv.Key, first.Key) || !bytes.Equal(kv.Value, first.Value) {
			return DivergenceValue
		}
	}
	return DivergenceMetadata
}

// blame decides who is wrong: first those whose own log or hash contradicts them, and
// whoever says the same; otherwise those whom a majority of the voters contradicts,
// each counted once however many copies of it are there; otherwise all but those whose own
// log proves their record.
func (d *divergences) blame(diff *difference, states map[*holder]uint64) {
	contradicted, proven := map[uint64]bool{}, map[uint64]bool{}
	votes, voters := map[uint64]map[ID]bool{}, map[ID]bool{}
	all := map[uint64]bool{}
	for h, state := range states {
		all[state] = true
		if h.x.contradictedAt(diff.revision.Main) {
			contradicted[state] = true
		}
		if votes[state] == nil {
			votes[state] = map[ID]bool{}
		}
		if id := h.x.member.MemberID; id != nil && h.x.votes() {
			votes[state][*id], voters[*id] = true, true
		}
	}
	var winner *uint64
	for state := range all {
		if len(voters) > 2 && 2*len(votes[state]) > len(voters) {
			winner = &state
		}
	}
	switch {
	case len(contradicted) > 0 && len(contradicted) < len(all):
		diff.accuse(states, func(state uint64) bool { return contradicted[state] })
	case winner != nil:
		diff.accuse(states, func(state uint64) bool { return state != *winner })
	default:
		for h, state := range states {
			if h.x.producedAt(diff.revision.Main) != nil {
				proven[state] = true
			}
		}
		if len(proven) == 1 {
			diff.accuse(states, func(state uint64) bool { return !proven[state] })
		}
	}
	diff.index = entryBehind(states, diff.blamed, diff.revision.Main)
}

func (d *difference) accuse(states map[*holder]uint64, wrong func(state uint64) bool) {
	for h, state := range states {
		if wrong(state) {
			d.blamed = append(d.blamed, h)
		}
	}
	slices.SortFunc(d.blamed, compareHolders)
}

// votes says whether a source speaks for a voter of the cluster.
func (x *examination) votes() bool {
	id := x.member.MemberID
	return id != nil && !slices.Contains(x.member.Membership.Removed, *id) && !x.isLearner(*id)
}

// entryBehind gives the entry that a log of those who are not blamed proves to have
// produced a revision.
func entryBehind(states map[*holder]uint64, blamed []*holder, revision int64) *uint64 {
	for _, h := range slices.SortedFunc(maps.Keys(states), compareHolders) {
		if slices.Contains(blamed, h) {
			continue
		}
		if index := h.x.producedAt(revision); index != nil {
			return index
		}
	}
	return nil
}

// contradictedAt says whether the member's own log contradicts its database at a
// revision, or a snapshot's hash its content.
func (x *examination) contradictedAt(revision int64) bool {
	return slices.ContainsFunc(x.findings, func(f Finding) bool {
		return f.Code == CodeSnapshotHashMismatch || f.Code == CodeMVCCWALMismatch && f.Location.Revision != nil && *f.Location.Revision == revision
	})
}

// producedAt gives the entry of the member's own log that produced a revision,
// where that is proven; nil otherwise.
func (x *examination) producedAt(revision int64) *uint64 {
	if !x.alignedOnce {
		x.alignedOnce = true
		x.aligned = x.alignLog(x.db.revision())
	}
	if x.aligned == nil {
		return nil
	}
	for i, rev := range x.aligned.produced {
		if rev == revision {
			return &x.aligned.writes[i].index
		}
	}
	return nil
}

// compareIndexes finds members that have applied the same entries and are at
// different revisions, though all records that both hold are the same.
func (d *divergences) compareIndexes() error {
	if len(d.list) > 0 {
		return nil
	}
	for i, a := range d.holders {
		for _, b := range d.holders[i+1:] {
			if a.x.db.meta.index == 0 || a.x.db.meta.index != b.x.db.meta.index || a.revision == b.revision || a.x.db.meta.revision() >= min(a.revision, b.revision)+1 {
				continue
			}
			less, more := a, b
			if a.revision > b.revision {
				less, more = b, a
			}
			if err := d.openAll(); err != nil {
				return err
			}
			rev := keyspace.Revision{Main: less.revision + 1}
			diff := difference{revision: rev, key: more.keyAt(rev), kind: DivergenceMissing, between: []*holder{a, b}}
			d.blame(&diff, map[*holder]uint64{less: 0, more: 1})
			if slices.Contains(diff.blamed, more) {
				diff.kind = DivergenceExtra
			}
			d.list = append(d.list, diff)
			return nil
		}
	}
	return nil
}

// known names the deletions at the compact revision: servers before 3.4.34, 3.5.16
// and 3.6 delete them, later ones keep them, so that members of one cluster can
// differ in them for a while (https://github.com/etcd-io/etcd/issues/18089).
func (d *divergences) known(c *Comparison) {
	for _, h := range d.holders {
		if n := h.x.db.blocks.Deletions; slices.ContainsFunc(d.holders, func(o *holder) bool { return o.compact == h.compact && o.x.db.blocks.Deletions < n }) {
			c.Known = append(c.Known, NotCompared{h.x.src.Path, fmt.Sprintf("it holds %s at the compact revision %d, which some versions of etcd keep and others do not: no divergence", deletions(n), h.compact)})
		}
	}
	slices.SortFunc(c.Known, func(a, b NotCompared) int { return cmp.Compare(a.Member, b.Member) })
}

func deletions(n int64) string {
	if n == 1 {
		return "1 deletion"
	}
	return fmt.Sprintf("%d deletions", n)
}

// report turns differences into what the comparison lists and the findings.
func (d *divergences) report(c *Comparison) []Finding {
	spread := map[string]*Diverging{}
	firsts := map[string]difference{}
	for _, diff := range d.list {
		names := []string{}
		for _, h := range diff.blamed {
			names = append(names, h.x.src.Path)
		}
		if len(names) == 0 {
			names = []string{""}
		}
		for _, name := range names {
			s := spread[name]
			if s == nil {
				s = &Diverging{Member: name, FirstRevision: diff.revision.Main}
				spread[name] = s
				firsts[name] = diff
			}
			s.Differences++
			s.LastRevision = diff.revision.Main
			if len(c.Divergences) < d.limit {
				c.Divergences = append(c.Divergences, Divergence{
					Revision: diff.revision.Main, Key: diff.key, Member: name, Between: pathsOf(diff.between), Kind: diff.kind, Index: diff.index})
			}
		}
	}
	if d.more > 0 { // of whom, was not found out
		for _, s := range spread {
			s.AtLeast, s.LastRevision = true, max(s.LastRevision, d.moreLast)
		}
	}
	var findings []Finding
	for _, name := range slices.Sorted(maps.Keys(spread)) {
		c.Diverging = append(c.Diverging, *spread[name])
		f := divergedFinding(name, firsts[name], spread[name])
		if name == "" {
			findings = append(findings, f)
			continue
		}
		for _, h := range firsts[name].blamed {
			if first := firsts[name]; h.x.src.Path == name {
				f.Message += knownIncident(h, &first)
				f.Location.File = h.x.db.file.Path
				h.x.find(f)
				h.x.diverged = true
			}
		}
	}
	for _, h := range d.strangers {
		h.x.find(newFinding(CodeClusterOtherStore, h.x.src.Path, "more of its keys contradict those of the others than agree with them: it is of another cluster").inFile(h.x.db.file.Path))
	}
	return findings
}

func pathsOf(holders []*holder) []string {
	paths := []string{}
	for _, h := range holders {
		paths = append(paths, h.x.src.Path)
	}
	return paths
}

func divergedFinding(name string, first difference, s *Diverging) Finding {
	says := map[string]string{
		DivergenceMissing: "lacks the record", DivergenceExtra: "has a record that the others lack",
		DivergenceValue: "has another value", DivergenceMetadata: "has another version, create revision or lease",
	}[first.kind]
	who := name
	if who == "" {
		who = "nothing decides which is right: one"
	}
	message := fmt.Sprintf("%s %s at revision %d (key %s)", who, says, s.FirstRevision, quoteKey(first.key))
	if first.index != nil {
		message += fmt.Sprintf(", which entry %d wrote", *first.index)
	}
	if s.Differences > 1 {
		atLeast := ""
		if s.AtLeast {
			atLeast = "at least "
		}
		message += fmt.Sprintf("; %s%d records differ, up to revision %d", atLeast, s.Differences, s.LastRevision)
	}
	f := newFinding(CodeClusterDiverged, name, message).atRevision(s.FirstRevision)
	f.Location.Key = first.key
	if first.index != nil {
		f = f.atIndex(*first.index)
	}
	return f
}

package recover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
)

// A consulted log is one that was laid beside the new file.
type consulted struct {
	path string
	inspect.Accounts
}

// A council is what the logs at hand say of the new file.
type council struct {
	logs  []consulted
	leads map[int64]*lead // by revision
	ends  []*lead         // that surely produced a revision which is not there, by index
	low   []*lowWrites    // by log
	more  bool            // there were more than are kept

	versions map[string][]version         // of the keys that leads name, as the new file has them
	records  map[keyspace.Revision]record // at the revisions of leads, by place
	blocks   []Span                       // revisions of which nothing says what they wrote
	byKey    map[string][]*lead           // see naming
}

// sourcesWithLogs lists the file's own member and the others that come with a log.
func (j *job) sourcesWithLogs() []*source.Source {
	var list []*source.Source
	for _, s := range append([]*source.Source{j.source}, j.opts.With...) {
		if len(s.WAL) > 0 {
			list = append(list, s)
		}
	}
	return list
}

// opened opens the new file while it is not in its place yet.
func (j *job) opened(ctx context.Context) (*source.Source, error) {
	sources, problems := source.Open(ctx, []string{j.part}, source.Options{})
	if len(problems) > 0 {
		for _, s := range sources {
			s.Close()
		}
		return nil, errors.Join(problems...)
	}
	return sources[0], nil
}

// consult lays the logs at hand beside the new file. They decide what is taken where
// there are copies with other bytes, and fill holes as far as they prove all of a
// revision. again says that the file has to be written anew.
func (j *job) consult(ctx context.Context) (again bool, err error) {
	j.council = &council{leads: map[int64]*lead{}}
	logs := j.sourcesWithLogs()
	if len(logs) == 0 {
		return false, nil
	}
	s, err := j.opened(ctx)
	if err != nil {
		return false, err
	}
	defer s.Close()
	if err = j.listen(ctx, logs, s.DB); err != nil || len(j.council.leads) == 0 || !j.result.CompactionKnown {
		return false, err
	}
	tree, err := records(ctx, s.DB)
	if err != nil {
		return false, err
	}
	j.council.read(tree)
	j.council.block(j)
	j.council.solve(j)
	return j.settleByLogs(), nil
}

// listen asks each log about the new file.
func (j *job) listen(ctx context.Context, logs []*source.Source, db *source.File) error {
	c := j.council
	wanted := map[int64]bool{}
	for _, x := range j.contests {
		wanted[x.rev.Main] = true
	}
	for _, main := range j.edges() {
		wanted[main] = true
	}
	size := 0
	compacted, low := j.CompactRevision(), !j.lowWhole()
	for n, s := range logs {
		from := newLowWrites(s.Path)
		of, err := inspect.AccountFor(ctx, s, db, j.endLost(), j.opts.Limits, func(rev int64) bool { return wanted[rev] || low && rev <= compacted }, func(a inspect.Account) {
			if a.Agrees && a.Revision <= compacted {
				from.add(a)
			}
			if a.Agrees && !wanted[a.Revision] {
				return
			}
			if size > maxLeadBytes || len(c.leads)+len(c.ends) >= maxLeads {
				c.more = true
				return
			}
			l := newLead(a)
			l.log, l.by = n, fmt.Sprintf("the log of %s, entry %d", s.Path, a.Index)
			size += l.bytes()
			c.add(l)
		})
		if err != nil {
			return err
		}
		c.logs = append(c.logs, consulted{s.Path, of})
		c.low = append(c.low, from)
	}
	slices.SortStableFunc(c.ends, func(x, y *lead) int { return cmp.Compare(x.index, y.index) })
	c.ends = slices.CompactFunc(c.ends, func(x, y *lead) bool { return x.index == y.index })
	return nil
}

// add takes a lead. Of two logs the first counts, as long as both name one entry.
func (c *council) add(l *lead) {
	if l.revision == 0 {
		c.ends = append(c.ends, l)
		return
	}
	if other := c.leads[l.revision]; other != nil {
		if other.index != l.index {
			other.whole, other.open, other.agrees, other.disputed = false, true, false, true
		}
		return
	}
	c.leads[l.revision] = l
}

// edges lists the main revisions at which a range begins or ends that the tree has lost, or
// of which operations are missing: some of the transaction may be there.
func (j *job) edges() []int64 {
	var list []int64
	for _, l := range j.result.Lost {
		if l.Bucket != keyspace.BucketKey {
			continue
		}
		for _, key := range [][]byte{l.From, l.To} {
			if rev, _, ok := boundOf(key); ok {
				list = append(list, rev.Main)
			}
		}
	}
	for _, rev := range j.partialAll {
		list = append(list, rev.Main)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// read collects from the new file what it has of the keys and revisions of the leads.
func (c *council) read(tree *snapdb.Tree) {
	c.versions, c.records = map[string][]version{}, map[keyspace.Revision]record{}
	for _, l := range c.leads {
		for _, w := range l.writes {
			c.versions[string(w.key)] = nil
		}
	}
	for row := range rows(tree, keyspace.BucketKey) {
		rev, ok := keyspace.DecodeRevision(row.Key)
		kv, err := keyspace.DecodeKeyValue(row.Value)
		if !ok || err != nil {
			continue
		}
		if l := c.leads[rev.Main]; l != nil {
			rec := record{rev: rev, kv: kv}
			rec.Key, rec.Value = slices.Clone(row.Key), slices.Clone(row.Value)
			rec.kv, _ = keyspace.DecodeKeyValue(rec.Value)
			c.records[place(rev)] = rec
		}
		if list, asked := c.versions[string(kv.Key)]; asked {
			c.versions[string(kv.Key)] = append(list, version{rev, kv.CreateRevision, kv.Version})
		}
	}
}

// block lists the revisions of which nothing says what they wrote: those that are missing,
// or may be missing in part, and of which no log tells.
func (c *council) block(j *job) {
	spans := slices.Clone(j.missing)
	for _, main := range j.edges() {
		if main > j.CompactRevision() {
			spans = append(spans, Span{main, main})
		}
	}
	c.blocks = c.unknown(spans)
	slices.SortFunc(c.blocks, func(x, y Span) int { return cmp.Compare(x.First, y.First) })
	last := int64(0) // spans overlap only where one is a single revision at the other's end
	for i := range c.blocks {
		last = max(last, c.blocks[i].Last)
		c.blocks[i].Last = last
	}
}

// blocked says whether something between two main revisions, without them, may have written
// a key that is neither in the new file nor proven.
func (c *council) blocked(key []byte, after, before int64) bool {
	n := sort.Search(len(c.blocks), func(i int) bool { return c.blocks[i].Last > after })
	if n < len(c.blocks) && c.blocks[n].First < before {
		return true
	}
	for _, l := range c.naming(key) {
		if l.revision > after && l.revision < before && !l.agrees && !l.solved {
			return true
		}
	}
	return false
}

// naming lists the leads that may have written a key.
func (c *council) naming(key []byte) []*lead {
	if c.byKey == nil {
		c.byKey = map[string][]*lead{}
		for _, rev := range c.revisions() {
			l := c.leads[rev]
			for _, w := range l.writes {
				c.byKey[string(w.key)] = append(c.byKey[string(w.key)], l)
			}
		}
	}
	return c.byKey[string(key)]
}

func (c *council) revisions() []int64 {
	list := make([]int64, 0, len(c.leads))
	for rev := range c.leads {
		list = append(list, rev)
	}
	slices.Sort(list)
	return list
}

// solveRounds bounds how often leads are gone through, up and down in turn: what is proven
// of one may prove its neighbours.
const solveRounds = 8

// solve proves the versions of the records that leads leave, from the records of the same
// keys around them.
func (c *council) solve(j *job) {
	order := c.revisions()
	for round, progress := 0, true; progress && round < solveRounds; round++ {
		progress = false
		for _, rev := range order {
			if l := c.leads[rev]; l.whole && !l.agrees && !l.solved {
				if made, ok := c.prove(j, l); ok {
					c.accept(l, made)
					progress = true
				}
			}
		}
		slices.Reverse(order)
	}
}

// prove gives the records of a lead with their versions; ok is false when one of them is
// not proven.
func (c *council) prove(j *job, l *lead) (list []record, ok bool) {
	for n := range l.writes {
		w := &l.writes[n]
		rev := keyspace.Revision{Main: l.revision, Sub: int64(n), Tombstone: w.deletes}
		have, there := c.records[place(rev)]
		if there && w.left(&have) {
			list = append(list, have)
			continue
		}
		m := made{by: l.by, kv: keyspace.KeyValue{Key: w.key, Value: w.value, Lease: w.lease}}
		if !w.deletes {
			same := there && !have.rev.Tombstone && string(have.kv.Key) == string(w.key)
			if m.kv.CreateRevision, m.kv.Version, ok = c.lineage(j, w.key, l.revision); !ok {
				if !same {
					return nil, false
				}
				m.kv.CreateRevision, m.kv.Version = have.kv.CreateRevision, have.kv.Version
			}
		}
		rec := m.record(rev)
		if _, _, p := prove(rec.Key, rec.Value); p == unproven || p == byPage {
			return nil, false
		}
		list = append(list, rec)
	}
	return list, true
}

// lineage tells create revision and version of what was put at a revision, from the
// record of the key before it, or the one behind it, or both.
// At or below the compact revision that there is none proves nothing: a compaction leaves
// of each key the last version.
func (c *council) lineage(j *job, key []byte, rev int64) (create, number int64, ok bool) {
	if rev <= j.CompactRevision() {
		return 0, 0, false
	}
	list := c.versions[string(key)]
	at := sort.Search(len(list), func(i int) bool { return list[i].rev.Main >= rev })
	n := sort.Search(len(list), func(i int) bool { return list[i].rev.Main > rev })
	before := version{rev: keyspace.Revision{Tombstone: true}} // the key was not there
	if at > 0 {
		before = list[at-1]
	}
	from := max(before.rev.Main, j.CompactRevision())
	low := before.rev.Main > j.CompactRevision() || j.lowWhole()
	if low && !c.blocked(key, from, rev) {
		create, number, ok = rev, 1, true
		if !before.rev.Tombstone {
			create, number = before.create, before.version+1
		}
	}
	if n == len(list) || list[n].rev.Tombstone || list[n].version < 2 || c.blocked(key, rev, list[n].rev.Main) {
		return create, number, ok
	}
	next := list[n]
	if ok && (create != next.create || number != next.version-1) {
		return 0, 0, false
	}
	return next.create, next.version - 1, next.create <= rev
}

// lowWhole says whether all records at or below the compact revision are there.
func (j *job) lowWhole() bool {
	if j.Scheduled > j.Finished {
		return false
	}
	mark := keyspace.Revision{Main: j.CompactRevision() + 1}.Append(nil)
	return j.CompactRevision() < 0 || j.settled || !slices.ContainsFunc(j.result.Lost, func(l Loss) bool {
		return l.Bucket == keyspace.BucketKey && slices.Compare(l.From, mark) < 0
	})
}

// accept takes the records of a lead for proven.
func (c *council) accept(l *lead, list []record) {
	l.solved, l.records = true, list
	for i := range list {
		rec := &list[i]
		key := string(rec.kv.Key)
		all := slices.DeleteFunc(c.versions[key], func(v version) bool { return v.rev.Main == l.revision })
		n := sort.Search(len(all), func(i int) bool { return all[i].rev.Compare(rec.rev) > 0 })
		c.versions[key] = slices.Insert(all, n, version{rec.rev, rec.kv.CreateRevision, rec.kv.Version})
	}
}

// settleByLogs takes what the logs prove, and says whether that changes anything.
func (j *job) settleByLogs() bool {
	c := j.council
	contested := map[keyspace.Revision]int{}
	for i := range j.contests {
		contested[place(j.contests[i].rev)] = i
	}
	byMain := map[int64][]int{}
	for i := range j.contests {
		byMain[j.contests[i].rev.Main] = append(byMain[j.contests[i].rev.Main], i)
	}
	var taken []found
	for _, rev := range c.revisions() {
		l := c.leads[rev]
		if l.solved {
			taken = append(taken, j.takeMade(l, contested)...)
			continue
		}
		taken = append(taken, j.takeCopies(l, byMain[rev])...)
	}
	if len(taken) == 0 {
		return false
	}
	instead := map[keyspace.Revision]bool{}
	for i := range taken {
		instead[place(taken[i].rev)] = true
	}
	j.extras = append(slices.DeleteFunc(j.extras, func(f found) bool { return instead[place(f.rev)] }), taken...)
	slices.SortFunc(j.extras, func(x, y found) int { return x.rev.Compare(y.rev) })
	return true
}

// takeMade takes the records of a lead that the new file has not, or has otherwise.
func (j *job) takeMade(l *lead, contested map[keyspace.Revision]int) (taken []found) {
	filled := int64(0)
	for i := range l.records {
		rec := &l.records[i]
		have, there := j.council.records[place(rec.rev)]
		if there && sumOf(&have) == sumOf(rec) {
			continue
		}
		f := found{rev: rec.rev, sum: sumOf(rec), instead: true, made: &made{by: l.by, kv: rec.kv, index: l.index}}
		taken = append(taken, f)
		if !there {
			filled++
			continue
		}
		n, known := contested[place(rec.rev)]
		if !known {
			n = len(j.contests)
			j.contests = append(j.contests, contest{rev: rec.rev, key: rec.kv.Key, taken: j.originOf(rec.rev)})
			contested[place(rec.rev)] = n
		}
		x := &j.contests[n]
		x.copies = slices.DeleteFunc(x.copies, func(f found) bool { return f.sum == sumOf(rec) })
		x.copies = append(x.copies, found{rev: have.rev, sum: sumOf(&have), was: x.taken})
		x.taken, x.reason = l.by, byLog
	}
	if filled > 0 {
		j.fromLogs(l.log, filled)
	}
	return taken
}

// originOf says where the record of a revision comes from that is in the new file.
func (j *job) originOf(rev keyspace.Revision) string {
	if i, there := slices.BinarySearchFunc(j.extras, rev, func(f found, rev keyspace.Revision) int { return f.rev.Compare(rev) }); there {
		return j.extras[i].origin()
	}
	return theTree
}

// takeCopies chooses between copies of a revision of which a log says what was written, but
// not as which version.
func (j *job) takeCopies(l *lead, contests []int) (taken []found) {
	if l.disputed {
		for _, i := range contests {
			j.contests[i].reason = byNone
		}
		return nil
	}
	x := extraReader{}
	for _, i := range contests {
		at := &j.contests[i]
		have, there := j.council.records[place(at.rev)]
		if there && l.left(&have) {
			at.reason = byLog
			continue
		}
		for n := range at.copies {
			f := at.copies[n]
			rec, ok := x.read(f)
			if !ok || !l.left(&rec) {
				continue
			}
			f.instead = true
			taken = append(taken, f)
			at.copies = append(slices.Delete(at.copies, n, n+1), found{rev: have.rev, sum: sumOf(&have), was: at.taken})
			at.taken, at.reason = f.origin(), byLog
			break
		}
	}
	if !l.agrees && len(taken) == 0 {
		j.noteContradiction(l)
	}
	return taken
}

// noteContradiction lists what the new file has at a revision of which a log says
// otherwise without proving all of it.
func (j *job) noteContradiction(l *lead) {
	for n := range l.writes {
		have, there := j.council.records[keyspace.Revision{Main: l.revision, Sub: int64(n)}]
		if there && !l.left(&have) {
			j.contests = append(j.contests, contest{rev: have.rev, key: have.kv.Key, taken: j.originOf(have.rev), reason: byHalf,
				copies: []found{{rev: have.rev, was: l.by}}})
		}
	}
}

// left says whether a record is what one of the writes leaves.
func (l *lead) left(rec *record) bool {
	return slices.ContainsFunc(l.writes, func(w leadWrite) bool { return w.left(rec) })
}

// fromLogs counts records that a log brought back.
func (j *job) fromLogs(log int, n int64) {
	name := "the log of " + j.council.logs[log].path
	for i := range j.result.Helpers {
		if j.result.Helpers[i].File == name {
			j.result.Helpers[i].Records += n
			return
		}
	}
	j.result.Helpers = append(j.result.Helpers, Helper{name, n})
}

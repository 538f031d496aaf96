package recover

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"etcd-forensics/inspect"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
)

// A Statement says which keys are affected by what is missing in the new file.
type Statement struct {
	Certain, Possible Tally
	// CertainKeys and PossibleKeys are the first of them, the worst first, by key.
	CertainKeys, PossibleKeys []KeyLoss
	Prefixes                  []PrefixLoss // the first, by prefix
	OtherPrefixes             int
	// AtLeast says that there are more affected keys than are counted.
	AtLeast bool

	// Unknown are the missing revisions of which nothing says what they wrote.
	Unknown      []Span
	UnknownCount int64
	// Newest says that the last revisions may be missing, Below that records at or below
	// the compact revision may be: of neither does anything tell how many.
	Newest, Below bool

	Ways []Way // to get back more
}

// A KeyState is what a key has come to in the new file.
type KeyState uint8

// From the worst on.
const (
	KeyGone    KeyState = iota // it was there, and is not
	KeyOlder                   // it has an older value than it had
	KeyBack                    // it was deleted, and is there
	KeyHistory                 // it is as it was, and older versions are missing
	keyStates
)

func (s KeyState) String() string { return [keyStates]string{"gone", "older", "back", "history"}[s] }

// A Tally counts keys by what they have come to.
type Tally [keyStates]int64

// Any says whether any key is counted.
func (t Tally) Any() bool { return t != Tally{} }

// A KeyLoss is what is missing of one key.
type KeyLoss struct {
	Key     []byte
	State   KeyState
	Now     keyspace.Revision // of its last record in the new file; zero for none
	Missing []MissingVersion  // the first
	More    int               // of them
}

// A MissingVersion is a run of versions of a key that are not in the new file.
type MissingVersion struct {
	First, Last int64 // version numbers; 0 where they are not known
	// From and To are the revisions between which they were written, both included; To is 0
	// where that is not known.
	From, To int64
	Deletion bool   // a deletion is among them
	By       string // what tells of them
}

// A PrefixLoss counts the affected keys with a prefix.
type PrefixLoss struct {
	Prefix            []byte
	Certain, Possible Tally
}

// A Way is a command that brings back more, or all.
type Way struct {
	Why  string
	Argv []string
}

// KeysListed bounds each list of keys and prefixes in a statement.
const KeysListed = 1000

const (
	versionsListed = 8 // of one key
	keysFollowed   = 1 << 16
	// prefixDepth is what `keys` counts by.
	prefixDepth = 2
)

// A claim is what is known to be missing of a key, before it is held against the new file.
type claim struct {
	last    int64 // the newest revision that is missing, MaxInt64 for one behind all there are
	deletes bool  // it deleted the key
	missing []MissingVersion
	more    int
}

func (c *claim) add(rev int64, deletes bool, m MissingVersion) {
	if rev >= c.last {
		c.last, c.deletes = rev, deletes
	}
	if len(c.missing) == versionsListed {
		c.more++
		return
	}
	c.missing = append(c.missing, m)
}

// claims are those of each key, certain and possible ones apart.
type claims struct {
	of   [2]map[string]*claim
	more bool
}

func newClaims() *claims { return &claims{of: [2]map[string]*claim{{}, {}}} }

const (
	certain = iota
	possible
)

func (s *claims) at(sure int, key []byte) *claim {
	c := s.of[sure][string(key)]
	if c == nil {
		if len(s.of[0])+len(s.of[1]) >= keysFollowed {
			s.more = true
			return &claim{}
		}
		c = &claim{}
		s.of[sure][string(key)] = c
	}
	return c
}

// state says which keys are affected by what is missing in the new file.
func (j *job) state(ctx context.Context, tree *snapdb.Tree) {
	st := &j.result.Statement
	j.stateRanges(st)
	all := newClaims()
	j.claimLeads(all)
	j.claimDoubts(tree, all)
	j.claimLow(tree, all)
	if len(all.of[certain])+len(all.of[possible])+len(j.broken.keys) > 0 {
		j.holdAgainst(tree, all, j.broken.keys, st)
	}
	st.AtLeast = all.more || j.broken.more || j.council.more
	j.ways(ctx, st)
}

// stateRanges says what is missing of which nothing tells whose it was.
func (j *job) stateRanges(st *Statement) {
	st.Newest = j.endLost()
	if st.Newest && j.nothingNewer() {
		st.Newest = false
		j.result.Notes = append(j.result.Notes, "the log holds no entry behind what this tree has applied, so nothing newer was ever there")
	}
	st.Below = j.result.CompactionKnown && j.CompactRevision() > 0 && !j.lowWhole() && !j.lowTold() || !j.result.CompactionKnown && len(j.result.Lost) > 0
	for _, s := range j.council.unknown(j.missing) {
		st.UnknownCount += s.Last - s.First + 1
		if len(st.Unknown) < spansListed {
			st.Unknown = append(st.Unknown, s)
		}
	}
}

// nothingNewer says whether all that is lost at the end is what was committed later, and a
// log knows of nothing that was.
func (j *job) nothingNewer() bool {
	lost := j.keyLosses()
	return j.behind && len(lost) == 1 && len(j.council.ends) == 0 && slices.ContainsFunc(j.council.logs, func(l consulted) bool {
		return l.Why == "" && l.End <= j.result.Index
	})
}

// claimLeads takes what the logs say of revisions that are missing.
func (j *job) claimLeads(all *claims) {
	c := j.council
	missing := func(rev int64) bool {
		n, found := slices.BinarySearchFunc(j.missing, rev, func(s Span, rev int64) int { return cmp.Compare(s.First, rev) })
		return found || n > 0 && j.missing[n-1].Last >= rev
	}
	for _, rev := range c.revisions() {
		l := c.leads[rev]
		if l.agrees || l.solved {
			continue
		}
		gone := missing(rev)
		for n, w := range l.writes {
			if _, there := c.records[keyspace.Revision{Main: rev, Sub: int64(n)}]; there || w.ranges {
				continue
			}
			sure := possible
			if gone && l.whole {
				sure = certain
			}
			all.at(sure, w.key).add(rev, w.deletes, MissingVersion{From: rev, To: rev, Deletion: w.deletes, By: l.by})
		}
	}
	for _, l := range c.ends {
		for _, w := range l.writes {
			if w.ranges {
				continue
			}
			sure := certain
			if w.deletes || l.open {
				sure = possible
			}
			all.at(sure, w.key).add(math.MaxInt64, w.deletes, MissingVersion{Deletion: w.deletes, By: l.by})
		}
	}
}

// claimDoubts takes what was found and not taken, and what others have at or below the
// compact revision unless the new file has it, too.
func (j *job) claimDoubts(tree *snapdb.Tree, all *claims) {
	for _, d := range j.result.Doubts {
		all.at(possible, d.Key).add(d.Revision.Main, d.Revision.Tombstone,
			MissingVersion{From: d.Revision.Main, To: d.Revision.Main, Deletion: d.Revision.Tombstone, By: fmt.Sprintf("page %d, which may be an old copy", d.Page)})
	}
	all.more = all.more || len(j.hearsay) == keysFollowed
	there := j.heardAndThere(tree)
	for _, d := range j.hearsay {
		if !there[d.rev] {
			all.at(possible, d.key).add(d.rev.Main, d.rev.Tombstone,
				MissingVersion{From: d.rev.Main, To: d.rev.Main, Deletion: d.rev.Tombstone, By: d.by})
		}
	}
}

// heardAndThere says of the revisions of hearsay which of them the new file has.
func (j *job) heardAndThere(tree *snapdb.Tree) map[keyspace.Revision]bool {
	there := map[keyspace.Revision]bool{}
	if len(j.hearsay) == 0 {
		return there
	}
	for _, d := range j.hearsay {
		there[d.rev] = false
	}
	for row := range rows(tree, keyspace.BucketKey) {
		rev, _ := keyspace.DecodeRevision(row.Key)
		if rev.Main > j.CompactRevision() {
			break
		}
		if _, heard := there[rev]; heard {
			there[rev] = true
		}
	}
	return there
}

// holdAgainst holds what is missing against what the new file has of the same keys.
func (j *job) holdAgainst(tree *snapdb.Tree, all *claims, chains map[string]bool, st *Statement) {
	last := map[string]version{}
	for row := range rows(tree, keyspace.BucketKey) {
		rev, ok := keyspace.DecodeRevision(row.Key)
		kv, err := keyspace.DecodeKeyValue(row.Value)
		key := string(kv.Key)
		asked := chains[key] || all.of[certain][key] != nil || all.of[possible][key] != nil
		if !ok || err != nil || !asked {
			continue
		}
		now := version{rev, kv.CreateRevision, kv.Version}
		if before := last[key]; chains[key] && rev.Main > j.CompactRevision() {
			if m, broken := before.gapTo(now, j.CompactRevision()); broken {
				sure := certain
				if !j.result.CompactionKnown && before.rev.Main == 0 {
					sure = possible // a compaction nobody knows of leaves the same
				}
				all.at(sure, kv.Key).add(m.To, false, m)
			}
		}
		last[key] = now
	}
	prefixes := map[string]*PrefixLoss{}
	for sure, of := range all.of {
		for key, c := range of {
			now := last[key]
			state := c.state(now.rev)
			if sure == possible && all.of[certain][key] != nil && all.of[certain][key].state(now.rev) != KeyHistory {
				continue // that it is affected is known
			}
			p := prefixes[string(prefixOf([]byte(key)))]
			if p == nil {
				p = &PrefixLoss{Prefix: prefixOf([]byte(key))}
				prefixes[string(p.Prefix)] = p
			}
			loss := KeyLoss{Key: []byte(key), State: state, Now: now.rev, Missing: c.missing, More: c.more}
			if sure == certain {
				st.Certain[state]++
				p.Certain[state]++
				st.CertainKeys = append(st.CertainKeys, loss)
			} else {
				st.Possible[state]++
				p.Possible[state]++
				st.PossibleKeys = append(st.PossibleKeys, loss)
			}
		}
	}
	for _, p := range prefixes {
		st.Prefixes = append(st.Prefixes, *p)
	}
	slices.SortFunc(st.Prefixes, func(x, y PrefixLoss) int { return bytes.Compare(x.Prefix, y.Prefix) })
	if n := len(st.Prefixes) - KeysListed; n > 0 {
		st.Prefixes, st.OtherPrefixes = st.Prefixes[:KeysListed], n
	}
	st.CertainKeys, st.PossibleKeys = firstKeys(st.CertainKeys), firstKeys(st.PossibleKeys)
}

func firstKeys(list []KeyLoss) []KeyLoss {
	slices.SortFunc(list, func(x, y KeyLoss) int { return cmp.Or(cmp.Compare(x.State, y.State), bytes.Compare(x.Key, y.Key)) })
	return slices.Clip(list[:min(len(list), KeysListed)])
}

func prefixOf(key []byte) []byte { return key[:keyspace.PrefixEnd(key, []byte("/"), prefixDepth)] }

// state says what a key has come to whose last record in the new file is of revision now,
// zero for none.
func (c *claim) state(now keyspace.Revision) KeyState {
	absent := now.Main == 0 || now.Tombstone
	switch {
	case now.Main >= c.last, c.deletes && absent:
		return KeyHistory
	case c.deletes:
		return KeyBack
	case absent:
		return KeyGone
	}
	return KeyOlder
}

// gapTo gives what is missing between two records of a key, of which the second is above
// the compact revision; the first is zero when there is none before. Of each key a
// compaction leaves its last version at or below the compact revision (etcd v3.7.3,
// server/storage/mvcc/key_index.go, keep).
func (v version) gapTo(next version, compacted int64) (m MissingVersion, broken bool) {
	m = MissingVersion{From: v.rev.Main + 1, To: next.rev.Main - 1, By: "version numbers"}
	absent := v.rev.Main == 0 || v.rev.Tombstone
	switch {
	case next.rev.Tombstone:
		return m, absent // of as many versions as it was
	case !absent && next.create == v.create:
		m.First, m.Last = v.version+1, next.version-1
		return m, next.version != v.version+1
	case !absent: // it was deleted, and created again
		m.Deletion = true
	case next.version == 1:
		return m, false
	}
	m.First, m.Last = 1, next.version-1
	if next.create <= compacted { // of the versions up to there one is left
		m.First = m.Last
	}
	if m.From = max(m.From, next.create); m.Deletion {
		m.From = v.rev.Main + 1
	}
	return m, true
}

// unknown takes away from missing revisions those of which a log names all keys.
func (c *council) unknown(missing []Span) []Span {
	known := make([]int64, 0, len(c.leads))
	for rev, l := range c.leads {
		if !l.open {
			known = append(known, rev)
		}
	}
	slices.Sort(known)
	var left []Span
	for _, s := range missing {
		n, _ := slices.BinarySearch(known, s.First)
		for ; n < len(known) && known[n] <= s.Last; n++ {
			if known[n] > s.First {
				left = append(left, Span{s.First, known[n] - 1})
			}
			s.First = known[n] + 1
		}
		if s.First <= s.Last {
			left = append(left, s)
		}
	}
	return left
}

// ways lists what brings back more. A log that reaches back far enough brings back all
// that it has entries of.
func (j *job) ways(ctx context.Context, st *Statement) {
	lost := st.Newest || st.Below || len(j.missing)+len(j.partialAll) > 0 || st.Certain.Any() || st.Possible.Any()
	for _, l := range j.council.logs {
		roll := func(why string, args ...string) {
			argv := append(append([]string{"etcd-forensics", "rollforward"}, args...), "--wal", l.path, "-o", "rolled.db")
			st.Ways = append(st.Ways, Way{why, argv})
		}
		if j.behind && l.Why == "" && l.Proven > j.result.Index && len(j.council.ends) == 0 && len(j.missing) == 0 {
			roll(fmt.Sprintf("the log has entries %d to %d, which the tree that was used has not seen", j.result.Index+1, l.Proven), "--base", j.result.Out)
			continue
		}
		if !lost || l.First == 0 {
			continue
		}
		if l.Beginning {
			roll("the log has every write that the store was ever made of: applied to an empty store they give all of it")
			continue
		}
		if base := j.baseFor(ctx, l); base != "" {
			roll("what the log has behind that backup comes back", "--base", base)
			continue
		}
		roll(fmt.Sprintf("with a sound backup whose consistent index is %d or higher, in place of BACKUP, what the log has behind it comes back", l.First-1), "--base", "BACKUP")
	}
}

// baseFor gives, of the other databases that were given, the oldest from which a log goes
// on; "" when there is none.
func (j *job) baseFor(ctx context.Context, l consulted) string {
	base, lowest := "", l.End
	for _, s := range j.opts.With {
		if s.DB == nil {
			continue
		}
		if index, err := inspect.ConsistentIndexOf(ctx, s.DB); err == nil && index > 0 && index+1 >= l.First && index < lowest {
			base, lowest = s.Path, index
		}
	}
	return base
}

// hearsay is a record at or below the compact revision that another database has in a lost
// range, and of which it does not tell whether it lives.
type hearsay struct {
	rev keyspace.Revision
	key []byte
	by  string
}

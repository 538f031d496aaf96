package scan

import (
	"bytes"
	"cmp"
	"slices"

	"etcd-forensics/snapdb/keyspace"
)

// A measure says how much there is of a key; 0 keeps it from a list of those of which
// there is most.
type measure func(*counted) int64

func records(c *counted) int64 { return atLeastTwo(c.n) }

func versions(c *counted) int64 {
	if c.dead() {
		return 0
	}
	return atLeastTwo(c.version)
}

func recordSize(c *counted) int64 {
	if c.dead() {
		return 0
	}
	return int64(c.ref)
}

// atLeastTwo gives n, or 0 for 1: what every key has tells nothing.
func atLeastTwo(n uint32) int64 {
	if n < 2 {
		return 0
	}
	return int64(n)
}

// A rank is the place of a key in a list.
type rank struct{ measure, main int64 }

func compareRanks(a, b rank) int {
	return cmp.Or(cmp.Compare(b.measure, a.measure), cmp.Compare(a.main, b.main))
}

// maxTied bounds the keys that are named to put those of one measure into the order of
// their names.
const maxTied = 256

// mostOf names, for each measure, the keys of which it says most. Where more keys than
// maxTied share the last measure, those of the oldest revisions stand for them.
func (p *prefixes) mostOf(measures []measure) [][]KeyCount {
	best := p.best(measures)
	found := p.upTo(measures, best)
	reader := newRowReader(p.tree, p.bucket, maxRecordPage)
	lists := make([][]KeyCount, len(measures))
	for i := range lists {
		lists[i] = p.nameAll(reader, &found[i], len(best[i]))
	}
	return lists
}

// eachKey visits every key but that of the bump record, on all processors. begin is
// called once for each of them.
func (p *prefixes) eachKey(begin func() func(*entry[counted])) {
	bump, bump2 := p.hasher.hashes(nil)
	eachShard(func() func(n int) {
		visit := begin()
		return func(n int) {
			p.table.each(n, func(e *entry[counted]) {
				if e.hash != bump || e.hash2 != bump2 {
					visit(e)
				}
			})
		}
	})
}

// ranks are the first of a list, best first.
type ranks []rank

func (r *ranks) add(k rank, most int) {
	if n := len(*r); n == most && (n == 0 || compareRanks(k, (*r)[n-1]) >= 0) {
		return
	}
	i, _ := slices.BinarySearchFunc(*r, k, compareRanks)
	*r = slices.Insert(*r, i, k)
	*r = (*r)[:min(len(*r), most)]
}

// best gives the ranks of each list.
func (p *prefixes) best(measures []measure) []ranks {
	var parts [][]ranks
	p.eachKey(func() func(*entry[counted]) {
		part := make([]ranks, len(measures))
		parts = append(parts, part)
		return func(e *entry[counted]) {
			for i, of := range measures {
				if m := of(&e.v); m > 0 {
					part[i].add(rank{m, e.v.main()}, p.opts.Top)
				}
			}
		}
	})
	best := make([]ranks, len(measures))
	for _, part := range parts {
		for i := range part {
			for _, k := range part[i] {
				best[i].add(k, p.opts.Top)
			}
		}
	}
	return best
}

// A ranked key is not named yet.
type ranked struct {
	rank
	key prefixHash
	n   uint32
}

// candidates are the keys of one list, not named yet.
type candidates struct {
	sure []ranked // of ranks up to the last
	tied []ranked // of its measure, and behind it; maxTied at most
	n    int      // keys of the last measure
}

// upTo finds the keys of each list. A transaction's keys share a revision, so that there
// may be more of the last rank than there is room for.
func (p *prefixes) upTo(measures []measure, best []ranks) []candidates {
	var parts [][]candidates
	p.eachKey(func() func(*entry[counted]) {
		part := make([]candidates, len(measures))
		parts = append(parts, part)
		return func(e *entry[counted]) {
			for i, of := range measures {
				if len(best[i]) > 0 {
					part[i].add(of(&e.v), best[i][len(best[i])-1], e)
				}
			}
		}
	})
	found := make([]candidates, len(measures))
	for _, part := range parts {
		for i := range part {
			found[i].sure = append(found[i].sure, part[i].sure...)
			found[i].tied = append(found[i].tied, part[i].tied...)
			found[i].n += part[i].n
		}
	}
	return found
}

func (c *candidates) add(m int64, last rank, e *entry[counted]) {
	if m < last.measure {
		return
	}
	k := ranked{rank{m, e.v.main()}, prefixHash{e.hash, e.hash2}, e.v.n}
	if m == last.measure {
		c.n++
	}
	switch {
	case compareRanks(k.rank, last) <= 0:
		c.sure = append(c.sure, k)
	case len(c.tied) < maxTied:
		c.tied = append(c.tied, k)
	}
}

// nameAll names the keys of a list, most of them.
func (p *prefixes) nameAll(reader *rowReader, c *candidates, most int) []KeyCount {
	if most == 0 {
		return nil
	}
	keys, byName := c.sure, c.n <= maxTied
	if byName {
		keys = append(keys, c.tied...)
	}
	slices.SortFunc(keys, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.main, b.main), compareHashes(a.key, b.key))
	})
	var named []namedKey
	for len(keys) > 0 {
		n := 1
		for n < len(keys) && keys[n].main == keys[0].main {
			n++
		}
		named = p.name(reader, keys[:n], named)
		keys = keys[n:]
	}
	slices.SortFunc(named, func(a, b namedKey) int {
		if byName {
			return cmp.Or(cmp.Compare(b.measure, a.measure), bytes.Compare(a.Key, b.Key))
		}
		return cmp.Or(compareRanks(a.rank, b.rank), a.Revision.Compare(b.Revision))
	})
	list := make([]KeyCount, 0, most)
	for _, k := range named[:min(len(named), most)] {
		list = append(list, k.KeyCount)
	}
	return list
}

func compareHashes(a, b prefixHash) int {
	return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.hash2, b.hash2))
}

type namedKey struct {
	rank
	KeyCount
}

// name reads the records of the one revision at which all the keys have their
// latest again, and adds the keys to a list.
func (p *prefixes) name(r *rowReader, keys []ranked, list []namedKey) []namedKey {
	main, left := keys[0].main, len(keys)
	done := make([]bool, len(keys))
	next := keyspace.Revision{Main: main + 1}.Append(nil)
	r.from(keyspace.Revision{Main: main}.Append(nil), func(row Row) bool {
		if bytes.Compare(row.Key, next) >= 0 {
			return false
		}
		rev, ok := keyspace.DecodeRevision(row.Key)
		kv, err := keyspace.DecodeKeyValue(row.Value)
		if !ok || rev.Main != main || err != nil {
			return true
		}
		hash, hash2 := p.hasher.hashes(kv.Key)
		i, found := slices.BinarySearchFunc(keys, prefixHash{hash, hash2}, func(k ranked, h prefixHash) int { return compareHashes(k.key, h) })
		if found && !done[i] {
			done[i] = true
			left--
			list = append(list, namedKey{keys[i].rank, KeyCount{
				Key: bytes.Clone(kv.Key), Records: int64(keys[i].n), Revision: rev, Version: kv.Version,
				Bytes: int64(len(row.Key) + len(row.Value)), ValueSize: int64(len(kv.Value)),
			}})
		}
		return left > 0
	})
	return list
}

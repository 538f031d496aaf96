package inspect

import (
	"hash/maphash"
	"maps"
	"slices"

	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/scan"
)

// A stretch is some revisions of one block, of which some holders have all records.
type stretch struct {
	whole    []*holder
	from, to int64
}

// compareSegments compares the records that holders have all of: those above its
// compact revision and up to its newest one. Between two such ends the same holders
// have all records.
func (d *divergences) compareSegments() error {
	ends := map[int64]bool{}
	for _, h := range d.holders {
		ends[h.compact+1], ends[h.revision+1] = true, true
	}
	order := slices.Sorted(maps.Keys(ends))
	var unsure []stretch
	differ := false
	for i := 1; i < len(order); i++ {
		from, to := order[i-1], order[i]-1
		var whole []*holder
		for _, h := range d.holders {
			if h.compact < from && h.revision >= to {
				whole = append(whole, h)
			}
		}
		if len(whole) > 1 {
			more, differs := unsureBlocks(whole, from, to)
			unsure, differ = append(unsure, more...), differ || differs
		}
	}
	if !differ {
		var err error
		if unsure, err = d.unlike(unsure); err != nil || len(unsure) == 0 {
			return err
		}
	}
	if err := d.openAll(); err != nil {
		return err
	}
	for _, s := range unsure {
		d.compareRecords(s.whole, s.from, s.to)
	}
	return nil
}

// unsureBlocks gives the stretches of some revisions whose sums are not the same. differ
// is set when the records of one cannot be the same, either.
func unsureBlocks(whole []*holder, first, last int64) (unsure []stretch, differ bool) {
	blocks := map[int64]bool{}
	for _, h := range whole {
		for at := range h.x.db.blocks.Above {
			if (at+1)<<scan.BlockBits > first && at<<scan.BlockBits <= last {
				blocks[at] = true
			}
		}
	}
	for _, at := range slices.Sorted(maps.Keys(blocks)) {
		s := stretch{whole, max(at<<scan.BlockBits, first), min((at+1)<<scan.BlockBits-1, last)}
		same := !slices.ContainsFunc(whole, func(h *holder) bool { return h.x.db.blocks.Above[at] != whole[0].x.db.blocks.Above[at] })
		summed := !slices.ContainsFunc(whole, func(h *holder) bool { return !s.isSumOf(h, at) })
		if !same || !summed {
			unsure = append(unsure, s)
		}
		differ = differ || !same && summed
	}
	return unsure, differ
}

// isSumOf says whether a holder's sum of a block is that of the stretch: it holds no
// other revisions of the block.
func (s *stretch) isSumOf(h *holder, at int64) bool {
	return s.from == max(at<<scan.BlockBits, h.compact+1) && s.to == min((at+1)<<scan.BlockBits-1, h.revision)
}

// unlike gives the stretches that are not the same everywhere. Each holder is read by
// itself, so that the trees of all are never needed at once.
func (d *divergences) unlike(list []stretch) ([]stretch, error) {
	seed := maphash.MakeSeed()
	sums := make([]map[scan.Block]bool, len(list))
	for _, h := range d.holders {
		for i, s := range list {
			if !slices.Contains(s.whole, h) {
				continue
			}
			if err := h.open(d.ctx); err != nil {
				return nil, err
			}
			var sum scan.Block
			h.between(s.from, s.to, func(_ keyspace.Revision, key, value []byte) bool {
				sum.Records++
				sum.Sum += sumOf(seed, key, value)
				return true
			})
			if sums[i] == nil {
				sums[i] = map[scan.Block]bool{}
			}
			sums[i][sum] = true
		}
		d.close(h)
	}
	var unlike []stretch
	for i, s := range list {
		if len(sums[i]) > 1 {
			unlike = append(unlike, s)
		}
	}
	return unlike, nil
}

func sumOf(seed maphash.Seed, key, value []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	h.Write(key)
	h.Write(value)
	return h.Sum64()
}

// A stamp is one record of a block.
type stamp struct {
	revision keyspace.Revision
	sum      uint64
}

// compareRecords reads the records of some revisions, and compares them one by one.
func (d *divergences) compareRecords(level []*holder, from, to int64) {
	seed := maphash.MakeSeed()
	lists := make([][]stamp, len(level))
	for i, h := range level {
		h.between(from, to, func(rev keyspace.Revision, key, value []byte) bool {
			lists[i] = append(lists[i], stamp{rev, sumOf(seed, key, value)})
			return true
		})
	}
	for i := range lists {
		if i > 0 && !slices.Equal(lists[i], lists[0]) {
			d.walk(level, lists)
			return
		}
	}
}

// between visits the records of the revisions from one to another.
func (h *holder) between(from, to int64, visit func(rev keyspace.Revision, key, value []byte) bool) {
	h.rows.From(keyspace.Revision{Main: from}.Append(nil), func(r scan.Row) bool {
		rev, ok := keyspace.DecodeRevision(r.Key)
		if !ok {
			return true
		}
		return rev.Main <= to && visit(rev, r.Key, r.Value)
	})
}

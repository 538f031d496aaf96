package inspect

import (
	"context"
	"hash/maphash"
	"slices"

	"etcd-forensics/walreader/raftlog"
)

// Unapplied are the entries that are proven committed and that the database lacks.
type Unapplied struct {
	IndexSpan
	Keys      []UnappliedKey `json:"keys"`      // in the order in which the log names them first, as far as limits allow
	OtherKeys int64          `json:"otherKeys"` // those that are not among Keys
}

// An UnappliedKey is a key that unapplied entries write, or may write.
type UnappliedKey struct {
	Key         []byte `json:"-"`           // renderers quote it
	Index       uint64 `json:"index"`       // of the last entry that does so
	Change      string `json:"change"`      // by that: put, delete, or delete_range of keys from this one on
	Conditional bool   `json:"conditional"` // whether it does is up to the conditions of a transaction
}

// listUnapplied finds out which keys the unapplied entries write, by reading these entries again.
func (x *examination) listUnapplied(ctx context.Context) {
	if x.member.WAL == nil {
		return
	}
	u := &x.member.WAL.Unapplied
	u.Keys = []UnappliedKey{}
	if u.Count == 0 {
		return
	}
	list := unappliedList{u: u, most: x.opts.Limits.UnappliedKeys, seed: maphash.MakeSeed(), at: map[uint64]int{}}
	read := &logBytes{chain: x.chain}
	writes := x.writes.between(*u.FirstIndex, *u.LastIndex)
	for i := range writes {
		if ctx.Err() != nil {
			return
		}
		if !writes[i].discarded && read.load(&writes[i]) {
			list.entry(writes[i].index, &read.request)
		}
	}
}

// An unappliedList collects keys, each once.
type unappliedList struct {
	u    *Unapplied
	most int
	seed maphash.Seed
	at   map[uint64]int // place in u.Keys by the key's hash, -1 for a key that is counted only
}

func (l *unappliedList) entry(index uint64, r *raftlog.Request) {
	conditional := slices.ContainsFunc(r.Ops, func(op raftlog.Op) bool { return op.Kind == raftlog.OpCompare })
	for i := range r.Ops {
		op := &r.Ops[i]
		var change string
		switch {
		case op.Kind == raftlog.OpPut:
			change = "put"
		case op.Kind == raftlog.OpDeleteRange && len(op.RangeEnd) > 0:
			change = "delete_range"
		case op.Kind == raftlog.OpDeleteRange:
			change = "delete"
		default:
			continue
		}
		h := maphash.Bytes(l.seed, op.Key)
		at, seen := l.at[h]
		switch {
		case seen && at >= 0:
			l.u.Keys[at] = UnappliedKey{l.u.Keys[at].Key, index, change, conditional}
		case seen:
		case len(l.u.Keys) < l.most:
			l.at[h] = len(l.u.Keys)
			l.u.Keys = append(l.u.Keys, UnappliedKey{slices.Clone(op.Key), index, change, conditional})
		default:
			l.at[h] = -1
			l.u.OtherKeys++
		}
	}
}

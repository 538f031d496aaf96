package inspect

import (
	"cmp"
	"hash/maphash"
	"maps"

	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/scan"
	"etcd-forensics/walreader/raftlog"
)

// A log that has every write the store was ever made of tells which revision each of
// them produced, also those that have been compacted away: the outcome of a write
// depends on what the writes before it left. The outcomes are followed from the empty
// store (etcd v3.7.3, server/etcdserver/txn/txn.go, applyCompare and executeTxn;
// put.go; delete.go), and nothing is taken from it unless it ends at the database's own
// revision, leaves the very keys that the database holds, each with its revisions and
// version, and agrees with every revision that the database proves.

// A storeCount follows keys by what decides the outcome of writes.
type storeCount struct {
	seed     maphash.Seed
	revision int64
	keys     map[string]keyCount
	revoked  map[int64]bool // leases
	work     int            // keys looked at by ranges
}

type keyCount struct {
	create, mod, version, lease int64
	value                       uint64 // hash
}

// maxCountWork bounds what ranges and leases may look at.
const maxCountWork = 1 << 26

// count gives the revision of each write, 0 for those that produced none. ok is
// false when an outcome is not certain, or when the whole does not fit the database.
func (a *alignment) count() (produced []int64, ok bool) {
	s := &storeCount{seed: maphash.MakeSeed(), revision: firstRevision - 1, keys: map[string]keyCount{}, revoked: map[int64]bool{}}
	produced = make([]int64, len(a.writes))
	for i := range a.writes {
		if !a.bytes.load(&a.writes[i]) {
			return nil, false
		}
		before := s.revision
		if !s.apply(&a.bytes.request, a.bytes.entry.Data) {
			return nil, false
		}
		if s.revision > before {
			produced[i] = s.revision
		}
		if proven := a.produced[i]; proven != 0 && proven != produced[i] {
			return nil, false
		}
	}
	return produced, s.revision == a.revs.last && s.leaves(a.revs)
}

// leaves says whether the keys are those of the database, as of its newest revision.
func (s *storeCount) leaves(db *newest) bool {
	latest := map[string]keyCount{}
	sound := true
	db.rows.From(nil, func(r scan.Row) bool {
		rev, ok := keyspace.DecodeRevision(r.Key)
		kv, err := keyspace.DecodeKeyValue(r.Value)
		if sound = ok && err == nil; !sound {
			return false
		}
		if rev.Tombstone {
			delete(latest, string(kv.Key))
		} else {
			latest[string(kv.Key)] = keyCount{kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease, maphash.Bytes(s.seed, kv.Value)}
		}
		return true
	})
	return sound && maps.Equal(latest, s.keys)
}

// apply follows one request. ok is false when its outcome is not certain.
func (s *storeCount) apply(r *raftlog.Request, data []byte) (ok bool) {
	if r.OpsDropped > 0 || len(r.Also) > 0 || r.User != "" || r.AuthRevision != 0 {
		return false
	}
	if r.Kind == "lease_revoke" {
		return r.Lease != nil && s.revoke(r.Lease.ID)
	}
	branch := raftlog.BranchSuccess
	for i := range r.Ops {
		op := &r.Ops[i]
		switch holds, known := s.compares(op, data); {
		case op.Depth > 1 || !known:
			return false
		case !holds:
			branch = raftlog.BranchFailure
		}
	}
	next, changed := s.revision+1, false
	for i := range r.Ops {
		op := &r.Ops[i]
		if op.Kind == raftlog.OpCompare || op.Depth > 0 && op.Branch != branch {
			continue
		}
		did, ok := s.write(op, data, next)
		if !ok {
			return false
		}
		changed = changed || did
	}
	if changed {
		s.revision = next
	}
	return s.work < maxCountWork
}

// compares says whether a comparison holds; other operations do. known is false when that
// cannot be told.
func (s *storeCount) compares(op *raftlog.Op, data []byte) (holds, known bool) {
	if op.Kind != raftlog.OpCompare {
		return true, true
	}
	if len(op.RangeEnd) > 0 {
		return false, false
	}
	k, there := s.keys[string(op.Key)]
	var order int
	switch op.Target {
	case 0:
		order = cmp.Compare(k.version, op.Number)
	case 1:
		order = cmp.Compare(k.create, op.Number)
	case 2:
		order = cmp.Compare(k.mod, op.Number)
	case 3:
		if !there {
			return false, true
		}
		if op.Result == 1 || op.Result == 2 {
			return false, false // which of two values comes first is not kept
		}
		if k.value != maphash.Bytes(s.seed, op.Value.In(data)) {
			order = 1
		}
	case 4:
		order = cmp.Compare(k.lease, op.Number)
	default:
		return false, false
	}
	switch op.Result {
	case 0:
		return order == 0, true
	case 1:
		return order > 0, true
	case 2:
		return order < 0, true
	case 3:
		return order != 0, true
	}
	return false, false
}

// write follows an operation of the branch that is taken.
func (s *storeCount) write(op *raftlog.Op, data []byte, revision int64) (did, ok bool) {
	switch op.Kind {
	case raftlog.OpRange:
		return false, op.Revision == 0 // another may be compacted, which fails the whole
	case raftlog.OpPut:
		if op.IgnoreValue || op.IgnoreLease || s.revoked[op.Lease] {
			return false, false
		}
		k := s.keys[string(op.Key)]
		if k.version == 0 {
			k.create = revision
		}
		k.mod, k.version, k.lease, k.value = revision, k.version+1, op.Lease, maphash.Bytes(s.seed, op.Value.In(data))
		s.keys[string(op.Key)] = k
		return true, true
	case raftlog.OpDeleteRange:
		if len(op.RangeEnd) == 0 {
			_, did = s.keys[string(op.Key)]
			delete(s.keys, string(op.Key))
			return did, true
		}
		return s.remove(func(key string, _ keyCount) bool { return inRange([]byte(key), op.Key, op.RangeEnd) }), true
	}
	return false, false
}

// revoke ends a lease, with which its keys go.
func (s *storeCount) revoke(lease int64) bool {
	s.revoked[lease] = true
	if s.remove(func(_ string, k keyCount) bool { return k.lease == lease }) {
		s.revision++
	}
	return s.work < maxCountWork
}

func (s *storeCount) remove(gone func(key string, k keyCount) bool) (any bool) {
	s.work += len(s.keys)
	if s.work >= maxCountWork {
		return false
	}
	for key, k := range s.keys {
		if gone(key, k) {
			delete(s.keys, key)
			any = true
		}
	}
	return any
}

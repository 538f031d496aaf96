package inspect

import (
	"hash/maphash"
	"slices"

	"etcd-forensics/walreader/raftlog"
)

// A write is one entry of the log that may write keys, in a form that can be held
// against the records of the database without its bytes.
//
// Which entries write, and what keeps them from it, is read from etcd v3.7.3,
// server/etcdserver/txn/{put,delete,txn}.go, server/etcdserver/apply/{apply,
// apply_auth,uber_apply}.go and server/lease/lessor.go; 3.4 to 3.6 do the same.
type write struct {
	index uint64
	// What each branch writes, as a sum of its records; 0 when it writes nothing or
	// when that depends on what the store holds. A request that is no transaction
	// has the first branch alone.
	success, failure uint64
	key              uint64 // hash of the one key that it writes, 0 when there are several
	// The key that each branch writes first, as a hash, or anyKey or noKey.
	firstSuccess, firstFailure uint64
	place                      place
	// sure is set when the entry writes whatever the store holds, unless
	// authentication or an alarm refuses it.
	sure bool
	// loose is set when one branch cannot be summed up: its records are then held
	// against its operations.
	loose bool
	// mixed is set when a branch may put what the entry alone does not tell, ranges when one
	// deletes a range, leases when it puts keys with several leases.
	mixed, ranges, leases bool
	// revokes is set when the entry ends a lease, with which its keys go.
	revokes bool
	lease   int64 // that a put names or the entry ends, 0 for none
	// several is set when a branch writes more than one key, of which a compaction
	// may have left some.
	several bool
	// discarded is set when --force-new-cluster put a conf change in the entry's place:
	// see discard.
	discarded bool
}

// What stands for the hash of a key, which is an odd number.
const (
	anyKey = 0 // it depends on what the store holds
	noKey  = 2 // the branch writes nothing
)

// mayBegin says whether the first record that the entry leaves can be of a key.
func (w *write) mayBegin(key uint64) bool {
	return w.firstSuccess == anyKey || w.firstSuccess == key || w.firstFailure == anyKey || w.firstFailure == key
}

// alarmGet is the action of a request that only asks for the alarms.
const alarmGet = 0

// maxWrites is the number of writes that are kept at least, the newest; up to twice as
// many are, in some 20 MB.
const maxWrites = 1 << 17

func newWriteLog() writeLog { return writeLog{sums: newRecordSums()} }

// A writeLog collects the writes of a log in one pass.
type writeLog struct {
	sums recordSums
	list []write // by index
	// dropped is set when older writes are not among them any more.
	dropped bool
	// guarded is the last entry that came with a user, or changed the alarms or whether
	// authentication is on. Behind it both are as the database has them.
	guarded uint64
	// forced is the index from which on --force-new-cluster discarded entries, 0 for none.
	forced uint64
}

// entry takes the entries in the order of the files; a later one takes the place
// of all from its index on.
func (l *writeLog) entry(e raftlog.Entry, at place, r *raftlog.Request) {
	if l.discard(e) {
		return
	}
	l.cut(e.Index)
	if e.Type != raftlog.EntryNormal || r == nil {
		return
	}
	if r.User != "" || r.AuthRevision != 0 {
		l.guarded = e.Index
	}
	w := write{index: e.Index, place: at}
	switch r.Kind {
	case "auth_enable", "auth_disable", "alarm":
		if r.Alarm == nil || r.Alarm.Action != alarmGet {
			l.guarded = e.Index
		}
		return
	case "put", "delete_range", "txn":
		if !l.fill(&w, r, e.Data) {
			return
		}
	case "lease_revoke":
		w.loose, w.several, w.revokes = true, true, true
		if r.Lease != nil {
			w.lease = r.Lease.ID
		}
	default:
		return
	}
	if len(r.Also) > 0 {
		w.loose, w.mixed, w.sure, w.firstSuccess = true, true, false, anyKey
	}
	if len(l.list) == 2*maxWrites {
		l.list, l.dropped = append(l.list[:0], l.list[maxWrites:]...), true
	}
	l.drop(w.index)
	l.list = append(l.room(), w)
}

// discard marks the writes that a forced start discards, and says whether the entry is
// one of that start. It goes by the commit index in the log, which the database may be
// ahead of after a crash: then what it discards has been applied, and the conf changes in
// its place are not (etcd v3.5.21, server/etcdserver/raft.go,
// restartAsStandaloneNode).
func (l *writeLog) discard(e raftlog.Entry) bool {
	if e.Type != raftlog.EntryConfChange || len(l.list) == 0 || l.list[len(l.list)-1].index < e.Index || l.forced != 0 && e.Index < l.forced {
		return false
	}
	if c, err := raftlog.DecodeConfChange(e.Type, e.Data); err != nil || !forcesNew(&c) {
		return false
	}
	if l.forced == 0 {
		l.forced = e.Index
	}
	for i := len(l.list) - 1; i >= 0 && l.list[i].index >= e.Index; i-- {
		l.list[i].sure, l.list[i].discarded = false, true
	}
	return true
}

// forcesNew says whether a conf change is one of --force-new-cluster. A member that is
// removed by request has the id of the request (etcd v3.7.3, server/storage/util.go,
// CreateConfigChangeEnts).
func forcesNew(c *raftlog.ConfChange) bool {
	return !c.V2 && c.ID == 0 && len(c.Changes) == 1 && c.Changes[0].Type == raftlog.RemoveNode
}

// room gives the list with room for one more. It grows in few steps, each of which
// copies it, and never beyond what is kept.
func (l *writeLog) room() []write {
	if n := len(l.list); n == cap(l.list) {
		return slices.Grow(l.list, min(max(3*n, maxWrites>>5), 2*maxWrites-n))
	}
	return l.list
}

// trim gives up room that nothing will need, when every entry has come.
func (l *writeLog) trim() {
	if len(l.list) < cap(l.list)/2 {
		l.list = slices.Clone(l.list)
	}
}

// cut removes the writes of index and above, but for those that were discarded and
// stand behind what is cut.
func (l *writeLog) cut(index uint64) {
	if n := len(l.list); l.forced != 0 && index >= l.forced && n > 0 && l.list[n-1].discarded {
		return
	}
	l.drop(index)
}

func (l *writeLog) drop(index uint64) {
	n := len(l.list)
	for n > 0 && l.list[n-1].index >= index {
		n--
	}
	l.list = l.list[:n]
}

// A branch is what one branch of a request writes.
type branch struct {
	sum     uint64
	key     uint64
	first   uint64 // hash of the key of the first write when that is a put of the branch itself, or anyKey
	writes  int64
	puts    int
	leased  bool // a put names a lease, which may not exist
	relies  bool // a put keeps a value or lease that may not be there
	deletes int
	ranges  bool // a deletion of a range
	nested  bool
}

// loose says whether the records that the branch leaves depend on the store.
func (b *branch) loose() bool {
	return b.relies || b.ranges || b.nested || b.deletes > 0 && b.writes > 1
}

// mixed says whether what the branch puts depends on the store.
func (b *branch) mixed() bool { return b.relies || b.nested || b.puts > 0 && b.deletes > 0 }

// begins gives the key that the branch writes first, as a hash, or anyKey or noKey.
func (b *branch) begins() uint64 {
	if b.writes == 0 && !b.nested {
		return noKey
	}
	return b.first
}

// fill sums up what a request writes, and says whether it may write at all.
func (l *writeLog) fill(w *write, r *raftlog.Request, data []byte) bool {
	var branches [2]branch
	compares, fails := false, false
	b := &branches[0]
	for i := range r.Ops {
		op := &r.Ops[i]
		if op.Depth == 1 {
			b = &branches[0]
			if op.Branch == raftlog.BranchFailure {
				b = &branches[1]
			}
		}
		switch op.Kind {
		case raftlog.OpCompare:
			compares = true
		case raftlog.OpRange:
			fails = fails || op.Revision != 0 // it may be compacted, or not be there yet
		case raftlog.OpTxn:
			b.nested = true
		case raftlog.OpPut, raftlog.OpDeleteRange:
			l.addTo(b, op, data)
			if op.Kind == raftlog.OpPut && op.Lease != 0 {
				w.leases = w.leases || w.lease != 0 && w.lease != op.Lease
				w.lease = op.Lease
			}
		}
	}
	if r.OpsDropped > 0 { // it may do anything
		w.loose, w.mixed, w.several = true, true, true
		return true
	}
	yes, no := &branches[0], &branches[1]
	if !compares {
		*no = branch{} // never taken
	}
	w.firstSuccess, w.firstFailure = yes.begins(), no.begins()
	if yes.writes+no.writes == 0 {
		return false
	}
	w.sure = !compares && !fails && yes.puts > 0 && !yes.leased && !yes.relies && !yes.nested
	w.loose, w.mixed = yes.loose() || no.loose(), yes.mixed() || no.mixed()
	w.ranges = yes.ranges || no.ranges
	w.several = yes.writes > 1 || no.writes > 1 || w.loose
	if !yes.loose() {
		w.success = yes.sum
	}
	if !no.loose() {
		w.failure = no.sum
	}
	if !w.several {
		w.key = yes.key
		if yes.writes == 0 {
			w.key = no.key
		} else if no.writes > 0 && no.key != yes.key {
			w.key = 0
		}
	}
	return true
}

func (l *writeLog) addTo(b *branch, op *raftlog.Op, data []byte) {
	if op.Kind == raftlog.OpPut {
		b.puts++
		if b.writes == 0 && !b.nested {
			b.first = l.sums.key(op.Key)
		}
		b.leased = b.leased || op.Lease != 0
		b.relies = b.relies || op.IgnoreValue || op.IgnoreLease
		b.sum += l.sums.record(b.writes, false, op.Key, op.Value.In(data), op.Lease)
	} else {
		b.deletes++
		b.ranges = b.ranges || len(op.RangeEnd) > 0
		b.sum += l.sums.record(b.writes, true, op.Key, nil, 0)
	}
	b.key = l.sums.key(op.Key)
	b.writes++
}

// recordSums tells what was written apart by seeded hashes, so that nobody can
// prepare a record that passes for another.
type recordSums struct{ seed maphash.Seed }

func newRecordSums() recordSums { return recordSums{maphash.MakeSeed()} }

func (s recordSums) key(key []byte) uint64 { return maphash.Bytes(s.seed, key) | 1 }

// record sums up one record. The sums of a revision's records add up to its own.
func (s recordSums) record(sub int64, tombstone bool, key, value []byte, lease int64) uint64 {
	h := s.key(key)
	h = mix(h, maphash.Bytes(s.seed, value))
	h = mix(h, uint64(lease))
	h = mix(h, uint64(sub))
	if tombstone {
		h = mix(h, 1)
	}
	return h | 1
}

// mix adds a number to a hash (the finaliser of MurmurHash3).
func mix(h, n uint64) uint64 {
	h = (h ^ n) * 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// between gives the writes of the entries from first to last.
func (l *writeLog) between(first, last uint64) []write {
	from, _ := slices.BinarySearchFunc(l.list, first, func(w write, i uint64) int { return compareUint64(w.index, i) })
	to, _ := slices.BinarySearchFunc(l.list, last+1, func(w write, i uint64) int { return compareUint64(w.index, i) })
	return l.list[from:max(from, to)]
}

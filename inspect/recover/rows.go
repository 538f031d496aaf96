package recover

import (
	"bytes"
	"fmt"
	"slices"

	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
)

// A bucketPlan is one bucket to write, but for the records of bucket key.
type bucketPlan struct {
	base   *base
	bucket int // in the base's tree
	path   [][]byte
	was    string // its name in the tree, when that is damaged
}

// bucketPlans lists the buckets of a tree that can be written, in the order of their
// paths. Of two with one name the first counts.
func (b *base) bucketPlans() []bucketPlan {
	var plans []bucketPlan
	byIndex := map[int][][]byte{0: {}}
	seen := map[string]bool{}
	for i := 1; i < len(b.Tree.Buckets); i++ {
		bk := &b.Tree.Buckets[i]
		parent, ok := byIndex[bk.Parent]
		if !ok || len(bk.Name) == 0 || len(bk.Name) > page.MaxKeySize {
			continue
		}
		path := append(slices.Clone(parent), bk.Name)
		id := fmt.Sprintf("%q", path)
		if seen[id] || bk.Doubtful && !b.useful(i) {
			continue
		}
		seen[id] = true
		byIndex[i] = path
		plans = append(plans, bucketPlan{base: b, bucket: i, path: path})
	}
	b.rename(plans)
	slices.SortStableFunc(plans, func(x, y bucketPlan) int { return slices.CompareFunc(x.path, y.path, bytes.Compare) })
	return plans
}

// rename gives buckets back their names: one that etcd does not know, of which one
// letter is wrong, with records that are all of a bucket that is missing.
func (b *base) rename(plans []bucketPlan) {
	for name, check := range rowChecks {
		if _, there := b.Bucket[name]; there || !oneShape[name] {
			continue
		}
		for i := range plans {
			p := &plans[i]
			if is := string(p.path[0]); len(p.path) == 1 && rowChecks[is] == nil && p.bucket != b.key && oneLetterOff(is, name) && b.all(p.bucket, check) {
				p.was, p.path = is, [][]byte{[]byte(name)}
			}
		}
	}
}

func oneLetterOff(x, y string) bool {
	off := 0
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			off++
		}
	}
	return len(x) == len(y) && off == 1
}

// all says whether a bucket has records, and all of them pass a check.
func (b *base) all(bucket int, check func(key, value []byte) bool) bool {
	n, good := 0, 0
	b.rows(bucket, nil, func(r row) error {
		if n++; check(r.key, r.value) {
			good++
		}
		return nil
	})
	return n > 0 && n == good
}

// useful says whether a bucket whose name lies on a damaged page is one of etcd's.
func (b *base) useful(i int) bool {
	_, known := rowChecks[string(b.Tree.Buckets[i].Name)]
	return b.Tree.Buckets[i].Parent == 0 && (known || i == b.key)
}

// A row is one record of a bucket other than key.
type row struct{ key, value []byte }

// rows gives the records of a bucket other than key, in key order: those of sound pages
// as they are, of others only those that are surely what etcd keeps there. lose is called
// for each that is left out.
func (b *base) rows(bucket int, lose func(), visit func(row) error) error {
	bk := &b.Tree.Buckets[bucket]
	check := rowChecks[string(bk.Name)]
	if bk.Parent != 0 {
		check = nil
	}
	var last []byte
	take := func(elements []snapdb.Element, sound bool, size int) error {
		var at map[int]bool
		if !sound {
			at = placed(elements)
		}
		for i := range elements {
			e := &elements[i]
			if size -= len(e.Key) + len(e.Value); size < 0 {
				return nil
			}
			if e.Bucket || len(e.Key) == 0 || len(e.Key) > page.MaxKeySize || last != nil && bytes.Compare(e.Key, last) <= 0 {
				continue
			}
			if check != nil && (!sound || oneShape[string(bk.Name)]) && !check(e.Key, e.Value) || !sound && (check == nil || !at[e.Index]) {
				if lose != nil {
					lose()
				}
				continue
			}
			last = append(last[:0], e.Key...)
			if err := visit(row{e.Key, e.Value}); err != nil {
				return err
			}
		}
		return nil
	}
	if bk.Inline != nil {
		elements, faults := b.Tree.ReadInline(bucket)
		return take(elements, len(faults) == 0, len(bk.Inline))
	}
	var buf []byte
	var elements []snapdb.Element
	for i := range b.Tree.Leaves {
		l := &b.Tree.Leaves[i]
		if int(l.Bucket) != bucket || l.ID == 0 {
			continue
		}
		var err error
		if buf, err = b.Tree.File.ReadPage(l.ID, maxMended, buf); err != nil {
			b.unread[l.ID] = err
			continue
		}
		var faults snapdb.FaultList
		elements = b.Tree.ReadLeaf(i, buf, elements[:0], &faults)
		if err := take(elements, faults.Len() == 0, len(buf)); err != nil {
			return err
		}
	}
	return nil
}

// oneShape are the buckets whose records are all alike, so that one that is not is
// damaged wherever it lies.
var oneShape = map[string]bool{
	keyspace.BucketMembers: true, keyspace.BucketMembersRemoved: true, keyspace.BucketLease: true,
	keyspace.BucketAuthUsers: true, keyspace.BucketAuthRoles: true,
}

// rowChecks say for each bucket whether a record is surely one of its own.
var rowChecks = map[string]func(key, value []byte) bool{
	keyspace.BucketMeta: func(key, value []byte) bool {
		switch string(key) {
		case keyspace.MetaConsistentIndex, keyspace.MetaTerm:
			return len(value) == 8
		case keyspace.MetaScheduledCompactRev, keyspace.MetaFinishedCompactRev:
			rev, ok := keyspace.DecodeRevision(value)
			return ok && !rev.Tombstone
		case keyspace.MetaConfState:
			_, err := keyspace.DecodeConfState(value)
			return err == nil
		case keyspace.MetaStorageVersion:
			_, err := keyspace.DecodeStorageVersion(value)
			return err == nil
		}
		return false
	},
	keyspace.BucketCluster: func(key, value []byte) bool {
		_, err := keyspace.DecodeClusterVersion(value)
		return string(key) == keyspace.ClusterVersion && err == nil
	},
	keyspace.BucketMembers: func(key, value []byte) bool {
		_, err := keyspace.DecodeMember(key, value)
		return err == nil
	},
	keyspace.BucketMembersRemoved: func(key, value []byte) bool {
		_, err := keyspace.DecodeMemberID(key)
		return err == nil && string(value) == "removed"
	},
	keyspace.BucketAlarm: func(key, value []byte) bool {
		a, err := keyspace.DecodeAlarm(key)
		return err == nil && len(value) == 0 && (a.Type == keyspace.AlarmNoSpace || a.Type == keyspace.AlarmCorrupt)
	},
	keyspace.BucketLease: func(key, value []byte) bool {
		l, err := keyspace.DecodeLease(key, value)
		return err == nil && l.ID != 0 && l.TTL > 0
	},
	keyspace.BucketAuth: func(key, value []byte) bool {
		return string(key) == keyspace.AuthEnabled && len(value) == 1 && value[0] <= 1 || string(key) == keyspace.AuthRevision && len(value) == 8
	},
	keyspace.BucketAuthUsers: func(key, value []byte) bool {
		_, err := keyspace.DecodeUser(key, value)
		return err == nil
	},
	keyspace.BucketAuthRoles: func(key, value []byte) bool {
		_, err := keyspace.DecodeRole(key, value)
		return err == nil
	},
}

// unreadLosses lists the pages of a bucket other than key that the machine did not give.
func (b *base) unreadLosses(bucket int) []Loss {
	var losses []Loss
	for i := range b.Tree.Leaves {
		if l := &b.Tree.Leaves[i]; int(l.Bucket) == bucket && b.unread[l.ID] != nil {
			id := l.ID
			losses = append(losses, Loss{Page: &id, Bucket: string(b.Tree.Buckets[bucket].Name), Reason: "the page cannot be read: " + b.unread[l.ID].Error()})
		}
	}
	return losses
}

// otherLosses lists what the tree does not give of the buckets other than key.
func (b *base) otherLosses() []Loss {
	var losses []Loss
	for _, f := range b.Tree.Faults.All() {
		if f.Bucket < 0 || f.Bucket == b.key {
			continue
		}
		id := f.Page
		losses = append(losses, Loss{Page: &id, Bucket: string(b.Tree.Buckets[f.Bucket].Name), Reason: f.Kind.String() + ": " + f.Err.Error()})
	}
	slices.SortStableFunc(losses, compareLosses)
	return losses
}

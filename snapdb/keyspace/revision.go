// Package keyspace gives the buckets of an etcd backend their meaning. It decodes
// single records and knows no file. It accepts any input.
//
// Buckets (etcd v3.7.3, server/storage/schema/bucket.go):
//
//	key              revision -> KeyValue (protobuf mvccpb.KeyValue)
//	meta             consistent_index, term (since 3.5), confState (3.5), storageVersion (3.6),
//	                 scheduledCompactRev, finishedCompactRev
//	cluster          clusterVersion, downgrade (since 3.5)
//	members          member id in hex -> JSON
//	members_removed  member id in hex -> "removed"
//	alarm            protobuf etcdserverpb.AlarmMember -> nothing
//	lease            lease id, 8 bytes big-endian -> protobuf leasepb.Lease
//	auth             authEnabled, authRevision
//	authUsers        user name -> protobuf authpb.User
//	authRoles        role name -> protobuf authpb.Role
//
// A key of bucket key is 17 bytes, a tombstone's 18 (server/storage/mvcc/revision.go):
//
//	0   8  main  big-endian: the revision, one for each transaction
//	8   1  '_'
//	9   8  sub   big-endian: the operation within the transaction
//	17  1  't'   only on a tombstone
package keyspace

import (
	"encoding/binary"
	"fmt"
)

// Names of the buckets.
const (
	BucketKey            = "key"
	BucketMeta           = "meta"
	BucketCluster        = "cluster"
	BucketMembers        = "members"
	BucketMembersRemoved = "members_removed"
	BucketAlarm          = "alarm"
	BucketLease          = "lease"
	BucketAuth           = "auth"
	BucketAuthUsers      = "authUsers"
	BucketAuthRoles      = "authRoles"
)

// IsOpen says whether a bucket surely holds no record of auth, and no value of a
// key in place of a key. The name of one that does may be damaged, so only the
// names of the others count.
func IsOpen(bucket string) bool {
	switch bucket {
	case BucketKey, BucketMeta, BucketCluster, BucketMembers, BucketMembersRemoved, BucketAlarm, BucketLease:
		return true
	}
	return false
}

const (
	// RevisionSize is the length of a revision as a key of bucket key.
	RevisionSize = 17
	// MarkedRevisionSize is the length of a tombstone's.
	MarkedRevisionSize = 18

	separator     = '_'
	tombstoneMark = 't'
)

// A Revision is one operation: the main revision of its transaction and its
// place within it.
type Revision struct {
	Main, Sub int64
	Tombstone bool // the operation deleted its key
}

func (r Revision) String() string {
	if r.Sub == 0 {
		return fmt.Sprintf("%d", r.Main)
	}
	return fmt.Sprintf("%d.%d", r.Main, r.Sub)
}

// Compare orders revisions by main, then sub.
func (r Revision) Compare(o Revision) int {
	switch {
	case r.Main < o.Main || r.Main == o.Main && r.Sub < o.Sub:
		return -1
	case r.Main == o.Main && r.Sub == o.Sub:
		return 0
	}
	return 1
}

// DecodeRevision reads a key of bucket key. ok is false for bytes on which etcd
// would panic (BytesToBucketKey), and for an 18-byte key whose mark is not a
// tombstone's, which etcd never writes.
func DecodeRevision(b []byte) (r Revision, ok bool) {
	if len(b) != RevisionSize && len(b) != MarkedRevisionSize || b[8] != separator {
		return Revision{}, false
	}
	r.Main = int64(binary.BigEndian.Uint64(b))
	r.Sub = int64(binary.BigEndian.Uint64(b[9:]))
	if len(b) == MarkedRevisionSize {
		if b[17] != tombstoneMark {
			return Revision{}, false
		}
		r.Tombstone = true
	}
	return r, r.Main >= 0 && r.Sub >= 0
}

// Append writes the revision as a key of bucket key.
func (r Revision) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(r.Main))
	b = append(b, separator)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Sub))
	if r.Tombstone {
		b = append(b, tombstoneMark)
	}
	return b
}

package raftlog

import "google.golang.org/protobuf/encoding/protowire"

// A Kind names what a request asks for, by etcd's field name. It is one of the
// names that Kinds lists.
type Kind string

// Kinds that are no field of an InternalRaftRequest.
const (
	KindNone    Kind = ""        // an entry without data: a leader began its term
	KindV2      Kind = "v2"      // a request of the v2 store, 3.4 and 3.5
	KindUnknown Kind = "unknown" // no field that is known here
)

// requestFields are the requests of an InternalRaftRequest by field number
// (api/etcdserverpb/raft_internal.proto, v3.7.3). Field 2 is reserved from 3.6 on.
var requestFields = []struct {
	num  protowire.Number
	kind Kind
}{
	{2, KindV2},
	{3, "range"},
	{4, "put"},
	{5, "delete_range"},
	{6, "txn"},
	{7, "compaction"},
	{8, "lease_grant"},
	{9, "lease_revoke"},
	{10, "alarm"},
	{11, "lease_checkpoint"},
	{1000, "auth_enable"},
	{1011, "auth_disable"},
	{1012, "authenticate"},
	{1013, "auth_status"},
	{1100, "auth_user_add"},
	{1101, "auth_user_delete"},
	{1102, "auth_user_get"},
	{1103, "auth_user_change_password"},
	{1104, "auth_user_grant_role"},
	{1105, "auth_user_revoke_role"},
	{1106, "auth_user_list"},
	{1107, "auth_role_list"},
	{1200, "auth_role_add"},
	{1201, "auth_role_delete"},
	{1202, "auth_role_get"},
	{1203, "auth_role_grant_permission"},
	{1204, "auth_role_revoke_permission"},
	{1300, "cluster_version_set"},
	{1301, "cluster_member_attr_set"},
	{1302, "downgrade_info_set"},
	{9900, "downgrade_version_test"},
}

// Kinds lists every kind in the order of etcd's field numbers, the ones that
// are no field last.
func Kinds() []Kind {
	kinds := make([]Kind, 0, len(requestFields)+2)
	for _, f := range requestFields {
		kinds = append(kinds, f.kind)
	}
	return append(kinds, KindUnknown, KindNone)
}

// kindOf gives the kind of a field number.
func kindOf(num protowire.Number) (Kind, bool) {
	for _, f := range requestFields {
		if f.num == num {
			return f.kind, true
		}
	}
	return KindUnknown, false
}

// KindOf tells what an entry's data asks for without decoding all of it. It
// does not allocate unless the data is damaged.
func KindOf(data []byte) (Kind, error) {
	if len(data) == 0 {
		return KindNone, nil
	}
	if isV2(data) {
		return KindV2, nil
	}
	kind := KindUnknown
	f := fields{rest: data}
	for f.next() {
		if f.typ != protowire.BytesType || f.num == fieldHeader {
			continue
		}
		if k, ok := kindOf(f.num); ok && kind == KindUnknown {
			kind = k
		}
	}
	return kind, wrap("request", f.err)
}

// isV2 says whether data is an etcdserverpb.Request and not an
// InternalRaftRequest. Both have the id in field 1. Field 2 is the method in
// one and a message in the other, which never spells a method.
func isV2(data []byte) bool {
	f := fields{rest: data}
	for f.next() && f.num <= 2 {
		if f.num == 2 && f.typ == protowire.BytesType {
			switch string(f.b) {
			case "GET", "HEAD", "PUT", "POST", "DELETE", "QGET", "SYNC":
				return true
			}
			return false
		}
	}
	return false
}

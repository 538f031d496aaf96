package raftlog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
)

func ptr[T any](v T) *T { return &v }

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const secret = "hunter2-secret"

// requests has every kind of request that etcd 3.7 knows, by field name.
func requests() map[Kind]*pb.InternalRaftRequest {
	put := &pb.PutRequest{Key: []byte("k"), Value: []byte(secret), Lease: 77, PrevKv: true}
	inner := &pb.TxnRequest{
		Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte("inner"), IgnoreValue: true, IgnoreLease: true}}}},
	}
	txn := &pb.TxnRequest{
		Compare: []*pb.Compare{
			{Result: pb.Compare_GREATER, Target: pb.Compare_MOD, Key: []byte("c"), TargetUnion: &pb.Compare_ModRevision{ModRevision: 12}},
			{Result: pb.Compare_NOT_EQUAL, Target: pb.Compare_VALUE, Key: []byte("c2"), RangeEnd: []byte("c3"), TargetUnion: &pb.Compare_Value{Value: []byte(secret)}},
		},
		Success: []*pb.RequestOp{
			{Request: &pb.RequestOp_RequestPut{RequestPut: put}},
			{Request: &pb.RequestOp_RequestTxn{RequestTxn: inner}},
		},
		Failure: []*pb.RequestOp{
			{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte("r"), Revision: 5}}},
			{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("d"), RangeEnd: []byte{0}}}},
		},
	}
	perm := &authpb.Permission{PermType: authpb.READWRITE, Key: []byte("/a"), RangeEnd: []byte("/b")}
	return map[Kind]*pb.InternalRaftRequest{
		"range":                       {Range: &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("b"), Revision: 9}},
		"put":                         {Put: put},
		"delete_range":                {DeleteRange: &pb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte{0}, PrevKv: true}},
		"txn":                         {Txn: txn},
		"compaction":                  {Compaction: &pb.CompactionRequest{Revision: 490, Physical: true}},
		"lease_grant":                 {LeaseGrant: &pb.LeaseGrantRequest{ID: -5, TTL: 60}},
		"lease_revoke":                {LeaseRevoke: &pb.LeaseRevokeRequest{ID: 5}},
		"alarm":                       {Alarm: &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 1 << 63, Alarm: pb.AlarmType_CORRUPT}},
		"lease_checkpoint":            {LeaseCheckpoint: &pb.LeaseCheckpointRequest{Checkpoints: []*pb.LeaseCheckpoint{{ID: 5, Remaining_TTL: 6}, {ID: 7}}}},
		"auth_enable":                 {AuthEnable: &pb.AuthEnableRequest{}},
		"auth_disable":                {AuthDisable: &pb.AuthDisableRequest{}},
		"auth_status":                 {AuthStatus: &pb.AuthStatusRequest{}},
		"authenticate":                {Authenticate: &pb.InternalAuthenticateRequest{Name: "u", Password: secret, SimpleToken: secret}},
		"auth_user_add":               {AuthUserAdd: &pb.AuthUserAddRequest{Name: "u", Password: secret, HashedPassword: secret, Options: &authpb.UserAddOptions{NoPassword: true}}},
		"auth_user_delete":            {AuthUserDelete: &pb.AuthUserDeleteRequest{Name: "u"}},
		"auth_user_get":               {AuthUserGet: &pb.AuthUserGetRequest{Name: "u"}},
		"auth_user_change_password":   {AuthUserChangePassword: &pb.AuthUserChangePasswordRequest{Name: "u", Password: secret, HashedPassword: secret}},
		"auth_user_grant_role":        {AuthUserGrantRole: &pb.AuthUserGrantRoleRequest{User: "u", Role: "r"}},
		"auth_user_revoke_role":       {AuthUserRevokeRole: &pb.AuthUserRevokeRoleRequest{Name: "u", Role: "r"}},
		"auth_user_list":              {AuthUserList: &pb.AuthUserListRequest{}},
		"auth_role_list":              {AuthRoleList: &pb.AuthRoleListRequest{}},
		"auth_role_add":               {AuthRoleAdd: &pb.AuthRoleAddRequest{Name: "r"}},
		"auth_role_delete":            {AuthRoleDelete: &pb.AuthRoleDeleteRequest{Role: "r"}},
		"auth_role_get":               {AuthRoleGet: &pb.AuthRoleGetRequest{Role: "r"}},
		"auth_role_grant_permission":  {AuthRoleGrantPermission: &pb.AuthRoleGrantPermissionRequest{Name: "r", Perm: perm}},
		"auth_role_revoke_permission": {AuthRoleRevokePermission: &pb.AuthRoleRevokePermissionRequest{Role: "r", Key: []byte("/a"), RangeEnd: []byte("/b")}},
		"cluster_version_set":         {ClusterVersionSet: &membershippb.ClusterVersionSetRequest{Ver: "3.7.0"}},
		"cluster_member_attr_set": {ClusterMemberAttrSet: &membershippb.ClusterMemberAttrSetRequest{
			Member_ID: 9, MemberAttributes: &membershippb.Attributes{Name: "m1", ClientUrls: []string{"http://a", "http://b"}},
		}},
		"downgrade_info_set":     {DowngradeInfoSet: &membershippb.DowngradeInfoSetRequest{Enabled: true, Ver: "3.6.0"}},
		"downgrade_version_test": {DowngradeVersionTest: &pb.DowngradeVersionTestRequest{Ver: "3.6.0"}},
	}
}

func TestEveryFieldOfEtcdsRequestHasAKind(t *testing.T) {
	known := requests()
	fields := (&pb.InternalRaftRequest{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.Kind() != protoreflect.MessageKind || f.Number() == fieldHeader {
			continue
		}
		kind, ok := kindOf(f.Number())
		if !ok || string(kind) != string(f.Name()) {
			t.Errorf("field %d %s: kind %q", f.Number(), f.Name(), kind)
		}
		if known[kind] == nil {
			t.Errorf("no example of %s", kind)
		}
	}
}

func TestEtcdsRequestsAreRead(t *testing.T) {
	perm := &Permission{2, []byte("/a"), []byte("/b")}
	want := map[Kind]func(r Request, data []byte) any{
		"range":                       func(r Request, _ []byte) any { return r.Ops },
		"delete_range":                func(r Request, _ []byte) any { return r.Ops },
		"compaction":                  func(r Request, _ []byte) any { return *r.Compaction },
		"lease_grant":                 func(r Request, _ []byte) any { return *r.Lease },
		"lease_revoke":                func(r Request, _ []byte) any { return *r.Lease },
		"alarm":                       func(r Request, _ []byte) any { return *r.Alarm },
		"lease_checkpoint":            func(r Request, _ []byte) any { return r.Checkpoints },
		"auth_role_grant_permission":  func(r Request, _ []byte) any { return r.Auth.Permission },
		"auth_role_revoke_permission": func(r Request, _ []byte) any { return r.Auth.Permission },
		"cluster_version_set":         func(r Request, _ []byte) any { return *r.Version },
		"cluster_member_attr_set":     func(r Request, _ []byte) any { return *r.Member },
		"downgrade_info_set":          func(r Request, _ []byte) any { return *r.Version },
		"downgrade_version_test":      func(r Request, _ []byte) any { return *r.Version },
	}
	result := map[Kind]any{
		"range":                       []Op{{Kind: OpRange, Key: []byte("a"), RangeEnd: []byte("b"), Revision: 9}},
		"delete_range":                []Op{{Kind: OpDeleteRange, Key: []byte("a"), RangeEnd: []byte{0}, PrevKV: true}},
		"compaction":                  Compaction{490, true},
		"lease_grant":                 Lease{-5, 60},
		"lease_revoke":                Lease{5, 0},
		"alarm":                       Alarm{1, 1 << 63, 2},
		"lease_checkpoint":            []Checkpoint{{5, 6}, {7, 0}},
		"auth_role_grant_permission":  perm,
		"auth_role_revoke_permission": &Permission{0, []byte("/a"), []byte("/b")},
		"cluster_version_set":         Version{"3.7.0", false},
		"cluster_member_attr_set":     Member{ID: 9, Name: "m1", ClientURLs: []string{"http://a", "http://b"}},
		"downgrade_info_set":          Version{"3.6.0", true},
		"downgrade_version_test":      Version{"3.6.0", false},
	}
	for kind, m := range requests() {
		m.Header = &pb.RequestHeader{ID: 42, Username: "root", AuthRevision: 3}
		data := marshal(t, m)
		if k, err := KindOf(data); k != kind || err != nil {
			t.Errorf("KindOf: %q, %v, want %q", k, err, kind)
		}
		r, err := DecodeRequest(data)
		if err != nil || r.Kind != kind || r.ID != 42 || r.User != "root" || r.AuthRevision != 3 || r.Also != nil || r.Unknown != nil {
			t.Errorf("%s: %+v, %v", kind, r, err)
			continue
		}
		if get := want[kind]; get != nil && !reflect.DeepEqual(get(r, data), result[kind]) {
			t.Errorf("%s: %+v, want %+v", kind, get(r, data), result[kind])
		}
		if a := r.Auth; a != nil {
			user, role := "", ""
			if kind == "authenticate" || len(kind) > 9 && kind[:9] == "auth_user" && kind != "auth_user_list" {
				user = "u"
			}
			if kind == "auth_user_grant_role" || kind == "auth_user_revoke_role" || len(kind) > 9 && kind[:9] == "auth_role" && kind != "auth_role_list" {
				role = "r"
			}
			if a.User != user || a.Role != role {
				t.Errorf("%s: %+v", kind, a)
			}
		}
		shown, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if text := fmt.Sprintf("%s %+v", shown, r); bytes.Contains([]byte(text), []byte(secret)) {
			t.Errorf("%s shows a secret: %s", kind, text)
		}
	}
}

func TestATransactionIsListedInItsOrder(t *testing.T) {
	data := marshal(t, requests()["txn"])
	r, err := DecodeRequest(data)
	if err != nil {
		t.Fatal(err)
	}
	type line struct {
		kind   OpKind
		branch Branch
		depth  int
		key    string
		value  string
	}
	want := []line{
		{OpCompare, BranchIf, 1, "c", ""},
		{OpCompare, BranchIf, 1, "c2", secret},
		{OpPut, BranchSuccess, 1, "k", secret},
		{OpTxn, BranchSuccess, 1, "", ""},
		{OpPut, BranchSuccess, 2, "inner", ""},
		{OpRange, BranchFailure, 1, "r", ""},
		{OpDeleteRange, BranchFailure, 1, "d", ""},
	}
	var got []line
	for _, op := range r.Ops {
		l := line{op.Kind, op.Branch, op.Depth, string(op.Key), ""}
		if op.Value.Len > 0 {
			l.value = string(op.Value.In(data))
		}
		got = append(got, l)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if c := r.Ops[0]; c.Result != 1 || c.Target != 2 || c.Number != 12 {
		t.Errorf("%+v", c)
	}
	if p := r.Ops[2]; p.Lease != 77 || !p.PrevKV || p.IgnoreValue {
		t.Errorf("%+v", p)
	}
}

func TestAValueIsFoundInsideAnEntry(t *testing.T) {
	data := marshal(t, requests()["put"])
	record := marshal(t, &raftpb.Entry{Index: ptr(uint64(3)), Data: data})
	e, err := DecodeEntry(record[:len(record):cap(record)])
	if err != nil {
		t.Fatal(err)
	}
	r, err := DecodeRequest(e.Data)
	if err != nil || string(r.Ops[0].Value.In(e.Data)) != secret {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestRecordsAreReadAsEtcdReadsThem(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	num := func() *uint64 {
		switch rng.Intn(4) {
		case 0:
			return nil
		case 1:
			return ptr(uint64(0))
		case 2:
			return ptr(uint64(rng.Intn(300)))
		}
		return ptr(rng.Uint64())
	}
	list := func() []uint64 {
		l := make([]uint64, rng.Intn(4))
		for i := range l {
			l[i] = rng.Uint64()
		}
		return l
	}
	same := func(a, b []uint64) bool { return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b) }
	for range 2000 {
		entry := &raftpb.Entry{Index: num(), Term: num(), Data: []byte(fmt.Sprint(rng.Int()))}
		if rng.Intn(2) == 0 {
			entry.Type = raftpb.EntryType(rng.Intn(3)).Enum()
		}
		e, err := DecodeEntry(marshal(t, entry))
		if err != nil || e.Index != entry.GetIndex() || e.Term != entry.GetTerm() || int32(e.Type) != int32(entry.GetType()) || !bytes.Equal(e.Data, entry.Data) {
			t.Fatalf("%+v, %v, want %v", e, err, entry)
		}
		state := &raftpb.HardState{Term: num(), Vote: num(), Commit: num()}
		h, err := DecodeHardState(marshal(t, state))
		if err != nil || h != (HardState{state.GetTerm(), state.GetVote(), state.GetCommit()}) {
			t.Fatalf("%+v, %v, want %v", h, err, state)
		}
		meta := &pb.Metadata{NodeID: num(), ClusterID: num()}
		m, err := DecodeMetadata(marshal(t, meta))
		if err != nil || m != (Metadata{meta.GetNodeID(), meta.GetClusterID()}) {
			t.Fatalf("%+v, %v, want %v", m, err, meta)
		}
		snap := &walpb.Snapshot{Index: num(), Term: num(), ConfState: &raftpb.ConfState{
			Voters: list(), Learners: list(), VotersOutgoing: list(), LearnersNext: list(), AutoLeave: ptr(true),
		}}
		s, err := DecodeSnapshotRecord(marshal(t, snap))
		c := snap.ConfState
		if err != nil || s.Index != snap.GetIndex() || s.Term != snap.GetTerm() || !same(s.ConfState.Voters, c.Voters) ||
			!same(s.ConfState.Learners, c.Learners) || !same(s.ConfState.VotersOutgoing, c.VotersOutgoing) ||
			!same(s.ConfState.LearnersNext, c.LearnersNext) || !s.ConfState.AutoLeave {
			t.Fatalf("%+v, %v, want %v", s, err, snap)
		}
	}
}

func TestConfChanges(t *testing.T) {
	m := membership.Member{
		ID:             types.ID(9),
		RaftAttributes: membership.RaftAttributes{PeerURLs: []string{"http://a:2380"}, IsLearner: true},
		Attributes:     membership.Attributes{Name: "m9"},
	}
	context, err := json.Marshal(membership.ConfigChangeContext{Member: m, IsPromote: true})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	wantMember := Member{ID: 9, PeerURLs: []string{"http://a:2380"}, IsLearner: true, Name: "m9"}

	t.Run("a learner is promoted", func(t *testing.T) {
		b := marshal(t, &raftpb.ConfChange{Id: ptr(uint64(1)), Type: raftpb.ConfChangeAddNode.Enum(), NodeId: ptr(uint64(9)), Context: context})
		c, err := DecodeConfChange(EntryConfChange, b)
		if err != nil || c.ID != 1 || len(c.Changes) != 1 || c.Changes[0] != (Change{AddNode, 9}) || !c.Promotes || !reflect.DeepEqual(*c.Member, wantMember) {
			t.Errorf("%+v, %v", c, err)
		}
	})
	t.Run("a member is updated", func(t *testing.T) {
		b := marshal(t, &raftpb.ConfChange{Type: raftpb.ConfChangeUpdateNode.Enum(), NodeId: ptr(uint64(9)), Context: plain})
		c, err := DecodeConfChange(EntryConfChange, b)
		if err != nil || c.Changes[0] != (Change{UpdateNode, 9}) || c.Promotes || !reflect.DeepEqual(*c.Member, wantMember) {
			t.Errorf("%+v, %v", c, err)
		}
	})
	t.Run("a member is removed", func(t *testing.T) {
		b := marshal(t, &raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: ptr(uint64(9))})
		c, err := DecodeConfChange(EntryConfChange, b)
		if err != nil || c.Changes[0] != (Change{RemoveNode, 9}) || c.Member != nil || c.ContextErr != nil {
			t.Errorf("%+v, %v", c, err)
		}
	})
	t.Run("several nodes at once", func(t *testing.T) {
		b := marshal(t, &raftpb.ConfChangeV2{
			Transition: raftpb.ConfChangeTransitionJointExplicit.Enum(),
			Changes: []*raftpb.ConfChangeSingle{
				{Type: raftpb.ConfChangeAddLearnerNode.Enum(), NodeId: ptr(uint64(1))},
				{NodeId: ptr(uint64(2))},
			},
			Context: context,
		})
		c, err := DecodeConfChange(EntryConfChangeV2, b)
		if err != nil || !c.V2 || c.Transition != 2 || !reflect.DeepEqual(c.Changes, []Change{{AddLearnerNode, 1}, {AddNode, 2}}) || c.Member == nil {
			t.Errorf("%+v, %v", c, err)
		}
	})
	t.Run("a context that is no JSON", func(t *testing.T) {
		b := marshal(t, &raftpb.ConfChange{NodeId: ptr(uint64(9)), Context: []byte("{")})
		c, err := DecodeConfChange(EntryConfChange, b)
		if err != nil || c.ContextErr == nil || c.Changes[0].NodeID != 9 {
			t.Errorf("%+v, %v", c, err)
		}
	})
}

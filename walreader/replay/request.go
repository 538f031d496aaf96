package replay

import (
	"strconv"

	"github.com/coreos/go-semver/semver"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/membershippb"
	"go.etcd.io/etcd/api/v3/version"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"etcd-forensics/walreader/raftlog"
)

// decode makes of an entry's data the request that the applier takes; nil when it
// asks for nothing that the applier knows. What the applier panics on is refused here.
func decode(data []byte) (*pb.InternalRaftRequest, *Failure) {
	kind, err := raftlog.KindOf(data)
	switch {
	case err != nil:
		return nil, &Failure{Reason: ReasonEntry, Text: "a request that cannot be decoded"}
	case kind == raftlog.KindNone:
		return nil, nil // a leader began its term
	case kind == raftlog.KindV2:
		return decodeV2(data)
	case kind == raftlog.KindUnknown:
		return nil, &Failure{Reason: ReasonUnknown, Text: "a request of a kind that etcd " + version.Version + " does not know"}
	}
	r := &pb.InternalRaftRequest{}
	if err := proto.Unmarshal(data, r); err != nil {
		return nil, &Failure{Reason: ReasonEntry, Text: "a request that cannot be decoded"}
	}
	if requestHasUnknown(r, data) {
		return nil, &Failure{Reason: ReasonUnknown, Text: "a request " + strconv.Quote(string(kind)) + " with fields that etcd " + version.Version + " does not know"}
	}
	if v := r.ClusterVersionSet; v != nil {
		if f := checkVersion(v.GetVer()); f != nil {
			return nil, f
		}
	}
	return r, nil
}

// decodeV2 turns a request of the v2 store into one of v3, as etcd 3.6 does with those
// that 3.4 and 3.5 wrote (etcd v3.6.16, server/etcdserver/apply_v2.go, v2ToV3Request).
func decodeV2(data []byte) (*pb.InternalRaftRequest, *Failure) {
	r, err := raftlog.DecodeRequest(data)
	if err != nil {
		return nil, &Failure{Reason: ReasonEntry, Text: "a v2 request that cannot be decoded"}
	}
	header := &pb.RequestHeader{ID: r.ID}
	switch {
	case r.Member != nil:
		return &pb.InternalRaftRequest{Header: header, ClusterMemberAttrSet: &membershippb.ClusterMemberAttrSetRequest{
			Member_ID: r.Member.ID, MemberAttributes: &membershippb.Attributes{Name: r.Member.Name, ClientUrls: r.Member.ClientURLs},
		}}, nil
	case r.Version != nil:
		if f := checkVersion(r.Version.Version); f != nil {
			return nil, f
		}
		return &pb.InternalRaftRequest{Header: header, ClusterVersionSet: &membershippb.ClusterVersionSetRequest{Ver: r.Version.Version}}, nil
	}
	return nil, nil // of the v2 key space, which is no longer
}

// checkVersion refuses a cluster version that the applier would panic on.
func checkVersion(v string) *Failure {
	wanted, err := semver.NewVersion(v)
	if err != nil {
		return &Failure{Reason: ReasonVersion, Text: "a cluster version that is none: " + strconv.QuoteToASCII(v)}
	}
	if own := semver.Must(semver.NewVersion(version.Version)); wanted.Major != own.Major || wanted.Minor > own.Minor {
		return &Failure{Reason: ReasonVersion, Text: "the cluster becomes version " + wanted.String() + ", newer than the applier of etcd " + version.Version}
	}
	return nil
}

// The fields of an InternalRaftRequest that a put has (etcd v3.7.3,
// api/etcdserverpb/raft_internal.proto).
const (
	fieldPut    = 4
	fieldHeader = 100
)

// isPut says whether a request is a put and nothing else, which most are. No message is
// within its two; one of these numbers that is no message is a field that is not known.
func isPut(data []byte) bool {
	for len(data) > 0 {
		field, typ, n := protowire.ConsumeField(data)
		if n < 0 || typ != protowire.BytesType || field != fieldPut && field != fieldHeader {
			return false
		}
		data = data[n:]
	}
	return true
}

// requestHasUnknown says whether a request has fields that are not known here.
func requestHasUnknown(r *pb.InternalRaftRequest, data []byte) bool {
	if isPut(data) {
		return len(r.GetHeader().ProtoReflect().GetUnknown()) > 0 || len(r.GetPut().ProtoReflect().GetUnknown()) > 0
	}
	return hasUnknown(r.ProtoReflect())
}

// hasUnknown says whether a message, or one in it, has fields that are not known here.
func hasUnknown(m protoreflect.Message) bool {
	if len(m.GetUnknown()) > 0 {
		return true
	}
	unknown := false
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil || f.IsMap():
		case f.IsList():
			for i := range v.List().Len() {
				unknown = unknown || hasUnknown(v.List().Get(i).Message())
			}
		default:
			unknown = hasUnknown(v.Message())
		}
		return !unknown
	})
	return unknown
}

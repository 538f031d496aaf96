package keyspace

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// Keys of the buckets meta, cluster and auth.
const (
	MetaConsistentIndex     = "consistent_index"
	MetaTerm                = "term"
	MetaConfState           = "confState"
	MetaStorageVersion      = "storageVersion"
	MetaScheduledCompactRev = "scheduledCompactRev"
	MetaFinishedCompactRev  = "finishedCompactRev"

	ClusterVersion   = "clusterVersion"
	ClusterDowngrade = "downgrade"

	AuthEnabled  = "authEnabled"
	AuthRevision = "authRevision"
)

// DecodeUint64 reads the 8 big-endian bytes that consistent_index, term and
// authRevision are.
func DecodeUint64(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("%d bytes, not 8", len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

// A ConfState is raft's configuration as the backend holds it since 3.5: JSON of
// raftpb.ConfState.
type ConfState struct {
	Voters         []uint64 `json:"voters"`
	Learners       []uint64 `json:"learners"`
	VotersOutgoing []uint64 `json:"voters_outgoing"`
	LearnersNext   []uint64 `json:"learners_next"`
	AutoLeave      bool     `json:"auto_leave"`
}

// DecodeConfState reads meta's confState.
func DecodeConfState(b []byte) (ConfState, error) {
	var cs ConfState
	err := json.Unmarshal(b, &cs)
	return cs, err
}

// A Member is a record of bucket members: JSON of membership.Member (etcd v3.7.3,
// server/etcdserver/api/membership/member.go).
type Member struct {
	ID         uint64
	Name       string
	PeerURLs   []string
	ClientURLs []string
	IsLearner  bool
}

// DecodeMember reads a record of bucket members. The key's id wins over the
// value's; that they differ is an error beside the member.
func DecodeMember(key, value []byte) (Member, error) {
	id, err := DecodeMemberID(key)
	if err != nil {
		return Member{}, err
	}
	var v struct {
		ID         uint64   `json:"id"`
		PeerURLs   []string `json:"peerURLs"`
		IsLearner  bool     `json:"isLearner"`
		Name       string   `json:"name"`
		ClientURLs []string `json:"clientURLs"`
	}
	if err := json.Unmarshal(value, &v); err != nil {
		return Member{ID: id}, err
	}
	m := Member{ID: id, Name: v.Name, PeerURLs: v.PeerURLs, ClientURLs: v.ClientURLs, IsLearner: v.IsLearner}
	if v.ID != id {
		return m, fmt.Errorf("the record of member %x says id %x", id, v.ID)
	}
	return m, nil
}

// DecodeMemberID reads a key of members and members_removed: the id in hex.
func DecodeMemberID(key []byte) (uint64, error) {
	id, err := strconv.ParseUint(string(key), 16, 64)
	if err != nil {
		return 0, fmt.Errorf("member id %q: not a hex number of 64 bits", key)
	}
	return id, nil
}

// A Lease is a record of bucket lease (leasepb.Lease: 1 ID, 2 TTL,
// 3 RemainingTTL).
type Lease struct {
	ID           int64
	TTL          int64 // seconds
	RemainingTTL int64 // seconds at the last checkpoint, 0 when there was none
}

// DecodeLease reads a record of bucket lease.
func DecodeLease(key, value []byte) (Lease, error) {
	id, err := DecodeUint64(key)
	if err != nil {
		return Lease{}, fmt.Errorf("lease id: %w", err)
	}
	l := Lease{}
	err = eachField(value, func(num protowire.Number, typ protowire.Type, v uint64, _ []byte) {
		if typ != protowire.VarintType {
			return
		}
		switch num {
		case 1:
			l.ID = int64(v)
		case 2:
			l.TTL = int64(v)
		case 3:
			l.RemainingTTL = int64(v)
		}
	})
	if err == nil && l.ID != int64(id) {
		err = fmt.Errorf("the record of lease %016x says id %016x", id, uint64(l.ID))
	}
	l.ID = int64(id)
	return l, err
}

// AlarmType is the kind of an alarm (etcdserverpb.AlarmType).
type AlarmType int32

const (
	AlarmNone    AlarmType = 0
	AlarmNoSpace AlarmType = 1
	AlarmCorrupt AlarmType = 2
)

func (a AlarmType) String() string {
	switch a {
	case AlarmNone:
		return "NONE"
	case AlarmNoSpace:
		return "NOSPACE"
	case AlarmCorrupt:
		return "CORRUPT"
	}
	return strconv.Itoa(int(a))
}

// An Alarm is a record of bucket alarm (etcdserverpb.AlarmMember: 1 memberID,
// 2 alarm). The message is the key.
type Alarm struct {
	MemberID uint64
	Type     AlarmType
}

// DecodeAlarm reads a key of bucket alarm.
func DecodeAlarm(key []byte) (Alarm, error) {
	var a Alarm
	err := eachField(key, func(num protowire.Number, typ protowire.Type, v uint64, _ []byte) {
		if typ != protowire.VarintType {
			return
		}
		switch num {
		case 1:
			a.MemberID = v
		case 2:
			a.Type = AlarmType(int32(v))
		}
	})
	return a, err
}

// A User is a record of bucket authUsers without its secrets (authpb.User: 1 name,
// 2 password, 3 roles, 4 options).
type User struct {
	Name  string
	Roles []string
}

// DecodeUser reads a record of bucket authUsers (etcd v3.7.3, api/authpb/auth.proto,
// User). The password hash is not read. A damaged record may have part of the hash
// where the name belongs, so there is no name without both places saying the same.
func DecodeUser(key, value []byte) (User, error) {
	var u User
	named := false
	err := eachField(value, func(num protowire.Number, typ protowire.Type, _ uint64, b []byte) {
		switch {
		case num == 1 && typ == protowire.BytesType:
			named = bytes.Equal(b, key)
		case num == 3 && typ == protowire.BytesType:
			u.Roles = append(u.Roles, string(b))
		}
	})
	switch {
	case err != nil:
		return User{}, err
	case !named:
		return User{}, errName
	}
	u.Name = string(key)
	slices.Sort(u.Roles)
	return u, nil
}

// DecodeRole reads the name of a record of bucket authRoles (auth.proto, Role), by
// the rule of DecodeUser.
func DecodeRole(key, value []byte) (name string, err error) {
	named := false
	err = eachField(value, func(num protowire.Number, typ protowire.Type, _ uint64, b []byte) {
		if num == 1 && typ == protowire.BytesType {
			named = bytes.Equal(b, key)
		}
	})
	switch {
	case err != nil:
		return "", err
	case !named:
		return "", errName
	}
	return string(key), nil
}

var errName = errors.New("the name in the record is not the one that it is stored under")

// DecodeStorageVersion reads meta's storageVersion, "3.6.0".
func DecodeStorageVersion(b []byte) (string, error) { return decodeVersion(b) }

// DecodeClusterVersion reads cluster's clusterVersion, "3.6.0".
func DecodeClusterVersion(b []byte) (string, error) { return decodeVersion(b) }

// versionRest is what may follow the second number: etcd panics on anything that
// is no semantic version.
var versionRest = regexp.MustCompile(`^[0-9]+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)

func decodeVersion(b []byte) (string, error) {
	parts := strings.Split(string(b), ".")
	if len(b) > 64 || len(parts) < 3 {
		return "", fmt.Errorf("%q is not a version", clip(b))
	}
	if !versionRest.MatchString(strings.Join(parts[2:], ".")) {
		return "", fmt.Errorf("%q is not a version", clip(b))
	}
	for _, p := range parts[:2] {
		if _, err := strconv.ParseUint(p, 10, 32); err != nil {
			return "", fmt.Errorf("%q is not a version", clip(b))
		}
	}
	return string(b), nil
}

// Minor gives the first two numbers of a version that was decoded.
func Minor(version string) (major, minor uint64, ok bool) {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 3 {
		return 0, 0, false
	}
	major, err := strconv.ParseUint(parts[0], 10, 32)
	if err != nil {
		return 0, 0, false
	}
	minor, err = strconv.ParseUint(parts[1], 10, 32)
	return major, minor, err == nil
}

func clip(b []byte) []byte { return b[:min(len(b), 80)] }

// DecodeAuthEnabled reads auth's authEnabled: one byte, 1 when authentication is on.
func DecodeAuthEnabled(b []byte) bool { return len(b) == 1 && b[0] == 1 }

// eachField visits the fields of a protobuf message that are numbers or bytes.
func eachField(b []byte, visit func(num protowire.Number, typ protowire.Type, v uint64, b []byte)) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if num > protowire.MaxValidNumber {
			return fmt.Errorf("field number %d is too high", num)
		}
		b = b[n:]
		var v uint64
		var s []byte
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			s, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		visit(num, typ, v, s)
		b = b[n:]
	}
	return nil
}

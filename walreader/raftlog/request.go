package raftlog

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// Limits of one request. etcd's own limit is 128 operations in a transaction by
// default.
const (
	maxOps         = 1 << 16
	maxTxnDepth    = 100
	maxCheckpoints = 1 << 16
	maxUnknown     = 100
	maxURLs        = 1000
)

// fieldHeader is the number of InternalRaftRequest.header, which is no request.
const fieldHeader = 100

// A Request is what an entry asks the state machine to do, without values,
// passwords and tokens. Keys are parts of the entry's data, not copies.
type Request struct {
	Kind         Kind
	Also         []Kind // other kinds in the same message; etcd sets one only
	ID           uint64
	User         string // who asked, when auth is enabled
	AuthRevision uint64

	// Ops are the key operations of range, put, delete_range and txn. Those of a
	// transaction stand in the order compares, success, failure of the message.
	Ops        []Op
	OpsDropped int // operations over the limit

	Compaction  *Compaction
	Lease       *Lease // lease_grant and lease_revoke
	Checkpoints []Checkpoint
	Alarm       *Alarm
	Auth        *Auth    // all auth_ kinds and authenticate
	Member      *Member  // cluster_member_attr_set, and the same as a v2 request
	Version     *Version // cluster_version_set, also as a v2 request, and downgrade_
	V2          *V2

	Unknown []int32 // numbers of fields that no etcd up to 3.8 writes
}

// An OpKind names a key operation.
type OpKind string

// The key operations.
const (
	OpRange       OpKind = "range"
	OpPut         OpKind = "put"
	OpDeleteRange OpKind = "delete_range"
	OpTxn         OpKind = "txn" // a transaction inside a transaction; its own operations follow
	OpCompare     OpKind = "compare"
)

// A Branch says in which part of a transaction an operation stands.
type Branch string

// The parts of a transaction.
const (
	BranchNone    Branch = "" // not in a transaction
	BranchIf      Branch = "if"
	BranchSuccess Branch = "success"
	BranchFailure Branch = "failure"
)

// An Op is one key operation of a request.
type Op struct {
	Kind        OpKind
	Branch      Branch
	Depth       int    // 0 outside a transaction, 1 in one, 2 in one inside it
	Key         []byte // part of the entry's data
	RangeEnd    []byte // nil for one key; a single zero byte for all keys from Key on
	Value       Value  // of a put, or of a compare with a value
	Lease       int64  // that a put attaches its key to
	PrevKV      bool   // the client wants what was there before
	IgnoreValue bool   // a put that keeps the value
	IgnoreLease bool   // a put that keeps the lease
	Revision    int64  // that a range looks at, 0 for the newest
	Target      int32  // of a compare: 0 version, 1 create, 2 mod, 3 value, 4 lease
	Result      int32  // of a compare: 0 equal, 1 greater, 2 less, 3 not equal
	Number      int64  // that a compare compares with, unless with a value
}

// A Value says where a value lies in the entry's data. It holds no byte of
// it, so that printing a Request cannot show one.
type Value struct {
	Off, Len int
}

// In gives the bytes of the value. data is the entry's data that the request
// was decoded from.
func (v Value) In(data []byte) []byte { return data[v.Off : v.Off+v.Len : v.Off+v.Len] }

// A Compaction discards the revisions before one.
type Compaction struct {
	Revision int64
	Physical bool // the client waits for the space to be freed
}

// A Lease is a lease that is granted or revoked.
type Lease struct {
	ID  int64
	TTL int64 // in seconds; 0 when revoked
}

// A Checkpoint is what is left of a lease.
type Checkpoint struct {
	ID        int64
	Remaining int64 // in seconds
}

// An Alarm is a change of the alarms.
type Alarm struct {
	Action   int32 // 0 get, 1 activate, 2 deactivate
	MemberID uint64
	Type     int32 // 0 none, 1 NOSPACE, 2 CORRUPT
}

// Auth is what a request changes or asks about users and roles. Passwords, their
// hashes and tokens are left out.
type Auth struct {
	User       string
	Role       string
	Permission *Permission
}

// A Permission is a right on a range of keys.
type Permission struct {
	Type     int32 // 0 read, 1 write, 2 both
	Key      []byte
	RangeEnd []byte
}

// A Version is what a request sets or tests.
type Version struct {
	Version string
	Enabled bool // of downgrade_info_set: a downgrade is under way
}

// V2 is a request of the v2 store (etcdserverpb.Request in
// etcdserver/etcdserverpb/etcdserver.proto, v3.4; the fields that 3.x writes).
type V2 struct {
	Method string
	Path   string
	Value  Value
	Dir    bool
}

// DecodeRequest reads the data of an entry of type normal. What was decoded before
// an error is returned with it.
func DecodeRequest(data []byte) (Request, error) {
	var r Request
	err := r.Decode(data)
	return r, err
}

// Decode does what DecodeRequest does, and uses the memory of r's own lists again.
func (r *Request) Decode(data []byte) error {
	*r = Request{Also: r.Also[:0], Ops: r.Ops[:0], Checkpoints: r.Checkpoints[:0], Unknown: r.Unknown[:0]}
	if len(data) == 0 {
		return nil
	}
	d := decoder{req: r, whole: cap(data)}
	if isV2(data) {
		d.v2(data)
	} else {
		d.request(data)
	}
	return wrap("request", d.err)
}

// A decoder fills one Request.
type decoder struct {
	req   *Request
	whole int // capacity of the entry's data
	err   error
}

// value says where b, a part of the entry's data, lies in it. All parts share
// one array, so the difference of the capacities is the distance.
func (d *decoder) value(b []byte) Value { return Value{d.whole - cap(b), len(b)} }

// message walks over the fields of b and keeps the first error.
func (d *decoder) message(b []byte, visit func(*fields)) {
	f := fields{rest: b}
	for d.err == nil && f.next() {
		visit(&f)
		if d.err == nil {
			d.err = f.err
		}
	}
	if d.err == nil {
		d.err = f.err
	}
}

func (d *decoder) request(data []byte) {
	d.req.Kind = KindUnknown
	d.message(data, func(f *fields) {
		switch {
		case f.num == 1:
			if f.varint(1) && d.req.ID == 0 {
				d.req.ID = f.n
			}
			return
		case f.num == fieldHeader:
			if f.bytes(fieldHeader) {
				d.header(f.b)
			}
			return
		}
		kind, known := kindOf(f.num)
		if !known {
			if len(d.req.Unknown) < maxUnknown {
				d.req.Unknown = append(d.req.Unknown, int32(f.num))
			}
			return
		}
		if !f.bytes(f.num) {
			return
		}
		if d.req.Kind == KindUnknown {
			d.req.Kind = kind
		} else if len(d.req.Also) < maxUnknown {
			d.req.Also = append(d.req.Also, kind)
		}
		d.body(kind, f.b)
	})
}

func (d *decoder) header(b []byte) {
	d.message(b, func(f *fields) {
		switch {
		case f.varint(1):
			d.req.ID = f.n
		case f.bytes(2):
			d.req.User = string(f.b)
		case f.varint(3):
			d.req.AuthRevision = f.n
		}
	})
}

// body reads the request itself.
func (d *decoder) body(kind Kind, b []byte) {
	switch kind {
	case KindV2:
		d.v2(b)
	case "range", "put", "delete_range":
		d.op(OpKind(kind), b, BranchNone, 0)
	case "txn":
		d.txn(b, 1)
	case "compaction":
		d.compaction(b)
	case "lease_grant":
		d.lease(b, 2, 1)
	case "lease_revoke":
		d.lease(b, 1, 0)
	case "lease_checkpoint":
		d.checkpoints(b)
	case "alarm":
		d.alarm(b)
	case "cluster_version_set", "downgrade_version_test":
		d.version(b, 1, 0)
	case "downgrade_info_set":
		d.version(b, 2, 1)
	case "cluster_member_attr_set":
		d.memberAttributes(b)
	default:
		d.auth(kind, b)
	}
}

// add lists an operation unless there are too many.
func (d *decoder) add(op Op) {
	if len(d.req.Ops) >= maxOps {
		d.req.OpsDropped++
		return
	}
	d.req.Ops = append(d.req.Ops, op)
}

func (d *decoder) op(kind OpKind, b []byte, branch Branch, depth int) {
	op := Op{Kind: kind, Branch: branch, Depth: depth}
	d.message(b, func(f *fields) {
		switch f.num {
		case 1:
			if f.bytes(1) {
				op.Key = f.b
			}
			return
		case 2:
			if !f.bytes(2) {
				return
			}
			if kind == OpPut {
				op.Value = d.value(f.b)
			} else {
				op.RangeEnd = f.b
			}
			return
		}
		switch kind {
		case OpPut:
			switch {
			case f.varint(3):
				op.Lease = int64(f.n)
			case f.varint(4):
				op.PrevKV = f.n != 0
			case f.varint(5):
				op.IgnoreValue = f.n != 0
			case f.varint(6):
				op.IgnoreLease = f.n != 0
			}
		case OpDeleteRange:
			if f.varint(3) {
				op.PrevKV = f.n != 0
			}
		case OpRange:
			if f.varint(4) {
				op.Revision = int64(f.n)
			}
		}
	})
	d.add(op)
}

func (d *decoder) txn(b []byte, depth int) {
	if depth > maxTxnDepth {
		d.err = fmt.Errorf("transactions nested more than %d deep", maxTxnDepth)
		return
	}
	// A branch is listed whole before the next one, as etcd's structs have it, in
	// whatever order the fields come.
	for _, branch := range []struct {
		num  protowire.Number
		name Branch
	}{{1, BranchIf}, {2, BranchSuccess}, {3, BranchFailure}} {
		d.message(b, func(f *fields) {
			if !f.bytes(branch.num) {
				return
			}
			if branch.name == BranchIf {
				d.compare(f.b, depth)
			} else {
				d.requestOp(f.b, branch.name, depth)
			}
		})
	}
}

func (d *decoder) requestOp(b []byte, branch Branch, depth int) {
	d.message(b, func(f *fields) {
		switch {
		case f.bytes(1):
			d.op(OpRange, f.b, branch, depth)
		case f.bytes(2):
			d.op(OpPut, f.b, branch, depth)
		case f.bytes(3):
			d.op(OpDeleteRange, f.b, branch, depth)
		case f.bytes(4):
			d.add(Op{Kind: OpTxn, Branch: branch, Depth: depth})
			d.txn(f.b, depth+1)
		}
	})
}

func (d *decoder) compare(b []byte, depth int) {
	op := Op{Kind: OpCompare, Branch: BranchIf, Depth: depth}
	d.message(b, func(f *fields) {
		switch {
		case f.varint(1):
			op.Result = int32(f.n)
		case f.varint(2):
			op.Target = int32(f.n)
		case f.bytes(3):
			op.Key = f.b
		case f.varint(4), f.varint(5), f.varint(6), f.varint(8):
			op.Number = int64(f.n)
		case f.bytes(7):
			op.Value = d.value(f.b)
		case f.bytes(64):
			op.RangeEnd = f.b
		}
	})
	d.add(op)
}

func (d *decoder) compaction(b []byte) {
	c := &Compaction{}
	d.req.Compaction = c
	d.message(b, func(f *fields) {
		switch {
		case f.varint(1):
			c.Revision = int64(f.n)
		case f.varint(2):
			c.Physical = f.n != 0
		}
	})
}

// lease reads a message whose id and TTL are in the given fields; 0 is no field.
func (d *decoder) lease(b []byte, id, ttl protowire.Number) {
	l := &Lease{}
	d.req.Lease = l
	d.message(b, func(f *fields) {
		switch {
		case f.varint(id):
			l.ID = int64(f.n)
		case f.varint(ttl):
			l.TTL = int64(f.n)
		}
	})
}

func (d *decoder) checkpoints(b []byte) {
	d.message(b, func(f *fields) {
		if !f.bytes(1) {
			return
		}
		var c Checkpoint
		d.message(f.b, func(f *fields) {
			switch {
			case f.varint(1):
				c.ID = int64(f.n)
			case f.varint(2):
				c.Remaining = int64(f.n)
			}
		})
		if len(d.req.Checkpoints) < maxCheckpoints {
			d.req.Checkpoints = append(d.req.Checkpoints, c)
		}
	})
}

func (d *decoder) alarm(b []byte) {
	a := &Alarm{}
	d.req.Alarm = a
	d.message(b, func(f *fields) {
		switch {
		case f.varint(1):
			a.Action = int32(f.n)
		case f.varint(2):
			a.MemberID = f.n
		case f.varint(3):
			a.Type = int32(f.n)
		}
	})
}

// version reads a message whose version and flag are in the given fields; 0 is no field.
func (d *decoder) version(b []byte, version, enabled protowire.Number) {
	v := &Version{}
	d.req.Version = v
	d.message(b, func(f *fields) {
		switch {
		case f.bytes(version):
			v.Version = string(f.b)
		case f.varint(enabled):
			v.Enabled = f.n != 0
		}
	})
}

func (d *decoder) memberAttributes(b []byte) {
	m := &Member{}
	d.req.Member = m
	d.message(b, func(f *fields) {
		switch {
		case f.varint(1):
			m.ID = f.n
		case f.bytes(2):
			d.message(f.b, func(f *fields) {
				switch {
				case f.bytes(1):
					m.Name = string(f.b)
				case f.bytes(2):
					if len(m.ClientURLs) < maxURLs {
						m.ClientURLs = append(m.ClientURLs, string(f.b))
					}
				}
			})
		}
	})
}

// auth reads what is no secret of the auth requests. User and role stand in
// field 1 or 2 of each message, see api/etcdserverpb/rpc.proto, v3.7.3.
func (d *decoder) auth(kind Kind, b []byte) {
	a := &Auth{}
	d.req.Auth = a
	var user, role protowire.Number
	switch kind {
	case "authenticate", "auth_user_add", "auth_user_get", "auth_user_delete", "auth_user_change_password":
		user = 1
	case "auth_user_grant_role", "auth_user_revoke_role":
		user, role = 1, 2
	case "auth_role_add", "auth_role_get", "auth_role_delete", "auth_role_grant_permission", "auth_role_revoke_permission":
		role = 1
	}
	d.message(b, func(f *fields) {
		switch {
		case f.bytes(user):
			a.User = string(f.b)
		case f.bytes(role):
			a.Role = string(f.b)
		case kind == "auth_role_grant_permission" && f.bytes(2):
			a.Permission = d.permission(f.b)
		case kind == "auth_role_revoke_permission" && (f.bytes(2) || f.bytes(3)):
			if a.Permission == nil {
				a.Permission = &Permission{}
			}
			if f.num == 2 {
				a.Permission.Key = f.b
			} else {
				a.Permission.RangeEnd = f.b
			}
		}
	})
}

func (d *decoder) permission(b []byte) *Permission {
	p := &Permission{}
	d.message(b, func(f *fields) {
		switch {
		case f.varint(1):
			p.Type = int32(f.n)
		case f.bytes(2):
			p.Key = f.b
		case f.bytes(3):
			p.RangeEnd = f.b
		}
	})
	return p
}

func (d *decoder) v2(b []byte) {
	d.req.Kind = KindV2
	v := &V2{}
	d.req.V2 = v
	d.message(b, func(f *fields) {
		switch {
		case f.varint(1):
			d.req.ID = f.n
		case f.bytes(2):
			v.Method = string(f.b)
		case f.bytes(3):
			v.Path = string(f.b)
		case f.bytes(4):
			v.Value = d.value(f.b)
			d.v2Membership(v, f.b)
		case f.varint(5):
			v.Dir = f.n != 0
		}
	})
}

// v2Membership takes what 3.4 and 3.5 publish through the v2 store: a member's
// attributes and the cluster version (applierV2store.Put in
// etcdserver/apply_v2.go, v3.5.21). The path stands before the value.
func (d *decoder) v2Membership(v *V2, value []byte) {
	if v.Method != "PUT" || len(value) > maxContext {
		return
	}
	if v.Path == "/0/version" {
		d.req.Version = &Version{Version: string(value)}
		return
	}
	id, ok := strings.CutPrefix(v.Path, "/0/members/")
	if !ok {
		return
	}
	id, ok = strings.CutSuffix(id, "/attributes")
	n, err := strconv.ParseUint(id, 16, 64)
	if !ok || err != nil {
		return
	}
	m := Member{ID: n}
	// What is no JSON leaves the names empty; the request itself is whole.
	if json.Unmarshal(value, &m) == nil {
		m.ID = n
		d.req.Member = &m
	}
}

package redact

import "google.golang.org/protobuf/encoding/protowire"

// The messages of etcd (api/mvccpb, api/authpb, api/etcdserverpb, server/lease/leasepb and
// raft's raftpb, v3.7.3; what older versions have beside it as in v3.4.23).

var (
	keep, text, user    = rule{do: keeps}, rule{do: worded}, rule{do: named}
	aKey, value, secret = rule{do: keyed}, rule{do: noises}, rule{do: smears}
)

func sub(s schema) rule { return rule{do: within, sub: s} }

// numbersOnly is a message whose first n fields are numbers.
func numbersOnly(n int) schema {
	s := schema{}
	for i := range n {
		s[protowire.Number(i+1)] = keep
	}
	return s
}

var keyValue = schema{1: aKey, 2: keep, 3: keep, 4: keep, 5: value, 6: keep}

var (
	permission = schema{1: keep, 2: aKey, 3: {do: ends}}
	userOption = schema{1: keep}
	authUser   = schema{1: user, 2: secret, 3: user, 4: sub(userOption)}
	authRole   = schema{1: user, 2: sub(permission)}
)

var (
	rangeRequest  = with(numbersOnly(13), schema{1: aKey, 2: {do: ends}})
	putRequest    = schema{1: aKey, 2: value, 3: keep, 4: keep, 5: keep, 6: keep}
	deleteRequest = schema{1: aKey, 2: {do: endsGone}, 3: keep}
	compare       = schema{1: keep, 2: keep, 3: aKey, 4: keep, 5: keep, 6: keep, 7: value, 8: keep, 64: {do: ends}}
	txnRequest    = func() schema {
		txn := schema{1: sub(compare)}
		op := sub(schema{1: sub(rangeRequest), 2: sub(putRequest), 3: sub(deleteRequest), 4: sub(txn)})
		txn[2], txn[3] = op, op
		return txn
	}()

	v2Request = schema{1: {do: frees}, 2: text, 3: text, 4: {do: jsons}, 5: keep, 6: {do: jsons}, 7: keep, 8: keep,
		9: keep, 10: keep, 11: keep, 12: keep, 13: keep, 14: keep, 15: keep, 16: keep, 17: keep}

	request = schema{
		1:    {do: frees},
		2:    sub(v2Request),
		3:    sub(rangeRequest),
		4:    sub(putRequest),
		5:    sub(deleteRequest),
		6:    sub(txnRequest),
		7:    sub(numbersOnly(2)), // compaction
		8:    sub(numbersOnly(2)), // lease_grant
		9:    sub(numbersOnly(1)), // lease_revoke
		10:   sub(numbersOnly(3)), // alarm
		11:   sub(schema{1: sub(numbersOnly(3))}),
		100:  sub(schema{1: {do: frees}, 2: user, 3: keep}),
		1000: sub(nil), 1011: sub(nil), 1013: sub(nil),
		1012: sub(schema{1: user, 2: secret, 3: secret}),
		1100: sub(schema{1: user, 2: secret, 3: sub(userOption), 4: secret}),
		1101: sub(schema{1: user}),
		1102: sub(schema{1: user}),
		1103: sub(schema{1: user, 2: secret, 3: secret}),
		1104: sub(schema{1: user, 2: user}),
		1105: sub(schema{1: user, 2: user}),
		1106: sub(nil), 1107: sub(nil),
		1200: sub(schema{1: user}),
		1201: sub(schema{1: user}),
		1202: sub(schema{1: user}),
		1203: sub(schema{1: user, 2: sub(permission)}),
		1204: sub(schema{1: user, 2: aKey, 3: {do: ends}}),
		1300: sub(schema{1: {do: versions}}),
		1301: sub(schema{1: keep, 2: sub(schema{1: text, 2: text})}),
		1302: sub(schema{1: keep, 2: {do: versions}}),
		9900: sub(schema{1: {do: versions}}),
	}

	confChange   = schema{1: {do: frees}, 2: keep, 3: keep, 4: {do: jsons}}
	confChangeV2 = schema{1: keep, 2: sub(numbersOnly(2)), 3: {do: jsons}}
)

// Records of a log, and a .snap file.
var (
	logMetadata = numbersOnly(2)
	logEntry    = schema{1: keep, 2: keep, 3: keep, 4: {do: entries}}
	logState    = numbersOnly(3)
	confState   = schema{1: {do: lists}, 2: {do: lists}, 3: {do: lists}, 4: {do: lists}, 5: keep}
	logSnapshot = schema{1: keep, 2: keep, 3: sub(confState)}

	snapshotData = schema{1: {do: jsons}, 2: sub(schema{1: sub(confState), 2: keep, 3: keep})}
)

var (
	leaseRecord = numbersOnly(3)
	alarmRecord = numbersOnly(2)

	// runtime.Unknown of Kubernetes, and the object of a KMS of version 2.
	unknownObject   = schema{1: sub(schema{1: text, 2: text}), 2: value, 3: text, 4: text}
	encryptedObject = schema{1: value, 2: text}
)

// entry redacts what an entry holds.
func (r *redactor) entry(b []byte, kind int64) {
	switch {
	case kind == 1:
		r.message(b, confChange)
	case kind == 2:
		r.message(b, confChangeV2)
	case kind == 0 && !request.parses(b) && v2Request.parses(b): // up to 3.4 without a wrapper
		r.message(b, v2Request)
	default:
		r.message(b, request)
	}
}

func with(s, more schema) schema {
	for n, rule := range more {
		s[n] = rule
	}
	return s
}

package query

import (
	"fmt"
	"strconv"

	"etcd-forensics/inspect"
	"etcd-forensics/walreader/raftlog"
)

// What a record says is put into one line without any value, password or token. Text
// from evidence is quoted.

// maxQuoted is the length in bytes up to which a key or name is quoted whole.
const maxQuoted = 80

func appendQuoted(b, s []byte) []byte {
	if len(s) <= maxQuoted {
		return appendQuote(b, s)
	}
	b = appendQuote(b, s[:maxQuoted])
	b = append(b, "... ("...)
	return append(strconv.AppendInt(b, int64(len(s)), 10), " bytes)"...)
}

// appendQuote does what strconv.AppendQuoteToASCII does, faster for plain text.
func appendQuote(b, s []byte) []byte {
	for _, c := range s {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			return strconv.AppendQuoteToASCII(b, string(s))
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func appendName(b []byte, name string) []byte { return appendQuoted(b, []byte(name)) }

func appendID(b []byte, id uint64) []byte { return strconv.AppendUint(b, id, 16) }

func appendLease(b []byte, id int64) []byte { return fmt.Appendf(b, "%016x", uint64(id)) }

func appendMetadata(b []byte, m raftlog.Metadata) []byte {
	b = appendID(append(b, "member "...), m.NodeID)
	return appendID(append(b, " of cluster "...), m.ClusterID)
}

func appendHardState(b []byte, h raftlog.HardState) []byte {
	b = strconv.AppendUint(append(b, "term "...), h.Term, 10)
	if h.Vote == 0 {
		b = append(b, ", no vote"...)
	} else {
		b = appendID(append(b, ", vote for "...), h.Vote)
	}
	return strconv.AppendUint(append(b, ", commit index "...), h.Commit, 10)
}

// appendSnapshot describes a snapshot record; next is the index that the log would go on with.
func appendSnapshot(b []byte, s raftlog.SnapshotRecord, next uint64) []byte {
	switch {
	case s.Index == 0:
		b = append(b, "begin of a log"...)
	case next > 0 && s.Index >= next:
		b = append(b, "received a snapshot"...)
	default:
		b = append(b, "made a snapshot"...)
	}
	if s.ConfState != nil {
		b = appendIDs(append(b, "; voters "...), s.ConfState.Voters)
		if len(s.ConfState.Learners) > 0 {
			b = appendIDs(append(b, "; learners "...), s.ConfState.Learners)
		}
	}
	return b
}

// maxListed is the number of ids or checkpoints that a line names.
const maxListed = 10

func appendIDs(b []byte, ids []uint64) []byte {
	if len(ids) == 0 {
		return append(b, "none"...)
	}
	for i, id := range ids {
		if i == maxListed {
			return appendRest(b, len(ids)-i)
		}
		if i > 0 {
			b = append(b, ' ')
		}
		b = appendID(b, id)
	}
	return b
}

func appendRest(b []byte, n int) []byte {
	return append(strconv.AppendInt(append(b, " and "...), int64(n), 10), " more"...)
}

func appendRequest(b []byte, r *raftlog.Request) []byte {
	switch r.Kind {
	case "range", "put", "delete_range":
		if len(r.Ops) > 0 {
			b = appendOp(b, &r.Ops[0])
		}
	case "txn":
		t := txnWriter{b: b, ops: r.Ops, budget: maxOpsShown}
		t.txn(1)
		b = t.b
		if n := t.hidden + r.OpsDropped; n > 0 {
			b = append(strconv.AppendInt(append(b, "; "...), int64(n), 10), " operations are not listed"...)
		}
	case raftlog.KindV2:
		b = appendV2(b, r)
	default:
		b = appendOther(b, r)
	}
	for i, k := range r.Also {
		if i == maxListed {
			b = appendRest(b, len(r.Also)-i)
			break
		}
		b = append(append(b, "; also a "...), k...)
	}
	for i, n := range r.Unknown {
		if i == maxListed {
			b = appendRest(b, len(r.Unknown)-i)
			break
		}
		b = strconv.AppendInt(append(b, "; unknown field "...), int64(n), 10)
	}
	if r.User != "" {
		b = appendName(append(b, "; by user "...), r.User)
	}
	return b
}

// appendOp describes one key operation.
func appendOp(b []byte, op *raftlog.Op) []byte {
	switch op.Kind {
	case raftlog.OpPut:
		b = appendQuoted(append(b, "put "...), op.Key)
		return appendPut(b, op)
	case raftlog.OpDeleteRange:
		b = appendKeys(append(b, "delete "...), op)
	case raftlog.OpRange:
		b = appendKeys(append(b, "range "...), op)
		if op.Revision != 0 {
			b = strconv.AppendInt(append(b, " at revision "...), op.Revision, 10)
		}
	case raftlog.OpCompare:
		b = appendCompare(b, op)
	}
	return b
}

func appendPut(b []byte, op *raftlog.Op) []byte {
	if op.IgnoreValue {
		b = append(b, " (value kept"...)
	} else {
		b = append(strconv.AppendInt(append(b, " (value of "...), int64(op.Value.Len), 10), " bytes"...)
	}
	switch {
	case op.IgnoreLease:
		b = append(b, ", lease kept"...)
	case op.Lease != 0:
		b = appendLease(append(b, ", lease "...), op.Lease)
	}
	return append(b, ')')
}

// appendKeys names one key or a range of them.
func appendKeys(b []byte, op *raftlog.Op) []byte {
	switch {
	case len(op.RangeEnd) == 0:
		return appendQuoted(b, op.Key)
	case len(op.RangeEnd) == 1 && op.RangeEnd[0] == 0:
		return append(appendQuoted(append(b, "from "...), op.Key), " on"...)
	}
	b = appendQuoted(append(b, "from "...), op.Key)
	return appendQuoted(append(b, " to before "...), op.RangeEnd)
}

var (
	compareTargets = []string{"version", "create", "mod", "value", "lease"}
	compareSigns   = []string{" = ", " > ", " < ", " != "}
)

func appendCompare(b []byte, op *raftlog.Op) []byte {
	target, sign := "unknown", " ? "
	if i := int(op.Target); i >= 0 && i < len(compareTargets) {
		target = compareTargets[i]
	}
	if i := int(op.Result); i >= 0 && i < len(compareSigns) {
		sign = compareSigns[i]
	}
	b = append(append(b, target...), '(')
	b = append(append(appendKeys(b, op), ')'), sign...)
	switch target {
	case "value":
		b = append(strconv.AppendInt(append(b, "a value of "...), int64(op.Value.Len), 10), " bytes"...)
	case "lease":
		b = appendLease(b, op.Number)
	default:
		b = strconv.AppendInt(b, op.Number, 10)
	}
	return b
}

// maxOpsShown is the number of operations of one transaction that a line names.
const maxOpsShown = 12

// A txnWriter describes a transaction with those inside it.
type txnWriter struct {
	b      []byte
	ops    []raftlog.Op // not described yet
	budget int
	hidden int // operations that were left out
}

// branchWords begin the parts of a transaction.
var branchWords = []struct {
	branch raftlog.Branch
	word   string
}{{raftlog.BranchIf, "if"}, {raftlog.BranchSuccess, "then"}, {raftlog.BranchFailure, "else"}}

// txn describes the operations of one transaction, which are those of its depth and
// deeper.
func (t *txnWriter) txn(depth int) {
	t.b = append(t.b, "txn"...)
	for _, part := range branchWords {
		n := t.count(part.branch, depth)
		if n == 0 {
			continue
		}
		t.b = append(append(append(t.b, ' '), part.word...), " ("...)
		t.b = append(strconv.AppendInt(t.b, int64(n), 10), ')')
		t.branch(part.branch, depth)
	}
}

// count gives the number of operations of the next branch, those inside them left
// out.
func (t *txnWriter) count(branch raftlog.Branch, depth int) (n int) {
	for i := range t.ops {
		op := &t.ops[i]
		if op.Depth < depth || op.Depth == depth && op.Branch != branch {
			break
		}
		if op.Depth == depth {
			n++
		}
	}
	return n
}

func (t *txnWriter) branch(branch raftlog.Branch, depth int) {
	separator := " "
	for len(t.ops) > 0 && t.ops[0].Depth == depth && t.ops[0].Branch == branch {
		op := &t.ops[0]
		t.ops = t.ops[1:]
		if t.budget == 0 {
			t.hidden++
			t.pass(depth)
			continue
		}
		t.budget--
		t.b = append(t.b, separator...)
		separator = ", "
		if op.Kind != raftlog.OpTxn {
			t.b = appendOp(t.b, op)
			continue
		}
		t.b = append(t.b, '[')
		t.txn(depth + 1)
		t.b = append(t.b, ']')
	}
}

// pass leaves out what lies deeper.
func (t *txnWriter) pass(depth int) {
	for len(t.ops) > 0 && t.ops[0].Depth > depth {
		t.ops = t.ops[1:]
		t.hidden++
	}
}

func appendV2(b []byte, r *raftlog.Request) []byte {
	b = appendName(append(b, "v2 "...), r.V2.Method)
	b = appendName(append(b, ' '), r.V2.Path)
	b = append(strconv.AppendInt(append(b, " (value of "...), int64(r.V2.Value.Len), 10), " bytes)"...)
	switch {
	case r.Version != nil:
		b = appendName(append(b, ": cluster version "...), r.Version.Version)
	case r.Member != nil:
		b = append(appendID(append(b, ": member "...), r.Member.ID), inspect.DescribeMember(r.Member)...)
	}
	return b
}

// appendOther describes requests that are not about keys.
func appendOther(b []byte, r *raftlog.Request) []byte {
	b = append(b, r.Kind...)
	switch {
	case r.Compaction != nil:
		b = strconv.AppendInt(append(b, " at revision "...), r.Compaction.Revision, 10)
		if r.Compaction.Physical {
			b = append(b, ", physical"...)
		}
	case r.Lease != nil:
		b = appendLease(append(b, ' '), r.Lease.ID)
		if r.Kind == "lease_grant" {
			b = append(strconv.AppendInt(append(b, ", ttl "...), r.Lease.TTL, 10), " s"...)
		}
	case len(r.Checkpoints) > 0:
		for i, c := range r.Checkpoints {
			if i == maxListed {
				return appendRest(b, len(r.Checkpoints)-i)
			}
			b = appendLease(append(b, ' '), c.ID)
			b = append(strconv.AppendInt(append(b, ": "...), c.Remaining, 10), " s left"...)
		}
	case r.Alarm != nil:
		b = append(append(b, ": "...), inspect.DescribeAlarm(r.Alarm)...)
	case r.Auth != nil:
		b = appendAuth(b, r.Auth)
	case r.Member != nil:
		b = append(appendID(append(b, " of member "...), r.Member.ID), inspect.DescribeMember(r.Member)...)
	case r.Version != nil:
		b = appendName(append(b, ' '), r.Version.Version)
		if r.Kind == "downgrade_info_set" && !r.Version.Enabled {
			b = append(b, ", no downgrade"...)
		}
	}
	return b
}

// appendAuth names whom a request of authentication is about. Passwords and tokens are
// not even decoded.
func appendAuth(b []byte, a *raftlog.Auth) []byte {
	if a.User != "" {
		b = appendName(append(b, " user "...), a.User)
	}
	if a.Role != "" {
		b = appendName(append(b, " role "...), a.Role)
	}
	return b
}

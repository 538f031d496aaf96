package raftlog

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// A ChangeType says how a ConfChange alters the membership.
type ChangeType int32

// The change types of raft.
const (
	AddNode        ChangeType = 0 // also the promotion of a learner
	RemoveNode     ChangeType = 1
	UpdateNode     ChangeType = 2
	AddLearnerNode ChangeType = 3
)

// String gives the short name of a type, or its number.
func (t ChangeType) String() string {
	switch t {
	case AddNode:
		return "add"
	case RemoveNode:
		return "remove"
	case UpdateNode:
		return "update"
	case AddLearnerNode:
		return "add_learner"
	}
	return "change type " + strconv.Itoa(int(t))
}

// A Change is one membership change of one node.
type Change struct {
	Type   ChangeType
	NodeID uint64
}

// A Member is a member as a ConfChange describes it.
type Member struct {
	ID         uint64   `json:"id"`
	PeerURLs   []string `json:"peerURLs"`
	IsLearner  bool     `json:"isLearner"`
	Name       string   `json:"name"`
	ClientURLs []string `json:"clientURLs"`
}

// A ConfChange is an entry that changes the membership.
type ConfChange struct {
	ID         uint64 // of the proposal; 0 in a ConfChangeV2
	Changes    []Change
	V2         bool
	Transition int32   // only in a ConfChangeV2
	Member     *Member // nil when the context does not describe one
	Promotes   bool    // a learner becomes a voter
	ContextLen int     // bytes of context
	// ContextErr tells why the context could not be read. raft does not look at
	// the context, etcd panics on it.
	ContextErr error
}

// maxContext bounds the JSON that is read. A context is a few hundred bytes.
const maxContext = 1 << 20

// maxChanges bounds the changes of one ConfChangeV2.
const maxChanges = 10000

// DecodeConfChange reads the data of an entry of type EntryConfChange or
// EntryConfChangeV2.
func DecodeConfChange(t EntryType, b []byte) (ConfChange, error) {
	var c ConfChange
	var context []byte
	f := fields{rest: b}
	switch t {
	case EntryConfChange:
		c.Changes = make([]Change, 1)
		for f.next() {
			switch {
			case f.varint(1):
				c.ID = f.n
			case f.varint(2):
				c.Changes[0].Type = ChangeType(f.n)
			case f.varint(3):
				c.Changes[0].NodeID = f.n
			case f.bytes(4):
				context = f.b
			}
		}
	case EntryConfChangeV2:
		c.V2 = true
		for f.next() && f.err == nil {
			switch {
			case f.varint(1):
				c.Transition = int32(f.n)
			case f.bytes(2):
				var one Change
				if one, f.err = decodeChange(f.b); f.err == nil {
					c.Changes = append(c.Changes, one)
				}
				if len(c.Changes) > maxChanges {
					f.err = fmt.Errorf("more than %d changes", maxChanges)
				}
			case f.bytes(3):
				context = f.b
			}
		}
	default:
		return c, fmt.Errorf("conf change: %v", t)
	}
	if f.err != nil {
		return c, wrap("conf change", f.err)
	}
	c.ContextLen = len(context)
	c.readContext(context)
	return c, nil
}

func decodeChange(b []byte) (Change, error) {
	var c Change
	f := fields{rest: b}
	for f.next() {
		switch {
		case f.varint(1):
			c.Type = ChangeType(f.n)
		case f.varint(2):
			c.NodeID = f.n
		}
	}
	return c, f.err
}

func (c *ConfChange) readContext(b []byte) {
	if len(b) == 0 {
		return
	}
	if len(b) > maxContext {
		c.ContextErr = fmt.Errorf("context of %d bytes, limit %d", len(b), maxContext)
		return
	}
	// membership.ConfigChangeContext embeds membership.Member, so one shape
	// serves for both (etcdserver/api/membership/cluster.go, v3.7.3).
	var context struct {
		Member
		Promotes bool `json:"isPromote"`
	}
	if err := json.Unmarshal(b, &context); err != nil {
		c.ContextErr = fmt.Errorf("context: %w", err)
		return
	}
	c.Member, c.Promotes = &context.Member, context.Promotes
}

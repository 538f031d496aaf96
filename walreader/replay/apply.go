package replay

import (
	"encoding/json"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/etcdserver/apply"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"etcd-forensics/walreader/raftlog"
)

// applyEntries applies one entry as a server does (etcd v3.7.3,
// server/etcdserver/server.go, apply). Its name is the one that etcd's own check of
// transactions looks for among the callers (server/storage/backend/verify.go).
func (s *store) applyEntries(e item) error {
	if e.Index != s.applied+1 {
		return &Failure{ReasonEntry, e.Index, fmt.Sprintf("it does not follow entry %d", s.applied)}
	}
	s.at = e.Index
	s.index.SetConsistentApplyingIndex(e.Index, e.Term)
	var err error
	switch e.Type {
	case raftlog.EntryNormal:
		err = s.normal(e)
	case raftlog.EntryConfChange:
		err = s.confChange(e.Entry)
	default:
		err = &Failure{ReasonChangeV2, e.Index, fmt.Sprintf("it is of type %s, which etcd does not write", e.Type)}
	}
	if err != nil {
		return err
	}
	if s.index.ConsistentIndex() < e.Index {
		s.index.SetConsistentIndex(e.Index, e.Term)
	}
	s.applied, s.term = e.Index, e.Term
	s.counts.Applied++
	if s.pending += len(e.Data); s.pending >= batchBytes {
		s.be.ForceCommit()
		s.pending = 0
	}
	if err := s.look(); err != nil {
		return err
	}
	return s.checkConfState()
}

func (s *store) normal(e item) error {
	r := e.request
	switch {
	case e.failure != nil:
		e.failure.Index = e.Index
		return e.failure
	case r == nil || noSideEffect(r):
		s.counts.Skipped++
		return nil
	}
	res := s.applier.Apply(&apply.InternalRaftRequestWrapper{InternalRaftRequest: r, SkipRangeExecution: r.Txn != nil}, membership.ApplyBoth)
	switch {
	case res == nil:
		return nil
	case res.Err != nil && r.Authenticate != nil:
		s.counts.Skipped++ // no token is given out here, and it changes no state
	case res.Err != nil:
		kind, _ := raftlog.KindOf(e.Data)
		s.counts.Refused[string(kind)]++
	}
	if res.Physc != nil {
		<-res.Physc
	}
	return nil
}

// noSideEffect is etcd's own list of what a server does not apply when no client waits
// for the answer (server/etcdserver/apply/apply.go).
func noSideEffect(r *pb.InternalRaftRequest) bool {
	return r.Range != nil || r.AuthUserGet != nil || r.AuthRoleGet != nil || r.AuthStatus != nil
}

// confChange follows etcd's applyConfChange (server/etcdserver/server.go), without raft
// and without peers to connect to.
func (s *store) confChange(e raftlog.Entry) error {
	var cc raftpb.ConfChange
	if err := proto.Unmarshal(e.Data, &cc); err != nil {
		return &Failure{ReasonEntry, e.Index, "a change of the membership that cannot be decoded"}
	}
	id := types.ID(cc.GetNodeId())
	// Of an update it is a membership.Member, the embedded part of the same JSON.
	var context membership.ConfigChangeContext
	if cc.GetType() != raftpb.ConfChangeRemoveNode {
		if err := json.Unmarshal(cc.Context, &context); err != nil || context.ID != id {
			return &Failure{ReasonEntry, e.Index, "a change of the membership whose context is not of its member"}
		}
	}
	if err := s.cluster.ValidateConfigurationChange(&cc, membership.ApplyBoth); err != nil {
		s.counts.Refused[raftlog.EntryConfChange.String()]++
		return nil
	}
	switch cc.GetType() {
	case raftpb.ConfChangeAddNode, raftpb.ConfChangeAddLearnerNode:
		if context.IsPromote {
			s.cluster.PromoteMember(id, membership.ApplyBoth)
		} else {
			s.cluster.AddMember(&context.Member, membership.ApplyBoth)
		}
	case raftpb.ConfChangeRemoveNode:
		s.cluster.RemoveMember(id, membership.ApplyBoth)
	case raftpb.ConfChangeUpdateNode:
		s.cluster.UpdateRaftAttributes(id, context.RaftAttributes, membership.ApplyBoth)
	}
	s.hooks.SetConfState(s.confState())
	return nil
}

// confState gives the membership as etcd itself makes a conf state of members (etcd
// v3.7.3, server/etcdserver/bootstrap.go, buildConfStateFromV3store), and as raft gives it
// to a server: what is false is stated, too.
func (s *store) confState() *raftpb.ConfState {
	cs := &raftpb.ConfState{AutoLeave: new(bool)}
	for _, m := range s.cluster.Members() {
		if m.IsLearner {
			cs.Learners = append(cs.Learners, uint64(m.ID))
		} else {
			cs.Voters = append(cs.Voters, uint64(m.ID))
		}
	}
	return cs
}

// checkConfState holds the membership against what snapshot records state.
func (s *store) checkConfState() error {
	for len(s.confStates) > 0 && s.confStates[0].Index <= s.applied {
		stated := s.confStates[0]
		s.confStates = s.confStates[1:]
		if stated.Index < s.applied {
			continue
		}
		cs := s.confState()
		if !same(cs.Voters, stated.Voters) || !same(cs.Learners, stated.Learners) {
			return &Failure{ReasonConfState, stated.Index, fmt.Sprintf(
				"a snapshot record states %d voters and %d learners as of it, and the entries lead to %d and %d", len(stated.Voters), len(stated.Learners), len(cs.Voters), len(cs.Learners))}
		}
	}
	return nil
}

func same(a, b []uint64) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

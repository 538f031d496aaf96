// Package raftlog gives the records of a write-ahead log their meaning:
// entries, requests, hard state, snapshot records and membership changes. It
// also sums up a whole log in one pass and in memory that does not grow with
// it.
//
// It states facts and never judges them. Values, passwords and tokens are
// not copied out of the evidence: of a value a Request holds the size.
//
// # Messages
//
// All are protobuf; a field that is absent has the value zero. Until 3.6 etcd
// writes fields of these messages also when they are zero, from 3.7 on it may
// leave them out. Field numbers are the same in 3.4 to 3.8.
//
//	record    message                  fields
//	metadata  etcdserverpb.Metadata    1 NodeID, 2 ClusterID
//	entry     raftpb.Entry             1 Type, 2 Term, 3 Index, 4 Data
//	state     raftpb.HardState         1 term, 2 vote, 3 commit
//	snapshot  walpb.Snapshot           1 index, 2 term, 3 conf_state (3.5 and later)
//
//	raftpb.ConfState    1 voters, 2 learners, 3 voters_outgoing, 4 learners_next, 5 auto_leave
//	raftpb.ConfChange   1 id, 2 type, 3 node_id, 4 context
//	raftpb.ConfChangeV2 1 transition, 2 changes {1 type, 2 node_id}, 3 context
//
// Sources: etcdserver/etcdserverpb/etcdserver.proto (api/etcdserverpb from 3.5
// on), raft/raftpb/raft.proto of raft v3.7.0, server/storage/wal/walpb/record.proto
// of v3.7.3.
//
// The data of an entry of type normal is an etcdserverpb.InternalRaftRequest
// (api/etcdserverpb/raft_internal.proto, v3.7.3), or nothing: a leader begins its
// term with an empty entry. 3.4 and 3.5 also write etcdserverpb.Request, a request of
// the v2 store (applyEntryNormal in etcdserver/server.go, v3.5.21, tries one
// message and then the other).
//
// The data of an entry that changes the membership is a raftpb.ConfChange, whose
// context is JSON: membership.ConfigChangeContext when a member is added or
// promoted, membership.Member when one is updated, nothing when one is removed.
// etcd does not write ConfChangeV2; it is decoded all the same.
package raftlog

package raftlog

import (
	"fmt"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// maxConfMembers bounds the lists of a ConfState. etcd clusters have up to nine members.
const maxConfMembers = 10000

// Metadata is the record at the head of each segment.
type Metadata struct {
	NodeID    uint64 // the member that wrote the log
	ClusterID uint64
}

// DecodeMetadata reads the data of a metadata record.
func DecodeMetadata(b []byte) (Metadata, error) {
	var m Metadata
	f := fields{rest: b}
	for f.next() {
		switch {
		case f.varint(1):
			m.NodeID = f.n
		case f.varint(2):
			m.ClusterID = f.n
		}
	}
	return m, wrap("metadata", f.err)
}

// HardState is what a member must not forget between two runs.
type HardState struct {
	Term   uint64
	Vote   uint64 // member id, 0 for none
	Commit uint64 // raft index that the member knew to be committed
}

// DecodeHardState reads the data of a state record.
func DecodeHardState(b []byte) (HardState, error) {
	var s HardState
	f := fields{rest: b}
	for f.next() {
		switch {
		case f.varint(1):
			s.Term = f.n
		case f.varint(2):
			s.Vote = f.n
		case f.varint(3):
			s.Commit = f.n
		}
	}
	return s, wrap("hard state", f.err)
}

// ConfState is a raft membership.
type ConfState struct {
	Voters         []uint64
	Learners       []uint64
	VotersOutgoing []uint64 // only in joint consensus, which etcd does not use
	LearnersNext   []uint64
	AutoLeave      bool
}

// DecodeConfState reads a raftpb.ConfState.
func DecodeConfState(b []byte) (ConfState, error) {
	var c ConfState
	f := fields{rest: b}
	for f.next() {
		switch f.num {
		case 1:
			c.Voters = f.numbers(c.Voters, maxConfMembers)
		case 2:
			c.Learners = f.numbers(c.Learners, maxConfMembers)
		case 3:
			c.VotersOutgoing = f.numbers(c.VotersOutgoing, maxConfMembers)
		case 4:
			c.LearnersNext = f.numbers(c.LearnersNext, maxConfMembers)
		case 5:
			if f.varint(5) {
				c.AutoLeave = f.n != 0
			}
		}
	}
	return c, wrap("conf state", f.err)
}

// SnapshotRecord says that the member has a snapshot at an index: one it made
// or one it received.
type SnapshotRecord struct {
	Index     uint64
	Term      uint64
	ConfState *ConfState // nil before 3.5 and in the record at the begin of a log
}

// DecodeSnapshotRecord reads the data of a snapshot record.
func DecodeSnapshotRecord(b []byte) (SnapshotRecord, error) {
	var s SnapshotRecord
	f := fields{rest: b}
	for f.next() {
		switch {
		case f.varint(1):
			s.Index = f.n
		case f.varint(2):
			s.Term = f.n
		case f.bytes(3):
			c, err := DecodeConfState(f.b)
			if err != nil {
				return s, wrap("snapshot record", err)
			}
			s.ConfState = &c
		}
	}
	return s, wrap("snapshot record", f.err)
}

// usualFields gives index and term of a snapshot record as far as they are of the right
// kind; nil when the record is no message.
func usualFields(b []byte) *SnapshotRecord {
	var s SnapshotRecord
	f := fields{rest: b}
	for f.next() {
		switch {
		case f.typ != protowire.VarintType:
		case f.num == 1:
			s.Index = f.n
		case f.num == 2:
			s.Term = f.n
		}
	}
	if f.err != nil {
		return nil
	}
	return &s
}

// An EntryType says what an entry's data holds.
type EntryType int32

// The entry types of raft.
const (
	EntryNormal       EntryType = 0 // a request, or nothing
	EntryConfChange   EntryType = 1
	EntryConfChangeV2 EntryType = 2
)

// String gives the short name of a type, or its number.
func (t EntryType) String() string {
	switch t {
	case EntryNormal:
		return "normal"
	case EntryConfChange:
		return "conf_change"
	case EntryConfChangeV2:
		return "conf_change_v2"
	}
	return "entry type " + strconv.Itoa(int(t))
}

// An Entry is one raft entry.
type Entry struct {
	Index uint64
	Term  uint64
	Type  EntryType
	Data  []byte // part of the record, not a copy
}

// DecodeEntry reads the data of an entry record. It does not allocate.
func DecodeEntry(b []byte) (Entry, error) {
	var e Entry
	f := fields{rest: b}
	for f.next() {
		switch f.num {
		case 1:
			if f.varint(1) {
				e.Type = EntryType(f.n)
			}
		case 2:
			if f.varint(2) {
				e.Term = f.n
			}
		case 3:
			if f.varint(3) {
				e.Index = f.n
			}
		case 4:
			if f.bytes(4) {
				e.Data = f.b
			}
		}
	}
	return e, wrap("entry", f.err)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

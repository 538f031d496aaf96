// Package replay has etcd's own applier, unmodified, apply entries of a log to a copy
// of a database (go.etcd.io/etcd/server/v3 v3.7.3). It runs in a child process: etcd's
// code ends a process when a database is not as it should be, and none of it opens
// evidence. Entries come to the child read and checked by package raftlog.
package replay

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"etcd-forensics/walreader"
	"etcd-forensics/walreader/raftlog"
)

// ChildCommand is the hidden argument by which the program runs itself as a child.
const ChildCommand = "replay-child"

// An Order tells a child what to do. It is one line of JSON on the child's standard
// input; entries follow as frames.
type Order struct {
	Work string // the copy to apply to, which is made when it is not there
	// Sweep is the folder that goes away when this process is gone before the end.
	Sweep string
	Out   string // the new file to write at the end; "" for none

	MemberID, ClusterID uint64 // of the log
	MaxLearners         int    // etcd's --max-learners
	MinLeaseTTL         int64  // in seconds, as the server computes it from its election timeout

	ToRevision int64       // stop behind the entry that makes it; 0 for none
	Watch      []byte      // tell which entry was the last to change this key; nil for none
	ConfStates []ConfState // what snapshot records say
	Marks      []uint64    // indexes as of which HashKV is told, ascending
}

// A ConfState is the membership that a snapshot record states as of an index.
type ConfState struct {
	Index            uint64
	Voters, Learners []uint64
}

// A State is where a store stands.
type State struct {
	Index           uint64
	Term            uint64
	Revision        int64
	CompactRevision int64 // -1 when nothing was ever compacted
}

// A Mark is HashKV as of an index.
type Mark struct {
	State
	Hash uint32
}

// Counts say what became of entries.
type Counts struct {
	Applied uint64            // by how many entries the index moved
	Skipped uint64            // of them: nothing in them changes a state
	Refused map[string]uint64 // of them, by kind: refused by the store, as a server does
}

// A Change is the last entry that changed or deleted the key that is watched.
type Change struct {
	Index    uint64
	Revision int64
	Deleted  bool
}

// A Done is what a child has done. The file that was ordered can be read when that is
// told; its hash is being computed, and not behind it yet.
type Done struct {
	Mark
	Counts Counts
	Change *Change // of the watched key; nil when no entry changed it
}

// A Written is the file that was ordered, whole and on the disk; it is zero when none was.
type Written struct {
	Size   int64 // with the hash at its end, in bytes
	SHA256 []byte
}

// A Reason says why entries cannot be applied.
type Reason string

// Reasons.
const (
	ReasonUnknown   Reason = "unknown-request" // of a newer etcd
	ReasonVersion   Reason = "cluster-version" // newer than the applier
	ReasonChangeV2  Reason = "conf-change-v2"  // which etcd never writes
	ReasonConfState Reason = "conf-state"      // a snapshot record contradicts the membership
	ReasonEntry     Reason = "entry"           // it cannot be decoded
	ReasonApplier   Reason = "applier"         // etcd's code gave up
	ReasonFile      Reason = "file"            // reading or writing the copy failed
	ReasonEnded     Reason = "ended"           // the child was ended, and did not say why
)

// A Failure is why a child gave up, and at which entry.
type Failure struct {
	Reason Reason
	Index  uint64 // 0 when it was no entry
	Text   string
}

func (f *Failure) Error() string {
	if f.Index == 0 {
		return f.Text
	}
	return fmt.Sprintf("entry %d: %s", f.Index, f.Text)
}

// An event is what a child says on its standard output, a line of JSON each.
type event struct {
	Opened  *State   `json:",omitempty"` // the copy is open
	Mark    *Mark    `json:",omitempty"`
	Stopped bool     `json:",omitempty"` // no further entry is applied
	Done    *Done    `json:",omitempty"`
	Written *Written `json:",omitempty"` // behind which nothing follows
	Failed  *Failure `json:",omitempty"`
}

func say(w io.Writer, e event) error {
	b, _ := json.Marshal(e) // strings and numbers alone
	_, err := w.Write(append(b, '\n'))
	return err
}

// frameHead is the size of what stands before the data of a frame: its length, the
// entry's type, index and term.
const frameHead = 4 + 1 + 8 + 8

// typeEnd is the type of the frame behind the last entry, and of a second one by which the
// parent says that it has looked at the file.
const typeEnd = 0xff

func appendHead(b []byte, e raftlog.Entry, typ byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.Data)))
	b = append(b, typ)
	b = binary.BigEndian.AppendUint64(b, e.Index)
	return binary.BigEndian.AppendUint64(b, e.Term)
}

var errFrame = errors.New("no frame of an entry")

// readFrame reads the next frame, its data into a batch; end is set behind the last entry.
func readFrame(r io.Reader, into *batch) (e raftlog.Entry, end bool, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return e, false, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > walreader.DefaultMaxRecord {
		return e, false, errFrame
	}
	e = raftlog.Entry{Type: raftlog.EntryType(head[4]), Index: binary.BigEndian.Uint64(head[5:]), Term: binary.BigEndian.Uint64(head[13:])}
	if head[4] == typeEnd {
		return e, true, nil
	}
	e.Data = into.room(int(n))
	_, err = io.ReadFull(r, e.Data)
	return e, false, err
}

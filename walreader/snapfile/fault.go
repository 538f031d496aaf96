package snapfile

import (
	"fmt"
	"strconv"
)

// A FaultKind names the rule that the bytes of a .snap file break.
type FaultKind uint8

// The fault kinds. The zero value is no fault that Read reports.
const (
	FaultUnknown    FaultKind = iota
	FaultEmpty                // no bytes, no data, or a checksum of 0, which etcd takes for the same
	FaultTruncated            // a field is longer than what is left of the file
	FaultFrame                // not a snappb.Snapshot
	FaultChecksum             // the checksum does not match the data
	FaultSnapshot             // the data is not a raftpb.Snapshot
	FaultConfState            // the metadata is not what it should be
	FaultStore                // the v2 store is not the JSON it should be
	FaultMembership           // a member in the v2 store is not what it should be
	FaultLimit                // more than what is examined
)

var faultText = [...]string{
	FaultUnknown:    "unknown",
	FaultEmpty:      "empty snapshot",
	FaultTruncated:  "file is too short",
	FaultFrame:      "frame does not decode",
	FaultChecksum:   "checksum mismatch",
	FaultSnapshot:   "snapshot does not decode",
	FaultConfState:  "metadata does not decode",
	FaultStore:      "v2 store does not decode",
	FaultMembership: "membership does not decode",
	FaultLimit:      "over the limit",
}

// FaultKinds lists every kind that Read reports.
func FaultKinds() []FaultKind {
	kinds := make([]FaultKind, 0, len(faultText)-1)
	for k := FaultEmpty; int(k) < len(faultText); k++ {
		kinds = append(kinds, k)
	}
	return kinds
}

// String gives the rule in a few words.
func (k FaultKind) String() string {
	if int(k) < len(faultText) {
		return faultText[k]
	}
	return "fault " + strconv.Itoa(int(k))
}

// A Fault is a broken rule at a known place of a .snap file.
type Fault struct {
	Kind   FaultKind
	Offset int64 // first byte of the field, or of the JSON value, that is wrong
	Err    error // the cause, with the numbers; nil if Kind says it all
}

// Error makes a Fault usable as an error.
func (f *Fault) Error() string {
	if f.Err == nil {
		return fmt.Sprintf("+0x%x: %v", f.Offset, f.Kind)
	}
	return fmt.Sprintf("+0x%x: %v: %v", f.Offset, f.Kind, f.Err)
}

// Unwrap gives the cause.
func (f *Fault) Unwrap() error { return f.Err }

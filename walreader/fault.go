package walreader

import (
	"fmt"
	"strconv"
)

// A Position names the frame a statement is about.
type Position struct {
	Segment string // base name of the segment file
	Offset  int64  // first byte of the frame header
	Frame   int    // 0 for the first frame of the segment
}

// String gives the form "a.wal+0x40 (frame 2)".
func (p Position) String() string {
	return p.Segment + "+0x" + strconv.FormatInt(p.Offset, 16) + " (frame " + strconv.Itoa(p.Frame) + ")"
}

// A FaultKind names the rule that the bytes break.
type FaultKind uint8

// The fault kinds. The zero value is no fault that a reader reports.
const (
	FaultUnknown FaultKind = iota
	// FaultShortHeader: one to seven bytes remain where a length word belongs.
	FaultShortHeader
	// FaultTruncated: the segment ends inside a frame whose length word and
	// record agree with each other, so the file is shorter than it was.
	FaultTruncated
	// FaultLength: the length word contradicts the record or the end of the
	// segment.
	FaultLength
	// FaultZeroGap: the length word is zero and bytes that are not zero follow.
	// etcd takes it for the end of the segment.
	FaultZeroGap
	// FaultTorn: the last segment, a record that does not decode or whose
	// checksum differs, and a sector of it is zero: etcd's rule for a write that
	// was cut short, and the place where it cuts the segment.
	FaultTorn
	// FaultRecord: the record is not the message it should be.
	FaultRecord
	// FaultChecksum: the record's checksum does not match its bytes.
	FaultChecksum
	// FaultSeed: a crc record states another checksum than the records before
	// it lead to. At the head of a segment: the end of the one before is not what it was.
	FaultSeed
	// FaultType: the record is of no type that etcd knows.
	FaultType
	// FaultPadding: the padding does not fill the frame to a multiple of 8 bytes
	// and no frame is found where it leads.
	FaultPadding
	// FaultReserved: bits or padding bytes that etcd writes as zero are not.
	// etcd does not look at them.
	FaultReserved
	// FaultOversize: the record is longer than Options.MaxRecord. Its checksum
	// was examined, its data is not handed out.
	FaultOversize
	// FaultTangled: the frames found by reading on overlap so much that the
	// rest of the segment was left unread.
	FaultTangled
)

var faultText = [...]string{
	FaultUnknown:     "unknown",
	FaultShortHeader: "segment ends inside a length word",
	FaultTruncated:   "segment ends inside a frame",
	FaultLength:      "length word is wrong",
	FaultZeroGap:     "zero length word before other bytes",
	FaultTorn:        "torn write",
	FaultRecord:      "record does not decode",
	FaultChecksum:    "checksum mismatch",
	FaultSeed:        "checksum does not continue",
	FaultType:        "unknown record type",
	FaultPadding:     "padding is wrong",
	FaultReserved:    "reserved bits are set",
	FaultOversize:    "record is over the limit",
	FaultTangled:     "frames overlap",
}

// FaultKinds lists every kind that a Reader reports.
func FaultKinds() []FaultKind {
	kinds := make([]FaultKind, 0, len(faultText)-1)
	for k := FaultShortHeader; int(k) < len(faultText); k++ {
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

// Stops says whether etcd reads nothing more of the segment after such a fault.
func (k FaultKind) Stops() bool { return k != FaultReserved && k != FaultOversize }

// A Fault is a broken rule at a known place.
type Fault struct {
	Kind FaultKind
	At   Position
	Err  error // the cause, with the numbers; nil if Kind says it all
	// Torn says that etcd takes the frame for a write that was cut short, whatever
	// it is, and cuts the segment there without a word.
	Torn bool
}

// Error makes a Fault usable as an error.
func (f *Fault) Error() string {
	if f.Err == nil {
		return fmt.Sprintf("%v: %v", f.At, f.Kind)
	}
	return fmt.Sprintf("%v: %v: %v", f.At, f.Kind, f.Err)
}

// Unwrap gives the cause.
func (f *Fault) Unwrap() error { return f.Err }

// A Tail says how a segment ends.
type Tail uint8

// The ends of a segment.
const (
	TailUnknown Tail = iota // not read to the end
	TailExact               // the last frame ends with the file
	TailZeroed              // zero bytes from a frame boundary to the end: the normal preallocation
	TailTorn                // etcd's rule for a torn write is met and nothing readable follows
	TailFault               // a fault at which etcd stops reading
)

// String gives one word.
func (t Tail) String() string {
	switch t {
	case TailExact:
		return "exact"
	case TailZeroed:
		return "zeroed"
	case TailTorn:
		return "torn"
	case TailFault:
		return "fault"
	}
	return "unknown"
}

// A Proof says what vouches for a frame.
type Proof uint8

// The strengths of a proof.
const (
	// Contradicted: the frame's checksum does not match its data.
	Contradicted Proof = iota
	// Plausible: the frame was found by reading on after a fault. Its lengths and
	// fields line up, but no unbroken chain of checksums leads to it.
	Plausible
	// Proven: an unbroken chain of checksums leads to the frame from the crc
	// record at the head of the segment.
	Proven
)

// String gives one word.
func (p Proof) String() string {
	switch p {
	case Proven:
		return "proven"
	case Plausible:
		return "plausible"
	}
	return "contradicted"
}

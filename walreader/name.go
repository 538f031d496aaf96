package walreader

import (
	"fmt"
	"strconv"
	"strings"
)

// A SegmentName is what the name of a segment file states.
type SegmentName struct {
	Seq   uint64 // grows by one from segment to segment
	Index uint64 // one more than the highest raft index saved when the segment was begun
}

// String gives the file name, %016x-%016x.wal (util.go, walName, v3.7.3).
func (n SegmentName) String() string { return fmt.Sprintf("%016x-%016x.wal", n.Seq, n.Index) }

// ParseSegmentName reads a name exactly as etcd writes it: two numbers of
// 16 lower-case hex digits.
func ParseSegmentName(name string) (SegmentName, bool) {
	if len(name) != 16+1+16+4 || name[16] != '-' || name[33:] != ".wal" {
		return SegmentName{}, false
	}
	if strings.ToLower(name) != name {
		return SegmentName{}, false
	}
	seq, err := strconv.ParseUint(name[:16], 16, 64)
	if err != nil {
		return SegmentName{}, false
	}
	index, err := strconv.ParseUint(name[17:33], 16, 64)
	if err != nil {
		return SegmentName{}, false
	}
	return SegmentName{seq, index}, true
}

// A NameClass says what kind of file a name in a WAL directory stands for.
type NameClass uint8

// The classes of names.
const (
	// NameForeign: etcd does not write such a file into a WAL directory.
	NameForeign NameClass = iota
	// NameSegment: a segment.
	NameSegment
	// NameMisspelt: etcd's parser is loose and takes the file for a segment,
	// although etcd does not write such a name.
	NameMisspelt
	// NamePreallocated: 0.tmp or 1.tmp, the next segment, made in advance.
	NamePreallocated
	// NameBroken: the copy that etcd keeps of a segment whose end it cut off.
	NameBroken
	// NameTemporary: another .tmp file.
	NameTemporary
)

// String gives one word.
func (c NameClass) String() string {
	switch c {
	case NameSegment:
		return "segment"
	case NameMisspelt:
		return "misspelt"
	case NamePreallocated:
		return "preallocated"
	case NameBroken:
		return "broken"
	case NameTemporary:
		return "temporary"
	}
	return "foreign"
}

// ClassifyName says what a name in a WAL directory stands for. The SegmentName
// is set for NameSegment and NameMisspelt.
func ClassifyName(name string) (NameClass, SegmentName) {
	if n, ok := ParseSegmentName(name); ok {
		return NameSegment, n
	}
	if n, ok := parseLoosely(name); ok {
		return NameMisspelt, n
	}
	switch {
	case name == "0.tmp", name == "1.tmp": // file_pipeline.go counts modulo 2
		return NamePreallocated, SegmentName{}
	case strings.HasSuffix(name, ".broken"):
		return NameBroken, SegmentName{}
	case strings.HasSuffix(name, ".tmp"):
		return NameTemporary, SegmentName{}
	}
	return NameForeign, SegmentName{}
}

// parseLoosely reads a name as etcd's parser does (util.go, parseWALName,
// v3.7.3): shorter numbers, upper case and anything between the first and the
// last ".wal" pass.
func parseLoosely(name string) (SegmentName, bool) {
	if !strings.HasSuffix(name, ".wal") {
		return SegmentName{}, false
	}
	var n SegmentName
	_, err := fmt.Sscanf(name, "%016x-%016x.wal", &n.Seq, &n.Index)
	return n, err == nil
}

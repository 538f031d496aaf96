package snapfile

import (
	"fmt"
	"strconv"
	"strings"
)

// A Name is what the name of a .snap file states.
type Name struct {
	Term, Index uint64
}

// String gives the file name, %016x-%016x.snap (snapshotter.go, save, v3.5.21).
func (n Name) String() string { return fmt.Sprintf("%016x-%016x.snap", n.Term, n.Index) }

// ParseName reads a name as etcd writes it.
func ParseName(name string) (Name, bool) {
	if len(name) != 16+1+16+5 || name[16] != '-' || name[33:] != ".snap" {
		return Name{}, false
	}
	term, ok1 := hex16(name[:16])
	index, ok2 := hex16(name[17:33])
	return Name{term, index}, ok1 && ok2
}

func hex16(s string) (uint64, bool) {
	if len(s) != 16 || strings.ToLower(s) != s {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 16, 64)
	return n, err == nil
}

// A NameClass says what kind of file a name in a snap directory stands for.
type NameClass uint8

// The classes of names.
const (
	NameForeign   NameClass = iota // etcd does not write such a file there
	NameBackend                    // db
	NameSnap                       // %016x-%016x.snap
	NameMisspelt                   // another name that ends in .snap: etcd reads it all the same
	NameReceived                   // %016x.snap.db
	NameBroken                     // a .snap or .snap.db that was renamed to .broken
	NameReceiving                  // tmp*
	NameDefrag                     // db.tmp.*
)

// String gives one word.
func (c NameClass) String() string {
	switch c {
	case NameBackend:
		return "backend"
	case NameSnap:
		return "snap"
	case NameMisspelt:
		return "misspelt"
	case NameReceived:
		return "received"
	case NameBroken:
		return "broken"
	case NameReceiving:
		return "receiving"
	case NameDefrag:
		return "defrag"
	}
	return "foreign"
}

// ClassifyName says what a name in a snap directory stands for. The Name is set for
// NameSnap, and its Index for NameReceived.
func ClassifyName(name string) (NameClass, Name) {
	if n, ok := ParseName(name); ok {
		return NameSnap, n
	}
	if id, ok := strings.CutSuffix(name, ".snap.db"); ok {
		if index, ok := hex16(id); ok {
			return NameReceived, Name{Index: index}
		}
	}
	switch {
	case name == "db":
		return NameBackend, Name{}
	case strings.HasSuffix(name, ".broken"):
		return NameBroken, Name{}
	case strings.HasPrefix(name, "db.tmp"):
		return NameDefrag, Name{}
	case strings.HasSuffix(name, ".snap"):
		return NameMisspelt, Name{}
	case strings.HasPrefix(name, "tmp"):
		return NameReceiving, Name{}
	}
	return NameForeign, Name{}
}

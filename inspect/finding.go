package inspect

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"etcd-forensics/snapdb/page"
)

// Severity grades a finding. A code has one severity, always.
type Severity uint8

const (
	SeverityNote    Severity = iota + 1 // worth knowing, nothing to do
	SeverityWarning                     // something to do, not now
	SeverityError                       // evidence is damaged or contradicts itself
)

var severityNames = [...]string{"", "note", "warning", "error"}

func (s Severity) String() string { return severityNames[s] }

// MarshalText gives the name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// ParseSeverity reads a name.
func ParseSeverity(name string) (Severity, bool) {
	i := slices.Index(severityNames[1:], name)
	return Severity(i + 1), i >= 0
}

// A Finding is one judged fact.
type Finding struct {
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	Member   string   `json:"member"`  // the source, as it was given; "" for the case as a whole
	Message  string   `json:"message"` // what is wrong, with the numbers; text from evidence is quoted
	Hint     string   `json:"hint"`    // what to do next
	Location Location `json:"location"`
	// RelatedPages are other pages that the finding concerns, such as the child
	// that a bad reference names.
	RelatedPages []uint64 `json:"relatedPages"`
}

// A Location says where in the evidence; only what applies is set.
type Location struct {
	File     string  `json:"file,omitempty"`
	Offset   *int64  `json:"offset,omitempty"`   // bytes from the start of File
	Page     *uint64 `json:"page,omitempty"`     // the page whose bytes are wrong; 0 is a real page
	Index    *uint64 `json:"index,omitempty"`    // raft index
	Revision *int64  `json:"revision,omitempty"` // main revision
	Key      []byte  `json:"-"`                  // a key of the store; renderers quote it
}

// An ID is a member or cluster id. It prints as etcdctl prints it: lower-case
// hex, no leading zeros.
type ID uint64

func (id ID) String() string { return strconv.FormatUint(uint64(id), 16) }

// MarshalText gives the hex form.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// NewFinding makes a finding about a source as a whole, of a code of the catalogue.
func NewFinding(code Code, member, message string) Finding { return newFinding(code, member, message) }

// newFinding makes a finding of a code, which must be in the catalogue.
func newFinding(code Code, member, message string) Finding {
	e := catalogue[code]
	return Finding{Code: code, Severity: e.severity, Member: member, Message: message, Hint: e.do, RelatedPages: []uint64{}}
}

func (f Finding) inFile(name string) Finding {
	f.Location.File = name
	return f
}

func (f Finding) at(offset int64) Finding {
	f.Location.Offset = &offset
	return f
}

func (f Finding) onPage(id page.ID, related ...page.ID) Finding {
	n := uint64(id)
	f.Location.Page = &n
	for _, r := range related {
		f.RelatedPages = append(f.RelatedPages, uint64(r))
	}
	return f
}

func (f Finding) atRevision(rev int64) Finding {
	f.Location.Revision = &rev
	return f
}

func (f Finding) atIndex(index uint64) Finding {
	f.Location.Index = &index
	return f
}

// sortFindings orders findings by severity, then source, file, offset and code.
func sortFindings(findings []Finding, order map[string]int) {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(
			-cmp.Compare(a.Severity, b.Severity),
			cmp.Compare(order[a.Member], order[b.Member]),
			cmp.Compare(a.Location.File, b.Location.File),
			cmp.Compare(deref(a.Location.Offset, math.MaxInt64), deref(b.Location.Offset, math.MaxInt64)),
			cmp.Compare(a.Code, b.Code),
			cmp.Compare(a.Message, b.Message),
		)
	})
}

func deref[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

package symptom

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"etcd-forensics/inspect"
)

// part is where the evidence for a symptom lies.
type part uint8

const (
	nowhere      part = iota // disks do not show it
	inBackend                // the database
	inWAL                    // the log
	inSnaps                  // .snap files
	inMembership             // any place that states members
)

var partNames = [...]string{"", "database", "WAL", "directory with .snap files", "membership"}

// An Outcome is what evidence says of a symptom. Its zero value is that it says
// nothing.
type Outcome uint8

const (
	CannotShow Outcome = iota // the evidence cannot show it
	NotSeen                   // it would show it, and does not
	Confirmed
)

var outcomeNames = [...]string{"cannot-show", "not-seen", "confirmed"}

func (o Outcome) String() string { return outcomeNames[o] }

// MarshalText gives the name.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// A Proof is one thing in the evidence that confirms a symptom: a finding, or
// something else that the sources state.
type Proof struct {
	Code    inspect.Code `json:"code,omitempty"` // "" for what is no finding
	Member  string       `json:"member"`         // the source, as it was given; "" for the case
	Message string       `json:"message"`
}

// A Confirmation is what a case says of a symptom.
type Confirmation struct {
	Outcome     Outcome `json:"outcome"`
	Reason      string  `json:"reason"` // why it is no confirmation, or what does not fit one; "" when there is nothing to say
	Proofs      []Proof `json:"proofs"`
	OtherProofs int     `json:"otherProofs"` // those that are not listed
}

// maxProofs bounds the proofs that are listed.
const maxProofs = 5

// A check finds what the sources state beside findings.
type check func(Match, *inspect.Case) []Proof

// Confirm asks a case whether it confirms a symptom with the facts of a line.
func Confirm(m Match, c *inspect.Case) Confirmation {
	s := m.Symptom
	if s.on == nowhere {
		return Confirmation{Proofs: []Proof{}, Reason: s.Shows}
	}
	proofs, reason := findingsOf(m, c)
	if s.check != nil {
		proofs = append(proofs, s.check(m, c)...)
	}
	proofs = append(proofs, startsThatSay(s, c)...)
	switch {
	case len(proofs) > 0:
		return confirmed(proofs, reason)
	case !slices.ContainsFunc(c.Members, s.on.isIn):
		return Confirmation{Proofs: []Proof{}, Reason: "no " + partNames[s.on] + " is among what was handed in"}
	}
	if !examined(c) {
		reason = "not everything could be examined"
	}
	return Confirmation{Outcome: NotSeen, Proofs: []Proof{}, Reason: reason}
}

// ConfirmCode asks a case for the findings of a code.
func ConfirmCode(code inspect.Code, c *inspect.Case) Confirmation {
	var proofs []Proof
	for _, f := range c.Findings {
		if f.Code == code {
			proofs = append(proofs, Proof{f.Code, f.Member, f.Message})
		}
	}
	if len(proofs) > 0 {
		return confirmed(proofs, "")
	}
	n := Confirmation{Outcome: NotSeen, Proofs: []Proof{}}
	if !examined(c) {
		n.Reason = "not everything could be examined"
	}
	return n
}

func confirmed(proofs []Proof, reason string) Confirmation {
	n := min(len(proofs), maxProofs)
	return Confirmation{Outcome: Confirmed, Reason: reason, Proofs: proofs[:n], OtherProofs: len(proofs) - n}
}

func examined(c *inspect.Case) bool {
	return c.Complete() && !slices.ContainsFunc(c.Members, func(m inspect.Member) bool { return len(m.NotExamined) > 0 })
}

// isIn says whether a source has the part. A directory without its database or log
// is one where the part would be: that it is missing is a finding.
func (p part) isIn(m inspect.Member) bool {
	switch p {
	case inBackend:
		return m.Backend != nil
	case inWAL:
		return m.WAL != nil
	case inSnaps:
		return len(m.Snapshots) > 0 || m.WAL != nil
	}
	return len(m.Membership.Members) > 0 || len(m.Membership.Removed) > 0
}

// findingsOf gives the findings that confirm a symptom: those at the place that the
// line names, when there are any, and otherwise all, with a word that the place
// differs.
func findingsOf(m Match, c *inspect.Case) (proofs []Proof, reason string) {
	var at []Proof
	place := placeOf(m)
	for _, f := range c.Findings {
		if !slices.Contains(m.Symptom.Codes, f.Code) {
			continue
		}
		proof := Proof{f.Code, f.Member, f.Message}
		proofs = append(proofs, proof)
		if place.holds(f) {
			at = append(at, proof)
		}
	}
	switch {
	case len(at) > 0:
		return at, ""
	case len(proofs) > 0 && place.name != "":
		return proofs, "the line names " + place.name + ", and no finding does: it may be of another copy, or a consequence"
	}
	return proofs, ""
}

// A place is what a line says about where the damage is.
type place struct {
	name   string // "" when the line names none
	page   *uint64
	file   string
	offset *int64
}

func placeOf(m Match) place {
	// A page of number 0 is what bbolt reads off a page that was zeroed.
	if n, err := strconv.ParseUint(m.Fact("page"), 10, 64); err == nil && n > 0 {
		return place{name: fmt.Sprintf("page %d", n), page: &n}
	}
	file := path.Base(m.Fact("file"))
	if n, err := strconv.ParseInt(m.Fact("offset"), 10, 64); err == nil && m.Fact("file") != "" {
		return place{name: fmt.Sprintf("offset %d of %s", n, strconv.QuoteToASCII(file)), file: file, offset: &n}
	}
	return place{}
}

// holds says whether a finding is about the place.
func (p place) holds(f inspect.Finding) bool {
	switch {
	case p.page != nil:
		return f.Location.Page != nil && *f.Location.Page == *p.page || slices.Contains(f.RelatedPages, *p.page)
	case p.offset != nil:
		return f.Location.Offset != nil && *f.Location.Offset == *p.offset && filepath.Base(f.Location.File) == p.file
	}
	return false
}

// startsThatSay gives the members on which some version of etcd would say the same
// at start: that is told by what is on disk, so it confirms the symptom.
func startsThatSay(s *Symptom, c *inspect.Case) []Proof {
	var proofs []Proof
	for _, m := range c.Members {
		var versions []string
		saying := ""
		for _, start := range m.Startup {
			if found, ok := Recognise(start.Error); ok && found.Symptom == s {
				versions = append(versions, start.EtcdVersion)
				saying = start.Error
			}
		}
		if len(versions) > 0 {
			proofs = append(proofs, Proof{Member: m.Source, Message: fmt.Sprintf("etcd %s would end at start on it: %s", list(versions), strconv.QuoteToASCII(saying))})
		}
	}
	return proofs
}

func list(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " and " + words[last]
}

// ConfirmSeen asks a case whether it confirms a symptom of a log, with whatever its
// lines state.
func ConfirmSeen(s Sighted, c *inspect.Case) Confirmation {
	var proofs []Proof
	var last Confirmation
	for _, m := range s.Matches() {
		last = Confirm(m, c)
		if last.Outcome != Confirmed {
			continue
		}
		for _, p := range last.Proofs {
			if !slices.Contains(proofs, p) {
				proofs = append(proofs, p)
			}
		}
	}
	if len(proofs) == 0 {
		return last
	}
	return confirmed(proofs, "")
}

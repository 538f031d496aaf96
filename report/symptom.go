package report

import (
	"fmt"
	"io"
	"strings"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/symptom"
)

// ExplanationConfirmed writes what a code means and what the evidence says of it.
func ExplanationConfirmed(w io.Writer, e inspect.Explanation, c symptom.Confirmation) error {
	if err := Explanation(w, e); err != nil {
		return err
	}
	t := &textWriter{w: w}
	t.confirmation("  ", c)
	return t.err
}

// ExplanationConfirmedJSON writes the same as JSON.
func ExplanationConfirmedJSON(w io.Writer, e inspect.Explanation, c symptom.Confirmation) error {
	return Value(w, struct {
		inspect.Explanation
		Confirmation symptom.Confirmation `json:"confirmation"`
	}{e, c})
}

// Symptom writes what a line of a log means; c is nil when no evidence was asked.
func Symptom(w io.Writer, m symptom.Match, c *symptom.Confirmation) error {
	t := &textWriter{w: w}
	t.printf("%s (%s)\n", m.Symptom.Name, m.Symptom.Severity)
	if m.Time != "" {
		t.printf("  at:       %s\n", Plain(m.Time))
	}
	if len(m.Facts) > 0 {
		t.wrapHanging("  states:   ", "            ", inWords(m.Facts))
	}
	t.symptom(m.Symptom)
	if c != nil {
		t.confirmation("  ", *c)
	}
	return t.err
}

// symptom writes what is known of it.
func (t *textWriter) symptom(s *symptom.Symptom) {
	t.wrapHanging("  means:    ", "            ", s.Means)
	t.wrapHanging("  evidence: ", "            ", s.Shows)
	if len(s.Codes) > 0 {
		t.wrapHanging("  findings: ", "            ", strings.Join(codeNames(s.Codes), " "))
	}
	first := "  next:     "
	for _, step := range s.Do {
		t.wrapHanging(first+"- ", "              ", step)
		first = "            "
	}
}

// confirmation writes what the evidence says.
func (t *textWriter) confirmation(indent string, c symptom.Confirmation) {
	next := indent + "            "
	reason := ""
	if c.Reason != "" {
		reason = " (" + Plain(c.Reason) + ")"
	}
	switch c.Outcome {
	case symptom.CannotShow:
		t.wrapHanging(indent, next, "the evidence cannot show it"+reason)
	case symptom.NotSeen:
		t.wrapHanging(indent, next, "not seen in the evidence"+reason)
	case symptom.Confirmed:
		for _, p := range c.Proofs {
			by := "confirmed by "
			if p.Code != "" {
				by += string(p.Code) + ": "
			}
			if p.Member != "" {
				by += Plain(p.Member) + ": "
			}
			t.wrapHanging(indent, next, by+Plain(p.Message))
		}
		if c.OtherProofs > 0 {
			t.printf("%sand by %d more\n", indent, c.OtherProofs)
		}
		if c.Reason != "" {
			t.wrapHanging(indent, next, "but "+Plain(c.Reason))
		}
	}
}

// LogSymptoms writes what stands in a log. confirmations is nil when no evidence was
// asked, and has one for each symptom otherwise.
func LogSymptoms(w io.Writer, name string, log *symptom.Log, confirmations []symptom.Confirmation) error {
	t := &textWriter{w: w}
	t.printf("%s: %s, %s", Plain(name), plural(log.Lines, "line"), plural(int64(len(log.Seen)), "symptom"))
	if log.CutLines > 0 {
		t.printf(", %s of more than 1 MiB, of which the rest was not looked at", plural(log.CutLines, "line"))
	}
	t.printf("\n")
	for i, s := range log.Seen {
		t.printf("\n%s (%s): %s\n", s.Symptom.Name, s.Symptom.Severity, plural(s.Count, "line"))
		t.printf("  first:    %s\n", lineAt(s.First))
		if s.Count > 1 {
			t.printf("  last:     %s\n", lineAt(s.Last))
		}
		t.factSets(s)
		t.symptom(s.Symptom)
		if confirmations != nil {
			t.confirmation("  ", confirmations[i])
		}
	}
	return t.err
}

func (t *textWriter) factSets(s symptom.Sighted) {
	first := "  states:   "
	for _, set := range s.Sets {
		times := ""
		if len(s.Sets) > 1 || s.OtherSets > 0 || set.Count != s.Count {
			times = " (" + plural(set.Count, "line") + ")"
		}
		t.wrapHanging(first, "              ", inWords(set.Facts)+times)
		first = "            "
	}
	if s.OtherSets > 0 {
		t.printf("            and others (%s)\n", plural(s.OtherSets, "line"))
	}
}

func lineAt(p symptom.Place) string {
	if p.Time == "" {
		return fmt.Sprintf("line %d", p.Line)
	}
	return fmt.Sprintf("line %d", p.Line) + " at " + Plain(p.Time)
}

// inWords names facts one after the other.
func inWords(facts []symptom.Fact) string {
	words := make([]string, len(facts))
	for i, f := range facts {
		words[i] = f.Name + "=" + Plain(f.Value)
	}
	return strings.Join(words, ", ")
}

func codeNames(codes []inspect.Code) []string {
	names := make([]string, len(codes))
	for i, c := range codes {
		names[i] = string(c)
	}
	return names
}

// A symptomView is what is known of a symptom, as JSON.
type symptomView struct {
	Symptom  string           `json:"symptom"`
	Severity inspect.Severity `json:"severity"`
	Means    string           `json:"means"`
	Shows    string           `json:"evidence"`
	Codes    []inspect.Code   `json:"codes"`
	Do       string           `json:"do"`
	Steps    []string         `json:"steps"`
}

func viewSymptom(s *symptom.Symptom) symptomView {
	codes := s.Codes
	if codes == nil {
		codes = []inspect.Code{}
	}
	return symptomView{s.Name, s.Severity, s.Means, s.Shows, codes, strings.Join(s.Do, "; "), s.Do}
}

// SymptomJSON writes what a line of a log means as JSON.
func SymptomJSON(w io.Writer, m symptom.Match, c *symptom.Confirmation) error {
	return Value(w, struct {
		symptomView
		Time         string                `json:"time"`
		Facts        []symptom.Fact        `json:"facts"`
		Confirmation *symptom.Confirmation `json:"confirmation"`
	}{viewSymptom(m.Symptom), m.Time, listed(m.Facts), c})
}

// listed makes an empty list of none.
func listed[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// A sightedView is one symptom of a log, as JSON.
type sightedView struct {
	symptomView
	Count        int64                 `json:"count"`
	First        symptom.Place         `json:"first"`
	Last         symptom.Place         `json:"last"`
	Sets         []symptom.FactSet     `json:"factSets"`
	OtherSets    int64                 `json:"otherFactSets"`
	Confirmation *symptom.Confirmation `json:"confirmation"`
}

// LogSymptomsJSON writes what stands in a log as JSON.
func LogSymptomsJSON(w io.Writer, name string, log *symptom.Log, confirmations []symptom.Confirmation) error {
	views := make([]sightedView, len(log.Seen))
	for i, s := range log.Seen {
		views[i] = sightedView{symptomView: viewSymptom(s.Symptom), Count: s.Count, First: s.First, Last: s.Last, Sets: listed(s.Sets), OtherSets: s.OtherSets}
		if confirmations != nil {
			views[i].Confirmation = &confirmations[i]
		}
	}
	return Value(w, struct {
		Log      string        `json:"log"`
		Lines    int64         `json:"lines"`
		CutLines int64         `json:"cutLines"`
		Symptoms []sightedView `json:"symptoms"`
	}{name, log.Lines, log.CutLines, views})
}

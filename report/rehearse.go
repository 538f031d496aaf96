package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/jstemmer/go-junit-report/v2/junit"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/rehearse"
)

var outcomeColors = map[rehearse.Outcome]string{rehearse.Proven: green, rehearse.NotProven: red, rehearse.Refused: red, rehearse.Unfinished: yellow}

// Rehearse writes a receipt for people: what became of the rehearsal, each check, what
// it took.
func Rehearse(w io.Writer, r *rehearse.Receipt, opts TextOptions) error {
	t := &textWriter{w: w, color: opts.Color}
	t.wrapHanging(t.paint(bold+outcomeColors[r.Outcome], "rehearsal: "+string(r.Outcome))+": ", "  ", rehearsalSentence(r))
	if r.Versions.Etcd != "" {
		t.printf("with %s and %s\n", Plain(r.Versions.Restore), Plain(r.Versions.Etcd))
	}
	if len(r.Checks) == 0 {
		return t.err
	}
	t.printf("\n")
	t.checks(r)
	t.printf("\n")
	t.prefixCounts(r)
	t.stages(r)
	return t.err
}

// rehearsalSentence says in one breath what became of it.
func rehearsalSentence(r *rehearse.Receipt) string {
	if r.Outcome != rehearse.Proven {
		return Plain(r.Why)
	}
	proven, open := 0, 0
	for _, c := range r.Checks {
		switch c.State {
		case rehearse.StateProven:
			proven++
		case rehearse.StateNotTried:
			open++
		}
	}
	s := fmt.Sprintf("%s of %s came up as promised; %s proven", plural(int64(len(r.Members)), "member"), Plain(r.Source), plural(int64(proven), "check"))
	if open > 0 {
		s += fmt.Sprintf(", %d not tried", open)
	}
	return s
}

var stateWords = map[rehearse.State]string{rehearse.StateProven: "proven   ", rehearse.StateFailed: "FAILED   ", rehearse.StateNotTried: "not tried"}

var stateColors = map[rehearse.State]string{rehearse.StateProven: green, rehearse.StateFailed: red, rehearse.StateNotTried: yellow}

// checks writes each check once for all members of which it says the same.
func (t *textWriter) checks(r *rehearse.Receipt) {
	type row struct {
		of    []string
		check rehearse.Check
	}
	var rows []*row
	at := map[rehearse.Check]*row{}
	for _, c := range r.Checks {
		same := c
		same.Member = ""
		if at[same] == nil {
			at[same] = &row{check: c}
			rows = append(rows, at[same])
		}
		if c.Member != "" {
			at[same].of = append(at[same].of, Plain(c.Member))
		}
	}
	slices.SortStableFunc(rows, func(a, b *row) int { return firstOf(r, a.check.Name) - firstOf(r, b.check.Name) })
	for _, row := range rows {
		of := ""
		if len(row.of) > 0 {
			of = " of " + strings.Join(row.of, ", ")
		}
		state := row.check.State
		t.wrapHanging(t.paint(stateColors[state], stateWords[state])+" "+Plain(row.check.Name)+of+": ", "            ", checkWords(row.check))
	}
}

// firstOf gives where checks of this name begin.
func firstOf(r *rehearse.Receipt, name string) int {
	return slices.IndexFunc(r.Checks, func(c rehearse.Check) bool { return c.Name == name })
}

// checkName names a check and whom it is of.
func checkName(c rehearse.Check) string {
	if c.Member == "" {
		return Plain(c.Name)
	}
	return Plain(c.Name) + " of " + Plain(c.Member)
}

// checkWords says what was promised and what came up.
func checkWords(c rehearse.Check) string {
	var s string
	switch c.State {
	case rehearse.StateProven:
		s = c.Actual
	case rehearse.StateFailed:
		s = c.Actual + ", not " + c.Expected
	case rehearse.StateNotTried:
		s = c.Reason
		if c.Expected != "" {
			s = c.Expected + ": " + s
		}
		return Plain(s)
	}
	if c.Reason != "" {
		s += " (" + c.Reason + ")"
	}
	return Plain(s)
}

// prefixCounts lists the prefixes that do not have the counts of the evidence.
func (t *textWriter) prefixCounts(r *rehearse.Receipt) {
	for _, p := range r.Prefixes {
		for i, n := range p.Actual {
			if n != p.Expected {
				t.printf("%s: %s instead of %d under %s\n", Plain(r.Members[i].Name), plural(n, "key"), p.Expected, prefixWord(p.Prefix))
			}
		}
	}
}

func (t *textWriter) stages(r *rehearse.Receipt) {
	var rows [][]string
	for _, s := range r.Stages {
		took := time.Duration(s.Seconds * float64(time.Second)).Round(time.Millisecond)
		rows = append(rows, []string{Plain(s.Name), took.String(), humanize.IBytes(uint64(s.Bytes))})
	}
	if len(rows) > 0 {
		t.table([]string{"STAGE", "TOOK", "ON DISK"}, rows)
	}
}

// RehearseJSON writes a receipt as JSON.
func RehearseJSON(w io.Writer, r *rehearse.Receipt) error {
	type prefixView struct {
		Text     string `json:"prefix"`
		Encoding string `json:"keyEncoding,omitempty"`
		rehearse.Prefix
	}
	view := struct {
		*rehearse.Receipt
		ClusterID *inspect.ID  `json:"clusterID"` // null when it is not the plan that gives it
		Prefixes  []prefixView `json:"prefixes"`
	}{r, nil, []prefixView{}}
	if r.ClusterID != 0 {
		view.ClusterID = &r.ClusterID
	}
	for _, p := range r.Prefixes {
		text, encoding := Key(p.Prefix)
		view.Prefixes = append(view.Prefixes, prefixView{text, encoding, p})
	}
	return Value(w, view)
}

// RehearseJUnit writes a receipt as one suite with a case for each check. A check that
// was not tried is a skipped case: it does not spoil the rehearsal.
func RehearseJUnit(w io.Writer, r *rehearse.Receipt) error {
	suite := junit.Testsuite{Name: Plain(r.Source), Time: "0"}
	var seconds float64
	for _, s := range r.Stages {
		seconds += s.Seconds
	}
	suite.Time = fmt.Sprintf("%.3f", seconds)
	suite.AddProperty("way", string(r.Way))
	suite.AddProperty("restore", Plain(r.Versions.Restore))
	suite.AddProperty("etcd", Plain(r.Versions.Etcd))
	if r.Outcome == rehearse.Refused || r.Outcome == rehearse.Unfinished {
		suite.AddTestcase(junit.Testcase{Name: "rehearsal", Classname: Plain(r.Source), Error: &junit.Result{Message: Plain(r.Why), Type: string(r.Outcome)}})
	}
	for _, c := range r.Checks {
		test := junit.Testcase{Name: checkName(c), Classname: Plain(r.Source)}
		result := &junit.Result{Message: checkWords(c)}
		switch c.State {
		case rehearse.StateFailed:
			test.Failure = result
		case rehearse.StateNotTried:
			test.Skipped = result
		}
		suite.AddTestcase(test)
	}
	all := junit.Testsuites{Name: "etcd-forensics rehearse"}
	all.AddSuite(suite)
	return all.WriteXML(w)
}

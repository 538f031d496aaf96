// Package symptom knows what etcd, its libraries and its tools say when they fail:
// it recognises these sayings in lines of logs, in each form that a log takes on its
// way to a reader, and asks a case whether the evidence confirms them.
//
// The sayings were taken from the sources of etcd 3.3.27, 3.4.45, 3.5.33, 3.6.14 and
// 3.7.1, raft 3.6.0 and 3.7.0, and bbolt 1.3.11 to 1.5.0.
package symptom

import (
	"regexp"
	"slices"
	"sync"

	"etcd-forensics/inspect"
)

// A Symptom is one failure as etcd words it.
type Symptom struct {
	Name string
	// Severity is error where the server ends, refuses its work or tells of damage,
	// warning where it goes on under strain, and note where a healthy server says
	// the same.
	Severity inspect.Severity
	Means    string
	Shows    string         // what in a data directory confirms it, in words
	Codes    []inspect.Code // the findings that confirm it
	Do       []string       // what to do, in order

	on       part  // where the evidence for it lies
	check    check // what confirms it beside findings; nil for nothing
	patterns []pattern
}

// A pattern finds one saying in the text of a line.
type pattern struct {
	literal string     // stands in every such line
	shape   expression // must match around the literal, too; nil when the literal says it all
	facts   expression // need not match; its groups are facts, as are those of shape
}

// An expression is compiled when it is asked for: there are hundreds, and most
// commands ask for none.
type expression func() *regexp.Regexp

func newExpression(s string) expression {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(s) })
}

// says makes a pattern that a literal decides. The groups of the expression, if
// any, are facts of the line where it matches.
func says(literal string, facts ...string) pattern {
	p := pattern{literal: literal}
	if len(facts) > 0 {
		p.facts = newExpression(facts[0])
	}
	return p
}

// shaped makes a pattern that must match an expression as well.
func shaped(literal, shape string) pattern {
	return pattern{literal: literal, shape: newExpression(shape)}
}

// all are the symptoms, the more telling before those that a line can also have
// because it reports them: the cause before the step that failed by it.
var all = slices.Concat(
	pageSymptoms, walSymptoms, snapSymptoms, indexSymptoms, corruptSymptoms,
	versionSymptoms, membershipSymptoms, bootstrapSymptoms, fileSymptoms, toolSymptoms,
	peerSymptoms, spaceSymptoms, strainSymptoms, quorumSymptoms, generalSymptoms,
)

// All gives every symptom in the order in which they are looked for.
func All() []*Symptom {
	list := make([]*Symptom, len(all))
	for i := range all {
		list[i] = &all[i]
	}
	return list
}

// Lookup gives the symptom of a name.
func Lookup(name string) (*Symptom, bool) {
	i := slices.IndexFunc(all, func(s Symptom) bool { return s.Name == name })
	if i < 0 {
		return nil, false
	}
	return &all[i], true
}

package report

import (
	"fmt"
	"io"

	"github.com/dustin/go-humanize"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/redact"
)

// FindingChanges say how the findings of a copy differ from those of the evidence.
type FindingChanges struct {
	Same int
	Lost []inspect.Finding // of the evidence alone
	New  []inspect.Finding // of the copy alone
}

// Redact writes what a run replaced, and whether the copy has the same findings.
func Redact(w io.Writer, s *redact.Summary, c *FindingChanges, opts TextOptions) error {
	t := &textWriter{w: w, color: opts.Color}
	for _, copied := range s.Copies {
		t.printf("%s: a copy of %s\n", Plain(copied.Copy), Plain(copied.Source))
	}
	t.printf("%s, %s\n\nreplaced\n", plural(int64(s.Files), "file"), size(s.Bytes))
	n := s.Replaced
	for _, row := range []struct {
		what  string
		count int64
	}{
		{"keys", n.Keys}, {"values", n.Values}, {"names of users, roles, members, and of kinds of objects", n.Names},
		{"URLs", n.URLs}, {"passwords and tokens", n.Passwords}, {"WAL records sealed anew", n.Records},
		{"bytes that belong to nothing", n.Blotted},
	} {
		t.printf("%14s %s\n", humanize.Comma(row.count), row.what)
	}
	t.printf("\n")
	if len(c.Lost)+len(c.New) == 0 {
		t.printf("findings: the same in the copy (%d)\n", c.Same)
	} else {
		t.printf("findings: %d the same, and these differ\n", c.Same)
		t.differing("only in the evidence", c.Lost)
		t.differing("only in the copy", c.New)
	}
	for _, note := range s.Notes {
		t.wrapHanging("note: ", "  ", note)
	}
	return t.err
}

func (t *textWriter) differing(where string, findings []inspect.Finding) {
	for _, f := range findings {
		t.wrapHanging("  "+where+": ", "    ", fmt.Sprintf("%s, %s", f.Code, Plain(f.Member)))
	}
}

// redactView is the JSON of a run.
type redactView struct {
	*redact.Summary
	Findings struct {
		Same int           `json:"same"`
		Lost []findingView `json:"onlyInEvidence"`
		New  []findingView `json:"onlyInCopy"`
	} `json:"findings"`
}

// RedactJSON writes the same as JSON.
func RedactJSON(w io.Writer, s *redact.Summary, c *FindingChanges) error {
	v := redactView{Summary: s}
	v.Findings.Same = c.Same
	v.Findings.Lost, v.Findings.New = viewFindings(c.Lost), viewFindings(c.New)
	return Value(w, v)
}

package inspect

import "slices"

// SchemaVersion is the version of a case's JSON.
const SchemaVersion = 1

// A Case is one investigation: what was handed in, what each source says, what
// was found, and the verdict. It is all that package report sees.
type Case struct {
	SchemaVersion int       `json:"schemaVersion"`
	Verdict       Verdict   `json:"verdict"`
	Sources       []Source  `json:"sources"`
	Members       []Member  `json:"members"`
	Findings      []Finding `json:"findings"`
	// Comparison is there when there are two sources or more.
	Comparison *Comparison `json:"comparison,omitempty"`
	// NotExamined says what was left out of the case as a whole, such as a path
	// that could not be opened.
	NotExamined []string `json:"notExamined"`

	// Interrupted is there when the examination did not come to its end.
	Interrupted *Interruption `json:"interrupted,omitempty"`
}

// An Interruption says how far an examination came that did not come to its end.
type Interruption struct {
	Examined int `json:"examined"` // sources that were examined to their end
	Sources  int `json:"sources"`
	// Compared says whether these were compared as well.
	Compared bool `json:"compared"`
	// Reason is "interrupted", or what else ended it.
	Reason string `json:"reason"`
}

// Interrupt notes that err ended what was done with the sources of the case.
func (c *Case) Interrupt(err error) {
	n := &Interruption{Sources: len(c.Members), Compared: c.Comparison != nil, Reason: interruption(err)}
	for i := range c.Members {
		if !c.Members[i].Interrupted {
			n.Examined++
		}
	}
	c.Interrupted = n
}

// A Source is one thing that was handed in.
type Source struct {
	Path  string       `json:"path"`
	Kind  string       `json:"kind"`
	Files []SourceFile `json:"files"`
}

// A SourceFile is one file that was read.
type SourceFile struct {
	Path   string  `json:"path"`
	Size   int64   `json:"size"`
	SHA256 *string `json:"sha256"` // hex; nil with --no-digest, or when not all could be read
}

// Highest gives the highest severity among the findings, 0 when there are none.
func (c *Case) Highest() Severity {
	var highest Severity
	for _, f := range c.Findings {
		highest = max(highest, f.Severity)
	}
	return highest
}

// Complete says whether everything was examined to the end.
func (c *Case) Complete() bool { return c.Interrupted == nil && len(c.NotExamined) == 0 }

// Unfinished says whether reading failed somewhere: a disk that did not give
// back a region, or a file that changed meanwhile.
func (c *Case) Unfinished() bool {
	return slices.ContainsFunc(c.Findings, func(f Finding) bool {
		return f.Code == CodeBackendUnreadable || f.Code == CodeWALUnreadable || f.Code == CodeSourceChanged
	})
}

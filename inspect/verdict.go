package inspect

import (
	"slices"
)

// Grade sums a source or a case up. Its zero value is Inconclusive: forgetting to
// judge must never read as sound.
type Grade uint8

const (
	Inconclusive Grade = iota // not everything was examined, and what was is sound
	Sound                     // everything was examined, and there is no error finding
	Degraded                  // error findings, and a source to restore from is there
	Unusable                  // error findings, and none is
)

var gradeNames = [...]string{"inconclusive", "sound", "degraded", "unusable"}

func (g Grade) String() string { return gradeNames[g] }

// MarshalText gives the name.
func (g Grade) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// A Verdict is a grade and the codes that decided it, sorted.
type Verdict struct {
	Grade Grade  `json:"grade"`
	Codes []Code `json:"codes"`
}

// judge grades one source by its findings.
func judge(findings []Finding, examined bool) Verdict {
	v := Verdict{Codes: []Code{}}
	blocked := false
	for _, f := range findings {
		if f.Severity != SeverityError {
			continue
		}
		if !slices.Contains(v.Codes, f.Code) {
			v.Codes = append(v.Codes, f.Code)
		}
		blocked = blocked || catalogue[f.Code].blocks
	}
	// A whole older tree in the same file is a source to restore from.
	if slices.ContainsFunc(findings, func(f Finding) bool { return f.Code == CodeBackendOlderTreeSound }) {
		blocked = false
	}
	slices.Sort(v.Codes)
	switch {
	case blocked:
		v.Grade = Unusable
	case len(v.Codes) > 0:
		v.Grade = Degraded
	case examined:
		v.Grade = Sound
	}
	return v
}

// ofCase grades several sources: the best usable one decides.
func ofCase(members []Verdict, examined bool) Verdict {
	best := Verdict{Grade: Unusable, Codes: []Code{}}
	for _, m := range members {
		if rank(m.Grade) > rank(best.Grade) {
			best.Grade = m.Grade
		}
	}
	if best.Grade == Sound && !examined {
		best.Grade = Inconclusive
	}
	for _, m := range members {
		if m.Grade != best.Grade {
			continue
		}
		for _, c := range m.Codes {
			if !slices.Contains(best.Codes, c) {
				best.Codes = append(best.Codes, c)
			}
		}
	}
	slices.Sort(best.Codes)
	return best
}

func rank(g Grade) int {
	return map[Grade]int{Unusable: 0, Degraded: 1, Inconclusive: 2, Sound: 3}[g]
}

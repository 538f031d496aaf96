package report

import (
	"fmt"
	"strings"

	"etcd-forensics/inspect"
)

// An htmlVerdict is the head of the page: the verdict, what decided it and what to do.
type htmlVerdict struct {
	Grade       string
	Interrupted string // how far the examination came, "" when it came to its end
	NoFindings  string
	Sentence    string
	Choice      []string // best source, agreement, quorum
	Decided     []htmlReason
	Why         string // when no finding decided it
	Do          []htmlReason
	Plan        string
	NoPlan      string
	NotExamined []string
	Counts      []htmlCount
}

// An htmlReason is a code with a sentence about it.
type htmlReason struct{ Code, Text string }

// An htmlCount says how many findings of one severity there are.
type htmlCount struct {
	Severity string
	Count    string
}

func viewVerdict(p Page) htmlVerdict {
	c := p.Case
	v := htmlVerdict{Grade: c.Verdict.Grade.String(), Sentence: cut((&textWriter{}).inOneBreath(c), maxShown), Choice: choiceLines(c.Comparison)}
	v.NoFindings = noFindings(c.Interrupted)
	if c.Interrupted != nil {
		v.Interrupted = interruptedWords(c.Interrupted)
	}
	for _, code := range c.Verdict.Codes {
		e, _ := inspect.Explain(code)
		v.Decided = append(v.Decided, htmlReason{string(code), e.Means})
	}
	if len(v.Decided) == 0 {
		v.Why = whyWithoutCodes[c.Verdict.Grade]
	}
	seen := map[inspect.Code]bool{}
	counts := map[inspect.Severity]int{}
	for _, f := range c.Findings {
		counts[f.Severity]++
		if f.Severity > inspect.SeverityNote && !seen[f.Code] {
			seen[f.Code] = true
			v.Do = append(v.Do, htmlReason{string(f.Code), shown(f.Hint)})
		}
	}
	for _, s := range []inspect.Severity{inspect.SeverityError, inspect.SeverityWarning, inspect.SeverityNote} {
		if counts[s] > 0 {
			v.Counts = append(v.Counts, htmlCount{s.String(), countOf(int64(counts[s]), s.String())})
		}
	}
	switch {
	case p.Plan == nil:
	case p.Plan.Refused != nil:
		v.NoPlan = shown(*p.Plan.Refused)
	default:
		v.Plan = shown(planSentence(p.Plan))
	}
	v.NotExamined = notExamined(c)
	return v
}

// whyWithoutCodes says what decided a grade that no finding decided.
var whyWithoutCodes = map[inspect.Grade]string{
	inspect.Sound:        "There is no error finding, and everything was examined.",
	inspect.Inconclusive: "Not everything was examined; what was is sound.",
	inspect.Degraded:     "There are error findings, and a source to restore from.",
	inspect.Unusable:     "No source can be restored from.",
}

// maxNotExamined bounds the list of what was left out.
const maxNotExamined = 50

func notExamined(c *inspect.Case) []string {
	var list []string
	for _, n := range c.NotExamined {
		list = append(list, shown(n))
	}
	for _, m := range c.Members {
		for _, n := range m.NotExamined {
			list = append(list, shown(n))
		}
	}
	if n := len(list) - maxNotExamined; n > 0 {
		list = append(list[:maxNotExamined], fmt.Sprintf("and %s more (-w json)", count(n)))
	}
	return list
}

// choiceLines says which source to trust, whether they agree, and the quorum.
func choiceLines(k *inspect.Comparison) []string {
	if k == nil {
		return nil
	}
	if uncompared(k) {
		return []string{"How the sources compare is not told: not all of them were examined and compared to the end."}
	}
	var lines []string
	if k.Best == "" {
		lines = append(lines, "None of the sources is usable.")
	} else {
		lines = append(lines, fmt.Sprintf("Best source: %s: %s.", shown(k.Best), shown(k.Ranking[0].Reason)))
	}
	switch {
	case k.Agree == nil:
		lines = append(lines, "Contents were not compared.")
	case *k.Agree:
		lines = append(lines, fmt.Sprintf("All contents agree, as far as each reaches; all reach revision %d.", *k.CommonRevision))
	default:
		lines = append(lines, fmt.Sprintf("Contents differ from revision %d on.", k.Divergences[0].Revision))
	}
	if q := k.Quorum; q != nil {
		state := "A quorum of the voters could start"
		if !q.Enough {
			state = "Quorum is lost"
		}
		lines = append(lines, fmt.Sprintf("%s: %d of %d voters could, of the directories given; %d are needed.", state, len(q.Startable), len(q.Voters), q.Needed))
	}
	return lines
}

// htmlFindings are the findings about one member, or about the case as a whole.
type htmlFindings struct {
	Of     string
	Groups []htmlGroup
}

// An htmlGroup is the findings of one code.
type htmlGroup struct {
	Severity, Code, Means, Next string
	Lines                       []string
	More                        string
}

// viewFindingsOf sorts findings by member, those about the whole first; in each the worst
// come first, as in the case.
func viewFindingsOf(c *inspect.Case) []htmlFindings {
	all := make([]htmlFindings, 0, len(c.Members)+1)
	if groups := findingGroups(c, ""); len(groups) > 0 {
		all = append(all, htmlFindings{"The case as a whole", groups})
	}
	for _, m := range c.Members {
		all = append(all, htmlFindings{shown(m.Source), findingGroups(c, m.Source)})
	}
	return all
}

func findingGroups(c *inspect.Case, member string) []htmlGroup {
	var groups []htmlGroup
	index, left := map[inspect.Code]int{}, map[inspect.Code]int64{}
	for _, f := range c.Findings {
		if f.Member != member {
			continue
		}
		i, there := index[f.Code]
		if !there {
			i = len(groups)
			index[f.Code] = i
			e, _ := inspect.Explain(f.Code)
			groups = append(groups, htmlGroup{Severity: f.Severity.String(), Code: string(f.Code), Means: e.Means, Next: shown(f.Hint)})
		}
		if len(groups[i].Lines) == maxRows {
			left[f.Code]++
			groups[i].More = fmt.Sprintf("and %s (-w json)", countOf(left[f.Code], "more finding"))
			continue
		}
		groups[i].Lines = append(groups[i].Lines, placeOnPage(f)+shown(f.Message))
	}
	return groups
}

// placeOnPage says where a finding lies, under the heading of its member.
func placeOnPage(f inspect.Finding) string {
	where := place(f, true, false)
	if l := f.Location; l.Page != nil && !strings.Contains(f.Message, fmt.Sprintf("page %d", *l.Page)) {
		where += fmt.Sprintf("page %d: ", *l.Page)
	}
	return cut(where, maxShown)
}

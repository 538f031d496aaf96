package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"etcd-forensics/inspect"
)

// Compare writes how the sources of a case compare, for people.
func Compare(w io.Writer, c *inspect.Case, opts TextOptions) error {
	t := &textWriter{w: w, color: opts.Color}
	t.interruptedCase(c.Interrupted)
	t.choice(c)
	t.printf("\n")
	t.ranking(c.Comparison)
	t.findings(c)
	t.proofs(c)
	return t.err
}

// CompareJSON writes members and comparison of a case.
func CompareJSON(w io.Writer, c *inspect.Case) error {
	return Value(w, struct {
		SchemaVersion int             `json:"schemaVersion"`
		Members       []memberView    `json:"members"`
		Comparison    *comparisonView `json:"comparison"`
		Findings      []findingView   `json:"findings"`
		NotExamined   []string        `json:"notExamined"`

		Interrupted *inspect.Interruption `json:"interrupted,omitempty"`
	}{c.SchemaVersion, viewMembers(c.Members), viewComparison(c.Comparison), viewFindings(c.Findings), c.NotExamined, c.Interrupted})
}

type comparisonView struct {
	*inspect.Comparison
	Ranking     []rankedView     `json:"ranking"`
	Divergences []divergenceView `json:"divergences"`
}

type divergenceView struct {
	inspect.Divergence
	Key         string `json:"key"`
	KeyEncoding string `json:"keyEncoding,omitempty"`
}

type rankedView struct {
	inspect.Ranked
	Loses  *inspect.Loss `json:"loses"`
	Behind *behindView   `json:"behind"`
}

type behindView struct {
	inspect.Behind
	Prefixes []behindPrefixView `json:"prefixes"`
}

type behindPrefixView struct {
	Prefix      string `json:"prefix"`
	KeyEncoding string `json:"keyEncoding,omitempty"`
	Keys        int64  `json:"keys"`
}

func viewRanked(r inspect.Ranked) rankedView {
	v := rankedView{Ranked: r}
	if !r.Alone {
		v.Loses = &r.Loses
	}
	if r.Behind == nil {
		return v
	}
	v.Behind = &behindView{*r.Behind, []behindPrefixView{}}
	for _, p := range r.Behind.Prefixes {
		text, encoding := Key(p.Prefix)
		v.Behind.Prefixes = append(v.Behind.Prefixes, behindPrefixView{text, encoding, p.Keys})
	}
	return v
}

func viewComparison(c *inspect.Comparison) *comparisonView {
	if c == nil {
		return nil
	}
	v := &comparisonView{c, make([]rankedView, len(c.Ranking)), make([]divergenceView, len(c.Divergences))}
	for i, r := range c.Ranking {
		v.Ranking[i] = viewRanked(r)
	}
	for i, d := range c.Divergences {
		text, encoding := Key(d.Key)
		v.Divergences[i] = divergenceView{d, text, encoding}
	}
	return v
}

// choice writes which source to trust, whether they agree, and the quorum.
func (t *textWriter) choice(c *inspect.Case) {
	k := c.Comparison
	if k == nil || uncompared(k) {
		return
	}
	switch {
	case k.Best == "":
		t.printf("%s: none of the sources is usable\n", t.paint(red, "best"))
	default:
		t.wrapHanging(t.paint(bold, "best")+": ", "  ", fmt.Sprintf("%s: %s", Plain(k.Best), k.Ranking[0].Reason))
	}
	t.agreement(k)
	if q := k.Quorum; q != nil {
		state := "a quorum of the voters could start"
		if !q.Enough {
			state = t.paint(yellow, "quorum is lost")
		}
		t.wrapHanging(state+": ", "  ", fmt.Sprintf("%d of %d voters could, of the directories given; %d are needed", len(q.Startable), len(q.Voters), q.Needed))
	}
}

func (t *textWriter) agreement(k *inspect.Comparison) {
	switch {
	case k.Agree == nil:
		t.printf("contents were not compared\n")
	case *k.Agree:
		t.printf("%s, as far as each reaches; all reach revision %d\n", t.paint(green, "all contents agree"), *k.CommonRevision)
	default:
		t.printf("%s from revision %d on\n", t.paint(red, "contents differ"), k.Divergences[0].Revision)
	}
}

// besideNumbers is how much of a path a table with six columns of numbers shows.
const besideNumbers = 16

// ranking writes the sources in the order in which to trust them, and where they
// differ.
func (t *textWriter) ranking(k *inspect.Comparison) {
	if uncompared(k) && len(k.Ranking) > 0 {
		t.printf("sources that were examined to their end, not compared with any other\n")
	}
	var rows [][]string
	for i, r := range k.Ranking {
		usable := "yes"
		if !r.Usable {
			usable = "no"
		}
		rows = append(rows, []string{fmt.Sprint(i + 1), pathEnd(r.Member, besideNumbers), optional(r.LastTerm), optional(r.LastIndex), optional(r.ConsistentIndex), optional(r.Revision), usable})
	}
	if len(rows) > 0 {
		t.table([]string{"", "SOURCE", "LAST TERM", "LAST INDEX", "APPLIED", "REVISION", "USABLE"}, rows)
	}
	for i, r := range k.Ranking {
		t.wrapHanging(fmt.Sprintf("%d. ", i+1), "   ", fmt.Sprintf("%s: %s%s", Plain(r.Member), r.Reason, behindText(r.Behind)))
	}
	t.divergences(k)
	for _, n := range k.Known {
		t.wrapHanging("known: ", "  ", fmt.Sprintf("%s: %s", Plain(n.Member), n.Reason))
	}
	for _, n := range k.NotCompared {
		t.wrapHanging("not compared: ", "  ", fmt.Sprintf("%s: %s", Plain(n.Member), n.Reason))
	}
}

// behindText says what has happened since a source's revision.
func behindText(b *inspect.Behind) string {
	if b == nil || b.Keys == 0 {
		return ""
	}
	atLeast, ago := "", ""
	if b.AtLeast {
		atLeast = "at least "
	}
	if b.Seconds != nil {
		ago = fmt.Sprintf(", about %s", time.Duration(*b.Seconds)*time.Second)
	}
	var most []string
	for _, p := range b.Prefixes[:min(len(b.Prefixes), 3)] {
		most = append(most, fmt.Sprintf("%s %d", quoted(p.Prefix), p.Keys))
	}
	return fmt.Sprintf("; its database is %s%s behind the best one's, in which %s%s changed since (%s)",
		plural(b.Revisions, "revision"), ago, atLeast, plural(b.Keys, "key"), strings.Join(most, ", "))
}

// divergences lists where sources differ, without values.
func (t *textWriter) divergences(k *inspect.Comparison) {
	if len(k.Divergences) == 0 {
		return
	}
	t.printf("\n")
	var rows [][]string
	for _, d := range k.Divergences {
		who := "nothing decides"
		if d.Member != "" {
			who = label(d.Member)
		}
		rows = append(rows, []string{fmt.Sprint(d.Revision), quoted(d.Key), d.Kind, who, optional(d.Index)})
	}
	t.table([]string{"REVISION", "KEY", "KIND", "DIFFERS", "ENTRY"}, rows)
	for _, s := range k.Diverging {
		if s.Differences > 1 {
			name := "sources between which nothing decides"
			if s.Member != "" {
				name = Plain(s.Member)
			}
			atLeast := ""
			if s.AtLeast {
				atLeast = "at least "
			}
			t.printf("%s: %s%d records differ, from revision %d to %d\n", name, atLeast, s.Differences, s.FirstRevision, s.LastRevision)
		}
	}
	var names []string
	for _, name := range k.Divergences[0].Between {
		names = append(names, Plain(name))
	}
	t.wrapHanging("the first is between ", "  ", strings.Join(names, ", "))
}

// optional prints a number that may be missing.
func optional[N int64 | uint64](n *N) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n)
}

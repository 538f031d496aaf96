package report

import (
	"fmt"
	"io"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/recover"
)

type salvageView struct {
	SchemaVersion   int            `json:"schemaVersion"`
	File            string         `json:"file"`
	Out             string         `json:"out"`
	Size            int64          `json:"size"`
	Tree            string         `json:"tree"`
	MendedPages     []uint64       `json:"mendedPages"`
	Revision        int64          `json:"revision"`
	CompactRevision *int64         `json:"compactRevision"`
	ConsistentIndex uint64         `json:"consistentIndex"`
	Recovered       recoveredView  `json:"recovered"`
	Lost            []lostView     `json:"lost"`
	Missing         missingView    `json:"missingRevisions"`
	Doubtful        []doubtView    `json:"doubtful"`
	Unproven        []doubtView    `json:"unproven"`
	Conflicts       []conflictView `json:"conflicts"`
	Statement       statementView  `json:"statement"`
	With            []helperView   `json:"with"`
	Notes           []string       `json:"notes"`
	Findings        []findingView  `json:"findings"`
}

type recoveredView struct {
	Revisions int64 `json:"revisions"`
	Keys      int64 `json:"keys"`
	Buckets   int   `json:"buckets"`
}

type lostView struct {
	Page    *uint64 `json:"page"`
	Bucket  string  `json:"bucket"`
	FromKey string  `json:"fromKey,omitempty"`
	ToKey   string  `json:"toKey,omitempty"`
	Reason  string  `json:"reason"`
	Found   int64   `json:"foundElsewhere"`
}

type missingView struct {
	Count   int64      `json:"count"`
	Spans   [][2]int64 `json:"spans"`
	Partial []string   `json:"partBefore"`
}

type doubtView struct {
	Revision    string `json:"revision"`
	Page        uint64 `json:"page"`
	Key         string `json:"key"`
	KeyEncoding string `json:"keyEncoding,omitempty"`
	Reason      string `json:"reason"`
}

type helperView struct {
	File    string `json:"file"`
	Records int64  `json:"records"`
}

// SalvageJSON writes what was recovered and what was lost as one object.
func SalvageJSON(w io.Writer, r *recover.Result) error {
	v := salvageView{
		SchemaVersion: inspect.SchemaVersion, File: r.File, Out: r.Out, Size: r.Size, Tree: r.Origin, MendedPages: []uint64{},
		Revision: r.Revision, ConsistentIndex: r.Index, Recovered: recoveredView{r.Records, r.Keys, r.Buckets},
		Lost: []lostView{}, Missing: missingView{r.MissingCount, viewSpans(r.Missing), []string{}},
		Doubtful: viewDoubts(r.Doubts), Unproven: viewDoubts(r.Unproven), Conflicts: viewConflicts(r.Conflicts), Statement: viewStatement(&r.Statement), With: []helperView{}, Notes: append([]string{}, r.Notes...),
		Findings: viewFindings(r.Findings),
	}
	if r.CompactRevision >= 0 {
		v.CompactRevision = &r.CompactRevision
	}
	for _, id := range r.Mended {
		v.MendedPages = append(v.MendedPages, uint64(id))
	}
	for _, l := range r.Lost {
		v.Lost = append(v.Lost, lostView{(*uint64)(l.Page), l.Bucket, l.FromWords(), l.ToWords(), l.Reason, l.Found})
	}
	for _, rev := range r.Partial {
		v.Missing.Partial = append(v.Missing.Partial, rev.String())
	}
	for _, h := range r.Helpers {
		v.With = append(v.With, helperView{h.File, h.Records})
	}
	return Value(w, v)
}

func viewDoubts(doubts []recover.Doubt) []doubtView {
	views := []doubtView{}
	for _, d := range doubts {
		text, encoding := Key(d.Key)
		views = append(views, doubtView{d.Revision.String(), uint64(d.Page), text, encoding, d.Reason})
	}
	return views
}

// linesShown bounds each list for people.
const linesShown = 20

// Salvage writes what was recovered and what was lost for people.
func Salvage(w io.Writer, r *recover.Result) error {
	t := &textWriter{w: w}
	t.printf("%s: %s of bucket key, %s, %s, at revision %d\n", Plain(r.Out), plural(r.Records, "record"), plural(r.Keys, "live key"),
		plural(int64(r.Buckets), "bucket"), r.Revision)
	t.printf("read by %s of %s\n", Plain(r.Origin), Plain(r.File))
	if len(r.Mended) > 0 {
		t.printf("page headers mended from their elements: %d\n", len(r.Mended))
	}
	for _, h := range r.Helpers {
		t.printf("%s taken from %s\n", plural(h.Records, "lost record"), Plain(h.File))
	}
	for _, n := range r.Notes {
		t.printf("note: %s\n", Plain(n))
	}
	t.losses(r)
	t.statement(&r.Statement)
	t.doubts("not taken, since they may have been deleted", r.Doubts)
	t.doubts("taken, since nothing speaks against them, and nothing proves them (--strict leaves them out)", r.Unproven)
	t.conflicts(r.Conflicts)
	return t.err
}

func (t *textWriter) losses(r *recover.Result) {
	if len(r.Lost) == 0 && r.MissingCount == 0 && len(r.Partial) == 0 {
		t.printf("nothing is lost\n")
		return
	}
	var rows [][]string
	for i, l := range r.Lost {
		if i == linesShown {
			break
		}
		id := "-"
		if l.Page != nil {
			id = fmt.Sprint(*l.Page)
		}
		bucket := l.Bucket
		if bucket == "" {
			bucket = "(root)"
		}
		rows = append(rows, []string{id, shortened([]byte(bucket)), orDash(l.FromWords()), orDash(l.ToWords()), fmt.Sprint(l.Found), Plain(l.Reason)})
	}
	if len(rows) > 0 {
		t.printf("what the tree does not give:\n")
		t.table([]string{"PAGE", "BUCKET", "FROM", "TO", "FOUND ELSEWHERE", "REASON"}, rows)
	}
	if n := len(r.Lost) - linesShown; n > 0 {
		t.printf("and %d more (-w json lists all)\n", n)
	}
	if r.MissingCount > 0 {
		t.printf("revisions missing for certain: %d (%s)\n", r.MissingCount, spansWords(r.Missing, r.MissingCount))
	}
	if len(r.Partial) > 0 {
		t.printf("transactions of which operations are missing: %d, the first before revision %s\n", len(r.Partial), r.Partial[0])
	}
}

func spanWords(s recover.Span) string {
	if s.First == s.Last {
		return fmt.Sprint(s.First)
	}
	return fmt.Sprintf("%d-%d", s.First, s.Last)
}

func (t *textWriter) doubts(title string, doubts []recover.Doubt) {
	if len(doubts) == 0 {
		return
	}
	t.printf("%s: %d\n", title, len(doubts))
	var rows [][]string
	for _, d := range doubts[:min(len(doubts), linesShown)] {
		rows = append(rows, []string{d.Revision.String(), fmt.Sprint(d.Page), shortened(d.Key), d.Reason})
	}
	t.table([]string{"REVISION", "PAGE", "KEY", "REASON"}, rows)
	if n := len(doubts) - linesShown; n > 0 {
		t.printf("and %d more (-w json lists all)\n", n)
	}
}

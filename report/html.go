package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
	"etcd-forensics/inspect/restore"
)

// A Page is what the HTML report shows: a case, and what was looked up beside it.
type Page struct {
	Case  *inspect.Case
	Plan  *restore.Plan // nil for none
	Looks []Look        // at the databases of the members, by source
}

// A Look is what a second reading of one source's database gave.
type Look struct {
	Source  string
	Pages   *query.PageMap
	NoPages string            // why there is no page map, "" when there is one
	Keys    *query.KeysResult // nil when they were not counted
}

var (
	//go:embed html.tmpl
	htmlSource string
	//go:embed html.css
	htmlStyle string
	//go:embed html.js
	htmlScript string

	htmlTemplate = template.Must(template.New("page").Parse(htmlSource))
)

// HTML writes a case as one page that needs nothing from elsewhere. Its policy lets the
// page's own stylesheet and script through by their digests and nothing else, and all
// text of the evidence gets into it through Plain and html/template.
func HTML(w io.Writer, p Page) error {
	view := struct {
		Policy   string
		Style    template.CSS
		Script   template.JS
		Verdict  htmlVerdict
		Findings []htmlFindings
		Compared *htmlCompared
		Members  htmlMembers
		Keys     []htmlKeys
		Maps     []htmlMap
		Timeline *htmlTimeline
		Churn    htmlChurn
		Plan     *htmlPlan
		Startup  *htmlTable
		Sources  htmlTable
	}{
		Policy: htmlPolicy(), Style: template.CSS(htmlStyle), Script: template.JS(htmlScript),
		Verdict: viewVerdict(p), Findings: viewFindingsOf(p.Case), Compared: viewCompared(p.Case.Comparison), Members: viewMembersOf(p.Case),
		Keys: viewKeys(p), Maps: viewMaps(p), Timeline: viewTimeline(p.Case), Churn: viewChurn(p.Case),
		Plan: viewPlan(p.Plan), Startup: viewStartup(p.Case), Sources: viewSources(p.Case),
	}
	var b bytes.Buffer // nothing of a page that could not be made whole
	if err := htmlTemplate.Execute(&b, view); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

// htmlPolicy is the Content-Security-Policy of the page.
func htmlPolicy() string {
	digest := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return base64.StdEncoding.EncodeToString(sum[:])
	}
	return fmt.Sprintf("default-src 'none'; style-src 'sha256-%s'; script-src 'sha256-%s'; base-uri 'none'; form-action 'none'", digest(htmlStyle), digest(htmlScript))
}

// maxShown bounds one text of the evidence on the page, in characters.
const maxShown = 400

// shown makes text of the evidence harmless, and cuts what no reader would get through.
func shown(s string) string { return shownTo(s, maxShown) }

func shownTo(s string, most int) string {
	if len(s) <= utf8.UTFMax*most {
		return cut(Plain(s), most)
	}
	begin := []rune(Plain(s[:utf8.UTFMax*most])) // no fewer than most
	return fmt.Sprintf("%s… (%s bytes)", string(begin[:most]), count(len(s)))
}

// cut keeps the first characters of a text, and says how many bytes it had.
func cut(s string, most int) string {
	if len(s) <= most || utf8.RuneCountInString(s) <= most {
		return s
	}
	return fmt.Sprintf("%s… (%s bytes)", string([]rune(s)[:most]), count(len(s)))
}

// count prints a number for people.
func count[N int | int64 | uint64](n N) string { return humanize.Comma(int64(n)) }

// An htmlTable is a table with a caption.
type htmlTable struct {
	Caption string
	Header  []string
	Rows    [][]htmlCell // the first cell heads its row
	More    string       // what is left out; "" for nothing
	Tall    bool         // rows may be scrolled through
}

// An htmlCell is one cell; its class is one of ours.
type htmlCell struct {
	Text  string
	Class string
	Bar   string // width of the bar in it, of 100; "" for none
}

// row adds a row of plain cells.
func (t *htmlTable) row(cells ...string) {
	row := make([]htmlCell, len(cells))
	for i, c := range cells {
		row[i].Text = c
	}
	t.add(row)
}

func (t *htmlTable) add(row []htmlCell) { t.Rows = append(t.Rows, row) }

// Heads gives the heads of the columns, and sets columns of numbers flush right.
func (t htmlTable) Heads() []htmlCell {
	heads := make([]htmlCell, len(t.Header))
	for column, text := range t.Header {
		heads[column].Text = text
		if !t.numeric(column) {
			continue
		}
		heads[column].Class = "num"
		for _, row := range t.Rows {
			row[column].Class = "num"
		}
	}
	return heads
}

// numeric says whether a column holds numbers, and words for missing ones at most.
func (t htmlTable) numeric(column int) bool {
	numbers := false
	for _, row := range t.Rows {
		c := row[column]
		switch {
		case c.Class != "" && c.Class != "num":
			return false
		case c.Class == "num" || isNumber(c.Text):
			numbers = true
		case c.Text != "-":
			return false
		}
	}
	return numbers
}

// maxRows bounds the rows of one table.
const maxRows = 200

// limit drops the rows for which there is no room, and says where they are.
func (t *htmlTable) limit(most int, where string) {
	n := len(t.Rows) - most
	t.Rows = t.Rows[:min(len(t.Rows), most)]
	t.leaves(n, where)
}

// leaves says how many rows are not in the table, and where they are.
func (t *htmlTable) leaves(n int, where string) {
	if n > 0 {
		t.More = fmt.Sprintf("%s not listed here (%s)", countOf(int64(n), "more row"), where)
	}
}

// isNumber says whether a text is a number for people.
func isNumber(s string) bool {
	for i := range len(s) {
		if s[i] != ',' && s[i] != '.' && s[i] != '%' && (s[i] < '0' || s[i] > '9') {
			return false
		}
	}
	return s != ""
}

// coordinate prints a length in a picture.
func coordinate(v float64) string { return fmt.Sprintf("%.1f", v) }

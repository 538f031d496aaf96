package report

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
)

// PageMapText writes a page map for people.
func PageMapText(w io.Writer, m *query.PageMap, opts TextOptions) error {
	t := &textWriter{w: w, color: opts.Color}
	of := fmt.Sprintf("no meta page is valid; as of root page %d", m.Root)
	if m.ActiveMeta != nil {
		of = fmt.Sprintf("as of meta page %d, transaction %d", *m.ActiveMeta, m.Txid)
	}
	t.wrapHanging("", "  ", fmt.Sprintf("%s: %s of %d bytes, %d below the high-water mark; %s", Plain(m.File), plural(m.Total, "page"), m.PageSize, belowMark(m), of))
	t.findings(&inspect.Case{Findings: m.Findings})
	t.picture(m)
	t.classes(m)
	t.printf("\n")
	t.bucketPages(m)
	t.freeSpace(m)
	t.metaPages(m)
	return t.err
}

// belowMark gives the pages of the file that are or were in use.
func belowMark(m *query.PageMap) int64 {
	return int64(min(m.HighWaterMark, uint64(m.Total)))
}

func (t *textWriter) picture(m *query.PageMap) {
	t.printf("\n")
	if n := m.Picture.PagesPerCell; n > 1 {
		t.printf("each character stands for %d pages: a fault if there is one, else most of them\n", n)
	} else {
		t.printf("each character stands for one page\n")
	}
	width := 1
	for _, r := range m.Picture.Rows {
		width = max(width, len(strconv.FormatInt(r.First, 10)))
	}
	for _, r := range m.Picture.Rows {
		t.printf("  %*d  %s\n", width, r.First, r.Cells)
	}
	var signs []string
	for _, s := range m.Picture.Signs {
		signs = append(signs, fmt.Sprintf("%c %s", s.Cell, s.Means))
	}
	t.printf("  %s\n", strings.Join(signs, "   "))
	if beyond := m.Total - belowMark(m); beyond > 0 {
		t.printf("  not drawn: %s from %d on, beyond the high-water mark\n", plural(beyond, "page"), belowMark(m))
	}
}

func (t *textWriter) classes(m *query.PageMap) {
	var rows [][]string
	for _, c := range m.Classes {
		if c.Pages > 0 {
			rows = append(rows, []string{c.Class, fmt.Sprint(c.Pages), fmt.Sprint(c.Bytes), size(c.Bytes)})
		}
	}
	if m.TrailerBytes > 0 {
		rows = append(rows, []string{"(hash)", "-", fmt.Sprint(m.TrailerBytes), size(m.TrailerBytes)})
	}
	rows = append(rows, []string{"total", fmt.Sprint(m.Total), fmt.Sprint(m.Size), size(m.Size)})
	t.printf("\n")
	t.table([]string{"CLASS", "PAGES", "BYTES", ""}, rows)
}

// bucketPages writes the buckets that have pages of their own, side by side, and
// names the others.
func (t *textWriter) bucketPages(m *query.PageMap) {
	header := []string{"BUCKET", "ROOT", "DEPTH", "BRANCH", "LEAF", "OVRFLW", "RECORDS", "FILL"}
	damaged := slices.ContainsFunc(m.Buckets, func(b query.BucketPages) bool { return b.DamagedPages > 0 })
	if damaged {
		header = append(header, "DAMAGED")
	}
	var rows [][]string
	var inline []string
	for _, b := range m.Buckets {
		name := bucketWord(b.Bucket)
		if b.Inline {
			inline = append(inline, fmt.Sprintf("%s (%s)", name, plural(b.Records, "record")))
			continue
		}
		row := []string{name, fmt.Sprint(b.Root), fmt.Sprint(b.Depth), fmt.Sprint(b.BranchPages), fmt.Sprint(b.LeafPages),
			fmt.Sprint(b.OverflowPages), fmt.Sprint(b.Records), percent(b.Fill)}
		if damaged {
			row = append(row, fmt.Sprint(b.DamagedPages))
		}
		rows = append(rows, row)
	}
	t.table(header, rows)
	if len(inline) > 0 {
		t.wrapHanging("inline, in the records that name them: ", "  ", strings.Join(inline, ", "))
	}
}

// bucketWord names a bucket; the root bucket has no name.
func bucketWord(name string) string {
	if name == "" {
		return "(root)"
	}
	return Plain(name)
}

func percent(share float64) string { return fmt.Sprintf("%.1f%%", share*100) }

func (t *textWriter) freeSpace(m *query.PageMap) {
	list := "the freelist is stored"
	switch {
	case m.FreelistStored:
	case m.ActiveMeta != nil && m.Metas[*m.ActiveMeta].Freelist != nil:
		list = "the stored freelist cannot be read, so every page that nothing refers to counts as free"
	default:
		list = "no freelist is stored, so every page that nothing refers to is free"
	}
	f := m.Free
	if f.Pages == 0 {
		t.wrapHanging("free: ", "  ", "no page below the high-water mark; "+list)
		return
	}
	t.wrapHanging("free: ", "  ", fmt.Sprintf("%s, %s of those below the high-water mark, in %s; the largest has %s, from page %d on; %s",
		plural(f.Pages, "page"), percent(f.Share), plural(f.Runs, "run"), plural(f.Largest.Count, "page"), f.Largest.First, list))
}

func (t *textWriter) metaPages(m *query.PageMap) {
	var rows [][]string
	for _, s := range m.Metas {
		state := "valid"
		switch {
		case s.Active:
			state = "in use"
		case !s.Valid:
			state = "INVALID"
		}
		rows = append(rows, []string{fmt.Sprint(s.Slot), state, fmt.Sprint(s.Txid), fmt.Sprint(s.Root), freelistWord(s.Freelist),
			fmt.Sprint(s.HighWaterMark), fmt.Sprint(s.PageSize)})
	}
	t.printf("\n")
	t.table([]string{"META", "STATE", "TXID", "ROOT", "FREELIST", "HIGH-WATER MARK", "PAGE SIZE"}, rows)
}

func freelistWord(id *uint64) string {
	if id == nil {
		return "not stored"
	}
	return fmt.Sprint(*id)
}

// PageMapJSON writes a page map with every page of the file in `runs`, one run a
// line: a fragmented file has hundreds of thousands.
func PageMapJSON(w io.Writer, m *query.PageMap) error {
	view := struct {
		*query.PageMap
		Findings []findingView `json:"findings"`
	}{m, viewFindings(m.Findings)}
	b, err := json.MarshalIndent(view, "", "  ")
	if err != nil {
		return err
	}
	t := &textWriter{w: w}
	t.printf("%s,\n  \"runs\": [", strings.TrimSuffix(string(escapeUnprintable(b)), "\n}"))
	separator := ""
	for r := range m.Runs {
		t.printf("%s\n    {\"first\": %d, \"count\": %d, \"class\": %q}", separator, r.First, r.Count, r.Class)
		if separator = ","; t.err != nil {
			break
		}
	}
	t.printf("\n  ]\n}\n")
	return t.err
}

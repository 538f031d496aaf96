package report

import (
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
)

// PageListHeader writes the head of a list of pages, in the look of bbolt's.
func PageListHeader(w io.Writer) error {
	_, err := io.WriteString(w, "ID       TYPE        ITEMS  OVRFLW BUCKET\n======== =========== ====== ====== ============\n")
	return err
}

// PageRowText writes one row of the list.
func PageRowText(w io.Writer, r query.PageRow) error {
	kind, items, overflow, bucket := r.Class, "", "", ""
	if r.Items != nil {
		items, overflow = strconv.Itoa(int(*r.Items)), strconv.FormatUint(uint64(*r.Overflow), 10)
	}
	if r.Bucket != nil {
		bucket = bucketWord(*r.Bucket)
	}
	_, err := io.WriteString(w, strings.TrimRight(fmt.Sprintf("%-8d %-11s %-6s %-6s %s", r.Page, kind, items, overflow, bucket), " ")+"\n")
	return err
}

// PageRowJSON writes one row of the list as one line.
func PageRowJSON(w io.Writer, r query.PageRow) error { return line(w, r) }

// PageText writes one page in full for people.
func PageText(w io.Writer, v *query.Page, opts TextOptions) error {
	t := &textWriter{w: w, color: opts.Color}
	t.printf("%s\n", t.paint(bold, fmt.Sprintf("page %d: %s", v.Page, pageTitle(v))))
	const indent = "              "
	field := func(name, format string, args ...any) {
		t.wrapHanging(fmt.Sprintf("  %-12s", name), indent, fmt.Sprintf(format, args...))
	}
	field("bytes", "%d to %d of the file", v.Offset, v.Offset+v.Size-1)
	if h := v.Header; h != nil {
		field("header", "id %d, flags %#04x (%s), count %d, overflow %d", h.ID, h.Flags, h.Type, h.Count, h.Overflow)
	}
	if v.Used > 0 {
		field("used", "%s of %s bytes", humanize.Comma(v.Used), humanize.Comma(v.Size))
	}
	if len(v.Path) > 0 {
		field("path", "%s", joinIDs(v.Path, " > "))
	}
	for _, r := range v.References {
		field("named by", "%s", referenceWords(r))
	}
	if len(v.References) == 0 && v.PartOf == nil && v.Page >= 2 {
		field("named by", "no page in use")
	}
	for _, n := range v.Notes {
		field("note", "%s", Plain(n))
	}
	for _, f := range v.Findings {
		label := fmt.Sprintf("  %-12s", f.Severity)
		var lines strings.Builder
		(&textWriter{w: &lines}).wrapHanging(label, indent, string(f.Code)+": "+Plain(f.Message))
		t.printf("%s%s", t.paint(bold+colorOf[f.Severity], label), strings.TrimPrefix(lines.String(), label))
	}
	t.meta(v, field)
	if l := v.Freelist; l != nil {
		field("free pages", "%d: %s", l.Count, freeWords(l.Runs))
	}
	t.elements(v)
	t.hex(v, field)
	t.printf("\n")
	return t.err
}

var colorOf = map[inspect.Severity]string{inspect.SeverityError: red, inspect.SeverityWarning: yellow}

// pageTitle says what a page is.
func pageTitle(v *query.Page) string {
	s := v.Class
	switch {
	case v.PartOf != nil:
		s += fmt.Sprintf(" of page %d", *v.PartOf)
	case v.Class == "beyondEnd":
		s = "beyond the high-water mark"
	}
	if v.Bucket != nil {
		if *v.Bucket == "" {
			s += ", root bucket"
		} else {
			s += ", bucket " + Plain(*v.Bucket)
		}
	}
	if v.Leftover {
		s += "; what stands on it is of an earlier transaction"
	}
	return s
}

func joinIDs(ids []uint64, between string) string {
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = strconv.FormatUint(id, 10)
	}
	return strings.Join(words, between)
}

// referenceWords says where a reference stands and what it promises.
func referenceWords(r query.Reference) string {
	if r.Element < 0 {
		return fmt.Sprintf("meta page %d, as its %s", r.Holder, r.Field)
	}
	s := fmt.Sprintf("page %d, element %d", r.Holder, r.Element)
	switch {
	case r.Lo != nil && r.Hi != nil:
		s += fmt.Sprintf("; keys from %s to before %s", keyWords(*r.Lo), keyWords(*r.Hi))
	case r.Lo != nil:
		s += fmt.Sprintf("; keys from %s on", keyWords(*r.Lo))
	case r.Hi != nil:
		s += fmt.Sprintf("; keys before %s", keyWords(*r.Hi))
	}
	return s
}

// keyWords gives a key of the database: as a revision, or quoted.
func keyWords(k query.Key) string {
	switch {
	case k.Revision != "" && k.Tombstone:
		return k.Revision + " tombstone"
	case k.Revision != "":
		return k.Revision
	case k.Hidden:
		return "(not shown: misplaced)"
	}
	return strconv.QuoteToASCII(string(k.Raw))
}

// freeWords lists page numbers, those in a row as first to last.
func freeWords(runs []query.FreeRun) string {
	if len(runs) == 0 {
		return "none"
	}
	words := make([]string, len(runs))
	for i, r := range runs {
		words[i] = strconv.FormatUint(r.First, 10)
		if r.Count > 1 {
			words[i] += "-" + strconv.FormatUint(r.First+r.Count-1, 10)
		}
	}
	return strings.Join(words, ", ")
}

func (t *textWriter) meta(v *query.Page, field func(name, format string, args ...any)) {
	m := v.Meta
	if m == nil {
		return
	}
	state := "valid, in use"
	switch {
	case !m.Valid:
		state = "not valid: " + Plain(strings.Join(m.Problems, "; "))
	case !m.Active:
		state = "valid, not in use"
	}
	field("state", "%s", state)
	field("txid", "%d", m.Txid)
	field("root", "page %d, sequence %d", m.Root, m.Sequence)
	field("freelist", "%s", freelistWord(m.Freelist))
	field("high-water", "page %d is the first never used", m.HighWaterMark)
	field("format", "magic %s, version %d, page size %d, flags %d", m.Magic, m.Version, m.PageSize, m.Flags)
	field("checksum", "%s, the bytes give %s", m.Checksum, m.Computed)
}

// elements writes the elements of a branch or leaf. The key stands last, since
// it may be long.
func (t *textWriter) elements(v *query.Page) {
	if len(v.Elements) == 0 {
		return
	}
	branch := v.Header.Type == "branch"
	rows := [][]string{{"ELEMENT", "POSITION", "KEY", "VALUE", "RECORD"}}
	if branch {
		rows = [][]string{{"ELEMENT", "POSITION", "KEY", "CHILD", "FROM KEY"}}
	}
	for _, e := range v.Elements {
		rows = append(rows, elementRow(e, strconv.Itoa(e.Index), branch))
		if e.Bucket == nil {
			continue
		}
		for _, inner := range e.Bucket.Elements {
			rows = append(rows, elementRow(inner, fmt.Sprintf("%d.%d", e.Index, inner.Index), false))
		}
	}
	t.columns(rows)
}

func elementRow(e query.Element, label string, branch bool) []string {
	value := strconv.FormatUint(uint64(e.ValueSize), 10)
	if branch {
		value = strconv.FormatUint(e.Child, 10)
	}
	words := []string{keyWords(e.Key)}
	if e.EtcdKey != nil {
		words = append(words, strconv.QuoteToASCII(string(e.EtcdKey)))
	}
	switch b := e.Bucket; {
	case b == nil:
	case b.Root == 0:
		words = append(words, "bucket, inline")
	default:
		words = append(words, fmt.Sprintf("bucket, root page %d", b.Root))
	}
	for _, f := range e.Faults {
		words = append(words, "FAULT "+Plain(f))
	}
	return []string{label, strconv.FormatUint(e.Position, 10), strconv.FormatUint(uint64(e.KeySize), 10), value, strings.Join(words, "  ")}
}

// columns writes rows with all columns but the last as wide as they need to be.
func (t *textWriter) columns(rows [][]string) {
	last := len(rows[0]) - 1
	width := make([]int, last)
	for _, r := range rows {
		for i := range width {
			width[i] = max(width[i], utf8.RuneCountInString(r[i]))
		}
	}
	for _, r := range rows {
		var b strings.Builder
		for i := range width {
			fmt.Fprintf(&b, "  %*s", width[i], r[i])
		}
		t.printf("%s  %s\n", b.String(), r[last])
	}
}

func (t *textWriter) hex(v *query.Page, field func(name, format string, args ...any)) {
	if v.Bytes == nil {
		return
	}
	if len(v.Masked) > 0 {
		var words []string
		for _, s := range v.Masked {
			words = append(words, fmt.Sprintf("%#x-%#x", s.From, s.To-1))
		}
		field("masked", "with 2a, since records of auth are never shown: %s", strings.Join(words, ", "))
	}
	if t.err != nil {
		return
	}
	d := hex.Dumper(t.w)
	if _, t.err = d.Write(v.Bytes); t.err == nil {
		t.err = d.Close()
	}
}

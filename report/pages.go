package report

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

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

func line(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(escapeUnprintable(b), '\n'))
	return err
}

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

// PagesJSON writes pages in full, one after the other as look gives them.
func PagesJSON(w io.Writer, file string, look func(visit func(*query.Page) error) error) error {
	name, err := json.Marshal(file)
	if err != nil {
		return err
	}
	t := &textWriter{w: w}
	t.printf("{\n  \"file\": %s,\n  \"pages\": [", escapeUnprintable(name))
	separator := "\n    "
	err = look(func(v *query.Page) error {
		b, err := json.MarshalIndent(viewPage(v), "    ", "  ")
		if err != nil {
			return err
		}
		t.printf("%s%s", separator, escapeUnprintable(b))
		separator = ",\n    "
		return t.err
	})
	if err != nil {
		return err
	}
	t.printf("\n  ]\n}\n")
	return t.err
}

type pageView struct {
	Page       uint64          `json:"page"`
	Offset     int64           `json:"offset"`
	Size       int64           `json:"size"`
	Class      string          `json:"class"`
	PartOf     *uint64         `json:"partOf"`
	Header     *query.Header   `json:"header"`
	Bucket     *string         `json:"bucket"`
	Path       []uint64        `json:"path"`
	References []referenceView `json:"references"`
	Findings   []findingView   `json:"findings"`
	UsedBytes  int64           `json:"usedBytes"`
	Leftover   bool            `json:"leftover"`
	Notes      []string        `json:"notes"`
	Meta       *query.Meta     `json:"meta"`
	Freelist   *query.Freelist `json:"freelist"`
	Elements   []elementView   `json:"elements"`
	Hex        string          `json:"hex,omitempty"`
	Masked     []query.Span    `json:"masked,omitempty"`
}

type referenceView struct {
	Holder  uint64   `json:"holder"`
	Element *int     `json:"element"`
	Field   string   `json:"field,omitempty"`
	Lo      *keyView `json:"from"`
	Hi      *keyView `json:"before"`
}

type keyView struct {
	Key         *string `json:"key"`
	KeyEncoding string  `json:"keyEncoding,omitempty"`
	Revision    string  `json:"revision,omitempty"`
	Tombstone   bool    `json:"tombstone,omitempty"`
}

type elementView struct {
	Index     int    `json:"index"`
	Position  uint64 `json:"position"`
	KeySize   uint32 `json:"keySize"`
	ValueSize uint32 `json:"valueSize"`
	keyView
	EtcdKey         *string        `json:"etcdKey,omitempty"`
	EtcdKeyEncoding string         `json:"etcdKeyEncoding,omitempty"`
	Child           *uint64        `json:"child,omitempty"`
	Bucket          *subBucketView `json:"subBucket,omitempty"`
	Faults          []string       `json:"faults"`
}

type subBucketView struct {
	Root     uint64        `json:"root"`
	Sequence uint64        `json:"sequence"`
	Elements []elementView `json:"elements"`
}

func viewPage(v *query.Page) pageView {
	view := pageView{
		Page: v.Page, Offset: v.Offset, Size: v.Size, Class: v.Class, PartOf: v.PartOf, Header: v.Header, Bucket: v.Bucket, Path: v.Path,
		References: make([]referenceView, len(v.References)), Findings: viewFindings(v.Findings), UsedBytes: v.Used, Leftover: v.Leftover,
		Notes: orEmpty(v.Notes), Meta: v.Meta, Freelist: v.Freelist, Elements: viewElements(v.Elements, v.Header != nil && v.Header.Type == "branch"),
		Hex: hex.EncodeToString(v.Bytes), Masked: v.Masked,
	}
	for i, r := range v.References {
		view.References[i] = referenceView{Holder: r.Holder, Field: r.Field, Lo: viewKey(r.Lo), Hi: viewKey(r.Hi)}
		if r.Element >= 0 {
			view.References[i].Element = &r.Element
		}
	}
	return view
}

func viewKey(k *query.Key) *keyView {
	if k == nil {
		return nil
	}
	if k.Hidden {
		return &keyView{}
	}
	text, encoding := Key(k.Raw)
	return &keyView{&text, encoding, k.Revision, k.Tombstone}
}

func viewElements(elements []query.Element, branch bool) []elementView {
	views := make([]elementView, len(elements))
	for i, e := range elements {
		v := elementView{Index: e.Index, Position: e.Position, KeySize: e.KeySize, ValueSize: e.ValueSize, keyView: *viewKey(&e.Key), Faults: orEmpty(e.Faults)}
		if e.EtcdKey != nil {
			text, encoding := Key(e.EtcdKey)
			v.EtcdKey, v.EtcdKeyEncoding = &text, encoding
		}
		if branch {
			v.Child = &e.Child
		}
		if b := e.Bucket; b != nil {
			v.Bucket = &subBucketView{b.Root, b.Sequence, viewElements(b.Elements, false)}
		}
		views[i] = v
	}
	return views
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

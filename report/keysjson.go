package report

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"strings"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
)

type keysView struct {
	File            string `json:"file"`
	Revision        int64  `json:"revision"`
	CompactRevision int64  `json:"compactRevision"`
	Complete        bool   `json:"complete"`
	countsView
	Prefixes      []keyRowView    `json:"prefixes"`
	OtherPrefixes otherView       `json:"otherPrefixes"`
	Kubernetes    *kubernetesView `json:"kubernetes"`
	Hottest       []keyCountView  `json:"hottest"`
	MostVersions  []keyCountView  `json:"mostVersions"`
	Largest       []keyCountView  `json:"largest"`
	Sizes         sizesView       `json:"sizes"`
	Space         *query.KeySpace `json:"space"`
	Alarms        []inspect.Alarm `json:"alarms"`
	Findings      []findingView   `json:"findings"`
	Interrupted   *reachView      `json:"interrupted,omitempty"`
}

// countsView is what a row counts. What part of the records cannot tell is null, and Bytes
// stands for it.
type countsView struct {
	Live         *int64 `json:"live"`
	Revisions    int64  `json:"revisions"`
	Tombstones   int64  `json:"tombstones"`
	LiveBytes    *int64 `json:"liveBytes"`
	HistoryBytes *int64 `json:"historyBytes"`
	Bytes        *int64 `json:"bytes,omitempty"`
}

func viewCounts(c *query.KeyCounts, partial bool) countsView {
	v := countsView{
		Live: unlessPartial(&c.Live, partial), Revisions: c.Revisions, Tombstones: c.Tombstones,
		LiveBytes: unlessPartial(&c.LiveBytes, partial), HistoryBytes: unlessPartial(&c.HistoryBytes, partial),
	}
	if partial {
		v.Bytes = &c.HistoryBytes
	}
	return v
}

type otherView struct {
	Rows int64 `json:"rows"`
	countsView
}

func viewOther(o *query.OtherRows, partial bool) otherView {
	return otherView{o.Rows, viewCounts(&o.KeyCounts, partial)}
}

type keyRowView struct {
	Prefix      string `json:"prefix"`
	KeyEncoding string `json:"keyEncoding,omitempty"`
	countsView
}

type kubernetesView struct {
	Prefix      string              `json:"prefix"`
	KeyEncoding string              `json:"keyEncoding,omitempty"`
	Resources   []resourceView      `json:"resources"`
	Namespaces  []namespaceView     `json:"namespaces"`
	InEach      []namespaceCellView `json:"resourcesByNamespace"`
	Outside     countsView          `json:"outside"`
	Other       otherView           `json:"other"`
	*objectsView
}

type resourceView struct {
	Resource    string `json:"resource"`
	KeyEncoding string `json:"keyEncoding,omitempty"`
	Group       string `json:"group"`
	Namespaced  bool   `json:"namespaced"`
	Namespaces  *int64 `json:"namespaces"`
	countsView
}

type namespaceView struct {
	Namespace   string `json:"namespace"`
	KeyEncoding string `json:"keyEncoding,omitempty"`
	Resources   *int64 `json:"resources"`
	countsView
}

type namespaceCellView struct {
	Resource    string  `json:"resource"`
	Namespace   *string `json:"namespace"`
	KeyEncoding string  `json:"keyEncoding,omitempty"`
	countsView
}

type keyCountView struct {
	Key         string `json:"key"`
	KeyEncoding string `json:"keyEncoding,omitempty"`
	Revisions   int64  `json:"revisions"`
	Version     int64  `json:"version"`
	ModRevision int64  `json:"modRevision"`
	Deleted     bool   `json:"deleted"`
	RecordBytes int64  `json:"recordBytes"`
	ValueSize   int64  `json:"valueSize"`
}

type sizesView struct {
	Keys   []sizeView `json:"keys"`
	Values []sizeView `json:"values"`
}

type sizeView struct {
	From  int64 `json:"from"`
	To    int64 `json:"to"`
	Count int64 `json:"count"`
}

// KeysJSON writes what fills a database as one object, with top prefixes or all.
func KeysJSON(w io.Writer, r *query.KeysResult, top int) error {
	prefixes, other := query.Listed(r.Prefixes, r.Other, top)
	v := keysView{
		File: r.File, Revision: r.Revision, CompactRevision: r.CompactRevision, Complete: r.Whole && r.Interrupted == nil,
		countsView: viewCounts(&r.KeyCounts, r.Partial),
		Prefixes:   make([]keyRowView, len(prefixes)), OtherPrefixes: viewOther(&other, r.Partial), Kubernetes: viewKubernetes(r.Kubernetes, r.Partial),
		Hottest: viewKeyCounts(r.Hottest), MostVersions: viewKeyCounts(r.Versions), Largest: viewKeyCounts(r.Largest),
		Sizes: viewSizes(r.Sizes), Alarms: r.Alarms, Findings: viewFindings(r.Findings),
		Interrupted: viewReach(r.Interrupted),
	}
	if !r.Partial {
		v.Space = &r.Space
	}
	for i := range prefixes {
		text, encoding := Key(prefixes[i].Prefix)
		v.Prefixes[i] = keyRowView{text, encoding, viewCounts(&prefixes[i].KeyCounts, r.Partial)}
	}
	return Value(w, v)
}

func viewKubernetes(k *query.KubernetesKeys, partial bool) *kubernetesView {
	if k == nil {
		return nil
	}
	prefix, encoding := Key([]byte(k.Prefix))
	v := &kubernetesView{
		Prefix: prefix, KeyEncoding: encoding, Resources: make([]resourceView, len(k.Resources)), Namespaces: make([]namespaceView, len(k.Namespaces)),
		InEach: make([]namespaceCellView, len(k.Cells)), Outside: viewCounts(&k.Outside, partial), Other: viewOther(&k.Folded, partial), objectsView: viewObjects(k.Objects),
	}
	for i := range k.Resources {
		r := &k.Resources[i]
		text, encoding := Key(r.Resource)
		group := string(r.Group)
		if encoding != "" && r.Group != nil {
			group, _ = encoded(r.Group)
		}
		v.Resources[i] = resourceView{text, encoding, group, r.Namespaced, unlessPartial(&r.Namespaces, partial), viewCounts(&r.KeyCounts, partial)}
	}
	for i := range k.Namespaces {
		n := &k.Namespaces[i]
		text, encoding := Key(n.Namespace)
		v.Namespaces[i] = namespaceView{text, encoding, unlessPartial(&n.Resources, partial), viewCounts(&n.KeyCounts, partial)}
	}
	for i := range k.Cells {
		v.InEach[i] = viewCell(&k.Cells[i], partial)
	}
	return v
}

// unlessPartial gives null for a number that part of the records cannot tell.
func unlessPartial(n *int64, partial bool) *int64 {
	if partial {
		return nil
	}
	return n
}

// viewCell gives both names in base64 when one of them needs it.
func viewCell(c *query.ResourceNamespace, partial bool) namespaceCellView {
	resource, encoding := Key(c.Resource)
	namespace, second := Key(c.Namespace)
	if encoding != second {
		resource, encoding = encoded(c.Resource)
		namespace, _ = encoded(c.Namespace)
	}
	v := namespaceCellView{Resource: resource, KeyEncoding: encoding, countsView: viewCounts(&c.KeyCounts, partial)}
	if c.Namespace != nil {
		v.Namespace = &namespace
	}
	return v
}

func viewKeyCounts(keys []query.KeyCount) []keyCountView {
	views := make([]keyCountView, len(keys))
	for i, k := range keys {
		text, encoding := Key(k.Key)
		views[i] = keyCountView{text, encoding, k.Revisions, k.Version, k.ModRevision, k.Deleted, k.RecordBytes, k.ValueSize}
	}
	return views
}

func viewSizes(sizes []query.SizeCount) sizesView {
	v := sizesView{Keys: []sizeView{}, Values: []sizeView{}}
	for _, c := range sizes {
		if c.Keys > 0 {
			v.Keys = append(v.Keys, sizeView{c.From, c.To, c.Keys})
		}
		if c.Values > 0 {
			v.Values = append(v.Values, sizeView{c.From, c.To, c.Values})
		}
	}
	return v
}

var countColumns = []string{"live", "revisions", "tombstones", "liveBytes", "historyBytes"}

// KeysCSV writes the rows by prefix, or with byNamespace the objects of an API server
// by resource and namespace, top of them or all. Of part of the records there is a column
// more, as in JSON, and a last row that says so.
func KeysCSV(w io.Writer, r *query.KeysResult, byNamespace bool, top int) error {
	c := &countsCSV{csv.NewWriter(w), r.Partial}
	names := 1
	if byNamespace && r.Kubernetes != nil {
		names = 2
		c.resourceRows(r.Kubernetes, top)
	} else {
		c.prefixRows(r, top)
	}
	if r.Partial {
		c.write(special(names, "(interrupted: %d of %d pages)", r.Interrupted.Pages, r.Interrupted.OfPages), make([]string, len(countColumns)+1))
	}
	c.Flush()
	return c.Error()
}

// A countsCSV writes rows of counts.
type countsCSV struct {
	*csv.Writer
	partial bool
}

func (c *countsCSV) prefixRows(r *query.KeysResult, top int) {
	rows, other := query.Listed(r.Prefixes, r.Other, top)
	c.header("prefix")
	for i := range rows {
		prefix := ""
		if len(rows[i].Prefix) > 0 {
			prefix = Cell(rows[i].Prefix)
		}
		c.row([]string{prefix}, &rows[i].KeyCounts)
	}
	c.other(&other, 1)
}

func (c *countsCSV) resourceRows(k *query.KubernetesKeys, top int) {
	rows, other := query.Listed(k.Cells, k.Folded, top)
	c.header("resource", "namespace")
	for i := range rows {
		cell := &rows[i]
		namespace := ""
		if cell.Namespace != nil {
			namespace = Cell(cell.Namespace)
		}
		c.row([]string{Cell(cell.Resource), namespace}, &cell.KeyCounts)
	}
	if k.Outside.Revisions > 0 {
		c.row(special(2, "(no object)"), &k.Outside)
	}
	c.other(&other, 2)
}

// other writes the row of those that are not listed.
func (c *countsCSV) other(other *query.OtherRows, names int) {
	if other.Rows > 0 {
		c.row(special(names, "(other: %d)", other.Rows), &other.KeyCounts)
	}
}

// special gives the names of a row that is about no name in the evidence.
func special(names int, format string, args ...any) []string {
	return append([]string{fmt.Sprintf(format, args...)}, make([]string, names-1)...)
}

func (c *countsCSV) header(names ...string) {
	columns := countColumns
	if c.partial {
		columns = append(columns[:len(columns):len(columns)], "bytes")
	}
	c.write(names, columns)
}

func (c *countsCSV) row(names []string, counts *query.KeyCounts) {
	v := viewCounts(counts, c.partial)
	fields := []string{field(v.Live), field(&v.Revisions), field(&v.Tombstones), field(v.LiveBytes), field(v.HistoryBytes)}
	if c.partial {
		fields = append(fields, field(v.Bytes))
	}
	c.write(names, fields)
}

// field gives a number, and nothing for null.
func field(n *int64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatInt(*n, 10)
}

// write adds a record; the writer keeps its first error.
func (c *countsCSV) write(names, counts []string) {
	_ = c.Write(append(names[:len(names):len(names)], counts...))
}

// Cell gives bytes from the evidence for a column of their own, in text or CSV: as they
// are where that is plain, and otherwise as a literal of Go. A literal begins with a
// quotation mark, so a spreadsheet takes neither for a formula, and nothing else for one.
func Cell(b []byte) string {
	s := string(b)
	if s == "" || strings.ContainsRune("=+-@(", rune(s[0])) || strings.ContainsAny(s, "\"\\;") || strings.TrimSpace(s) != s || Plain(s) != s {
		return quoted(b)
	}
	return s
}

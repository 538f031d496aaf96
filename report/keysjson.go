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
	query.KeyCounts
	Prefixes      []keyRowView    `json:"prefixes"`
	OtherPrefixes query.OtherRows `json:"otherPrefixes"`
	Kubernetes    *kubernetesView `json:"kubernetes"`
	Hottest       []keyCountView  `json:"hottest"`
	MostVersions  []keyCountView  `json:"mostVersions"`
	Largest       []keyCountView  `json:"largest"`
	Sizes         sizesView       `json:"sizes"`
	Space         query.KeySpace  `json:"space"`
	Alarms        []inspect.Alarm `json:"alarms"`
	Findings      []findingView   `json:"findings"`
}

type keyRowView struct {
	Prefix      string `json:"prefix"`
	KeyEncoding string `json:"keyEncoding,omitempty"`
	query.KeyCounts
}

type kubernetesView struct {
	Prefix      string              `json:"prefix"`
	KeyEncoding string              `json:"keyEncoding,omitempty"`
	Resources   []resourceView      `json:"resources"`
	Namespaces  []namespaceView     `json:"namespaces"`
	InEach      []namespaceCellView `json:"resourcesByNamespace"`
	Outside     query.KeyCounts     `json:"outside"`
	Other       query.OtherRows     `json:"other"`
	*objectsView
}

type resourceView struct {
	Resource    string `json:"resource"`
	KeyEncoding string `json:"keyEncoding,omitempty"`
	Group       string `json:"group"`
	Namespaced  bool   `json:"namespaced"`
	Namespaces  int64  `json:"namespaces"`
	query.KeyCounts
}

type namespaceView struct {
	Namespace   string `json:"namespace"`
	KeyEncoding string `json:"keyEncoding,omitempty"`
	Resources   int64  `json:"resources"`
	query.KeyCounts
}

type namespaceCellView struct {
	Resource    string  `json:"resource"`
	Namespace   *string `json:"namespace"`
	KeyEncoding string  `json:"keyEncoding,omitempty"`
	query.KeyCounts
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
		File: r.File, Revision: r.Revision, CompactRevision: r.CompactRevision, Complete: r.Whole, KeyCounts: r.KeyCounts,
		Prefixes: make([]keyRowView, len(prefixes)), OtherPrefixes: other, Kubernetes: viewKubernetes(r.Kubernetes),
		Hottest: viewKeyCounts(r.Hottest), MostVersions: viewKeyCounts(r.Versions), Largest: viewKeyCounts(r.Largest),
		Sizes: viewSizes(r.Sizes), Space: r.Space, Alarms: r.Alarms, Findings: viewFindings(r.Findings),
	}
	for i, p := range prefixes {
		text, encoding := Key(p.Prefix)
		v.Prefixes[i] = keyRowView{text, encoding, p.KeyCounts}
	}
	return Value(w, v)
}

func viewKubernetes(k *query.KubernetesKeys) *kubernetesView {
	if k == nil {
		return nil
	}
	prefix, encoding := Key([]byte(k.Prefix))
	v := &kubernetesView{
		Prefix: prefix, KeyEncoding: encoding, Resources: make([]resourceView, len(k.Resources)), Namespaces: make([]namespaceView, len(k.Namespaces)),
		InEach: make([]namespaceCellView, len(k.Cells)), Outside: k.Outside, Other: k.Folded, objectsView: viewObjects(k.Objects),
	}
	for i, r := range k.Resources {
		text, encoding := Key(r.Resource)
		group := string(r.Group)
		if encoding != "" && r.Group != nil {
			group, _ = encoded(r.Group)
		}
		v.Resources[i] = resourceView{text, encoding, group, r.Namespaced, r.Namespaces, r.KeyCounts}
	}
	for i, n := range k.Namespaces {
		text, encoding := Key(n.Namespace)
		v.Namespaces[i] = namespaceView{text, encoding, n.Resources, n.KeyCounts}
	}
	for i, c := range k.Cells {
		v.InEach[i] = viewCell(c)
	}
	return v
}

// viewCell gives both names in base64 when one of them needs it.
func viewCell(c query.ResourceNamespace) namespaceCellView {
	resource, encoding := Key(c.Resource)
	namespace, second := Key(c.Namespace)
	if encoding != second {
		resource, encoding = encoded(c.Resource)
		namespace, _ = encoded(c.Namespace)
	}
	v := namespaceCellView{Resource: resource, KeyEncoding: encoding, KeyCounts: c.KeyCounts}
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

func countFields(c *query.KeyCounts) []string {
	var fields []string
	for _, n := range []int64{c.Live, c.Revisions, c.Tombstones, c.LiveBytes, c.HistoryBytes} {
		fields = append(fields, strconv.FormatInt(n, 10))
	}
	return fields
}

// KeysCSV writes the rows by prefix, or with byNamespace the objects of an API server
// by resource and namespace, top of them or all.
func KeysCSV(w io.Writer, r *query.KeysResult, byNamespace bool, top int) error {
	c := csv.NewWriter(w)
	if byNamespace && r.Kubernetes != nil {
		resourceRows(c, r.Kubernetes, top)
	} else {
		prefixRows(c, r, top)
	}
	c.Flush()
	return c.Error()
}

func prefixRows(c *csv.Writer, r *query.KeysResult, top int) {
	rows, other := query.Listed(r.Prefixes, r.Other, top)
	write(c, []string{"prefix"}, countColumns)
	for i := range rows {
		prefix := ""
		if len(rows[i].Prefix) > 0 {
			prefix = Cell(rows[i].Prefix)
		}
		write(c, []string{prefix}, countFields(&rows[i].KeyCounts))
	}
	writeOther(c, &other, 1)
}

func resourceRows(c *csv.Writer, k *query.KubernetesKeys, top int) {
	rows, other := query.Listed(k.Cells, k.Folded, top)
	write(c, []string{"resource", "namespace"}, countColumns)
	for i := range rows {
		cell := &rows[i]
		namespace := ""
		if cell.Namespace != nil {
			namespace = Cell(cell.Namespace)
		}
		write(c, []string{Cell(cell.Resource), namespace}, countFields(&cell.KeyCounts))
	}
	if k.Outside.Revisions > 0 {
		write(c, []string{"(no object)", ""}, countFields(&k.Outside))
	}
	writeOther(c, &other, 2)
}

// writeOther writes the row of those that are not listed.
func writeOther(c *csv.Writer, other *query.OtherRows, names int) {
	if other.Rows > 0 {
		write(c, append([]string{fmt.Sprintf("(other: %d)", other.Rows)}, make([]string, names-1)...), countFields(&other.KeyCounts))
	}
}

// write adds a record; the writer keeps its first error.
func write(c *csv.Writer, names, counts []string) {
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

package report_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
	"etcd-forensics/report"
)

// hostileKeys would break a terminal, a table or a spreadsheet.
var hostileKeys = []string{
	"", "plain/", "=HYPERLINK(\"http://x\")/", "+1/", "-1/", "@SUM(A1)/", "\t=1/", "a\x1b[31m/", "a\u202eb/", "\xff\xfe/", "a,b/", "a;=1/", "a\nb/", "a\"b/", "a\\b/", " a/", "(other: 3)/", "日本/",
	"long/" + strings.Repeat("k", 3000),
}

func hostileCount() *query.KeysResult {
	r := &query.KeysResult{
		File: "evil\x1b[2J.db", Revision: 1000, CompactRevision: 900, Whole: true,
		Kubernetes: &query.KubernetesKeys{Prefix: "/evil\x1b/registry"},
		Alarms:     []inspect.Alarm{{MemberID: 0xabc, Alarm: "NOSPACE"}, {MemberID: 0xdef, Alarm: "CORRUPT"}}, Findings: []inspect.Finding{},
	}
	for i, key := range hostileKeys {
		counts := query.KeyCounts{Live: int64(i), Revisions: int64(2*i + 1), Tombstones: 1, LiveBytes: int64(1000 * i), HistoryBytes: 10}
		r.Prefixes = append(r.Prefixes, query.KeyRow{Prefix: []byte(key), KeyCounts: counts})
		r.Kubernetes.Resources = append(r.Kubernetes.Resources, query.ResourceKeys{Resource: []byte(key), Namespaced: true, Namespaces: 1, KeyCounts: counts})
		r.Kubernetes.Namespaces = append(r.Kubernetes.Namespaces, query.NamespaceKeys{Namespace: []byte(key), Resources: 1, KeyCounts: counts})
		r.Kubernetes.Cells = append(r.Kubernetes.Cells, query.ResourceNamespace{Resource: []byte("pods"), Namespace: []byte(key), KeyCounts: counts})
		r.Largest = append(r.Largest, query.KeyCount{Key: []byte(key), Revisions: 2, ModRevision: 950, Version: 2, RecordBytes: 100, ValueSize: 80})
		r.Live += counts.Live
		r.Revisions += counts.Revisions
		r.Tombstones += counts.Tombstones
		r.LiveBytes += counts.LiveBytes
		r.HistoryBytes += counts.HistoryBytes
	}
	r.Sizes = []query.SizeCount{{From: 0, To: 0, Values: 1}, {From: 4, To: 7, Keys: 5}, {From: 64, To: 127, Values: 4}}
	r.Space = query.KeySpace{
		FileBytes: 1 << 20, LiveBytes: r.LiveBytes, HistoryBytes: r.HistoryBytes, OverheadBytes: 1<<20 - r.LiveBytes - r.HistoryBytes - 8192, MetaBytes: 8192,
		SizeBytes: 1 << 20, Quotas: []query.Quota{{What: "given", Bytes: 1 << 19, Share: 2, LeftBytes: -1 << 19}}, Compaction: query.Compaction{Revision: 1000, Records: 19, FreeBytes: 190},
	}
	return r
}

func TestHostileKeysBreakNothing(t *testing.T) {
	r := hostileCount()
	outputs := map[string]func(b *bytes.Buffer) error{
		"text":                 func(b *bytes.Buffer) error { return report.KeysText(b, r, report.KeysTextOptions{ByPrefix: true}) },
		"json":                 func(b *bytes.Buffer) error { return report.KeysJSON(b, r, 0) },
		"csv by prefix":        func(b *bytes.Buffer) error { return report.KeysCSV(b, r, false, 0) },
		"csv by namespace":     func(b *bytes.Buffer) error { return report.KeysCSV(b, r, true, 0) },
		"csv of the first few": func(b *bytes.Buffer) error { return report.KeysCSV(b, r, false, 3) },
	}
	for name, write := range outputs {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		for n, line := range strings.Split(b.String(), "\n") {
			for _, c := range line {
				if c != ' ' && !strconv.IsPrint(c) {
					t.Errorf("%s, line %d: %q is not printable: %q", name, n, c, line)
				}
			}
			if name == "text" && len(line) > 200 {
				t.Errorf("a line of %d bytes", len(line))
			}
		}
		if strings.HasPrefix(name, "csv") {
			plainCells(t, name, b.String())
		}
	}
}

func plainCells(t *testing.T, name, text string) {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll() // refuses rows of another width
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		for _, cell := range row {
			if cell != "" && strings.Contains("=+-@\t", cell[:1]) {
				t.Errorf("%s: a spreadsheet takes %q for a formula", name, cell)
			}
		}
	}
	names := map[string]bool{}
	for _, row := range rows[1:] {
		key := strings.Join(row[:len(row)-5], "|")
		if names[key] {
			t.Errorf("%s: two rows are named %q", name, key)
		}
		names[key] = true
	}
	if want := map[string]int{"csv of the first few": 5}[name]; want > 0 && len(rows) != want {
		t.Errorf("%s: %d rows", name, len(rows))
	} else if want == 0 && len(rows) != len(hostileKeys)+1 {
		t.Errorf("%s: %d rows", name, len(rows))
	}
}

func TestCellsArePlainOrLiterals(t *testing.T) {
	for key, want := range map[string]string{
		"/registry/pods/": "/registry/pods/", "a b": "a b", "日本": "日本", "a,b": "a,b",
		"": `""`, "=1": `"=1"`, "+1": `"+1"`, "-1": `"-1"`, "@x": `"@x"`, "\"x": `"\"x"`, "a\\b": `"a\\b"`, " a": `" a"`, "a ": `"a "`, "\t=1": `"\t=1"`, "\xff": `"\xff"`, "(x": `"(x"`, "a;=b": `"a;=b"`,
	} {
		if got := report.Cell([]byte(key)); got != want {
			t.Errorf("%q: %s, want %s", key, got, want)
		}
		if want[0] == '"' {
			if back, err := strconv.Unquote(want); err != nil || back != key {
				t.Errorf("%s does not read back: %q, %v", want, back, err)
			}
		}
	}
}

// TestJSONOfKeysReadsBack finds every key again, by its bytes.
func TestJSONOfKeysReadsBack(t *testing.T) {
	var b bytes.Buffer
	r := hostileCount()
	if err := report.KeysJSON(&b, r, 0); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Live, Revisions int64
		Prefixes        []struct {
			Prefix, KeyEncoding string
			Live                int64
		}
		OtherPrefixes struct{ Rows int64 }
		Kubernetes    struct {
			ResourcesByNamespace []struct {
				Resource, KeyEncoding string
				Namespace             *string
			}
		}
		Hottest []any
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Live != r.Live || got.Revisions != r.Revisions || len(got.Prefixes) != len(hostileKeys) || got.OtherPrefixes.Rows != 0 || got.Hottest == nil {
		t.Errorf("%+v", got)
	}
	for i, p := range got.Prefixes {
		want, encoding := report.Key([]byte(hostileKeys[i]))
		if p.Prefix != want || p.KeyEncoding != encoding || p.Live != int64(i) {
			t.Errorf("%+v, want %q (%s)", p, want, encoding)
		}
		cell := got.Kubernetes.ResourcesByNamespace[i]
		pods := "pods"
		if encoding != "" {
			pods = "cG9kcw=="
		}
		if cell.Resource != pods || cell.KeyEncoding != encoding || cell.Namespace == nil || *cell.Namespace != want {
			t.Errorf("%+v", cell)
		}
	}
	b.Reset()
	if err := report.KeysJSON(&b, r, 2); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b.Bytes(), &got); err != nil || len(got.Prefixes) != 2 || got.OtherPrefixes.Rows != int64(len(hostileKeys)-2) || got.Live != r.Live {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestAlarmsComeWithWhatToDoInOrder(t *testing.T) {
	var b bytes.Buffer
	if err := report.KeysText(&b, hostileCount(), report.KeysTextOptions{}); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(b.String()), " ")
	at := 0
	for _, words := range []string{
		"alarm CORRUPT: raised for def;", "inspect` them together", "`etcdctl alarm disarm`",
		"alarm NOSPACE: raised for abc;", "`etcdctl compact 1000`", "`etcdctl defrag`", "--quota-backend-bytes", "`etcdctl alarm disarm`",
	} {
		i := strings.Index(text[at:], words)
		if i < 0 {
			t.Fatalf("no %q behind %q", words, text[:at])
		}
		at += i
	}
}

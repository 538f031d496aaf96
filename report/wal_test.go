package report_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"
	"unicode"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
	"etcd-forensics/report"
	"etcd-forensics/snapdb/kube"
)

func writeRows(t *testing.T, json bool, rows ...query.WALRow) string {
	t.Helper()
	var b bytes.Buffer
	w := report.NewWALWriter(&b, json, true)
	for i := range rows {
		if err := w.Row(&rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// hostileRow has hostile text in every string.
var hostileRow = query.WALRow{
	File: hostile, Offset: 4096, Frame: 7, Type: "entry", Entry: true, HasIndex: true, HasTerm: true, Index: 561, Term: 3, Size: 40,
	Kind: "put", State: query.StateOverwritten, Plausible: true, Revision: 12, User: hostile,
	Keys: [][]byte{[]byte("plain"), []byte(hostile)}, MoreKeys: 3, Detail: []byte(hostile),
	Time: &kube.Estimate{Time: noon, Earliest: noon.Add(-time.Second), Latest: noon.Add(2500 * time.Millisecond), How: kube.FromRenewTime},
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestARowIsOneHarmlessLine(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		out := writeRows(t, asJSON, hostileRow)
		for _, r := range out {
			if r != '\n' && !unicode.IsPrint(r) && !strings.ContainsRune(" ", r) {
				t.Errorf("%q is printed in %q", r, out)
			}
		}
		if n := strings.Count(out, "\n"); asJSON && n != 1 || !asJSON && n != 3 {
			t.Errorf("%d lines: %s", n, out)
		}
	}
}

func TestARowAsJSON(t *testing.T) {
	utf8Key := "a\u202ec\U000e0041\"\\<é"
	entry := query.WALRow{
		File: "a.wal", Type: "entry", Entry: true, HasIndex: true, HasTerm: true, Index: 1, Kind: "empty", State: query.StateApplied,
		Keys: [][]byte{[]byte(utf8Key)},
	}
	fault := query.WALRow{File: "a.wal", Offset: 8, Frame: 1, Type: query.RowFault, Expected: 5, Detail: []byte("torn write")}
	out := strings.Split(strings.TrimSuffix(writeRows(t, true, hostileRow, entry, fault), "\n"), "\n")
	if len(out) != 3 {
		t.Fatalf("%d lines", len(out))
	}
	decode := func(line string) map[string]any {
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		var v map[string]any
		if err := d.Decode(&v); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		return v
	}
	first := decode(out[0])
	keys := first["keys"].([]any)
	for i, want := range []string{"plain", hostile} {
		got, err := base64.StdEncoding.DecodeString(keys[i].(string))
		if err != nil || string(got) != want {
			t.Errorf("key %q, %v", got, err)
		}
	}
	if first["keyEncoding"] != "base64" || first["moreKeys"] != json.Number("3") || first["overwritten"] != true || first["proven"] != false ||
		first["plausible"] != true || first["revision"] != json.Number("12") || first["offset"] != json.Number("4096") || first["frame"] != json.Number("7") {
		t.Errorf("%v", first)
	}
	at, _ := json.Marshal(first["time"])
	if want := `{"earliest":"2026-03-01T11:59:59.000Z","estimate":"2026-03-01T12:00:00.000Z","from":"spec.renewTime of a Lease","latest":"2026-03-01T12:00:02.500Z"}`; string(at) != want {
		t.Errorf("%s, want %s", at, want)
	}
	second := decode(out[1])
	if second["keys"].([]any)[0] != utf8Key || second["proven"] != true || second["index"] != json.Number("1") || second["term"] != json.Number("0") {
		t.Errorf("%v", second)
	}
	for _, name := range []string{"keyEncoding", "moreKeys", "overwritten", "plausible", "revision", "expectedIndex", "user", "time"} {
		if v, there := second[name]; there {
			t.Errorf("%s is %v, which does not apply", name, v)
		}
	}
	if want := `{"file":"a.wal","offset":8,"frame":1,"type":"fault","expectedIndex":5,"detail":"torn write"}`; out[2] != want {
		t.Errorf("%s, want %s", out[2], want)
	}
}

// TestTimesOfRowsAreMarkedAsEstimates: how sure one is stands beside it, and there is no
// column where no row has one.
func TestTimesOfRowsAreMarkedAsEstimates(t *testing.T) {
	for _, c := range []struct {
		name string
		at   *kube.Estimate
		want string
	}{
		{"bounded", &kube.Estimate{Time: noon, Earliest: noon.Add(-time.Second), Latest: noon.Add(2500 * time.Millisecond)}, "  ~2026-03-01 12:00:00 +-2.5s    put"},
		{"nothing later is known", &kube.Estimate{Time: noon, Earliest: noon}, "  after ~2026-03-01 12:00:00     put"},
		{"nothing earlier is known", &kube.Estimate{Time: noon, Latest: noon}, "  before ~2026-03-01 12:00:00    put"},
		{"none", nil, "  -                              put"},
	} {
		row := query.WALRow{File: "a.wal", Type: "entry", Entry: true, Kind: "put", State: query.StateApplied, Detail: []byte("put"), Time: c.at}
		out := writeRows(t, false, row)
		if head, _, _ := strings.Cut(out, "\n      "); !strings.Contains(out, "TIME (ESTIMATE, UTC)           WHAT\n") || !strings.HasSuffix(out, c.want+"\n") {
			t.Errorf("%s: %q, %q", c.name, head, out)
		}
	}
	var b bytes.Buffer
	if err := report.NewWALWriter(&b, false, false).Row(&hostileRow); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "TIME") || strings.Contains(b.String(), "~2026") {
		t.Errorf("%q", b.String())
	}
}

func BenchmarkRowAsJSON(b *testing.B) {
	row := query.WALRow{
		File: "0000000000000000-0000000000000000.wal", Offset: 123456, Frame: 99, Type: "entry", Entry: true, HasIndex: true, HasTerm: true,
		Index: 123456, Term: 3, Size: 240, Kind: "put", State: query.StateApplied, Revision: 123000,
		Keys: [][]byte{[]byte("/registry/pods/default/pod-000001")}, Detail: []byte(`put "/registry/pods/default/pod-000001" (value of 200 bytes)`),
	}
	var out bytes.Buffer
	w := report.NewWALWriter(&out, true, false)
	for b.Loop() {
		out.Reset()
		if err := w.Row(&row); err != nil {
			b.Fatal(err)
		}
	}
}

// The statistics and the timeline hold text that others wrote.
func TestStatisticsAreHarmless(t *testing.T) {
	c := hostileCase()
	log := &query.WAL{LogReading: &inspect.LogReading{WAL: c.Members[0].WAL, Findings: c.Findings}}
	for name, write := range map[string]func(io.Writer, *query.WAL) error{"text": report.WALStats, "JSON": report.WALStatsJSON} {
		var b bytes.Buffer
		if err := write(&b, log); err != nil {
			t.Fatal(err)
		}
		harmless(t, b.Bytes())
		if name == "JSON" && !json.Valid(b.Bytes()) {
			t.Errorf("no JSON: %s", b.String())
		}
	}
}

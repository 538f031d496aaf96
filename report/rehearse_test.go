package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"strings"
	"testing"

	"github.com/jstemmer/go-junit-report/v2/junit"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/rehearse"
	"etcd-forensics/report"
)

// receipt has a check of each state; what comes from evidence and from etcd's log is
// hostile.
func receipt() *rehearse.Receipt {
	const evil = "x]]>\x1b[2J\u202e\"\n\xff"
	id, free := inspect.ID(0xabc), int64(7)
	return &rehearse.Receipt{
		SchemaVersion: rehearse.SchemaVersion, Outcome: rehearse.NotProven, Why: "records of n2: " + evil, Source: evil, Way: "restore-db",
		ClusterID: 0x1f, Versions: rehearse.Versions{Restore: "etcdutl " + evil, Etcd: "etcd 3.7.3 (built in)"},
		Checks: []rehearse.Check{
			{Name: "boot", Member: "n1", Expected: "starts", Actual: "starts", State: rehearse.StateProven},
			{Name: "records", Member: "n1", Expected: "3 keys", Actual: "3 keys", State: rehearse.StateProven, Reason: "at revision 7"},
			{Name: "boot", Member: evil, Expected: "starts", Actual: "starts", State: rehearse.StateProven},
			{Name: "records", Member: evil, Expected: "3 keys", Actual: "2 keys " + evil, State: rehearse.StateFailed},
			{Name: "write", Expected: "one key", State: rehearse.StateNotTried, Reason: "authentication is on"},
		},
		Members:  []rehearse.Member{{Name: "n1", PlannedURLs: []string{}, PlannedID: &id}, {Name: evil, PlannedURLs: []string{evil}}},
		Prefixes: []rehearse.Prefix{{Prefix: []byte("/a/"), Expected: 1, Actual: []int64{1, 1}}, {Prefix: []byte("/\xff\x1b/"), Expected: 2, Actual: []int64{2, 1}}},
		Stages:   []rehearse.Stage{{Name: "copy " + evil, Seconds: 1.25, Bytes: 3 << 20}},
		Space:    rehearse.Space{Needed: 5, Free: &free},
	}
}

func receiptAs(t *testing.T, write func(*bytes.Buffer, *rehearse.Receipt) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b, receipt()); err != nil {
		t.Fatal(err)
	}
	if bytes.ContainsAny(b.Bytes(), "\x1b\u202e\xff") {
		t.Errorf("not harmless: %q", b.Bytes())
	}
	return b.Bytes()
}

func TestReceiptAsText(t *testing.T) {
	text := string(receiptAs(t, func(b *bytes.Buffer, r *rehearse.Receipt) error {
		return report.Rehearse(b, r, report.TextOptions{})
	}))
	if !strings.HasPrefix(text, "rehearsal: not-proven: records of n2: x]]>") {
		t.Error(text)
	}
	for _, want := range []string{
		"\nproven    boot of n1, x]]>", "\nproven    records of n1: 3 keys (at revision 7)\n", "\nFAILED    records of x]]>", "not 3 keys\n",
		"\nnot tried write: one key: authentication is on\n", `: 1 key instead of 2 under "/\xff\x1b/"`, "| 1.25s | 3.0 MiB |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, `"/a/"`) {
		t.Errorf("a prefix with the right counts is listed:\n%s", text)
	}
}

func TestReceiptOfNothing(t *testing.T) {
	for outcome, want := range map[rehearse.Outcome]string{rehearse.Refused: "rehearsal: refused: no plan\n", rehearse.Unfinished: "rehearsal: unfinished: no plan\n"} {
		var text, suite bytes.Buffer
		r := &rehearse.Receipt{Outcome: outcome, Why: "no plan", Source: "m1"}
		if err := report.Rehearse(&text, r, report.TextOptions{}); err != nil || text.String() != want {
			t.Errorf("%v: %q, not %q", err, text.String(), want)
		}
		if err := report.RehearseJUnit(&suite, r); err != nil || !strings.Contains(suite.String(), `errors="1"`) || !strings.Contains(suite.String(), `<error message="no plan" type="`+string(outcome)+`"`) {
			t.Errorf("%v: %s", err, suite.String())
		}
	}
}

func TestReceiptAsJSON(t *testing.T) {
	b := receiptAs(t, func(b *bytes.Buffer, r *rehearse.Receipt) error { return report.RehearseJSON(b, r) })
	var got struct {
		Outcome, ClusterID string
		Members            []struct {
			Name      string
			PlannedID *string
		}
		Checks   []struct{ Name, State, Reason string }
		Prefixes []struct {
			Prefix, KeyEncoding string
			Expected            int64
			Actual              []int64
		}
		Stages []struct{ Seconds float64 }
		Space  struct{ Needed, Free int64 }
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if got.Outcome != "not-proven" || got.ClusterID != "1f" || *got.Members[0].PlannedID != "abc" || got.Members[1].PlannedID != nil || got.Checks[4].State != "not-tried" ||
		got.Prefixes[0].Prefix != "/a/" || got.Prefixes[1].KeyEncoding != "base64" || got.Prefixes[1].Actual[1] != 1 || got.Stages[0].Seconds != 1.25 || got.Space.Free != 7 {
		t.Errorf("%+v", got)
	}
	var text bytes.Buffer
	if err := report.RehearseJSON(&text, &rehearse.Receipt{Outcome: rehearse.Refused}); err != nil || !strings.Contains(text.String(), `"clusterID": null`) {
		t.Errorf("a cluster that nobody planned has an id: %v %s", err, text.String())
	}
}

func TestReceiptAsJUnit(t *testing.T) {
	b := receiptAs(t, func(b *bytes.Buffer, r *rehearse.Receipt) error { return report.RehearseJUnit(b, r) })
	var got junit.Testsuites
	if err := xml.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	s := got.Suites[0]
	if got.Tests != 5 || got.Failures != 1 || got.Skipped != 1 || s.Time != "1.250" || s.Testcases[3].Failure == nil || s.Testcases[4].Skipped == nil {
		t.Errorf("%s", b)
	}
}

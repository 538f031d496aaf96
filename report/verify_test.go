package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jstemmer/go-junit-report/v2/junit"
	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/backup"
	"etcd-forensics/report"
)

// verified is a report with a good backup and one whose every text is hostile.
func verified() *backup.Report {
	const evil = "x]]>\x1b[2J<script>\u202e\" onload=\"\n\xff"
	offset := int64(4096)
	bad := inspect.NewFinding(inspect.CodeBackupEmpty, evil, "no key in "+evil)
	bad.Location.File, bad.Location.Offset = evil, &offset
	return &backup.Report{SchemaVersion: 1, PassedOver: []backup.PassedOver{{Path: evil, Reason: "text"}}, Backups: []backup.Backup{
		{Path: "good.db", Passed: true, Kind: "snapshot", Size: 8192, Revision: 7, Keys: 3,
			Time: &backup.Time{UTC: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC), By: "the file"}, Checks: []backup.Check{{Name: "hash", Outcome: backup.Passed, Message: "fits", Codes: []inspect.Code{}}}},
		{Path: evil, Kind: "snapshot", Findings: []inspect.Finding{bad}, Checks: []backup.Check{
			{Name: "prefix " + evil, Outcome: backup.Failed, Message: bad.Message, Codes: []inspect.Code{inspect.CodeBackupEmpty}},
			{Name: "sound", Outcome: backup.Skipped, Message: "interrupted", Codes: []inspect.Code{}}}},
		{Path: evil, Checks: []backup.Check{}},
	}}
}

func render(t *testing.T, write func(*bytes.Buffer, *backup.Report) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b, verified()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestVerifyAsText(t *testing.T) {
	text := string(render(t, func(b *bytes.Buffer, r *backup.Report) error { return report.Verify(b, r, report.TextOptions{}) }))
	if !strings.HasPrefix(text, "1 of 3 backups failed\n") || strings.ContainsAny(text, "\x1b\u202e") {
		t.Error(text)
	}
	for _, want := range []string{"ok     good.db\n", "FAILED x]]>\\x1b", "backup-empty: check which endpoint"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestVerifyAsJSON(t *testing.T) {
	b := render(t, func(b *bytes.Buffer, r *backup.Report) error { return report.VerifyJSON(b, r) })
	var v struct {
		Passed  bool
		Backups []struct {
			Path     string
			Passed   bool
			Checks   []struct{ Check, Outcome, Message string }
			Findings []struct{ Code, Severity string }
		}
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Backups) != 3 || v.Passed || !v.Backups[0].Passed || v.Backups[1].Checks[0].Outcome != "failed" || v.Backups[1].Findings[0].Severity != "error" || v.Backups[0].Findings == nil {
		t.Errorf("%+v", v)
	}
}

// TestVerifyAsJUnit: a parser finds each backup as a suite, each check as a case.
func TestVerifyAsJUnit(t *testing.T) {
	b := render(t, func(b *bytes.Buffer, r *backup.Report) error { return report.VerifyJUnit(b, r) })
	var v junit.Testsuites
	if err := xml.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if len(v.Suites) != 3 || v.Tests != 3 || v.Failures != 1 || v.Errors != 1 || v.Suites[1].Testcases[0].Failure.Type != "backup-empty" {
		t.Errorf("%+v", v)
	}
	if s := v.Suites[0]; s.Name != "good.db" || s.Testcases[0].Failure != nil || s.Failures+s.Errors > 0 {
		t.Errorf("%+v", s)
	}
}

// TestVerifyAsSARIF: what is written fits the schema of SARIF 2.1.0.
func TestVerifyAsSARIF(t *testing.T) {
	b := render(t, func(b *bytes.Buffer, r *backup.Report) error { return report.VerifySARIF(b, r) })
	var v sarif.Report
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if err := v.Validate(); err != nil {
		t.Errorf("%v\n%s", err, b)
	}
	result := v.Runs[0].Results[0]
	if *result.RuleID != "backup-empty" || result.Level != "error" || result.Locations[0].PhysicalLocation.Region.ByteOffset != 4096 {
		t.Errorf("%s", b)
	}
}

// TestVerifyMetricsFollowTheConventions asks the linter behind promtool.
func TestVerifyMetricsFollowTheConventions(t *testing.T) {
	b := render(t, func(b *bytes.Buffer, r *backup.Report) error { return report.VerifyMetrics(b, r) })
	problems, err := promlint.New(bytes.NewReader(b)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %+v\n%s", err, problems, b)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	ok := families["etcd_forensics_backup_ok"]
	if len(ok.Metric) != 2 || ok.Metric[0].GetGauge().GetValue() != 1 || ok.Metric[1].GetGauge().GetValue() != 0 {
		t.Errorf("%v", ok)
	}
	if !slices.Contains(strings.Split(string(b), "\n"), `etcd_forensics_backup_created_timestamp_seconds{path="good.db"} 1.767323045006e+09`) {
		t.Errorf("%s", b)
	}
}

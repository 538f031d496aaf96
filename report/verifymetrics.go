package report

import (
	"io"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/proto"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/backup"
)

// VerifyMetrics writes gauges in Prometheus' text format, for the textfile
// collector of node_exporter.
func VerifyMetrics(w io.Writer, r *backup.Report) error {
	ok := gauge("etcd_forensics_backup_ok", "Whether the backup passed every check.")
	check := gauge("etcd_forensics_backup_check_ok", "Whether the backup passed one check.")
	findings := gauge("etcd_forensics_backup_findings", "Findings about the backup by severity.")
	size := gauge("etcd_forensics_backup_size_bytes", "Size of the backup's file.")
	revision := gauge("etcd_forensics_backup_revision", "Newest revision in the backup.")
	live := gauge("etcd_forensics_backup_keys", "Live keys in the backup.")
	created := gauge("etcd_forensics_backup_created_timestamp_seconds", "When the backup was made, as its content or else its file tells.")
	all := gauge("etcd_forensics_verify_ok", "Whether all backups of the last verification passed.")
	add(all, truth(r.Passed))
	seen := map[string]bool{} // a path that was given twice makes one metric
	for i := range r.Backups {
		b := &r.Backups[i]
		path := labelled("path", b.Path)
		if seen[path.GetValue()] {
			continue
		}
		seen[path.GetValue()] = true
		add(ok, truth(b.Passed), path)
		names, passed := []string{}, map[string]bool{}
		for _, c := range b.Checks { // one check may have come to several outcomes: the worst counts
			if was, known := passed[c.Name]; !known {
				names = append(names, c.Name)
				passed[c.Name] = c.Outcome == backup.Passed
			} else {
				passed[c.Name] = was && c.Outcome == backup.Passed
			}
		}
		for _, name := range names {
			add(check, truth(passed[name]), path, labelled("check", name))
		}
		count := map[inspect.Severity]int{}
		for _, f := range b.Findings {
			count[f.Severity]++
		}
		for _, s := range []inspect.Severity{inspect.SeverityError, inspect.SeverityWarning, inspect.SeverityNote} {
			add(findings, float64(count[s]), path, labelled("severity", s.String()))
		}
		add(size, float64(b.Size), path)
		if !b.Counted() {
			continue
		}
		add(revision, float64(b.Revision), path)
		add(live, float64(b.Keys), path)
		if b.Time != nil {
			add(created, float64(b.Time.UTC.UnixMilli())/1000, path)
		}
	}
	for _, f := range []*dto.MetricFamily{ok, check, findings, size, revision, live, created, all} {
		if len(f.Metric) == 0 {
			continue
		}
		if _, err := expfmt.MetricFamilyToText(w, f); err != nil {
			return err
		}
	}
	return nil
}

func gauge(name, help string) *dto.MetricFamily {
	return &dto.MetricFamily{Name: &name, Help: &help, Type: dto.MetricType_GAUGE.Enum()}
}

func add(f *dto.MetricFamily, value float64, labels ...*dto.LabelPair) {
	f.Metric = append(f.Metric, &dto.Metric{Label: labels, Gauge: &dto.Gauge{Value: &value}})
}

// labelled gives one label; Prometheus wants UTF-8.
func labelled(name, value string) *dto.LabelPair {
	return &dto.LabelPair{Name: &name, Value: proto.String(strings.ToValidUTF8(value, "\uFFFD"))}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

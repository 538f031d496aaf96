package report

import (
	"io"
	"net/url"
	"path/filepath"
	"strings"

	sarifreport "github.com/owenrumney/go-sarif/v3/pkg/report"
	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/backup"
)

// VerifySARIF writes the findings as SARIF 2.1.0, one rule a code.
func VerifySARIF(w io.Writer, r *backup.Report) error {
	out := sarifreport.NewV210Report()
	run := sarif.NewRunWithInformationURI("etcd-forensics", "https://github.com/etcd-io/etcd/issues/20217")
	for i := range r.Backups {
		for _, f := range r.Backups[i].Findings {
			addRule(run, f.Code)
			result := run.CreateResultForRule(string(f.Code)).WithLevel(f.Severity.String()).
				WithMessage(sarif.NewTextMessage(Plain(f.Message) + ". Next: " + f.Hint))
			result.AddLocation(locationOf(&f, r.Backups[i].Path))
		}
	}
	out.AddRun(run)
	return out.PrettyWrite(w)
}

func addRule(run *sarif.Run, code inspect.Code) {
	if run.GetRuleIndex(string(code)) >= 0 {
		return
	}
	e, _ := inspect.Explain(code)
	run.AddRule(string(code)).WithShortDescription(sarif.NewMultiformatMessageString().WithText(e.Means)).
		WithHelp(sarif.NewMultiformatMessageString().WithText(e.Do)).
		WithDefaultConfiguration(sarif.NewReportingConfiguration().WithLevel(e.Severity.String()))
}

// locationOf names the file, and the bytes where a finding has some.
func locationOf(f *inspect.Finding, path string) *sarif.Location {
	if f.Location.File != "" {
		path = f.Location.File
	}
	place := sarif.NewPhysicalLocation().WithArtifactLocation(sarif.NewSimpleArtifactLocation(uriOf(path)))
	if f.Location.Offset != nil {
		place.WithRegion(sarif.NewRegion().WithByteOffset(int(*f.Location.Offset)))
	}
	return sarif.NewLocationWithPhysicalLocation(place)
}

// uriOf gives a path as SARIF wants it. One with a drive or a host of Windows in front has no
// relative form (RFC 8089, appendix E.2 and E.3).
func uriOf(path string) string {
	uri := &url.URL{Path: filepath.ToSlash(path)}
	if volume := filepath.VolumeName(path); volume != "" {
		uri.Scheme = "file"
		if !strings.HasPrefix(uri.Path, "/") {
			uri.Path = "/" + uri.Path
		}
	}
	return uri.String()
}

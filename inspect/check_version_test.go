package inspect

import (
	"slices"
	"strings"
	"testing"

	"etcd-forensics/inspect/source"
)

// TestVersionsBeyondTheNewestAreToldOf gives the versions, since no server of etcd 3.9 has
// written a fixture yet.
func TestVersionsBeyondTheNewestAreToldOf(t *testing.T) {
	for _, c := range []struct {
		name, storage, cluster string
		said                   string // "" for no finding
	}{
		{"known", "3.7.0", "3.7.0", ""},
		{"the newest", "3.8.0", "3.8.0", ""},
		{"later storage", "3.9.0", "3.8.0", `the storage version is "3.9.0"`},
		{"later cluster", "3.8.0", "3.10.0", `the cluster version is "3.10.0"`},
		{"both, told of once", "4.0.0", "4.0.0", `the storage version is "4.0.0"`},
		{"no version", "soon", "", ""},
	} {
		x := newExamination(&source.Source{Path: "m1"}, Options{Limits: DefaultLimits})
		x.member.Backend = &Backend{File: "db", StorageVersion: &c.storage, ClusterVersion: &c.cluster}
		x.checkVersion()
		said := ""
		for _, f := range x.findings {
			if f.Code != CodeVersionNotSupported || f.Severity != SeverityNote {
				t.Errorf("%s: %s %s", c.name, f.Severity, f.Code)
			}
			said += f.Message
		}
		if len(x.findings) > 1 || (said == "") != (c.said == "") || !strings.Contains(said, c.said) {
			t.Errorf("%s: %q", c.name, said)
		}
	}
}

// TestRefusedVersionsHaveACode: that one version refuses what another wrote is because of
// the version, whatever was found.
func TestRefusedVersionsHaveACode(t *testing.T) {
	storage := "3.7.0"
	for _, found := range [][]Finding{nil, {{Code: CodeVersionNotSupported}}} {
		x := newExamination(&source.Source{Path: "m1", SnapDir: "snap"}, Options{Limits: DefaultLimits})
		x.member.Backend = &Backend{File: "db", StorageVersion: &storage}
		x.findings = found
		b := &boot{examination: x, minor: 6}
		e := b.validateSchema()
		if e == nil || !slices.Equal(x.reasons(e.because), []Code{CodeVersionNotSupported}) {
			t.Errorf("%+v", e)
		}
		if b.minor = 7; b.validateSchema() != nil {
			t.Error("3.7 refuses what it wrote itself")
		}
	}
}

package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/jstemmer/go-junit-report/v2/junit"

	"etcd-forensics/inspect/backup"
)

// VerifyJUnit writes a suite for each backup and a case for each check.
func VerifyJUnit(w io.Writer, r *backup.Report) error {
	var all junit.Testsuites
	all.Name = "etcd-forensics verify"
	for i := range r.Backups {
		b := &r.Backups[i]
		suite := junit.Testsuite{Name: Plain(b.Path), ID: i, Time: "0"}
		if b.Counted() {
			suite.AddProperty("revision", fmt.Sprint(b.Revision))
			suite.AddProperty("keys", fmt.Sprint(b.Keys))
		}
		for _, c := range b.Checks {
			suite.AddTestcase(testcase(b, c))
		}
		all.AddSuite(suite)
	}
	return all.WriteXML(w)
}

func testcase(b *backup.Backup, c backup.Check) junit.Testcase {
	t := junit.Testcase{Name: Plain(c.Name), Classname: Plain(b.Path)}
	var codes []string
	for _, code := range c.Codes {
		codes = append(codes, string(code))
	}
	result := &junit.Result{Message: Plain(c.Message), Type: strings.Join(codes, " ")}
	switch c.Outcome {
	case backup.Failed:
		t.Failure = result
	case backup.Skipped:
		t.Error = result // not examined is no pass, which a skipped case would be
	}
	return t
}

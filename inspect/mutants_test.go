package inspect_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"etcd-forensics/fixtures/mutants"
	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb/page"
)

// mutantsOfEach is the number of copies of each kind; MUTANTS sets another.
func mutantsOfEach(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("MUTANTS"))
	if err != nil {
		n = 1
	}
	if testing.Short() {
		n = 1
	}
	return n
}

// TestMutantsAreReportedWithTheirPage injures copies of real databases in one
// place each. Every one must be reported with the page that is wrong, within a
// multiple of the time that the healthy file takes.
func TestMutantsAreReportedWithTheirPage(t *testing.T) {
	inspect.InFullOnly(t)
	each := mutantsOfEach(t)
	for _, name := range []string{"freelist-synced", "pagesize-512"} {
		s := mutants.NewSpecimen(t, name)
		path := filepath.Join(t.TempDir(), "db")
		start := time.Now()
		if c := examineBytes(t, path, s.Bytes); len(c.Findings) > 0 {
			t.Fatalf("%s: the healthy specimen has findings: %v", name, c.Findings)
		}
		healthy := time.Since(start)
		all := mutants.Mutations()
		for k, m := range all {
			missed := 0
			for n := range each {
				rnd := rand.New(rand.NewPCG(uint64(k), uint64(n)))
				b := slices.Clone(s.Bytes)
				wrong, ok := m.Do(s, b, rnd)
				if !ok {
					continue
				}
				start := time.Now()
				c := examineBytes(t, path, b)
				if took := time.Since(start); took > 5*healthy+500*time.Millisecond {
					t.Errorf("%s, %s, %d: took %v, the healthy file %v", name, m.Name, n, took, healthy)
				}
				if !reports(c, wrong) && missed < 2 {
					missed++
					t.Errorf("%s, %s, %d: page %d is wrong, findings: %s", name, m.Name, n, wrong, messages(c))
				}
			}
		}
		t.Logf("%s: %d kinds, %d copies of each", name, len(all), each)
	}
}

func examineBytes(t *testing.T, path string, b []byte) *inspect.Case {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	sources, problems := source.Open(context.Background(), []string{path}, source.Options{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	defer sources[0].Close()
	c, err := inspect.Inspect(context.Background(), sources, inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// reports says whether a finding above note names the page.
func reports(c *inspect.Case, wrong page.ID) bool {
	return slices.ContainsFunc(c.Findings, func(f inspect.Finding) bool {
		return f.Severity > inspect.SeverityNote && f.Location.Page != nil && *f.Location.Page == uint64(wrong)
	})
}

func messages(c *inspect.Case) string {
	text := ""
	for i, f := range c.Findings {
		if i == 3 {
			return text + fmt.Sprintf(" and %d more", len(c.Findings)-3)
		}
		text += fmt.Sprintf("\n    %s: %s", f.Code, f.Message)
	}
	return text
}

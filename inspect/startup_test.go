package inspect_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/inspect/inspecttest"
)

// An outcome is what one version of etcd did with one member directory; see
// fixtures/gen/startup, which records them.
type outcome struct {
	Fixture     string `json:"fixture"`
	Member      string `json:"member"`
	Etcd        string `json:"etcd"`
	Starts      bool   `json:"starts"`
	Error       string `json:"error"`
	Serves      *bool  `json:"serves"` // nil: the member alone cannot show it
	CutsEntries uint64 `json:"cutsEntries"`
}

func (o outcome) String() string { return o.Fixture + "/" + o.Member + " on etcd " + o.Etcd }

func recordedOutcomes(t testing.TB) []outcome {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "startup.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list []outcome
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// luck lists the starts that nothing in the evidence decides: bbolt 1.3.6 in 3.4 does
// not look at the order of keys, and etcd may or may not end on it later.
var luck = []string{
	"leaf-order-broken/m1 on etcd 3.4",
	"leaf-overwritten-renumbered/m1 on etcd 3.4",
}

// What is said of each member directory of each fixture is what the real servers of
// every minor version did with it.
func TestStartupIsWhatEtcdDid(t *testing.T) {
	inspect.InFullOnly(t)
	byMember := map[string][]outcome{}
	tried := map[string]bool{}
	var luckMet []string
	for _, o := range recordedOutcomes(t) {
		byMember[o.Fixture+"/"+o.Member] = append(byMember[o.Fixture+"/"+o.Member], o)
		tried[o.Fixture] = true
		if slices.Contains(luck, o.String()) {
			luckMet = append(luckMet, o.String())
		}
	}
	if len(luckMet) != len(luck) {
		t.Errorf("no record of all of %v", luck)
	}
	// Each member directory is tried once; those of member-foreign are all of other
	// fixtures.
	for _, f := range fixtures.All() {
		if slices.ContainsFunc(f.Sources, func(s string) bool { return !strings.HasSuffix(s, "db") }) && !tried[f.Name] && f.Name != "member-foreign" {
			t.Errorf("%s: no start was recorded (make versions)", f.Name)
		}
	}
	for _, name := range slices.Sorted(keysOf(byMember)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fixture, member := filepath.Split(name)
			predicted := predict(t, filepath.Join(fixtures.Dir(t, filepath.Clean(fixture)), member))
			for i, o := range byMember[name] {
				if predicted[i].EtcdVersion != o.Etcd {
					t.Fatalf("%s: predicted for %s", o, predicted[i].EtcdVersion)
				}
				compareStart(t, predicted[i], o)
			}
		})
	}
}

func keysOf[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// predict inspects one member directory by itself.
func predict(t testing.TB, dir string) []inspect.Startup {
	t.Helper()
	return inspecttest.Paths(t, inspect.Options{}, dir).Members[0].Startup
}

func compareStart(t *testing.T, s inspect.Startup, o outcome) {
	t.Helper()
	if s.Starts == nil {
		if !slices.Contains(luck, o.String()) {
			t.Errorf("%s: not predicted; it did: %s", o, did(o))
		}
		return
	}
	if slices.Contains(luck, o.String()) {
		t.Errorf("%s: predicted, and listed as undecided", o)
	}
	if *s.Starts != o.Starts || !sayTheSame(s, o.Error) || *s.CutsEntries != o.CutsEntries {
		t.Errorf("%s: predicted starts %v, cuts %d, %q; it did: %s", o, *s.Starts, *s.CutsEntries, s.Error, did(o))
	}
	if o.Serves != nil && (s.Serves == nil || *s.Serves != *o.Serves) {
		t.Errorf("%s: predicted serves %s; it did: %s", o, boolean(s.Serves), did(o))
	}
}

func did(o outcome) string {
	return fmt.Sprintf("starts %v, serves %s, cuts %d, %q", o.Starts, boolean(o.Serves), o.CutsEntries, o.Error)
}

func boolean(p *bool) string {
	if p == nil {
		return "unknown"
	}
	return fmt.Sprint(*p)
}

// sayTheSame compares a predicted error with what a server wrote. From 3.7 on the
// walk for free pages ends in one of two ways, whichever goroutine is first.
func sayTheSame(s inspect.Startup, wrote string) bool {
	if (s.Error == "") != (wrote == "") {
		return false
	}
	if s.EtcdVersion >= "3.7" && strings.HasPrefix(s.Error, "freepages: ") && strings.Contains(wrote, "nil pointer dereference") {
		return true
	}
	return strings.Contains(wrote, s.Error)
}

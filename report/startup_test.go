package report_test

import (
	"strings"
	"testing"

	"etcd-forensics/inspect"
)

// startups holds one start of each kind.
var startups = []inspect.Startup{
	{EtcdVersion: "3.4", Starts: ptr(false), Serves: ptr(false), CutsEntries: ptr(uint64(1)), Error: "walpb: crc mismatch", BecauseOf: []inspect.Code{inspect.CodeWALChecksum}},
	{EtcdVersion: "3.5", Starts: ptr(true), Serves: ptr(true), CutsEntries: ptr(uint64(0)), BecauseOf: []inspect.Code{}},
	{EtcdVersion: "3.6", Starts: ptr(true), Serves: ptr(false), CutsEntries: ptr(uint64(45)), BecauseOf: []inspect.Code{inspect.CodeWALBehindBackend, inspect.CodeWALLength}},
	{EtcdVersion: "3.7", BecauseOf: []inspect.Code{inspect.CodeBackendPageBounds}},
	{EtcdVersion: "3.8", Starts: ptr(true), CutsEntries: ptr(uint64(0)), BecauseOf: []inspect.Code{}},
}

func TestVersionsThatDoTheSameShareALine(t *testing.T) {
	serves := func(version string, yes bool) inspect.Startup {
		return inspect.Startup{EtcdVersion: version, Starts: ptr(true), Serves: &yes, CutsEntries: ptr(uint64(0)), BecauseOf: []inspect.Code{}}
	}
	c := caseOf(nil, "m1")
	c.Members[0].Startup = []inspect.Startup{serves("3.4", true), serves("3.5", false), serves("3.6", true), serves("3.7", true), serves("3.8", true)}
	want := "\nwould etcd start\n  3.4, 3.6 to 3.8: starts and takes writes\n  3.5: stays up and takes no writes\n"
	if got := string(text(t, c, false)); !strings.Contains(got, want) {
		t.Errorf("%q is not in\n%s", want, got)
	}
}

func TestSourcesOnWhichEtcdDoesTheSameAreNamedTogether(t *testing.T) {
	c := caseOf(nil, "m1", "m2", "m3")
	for i := range c.Members {
		c.Members[i].Startup = startups[1:2]
	}
	if got := string(text(t, c, false)); strings.Count(got, "starts and takes writes") != 1 || !strings.Contains(got, "would etcd start, on every source\n") {
		t.Errorf("three members alike are not told of once:\n%s", got)
	}
	c.Members[1].Startup = startups[2:3]
	got := string(text(t, c, false))
	for _, want := range []string{"would etcd start on m1, m3\n", "would etcd start on m2\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

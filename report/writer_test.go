package report_test

import (
	"strings"
	"testing"

	"etcd-forensics/report"
)

// TestTablesFitTheWidth: as `etcdctl -w table` where there is room, then without what says
// nothing, then without borders, then a field a line.
func TestTablesFitTheWidth(t *testing.T) {
	wide := strings.Repeat("x", 24)
	for _, test := range []struct {
		name   string
		header []string
		row    []string
		want   string
	}{
		{"borders", []string{"ID", "KEY"}, []string{"1", ""}, "+----+-----+\n| ID | KEY |\n+----+-----+\n| 1  |     |\n+----+-----+\n"},
		{"without what says nothing", []string{"A", "B", "C", "D"}, []string{wide, "-", wide, wide[:20]},
			"+--------------------------+--------------------------+----------------------+\n" +
				"|            A             |            C             |          D           |\n" +
				"+--------------------------+--------------------------+----------------------+\n" +
				"| " + wide + " | " + wide + " | " + wide[:20] + " |\n" +
				"+--------------------------+--------------------------+----------------------+\n"},
		{"columns", []string{"A", "B", "C"}, []string{wide, wide, wide}, "A                         B                         C\n" + wide + "  " + wide + "  " + wide + "\n"},
		{"a text in lines", []string{"A", "B", "C"}, []string{wide, wide, "the last of them is broken at spaces"},
			"A                         B                         C\n" + wide + "  " + wide + "  the last of them is broken\n" + strings.Repeat(" ", 52) + "at spaces\n"},
		{"blocks", []string{"A", "LONG", "C", "D", "E"}, []string{wide, wide + "\n" + wide[:9], "-", wide, wide},
			"  A     " + wide + "\n  LONG  " + wide + "\n        " + wide[:9] + "\n  D     " + wide + "\n  E     " + wide + "\n"},
	} {
		var b strings.Builder
		if err := report.Table(&b, test.header, [][]string{test.row}); err != nil {
			t.Fatal(err)
		}
		if b.String() != test.want {
			t.Errorf("%s:\n%s", test.name, b.String())
		}
		for line := range strings.Lines(b.String()) {
			if len(line) > 81 {
				t.Errorf("%s: %q is too wide", test.name, line)
			}
		}
	}
}

// The field of a block that has no name stands above the others.
func TestBlockBeginsWithWhatHasNoName(t *testing.T) {
	var b strings.Builder
	long := strings.Repeat("k", 100)
	err := report.Table(&b, []string{"", "KEY"}, [][]string{{"removed", long}, {"added", long}})
	if want := "  removed\n  KEY  " + long + "\n\n  added\n  KEY  " + long + "\n"; err != nil || b.String() != want {
		t.Errorf("%v: %q", err, b.String())
	}
}

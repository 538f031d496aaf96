package inspect

import (
	"strings"
	"testing"

	"etcd-forensics/inspect/source"
)

// TestSpaceIsToldOfOnlyWhenItIsShort gives the numbers of pages of 4 KiB, since no fixture
// is that large.
func TestSpaceIsToldOfOnlyWhenItIsShort(t *testing.T) {
	const mib = 256 // pages
	for _, c := range []struct {
		name                string
		total, free, beyond int64 // pages
		alarms              int
		codes, said         string
	}{
		{"small", 16 * mib, 15 * mib, 0, 0, "", ""},
		{"far from the default quota", 1600 * mib, 0, 0, 0, "", ""},
		{"near the default quota", 1640 * mib, 0, 0, 0, "space-near-quota", "80 percent of the 2 GiB that are the default quota"},
		{"at the default quota", 2048 * mib, 0, 0, 0, "space-near-quota", "100 percent"},
		{"near it, and a defragmentation helps", 2000 * mib, 900 * mib, 0, 0, "", ""},
		{"pages never used do not count", 2000 * mib, 0, 400 * mib, 0, "", ""},
		{"past the default quota, so that there is another", 2100 * mib, 0, 0, 0, "", ""},
		{"near the largest quota", 6600 * mib, 0, 0, 0, "space-near-quota", "80 percent of the 8 GiB that are the largest quota that etcd suggests"},
		{"past every quota that etcd names", 9000 * mib, 0, 0, 0, "", ""},
		{"the alarm says it all", 2000 * mib, 0, 0, 1, "", ""},
		{"half of it free", 200 * mib, 100 * mib, 0, 0, "", ""},
		{"more than half of it free", 200 * mib, 101 * mib, 0, 0, "space-fragmented", "105906176 of 209715200 bytes are free pages"},
		{"more than half of what was used", 400 * mib, 101 * mib, 200 * mib, 0, "space-fragmented", "105906176 of 209715200"},
		{"too little to be worth it", 70 * mib, 64 * mib, 0, 0, "", ""},
	} {
		be := &Backend{File: "db", PageSize: 4096, Pages: Pages{Total: c.total, Free: c.free, BeyondEnd: c.beyond}, Alarms: make([]Alarm, c.alarms)}
		x := newExamination(&source.Source{Path: "db"}, Options{Limits: DefaultLimits})
		x.checkSpace(be)
		var codes []string
		message := ""
		for _, f := range x.findings {
			codes = append(codes, string(f.Code))
			message += f.Message
		}
		if got := strings.Join(codes, " "); got != c.codes || !strings.Contains(message, c.said) {
			t.Errorf("%s: %q (%s), want %q (%s)", c.name, got, message, c.codes, c.said)
		}
	}
}

package inspect_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// BenchmarkScaleLog measures whole commands on the large log that `make
// bench-scale` has built: `inspect` against SHA-256 alone over its segments, and the
// rows of `wal` as JSON against etcd-dump-logs, in entries a second. That tool takes
// minutes, so it runs once.
func BenchmarkScaleLog(b *testing.B) {
	dir := os.Getenv("ETCD_FORENSICS_SCALE")
	if dir == "" {
		b.Skip("ETCD_FORENSICS_SCALE names no stores; make bench-scale builds them")
	}
	data := filepath.Join(dir, "log", "m1")
	wal := filepath.Join(data, "member", "wal")
	segments, err := filepath.Glob(filepath.Join(wal, "*.wal"))
	if err != nil || len(segments) == 0 {
		b.Fatalf("no log in %s (%v)", wal, err)
	}
	b.Setenv("GOMAXPROCS", "2")
	tools := b.TempDir()
	if out, err := exec.Command("go", "build", "-o", tools+"/", "etcd-forensics/cmd/etcd-forensics").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	ours := filepath.Join(tools, "etcd-forensics")
	hash := func() {
		for _, s := range segments {
			digestAlone(b, s)
		}
	}
	hash() // warms the cache
	var sha, inspected, rows []float64
	var peak, rowsPeak int64
	var entries float64
	for range scaleRuns {
		sha = append(sha, timed(hash))
		seconds, memory, out := process(b, ours, "inspect", "--no-digest", "-w", "json", wal)
		inspected, peak = append(inspected, seconds), max(peak, memory)
		entries = entriesOf(b, out)
		seconds, memory, _ = process(b, ours, "wal", "-w", "json", "-o", filepath.Join(b.TempDir(), "rows"), data)
		rows, rowsPeak = append(rows, seconds), max(rowsPeak, memory)
	}
	for b.Loop() {
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(inspected)/median(sha), "no-digest/sha256")
	b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
	b.ReportMetric(float64(rowsPeak)/(1<<20), "rows-peak-MiB")
	b.ReportMetric(entries/median(rows), "entries/s")
	if tool := os.Getenv("ETCD_DUMP_LOGS"); tool != "" {
		b.ReportMetric(entries/median(rows)/dumpedPerSecond(b, tool, data), "entries/etcd-dump-logs")
	}
}

// entriesOf gives the number of entries of the only member.
func entriesOf(b *testing.B, out []byte) float64 {
	var c struct {
		Members []struct {
			WAL struct{ FirstIndex, LastIndex uint64 }
		}
	}
	if err := json.Unmarshal(out, &c); err != nil || len(c.Members) != 1 {
		b.Fatalf("%v in %.200s", err, out)
	}
	return float64(c.Members[0].WAL.LastIndex - c.Members[0].WAL.FirstIndex + 1)
}

var dumped = regexp.MustCompile(`count is : (\d+)\s*$`)

// dumpedPerSecond runs etcd-dump-logs from the first entry on.
func dumpedPerSecond(b *testing.B, tool, data string) float64 {
	file := filepath.Join(b.TempDir(), "dump")
	cmd := strconv.Quote(tool) + " -start-index 2 " + strconv.Quote(data) + " >" + strconv.Quote(file) + " && tail -n 1 " + strconv.Quote(file)
	seconds, _, out := process(b, "sh", "-c", cmd)
	m := dumped.FindSubmatch(out)
	if m == nil {
		b.Fatalf("etcd-dump-logs says no count: %q", out)
	}
	n, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return n / seconds
}

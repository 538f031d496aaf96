package inspect_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// scaleRuns is the number of interleaved runs of which the median counts.
const scaleRuns = 5

// BenchmarkScale measures whole commands on the large stores that `make
// bench-scale` has built, against SHA-256 alone and against what else looks at
// such files: bbolt's check, and etcdutl's snapshot status and hashkv. Everything
// but SHA-256 (Go's, one goroutine, reads of 1 MiB) is a process of its own.
func BenchmarkScale(b *testing.B) {
	dir := os.Getenv("ETCD_FORENSICS_SCALE")
	if dir == "" {
		b.Skip("ETCD_FORENSICS_SCALE names no stores; make bench-scale builds them")
	}
	b.Setenv("GOMAXPROCS", "2")
	tools := b.TempDir()
	for _, pkg := range []string{"etcd-forensics/cmd/etcd-forensics", "go.etcd.io/bbolt/cmd/bbolt", "go.etcd.io/etcd/etcdutl/v3"} {
		if out, err := exec.Command("go", "build", "-o", tools+"/", pkg).CombinedOutput(); err != nil {
			b.Fatalf("%s: %v\n%s", pkg, err, out)
		}
	}
	snapshots, err := filepath.Glob(filepath.Join(dir, "*", "snapshot.db"))
	if err != nil || len(snapshots) == 0 {
		b.Fatalf("no store in %s (%v)", dir, err)
	}
	for _, path := range snapshots {
		b.Run(filepath.Base(filepath.Dir(path)), func(b *testing.B) { measureScale(b, tools, path) })
	}
}

func measureScale(b *testing.B, tools, path string) {
	run := func(name string, args ...string) float64 {
		seconds, _, _ := process(b, filepath.Join(tools, name), args...)
		return seconds
	}
	// etcdutl opens what it reads for writing.
	copied := filepath.Join(b.TempDir(), "copy.db")
	copyFile(b, path, copied)
	// Three members that agree, as far as reading and comparing go.
	three := []string{"compare", "--no-digest"}
	for _, name := range []string{"a", "b", "c"} {
		link := filepath.Join(b.TempDir(), name+".db")
		if err := os.Symlink(path, link); err != nil {
			b.Fatal(err)
		}
		three = append(three, link)
	}
	var sha, whole, plain, check, counted, compared, peers, coldSHA, cold []float64
	var peak, countedPeak, comparedPeak int64
	digestAlone(b, path) // warms the cache
	for range scaleRuns {
		sha = append(sha, timed(func() { digestAlone(b, path) }))
		seconds, memory, out := process(b, filepath.Join(tools, "etcd-forensics"), "inspect", "-w", "json", path)
		whole, peak = append(whole, seconds), max(peak, memory)
		plain = append(plain, run("etcd-forensics", "inspect", "--no-digest", path))
		seconds, memory, _ = process(b, filepath.Join(tools, "etcd-forensics"), "keys", "--kubernetes=false", path)
		counted, countedPeak = append(counted, seconds), max(countedPeak, memory)
		seconds, memory, _ = process(b, filepath.Join(tools, "etcd-forensics"), three...)
		compared, comparedPeak = append(compared, seconds), max(comparedPeak, memory)
		check = append(check, run("bbolt", "check", path))
		if len(peers) == 0 {
			b.ReportMetric(limitMiB(b, out), "limit-MiB")
		}
		peers = append(peers, timed(func() {
			run("etcdutl", "snapshot", "status", copied)
			run("etcdutl", "hashkv", copied)
			digestAlone(b, path)
		}))
	}
	for range 3 {
		if !dropCache(path) {
			break
		}
		coldSHA = append(coldSHA, timed(func() { digestAlone(b, path) }))
		dropCache(path)
		cold = append(cold, run("etcd-forensics", "inspect", path))
	}
	for b.Loop() {
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(whole)/median(sha), "whole/sha256")
	b.ReportMetric(median(plain)/median(check), "no-digest/bbolt-check")
	b.ReportMetric(median(peers)/median(whole), "etcdutl+sha256/whole")
	b.ReportMetric(median(counted)/median(plain), "keys/no-digest")
	b.ReportMetric(median(compared)/(3*median(plain)), "compare-3/3-no-digest")
	b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
	b.ReportMetric(float64(comparedPeak)/(1<<20), "compare-3-peak-MiB")
	b.ReportMetric(float64(countedPeak)/(1<<20), "keys-peak-MiB")
	if len(cold) > 0 {
		b.ReportMetric(median(cold)/median(coldSHA), "cold/cold-sha256")
	}
}

// limitMiB gives what the examination may take: 128 MiB and 48 bytes a key.
func limitMiB(b *testing.B, out []byte) float64 {
	var c struct {
		Verdict struct{ Grade string }
		Members []struct {
			Backend struct{ Keys struct{ Live int64 } }
		}
	}
	if err := json.Unmarshal(out, &c); err != nil || c.Verdict.Grade != "sound" {
		b.Fatalf("verdict %q, %v", c.Verdict.Grade, err)
	}
	return 128 + 48*float64(c.Members[0].Backend.Keys.Live)/(1<<20)
}

// process runs a command to its end; peak is its largest resident size in bytes.
func process(b *testing.B, name string, args ...string) (seconds float64, peak int64, out []byte) {
	b.Helper()
	cmd := exec.Command(name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	if err := cmd.Run(); err != nil {
		b.Fatalf("%v: %v\n%s", cmd.Args, err, stderr.Bytes())
	}
	seconds = time.Since(start).Seconds()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		peak = usage.Maxrss << 10
	}
	return seconds, peak, stdout.Bytes()
}

// dropCache makes the system forget a file's pages, and says whether it could.
func dropCache(path string) bool {
	err := exec.Command("dd", "if="+path, "iflag=nocache", "count=0", "status=none").Run()
	return err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, exec.ErrNotFound)
}

func copyFile(b *testing.B, from, to string) {
	in, err := os.Open(from)
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		b.Fatal(err)
	}
	if err := out.Close(); err != nil {
		b.Fatal(err)
	}
}

func timed(do func()) float64 {
	start := time.Now()
	do()
	return time.Since(start).Seconds()
}

func median(xs []float64) float64 {
	xs = slices.Sorted(slices.Values(xs))
	return xs[len(xs)/2]
}

func digestAlone(b *testing.B, path string) {
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(h, struct{ io.Reader }{f}, make([]byte, 1<<20)); err != nil {
		b.Fatal(err)
	}
	h.Sum(nil)
}

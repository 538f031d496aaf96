package inspect_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
)

// scaleRuns is the number of interleaved runs of which the median counts.
const scaleRuns = 5

// BenchmarkScale measures the examination of a large store that `make
// bench-scale` has built, as ratios to SHA-256 alone over the same file: one
// goroutine, reads of 1 MiB, same process, warm cache.
func BenchmarkScale(b *testing.B) {
	dir := os.Getenv("ETCD_FORENSICS_SCALE")
	if dir == "" {
		b.Skip("ETCD_FORENSICS_SCALE names no store; make bench-scale builds one")
	}
	path := filepath.Join(dir, "snapshot.db")
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	digestAlone(b, path) // warms the cache
	var alone, whole, plain []float64
	for range scaleRuns {
		alone = append(alone, timed(func() { digestAlone(b, path) }))
		whole = append(whole, timed(func() { examineScale(b, path, true) }))
		plain = append(plain, timed(func() { examineScale(b, path, false) }))
	}
	for b.Loop() {
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(whole)/median(alone), "whole/sha256")
	b.ReportMetric(median(plain)/median(alone), "no-digest/sha256")
	b.ReportMetric(float64(info.Size())/median(alone)/1e6, "sha256-MB/s")
	b.ReportMetric(float64(info.Size())/median(whole)/1e6, "whole-MB/s")
	b.ReportMetric(float64(peakMemory(b))/(1<<20), "peak-MiB")
}

func timed(do func()) float64 {
	start := time.Now()
	do()
	return time.Since(start).Seconds()
}

func median(xs []float64) float64 {
	slices.Sort(xs)
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

func examineScale(b *testing.B, path string, digest bool) {
	sources, problems := source.Open([]string{path}, source.Options{})
	if len(problems) > 0 {
		b.Fatal(problems)
	}
	defer sources[0].Close()
	c, err := inspect.Inspect(context.Background(), sources, inspect.Options{Digest: digest})
	if err != nil || len(c.Findings) > 0 {
		b.Fatalf("%v, findings %v", err, c.Findings)
	}
}

// peakMemory reads the process's largest resident size, 0 where the system does
// not tell.
func peakMemory(b *testing.B) int64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) == 3 && fields[0] == "VmHWM:" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				b.Fatal(fmt.Errorf("VmHWM: %w", err))
			}
			return n << 10
		}
	}
	return 0
}

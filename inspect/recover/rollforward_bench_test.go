package recover

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkRoll rolls puts of 1 KB forward from nothing, a key each, with all that belongs
// to it: reading the log, applying, writing the database anew with its hash, and reading
// that again. What SHA-256 alone takes over the output says how fast the machine is.
func BenchmarkRoll(b *testing.B) {
	const puts, valueSize = 100_000, 1024
	noise := rand.NewChaCha8([32]byte{1})
	requests := make([]any, puts)
	for i := range requests {
		value := make([]byte, valueSize)
		noise.Read(value)
		requests[i] = put(fmt.Sprintf("/registry/bench/%08d", i), string(value))
	}
	dir := written(b, ownNode, ownCluster, history(b, requests...))
	var rolled, summed time.Duration
	for b.Loop() {
		o := RollOptions{WALs: opened(b, dir), Scratch: b.TempDir(), Self: self(b), Out: filepath.Join(b.TempDir(), "out.db")}
		begin := time.Now()
		r, err := Roll(b.Context(), o)
		if err != nil || r.Counts.Applied != puts+1 {
			b.Fatalf("%+v, %v", r.Counts, err)
		}
		rolled += time.Since(begin)
		begin = time.Now()
		digest(b, o.Out)
		summed += time.Since(begin)
	}
	b.ReportMetric(float64(puts)*float64(b.N)/rolled.Seconds(), "entries/s")
	b.ReportMetric(rolled.Seconds()/summed.Seconds(), "roll/sha256")
}

func digest(b *testing.B, path string) {
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if _, err := io.CopyBuffer(struct{ io.Writer }{sha256.New()}, struct{ io.Reader }{f}, make([]byte, 1<<20)); err != nil {
		b.Fatal(err)
	}
}

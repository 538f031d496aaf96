package walreader_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"testing"

	"etcd-forensics/walreader"
)

// bigSegment is 64 MB of entries with data of the given size.
func bigSegment(size int) []byte {
	data := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
	b := walreader.AppendFrame(nil, walreader.Record{Type: walreader.TypeCRC})
	var sum uint32
	for len(b) < 64_000_000 {
		sum = walreader.Checksum(sum, data)
		b = walreader.AppendFrame(b, walreader.Record{Type: walreader.TypeEntry, CRC: sum, Data: data})
	}
	return b
}

func BenchmarkVerify(b *testing.B) {
	for _, size := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprintf("entry=%d", size), func(b *testing.B) {
			segment := bigSegment(size)
			src := bytes.NewReader(segment)
			b.SetBytes(int64(len(segment)))
			b.ReportAllocs()
			for b.Loop() {
				r := walreader.NewReader(context.Background(), src, "a.wal", int64(len(segment)), true, walreader.Start(), walreader.Options{})
				for r.Next() {
				}
				if r.Tail() != walreader.TailExact {
					b.Fatal(r.Stop())
				}
			}
		})
	}
	b.Run("sha256", func(b *testing.B) {
		segment := bigSegment(1000)
		b.SetBytes(int64(len(segment)))
		for b.Loop() {
			sha256.Sum256(segment)
		}
	})
}

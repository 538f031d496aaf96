package scan

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

func TestJoinedCRCIsThatOfTheWhole(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 70000)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	for _, n := range []int{0, 1, 7, 8, 255, 256, 257, 4096, 65535, 65536, 69999, 70000} {
		cut := len(b) - n
		got := joinCRC(crc32.Checksum(b[:cut], castagnoli), crc32.Checksum(b[cut:], castagnoli), uint64(n))
		if want := crc32.Checksum(b, castagnoli); got != want {
			t.Errorf("%d bytes behind: %08x, want %08x", n, got, want)
		}
	}
}

func TestTableHoldsTheLatestVersionOfEachKey(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	tb := newTable()
	bs := []*batcher{{table: tb}, {table: tb}}
	want := map[string]version{}
	for i := range 200000 {
		key := fmt.Sprintf("key-%d", rnd.IntN(30000))
		v := version{main: int64(rnd.IntN(1000)), ref: uint32(i)}
		v.hash, v.hash2 = tb.hashes([]byte(key))
		if w, ok := want[key]; !ok || v.newer(&w) {
			want[key] = v
		}
		bs[i%2].add(v)
	}
	for _, b := range bs {
		b.flush()
	}
	n := 0
	tb.each(func(*version) { n++ })
	if n != len(want) {
		t.Errorf("%d keys, want %d", n, len(want))
	}
	for key, w := range want {
		if got := tb.get([]byte(key)); got == nil || *got != w {
			t.Fatalf("%s: %+v, want %+v", key, got, w)
		}
	}
	if tb.get([]byte("never there")) != nil {
		t.Error("a key that was never put was found")
	}
	slots := 0
	for i := range tb.shard {
		slots += len(tb.shard[i].slots)
	}
	if perKey := float64(slots) * 24 / float64(n); perKey > 48 {
		t.Errorf("%.1f bytes a key", perKey)
	}
}

func BenchmarkJoinCRC(b *testing.B) {
	for b.Loop() {
		joinCRC(0x12345678, 0x9abcdef0, 1500)
	}
}

func BenchmarkTable(b *testing.B) {
	tb := newTable()
	bt := &batcher{table: tb}
	keys := make([][]byte, 1<<16)
	for i := range keys {
		keys[i] = bytes.Repeat(fmt.Appendf(nil, "%08d", i), 7)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		var v version
		v.hash, v.hash2 = tb.hashes(keys[i%len(keys)])
		v.main = int64(i)
		bt.add(v)
	}
}

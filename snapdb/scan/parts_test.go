package scan

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"
	"unsafe"
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

func TestTableHoldsTheLatestRecordOfEachKey(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	h, tb := newHasher(), newTable(keepLatest)
	bs := []*batcher[latest]{{table: tb}, {table: tb}}
	key := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	want := map[uint64]latest{}
	records, keys := 8000000, uint64(1000000)
	if testing.Short() {
		records, keys = 300000, 100000
	}
	for i := range records {
		n := rnd.Uint64N(keys)
		v := newLatest(rnd.Int64N(1<<34), uint32(i))
		w, ok := want[n]
		if keepLatest(&w, &v); !ok {
			w = v
		}
		want[n] = w
		hash, hash2 := h.hashes(key(n))
		bs[i%2].add(hash, hash2, v)
	}
	blocks := 0
	for i := range tb.shard {
		blocks += len(tb.shard[i].blocks)
	}
	if size := blocks * int(unsafe.Sizeof([blockSize]entry[latest]{})); size > 50<<20+48*len(want) {
		t.Errorf("%d bytes for %d keys", size, len(want))
	}
	for _, b := range bs {
		b.flush()
	}
	tb.settleAll()
	n := 0
	for shard := range shards {
		tb.each(shard, func(*entry[latest]) { n++ })
	}
	if n != len(want) {
		t.Errorf("%d keys, want %d", n, len(want))
	}
	tried := 0
	for n, w := range want {
		if got := tb.get(h.hashes(key(n))); got == nil || *got != w {
			t.Fatalf("%d: %+v, want %+v", n, got, w)
		}
		if tried++; tried == 5000 { // a search goes through a whole shard
			break
		}
	}
	if tb.get(h.hashes([]byte("never there"))) != nil {
		t.Error("a key that was never put was found")
	}
}

func BenchmarkJoinCRC(b *testing.B) {
	for b.Loop() {
		joinCRC(0x12345678, 0x9abcdef0, 1500)
	}
}

func BenchmarkTable(b *testing.B) {
	h, tb := newHasher(), newTable(keepLatest)
	bt := &batcher[latest]{table: tb}
	keys := make([][]byte, 1<<16)
	for i := range keys {
		keys[i] = bytes.Repeat(fmt.Appendf(nil, "%08d", i), 7)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		hash, hash2 := h.hashes(keys[i%len(keys)])
		bt.add(hash, hash2, newLatest(int64(i), 0))
	}
}

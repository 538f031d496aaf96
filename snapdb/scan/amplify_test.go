package scan_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"testing"
	"time"

	"etcd-forensics/snapdb/page"
	"etcd-forensics/snapdb/scan"
)

const builtPage = 4096

// An element is one record to be written to a page: pos counts from the page's start.
type element struct {
	bucket          bool
	pos, key, value int // sizes of key and value
}

// buildLeaf lays elements out where they say, over each other or not.
func buildLeaf(id, overflow int, elements []element) []byte {
	b := header(id, 2, len(elements), overflow)
	for i, e := range elements {
		at := page.HeaderSize + i*page.ElementSize
		if e.bucket {
			binary.LittleEndian.PutUint32(b[at:], 1)
		}
		binary.LittleEndian.PutUint32(b[at+4:], uint32(e.pos-at))
		binary.LittleEndian.PutUint32(b[at+8:], uint32(e.key))
		binary.LittleEndian.PutUint32(b[at+12:], uint32(e.value))
	}
	return b
}

func header(id, flags, count, overflow int) []byte {
	b := make([]byte, (overflow+1)*builtPage)
	binary.LittleEndian.PutUint64(b, uint64(id))
	binary.LittleEndian.PutUint16(b[8:], uint16(flags))
	binary.LittleEndian.PutUint16(b[10:], uint16(count))
	binary.LittleEndian.PutUint32(b[12:], uint32(overflow))
	return b
}

// buildDatabase puts pages behind two valid metas.
func buildDatabase(root, pages int, at map[int][]byte) []byte {
	b := make([]byte, pages*builtPage)
	for slot := range 2 {
		copy(b[slot*builtPage:], header(slot, 4, 0, 0))
		m := page.Meta{Magic: page.Magic, Version: page.Version, PageSize: builtPage, Root: page.ID(root),
			Freelist: math.MaxUint64, Pgid: page.ID(pages), Txid: uint64(10 + slot)}
		m.Checksum = m.Sum()
		copy(b[slot*builtPage+page.HeaderSize:], m.Append(nil))
	}
	for id, p := range at {
		copy(b[id*builtPage:], p)
	}
	return b
}

// over gives n buckets that all lie on the same bytes of a page.
func over(n, overflow int) []element {
	list := make([]element, n)
	begin := page.HeaderSize + n*page.ElementSize
	for i := range list {
		list[i] = element{true, begin + i%3, 4, (overflow+1)*builtPage - begin - 8}
	}
	return list
}

// headers gives a leaf of n buckets whose root is one page.
func headers(id, n, root int) []byte {
	const size = 6 + page.BucketHeaderSize
	begin := page.HeaderSize + n*page.ElementSize
	list := make([]element, n)
	for i := range list {
		list[i] = element{true, begin + i*size, 6, page.BucketHeaderSize}
	}
	b := buildLeaf(id, (begin+n*size)/builtPage, list)
	for i := range list {
		copy(b[list[i].pos:], fmt.Sprintf("%06d", i))
		binary.LittleEndian.PutUint64(b[list[i].pos+6:], uint64(root))
	}
	return b
}

// itself gives a branch page all of whose children are the page itself.
func itself(id, overflow int) []byte {
	const n = 7
	b := header(id, 1, n, overflow)
	for i := range n {
		at, pos := page.HeaderSize+i*page.ElementSize, page.HeaderSize+n*page.ElementSize+6*i
		binary.LittleEndian.PutUint32(b[at:], uint32(pos-at))
		binary.LittleEndian.PutUint32(b[at+4:], 6)
		binary.LittleEndian.PutUint64(b[at+8:], uint64(id))
		copy(b[pos:], fmt.Sprintf("%06d", i))
	}
	return b
}

// TestDamageCostsNoMoreThanItsBytes reads files that were made to cost a reader
// far more memory or time than their size: bytes that belong to thousands of
// records at once, and a tree that leads to itself from thousands of places.
func TestDamageCostsNoMoreThanItsBytes(t *testing.T) {
	named := func(id int) []byte { return headers(id, 1, id+1) }
	for name, b := range map[string][]byte{
		"inline buckets over each other": buildDatabase(3, 80, map[int][]byte{3: buildLeaf(3, 63, over(4000, 63))}),
		"nested buckets over each other": buildDatabase(3, 600, map[int][]byte{3: named(3), 4: buildLeaf(4, 511, over(60000, 511))}),
		"buckets with one root":          buildDatabase(3, 130, map[int][]byte{3: headers(3, 3000, 60), 60: itself(60, 63)}),
		"nested buckets with one root":   buildDatabase(3, 800, map[int][]byte{3: named(3), 4: headers(4, 60000, 700), 700: itself(700, 63)}),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			tree, _, _, _ := read(t, bytes.NewReader(b), int64(len(b)), 0, scan.Options{Parsers: 1})
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if len(tree.Faults.All()) == 0 {
				t.Error("no fault")
			}
			if got, most := int64(after.TotalAlloc-before.TotalAlloc), int64(200<<20); got > most {
				t.Errorf("%d MB allocated for a file of %d kB", got>>20, len(b)>>10)
			}
			if took > 20*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

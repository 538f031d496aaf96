package page_test

import (
	"bytes"
	"os"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/snapdb/page"
)

// seeds gives pages of real databases to a fuzz target, all kinds among them.
func seeds(tb testing.TB, add func([]byte)) {
	kinds := map[page.Kind]int{}
	for _, name := range []string{"empty-3.7", "freelist-synced", "pagesize-512"} {
		b, err := os.ReadFile(fixtures.Databases(tb, name)[0])
		if err != nil {
			tb.Fatal(err)
		}
		size := 4096
		if name == "pagesize-512" {
			size = 512
		}
		for at := 0; at+size <= len(b); at += size {
			p := b[at : at+size]
			k := page.DecodeHeader((*[page.HeaderSize]byte)(p)).Kind()
			if kinds[k]++; kinds[k] <= 6 {
				add(p)
			}
		}
	}
	for _, k := range []page.Kind{page.KindBranch, page.KindLeaf, page.KindMeta, page.KindFreelist} {
		if kinds[k] == 0 {
			tb.Fatalf("no %s page among the seeds", k)
		}
	}
}

func TestFuzzSeedsExist(t *testing.T) {
	n := 0
	seeds(t, func([]byte) { n++ })
	if n < 12 {
		t.Fatalf("%d seeds", n)
	}
}

func FuzzLeaf(f *testing.F) {
	seeds(f, func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, b []byte) {
		l, _ := page.OpenLeaf(b)
		for i := range l.Len() {
			e, fault := l.Element(i)
			if len(e.Key)+len(e.Value) > len(b) {
				t.Fatalf("element %d has %d bytes of a page of %d", i, len(e.Key)+len(e.Value), len(b))
			}
			if fault == nil && (len(e.Key) == 0 || len(e.Key) > page.MaxKeySize) {
				t.Fatalf("element %d has a key of %d bytes and no fault", i, len(e.Key))
			}
			if fault != nil && (fault.Offset < 0 || fault.Offset > int64(len(b))) {
				t.Fatalf("a fault at %d of %d", fault.Offset, len(b))
			}
			if e.Bucket {
				page.DecodeBucket(e.Value)
			}
		}
		if l.End() > len(b) && len(b) >= page.HeaderSize {
			t.Fatalf("used bytes end at %d of %d", l.End(), len(b))
		}
		if len(b) >= page.HeaderSize {
			page.Extent(b)
		}
	})
}

func FuzzBranch(f *testing.F) {
	seeds(f, func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, b []byte) {
		p, _ := page.OpenBranch(b)
		for i := range p.Len() {
			if e, fault := p.Element(i); fault == nil && len(e.Key) == 0 {
				t.Fatalf("element %d has an empty key and no fault", i)
			}
		}
	})
}

func FuzzFreelist(f *testing.F) {
	seeds(f, func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, b []byte) {
		l, _ := page.OpenFreelist(b)
		if l.Len()*8 > len(b) {
			t.Fatalf("%d ids in %d bytes", l.Len(), len(b))
		}
		for i := range l.Len() {
			l.At(i)
		}
	})
}

func FuzzBucket(f *testing.F) {
	seeds(f, func(b []byte) {
		if l, _ := page.OpenLeaf(b); l.Kind() == page.KindLeaf {
			for i := range l.Len() {
				if e, _ := l.Element(i); e.Bucket {
					f.Add(e.Value)
				}
			}
		}
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		bk, fault := page.DecodeBucket(b)
		if fault == nil && (bk.Root == 0) != (bk.Inline != nil) {
			t.Fatalf("root %d with %d inline bytes", bk.Root, len(bk.Inline))
		}
	})
}

func FuzzMeta(f *testing.F) {
	seeds(f, func(b []byte) { f.Add(b[page.HeaderSize : page.HeaderSize+page.MetaSize]) })
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < page.MetaSize {
			return
		}
		m := page.DecodeMeta((*[page.MetaSize]byte)(b))
		if again := m.Append(nil); !bytes.Equal(again, b[:page.MetaSize]) {
			t.Fatalf("%x does not survive a round trip: %x", b[:page.MetaSize], again)
		}
		if len(m.Problems()) == 0 && (m.Checksum != m.Sum() || m.Root >= m.Pgid) {
			t.Fatalf("%+v has no problem", m)
		}
	})
}

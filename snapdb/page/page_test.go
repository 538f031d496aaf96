package page

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// leafPage lays a leaf out as bbolt does.
func leafPage(id ID, pairs ...string) []byte {
	n := len(pairs) / 2
	b := Header{ID: id, Flags: flagLeaf, Count: uint16(n)}.Append(nil)
	at := HeaderSize + n*ElementSize
	for i := range n {
		k, v := pairs[2*i], pairs[2*i+1]
		b = binary.LittleEndian.AppendUint32(b, 0)
		b = binary.LittleEndian.AppendUint32(b, uint32(at-HeaderSize-i*ElementSize))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(k)))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(v)))
		at += len(k) + len(v)
	}
	for _, s := range pairs {
		b = append(b, s...)
	}
	return b
}

func put32(b []byte, at int, v uint32) []byte {
	c := bytes.Clone(b)
	binary.LittleEndian.PutUint32(c[at:], v)
	return c
}

func TestLeafElementsAreReadBackAsWritten(t *testing.T) {
	b := leafPage(7, "a", "1", "bb", "", "c", "333")
	l, fault := OpenLeaf(b)
	if fault != nil || l.Len() != 3 || l.ID != 7 {
		t.Fatalf("open: %v, %d elements, id %d", fault, l.Len(), l.ID)
	}
	want := []string{"a", "1", "bb", "", "c", "333"}
	for i := range 3 {
		e, fault := l.Element(i)
		if fault != nil || string(e.Key) != want[2*i] || string(e.Value) != want[2*i+1] {
			t.Errorf("element %d: %q=%q, %v", i, e.Key, e.Value, fault)
		}
	}
	if l.End() != len(b) {
		t.Errorf("used bytes end at %d of %d", l.End(), len(b))
	}
}

func TestLeafElementFaults(t *testing.T) {
	whole := leafPage(7, "a", "1", "bb", "22")
	second := HeaderSize + ElementSize
	for _, tt := range []struct {
		name     string
		b        []byte
		element  int
		kind     FaultKind
		readable bool
	}{
		{"position past the page", put32(whole, second+4, 1<<31), 1, FaultElement, false},
		{"key longer than the page", put32(whole, second+8, 1<<31), 1, FaultElement, false},
		{"value longer than the page by one", put32(whole, second+12, 3), 1, FaultElement, false},
		{"all sizes at their limit", put32(put32(put32(whole, second+4, 1<<32-1), second+8, 1<<32-1), second+12, 1<<32-1), 1, FaultElement, false},
		{"position one too far", put32(whole, second+4, 20), 1, FaultElement, false},
		{"value one too short leaves a gap", put32(whole, HeaderSize+12, 0), 1, FaultElement, true},
		{"position inside the element table", put32(whole, second+4, 0), 1, FaultElement, true},
		{"flags that bbolt does not know", put32(whole, second, 2), 1, FaultElement, true},
		{"empty key", leafPage(7, "a", "1", "", "22"), 1, FaultElement, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, fault := OpenLeaf(tt.b)
			for i := 0; i <= tt.element && fault == nil; i++ {
				var e LeafElement
				e, fault = l.Element(i)
				if fault != nil && tt.readable != (e.Key != nil) {
					t.Errorf("readable: %v, want %v", e.Key != nil, tt.readable)
				}
			}
			if fault == nil || fault.Kind != tt.kind || fault.Element != tt.element {
				t.Errorf("got %+v, want %v on element %d", fault, tt.kind, tt.element)
			}
		})
	}
}

func TestMoreElementsThanFit(t *testing.T) {
	b := leafPage(7, "a", "1")
	binary.LittleEndian.PutUint16(b[10:], 4000)
	l, fault := OpenLeaf(b)
	if fault == nil || fault.Kind != FaultCount || l.Len() != 1 {
		t.Errorf("got %v with %d elements, want a count fault with 1", fault, l.Len())
	}
	if _, fault := OpenLeaf(b[:3]); fault == nil {
		t.Error("a page of 3 bytes opened")
	}
}

func TestOrderFaults(t *testing.T) {
	for _, tt := range []struct {
		before, key string
		fault       bool
	}{{"a", "b", false}, {"a", "a", true}, {"b", "a", true}, {"a", "aa", false}} {
		if f := OrderFault(1, []byte(tt.before), []byte(tt.key)); (f != nil) != tt.fault {
			t.Errorf("%q then %q: %v", tt.before, tt.key, f)
		}
	}
	if f := OrderFault(0, nil, []byte("a")); f != nil {
		t.Errorf("the first key: %v", f)
	}
}

func TestOverflowFitsTheElements(t *testing.T) {
	for _, tt := range []struct {
		used, overflow int
		fault          bool
	}{
		{100, 0, false}, {100, 1, true}, {4095, 0, false}, {4096, 0, false}, {4096, 1, false}, // full: one page more in old files
		{4097, 1, false}, {4097, 0, true}, {9000, 2, false}, {9000, 1, true}, {9000, 1 << 20, true},
	} {
		if f := (Header{Overflow: uint32(tt.overflow)}).CheckOverflow(tt.used, 4096); (f != nil) != tt.fault {
			t.Errorf("%d bytes with overflow %d: %v", tt.used, tt.overflow, f)
		}
	}
}

func TestMetaProblems(t *testing.T) {
	good := Meta{Magic: Magic, Version: Version, PageSize: 4096, Root: 5, Freelist: NoFreelist, Pgid: 10, Txid: 3}
	signed := func(change func(*Meta)) Meta {
		m := good
		if change != nil {
			change(&m)
		}
		m.Checksum = m.Sum()
		return DecodeMeta((*[MetaSize]byte)(m.Append(nil)))
	}
	if p := signed(nil).Problems(); len(p) > 0 {
		t.Fatalf("a good meta: %v", p)
	}
	for name, change := range map[string]func(*Meta){
		"magic": func(m *Meta) { m.Magic++ }, "version": func(m *Meta) { m.Version = 3 },
		"page size not a power of two": func(m *Meta) { m.PageSize = 5000 }, "page size too small": func(m *Meta) { m.PageSize = 256 },
		"root is a meta": func(m *Meta) { m.Root = 1 }, "root at the mark": func(m *Meta) { m.Root = 10 },
		"freelist at the mark": func(m *Meta) { m.Freelist = 10 }, "no pages": func(m *Meta) { m.Pgid = 2 },
	} {
		if p := signed(change).Problems(); len(p) == 0 {
			t.Errorf("%s: no problem found", name)
		}
	}
	m := signed(nil)
	b := m.Append(nil)
	for i := range MetaSize {
		c := bytes.Clone(b)
		c[i] ^= 0x10
		if p := DecodeMeta((*[MetaSize]byte)(c)).Problems(); len(p) == 0 {
			t.Errorf("a flipped bit in byte %d: no problem found", i)
		}
	}
}

func TestFreelistCounts(t *testing.T) {
	short := Header{ID: 9, Flags: flagFreelist, Count: 2}.Append(nil)
	short = binary.LittleEndian.AppendUint64(short, 4)
	short = binary.LittleEndian.AppendUint64(short, 6)
	if f, fault := OpenFreelist(short); fault != nil || f.Len() != 2 || f.At(1) != 6 {
		t.Errorf("short form: %v, %d ids", fault, f.Len())
	}
	long := Header{ID: 9, Flags: flagFreelist, Count: 0xFFFF}.Append(nil)
	long = binary.LittleEndian.AppendUint64(long, 70000)
	for i := range 70000 {
		long = binary.LittleEndian.AppendUint64(long, uint64(i))
	}
	if f, fault := OpenFreelist(long); fault != nil || f.Len() != 70000 || f.At(69999) != 69999 {
		t.Errorf("long form: %v, %d ids", fault, f.Len())
	}
	binary.LittleEndian.PutUint64(long[HeaderSize:], 1<<63)
	if f, fault := OpenFreelist(long); fault == nil || f.Len() != 70000 {
		t.Errorf("long form with a trashed count: %v, %d ids", fault, f.Len())
	}
	binary.LittleEndian.PutUint64(long[HeaderSize:], 5)
	if f, fault := OpenFreelist(long); fault == nil || f.Len() != 5 {
		t.Errorf("long form of a short list: %v, %d ids", fault, f.Len())
	}
	if _, fault := OpenFreelist(long[:HeaderSize+3]); fault == nil {
		t.Error("a cut off long count was accepted")
	}
}

func TestBucketHeaders(t *testing.T) {
	header := func(root uint64, rest int) []byte {
		b := binary.LittleEndian.AppendUint64(nil, root)
		return append(binary.LittleEndian.AppendUint64(b, 3), make([]byte, rest)...)
	}
	for _, tt := range []struct {
		name  string
		b     []byte
		fault bool
	}{
		{"with a root page", header(4, 0), false}, {"inline", header(0, HeaderSize), false},
		{"too short", header(4, 0)[:15], true}, {"root page and more", header(4, 1), true}, {"inline without a page", header(0, 15), true},
	} {
		b, fault := DecodeBucket(tt.b)
		if (fault != nil) != tt.fault {
			t.Errorf("%s: %v", tt.name, fault)
		}
		if fault == nil && b.Sequence != 3 {
			t.Errorf("%s: sequence %d", tt.name, b.Sequence)
		}
	}
}

package walreader

import (
	"strings"
	"testing"
)

func TestFrameHeaders(t *testing.T) {
	for _, test := range []struct {
		name    string
		b       string
		h       FrameHeader
		aligned bool
	}{
		{"no padding", "\x10\x00\x00\x00\x00\x00\x00\x00", FrameHeader{16, 0}, true},
		{"three bytes of padding", "\x05\x00\x00\x00\x00\x00\x00\x83", FrameHeader{5, 3}, true},
		{"padding without its mark", "\x05\x00\x00\x00\x00\x00\x00\x03", FrameHeader{5, 0}, false},
		{"the longest", "\xff\xff\xff\xff\xff\xff\xff\xff", FrameHeader{1<<56 - 1, 7}, false},
		{"zero", "\x00\x00\x00\x00\x00\x00\x00\x00", FrameHeader{}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := DecodeFrameHeader([8]byte([]byte(test.b)))
			if h != test.h || h.Aligned() != test.aligned {
				t.Errorf("%+v, aligned %v", h, h.Aligned())
			}
			if again := DecodeFrameHeader([8]byte(AppendFrameHeader(nil, h))); again != h {
				t.Errorf("%+v does not survive a round trip: %+v", h, again)
			}
		})
	}
}

func TestRecordsThatEtcdWouldNotSpellSo(t *testing.T) {
	for _, test := range []struct {
		name string
		b    string
		rec  Record
		err  string
	}{
		{"fields in another order", "\x1a\x01x\x10\x05\x08\x02", Record{TypeEntry, 5, []byte("x")}, ""},
		{"a field twice", "\x08\x01\x08\x02\x10\x05", Record{TypeEntry, 5, nil}, ""},
		{"an unknown field", "\x08\x02\x10\x05\x22\x03abc", Record{TypeEntry, 5, nil}, ""},
		{"no field", "", Record{}, ""},
		{"a long varint", "\x08\x82\x00\x10\x05", Record{TypeEntry, 5, nil}, ""},
		{"empty data", "\x08\x02\x10\x05\x1a\x00", Record{TypeEntry, 5, []byte{}}, ""},
		{"data that is too short", "\x08\x02\x10\x05\x1a\x02x", Record{}, "EOF"},
		{"a wrong wire type", "\x0a\x01x", Record{}, "wire type"},
		{"field zero", "\x00\x01", Record{}, "tag"},
	} {
		t.Run(test.name, func(t *testing.T) {
			rec, err := DecodeRecord([]byte(test.b))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil || rec.Type != test.rec.Type || rec.CRC != test.rec.CRC || string(rec.Data) != string(test.rec.Data) {
				t.Errorf("%+v, %v", rec, err)
			}
			if (rec.Data == nil) != (test.rec.Data == nil) {
				t.Errorf("data nil: %v", rec.Data == nil)
			}
		})
	}
}

func TestNamesInAWALDirectory(t *testing.T) {
	for _, test := range []struct {
		name  string
		class NameClass
		n     SegmentName
	}{
		{"0000000000000002-0000000000000097.wal", NameSegment, SegmentName{2, 0x97}},
		{"ffffffffffffffff-ffffffffffffffff.wal", NameSegment, SegmentName{1<<64 - 1, 1<<64 - 1}},
		{"000000000000000A-0000000000000097.wal", NameMisspelt, SegmentName{10, 0x97}},
		{"2-97.wal", NameMisspelt, SegmentName{2, 0x97}},
		{"0000000000000002-0000000000000097.wal.wal", NameMisspelt, SegmentName{2, 0x97}},
		{"0000000000000002-0000000000000097 (copy).wal", NameForeign, SegmentName{}},
		{"0000000000000002-0000000000000097.wal.broken", NameBroken, SegmentName{}},
		{"0.tmp", NamePreallocated, SegmentName{}},
		{"1.tmp", NamePreallocated, SegmentName{}},
		{"2.tmp", NameTemporary, SegmentName{}},
		{"-.wal", NameForeign, SegmentName{}},
		{".wal", NameForeign, SegmentName{}},
		{"", NameForeign, SegmentName{}},
	} {
		class, n := ClassifyName(test.name)
		if class != test.class || class == NameSegment && n.String() != test.name ||
			(class == NameSegment || class == NameMisspelt) && n != test.n {
			t.Errorf("%q: %v %v", test.name, class, n)
		}
	}
}

func TestEveryFaultKindHasAText(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range FaultKinds() {
		if k.String() == "" || k == FaultUnknown || seen[k.String()] {
			t.Errorf("%d: %q", k, k.String())
		}
		seen[k.String()] = true
	}
}

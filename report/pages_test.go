package report_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"iter"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
	"etcd-forensics/report"
)

// pageMap is a map with a fault, whose names are text of the evidence.
func pageMap(name string) *query.PageMap {
	return &query.PageMap{
		File: name, Size: 40992, PageSize: 4096, Total: 10, TrailerBytes: 32, Txid: 17, ActiveMeta: new(1), HighWaterMark: 9,
		Metas: []query.Meta{
			{Slot: 0, Magic: "ed0cdaed", Version: 2, PageSize: 4096, Root: 3, HighWaterMark: 9, Txid: 16, Checksum: "45303f2543372270", Computed: "45303f2543372271", Problems: []string{name}},
			{Slot: 1, Valid: true, Active: true, Magic: "ed0cdaed", Version: 2, PageSize: 4096, Root: 4, Freelist: ptr(uint64(2)), HighWaterMark: 9, Txid: 17, Checksum: "9eb2c6a86a50eacb", Computed: "9eb2c6a86a50eacb", Problems: []string{}},
		},
		Classes: []query.ClassShare{
			{Class: "meta", Pages: 2, Bytes: 8192}, {Class: "leaf", Pages: 3, Bytes: 12288}, {Class: "overflow", Pages: 1, Bytes: 4096}, {Class: "freelist", Pages: 1, Bytes: 4096},
			{Class: "free", Pages: 1, Bytes: 4096}, {Class: "damaged", Pages: 1, Bytes: 4096}, {Class: "beyondEnd", Pages: 1, Bytes: 4096}, {Class: "branch"},
		},
		Buckets: []query.BucketPages{
			{Root: 4, Holder: 1, Depth: 1, LeafPages: 1, Records: 3, UsedBytes: 1163, PageBytes: 4096, Fill: 0.2839},
			{Bucket: "key", Root: 6, Holder: 4, Depth: 2, BranchPages: 1, LeafPages: 1, OverflowPages: 1, DamagedPages: 1, Records: 120, UsedBytes: 8192, PageBytes: 12288, Fill: 0.6667},
			{Bucket: name, Inline: true, Holder: 4, Depth: 1, Records: 2},
		},
		Free: query.FreeSpace{Pages: 1, Runs: 1, Largest: query.Run{First: 3, Count: 1, Class: "free"}, Share: 0.1111}, FreelistStored: true,
		Findings: []inspect.Finding{{
			Code: inspect.CodeBackendPageType, Severity: inspect.SeverityError, Member: name, Message: "page 8 (bucket key): flags are 0x0000 (zeros)",
			Hint: "restore from another member", Location: inspect.Location{File: name, Offset: ptr(int64(32776)), Page: ptr(uint64(8))}, RelatedPages: []uint64{},
		}},
		Runs: func(yield func(query.Run) bool) {
			_ = yield(query.Run{First: 0, Count: 2, Class: "meta"}) && yield(query.Run{First: 2, Count: 8, Class: "leaf"})
		},
		Picture: query.Picture{PagesPerCell: 2, Rows: []query.PictureRow{{First: 0, Cells: "MF.oL"}, {First: 10, Cells: "X"}},
			Signs: []query.Sign{{Cell: 'M', Means: "meta"}, {Cell: 'X', Means: "fault"}}},
	}
}

// fullPages have everything that a page may have; texts of the evidence are name.
func fullPages(name string) []*query.Page {
	return []*query.Page{
		{
			Page: 8, Offset: 32768, Size: 8192, Class: "leaf", Bucket: &name, Path: []uint64{4, 6, 8}, Used: 4711, Notes: []string{name},
			Header: &query.Header{ID: 8, Flags: 2, Type: "leaf", Count: 3, Overflow: 1},
			References: []query.Reference{{Holder: 6, Element: 1, Lo: &query.Key{Raw: []byte("\x00\xff"), Revision: "33.0"}, Hi: &query.Key{Raw: []byte(name)}},
				{Holder: 1, Element: -1, Field: "root"}},
			Findings: pageMap(name).Findings,
			Elements: []query.Element{
				{Index: 0, Position: 64, KeySize: 18, ValueSize: 20, Key: query.Key{Raw: []byte("\x00"), Revision: "33.1", Tombstone: true}, EtcdKey: []byte(name)},
				{Index: 1, Position: 102, KeySize: 4000, ValueSize: 9, Key: query.Key{Hidden: true}, Faults: []string{name}},
				{Index: 2, Position: 4702, KeySize: 5, ValueSize: 16, Key: query.Key{Raw: []byte(name)}, Bucket: &query.SubBucket{
					Elements: []query.Element{{Index: 0, Position: 32, KeySize: 4, ValueSize: 2, Key: query.Key{Raw: []byte(name)}}},
				}},
				{Index: 3, Position: 4723, KeySize: 3, ValueSize: 16, Key: query.Key{Raw: []byte("key")}, Bucket: &query.SubBucket{Root: 6, Sequence: 1}},
			},
			Bytes: []byte(strings.Repeat(name, 2) + "****"), Masked: []query.Span{{From: 8, To: 12}},
		},
		{
			Page: 6, Class: "branch", Offset: 24576, Size: 4096, Header: &query.Header{ID: 6, Flags: 1, Type: "branch", Count: 1}, Path: []uint64{4, 6}, Leftover: true,
			References: []query.Reference{}, Elements: []query.Element{{Position: 32, KeySize: 17, Child: 8, Key: query.Key{Raw: []byte(name)}}},
		},
		{Page: 9, Class: "overflow", PartOf: ptr(uint64(8)), Offset: 36864, Size: 4096},
		{Page: 2, Class: "freelist", Offset: 8192, Size: 4096, Freelist: &query.Freelist{Count: 3, Runs: []query.FreeRun{{First: 3, Count: 1}, {First: 11, Count: 2}}}},
		{Page: 0, Class: "meta", Size: 4096, Meta: &pageMap(name).Metas[0]},
	}
}

func mapText(t *testing.T, m *query.PageMap, color bool) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := report.PageMapText(&b, m, report.TextOptions{Color: color}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func mapJSON(t *testing.T, m *query.PageMap) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := report.PageMapJSON(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func pagesText(t *testing.T, pages []*query.Page, color bool) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, v := range pages {
		if err := report.PageText(&b, v, report.TextOptions{Color: color}); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func pagesJSON(t *testing.T, file string, pages []*query.Page) []byte {
	t.Helper()
	var b bytes.Buffer
	err := report.PagesJSON(&b, file, func(visit func(*query.Page) error) error {
		for _, v := range pages {
			if err := visit(v); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestPagesGolden(t *testing.T) {
	golden(t, "pages-map.txt.golden", mapText(t, pageMap("db"), false))
	golden(t, "pages-full.txt.golden", pagesText(t, fullPages("db"), false))
}

func TestPagesFitTheTerminal(t *testing.T) {
	for line := range strings.Lines(string(mapText(t, pageMap("m1/member/snap/db"), false)) + string(pagesText(t, fullPages("db"), false))) {
		if utf8.RuneCountInString(line) > 81 {
			t.Errorf("too long: %s", line)
		}
	}
}

func TestHostilePagesAreHarmless(t *testing.T) {
	harmless(t, mapText(t, pageMap(hostile), false))
	harmless(t, mapJSON(t, pageMap(hostile)))
	harmless(t, pagesText(t, fullPages(hostile), false))
	harmless(t, pagesJSON(t, hostile, fullPages(hostile)))
	var b bytes.Buffer
	row := query.PageRow{Page: 7, Class: "leaf", Type: "leaf", Items: ptr(uint16(1)), Overflow: ptr(uint32(0)), Bucket: ptr(hostile)}
	if err := errors.Join(report.PageListHeader(&b), report.PageRowText(&b, row), report.PageRowJSON(&b, row)); err != nil {
		t.Fatal(err)
	}
	harmless(t, b.Bytes())
	if n := strings.Count(b.String(), "\n"); n != 4 {
		t.Errorf("%d lines:\n%s", n, b.String())
	}
}

func TestColorOnlyPaintsPages(t *testing.T) {
	painted := slices.Concat(mapText(t, pageMap(hostile), true), pagesText(t, fullPages(hostile), true))
	plain := regexp.MustCompile("\x1b\\[[0-9]*m").ReplaceAll(painted, nil)
	if bytes.Equal(painted, plain) {
		t.Error("nothing is painted")
	}
	if !bytes.Equal(plain, slices.Concat(mapText(t, pageMap(hostile), false), pagesText(t, fullPages(hostile), false))) {
		t.Error("colour changes the text")
	}
}

func TestPagesJSONIsOneValue(t *testing.T) {
	for name, out := range map[string][]byte{
		"map": mapJSON(t, pageMap(hostile)), "pages": pagesJSON(t, hostile, fullPages(hostile)), "no page": pagesJSON(t, "db", nil),
	} {
		var v map[string]any
		if err := json.Unmarshal(out, &v); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if strings.Contains(string(out), `": null`) && name == "map" && strings.Count(string(out), `": null`) != 1 { // the freelist of meta 0
			t.Errorf("%s holds a list that is null:\n%s", name, out)
		}
		namesIn(v, func(field string) {
			if !schemaNames(t, field) {
				t.Errorf("schema.md does not name %s (%s)", field, name)
			}
		})
	}
}

// namesIn visits the names in a JSON value.
func namesIn(v any, visit func(string)) {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			visit(name)
			namesIn(inner, visit)
		}
	case []any:
		for _, inner := range v {
			namesIn(inner, visit)
		}
	}
}

func schemaNames(t *testing.T, field string) bool {
	t.Helper()
	b, err := os.ReadFile("schema.md")
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile("`" + field + "(\\[\\])?`").Match(b)
}

func TestFullDiskEndsPages(t *testing.T) {
	m, endless := pageMap("db"), 0
	m.Runs = iter.Seq[query.Run](func(yield func(query.Run) bool) {
		for yield(query.Run{First: int64(endless), Count: 1, Class: "leaf"}) && endless < 1e6 {
			endless++
		}
	})
	if err := report.PageMapJSON(&fullDisk{10000}, m); !errors.Is(err, errFull) || endless > 1000 {
		t.Errorf("map: %v after %d runs", err, endless)
	}
	all := len(mapText(t, pageMap("db"), false))
	for n := all - 1; n >= 0; n -= 19 {
		if err := report.PageMapText(&fullDisk{n}, pageMap("db"), report.TextOptions{}); !errors.Is(err, errFull) {
			t.Fatalf("map after %d bytes: %v", n, err)
		}
	}
	one := fullPages("db")[:1]
	for n := range len(pagesText(t, one, false)) {
		if err := report.PageText(&fullDisk{n}, one[0], report.TextOptions{}); !errors.Is(err, errFull) {
			t.Fatalf("page after %d bytes: %v", n, err)
		}
	}
}

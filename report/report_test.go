package report_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"etcd-forensics/inspect"
	"etcd-forensics/report"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares with a file of testdata, or rewrites it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (make golden writes it)", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (make golden rewrites it); now:\n%s", path, got)
	}
}

func ptr[T any](v T) *T { return &v }

// soundMember is a source with every number there.
func soundMember(path string) (inspect.Source, inspect.Member) {
	sum := strings.Repeat("0123456789abcdef", 4)
	return inspect.Source{Path: path, Kind: "snapshot", Files: []inspect.SourceFile{{Path: path, Size: 49184, SHA256: &sum}}},
		inspect.Member{
			Source: path, Verdict: inspect.Verdict{Grade: inspect.Sound, Codes: []inspect.Code{}},
			Backend: &inspect.Backend{
				File: path, Size: 49184, PageSize: 4096, Txid: 17, ActiveMeta: ptr(0), Complete: true,
				Pages:          inspect.Pages{Total: 12, Meta: 2, Branch: 1, Leaf: 6, Free: 3},
				Trailer:        inspect.Trailer{Present: true, Valid: ptr(true)},
				StorageVersion: ptr("3.6.0"), ClusterVersion: ptr("3.6.0"), ConsistentIndex: ptr(uint64(57)), Term: ptr(uint64(2)),
				ConfState: &inspect.ConfState{Voters: []inspect.ID{0x8e9e05c52164694d}, Learners: []inspect.ID{}},
				Revision:  ptr(int64(45)), CompactRevision: ptr(int64(-1)), ScheduledCompactRevision: ptr(int64(-1)), FinishedCompactRevision: ptr(int64(-1)),
				HashKV:  &inspect.HashKV{Hash: 3161936405, Revision: 45, CompactRevision: -1},
				Keys:    &inspect.Keys{Live: 1, Revisions: 44, Tombstones: 1},
				Space:   &inspect.Space{InUseBytes: 36864, FreeBytes: 12288, LiveBytes: 1000, HistoryBytes: 23},
				Buckets: []inspect.Bucket{{Name: "key", Records: 44, Known: true}},
				Alarms:  []inspect.Alarm{}, Leases: ptr(int64(0)), Auth: &inspect.Auth{Users: []string{}, Roles: []string{}},
			},
			Snapshots: []inspect.Snap{}, Leftovers: []inspect.Leftover{}, Startup: []inspect.Startup{}, NotExamined: []string{},
			Membership: inspect.Membership{Removed: []inspect.ID{}, Removals: []inspect.Removal{}, Zombies: []inspect.MembershipMember{},
				Changes: []inspect.MembershipChange{}, Statements: []inspect.Statement{}, Members: []inspect.MembershipMember{{
					MemberID: 0x8e9e05c52164694d, Name: "m1", PeerURLs: []string{"http://127.0.0.1:2380"},
					ClientURLs: []string{"http://127.0.0.1:2379"}, StatedBy: []string{"backend"},
				}}},
		}
}

// caseOf puts members together; the grade is the first one's.
func caseOf(findings []inspect.Finding, members ...string) *inspect.Case {
	c := &inspect.Case{SchemaVersion: inspect.SchemaVersion, Findings: findings, NotExamined: []string{}}
	for _, path := range members {
		s, m := soundMember(path)
		c.Sources, c.Members = append(c.Sources, s), append(c.Members, m)
	}
	c.Verdict = c.Members[0].Verdict
	return c
}

// hostile is text that would harm a terminal, a browser, a parser of lines or a
// reader's eyes, had it its way.
const hostile = "a\x1b[2J\x07\r\nb\u202ec\u200bd<script>alert(1)</script>\xff\xfe\x00\x9b31m\u2028e\U000e0041"

// hostileCase has hostile text in every string that evidence can set.
func hostileCase() *inspect.Case {
	c := caseOf([]inspect.Finding{{
		Code: inspect.CodeMVCCModRevision, Severity: inspect.SeverityError, Member: hostile, Message: hostile, Hint: "compare",
		Location: inspect.Location{File: hostile, Offset: ptr(int64(4096)), Page: ptr(uint64(1)), Revision: ptr(int64(7)), Key: []byte(hostile)}, RelatedPages: []uint64{},
	}}, hostile, hostile)
	for i := range c.Members {
		m := &c.Members[i]
		m.Name, m.Backend.StorageVersion, m.Backend.ClusterVersion = ptr(hostile), ptr(hostile), ptr(hostile)
		m.NotExamined = []string{hostile}
		m.Backend.Buckets = []inspect.Bucket{{Name: hostile, Records: 1}}
		m.Backend.Alarms = []inspect.Alarm{{MemberID: 1, Alarm: hostile}}
		m.Backend.Auth = &inspect.Auth{Enabled: true, Users: []string{hostile}, Roles: []string{hostile}}
		m.Membership.Members[0] = inspect.MembershipMember{Name: hostile, PeerURLs: []string{hostile, hostile}, ClientURLs: []string{hostile}, StatedBy: []string{hostile}}
		m.WAL = &inspect.WAL{
			Dir: hostile, Tail: hostile, ProvenBy: hostile,
			Segments: []inspect.Segment{{File: hostile, Tail: hostile}}, Fault: &inspect.WALFault{File: hostile},
			Unapplied: inspect.Unapplied{Keys: []inspect.UnappliedKey{{Key: []byte(hostile), Change: hostile, Conditional: true}}},
			Statistics: &inspect.LogStatistics{
				Kinds: []inspect.KindShare{{Kind: hostile}}, Prefixes: []inspect.PrefixShare{{Prefix: []byte(hostile)}}, Users: []inspect.UserShare{{User: hostile}},
				Biggest: []inspect.LargeRequest{{Kind: hostile, Key: []byte(hostile), File: hostile}}, Events: []inspect.EventCount{{Event: inspect.EventAlarm, Count: 2}},
			},
			Timeline: []inspect.LogEvent{{Event: inspect.EventAlarm, What: hostile, File: hostile, Index: ptr(uint64(7))}},
		}
		m.Snapshots = []inspect.Snap{{File: hostile}}
		m.Leftovers = []inspect.Leftover{{File: hostile, Kind: hostile}}
		m.Startup = []inspect.Startup{{EtcdVersion: hostile, Starts: ptr(false), Error: hostile, BecauseOf: []inspect.Code{}, Assumed: hostile}}
	}
	c.NotExamined = []string{hostile}
	return c
}

func TestGolden(t *testing.T) {
	sound := caseOf(nil, "backup.db")

	damaged := caseOf([]inspect.Finding{
		{
			Code: inspect.CodeBackendPageType, Severity: inspect.SeverityError, Member: "m1", Message: "page 7 (bucket key): flags are 0x0000 (zeros) where a leaf belongs",
			Hint: "restore from another member", Location: inspect.Location{File: "m1/member/snap/db", Offset: ptr(int64(28672)), Page: ptr(uint64(7))}, RelatedPages: []uint64{},
		},
		{
			Code: inspect.CodeBackendPageType, Severity: inspect.SeverityError, Member: "m1", Message: "page 9 (bucket key): flags are 0x0000 (zeros) where a leaf belongs",
			Hint: "restore from another member", Location: inspect.Location{File: "m1/member/snap/db", Offset: ptr(int64(36864)), Page: ptr(uint64(9))}, RelatedPages: []uint64{3},
		},
		{
			Code: inspect.CodeMVCCModRevision, Severity: inspect.SeverityError, Member: "m2", Message: `key "\xff": revision 9 says 8`, Hint: "compare with another member",
			Location: inspect.Location{File: "m2/member/snap/db", Page: ptr(uint64(5)), Revision: ptr(int64(9)), Key: []byte{0xff}}, RelatedPages: []uint64{},
		},
	}, "m1", "m2", "m3", "m4")
	damaged.Verdict.Grade = inspect.Sound
	damaged.Members[0].Verdict = inspect.Verdict{Grade: inspect.Unusable, Codes: []inspect.Code{inspect.CodeBackendPageType}}
	damaged.Members[1].Verdict = inspect.Verdict{Grade: inspect.Degraded, Codes: []inspect.Code{inspect.CodeMVCCModRevision}}
	b := damaged.Members[0].Backend
	b.Complete, b.HashKV, b.Space = false, nil, nil
	damaged.Members[1].Backend = nil
	damaged.Members[1].Membership.Members = []inspect.MembershipMember{}
	damaged.Members[2].Membership.Members[0].IsLearner = true
	damaged.Members[2].Membership.Removed = []inspect.ID{0x1, 0xfa45e48ee6366e40}
	damaged.NotExamined = []string{"m5: no such file or directory"}

	withLog := caseOf(nil, "m1")
	withLog.Sources[0].Kind = "data-dir"
	withLog.Sources[0].Files = append(withLog.Sources[0].Files, inspect.SourceFile{Path: "m1/member/wal/0000000000000000-0000000000000000.wal", Size: 64 << 20})
	m := &withLog.Members[0]
	m.MemberID, m.ClusterID, m.Name = ptr(inspect.ID(0x8e9e05c52164694d)), ptr(inspect.ID(0xcdf818194e3a8c32)), ptr("m1")
	m.WAL = &inspect.WAL{
		Dir: "m1/member/wal", FirstIndex: ptr(uint64(1)), LastIndex: ptr(uint64(60)), LastTerm: ptr(uint64(2)), Commit: ptr(uint64(58)),
		ProvenCommit: ptr(uint64(59)), Unapplied: inspect.Unapplied{IndexSpan: inspect.IndexSpan{Count: 2}}, Uncommitted: inspect.Count{Count: 1}, Tail: "fault",
		Segments: []inspect.Segment{{File: "0000000000000000-0000000000000000.wal", FirstIndex: ptr(uint64(1)), LastIndex: ptr(uint64(60)), Tail: "fault"}},
		Fault:    &inspect.WALFault{File: "0000000000000000-0000000000000000.wal", Offset: 12288, Index: ptr(uint64(61))},
	}
	m.Snapshots = []inspect.Snap{{File: "0000000000000002-0000000000000032.snap", Term: ptr(uint64(2)), Index: ptr(uint64(50)), Valid: true}, {File: "broken.snap"}}
	m.Leftovers = []inspect.Leftover{{File: "tmp123", Kind: "unfinished snapshot"}}
	m.Startup = startups

	hostile := caseOf([]inspect.Finding{{
		Code: inspect.CodeMVCCModRevision, Severity: inspect.SeverityError, Member: "backup.db", Message: "key " + hostile + ": revision 9 says 8", Hint: "compare with another member",
		Location: inspect.Location{File: "backup.db", Offset: ptr(int64(20480)), Page: ptr(uint64(5)), Revision: ptr(int64(9)), Key: []byte(hostile)}, RelatedPages: []uint64{},
	}}, "backup.db")
	hostile.Verdict = inspect.Verdict{Grade: inspect.Degraded, Codes: []inspect.Code{inspect.CodeMVCCModRevision}}
	hostile.Members[0].Verdict = hostile.Verdict
	hostile.Members[0].Membership.Members[0].Name = "\x1b[31mm1\u202e"

	for name, c := range map[string]*inspect.Case{"sound": sound, "damaged": damaged, "with-log": withLog, "hostile": hostile} {
		t.Run(name, func(t *testing.T) {
			golden(t, name+".txt.golden", text(t, c, false))
		})
	}
	golden(t, "hostile.json.golden", asJSON(t, hostile))
}

func text(t *testing.T, c *inspect.Case, color bool) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := report.Text(&b, c, report.TextOptions{Color: color}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func asJSON(t *testing.T, c *inspect.Case) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := report.JSON(&b, c); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// harmless fails when output holds more than printable characters and line ends.
func harmless(t *testing.T, out []byte) {
	t.Helper()
	if !utf8.Valid(out) {
		t.Error("the output is not UTF-8")
	}
	for _, r := range string(out) {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("the output holds %U", r)
		}
	}
}

func TestHostileTextIsHarmless(t *testing.T) {
	c := hostileCase()
	harmless(t, text(t, c, false))
	harmless(t, asJSON(t, c))
	if first, _, _ := bytes.Cut(text(t, c, false), []byte("\n")); !bytes.HasPrefix(first, []byte("verdict: sound: all 2 sources")) {
		t.Errorf("the first line is %q", first)
	}
}

func TestKeysSurviveJSON(t *testing.T) {
	for name, key := range map[string]string{
		"plain": "/registry/pods/a", "empty": "", "not UTF-8": hostile, "controls": "a\x1b\n\x00", "delete": "a\x7fb", "delete beside others": "a\x7f\u202e", "direction": "a\u202eb", "beyond the BMP": "\U000e0041\U0001f600",
		"markup": "<script>&", "only the replacement character": "\ufffd",
	} {
		t.Run(name, func(t *testing.T) {
			c := hostileCase()
			c.Findings[0].Location.Key = []byte(key)
			out := asJSON(t, c)
			harmless(t, out)
			var back struct {
				Findings []struct {
					Location struct {
						Key         *string
						KeyEncoding string
					}
				}
			}
			if err := json.Unmarshal(out, &back); err != nil {
				t.Fatal(err)
			}
			l := back.Findings[0].Location
			if l.Key == nil {
				t.Fatal("no key")
			}
			got := *l.Key
			if l.KeyEncoding == "base64" {
				b, err := base64.StdEncoding.DecodeString(got)
				if err != nil {
					t.Fatal(err)
				}
				got = string(b)
			}
			if got != key || (l.KeyEncoding == "") != utf8.ValidString(key) {
				t.Errorf("%q (%s) came back as %q", key, l.KeyEncoding, got)
			}
		})
	}
}

func TestPlainLeavesWhatIsPlain(t *testing.T) {
	for in, want := range map[string]string{
		"":                   "",
		"/registry/ä/日本":     "/registry/ä/日本",
		`C:\etcd "x"`:        `C:\etcd "x"`,
		"\x1b]0;x\x07":       `\x1b]0;x\a`,
		"a\tb\nc":            `a\tb\nc`,
		"\xff":               `\xff`,
		"\ufffd":             "\ufffd",
		"\u202e\u2066\u00ad": `\u202e\u2066\u00ad`,
		"\u0085\u009b":       `\u0085\u009b`,
	} {
		if got := report.Plain(in); got != want {
			t.Errorf("%+q became %+q, not %+q", in, got, want)
		}
	}
}

func FuzzPlain(f *testing.F) {
	f.Add("plain")
	f.Add(hostile)
	f.Fuzz(func(t *testing.T, s string) {
		p := report.Plain(s)
		for _, r := range p {
			if !unicode.IsPrint(r) {
				t.Fatalf("%+q became %+q", s, p)
			}
		}
		if report.Plain(p) != p {
			t.Fatalf("%+q is quoted twice", s)
		}
	})
}

func TestColorOnlyPaints(t *testing.T) {
	c := hostileCase()
	painted := text(t, c, true)
	plain := regexp.MustCompile("\x1b\\[[0-9]*m").ReplaceAll(painted, nil)
	if bytes.Equal(painted, plain) {
		t.Error("nothing is painted")
	}
	if !bytes.Equal(plain, text(t, c, false)) {
		t.Error("colour changes the text")
	}
}

// TestListsAreNeverNull walks the JSON of the emptiest case that inspect gives.
func TestListsAreNeverNull(t *testing.T) {
	c := caseOf(nil, "backup.db") // its findings are a nil slice
	var v map[string]json.RawMessage
	if err := json.Unmarshal(asJSON(t, c), &v); err != nil {
		t.Fatal(err)
	}
	if string(v["findings"]) != "[]" {
		t.Errorf("findings are %s", v["findings"])
	}
}

func TestTextFitsATerminal(t *testing.T) {
	c := caseOf([]inspect.Finding{{
		Code: inspect.CodeBackendPageType, Severity: inspect.SeverityError, Member: "backup.db", Message: strings.Repeat("word ", 100), Hint: strings.Repeat("word ", 100),
	}}, "backup.db")
	for line := range strings.Lines(string(text(t, c, false))) {
		if n := utf8.RuneCountInString(line); n > 81 && !strings.HasPrefix(line, "|") && !strings.HasPrefix(line, "+") {
			t.Errorf("%d columns: %s", n-1, line)
		}
	}
}

func TestErrorsOfTheWriterAreGiven(t *testing.T) {
	c := hostileCase()
	for _, n := range []int{0, 10, 500, 5000} {
		if err := report.Text(&fullDisk{n}, c, report.TextOptions{}); !errors.Is(err, errFull) {
			t.Errorf("text after %d bytes: %v", n, err)
		}
	}
	if err := report.JSON(&fullDisk{10}, c); !errors.Is(err, errFull) {
		t.Errorf("JSON: %v", err)
	}
}

var errFull = errors.New("no space left on device")

type fullDisk struct{ left int }

func (d *fullDisk) Write(b []byte) (int, error) {
	if d.left -= len(b); d.left < 0 {
		return 0, errFull
	}
	return len(b), nil
}

func TestEveryCodeHasAnExplanationToShow(t *testing.T) {
	for _, code := range inspect.Codes() {
		e, _ := inspect.Explain(code)
		var b bytes.Buffer
		if err := report.Explanation(&b, e); err != nil {
			t.Fatal(err)
		}
		harmless(t, b.Bytes())
		for line := range strings.Lines(b.String()) {
			if utf8.RuneCountInString(line) > 81 {
				t.Errorf("%s: too long: %s", code, line)
			}
		}
	}
}

// TestSchemaNamesEveryField holds schema.md to the types.
func TestSchemaNamesEveryField(t *testing.T) {
	b, err := os.ReadFile("schema.md")
	if err != nil {
		t.Fatal(err)
	}
	schema := string(b)
	var walk func(reflect.Type)
	seen := map[reflect.Type]bool{}
	walk = func(typ reflect.Type) {
		for slices.Contains([]reflect.Kind{reflect.Pointer, reflect.Slice}, typ.Kind()) {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || seen[typ] {
			return
		}
		seen[typ] = true
		for i := range typ.NumField() {
			field := typ.Field(i)
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			switch {
			case name == "-" || !field.IsExported():
				continue
			case name == "" && field.Anonymous: // its fields stand among those of the type
				walk(field.Type)
				continue
			case name == "":
				t.Errorf("%s.%s has no JSON name", typ, field.Name)
			}
			if !regexp.MustCompile("`" + name + "(\\[\\])?`").MatchString(schema) {
				t.Errorf("schema.md does not name %s (%s.%s)", name, typ, field.Name)
			}
			walk(field.Type)
		}
	}
	walk(reflect.TypeFor[inspect.Case]())
	walk(reflect.TypeFor[inspect.Explanation]())
	if len(seen) < 20 {
		t.Errorf("only %d types seen", len(seen))
	}
	for _, name := range []string{"key", "keyEncoding"} {
		if !strings.Contains(schema, "`"+name+"`") {
			t.Errorf("schema.md does not name %s", name)
		}
	}
}

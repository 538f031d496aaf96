package query_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/inspect/inspecttest"
	"etcd-forensics/inspect/query"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb/kube"
	"etcd-forensics/walreader"
)

// openWAL reads the log of one path.
func openWAL(tb testing.TB, path string) *query.WAL {
	tb.Helper()
	w, err := query.OpenWAL(context.Background(), openSource(tb, path))
	if err != nil {
		tb.Fatal(err)
	}
	return w
}

// rowsOf copies the rows that a filter lets through.
func rowsOf(tb testing.TB, w *query.WAL, f query.WALFilter) ([]query.WALRow, query.WALTotals) {
	tb.Helper()
	var rows []query.WALRow
	totals, err := w.Rows(context.Background(), f, func(r *query.WALRow) error {
		row := *r
		row.Detail, row.Keys = slices.Clone(r.Detail), nil
		for _, k := range r.Keys {
			row.Keys = append(row.Keys, slices.Clone(k))
		}
		rows = append(rows, row)
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	if totals.Shown != int64(len(rows)) {
		tb.Errorf("%d rows, the totals say %d", len(rows), totals.Shown)
	}
	return rows, totals
}

// logs gives the data directories of a fixture that hold a log.
func logs(tb testing.TB, name string) []string {
	tb.Helper()
	f, err := fixtures.Lookup(name)
	if err != nil {
		tb.Fatal(err)
	}
	dir := fixtures.Dir(tb, name)
	var paths []string
	for _, s := range f.Sources {
		if _, err := os.Stat(filepath.Join(dir, s, "member", "wal")); err == nil {
			paths = append(paths, filepath.Join(dir, s))
		}
	}
	return paths
}

func TestEveryEntryOfEveryFixtureIsRead(t *testing.T) {
	if testing.Short() {
		t.Skip("many logs, one goroutine")
	}
	for _, name := range fixtures.Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			truth := fixtures.LoadTruth(t, name)
			acked := map[int64]string{}
			if strings.HasSuffix(name, "-crash") {
				for _, a := range fixtures.LoadAckedWrites(t, name) {
					acked[a.Revision] = a.Key
				}
			}
			proven := 0
			for _, path := range logs(t, name) {
				w := openWAL(t, path)
				rows, totals := rowsOf(t, w, query.WALFilter{})
				entries := 0
				var last uint64
				for _, r := range rows {
					if strings.Contains(string(r.Detail), "cannot be read") || r.Type == query.RowFault {
						t.Errorf("%s: %s at %d: %s", path, r.File, r.Offset, r.Detail)
					}
					if !r.Entry {
						continue
					}
					if r.Kind == "" || r.Kind == "unknown" || len(r.Detail) == 0 {
						t.Errorf("%s: entry %d is %q: %s", path, r.Index, r.Kind, r.Detail)
					}
					entries++
					last = r.Index
					if r.Proven() != (r.Index <= *w.WAL.ProvenCommit && r.State != query.StateOverwritten) {
						t.Errorf("%s: entry %d is %s, proven up to %d", path, r.Index, r.State, *w.WAL.ProvenCommit)
					}
					if key, ok := acked[r.Revision]; ok {
						proven++
						if got := string(firstKey(r)); got != key {
							t.Errorf("%s: entry %d puts %q and is said to be revision %d, at which the server wrote %q", path, r.Index, got, r.Revision, key)
						}
					}
				}
				if int64(entries) != w.Log.Entries.Count || last != *w.WAL.LastIndex || totals.Entries != w.Log.Entries.Count {
					t.Errorf("%s: %d entries up to %d, the summary has %d up to %d", path, entries, last, w.Log.Entries.Count, *w.WAL.LastIndex)
				}
				planted(t, truth, rows)
			}
			if len(acked) > 0 && proven < 100 {
				t.Errorf("only %d acknowledged writes came with their revision", proven)
			}
		})
	}
}

func firstKey(r query.WALRow) []byte {
	if len(r.Keys) == 0 {
		return nil
	}
	return r.Keys[0]
}

// planted compares with what is known to have been written at which revision.
func planted(t *testing.T, truth fixtures.Truth, rows []query.WALRow) {
	t.Helper()
	at := map[int64]query.WALRow{}
	for _, r := range rows {
		if r.Revision > 0 {
			if old, twice := at[r.Revision]; twice {
				t.Errorf("entries %d and %d are both said to be revision %d", old.Index, r.Index, r.Revision)
			}
			at[r.Revision] = r
		}
	}
	for _, p := range truth.Planted {
		r, ok := at[p.Revision]
		if ok && r.Kind != "lease_revoke" && !slices.ContainsFunc(r.Keys, func(k []byte) bool { return string(k) == string(p.Key) }) && r.Kind != "delete_range" {
			t.Errorf("entry %d (%s) is said to be revision %d, which wrote %q", r.Index, r.Detail, p.Revision, p.Key)
		}
	}
}

// TestTimesOfRows holds the times that rows are said to be of against each other: leases of
// the fixtures are renewed in the order of the log.
func TestTimesOfRows(t *testing.T) {
	for _, name := range []string{"healthy-3.4", "healthy-3.6", "cluster3-3.7-crash", "wal-bit-flipped"} {
		t.Run(name, func(t *testing.T) {
			w := openWAL(t, logs(t, name)[0])
			var last kube.Estimate
			renewals := 0
			_, err := w.Rows(t.Context(), query.WALFilter{}, func(r *query.WALRow) error {
				switch {
				case !r.Entry:
					return nil
				case r.State == query.StateOverwritten || r.State == query.StateForeign:
					if r.Time != nil {
						t.Errorf("entry %d is %s and has a time", r.Index, r.State)
					}
					return nil
				case r.Time == nil:
					t.Errorf("entry %d has no time", r.Index)
					return nil
				}
				e := *r.Time
				if e.Earliest.After(e.Time) || !e.Latest.IsZero() && e.Latest.Before(e.Time) || e.Time.Before(last.Time) || e.Earliest.Before(last.Earliest) {
					t.Errorf("entry %d: %+v behind %+v", r.Index, e, last)
				}
				last = e
				if r.Kind == "put" && strings.HasPrefix(string(firstKey(*r)), "/registry/leases/kube-node-lease/") {
					renewals++
					meta, err := kube.DecodeMeta(kube.DecodeEnvelope(r.Ops[0].Value.In(r.Data)))
					if err != nil || e.Time.Sub(meta.Renewed).Abs() > 2*time.Second {
						t.Errorf("entry %d names %v and is said to be of %v, %v", r.Index, meta.Renewed, e.Time, err)
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if renewals == 0 {
				t.Error("no lease is renewed")
			}
		})
	}
}

// Damage has a row in its place, and what lies before and behind it is shown.
func TestRowsOfADamagedLog(t *testing.T) {
	tests := []struct {
		fixture, typ   string
		expected       uint64
		before, behind bool // there are entries
		state          string
	}{
		{"wal-bit-flipped", query.RowFault, 561, true, true, query.StatePlausible},
		{"wal-length-trashed", query.RowFault, 561, true, true, query.StatePlausible},
		{"wal-length-short-last", query.RowFault, 1167, true, true, query.StatePlausible},
		{"wal-zero-gap", query.RowFault, 1167, true, true, query.StatePlausible},
		{"wal-truncated", query.RowFault, 1202, true, false, ""},
		{"wal-record-unknown", query.RowFault, 561, true, true, query.StateApplied},
		{"wal-index-gap", query.RowGap, 1167, true, true, query.StateApplied},
		{"wal-middle-segment-missing", query.RowGap, 467, true, true, query.StateApplied},
		{"wal-middle-segment-foreign", query.RowFault, 467, true, true, query.StateForeign},
	}
	for _, tt := range tests {
		t.Run(tt.fixture, func(t *testing.T) {
			t.Parallel()
			w := openWAL(t, logs(t, tt.fixture)[0])
			rows, totals := rowsOf(t, w, query.WALFilter{})
			i := slices.IndexFunc(rows, func(r query.WALRow) bool { return r.Type == tt.typ })
			if i < 0 {
				t.Fatalf("no %s: %+v", tt.typ, totals)
			}
			if rows[i].Expected != tt.expected {
				t.Errorf("index %d belongs at the %s, want %d: %s", rows[i].Expected, tt.typ, tt.expected, rows[i].Detail)
			}
			isEntry := func(r query.WALRow) bool { return r.Entry }
			if got := slices.ContainsFunc(rows[:i], isEntry); got != tt.before {
				t.Errorf("entries before it: %v", got)
			}
			next := slices.IndexFunc(rows[i:], isEntry)
			if got := next >= 0; got != tt.behind {
				t.Errorf("entries behind it: %v", got)
			}
			if next >= 0 && rows[i+next].State != tt.state {
				t.Errorf("the entry behind it is %s, want %s", rows[i+next].State, tt.state)
			}
			if only, _ := rowsOf(t, w, query.WALFilter{From: tt.expected, To: tt.expected, Types: []string{tt.typ}}); len(only) != 1 {
				t.Errorf("a filter for index %d gives %d rows of it", tt.expected, len(only))
			}
		})
	}
}

func TestFiltersOfALog(t *testing.T) {
	w := openWAL(t, logs(t, "cluster3-3.7-crash")[0])
	all, _ := rowsOf(t, w, query.WALFilter{})
	term := uint64(4)
	for name, tt := range map[string]struct {
		filter query.WALFilter
		wants  func(r query.WALRow) bool
	}{
		"index":     {query.WALFilter{From: 400, To: 500}, func(r query.WALRow) bool { return r.HasIndex && r.Index >= 400 && r.Index <= 500 }},
		"from":      {query.WALFilter{From: 2500}, func(r query.WALRow) bool { return r.HasIndex && r.Index >= 2500 }},
		"term":      {query.WALFilter{Term: &term}, func(r query.WALRow) bool { return r.HasTerm && r.Term == 4 }},
		"type":      {query.WALFilter{Types: []string{"state", "crc"}}, func(r query.WALRow) bool { return r.Type == "state" || r.Type == "crc" }},
		"kind":      {query.WALFilter{Types: []string{"empty", "conf_change"}}, func(r query.WALRow) bool { return r.Kind == "empty" || r.Kind == "conf_change" }},
		"prefix":    {query.WALFilter{Prefix: []byte("/registry/pods/")}, func(r query.WALRow) bool { return hasPrefix(r, "/registry/pods/") }},
		"everyKey":  {query.WALFilter{Prefix: []byte{}}, func(r query.WALRow) bool { return len(r.Keys) > 0 }},
		"noSuchKey": {query.WALFilter{Prefix: []byte("\xffnone")}, func(query.WALRow) bool { return false }},
	} {
		t.Run(name, func(t *testing.T) {
			var want []string
			for _, r := range all {
				if tt.wants(r) {
					want = append(want, fmt.Sprintf("%s %d %s", r.File, r.Offset, r.Detail))
				}
			}
			rows, _ := rowsOf(t, w, tt.filter)
			var got []string
			for _, r := range rows {
				got = append(got, fmt.Sprintf("%s %d %s", r.File, r.Offset, r.Detail))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%d rows, want %d", len(got), len(want))
			}
			if len(want) == 0 && name != "noSuchKey" {
				t.Error("the log holds nothing to look for")
			}
		})
	}
}

func hasPrefix(r query.WALRow, prefix string) bool {
	return slices.ContainsFunc(r.Keys, func(k []byte) bool { return strings.HasPrefix(string(k), prefix) })
}

// A logWriter makes segments.
type logWriter struct {
	b   []byte
	sum uint32
}

func newLog() *logWriter {
	l := &logWriter{b: walreader.AppendFrame(nil, walreader.Record{Type: walreader.TypeCRC})}
	l.add(walreader.TypeMetadata, message(1, 0x11, 2, 0x22))
	l.add(walreader.TypeSnapshot, message(1, 0, 2, 0))
	return l
}

func (l *logWriter) add(typ walreader.RecordType, data []byte) {
	l.sum = walreader.Checksum(l.sum, data)
	l.b = walreader.AppendFrame(l.b, walreader.Record{Type: typ, CRC: l.sum, Data: data})
}

func (l *logWriter) entry(index, term uint64, request []byte) {
	l.add(walreader.TypeEntry, message(1, 0, 2, term, 3, index, 4, request))
}

func (l *logWriter) state(term, commit uint64) {
	l.add(walreader.TypeState, message(1, term, 2, 0x11, 3, commit))
}

// dir writes a WAL directory.
func (l *logWriter) dir(tb testing.TB) string {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "wal")
	if err := os.Mkdir(dir, 0o700); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "0000000000000000-0000000000000000.wal"), l.b, 0o600); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// message encodes numbers of fields and their values.
func message(fields ...any) []byte {
	var b []byte
	for i := 0; i < len(fields); i += 2 {
		num := protowire.Number(fields[i].(int))
		switch v := fields[i+1].(type) {
		case int:
			b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), uint64(v))
		case uint64:
			b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
		case string:
			b = protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), v)
		case []byte:
			b = protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
		}
	}
	return b
}

// What the requests of etcd 3.4 to 3.8 are said to ask for. Field numbers are those of
// api/etcdserverpb/rpc.proto and raft_internal.proto, v3.7.3. 3.4 writes passwords as
// they are; none of the secrets here may be in any line.
func TestWhatEntriesSay(t *testing.T) {
	const secret = "hunter2-the-secret"
	put := func(key string, more ...any) []byte {
		return message(append([]any{1, key, 2, secret}, more...)...)
	}
	nested := message(
		1, message(1, 3, 2, 0, 3, "v", 4, 7),
		2, message(2, put("inner")),
		3, message(3, message(1, "a", 2, "\x00")))
	many := []any{}
	for i := range 20 {
		many = append(many, 2, message(2, put(fmt.Sprintf("many/%02d", i))))
	}
	tests := []struct {
		request []byte
		want    string
	}{
		{nil, "a leader began term 2, without a request"},
		{message(4, put("k\x1b[31m", 3, 0x1234)), `put "k\x1b[31m" (value of 18 bytes, lease 0000000000001234)`},
		{message(4, message(1, "k", 5, 1, 6, 1)), `put "k" (value kept, lease kept)`},
		{message(4, put(strings.Repeat("x", 100))), `put "` + strings.Repeat("x", 80) + `"... (100 bytes) (value of 18 bytes)`},
		{message(3, message(1, "a", 2, "b", 4, 9)), `range from "a" to before "b" at revision 9`},
		{message(5, message(1, "a", 2, "\x00")), `delete from "a" on`},
		{message(6, message(
			1, message(1, 0, 2, 2, 3, "k", 6, 41),
			1, message(1, 1, 2, 3, 3, "w", 7, secret),
			2, message(2, put("k")),
			3, message(1, message(1, "k")))),
			`txn if (2) mod("k") = 41, value("w") > a value of 18 bytes then (1) put "k" (value of 18 bytes) else (1) range "k"`},
		{message(6, message(2, message(4, nested), 2, message(2, put("outer")))),
			`txn then (2) [txn if (1) version("v") != 7 then (1) put "inner" (value of 18 bytes) else (1) delete from "a" on], put "outer" (value of 18 bytes)`},
		{message(7, message(1, 42, 2, 1)), `compaction at revision 42, physical`},
		{message(8, message(1, 60, 2, 0xabc)), `lease_grant 0000000000000abc, ttl 60 s`},
		{message(9, message(1, 0xabc)), `lease_revoke 0000000000000abc`},
		{message(11, message(1, message(1, 0xabc, 2, 30))), `lease_checkpoint 0000000000000abc: 30 s left`},
		{message(10, message(1, 1, 2, 0x11, 3, 1)), `alarm: activate NOSPACE of member 11`},
		{message(100, message(2, "alice"), 1011, ""), `auth_disable; by user "alice"`},
		{message(1012, message(1, "alice", 2, secret, 3, secret)), `authenticate user "alice"`},
		{message(1100, message(1, "bob", 2, secret, 4, secret)), `auth_user_add user "bob"`},
		{message(1103, message(1, "bob", 2, secret, 3, secret)), `auth_user_change_password user "bob"`},
		{message(1104, message(1, "bob", 2, "admin")), `auth_user_grant_role user "bob" role "admin"`},
		{message(1203, message(1, "admin", 2, message(1, 2, 2, "/a", 3, "/b"))), `auth_role_grant_permission role "admin"`},
		{message(1301, message(1, 0x11, 2, message(1, "m1", 2, "http://a:1"))), `cluster_member_attr_set of member 11, name "m1", client URLs "http://a:1"`},
		{message(1300, message(1, "3.6.0")), `cluster_version_set "3.6.0"`},
		{message(1302, message(1, 0)), `downgrade_info_set "", no downgrade`},
		{message(1, 5, 2, "PUT", 3, "/0/version", 4, "3.4.0", 5, 0), `v2 "PUT" "/0/version" (value of 5 bytes): cluster version "3.4.0"`},
		{message(1, 5, 2, "PUT", 3, "/1/k", 4, secret), `v2 "PUT" "/1/k" (value of 18 bytes)`},
		{message(5000, secret), `unknown; unknown field 5000`},
		{message(4, put("k"), 5, message(1, "k")), `put "k" (value of 18 bytes); also a delete_range`},
		{[]byte{0x22, 0x7f}, `cannot be read: `},
	}
	l := newLog()
	for i, tt := range tests {
		l.entry(uint64(i+1), 2, tt.request)
	}
	l.entry(uint64(len(tests)+1), 2, message(6, message(many...)))
	l.state(2, 3)
	rows, _ := rowsOf(t, openWAL(t, l.dir(t)), query.WALFilter{Types: []string{"entry"}})
	if len(rows) != len(tests)+1 {
		t.Fatalf("%d rows", len(rows))
	}
	for i, tt := range tests {
		if got := string(rows[i].Detail); got != tt.want && !(strings.HasSuffix(tt.want, ": ") && strings.HasPrefix(got, tt.want)) {
			t.Errorf("it says\n%s, want\n%s", got, tt.want)
		}
	}
	for _, r := range rows {
		if strings.Contains(fmt.Sprintf("%s %q %s", r.Detail, r.Keys, r.User), secret) {
			t.Errorf("entry %d shows a secret: %s", r.Index, r.Detail)
		}
		if want := r.Index <= 3; r.Proven() != want {
			t.Errorf("entry %d is %s", r.Index, r.State)
		}
	}
	last := rows[len(tests)]
	if len(last.Keys) != 16 || last.MoreKeys != 4 || !strings.HasSuffix(string(last.Detail), "; 8 operations are not listed") {
		t.Errorf("%d keys and %d more: %s", len(last.Keys), last.MoreKeys, last.Detail)
	}
}

func TestOverwrittenEntriesAreTold(t *testing.T) {
	l := newLog()
	for i := range uint64(6) {
		l.entry(i+1, 1, message(4, message(1, "k")))
	}
	l.entry(4, 2, nil) // replaces 4 to 6
	l.entry(5, 2, nil)
	l.entry(3, 3, nil) // replaces 3 to 5
	l.state(3, 3)
	rows, totals := rowsOf(t, openWAL(t, l.dir(t)), query.WALFilter{Types: []string{"entry"}})
	var got []string
	for _, r := range rows {
		got = append(got, fmt.Sprintf("%d.%d %s", r.Term, r.Index, r.State))
	}
	want := []string{
		"1.1 committed", "1.2 committed", "1.3 overwritten", "1.4 overwritten", "1.5 overwritten", "1.6 overwritten",
		"2.4 overwritten", "2.5 overwritten", "3.3 committed",
	}
	if !slices.Equal(got, want) || totals.Overwritten != 6 {
		t.Errorf("%v, %d overwritten", got, totals.Overwritten)
	}
}

// BenchmarkRows reads a log of small entries, opened beforehand.
func BenchmarkRows(b *testing.B) {
	l := newLog()
	for i := range uint64(100_000) {
		l.entry(i+1, 2, message(4, message(1, fmt.Sprintf("/registry/pods/default/pod-%06d", i), 2, strings.Repeat("v", 200))))
	}
	l.state(2, 100_000)
	w := openWAL(b, l.dir(b))
	for b.Loop() {
		if _, err := w.Rows(context.Background(), query.WALFilter{}, func(*query.WALRow) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*100_000/b.Elapsed().Seconds(), "entries/s")
}

// wal and inspect say the same of one member.
func TestALogIsJudgedAsInspectDoes(t *testing.T) {
	for _, f := range fixtures.All() {
		if !strings.HasPrefix(f.Name, "wal-") && !strings.HasPrefix(f.Name, "database-") {
			continue
		}
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			for _, path := range logs(t, f.Name) {
				s := openSource(t, path)
				if len(s.WAL) == 0 {
					continue
				}
				c := inspecttest.Sources(t, inspect.Options{}, []*source.Source{s})
				w, err := query.OpenWAL(context.Background(), s)
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(w.WAL, c.Members[0].WAL) {
					t.Errorf("%s: wal says\n%+v, inspect\n%+v", path, *w.WAL, *c.Members[0].WAL)
				}
				for _, f := range w.Findings {
					if !slices.ContainsFunc(c.Findings, func(g inspect.Finding) bool { return g.Code == f.Code && g.Message == f.Message }) {
						t.Errorf("%s: inspect does not find %s: %s", path, f.Code, f.Message)
					}
				}
				for _, f := range c.Findings {
					if strings.HasPrefix(string(f.Code), "wal-") && !slices.ContainsFunc(w.Findings, func(g inspect.Finding) bool { return g.Code == f.Code && g.Message == f.Message }) {
						t.Errorf("%s: wal does not find %s: %s", path, f.Code, f.Message)
					}
				}
			}
		})
	}
}

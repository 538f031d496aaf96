package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"

	"etcd-forensics/inspect"
)

// TextOptions control the text view.
type TextOptions struct {
	Color bool // for a terminal that shows it
}

// Text writes a case for people: the verdict, what decided it, then the numbers.
func Text(w io.Writer, c *inspect.Case, opts TextOptions) error {
	t := &textWriter{w: w, color: opts.Color}
	t.verdict(c)
	t.choice(c)
	t.findings(c)
	t.proofs(c)
	if c.Comparison != nil {
		t.printf("\n")
		t.ranking(c.Comparison)
	}
	t.sources(c)
	t.members(c)
	for _, m := range c.Members {
		t.kubernetes(m, len(c.Members) > 1)
		t.wal(m, len(c.Members) > 1)
		t.snapshots(m, len(c.Members) > 1)
	}
	t.startups(c)
	t.memberships(c)
	return t.err
}

// A textWriter keeps the first error of its writer.
type textWriter struct {
	w     io.Writer
	color bool
	err   error
}

func (t *textWriter) printf(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.w, format, args...)
	}
}

const (
	red    = "\x1b[31m"
	yellow = "\x1b[33m"
	green  = "\x1b[32m"
	bold   = "\x1b[1m"
	reset  = "\x1b[0m"
)

func (t *textWriter) paint(color, s string) string {
	if !t.color {
		return s
	}
	return color + s + reset
}

var gradeColors = map[inspect.Grade]string{
	inspect.Sound: green, inspect.Degraded: yellow, inspect.Unusable: red, inspect.Inconclusive: yellow,
}

// verdict writes the line to be read first, and aloud.
func (t *textWriter) verdict(c *inspect.Case) {
	t.printf("%s: %s\n", t.paint(bold+gradeColors[c.Verdict.Grade], "verdict: "+c.Verdict.Grade.String()), t.inOneBreath(c))
	for _, n := range c.NotExamined {
		t.printf("not examined: %s\n", Plain(n))
	}
	for _, m := range c.Members {
		for _, n := range m.NotExamined {
			t.printf("not examined: %s\n", Plain(n))
		}
	}
}

func (t *textWriter) inOneBreath(c *inspect.Case) string {
	if len(c.Members) == 1 {
		return oneSource(c.Members[0], c.Sources[0].Kind)
	}
	named := map[inspect.Grade][]string{}
	for _, m := range c.Members {
		named[m.Verdict.Grade] = append(named[m.Verdict.Grade], Plain(m.Source))
	}
	var parts []string
	for _, g := range []inspect.Grade{inspect.Sound, inspect.Inconclusive, inspect.Degraded, inspect.Unusable} {
		switch n := len(named[g]); {
		case n == len(c.Members):
			return fmt.Sprintf("all %d sources are %s", n, g)
		case n > 0 && n <= namedAloud:
			parts = append(parts, fmt.Sprintf("%s %s", strings.Join(named[g], " and "), g))
		case n > 0:
			parts = append(parts, fmt.Sprintf("%d %s", n, g))
		}
	}
	return fmt.Sprintf("%d sources: %s", len(c.Members), strings.Join(parts, ", "))
}

// namedAloud is the number of sources of one grade that the verdict line names;
// more of them are counted.
const namedAloud = 2

var kindWords = map[string]string{
	"snapshot": "a snapshot", "backend": "a database", "data-dir": "a data directory", "member-dir": "a member directory", "wal-dir": "a WAL directory",
}

// oneSource describes one source in a sentence.
func oneSource(m inspect.Member, kind string) string {
	s := Plain(m.Source) + " is " + kindWords[kind]
	b := m.Backend
	if b == nil {
		return s
	}
	if v := version(b); v != "-" {
		s += " of etcd " + v
	}
	if b.Revision != nil {
		atLeast := ""
		if !b.Complete {
			atLeast = "at least "
		}
		s += fmt.Sprintf(", %srevision %d with %s%s", atLeast, *b.Revision, atLeast, plural(b.Keys.Live, "key"))
	}
	return s
}

func plural(n int64, word string) string {
	if n != 1 {
		word += "s"
	}
	return fmt.Sprintf("%d %s", n, word)
}

// version tells what wrote a database, as far as it says so.
func version(b *inspect.Backend) string {
	switch {
	case b.StorageVersion != nil:
		return minor(*b.StorageVersion)
	case b.ClusterVersion != nil:
		return minor(*b.ClusterVersion)
	}
	return "-"
}

func minor(v string) string {
	if parts := strings.SplitN(v, ".", 3); len(parts) == 3 {
		return Plain(parts[0] + "." + parts[1])
	}
	return Plain(v)
}

// findings lists what was found, the worst first; what to do stands once under
// the findings of one code.
func (t *textWriter) findings(c *inspect.Case) {
	if len(c.Findings) == 0 {
		t.printf("\nno findings\n")
		return
	}
	files := map[string]int{}
	for _, s := range c.Sources {
		files[s.Path] += len(s.Files)
	}
	colors := map[inspect.Severity]string{inspect.SeverityError: red, inspect.SeverityWarning: yellow, inspect.SeverityNote: ""}
	var order []group
	index := map[group]int{}
	lists := [][]inspect.Finding{}
	for _, f := range c.Findings {
		g := group{f.Severity, f.Code}
		i, ok := index[g]
		if !ok {
			i = len(order)
			index[g] = i
			order = append(order, g)
			lists = append(lists, nil)
		}
		lists[i] = append(lists[i], f)
	}
	for i, g := range order {
		t.printf("\n%s", t.paint(bold+colors[g.severity], g.severity.String()+": "+string(g.code)))
		t.printf("\n")
		if e, ok := inspect.Explain(g.code); ok {
			t.wrap("  ", e.Means)
		}
		for _, f := range lists[i] {
			t.wrapHanging("  - ", "    ", place(f, files[f.Member] > 1, len(c.Members) > 1)+Plain(f.Message))
		}
		t.wrapHanging("  next: ", "        ", lists[i][0].Hint)
	}
}

type group struct {
	severity inspect.Severity
	code     inspect.Code
}

// place says where a finding lies; the file goes without saying when the source
// has but one, the source when there is but one.
func place(f inspect.Finding, nameFile, nameSource bool) string {
	l := f.Location
	file := l.File
	if file == "" {
		file = f.Member
	} else if !nameSource {
		file = strings.TrimPrefix(file, strings.TrimRight(f.Member, "/")+"/")
	}
	switch {
	case (nameFile || nameSource) && file != "" && l.Offset != nil:
		return fmt.Sprintf("in %s at byte %d: ", Plain(file), *l.Offset)
	case (nameFile || nameSource) && file != "":
		return fmt.Sprintf("in %s: ", Plain(file))
	case l.Offset != nil:
		return fmt.Sprintf("at byte %d: ", *l.Offset)
	}
	return ""
}

const lineWidth = 80

func (t *textWriter) wrap(indent, s string) { t.wrapHanging(indent, indent, s) }

// wrapHanging breaks a text at spaces so that lines fit the width; first and
// next are put before the first and the other lines.
func (t *textWriter) wrapHanging(first, next, s string) {
	line := first
	empty := true
	for _, word := range strings.Fields(s) {
		if !empty && len(line)+1+len(word) > lineWidth {
			t.printf("%s\n", line)
			line, empty = next, true
		}
		if !empty {
			line += " "
		}
		line += word
		empty = false
	}
	t.printf("%s\n", line)
}

// sources lists what was read. Databases come with their digest; those of the
// many small files of a member stand in the JSON.
func (t *textWriter) sources(c *inspect.Case) {
	t.printf("\nsources\n")
	for _, s := range c.Sources {
		t.printf("  %s (%s)\n", Plain(s.Path), s.Kind)
		others, bytes := 0, int64(0)
		for _, f := range s.Files {
			if !isDatabase(f.Path) && len(s.Files) > 1 {
				others++
				bytes += f.Size
				continue
			}
			t.printf("    %s, %s\n", Plain(f.Path), humanize.IBytes(uint64(f.Size)))
			if f.SHA256 != nil {
				t.printf("      sha256 %s\n", *f.SHA256)
			}
		}
		if others > 0 {
			t.printf("    %s of its log and snapshots, %s (digests: -w json)\n", plural(int64(others), "file"), humanize.IBytes(uint64(bytes)))
		}
	}
}

func isDatabase(path string) bool {
	return !strings.HasSuffix(path, ".snap") && !strings.HasSuffix(path, ".wal")
}

// A fact is one row of the table of numbers.
type fact struct {
	name string
	of   func(m inspect.Member) string
}

// ofBackend makes a fact that a source without a database lacks.
func ofBackend(name string, of func(b *inspect.Backend) string) fact {
	return fact{name, func(m inspect.Member) string {
		if m.Backend == nil {
			return "-"
		}
		return of(m.Backend)
	}}
}

// ofWAL makes a fact that a source without a WAL lacks.
func ofWAL(name string, of func(w *inspect.WAL) string) fact {
	return fact{name, func(m inspect.Member) string {
		if m.WAL == nil {
			return "-"
		}
		return of(m.WAL)
	}}
}

func number[T int64 | uint64](p *T) string {
	if p == nil {
		return "-"
	}
	return fmt.Sprint(*p)
}

func text(p *string) string {
	if p == nil {
		return "-"
	}
	return Plain(*p)
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

var facts = []fact{
	{"VERDICT", func(m inspect.Member) string { return m.Verdict.Grade.String() }},
	{"MEMBER", func(m inspect.Member) string {
		if m.MemberID == nil {
			return "-"
		}
		return m.MemberID.String()
	}},
	{"CLUSTER", func(m inspect.Member) string {
		if m.ClusterID == nil {
			return "-"
		}
		return m.ClusterID.String()
	}},
	{"NAME", func(m inspect.Member) string { return text(m.Name) }},
	ofBackend("STORAGE VERSION", func(b *inspect.Backend) string { return text(b.StorageVersion) }),
	ofBackend("CLUSTER VERSION", func(b *inspect.Backend) string { return text(b.ClusterVersion) }),
	ofBackend("REVISION", func(b *inspect.Backend) string { return number(b.Revision) }),
	ofBackend("COMPACT REVISION", func(b *inspect.Backend) string { return number(b.CompactRevision) }),
	ofBackend("HASHKV", func(b *inspect.Backend) string {
		if b.HashKV == nil {
			return "-"
		}
		return fmt.Sprint(b.HashKV.Hash)
	}),
	ofBackend("KEYS", func(b *inspect.Backend) string { return ofKeys(b, func(k *inspect.Keys) int64 { return k.Live }) }),
	ofBackend("RECORDS", func(b *inspect.Backend) string { return ofKeys(b, func(k *inspect.Keys) int64 { return k.Revisions }) }),
	ofBackend("TOMBSTONES", func(b *inspect.Backend) string { return ofKeys(b, func(k *inspect.Keys) int64 { return k.Tombstones }) }),
	ofBackend("CONSISTENT INDEX", func(b *inspect.Backend) string { return number(b.ConsistentIndex) }),
	ofBackend("TERM", func(b *inspect.Backend) string { return number(b.Term) }),
	ofWAL("WAL FROM INDEX", func(w *inspect.WAL) string { return number(w.FirstIndex) }),
	ofWAL("WAL TO INDEX", func(w *inspect.WAL) string { return number(w.LastIndex) }),
	ofWAL("WAL LAST TERM", func(w *inspect.WAL) string { return number(w.LastTerm) }),
	ofWAL("COMMIT", func(w *inspect.WAL) string { return number(w.Commit) }),
	ofWAL("PROVEN COMMIT", func(w *inspect.WAL) string { return number(w.ProvenCommit) }),
	ofWAL("UNAPPLIED", func(w *inspect.WAL) string { return fmt.Sprint(w.Unapplied.Count) }),
	ofWAL("UNCOMMITTED", func(w *inspect.WAL) string { return fmt.Sprint(w.Uncommitted.Count) }),
	ofWAL("WAL ENDS", func(w *inspect.WAL) string { return Plain(w.Tail) }),
	ofBackend("LEASES", func(b *inspect.Backend) string { return number(b.Leases) }),
	ofBackend("ALARMS", alarms),
	ofBackend("AUTH", auth),
	ofBackend("FILE", func(b *inspect.Backend) string { return size(b.Size) }),
	ofBackend("IN USE", func(b *inspect.Backend) string {
		return ofSpace(b, func(s *inspect.Space) int64 { return s.InUseBytes })
	}),
	ofBackend("FREE", func(b *inspect.Backend) string {
		return ofSpace(b, func(s *inspect.Space) int64 { return s.FreeBytes })
	}),
	ofBackend("LIVE DATA", func(b *inspect.Backend) string {
		return ofSpace(b, func(s *inspect.Space) int64 { return s.LiveBytes })
	}),
	ofBackend("HISTORY", func(b *inspect.Backend) string {
		return ofSpace(b, func(s *inspect.Space) int64 { return s.HistoryBytes })
	}),
	ofBackend("PAGES", func(b *inspect.Backend) string {
		if b.Pages.Total == 0 {
			return "-"
		}
		return fmt.Sprintf("%d of %s", b.Pages.Total, size(int64(b.PageSize)))
	}),
	ofBackend("DAMAGED PAGES", func(b *inspect.Backend) string {
		if b.Pages.Total == 0 {
			return "-"
		}
		return fmt.Sprint(b.Pages.Damaged)
	}),
	ofBackend("FREELIST", func(b *inspect.Backend) string {
		switch {
		case b.Pages.Total == 0:
			return "-"
		case b.Pages.FreelistStored:
			return "stored"
		}
		return "not stored"
	}),
	ofBackend("SNAPSHOT HASH", trailer),
	ofBackend("OTHER BUCKETS", otherBuckets),
}

func ofKeys(b *inspect.Backend, get func(*inspect.Keys) int64) string {
	if b.Keys == nil {
		return "-"
	}
	s := fmt.Sprint(get(b.Keys))
	if !b.Complete {
		s += " or more"
	}
	return s
}

func ofSpace(b *inspect.Backend, get func(*inspect.Space) int64) string {
	if b.Space == nil {
		return "-"
	}
	return size(get(b.Space))
}

func alarms(b *inspect.Backend) string {
	if b.Auth == nil && len(b.Alarms) == 0 && b.Leases == nil {
		return "-"
	}
	if len(b.Alarms) == 0 {
		return "none"
	}
	var names []string
	for _, a := range b.Alarms {
		names = append(names, Plain(a.Alarm)+" "+a.MemberID.String())
	}
	return strings.Join(names, "\n")
}

func auth(b *inspect.Backend) string {
	switch {
	case b.Auth == nil:
		return "-"
	case b.Auth.Enabled:
		return fmt.Sprintf("on, %s, %s", plural(int64(len(b.Auth.Users)), "user"), plural(int64(len(b.Auth.Roles)), "role"))
	}
	return "off"
}

func trailer(b *inspect.Backend) string {
	switch t := b.Trailer; {
	case !t.Present:
		return "-"
	case t.Valid == nil:
		return "not examined"
	case *t.Valid:
		return "valid"
	}
	return "WRONG"
}

func otherBuckets(b *inspect.Backend) string {
	if len(b.Buckets) == 0 {
		return "-"
	}
	var names []string
	for _, k := range b.Buckets {
		if !k.Known {
			names = append(names, fmt.Sprintf("%s (%s)", Plain(k.Name), plural(k.Records, "record")))
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, "\n")
}

// membersAcross is the number of sources that one table shows side by side.
const membersAcross = 3

// members writes the numbers, sources side by side.
func (t *textWriter) members(c *inspect.Case) {
	for from := 0; from < len(c.Members); from += membersAcross {
		ms := c.Members[from:min(from+membersAcross, len(c.Members))]
		header := []string{""}
		for _, m := range ms {
			header = append(header, label(m.Source))
		}
		var rows [][]string
		for _, f := range facts {
			row := []string{f.name}
			something := false
			for _, m := range ms {
				v := f.of(m)
				something = something || v != "-"
				row = append(row, v)
			}
			if something {
				rows = append(rows, row)
			}
		}
		t.printf("\n")
		t.table(header, rows)
	}
}

// label shortens a path for the head of a column; the sources are listed whole.
func label(path string) string {
	const most = 24
	p := []rune(Plain(strings.TrimRight(path, "/")))
	if len(p) <= most {
		return string(p)
	}
	return "..." + string(p[len(p)-most+3:])
}

// wal writes the segments of a write-ahead log.
func (t *textWriter) wal(m inspect.Member, several bool) {
	if m.WAL == nil {
		return
	}
	t.title("WAL segments", m, several)
	var rows [][]string
	for _, s := range m.WAL.Segments {
		rows = append(rows, []string{Plain(s.File), number(s.FirstIndex), number(s.LastIndex), Plain(s.Tail)})
	}
	t.table([]string{"FILE", "FIRST INDEX", "LAST INDEX", "ENDS"}, rows)
	if f := m.WAL.Fault; f != nil {
		t.wrapHanging("fault: ", "       ", fmt.Sprintf("%s at byte %d, where index %s belongs", Plain(f.File), f.Offset, number(f.Index)))
	}
	t.unapplied(m.WAL, "  ")
	t.history(m.WAL)
}

// snapshots writes the .snap files, and what etcd left behind.
func (t *textWriter) snapshots(m inspect.Member, several bool) {
	if n := len(m.Snapshots); n > 0 {
		t.title("raft snapshots", m, several)
		var rows [][]string
		older := 0
		for i, s := range m.Snapshots {
			if s.Valid && i < n-1 {
				older++ // etcd starts from the newest
				continue
			}
			rows = append(rows, []string{Plain(s.File), number(s.Term), number(s.Index), fmt.Sprint(s.Valid)})
		}
		t.table([]string{"FILE", "TERM", "INDEX", "VALID"}, rows)
		if older > 0 {
			t.printf("and %s, valid\n", plural(int64(older), "older one"))
		}
	}
	if len(m.Leftovers) > 0 {
		t.title("left behind", m, several)
		for _, l := range m.Leftovers {
			t.printf("  %s (%s)\n", Plain(l.File), Plain(l.Kind))
		}
	}
}

// title writes the line above a table of one source.
func (t *textWriter) title(what string, m inspect.Member, several bool) {
	if several {
		what += " in " + Plain(m.Source)
	}
	t.printf("\n%s\n", what)
}

// memberships writes the members as `etcdctl member list -w table` does, once for
// all sources that state the same.
func (t *textWriter) memberships(c *inspect.Case) {
	var order []string
	statedBy := map[string][]string{}
	for _, m := range c.Members {
		if len(m.Membership.Members) == 0 {
			continue
		}
		text := membership(m.Membership)
		if statedBy[text] == nil {
			order = append(order, text)
		}
		statedBy[text] = append(statedBy[text], Plain(m.Source))
	}
	for _, text := range order {
		t.printf("\n")
		switch by := statedBy[text]; {
		case len(c.Members) == 1:
			t.printf("members\n")
		case len(by) == len(c.Members):
			t.printf("members, as every source states them\n")
		default:
			t.wrapHanging("members, as stated by ", "  ", strings.Join(by, ", "))
		}
		t.printf("%s", text)
	}
}

// membership renders the members and the ids of those removed.
func membership(m inspect.Membership) string {
	var b strings.Builder
	t := &textWriter{w: &b}
	var rows [][]string
	for _, mm := range m.Members {
		status := "started"
		if mm.Name == "" {
			status = "unstarted"
		}
		rows = append(rows, []string{
			mm.MemberID.String(), status, Plain(mm.Name), plainLines(mm.PeerURLs), plainLines(mm.ClientURLs), fmt.Sprint(mm.IsLearner),
		})
	}
	t.table([]string{"ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"}, rows)
	if len(m.Removed) > 0 {
		var ids []string
		for _, id := range m.Removed {
			ids = append(ids, id.String())
		}
		t.wrapHanging("removed: ", "         ", strings.Join(ids, " "))
	}
	return b.String()
}

func plainLines(list []string) string {
	plain := make([]string, len(list))
	for i, s := range list {
		plain[i] = Plain(s)
	}
	return strings.Join(plain, "\n")
}

func (t *textWriter) table(header []string, rows [][]string) {
	if t.err != nil {
		return
	}
	t.err = Table(t.w, header, rows)
}

// Table writes rows in the look of etcdctl's tables. Cells must be plain.
func Table(w io.Writer, header []string, rows [][]string) error {
	var b bytes.Buffer // the library drops what the writer of the last line says
	table := tablewriter.NewTable(&b,
		tablewriter.WithRenderer(renderer.NewBlueprint(tw.Rendition{Symbols: tw.NewSymbols(tw.StyleASCII)})),
		tablewriter.WithHeaderAutoFormat(tw.Off),
		tablewriter.WithRowAutoWrap(tw.WrapNone),
		tablewriter.WithHeaderAutoWrap(tw.WrapNone),
		tablewriter.WithRowAlignment(tw.AlignLeft),
	)
	table.Header(header)
	if err := table.Bulk(rows); err != nil {
		return err
	}
	if err := table.Render(); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

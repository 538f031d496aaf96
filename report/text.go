package report

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"

	"etcd-forensics/inspect"
)

// TextOptions control the text view.
type TextOptions struct {
	Color bool // for a terminal that shows it
}

// Text writes a case for people: the verdict, what decided it, then the numbers.
func Text(w io.Writer, c *inspect.Case, opts TextOptions) error {
	t := &textWriter{w: w, color: opts.Color}
	t.interruptedCase(c.Interrupted)
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

var gradeColors = map[inspect.Grade]string{
	inspect.Sound: green, inspect.Degraded: yellow, inspect.Unusable: red, inspect.Inconclusive: yellow,
}

// verdict writes the line to be read first, and aloud.
func (t *textWriter) verdict(c *inspect.Case) {
	t.wrapHanging(t.paint(bold+gradeColors[c.Verdict.Grade], "verdict: "+c.Verdict.Grade.String())+": ", "  ", t.inOneBreath(c))
	for _, n := range c.NotExamined {
		t.wrapHanging("not examined: ", "  ", Plain(n))
	}
	for _, m := range c.Members {
		for _, n := range m.NotExamined {
			t.wrapHanging("not examined: ", "  ", Plain(n))
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

// findings lists what was found, the worst first; what to do stands once under
// the findings of one code.
func (t *textWriter) findings(c *inspect.Case) {
	if len(c.Findings) == 0 {
		t.printf("\n%s\n", noFindings(c.Interrupted))
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
		if rest, ok := strings.CutPrefix(filepath.ToSlash(file), strings.TrimRight(filepath.ToSlash(f.Member), "/")+"/"); ok {
			file = file[len(file)-len(rest):]
		}
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

package report

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
)

// WALStatsJSON writes what a log is made of, and its timeline.
func WALStatsJSON(w io.Writer, log *query.WAL) error { return Value(w, viewWAL(log.WAL, false)) }

// WALStats writes for people what a log is made of, and its timeline.
func WALStats(w io.Writer, log *query.WAL) error {
	t := &textWriter{w: w}
	l := log.WAL
	s := l.Statistics
	t.wrapHanging("log: ", "  ", fmt.Sprintf("%s in %s, with requests of %s, those overwritten or behind damage included",
		countOf(s.Entries, "entry"), countOf(int64(len(l.Segments)), "segment"), size(s.Bytes)))
	t.wrapHanging("committed: ", "  ", committedWords(l))
	t.unapplied(l, "  ")
	t.findingLines(log.Findings)

	t.printf("\nby kind\n")
	var rows [][]string
	for _, k := range s.Kinds {
		rows = append(rows, shareRow(Plain(k.Kind), k.Share))
	}
	t.table([]string{"KIND", "ENTRIES", "BYTES", ""}, rows)
	t.byPrefix(s)
	t.byUser(s)
	t.biggest(s)
	t.timeline(l)
	return t.err
}

func (t *textWriter) findingLines(findings []inspect.Finding) {
	for _, f := range findings {
		t.wrapHanging("  - ", "    ", f.Severity.String()+" "+string(f.Code)+": "+Plain(f.Message))
	}
}

func shareRow(name string, s inspect.Share) []string {
	return []string{name, fmt.Sprint(s.Entries), fmt.Sprint(s.Bytes), size(s.Bytes)}
}

// withOthers adds the row of those that have none of their own.
func withOthers(rows [][]string, others inspect.Share) [][]string {
	if others.Entries == 0 {
		return rows
	}
	return append(rows, shareRow("(all others)", others))
}

func (t *textWriter) byPrefix(s *inspect.LogStatistics) {
	if len(s.Prefixes) == 0 {
		return
	}
	t.printf("\nby prefix of the first key that a request writes\n")
	var rows [][]string
	for _, p := range s.Prefixes {
		rows = append(rows, shareRow(strconv.QuoteToASCII(string(p.Prefix)), p.Share))
	}
	t.table([]string{"PREFIX", "ENTRIES", "BYTES", ""}, withOthers(rows, s.Others))
}

func (t *textWriter) byUser(s *inspect.LogStatistics) {
	if len(s.Users) == 0 {
		return
	}
	t.printf("\nby user, of requests that came with one\n")
	var rows [][]string
	for _, u := range s.Users {
		rows = append(rows, shareRow(strconv.QuoteToASCII(u.User), u.Share))
	}
	t.table([]string{"USER", "ENTRIES", "BYTES", ""}, withOthers(rows, s.Unlisted))
}

func (t *textWriter) biggest(s *inspect.LogStatistics) {
	if len(s.Biggest) == 0 {
		return
	}
	t.printf("\nbiggest requests\n")
	rows := [][]string{{"INDEX", "TERM", "BYTES", "KIND", "FIRST KEY"}}
	for _, r := range s.Biggest {
		key := "-"
		if r.Key != nil {
			key = shortKey(r.Key)
		}
		rows = append(rows, []string{fmt.Sprint(r.Index), fmt.Sprint(r.Term), fmt.Sprint(r.Bytes), Plain(r.Kind), key})
	}
	t.columns(rows)
}

// shortKey quotes a key, and cuts it when it is long.
func shortKey(key []byte) string {
	const most = 80
	if len(key) > most {
		return strconv.QuoteToASCII(string(key[:most])) + fmt.Sprintf("... (%d bytes)", len(key))
	}
	return strconv.QuoteToASCII(string(key))
}

// timeline lists what befell the cluster, in the order of the files.
func (t *textWriter) timeline(l *inspect.WAL) {
	if len(l.Timeline) == 0 {
		return
	}
	t.printf("\ntimeline\n")
	timed := slices.ContainsFunc(l.Timeline, func(e inspect.LogEvent) bool { return e.Time != nil })
	rows := [][]string{withTime([]string{"INDEX", "TERM", "EVENT"}, timed, timeHeader, "WHAT")}
	listed := map[string]int64{}
	for _, e := range l.Timeline {
		listed[e.Event]++
		what := Plain(e.What)
		switch {
		case e.Overwritten:
			what += " (overwritten: it never came to pass)"
		case e.Proven != nil && !*e.Proven:
			what += " (not proven committed)"
		}
		rows = append(rows, withTime([]string{number(e.Index), number(e.Term), Plain(e.Event)}, timed, timeCell(e.Time), what))
	}
	t.columns(rows)
	for _, c := range l.Statistics.Events {
		if n := c.Count - listed[c.Event]; n > 0 {
			t.printf("  and %s of %s before these\n", countOf(n, "older event"), Plain(c.Event))
		}
	}
}

// withTime ends a row with its last cell, behind that of the time where there is one.
func withTime(row []string, timed bool, at, last string) []string {
	if timed {
		row = append(row, at)
	}
	return append(row, last)
}

// eventWords name the events of a timeline that a line of counts has room for.
var eventWords = []struct{ event, word string }{
	{inspect.EventLeader, "leader"}, {inspect.EventMembership, "membership change"}, {inspect.EventSnapshot, "snapshot"},
	{inspect.EventCompaction, "compaction"}, {inspect.EventAlarm, "alarm"}, {inspect.EventAuth, "change of authentication"},
	{inspect.EventVersion, "version change"}, {inspect.EventOverwrite, "overwrite"}, {inspect.EventGap, "gap"},
}

// history says in short what a log's timeline holds.
func (t *textWriter) history(l *inspect.WAL) {
	if l.Statistics == nil {
		return
	}
	count, last := map[string]int64{}, map[string]inspect.LogEvent{}
	for _, c := range l.Statistics.Events {
		count[c.Event] = c.Count
	}
	for _, e := range l.Timeline {
		last[e.Event] = e
	}
	var parts []string
	for _, w := range eventWords {
		n := count[w.event]
		if n == 0 {
			continue
		}
		e := last[w.event]
		parts = append(parts, fmt.Sprintf("%s (%s%s)", countOf(n, w.word), map[bool]string{true: "the last ", false: ""}[n > 1], eventPlace(e)))
	}
	if len(parts) > 0 {
		t.wrapHanging("history: ", "         ", strings.Join(parts, "; ")+" (all of it: etcd-forensics wal --stats)")
	}
}

// eventPlace says what an event was about, as short as can be, and when it was if that can
// be told from both sides.
func eventPlace(e inspect.LogEvent) string {
	if e.Time != nil {
		if _, ok := e.Time.Uncertainty(); ok {
			return eventWhere(e) + ", " + timeCell(e.Time) + " UTC"
		}
	}
	return eventWhere(e)
}

func eventWhere(e inspect.LogEvent) string {
	switch {
	case e.Event == inspect.EventCompaction && e.Revision != nil:
		return fmt.Sprintf("at revision %d", *e.Revision)
	case e.Event == inspect.EventLeader && e.Term != nil && e.Index != nil:
		return fmt.Sprintf("of term %d, from index %d on", *e.Term, *e.Index)
	case (e.Event == inspect.EventAlarm || e.Event == inspect.EventVersion || e.Event == inspect.EventAuth) && e.Index != nil:
		return fmt.Sprintf("at index %d: %s", *e.Index, Plain(e.What))
	case e.Index != nil:
		return fmt.Sprintf("at index %d", *e.Index)
	}
	return Plain(e.What)
}

// keysNamed is the number of unapplied keys that the text names.
const keysNamed = 5

// unapplied names the keys that a copy of the database alone would lack.
func (t *textWriter) unapplied(l *inspect.WAL, next string) {
	u := l.Unapplied
	if len(u.Keys) == 0 {
		return
	}
	var words []string
	for _, k := range u.Keys[:min(len(u.Keys), keysNamed)] {
		what := Plain(k.Change)
		if k.Conditional {
			what += " if its transaction's conditions held"
		}
		words = append(words, fmt.Sprintf("%s (%s at index %d)", shortKey(k.Key), what, k.Index))
	}
	if n := int64(len(u.Keys)-len(words)) + u.OtherKeys; n > 0 {
		words = append(words, countOf(n, "other key"))
	}
	t.wrapHanging("committed writes that only the WAL holds: ", next, strings.Join(words, ", "))
}

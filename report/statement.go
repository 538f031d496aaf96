package report

import (
	"fmt"
	"strings"

	"etcd-forensics/inspect/recover"
)

type statementView struct {
	Certain       affectedView       `json:"certain"`
	Possible      affectedView       `json:"possible"`
	Prefixes      []lossByPrefixView `json:"prefixes"`
	OtherPrefixes int                `json:"otherPrefixes"`
	AtLeast       bool               `json:"atLeast"`
	Unknown       missingRuns        `json:"unknownRevisions"`
	Newest        bool               `json:"newestMayBeMissing"`
	Below         bool               `json:"compactedMayBeMissing"`
	Ways          []wayView          `json:"ways"`
}

type affectedView struct {
	tallyView
	Keys []keyLossView `json:"keys"`
}

type tallyView struct {
	Gone    int64 `json:"gone"`
	Older   int64 `json:"older"`
	Back    int64 `json:"back"`
	History int64 `json:"history"`
}

type missingRuns struct {
	Count int64      `json:"count"`
	Spans [][2]int64 `json:"spans"`
}

type keyLossView struct {
	Key         string               `json:"key"`
	KeyEncoding string               `json:"keyEncoding,omitempty"`
	State       string               `json:"state"`
	Now         *string              `json:"now"`
	Missing     []missingVersionView `json:"missing"`
	More        int                  `json:"otherMissing"`
}

type missingVersionView struct {
	Versions  *[2]int64 `json:"versions"`
	Revisions *[2]int64 `json:"revisions"`
	Deletion  bool      `json:"deletion"`
	By        string    `json:"knownBy"`
}

type lossByPrefixView struct {
	Prefix         string    `json:"prefix"`
	PrefixEncoding string    `json:"prefixEncoding,omitempty"`
	Certain        tallyView `json:"certain"`
	Possible       tallyView `json:"possible"`
}

type wayView struct {
	Why  string   `json:"why"`
	Argv []string `json:"argv"`
}

type conflictView struct {
	Revision    string  `json:"revision"`
	Page        *uint64 `json:"page"`
	Key         string  `json:"key"`
	KeyEncoding string  `json:"keyEncoding,omitempty"`
	Taken       string  `json:"taken"`
	NotTaken    string  `json:"notTaken"`
	Reason      string  `json:"reason"`
}

func viewStatement(st *recover.Statement) statementView {
	v := statementView{
		Certain: affectedView{viewTally(st.Certain), viewKeyLosses(st.CertainKeys)}, Possible: affectedView{viewTally(st.Possible), viewKeyLosses(st.PossibleKeys)},
		Prefixes: []lossByPrefixView{}, OtherPrefixes: st.OtherPrefixes, AtLeast: st.AtLeast,
		Unknown: missingRuns{st.UnknownCount, viewSpans(st.Unknown)}, Newest: st.Newest, Below: st.Below, Ways: []wayView{},
	}
	for _, p := range st.Prefixes {
		text, encoding := Key(p.Prefix)
		v.Prefixes = append(v.Prefixes, lossByPrefixView{text, encoding, viewTally(p.Certain), viewTally(p.Possible)})
	}
	for _, w := range st.Ways {
		v.Ways = append(v.Ways, wayView{w.Why, w.Argv})
	}
	return v
}

func viewTally(t recover.Tally) tallyView {
	return tallyView{t[recover.KeyGone], t[recover.KeyOlder], t[recover.KeyBack], t[recover.KeyHistory]}
}

func viewSpans(spans []recover.Span) [][2]int64 {
	views := [][2]int64{}
	for _, s := range spans {
		views = append(views, [2]int64{s.First, s.Last})
	}
	return views
}

func viewKeyLosses(list []recover.KeyLoss) []keyLossView {
	views := []keyLossView{}
	for _, l := range list {
		text, encoding := Key(l.Key)
		v := keyLossView{Key: text, KeyEncoding: encoding, State: l.State.String(), Missing: []missingVersionView{}, More: l.More}
		if l.Now.Main > 0 {
			now := l.Now.String()
			v.Now = &now
		}
		for _, m := range l.Missing {
			one := missingVersionView{Deletion: m.Deletion, By: m.By}
			if m.Last > 0 {
				one.Versions = &[2]int64{m.First, m.Last}
			}
			if m.To > 0 {
				one.Revisions = &[2]int64{m.From, m.To}
			}
			v.Missing = append(v.Missing, one)
		}
		views = append(views, v)
	}
	return views
}

func viewConflicts(list []recover.Conflict) []conflictView {
	views := []conflictView{}
	for _, c := range list {
		text, encoding := Key(c.Key)
		views = append(views, conflictView{c.Revision.String(), (*uint64)(c.Page), text, encoding, c.Taken, c.Left, c.Reason})
	}
	return views
}

// statement says which keys are affected, for people.
func (t *textWriter) statement(st *recover.Statement) {
	if st.Certain.Any() {
		t.wrapHanging("keys affected for certain: ", "  ", tallyWords(st.Certain, st.AtLeast))
		t.keyLosses(st.CertainKeys, st.Certain)
	}
	if st.Possible.Any() {
		t.wrapHanging("keys that may be affected: ", "  ", tallyWords(st.Possible, st.AtLeast))
		t.keyLosses(st.PossibleKeys, st.Possible)
	}
	t.prefixLosses(st)
	if st.UnknownCount > 0 {
		t.wrapHanging("missing revisions of which nothing says the keys: ", "  ", fmt.Sprintf("%d (%s); a key that they wrote, and that is not listed above, has an older value than it had, is gone, or was deleted",
			st.UnknownCount, spansWords(st.Unknown, st.UnknownCount)))
	}
	if st.Newest {
		t.wrapHanging("the last revisions may be missing: ", "  ", "nothing in the file says how far it went")
	}
	if st.Below {
		t.wrapHanging("", "  ", "of the keys that were not written since the last compaction some may be gone: nothing says how many records lay on what is lost")
	}
	for _, w := range st.Ways {
		words := make([]string, len(w.Argv))
		for i, a := range w.Argv {
			words[i] = ShellWord(a)
		}
		t.wrapHanging("", "  ", Plain(w.Why)+":")
		t.printf("  %s\n", strings.Join(words, " "))
	}
}

var keyStateWords = map[recover.KeyState]string{
	recover.KeyGone: "gone", recover.KeyOlder: "older value", recover.KeyBack: "was deleted, is back", recover.KeyHistory: "only history",
}

func tallyWords(tally recover.Tally, atLeast bool) string {
	words := fmt.Sprintf("%d gone, %d with an older value than they had, %d that were deleted and are back, %d as they were without some of their history",
		tally[recover.KeyGone], tally[recover.KeyOlder], tally[recover.KeyBack], tally[recover.KeyHistory])
	if atLeast {
		words += "; there are more than are counted"
	}
	return words
}

func (t *textWriter) keyLosses(list []recover.KeyLoss, tally recover.Tally) {
	var rows [][]string
	for _, l := range list[:min(len(list), linesShown)] {
		now := "-"
		if l.Now.Main > 0 {
			now = l.Now.String()
		}
		row := func(missing, by string) {
			rows = append(rows, []string{shortened(l.Key), keyStateWords[l.State], now, missing, Plain(by)})
		}
		for _, m := range l.Missing {
			row(missingWords(m), m.By)
		}
		if l.More > 0 {
			row(fmt.Sprintf("and %d more", l.More), "-")
		}
	}
	t.table([]string{"KEY", "IS", "REVISION NOW", "MISSING", "KNOWN BY"}, rows)
	all := int64(0)
	for _, n := range tally {
		all += n
	}
	t.others(all)
}

// others counts what a list for people leaves out.
func (t *textWriter) others(all int64) {
	switch n := all - linesShown; {
	case n > 0 && all > recover.KeysListed:
		t.printf("and %d more (-w json lists the first %d)\n", n, recover.KeysListed)
	case n > 0:
		t.printf("and %d more (-w json lists all)\n", n)
	}
}

func missingWords(m recover.MissingVersion) string {
	what := "versions"
	switch {
	case m.First > 0 && m.First == m.Last:
		what = fmt.Sprintf("version %d", m.First)
	case m.First > 0 && m.First < m.Last:
		what = fmt.Sprintf("versions %d-%d", m.First, m.Last)
	case m.Deletion:
		what = "the deletion"
	case m.To > 0 && m.From == m.To:
		what = "the version"
	}
	if m.Deletion && m.First > 0 {
		what += " and a deletion"
	}
	switch {
	case m.To == 0:
		return what + " behind all others"
	case m.From == m.To:
		return fmt.Sprintf("%s of revision %d", what, m.From)
	}
	return fmt.Sprintf("%s between %d and %d", what, m.From, m.To)
}

func (t *textWriter) prefixLosses(st *recover.Statement) {
	if len(st.Prefixes) == 0 {
		return
	}
	head := []string{"PREFIX"}
	if st.Certain.Any() {
		head = append(head, "GONE", "OLDER", "BACK", "HISTORY")
	}
	if st.Possible.Any() {
		head = append(head, "MAYBE GONE", "MAYBE OLDER", "MAYBE BACK", "MAYBE HISTORY")
	}
	var rows [][]string
	for _, p := range st.Prefixes[:min(len(st.Prefixes), linesShown)] {
		row := []string{shortened(p.Prefix)}
		for i, tally := range []recover.Tally{p.Certain, p.Possible} {
			if of := []recover.Tally{st.Certain, st.Possible}[i]; !of.Any() {
				continue
			}
			for _, n := range tally {
				row = append(row, fmt.Sprint(n))
			}
		}
		rows = append(rows, row)
	}
	t.table(head, rows)
	t.others(int64(len(st.Prefixes) + st.OtherPrefixes))
}

// spansShown bounds the runs of revisions in one line.
const spansShown = 10

// spansWords lists the first runs of revisions of a number in all.
func spansWords(spans []recover.Span, all int64) string {
	var words []string
	for _, s := range spans[:min(len(spans), spansShown)] {
		words = append(words, spanWords(s))
		all -= s.Last - s.First + 1
	}
	if all > 0 {
		words = append(words, fmt.Sprintf("and %d more", all))
	}
	return strings.Join(words, ", ")
}

func (t *textWriter) conflicts(list []recover.Conflict) {
	if len(list) == 0 {
		return
	}
	t.printf("copies with other bytes: %d\n", len(list))
	var rows [][]string
	for _, c := range list[:min(len(list), linesShown)] {
		rows = append(rows, []string{c.Revision.String(), shortened(c.Key), Plain(c.Taken), Plain(c.Left), c.Reason})
	}
	t.table([]string{"REVISION", "KEY", "TAKEN FROM", "NOT FROM", "REASON"}, rows)
	t.others(int64(len(list)))
}

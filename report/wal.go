package report

import (
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
)

// A WALWriter writes the rows of a log as they come, one a line.
type WALWriter struct {
	w     io.Writer
	json  bool
	timed bool
	b     []byte
	file  string // of the row before
}

// NewWALWriter writes to w, which should be buffered. timed says whether text has room for the
// time of a row.
func NewWALWriter(w io.Writer, json, timed bool) *WALWriter {
	return &WALWriter{w: w, json: json, timed: timed}
}

// Row writes one row.
func (t *WALWriter) Row(r *query.WALRow) error {
	t.b = t.b[:0]
	if t.json {
		t.b = append(appendRowJSON(t.b, r), '\n')
	} else {
		if r.File != t.file {
			t.head(r.File)
		}
		t.b = append(appendRowText(t.b, r, t.timed), '\n')
	}
	_, err := t.w.Write(t.b)
	return err
}

const (
	rowHead   = "      OFFSET        INDEX    TERM   REVISION  STATE        "
	rowOffset = 12
	rowIndex  = 13
	rowTerm   = 8
	rowRev    = 11
	rowState  = 13
	rowTime   = 31
)

// head writes the name of a file above its rows.
func (t *WALWriter) head(file string) {
	if t.file != "" {
		t.b = append(t.b, '\n')
	}
	t.file = file
	t.b = append(append(append(t.b, Plain(file)...), '\n'), rowHead...)
	if t.timed {
		t.b = appendLeft(t.b, timeHeader, rowTime)
	}
	t.b = append(t.b, "WHAT\n"...)
}

// appendRowText writes a row in fixed columns; the last one is as long as it is.
func appendRowText(b []byte, r *query.WALRow, timed bool) []byte {
	b = appendRight(b, uint64(r.Offset), true, rowOffset)
	index, known := r.Index, r.HasIndex
	if r.Expected > 0 {
		index, known = r.Expected, true
	}
	b = appendRight(b, index, known, rowIndex)
	b = appendRight(b, r.Term, r.HasTerm, rowTerm)
	b = appendRight(b, uint64(r.Revision), r.Revision > 0, rowRev)
	state := r.State
	switch {
	case state != "":
	case r.Plausible:
		state = query.StatePlausible
	default:
		state = "-"
	}
	b = appendLeft(append(b, "  "...), state, rowState)
	if timed {
		b = appendLeft(b, timeCell(r.Time), rowTime)
	}
	switch r.Type {
	case query.RowFault, query.RowGap:
		b = append(append(b, strings.ToUpper(r.Type)...), ' ')
	case "entry":
	default:
		b = append(append(b, r.Type...), ": "...)
	}
	if r.Entry && r.Kind == "" {
		b = append(b, "entry "...)
	}
	return append(b, Plain(string(r.Detail))...)
}

// appendLeft writes a word at the left of a column.
func appendLeft(b []byte, word string, width int) []byte {
	b = append(b, word...)
	for n := len(word); n < width; n++ {
		b = append(b, ' ')
	}
	return b
}

// appendRight writes a number at the right of a column, a dash when there is none.
func appendRight(b []byte, n uint64, known bool, width int) []byte {
	var digits [20]byte
	d := append(digits[:0], '-')
	if known {
		d = strconv.AppendUint(digits[:0], n, 10)
	}
	for i := len(d); i < width; i++ {
		b = append(b, ' ')
	}
	return append(b, d...)
}

// appendRowJSON writes a row as one object on one line. It is written by hand, since
// logs have millions of records.
func appendRowJSON(b []byte, r *query.WALRow) []byte {
	b = appendString(append(b, `{"file":`...), r.File)
	b = strconv.AppendInt(append(b, `,"offset":`...), r.Offset, 10)
	b = strconv.AppendInt(append(b, `,"frame":`...), int64(r.Frame), 10)
	b = appendString(append(b, `,"type":`...), r.Type)
	if r.HasIndex {
		b = strconv.AppendUint(append(b, `,"index":`...), r.Index, 10)
	}
	if r.Expected > 0 {
		b = strconv.AppendUint(append(b, `,"expectedIndex":`...), r.Expected, 10)
	}
	if r.HasTerm {
		b = strconv.AppendUint(append(b, `,"term":`...), r.Term, 10)
	}
	if r.Kind != "" {
		b = appendString(append(b, `,"kind":`...), r.Kind)
	}
	if r.Revision > 0 {
		b = strconv.AppendInt(append(b, `,"revision":`...), r.Revision, 10)
	}
	if r.Time != nil {
		b = appendEstimate(append(b, `,"time":`...), r.Time)
	}
	b = appendRowKeys(b, r)
	if r.Entry {
		b = strconv.AppendBool(append(b, `,"proven":`...), r.Proven())
		b = appendString(append(b, `,"state":`...), r.State)
	}
	if r.State == query.StateOverwritten {
		b = append(b, `,"overwritten":true`...)
	}
	if r.Plausible {
		b = append(b, `,"plausible":true`...)
	}
	if r.User != "" {
		b = appendString(append(b, `,"user":`...), r.User)
	}
	if r.Type != query.RowFault && r.Type != query.RowGap {
		b = strconv.AppendInt(append(b, `,"size":`...), r.Size, 10)
	}
	b = appendString(append(b, `,"detail":`...), r.Detail)
	return append(b, '}')
}

// appendRowKeys writes the keys of a row, all of them in base64 when one is not valid
// UTF-8.
func appendRowKeys(b []byte, r *query.WALRow) []byte {
	if len(r.Keys) == 0 {
		return b
	}
	b = append(b, `,"keys":[`...)
	encode := slices.ContainsFunc(r.Keys, func(k []byte) bool { return !utf8.Valid(k) })
	for i, k := range r.Keys {
		if i > 0 {
			b = append(b, ',')
		}
		if encode {
			b = append(base64.StdEncoding.AppendEncode(append(b, '"'), k), '"')
		} else {
			b = appendString(b, k)
		}
	}
	b = append(b, ']')
	if encode {
		b = append(b, `,"keyEncoding":"base64"`...)
	}
	if r.MoreKeys > 0 {
		b = strconv.AppendInt(append(b, `,"moreKeys":`...), int64(r.MoreKeys), 10)
	}
	return b
}

const hexDigits = "0123456789abcdef"

// appendString writes a JSON string in which everything unprintable is escaped. Bytes
// that are no UTF-8 become the replacement character.
func appendString[T string | []byte](b []byte, s T) []byte {
	b = append(b, '"')
	plain := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c <= '~' && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[plain:i]...)
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			i++
		case c < utf8.RuneSelf:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			i++
		default:
			r, n := utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)]))
			b = appendRune(b, r)
			i += n
		}
		plain = i
	}
	return append(append(b, s[plain:]...), '"')
}

func appendRune(b []byte, r rune) []byte {
	switch {
	case strconv.IsPrint(r):
		return utf8.AppendRune(b, r)
	case r > 0xFFFF:
		r -= 0x10000
		return fmt.Appendf(b, `\u%04x\u%04x`, 0xD800+r>>10, 0xDC00+r&0x3FF)
	}
	return fmt.Appendf(b, `\u%04x`, r)
}

// WALSummary writes what stands below the rows: how much of the log they are, the three
// numbers that say what is committed, and what was found.
func WALSummary(w io.Writer, log *query.WAL, n query.WALTotals) error {
	t := &textWriter{w: w}
	l := log.WAL
	t.printf("\n")
	t.wrapHanging("shown: ", "  ", shownWords(log, n))
	t.wrapHanging("committed: ", "  ", committedWords(l))
	switch {
	case log.NoRevisions != "":
		t.wrapHanging("revisions: ", "  ", "none is proven: "+Plain(log.NoRevisions))
	default:
		t.wrapHanging("revisions: ", "  ", fmt.Sprintf("the database proves which revision %s produced, from index %d to %d",
			countOf(int64(log.Revisions.Count), "entry"), *log.Revisions.FirstIndex, *log.Revisions.LastIndex))
	}
	t.wrapHanging("faults: ", "  ", faultWords(n))
	t.findingLines(log.Findings)
	t.unapplied(l, "  ")
	return t.err
}

func countOf(n int64, word string) string {
	if n == 1 {
		return "1 " + word
	}
	if stem, ok := strings.CutSuffix(word, "ry"); ok {
		return fmt.Sprintf("%d %sries", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, word)
}

func shownWords(log *query.WAL, n query.WALTotals) string {
	s := fmt.Sprintf("%s of a log with %s, of which %s", countOf(n.Shown, "row"), countOf(n.Records, "record"), countOf(n.Entries, "entry"))
	if l := log.WAL; l.FirstIndex != nil {
		s += fmt.Sprintf("; etcd reads index %d to %d", *l.FirstIndex, *l.LastIndex)
	}
	if n.Overwritten > 0 {
		s += fmt.Sprintf("; %s overwritten by a later term", countOf(n.Overwritten, "entry"))
	}
	if n.Plausible > 0 {
		s += fmt.Sprintf("; %s found behind damage and only plausible", countOf(n.Plausible, "entry"))
	}
	return s
}

// committedWords says up to where entries are proven committed, where the log ends, and
// how much lies between.
func committedWords(l *inspect.WAL) string {
	switch {
	case l.LastIndex == nil:
		return "the log holds no entry"
	case l.ProvenCommit == nil:
		return fmt.Sprintf("nothing proves any entry committed; the log ends with index %d", *l.LastIndex)
	}
	s := fmt.Sprintf("proven up to index %d (%s); the log ends with %d", *l.ProvenCommit, Plain(l.ProvenBy), *l.LastIndex)
	switch n := int64(l.Uncommitted.Count); {
	case n > 0:
		s += "; " + countOf(n, "entry") + " between them may or may not be committed"
	case *l.ProvenCommit > *l.LastIndex:
		return fmt.Sprintf("proven up to index %d (%s); what etcd reads of the log ends before that, with index %d", *l.ProvenCommit, Plain(l.ProvenBy), *l.LastIndex)
	default:
		s += "; nothing between"
	}
	return s
}

func faultWords(n query.WALTotals) string {
	s := "none in the bytes, no gap in the indexes"
	if n.Faults > 0 || n.Gaps > 0 {
		s = fmt.Sprintf("%s in the bytes, %s in the indexes", countOf(n.Faults, "fault"), countOf(n.Gaps, "gap"))
	}
	if n.Unlisted > 0 {
		s += fmt.Sprintf("; %s have no row", countOf(n.Unlisted, "fault"))
	}
	if n.Received > 0 {
		s += fmt.Sprintf("; %d times the member received a snapshot instead of entries", n.Received)
	}
	return s
}

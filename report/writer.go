package report

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/pkg/twwidth"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"
)

// A textWriter keeps the first error of its writer.
type textWriter struct {
	w     io.Writer
	color bool
	width int // of lines; 0 for lineWidth
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

func plural(n int64, word string) string {
	if n != 1 {
		word += "s"
	}
	return fmt.Sprintf("%d %s", n, word)
}

const lineWidth = 80

func (t *textWriter) wrap(indent, s string) { t.wrapHanging(indent, indent, s) }

// wrapHanging breaks a text at spaces so that lines fit the width; first and
// next are put before the first and the other lines.
func (t *textWriter) wrapHanging(first, next, s string) {
	width := cmp.Or(t.width, lineWidth)
	line := first
	empty := true
	for _, word := range strings.Fields(s) {
		if !empty && twwidth.Width(line)+1+twwidth.Width(word) > width {
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

func init() { twwidth.SetEastAsian(false) } // whatever the locale: the same evidence, the same text

// Table writes rows in the look of etcdctl's tables. Where lines would be too wide, columns
// that say nothing are left out; where they still are, borders are, and then a row becomes a
// block with a field a line. Cells must be plain.
func Table(w io.Writer, header []string, rows [][]string) error {
	text, err := bordered(header, rows)
	if err == nil && !fits(text) {
		header, rows = withContent(header, rows)
		text, err = bordered(header, rows)
	}
	if err == nil && !fits(text) {
		text, err = columned(header, rows)
	}
	if err != nil {
		return err
	}
	if room := roomForLast(header, rows); !fits(text) && room >= leastRoom {
		if text, err = columned(header, wrapLast(rows, room)); err != nil {
			return err
		}
	}
	if !fits(text) {
		text = blocks(header, rows)
	}
	_, err = io.WriteString(w, text)
	return err
}

// leastRoom is the width below which a column is not broken into lines.
const leastRoom = 20

// roomForLast gives the width that columns leave to the last one.
func roomForLast(header []string, rows [][]string) int {
	room := lineWidth
	for n := range len(header) - 1 {
		width := twwidth.Width(header[n])
		for _, row := range rows {
			for line := range strings.Lines(row[n]) {
				width = max(width, twwidth.Width(strings.TrimSuffix(line, "\n")))
			}
		}
		room -= width + len(columnGap)
	}
	return room
}

// wrapLast breaks the last cell of every row at spaces.
func wrapLast(rows [][]string, width int) [][]string {
	wrapped := make([][]string, len(rows))
	for i, row := range rows {
		last := len(row) - 1
		var b strings.Builder
		(&textWriter{w: &b, width: width}).wrap("", row[last])
		wrapped[i] = append(slices.Clone(row[:last]), strings.TrimSuffix(b.String(), "\n"))
	}
	return wrapped
}

// columnGap stands behind every column without borders.
const columnGap = "  "

// withContent leaves out the columns in which no row has anything.
func withContent(header []string, rows [][]string) ([]string, [][]string) {
	var names []string
	cells := make([][]string, len(rows))
	for n, name := range header {
		if !slices.ContainsFunc(rows, func(row []string) bool { return row[n] != "" && row[n] != "-" }) {
			continue
		}
		names = append(names, name)
		for i, row := range rows {
			cells[i] = append(cells[i], row[n])
		}
	}
	return names, cells
}

func fits(text string) bool {
	for line := range strings.Lines(text) {
		if twwidth.Width(strings.TrimSuffix(line, "\n")) > lineWidth {
			return false
		}
	}
	return true
}

// bordered gives rows as `etcdctl -w table` does.
func bordered(header []string, rows [][]string) (string, error) {
	return rendered(header, rows, tw.Rendition{Symbols: tw.NewSymbols(tw.StyleASCII)})
}

// columned gives rows as `kubectl get` does.
func columned(header []string, rows [][]string) (string, error) {
	text, err := rendered(header, rows, tw.Rendition{
		Borders: tw.BorderNone, Symbols: tw.NewSymbols(tw.StyleNone),
		Settings: tw.Settings{Separators: tw.SeparatorsNone, Lines: tw.LinesNone},
	}, tablewriter.WithHeaderAlignment(tw.AlignLeft), tablewriter.WithPadding(tw.Padding{Right: columnGap, Overwrite: true}))
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return b.String(), err
}

func rendered(header []string, rows [][]string, look tw.Rendition, more ...tablewriter.Option) (string, error) {
	var b bytes.Buffer
	table := tablewriter.NewTable(&b, append([]tablewriter.Option{
		tablewriter.WithRenderer(renderer.NewBlueprint(look)),
		tablewriter.WithHeaderAutoFormat(tw.Off),
		tablewriter.WithRowAutoWrap(tw.WrapNone),
		tablewriter.WithHeaderAutoWrap(tw.WrapNone),
		tablewriter.WithRowAlignment(tw.AlignLeft),
	}, more...)...)
	table.Header(header)
	if err := table.Bulk(rows); err != nil {
		return "", err
	}
	err := table.Render()
	return b.String(), err
}

// blocks gives every row as a block, a field a line; empty ones are left out.
func blocks(header []string, rows [][]string) string {
	width := 0
	for _, h := range header {
		width = max(width, twwidth.Width(h))
	}
	var b strings.Builder
	for i, row := range rows {
		if i > 0 {
			b.WriteByte('\n')
		}
		for n, cell := range row {
			name := header[n]
			if name == "" && cell != "" {
				fmt.Fprintf(&b, "  %s\n", strings.TrimSuffix(cell, "\n")) // it heads the row
				continue
			}
			for line := range strings.Lines(cell) {
				fmt.Fprintf(&b, "  %-*s  %s\n", width, name, strings.TrimSuffix(line, "\n"))
				name = ""
			}
		}
	}
	return b.String()
}

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
)

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

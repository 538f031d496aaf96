// Package report renders a case. It decides nothing and counts nothing: text and
// JSON are two views of the same values. Everything that came from evidence is
// hostile, so every string passes through one quoting function before it reaches
// a terminal.
package report

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Plain makes a string harmless for a terminal: control characters, escape
// sequences, characters that turn the direction of writing, and bytes that are
// no UTF-8 become backslash escapes. What is plain stays as it is.
func Plain(s string) string {
	plain := true
	for i := 0; i < len(s) && plain; {
		r, n := utf8.DecodeRuneInString(s[i:])
		plain = (r != utf8.RuneError || n > 1) && strconv.IsPrint(r)
		i += n
	}
	if plain {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if (r != utf8.RuneError || n > 1) && strconv.IsPrint(r) {
			b.WriteString(s[i : i+n])
		} else {
			q := strconv.QuoteToASCII(s[i : i+n])
			b.WriteString(q[1 : len(q)-1])
		}
		i += n
	}
	return b.String()
}

// quoted writes bytes as a literal of Go, harmless and exact.
func quoted(b []byte) string { return strconv.QuoteToASCII(string(b)) }

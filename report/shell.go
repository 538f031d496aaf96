package report

import (
	"fmt"
	"strings"
)

// ShellWord quotes a string so that a POSIX shell reads it back as one word of exactly
// these bytes, and so that the line is harmless on a terminal: bytes that are no
// printable ASCII are written as escapes for printf. A string with a zero byte cannot
// be an argument; nothing behind that byte is kept.
func ShellWord(s string) string {
	if i := strings.IndexByte(s, 0); i >= 0 {
		s = s[:i]
	}
	switch {
	case s == "":
		return "''"
	case strings.Trim(s, bareBytes) == "":
		return s
	case isPrintableASCII(s):
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	// $(...) drops newlines at the end, so these stand behind it.
	text := strings.TrimRight(s, "\n")
	end := s[len(text):]
	if end != "" {
		end = "'" + end + "'"
	}
	if text == "" {
		return end
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c < ' ' || c > '~' || c == '\\' || c == '\'' || c == '%':
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	return `"$(printf '` + b.String() + `')"` + end
}

// bareBytes need no quotes wherever they stand in a word that is no assignment and not
// the name of a command.
const bareBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:,=@+"

func isPrintableASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// ShellLine quotes an argument vector as one command.
func ShellLine(argv []string) string {
	words := make([]string, len(argv))
	for i, a := range argv {
		words[i] = ShellWord(a)
	}
	return strings.Join(words, " ")
}

package report

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"etcd-forensics/inspect"
)

// JSON writes a case in the form that schema.md describes: indented by two
// spaces, lists never null, the same bytes for the same case.
func JSON(w io.Writer, c *inspect.Case) error {
	view := struct {
		*inspect.Case
		Members  []memberView  `json:"members"`
		Findings []findingView `json:"findings"`

		Comparison *comparisonView `json:"comparison,omitempty"`
	}{c, viewMembers(c.Members), viewFindings(c.Findings), viewComparison(c.Comparison)}
	return Value(w, view)
}

// Value writes any value as JSON in the same form.
func Value(w io.Writer, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(escapeUnprintable(b), '\n'))
	return err
}

type findingView struct {
	inspect.Finding
	Location locationView `json:"location"`
}

func viewFindings(findings []inspect.Finding) []findingView {
	views := make([]findingView, len(findings))
	for i, f := range findings {
		views[i] = findingView{f, viewLocation(f.Location)}
	}
	return views
}

type locationView struct {
	inspect.Location
	Key         *string `json:"key,omitempty"`
	KeyEncoding string  `json:"keyEncoding,omitempty"`
}

func viewLocation(l inspect.Location) locationView {
	v := locationView{Location: l}
	if l.Key != nil {
		text, encoding := Key(l.Key)
		v.Key, v.KeyEncoding = &text, encoding
	}
	return v
}

// Key gives a key as JSON holds it: as text, or in base64 with the encoding's
// name when it is not valid UTF-8.
func Key(key []byte) (text, encoding string) {
	if utf8.Valid(key) {
		return string(key), ""
	}
	return encoded(key)
}

// encoded gives a key in base64, with the encoding's name.
func encoded(key []byte) (text, encoding string) {
	return base64.StdEncoding.EncodeToString(key), "base64"
}

// escapeUnprintable escapes what encoding/json leaves alone and a terminal does
// not: delete, characters that turn the direction of writing, and other unprintable
// ones. They occur only inside strings.
func escapeUnprintable(b []byte) []byte {
	if isPlainASCII(b) {
		return b
	}
	var out bytes.Buffer
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		switch {
		case r < 0x7f || strconv.IsPrint(r):
			out.Write(b[i : i+n])
		case r > 0xFFFF:
			r -= 0x10000
			fmt.Fprintf(&out, `\u%04x\u%04x`, 0xD800+r>>10, 0xDC00+r&0x3FF)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
		i += n
	}
	return out.Bytes()
}

// isPlainASCII says whether there is neither delete nor anything beyond ASCII.
func isPlainASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x7f {
			return false
		}
	}
	return true
}

func line(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(escapeUnprintable(b), '\n'))
	return err
}

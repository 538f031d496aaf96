package query

import (
	"bytes"
	"testing"
)

// TestWhatMayBeShownLiesBehindTheEnd: elements of a damaged page may lie on pages that are
// another's.
func TestWhatMayBeShownLiesBehindTheEnd(t *testing.T) {
	v := &Page{Bytes: []byte("header..secret")}
	v.mask([]Span{{0, 8}, {20, 30}, {31, 40}})
	if want := []byte("header..******"); !bytes.Equal(v.Bytes, want) || len(v.Masked) != 1 || v.Masked[0] != (Span{8, 14}) {
		t.Errorf("%q, %v", v.Bytes, v.Masked)
	}
}

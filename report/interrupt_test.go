package report

import (
	"strings"
	"testing"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
)

// Of a damaged database no count is whole, whatever an interrupt came behind.
func TestAnInterruptMakesNoCountWhole(t *testing.T) {
	var b strings.Builder
	if err := KeysText(&b, &query.KeysResult{Interrupted: &inspect.Reach{Pages: 2, OfPages: 3}}, KeysTextOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := DiffText(&b, &query.DiffResult{Interrupted: true, Old: query.DiffSide{Read: true}, New: query.DiffSide{Read: true}}); err != nil {
		t.Fatal(err)
	}
	if text := b.String(); strings.Count(text, "interrupted: ") != 2 || strings.Contains(text, "whole") {
		t.Error(text)
	}
}

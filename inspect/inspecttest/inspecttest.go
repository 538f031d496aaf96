// Package inspecttest examines evidence in tests.
package inspecttest

import (
	"testing"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
	"etcd-forensics/inspect/source/sourcetest"
)

// Paths opens paths until the test ends, and examines them together.
func Paths(tb testing.TB, o inspect.Options, paths ...string) *inspect.Case {
	tb.Helper()
	return Sources(tb, o, sourcetest.Open(tb, source.Options{}, paths...))
}

// Sources examines opened sources together.
func Sources(tb testing.TB, o inspect.Options, sources []*source.Source) *inspect.Case {
	tb.Helper()
	c, err := inspect.Inspect(tb.Context(), sources, o)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

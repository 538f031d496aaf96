// Package sourcetest opens evidence in tests.
package sourcetest

import (
	"testing"

	"etcd-forensics/inspect/source"
)

// Open opens paths until the test ends. A path that cannot be opened ends it.
func Open(tb testing.TB, o source.Options, paths ...string) []*source.Source {
	tb.Helper()
	sources, problems := source.Open(tb.Context(), paths, o)
	tb.Cleanup(func() {
		for _, s := range sources {
			if err := s.Close(); err != nil {
				tb.Error(err)
			}
		}
	})
	if len(problems) > 0 {
		tb.Fatal(problems)
	}
	return sources
}

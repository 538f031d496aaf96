package redact_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/inspect/redact"
	"etcd-forensics/inspect/source"
)

// examine opens and inspects paths.
func examine(t testing.TB, paths []string) (*inspect.Case, []*source.Source) {
	t.Helper()
	sources, problems := source.Open(context.Background(), paths, source.Options{})
	if len(problems) > 0 {
		t.Fatalf("open: %v", problems)
	}
	t.Cleanup(func() {
		for _, s := range sources {
			s.Close()
		}
	})
	// Only what ends in a hash needs its bytes summed up.
	hashed := slices.ContainsFunc(sources, func(s *source.Source) bool { return s.Kind == source.KindSnapshot })
	c, err := inspect.Inspect(context.Background(), sources, inspect.Options{Digest: hashed})
	if err != nil {
		t.Fatal(err)
	}
	return c, sources
}

// found gives code and place of each finding, the sources by their numbers.
func found(c *inspect.Case) []string {
	var all []string
	for _, f := range c.Findings {
		member := slices.IndexFunc(c.Members, func(m inspect.Member) bool { return m.Source == f.Member })
		at := fmt.Sprintf("%s of %d", f.Code, member)
		l := f.Location
		if l.File != "" {
			at += " in " + filepath.Base(l.File)
		}
		if l.Offset != nil {
			at += fmt.Sprintf(" offset %d", *l.Offset)
		}
		if l.Page != nil {
			at += fmt.Sprintf(" page %d", *l.Page)
		}
		if l.Index != nil {
			at += fmt.Sprintf(" index %d", *l.Index)
		}
		if l.Revision != nil {
			at += fmt.Sprintf(" revision %v", *l.Revision)
		}
		all = append(all, fmt.Sprint(at, f.RelatedPages))
	}
	slices.Sort(all)
	return all
}

// A copy gives the findings of the evidence, at the same places.
func TestCopyGivesTheSameFindings(t *testing.T) {
	for i, f := range fixtures.All() {
		t.Run(f.Name, func(t *testing.T) {
			if testing.Short() && i%10 != 0 {
				t.Skip("one of ten is enough for a short run")
			}
			t.Parallel()
			dir := fixtures.Dir(t, f.Name)
			var paths []string
			for _, s := range f.Sources {
				paths = append(paths, filepath.Join(dir, s))
			}
			before, sources := examine(t, paths)
			s, err := redact.Run(context.Background(), sources, filepath.Join(t.TempDir(), "out"), redact.Options{Seed: f.Name})
			if err != nil {
				t.Fatal(err)
			}
			var copies []string
			for _, c := range s.Copies {
				copies = append(copies, c.Copy)
			}
			after, _ := examine(t, copies)
			same(t, before, after)
		})
	}
}

// same holds the findings of the copy against those of the evidence.
func same(t *testing.T, before, after *inspect.Case) {
	t.Helper()
	if b, a := found(before), found(after); !slices.Equal(a, b) {
		t.Errorf("findings before\n  %s\nafter\n  %s", strings.Join(b, "\n  "), strings.Join(a, "\n  "))
	}
}

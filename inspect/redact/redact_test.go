package redact_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

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
			if slices.Contains(fixtures.Names(), f.Name) {
				holdsNoneOf(t, filepath.Dir(s.Copies[0].Copy), markersOf(t, f.Name))
			}
		})
	}
}

// markersOf gives names and pieces of values that a fixture's databases hold.
func markersOf(t *testing.T, name string) [][]byte {
	t.Helper()
	found := map[string]bool{}
	take := func(b []byte) {
		if len(b) >= 8 && !bytes.Contains(b, []byte("kube-")) && len(bytes.Trim(b, "0123456789")) > 2 {
			found[string(b)] = true
		}
	}
	for _, path := range fixtures.Databases(t, name) {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		err = db.View(func(tx *bbolt.Tx) error {
			for _, bucket := range []string{"authUsers", "authRoles"} {
				if b := tx.Bucket([]byte(bucket)); b != nil {
					if err := b.ForEach(func(k, v []byte) error { take(k); return nil }); err != nil {
						return err
					}
				}
			}
			b := tx.Bucket([]byte("key"))
			if b == nil {
				return nil
			}
			return b.ForEach(func(_, v []byte) error {
				kv := &mvccpb.KeyValue{}
				if err := proto.Unmarshal(v, kv); err != nil {
					return err
				}
				parts := bytes.Split(kv.Key, []byte("/"))
				take(parts[len(parts)-1])
				if n := len(kv.Value); n >= 64 && len(bytes.Trim(kv.Value, "\x00")) > n/2 {
					take(kv.Value[n/2 : n/2+16])
				}
				return nil
			})
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	// One in so many is enough, and takes less time.
	all := slices.Sorted(maps.Keys(found))
	var markers [][]byte
	for i := 0; i < len(all); i += 1 + len(all)/100 {
		markers = append(markers, []byte(all[i]))
	}
	return markers
}

// holdsNoneOf looks for markers in the files below a folder and in their names.
func holdsNoneOf(t *testing.T, dir string, markers [][]byte) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range markers {
			if bytes.Contains(b, m) || strings.Contains(d.Name(), string(m)) {
				t.Errorf("%q of the evidence is in %s", m, d.Name())
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// There is something to look for in the evidence of each kind.
func TestEvidenceHasMarkers(t *testing.T) {
	for name, least := range map[string]int{"healthy-3.4": 50, "healthy-3.8": 50, "auth-3.6": 20, "membership-3.5": 20} {
		if n := len(markersOf(t, name)); n < least {
			t.Errorf("%s: only %d", name, n)
		}
	}
}

// same holds the findings of the copy against those of the evidence.
func same(t *testing.T, before, after *inspect.Case) {
	t.Helper()
	if b, a := found(before), found(after); !slices.Equal(a, b) {
		t.Errorf("findings before\n  %s\nafter\n  %s", strings.Join(b, "\n  "), strings.Join(a, "\n  "))
	}
}

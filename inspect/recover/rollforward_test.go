package recover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/walreader/replay"
)

// TestMain makes of the test's own program the child that applies entries.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == replay.ChildCommand {
		os.Exit(replay.Child(os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func self(t testing.TB) []string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{path, replay.ChildCommand}
}

func opened(t testing.TB, paths ...string) []*source.Source {
	t.Helper()
	sources, problems := source.Open(t.Context(), paths, source.Options{})
	if len(problems) > 0 || len(sources) != len(paths) {
		t.Fatalf("%v: %d sources, %v", paths, len(sources), problems)
	}
	t.Cleanup(func() {
		for _, s := range sources {
			s.Close()
		}
	})
	return sources
}

// roll rolls to a file in a folder of its own, and looks that nothing else is left.
func roll(t testing.TB, o RollOptions) (*Rollforward, error) {
	t.Helper()
	out, room := t.TempDir(), t.TempDir()
	o.Out, o.Scratch, o.Self = filepath.Join(out, "out.db"), room, self(t)
	r, err := Roll(t.Context(), o)
	if left, _ := os.ReadDir(room); len(left) > 0 {
		t.Errorf("left in the scratch folder: %v", left)
	}
	want := 1
	if err != nil {
		want = 0
	}
	if left, _ := os.ReadDir(out); len(left) != want {
		t.Errorf("beside the output: %v, with %v", left, err)
	}
	return r, err
}

func refusal(t testing.TB, err error, words ...string) {
	t.Helper()
	refused, ok := errors.AsType[*RollRefusal](err)
	if !ok {
		t.Fatalf("not refused: %v", err)
	}
	for _, w := range words {
		if !strings.Contains(refused.Why+" "+refused.Help, w) {
			t.Errorf("%q is not in %q, %q", w, refused.Why, refused.Help)
		}
	}
	if refused.Help == "" {
		t.Errorf("nothing helps against %q", refused.Why)
	}
}

// differences lists how two databases differ.
func differences(t testing.TB, a, b string) []string {
	t.Helper()
	s := opened(t, a, b)
	var list []string
	err := compareRecords(context.Background(), s[0].DB, s[1].DB, func(d Difference) error {
		list = append(list, fmt.Sprintf("%s %q: %d bytes, %d bytes", d.Bucket, d.Key, len(d.A), len(d.B)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// databasePath is where a member's database lies.
func databasePath(dir string) string { return filepath.Join(dir, "member", "snap", "db") }

// applied gives the consistent index and the compact revision of a member's database.
func applied(t testing.TB, s *source.Source) (index uint64, scheduled int64) {
	t.Helper()
	c, err := inspect.Inspect(t.Context(), []*source.Source{s}, inspect.Options{})
	if err != nil {
		t.Fatal(err)
	}
	be := c.Members[0].Backend
	return *be.ConsistentIndex, *be.ScheduledCompactRevision
}

// sample leaves out all but some cases of a short run.
func sample(t *testing.T, name string, some ...string) {
	t.Helper()
	if testing.Short() && !slices.Contains(some, name) {
		t.Skip("more than a sample")
	}
}

// expected says of a record in which the database of a member (A) and what its log leads
// to (B) differ whether that is known: the storage version is set by a timer, 3.4 knows
// neither the term nor the conf state in bucket meta, compacts tombstones at the compact
// revision that later versions keep, and salts passwords that its entries have in plain.
func expected(d Difference, version string, scheduled int64) bool {
	rev, ok := keyspace.DecodeRevision(d.Key)
	switch {
	case d.Bucket == keyspace.BucketMeta && string(d.Key) == "storageVersion":
		return d.B == nil
	case d.Bucket == keyspace.BucketKey && version == "unfinished":
		return ok && rev.Main <= scheduled && d.B == nil
	case d.Bucket == keyspace.BucketMeta && version == "unfinished":
		return string(d.Key) == keyspace.MetaFinishedCompactRev
	case version != "3.4":
		return false
	case d.Bucket == keyspace.BucketMeta:
		return d.A == nil && (string(d.Key) == "term" || string(d.Key) == "confState")
	case d.Bucket == keyspace.BucketKey:
		return d.A == nil && ok && rev.Tombstone && rev.Main == scheduled
	}
	return false
}

func TestFromNothingToWhatTheMemberHas(t *testing.T) {
	for _, c := range []struct{ fixture, member, version string }{
		{"healthy-3.4", "m1", "3.4"}, {"healthy-3.5", "m1", ""}, {"healthy-3.6", "m1", ""}, {"healthy-3.7", "m1", ""},
		{"empty-3.7", "m1", ""}, {"empty-compacted-3.7", "m1", ""}, {"auth-3.6", "m1", ""}, {"compaction-unfinished-3.6", "m1", "unfinished"},
		{"membership-3.4", "m1", "3.4"}, {"membership-3.4", "m2", "3.4"}, {"membership-3.5", "m1", ""}, {"membership-3.5", "m3", ""}, {"membership-3.7", "m1", ""},
		{"cluster3-3.5-crash", "m1", ""}, {"cluster3-3.5-crash", "m3", ""}, {"cluster3-3.6-crash", "m1", ""}, {"cluster3-3.7-crash", "m1", ""}, {"cluster3-3.7-crash", "m3", ""},
		{"forced-new-3.7", "m1", ""}, {"received-snapshot-3.6", "m1", ""},
	} {
		t.Run(c.fixture+"/"+c.member, func(t *testing.T) {
			sample(t, c.fixture, "healthy-3.4", "auth-3.6")
			t.Parallel()
			dir := filepath.Join(fixtures.Dir(t, c.fixture), c.member)
			s := opened(t, dir)
			index, scheduled := applied(t, s[0])
			r, err := roll(t, RollOptions{WALs: s, ToIndex: index})
			if err != nil {
				t.Fatal(err)
			}
			if r.To.Index != index || r.Stopped != StopIndex || r.Missing != nil || r.Counts.Applied != index {
				t.Errorf("%+v", r)
			}
			if !slices.ContainsFunc(r.Checks, func(c Check) bool { return c.What == "hashkv" && c.Outcome == Proven }) {
				t.Errorf("the HashKV of the database was not compared: %+v", r.Checks)
			}
			n := 0
			both := opened(t, databasePath(dir), r.Out)
			err = compareRecords(t.Context(), both[0].DB, both[1].DB, func(d Difference) error {
				if n++; !expected(d, c.version, scheduled) {
					t.Errorf("%s %q: %d bytes in the member, %d made", d.Bucket, d.Key, len(d.A), len(d.B))
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if c.version == "3.4" && n == 0 {
				t.Error("3.4 has none of its differences")
			}
		})
	}
}

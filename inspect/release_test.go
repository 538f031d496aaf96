package inspect

import (
	"context"
	"hash/maphash"
	"path/filepath"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect/source"
	"etcd-forensics/inspect/source/sourcetest"
)

// Members that agree are compared without the trees of all: at one revision by their sums
// alone, at several by one after the other.
func TestComparingMembersThatAgreeKeepsNoTree(t *testing.T) {
	healthy, crashed := fixtures.Dir(t, "healthy-3.7"), fixtures.Dir(t, "cluster3-3.6-crash")
	for name, paths := range map[string][]string{
		"one revision": {filepath.Join(healthy, "m1"), filepath.Join(healthy, "snapshot.db")},
		"several":      {filepath.Join(crashed, "m1"), filepath.Join(crashed, "m2"), filepath.Join(crashed, "m3")},
	} {
		seed := maphash.MakeSeed()
		var all []*examination
		for _, s := range sourcetest.Open(t, source.Options{}, paths...) {
			x := newExamination(s, Options{Limits: DefaultLimits, blocks: &seed})
			if err := x.run(context.Background()); err != nil {
				t.Fatal(err)
			}
			x.release()
			all = append(all, x)
		}
		settleCommits(all)
		for _, x := range all {
			x.reconcile()
			if err := x.checkFit(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		c, _, err := compareContents(context.Background(), all)
		if err != nil || c.Agree == nil || !*c.Agree {
			t.Fatalf("%s: they do not agree: %+v, %v", name, c, err)
		}
		for _, x := range all {
			if !x.db.tree.Released() {
				t.Errorf("%s: the tree of %s is kept", name, x.src.Path)
			}
		}
	}
}

// An end of ctx between two readings of a database is told, and nothing is called sound
// that was not held against its log.
func TestAnEndBetweenTwoReadingsIsTold(t *testing.T) {
	x := examineMember(t, filepath.Join(fixtures.Dir(t, "healthy-3.7"), "m1"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	x.release()
	if err := x.checkFit(ctx); err == nil || len(x.member.NotExamined) == 0 {
		t.Errorf("%v, not examined: %q", err, x.member.NotExamined)
	}
}

// --force-new-cluster goes by a commit index that the database is ahead of, and discards
// what was applied: the revision is that entry's, and no contradiction.
func TestAWriteThatAForcedStartDiscardedHasItsRevision(t *testing.T) {
	x := examineMember(t, filepath.Join(fixtures.Dir(t, "zombie-forced-3.5"), "m1"))
	a := x.alignLog(x.db.revision())
	if a == nil || len(a.wrong) > 0 {
		t.Fatalf("no alignment, or not a clean one: %+v", a)
	}
	for i, w := range a.writes {
		if w.discarded {
			if w.index != x.writes.forced || a.produced[i] == 0 {
				t.Errorf("entry %d, discarded from %d on, has revision %d", w.index, x.writes.forced, a.produced[i])
			}
			return
		}
	}
	t.Error("no entry was discarded")
}

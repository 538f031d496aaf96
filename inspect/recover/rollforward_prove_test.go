package recover

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
)

// proved inspects with proofs.
func proved(t *testing.T, paths ...string) *inspect.Case {
	t.Helper()
	room := t.TempDir()
	c, err := inspect.Inspect(t.Context(), opened(t, paths...), inspect.Options{Prove: Prover(RollOptions{Scratch: room, Self: self(t)})})
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(room); len(left) > 0 {
		t.Errorf("left in the scratch folder: %v", left)
	}
	return c
}

func TestSoundMembersAreProven(t *testing.T) {
	for _, c := range []struct {
		fixture string
		members []string
		based   string // whose log does not reach back, and goes on from another's database
	}{
		{"healthy-3.4", []string{"m1"}, ""}, {"healthy-3.5", []string{"m1"}, ""}, {"healthy-3.6", []string{"m1"}, ""}, {"healthy-3.7", []string{"m1"}, ""},
		{"auth-3.6", []string{"m1"}, ""}, {"compaction-unfinished-3.6", []string{"m1"}, ""}, {"forced-new-3.7", []string{"m1"}, ""},
		{"membership-3.4", []string{"m1", "m2", "m3"}, ""}, {"membership-3.5", []string{"m4", "m1"}, "m4"}, {"membership-3.7", []string{"m1", "m2", "m3", "m4"}, "m4"},
		{"cluster3-3.5-crash", []string{"m1", "m2", "m3"}, "m2"}, {"cluster3-3.6-crash", []string{"m1", "m2", "m3"}, "m2"}, {"cluster3-3.7-crash", []string{"m1", "m2", "m3"}, "m2"},
		{"received-snapshot-3.6", []string{"m1", "m2"}, ""},
	} {
		t.Run(c.fixture, func(t *testing.T) {
			sample(t, c.fixture, "healthy-3.4", "membership-3.7")
			t.Parallel()
			dir := fixtures.Dir(t, c.fixture)
			var paths []string
			for _, m := range c.members {
				paths = append(paths, filepath.Join(dir, m))
			}
			for i, m := range proved(t, paths...).Members {
				if m.Proof == nil || m.Proof.Outcome != inspect.ProofProven || m.Proof.Entries == 0 || (m.Proof.Base != "") != (c.members[i] == c.based) {
					t.Errorf("%s: %+v", m.Source, m.Proof)
				}
				if m.Proof.Outcome == inspect.ProofContradicted {
					t.Errorf("%+v", proved(t, paths...).Findings)
				}
			}
		})
	}
}

func TestWhatTheLogContradictsIsNamed(t *testing.T) {
	for _, c := range []struct {
		fixture string
		code    inspect.Code
	}{
		{"value-bit-flipped", inspect.CodeMVCCWALMismatch}, {"mod-revision-wrong", ""}, {"version-wrong", ""}, {"revision-gap", ""}, {"lease-dangling", ""},
	} {
		t.Run(c.fixture, func(t *testing.T) {
			sample(t, c.fixture, "value-bit-flipped")
			m := members(t, c.fixture, "m1")
			plain, err := inspect.Inspect(t.Context(), opened(t, m...), inspect.Options{})
			if err != nil {
				t.Fatal(err)
			}
			full := proved(t, m...)
			p := full.Members[0].Proof
			if p == nil || p.Outcome != inspect.ProofContradicted || p.Records == 0 {
				t.Fatalf("%+v", p)
			}
			i := slices.IndexFunc(full.Findings, func(f inspect.Finding) bool {
				return f.Code == inspect.CodeMVCCWALMismatch && (f.Location.Revision != nil && len(f.Location.Key) > 0 || c.fixture == "lease-dangling")
			})
			if i < 0 {
				t.Errorf("no finding names revision and key: %+v", full.Findings)
			}
			if c.code != "" && len(plain.Findings) != len(full.Findings) {
				t.Errorf("a revision is named twice: %+v", full.Findings)
			}
		})
	}
}

func TestAProofThatIsNotPossibleSaysWhy(t *testing.T) {
	c := proved(t, members(t, "cluster3-3.7-crash", "m2")...)
	if p := c.Members[0].Proof; p == nil || p.Outcome != inspect.ProofNotPossible || p.Why == "" {
		t.Errorf("%+v", p)
	}
	if c := proved(t, members(t, "leaf-zeroed", "m1")...); c.Members[0].Proof.Outcome != inspect.ProofNotPossible {
		t.Errorf("%+v", c.Members[0].Proof)
	}
}

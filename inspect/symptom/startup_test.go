package symptom_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/inspect/inspecttest"
	"etcd-forensics/inspect/symptom"
)

// A start is what a real server of one version wrote when it ended at start on a
// member directory of a fixture; see fixtures/gen/startup.
type start struct {
	Fixture string `json:"fixture"`
	Member  string `json:"member"`
	Etcd    string `json:"etcd"`
	Error   string `json:"error"`
}

func failedStarts(t *testing.T) []start {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "testdata", "startup.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []start
	if err := json.Unmarshal(b, &all); err != nil {
		t.Fatal(err)
	}
	failed := slices.DeleteFunc(all, func(s start) bool { return s.Error == "" })
	if len(failed) < 200 {
		t.Fatalf("only %d failed starts", len(failed))
	}
	return failed
}

// noFinding are the symptoms of sound directories: versions that do not go together are
// no damage, so another fact confirms them.
var noFinding = []string{"downgrade-refused", "storage-version"}

// withoutFinding are starts that no finding of their fixture confirms, with the
// reason; the prediction of the start itself does.
var withoutFinding = map[string]string{
	"healthy-3.4": "3.7 does not read what 3.4 wrote to its log", "healthy-3.5": "3.7 does not read what 3.5 wrote to its log",
	"restored-3.4": "3.7 does not read what 3.4 wrote to its log", "cluster-id-changed": "3.7 does not read what 3.4 wrote to its log",
	"membership-3.4": "3.7 does not read what 3.4 wrote to its log", "membership-3.5": "3.7 does not read what 3.5 wrote to its log",
	"zombie-3.4": "3.7 does not read what 3.4 wrote to its log", "zombie-3.5": "3.7 does not read what 3.5 wrote to its log",
	"zombie-forced-3.5": "3.7 does not read what 3.5 wrote to its log", "learner-promoted-3.5.17": "3.7 does not read what 3.5 wrote to its log",
}

func TestEveryRecordedStartIsRecognised(t *testing.T) {
	for _, s := range failedStarts(t) {
		if _, ok := symptom.Recognise(s.Error); !ok {
			t.Errorf("%s/%s on etcd %s: not recognised: %s", s.Fixture, s.Member, s.Etcd, s.Error)
		}
	}
}

func TestTheFixtureConfirmsEachRecordedStart(t *testing.T) {
	byMember := map[string][]start{}
	for _, s := range failedStarts(t) {
		key := s.Fixture + "/" + s.Member
		known := slices.ContainsFunc(byMember[key], func(o start) bool { return symptomOf(o) == symptomOf(s) })
		plain := slices.Contains(noFinding, symptomOf(s)) && !strings.HasPrefix(s.Fixture, "healthy") && !strings.HasPrefix(s.Fixture, "membership")
		if !known && !(plain && testing.Short()) {
			byMember[key] = append(byMember[key], s)
		}
	}
	for name, starts := range byMember {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fixture, member := filepath.Split(name)
			c := inspecttest.Paths(t, inspect.Options{}, filepath.Join(fixtures.Dir(t, filepath.Clean(fixture)), member))
			for _, s := range starts {
				m, _ := symptom.Recognise(s.Error)
				confirmStart(t, s, symptom.Confirm(m, c))
			}
		})
	}
}

func symptomOf(s start) string {
	m, ok := symptom.Recognise(s.Error)
	if !ok {
		return ""
	}
	return m.Symptom.Name
}

func confirmStart(t *testing.T, s start, got symptom.Confirmation) {
	t.Helper()
	if got.Outcome != symptom.Confirmed {
		t.Errorf("etcd %s: %s: %s (%s): %s", s.Etcd, symptomOf(s), got.Outcome, got.Reason, s.Error)
		return
	}
	byFinding := slices.ContainsFunc(got.Proofs, func(p symptom.Proof) bool { return p.Code != "" })
	if !byFinding && withoutFinding[s.Fixture] == "" && !slices.Contains(noFinding, symptomOf(s)) {
		t.Errorf("etcd %s: %s: no finding confirms it: %+v: %s", s.Etcd, symptomOf(s), got.Proofs, s.Error)
	}
}

// A symptom of one fixture is not seen in a sound one of the same cluster.
func TestSoundEvidenceConfirmsNoDamage(t *testing.T) {
	c := inspecttest.Paths(t, inspect.Options{}, filepath.Join(fixtures.Dir(t, "healthy-3.6"), "m1"))
	for _, line := range []string{
		"panic: freepages: failed to get all reachable pages (page 86: multiple references)",
		"discovery failed: walpb: crc mismatch", "failed to open database: checksum error",
		"panic: tocommit(107) is out of range [lastIndex(84)]. Was the raft log corrupted, truncated, or lost?",
		"etcdserver: mvcc: database space exceeded", "etcdserver: corrupt cluster",
		"the member has been permanently removed from the cluster", "snap: crc mismatch",
		"member 1 has already been bootstrapped", "failed to publish local member to cluster through raft",
	} {
		m, ok := symptom.Recognise(line)
		if !ok {
			t.Fatal(line)
		}
		if got := symptom.Confirm(m, c); got.Outcome != symptom.NotSeen {
			t.Errorf("%s: %s: %+v", line, got.Outcome, got)
		}
	}
}

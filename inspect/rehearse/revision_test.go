package rehearse

import (
	"testing"

	"etcd-forensics/inspect/query"
	"etcd-forensics/inspect/restore"
)

// TestRevisionsGoOnFromThePromise holds what was written after the promised revision
// against what may be: the key of the rehearsal, and leases that ran out.
func TestRevisionsGoOnFromThePromise(t *testing.T) {
	counts := func(added, changed, removed int64) *query.DiffResult {
		r := &query.DiffResult{}
		r.Counts.Added, r.Counts.Changed, r.Counts.Removed = added, changed, removed
		return r
	}
	for _, test := range []struct {
		name     string
		revision int64
		later    *query.DiffResult
		wrote    int64
		leases   bool
		state    State
		reason   string
	}{
		{"nothing was written", 110, nil, 0, false, StateProven, ""},
		{"one key", 111, counts(1, 0, 0), 1, false, StateProven, "then the key of the rehearsal"},
		{"one key that was there", 111, counts(0, 1, 0), 1, false, StateProven, "then the key of the rehearsal"},
		{"leases ran out", 114, counts(1, 0, 5), 1, true, StateProven, "then 5 keys whose leases ran out, and the key of the rehearsal"},
		{"keys are gone without leases", 114, counts(1, 0, 5), 1, false, StateFailed, ""},
		{"another key", 111, counts(1, 0, 0), 0, true, StateFailed, ""},
		{"two keys", 112, counts(1, 1, 0), 1, true, StateFailed, ""},
		{"too low", 109, nil, 1, true, StateFailed, ""},
	} {
		h := &rehearsal{
			plan: &restore.Plan{Revision: restore.Revision{Source: 105, Bump: 10}}, receipt: &Receipt{},
			promise: promise{revision: 105, newest: 100, leases: test.leases}, wrote: test.wrote,
		}
		h.checkRevision("n1", &held{revision: test.revision, later: test.later})
		if c := h.receipt.Checks[0]; c.State != test.state || c.Reason != test.reason || c.Expected != "110" {
			t.Errorf("%s: %+v", test.name, c)
		}
	}
}

func TestWhyAProcessEnded(t *testing.T) {
	for line, want := range map[string]string{
		`{"level":"panic","ts":1.5,"msg":"failed to open database","error":"invalid database"}`: "failed to open database: invalid database",
		`{"level":"fatal","msg":"discovery failed"}`:                                            "discovery failed",
		`{"level":"warn","msg":"slow"}`:                                                         "",
		`Error: unknown flag: --bump-revision`:                                                  "Error: unknown flag: --bump-revision",
		`fatal error: fault`:                                                                    "fatal error: fault",
		`[signal SIGBUS]`:                                                                       "",
	} {
		got := logged(line)
		if got == "" {
			got = printed(line)
		}
		if got != want {
			t.Errorf("%s: %q, not %q", line, got, want)
		}
	}
}

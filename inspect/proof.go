package inspect

import (
	"context"

	"etcd-forensics/inspect/source"
)

// The outcomes of a Proof.
const (
	ProofProven       = "proven"       // the database is what its log leads to, record by record
	ProofContradicted = "contradicted" // it is not; findings say where
	ProofNotPossible  = "not-possible" // the log does not reach back, or not up to the database
)

// A Proof says what came of applying a member's log once more and holding the result
// against its database.
type Proof struct {
	Outcome string `json:"outcome"`
	Base    string `json:"base"` // the source that it went on from; "" for an empty store
	Entries uint64 `json:"entries"`
	Records int64  `json:"differingRecords"`
	Why     string `json:"why"` // why it is not possible; otherwise ""
}

// A Prover makes the proof of one member, with all sources at hand as possible bases.
// It gives findings for what the log contradicts.
type Prover func(ctx context.Context, s *source.Source, m *Member, all []*source.Source) (*Proof, []Finding, error)

// prove proves a member that has both a log and a database.
func (x *examination) prove(ctx context.Context, all []*source.Source) error {
	if x.opts.Prove == nil || x.log == nil || x.member.Backend == nil {
		return nil
	}
	proof, found, err := x.opts.Prove(ctx, x.src, &x.member, all)
	if ctx.Err() != nil {
		x.interrupted = true
		x.note("whether the log of %s leads to its database: %v", x.src.Path, interruption(ctx.Err()))
		return ctx.Err()
	}
	if err != nil {
		x.note("whether the log of %s leads to its database: %v", x.src.Path, err)
		return nil
	}
	x.member.Proof = proof
	known := map[int64]bool{}
	for _, f := range x.findings {
		if f.Code == CodeMVCCWALMismatch && f.Location.Revision != nil {
			known[*f.Location.Revision] = true
		}
	}
	for _, f := range found {
		if rev := f.Location.Revision; rev == nil || !known[*rev] {
			x.find(f)
		}
	}
	return nil
}

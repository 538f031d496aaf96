package report

import (
	"fmt"

	"etcd-forensics/inspect"
)

// proofs says of each member whether its log leads to its database, when that was asked.
func (t *textWriter) proofs(c *inspect.Case) {
	for _, m := range c.Members {
		p := m.Proof
		if p == nil {
			continue
		}
		base := "an empty store"
		if p.Base != "" {
			base = Plain(p.Base)
		}
		words, color := "", green
		switch p.Outcome {
		case inspect.ProofProven:
			words = fmt.Sprintf("%s on top of %s lead to what the database has, record by record", countOf(int64(p.Entries), "entry"), base)
		case inspect.ProofContradicted:
			words, color = fmt.Sprintf("%s on top of %s lead to a database that differs in %s", countOf(int64(p.Entries), "entry"), base, countOf(p.Records, "record")), red
		default:
			words, color = Plain(p.Why), yellow
		}
		t.printf("%s: %s: %s\n", t.paint(bold+color, "proof"), Plain(m.Source), words)
	}
}

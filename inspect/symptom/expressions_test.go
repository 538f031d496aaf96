package symptom

import "testing"

func TestEveryExpressionCompiles(t *testing.T) {
	for i := range all {
		t.Run(all[i].Name, func(t *testing.T) {
			for _, p := range all[i].patterns {
				for _, e := range []expression{p.shape, p.facts} {
					if e != nil {
						e() // panics when it does not
					}
				}
			}
		})
	}
}

package report

import (
	"io"

	"etcd-forensics/inspect"
)

// Explanation writes what a code means.
func Explanation(w io.Writer, e inspect.Explanation) error {
	t := &textWriter{w: w}
	t.printf("%s (%s)\n", e.Code, e.Severity)
	t.wrapHanging("  means:    ", "            ", e.Means)
	t.wrapHanging("  evidence: ", "            ", e.Shows)
	t.wrapHanging("  next:     ", "            ", e.Do)
	return t.err
}

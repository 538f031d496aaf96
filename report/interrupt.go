package report

import (
	"fmt"
	"io"
	"slices"

	"etcd-forensics/inspect"
)

// reachView says how far a reading came that was interrupted.
type reachView struct {
	PagesRead     int64 `json:"pagesRead"`
	Pages         int64 `json:"pages"`
	Records       int64 `json:"records"`
	FirstRevision int64 `json:"firstRevision,omitempty"`
	LastRevision  int64 `json:"lastRevision,omitempty"`
}

func viewReach(r *inspect.Reach) *reachView {
	if r == nil {
		return nil
	}
	return &reachView{r.Pages, r.OfPages, r.Records, r.First, r.Last}
}

// reachWords says the same for people.
func reachWords(r *inspect.Reach) string {
	s := fmt.Sprintf("%d of %s of bucket key were read", r.Pages, plural(r.OfPages, "leaf page"))
	if r.First > 0 {
		s += fmt.Sprintf(", with %s of revisions %d to %d", plural(r.Records, "record"), r.First, r.Last)
	}
	return s
}

// interrupted writes, above all else, that an answer is not whole, and what follows from that.
func (t *textWriter) interrupted(r *inspect.Reach, means string) {
	t.wrapHanging("interrupted: ", "  ", reachWords(r)+"; "+means)
}

// interruptedCase writes the same of a case.
func (t *textWriter) interruptedCase(n *inspect.Interruption) {
	if n != nil {
		t.wrapHanging("", "  ", interruptedWords(n))
	}
}

// interruptedWords says how far an examination came that did not come to its end, and what is
// not told therefore.
func interruptedWords(n *inspect.Interruption) string {
	s := fmt.Sprintf("%s: %d of %s examined to the end", Plain(n.Reason), n.Examined, wereOf(n.Sources, "source"))
	switch {
	case n.Examined < n.Sources && n.Sources > 1:
		s += "; which of them is the best, whether they agree and whether a quorum of the voters could start is not told"
	case n.Examined < n.Sources:
		s += "; what follows is what was seen until then"
	case n.Sources > 1 && !n.Compared:
		s += ", but not compared; which of them is the best, whether they agree and whether a quorum of the voters could start is not told"
	default:
		s += "; what comes after that is left out"
	}
	return s
}

func wereOf(n int, word string) string {
	if n == 1 {
		return "1 " + word + " was"
	}
	return plural(int64(n), word) + " were"
}

// noFindings says that there are none, as far as that is known.
func noFindings(n *inspect.Interruption) string {
	if n != nil {
		return "no findings until the interrupt"
	}
	return "no findings"
}

// uncompared says whether a comparison says nothing of how sources compare.
func uncompared(k *inspect.Comparison) bool {
	return k.Best == "" && !slices.ContainsFunc(k.Ranking, func(r inspect.Ranked) bool { return !r.Alone })
}

// UnhashedJSON writes how far the reading for a hash came, as one object without a hash.
func UnhashedJSON(w io.Writer, e *inspect.UnhashedError) error {
	return Value(w, struct {
		Hash            *uint32    `json:"hash"`
		Revision        int64      `json:"revision"`
		CompactRevision int64      `json:"compactRevision"`
		Complete        bool       `json:"complete"`
		Interrupted     *reachView `json:"interrupted"`
	}{nil, e.Revision, e.CompactRevision, false, viewReach(&e.Reach)})
}

// UnhashedText writes the same for people.
func UnhashedText(w io.Writer, e *inspect.UnhashedError) error {
	t := &textWriter{w: w}
	t.interrupted(&e.Reach, "there is no hash, since it takes all of them")
	t.wrapHanging("", "  ", fmt.Sprintf("%s, asked for at revision %d; compact revision %d", Plain(e.File), e.Revision, e.CompactRevision))
	return t.err
}

package report

import (
	"fmt"
	"io"

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

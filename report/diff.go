package report

import (
	"fmt"
	"io"

	"etcd-forensics/inspect/query"
	"etcd-forensics/snapdb/kube"
)

type diffSideView struct {
	File     string `json:"file"`
	Revision int64  `json:"revision"`
	Keys     *int64 `json:"keys"`
	Complete bool   `json:"complete"`

	Interrupted *reachView `json:"interrupted,omitempty"`
}

func viewDiffSide(r *query.DiffResult, s *query.DiffSide, keys *int64) diffSideView {
	v := diffSideView{File: s.File, Revision: s.Revision, Keys: unlessPartial(keys, !r.Counted()), Complete: s.Whole}
	if !s.Read {
		v.Interrupted = viewReach(&s.Reach)
	}
	return v
}

type diffRowView struct {
	Prefix      string `json:"prefix"`
	KeyEncoding string `json:"keyEncoding,omitempty"`
	Added       int64  `json:"added"`
	Removed     int64  `json:"removed"`
	Changed     int64  `json:"changed"`
	Recreated   int64  `json:"recreated"`
}

type diffKeyView struct {
	Key          string `json:"key"`
	KeyEncoding  string `json:"keyEncoding,omitempty"`
	Change       string `json:"change"`
	OldRevision  int64  `json:"oldModRevision,omitempty"`
	NewRevision  int64  `json:"newModRevision,omitempty"`
	ValueChanged bool   `json:"valueChanged"`
	RecordBytes  int64  `json:"recordBytes"`
}

// DiffJSON writes what became of the keys as one object.
func DiffJSON(w io.Writer, r *query.DiffResult) error {
	c := r.Counts
	counted := func(n int64) *int64 { return unlessPartial(&n, !r.Counted()) }
	view := struct {
		Old       diffSideView  `json:"old"`
		New       diffSideView  `json:"new"`
		Same      *int64        `json:"same"`
		Added     *int64        `json:"added"`
		Removed   *int64        `json:"removed"`
		Changed   *int64        `json:"changed"`
		Recreated *int64        `json:"recreated"`
		Prefixes  []diffRowView `json:"prefixes"`
		Keys      []diffKeyView `json:"keys"`
		OtherKeys *int64        `json:"otherKeys"`

		Interrupted bool   `json:"interrupted,omitempty"`
		AtLeast     *int64 `json:"differentAtLeast,omitempty"`
	}{
		Old: viewDiffSide(r, &r.Old, &c.Old), New: viewDiffSide(r, &r.New, &c.New),
		Same: counted(c.Same), Added: counted(c.Added), Removed: counted(c.Removed), Changed: counted(c.Changed), Recreated: counted(c.Recreated),
		Prefixes: make([]diffRowView, len(r.Prefixes)), Keys: make([]diffKeyView, len(r.Keys)), OtherKeys: counted(r.OtherKeys),
		Interrupted: r.Interrupted, AtLeast: unlessPartial(&r.AtLeast, r.Counted()),
	}
	for i, p := range r.Prefixes {
		text, encoding := Key(p.Prefix)
		view.Prefixes[i] = diffRowView{text, encoding, p.Added, p.Removed, p.Changed, p.Recreated}
	}
	for i, k := range r.Keys {
		text, encoding := Key(k.Key)
		view.Keys[i] = diffKeyView{text, encoding, k.Change.String(), k.Old, k.New, k.ValueChanged, k.RecordBytes}
	}
	return Value(w, view)
}

// DiffText writes what became of the keys for people.
func DiffText(w io.Writer, r *query.DiffResult) error {
	t := &textWriter{w: w}
	if !r.Counted() {
		t.interruptedDiff(r)
		return t.err
	}
	c := r.Counts
	t.wrapHanging("old: ", "  ", fmt.Sprintf("%s at revision %d, %s", Plain(r.Old.File), r.Old.Revision, plural(c.Old, "key")))
	t.wrapHanging("new: ", "  ", fmt.Sprintf("%s at revision %d, %s", Plain(r.New.File), r.New.Revision, plural(c.New, "key")))
	t.printf("%d added, %d removed, %d changed, %d re-created, %d the same\n", c.Added, c.Removed, c.Changed, c.Recreated, c.Same)
	if r.Interrupted {
		t.wrapHanging("interrupted: ", "  ", "these numbers are as they are without an interrupt, but not all of these keys were looked up again; what follows counts and names only those that were")
	}
	if len(r.Prefixes) == 0 {
		return t.err
	}
	var rows [][]string
	for _, p := range r.Prefixes {
		rows = append(rows, []string{prefixWord(p.Prefix), fmt.Sprint(p.Added), fmt.Sprint(p.Removed), fmt.Sprint(p.Changed), fmt.Sprint(p.Recreated)})
	}
	t.table([]string{"PREFIX OR RESOURCE", "ADDED", "REMOVED", "CHANGED", "RE-CREATED"}, rows)
	rows = nil
	for i := range r.Keys {
		k := &r.Keys[i]
		rows = append(rows, []string{diffSign(k), revisionWord(k.Old), revisionWord(k.New), shortened(k.Key)})
	}
	if len(rows) > 0 {
		t.table([]string{"", "OLD MOD", "NEW MOD", "KEY"}, rows)
	}
	switch {
	case r.OtherKeys > 0 && r.Interrupted:
		t.printf("and %d more keys\n", r.OtherKeys)
	case r.OtherKeys > 0:
		t.printf("and %d more keys (--top 0 lists all)\n", r.OtherKeys)
	}
	return t.err
}

// interruptedDiff says how far each side was read, and the little that follows.
func (t *textWriter) interruptedDiff(r *query.DiffResult) {
	t.wrapHanging("interrupted: ", "  ", "which keys differ cannot be told before both sides were read to their end")
	for _, side := range []struct {
		name string
		*query.DiffSide
	}{{"old: ", &r.Old}, {"new: ", &r.New}} {
		t.wrapHanging(side.name, "  ", fmt.Sprintf("%s at revision %d, %s", Plain(side.File), side.Revision, reachWords(&side.Reach)))
	}
	if r.AtLeast > 0 {
		t.wrapHanging("", "  ", fmt.Sprintf("of the keys of old, at least %d cannot be the same in new: it has later or other versions of them", r.AtLeast))
	}
}

// prefixWord names a row: an object's resource, or the prefix.
func prefixWord(prefix []byte) string {
	if at, ok := kube.PrefixOf(prefix); ok {
		if resource := prefix[min(len(prefix), len(at)+1):]; len(resource) > 1 {
			return Plain(string(resource[:len(resource)-1]))
		}
	}
	return shortened(prefix)
}

// diffSign says what became of a key; a change of the mod revision alone is a rewrite.
func diffSign(k *query.DiffKey) string {
	if k.Change.String() == "changed" && !k.ValueChanged {
		return "rewritten"
	}
	return k.Change.String()
}

func revisionWord(rev int64) string {
	if rev == 0 {
		return "-"
	}
	return fmt.Sprint(rev)
}

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
	Keys     int64  `json:"keys"`
	Complete bool   `json:"complete"`
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
	view := struct {
		Old       diffSideView  `json:"old"`
		New       diffSideView  `json:"new"`
		Same      int64         `json:"same"`
		Added     int64         `json:"added"`
		Removed   int64         `json:"removed"`
		Changed   int64         `json:"changed"`
		Recreated int64         `json:"recreated"`
		Prefixes  []diffRowView `json:"prefixes"`
		Keys      []diffKeyView `json:"keys"`
		OtherKeys int64         `json:"otherKeys"`
	}{
		diffSideView{r.Old.File, r.Old.Revision, c.Old, r.Old.Whole}, diffSideView{r.New.File, r.New.Revision, c.New, r.New.Whole},
		c.Same, c.Added, c.Removed, c.Changed, c.Recreated, make([]diffRowView, len(r.Prefixes)), make([]diffKeyView, len(r.Keys)), r.OtherKeys,
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
	c := r.Counts
	t.wrapHanging("old: ", "  ", fmt.Sprintf("%s at revision %d, %s", Plain(r.Old.File), r.Old.Revision, plural(c.Old, "key")))
	t.wrapHanging("new: ", "  ", fmt.Sprintf("%s at revision %d, %s", Plain(r.New.File), r.New.Revision, plural(c.New, "key")))
	t.printf("%d added, %d removed, %d changed, %d re-created, %d the same\n", c.Added, c.Removed, c.Changed, c.Recreated, c.Same)
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
	if r.OtherKeys > 0 {
		t.printf("and %d more keys (--top 0 lists all)\n", r.OtherKeys)
	}
	return t.err
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

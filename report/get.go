package report

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"unicode/utf8"

	"etcd-forensics/inspect/query"
	"etcd-forensics/snapdb/kube/manifest"
)

// Values says what is shown of the values of keys.
type Values string

// What may be shown. Without a word it is nothing.
const (
	ValuesNone Values = "none"
	ValuesHash Values = "hash"
	ValuesFull Values = "full"
)

// valueView is a value as JSON has it: as text, or in base64.
type valueView struct {
	SHA256   string  `json:"valueSHA256,omitempty"`
	Value    *string `json:"value,omitempty"`
	Encoding string  `json:"valueEncoding,omitempty"`
}

func viewValue(value []byte, show Values) (v valueView) {
	if value == nil || show == ValuesNone {
		return v
	}
	sum := sha256.Sum256(value)
	v.SHA256 = hex.EncodeToString(sum[:])
	if show == ValuesFull {
		text, encoding := Key(value)
		v.Value, v.Encoding = &text, encoding
	}
	return v
}

// words gives a value for people, "" when nothing may be shown.
func (s Values) words(value []byte) string {
	switch {
	case value == nil || s == ValuesNone:
		return ""
	case s == ValuesHash:
		return fmt.Sprintf("%x", sha256.Sum256(value))
	case utf8.Valid(value):
		return Plain(string(value))
	}
	return quoted(value)
}

type versionView struct {
	Key            string `json:"key"`
	KeyEncoding    string `json:"keyEncoding,omitempty"`
	CreateRevision int64  `json:"createRevision,omitempty"`
	ModRevision    int64  `json:"modRevision,omitempty"`
	Version        int64  `json:"version,omitempty"`
	Lease          string `json:"lease,omitempty"`
	ValueSize      int64  `json:"valueSize"`
	Deleted        bool   `json:"deleted,omitempty"`
	valueView
}

func viewVersion(v *query.Version, show Values) versionView {
	text, encoding := Key(v.Key)
	return versionView{text, encoding, v.CreateRevision, v.Revision.Main, v.Version, leaseWord(v.Lease), v.ValueSize, false, viewValue(v.Value, show)}
}

// leaseWord writes a lease as etcdctl does, "" for none.
func leaseWord(id int64) string {
	if id == 0 {
		return ""
	}
	return fmt.Sprintf("%016x", uint64(id))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// GetJSON writes keys at a revision as one object.
func GetJSON(w io.Writer, r *query.GetResult, show Values) error {
	view := struct {
		Revision    int64         `json:"revision"`
		Complete    bool          `json:"complete"`
		Count       int           `json:"count"`
		Keys        []versionView `json:"keys"`
		Interrupted *reachView    `json:"interrupted,omitempty"`
	}{r.Revision, r.Whole, len(r.List), make([]versionView, len(r.List)), viewReach(r.Interrupted)}
	for i := range r.List {
		view.Keys[i] = viewVersion(&r.List[i], show)
		view.Keys[i].Deleted = r.List[i].Revision.Tombstone
	}
	return Value(w, view)
}

// GetText writes keys at a revision for people: one key, or with its value each key, in full,
// several as a table.
func GetText(w io.Writer, r *query.GetResult, prefix bool, show Values) error {
	t := &textWriter{w: w}
	switch {
	case r.Interrupted != nil:
		t.interrupted(r.Interrupted, "of each key the newest version among them is shown. Newer versions, deletions and other keys may be among the rest")
		if len(r.List) == 0 {
			t.printf("none of them is of a key that was asked for\n")
			return t.err
		}
		t.printf("among them: %s\n", plural(int64(len(r.List)), "key"))
	case prefix:
		t.printf("as of revision %d: %s\n", r.Revision, plural(int64(len(r.List)), "key"))
	}
	if !prefix || show == ValuesFull {
		for i := range r.List {
			if prefix {
				t.printf("\n")
			}
			t.oneKey(&r.List[i], r.Revision, show)
		}
		return t.err
	}
	header := []string{"KEY", "MOD", "CREATED", "VERSION", "LEASE", "BYTES"}
	if show == ValuesHash {
		header = append(header, "SHA-256")
	}
	rows := make([][]string, len(r.List))
	for i := range r.List {
		v := &r.List[i]
		created, version := fmt.Sprint(v.CreateRevision), fmt.Sprint(v.Version)
		if v.Revision.Tombstone {
			created, version = "-", "deleted"
		}
		rows[i] = []string{shortened(v.Key), fmt.Sprint(v.Revision.Main), created, version, orDash(leaseWord(v.Lease)), fmt.Sprint(v.ValueSize)}
		if show == ValuesHash {
			rows[i] = append(rows[i], show.words(v.Value))
		}
	}
	t.table(header, rows)
	return t.err
}

func (t *textWriter) oneKey(v *query.Version, asOf int64, show Values) {
	if v.Revision.Tombstone {
		t.printf("key:             %s\nas of revision:  %d\ndeleted at:      %d\n", quoted(v.Key), asOf, v.Revision.Main)
		return
	}
	t.printf("key:             %s\nas of revision:  %d\nmod revision:    %d\ncreate revision: %d\nversion:         %d\nlease:           %s\nvalue:           %d bytes\n",
		quoted(v.Key), asOf, v.Revision.Main, v.CreateRevision, v.Version, orDash(leaseWord(v.Lease)), v.ValueSize)
	switch words := show.words(v.Value); {
	case show == ValuesHash:
		t.printf("SHA-256:         %s\n", words)
	case words != "":
		t.printf("\n%s\n", words)
	}
}

// maxCell is the longest key in a table, in bytes as quoted.
const maxCell = 100

// shortened quotes a key for a table.
func shortened(key []byte) string {
	q := quoted(key)
	if len(q) <= maxCell {
		return q
	}
	return fmt.Sprintf("%s... (%d bytes)", q[:maxCell], len(key))
}

// GetYAML writes keys as objects of Kubernetes that kubectl takes.
func GetYAML(w io.Writer, r *query.GetResult, showSecrets bool) error {
	printer, err := manifest.NewPrinter()
	if err != nil {
		return err
	}
	for i := range r.List {
		v := &r.List[i]
		text, err := printer.ToYAML(v.Value, showSecrets)
		if err != nil {
			return fmt.Errorf("key %s: %w", quoted(v.Key), err)
		}
		if _, err := fmt.Fprintf(w, "---\n%s", text); err != nil {
			return err
		}
	}
	return nil
}

type eventView struct {
	versionView
	Action  string        `json:"action"`
	Sources []string      `json:"sources"`
	Index   uint64        `json:"index,omitempty"`
	Term    uint64        `json:"term,omitempty"`
	State   string        `json:"state,omitempty"`
	Unsure  bool          `json:"unsure,omitempty"`
	Time    *estimateView `json:"time,omitempty"`
}

func sourcesOf(e *query.Event) []string {
	sources := []string{}
	if e.InDatabase {
		sources = append(sources, "database")
	}
	if e.InWAL {
		sources = append(sources, "wal")
	}
	return sources
}

// HistoryJSON writes the history of keys as one object.
func HistoryJSON(w io.Writer, r *query.HistoryResult, show Values) error {
	view := struct {
		Revision        int64         `json:"revision,omitempty"`
		CompactRevision int64         `json:"compactRevision"`
		Complete        bool          `json:"complete"`
		Events          []eventView   `json:"events"`
		Interrupted     *reachView    `json:"interrupted,omitempty"`
		UnreadLog       query.LogPart `json:"unreadLog,omitempty"`
	}{r.Revision, r.CompactRevision, r.Whole, make([]eventView, len(r.List)), viewReach(r.Interrupted), r.Unread}
	for i := range r.List {
		e := &r.List[i]
		view.Events[i] = eventView{viewVersion(&e.Version, show), e.Action, sourcesOf(e), e.Index, e.Term, e.State, e.Unsure, viewEstimate(e.Time)}
	}
	return Value(w, view)
}

// HistoryText writes the history of keys for people.
func HistoryText(w io.Writer, r *query.HistoryResult, show Values) error {
	t := &textWriter{w: w}
	if r.Interrupted != nil {
		t.interruptedHistory(r)
	}
	for i := 0; i < len(r.List); {
		n := i
		for n < len(r.List) && string(r.List[n].Key) == string(r.List[i].Key) {
			n++
		}
		t.keyHistory(r.List[i:n], show)
		i = n
	}
	if r.CompactRevision > 0 {
		t.wrapHanging("", "  ", fmt.Sprintf("the database was compacted to revision %d: of each key it has at most one version from up to then", r.CompactRevision))
	}
	if !r.Log && r.Unread == query.LogNone && r.File != "" {
		t.wrapHanging("", "  ", "no write-ahead log was read, so versions that only a log holds are not here")
	}
	return t.err
}

// interruptedHistory says of what part of the evidence a history is.
func (t *textWriter) interruptedHistory(r *query.HistoryResult) {
	const rest = ". Other versions, newer ones too, may be among the rest"
	log := map[query.LogPart]string{query.LogRest: ", and of the first part of the write-ahead log", query.LogAll: ", and nothing of the write-ahead log"}
	if r.File == "" {
		t.wrapHanging("interrupted: ", "  ", "what follows is of the first part of the write-ahead log"+rest)
	} else {
		t.interrupted(r.Interrupted, "what follows is of these"+log[r.Unread]+rest)
	}
	if len(r.List) == 0 {
		t.printf("nothing in it is of a key that was asked for\n")
	}
}

func (t *textWriter) keyHistory(events []query.Event, show Values) {
	t.printf("%s\n", quoted(events[0].Key))
	timed := false
	for i := range events {
		timed = timed || events[i].Time != nil
	}
	header := []string{"REVISION", "INDEX", "WHAT", "VERSION", "BYTES", "LEASE", "HELD BY"}
	if timed {
		header = append(header, timeHeader)
	}
	if show == ValuesHash {
		header = append(header, "SHA-256")
	}
	var rows [][]string
	for i := range events {
		rows = append(rows, eventRow(&events[i], timed, show))
	}
	t.table(header, rows)
	if show != ValuesFull {
		return
	}
	for i := range events {
		if e := &events[i]; e.Value != nil {
			t.printf("value of %s:\n%s\n", whenWord(e), show.words(e.Value))
		}
	}
}

func eventRow(e *query.Event, timed bool, show Values) []string {
	revision, index, version, bytes := "-", "-", "-", "-"
	if e.Revision.Main > 0 {
		revision = fmt.Sprint(e.Revision.Main)
	}
	if e.Index > 0 {
		index = fmt.Sprint(e.Index)
	}
	if e.Version.Version > 0 {
		version = fmt.Sprint(e.Version.Version)
	}
	if !e.Revision.Tombstone {
		bytes = fmt.Sprint(e.ValueSize)
	}
	what := e.Action
	if e.Unsure {
		what += ", perhaps"
	}
	held := "db"
	switch {
	case e.InDatabase && e.InWAL:
		held = "db, WAL"
	case e.InWAL:
		held = "WAL, " + e.State
	}
	row := []string{revision, index, what, version, bytes, orDash(leaseWord(e.Lease)), held}
	if timed {
		row = append(row, timeCell(e.Time))
	}
	if show == ValuesHash {
		row = append(row, orDash(show.words(e.Value)))
	}
	return row
}

// whenWord names an event by its revision, or by its entry.
func whenWord(e *query.Event) string {
	if e.Revision.Main > 0 {
		return fmt.Sprintf("revision %d", e.Revision.Main)
	}
	return fmt.Sprintf("entry %d", e.Index)
}

package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/recover"
)

type rollPointView struct {
	Index    uint64 `json:"index"`
	Revision int64  `json:"revision"`
}

type rollSpanView struct {
	FirstIndex uint64 `json:"firstIndex"`
	LastIndex  uint64 `json:"lastIndex"`
	Count      uint64 `json:"count"`
}

type rollUndoView struct {
	Key         string `json:"key"`
	KeyEncoding string `json:"keyEncoding,omitempty"`
	Index       uint64 `json:"index"`
	Revision    int64  `json:"revision"`
	Deleted     bool   `json:"deleted"`
}

type rollTailView struct {
	Index       uint64 `json:"index"`
	Key         string `json:"key"`
	KeyEncoding string `json:"keyEncoding,omitempty"`
	Deletes     bool   `json:"deletes"`
}

type rollLogView struct {
	Path       string     `json:"path"`
	MemberID   inspect.ID `json:"memberID"`
	FirstIndex uint64     `json:"firstIndex"`
	LastIndex  uint64     `json:"lastIndex"`
	LastTerm   uint64     `json:"lastTerm"`
	Used       uint64     `json:"entriesUsed"`
}

type rollBaseView struct {
	Path string `json:"path"`
	File string `json:"file"`
}

type rollOutView struct {
	Path   string         `json:"path"`
	Size   int64          `json:"size"`
	SHA256 string         `json:"sha256"`
	Term   uint64         `json:"term"`
	HashKV inspect.HashKV `json:"hashKV"`
}

type rollCheckView struct {
	Check   string `json:"check"`
	Outcome string `json:"outcome"`
	Detail  string `json:"detail"`
}

type rollManifestView struct {
	ClusterID   inspect.ID    `json:"clusterID"`
	Base        *rollBaseView `json:"base"`
	WALs        []rollLogView `json:"wals"`
	Committed   uint64        `json:"provenCommit"`
	CommittedBy string        `json:"provenBy"`
	Beyond      uint64        `json:"uncommitted"`
	Out         *rollOutView  `json:"output"`
}

type rollView struct {
	Refused *string `json:"refused"`
	Help    *string `json:"help"`

	From     rollPointView     `json:"from"`
	To       *rollPointView    `json:"to"`
	Applied  uint64            `json:"applied"`
	Skipped  uint64            `json:"skipped"`
	Requests map[string]uint64 `json:"refusedRequests"`
	Stopped  string            `json:"stoppedBecause"`
	Missing  *rollSpanView     `json:"missing"`
	Undo     *rollUndoView     `json:"before"`
	Tail     []rollTailView    `json:"tail"`
	MoreTail int               `json:"otherTail"`
	Manifest rollManifestView  `json:"manifest"`
	Proof    []rollCheckView   `json:"proof"`
}

// RollforwardJSON writes what was made, or why nothing was, as one object.
func RollforwardJSON(w io.Writer, r *recover.Rollforward, refusal *recover.RollRefusal) error {
	v := rollView{
		From: rollPointView(r.From), Applied: r.Counts.Applied, Skipped: r.Counts.Skipped, Requests: r.Counts.Refused, Stopped: r.Stopped,
		Tail: []rollTailView{}, MoreTail: r.MoreTail, Proof: []rollCheckView{},
		Manifest: rollManifestView{ClusterID: r.ClusterID, WALs: []rollLogView{}, Committed: r.Committed, CommittedBy: r.CommittedBy, Beyond: r.Beyond},
	}
	if v.Requests == nil {
		v.Requests = map[string]uint64{}
	}
	if refusal != nil {
		v.Refused, v.Help, v.Stopped = &refusal.Why, &refusal.Help, "refused"
	} else {
		v.To = (*rollPointView)(&r.To)
		v.Manifest.Out = &rollOutView{r.Out, r.Size, r.SHA256, r.Term, r.HashKV}
	}
	if r.Base != "" {
		v.Manifest.Base = &rollBaseView{r.Base, r.BaseFile}
	}
	for _, l := range r.Logs {
		v.Manifest.WALs = append(v.Manifest.WALs, rollLogView{l.Source, l.MemberID, l.First, l.Last, l.LastTerm, l.Used})
	}
	if m := r.Missing; m != nil {
		v.Missing = &rollSpanView{m.First, m.Last, m.Last - m.First + 1}
	}
	if u := r.Undo; u != nil {
		text, encoding := Key(u.Key)
		v.Undo = &rollUndoView{text, encoding, u.Index, u.Revision, u.Deleted}
	}
	for _, k := range r.Tail {
		text, encoding := Key(k.Key)
		v.Tail = append(v.Tail, rollTailView{k.Index, text, encoding, k.Deletes})
	}
	for _, c := range r.Checks {
		v.Proof = append(v.Proof, rollCheckView{c.What, c.Outcome, c.Detail})
	}
	return Value(w, v)
}

// RollforwardText writes the same for people.
func RollforwardText(w io.Writer, r *recover.Rollforward, refusal *recover.RollRefusal, opts TextOptions) error {
	t := &textWriter{w: w, color: opts.Color}
	if refusal != nil {
		t.printf("%s: %s\n", t.paint(bold+red, "refused"), Plain(refusal.Why))
		t.wrap("what helps: ", Plain(refusal.Help))
	} else {
		t.printf("%s: %s, at index %d and revision %d\n", t.paint(bold+green, "rolled forward"), Plain(r.Out), r.To.Index, r.To.Revision)
	}
	base := "nothing"
	if r.Base != "" {
		base = Plain(r.Base)
	}
	t.printf("from: %s, at index %d and revision %d\n", base, r.From.Index, r.From.Revision)
	if refusal == nil {
		t.rolled(r)
	}
	if r.Committed > 0 {
		t.printf("committed: up to index %d (%s); %d behind it in the logs\n", r.Committed, Plain(r.CommittedBy), r.Beyond)
	}
	if len(r.Logs) > 0 {
		t.rollLogs(r)
	}
	for _, c := range r.Checks {
		t.wrapHanging(fmt.Sprintf("%s: %s: ", c.Outcome, c.What), "  ", Plain(c.Detail))
	}
	t.rollTail(r)
	return t.err
}

// rolled says what was applied and why it ended.
func (t *textWriter) rolled(r *recover.Rollforward) {
	t.printf("applied: %s, of which %d ask for nothing that is stored%s\n", countOf(int64(r.Counts.Applied), "entry"), r.Counts.Skipped, refusedWords(r.Counts.Refused))
	t.wrapHanging("stopped: ", "  ", stoppedWords(r))
	if m := r.Missing; m != nil {
		t.printf("%s: entries %d to %d (%d) are in none of the logs, or not whole\n", t.paint(bold+yellow, "missing"), m.First, m.Last, m.Last-m.First+1)
	}
	t.printf("output: %s with its hash, HashKV %d at revision %d (%s)\nsha256: %s\n", size(r.Size), r.HashKV.Hash, r.HashKV.Revision, compactedWords(r.HashKV.CompactRevision), r.SHA256)
}

// refusedWords counts what the store refused, as it did when the servers ran.
func refusedWords(kinds map[string]uint64) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		list = append(list, fmt.Sprintf("%d %s", kinds[k], Plain(k)))
	}
	if len(list) == 0 {
		return ""
	}
	return "; the store refused, as the servers did: " + strings.Join(list, ", ")
}

func stoppedWords(r *recover.Rollforward) string {
	switch r.Stopped {
	case recover.StopCommitted:
		return "nothing proves a later entry committed"
	case recover.StopLog:
		return "the logs hold no further entry"
	case recover.StopIndex:
		return "the index that was asked for"
	case recover.StopRevision:
		return "the revision that was asked for"
	case recover.StopGap:
		return "the next entry is missing"
	case recover.StopBefore:
		what := "changed"
		if r.Undo.Deleted {
			what = "deleted"
		}
		return fmt.Sprintf("entry %d, which made revision %d, %s %s", r.Undo.Index, r.Undo.Revision, what, shortened(r.Undo.Key))
	}
	return r.Stopped
}

func (t *textWriter) rollLogs(r *recover.Rollforward) {
	var rows [][]string
	for _, l := range r.Logs {
		rows = append(rows, []string{Plain(l.Source), l.MemberID.String(), fmt.Sprint(l.First), fmt.Sprint(l.Last), fmt.Sprint(l.LastTerm), fmt.Sprint(l.Used)})
	}
	t.table([]string{"WAL", "MEMBER", "FIRST INDEX", "LAST INDEX", "LAST TERM", "ENTRIES USED"}, rows)
}

// rollTail lists the keys that entries write which nothing proves committed.
func (t *textWriter) rollTail(r *recover.Rollforward) {
	if len(r.Tail) == 0 {
		return
	}
	var rows [][]string
	for _, k := range r.Tail {
		what := "put"
		if k.Deletes {
			what = "delete"
		}
		rows = append(rows, []string{fmt.Sprint(k.Index), what, shortened(k.Key)})
	}
	t.printf("written by entries that nothing proves committed:\n")
	t.table([]string{"INDEX", "", "KEY"}, rows)
	if r.MoreTail > 0 {
		t.printf("and %d more\n", r.MoreTail)
	}
}

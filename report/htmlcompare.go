package report

import (
	"fmt"

	"etcd-forensics/inspect"
)

// htmlCompared says how the sources compare.
type htmlCompared struct {
	Lines       []string
	Ranking     htmlTable
	Reasons     []string
	Quorum      *htmlTable
	Divergences *htmlTable
	Notes       []string
}

func viewCompared(k *inspect.Comparison) *htmlCompared {
	if k == nil {
		return nil
	}
	v := &htmlCompared{Lines: choiceLines(k), Ranking: rankingTable(k), Quorum: quorumTable(k.Quorum), Divergences: divergenceTable(k)}
	if uncompared(k) {
		v.Ranking.Caption = "Sources that were examined to their end, not compared with any other"
	}
	for _, r := range k.Ranking[:min(len(k.Ranking), maxRows)] {
		v.Reasons = append(v.Reasons, fmt.Sprintf("%s: %s%s", shown(r.Member), shown(r.Reason), cut(behindText(r.Behind), maxShown)))
	}
	for _, d := range k.Diverging {
		who := "sources between which nothing decides"
		if d.Member != "" {
			who = shown(d.Member)
		}
		atLeast := ""
		if d.AtLeast {
			atLeast = "at least "
		}
		v.Notes = append(v.Notes, fmt.Sprintf("%s: %s%s, from revision %d to %d", who, atLeast, countOf(d.Differences, "differing record"), d.FirstRevision, d.LastRevision))
	}
	for _, n := range k.Known {
		v.Notes = append(v.Notes, fmt.Sprintf("known of %s: %s", shown(n.Member), shown(n.Reason)))
	}
	for _, n := range k.NotCompared {
		v.Notes = append(v.Notes, fmt.Sprintf("not compared: %s: %s", shown(n.Member), shown(n.Reason)))
	}
	return v
}

func rankingTable(k *inspect.Comparison) htmlTable {
	t := htmlTable{Caption: "Sources in the order in which to trust them", Header: []string{"source", "last term", "last index", "applied", "revision", "usable", "loses"}}
	for _, r := range k.Ranking {
		usable, class := "yes", "ok"
		if !r.Usable {
			usable, class = "no", "bad"
		}
		row := []htmlCell{
			{Text: shown(r.Member)}, {Text: optional(r.LastTerm)}, {Text: optional(r.LastIndex)}, {Text: optional(r.ConsistentIndex)}, {Text: optional(r.Revision)},
			{Text: usable, Class: class}, {Text: lossOfChoice(r)},
		}
		t.add(row)
	}
	t.limit(maxRows, "-w json")
	return t
}

// lossOfChoice says what choosing a source would lose.
func lossOfChoice(r inspect.Ranked) string {
	l := r.Loses
	switch {
	case !r.Usable || r.Alone:
		return "-"
	case l.Entries == 0 && l.Revisions == 0:
		return "nothing"
	case l.Entries == 0:
		return countOf(l.Revisions, "revision")
	}
	s := countOf(int64(l.Entries), "entry")
	if l.Keys > 0 {
		atLeast := ""
		if l.AtLeast {
			atLeast = "at least "
		}
		s += fmt.Sprintf(", writing %s%s", atLeast, countOf(l.Keys, "key"))
	}
	return s
}

func quorumTable(q *inspect.Quorum) *htmlTable {
	if q == nil {
		return nil
	}
	state := "enough"
	if !q.Enough {
		state = "quorum is lost"
	}
	t := &htmlTable{Caption: fmt.Sprintf("Quorum: %d of %d voters could start, %d are needed: %s", len(q.Startable), len(q.Voters), q.Needed, state), Header: []string{"directory of a voter that could start"}}
	for _, s := range q.Startable {
		t.row(shown(s))
	}
	if len(t.Rows) == 0 {
		t.row("none")
	}
	t.limit(maxRows, "-w json")
	return t
}

func divergenceTable(k *inspect.Comparison) *htmlTable {
	if len(k.Divergences) == 0 {
		return nil
	}
	t := &htmlTable{Caption: "Where contents differ, the lowest revision first", Header: []string{"revision", "key", "kind", "who differs", "raft entry"}}
	for _, d := range k.Divergences {
		who := "nothing decides"
		if d.Member != "" {
			who = shown(d.Member)
		}
		t.row(fmt.Sprint(d.Revision), shortKey(d.Key), shown(d.Kind), who, optional(d.Index))
	}
	t.limit(maxRows, "compare -w json")
	return t
}

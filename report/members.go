package report

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"etcd-forensics/inspect"
)

// MembersJSON writes a membership as schema.md describes it.
func MembersJSON(w io.Writer, r *inspect.MembershipReport) error {
	view := struct {
		*inspect.MembershipReport
		Findings []findingView `json:"findings"`
	}{r, make([]findingView, len(r.Findings))}
	for i, f := range r.Findings {
		view.Findings[i] = findingView{f, viewLocation(f.Location)}
	}
	return Value(w, view)
}

// Members writes a membership for people: the members, as `etcdctl member list -w
// table` shows them, what raft has, how it came about, and who says otherwise.
func Members(w io.Writer, r *inspect.MembershipReport, opts TextOptions) error {
	t := &textWriter{w: w, color: opts.Color}
	t.interruptedCase(r.Interrupted)
	t.membersTitle(r)
	if r.Interrupted == nil || r.Interrupted.Examined > 0 {
		t.memberTable(r)
		t.configurations(&r.Membership)
		t.identity(r)
		t.changes(&r.Membership)
		t.dissent(r)
	}
	t.findings(&inspect.Case{Interrupted: r.Interrupted, Findings: r.Findings, Sources: membershipSources(r), Members: make([]inspect.Member, len(r.Sources))})
	t.otherFindings(r)
	return t.err
}

func membershipSources(r *inspect.MembershipReport) (list []inspect.Source) {
	for _, s := range r.Sources {
		list = append(list, s.Source)
	}
	return list
}

func (t *textWriter) membersTitle(r *inspect.MembershipReport) {
	s := "members"
	if r.ClusterID != nil {
		s += " of cluster " + r.ClusterID.String()
	}
	if n := r.Interrupted; n != nil && n.Examined == 0 {
		s = "no source that states the members was examined to its end"
	} else if n != nil {
		s += ", by the sources that were examined to their end alone"
	}
	if p := r.Membership.Proven; p != nil {
		s += fmt.Sprintf(" as of index %d", p.Index)
	}
	t.printf("%s\n", s)
	for _, src := range r.Sources {
		if !src.Included && !src.Interrupted {
			t.wrapHanging("not of this cluster: ", "  ", Plain(src.Path))
		}
		for _, n := range src.NotExamined {
			t.wrapHanging("not examined: ", "  ", Plain(n))
		}
	}
}

func (t *textWriter) memberTable(r *inspect.MembershipReport) {
	var rows [][]string
	row := func(m inspect.MembershipMember, status, removed string) {
		rows = append(rows, []string{
			m.MemberID.String(), status, Plain(m.Name), plainLines(m.PeerURLs), plainLines(m.ClientURLs), fmt.Sprint(m.IsLearner), statedBy(r, m.MemberID), removed,
		})
	}
	for _, m := range r.Membership.Members {
		status := "started"
		if m.Name == "" {
			status = "unstarted"
		}
		row(m, status, "")
	}
	for _, m := range r.Membership.Zombies {
		row(m, "zombie", "")
	}
	for _, m := range r.Membership.Removals {
		at := "unknown"
		if m.Index != nil {
			at = fmt.Sprintf("index %d", *m.Index)
		}
		row(inspect.MembershipMember{MemberID: m.MemberID, Name: m.Name, PeerURLs: m.PeerURLs}, "removed", at)
	}
	t.table([]string{"ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER", "STATED BY", "REMOVED AT"}, rows)
}

// statedBy names the places that state a member: in one line for the sources in which
// they are the same.
func statedBy(r *inspect.MembershipReport, id inspect.ID) string {
	var order []string
	by := map[string]int{}
	included := 0
	for _, s := range r.Sources {
		if !s.Included {
			continue
		}
		included++
		var places []string
		for _, st := range s.Membership.Statements {
			if slices.ContainsFunc(st.Members, func(m inspect.MembershipMember) bool { return m.MemberID == id }) {
				places = append(places, st.Place)
			}
		}
		if len(places) == 0 {
			continue
		}
		text := strings.Join(places, ", ")
		if by[text] == 0 {
			order = append(order, text)
		}
		by[text]++
	}
	for i, text := range order {
		switch n := by[text]; {
		case included > 1 && n == included:
			order[i] = "all: " + text
		case included > 1:
			order[i] = fmt.Sprintf("%d of %d: %s", n, included, text) // which, stands in the JSON
		}
	}
	return strings.Join(order, "\n")
}

// configurations says what raft has.
func (t *textWriter) configurations(m *inspect.Membership) {
	switch a, p := m.Applied, m.Proven; {
	case a == nil && p == nil:
		t.wrapHanging("raft: ", "  ", "nothing here tells what its configuration is")
	case a == nil || p == nil || a.Index == p.Index || sameIDs(a.Voters, p.Voters) && sameIDs(a.Learners, p.Learners):
		if p == nil {
			p = a
		}
		t.wrapHanging("raft: ", "  ", configuration(p))
	default:
		t.wrapHanging(fmt.Sprintf("raft as of index %d, applied: ", a.Index), "  ", configuration(a))
		t.wrapHanging(fmt.Sprintf("raft as of index %d, committed: ", p.Index), "  ", configuration(p))
	}
}

func sameIDs(a, b []inspect.ID) bool { return slices.Equal(a, b) }

func configuration(c *inspect.RaftConfiguration) string {
	s := fmt.Sprintf("%s (majority: %d) %s", countOf(int64(len(c.Voters)), "voter"), len(c.Voters)/2+1, idList(c.Voters))
	if len(c.Learners) > 0 {
		s += "; " + countOf(int64(len(c.Learners)), "learner") + " " + idList(c.Learners)
	}
	return s
}

func idList(ids []inspect.ID) string {
	var list []string
	for _, id := range ids {
		list = append(list, id.String())
	}
	return strings.Join(list, " ")
}

// identity says how the ids came about.
func (t *textWriter) identity(r *inspect.MembershipReport) {
	id := r.Membership.Identity
	if id == nil {
		return
	}
	switch {
	case id.Follows != nil && *id.Follows:
		t.wrapHanging("ids: ", "  ", "the cluster was made with "+idList(id.Initial)+", of which its id follows; "+tokenWords(id))
	case id.Follows != nil:
		t.wrapHanging("ids: ", "  ", "the cluster's id does not follow from the members with which the log begins; "+tokenWords(id))
	default:
		t.wrapHanging("ids: ", "  ", tokenWords(id))
	}
}

func tokenWords(id *inspect.Identity) string {
	if id.Token == nil {
		return "no token that was tried explains the ids (--token gives one)"
	}
	return fmt.Sprintf("ids of members follow from token %s", quoted([]byte(*id.Token)))
}

// changesShown is the number of conf changes that are listed, the newest.
const changesShown = 50

func (t *textWriter) changes(m *inspect.Membership) {
	if len(m.Changes) == 0 {
		return
	}
	t.printf("\nmembership changes in the log, and whether they are proven committed\n")
	from := max(0, len(m.Changes)-changesShown)
	var rows [][]string
	for _, c := range m.Changes[from:] {
		proven := "yes"
		if !c.Proven {
			proven = "no"
		}
		rows = append(rows, []string{fmt.Sprint(c.Index), fmt.Sprint(c.Term), Plain(c.Change), c.MemberID.String(), Plain(c.Name), plainLines(c.PeerURLs), proven})
	}
	t.table([]string{"INDEX", "TERM", "CHANGE", "ID", "NAME", "PEER ADDRS", "PROVEN"}, rows)
	if from > 0 {
		t.printf("and %s before them (-w json)\n", countOf(int64(from), "change"))
	}
}

// dissent lists what single places say that differs from the whole: mostly because
// they are older.
func (t *textWriter) dissent(r *inspect.MembershipReport) {
	var lines []string
	for _, s := range r.Sources {
		for _, st := range s.Membership.Statements {
			d := differences(&r.Membership, st)
			if len(d) == 0 || !s.Included {
				continue
			}
			at := ""
			if st.Index != nil {
				at = fmt.Sprintf(" as of index %d", *st.Index)
			}
			where := ""
			if len(r.Sources) > 1 {
				where = Plain(s.Path) + ", "
			}
			lines = append(lines, fmt.Sprintf("%s%s%s: %s", where, st.Place, at, strings.Join(d, ", ")))
		}
	}
	if len(lines) == 0 {
		return
	}
	t.printf("\nplaces that state another membership\n")
	for _, l := range lines {
		t.wrapHanging("  ", "    ", l)
	}
}

// differences says how a statement differs from the whole.
func differences(m *inspect.Membership, st inspect.Statement) (d []string) {
	find := func(list []inspect.MembershipMember, id inspect.ID) (inspect.MembershipMember, bool) {
		i := slices.IndexFunc(list, func(m inspect.MembershipMember) bool { return m.MemberID == id })
		if i < 0 {
			return inspect.MembershipMember{}, false
		}
		return list[i], true
	}
	for _, mm := range m.Members {
		s, ok := find(st.Members, mm.MemberID)
		switch {
		case !ok:
			d = append(d, "without "+mm.MemberID.String())
		case s.IsLearner && !mm.IsLearner:
			d = append(d, mm.MemberID.String()+" is a learner")
		case !s.IsLearner && mm.IsLearner:
			d = append(d, mm.MemberID.String()+" is a voter")
		}
		if ok && len(s.PeerURLs) > 0 && !slices.Equal(slices.Sorted(slices.Values(s.PeerURLs)), slices.Sorted(slices.Values(mm.PeerURLs))) {
			d = append(d, fmt.Sprintf("%s at %s", mm.MemberID, Plain(strings.Join(s.PeerURLs, " "))))
		}
	}
	for _, s := range st.Members {
		if _, ok := find(m.Members, s.MemberID); !ok {
			d = append(d, "with "+s.MemberID.String())
		}
	}
	return d
}

// otherFindings counts what is not about the membership.
func (t *textWriter) otherFindings(r *inspect.MembershipReport) {
	count := map[inspect.Severity]int64{}
	for _, f := range r.Others {
		count[f.Severity]++
	}
	var parts []string
	for _, s := range []inspect.Severity{inspect.SeverityError, inspect.SeverityWarning} {
		if n := count[s]; n > 0 {
			parts = append(parts, plural(n, s.String()))
		}
	}
	if len(parts) > 0 {
		t.printf("\n%s about other things: see etcd-forensics inspect\n", strings.Join(parts, " and "))
	}
}

package report

import (
	"fmt"
	"io"
	"strings"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/restore"
)

// Plan writes a plan for people: what is restored, what is lost, what to beware of, and
// the commands in their order.
func Plan(w io.Writer, p *restore.Plan, opts TextOptions) error {
	t := &textWriter{w: w, color: opts.Color}
	if p.Refused != nil {
		t.wrapHanging(t.paint(bold+red, "no plan")+": ", "  ", Plain(*p.Refused))
		t.wrapHanging("instead: ", "  ", Plain(p.Instead))
		t.alternatives(p)
		return t.err
	}
	t.wrapHanging(t.paint(bold, "plan: "+string(p.Way))+": ", "  ", planSentence(p))
	t.wrapHanging("why: ", "  ", Plain(p.Reason))
	for _, l := range p.Losses {
		t.wrapHanging(t.paint(yellow, "lost")+": ", "  ", lossText(l))
	}
	if len(p.Losses) == 0 {
		t.printf("lost: nothing that is known\n")
	}
	t.alternatives(p)
	t.printf("\n")
	t.planMembers(p)
	for _, warning := range p.Warnings {
		t.wrapHanging(t.paint(yellow, "beware")+": ", "  ", warningText(warning))
	}
	t.printf("\n")
	t.wrap("", "No host begins a phase before all have ended the one before it.")
	for _, phase := range planPhases(p) {
		t.printf("\n%s\n", t.paint(bold, phase.title))
		for i, item := range phase.items {
			t.planItem(i+1, item)
		}
	}
	return t.err
}

func warningText(w restore.Warning) string {
	s := Plain(w.Message)
	if w.Do != "" {
		s += "; " + Plain(w.Do)
	}
	return s
}

// planSentence says what the plan does in one breath.
func planSentence(p *restore.Plan) string {
	n := plural(int64(len(p.Members)), "member")
	where := fmt.Sprintf("on %s, with etcd %s", p.Platform, p.EtcdVersion)
	switch p.Way {
	case restore.WayRejoin:
		if len(p.Joining) == 0 {
			return fmt.Sprintf("start %s as they are %s", n, where)
		}
		return fmt.Sprintf("start %s as they are and replace %d %s", n, len(p.Joining), where)
	case restore.WayForceNewCluster:
		return fmt.Sprintf("start a copy of %s alone, and restore a snapshot of it for %s %s", Plain(p.Source), n, where)
	case restore.WayRollForward:
		if p.Base == "" {
			return fmt.Sprintf("make the database of %s anew from its log, and restore it for %s %s", Plain(p.Source), n, where)
		}
		return fmt.Sprintf("apply the log of %s to a copy of its database, and restore the result for %s %s", Plain(p.Source), n, where)
	case restore.WaySalvage:
		return fmt.Sprintf("salvage the damaged database of %s, and restore what it proves for %s %s", Plain(p.Source), n, where)
	}
	return fmt.Sprintf("restore %s for %s %s", Plain(p.File.Path), n, where)
}

func (t *textWriter) alternatives(p *restore.Plan) {
	for _, a := range p.Alternatives {
		s := Plain(a.Source) + " is not usable: " + Plain(a.Reason)
		if a.Usable {
			s = Plain(a.Source) + " would lose nothing more"
			if a.Loss.What != "" {
				s = Plain(a.Source) + " would lose " + lossText(a.Loss)
			}
		}
		t.wrapHanging("other source: ", "  ", s)
	}
}

// planMembers writes the cluster that comes out.
func (t *textWriter) planMembers(p *restore.Plan) {
	var rows [][]string
	row := func(m restore.Member, id *inspect.ID, how string) {
		text := "-"
		if id != nil {
			text = id.String()
		}
		rows = append(rows, []string{Plain(m.Name), Plain(strings.Join(m.PeerURLs, " ")), text, how})
	}
	for _, m := range p.Members {
		how := "restored"
		if p.Way == restore.WayRejoin {
			how = "started"
		}
		row(m, m.MemberID, how)
	}
	for _, m := range p.Joining {
		row(m, nil, "joins")
	}
	t.table([]string{"NAME", "PEER URLS", "ID", ""}, rows)
	if p.IDsByPlatform {
		t.printf("cluster id, member ids and token are given by %s", Plain(p.Platform))
	} else {
		t.printf("cluster id %s", p.ClusterID)
	}
	if p.Token != "" {
		t.printf(", token %s", ShellWord(p.Token))
	}
	if p.File.SHA256 != nil {
		t.printf("\nsha256 %s", *p.File.SHA256)
	}
	t.printf("\nrevision %s\n", planRevision(p))
}

// planRevision says how revisions go on.
func planRevision(p *restore.Plan) string {
	r := p.Revision
	switch {
	case !p.RevisionKnown() && r.Bump > 0:
		return fmt.Sprintf("cannot be told before the new database has been made, and is raised by %d", r.Bump)
	case !p.RevisionKnown():
		return "cannot be told before the new database has been made"
	case r.Bump > 0 && r.Restored != nil:
		return fmt.Sprintf("%d, raised to %d", r.Source, *r.Restored)
	}
	return fmt.Sprint(r.Source)
}

// planItem writes one step.
func (t *textWriter) planItem(n int, item planItem) {
	t.wrapHanging(fmt.Sprintf("%3d. ", n), "     ", Plain(item.step.Why))
	for _, l := range item.lines {
		if l.line == "" {
			continue
		}
		host := ""
		if l.host != "" {
			host = "[" + Plain(l.host) + "] "
		}
		t.printf("       %s%s\n", host, t.paint(bold, l.line))
	}
	if e := item.step.Expect; e != nil && e.Seconds > 0 {
		t.wrapHanging("     repeat: ", "       ", fmt.Sprintf("until it does, for at most %d seconds", e.Seconds))
	}
	if item.step.Check != "" {
		t.wrapHanging("     check: ", "       ", Plain(item.step.Check))
	}
	if item.step.IfNot != "" {
		t.wrapHanging("     if not: ", "       ", Plain(item.step.IfNot))
	}
}

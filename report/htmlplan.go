package report

import (
	"fmt"
	"strings"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/restore"
)

// An htmlPlan is the restore plan.
type htmlPlan struct {
	Refused, Instead string
	Sentence, Why    string
	Losses           []string
	Others           []string
	Warnings         []string
	Members          htmlTable
	Facts            []string
	Phases           []htmlPhase
}

// An htmlPhase is the steps that all hosts end before the next phase begins.
type htmlPhase struct {
	Title string
	Steps []htmlStep
}

// An htmlStep is one step, with its command on each host on which it differs.
type htmlStep struct {
	Why      string
	Commands []htmlCommand
	Notes    []string
}

// An htmlCommand is a command as a shell takes it.
type htmlCommand struct{ Host, Line string }

// viewPlan gives nil when no plan was asked for.
func viewPlan(p *restore.Plan) *htmlPlan {
	if p == nil {
		return nil
	}
	v := &htmlPlan{Others: alternativeLines(p)}
	if p.Refused != nil {
		v.Refused, v.Instead = shown(*p.Refused), shown(p.Instead)
		return v
	}
	v.Sentence, v.Why = shown(planSentence(p)), shown(p.Reason)
	for _, l := range p.Losses {
		v.Losses = append(v.Losses, cut(lossText(l), maxShown))
	}
	for _, w := range p.Warnings {
		v.Warnings = append(v.Warnings, cut(warningText(w), 2*maxShown))
	}
	v.Members, v.Facts = plannedTable(p), planFacts(p)
	for _, phase := range planPhases(p) {
		view := htmlPhase{Title: shown(strings.ToUpper(phase.title[:1]) + phase.title[1:])}
		for _, item := range phase.items {
			view.Steps = append(view.Steps, viewStep(item))
		}
		v.Phases = append(v.Phases, view)
	}
	return v
}

func alternativeLines(p *restore.Plan) (lines []string) {
	for _, a := range p.Alternatives {
		s := "is not usable: " + shown(a.Reason)
		switch {
		case a.Usable && a.Loss.What != "":
			s = "would lose " + cut(lossText(a.Loss), maxShown)
		case a.Usable:
			s = "would lose nothing more"
		}
		lines = append(lines, shown(a.Source)+" "+s)
	}
	return lines
}

// plannedTable is the cluster that comes out.
func plannedTable(p *restore.Plan) htmlTable {
	t := htmlTable{Caption: "The cluster that comes out", Header: []string{"name", "peer URLs", "id", "how"}}
	row := func(m restore.Member, how string) {
		id := "given when it joins"
		switch {
		case m.MemberID != nil:
			id = m.MemberID.String()
		case p.IDsByPlatform:
			id = "given by the platform"
		}
		t.add([]htmlCell{{Text: shown(m.Name)}, {Text: cut(plainLines(m.PeerURLs), maxShown)}, {Text: id, Class: "text"}, {Text: how}})
	}
	for _, m := range p.Members {
		how := "restored"
		if p.Way == restore.WayRejoin {
			how = "started"
		}
		row(m, how)
	}
	for _, m := range p.Joining {
		row(m, "joins")
	}
	return t
}

func planFacts(p *restore.Plan) []string {
	facts := []string{"cluster id " + p.ClusterID.String()}
	if p.IDsByPlatform {
		facts[0] = "cluster id, member ids and token are given by " + shown(p.Platform)
	}
	if p.Token != "" {
		facts = append(facts, "token "+shown(ShellWord(p.Token)))
	}
	if p.File.SHA256 != nil {
		facts = append(facts, "SHA-256 of the file "+*p.File.SHA256)
	}
	return append(facts, "revision "+planRevision(p))
}

func viewStep(item planItem) htmlStep {
	v := htmlStep{Why: shown(item.step.Why)}
	for _, l := range item.lines {
		if l.line != "" {
			v.Commands = append(v.Commands, htmlCommand{shown(l.host), l.line})
		}
	}
	if e := item.step.Expect; e != nil && e.Seconds > 0 {
		v.Notes = append(v.Notes, fmt.Sprintf("Repeat it until it does, for at most %d seconds.", e.Seconds))
	}
	if item.step.Check != "" {
		v.Notes = append(v.Notes, "Check: "+shown(item.step.Check))
	}
	if item.step.IfNot != "" {
		v.Notes = append(v.Notes, "If not: "+shown(item.step.IfNot))
	}
	return v
}

// viewStartup says what each version of etcd would do with the member directories; nil
// when there is none.
func viewStartup(c *inspect.Case) *htmlTable {
	t := &htmlTable{Caption: "Would etcd start on the directories as they are", Header: []string{"source", "etcd", "what it does"}}
	for _, m := range c.Members {
		var order []string
		versions := map[string][]int{}
		for i, s := range m.Startup {
			does := shown(startWords(s))
			if versions[does] == nil {
				order = append(order, does)
			}
			versions[does] = append(versions[does], i)
		}
		for _, does := range order {
			t.add([]htmlCell{{Text: shown(m.Source)}, {Text: cut(versionRange(m.Startup, versions[does]), maxShown), Class: "text"}, {Text: does}})
		}
	}
	if len(t.Rows) == 0 {
		return nil
	}
	t.limit(maxRows, "-w json")
	return t
}

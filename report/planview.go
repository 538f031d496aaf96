package report

import (
	"fmt"
	"slices"
	"strings"

	"etcd-forensics/inspect/restore"
)

// A planPhase is one phase of a plan for people: what all hosts do alike stands once.
type planPhase struct {
	title string
	items []planItem
}

// A planItem is one step, with its command on each host on which it differs.
type planItem struct {
	step  restore.Step
	lines []planLine
}

// A planLine is a command, on one host or on all of those of the phase ("").
type planLine struct {
	host string
	line string
}

var phaseTitles = map[restore.Phase]string{
	restore.PhaseHere:    "where the evidence is",
	restore.PhasePrepare: "prepare, on every host; nothing is changed",
	restore.PhaseStop:    "stop, on every host",
	restore.PhaseRestore: "restore, on every host",
	restore.PhaseStart:   "start, on every host",
	restore.PhaseVerify:  "verify, on every host",
	restore.PhaseResume:  "resume, on every host",
}

// planPhases brings the steps of all hosts together, phase by phase. Members that join
// do so one after another.
func planPhases(p *restore.Plan) []planPhase {
	var phases []planPhase
	add := func(title string, hosts []restore.Host) {
		if items := mergeSteps(hosts); len(items) > 0 {
			phases = append(phases, planPhase{title, items})
		}
	}
	add(phaseTitles[restore.PhaseHere], []restore.Host{{Steps: ofPhase(p.Here, restore.PhaseHere)}})
	for _, phase := range restore.Phases {
		add(string(phase)+", from where the evidence is", []restore.Host{{Steps: ofPhase(p.Here, phase)}})
	}
	for _, phase := range restore.Phases {
		if phase == restore.PhaseJoin {
			for _, h := range p.Hosts {
				add("join, on "+Plain(h.Name), []restore.Host{{Steps: ofPhase(h.Steps, phase)}})
			}
			continue
		}
		var hosts []restore.Host
		for _, h := range p.Hosts {
			if steps := ofPhase(h.Steps, phase); len(steps) > 0 {
				hosts = append(hosts, restore.Host{Name: h.Name, Steps: steps})
			}
		}
		title := phaseTitles[phase]
		if len(hosts) == 1 && len(p.Hosts) > 1 {
			title = string(phase) + ", on " + Plain(hosts[0].Name)
		}
		add(title, hosts)
	}
	return phases
}

func ofPhase(steps []restore.Step, phase restore.Phase) []restore.Step {
	return slices.DeleteFunc(slices.Clone(steps), func(s restore.Step) bool { return s.Phase != phase })
}

// mergeSteps lays the steps of several hosts over each other: those for the same reason
// are one item.
func mergeSteps(hosts []restore.Host) []planItem {
	var items []planItem
	at := 0
	for _, h := range hosts {
		at = 0
		for _, s := range h.Steps {
			i := slices.IndexFunc(items[min(at, len(items)):], func(it planItem) bool { return it.step.Why == s.Why })
			if i < 0 {
				items = slices.Insert(items, min(at, len(items)), planItem{step: s})
				i = 0
			}
			at += i
			items[at].lines = append(items[at].lines, planLine{h.Name, stepLine(s)})
			at++
		}
	}
	for i := range items {
		lines := items[i].lines
		same := len(lines) == len(hosts) && !slices.ContainsFunc(lines, func(l planLine) bool { return l.line != lines[0].line })
		if same {
			items[i].lines = []planLine{{"", lines[0].line}}
		}
	}
	return items
}

// stepLine is a step's command as a shell takes it; "" for what a person does.
func stepLine(s restore.Step) string {
	if len(s.Argv) == 0 {
		return ""
	}
	line := ShellLine(s.Argv)
	for i := len(s.Env) - 1; i >= 0; i-- {
		line = "env " + ShellWord(s.Env[i]) + " " + line
	}
	switch {
	case s.Background:
		line = fmt.Sprintf("nohup %s >>%s 2>&1 & echo $! >%s", line, ShellWord(s.LogTo), ShellWord(s.PIDFile))
	case s.StdoutTo != "":
		line += " >" + ShellWord(s.StdoutTo)
	case s.AppendTo != "":
		line += " >>" + ShellWord(s.AppendTo)
	}
	return line
}

// lossText says what is lost in one sentence.
func lossText(l restore.Loss) string {
	s := Plain(l.What)
	atLeast := ""
	if l.AtLeast {
		atLeast = "at least "
	}
	var counts []string
	if l.Entries > 0 {
		counts = append(counts, countOf(int64(l.Entries), "entry"))
	}
	if l.Revisions > 0 {
		counts = append(counts, plural(l.Revisions, "revision"))
	}
	if l.Keys > 0 {
		counts = append(counts, atLeast+plural(l.Keys, "key"))
	}
	if len(counts) > 0 {
		s += ": " + strings.Join(counts, ", ")
	}
	for i, p := range l.Prefixes[:min(len(l.Prefixes), shownPrefixes)] {
		name := quoted(p.Prefix)
		if p.Resource != "" {
			name = Plain(p.Resource)
		}
		if i == 0 {
			s += " ("
		} else {
			s += ", "
		}
		s += fmt.Sprintf("%s %d", name, p.Keys)
	}
	if len(l.Prefixes) > shownPrefixes {
		s += ", ..."
	}
	if len(l.Prefixes) > 0 {
		s += ")"
	}
	return s
}

// shownPrefixes bounds the prefixes that one sentence names.
const shownPrefixes = 6

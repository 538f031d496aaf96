package report

import (
	"fmt"
	"io"
	"strings"

	"etcd-forensics/inspect/restore"
)

// PlanMarkdown writes a plan as a runbook.
func PlanMarkdown(w io.Writer, p *restore.Plan) error {
	m := &textWriter{w: w}
	if p.Refused != nil {
		m.printf("# No plan\n\n%s\n\nInstead: %s\n", markdown(*p.Refused), markdown(p.Instead))
		return m.err
	}
	m.printf("# Restore runbook\n\n%s.\n\n", markdown(planSentence(p)))
	m.printf("- Why: %s\n", markdown(p.Reason))
	if p.IDsByPlatform {
		m.printf("- Cluster id, member ids and token are given by %s", markdown(p.Platform))
	} else {
		m.printf("- Cluster id %s", p.ClusterID)
	}
	if p.Token != "" {
		m.printf(", token %s", code(p.Token))
	}
	m.printf("\n")
	if p.File.SHA256 != nil {
		m.printf("- SHA-256 of the file: %s\n", code(*p.File.SHA256))
	}
	m.printf("- Revision %s\n\n| name | peer URLs | id |\n| --- | --- | --- |\n", planRevision(p))
	for _, list := range [][]restore.Member{p.Members, p.Joining} {
		for _, member := range list {
			id := "given when it joins"
			if p.IDsByPlatform {
				id = "given by the platform"
			}
			if member.MemberID != nil {
				id = member.MemberID.String()
			}
			m.printf("| %s | %s | %s |\n", markdown(member.Name), markdown(strings.Join(member.PeerURLs, " ")), id)
		}
	}
	m.list("What is lost", len(p.Losses), func(i int) string { return markdown(lossText(p.Losses[i])) })
	m.list("What to beware of", len(p.Warnings), func(i int) string { return markdown(warningText(p.Warnings[i])) })
	m.printf("\nNo host begins a phase before all have ended the one before it.\n")
	for _, phase := range planPhases(p) {
		m.printf("\n## %s\n", markdown(strings.ToUpper(phase.title[:1])+phase.title[1:]))
		for i, item := range phase.items {
			m.markdownItem(i+1, item)
		}
	}
	return m.err
}

// list writes a section of bullets, nothing when there are none.
func (t *textWriter) list(title string, n int, line func(int) string) {
	if n == 0 {
		return
	}
	t.printf("\n## %s\n\n", title)
	for i := range n {
		t.printf("- %s\n", line(i))
	}
}

func (t *textWriter) markdownItem(n int, item planItem) {
	t.printf("\n%d. %s\n", n, markdown(item.step.Why))
	if len(item.lines) > 0 && item.lines[0].line != "" {
		t.printf("\n   ```sh\n")
		for _, l := range item.lines {
			if l.host != "" {
				t.printf("   # %s\n", Plain(l.host))
			}
			t.printf("   %s\n", l.line)
		}
		t.printf("   ```\n\n")
	}
	if e := item.step.Expect; e != nil && e.Seconds > 0 {
		t.printf("   - Repeat it until it does, for at most %d seconds.\n", e.Seconds)
	}
	if item.step.Check != "" {
		t.printf("   - Check: %s\n", markdown(item.step.Check))
	}
	if item.step.IfNot != "" {
		t.printf("   - If not: %s\n", markdown(item.step.IfNot))
	}
}

// markdown escapes what Markdown or HTML would take for more than text.
func markdown(s string) string {
	s = Plain(s)
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune("\\`*_[]<>#|&!~", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// code is text in the typeface of code, whatever backquotes are in it.
func code(s string) string {
	s = Plain(s)
	fence := "`"
	for strings.Contains(s, fence) {
		fence += "`"
	}
	if len(fence) > 1 {
		return fmt.Sprintf("%s %s %s", fence, s, fence)
	}
	return fence + s + fence
}

package report

import (
	"fmt"
	"io"
	"time"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/backup"
)

// Verify writes what became of backups for people: each failed one with what
// failed and what to do, each other one in a line.
func Verify(w io.Writer, r *backup.Report, opts TextOptions) error {
	t := &textWriter{w: w, color: opts.Color}
	if r.Interrupted {
		t.wrapHanging("interrupted: ", "  ", "what was not examined until then is neither good nor bad")
	}
	t.printf("%s\n\n", t.verifyVerdict(r))
	for i := range r.Backups {
		t.backup(&r.Backups[i])
	}
	for _, p := range r.PassedOver {
		t.printf("passed over %s: %s\n", Plain(p.Path), p.Reason)
	}
	return t.err
}

func (t *textWriter) verifyVerdict(r *backup.Report) string {
	failed, open := 0, 0
	for i := range r.Backups {
		switch outcomeOf(&r.Backups[i]) {
		case backup.Failed:
			failed++
		case backup.Skipped:
			open++
		}
	}
	n := len(r.Backups)
	switch {
	case n == 0:
		return t.paint(red, "no backup is there")
	case failed > 0 && n == 1:
		return t.paint(red, "the backup failed")
	case failed > 0:
		return t.paint(red, fmt.Sprintf("%d of %s failed", failed, plural(int64(n), "backup")))
	case open > 0 || r.Interrupted:
		return t.paint(yellow, fmt.Sprintf("%d of %s could not be examined to the end", max(open, 1), plural(int64(n), "backup")))
	case n == 1:
		return t.paint(green, "the backup is good")
	}
	return t.paint(green, fmt.Sprintf("all %d backups are good", n))
}

// outcomeOf is the worst outcome of a backup's checks.
func outcomeOf(b *backup.Backup) backup.Outcome {
	worst := backup.Passed
	for _, c := range b.Checks {
		if c.Outcome == backup.Failed {
			return backup.Failed
		}
		if c.Outcome == backup.Skipped {
			worst = backup.Skipped
		}
	}
	return worst
}

var outcomeWords = map[backup.Outcome]string{backup.Passed: "ok    ", backup.Failed: "FAILED", backup.Skipped: "open  "}

func (t *textWriter) backup(b *backup.Backup) {
	outcome := outcomeOf(b)
	colour := map[backup.Outcome]string{backup.Passed: green, backup.Failed: red, backup.Skipped: yellow}[outcome]
	t.printf("%s %s\n", t.paint(colour, outcomeWords[outcome]), Plain(b.Path))
	if b.Counted() {
		t.printf("       revision %d, %s", b.Revision, plural(b.Keys, "key"))
		if b.Time != nil {
			t.printf(", of %s", b.Time.UTC.Format(time.RFC3339))
		}
		t.printf("\n")
	}
	for _, c := range b.Checks {
		if c.Outcome == backup.Passed && len(c.Codes) == 0 {
			continue
		}
		t.wrapHanging("       "+Plain(c.Name)+": ", "         ", Plain(c.Message))
		for _, code := range c.Codes {
			if e, ok := inspect.Explain(code); ok {
				t.wrapHanging("         "+string(code)+": ", "           ", e.Do)
			}
		}
	}
}

// VerifyJSON writes what became of backups as JSON.
func VerifyJSON(w io.Writer, r *backup.Report) error {
	type backupView struct {
		backup.Backup
		Revision *int64        `json:"revision"`
		Keys     *int64        `json:"keys"`
		Findings []findingView `json:"findings"`
	}
	view := struct {
		*backup.Report
		Backups []backupView `json:"backups"`
	}{Report: r, Backups: make([]backupView, len(r.Backups))}
	for i, b := range r.Backups {
		uncounted := !b.Counted()
		view.Backups[i] = backupView{b, unlessPartial(&b.Revision, uncounted), unlessPartial(&b.Keys, uncounted), viewFindings(b.Findings)}
	}
	return Value(w, view)
}

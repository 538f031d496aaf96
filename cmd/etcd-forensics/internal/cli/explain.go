package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/symptom"
	"etcd-forensics/report"
)

func (p *program) explain() *cobra.Command {
	var log string
	cmd := &cobra.Command{
		Use:   "explain CODE-or-LINE [PATH...]",
		Short: "Say what a finding code or a line of etcd's log means, what evidence shows it and what to do",
		Long: `explain takes a code of a finding, or a line of the log of etcd, etcdctl or
etcdutl as it was pasted: text or JSON, with what docker, kubectl or journald put
before it. --log looks through a whole log and counts what it recognises.

With PATHs (data directories, databases, snapshots, archives) these are inspected,
and each answer says whether the evidence confirms it.

Exit codes:
  0  explained
  1  nothing was recognised
  2  the arguments made no sense, or nothing at the paths could be read
  3  log or evidence could not be examined to the end; what was seen is reported`,
		Example: "  etcd-forensics explain backend-page-shared\n" +
			"  etcd-forensics explain 'panic: freepages: failed to get all reachable pages (page 86: multiple references)' m1\n" +
			"  journalctl -u etcd | etcd-forensics explain --log - /var/lib/etcd.copy",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 && log == "" {
				return hinted{errors.New("explain takes one CODE or LINE, and then PATHs"), "the codes stand in the report of inspect, as backend-page-shared; quote a line of a log as one argument"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("log") {
				return p.explainLog(cmd.Context(), log, args)
			}
			return p.explainOne(cmd.Context(), args[0], args[1:])
		},
		ValidArgsFunction: completeCodes,
	}
	cmd.Flags().StringVar(&log, "log", "", "explain what stands in this log; - reads standard input")
	return cmd
}

// completeCodes offers the codes for the first argument, and files after it.
func completeCodes(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var codes []string
	for _, c := range inspect.Codes() {
		codes = append(codes, string(c))
	}
	return codes, cobra.ShellCompDirectiveNoFileComp
}

// explainOne explains a code, a symptom by its name, or a line of a log.
func (p *program) explainOne(ctx context.Context, text string, paths []string) error {
	code := inspect.Code(strings.ToLower(strings.TrimSpace(text)))
	if e, ok := inspect.Explain(code); ok {
		return p.explainWith(ctx, paths, func(w io.Writer, c *inspect.Case) error { return p.writeCode(w, e, c) })
	}
	m, ok := recognise(text)
	switch {
	case ok:
		return p.explainWith(ctx, paths, func(w io.Writer, c *inspect.Case) error { return p.writeMatch(w, m, c) })
	case strings.ContainsAny(strings.TrimSpace(text), " \t\n"):
		p.exit = ExitFindings
		return hinted{errors.New("nothing that etcd says when it fails is recognised in this line"),
			"give the line as it stands in the log, with the message that follows its time; --log FILE looks through the whole log, and the line that counts is often above the last one"}
	}
	return hinted{fmt.Errorf("no finding has the code %q", text), nearest(string(code))}
}

// recognise finds a symptom in a line, or by its name.
func recognise(text string) (symptom.Match, bool) {
	if s, ok := symptom.Lookup(strings.ToLower(strings.TrimSpace(text))); ok {
		return symptom.Match{Symptom: s}, true
	}
	return symptom.Recognise(text)
}

func (p *program) writeCode(w io.Writer, e inspect.Explanation, c *inspect.Case) error {
	json := p.writeOut == "json"
	switch {
	case c == nil && json:
		return report.Value(w, e)
	case c == nil:
		return report.Explanation(w, e)
	case json:
		return report.ExplanationConfirmedJSON(w, e, symptom.ConfirmCode(e.Code, c))
	}
	return report.ExplanationConfirmed(w, e, symptom.ConfirmCode(e.Code, c))
}

func (p *program) writeMatch(w io.Writer, m symptom.Match, c *inspect.Case) error {
	var confirmation *symptom.Confirmation
	if c != nil {
		found := symptom.Confirm(m, c)
		confirmation = &found
	}
	if p.writeOut == "json" {
		return report.SymptomJSON(w, m, confirmation)
	}
	return report.Symptom(w, m, confirmation)
}

// explainLog explains what stands in a log.
func (p *program) explainLog(ctx context.Context, name string, paths []string) error {
	r, err := p.openLog(name)
	if err != nil {
		return err
	}
	defer r.Close()
	log, err := symptom.ReadLog(ctx, r)
	if err != nil {
		p.exit = ExitPartial
		if len(log.Seen) == 0 {
			return stopped(err)
		}
		p.complain(interrupted(err))
	}
	if len(log.Seen) == 0 {
		p.exit = ExitFindings
		return hinted{fmt.Errorf("nothing that etcd says when it fails is recognised in the %d lines of %s", log.Lines, report.Plain(name)),
			"see that it is the log of etcd itself, of the time before it failed, and not compressed"}
	}
	return p.explainWith(ctx, paths, func(w io.Writer, c *inspect.Case) error { return p.writeLog(w, name, log, c) })
}

// openLog opens a log, which is standard input for -.
func (p *program) openLog(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(p.streams.In), nil
	}
	f, err := os.Open(name)
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, fmt.Errorf("--log %s: %w", report.Plain(name), pathErr.Err)
	}
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		f.Close()
		return nil, hinted{fmt.Errorf("--log %s is a folder", report.Plain(name)), "name one log; `cat` joins several: cat FILES | etcd-forensics explain --log -"}
	}
	return f, nil
}

func (p *program) writeLog(w io.Writer, name string, log *symptom.Log, c *inspect.Case) error {
	var confirmations []symptom.Confirmation
	if c != nil {
		for _, s := range log.Seen {
			confirmations = append(confirmations, symptom.ConfirmSeen(s, c))
		}
	}
	if p.writeOut == "json" {
		return report.LogSymptomsJSON(w, name, log, confirmations)
	}
	return report.LogSymptoms(w, name, log, confirmations)
}

// explainWith inspects the paths, if there are any, and writes what is said of them;
// the case is nil without paths.
func (p *program) explainWith(ctx context.Context, paths []string, write func(io.Writer, *inspect.Case) error) error {
	if err := p.checkOutput(paths); err != nil {
		return err
	}
	if len(paths) == 0 {
		return p.answer(func(w io.Writer) error { return write(w, nil) })
	}
	bar := p.newBar()
	sources, problems, err := p.open(ctx, paths, bar.add)
	if err != nil {
		return err
	}
	defer closeAll(sources)
	bar.start(sources)
	c, err := inspect.Inspect(ctx, sources, inspect.Options{Digest: !p.noDigest})
	bar.finish()
	c.AddProblems(problems)
	if len(problems) > 0 || c.Interrupted != nil || c.Unfinished() {
		p.exit = ExitPartial
	}
	return cmp.Or(p.answer(func(w io.Writer) error { return write(w, c) }), interrupted(err))
}

// nearest names the codes that share the most with a code that does not exist.
func nearest(code string) string {
	parts := strings.Split(code, "-")
	best, most := []string{}, 0
	for _, c := range inspect.Codes() {
		n := 0
		for _, part := range strings.Split(string(c), "-") {
			for _, given := range parts {
				if part == given {
					n++
				}
			}
		}
		switch {
		case n > most:
			best, most = []string{string(c)}, n
		case n == most && n > 0:
			best = append(best, string(c))
		}
	}
	if most == 0 {
		for _, c := range inspect.Codes() {
			best = append(best, string(c))
		}
		return "the codes are " + strings.Join(best, ", ")
	}
	return "similar: " + strings.Join(best, ", ")
}

package cli

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"etcd-forensics/inspect"
	"etcd-forensics/report"
)

func (p *program) inspect() *cobra.Command {
	return &cobra.Command{
		Use:   "inspect PATH...",
		Short: "Say what copied etcd files are, whether they are sound, and what they hold",
		Long: `inspect examines snapshots, databases and data directories: pages, records,
hashes, membership. The first line is the verdict:

  sound         no error, and everything was examined
  degraded      errors, and there is a source to restore from
  unusable      errors, and there is none
  inconclusive  not everything was examined, and what was is sound

PATH is a snapshot, a database (member/snap/db), a data directory or a member
directory, or an archive that holds one (.gz, .zst, .xz, .zip, .tar and their
combinations); one that holds several of these gives several sources. Archives
are unpacked to private temporary files; see --scratch.

` + exitHelp,
		Example: "  etcd-forensics inspect backup.db\n  etcd-forensics inspect m1 m2 m3 -w json",
		Args:    needsPath(true),
		RunE:    p.runInspect,
	}
}

func (p *program) runInspect(cmd *cobra.Command, paths []string) error {
	return p.examine(cmd, paths, examination{least: 1}, func(w io.Writer, c *inspect.Case) error {
		if p.writeOut == "json" {
			return report.JSON(w, c)
		}
		return report.Text(w, c, report.TextOptions{Color: p.color()})
	})
}

// An examination says what a command asks of inspect.
type examination struct {
	least  int      // sources that there must be
	tokens []string // tried on the ids of members
}

// examine inspects the paths and writes what render makes of the case.
func (p *program) examine(cmd *cobra.Command, paths []string, asked examination, render func(io.Writer, *inspect.Case) error) error {
	if err := p.checkOutput(paths); err != nil {
		return err
	}
	bar := p.newBar()
	sources, problems, err := p.open(cmd.Context(), paths, bar.add)
	if err != nil {
		return err
	}
	defer closeAll(sources)
	if len(sources) < asked.least {
		return hinted{errors.New("there is one source only; nothing to compare it with"), "give two or more members or snapshots"}
	}
	bar.start(sources)
	c, err := inspect.Inspect(cmd.Context(), sources, inspect.Options{Digest: !p.noDigest, Tokens: asked.tokens})
	bar.finish()
	c.AddProblems(problems)
	werr := p.answer(func(w io.Writer) error { return render(w, c) })
	if werr != nil {
		p.exit = ExitPartial
		return werr
	}
	p.exit = exitCode(c, problems, inspect.Severity(p.failOn))
	if err != nil {
		p.exit = ExitPartial
		return interrupted(err)
	}
	return nil
}

// interrupted says in a user's words that the examination was stopped.
func interrupted(err error) error {
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted; the report holds what was seen until then")
	}
	return err
}

// exitCode follows the table of exit codes.
func exitCode(c *inspect.Case, problems []error, failOn inspect.Severity) int {
	switch {
	case len(problems) > 0 || c.Interrupted || c.Unfinished():
		return ExitPartial
	case c.Highest() >= failOn:
		return ExitFindings
	}
	return ExitSound
}

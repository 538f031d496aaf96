package cli

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/recover"
	"etcd-forensics/report"
	"etcd-forensics/walreader/replay"
)

func (p *program) inspect() *cobra.Command {
	var asked examination
	cmd := &cobra.Command{
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

--prove applies the log of each member, where it reaches back to the first entry or
to an older database among the PATHs, with etcd's own applier to a copy in the
scratch folder, and compares the result with the member's database record by record.

` + exitHelp,
		Example: "  etcd-forensics inspect backup.db\n  etcd-forensics inspect m1 m2 m3 -w json",
		Args:    needsPath(true),
		RunE:    func(cmd *cobra.Command, paths []string) error { return p.runInspect(cmd, paths, asked) },
	}
	asked.addProve(cmd)
	return cmd
}

func (p *program) runInspect(cmd *cobra.Command, paths []string, asked examination) error {
	asked.least = 1
	return p.examine(cmd, paths, asked, func(w io.Writer, c *inspect.Case) error {
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
	prove  bool     // databases, by applying their logs
}

func (e *examination) addProve(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&e.prove, "prove", false, "apply each member's log anew in the scratch folder and compare with its database (slow, complete)")
}

// prover gives what proves databases, nil when that was not asked for.
func (p *program) prover(asked examination) (inspect.Prover, error) {
	if !asked.prove {
		return nil, nil
	}
	self, err := os.Executable()
	return recover.Prover(recover.RollOptions{Scratch: p.scratch, Self: []string{self, replay.ChildCommand}}), err
}

// examine inspects the paths and writes what render makes of the case.
func (p *program) examine(cmd *cobra.Command, paths []string, asked examination, render func(io.Writer, *inspect.Case) error) error {
	if err := p.checkOutput(paths); err != nil {
		return err
	}
	prove, err := p.prover(asked)
	if err != nil {
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
	c, err := inspect.Inspect(cmd.Context(), sources, inspect.Options{Digest: !p.noDigest, Tokens: asked.tokens, Prove: prove})
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

package cli

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
	"etcd-forensics/inspect/recover"
	"etcd-forensics/inspect/restore"
	"etcd-forensics/inspect/source"
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

-w html writes one page that needs nothing from elsewhere: the same, with pictures of
keyspace, pages and logs, and the restore plan. It reads each database once more.

PATH is a snapshot, a database (member/snap/db), a data directory or a member
directory, or an archive that holds one (.gz, .zst, .xz, .zip, .tar and their
combinations); one that holds several of these gives several sources. Archives
are unpacked to private temporary files; see --scratch.

--prove applies the log of each member, where it reaches back to the first entry or
to an older database among the PATHs, with etcd's own applier to a copy in the
scratch folder, and compares the result with the member's database record by record.

` + exitHelp,
		Example:     "  etcd-forensics inspect backup.db\n  etcd-forensics inspect m1 m2 m3 -w json\n  etcd-forensics inspect m1 m2 m3 -w html -o report.html",
		Args:        needsPath(true),
		Annotations: map[string]string{formatsOf: "text json html"},
		RunE:        func(cmd *cobra.Command, paths []string) error { return p.runInspect(cmd, paths, asked) },
	}
	asked.addProve(cmd)
	return cmd
}

func (p *program) runInspect(cmd *cobra.Command, paths []string, asked examination) error {
	asked.least = 1
	var looks []report.Look
	if p.writeOut == "html" {
		asked.look = func(ctx context.Context, sources []*source.Source, c *inspect.Case) (err error) {
			looks, err = lookAt(ctx, sources, c)
			return err
		}
	}
	return p.examine(cmd, paths, asked, func(w io.Writer, c *inspect.Case) error {
		switch p.writeOut {
		case "json":
			return report.JSON(w, c)
		case "html":
			return report.HTML(w, report.Page{Case: c, Plan: restore.New(c, restore.Options{}), Looks: looks})
		}
		return report.Text(w, c, report.TextOptions{Color: p.color()})
	})
}

// An examination says what a command asks of inspect.
type examination struct {
	least  int      // sources that there must be
	tokens []string // tried on the ids of members
	prove  bool     // databases, by applying their logs
	// look is done with the sources once they were examined; nil for nothing more.
	look func(context.Context, []*source.Source, *inspect.Case) error
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
	if err == nil && asked.look != nil {
		bar.more(sources)
		err = asked.look(cmd.Context(), sources, c)
		if err != nil {
			c.Interrupt(err)
		}
	}
	bar.finish()
	c.AddProblems(problems)
	if err := p.answer(func(w io.Writer) error { return render(w, c) }); err != nil {
		return err
	}
	p.exit = exitCode(c, problems, inspect.Severity(p.failOn))
	if err != nil {
		p.exit = ExitPartial
		return interrupted(err)
	}
	return nil
}

// lookAt reads the pages of each database, and counts the keys where the case does not
// say what they are. What cannot be read the case has told of. Only the end of ctx is an
// error.
func lookAt(ctx context.Context, sources []*source.Source, c *inspect.Case) ([]report.Look, error) {
	var looks []report.Look
	for i, s := range sources {
		m := c.Members[i]
		if m.Backend == nil {
			continue
		}
		look := report.Look{Source: s.Path}
		pages, err := query.OpenPages(ctx, s, -1)
		if err == nil {
			look.Pages = pages.Map()
			look.Pages.Runs = nil // it keeps every page in memory
		} else {
			look.NoPages = err.Error()
		}
		if m.Backend.Kubernetes == nil && ctx.Err() == nil {
			look.Keys, _ = query.CountKeys(ctx, s, query.KeysOptions{Depth: 2, Delimiter: "/", Kubernetes: query.KubernetesOff})
		}
		if ctx.Err() != nil {
			return looks, ctx.Err()
		}
		looks = append(looks, look)
	}
	return looks, nil
}

// exitCode follows the table of exit codes.
func exitCode(c *inspect.Case, problems []error, failOn inspect.Severity) int {
	switch {
	case len(problems) > 0 || c.Interrupted != nil || c.Unfinished():
		return ExitPartial
	case c.Highest() >= failOn:
		return ExitFindings
	}
	return ExitSound
}

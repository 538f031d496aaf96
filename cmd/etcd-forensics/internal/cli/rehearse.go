package cli

import (
	"cmp"
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/rehearse"
	"etcd-forensics/inspect/restore"
	"etcd-forensics/report"
)

func (p *program) rehearse() *cobra.Command {
	var flags planFlags
	var options rehearse.Options
	cmd := &cobra.Command{
		Use:   "rehearse PATH...",
		Short: "Carry the restore plan out in a scratch folder, and prove what comes up",
		Long: `rehearse makes the plan as plan does, restores every member of it in a private
folder (see --scratch), starts the whole cluster on loopback, and compares what
comes up with the evidence: ids, revision, hashKV, counts by prefix, every key. It
writes one key and reads it from every member. Nothing beyond this machine is
asked, and the folder and all processes are gone at the end.

The etcd that is built in is 3.7. Name the binaries of the version that will run
to rehearse with them; for etcd before 3.5, etcdctl is what restores.

What needs a password, or alarms to be disarmed, is not tried, and listed so.

Exit codes:
  0  proven
  1  not proven, or refused
  2  the arguments made no sense, or nothing of etcd's could be read
  3  the rehearsal could not be finished: interrupted, no space`,
		Example:     "  etcd-forensics rehearse backup.db\n  etcd-forensics rehearse m1 m2 m3 --scratch /mnt/large -w junit -o rehearsal.xml\n  etcd-forensics rehearse backup.db --etcd-binary ./etcd --etcdutl-binary ./etcdutl",
		Args:        needsPath(true),
		Annotations: map[string]string{formatsOf: "text json junit"},
		RunE: func(cmd *cobra.Command, paths []string) error {
			wanted, err := flags.parse()
			if err != nil {
				return err
			}
			return p.runRehearse(cmd.Context(), paths, wanted, options)
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&options.EtcdBinary, "etcd-binary", "", "the etcd that will run (default: the one that is built in)")
	cmd.Flags().StringVar(&options.EtcdutlBinary, "etcdutl-binary", "", "the etcdutl that will restore, or the etcdctl of 3.4 (default: the one that is built in)")
	return cmd
}

// rehearseChild is what rehearse runs the program as.
func (p *program) rehearseChild() *cobra.Command {
	return &cobra.Command{
		Use: rehearse.ChildCommand, Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			p.exit = rehearse.Child(p.streams.In, p.streams.Out, p.streams.Err)
			return nil
		},
	}
}

func (p *program) runRehearse(ctx context.Context, paths []string, wanted restore.Options, o rehearse.Options) error {
	if err := p.checkOutput(paths); err != nil {
		return err
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
	if err != nil {
		p.exit = ExitPartial
		return nothingRehearsed(err)
	}
	o.Scratch = p.scratch
	if p.shows() {
		o.Log = p.streams.Err
	}
	r, err := rehearse.Run(ctx, c, restore.New(c, wanted), sources, o)
	p.exit = rehearseExit(r.Outcome)
	if len(problems) > 0 || c.Unfinished() {
		p.exit = ExitPartial
	}
	return cmp.Or(p.answer(func(w io.Writer) error { return p.writeReceipt(w, r) }), interrupted(err))
}

// nothingRehearsed says that the evidence was not examined to its end.
func nothingRehearsed(err error) error {
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted before anything was rehearsed")
	}
	return err
}

func rehearseExit(o rehearse.Outcome) int {
	switch o {
	case rehearse.Proven:
		return ExitSound
	case rehearse.Unfinished:
		return ExitPartial
	}
	return ExitFindings
}

func (p *program) writeReceipt(w io.Writer, r *rehearse.Receipt) error {
	switch p.writeOut {
	case "json":
		return report.RehearseJSON(w, r)
	case "junit":
		return report.RehearseJUnit(w, r)
	}
	return report.Rehearse(w, r, report.TextOptions{Color: p.color()})
}

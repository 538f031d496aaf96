package cli

import (
	"cmp"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"etcd-forensics/inspect/recover"
	"etcd-forensics/inspect/source"
	"etcd-forensics/report"
)

func (p *program) salvage() *cobra.Command {
	var with []string
	var opts recover.Options
	cmd := &cobra.Command{
		Use:   "salvage FILE -o OUT",
		Short: "Write a clean database of what a damaged one still proves, and say what is lost",
		Long: `salvage takes every record that the pages of a database prove, by its tree where that
holds and from single pages where it does not, and writes them to a new database.
What cannot be told from what compaction deleted is left out, and listed; so is what is
taken only because nothing speaks against it, which --strict leaves out.

--with names snapshots, databases or data directories of the same cluster, from which
records are taken that are lost here. They must agree with what is left.

The result is for a restore: with --snapshot it ends with its hash, as etcdutl wants it
(otherwise: etcdutl snapshot restore --skip-hash-check).

Exit codes:
  0  the new file is there; what is lost is listed
  1  refused, and why; nothing was written
  2  the arguments made no sense, or nothing of etcd's could be read
  3  not finished; nothing was written`,
		Example: "  etcd-forensics salvage m1 -o salvaged.db\n  etcd-forensics salvage broken.db -o salvaged.db --snapshot --with m2 --with m3",
		Args:    needsPath(false),
		RunE: func(cmd *cobra.Command, paths []string) error {
			if p.output == "" {
				return hinted{errors.New("salvage needs -o OUT"), "name the new database, as in etcd-forensics salvage " + paths[0] + " -o salvaged.db"}
			}
			return p.runSalvage(cmd, paths[0], with, opts)
		},
	}
	cmd.Flags().StringArrayVar(&with, "with", nil, "another database or member of the same cluster to take lost records from; can be given again")
	cmd.Flags().BoolVar(&opts.Snapshot, "snapshot", false, "end the new file with its SHA-256, as `etcdctl snapshot save` does")
	cmd.Flags().BoolVar(&opts.Strict, "strict", false, "leave out records that nothing speaks against and nothing proves")
	return cmd
}

func (p *program) runSalvage(cmd *cobra.Command, path string, with []string, opts recover.Options) error {
	evidence := append([]string{path}, with...)
	if err := p.checkOutput(evidence); err != nil {
		return err
	}
	if err := p.checkScratch(evidence); err != nil {
		return err
	}
	bar := p.newBar()
	src, _, err := p.openOne(cmd.Context(), path, bar.add)
	if err != nil {
		return err
	}
	defer src.Close()
	opts.Out = p.output
	for _, w := range with {
		s, _, err := p.openOne(cmd.Context(), w, bar.add)
		if err != nil {
			return err
		}
		defer s.Close()
		opts.With = append(opts.With, s)
	}
	bar.start(append([]*source.Source{src}, opts.With...))
	r, err := recover.Salvage(cmd.Context(), src, opts)
	bar.finish()
	if err != nil {
		p.exit = ExitPartial
		if _, refused := errors.AsType[recover.Refusal](err); refused {
			p.exit = ExitFindings
		}
		return unwritten(cmp.Or(cmd.Context().Err(), err))
	}
	return p.say(func(w io.Writer) error {
		if p.writeOut == "json" {
			return report.SalvageJSON(w, r)
		}
		return report.Salvage(w, r)
	})
}

package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"etcd-forensics/inspect"
	"etcd-forensics/report"
)

func (p *program) hashkv() *cobra.Command {
	var rev int64
	cmd := &cobra.Command{
		Use:   "hashkv PATH",
		Short: "Compute the hash that `etcdctl endpoint hashkv` gives, without touching the file",
		Long: `hashkv computes the hash of all records of the key space up to a revision, as a
server that had just started on the file would. Members and snapshots of one
cluster agree when revision and compact revision are the same.`,
		Example: "  etcd-forensics hashkv backup.db\n  etcd-forensics hashkv m1 --rev 4200 -w json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, paths []string) error {
			if rev < 0 {
				return errors.New("--rev must not be negative")
			}
			return p.runHashKV(cmd, paths, rev)
		},
	}
	cmd.Flags().Int64Var(&rev, "rev", 0, "revision to hash at; 0 is the newest")
	return cmd
}

func (p *program) runHashKV(cmd *cobra.Command, paths []string, rev int64) error {
	bar := p.newBar()
	sources, _, err := p.open(paths, bar.add)
	if err != nil {
		return err
	}
	defer closeAll(sources)
	if len(sources) > 1 {
		return fmt.Errorf("%s holds %d sources; name one of them", paths[0], len(sources))
	}
	if err := p.checkOutput(sources); err != nil {
		return err
	}
	bar.start(sources)
	h, err := inspect.HashKVAt(cmd.Context(), sources[0], rev)
	bar.finish()
	if err != nil {
		p.exit = ExitFindings
		if cmd.Context().Err() != nil {
			p.exit = ExitPartial
		}
		return err
	}
	return p.answer(sources, func(w io.Writer) error {
		if p.writeOut == "json" {
			return report.Value(w, h)
		}
		return report.Table(w, []string{"HASH", "HASH REVISION", "COMPACT REVISION"},
			[][]string{{fmt.Sprint(h.Hash), fmt.Sprint(h.Revision), fmt.Sprint(h.CompactRevision)}})
	})
}

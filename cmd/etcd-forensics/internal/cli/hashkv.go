package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/spf13/cobra"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
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
		Args:    needsPath(false),
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
	if err := p.checkOutput(paths); err != nil {
		return err
	}
	bar := p.newBar()
	src, problems, err := p.openOne(cmd.Context(), paths[0], bar.add)
	if err != nil {
		return err
	}
	defer src.Close()
	if len(problems) > 0 {
		p.exit = ExitPartial
	}
	bar.start([]*source.Source{src})
	h, err := inspect.HashKVAt(cmd.Context(), src, rev)
	bar.finish()
	if cut, ok := errors.AsType[*inspect.UnhashedError](err); ok && cut.Reach.Pages > 0 {
		return p.answerUntil(err, func(w io.Writer) error {
			if p.writeOut == "json" {
				return report.UnhashedJSON(w, cut)
			}
			return report.UnhashedText(w, cut)
		})
	}
	if err != nil {
		p.exit = ExitFindings
		if unread(cmd.Context(), src, err) {
			p.exit = ExitPartial
		}
		return stopped(err)
	}
	return p.answer(func(w io.Writer) error {
		if p.writeOut == "json" {
			return report.Value(w, h)
		}
		return report.Table(w, []string{"HASH", "HASH REVISION", "COMPACT REVISION"},
			[][]string{{fmt.Sprint(h.Hash), fmt.Sprint(h.Revision), fmt.Sprint(h.CompactRevision)}})
	})
}

// unread says whether there is no hash because the file could not be read to the
// end at one moment, rather than because of what is in it.
func unread(ctx context.Context, s *source.Source, err error) bool {
	_, failed := errors.AsType[*fs.PathError](err)
	return failed || ctx.Err() != nil || slices.ContainsFunc(s.Files(), func(f *source.File) bool { return f.Changed() != "" })
}

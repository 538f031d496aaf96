package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"etcd-forensics/inspect/query"
	"etcd-forensics/inspect/source"
	"etcd-forensics/report"
)

type diffFlags struct {
	oldRev, newRev int64
	top            int
}

func (p *program) diff() *cobra.Command {
	var flags diffFlags
	cmd := &cobra.Command{
		Use:   "diff OLD [NEW]",
		Short: "Show which keys were added, removed, changed or re-created between two states",
		Long: `diff compares the keys of two snapshots or members, or of one at two revisions, by prefix
(by resource, where keys are Kubernetes' own) and key by key. A key whose create revision
differs was deleted and created anew; one that differs only in its mod revision was
rewritten with the value that it had. Values are compared and never shown.

The exit code says whether both were examined, not whether they differ.

` + exitHelp,
		Example: "  etcd-forensics diff monday.db tuesday.db\n  etcd-forensics diff m1 --old-rev 4000 --new-rev 4711\n  etcd-forensics diff monday.db m1 -w json | jq -r '.keys[] | select(.change == \"removed\").key'",
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 || len(args) > 2:
				return hinted{fmt.Errorf("diff takes two PATHs, not %d", len(args)), "diff monday.db tuesday.db, or diff m1 --old-rev 4000"}
			case len(args) == 1 && flags.oldRev == 0 && flags.newRev == 0:
				return hinted{errors.New("one PATH at its newest revision is the same as itself"), "name a second PATH, or --old-rev"}
			case flags.oldRev < 0 || flags.newRev < 0 || flags.top < 0:
				return errors.New("--old-rev, --new-rev and --top must not be negative")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, paths []string) error { return p.runDiff(cmd, paths, flags) },
	}
	cmd.Flags().Int64Var(&flags.oldRev, "old-rev", 0, "OLD as of this revision; 0 is the newest")
	cmd.Flags().Int64Var(&flags.newRev, "new-rev", 0, "NEW as of this revision; 0 is the newest")
	cmd.Flags().IntVar(&flags.top, "top", 50, "keys listed at most, in key order; 0 for all (JSON lists all without --top)")
	return cmd
}

// maxDiffKeys bounds a list of all keys.
const maxDiffKeys = 1 << 20

func (p *program) runDiff(cmd *cobra.Command, paths []string, flags diffFlags) error {
	if err := p.checkOutput(paths); err != nil {
		return err
	}
	bar := p.newBar()
	var both []*source.Source
	for _, path := range paths {
		src, problems, err := p.openOne(cmd.Context(), path, bar.add)
		if err != nil {
			closeAll(both)
			return err
		}
		both = append(both, src)
		if len(problems) > 0 {
			p.exit = ExitPartial
		}
	}
	defer closeAll(both)
	opts := query.DiffOptions{OldRevision: flags.oldRev, NewRevision: flags.newRev, MaxKeys: flags.top}
	if flags.top == 0 || p.writeOut == "json" && !cmd.Flags().Changed("top") {
		opts.MaxKeys = maxDiffKeys
	}
	bar.start(both)
	r, err := query.Diff(cmd.Context(), both[0], both[len(both)-1], opts)
	bar.finish()
	if r == nil {
		p.exit = ExitFindings
		for _, s := range both {
			if unread(cmd.Context(), s, err) {
				p.exit = ExitPartial
			}
		}
		return stopped(err)
	}
	for _, side := range []query.DiffSide{r.Old, r.New} {
		p.judge(side.File, side.Findings, side.Whole, !side.Read)
	}
	return p.answerUntil(err, func(w io.Writer) error {
		if p.writeOut == "json" {
			return report.DiffJSON(w, r)
		}
		return report.DiffText(w, r)
	})
}

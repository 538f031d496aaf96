package cli

import (
	"errors"
	"io"

	"github.com/spf13/cobra"

	"etcd-forensics/inspect"
	"etcd-forensics/report"
)

func (p *program) compare() *cobra.Command {
	var asked examination
	cmd := &cobra.Command{
		Use:   "compare PATH PATH...",
		Short: "Say which member or snapshot to trust, and where they differ",
		Long: `compare ranks members and snapshots of one cluster: usable ones first, then by
what each holds of the entries that are proven committed, then as raft elects
(last term, last index). It compares their contents record by record up to the
lowest of their revisions, names the first that differ, and says who a majority
or a log contradicts. What choosing each of them would lose is counted.

inspect with the same paths contains all of this.

` + exitHelp,
		Example: "  etcd-forensics compare m1 m2 m3\n  etcd-forensics compare m1 m2 backup.db -w json",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return hinted{errors.New("compare needs PATHs"), "two or more, as in etcd-forensics compare m1 m2 m3; or one folder that holds several"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, paths []string) error {
			asked.least = 2
			return p.examine(cmd, paths, asked, func(w io.Writer, c *inspect.Case) error {
				if p.writeOut == "json" {
					return report.CompareJSON(w, c)
				}
				return report.Compare(w, c, report.TextOptions{Color: p.color()})
			})
		},
	}
	asked.addProve(cmd)
	return cmd
}

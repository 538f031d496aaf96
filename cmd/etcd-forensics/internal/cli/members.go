package cli

import (
	"io"

	"github.com/spf13/cobra"

	"etcd-forensics/inspect"
	"etcd-forensics/report"
)

func (p *program) members() *cobra.Command {
	var tokens []string
	cmd := &cobra.Command{
		Use:   "members PATH...",
		Short: "Say who the members of the cluster are, as each place on disk states it",
		Long: `members brings together what bucket members, the conf states, the v2 store and
the log say about the membership, for one source or for several of a cluster, as
of the last entry that is proven to be committed. It names members that only a
store knows (zombies), learners that raft has as voters, and directories of
members that were removed.

STATED BY names the places:
  members     bucket members of the database: what etcd 3.6 and later believe
  confState   raft's conf state in bucket meta
  snap        conf state of the newest .snap
  store       v2 store in it: what etcd 3.4 and 3.5 believe
  wal         snapshot records and conf changes in the log

` + exitHelp,
		Example: "  etcd-forensics members m1 m2 m3\n  etcd-forensics members m1 --token my-cluster -w json",
		Args:    needsPath(true),
		RunE:    func(cmd *cobra.Command, paths []string) error { return p.runMembers(cmd, paths, tokens) },
	}
	cmd.Flags().StringArrayVar(&tokens, "token", nil, "a value of --initial-cluster-token to try on the ids; can be given again")
	return cmd
}

func (p *program) runMembers(cmd *cobra.Command, paths, tokens []string) error {
	return p.examine(cmd, paths, examination{least: 1, tokens: tokens}, func(w io.Writer, c *inspect.Case) error {
		if p.writeOut == "json" {
			return report.MembersJSON(w, c.Membership())
		}
		return report.Members(w, c.Membership(), report.TextOptions{Color: p.color()})
	})
}

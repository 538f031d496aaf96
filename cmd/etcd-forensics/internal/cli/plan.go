package cli

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/restore"
	"etcd-forensics/report"
)

// planFlags say what cluster is to be; plan and rehearse share them.
type planFlags struct {
	options restore.Options
	members []string
}

func (f *planFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.options.Single, "single", false, "restore one member only, the first --member when there are any; the others join it afterwards")
	flags.StringArrayVar(&f.members, "member", nil, "NAME=PEERURL of a member of the new cluster; can be given again (default: the old voters)")
	flags.StringVar(&f.options.Token, "token", "", "value of --initial-cluster-token (default: made from the evidence)")
	flags.StringVar(&f.options.Platform, "platform", "", "how etcd is run: "+strings.Join(restore.Platforms(), ", ")+" (default: plain)")
	flags.StringVar(&f.options.EtcdVersion, "etcd-version", "", "version of the etcd that will run, as 3.5 or 3.5.21 (default: that of the evidence)")
	flags.StringVar(&f.options.From, "from", "", "restore from this one of the PATHs (default: the best)")
	flags.StringVar(&f.options.DataDir, "data-dir", "", "data directory on the hosts (default: the platform's)")
	flags.StringVar(&f.options.WALDir, "new-wal-dir", "", "WAL directory on the hosts, when it lies outside the data directory")
	completeWith(cmd, "platform", restore.Platforms()...)
	completeWith(cmd, "etcd-version", "3.4", "3.5", "3.6", "3.7", "3.8")
	flags.StringVar(&f.options.WorkDir, "work-dir", "", "folder on the hosts for the file to restore, state and logs (default: "+restore.DefaultWorkDir+")")
}

// parse gives what the flags say.
func (f *planFlags) parse() (restore.Options, error) {
	members, err := restore.ParseMembers(f.members)
	if err != nil {
		return restore.Options{}, err
	}
	f.options.Members = members
	return f.options, f.options.Check()
}

func (p *program) plan() *cobra.Command {
	var flags planFlags
	var scripts string
	cmd := &cobra.Command{
		Use:   "plan PATH...",
		Short: "Say how to restore: from what, with which commands on which host, losing what",
		Long: `plan chooses the best source, the way back, and gives the exact commands for every
host, in phases: no host begins one before all have ended the one before. When
enough voters start as they are, it says so: then nothing is restored.

The new cluster gets a token of its own, so that old members can never join it.
With keys of Kubernetes the revision is raised (--bump-revision), so that clients
that have seen later revisions notice.

--script writes one shell script a host. It refuses to touch a directory that is
in use, or that is of another cluster, and can be run again after a failure.

Exit codes:
  0  there is a plan; its losses are listed
  1  there is none, and why
  2  the arguments made no sense, or nothing of etcd's could be read
  3  the examination could not be finished`,
		Example:     "  etcd-forensics plan m1 m2 m3\n  etcd-forensics plan backup.db --platform systemd --etcd-version 3.5.21 --script restore/\n  etcd-forensics plan m2 --single -w markdown -o runbook.md",
		Args:        needsPath(true),
		Annotations: map[string]string{formatsOf: "text json markdown"},
		RunE: func(cmd *cobra.Command, paths []string) error {
			options, err := flags.parse()
			if err != nil {
				return err
			}
			return p.runPlan(cmd, paths, options, scripts)
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&scripts, "script", "", "write one shell script a host, and the runbook, to this new directory")
	return cmd
}

func (p *program) runPlan(cmd *cobra.Command, paths []string, options restore.Options, scripts string) error {
	if scripts != "" {
		if p.noDigest {
			return errors.New("--script needs the digests that --no-digest leaves out")
		}
		if err := p.checkNew(scripts, paths); err != nil {
			return err
		}
	}
	var made *restore.Plan
	err := p.examine(cmd, paths, examination{least: 1}, func(w io.Writer, c *inspect.Case) error {
		made = restore.New(c, options)
		return p.writePlan(w, made)
	})
	if made == nil {
		return err
	}
	if p.exit == ExitFindings {
		p.exit = ExitSound // findings do not count, losses are listed
	}
	if made.Refused != nil && p.exit == ExitSound {
		p.exit = ExitFindings
	}
	if scripts == "" || made.Refused != nil || err != nil {
		return err
	}
	return p.unfinished(writeScripts(scripts, made))
}

func (p *program) writePlan(w io.Writer, made *restore.Plan) error {
	switch p.writeOut {
	case "json":
		return report.PlanJSON(w, made)
	case "markdown":
		return report.PlanMarkdown(w, made)
	}
	return report.Plan(w, made, report.TextOptions{Color: p.color()})
}

// writeScripts makes the directory and the scripts in it, all or none.
func writeScripts(dir string, made *restore.Plan) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for _, s := range report.PlanScripts(made) {
		if err := os.WriteFile(filepath.Join(dir, s.Name), s.Text, s.Mode); err != nil {
			return errors.Join(err, os.RemoveAll(dir))
		}
	}
	return nil
}

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/recover"
	"etcd-forensics/inspect/source"
	"etcd-forensics/report"
	"etcd-forensics/walreader/replay"
)

// rollFlags are the flags of rollforward.
type rollFlags struct {
	base, before string
	wals         []string
	options      recover.RollOptions
}

func (p *program) rollforward() *cobra.Command {
	var flags rollFlags
	cmd := &cobra.Command{
		Use:   "rollforward [--base DB] --wal DIR... -o OUT",
		Short: "Make a newer database of a base and the entries of write-ahead logs",
		Long: `rollforward applies the committed entries of write-ahead logs to a copy of a
database, with etcd's own applier (3.7) in a child process, and writes the result as a
snapshot with its hash, which "etcdutl snapshot restore" takes.

The base is a snapshot, a database or a data directory. Without one the store begins
empty, which takes logs that reach back to the first entry. Several logs of one cluster
fill each other's gaps; a data directory given as --wal adds its database as a proof.
Entries are applied as far as all evidence together proves them committed.

Point in time: --to-index, --to-revision, or --before KEY, which stops before the last
entry that changed or deleted the key. With "get" on the output one object comes back,
with a restore of it the whole store.

Exit codes:
  0  done; what is missing is listed
  1  refused, with what would help
  2  the arguments made no sense, or nothing of etcd's could be read
  3  it could not be finished: interrupted, no space`,
		Example: "  etcd-forensics rollforward --base backup.db --wal m1 m2 m3 -o now.db\n  etcd-forensics rollforward --wal m1 --before /registry/secrets/prod/db -o before.db\n  etcd-forensics get before.db /registry/secrets/prod/db --values full",
		RunE: func(cmd *cobra.Command, more []string) error {
			flags.wals = append(flags.wals, more...)
			if cmd.Flags().Changed("before") {
				flags.options.Before = []byte(flags.before)
			}
			return p.runRollforward(cmd.Context(), flags)
		},
	}
	f, o := cmd.Flags(), &flags.options
	f.StringVar(&flags.base, "base", "", "the database to go on from (default: an empty store)")
	f.StringArrayVar(&flags.wals, "wal", nil, "a WAL directory or data directory; repeatable, further ones may follow without the flag")
	f.Uint64Var(&o.ToIndex, "to-index", 0, "stop behind this raft index")
	f.Int64Var(&o.ToRevision, "to-revision", 0, "stop behind the entry that makes this revision")
	f.StringVar(&flags.before, "before", "", "stop before the last entry that changed or deleted this key")
	f.BoolVar(&o.Tail, "tail", false, "apply the entries that nothing proves committed, too, and list their keys")
	f.IntVar(&o.MaxLearners, "max-learners", 1, "etcd's --max-learners, as the servers had it")
	f.Int64Var(&o.MinLeaseTTL, "min-lease-ttl", 2, "in seconds, one and a half election timeouts of the servers, rounded up")
	return cmd
}

// replayChild is what rollforward runs the program as.
func (p *program) replayChild() *cobra.Command {
	return &cobra.Command{
		Use: replay.ChildCommand, Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			p.exit = replay.Child(p.streams.In, p.streams.Out, p.streams.Err)
			return nil
		},
	}
}

// check refuses arguments that make no sense.
func (f *rollFlags) check(output string) error {
	o := &f.options
	switch {
	case len(f.wals) == 0:
		return hinted{errors.New("rollforward needs a --wal"), "a WAL directory or a data directory of the cluster"}
	case output == "":
		return hinted{errors.New("rollforward needs -o OUT"), "the new file that the database is written to"}
	case o.ToIndex > 0 && o.ToRevision > 0:
		return errors.New("--to-index and --to-revision do not go together")
	case o.ToRevision < 0:
		return errors.New("--to-revision must not be negative")
	case o.Before != nil && len(o.Before) == 0:
		return errors.New("--before needs a key")
	case o.MaxLearners < 1 || o.MinLeaseTTL < 1:
		return errors.New("--max-learners and --min-lease-ttl must be 1 at least")
	}
	return nil
}

func (p *program) runRollforward(ctx context.Context, flags rollFlags) error {
	if err := flags.check(p.output); err != nil {
		return err
	}
	paths := slices.Clone(flags.wals)
	if flags.base != "" {
		paths = append(paths, flags.base)
	}
	if err := p.checkOutput(paths); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	o := flags.options
	o.Out, o.Scratch, o.Self = p.output, p.scratch, []string{self, replay.ChildCommand}
	bar := p.newBar()
	var sources []*source.Source
	defer func() { closeAll(sources) }()
	for _, path := range flags.wals {
		found, problems, err := p.open(ctx, []string{path}, bar.add)
		if err != nil {
			return err
		}
		sources = append(sources, found...)
		if len(problems) > 0 {
			return hinted{fmt.Errorf("%s could not all be read", report.Plain(path)), "name the logs that can be"}
		}
	}
	for _, s := range sources {
		if len(s.WAL) > 0 || len(sources) == len(flags.wals) { // beside members a folder may hold snapshots
			o.WALs = append(o.WALs, s)
		}
	}
	if flags.base != "" {
		base, _, err := p.openOne(ctx, flags.base, bar.add)
		if err != nil {
			return err
		}
		o.Base = base
		sources = append(sources, base)
	}
	bar.start(sources)
	o.Applying = func(entries uint64) {
		bar.finish()
		bar = p.newCountBar()
		bar.startAt(int64(entries))
	}
	o.Progress = func(n int64) { bar.add(n) }
	r, err := recover.Roll(ctx, o)
	bar.finish()
	refusal, refused := errors.AsType[*recover.RollRefusal](err)
	switch {
	case errors.Is(err, inspect.ErrNoLog):
		return hinted{err, "--wal takes a WAL directory, or a data directory with one"}
	case err != nil && !refused:
		p.exit = ExitPartial
		return unwritten(cmp.Or(ctx.Err(), err))
	case refused:
		p.exit = ExitFindings
	}
	return p.say(func(w io.Writer) error {
		if p.writeOut == "json" {
			return report.RollforwardJSON(w, r, refusal)
		}
		return report.RollforwardText(w, r, refusal, report.TextOptions{Color: p.color()})
	})
}

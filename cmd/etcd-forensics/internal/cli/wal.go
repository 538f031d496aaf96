package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
	"etcd-forensics/inspect/source"
	"etcd-forensics/report"
)

// walFlags are the flags of wal.
type walFlags struct {
	from, to, term uint64
	types          []string
	prefix         string
	stats          bool
}

func (p *program) wal() *cobra.Command {
	var flags walFlags
	cmd := &cobra.Command{
		Use:   "wal PATH",
		Short: "Show the records and entries of a write-ahead log, those behind damage too",
		Long: `wal shows every record of a write-ahead log in the order of the files: what each
entry asks for, whether it is committed, and which revision it produced where the
database beside the log proves it. PATH is a data directory, a member directory or a
WAL directory. The state of an entry is one of

  applied      proven committed, and in the database
  committed    proven committed; the database lacks it, or there is none
  uncommitted  nothing proves it committed
  overwritten  a later entry of the log takes its place
  plausible    found behind damage: no unbroken chain of checksums leads to it
  foreign      in a segment that another member or cluster wrote

A fault or a gap has a row of its own in its place. Values of keys, passwords and
tokens are never shown. With -w json each row is one object on a line of its own.

--stats shows instead what the log is made of, by kind, prefix and user, its biggest
requests, and the timeline: leaders, membership, snapshots, compactions, alarms.

` + exitHelp,
		Example: "  etcd-forensics wal m1\n  etcd-forensics wal m1 --from 2563 --type put,txn\n  etcd-forensics wal m1 --stats\n  etcd-forensics wal m1 --prefix /registry/secrets/ -w json | jq -r '.keys[]?'",
		Args:    needsPath(false),
		RunE:    func(cmd *cobra.Command, paths []string) error { return p.runWAL(cmd, paths, flags) },
	}
	cmd.Flags().Uint64Var(&flags.from, "from", 0, "only rows from this raft index on")
	cmd.Flags().Uint64Var(&flags.to, "to", 0, "only rows up to this raft index")
	cmd.Flags().Uint64Var(&flags.term, "term", 0, "only rows of this term")
	cmd.Flags().StringSliceVar(&flags.types, "type", nil, "only rows of these types (entry, state, snapshot, fault, ...) or kinds of entry (put, txn, ...)")
	cmd.Flags().StringVar(&flags.prefix, "prefix", "", "only entries about keys with this prefix")
	cmd.Flags().BoolVar(&flags.stats, "stats", false, "statistics and timeline of the whole log instead of its rows")
	return cmd
}

// filter turns the flags into a filter.
func (f *walFlags) filter(cmd *cobra.Command) (query.WALFilter, error) {
	filter := query.WALFilter{From: f.from, To: f.to}
	for _, name := range []string{"from", "to", "term", "type", "prefix"} {
		if f.stats && cmd.Flags().Changed(name) {
			return filter, fmt.Errorf("--stats is about the whole log and goes without --%s", name)
		}
	}
	if f.to > 0 && f.from > f.to {
		return filter, fmt.Errorf("--from %d lies behind --to %d", f.from, f.to)
	}
	if cmd.Flags().Changed("term") {
		filter.Term = &f.term
	}
	if cmd.Flags().Changed("prefix") {
		filter.Prefix = []byte(f.prefix)
	}
	known := query.RowTypes()
	for _, name := range f.types {
		name = strings.ToLower(strings.TrimSpace(name))
		if !slices.Contains(known, name) {
			return filter, hinted{fmt.Errorf("--type: %q is no type of record and no kind of entry", name), "known are " + strings.Join(known, ", ")}
		}
		filter.Types = append(filter.Types, name)
	}
	return filter, nil
}

func (p *program) runWAL(cmd *cobra.Command, paths []string, flags walFlags) error {
	filter, err := flags.filter(cmd)
	if err != nil {
		return err
	}
	if err := p.checkOutput(paths); err != nil {
		return err
	}
	bar := p.newBar()
	src, problems, err := p.openOne(cmd.Context(), paths[0], bar.add)
	if err != nil {
		return err
	}
	defer src.Close()
	bar.start([]*source.Source{src})
	log, err := query.OpenWAL(cmd.Context(), src)
	bar.finish()
	switch {
	case err == nil:
	case cmd.Context().Err() != nil:
		p.exit = ExitPartial
		return errStopped
	case errors.Is(err, inspect.ErrNoLog):
		return hinted{err, "wal reads a data directory, a member directory or a WAL directory; --wal-dir names a log that lies elsewhere"}
	default:
		p.exit = ExitPartial
		return err
	}
	if err := p.answer(func(w io.Writer) error { return p.showWAL(cmd.Context(), w, log, filter, flags.stats) }); err != nil {
		return err
	}
	changed := false
	for _, f := range src.WAL {
		if how := f.Changed(); how != "" {
			changed = true
			p.complain(fmt.Errorf("%s changed while it was read: %s", f.Path, how))
		}
	}
	switch {
	case len(problems) > 0 || changed || log.Unfinished():
		p.exit = ExitPartial
	case log.Highest() >= inspect.Severity(p.failOn):
		p.exit = ExitFindings
	}
	return nil
}

// walBuffer is large, since a log has many short rows.
const walBuffer = 256 << 10

func (p *program) showWAL(ctx context.Context, w io.Writer, log *query.WAL, filter query.WALFilter, stats bool) error {
	buffered := bufio.NewWriterSize(w, walBuffer)
	json := p.writeOut == "json"
	if stats {
		show := report.WALStats
		if json {
			show = report.WALStatsJSON
		}
		return errors.Join(show(buffered, log), buffered.Flush())
	}
	rows := report.NewWALWriter(buffered, json, log.Clock.Any())
	totals, err := log.Rows(ctx, filter, rows.Row)
	if err == nil && !json {
		err = report.WALSummary(buffered, log, totals)
	}
	return errors.Join(err, buffered.Flush())
}

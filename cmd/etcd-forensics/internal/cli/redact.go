package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/redact"
	"etcd-forensics/inspect/source"
	"etcd-forensics/report"
)

func (p *program) redact() *cobra.Command {
	var options redact.Options
	cmd := &cobra.Command{
		Use:   "redact PATH... -o DIR",
		Short: "Write a copy of the evidence that may be shown to others, with the same findings",
		Long: `redact copies evidence into a new folder and overwrites what is stored in it: names
in keys become pseudonyms of the same length, values noise, users, passwords,
members' names and hosts likewise, and so does every byte that belongs to nothing.
What it is stored in stays, and checksums are computed anew, so that the copy has
the same findings. Evidence and copy are both examined, and what differs is listed.

The same name gets the same pseudonym everywhere in one run, so give all members
of a cluster at once. The key of the pseudonyms is random and nowhere written.

Still to be seen in the copy: how many keys there are, their slashes and lengths, when
they changed, Kubernetes' own resources, lengths of values, ids of members, ports,
leases, versions.

Exit codes:
  0  the copy is written; what differs is listed
  2  the arguments made no sense, or nothing of etcd's could be read
  3  it could not be finished (interrupt, I/O error); of the copy nothing is left`,
		Example: "  etcd-forensics redact m1 m2 m3 -o evidence\n  etcd-forensics redact backup.db -o evidence",
		Args:    needsPath(true),
		RunE: func(cmd *cobra.Command, paths []string) error {
			return p.runRedact(cmd.Context(), paths, options)
		},
	}
	cmd.Flags().StringVar(&options.Seed, "seed", "", "what the pseudonyms follow from")
	if err := cmd.Flags().MarkHidden("seed"); err != nil {
		panic(err) // there is no such flag
	}
	return cmd
}

func (p *program) runRedact(ctx context.Context, paths []string, o redact.Options) error {
	if p.output == "" {
		return hinted{errors.New("redact needs a folder to write to"), "name a new one with -o"}
	}
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
	s, err := redact.Run(ctx, sources, p.output, o)
	bar.finish()
	if err != nil {
		p.exit = ExitPartial
		return nothingWritten(err)
	}
	changed, err := p.compareFindings(ctx, sources, s)
	if err != nil {
		p.exit = ExitPartial
		return errors.Join(nothingWritten(err), os.RemoveAll(p.output))
	}
	if len(problems) > 0 {
		p.exit = ExitPartial
	}
	return p.say(func(w io.Writer) error {
		if p.writeOut == "json" {
			return report.RedactJSON(w, s, changed)
		}
		return report.Redact(w, s, changed, report.TextOptions{})
	})
}

func nothingWritten(err error) error {
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted; nothing of the copy is left")
	}
	return fmt.Errorf("%w; nothing of the copy is left", err)
}

// compareFindings examines evidence and copy, and gives the findings that only one of them has.
func (p *program) compareFindings(ctx context.Context, sources []*source.Source, s *redact.Summary) (*report.FindingChanges, error) {
	before, err := inspect.Inspect(ctx, sources, inspect.Options{Digest: true})
	if err != nil {
		return nil, err
	}
	var copies []*source.Source
	defer func() { closeAll(copies) }()
	for _, c := range s.Copies {
		opened, problems := source.Open(ctx, []string{c.Copy}, source.Options{})
		copies = append(copies, opened...)
		if len(problems) > 0 {
			return nil, problems[0]
		}
	}
	after, err := inspect.Inspect(ctx, copies, inspect.Options{Digest: true})
	if err != nil {
		return nil, err
	}
	changes := &report.FindingChanges{Lost: []inspect.Finding{}, New: []inspect.Finding{}}
	left := map[string]int{}
	for _, f := range after.Findings {
		left[placeOf(after, f)]++
	}
	for _, f := range before.Findings {
		if k := placeOf(before, f); left[k] > 0 {
			left[k]--
			changes.Same++
		} else {
			changes.Lost = append(changes.Lost, f)
		}
	}
	for _, f := range after.Findings {
		if k := placeOf(after, f); left[k] > 0 {
			left[k]--
			changes.New = append(changes.New, f)
		}
	}
	return changes, nil
}

// placeOf says what a finding is and where, in the same words for evidence and copy.
func placeOf(c *inspect.Case, f inspect.Finding) string {
	var b strings.Builder
	fmt.Fprint(&b, f.Code)
	for i, m := range c.Members {
		if m.Source == f.Member {
			fmt.Fprint(&b, " ", i)
		}
	}
	l := f.Location
	if l.Offset != nil {
		fmt.Fprint(&b, " offset ", *l.Offset)
	}
	if l.Page != nil {
		fmt.Fprint(&b, " page ", *l.Page)
	}
	if l.Index != nil {
		fmt.Fprint(&b, " index ", *l.Index)
	}
	if l.Revision != nil {
		fmt.Fprint(&b, " revision ", *l.Revision)
	}
	return b.String() + " " + filepath.Ext(l.File)
}

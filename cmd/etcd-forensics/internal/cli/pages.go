package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
	"etcd-forensics/inspect/source"
	"etcd-forensics/report"
)

// pagesFlags are the flags of pages.
type pagesFlags struct {
	list, hex bool
	slot      int
}

// maxPageIDs bounds the pages named in one call; --list shows them all.
const maxPageIDs = 10000

func (p *program) pages() *cobra.Command {
	var flags pagesFlags
	cmd := &cobra.Command{
		Use:   "pages FILE [ID...]",
		Short: "Show the page map of a database, or single pages in full",
		Long: `pages shows how the pages of a database are used: by class and bucket, as a
picture, and what is wrong with them. With IDs (7, or 7-9) it shows these pages in
full: header, path from the root page, the keys promised and those that are there,
faults. FILE is a snapshot, a database or a data directory.

--list names every page in use or free, one a line, as bbolt pages does: pages of
an overflow are counted at the page that they belong to.

Values of keys are never shown. --hex shows all bytes of a page, so pages that may
hold values need --values full as well; records of auth stay hidden all the same.

` + exitHelp,
		Example: "  etcd-forensics pages backup.db\n  etcd-forensics pages backup.db 7 12-15\n  etcd-forensics pages m1 --list -w json",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return hinted{errors.New("pages needs a FILE"), "a snapshot, a database file or a data directory, as in etcd-forensics pages backup.db"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return p.runPages(cmd, args[0], args[1:], flags) },
	}
	cmd.Flags().BoolVar(&flags.list, "list", false, "list every page, one a line")
	cmd.Flags().BoolVar(&flags.hex, "hex", false, "with IDs: show the bytes of the pages, too")
	cmd.Flags().IntVar(&flags.slot, "slot", -1, "look as of this meta page, 0 or 1, instead of the one in use")
	return cmd
}

func (p *program) runPages(cmd *cobra.Command, path string, args []string, flags pagesFlags) error {
	ids, err := pageIDs(args)
	switch {
	case err != nil:
		return err
	case flags.list && len(ids) > 0:
		return errors.New("--list goes without IDs")
	case flags.hex && len(ids) == 0:
		return hinted{errors.New("--hex needs the ID of a page"), "etcd-forensics pages " + path + " 2 --hex"}
	case cmd.Flags().Changed("slot") && flags.slot != 0 && flags.slot != 1:
		return errors.New("--slot must be 0 or 1")
	}
	if err := p.checkOutput([]string{path}); err != nil {
		return err
	}
	bar := p.newBar()
	src, problems, err := p.openOne(cmd.Context(), path, bar.add)
	if err != nil {
		return err
	}
	defer src.Close()
	bar.start([]*source.Source{src})
	pages, err := query.OpenPages(cmd.Context(), src, flags.slot)
	bar.finish()
	switch {
	case err == nil:
	case cmd.Context().Err() != nil:
		p.exit = ExitPartial
		return errStopped
	case errors.Is(err, inspect.ErrNoMeta):
		p.exit = ExitFindings
		return err
	case unread(cmd.Context(), src, err):
		p.exit = ExitPartial
		return err
	default:
		return err
	}
	for _, id := range ids {
		if err := p.checkPage(pages, id, flags.hex); err != nil {
			return err
		}
	}
	if err := p.answer(func(w io.Writer) error { return p.showPages(cmd.Context(), w, pages, ids, flags) }); err != nil {
		return err
	}
	switch {
	case len(problems) > 0 || pages.Unfinished():
		p.exit = ExitPartial
	case pages.Highest() >= inspect.Severity(p.failOn):
		p.exit = ExitFindings
	}
	return nil
}

// checkPage refuses a page that is not there, or whose bytes may not be shown.
func (p *program) checkPage(pages *query.Pages, id uint64, hex bool) error {
	if err := pages.Check(id); err != nil || !hex {
		return err
	}
	err := pages.MayDump(id, p.values == "full")
	if err != nil && pages.MayDump(id, true) == nil {
		return hinted{err, "--hex --values full shows its bytes; without --hex its keys are shown"}
	}
	return err
}

func (p *program) showPages(ctx context.Context, w io.Writer, pages *query.Pages, ids []uint64, flags pagesFlags) error {
	buffered := bufio.NewWriter(w)
	json := p.writeOut == "json"
	text := report.TextOptions{Color: p.color()}
	var err error
	switch {
	case flags.list:
		err = listPages(ctx, buffered, pages, json)
	case len(ids) == 0 && json:
		err = report.PageMapJSON(buffered, pages.Map())
	case len(ids) == 0:
		err = report.PageMapText(buffered, pages.Map(), text)
	default:
		look := func(visit func(*query.Page) error) error {
			return pages.Look(ctx, ids, query.PageOptions{Hex: flags.hex, Values: p.values == "full"}, visit)
		}
		if json {
			err = report.PagesJSON(buffered, pages.File, look)
		} else {
			err = look(func(v *query.Page) error { return report.PageText(buffered, v, text) })
		}
	}
	return errors.Join(err, buffered.Flush())
}

func listPages(ctx context.Context, w io.Writer, pages *query.Pages, json bool) error {
	if json {
		return pages.List(ctx, func(r query.PageRow) error { return report.PageRowJSON(w, r) })
	}
	if err := report.PageListHeader(w); err != nil {
		return err
	}
	return pages.List(ctx, func(r query.PageRow) error { return report.PageRowText(w, r) })
}

// pageIDs reads page numbers, single ones and ranges such as 7-9.
func pageIDs(args []string) ([]uint64, error) {
	var ids []uint64
	for _, arg := range args {
		first, last, isRange := strings.Cut(arg, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 63)
		to, err2 := strconv.ParseUint(last, 10, 63)
		switch {
		case err != nil || err2 != nil || from > to:
			return nil, hinted{fmt.Errorf("%q is no page number", arg), "a page is named by its decimal number, several by a range such as 7-9"}
		case to-from >= uint64(maxPageIDs-len(ids)):
			return nil, hinted{fmt.Errorf("more than %d pages are named", maxPageIDs), "--list shows all pages, one a line"}
		}
		for id := from; id <= to; id++ {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

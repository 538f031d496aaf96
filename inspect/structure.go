package inspect

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
	"etcd-forensics/snapdb/scan"
)

// A Structure is one database file as its pages show it, whatever etcd keeps on
// them.
type Structure struct {
	File     string
	DB       *snapdb.File
	Metas    [2]snapdb.Slot // as they stand in the file
	Tree     *snapdb.Tree
	Pages    *snapdb.PageMap
	Findings []Finding // those that the pages alone tell, the worst first

	x *examination
	d *database
}

// StructureOptions control ReadStructure.
type StructureOptions struct {
	Slot int // meta page as of which to look; -1 for the one that bbolt would use
	// Consumers are fed with every leaf page; nil for none.
	Consumers func(*snapdb.Tree) []scan.Consumer
	Limits    Limits
}

// faultsKept bounds the faults kept of each kind: enough to tell of any page
// whether its own are among them, however many are listed.
const faultsKept = 1000

// ErrNoDatabase is given for a source that holds no bbolt page to look at.
var ErrNoDatabase = errors.New("no database in it")

// ErrNoMeta is given for a database of which no meta page can be used.
var ErrNoMeta = errors.New("no valid meta page")

// ReadStructure reads the pages of the database that etcd would open.
func ReadStructure(ctx context.Context, s *source.Source, opts StructureOptions) (*Structure, error) {
	x, d, err := openSource(ctx, s, opts.Slot, opts.Limits)
	if err != nil {
		return nil, err
	}
	var consumers []scan.Consumer
	if opts.Consumers != nil {
		consumers = opts.Consumers(d.tree)
	}
	if d.pass, err = scan.Run(ctx, d.tree, scan.Options{}, consumers...); err != nil {
		return nil, err
	}
	x.judgePages(d)
	return &Structure{File: d.file.Path, DB: d.db, Metas: d.metas(), Tree: d.tree, Pages: d.pass.Pages, Findings: x.findings, x: x, d: d}, nil
}

// openSource opens the database of a source that etcd would open, as of a meta
// page; slot -1 is the one that bbolt would use.
func openSource(ctx context.Context, s *source.Source, slot int, limits Limits) (*examination, *database, error) {
	if s.DB == nil && len(s.Received) == 0 {
		return nil, nil, fmt.Errorf("%s: %w", s.Path, ErrNoDatabase)
	}
	x := newExamination(s, Options{Limits: limits.orDefault()})
	if len(s.Received) > 0 { // the log tells which database it is
		if err := x.examineLog(ctx); err != nil {
			return nil, nil, err
		}
	}
	f, err := x.chooseBackend(ctx)
	if err != nil {
		return nil, nil, err
	}
	x.findings = nil // those of the log
	d, err := openAsOf(ctx, s, f, slot)
	return x, d, err
}

// judgePages makes findings of what a pass says of the pages alone, the worst
// first.
func (x *examination) judgePages(d *database) {
	d.faults = d.tree.Faults.All()
	x.checkMetas(d)
	x.checkSize(d)
	x.checkPages(d)
	if how := d.file.Changed(); how != "" {
		x.find(newFinding(CodeSourceChanged, x.src.Path, "the file changed while it was read: "+how).inFile(d.file.Path))
	}
	sortFindings(x.findings, map[string]int{})
}

// openAsOf opens a database and walks its branch pages as of a meta page.
func openAsOf(ctx context.Context, s *source.Source, f *source.File, slot int) (*database, error) {
	db, err := snapdb.Open(f, f.Size())
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", f.Path, err)
	case db.Active < 0 && s.ByPlace && !s.HasPages():
		return nil, fmt.Errorf("%s: %w", f.Path, ErrNoDatabase)
	case slot >= 0 && !db.Metas[slot].Valid():
		return nil, fmt.Errorf("%s: meta page %d is not valid: %v", f.Path, slot, reasons(db.Metas[slot]))
	case slot >= 0:
		db = db.As(slot)
	}
	d := &database{file: f, db: db}
	if db.Active >= 0 {
		return d, d.walk(ctx, faultsKept)
	}
	if !db.SwappedOrder {
		if err := d.findRoot(ctx, faultsKept); err != nil {
			return nil, err
		}
	}
	if d.tree == nil {
		return nil, fmt.Errorf("%s: %w: page 0: %v; page 1: %v", f.Path, ErrNoMeta, reasons(db.Metas[0]), reasons(db.Metas[1]))
	}
	return d, nil
}

// metas gives the meta pages as they stand in the file.
func (d *database) metas() [2]snapdb.Slot {
	if d.remnant != nil {
		return d.remnant.Metas()
	}
	return d.db.Metas
}

// Unfinished says whether reading failed somewhere, as Case.Unfinished does.
func (s *Structure) Unfinished() bool {
	c := Case{Findings: s.Findings}
	return c.Unfinished()
}

// Highest gives the highest severity among the findings, 0 when there are none.
func (s *Structure) Highest() Severity {
	c := Case{Findings: s.Findings}
	return c.Highest()
}

// Bucket gives the name of a bucket as it may be shown, "" for the root bucket.
func (s *Structure) Bucket(b int) string { return bucketName(s.Tree, b) }

// TopBucket gives the name that a bucket of the root bucket has, "" for others.
func (s *Structure) TopBucket(b int) string {
	if b <= 0 || s.Tree.Buckets[b].Parent != 0 {
		return ""
	}
	return string(s.Tree.Buckets[b].Name)
}

// FaultyPages calls visit with every page on which a fault that concerns the
// tree or the freelist was found, as far as faults were kept.
func (s *Structure) FaultyPages(visit func(page.ID)) {
	for _, f := range s.d.faults {
		if f.Kind != snapdb.FaultUnreachable {
			visit(f.Page)
		}
	}
}

// On gives the findings whose fault lies on a page, or that name it beside
// another.
func (s *Structure) On(id page.ID) []Finding {
	found := []Finding{}
	for _, f := range s.Findings { // of the meta pages
		if f.Location.Page != nil && *f.Location.Page == uint64(id) && id < 2 {
			found = append(found, f)
		}
	}
	for _, f := range s.d.faults {
		if f.Page == id && id >= 2 || slices.Contains(f.Related, id) {
			found = append(found, s.x.faultFinding(s.d, f))
		}
	}
	return found
}

// faultFinding is the finding that a fault of the tree or the freelist becomes.
func (x *examination) faultFinding(d *database, f snapdb.Fault) Finding {
	found := newFinding(backendCodes[f.Kind], x.src.Path, x.describeFault(d, f)).inFile(d.file.Path).at(f.Offset).onPage(f.Page, f.Related...)
	if rev, ok := keyspace.DecodeRevision(f.Lo); ok && x.inKeyBucket(d, f) {
		found = found.atRevision(rev.Main)
	}
	return found
}

package query

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/page"
	"etcd-forensics/snapdb/scan"
)

// Pages is one database file whose pages can be asked for.
type Pages struct {
	*inspect.Structure

	owners []int32  // snapdb.Tree.Owners
	faulty []uint64 // bit per page below the high-water mark: something is wrong with it
	fills  map[int]*fill
}

// OpenPages reads the pages of the database that etcd would open, as of meta page
// slot, or with slot -1 as of the one that bbolt would use.
func OpenPages(ctx context.Context, s *source.Source, slot int) (*Pages, error) {
	var read *fills
	structure, err := inspect.ReadStructure(ctx, s, inspect.StructureOptions{Slot: slot, Consumers: func(t *snapdb.Tree) []scan.Consumer {
		read = &fills{tree: t}
		return []scan.Consumer{read}
	}})
	if err != nil {
		return nil, err
	}
	p := &Pages{Structure: structure, owners: structure.Tree.Owners(), fills: read.join()}
	p.faulty = make([]uint64, len(p.Pages.Class)/64+1)
	for _, s := range read.sinks {
		for _, id := range s.unsound {
			p.setFaulty(id)
		}
	}
	p.FaultyPages(p.setFaulty)
	for id, c := range p.Pages.Class {
		if c == snapdb.ClassDamaged {
			p.setFaulty(page.ID(id))
		}
	}
	p.fillBranches()
	return p, nil
}

func (p *Pages) setFaulty(id page.ID) {
	if id < page.ID(len(p.Pages.Class)) {
		p.faulty[id/64] |= 1 << (id % 64)
	}
}

func (p *Pages) isFaulty(id int64) bool { return p.faulty[id/64]&(1<<(id%64)) != 0 }

// A fill is what the pages of one bucket hold.
type fill struct {
	records int64
	used    int64 // bytes of headers, elements, keys and values
}

// fills takes every leaf for its use of its page.
type fills struct {
	tree  *snapdb.Tree
	sinks []*fillSink
}

type fillSink struct {
	tree    *snapdb.Tree
	buckets map[int]*fill
	unsound []page.ID
}

// Sink implements scan.Consumer.
func (f *fills) Sink() scan.Sink {
	s := &fillSink{tree: f.tree, buckets: map[int]*fill{}}
	f.sinks = append(f.sinks, s)
	return s
}

// Leaf implements scan.Sink.
func (s *fillSink) Leaf(l *scan.Leaf) {
	if !l.Sound {
		s.unsound = append(s.unsound, l.Page)
	}
	b := s.buckets[l.Bucket]
	if b == nil {
		b = &fill{}
		s.buckets[l.Bucket] = b
	}
	b.records += int64(len(l.Elements))
	if l.Index < 0 || s.tree.Leaves[l.Index].Broken {
		return // inside another bucket's page, or no leaf
	}
	used := page.HeaderSize
	for _, e := range l.Elements {
		used = max(used, page.HeaderSize+(e.Index+1)*page.ElementSize, e.Offset+len(e.Key)+len(e.Value))
	}
	b.used += int64(used)
}

func (f *fills) join() map[int]*fill {
	all := map[int]*fill{}
	for _, s := range f.sinks {
		for b, of := range s.buckets {
			if all[b] == nil {
				all[b] = &fill{}
			}
			all[b].records += of.records
			all[b].used += of.used
		}
	}
	return all
}

// fillBranches adds what the branch pages use, which the pass does not read.
func (p *Pages) fillBranches() {
	var buf []byte
	for _, n := range p.Tree.Nodes {
		var err error
		if buf, err = p.DB.ReadPage(n.ID, maxShown, buf); err != nil {
			continue // a fault says so
		}
		br, _ := page.OpenBranch(buf)
		for i := range br.Len() {
			br.Element(i)
		}
		b := p.fills[int(n.Bucket)]
		if b == nil {
			b = &fill{}
			p.fills[int(n.Bucket)] = b
		}
		b.used += int64(br.End())
	}
}

// A PageMap is a file as its pages share it among them.
type PageMap struct {
	File           string            `json:"file"`
	Size           int64             `json:"size"` // bytes, trailer included
	PageSize       int               `json:"pageSize"`
	Total          int64             `json:"total"` // pages
	TrailerBytes   int64             `json:"trailerBytes"`
	Txid           uint64            `json:"txid"`
	ActiveMeta     *int              `json:"activeMeta"` // nil when none is valid, and the root was found without one
	Root           uint64            `json:"root"`
	HighWaterMark  uint64            `json:"highWaterMark"` // the first page never used
	FreelistStored bool              `json:"freelistStored"`
	Metas          []Meta            `json:"metas"`
	Classes        []ClassShare      `json:"classes"`
	Buckets        []BucketPages     `json:"buckets"`
	Free           FreeSpace         `json:"free"`
	Findings       []inspect.Finding `json:"findings"`

	Runs    iter.Seq[Run] `json:"-"` // every page of the file, in order
	Picture Picture       `json:"-"`
}

// A ClassShare says how much of the file is of one class.
type ClassShare struct {
	Class string `json:"class"`
	Pages int64  `json:"pages"`
	Bytes int64  `json:"bytes"`
}

// BucketPages are the pages of one bucket.
type BucketPages struct {
	Bucket        string  `json:"bucket"` // "" for the root bucket
	Root          uint64  `json:"root"`   // 0 when the bucket lies inline, in its record on the page Holder
	Holder        uint64  `json:"holder"` // page that names the bucket
	Inline        bool    `json:"inline"`
	Depth         int     `json:"depth"` // levels of pages
	BranchPages   int64   `json:"branchPages"`
	LeafPages     int64   `json:"leafPages"`
	OverflowPages int64   `json:"overflowPages"`
	DamagedPages  int64   `json:"damagedPages"`
	Records       int64   `json:"records"`
	UsedBytes     int64   `json:"usedBytes"` // of headers, elements, keys and values on pages of its own
	PageBytes     int64   `json:"pageBytes"` // of its branch, leaf and overflow pages
	Fill          float64 `json:"fill"`      // UsedBytes / PageBytes
}

// FreeSpace says how the free pages below the high-water mark lie.
type FreeSpace struct {
	Pages   int64   `json:"pages"`
	Runs    int64   `json:"runs"`
	Largest Run     `json:"largest"`
	Share   float64 `json:"share"` // of the pages below the high-water mark
}

// A Run is a number of pages of one class in a row.
type Run struct {
	First int64  `json:"first"`
	Count int64  `json:"count"`
	Class string `json:"class"`
}

// classNames are the names that the JSON of inspect has for the classes.
var classNames = [...]string{
	snapdb.ClassFree: "free", snapdb.ClassMeta: "meta", snapdb.ClassBranch: "branch", snapdb.ClassLeaf: "leaf",
	snapdb.ClassOverflow: "overflow", snapdb.ClassFreelist: "freelist", snapdb.ClassUnreachable: "unreachable",
	snapdb.ClassDamaged: "damaged", snapdb.ClassBeyondEnd: "beyondEnd",
}

// classOrder is the order in which classes are listed.
var classOrder = []snapdb.Class{
	snapdb.ClassMeta, snapdb.ClassBranch, snapdb.ClassLeaf, snapdb.ClassOverflow, snapdb.ClassFreelist, snapdb.ClassFree,
	snapdb.ClassUnreachable, snapdb.ClassDamaged, snapdb.ClassBeyondEnd,
}

// class gives the class of a page of the file.
func (p *Pages) class(id int64) snapdb.Class {
	if id < int64(len(p.Pages.Class)) {
		return p.Pages.Class[id]
	}
	return snapdb.ClassBeyondEnd
}

// Map gives the page map.
func (p *Pages) Map() *PageMap {
	meta := p.DB.Meta()
	m := &PageMap{
		File: p.File, Size: p.DB.Size(), PageSize: p.DB.PageSize, Total: p.DB.Pages(), TrailerBytes: p.DB.Size() - p.DB.DataSize,
		Txid: meta.Txid, Root: uint64(meta.Root), HighWaterMark: uint64(meta.Pgid), FreelistStored: p.Pages.FreelistStored,
		Metas: p.metas(), Classes: p.shares(), Buckets: p.buckets(), Findings: orNone(p.Findings), Runs: p.runs, Picture: p.draw(),
	}
	if active := p.DB.Active; !p.DB.StandIn {
		m.ActiveMeta = &active
	}
	for r := range p.runs {
		if r.Class != classNames[snapdb.ClassFree] {
			continue
		}
		m.Free.Pages += r.Count
		m.Free.Runs++
		if r.Count > m.Free.Largest.Count {
			m.Free.Largest = r
		}
	}
	m.Free.Share = share(m.Free.Pages, int64(len(p.Pages.Class)))
	return m
}

func orNone(f []inspect.Finding) []inspect.Finding {
	if f == nil {
		return []inspect.Finding{}
	}
	return f
}

// share gives a part of a whole to four places.
func share(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(int64(float64(part)/float64(whole)*10000+0.5)) / 10000
}

// shares adds up the classes. The last page of a file that was cut off is not
// whole.
func (p *Pages) shares() []ClassShare {
	size := int64(p.DB.PageSize)
	missing := p.DB.Pages()*size - p.DB.DataSize
	last := p.class(p.DB.Pages() - 1)
	shares := make([]ClassShare, 0, len(classOrder))
	for _, c := range classOrder {
		s := ClassShare{Class: classNames[c], Pages: p.Pages.Counts[c], Bytes: p.Pages.Counts[c] * size}
		if c == last {
			s.Bytes -= missing
		}
		shares = append(shares, s)
	}
	return shares
}

// buckets counts the pages of each bucket: the root bucket first, then by name.
func (p *Pages) buckets() []BucketPages {
	list := make([]BucketPages, len(p.Tree.Buckets))
	for b, bk := range p.Tree.Buckets {
		list[b] = BucketPages{Bucket: p.Bucket(b), Root: uint64(bk.Root), Holder: uint64(bk.Holder), Inline: bk.Root == 0, Depth: p.Tree.Depth(b)}
		if f := p.fills[b]; f != nil {
			list[b].Records, list[b].UsedBytes = f.records, f.used
		}
	}
	owner := int32(0)
	for id, c := range p.Pages.Class {
		if c != snapdb.ClassOverflow {
			owner = p.owners[id] // of the overflow pages behind it, too
		}
		if owner == 0 {
			continue
		}
		b := &list[owner-1]
		switch c {
		case snapdb.ClassBranch:
			b.BranchPages++
		case snapdb.ClassLeaf:
			b.LeafPages++
		case snapdb.ClassOverflow:
			b.OverflowPages++
		case snapdb.ClassDamaged:
			b.DamagedPages++
		}
	}
	for i := range list {
		b := &list[i]
		b.PageBytes = (b.BranchPages + b.LeafPages + b.OverflowPages) * int64(p.DB.PageSize)
		b.Fill = share(b.UsedBytes, b.PageBytes)
	}
	slices.SortStableFunc(list[1:], func(a, b BucketPages) int { return cmp.Compare(a.Bucket, b.Bucket) })
	return list
}

// runs yields every page of the file as runs of one class.
func (p *Pages) runs(yield func(Run) bool) {
	class := p.Pages.Class
	for from := 0; from < len(class); {
		to := from + 1
		for to < len(class) && class[to] == class[from] {
			to++
		}
		if !yield(Run{int64(from), int64(to - from), classNames[class[from]]}) {
			return
		}
		from = to
	}
	if beyond := p.Pages.Counts[snapdb.ClassBeyondEnd]; beyond > 0 {
		yield(Run{int64(len(class)), beyond, classNames[snapdb.ClassBeyondEnd]})
	}
}

// A Picture shows the pages below the high-water mark, one character for the same
// number of pages each.
type Picture struct {
	PagesPerCell int64
	Rows         []PictureRow
	Signs        []Sign // those that occur, in the order of the classes
}

// A PictureRow is one line of a picture.
type PictureRow struct {
	First int64 // its first page
	Cells string
}

// A Sign is what a character of a picture means.
type Sign struct {
	Cell  byte
	Means string
}

const (
	pictureColumns = 64
	pictureRows    = 16
)

var signs = [...]byte{
	snapdb.ClassFree: '.', snapdb.ClassMeta: 'M', snapdb.ClassBranch: 'B', snapdb.ClassLeaf: 'L', snapdb.ClassOverflow: 'o',
	snapdb.ClassFreelist: 'F', snapdb.ClassUnreachable: '?', snapdb.ClassDamaged: 'X',
}

var signMeans = map[byte]string{'.': "free", 'M': "meta", 'B': "branch", 'L': "leaf", 'o': "overflow", 'F': "freelist", '?': "unreachable", 'X': "fault"}

// draw makes the picture. Where a cell stands for several pages, one that is at
// fault is shown whatever the others are, then one that is unreachable; otherwise
// the class of most of them.
func (p *Pages) draw() Picture {
	pages := int64(len(p.Pages.Class))
	pic := Picture{PagesPerCell: 1}
	for pic.PagesPerCell*pictureColumns*pictureRows < pages {
		pic.PagesPerCell *= 2
	}
	used := map[byte]bool{}
	row := make([]byte, 0, pictureColumns)
	for from := int64(0); from < pages; from += pic.PagesPerCell {
		if len(row) == 0 {
			pic.Rows = append(pic.Rows, PictureRow{First: from})
		}
		cell := p.cell(from, min(from+pic.PagesPerCell, pages))
		used[cell] = true
		row = append(row, cell)
		if len(row) == pictureColumns || from+pic.PagesPerCell >= pages {
			pic.Rows[len(pic.Rows)-1].Cells = string(row)
			row = row[:0]
		}
	}
	for _, c := range classOrder[:len(classOrder)-1] {
		if s := signs[c]; used[s] {
			pic.Signs = append(pic.Signs, Sign{s, signMeans[s]})
		}
	}
	return pic
}

func (p *Pages) cell(from, to int64) byte {
	var count [len(signs)]int64
	for id := from; id < to; id++ {
		if p.isFaulty(id) {
			return signs[snapdb.ClassDamaged]
		}
		count[p.Pages.Class[id]]++
	}
	if count[snapdb.ClassUnreachable] > 0 {
		return signs[snapdb.ClassUnreachable]
	}
	most := snapdb.ClassMeta
	for _, c := range classOrder[:len(classOrder)-1] {
		if count[c] > count[most] {
			most = c
		}
	}
	return signs[most]
}

// A PageRow is one page of the list. What a page that is not in use carries says
// nothing, so it has no type.
type PageRow struct {
	Page     uint64  `json:"page"`
	Class    string  `json:"class"`
	Type     string  `json:"type,omitempty"`     // what its header says
	Items    *uint16 `json:"items,omitempty"`    // the count of its header
	Overflow *uint32 `json:"overflow,omitempty"` // of its header
	Bucket   *string `json:"bucket,omitempty"`   // "" for the root bucket
}

// List visits the pages below the high-water mark as `bbolt pages` lists them:
// overflow pages are counted at the page that they belong to.
func (p *Pages) List(ctx context.Context, visit func(PageRow) error) error {
	names := map[int32]*string{}
	var header [page.HeaderSize]byte
	for id, c := range p.Pages.Class {
		if id%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		row := PageRow{Page: uint64(id), Class: classNames[c]}
		switch c {
		case snapdb.ClassOverflow:
			continue
		case snapdb.ClassFree, snapdb.ClassUnreachable:
		default:
			at := int64(id) * int64(p.DB.PageSize)
			if n, _ := p.DB.ReaderAt().ReadAt(header[:], at); n == len(header) && at+page.HeaderSize <= p.DB.DataSize {
				h := page.DecodeHeader(&header)
				row.Type, row.Items, row.Overflow = h.Kind().String(), &h.Count, &h.Overflow
			}
		}
		if owner := p.owners[id]; owner > 0 {
			if names[owner] == nil {
				name := p.Bucket(int(owner - 1))
				names[owner] = &name
			}
			row.Bucket = names[owner]
		}
		if err := visit(row); err != nil {
			return err
		}
	}
	return nil
}

// Check says whether the file holds page id.
func (p *Pages) Check(id uint64) error {
	if id >= uint64(p.DB.Pages()) {
		return fmt.Errorf("page %d is not in %s, which ends with page %d", id, p.File, p.DB.Pages()-1)
	}
	return nil
}

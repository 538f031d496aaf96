package report

import (
	"fmt"
	"strings"

	"etcd-forensics/inspect/query"
)

// An htmlMap is the page map of one database.
type htmlMap struct {
	ID      string
	Of      string
	None    string // why there is no picture
	Desc    string
	Height  string
	Cells   []htmlPageRun
	Faults  []htmlCross
	Rows    []htmlRowLabel
	Legend  []htmlSign
	Beyond  string
	Classes htmlTable
	Buckets htmlTable
}

// An htmlPageRun is cells of one class side by side.
type htmlPageRun struct {
	X, Y, W      string
	Class, Title string
}

// An htmlCross marks a cell in which pages are at fault, for who cannot tell colours apart.
type htmlCross struct{ D string }

// An htmlRowLabel is the number of a row's first page.
type htmlRowLabel struct {
	Y    string
	Text string
}

// An htmlSign is a line of a legend: a path in a square of 16, and what it means.
type htmlSign struct{ Class, Means, D string }

// signSquare is the sign of what is drawn as a rectangle.
const signSquare = "M1 2h14v12h-14z"

// Measures of the page map, in the picture's units.
const (
	mapLeft = 76.0
	mapCell = 13.8
)

func viewMaps(p Page) []htmlMap {
	var maps []htmlMap
	for _, l := range p.Looks {
		v := htmlMap{ID: fmt.Sprintf("map-%d", len(maps)+1), Of: shown(l.Source), None: shown(l.NoPages)}
		if l.Pages != nil {
			v.draw(l.Pages)
		}
		maps = append(maps, v)
	}
	return maps
}

// draw lays the picture out, row by row; cells of one class that are neighbours are one
// rectangle.
func (v *htmlMap) draw(m *query.PageMap) {
	pic := m.Picture
	v.Height = coordinate(float64(len(pic.Rows))*mapCell + 2)
	means := map[byte]string{}
	for _, s := range pic.Signs {
		means[s.Cell] = s.Means
		v.Legend = append(v.Legend, htmlSign{s.Means, s.Means, signSquare})
	}
	faults := 0
	for y, r := range pic.Rows {
		top := float64(y)*mapCell + 1
		v.Rows = append(v.Rows, htmlRowLabel{coordinate(top + 10.5), fmt.Sprint(r.First)})
		for from := 0; from < len(r.Cells); {
			to := from + 1
			for to < len(r.Cells) && r.Cells[to] == r.Cells[from] {
				to++
			}
			v.run(r, from, to, pic.PagesPerCell, min(m.Total, int64(m.HighWaterMark)), top, means[r.Cells[from]])
			if r.Cells[from] == 'X' {
				faults += to - from
			}
			from = to
		}
	}
	stands := "Each cell is one page"
	if pic.PagesPerCell > 1 {
		stands = fmt.Sprintf("Each cell stands for %d pages: a fault if there is one, else most of them", pic.PagesPerCell)
	}
	v.Desc = fmt.Sprintf("%s. %s of %d bytes below the high-water mark, from left to right and top to bottom.", stands, countOf(belowMark(m), "page"), m.PageSize)
	if faults > 0 {
		v.Desc += fmt.Sprintf(" %s with a fault, marked by a cross.", countOf(int64(faults), "cell"))
	}
	if beyond := m.Total - belowMark(m); beyond > 0 {
		v.Beyond = fmt.Sprintf("Not drawn: %s from %d on, beyond the high-water mark.", countOf(beyond, "page"), belowMark(m))
	}
	v.Classes, v.Buckets = classTable(m), bucketTable(m)
}

func (v *htmlMap) run(r query.PictureRow, from, to int, perCell, end int64, top float64, class string) {
	first := r.First + int64(from)*perCell
	last := min(r.First+int64(to)*perCell, end) - 1
	title := fmt.Sprintf("page %d: %s", first, class)
	if last > first {
		title = fmt.Sprintf("pages %d to %d: %s", first, last, class)
	}
	left := mapLeft + float64(from)*mapCell
	v.Cells = append(v.Cells, htmlPageRun{coordinate(left), coordinate(top), coordinate(float64(to-from) * mapCell), class, title})
	if class != signFault {
		return
	}
	for i := range to - from {
		x := left + float64(i)*mapCell
		v.Faults = append(v.Faults, htmlCross{fmt.Sprintf("M%.1f %.1fl7.8 7.8m0 -7.8l-7.8 7.8", x+3, top+3)})
	}
}

// signFault is what a picture calls a cell with a fault.
const signFault = "fault"

func classTable(m *query.PageMap) htmlTable {
	t := htmlTable{Caption: "Pages by class", Header: []string{"class", "pages", "bytes", "size", "share"}}
	for _, c := range m.Classes {
		if c.Pages > 0 {
			t.add([]htmlCell{{Text: c.Class}, {Text: count(c.Pages)}, {Text: count(c.Bytes)}, sizeCell(c.Bytes), barCell(c.Bytes, m.Size)})
		}
	}
	return t
}

// bucketTable lists the buckets with pages of their own, and names the others.
func bucketTable(m *query.PageMap) htmlTable {
	t := htmlTable{Caption: "Pages by bucket", Header: []string{"bucket", "root", "depth", "branch", "leaf", "overflow", "damaged", "records", "fill"}}
	var inline []string
	for _, b := range m.Buckets {
		name := cut(bucketWord(b.Bucket), maxShown)
		if b.Inline {
			inline = append(inline, fmt.Sprintf("%s (%s)", name, plural(b.Records, "record")))
			continue
		}
		t.row(name, count(b.Root), fmt.Sprint(b.Depth), count(b.BranchPages), count(b.LeafPages), count(b.OverflowPages), count(b.DamagedPages), count(b.Records), percent(b.Fill))
	}
	t.limit(maxRows, "etcd-forensics pages -w json")
	if n := len(inline) - maxInline; n > 0 {
		inline = append(inline[:maxInline], fmt.Sprintf("%s more", count(n)))
	}
	if len(inline) > 0 {
		t.More = strings.TrimSpace(t.More + " Inline, in the records that name them: " + strings.Join(inline, ", "))
	}
	return t
}

// maxInline bounds the buckets without pages of their own that are named.
const maxInline = 24

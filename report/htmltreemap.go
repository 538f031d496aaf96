package report

import (
	"cmp"
	"fmt"
	"slices"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
)

// htmlKeys is the keyspace of the sources that have the same one.
type htmlKeys struct {
	ID    string
	Of    []string
	None  string // why there is no picture
	Desc  string
	Tiles []htmlTile
	Table htmlTable

	areas []area
}

// An area is one part of a keyspace.
type area struct {
	of    []byte // resource or prefix
	whole string // name of what is neither
	name  string // for people
	keys  int64
	bytes int64
}

const (
	treemapWidth  = 960.0
	treemapHeight = 420.0
	treemapTiles  = 48 // the smaller ones are one tile
	treemapColors = 8
)

// viewKeys draws each keyspace once, whichever sources have it.
func viewKeys(p Page) []htmlKeys {
	var views []htmlKeys
	for _, m := range p.Case.Members {
		areas, by := keyspaceOf(m, lookAt(p, m.Source))
		i := slices.IndexFunc(views, func(v htmlKeys) bool { return slices.EqualFunc(v.areas, areas, sameArea) })
		if i < 0 {
			i = len(views)
			views = append(views, viewKeyspace(fmt.Sprintf("keys-%d", i+1), areas, by))
		}
		views[i].Of = append(views[i].Of, shown(m.Source))
	}
	return views
}

func sameArea(a, b area) bool { return a.name == b.name && a.keys == b.keys && a.bytes == b.bytes }

// lookAt finds the look at a source, a zero one when there is none.
func lookAt(p Page, source string) Look {
	if i := slices.IndexFunc(p.Looks, func(l Look) bool { return l.Source == source }); i >= 0 {
		return p.Looks[i]
	}
	return Look{}
}

// keyspaceOf gives what live keys are, the largest first: resources of Kubernetes where the
// keys are an API server's, otherwise prefixes.
func keyspaceOf(m inspect.Member, l Look) (areas []area, by string) {
	switch {
	case m.Backend != nil && m.Backend.Kubernetes != nil:
		areas, by = resourceAreas(m.Backend), "resource of Kubernetes"
	case l.Keys != nil:
		areas, by = prefixAreas(l.Keys), "prefix"
	}
	slices.SortStableFunc(areas, func(a, b area) int { return cmp.Compare(b.bytes, a.bytes) })
	if n := len(areas) - treemapTiles; n > 0 {
		rest := area{whole: fmt.Sprintf("%s others", count(n))}
		for _, a := range areas[treemapTiles:] {
			rest.keys += a.keys
			rest.bytes += a.bytes
		}
		areas = append(areas[:treemapTiles], rest)
	}
	for i := range areas {
		areas[i].name = areas[i].whole
		if areas[i].whole == "" {
			areas[i].name = shortCell(areas[i].of)
		}
		areas[i].of = nil
	}
	return areas, by
}

func resourceAreas(b *inspect.Backend) (areas []area) {
	var all area
	for _, r := range b.Kubernetes.Resources {
		areas = append(areas, area{of: []byte(r.Resource), keys: r.Live, bytes: r.Bytes})
		all.keys += r.Live
		all.bytes += r.Bytes
	}
	if b.Space != nil && b.Keys != nil && b.Space.LiveBytes > all.bytes {
		areas = append(areas, area{whole: "(not Kubernetes)", keys: b.Keys.Live - all.keys, bytes: b.Space.LiveBytes - all.bytes})
	}
	return areas
}

func prefixAreas(r *query.KeysResult) (areas []area) {
	for _, row := range r.Prefixes {
		if row.LiveBytes > 0 {
			areas = append(areas, area{of: row.Prefix, keys: row.Live, bytes: row.LiveBytes})
		}
	}
	if r.Other.LiveBytes > 0 {
		areas = append(areas, area{whole: fmt.Sprintf("%s other prefixes", count(r.Other.Rows)), keys: r.Other.Live, bytes: r.Other.LiveBytes})
	}
	return areas
}

func viewKeyspace(id string, areas []area, by string) htmlKeys {
	v := htmlKeys{ID: id, areas: areas}
	var total int64
	sizes := make([]float64, len(areas))
	for i, a := range areas {
		total += a.bytes
		sizes[i] = float64(a.bytes)
	}
	if total == 0 {
		v.None = "The report holds no live keys of this source."
		return v
	}
	v.Desc = fmt.Sprintf("Each tile is one %s; its area is the bytes of its live keys and values, %s in all. The largest is %s with %s.", by, size(total), areas[0].name, size(areas[0].bytes))
	v.Table = htmlTable{Caption: "Live keys by " + by, Header: []string{by, "keys", "bytes", "size", "share"}}
	for i, r := range squarify(sizes, treemapWidth, treemapHeight) {
		a := areas[i]
		v.Tiles = append(v.Tiles, newTile(a, r, i%treemapColors))
		v.Table.add([]htmlCell{{Text: a.name}, {Text: count(a.keys)}, {Text: count(a.bytes)}, sizeCell(a.bytes), barCell(a.bytes, total)})
	}
	return v
}

// sizeCell is a size for people.
func sizeCell(bytes int64) htmlCell { return htmlCell{Text: size(bytes), Class: "size"} }

// barCell is a share with a bar behind it.
func barCell(part, whole int64) htmlCell {
	if whole == 0 {
		return htmlCell{Text: "-"}
	}
	share := float64(part) / float64(whole)
	return htmlCell{Text: percent(share), Class: "num", Bar: coordinate(share * 100)}
}

// A rect is a rectangle in a picture.
type rect struct{ x, y, w, h float64 }

// squarify divides a width by a height into rectangles of areas that are as the sizes,
// which are descending, and as near to squares as rows allow (Bruls, Huizing, van Wijk:
// Squarified treemaps).
func squarify(sizes []float64, width, height float64) []rect {
	rects := make([]rect, len(sizes))
	total := 0.0
	for _, s := range sizes {
		total += s
	}
	if total <= 0 {
		return rects
	}
	scale := width * height / total
	free := rect{0, 0, width, height}
	for from := 0; from < len(sizes); {
		side := min(free.w, free.h)
		to, sum := from+1, sizes[from]*scale
		for to < len(sizes) && worst(sizes[from:to+1], scale, sum+sizes[to]*scale, side) <= worst(sizes[from:to], scale, sum, side) {
			sum += sizes[to] * scale
			to++
		}
		free = layRow(rects[from:to], sizes[from:to], scale, sum, free)
		from = to
	}
	return rects
}

// worst gives the worst ratio of sides in a row that takes an area along a side.
func worst(row []float64, scale, sum, side float64) float64 {
	smallest := row[len(row)-1] * scale
	if sum == 0 || smallest == 0 || side == 0 {
		return 1e300 // they have no area, wherever they lie
	}
	return max(side*side*row[0]*scale/(sum*sum), sum*sum/(side*side*smallest))
}

// layRow puts a row along the shorter side, and gives what is left.
func layRow(rects []rect, row []float64, scale, sum float64, free rect) rect {
	side := min(free.w, free.h)
	if side <= 0 || sum <= 0 {
		for i := range rects {
			rects[i] = rect{free.x, free.y, 0, 0}
		}
		return free
	}
	depth, at := sum/side, 0.0
	for i, s := range row {
		length := s * scale / depth
		if free.w >= free.h {
			rects[i] = rect{free.x, free.y + at, depth, length}
		} else {
			rects[i] = rect{free.x + at, free.y, length, depth}
		}
		at += length
	}
	if free.w >= free.h {
		return rect{free.x + depth, free.y, max(free.w-depth, 0), free.h}
	}
	return rect{free.x, free.y + depth, free.w, max(free.h-depth, 0)}
}

// An htmlTile is one rectangle of the treemap, with as much of its name as it has room for.
type htmlTile struct {
	X, Y, W, H     string
	TextX, TextY   string
	SizeY          string
	Color          int
	Title          string
	Name, SizeText string
}

// Widths of the letters on a tile, in the picture's units.
const (
	letterWidth = 7.6
	tileLine    = 16.0
	tilePadding = 6.0
)

func newTile(a area, r rect, color int) htmlTile {
	t := htmlTile{
		X: coordinate(r.x), Y: coordinate(r.y), W: coordinate(r.w), H: coordinate(r.h), Color: color,
		TextX: coordinate(r.x + tilePadding), TextY: coordinate(r.y + tileLine), SizeY: coordinate(r.y + 2*tileLine),
		Title: fmt.Sprintf("%s: %s in %s", a.name, size(a.bytes), countOf(a.keys, "key")),
	}
	letters := int((r.w - 2*tilePadding) / letterWidth)
	if r.h >= tileLine+tilePadding && letters >= 4 {
		t.Name = fitted(a.name, letters)
	}
	if text := size(a.bytes); r.h >= 2*tileLine+tilePadding && letters >= len(text) && t.Name != "" {
		t.SizeText = text
	}
	return t
}

// fitted cuts a name to a number of letters.
func fitted(name string, letters int) string {
	runes := []rune(name)
	if len(runes) <= letters {
		return name
	}
	return string(runes[:letters-1]) + "…"
}

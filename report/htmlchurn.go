package report

import (
	"fmt"
	"strings"
	"time"

	"etcd-forensics/inspect"
	"etcd-forensics/snapdb/kube"
)

// An htmlChurn is how databases are filled and what their logs are made of.
type htmlChurn struct {
	Spaces []htmlSpace
	Growth *htmlGrowth
	Logs   []htmlLog
}

// An htmlSpace is what one database's file is used for, as one bar.
type htmlSpace struct {
	ID, Of string
	Desc   string
	Parts  []htmlPart
	Table  htmlTable
}

// An htmlLog is what the entries of one log are made of.
type htmlLog struct {
	Of     string
	Tables []htmlTable
}

func viewChurn(c *inspect.Case) htmlChurn {
	var v htmlChurn
	for _, m := range c.Members {
		if b := m.Backend; b != nil && b.Space != nil && b.Size > 0 {
			v.Spaces = append(v.Spaces, newSpace(fmt.Sprintf("space-%d", len(v.Spaces)+1), m.Source, b))
		}
		if w := m.WAL; w != nil && w.Statistics != nil {
			v.Logs = append(v.Logs, htmlLog{shown(m.Source), logTables(w.Statistics)})
		}
	}
	v.Growth = viewGrowth(c)
	return v
}

// barWidth is the width of a bar of the whole, in the picture's units.
const barWidth = 940.0

func newSpace(id, source string, b *inspect.Backend) htmlSpace {
	s := b.Space
	around := max(s.InUseBytes-s.LiveBytes-s.HistoryBytes, 0)
	rest := max(b.Size-s.InUseBytes-s.FreeBytes, 0)
	parts := []struct {
		class, name string
		bytes       int64
	}{
		{"s-live", "latest records of live keys", s.LiveBytes},
		{"s-history", "history: older records and deletions", s.HistoryBytes},
		{"s-around", "rest of the pages in use: headers, room, other buckets", around},
		{"s-free", "free pages", s.FreeBytes},
		{"s-rest", "never used, and a snapshot's hash", rest},
	}
	v := htmlSpace{
		ID: id, Of: shown(source), Desc: fmt.Sprintf("A file of %s: %s of live data, %s of history, %s free.", size(b.Size), size(s.LiveBytes), size(s.HistoryBytes), size(s.FreeBytes)),
		Table: htmlTable{Caption: "Space of the file", Header: []string{"what", "bytes", "size", "share"}},
	}
	x := axisLeft
	for _, p := range parts {
		if p.bytes == 0 {
			continue
		}
		w := float64(p.bytes) / float64(b.Size) * barWidth
		v.Parts = append(v.Parts, htmlPart{X: coordinate(x), W: coordinate(w), Class: p.class, Title: fmt.Sprintf("%s: %s", p.name, size(p.bytes))})
		v.Table.add([]htmlCell{{Text: p.name, Class: "swatch " + p.class}, {Text: count(p.bytes)}, sizeCell(p.bytes), barCell(p.bytes, b.Size)})
		x += w
	}
	return v
}

func logTables(s *inspect.LogStatistics) []htmlTable {
	kinds := htmlTable{Caption: fmt.Sprintf("%s of the log by kind, %s", countOf(s.Entries, "entry"), size(s.Bytes)), Header: []string{"kind", "entries", "bytes", "share of bytes"}}
	for _, k := range s.Kinds {
		kinds.share(k.Kind, k.Share, s.Bytes)
	}
	kinds.limit(maxRows, "wal --stats")
	tables := []htmlTable{kinds}
	if len(s.Prefixes) > 0 {
		t := htmlTable{Caption: "Churn: entries by prefix of the first key that they write", Header: []string{"prefix", "entries", "bytes", "share of bytes"}}
		for _, p := range s.Prefixes {
			t.share(shortKey(p.Prefix), p.Share, s.Bytes)
		}
		if s.Others.Entries > 0 {
			t.share("(all others)", s.Others, s.Bytes)
		}
		tables = append(tables, t)
	}
	return tables
}

func (t *htmlTable) share(name string, s inspect.Share, whole int64) {
	t.add([]htmlCell{{Text: shown(name)}, {Text: count(s.Entries)}, {Text: count(s.Bytes)}, barCell(s.Bytes, whole)})
}

// An htmlGrowth is the revision over the raft index, at the compactions that the logs tell of.
type htmlGrowth struct {
	Desc   string
	Line   string // path
	Points []htmlMark
	XTicks []htmlTick
	From   string // at the bottom
	To     string // at the top
	Of     string
}

// A growthPoint is one compaction.
type growthPoint struct {
	index    uint64
	revision int64
	event    inspect.LogEvent
}

// Measures of the growth, in the picture's units.
const (
	growthTop    = 14.0
	growthHeight = 180.0
	growthPoints = 240 // drawn of a log, spread over all
	leastPoints  = 3   // fewer tell nothing
)

// viewGrowth draws the log that tells of most compactions; nil when none tells of enough.
func viewGrowth(c *inspect.Case) *htmlGrowth {
	var best []growthPoint
	of := ""
	for _, m := range c.Members {
		if m.WAL == nil {
			continue
		}
		if points := compactions(m.WAL); len(points) > len(best) {
			best, of = points, m.Source
		}
	}
	if len(best) < leastPoints {
		return nil
	}
	v := &htmlGrowth{Of: shown(of), Desc: growthWords(best)}
	first, last := best[0], best[len(best)-1]
	a := axis{first.index, last.index}
	v.XTicks = ticks(a)
	y := func(revision int64) float64 {
		return growthTop + growthHeight*(1-float64(revision-first.revision)/float64(last.revision-first.revision))
	}
	v.From, v.To = "revision "+count(first.revision), "revision "+count(last.revision)
	var line strings.Builder
	step := max(1, (len(best)+growthPoints-1)/growthPoints)
	for i := 0; i < len(best); i += step {
		p := best[i]
		x, y := a.x(p.index), y(p.revision)
		fmt.Fprintf(&line, "%c%.1f %.1f", "ML"[min(i, 1)], x, y)
		v.Points = append(v.Points, htmlMark{D: fmt.Sprintf("M%.1f %.1fh6v6h-6z", x-3, y-3), Title: eventTitle(p.event, p.index)})
	}
	v.Line = line.String()
	return v
}

// compactions gives those of a log whose revision rises, in order.
func compactions(w *inspect.WAL) (points []growthPoint) {
	for _, e := range w.Timeline {
		if e.Event != inspect.EventCompaction || e.Index == nil || e.Revision == nil || e.Overwritten || *e.Revision < 0 {
			continue
		}
		if n := len(points); n > 0 && (*e.Index <= points[n-1].index || *e.Revision <= points[n-1].revision) {
			continue
		}
		points = append(points, growthPoint{*e.Index, *e.Revision, e})
	}
	return points
}

// growthWords says how fast the store grows, where times are known.
func growthWords(points []growthPoint) string {
	first, last := points[0], points[len(points)-1]
	s := fmt.Sprintf("%s compacted the store from revision %d at index %d to revision %d at index %d.", countOf(int64(len(points)), "compaction"), first.revision, first.index, last.revision, last.index)
	took, ok := between(first.event.Time, last.event.Time)
	if !ok {
		return s
	}
	rate := float64(last.revision-first.revision) / took.Minutes()
	return s + fmt.Sprintf(" That took about %s: %.1f revisions a minute.", roughly(took), rate)
}

// between gives the time between two estimates, when they are sure enough for a rate.
func between(from, to *kube.Estimate) (time.Duration, bool) {
	if from == nil || to == nil {
		return 0, false
	}
	before, ok := from.Uncertainty()
	after, bounded := to.Uncertainty()
	took := to.Time.Sub(from.Time)
	return took, ok && bounded && took >= time.Minute && took > surely*(before+after)
}

// surely is how many times a span must be longer than what its ends may be off by.
const surely = 5

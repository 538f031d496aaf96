package report

import (
	"fmt"
	"math"
	"slices"

	"etcd-forensics/inspect"
)

// An htmlTimeline is the raft log of all members on one axis of indexes.
type htmlTimeline struct {
	Desc   string
	Height string
	AxisY  string
	Ticks  []htmlTick
	Lanes  []htmlLane
	Legend []htmlSign
	Events []htmlEvents
	Counts htmlTable
}

// An htmlTick is a number on an axis.
type htmlTick struct {
	X, Text string
	Anchor  string // "start", "middle" or "end"
}

// An htmlLane is the log of one member.
type htmlLane struct {
	Name         string
	NameY        string
	Parts        []htmlPart
	Marks        []htmlMark
	Terms        []htmlTick
	TermY, LineY string
	LineEnd      string
}

// An htmlPart is a stretch of a log in one state.
type htmlPart struct{ X, Y, W, Class, Title string }

// An htmlMark is one event, or several for which there is no room side by side.
type htmlMark struct{ D, Class, Title string }

// htmlEvents lists the events of one member.
type htmlEvents struct {
	Of    string
	Table htmlTable
}

// Measures of the timeline, in the picture's units.
const (
	axisLeft   = 10.0
	axisWidth  = 940.0
	laneHeight = 84.0
	laneBar    = 38.0 // from the lane's top to its bar
	barHeight  = 16.0
	markStep   = 5.0 // marks nearer to each other are one
	leastPart  = 3.0 // width of a stretch with anything in it

	termPadding = 4.0 // from a term's mark to its label
	termLetter  = 6.5 // room for one character of it
)

// An axis maps indexes to the picture.
type axis struct{ first, last uint64 }

func (a axis) x(index uint64) float64 {
	if a.last <= a.first {
		return axisLeft
	}
	index = min(max(index, a.first), a.last)
	return axisLeft + float64(index-a.first)/float64(a.last-a.first)*axisWidth
}

// maxLanes bounds the members in the picture and the lists of events.
const maxLanes = 24

// viewTimeline gives nil when no source has a log.
func viewTimeline(c *inspect.Case) *htmlTimeline {
	var with []inspect.Member
	a := axis{math.MaxUint64, 0}
	for _, m := range c.Members {
		if w := m.WAL; w != nil && w.FirstIndex != nil && w.LastIndex != nil && len(with) < maxLanes {
			with = append(with, m)
			a.first, a.last = min(a.first, *w.FirstIndex), max(a.last, *w.LastIndex)
			if b := m.Backend; b != nil && b.ConsistentIndex != nil {
				a.last = max(a.last, *b.ConsistentIndex)
			}
		}
	}
	if with == nil {
		return nil
	}
	v := &htmlTimeline{Legend: timelineLegend(), Ticks: ticks(a), Counts: logTable(with)}
	for i, m := range with {
		v.Lanes = append(v.Lanes, newLane(m, a, float64(i)*laneHeight))
		if list := eventTable(m.WAL); len(list.Rows) > 0 {
			v.Events = append(v.Events, htmlEvents{shown(m.Source), list})
		}
	}
	bottom := float64(len(with)) * laneHeight
	v.AxisY, v.Height = coordinate(bottom+8), coordinate(bottom+34)
	v.Desc = fmt.Sprintf("The logs of %s over the raft index, %d to %d: what the database has applied, what is proven committed beyond that, what is not proven, and what happened.", countOf(int64(len(with)), "member"), a.first, a.last)
	return v
}

// timelineLegend lists what the picture is made of.
func timelineLegend() []htmlSign {
	list := []htmlSign{
		{"applied", "applied by the database", signSquare}, {"committed", "proven committed, not applied", signSquare}, {"uncommitted", "not proven committed", signSquare},
	}
	for _, m := range []struct{ class, means, from string }{
		{"m-leader", "a leader began its term", "M7 15"}, {"m-membership", "membership change", "M8 0"}, {"m-snapshot", "snapshot", "M8 0"},
		{"m-compaction", "compaction", "M8 1"}, {"m-other", "alarm, authentication, version", "M8 0"}, {"m-fault", "damage", "M8 -1"},
	} {
		list = append(list, htmlSign{m.class, m.means, m.from + markShapes[m.class]})
	}
	return list
}

// ticks puts about six round numbers on the axis.
func ticks(a axis) []htmlTick {
	step := uint64(1)
	for i := 0; (a.last-a.first)/step > 6 && step < math.MaxUint64/10; i++ {
		step *= []uint64{2, 5, 10}[i%3]
		if i%3 > 0 {
			step /= []uint64{1, 2, 5}[i%3]
		}
	}
	list := []htmlTick{{coordinate(a.x(a.first)), fmt.Sprint(a.first), "start"}}
	for at := a.first - a.first%step; at < a.last && a.last-at <= a.last-a.first+step; at += step {
		if x := a.x(at); at > a.first && x > axisLeft+60 && x < axisLeft+axisWidth-60 {
			list = append(list, htmlTick{coordinate(x), fmt.Sprint(at), "middle"})
		}
	}
	if a.last > a.first {
		list = append(list, htmlTick{coordinate(a.x(a.last)), fmt.Sprint(a.last), "end"})
	}
	return list
}

func newLane(m inspect.Member, a axis, top float64) htmlLane {
	w := m.WAL
	lane := htmlLane{
		Name: laneName(m), NameY: coordinate(top + 16), TermY: coordinate(top + 33), LineY: coordinate(top + laneBar + barHeight/2), LineEnd: coordinate(axisLeft + axisWidth),
	}
	applied := *w.FirstIndex - 1
	if b := m.Backend; b != nil && b.ConsistentIndex != nil {
		applied = *b.ConsistentIndex
	}
	proven := applied
	if w.ProvenCommit != nil {
		proven = max(proven, min(*w.ProvenCommit, *w.LastIndex))
	}
	part := func(from, to uint64, class, means string) {
		from = max(from, *w.FirstIndex)
		if to < from {
			return
		}
		x := a.x(from)
		width := max(a.x(to)-x, leastPart)
		x = min(x, axisLeft+axisWidth-width)
		lane.Parts = append(lane.Parts, htmlPart{coordinate(x), coordinate(top + laneBar), coordinate(width), class, fmt.Sprintf("entries %d to %d: %s", from, to, means)})
	}
	part(*w.FirstIndex, min(applied, *w.LastIndex), "applied", "applied by the database")
	part(applied+1, min(proven, *w.LastIndex), "committed", "proven committed, not applied")
	part(proven+1, *w.LastIndex, "uncommitted", "not proven committed")
	lane.mark(w, a, top)
	return lane
}

func laneName(m inspect.Member) string {
	name := fitted(Plain(m.Source), 90)
	if m.Name != nil && *m.Name != "" {
		name += " (" + fitted(Plain(*m.Name), 24) + ")"
	}
	return name
}

// markClasses says how an event is drawn; events that are not here are only listed.
var markClasses = map[string]string{
	inspect.EventLeader: "m-leader", inspect.EventMembership: "m-membership", inspect.EventSnapshot: "m-snapshot", inspect.EventCompaction: "m-compaction",
	inspect.EventAlarm: "m-other", inspect.EventAuth: "m-other", inspect.EventVersion: "m-other", inspect.EventFault: "m-fault",
}

// markShapes are the paths of marks, from the point on the edge of the bar at which they
// stand: those of terms above it, others below.
var markShapes = map[string]string{
	"m-leader": "v-14h1.6v14z", "m-membership": "m0 2l5 6l-5 6l-5 -6z", "m-snapshot": "m0 2l5.5 10h-11z", "m-compaction": "m-1 2h2v9h-2z",
	"m-other": "m-4 4h8v8h-8z", "m-fault": "m-5 3l5 4l5 -4l2 2l-5 5l5 5l-2 2l-5 -5l-5 5l-2 -2l5 -5l-5 -5z",
}

// mark draws the events that have an index. Those of one kind at one place are one mark.
func (l *htmlLane) mark(w *inspect.WAL, a axis, top float64) {
	type spot struct {
		class string
		slot  int
	}
	at := map[spot]int{}
	counts := map[spot]int{}
	labelEnd := 0.0 // of the last term's
	for _, e := range w.Timeline {
		class, index := markClasses[e.Event], e.Index
		if e.Event == inspect.EventFault && w.Fault != nil {
			index = w.Fault.Index
		}
		if class == "" || index == nil || e.Overwritten {
			continue
		}
		x := a.x(*index)
		here := spot{class, int(x / markStep)}
		counts[here]++
		if i, there := at[here]; there {
			l.Marks[i].Title = fmt.Sprintf("%s, the last of %d here", eventTitle(e, *index), counts[here])
			continue
		}
		y := top + laneBar + barHeight
		if class == "m-leader" {
			y = top + laneBar
			if x < labelEnd { // the newer one counts
				l.Terms, labelEnd = l.Terms[:len(l.Terms)-1], 0
			}
			if label := "term " + number(e.Term); e.Term != nil && x+labelWidth(label) <= axisLeft+axisWidth {
				l.Terms = append(l.Terms, htmlTick{coordinate(x + termPadding), label, "start"})
				labelEnd = x + labelWidth(label)
			}
		}
		at[here] = len(l.Marks)
		l.Marks = append(l.Marks, htmlMark{fmt.Sprintf("M%.1f %.1f%s", x, y, markShapes[class]), class, eventTitle(e, *index)})
	}
}

// labelWidth is the room that a term's label takes behind its mark.
func labelWidth(label string) float64 { return termPadding + termLetter*float64(len(label)) }

func eventTitle(e inspect.LogEvent, index uint64) string {
	s := fmt.Sprintf("index %d: %s", index, shownTo(e.What, 160))
	if e.Time != nil {
		s += ", " + timeCell(e.Time)
	}
	return s
}

// logTable gives the numbers behind the picture.
func logTable(with []inspect.Member) htmlTable {
	t := htmlTable{Caption: "Logs and what is applied of them", Header: []string{"source", "from index", "to index", "last term", "applied", "proven commit", "unapplied", "uncommitted"}}
	for _, m := range with {
		w, applied := m.WAL, "-"
		if m.Backend != nil {
			applied = number(m.Backend.ConsistentIndex)
		}
		unapplied, uncommitted := "-", "-"
		if !m.Interrupted {
			unapplied, uncommitted = count(w.Unapplied.Count), count(w.Uncommitted.Count)
		}
		t.row(shown(m.Source), number(w.FirstIndex), number(w.LastIndex), number(w.LastTerm), applied, number(w.ProvenCommit), unapplied, uncommitted)
	}
	return t
}

// eventsListed is the number of events of one member in its list, the newest.
const eventsListed = 100

func eventTable(w *inspect.WAL) htmlTable {
	from := max(0, len(w.Timeline)-eventsListed)
	listed := w.Timeline[from:]
	timed := slices.ContainsFunc(listed, func(e inspect.LogEvent) bool { return e.Time != nil })
	t := htmlTable{Caption: "What the log tells, in its order", Header: withTime([]string{"index", "term", "event"}, timed, "time (estimated)", "what"), Tall: true}
	for _, e := range listed {
		what := shown(e.What)
		switch {
		case e.Overwritten:
			what += " (overwritten: it never came to pass)"
		case e.Proven != nil && !*e.Proven:
			what += " (not proven committed)"
		}
		t.row(withTime([]string{number(e.Index), number(e.Term), shown(e.Event)}, timed, timeCell(e.Time), what)...)
	}
	older := int64(from)
	if w.Statistics != nil {
		older = -int64(len(w.Timeline) - from)
		for _, c := range w.Statistics.Events {
			older += c.Count
		}
	}
	if older > 0 {
		t.More = fmt.Sprintf("%s before these (etcd-forensics wal --stats)", countOf(older, "older event"))
	}
	return t
}

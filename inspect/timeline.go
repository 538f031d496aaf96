package inspect

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"etcd-forensics/snapdb/kube"
	"etcd-forensics/walreader"
	"etcd-forensics/walreader/raftlog"
)

// The events of a log's timeline.
const (
	EventVote       = "vote"       // the member's term or vote changed
	EventLeader     = "leader"     // a leader began its term
	EventMembership = "membership" // a conf change
	EventSnapshot   = "snapshot"   // the member made or received a snapshot
	EventCompaction = "compaction"
	EventAlarm      = "alarm"     // raised or cleared
	EventAuth       = "auth"      // authentication was switched on or off
	EventVersion    = "version"   // of the cluster, and downgrades
	EventOverwrite  = "overwrite" // entries took the place of others
	EventGap        = "gap"       // entries are not there
	EventFault      = "fault"     // etcd reads nothing from there on
)

// A LogEvent is something that befell the cluster or the member, as the log tells it. Only
// what applies is set.
type LogEvent struct {
	Event       string  `json:"event"`
	Index       *uint64 `json:"index,omitempty"`
	Term        *uint64 `json:"term,omitempty"`
	Revision    *int64  `json:"revision,omitempty"` // of a compaction
	What        string  `json:"what"`               // text from evidence is quoted
	Proven      *bool   `json:"proven,omitempty"`   // of an entry: it is proven committed
	Overwritten bool    `json:"overwritten,omitempty"`
	File        string  `json:"file"`
	Offset      int64   `json:"offset"`
	// Time is when, as times that values near it name let it be estimated.
	Time *kube.Estimate `json:"-"` // renderers say how sure it is

	segment   int
	place     int64 // in the LogClock, 0 for none
	plausible bool  // no unbroken chain of checksums leads to it
}

// An EventCount says how often something happened.
type EventCount struct {
	Event string `json:"event"`
	Count int64  `json:"count"`
}

// maxEvents is the number of events of one name that are kept, the newest.
const maxEvents = 1000

// A timeline collects events of a log in the order of the files.
type timeline struct {
	kept  map[string][]LogEvent
	count map[string]int64
}

func (t *timeline) add(e LogEvent) {
	if t.kept == nil {
		t.kept, t.count = map[string][]LogEvent{}, map[string]int64{}
	}
	t.count[e.Event]++
	list := t.kept[e.Event]
	if len(list) == 2*maxEvents {
		list = append(list[:0], list[maxEvents:]...)
	}
	t.kept[e.Event] = append(list, e)
}

// Actions of an alarm request (api/etcdserverpb/rpc.proto, v3.7.3).
const (
	alarmActivate   = 1
	alarmDeactivate = 2
)

// eventful says whether a request of a kind may be an event.
func eventful(kind raftlog.Kind) bool {
	switch kind {
	case raftlog.KindNone, "compaction", "alarm", "auth_enable", "auth_disable":
		return true
	}
	return false
}

// entry takes an entry that may be an event.
func (t *timeline) entry(e raftlog.Entry, at walreader.Position, segment int, proven bool, r *raftlog.Request) {
	if r == nil || !eventful(r.Kind) {
		return
	}
	index, term := e.Index, e.Term
	event := LogEvent{Index: &index, Term: &term, File: at.Segment, Offset: at.Offset, segment: segment, place: placeOf(index), plausible: !proven}
	switch r.Kind {
	case raftlog.KindNone:
		event.Event, event.What = EventLeader, fmt.Sprintf("a leader began term %d", e.Term)
	case "compaction":
		if r.Compaction == nil {
			return
		}
		rev := r.Compaction.Revision
		event.Event, event.Revision, event.What = EventCompaction, &rev, fmt.Sprintf("compaction at revision %d", rev)
	case "alarm":
		if r.Alarm == nil || r.Alarm.Action == alarmGet {
			return
		}
		event.Event, event.What = EventAlarm, DescribeAlarm(r.Alarm)
	case "auth_enable":
		event.Event, event.What = EventAuth, "authentication was switched on"
	case "auth_disable":
		event.Event, event.What = EventAuth, "authentication was switched off"
	}
	t.add(event)
}

// finish adds what the summary of the log has listed, and gives all events in order.
func (t *timeline) finish(l *raftlog.Log) (events []LogEvent, counts []EventCount) {
	t.fromRecords(l)
	t.fromEntries(l)
	t.fromFaults(l)
	for from, event := range map[string]string{
		"termChanges": EventVote, "snapshots": EventSnapshot, "confChanges": EventMembership, "versions": EventVersion, "overwrites": EventOverwrite, "gaps": EventGap,
	} {
		if n := int64(l.Dropped[from]); n > 0 {
			t.count[event] += n
		}
	}
	events, counts = []LogEvent{}, []EventCount{}
	for _, name := range slices.Sorted(maps.Keys(t.kept)) {
		list := t.kept[name]
		events = append(events, list[max(0, len(list)-maxEvents):]...)
		counts = append(counts, EventCount{name, t.count[name]})
	}
	for i := range events {
		e := &events[i]
		if e.Index == nil || e.Term == nil || e.Event == EventSnapshot {
			continue
		}
		term, ok := l.TermAt(*e.Index)
		e.Overwritten = !ok && l.Terms.Complete() || ok && term != *e.Term
	}
	slices.SortStableFunc(events, func(a, b LogEvent) int {
		return cmp.Or(cmp.Compare(a.segment, b.segment), cmp.Compare(a.Offset, b.Offset))
	})
	return events, counts
}

// at makes an event of a position in the log.
func (t *timeline) at(l *raftlog.Log, event string, at walreader.Position, proof walreader.Proof, what string) LogEvent {
	segment := slices.IndexFunc(l.Segments, func(s raftlog.Segment) bool { return s.Segment.File == at.Segment })
	return LogEvent{Event: event, What: what, File: at.Segment, Offset: at.Offset, segment: segment, plausible: proof != walreader.Proven}
}

func (t *timeline) fromRecords(l *raftlog.Log) {
	for _, c := range l.TermChanges {
		what := fmt.Sprintf("term %d, no vote", c.Term)
		if c.Vote != 0 {
			what = fmt.Sprintf("term %d, vote for %s", c.Term, ID(c.Vote))
		}
		e := t.at(l, EventVote, c.At, c.Proof, what)
		e.Term, e.place = &c.Term, placeBehind(c.After)
		t.add(e)
	}
	for _, s := range l.Snapshots {
		if s.Index == 0 {
			continue // begin of a log
		}
		what := "made a snapshot"
		if s.Received() {
			what = "received a snapshot"
		}
		e := t.at(l, EventSnapshot, s.At, s.Proof, fmt.Sprintf("%s at index %d", what, s.Index))
		e.Index, e.Term, e.place = &s.Index, &s.Term, placeBehind(s.After)
		t.add(e)
	}
}

func (t *timeline) fromEntries(l *raftlog.Log) {
	for _, c := range l.ConfChanges {
		e := t.at(l, EventMembership, c.At, c.Proof, DescribeConfChange(c.ConfChange))
		e.Index, e.Term, e.place = &c.Index, &c.Term, placeOf(c.Index)
		t.add(e)
	}
	for _, v := range l.Versions {
		what := "cluster version " + quoteKey([]byte(v.Version.Version))
		switch {
		case v.Kind == "downgrade_info_set" && v.Enabled:
			what = "downgrade to " + quoteKey([]byte(v.Version.Version))
		case v.Kind == "downgrade_info_set":
			what = "no downgrade any more"
		}
		e := t.at(l, EventVersion, v.At, v.Proof, what)
		e.Index, e.Term, e.place = &v.Index, &v.Term, placeOf(v.Index)
		t.add(e)
	}
	for _, o := range l.Overwrites {
		e := t.at(l, EventOverwrite, o.At, walreader.Proven, fmt.Sprintf("entries %d to %d of term %d and later were replaced by those of term %d", o.From, o.To, o.OldTerm, o.NewTerm))
		e.place = placeOf(o.From)
		t.add(e)
	}
}

func (t *timeline) fromFaults(l *raftlog.Log) {
	for _, g := range l.Gaps {
		what := fmt.Sprintf("entries %d to %d are not in the log", g.After+1, g.Next-1)
		if g.Explained() {
			what += fmt.Sprintf(": the member received the snapshot at index %d instead", g.Snapshot)
		}
		t.add(t.at(l, EventGap, g.At, walreader.Proven, what))
	}
	if s := l.Stop; s != nil {
		t.add(t.at(l, EventFault, s.Fault.At, walreader.Proven, fmt.Sprintf("%v where index %d belongs: etcd reads nothing from here on", s.Fault.Kind, s.Next)))
	}
}

// timeEvents estimates when the events were. What was overwritten has no place by
// which that could be told, and when bytes were damaged no place tells.
func (w *WAL) timeEvents(c *LogClock) {
	for i := range w.Timeline {
		e := &w.Timeline[i]
		if at, ok := c.at(e.place); ok && !e.Overwritten {
			e.Time = &at
		}
	}
}

// settleEvents says which of the entries among the events are proven committed.
func (w *WAL) settleEvents() {
	for i := range w.Timeline {
		e := &w.Timeline[i]
		if e.Index == nil || e.Event == EventSnapshot {
			continue
		}
		proven := w.ProvenCommit != nil && *e.Index <= *w.ProvenCommit && !e.Overwritten && !e.plausible
		e.Proven = &proven
	}
}

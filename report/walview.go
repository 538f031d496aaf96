package report

import "etcd-forensics/inspect"

// A memberView is a member whose keys are as JSON holds them.
type memberView struct {
	inspect.Member
	Backend *backendView `json:"backend"`
	WAL     *walView     `json:"wal"`
}

type walView struct {
	*inspect.WAL
	Unapplied   *unappliedView  `json:"unapplied"`
	Uncommitted *inspect.Count  `json:"uncommitted"`
	Statistics  *statisticsView `json:"statistics"`
	Timeline    []logEventView  `json:"timeline"`
}

type logEventView struct {
	inspect.LogEvent
	Time *estimateView `json:"time,omitempty"`
}

type unappliedView struct {
	inspect.Unapplied
	Keys []unappliedKeyView `json:"keys"`
}

type unappliedKeyView struct {
	Key         string `json:"key"`
	KeyEncoding string `json:"keyEncoding,omitempty"`
	inspect.UnappliedKey
}

type statisticsView struct {
	*inspect.LogStatistics
	Prefixes []prefixView  `json:"prefixes"`
	Biggest  []requestView `json:"biggest"`
}

type prefixView struct {
	Prefix      string `json:"prefix"`
	KeyEncoding string `json:"keyEncoding,omitempty"`
	inspect.Share
}

type requestView struct {
	inspect.LargeRequest
	Key         *string `json:"key,omitempty"`
	KeyEncoding string  `json:"keyEncoding,omitempty"`
}

func viewMembers(members []inspect.Member) []memberView {
	views := make([]memberView, len(members))
	for i, m := range members {
		views[i] = memberView{m, viewBackend(m.Backend), viewWAL(m.WAL, m.Interrupted)}
	}
	return views
}

func viewWAL(w *inspect.WAL, interrupted bool) *walView {
	if w == nil {
		return nil
	}
	v := &walView{WAL: w, Statistics: viewStatistics(w.Statistics), Timeline: make([]logEventView, len(w.Timeline))}
	for i, e := range w.Timeline {
		v.Timeline[i] = logEventView{e, viewEstimate(e.Time)}
	}
	if interrupted {
		return v // they take the database as well
	}
	v.Unapplied, v.Uncommitted = &unappliedView{w.Unapplied, make([]unappliedKeyView, len(w.Unapplied.Keys))}, &w.Uncommitted
	for i, k := range w.Unapplied.Keys {
		text, encoding := Key(k.Key)
		v.Unapplied.Keys[i] = unappliedKeyView{text, encoding, k}
	}
	return v
}

func viewStatistics(s *inspect.LogStatistics) *statisticsView {
	if s == nil {
		return nil
	}
	v := &statisticsView{LogStatistics: s, Prefixes: make([]prefixView, len(s.Prefixes)), Biggest: make([]requestView, len(s.Biggest))}
	for i, p := range s.Prefixes {
		text, encoding := Key(p.Prefix)
		v.Prefixes[i] = prefixView{text, encoding, p.Share}
	}
	for i, r := range s.Biggest {
		v.Biggest[i] = requestView{LargeRequest: r}
		if r.Key != nil {
			text, encoding := Key(r.Key)
			v.Biggest[i].Key, v.Biggest[i].KeyEncoding = &text, encoding
		}
	}
	return v
}

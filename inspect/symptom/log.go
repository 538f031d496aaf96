package symptom

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
)

// Limits of what is kept of a log.
const (
	// MaxLine is how much of a line is looked at, in bytes.
	MaxLine = 1 << 20
	// maxSets is how many different sets of facts are kept of a symptom.
	maxSets = 10
)

// A Log is what stands in a log.
type Log struct {
	Lines    int64     // lines read
	CutLines int64     // of them, longer than MaxLine: the rest of these was not looked at
	Seen     []Sighted // in the order of their first lines
}

// Sighted is one symptom of a log.
type Sighted struct {
	Symptom     *Symptom
	Count       int64
	First, Last Place
	Sets        []FactSet // the first that differ
	OtherSets   int64     // lines with facts that are none of Sets
}

// A Place is a line of a log.
type Place struct {
	Line int64  `json:"line"` // 1 for the first
	Time string `json:"time"` // as the line writes it; "" when it has none
}

// A FactSet is what several lines state alike.
type FactSet struct {
	Facts []Fact `json:"facts"`
	Count int64  `json:"count"`
}

// ReadLog recognises the symptoms in each line of a log. What has been seen comes
// beside an error, too.
func ReadLog(ctx context.Context, r io.Reader) (*Log, error) {
	log := &Log{}
	lines := bufio.NewReaderSize(r, 64<<10)
	var line []byte
	for {
		if err := ctx.Err(); err != nil {
			return log, err
		}
		var cut bool
		var err error
		line, cut, err = nextLine(ctx, lines, line[:0])
		if len(line) > 0 || err == nil {
			log.add(line, cut)
		}
		if errors.Is(err, io.EOF) {
			return log, nil
		}
		if err != nil {
			return log, err
		}
	}
}

// nextLine reads one line without its end, at most MaxLine bytes of it.
func nextLine(ctx context.Context, r *bufio.Reader, line []byte) (_ []byte, cut bool, err error) {
	for {
		part, err := r.ReadSlice('\n')
		room := MaxLine - len(line)
		text := bytes.TrimRight(part, "\r\n")
		line = append(line, text[:min(len(text), room)]...)
		cut = cut || len(text) > room
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, cut, err
		}
		if err := ctx.Err(); err != nil {
			return line, cut, err
		}
	}
}

func (l *Log) add(line []byte, cut bool) {
	l.Lines++
	if cut {
		l.CutLines++
	}
	m, ok := Recognise(string(line))
	if !ok {
		return
	}
	at := Place{l.Lines, m.Time}
	i := slices.IndexFunc(l.Seen, func(s Sighted) bool { return s.Symptom == m.Symptom })
	if i < 0 {
		i = len(l.Seen)
		l.Seen = append(l.Seen, Sighted{Symptom: m.Symptom, First: at})
	}
	s := &l.Seen[i]
	s.Count++
	s.Last = at
	s.count(lasting(m.Facts))
}

// lasting leaves the facts out that are different in each line.
func lasting(facts []Fact) []Fact {
	return slices.DeleteFunc(facts, func(f Fact) bool { return f.Name == "took" })
}

func (s *Sighted) count(facts []Fact) {
	if len(facts) == 0 {
		return
	}
	for i := range s.Sets {
		if slices.Equal(s.Sets[i].Facts, facts) {
			s.Sets[i].Count++
			return
		}
	}
	if len(s.Sets) == maxSets {
		s.OtherSets++
		return
	}
	s.Sets = append(s.Sets, FactSet{facts, 1})
}

// Matches gives the symptom with each of its sets of facts, to be confirmed.
func (s *Sighted) Matches() []Match {
	if len(s.Sets) == 0 {
		return []Match{{Symptom: s.Symptom}}
	}
	var list []Match
	for _, set := range s.Sets {
		list = append(list, Match{Symptom: s.Symptom, Facts: set.Facts})
	}
	return list
}

package symptom_test

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"etcd-forensics/inspect/symptom"
)

func read(t *testing.T, log string) *symptom.Log {
	t.Helper()
	l, err := symptom.ReadLog(context.Background(), iotest.HalfReader(strings.NewReader(log)))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLogIsCountedInTheOrderOfFirstLines(t *testing.T) {
	l := read(t, strings.Join([]string{
		"2026-11-21 04:30:42.1 E | rafthttp: failed to find member 1cc214e261ff7505 in cluster a204586ea257645c",
		"something else",
		"2026-11-21 04:30:43.1 W | wal: sync duration of 1.4s, expected less than 1s",
		"2026-11-21 04:30:44.1 E | rafthttp: failed to find member 1cc214e261ff7505 in cluster a204586ea257645c",
		"2026-11-21 04:30:45.1 W | wal: sync duration of 2.4s, expected less than 1s",
		"2026-11-21 04:30:46.1 E | rafthttp: failed to find member ff in cluster a204586ea257645c",
	}, "\n"))
	if l.Lines != 6 || len(l.Seen) != 2 {
		t.Fatalf("%+v", l)
	}
	first, second := l.Seen[0], l.Seen[1]
	if first.Symptom.Name != "peer-unknown" || first.Count != 3 || first.First.Line != 1 || first.Last.Line != 6 ||
		first.Last.Time != "2026-11-21 04:30:46.1" || len(first.Sets) != 2 || first.Sets[0].Count != 2 || first.Sets[1].Count != 1 {
		t.Errorf("%+v", first)
	}
	if second.Symptom.Name != "wal-sync-slow" || second.Count != 2 || len(second.Sets) != 1 || second.Sets[0].Count != 2 {
		t.Errorf("%+v", second)
	}
}

func TestFactsOfALogAreLimited(t *testing.T) {
	var b strings.Builder
	for i := range 100 {
		b.WriteString("page " + strconv.Itoa(i+2) + ": multiple references\n")
	}
	s := read(t, b.String()).Seen[0]
	if s.Count != 100 || len(s.Sets) != 10 || s.OtherSets != 90 {
		t.Errorf("%d lines, %d sets and %d others", s.Count, len(s.Sets), s.OtherSets)
	}
}

func TestLongLinesAreCut(t *testing.T) {
	const failure = "etcdserver: corrupt cluster"
	fits := strings.Repeat("x", symptom.MaxLine-len(failure)) + failure
	l := read(t, fits+"\n"+"x"+fits+"\r\n"+failure+"\n")
	if l.Lines != 3 || l.CutLines != 1 || l.Seen[0].Count != 2 || l.Seen[0].Last.Line != 3 {
		t.Errorf("%+v", l)
	}
}

// endless gives the same lines without end and ends ctx after some.
type endless struct {
	left int
	end  func()
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left--; e.left == 0 {
		e.end()
	}
	return copy(p, "etcdserver: no leader\n"), nil
}

func TestReadingALogCanBeInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	l, err := symptom.ReadLog(ctx, &endless{1000, cancel})
	if !errors.Is(err, context.Canceled) || l.Lines < 500 {
		t.Errorf("%d lines, %v", l.Lines, err)
	}
}

// oneLine gives a line without end and ends ctx after some of it.
type oneLine struct {
	left int
	end  func()
}

func (o *oneLine) Read(p []byte) (int, error) {
	if o.left--; o.left == 0 {
		o.end()
	}
	return copy(p, "etcdserver: no leader"), nil
}

func TestReadingALineWithoutEndCanBeInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := symptom.ReadLog(ctx, &oneLine{100000, cancel}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestWhatWasSeenComesBesideAnError(t *testing.T) {
	broken := errors.New("input/output error")
	l, err := symptom.ReadLog(context.Background(), io.MultiReader(strings.NewReader("etcdserver: no leader\nhalf"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || len(l.Seen) != 1 {
		t.Errorf("%+v, %v", l, err)
	}
}

func BenchmarkReadLog(b *testing.B) {
	var log strings.Builder
	for _, s := range samples(b) {
		log.WriteString(s.line + "\n")
	}
	b.SetBytes(int64(log.Len()))
	for b.Loop() {
		if _, err := symptom.ReadLog(context.Background(), strings.NewReader(log.String())); err != nil {
			b.Fatal(err)
		}
	}
}

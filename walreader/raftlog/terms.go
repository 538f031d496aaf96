package raftlog

import (
	"sort"

	"etcd-forensics/walreader"
)

// A Run is a stretch of consecutive entries of one term.
type Run struct {
	First, Last uint64 // raft indexes, both included
	Term        uint64
	Proof       walreader.Proof // of every entry in the run
	Accepted    bool            // etcd reads every entry in the run
	// Breaks tells runs apart that etcd does not read: it grows at each missing segment, and
	// once in each segment that has a fault at which etcd stops. 0 for what etcd reads.
	Breaks int
}

// maxRuns is the number of runs that Terms keeps. A new run begins with each
// term, which a cluster has some dozens of.
const maxRuns = 1 << 16

// Terms knows the term of each entry of a log, overwritten ones left out. It
// keeps runs instead of entries, because terms change seldom.
type Terms struct {
	runs    []Run
	dropped uint64 // highest index of the runs that were dropped
}

// At gives the term of the entry at an index. ok is false when the log holds
// no such entry or the log has so many runs that this one was dropped.
func (t *Terms) At(index uint64) (term uint64, ok bool) {
	run, ok := t.RunAt(index)
	return run.Term, ok
}

// RunAt gives the run that holds an index.
func (t *Terms) RunAt(index uint64) (Run, bool) {
	i := sort.Search(len(t.runs), func(i int) bool { return t.runs[i].Last >= index })
	if i == len(t.runs) || t.runs[i].First > index {
		return Run{}, false
	}
	return t.runs[i], true
}

// Stretch gives the unbroken stretch of runs that an index lies in: each goes on with the
// index after the one before, and nothing in between keeps etcd from reading on. It may lie
// behind damage. Nothing is given when the entry at the index is not proven.
func (t *Terms) Stretch(index uint64) []Run {
	at := sort.Search(len(t.runs), func(i int) bool { return t.runs[i].Last >= index })
	if at == len(t.runs) || t.runs[at].First > index || t.runs[at].Proof != walreader.Proven {
		return nil
	}
	goesOn := func(a, b Run) bool {
		return a.Last+1 == b.First && a.Breaks == b.Breaks && a.Proof == b.Proof && a.Accepted == b.Accepted
	}
	from, to := at, at+1
	for from > 0 && goesOn(t.runs[from-1], t.runs[from]) {
		from--
	}
	for to < len(t.runs) && goesOn(t.runs[to-1], t.runs[to]) {
		to++
	}
	return t.runs[from:to]
}

// Runs gives all runs in the order of their indexes.
func (t *Terms) Runs() []Run { return t.runs }

// Complete says whether no run had to be dropped.
func (t *Terms) Complete() bool { return t.dropped == 0 }

// last is the highest index in the log.
func (t *Terms) last() (Run, bool) {
	if len(t.runs) == 0 {
		return Run{}, false
	}
	return t.runs[len(t.runs)-1], true
}

// cut removes all entries at index and above, and tells how many there were.
func (t *Terms) cut(index uint64) uint64 {
	var n uint64
	for len(t.runs) > 0 {
		last := &t.runs[len(t.runs)-1]
		if last.Last < index {
			break
		}
		if last.First < index {
			n += last.Last - index + 1
			last.Last = index - 1
			break
		}
		n += last.Last - last.First + 1
		t.runs = t.runs[:len(t.runs)-1]
	}
	return n
}

// add puts an entry at the end; index is above all others.
func (t *Terms) add(run Run) {
	if len(t.runs) > 0 {
		last := &t.runs[len(t.runs)-1]
		if last.Last+1 == run.First && last.Term == run.Term && last.Proof == run.Proof && last.Accepted == run.Accepted && last.Breaks == run.Breaks {
			last.Last = run.Last
			return
		}
	}
	if len(t.runs) == 2*maxRuns {
		t.dropped = t.runs[maxRuns-1].Last
		t.runs = append(t.runs[:0], t.runs[maxRuns:]...)
	}
	t.runs = append(t.runs, run)
}

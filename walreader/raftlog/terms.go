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
		if last.Last+1 == run.First && last.Term == run.Term && last.Proof == run.Proof && last.Accepted == run.Accepted {
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

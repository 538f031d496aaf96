package inspect

import (
	"fmt"
	"testing"

	"etcd-forensics/walreader"
	"etcd-forensics/walreader/raftlog"
)

func TestPrefixesOfKeys(t *testing.T) {
	for key, want := range map[string]string{
		"/registry/pods/ns/a": "/registry/pods/",
		"/registry/pods/":     "/registry/pods/",
		"/registry/x":         "/registry/",
		"a/b/c/d":             "a/b/",
		"a/b":                 "a/",
		"//a":                 "//",
		"plain":               "",
		"/":                   "",
		"":                    "",
	} {
		if got := string(prefixOf([]byte(key))); got != want {
			t.Errorf("%q: %q, want %q", key, got, want)
		}
	}
}

// However many prefixes there are, few are kept, the sum is exact, and the one with most
// bytes is known for what it is.
func TestManyPrefixesAreBoundedAndAddUp(t *testing.T) {
	var s logStats
	const n = 40_000
	var r raftlog.Request
	for i := range n {
		key := fmt.Sprintf("p%d/q/k", i)
		if i%4 == 0 {
			key = "busy/q/k"
		}
		r.Kind, r.Ops = "put", []raftlog.Op{{Kind: raftlog.OpPut, Key: []byte(key)}}
		s.entry(raftlog.Entry{Index: uint64(i + 1), Data: make([]byte, 10)}, walreader.Position{}, &r)
	}
	if len(s.prefixes.of) > maxShares {
		t.Errorf("%d prefixes are kept", len(s.prefixes.of))
	}
	st := s.finish(&raftlog.Log{})
	sum := st.Others
	for _, p := range st.Prefixes {
		sum.add(p.Share)
	}
	if sum != (Share{n, n * 10}) {
		t.Errorf("they add up to %+v", sum)
	}
	if first := st.Prefixes[0]; string(first.Prefix) != "busy/q/" || first.Entries != n/4 || len(st.Prefixes) != sharesListed {
		t.Errorf("%d listed, the first is %q with %d", len(st.Prefixes), first.Prefix, first.Entries)
	}
}

func TestTheBiggestRequestsAreKept(t *testing.T) {
	var s logStats
	for i := range 100 {
		s.entry(raftlog.Entry{Index: uint64(i + 1), Data: make([]byte, i*37%100)}, walreader.Position{}, nil)
	}
	if len(s.biggest) != maxBiggest {
		t.Fatalf("%d", len(s.biggest))
	}
	for i, b := range s.biggest {
		if b.Bytes != int64(99-i) {
			t.Errorf("number %d has %d bytes", i, b.Bytes)
		}
	}
}

func TestTheNewestEventsAreKept(t *testing.T) {
	var tl timeline
	const n = 5000
	for i := range n {
		rev := int64(i)
		tl.entry(raftlog.Entry{Index: uint64(i + 1), Term: 1}, walreader.Position{Offset: int64(i)}, 0, true,
			&raftlog.Request{Kind: "compaction", Compaction: &raftlog.Compaction{Revision: rev}})
	}
	events, counts := tl.finish(&raftlog.Log{})
	if len(events) != maxEvents || *events[0].Revision != n-maxEvents || *events[maxEvents-1].Revision != n-1 {
		t.Errorf("%d events from revision %d on", len(events), *events[0].Revision)
	}
	if len(counts) != 1 || counts[0] != (EventCount{EventCompaction, n}) {
		t.Errorf("%v", counts)
	}
}

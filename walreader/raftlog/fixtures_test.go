package raftlog

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"etcd-forensics/fixtures"
)

func hex(n uint64) string { return strconv.FormatUint(n, 16) }

// TestLogsSayWhatTheLiveServersSaid compares each member's log with what its
// server said before it stopped.
func TestLogsSayWhatTheLiveServersSaid(t *testing.T) {
	compared := 0
	for _, name := range fixtures.Names() {
		if name == "bumped-3.6" {
			continue // restored and never started: its truth is that of the one that was
		}
		t.Run(name, func(t *testing.T) {
			dir := fixtures.Dir(t, name)
			truth := fixtures.LoadTruth(t, name)
			for _, e := range truth.Endpoints {
				wal := filepath.Join(dir, e.Member, "member", "wal")
				if _, err := os.Stat(wal); err != nil {
					continue
				}
				compared++
				l := summarize(t, wal, Options{})
				if id := hex(l.Metadata.NodeID); id != e.MemberID {
					t.Errorf("%s: member %s, truth %s", e.Member, id, e.MemberID)
				}
				if id := hex(l.Metadata.ClusterID); id != truth.ClusterID {
					t.Errorf("%s: cluster %s, truth %s", e.Member, id, truth.ClusterID)
				}
				// A server goes on writing after it was asked, so that the log may
				// be ahead of what it said.
				if l.Entries.Last < e.RaftIndex || l.Entries.LastTerm < e.RaftTerm {
					t.Errorf("%s: last entry %d of term %d, truth %d of term %d", e.Member, l.Entries.Last, l.Entries.LastTerm, e.RaftIndex, e.RaftTerm)
				}
				// What a member was asked for may have been purged since.
				if term, ok := l.TermAt(e.RaftIndex); e.RaftIndex >= l.Entries.First && (!ok || term > e.RaftTerm) {
					t.Errorf("%s: term of %d is %d, truth %d", e.Member, e.RaftIndex, term, e.RaftTerm)
				}
				if l.Entries != l.Found || l.Stop != nil || l.Conflicts != nil || l.Undecodable != nil || l.Backsteps != nil {
					t.Errorf("%s: %+v", e.Member, l)
				}
				for _, g := range l.Gaps {
					if !g.Explained() {
						t.Errorf("%s: %+v", e.Member, g)
					}
				}
				for _, s := range l.Segments {
					if !s.NameFollows() {
						t.Errorf("%s: %s, expected %d", e.Member, s.Segment.File, s.Expected)
					}
				}
				for _, k := range l.Requests {
					if k.Kind == KindUnknown {
						t.Errorf("%s: %d requests of unknown kind", e.Member, k.Entries)
					}
				}
			}
		})
	}
	if compared < 20 {
		t.Errorf("only %d members compared", compared)
	}
}

// TestTheMembershipOfALogIsTheLiveOne carries the changes out and compares the
// result with the member list.
func TestTheMembershipOfALogIsTheLiveOne(t *testing.T) {
	for _, name := range []string{"membership-3.4", "membership-3.5", "membership-3.7", "cluster3-3.5-crash", "healthy-3.8"} {
		t.Run(name, func(t *testing.T) {
			truth := fixtures.LoadTruth(t, name)
			l := summarize(t, filepath.Join(fixtures.Dir(t, name), "m1", "member", "wal"), Options{})
			members := map[uint64]Member{}
			var removed []string
			for _, c := range l.ConfChanges {
				id := c.Changes[0].NodeID
				m := members[id]
				switch {
				case c.Changes[0].Type == RemoveNode:
					delete(members, id)
					removed = append(removed, hex(id))
					continue
				case c.Promotes:
					m.IsLearner = false
				case c.Changes[0].Type == UpdateNode:
					m.PeerURLs = c.Member.PeerURLs
				default:
					m = *c.Member
				}
				members[id] = m
			}
			for _, a := range l.Attributes {
				if m, ok := members[a.ID]; ok {
					m.Name, m.ClientURLs = a.Name, a.ClientURLs
					members[a.ID] = m
				}
			}
			var got []fixtures.TruthMember
			for _, m := range members {
				slices.Sort(m.PeerURLs)
				if m.ClientURLs == nil {
					m.ClientURLs = []string{}
				}
				got = append(got, fixtures.TruthMember{ID: hex(m.ID), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner})
			}
			byID := func(a, b fixtures.TruthMember) int { return strings.Compare(a.ID, b.ID) }
			slices.SortFunc(got, byID)
			want := slices.Clone(truth.Members)
			for i := range want {
				slices.Sort(want[i].PeerURLs)
				if want[i].ClientURLs == nil {
					want[i].ClientURLs = []string{}
				}
			}
			slices.SortFunc(want, byID)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%+v\nwant %+v", got, want)
			}
			slices.Sort(removed)
			slices.Sort(truth.Removed)
			if !slices.Equal(removed, truth.Removed) {
				t.Errorf("removed %v, want %v", removed, truth.Removed)
			}
		})
	}
}

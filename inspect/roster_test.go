package inspect

import (
	"fmt"
	"strings"
	"testing"

	"etcd-forensics/walreader/raftlog"
)

// change makes a conf change of one member; url is its peer URL.
func change(t raftlog.ChangeType, id uint64, url string, promotes bool) raftlog.ConfChangeEntry {
	c := raftlog.ConfChangeEntry{Index: 7}
	c.Changes = []raftlog.Change{{Type: t, NodeID: id}}
	c.Promotes = promotes
	if url != "" || promotes {
		c.Member = &raftlog.Member{ID: id, PeerURLs: []string{url}}
	}
	return c
}

func (r roster) text() string {
	var parts []string
	for _, m := range r.sorted() {
		s := fmt.Sprintf("%s %s", m.MemberID, strings.Join(m.PeerURLs, ","))
		if m.IsLearner {
			s += " learner"
		}
		if r.unsure[m.MemberID] {
			s += " unsure"
		}
		parts = append(parts, s)
	}
	for _, id := range []ID{1, 2, 3, 4} {
		if at, ok := r.removed[id]; ok {
			parts = append(parts, fmt.Sprintf("%s removed at %d", id, at))
		}
	}
	return strings.Join(parts, "; ")
}

// What etcd refuses changes nothing; what it takes does.
func TestConfChangesAreCarriedOutAsEtcdDoes(t *testing.T) {
	const add, remove, update, learn = raftlog.AddNode, raftlog.RemoveNode, raftlog.UpdateNode, raftlog.AddLearnerNode
	for _, c := range []struct {
		name   string
		change raftlog.ConfChangeEntry
		want   string
	}{
		{"add", change(add, 4, "d", false), "1 a; 2 b learner; 4 d; 3 removed at 0"},
		{"add who is there", change(add, 1, "d", false), "1 a; 2 b learner; 3 removed at 0"},
		{"add a learner by its id", change(add, 2, "d", false), "1 a; 2 b learner; 3 removed at 0"},
		{"add at another's URL", change(add, 4, "a", false), "1 a; 2 b learner; 3 removed at 0"},
		{"add who was removed", change(add, 3, "d", false), "1 a; 2 b learner; 3 removed at 0"},
		{"promote", change(add, 2, "", true), "1 a; 2 b; 3 removed at 0"},
		{"promote a voter", change(add, 1, "", true), "1 a; 2 b learner; 3 removed at 0"},
		{"promote nobody", change(add, 4, "", true), "1 a; 2 b learner; 3 removed at 0"},
		{"a second learner", change(learn, 4, "d", false), "1 a; 2 b learner; 4 d learner unsure; 3 removed at 0"},
		{"update", change(update, 1, "d", false), "1 d; 2 b learner; 3 removed at 0"},
		{"update to another's URL", change(update, 1, "b", false), "1 a; 2 b learner; 3 removed at 0"},
		{"update a learner", change(update, 2, "d", false), "1 a; 2 d learner; 3 removed at 0"},
		{"update nobody", change(update, 4, "d", false), "1 a; 2 b learner; 3 removed at 0"},
		{"remove", change(remove, 1, "", false), "2 b learner; 1 removed at 7; 3 removed at 0"},
		{"remove nobody", change(remove, 4, "", false), "1 a; 2 b learner; 3 removed at 0"},
		{"remove again", change(remove, 3, "", false), "1 a; 2 b learner; 3 removed at 0"},
		{"unknown type", change(9, 4, "d", false), "1 a; 2 b learner; 3 removed at 0"},
	} {
		r := newRoster()
		r.add(MembershipMember{MemberID: 1, PeerURLs: []string{"a"}})
		r.add(MembershipMember{MemberID: 2, PeerURLs: []string{"b"}, IsLearner: true})
		r.removed[3] = 0
		r.apply(c.change)
		if got := r.text(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// A URL that its member gave up can be another's.
func TestURLIsFreeAgainAfterAnUpdate(t *testing.T) {
	r := newRoster()
	r.add(MembershipMember{MemberID: 1, PeerURLs: []string{"a"}})
	r.apply(change(raftlog.UpdateNode, 1, "b", false))
	r.apply(change(raftlog.AddNode, 2, "a", false))
	if got := r.text(); got != "1 b; 2 a" {
		t.Errorf("%s", got)
	}
	r.apply(change(raftlog.RemoveNode, 2, "", false))
	r.apply(change(raftlog.AddNode, 4, "a", false))
	if got := r.text(); got != "1 b; 4 a; 2 removed at 7" {
		t.Errorf("%s", got)
	}
}

// What a configuration without URLs leaves open is not held against anyone.
func TestConfigurationsAreComparedAsFarAsIsSure(t *testing.T) {
	bare := rosterOf([]ID{1}, nil)
	bare.apply(change(raftlog.AddNode, 2, "a", false))
	if !bare.sameConfiguration(rosterOf([]ID{1}, nil)) || !bare.sameConfiguration(rosterOf([]ID{1, 2}, nil)) {
		t.Error("a member whose URL may have been refused decides")
	}
	if bare.sameConfiguration(rosterOf([]ID{2}, nil)) || bare.sameConfiguration(rosterOf([]ID{1, 3}, nil)) {
		t.Error("other members are taken for the same")
	}
	if rosterOf([]ID{1}, nil).sameConfiguration(rosterOf(nil, []ID{1})) {
		t.Error("a learner is taken for a voter")
	}
}

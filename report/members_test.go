package report

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"etcd-forensics/inspect"
)

// hostileMembership has text of the evidence wherever there can be any.
func hostileMembership(text string) *inspect.MembershipReport {
	index := uint64(7)
	m := inspect.MembershipMember{MemberID: 1, Name: text, PeerURLs: []string{text}, ClientURLs: []string{text}, StatedBy: []string{"members"}}
	other := m
	other.PeerURLs = []string{text + "x"}
	ms := inspect.Membership{
		Members: []inspect.MembershipMember{m}, Zombies: []inspect.MembershipMember{{MemberID: 2, Name: text}},
		Removed: []inspect.ID{3}, Removals: []inspect.Removal{{MemberID: 3, Index: &index, Name: text, PeerURLs: []string{text}}},
		Applied:    &inspect.RaftConfiguration{Index: 6, Voters: []inspect.ID{1, 3}, Learners: []inspect.ID{}},
		Proven:     &inspect.RaftConfiguration{Index: 7, Voters: []inspect.ID{1}, Learners: []inspect.ID{4}},
		Changes:    []inspect.MembershipChange{{Index: 7, Term: 2, Change: text, MemberID: 3, Name: text, PeerURLs: []string{text}}},
		Statements: []inspect.Statement{{Place: "members", File: text, Index: &index, Members: []inspect.MembershipMember{other}, Removed: []inspect.ID{}}},
		Identity:   &inspect.Identity{Initial: []inspect.ID{1, 3}, Token: &text},
	}
	return &inspect.MembershipReport{
		Membership: ms, Findings: []inspect.Finding{},
		Others: []inspect.Finding{{Code: inspect.CodeWALChecksum, Severity: inspect.SeverityError}},
		Sources: []inspect.MembershipSource{
			{Source: inspect.Source{Path: text, Files: []inspect.SourceFile{}}, Included: true, Membership: ms, NotExamined: []string{text}},
			{Source: inspect.Source{Path: text + "2", Files: []inspect.SourceFile{}}, Membership: ms, NotExamined: []string{}},
		},
	}
}

func TestMembersAreHarmlessOnATerminal(t *testing.T) {
	r := hostileMembership("\x1b[31mred\u202e\u200b\r\x00\xff")
	var text, js bytes.Buffer
	if err := Members(&text, r, TextOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := MembersJSON(&js, r); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"text": text.Bytes(), "JSON": js.Bytes()} {
		if i := bytes.IndexAny(b, "\x1b\u202e\u200b\r\x00"); i >= 0 {
			t.Errorf("%s: %q", name, b[max(0, i-20):min(len(b), i+20)])
		}
	}
	if !json.Valid(js.Bytes()) {
		t.Error("no JSON")
	}
	for _, want := range []string{
		"zombie", "index 7", "PROVEN      no", "raft as of index 6, applied: 2 voters (majority: 2) 1 3", "raft as of index 7, committed: 1 voter (majority: 1) 1; 1 learner 4",
		"not of this cluster: ", "1 error about other things",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, text.String())
		}
	}
	if !strings.Contains(js.String(), `"findings": []`) {
		t.Error("a list without elements is not empty")
	}
}

package inspect_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.uber.org/zap"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/inspect/inspecttest"
)

// inspectPaths inspects paths together, with tokens to try.
func inspectPaths(t testing.TB, tokens []string, paths ...string) *inspect.Case {
	t.Helper()
	return inspecttest.Paths(t, inspect.Options{Tokens: tokens}, paths...)
}

// membershipText renders members and removals in one line.
func membershipText(m inspect.Membership) string {
	var parts []string
	for _, mm := range m.Members {
		parts = append(parts, fmt.Sprintf("%s %q %v %v %t", mm.MemberID, mm.Name, mm.PeerURLs, mm.ClientURLs, mm.IsLearner))
	}
	parts = append(parts, fmt.Sprintf("removed %v", m.Removed))
	return strings.Join(parts, "\n")
}

func truthText(truth fixtures.Truth) string {
	var parts []string
	members := slices.Clone(truth.Members)
	slices.SortFunc(members, func(a, b fixtures.TruthMember) int {
		return strings.Compare(fmt.Sprintf("%16s", a.ID), fmt.Sprintf("%16s", b.ID))
	})
	for _, m := range members {
		urls := slices.Clone(m.PeerURLs)
		parts = append(parts, fmt.Sprintf("%s %q %v %v %t", m.ID, m.Name, urls, m.ClientURLs, m.IsLearner))
	}
	parts = append(parts, fmt.Sprintf("removed %v", truth.Removed))
	return strings.Join(parts, "\n")
}

// Whatever is handed in of a cluster, in whatever order: who belongs is what the live
// cluster said, as long as one of those that stayed is there.
func TestMembershipIsThatOfTheLiveCluster(t *testing.T) {
	for _, name := range []string{"membership-3.4", "membership-3.5", "membership-3.7"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := fixtures.Dir(t, name)
			want := truthText(fixtures.LoadTruth(t, name))
			for _, some := range [][]string{{"m1"}, {"m2"}, {"m4"}, {"snapshot.db"}, {"m3", "m1"}, {"m4", "m3", "snapshot.db"}, {"snapshot.db", "m3", "m4"}, {"m4", "m3", "m2", "m1"}} {
				var paths []string
				for _, s := range some {
					paths = append(paths, filepath.Join(dir, s))
				}
				r := inspectPaths(t, []string{"fixture"}, paths...).Membership()
				if got := membershipText(r.Membership); got != want {
					t.Errorf("%v:\n%s\nthe servers said\n%s", some, got, want)
				}
				for _, f := range r.Findings {
					if f.Code != inspect.CodeMemberRemoved || filepath.Base(f.Member) != "m3" {
						t.Errorf("%v: %s: %s", some, f.Code, f.Message)
					}
				}
				if id := r.Membership.Identity; slices.Contains(some, "m1") && (id.Token == nil || *id.Token != "fixture" || id.Follows == nil || !*id.Follows || len(id.Initial) != 3) {
					t.Errorf("%v: identity %+v", some, id)
				}
			}
		})
	}
}

// When a member went, and what was left of it, is in the log.
func TestRemovalsHaveTheirPlaceInTheLog(t *testing.T) {
	dir := fixtures.Dir(t, "membership-3.5")
	r := inspectPaths(t, nil, filepath.Join(dir, "m4"), filepath.Join(dir, "m1")).Membership()
	if len(r.Membership.Removals) != 1 {
		t.Fatalf("%+v", r.Membership.Removals)
	}
	if m := r.Membership.Removals[0]; m.Index == nil || *m.Index != 93 || m.Name != "m3" || len(m.PeerURLs) != 1 {
		t.Errorf("%+v", m)
	}
	var what []string
	for _, c := range r.Membership.Changes {
		what = append(what, c.Change)
		if !c.Proven {
			t.Errorf("not proven: %+v", c)
		}
	}
	if want := []string{"add", "add", "add", "remove", "add_learner", "promote", "add_learner", "update"}; !slices.Equal(what, want) {
		t.Errorf("changes %v, want %v", what, want)
	}
}

// A directory that does not know of its member's removal is told of by the others.
func TestRemovalIsKnownFromOthers(t *testing.T) {
	dir := fixtures.Dir(t, "membership-3.7")
	one := fixtures.Dir(t, "forced-new-3.7")
	c := inspectPaths(t, nil, filepath.Join(dir, "m2"), filepath.Join(one, "m1"))
	found := slices.ContainsFunc(c.Findings, func(f inspect.Finding) bool {
		return f.Code == inspect.CodeMemberRemoved && f.Member == filepath.Join(dir, "m2") && strings.Contains(f.Message, filepath.Join(one, "m1")+" knows")
	})
	if !found {
		t.Errorf("findings %v", codes(c))
	}
}

// Ids are those that etcd computes.
func TestIDsAreEtcds(t *testing.T) {
	for i, list := range [][]string{
		{"a=http://127.0.0.1:2380"},
		{"a=http://127.0.0.1:2380", "b=https://[::1]:2380", "c=http://c.example:1"},
		{"a=http://b.example:2,a=http://a.example:1", "b=http://b.example:1"},
	} {
		for _, token := range []string{"etcd-cluster", "", "k8s_etcd"} {
			urls, err := types.NewURLsMap(strings.Join(list, ","))
			if err != nil {
				t.Fatal(err)
			}
			cluster, err := membership.NewClusterFromURLsMap(zap.NewNop(), token, urls)
			if err != nil {
				t.Fatal(err)
			}
			var ids []inspect.ID
			for _, m := range cluster.Members() {
				ids = append(ids, inspect.ID(m.ID))
				if got := inspect.MemberIDOf(m.PeerURLs, token); got != inspect.ID(m.ID) {
					t.Errorf("%d, token %q: member %s, etcd says %s", i, token, got, m.ID)
				}
			}
			slices.Reverse(ids)
			if got := inspect.ClusterIDOf(ids); got != inspect.ID(cluster.ID()) {
				t.Errorf("%d, token %q: cluster %s, etcd says %s", i, token, got, cluster.ID())
			}
		}
	}
}

// restoreThree restores a fixture's snapshot to three members, with etcdutl's own code,
// and gives their directories. peers are the peer URLs.
func restoreThree(t *testing.T, name, token string, peers []string) []string {
	t.Helper()
	snap := filepath.Join(fixtures.Dir(t, name), "snapshot.db")
	var parts []string
	for i, u := range peers {
		parts = append(parts, fmt.Sprintf("m%d=%s", i+1, u))
	}
	var dirs []string
	for i, u := range peers {
		dir := filepath.Join(t.TempDir(), fmt.Sprintf("m%d", i+1))
		err := snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
			SnapshotPath: snap, Name: fmt.Sprintf("m%d", i+1), OutputDataDir: dir, PeerURLs: []string{u},
			InitialCluster: strings.Join(parts, ","), InitialClusterToken: token,
		})
		if err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	return dirs
}

// A restored cluster is one of its own, whatever conf state the snapshot brought along,
// and nothing but a note says so.
func TestRestoredMembersAreToldOf(t *testing.T) {
	first := fixtures.LoadTruth(t, "healthy-3.7").Members[0].PeerURLs[0]
	for _, c := range []struct {
		token string
		peers []string
		tries []string
	}{
		{"etcd-cluster", []string{"http://10.0.0.1:2380", "http://10.0.0.2:2380", "http://10.0.0.3:2380"}, nil},
		{"new token", []string{"http://10.0.0.1:2380", "http://10.0.0.2:2380", "http://10.0.0.3:2380"}, []string{"new token"}},
		// Under the token of the old cluster its member is one of the new.
		{"fixture", []string{first, "http://10.0.0.2:2380", "http://10.0.0.3:2380"}, []string{"fixture"}},
	} {
		dirs := restoreThree(t, "healthy-3.7", c.token, c.peers)
		db := filepath.Join(t.TempDir(), "copy.db")
		b, err := os.ReadFile(filepath.Join(dirs[0], "member", "snap", "db"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(db, b, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, paths := range [][]string{dirs, dirs[:1], {db}} {
			r := inspectPaths(t, c.tries, paths...).Membership()
			for _, f := range r.Findings {
				if f.Code != inspect.CodeMemberRestored {
					t.Errorf("token %q, %v: %s: %s", c.token, paths, f.Code, f.Message)
				}
			}
			if len(r.Findings) != len(paths) {
				t.Errorf("token %q, %v: %d findings", c.token, paths, len(r.Findings))
			}
			var names []string
			for _, m := range r.Membership.Members {
				names = append(names, m.Name)
			}
			slices.Sort(names)
			if !slices.Equal(names, []string{"m1", "m2", "m3"}) {
				t.Errorf("token %q, %v: members %v", c.token, paths, names)
			}
			if token := r.Membership.Identity.Token; token == nil || *token != c.token {
				t.Errorf("token %q, %v: not found", c.token, paths)
			}
		}
	}
}

// The token that Rancher restores with is tried.
func TestTokenIsGuessed(t *testing.T) {
	for name, want := range map[string]string{"restored-3.4": "etcd-cluster-1", "healthy-3.4": ""} {
		r := inspectPaths(t, nil, filepath.Join(fixtures.Dir(t, name), "m1")).Membership()
		switch token := r.Membership.Identity.Token; {
		case want == "" && token != nil:
			t.Errorf("%s: token %q", name, *token)
		case want != "" && (token == nil || *token != want):
			t.Errorf("%s: token %v, want %s", name, token, want)
		}
	}
}

// Sources of another cluster are named and do not take part.
func TestForeignMembersAreLeftOut(t *testing.T) {
	dir := fixtures.Dir(t, "member-foreign")
	r := inspectPaths(t, nil, filepath.Join(dir, "m3"), filepath.Join(dir, "m1"), filepath.Join(dir, "m2")).Membership()
	for _, s := range r.Sources {
		if s.Included == (filepath.Base(s.Path) == "m3") {
			t.Errorf("%s: included %t", s.Path, s.Included)
		}
	}
	if len(r.Membership.Members) != 3 {
		t.Errorf("%d members", len(r.Membership.Members))
	}
}

// A database that is older or newer than the log beside it, as after a stop in the
// middle of a change, is not held against the membership.
func TestOtherMomentsAreNotHeldAgainstTheMembership(t *testing.T) {
	inspect.InFullOnly(t)
	for _, name := range []string{"membership-3.4", "membership-3.5", "membership-3.7"} {
		for _, to := range []string{"m1", "m2", "m3", "m4"} {
			dir := fixtures.Dir(t, name)
			for _, from := range []string{"m1", "m2", "m3", "m4"} {
				b, err := fixtures.ReadFile(name, from+"/member/snap/db")
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, to, "member", "snap", "db"), b, 0o600); err != nil {
					t.Fatal(err)
				}
				for _, f := range inspectPaths(t, nil, filepath.Join(dir, to)).Membership().Findings {
					if f.Code != inspect.CodeMemberRemoved || to != "m3" {
						t.Errorf("%s: %s with the database of %s: %s: %s", name, to, from, f.Code, f.Message)
					}
				}
			}
		}
	}
}

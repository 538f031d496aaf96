package kube

import (
	"fmt"
	"reflect"
	"testing"
	"time"
)

func TestNotes(t *testing.T) {
	owner := func(uid string) []Owner { return []Owner{{"apps/v1", "ReplicaSet", "rs", uid}} }
	lease := func(namespace string, ago time.Duration, seconds int64) Meta {
		return Meta{APIVersion: "coordination.k8s.io/v1", Kind: "Lease", Namespace: namespace, Renewed: noon.Add(-ago), LeaseSeconds: seconds}
	}
	for _, c := range []struct {
		name   string
		m      Meta
		newest time.Time
		want   []Note
	}{
		{"owned", Meta{Owners: owner("live")}, noon, nil},
		{"orphaned", Meta{Owners: owner("gone")}, noon, []Note{{Kind: OwnerMissing, Owner: owner("gone")[0]}}},
		{"orphaned, and no time known", Meta{Owners: owner("gone")}, time.Time{}, []Note{{Kind: OwnerMissing, Owner: owner("gone")[0]}}},
		{"owned by nothing", Meta{Owners: owner("")}, noon, nil},
		{"owned by an encrypted secret", Meta{Owners: []Owner{{"v1", "Secret", "s", "gone"}}}, noon, nil},
		{"owned by an encrypted policy", Meta{Owners: []Owner{{"a.b/v1", "Policy", "p", "gone"}}}, noon, nil},
		{"owned by a policy of another group", Meta{Owners: []Owner{{"c.d/v1", "Policy", "p", "gone"}}}, noon, []Note{{Kind: OwnerMissing, Owner: Owner{"c.d/v1", "Policy", "p", "gone"}}}},
		{"owned by an encrypted node", Meta{Owners: []Owner{{"v1", "Node", "n", "gone"}}}, noon, nil},
		{"stuck", Meta{Deleted: noon.Add(-time.Hour), Finalizers: []string{"b", "a"}}, noon, []Note{{Kind: Deleting, Since: noon.Add(-time.Hour), Finalizers: []string{"a", "b"}}}},
		{"stuck behind a grace period", Meta{Deleted: noon.Add(-30 * time.Second), GracePeriodSeconds: 60, Finalizers: []string{"a"}}, noon, []Note{{Kind: Deleting, Since: noon.Add(-90 * time.Second), Finalizers: []string{"a"}}}},
		{"just being deleted", Meta{Deleted: noon.Add(-time.Minute), Finalizers: []string{"a"}}, noon, nil},
		{"deleted without finalizers", Meta{Deleted: noon.Add(-time.Hour)}, noon, nil},
		{"stuck, and no time known", Meta{Deleted: noon.Add(-time.Hour), Finalizers: []string{"a"}}, time.Time{}, nil},
		{"silent", lease(nodeLeases, 41*time.Second, 40), noon, []Note{{Kind: NodeSilent, Since: noon.Add(-41 * time.Second)}}},
		{"silent without saying how long", lease(nodeLeases, 41*time.Second, 0), noon, []Note{{Kind: NodeSilent, Since: noon.Add(-41 * time.Second)}}},
		{"silent for an absurd time", lease(nodeLeases, 41*time.Second, 1<<62), noon, []Note{{Kind: NodeSilent, Since: noon.Add(-41 * time.Second)}}},
		{"in time", lease(nodeLeases, 40*time.Second, 40), noon, nil},
		{"in time of a long lease", lease(nodeLeases, time.Minute, 300), noon, nil},
		{"a lease of another kind", lease("kube-system", time.Hour, 40), noon, nil},
		{"silent, and no time known", lease(nodeLeases, time.Hour, 40), time.Time{}, nil},
	} {
		checks := NewChecks()
		checks.Add([]byte("k"), 7, &c.m)
		checks.Add([]byte("rs"), 8, &Meta{UID: "live"})
		checks.AddUnreadable([]byte("secrets"))
		checks.AddUnreadable([]byte("minions"))
		checks.AddUnreadable([]byte("a.b/policies"))
		got, complete := checks.Notes(c.newest)
		for i := range c.want {
			c.want[i].Key, c.want[i].Revision = "k", 7
		}
		if !complete || len(got)+len(c.want) > 0 && !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestNotesAreSorted(t *testing.T) {
	checks := NewChecks()
	for i := range 20 {
		checks.Add(fmt.Appendf(nil, "%02d", 19-i), int64(i), &Meta{Owners: []Owner{{UID: "b"}, {UID: "a"}}})
	}
	notes, _ := checks.Notes(noon)
	if len(notes) != 40 {
		t.Fatalf("%d notes", len(notes))
	}
	for i, n := range notes {
		if n.Key != fmt.Sprintf("%02d", i/2) || n.Owner.UID != []string{"a", "b"}[i%2] {
			t.Errorf("%d: %+v", i, n)
		}
	}
}

func TestNotesAreBounded(t *testing.T) {
	for name, m := range map[string]Meta{
		"deletions": {Deleted: noon, Finalizers: []string{"a"}},
		"leases":    {APIVersion: "coordination.k8s.io/v1", Kind: "Lease", Namespace: nodeLeases, Renewed: noon},
		"owners":    {Owners: []Owner{{Name: string(make([]byte, maxReferences/maxNoted)), UID: "x"}}},
	} {
		checks := NewChecks()
		for range maxNoted + 1 {
			checks.Add([]byte("k"), 1, &m)
		}
		if notes, complete := checks.Notes(noon.Add(time.Hour)); complete || len(notes) > maxNoted {
			t.Errorf("%s: %d notes, complete %v", name, len(notes), complete)
		}
	}
	checks := NewChecks()
	for i := range maxNoted + 1 {
		checks.AddUnreadable(fmt.Appendf(nil, "%d", i))
	}
	checks.Add([]byte("k"), 1, &Meta{Owners: []Owner{{Kind: "Pod", UID: "x"}}})
	if notes, complete := checks.Notes(noon); complete || len(notes) > 0 {
		t.Errorf("%d notes, complete %v", len(notes), complete)
	}
}

package kube

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestAnchors(t *testing.T) {
	micro := noon.Add(5 * time.Microsecond)
	for _, c := range []struct {
		name    string
		m       Meta
		version int64
		want    Anchor
	}{
		{"nothing", Meta{}, 1, Anchor{Unit: time.Second}},
		{"renewed lease", Meta{Renewed: micro, Acquired: noon, Created: noon}, 9, Anchor{micro, FromRenewTime, time.Microsecond, true}},
		{"acquired lease", Meta{Acquired: micro, Created: noon}, 9, Anchor{micro, FromAcquireTime, time.Microsecond, false}},
		{"created now", Meta{Created: noon}, 1, Anchor{noon, FromCreation, time.Second, true}},
		{"created long ago", Meta{Created: noon}, 2, Anchor{noon, FromCreation, time.Second, false}},
		{"changed", Meta{Created: noon, Managed: []ManagedFields{{Time: noon.Add(time.Hour)}, {Time: noon.Add(time.Minute)}}}, 2, Anchor{noon.Add(time.Hour), FromManagedFields, time.Second, false}},
		{"event", Meta{Created: noon, Observed: noon.Add(time.Hour)}, 2, Anchor{noon.Add(time.Hour), FromEvent, time.Second, false}},
		{"in deletion", Meta{Created: noon, Deleted: noon.Add(time.Minute), GracePeriodSeconds: 30}, 2, Anchor{noon.Add(30 * time.Second), FromDeletion, time.Second, false}},
		{"in deletion with an absurd grace period", Meta{Created: noon, Deleted: noon.Add(time.Minute), GracePeriodSeconds: -1 << 63}, 2, Anchor{noon, FromCreation, time.Second, false}},
	} {
		if got, ok := AnchorOf(&c.m, c.version); got != c.want || ok != (c.want.How != FromNothing) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// cluster writes a revision every 100 ms; each twentieth is the renewal of a
// lease, and each seventh an object that says when it was made, to the second.
func cluster(revisions int64) (at func(int64) time.Time, add func(*Clock, int64)) {
	at = func(r int64) time.Time { return noon.Add(time.Duration(r) * 100 * time.Millisecond) }
	return at, func(c *Clock, r int64) {
		switch {
		case r%20 == 0:
			c.Add(r, Anchor{at(r), FromRenewTime, time.Microsecond, true})
		case r%7 == 0:
			c.Add(r, Anchor{at(r).Truncate(time.Second), FromCreation, time.Second, true})
		case r%3 == 0: // touched long after its last time
			c.Add(r, Anchor{at(r - r%200).Truncate(time.Second), FromManagedFields, time.Second, false})
		}
	}
}

func checkClock(t *testing.T, c *Clock, at func(int64) time.Time, from, to int64, within time.Duration) {
	t.Helper()
	for r := from; r <= to; r++ {
		e, ok := c.At(r)
		if !ok {
			t.Fatalf("no estimate of %d", r)
		}
		if off := e.Time.Sub(at(r)).Abs(); off > within {
			t.Fatalf("%d is off by %v: %+v", r, off, e)
		}
		if e.Earliest.After(at(r).Add(skewed)) || !e.Latest.IsZero() && e.Latest.Before(at(r).Add(-skewed)) {
			t.Fatalf("%d is out of its bounds: %+v", r, e)
		}
	}
}

func TestEstimatesAreWithinTwoSeconds(t *testing.T) {
	at, add := cluster(5000)
	var c Clock
	for r := int64(1); r <= 5000; r++ {
		add(&c, r)
	}
	checkClock(t, &c, at, 20, 5000, time.Second)
	if e, _ := c.At(2500); e.How != FromRenewTime || e.Time != at(2500) {
		t.Errorf("at a renewal: %+v", e)
	}
	if u, ok := must(c.At(2501)).Uncertainty(); !ok || u > 2*time.Second {
		t.Errorf("uncertainty %v, %v", u, ok)
	}
	if newest, ok := c.Newest(); !ok || newest != at(5000) {
		t.Errorf("newest %v", newest)
	}
}

func must(e Estimate, ok bool) Estimate {
	if !ok {
		panic("no estimate")
	}
	return e
}

func TestClocksThatAreOffAreLeftOut(t *testing.T) {
	for name, off := range map[string]time.Duration{"an hour ahead": time.Hour, "an hour behind": -time.Hour, "half a minute ahead": 30 * time.Second} {
		at, add := cluster(5000)
		var c Clock
		for r := int64(1); r <= 5000; r++ {
			if r%20 == 0 && r%100 == 40 && r < 4900 { // one node of five
				c.Add(r, Anchor{at(r).Add(off), FromRenewTime, time.Microsecond, true})
				continue
			}
			add(&c, r)
		}
		t.Run(name, func(t *testing.T) { checkClock(t, &c, at, 100, 4800, 2*time.Second) })
	}
}

func TestOpenEnds(t *testing.T) {
	var c Clock
	if e, ok := c.At(1); ok {
		t.Errorf("from nothing: %+v", e)
	}
	if _, ok := c.Newest(); ok {
		t.Error("a newest time of nothing")
	}
	c.Add(10, Anchor{noon, FromRenewTime, time.Microsecond, true})
	if e, ok := c.At(5); !ok || !e.Earliest.IsZero() || e.Latest != noon.Add(commitTime+time.Microsecond) || e.Time != noon {
		t.Errorf("before the first: %+v", e)
	}
	if e, ok := c.At(11); !ok || e.Earliest != noon || !e.Latest.IsZero() || e.Time != noon {
		t.Errorf("behind the last: %+v", e)
	}
	if _, ok := must(c.At(11)).Uncertainty(); ok {
		t.Error("an open estimate names an uncertainty")
	}
	if e, ok := c.At(10); !ok || e.Time != noon || e.Earliest != noon {
		t.Errorf("at the anchor: %+v", e)
	}
	// Times that may be older than the write bound it from below alone.
	var stale Clock
	stale.Add(10, Anchor{noon, FromManagedFields, time.Second, false})
	if e, ok := stale.At(9); ok {
		t.Errorf("before a stale anchor: %+v", e)
	}
}

func TestTheOrderOfAnchorsMakesNoDifference(t *testing.T) {
	const revisions = 600_000 // more than is kept
	at, add := cluster(revisions)
	order := func(next func(int64) int64) *Clock {
		var c Clock
		for i := range int64(revisions) {
			add(&c, next(i)+1)
		}
		return &c
	}
	up := order(func(i int64) int64 { return i })
	random := rand.New(rand.NewPCG(1, 2)).Perm(revisions)
	shuffled := order(func(i int64) int64 { return int64(random[i]) })
	for r := int64(1); r < revisions; r += 997 {
		a, _ := up.At(r)
		b, _ := shuffled.At(r)
		if a != b {
			t.Fatalf("%d: %+v and %+v", r, a, b)
		}
	}
	if len(up.points) > maxAnchors {
		t.Errorf("%d anchors are kept", len(up.points))
	}
	checkClock(t, up, at, revisions/2, revisions/2+5000, 2*time.Second)
}

// leaseRenewedAt is a Lease as a custom API server would store it.
func leaseRenewedAt(at time.Time) []byte {
	return []byte(`{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"n","creationTimestamp":"2020-01-01T00:00:00Z"},"spec":{"renewTime":"` +
		at.Format("2006-01-02T15:04:05.000000Z") + `"}}`)
}

func TestAnchorsInValues(t *testing.T) {
	lease := leaseRenewedAt(noon)
	for _, c := range []struct {
		name, key string
		value     []byte
		version   int64
		want      How
	}{
		{"a lease", "/registry/leases/kube-node-lease/n", lease, 7, FromRenewTime},
		{"text of another resource is not read", "/registry/widgets/n", lease, 7, FromNothing},
		{"text too long for a lease", "/registry/leases/kube-node-lease/n", append(make([]byte, 0, 1<<17), append([]byte(strings.Repeat(" ", maxTimedText)), lease...)...), 7, FromNothing},
		{"nothing of Kubernetes", "/registry/leases/kube-node-lease/n", []byte("12"), 7, FromNothing},
		{"encrypted", "/registry/leases/kube-node-lease/n", []byte("k8s:enc:aescbc:v1:key1:0123456789"), 7, FromNothing},
		{"no object", "/registry/leases/kube-node-lease/n", []byte("{}"), 1, FromNothing},
		{"cut short", "/registry/leases/kube-node-lease/n", lease[:len(lease)-1], 7, FromNothing},
	} {
		if a, ok := AnchorIn([]byte(c.key), c.value, c.version); a.How != c.want || ok != (c.want != FromNothing) {
			t.Errorf("%s: %+v, %v", c.name, a, ok)
		}
	}
}

// TestCutForgets what was added last, before and after anchors were thinned out.
func TestCutForgets(t *testing.T) {
	for _, revisions := range []int64{10, 2*maxAnchors + 50000} {
		at, _ := cluster(revisions)
		var c Clock
		for r := int64(1); r <= revisions; r++ {
			c.Add(r, Anchor{at(r), FromRenewTime, time.Microsecond, true})
		}
		c.Cut(6)
		if e, ok := c.At(revisions); !ok || e.Time.After(at(5)) || !e.Latest.IsZero() {
			t.Errorf("of %d: %+v", revisions, e)
		}
		if c.Cut(1); c.Any() {
			t.Errorf("of %d: something is left", revisions)
		}
	}
}

func TestCloserEstimates(t *testing.T) {
	bounded := func(d time.Duration) Estimate {
		return Estimate{Time: noon, Earliest: noon.Add(-d), Latest: noon.Add(d)}
	}
	open := Estimate{Time: noon, Earliest: noon}
	for _, c := range []struct {
		name    string
		a, b    Estimate
		aCloser bool
	}{
		{"smaller bounds", bounded(time.Second), bounded(time.Minute), true},
		{"larger bounds", bounded(time.Minute), bounded(time.Second), false},
		{"the same", bounded(time.Second), bounded(time.Second), false},
		{"against an open one", bounded(time.Hour), open, true},
		{"an open one", open, bounded(time.Hour), false},
		{"two open ones", open, open, false},
	} {
		if c.a.Closer(c.b) != c.aCloser {
			t.Error(c.name)
		}
	}
}

package inspect

import (
	"cmp"
	"context"
	"slices"
)

// A Comparison says how members and snapshots of one case compare.
type Comparison struct {
	Ranking        []Ranked     `json:"ranking"` // the best first
	Best           string       `json:"best"`    // "" when none is usable
	CommonRevision *int64       `json:"commonRevision"`
	Agree          *bool        `json:"agree"` // up to CommonRevision; nil when nothing could be compared
	Divergences    []Divergence `json:"divergences"`
	// Diverging counts all differences, by source; what Divergences lists is limited.
	Diverging []Diverging `json:"diverging"`
	// NotCompared says which sources were left out of the comparison of contents, and
	// why.
	NotCompared []NotCompared `json:"notCompared"`
	// Known are differences that versions of etcd make and that are no divergence.
	Known  []NotCompared `json:"known"`
	Quorum *Quorum       `json:"quorum"` // nil when no member directory says who votes
}

// A Divergence is one revision at which sources differ.
type Divergence struct {
	Revision int64    `json:"revision"`
	Key      []byte   `json:"-"`       // renderers quote it
	Member   string   `json:"member"`  // the one that a majority or the log contradicts; "" when nothing decides
	Between  []string `json:"between"` // those that differ
	Kind     string   `json:"kind"`    // missing, extra, value, metadata
	// Index is the raft entry behind the revision, where a log and its database
	// together prove it.
	Index *uint64 `json:"index"`
}

// Kinds of divergence.
const (
	DivergenceMissing  = "missing"
	DivergenceExtra    = "extra"
	DivergenceValue    = "value"
	DivergenceMetadata = "metadata"
)

// Diverging says how far a divergence has spread in one source.
type Diverging struct {
	Member        string `json:"member"` // "" for differences that nothing decides
	Differences   int64  `json:"differences"`
	FirstRevision int64  `json:"firstRevision"`
	LastRevision  int64  `json:"lastRevision"`
	AtLeast       bool   `json:"atLeast"` // Differences is a lower bound
}

// NotCompared is a source, or a part of it, that was not compared.
type NotCompared struct {
	Member string `json:"member"`
	Reason string `json:"reason"`
}

// compare compares the sources, and predicts what etcd would do with each of them,
// which the quorum depends on. Without a Comparison contents were not compared to their end.
func (c *Case) compare(ctx context.Context, all []*examination) error {
	comparison, findings, err := compareContents(ctx, all)
	for _, x := range all {
		x.predictStartup()
	}
	if comparison == nil {
		return err
	}
	err = rankSources(ctx, all, comparison)
	c.Comparison = comparison
	c.Findings = append(findings, checkMembers(all, comparison)...)
	return err
}

// compareNothing gives several sources that were not all examined, or not compared to their
// end, a Comparison that says of each what it is by itself, and nothing of how they compare:
// any of the rest may be the best, or contradict the others.
func (c *Case) compareNothing(all []*examination) {
	if len(all) < 2 || c.Comparison != nil {
		return
	}
	k := newComparison()
	for _, x := range all {
		reason := "the examination ended before contents were compared"
		if x.interrupted {
			reason = "it was not examined to its end"
		}
		k.NotCompared = append(k.NotCompared, NotCompared{x.src.Path, reason})
	}
	k.sortNotCompared()
	rankAlone(all, k)
	c.Comparison = k
}

func newComparison() *Comparison {
	return &Comparison{Ranking: []Ranked{}, Divergences: []Divergence{}, Diverging: []Diverging{}, NotCompared: []NotCompared{}, Known: []NotCompared{}}
}

func (c *Comparison) sortNotCompared() {
	slices.SortFunc(c.NotCompared, func(a, b NotCompared) int { return cmp.Compare(a.Member, b.Member) })
}

// compareContents compares what the databases hold, and blames who differs. It
// gives nil when there are fewer than two sources, and when it could not be finished.
func compareContents(ctx context.Context, all []*examination) (*Comparison, []Finding, error) {
	if len(all) < 2 {
		return nil, nil, nil
	}
	c := newComparison()
	cluster := mainCluster(all)
	var holders []*holder
	for _, x := range all {
		reason := x.notComparable(cluster)
		if reason != "" {
			c.NotCompared = append(c.NotCompared, NotCompared{x.src.Path, reason})
			continue
		}
		x.held = newHolder(x)
		holders = append(holders, x.held)
	}
	// What is found must not depend on the order of the paths.
	slices.SortFunc(holders, compareHolders)
	d := &divergences{ctx: ctx, holders: holders, limit: all[0].opts.Limits.PerCode}
	if err := d.find(); err != nil {
		return nil, nil, err
	}
	for _, h := range d.strangers {
		c.NotCompared = append(c.NotCompared, NotCompared{h.x.src.Path, otherStore})
	}
	c.sortNotCompared()
	if len(d.holders) > 1 {
		agree := len(d.list) == 0
		c.CommonRevision, c.Agree = &d.common, &agree
	}
	d.known(c)
	return c, d.report(c), nil
}

// mainCluster is the cluster that most members are of, among equals the one with
// the lowest id; nil when no source tells.
func mainCluster(all []*examination) *ID {
	count := map[ID]int{}
	for _, x := range all {
		if id := x.member.ClusterID; id != nil {
			count[*id]++
		}
	}
	var main *ID
	for id, n := range count {
		if main == nil || cmp.Or(cmp.Compare(n, count[*main]), cmp.Compare(*main, id)) > 0 {
			main = &id
		}
	}
	return main
}

// notComparable says why a source's content cannot be compared, "" when it can.
func (x *examination) notComparable(cluster *ID) string {
	switch {
	case cluster != nil && x.member.ClusterID != nil && *x.member.ClusterID != *cluster:
		return "it is of another cluster"
	case x.db == nil || x.db.keys == nil || x.db.tree == nil:
		return "it has no database that can be read"
	case !x.db.complete():
		return "its database is damaged, so that records may be missing"
	case x.db.keyBucket() < 0:
		return "its database has no bucket key"
	}
	return ""
}

package restore

import (
	"fmt"
	"math"

	"etcd-forensics/inspect"
)

// margin is added to the highest revision that is known, for writes of which no
// evidence is left: etcd's documentation has this number, a week of 1500 writes a
// second.
const margin = 1_000_000_000

// bump decides how revisions go on. Watchers and caches remember revisions: when the
// cluster counts them a second time, clients miss what happens meanwhile, and nothing
// tells them (kubernetes/kubernetes#107457). With --bump-revision and --mark-compacted
// they are told that their revision is compacted, and list again.
func (b *builder) bump() {
	r := &b.p.Revision
	r.Source = deref(b.backend().Revision)
	r.Highest = b.highestRevision()
	if b.platform.revisions != "" {
		b.p.warn("revisions", b.platform.revisions, b.restartWhat())
		return
	}
	restored := r.Source
	r.Restored = &restored
	if b.backend().Kubernetes == nil {
		switch {
		case b.fromLogAlone(): // how far that reaches, and of what, a damaged database does not tell
			b.p.warn("revisions", "no revision of the new database is known yet, so this plan raises none",
				"plan again with the new database as the source; otherwise restart every client that watches or remembers revisions")
		case r.Highest > r.Source:
			b.p.warn("revisions", fmt.Sprintf("clients may have seen revision %d, and the restored store goes on at %d", r.Highest, r.Source+1),
				"restart every client that watches or remembers revisions")
		}
		return
	}
	if r.Highest < 0 || r.Highest > math.MaxInt64-2*margin {
		b.p.warn("revisions", fmt.Sprintf("the revision %d cannot be raised: there are none beyond", r.Highest), b.restartWhat())
		return
	}
	has, needs := sinceBump.has(b.version)
	if !has {
		b.p.warn("revisions", fmt.Sprintf("etcd %s cannot raise revisions at a restore: revisions up to %d are given out a second time, and clients that watch miss changes", b.version, r.Highest),
			"restart every API server, controller, scheduler, kubelet and operator after the restore, or use a version that has --bump-revision (3.4.27, 3.5.10)")
		return
	}
	restored = r.Highest + margin
	r.Bump = uint64(restored - b.backend().LastRecord)
	if needs != "" {
		b.p.warn("version", fmt.Sprintf("--bump-revision and --mark-compacted need %s of etcd %s or later", b.version.restoreTool(), needs), "see "+b.version.restoreTool()+" version")
		if b.version.Minor == 4 {
			// 3.4 checks neither; it bumps only when both are there (clientv3/snapshot/v3_snapshot.go).
			return
		}
	}
}

// highestRevision is the highest that a client can have seen: that of any database,
// and one more for each entry that no database has applied.
func (b *builder) highestRevision() int64 {
	var highest int64
	for i := range b.c.Members {
		m := &b.c.Members[i]
		if !b.related(m) || m.Backend == nil {
			continue
		}
		r := deref(m.Backend.Revision)
		if m.WAL != nil && m.WAL.LastIndex != nil && m.Backend.ConsistentIndex != nil && *m.WAL.LastIndex > *m.Backend.ConsistentIndex {
			r += min(int64(min(*m.WAL.LastIndex-*m.Backend.ConsistentIndex, margin)), math.MaxInt64-r)
		}
		highest = max(highest, r)
	}
	return highest
}

// related says whether a source is of the store that is restored.
func (b *builder) related(m *inspect.Member) bool {
	if m.Source == b.member.Source {
		return true
	}
	if m.ClusterID != nil && b.p.OldClusterID != nil && *m.ClusterID != *b.p.OldClusterID {
		return false
	}
	return true
}

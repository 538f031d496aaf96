package inspect

import (
	"bytes"
	"slices"
	"strings"

	"etcd-forensics/snapdb/keyspace"
)

// Incidents of etcd that leave a divergence of this shape, and the versions that had
// them. Patch versions are not on disk, so that the member's own one has to be asked.
const (
	incidentTwice = "; the same write stands before it: known of etcd 3.5.0 to 3.5.5, which applied entries again after a defragmentation and a crash (https://github.com/etcd-io/etcd/issues/14685)"
	incidentAuth  = "; authentication is on: known of etcd 3.4.20, 3.4.21 and 3.5.5, which refused writes after a snapshot from the leader (https://github.com/etcd-io/etcd/issues/14571)"
	incidentLost  = "; known of etcd 3.5.0 to 3.5.2, which lost writes when killed under load (https://github.com/etcd-io/etcd/issues/13766)"
)

// knownIncident names the incident whose evidence a member's first difference
// shows, "" when it shows none.
func knownIncident(h *holder, d *difference) string {
	b := h.x.member.Backend
	if b == nil || b.ClusterVersion == nil {
		return ""
	}
	is34, is35 := strings.HasPrefix(*b.ClusterVersion, "3.4."), strings.HasPrefix(*b.ClusterVersion, "3.5.")
	switch {
	case is35 && h.twice(d.revision):
		return incidentTwice
	case (is34 || is35) && b.Auth != nil && b.Auth.Enabled && h.skipped(d):
		return incidentAuth
	case is35 && h.skipped(d):
		return incidentLost
	}
	return ""
}

// skipped says whether the holder lacks one write of others and has those behind it:
// then each has a revision less than there, or the holder ends one earlier although
// it has applied the same entries. A hole in the revisions is none of that.
func (h *holder) skipped(d *difference) bool {
	value, _ := h.recordAt(d.revision)
	mine, err := keyspace.DecodeKeyValue(value)
	return err == nil && slices.ContainsFunc(d.between, func(o *holder) bool {
		if o == h || slices.Contains(d.blamed, o) {
			return false
		}
		if value == nil {
			return h.revision < d.revision.Main && h.x.db.meta.index == o.x.db.meta.index
		}
		next, _ := o.recordAt(keyspace.Revision{Main: d.revision.Main + 1, Sub: d.revision.Sub})
		theirs, err := keyspace.DecodeKeyValue(next)
		return next != nil && err == nil && bytes.Equal(theirs.Key, mine.Key) && bytes.Equal(theirs.Value, mine.Value)
	})
}

// twiceWithin is how many revisions back the first of two like writes is looked for:
// etcd commits its batch after 10 000 operations (etcd v3.5.0,
// server/mvcc/backend/backend.go, defaultBatchLimit).
const twiceWithin = 10000

// twice says whether the holder's record at a revision repeats an earlier one: the
// same key and value, one version on.
func (h *holder) twice(rev keyspace.Revision) bool {
	value, tombstone := h.recordAt(rev)
	again, err := keyspace.DecodeKeyValue(value)
	if value == nil || tombstone || err != nil {
		return false
	}
	found := false
	h.between(max(1, rev.Main-twiceWithin), rev.Main-1, func(at keyspace.Revision, _, v []byte) bool {
		kv, err := keyspace.DecodeKeyValue(v)
		if err == nil && bytes.Equal(kv.Key, again.Key) {
			found = bytes.Equal(kv.Value, again.Value) && kv.Version+1 == again.Version
		}
		return true
	})
	return found
}

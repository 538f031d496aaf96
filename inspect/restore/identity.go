package restore

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"etcd-forensics/inspect"
)

// identify gives the new cluster a token of its own and computes the ids that follow.
// With the token of the old cluster the ids would be the same, and old members that
// come back would join in.
func (b *builder) identify() {
	for attempt := 0; ; attempt++ {
		token := b.o.Token
		if token == "" {
			token = b.freshToken(attempt)
		}
		b.p.Token = token
		var ids []inspect.ID
		for i := range b.p.Members {
			m := &b.p.Members[i]
			id := inspect.MemberIDOf(m.PeerURLs, token)
			m.MemberID = &id
			ids = append(ids, id)
		}
		b.p.ClusterID = inspect.ClusterIDOf(ids)
		if b.o.Token != "" || !b.taken(ids) {
			break
		}
	}
	if b.o.Token != "" && b.p.OldClusterID != nil && *b.p.OldClusterID == b.p.ClusterID {
		b.p.warn("token", fmt.Sprintf("--token %q gives the new cluster the id of the old one, %s: old members that are started again will join in, with what they hold", b.o.Token, b.p.ClusterID),
			"leave --token out, or make sure that no old member ever starts again")
	}
}

// freshToken is made of what is restored and of who the members are, so that the same
// evidence gives the same plan. attempt counts those of which the evidence itself
// already is.
func (b *builder) freshToken(attempt int) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d\x00%s\x00%s\x00", attempt, b.p.Source, initialCluster(b.p.Members))
	for _, s := range b.c.Sources {
		for _, f := range s.Files {
			if f.SHA256 != nil {
				fmt.Fprintf(h, "%s\x00", *f.SHA256)
			}
		}
	}
	fmt.Fprintf(h, "%d\x00%d\x00", deref(b.backend().Revision), b.backend().Txid)
	return "etcd-restore-" + hex.EncodeToString(h.Sum(nil)[:8])
}

// taken says whether any of the ids is that of a member or cluster of the evidence.
func (b *builder) taken(ids []inspect.ID) bool {
	known := slices.Clone(b.old.Removed)
	for _, m := range b.old.Members {
		known = append(known, m.MemberID)
	}
	for _, m := range b.c.Members {
		if m.ClusterID != nil && *m.ClusterID == b.p.ClusterID {
			return true
		}
	}
	return slices.ContainsFunc(ids, func(id inspect.ID) bool { return slices.Contains(known, id) })
}

// describeFile says which file is restored. An archive's is unpacked first.
func (b *builder) describeFile() {
	be := b.backend()
	f := &b.p.File
	f.Path, f.Size = be.File, be.Size
	f.Hashed = be.Trailer.Present && (be.Trailer.Valid == nil || *be.Trailer.Valid)
	for _, s := range b.c.Sources {
		for _, file := range s.Files {
			if s.Path == b.p.Source && file.Path == be.File {
				f.SHA256 = file.SHA256
			}
		}
	}
	switch b.p.Way {
	case WayForceNewCluster:
		*f = Artifact{Hashed: !b.authEnabled()}
	case WayRollForward, WaySalvage:
		*f = Artifact{Hashed: true}
	}
}

func (b *builder) authEnabled() bool {
	a := b.backend().Auth
	return a != nil && a.Enabled
}

// made says whether the file to restore is made first.
func (b *builder) made() bool {
	return b.p.Way == WayForceNewCluster || b.p.Way == WayRollForward || b.p.Way == WaySalvage
}

// backend is what the database of the source says; nothing when it has none.
func (b *builder) backend() *inspect.Backend {
	if b.member.Backend == nil {
		return &inspect.Backend{}
	}
	return b.member.Backend
}

// inArchive takes the path of a file inside an archive apart.
func inArchive(path string) (archive, name string, ok bool) {
	return strings.Cut(path, "!")
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// tag names what a plan leaves on the hosts, where its scripts also note what has been
// done: plans that decide anything else must not share it.
func (b *builder) tag() string {
	p, h := b.p, sha256.New()
	fmt.Fprintf(h, "%q %q %q %q %q %q %q %q %d", p.Way, p.Source, p.Token, p.Platform, p.EtcdVersion, p.DataDir, p.WALDir, p.WorkDir, p.Revision.Bump)
	fmt.Fprintf(h, " %q %q %v", p.File.Path, deref(p.File.SHA256), p.File.Hashed)
	for _, list := range [][]Member{p.Members, p.Joining} {
		fmt.Fprintf(h, " %d", len(list))
		for _, m := range list {
			fmt.Fprintf(h, " %q %q %q %s", m.Name, m.PeerURLs, m.ClientURLs, deref(m.MemberID))
		}
	}
	for _, m := range b.old.Members {
		fmt.Fprintf(h, " %s", m.MemberID)
	}
	return hex.EncodeToString(h.Sum(nil)[:4])
}

// quoted is a name from evidence within a sentence.
func quoted(name string) string { return fmt.Sprintf("%q", name) }

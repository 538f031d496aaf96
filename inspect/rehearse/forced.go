package rehearse

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/snapshot"
	"go.uber.org/zap"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
	"etcd-forensics/inspect/source"
)

// comeBack gives for each member that the plan starts again the directory in hand, by
// the members' order; nil for one that has none.
func (h *rehearsal) comeBack() []*source.Source {
	var list []*source.Source
	for _, m := range h.plan.Members {
		for _, s := range h.given {
			of := h.memberOf(s)
			if m.MemberID != nil && of != nil && of.MemberID != nil && *of.MemberID == *m.MemberID && s.DB != nil && len(s.WAL) > 0 {
				list = append(list, s)
				break
			}
		}
	}
	return list
}

// memberOf gives what the examination says of a source.
func (h *rehearsal) memberOf(s *source.Source) *inspect.Member {
	i := slices.IndexFunc(h.members, func(m inspect.Member) bool { return m.Source == s.Path })
	if i < 0 {
		return nil
	}
	return &h.members[i]
}

// copyOf copies a member's directory, and gives the peers that it knows other URLs.
func (h *rehearsal) copyOf(ctx context.Context, s *source.Source, dir string, urls map[string]string) error {
	if err := copyMember(ctx, s, dir); err != nil {
		return err
	}
	db := filepath.Join(dir, "member", "snap", "db")
	c, err := h.room.start(order{Peers: &peersOrder{DB: db, URLs: urls, Else: h.room.guardURL()}}, dir+".log")
	if err != nil {
		return err
	}
	defer c.kill()
	if err := c.await(ctx, eventDone, h.patience()); err != nil && ctx.Err() == nil {
		return failure{err, CheckForcedStart, s.Path, "a database that bbolt opens"}
	}
	return ctx.Err()
}

// forced starts a copy of a member's directory alone, with --force-new-cluster, and
// does with it what while says.
func (h *rehearsal) forced(ctx context.Context, s *source.Source, name string, while func(*node) error) error {
	dir := h.room.path(name)
	if err := h.stage("copy "+s.Path, func() error { return h.copyOf(ctx, s, dir, nil) }); err != nil {
		return err
	}
	ports, err := keepPorts(2)
	if err != nil {
		return err
	}
	release(ports)
	return h.stage("start "+s.Path, func() error {
		n, err := h.startNode(name, serveOrder{
			Name: name, DataDir: dir, PeerURL: ports[0].url, ClientURL: ports[1].url, InitialCluster: name + "=" + ports[0].url,
			Quota: quotaFor(dbSize(s)), ForceNewCluster: true,
		})
		if err != nil {
			return err
		}
		defer n.client.Close()
		defer n.child.kill()
		deadline, cancel := context.WithTimeout(ctx, h.patience())
		defer cancel()
		if err := n.ledBy(deadline); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return blame(fmt.Errorf("%w (etcd %s)", err, h.tools.etcdVersion), CheckForcedStart, s.Path, startsAlone)
		}
		h.receipt.compare(CheckForcedStart, s.Path, startsAlone, startsAlone, "")
		if while != nil {
			if err := while(n); err != nil {
				return err
			}
		}
		if err := n.stop(); err != nil {
			return failure{err, CheckForcedStart, s.Path, "ends when asked"}
		}
		return nil
	})
}

const startsAlone = "a copy starts alone and leads itself"

// recover starts a copy of the plan's member alone, so that its log is applied, and
// takes a snapshot of it, which is then what is restored.
func (h *rehearsal) recover(ctx context.Context) error {
	pr := &h.promise
	pr.file, pr.hashed = h.room.path("recovered.db"), true
	saved := true
	err := h.forced(ctx, h.source, "copy", func(n *node) error {
		_, err := snapshot.SaveWithVersion(ctx, zap.NewNop(), clientv3.Config{Endpoints: n.client.Endpoints(), DialTimeout: requestTimeout}, pr.file)
		if refusedByAuth(err) {
			saved = false
			return nil
		}
		if err != nil && ctx.Err() == nil {
			return failure{err, CheckForcedStart, h.source.Path, "gives a snapshot"}
		}
		return err
	})
	if err != nil {
		return err
	}
	if !saved {
		// A snapshot needs a password; the database of the ended server holds the same.
		pr.file, pr.hashed = h.room.path("copy", "member", "snap", "db"), false
		h.receipt.skip(CheckForcedState, h.source.Path, "a snapshot is saved", withoutPassword+": the database itself is restored")
	}
	made, problems := source.Open(ctx, []string{pr.file}, source.Options{})
	if len(made) == 0 {
		return failure{problems[0], CheckForcedState, h.source.Path, "a snapshot"}
	}
	h.made = made
	pr.source = made[0]
	hash, err := inspect.HashKVAt(ctx, pr.source, 0)
	if err != nil {
		return failure{err, CheckForcedState, h.source.Path, "a snapshot that can be read"}
	}
	pr.hashKV = &hash
	r := h.plan.Revision
	expected := fmt.Sprintf("a revision from %d to %d", r.Source, r.Highest)
	actual := expected
	if hash.Revision < r.Source || hash.Revision > r.Highest {
		actual = fmt.Sprint(hash.Revision)
	}
	h.receipt.compare(CheckForcedState, h.source.Path, expected, actual, fmt.Sprintf("it is %d", hash.Revision))
	pr.revision, pr.of = hash.Revision, "against the snapshot that the copy gave"
	return h.checkForced(ctx, h.source, pr.source, *h.member.Backend.Revision)
}

// checkForced holds what a copy has become against the database that it began with, as
// of its revision: the log only adds to that.
func (h *rehearsal) checkForced(ctx context.Context, was, is *source.Source, revision int64) error {
	k, err := inspect.OpenKeyspace(ctx, is, inspect.DefaultLimits)
	if err != nil {
		return failure{err, CheckForcedState, was.Path, "a database that can be read"}
	}
	if err := k.Check(revision); err != nil {
		h.receipt.skip(CheckForcedState, was.Path, fmt.Sprintf("the keys of its database at revision %d", revision), err.Error())
		return nil
	}
	d, err := query.Diff(ctx, was, is, query.DiffOptions{NewRevision: revision, MaxKeys: 1})
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return failure{err, CheckForcedState, was.Path, "a database that can be read"}
	}
	h.receipt.compare(CheckForcedState, was.Path, sameWords(d.Counts.Old), recordWords(d.Counts.Old, d),
		fmt.Sprintf("at revision %d; with its log it is at %d", revision, k.Revision))
	return nil
}

// rejoin starts copies of the directories in hand together, with URLs on loopback in
// place of those by which they know each other.
func (h *rehearsal) rejoin(ctx context.Context) error {
	directories := h.comeBack()
	if len(directories) < len(h.plan.Members) {
		return failure{fmt.Errorf("%d directories", len(directories)), CheckRejoin, "", fmt.Sprintf("the directories of %d members", len(h.plan.Members))}
	}
	if newer("3.6", h.tools.etcdVersion) {
		return h.eachAlone(ctx, directories)
	}
	h.promiseContent()
	err := h.cluster(ctx, "copy", func(ctx context.Context) error {
		urls := map[string]string{}
		for i, m := range h.plan.Members {
			urls[m.MemberID.String()] = h.receipt.Members[i].URL
		}
		for i, s := range directories {
			if err := h.copyOf(ctx, s, h.dataDir(i), urls); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		h.receipt.compare(CheckRejoin, "", formAgain, formAgain, "with URLs on loopback")
	}
	return err
}

const formAgain = "the directories form their cluster again"

// eachAlone starts a copy of each directory alone: etcd before 3.6 takes the URLs of peers
// from the v2 store and the log, where they cannot be replaced.
func (h *rehearsal) eachAlone(ctx context.Context, directories []*source.Source) error {
	h.receipt.skip(CheckRejoin, "", formAgain,
		"etcd "+h.tools.etcdVersion+" would look for its peers where they were; a copy of each directory was started alone instead")
	for i, s := range directories {
		name := fmt.Sprintf("member%d", i+1)
		if err := h.forced(ctx, s, name, nil); err != nil {
			return err
		}
		if err := h.stage("compare "+s.Path, func() error { return h.checkCopy(ctx, s, name) }); err != nil {
			return err
		}
	}
	return nil
}

func (h *rehearsal) checkCopy(ctx context.Context, s *source.Source, name string) error {
	copies, problems := source.Open(ctx, []string{h.room.path(name)}, source.Options{})
	if len(copies) == 0 {
		return failure{problems[0], CheckForcedState, s.Path, "a database that can be read"}
	}
	defer copies[0].Close()
	if b := h.memberOf(s).Backend; b != nil && b.Revision != nil {
		return h.checkForced(ctx, s, copies[0], *b.Revision)
	}
	h.receipt.skip(CheckForcedState, s.Path, "", "the revision of its database is not known")
	return nil
}

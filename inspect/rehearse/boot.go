package rehearse

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// A node is a member that runs.
type node struct {
	name   string
	child  *child
	client *clientv3.Client
}

// defaultQuota is etcd's (etcd v3.7.3, server/storage/quota.go, DefaultQuotaBytes). A
// larger database is given room to be written to.
const defaultQuota = 2 << 30

func quotaFor(size int64) int64 { return max(defaultQuota, size+size/2) }

// boot starts all members and waits until they have a leader.
func (h *rehearsal) boot(ctx context.Context, clients []port) ([]*node, error) {
	var nodes []*node
	for i, m := range h.receipt.Members {
		n, err := h.startNode(fmt.Sprintf("member%d", i+1), serveOrder{
			Name: m.Name, DataDir: h.dataDir(i), PeerURL: m.URL, ClientURL: clients[i].url,
			InitialCluster: h.initialCluster(), Quota: quotaFor(dbSize(h.source)),
		})
		if err != nil {
			return nil, failure{err, CheckBoot, m.Name, "starts"}
		}
		nodes = append(nodes, n)
	}
	deadline, cancel := context.WithTimeout(ctx, h.patience())
	defer cancel()
	for _, n := range nodes {
		if err := n.ledBy(deadline); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, blame(err, CheckBoot, n.name, "starts and has a leader")
		}
		h.receipt.compare(CheckBoot, n.name, "starts and has a leader", "starts and has a leader", "")
	}
	return nodes, nil
}

// blame makes a failure of an error, unless this machine is to blame: a port that
// another process took meanwhile.
func blame(err error, check, member, expected string) error {
	if strings.Contains(err.Error(), "address already in use") {
		return err
	}
	return failure{err, check, member, expected}
}

func (h *rehearsal) startNode(log string, o serveOrder) (*node, error) {
	c, err := h.room.start(h.tools.serve(o), h.room.path(log+".log"))
	if err != nil {
		return nil, err
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{o.ClientURL}, DialTimeout: requestTimeout, Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	return &node{o.Name, c, client}, nil
}

// requestTimeout is how long one request may take.
const requestTimeout = 5 * time.Second

// ledBy waits until the member answers as one that has a leader.
func (n *node) ledBy(ctx context.Context) error {
	var last error
	for {
		if !n.child.running() {
			return n.child.await(ctx, eventReady+" again", requestTimeout)
		}
		// A member answers this only with the leader's word, also when it then wants a
		// password (etcd v3.7.3, server/etcdserver/server.go, MemberList).
		_, err := n.members(ctx)
		if err == nil || refusedByAuth(err) {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", errTimeout, last)
		case <-n.child.exited:
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// members asks for the members of the cluster.
func (n *node) members(ctx context.Context) (*clientv3.MemberListResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return n.client.MemberList(ctx)
}

// stop ends the member, so that all it was told is in its files.
func (n *node) stop() error {
	n.client.Close()
	return n.child.stop()
}

// stopAll ends all members at once.
func stopAll(nodes []*node) error {
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			if err := n.stop(); err != nil {
				errs[i] = failure{err, CheckBoot, n.name, "ends when asked"}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// refusedByAuth says whether a request failed because nobody asked it.
func refusedByAuth(err error) bool {
	return slices.Contains([]string{rpctypes.ErrorDesc(rpctypes.ErrUserEmpty), rpctypes.ErrorDesc(rpctypes.ErrInvalidAuthToken), rpctypes.ErrorDesc(rpctypes.ErrPermissionDenied)}, rpctypes.ErrorDesc(err))
}

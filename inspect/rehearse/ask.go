package rehearse

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"etcd-forensics/inspect"
)

// ask asks the running cluster what it can be asked without a password.
func (h *rehearsal) ask(ctx context.Context, nodes []*node) error {
	if err := h.askMembers(ctx, nodes); err != nil {
		return err
	}
	if err := h.askAuth(ctx, nodes[0]); err != nil {
		return err
	}
	if h.plan.Revision.Bump > 0 && !h.auth {
		h.askCompacted(ctx, nodes)
	}
	return h.write(ctx, nodes)
}

// askMembers asks every member who belongs to the cluster. Names are published by each
// member itself, shortly after there is a leader.
func (h *rehearsal) askMembers(ctx context.Context, nodes []*node) error {
	for _, n := range nodes {
		var list []listed
		var cluster inspect.ID
		for begin := time.Now(); ; {
			r, err := n.members(ctx)
			if refusedByAuth(err) {
				h.locked = true // their files tell
				return nil
			}
			if err != nil {
				return h.gone(ctx, n, CheckMembers, err)
			}
			cluster, list = inspect.ID(r.Header.ClusterId), nil
			unnamed := false
			for _, m := range r.Members {
				list = append(list, listed{m.Name, inspect.ID(m.ID)})
				unnamed = unnamed || len(m.ClientURLs) == 0 && !h.replaced(inspect.ID(m.ID))
			}
			if !unnamed || time.Since(begin) > h.patience() {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		h.checkMembers(n.name, list, cluster)
	}
	return nil
}

// gone says that a member stopped answering.
func (h *rehearsal) gone(ctx context.Context, n *node, check string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !n.child.running() {
		err = fmt.Errorf("%w%s", err, n.child.lastWords())
	}
	return failure{err, check, n.name, "an answer"}
}

// askAuth finds out whether authentication is on: a request of nobody then fails.
func (h *rehearsal) askAuth(ctx context.Context, n *node) error {
	_, err := get(ctx, n, rehearsalKey)
	if err != nil && !refusedByAuth(err) {
		return h.gone(ctx, n, CheckAuth, err)
	}
	words := map[bool]string{false: "off", true: "on"}
	h.auth = err != nil
	h.receipt.compare(CheckAuth, "", words[h.promise.auth], words[h.auth], "")
	return nil
}

const withoutPassword = "authentication is on, and no password is known"

// askCompacted asks for a revision that clients have seen: after a bump it must be
// compacted, so that every watch begins anew.
func (h *rehearsal) askCompacted(ctx context.Context, nodes []*node) {
	expected := rpctypes.ErrorDesc(rpctypes.ErrCompacted)
	for _, n := range nodes {
		_, err := get(ctx, n, rehearsalKey, clientv3.WithRev(max(h.promise.revision, 1)))
		actual := "an answer"
		if err != nil {
			actual = rpctypes.ErrorDesc(err)
		}
		h.receipt.compare(CheckCompaction, n.name, expected, actual, "")
	}
}

// rehearsalKey is written and read. Its folder goes away with it.
const rehearsalKey = "etcd-forensics/rehearsal"

// write writes one key through one member and reads it from every one.
func (h *rehearsal) write(ctx context.Context, nodes []*node) error {
	const expected = "one key written, and read from every member"
	switch {
	case h.auth:
		h.receipt.skip(CheckWrite, "", expected, withoutPassword)
		return nil
	case len(h.promise.alarms) > 0:
		h.receipt.skip(CheckWrite, "", expected, "nothing can be written before the alarms are disarmed: "+alarmWords(h.promise.alarms))
		return nil
	}
	value := strconv.FormatInt(time.Now().UnixNano(), 36)
	h.wrote = 1 // also when the answer does not come
	wait, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	put, err := nodes[0].client.Put(wait, rehearsalKey, value)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		h.receipt.fail(CheckWrite, nodes[0].name, expected, rpctypes.ErrorDesc(err))
		return nil
	}
	for _, n := range nodes {
		r, err := get(ctx, n, rehearsalKey)
		switch {
		case err != nil:
			return h.gone(ctx, n, CheckWrite, err)
		case len(r.Kvs) != 1 || string(r.Kvs[0].Value) != value || r.Kvs[0].ModRevision != put.Header.Revision:
			h.receipt.fail(CheckWrite, n.name, expected, "another value, or none")
			return nil
		}
	}
	h.receipt.compare(CheckWrite, "", expected, expected, fmt.Sprintf("at revision %d", put.Header.Revision))
	return nil
}

func get(ctx context.Context, n *node, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return n.client.Get(ctx, key, opts...)
}

func alarmWords(alarms []inspect.Alarm) string {
	if len(alarms) == 0 {
		return "none"
	}
	var list []string
	for _, a := range alarms {
		list = append(list, a.Alarm+" of "+a.MemberID.String())
	}
	return strings.Join(list, ", ")
}

package query

import (
	"bytes"
	"context"
	"sync"
	"time"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/kube"
	"etcd-forensics/snapdb/scan"
)

// A Tally is what a policy for backups asks about a database.
type Tally struct {
	Revision int64
	Live     int64
	Rows     []TallyRow // by prefix: resources of Kubernetes, otherwise two levels
	Under    []int64    // live keys under each prefix that was asked for
	Newest   time.Time  // of the newest write, as leases and events of Kubernetes tell; zero when none does
}

// A TallyRow counts the live keys that begin alike.
type TallyRow struct {
	Prefix []byte
	Live   int64
}

// TallyKeys counts the live keys of the database that etcd would open, in one pass.
func TallyKeys(ctx context.Context, s *source.Source, prefixes [][]byte) (*Tally, error) {
	k, err := inspect.OpenKeyspace(ctx, s, inspect.DefaultLimits)
	if err != nil {
		return nil, err
	}
	clock := &newestTime{bucket: k.Bucket}
	// A key is cut behind the longest prefix that was asked for, so that the rows
	// tell both.
	cut := func(key []byte) int {
		n := len(diffPrefix(key))
		for _, p := range prefixes {
			if len(p) > n && bytes.HasPrefix(key, p) {
				n = len(p)
			}
		}
		return n
	}
	counted, err := scan.CountPrefixes(ctx, k.Tree, k.Bucket, scan.PrefixOptions{Cut: cut, MaxRows: k.Limits().Prefixes}, clock)
	if err != nil {
		return nil, err
	}
	t := &Tally{Revision: k.Revision, Live: counted.Total.Live, Under: make([]int64, len(prefixes)), Rows: []TallyRow{}}
	t.Newest, _ = clock.Newest()
	for _, r := range counted.Rows {
		t.add(r.Prefix, r.Live)
		for i, p := range prefixes {
			if bytes.HasPrefix(r.Prefix, p) {
				t.Under[i] += r.Live
			}
		}
	}
	return t, t.recount(ctx, k, counted, prefixes)
}

// add counts a row of the pass under the prefix that it has without what was asked
// for. Rows come by prefix.
func (t *Tally) add(prefix []byte, live int64) {
	prefix = diffPrefix(prefix)
	if n := len(t.Rows); n > 0 && bytes.Equal(t.Rows[n-1].Prefix, prefix) {
		t.Rows[n-1].Live += live
		return
	}
	t.Rows = append(t.Rows, TallyRow{prefix, live})
}

// recount counts each prefix by itself when rows were folded, so that no key is
// missed under one.
func (t *Tally) recount(ctx context.Context, k *inspect.Keyspace, counted *scan.PrefixResult, prefixes [][]byte) error {
	if counted.OtherRows == 0 {
		return nil
	}
	for i, p := range prefixes {
		cut := func(key []byte) int {
			if bytes.HasPrefix(key, p) {
				return len(p)
			}
			return 0
		}
		again, err := scan.CountPrefixes(ctx, k.Tree, k.Bucket, scan.PrefixOptions{Cut: cut, MaxRows: 2})
		if err != nil {
			return err
		}
		t.Under[i] = 0
		for _, r := range again.Rows {
			if len(p) == 0 || len(r.Prefix) > 0 {
				t.Under[i] += r.Live
			}
		}
	}
	return nil
}

// newestTime collects the times that values name.
type newestTime struct {
	kube.Clock
	bucket int
	mu     sync.Mutex
}

// Sink implements scan.Consumer.
func (n *newestTime) Sink() scan.Sink { return n }

// Leaf implements scan.Sink.
func (n *newestTime) Leaf(l *scan.Leaf) {
	if l.Bucket != n.bucket {
		return
	}
	for i := range l.Elements {
		e := &l.Elements[i]
		rev, ok := keyspace.DecodeRevision(e.Key)
		if !ok || rev.Tombstone {
			continue
		}
		kv, err := keyspace.DecodeKeyValue(e.Value)
		if err != nil {
			continue
		}
		if !kube.Timed(kv.Key) {
			continue
		}
		if a, ok := kube.AnchorIn(kv.Key, kv.Value, kv.Version); ok {
			n.mu.Lock()
			n.Add(rev.Main, a)
			n.mu.Unlock()
		}
	}
}

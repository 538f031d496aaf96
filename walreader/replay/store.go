package replay

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/coreos/go-semver/semver"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/auth"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3alarm"
	"go.etcd.io/etcd/server/v3/etcdserver/apply"
	"go.etcd.io/etcd/server/v3/etcdserver/cindex"
	"go.etcd.io/etcd/server/v3/lease"
	serverstorage "go.etcd.io/etcd/server/v3/storage"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.uber.org/zap"
)

// A store is etcd's stores over one database, without a server.
type store struct {
	lg      *zap.Logger
	be      backend.Backend
	hooks   *serverstorage.BackendHooks
	index   cindex.ConsistentIndexer
	cluster *membership.RaftCluster
	lessor  lease.Lessor
	kv      mvcc.WatchableKV
	applier apply.UberApplier

	order         *Order
	applied, term uint64
	at            uint64 // the entry that is being applied
	pending       int    // bytes of entries since the last commit
	confStates    []ConfState
	counts        Counts
	marked        *Mark // the last one

	watched *Change
	seen    int64 // revision that the watched key had last; 0 when it was not there
	looked  int64 // revision as of which that was looked up
}

// Limits of one transaction of the backend: a commit follows when either is reached.
// etcd counts operations alone (server/storage/backend/batch_tx.go).
const (
	batchOps   = 1000
	batchBytes = 32 << 20
)

// open opens etcd's stores in the order in which a server does (etcd v3.7.3,
// server/etcdserver/server.go, NewServer, and bootstrap.go).
func open(lg *zap.Logger, o *Order) (*store, error) {
	s := &store{lg: lg, order: o, confStates: o.ConfStates, counts: Counts{Refused: map[string]uint64{}}}
	s.index = cindex.NewConsistentIndex(nil)
	s.hooks = serverstorage.NewBackendHooks(lg, s.index)
	cfg := backend.DefaultBackendConfig(lg)
	cfg.Path, cfg.Hooks, cfg.Timeout = o.Work, s.hooks, time.Minute
	// Commits follow the count alone, and the file is synced once, when it is written.
	cfg.BatchLimit, cfg.BatchInterval, cfg.UnsafeNoFsync = batchOps, 24*time.Hour, true
	if strconv.IntSize == 32 {
		cfg.MmapSize = 256 << 20
	}
	s.be = backend.New(cfg)
	s.index.SetBackend(s.be)
	schema.CreateMetaBucket(s.be.BatchTx())
	s.applied, s.term = schema.ReadConsistentIndex(s.be.ReadTx())

	s.cluster = membership.NewCluster(lg, membership.WithMaxLearners(o.MaxLearners))
	s.cluster.SetID(types.ID(o.MemberID), types.ID(o.ClusterID))
	s.cluster.SetBackend(schema.NewMembershipBackend(lg, s.be))
	s.cluster.Recover(func(*zap.Logger, *semver.Version) {})
	// Never promoted, so no lease expires by itself: that one did is an entry.
	s.lessor = lease.NewLessor(lg, s.be, s.cluster, lease.LessorConfig{MinLeaseTTL: o.MinLeaseTTL})
	tokens, err := auth.NewTokenProvider(lg, "", nil, 0)
	if err != nil {
		return nil, err
	}
	s.kv = mvcc.New(lg, s.be, s.lessor, mvcc.StoreConfig{CompactionBatchLimit: compactionBatch, CompactionSleepInterval: 1})
	if err := s.settle(); err != nil {
		return nil, err
	}
	alarms, err := v3alarm.NewAlarmStore(lg, schema.NewAlarmBackend(lg, s.be))
	if err != nil {
		return nil, err
	}
	s.applier = apply.NewUberApplier(apply.ApplierOptions{
		Logger: lg, KV: s.kv, AlarmStore: alarms, AuthStore: auth.NewAuthStore(lg, schema.NewAuthBackend(lg, s.be), tokens, bcryptCost),
		Lessor: s.lessor, Cluster: s.cluster, RaftStatus: follower{types.ID(o.MemberID)}, SnapshotServer: follower{},
		ConsistentIndex: s.index, TxnModeWriteWithSharedBuffer: true, Backend: s.be,
		// The quota refuses nothing that is in a log; that it was reached is an entry.
		QuotaBackendBytesCfg: -1, WarningApplyDuration: time.Hour,
	})
	// Last, because the constructors write, too, and apply no entry.
	s.be.SetTxPostLockInsideApplyHook(s.moveIndex)
	return s, s.look()
}

// Of etcd's defaults: the cost of a password's hash, which entries of 3.4 leave to the
// store, and how many keys a compaction removes at a time (server/embed/config.go).
const (
	bcryptCost      = 10
	compactionBatch = 10000
)

// moveIndex is what a server has at this place (etcd v3.7.3,
// server/etcdserver/server.go, getTxPostLockInsideApplyHook).
func (s *store) moveIndex() {
	index, term := s.index.ConsistentApplyingIndex()
	if index > s.index.UnsafeConsistentIndex() {
		s.index.SetConsistentIndex(index, term)
	}
}

// settleTime is how long a compaction that the database was left in may take.
const settleTime = time.Hour

// settle waits until a compaction that the copy was made in the middle of has ended:
// it goes on by itself when the store opens.
func (s *store) settle() error {
	for end := time.Now().Add(settleTime); ; time.Sleep(5 * time.Millisecond) {
		tx := s.be.ReadTx()
		tx.RLock()
		scheduled, is := mvcc.UnsafeReadScheduledCompact(tx)
		finished, was := mvcc.UnsafeReadFinishedCompact(tx)
		tx.RUnlock()
		switch {
		case !is || was && finished >= scheduled:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("the compaction at revision %d, in which the base was left, does not end", scheduled)
		}
	}
}

func (s *store) state() State {
	compact := s.kv.FirstRev()
	tx := s.be.ReadTx()
	tx.RLock()
	if _, ok := mvcc.UnsafeReadScheduledCompact(tx); !ok {
		if _, ok := mvcc.UnsafeReadFinishedCompact(tx); !ok {
			compact = -1
		}
	}
	tx.RUnlock()
	return State{Index: s.applied, Term: s.term, Revision: s.kv.Rev(), CompactRevision: compact}
}

// mark computes HashKV, once for an entry: the last one is marked again at the end.
func (s *store) mark() (Mark, error) {
	if s.marked != nil && s.marked.Index == s.applied {
		return *s.marked, nil
	}
	hash, _, err := s.kv.HashStorage().HashByRev(0)
	if err != nil {
		return Mark{}, err
	}
	s.marked = &Mark{State: State{Index: s.applied, Term: s.term, Revision: hash.Revision, CompactRevision: hash.CompactRevision}, Hash: hash.Hash}
	return *s.marked, nil
}

// look notes which revision the watched key has, and whether that has changed.
func (s *store) look() error {
	if s.order.Watch == nil || s.kv.Rev() == s.looked {
		return nil
	}
	first := s.looked == 0
	s.looked = s.kv.Rev()
	found, err := s.kv.Range(context.Background(), s.order.Watch, nil, mvcc.RangeOptions{})
	if err != nil {
		return err // which says nothing of whether the key is there
	}
	revision := int64(0)
	if len(found.KVs) > 0 {
		revision = found.KVs[0].ModRevision
	}
	// That a key comes into being undoes nothing.
	if !first && s.seen != 0 && revision != s.seen {
		s.watched = &Change{Index: s.at, Revision: s.looked, Deleted: revision == 0}
	}
	s.seen = revision
	return nil
}

// A follower is what the applier asks about raft: nothing is led from here.
type follower struct{ id types.ID }

func (f follower) MemberID() types.ID   { return f.id }
func (follower) Leader() types.ID       { return 0 }
func (follower) CommittedIndex() uint64 { return 0 }
func (follower) AppliedIndex() uint64   { return 0 }
func (follower) Term() uint64           { return 0 }
func (follower) ForceSnapshot()         {}

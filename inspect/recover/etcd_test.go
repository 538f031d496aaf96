package recover_test

import (
	"bytes"
	"context"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/config"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/features"
	"go.uber.org/zap"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect/recover"
)

func freeURL(t *testing.T) url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return url.URL{Scheme: "http", Host: l.Addr().String()}
}

// restored has etcdutl restore a snapshot, hash check and all, and gives the directory.
func restored(t *testing.T, file string, peer url.URL) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	err := snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{SnapshotPath: file, Name: "m1", OutputDataDir: dir,
		PeerURLs: []string{peer.String()}, InitialCluster: "m1=" + peer.String(), InitialClusterToken: "salvaged"})
	if err != nil {
		t.Fatalf("restore: %v", err)
	}
	return dir
}

// TestEtcdTakesWhatIsSalvaged restores salvaged snapshots by etcdutl's own code.
func TestEtcdTakesWhatIsSalvaged(t *testing.T) {
	for _, name := range []string{"healthy-3.4", "branch-zeroed", "leaf-zeroed", "metas-and-roots-zeroed", "last-transaction-torn", "bucket-missing", "bumped-3.6", "auth-3.6"} {
		f, err := fixtures.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(t.TempDir(), "snapshot.db")
		r, err := salvage(t, filepath.Join(fixtures.Dir(t, name), f.Sources[0]), recover.Options{Out: out, Snapshot: true})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		status, err := snapshot.NewV3(zap.NewNop()).Status(out)
		if err != nil {
			t.Errorf("%s: status: %v", name, err)
			continue
		}
		if status.Revision != r.Revision || name != "bumped-3.6" && int64(status.TotalKey) != r.Keys {
			t.Errorf("%s: revision %d and %d keys, etcdutl says %d and %d", name, r.Revision, r.Keys, status.Revision, status.TotalKey)
		}
		restored(t, out, freeURL(t))
	}
}

// TestEtcdStartsOnWhatIsSalvaged starts etcd on a restored snapshot, and asks it for all
// keys.
func TestEtcdStartsOnWhatIsSalvaged(t *testing.T) {
	const name = "branch-zeroed"
	out := filepath.Join(t.TempDir(), "snapshot.db")
	r, err := salvage(t, filepath.Join(fixtures.Dir(t, name), "m1"), recover.Options{Out: out, Snapshot: true})
	if err != nil {
		t.Fatal(err)
	}
	peer := freeURL(t)
	s, err := etcdserver.NewServer(serverConfig(restored(t, out, peer), types.URLs{peer}))
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer s.HardStop()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	select {
	case <-s.ReadyNotify():
	case <-ctx.Done():
		t.Fatal("etcd is not ready")
	}
	got, err := s.Range(ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if err != nil {
		t.Fatal(err)
	}
	live := map[string][]byte{}
	for _, k := range got.Kvs {
		live[string(k.Key)] = k.Value
	}
	want := fixtures.LoadLiveKeys(t, name)
	if len(live) != len(want) || int64(len(want)) != r.Keys || got.Header.Revision != r.Revision {
		t.Errorf("%d keys at revision %d of %d; salvaged were %d at %d", len(live), got.Header.Revision, len(want), r.Keys, r.Revision)
	}
	if _, err := s.Put(ctx, &pb.PutRequest{Key: []byte("again"), Value: []byte("1")}); err != nil {
		t.Error(err)
	}
}

// serverConfig is what embed's defaults come to, for a member without listeners (etcd
// v3.7.3, server/embed/config.go and etcd.go).
func serverConfig(dir string, peers types.URLs) config.ServerConfig {
	logger := zap.NewNop()
	return config.ServerConfig{
		Name: "m1", DataDir: dir, ClientURLs: peers, PeerURLs: peers,
		InitialPeerURLsMap: types.URLsMap{"m1": peers}, InitialClusterToken: "salvaged", NewCluster: true,
		SnapshotCount: etcdserver.DefaultSnapshotCount, SnapshotCatchUpEntries: etcdserver.DefaultSnapshotCatchUpEntries,
		MaxSnapFiles: 5, MaxWALFiles: 5, TickMs: 100, ElectionTicks: 10, InitialElectionTickAdvance: true,
		BackendFreelistType: bbolt.FreelistMapType, MaxTxnOps: 128, MaxRequestBytes: 1.5 * 1024 * 1024, StrictReconfigCheck: true,
		AuthToken: "simple", BcryptCost: 10, TokenTTL: 300, PreVote: true, CompactionBatchLimit: 1000, DowngradeCheckTime: 5 * time.Second,
		WarningApplyDuration: 100 * time.Millisecond, MaxLearners: 1, Logger: logger,
		ServerFeatureGate: features.NewDefaultServerFeatureGate("m1", logger),
	}
}

// TestTheSameInputGivesTheSameFile salvages twice, with records from stray pages.
func TestTheSameInputGivesTheSameFile(t *testing.T) {
	path := filepath.Join(fixtures.Dir(t, "branch-zeroed"), "m1")
	var first []byte
	for range 2 {
		out := filepath.Join(t.TempDir(), "out.db")
		if _, err := salvage(t, path, recover.Options{Out: out}); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && !bytes.Equal(first, b) {
			t.Error("two runs gave different files")
		}
		first = b
	}
}

// TestNothingIsLeftBehind ends a salvage early, and lets one fail.
func TestNothingIsLeftBehind(t *testing.T) {
	path := filepath.Join(fixtures.Dir(t, "branch-zeroed"), "m1")
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := recover.Salvage(ctx, open(t, path), recover.Options{Out: filepath.Join(dir, "out.db")}); err == nil {
		t.Error("a salvage that was interrupted did not say so")
	}
	if _, err := recover.Salvage(context.Background(), open(t, path), recover.Options{Out: filepath.Join(dir, "no", "out.db")}); err == nil {
		t.Error("a salvage into a folder that is not there did not fail")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("%v was left behind, %v", left, err)
	}
}

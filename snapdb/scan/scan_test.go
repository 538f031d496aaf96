package scan_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"runtime"
	"testing"

	"go.uber.org/zap"

	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"

	"etcd-forensics/fixtures"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/scan"
)

// read makes a pass over a database as of a revision.
func read(t testing.TB, r io.ReaderAt, size int64, revision int64, opts scan.Options, set ...func(*scan.Keys)) (*snapdb.Tree, *scan.Result, *scan.KeysResult, int64) {
	t.Helper()
	f, err := snapdb.Open(r, size)
	if err != nil || f.Active < 0 {
		t.Fatalf("open: %v, active meta %d", err, f.Active)
	}
	tree, err := snapdb.Walk(context.Background(), f, 10)
	if err != nil {
		t.Fatal(err)
	}
	scheduled, finished, bucket := int64(-1), int64(-1), -1
	for i, b := range tree.Buckets {
		switch string(b.Name) {
		case keyspace.BucketKey:
			bucket = i
		case keyspace.BucketMeta:
			scan.EachRow(tree, i, func(row scan.Row) {
				rev, _ := keyspace.DecodeRevision(row.Value)
				switch string(row.Key) {
				case keyspace.MetaScheduledCompactRev:
					scheduled = rev.Main
				case keyspace.MetaFinishedCompactRev:
					finished = rev.Main
				}
			})
		}
	}
	compact := max(scheduled, finished)
	keys := scan.NewKeys(tree, bucket, revision, compact, 10)
	keys.Compacted = scheduled <= finished
	for _, do := range set {
		do(keys)
	}
	res, err := scan.Run(context.Background(), tree, opts, keys)
	if err != nil {
		t.Fatal(err)
	}
	return tree, res, keys.Finish(context.Background()), compact
}

// TestHashKVIsEtcds compares with etcd's own store on a copy of each database,
// at many revisions.
func TestHashKVIsEtcds(t *testing.T) {
	for _, name := range fixtures.Names() {
		if name == "copied-while-running-3.6" {
			continue // a torn copy: bbolt itself may fail on it
		}
		t.Run(name, func(t *testing.T) {
			for _, path := range fixtures.Databases(t, name) {
				compareHashes(t, path)
			}
		})
	}
}

func compareHashes(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, _, newest, compact := read(t, bytes.NewReader(b), int64(len(b)), 0, scan.Options{})
	// etcd writes to what it opens, and goes on with an unfinished compaction.
	lg := zap.NewNop()
	be := backend.NewDefaultBackend(lg, copyOf(t, path))
	defer be.Close()
	store := mvcc.NewStore(lg, be, &lease.FakeLessor{}, mvcc.StoreConfig{})
	defer store.Close()
	first, last := max(compact, 1), max(newest.Highest.Main, compact, 1)
	marks := int64(12)
	if testing.Short() {
		marks = 2
	}
	step := max(1, (last-first)/marks)
	for rev := first; rev <= last; rev += step {
		theirs, current, err := store.HashStorage().HashByRev(rev)
		if err != nil {
			t.Fatalf("%s at %d: %v", path, rev, err)
		}
		if current != last {
			t.Errorf("%s: etcd's revision is %d, ours %d", path, current, last)
		}
		if rev == compact && theirs.CompactRevision != compact {
			continue // a hash kept from a compaction that has just finished
		}
		_, _, ours, _ := read(t, bytes.NewReader(b), int64(len(b)), rev, scan.Options{})
		if ours.Hash != theirs.Hash || theirs.CompactRevision != compact {
			t.Errorf("%s at %d: %d, etcd says %d (compact revision %d, etcd's %d)", path, rev, ours.Hash, theirs.Hash, compact, theirs.CompactRevision)
		}
	}
}

func TestDigestIsTheFilesAndItsDatas(t *testing.T) {
	for _, path := range fixtures.Databases(t, "healthy-3.6") {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, res, _, _ := read(t, bytes.NewReader(b), int64(len(b)), 0, scan.Options{Digest: true})
		data := b
		if len(b)%512 == 32 {
			data = b[:len(b)-32]
			if want := [32]byte(b[len(b)-32:]); res.DataDigest != want {
				t.Errorf("%s: the digest of the data is %x, the snapshot says %x", path, res.DataDigest, want)
			}
		}
		if res.Digest != sha256.Sum256(b) || res.DataDigest != sha256.Sum256(data) || !res.DigestValid {
			t.Errorf("%s: wrong digest", path)
		}
	}
}

func TestResultsDoNotDependOnScheduling(t *testing.T) {
	path := fixtures.Databases(t, "healthy-3.7")[0]
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, _, want, _ := read(t, bytes.NewReader(b), int64(len(b)), 0, scan.Options{Parsers: 1})
	for _, procs := range []int{1, 2, 8} {
		before := runtime.GOMAXPROCS(procs)
		for range 10 {
			for _, digest := range []bool{false, true} {
				_, _, got, _ := read(t, bytes.NewReader(b), int64(len(b)), 0, scan.Options{Digest: digest, Parsers: procs})
				if got.Hash != want.Hash || got.Live != want.Live || got.LiveBytes != want.LiveBytes || got.Revisions != want.Revisions {
					t.Errorf("GOMAXPROCS %d, digest %v: %+v, want %+v", procs, digest, got, want)
				}
			}
		}
		runtime.GOMAXPROCS(before)
	}
}

// badDisk fails where a range of the file is touched.
type badDisk struct {
	io.ReaderAt
	from, to int64
}

var errDisk = errors.New("input/output error")

func (d badDisk) ReadAt(b []byte, at int64) (int, error) {
	if at < d.to && d.from < at+int64(len(b)) {
		return 0, errDisk
	}
	return d.ReaderAt.ReadAt(b, at)
}

func TestOneUnreadablePageCostsOnePage(t *testing.T) {
	path := fixtures.Databases(t, "healthy-3.7")[0]
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tree, _, whole, _ := read(t, bytes.NewReader(b), int64(len(b)), 0, scan.Options{})
	// a leaf of bucket key in the middle
	victim := tree.Leaves[len(tree.Leaves)/2]
	at := int64(victim.ID) * 4096
	for _, digest := range []bool{false, true} {
		tree, res, got, _ := read(t, badDisk{bytes.NewReader(b), at, at + 4096}, int64(len(b)), 0, scan.Options{Digest: digest})
		if n := tree.Faults.Count(snapdb.FaultUnreadable); n != 1 || tree.Faults.Len() != 1 {
			t.Errorf("digest %v: %d faults, %d of them unreadable pages: %v", digest, tree.Faults.Len(), n, tree.Faults.All())
		}
		if got.Sound || res.DigestValid || len(res.Unreadable) != 1 || res.Unreadable[0].Offset != at {
			t.Errorf("digest %v: sound %v, digest valid %v, unreadable %+v", digest, got.Sound, res.DigestValid, res.Unreadable)
		}
		if got.Revisions == 0 || got.Revisions >= whole.Revisions || got.Revisions < whole.Revisions-64 {
			t.Errorf("digest %v: %d of %d records", digest, got.Revisions, whole.Revisions)
		}
	}
}

func TestInterruptedPassSaysSo(t *testing.T) {
	path := fixtures.Databases(t, "healthy-3.7")[0]
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, _ := snapdb.Open(bytes.NewReader(b), int64(len(b)))
	tree, err := snapdb.Walk(context.Background(), f, 10)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, digest := range []bool{false, true} {
		if _, err := scan.Run(ctx, tree, scan.Options{Digest: digest}); !errors.Is(err, context.Canceled) {
			t.Errorf("digest %v: %v", digest, err)
		}
	}
}

package redact

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"etcd-forensics/fixtures/mutants"
	"etcd-forensics/walreader"
)

// marker is a name, a value, a user, a host and a password at once. No copy may hold it, nor the half of it.
const marker = "Topsecret-Marker-Zqxj"

// planted gives a database with a marker wherever etcd keeps what somebody chose.
func planted(t testing.TB, pageSize int) []byte {
	t.Helper()
	must := func(b []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	path := filepath.Join(t.TempDir(), "db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: pageSize, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	put := func(bucket, key string, value []byte) {
		err := errors.Join(err, db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(bucket))
			if err != nil {
				return err
			}
			return b.Put([]byte(key), value)
		}))
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range byte(12) {
		kv := &mvccpb.KeyValue{Key: []byte("/registry/secrets/" + marker + "/x"), Value: []byte("k8s\x00" + marker), ModRevision: int64(i), CreateRevision: 1, Version: int64(i)}
		put("key", "\x00\x00\x00\x00\x00\x00\x00"+string(i)+"_\x00\x00\x00\x00\x00\x00\x00\x00", must(proto.Marshal(kv)))
	}
	for _, user := range []string{marker, "a" + marker, "root"} {
		put("authUsers", user, must(proto.Marshal(&authpb.User{Name: []byte(user), Password: []byte(marker), Roles: []string{marker}})))
	}
	put("authRoles", marker, must(proto.Marshal(&authpb.Role{Name: []byte(marker), KeyPermission: []*authpb.Permission{{Key: []byte(marker), RangeEnd: []byte(marker + "0")}}})))
	put("members", "8e9e05c52164694d", []byte(`{"id":10276657743932975437,"peerURLs":["http://`+marker+`:2380"],"name":"`+marker+`"}`))
	put("meta", "consistent_index", make([]byte, 8))
	put("cluster", "clusterVersion", []byte("3.6.0"))
	put(marker, marker, []byte(marker))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return must(os.ReadFile(path))
}

// plantedLog gives a segment with a marker in every kind of entry.
func plantedLog(t testing.TB) []byte {
	t.Helper()
	var log []byte
	sum := uint32(0)
	frame := func(kind byte, data []byte) {
		if kind != byte(walreader.TypeCRC) {
			sum = walreader.Checksum(sum, data)
		}
		rec := appendLong([]byte{1 << 3, kind, 2 << 3}, uint64(sum), 5)
		if data != nil {
			rec = append(appendLong(append(rec, 3<<3|2), uint64(len(data)), 3), data...)
		}
		pad := -len(rec) & 7
		log = walreader.AppendFrameHeader(log, walreader.FrameHeader{RecordLen: int64(len(rec)), PadLen: int64(pad)})
		log = append(append(log, rec...), make([]byte, pad)...)
	}
	frame(byte(walreader.TypeCRC), nil)
	frame(byte(walreader.TypeMetadata), []byte{1 << 3, 5, 2 << 3, 6})
	name := []byte(marker)
	for i, m := range []proto.Message{
		&etcdserverpb.InternalRaftRequest{ID: 1 << 60, Put: &etcdserverpb.PutRequest{Key: name, Value: name}},
		&etcdserverpb.InternalRaftRequest{ID: 1 << 60, DeleteRange: &etcdserverpb.DeleteRangeRequest{Key: name, RangeEnd: append(name, '0')}},
		&etcdserverpb.InternalRaftRequest{ID: 1 << 60, Txn: &etcdserverpb.TxnRequest{Compare: []*etcdserverpb.Compare{{Key: name, TargetUnion: &etcdserverpb.Compare_Value{Value: name}}},
			Success: []*etcdserverpb.RequestOp{{Request: &etcdserverpb.RequestOp_RequestPut{RequestPut: &etcdserverpb.PutRequest{Key: name, Value: name}}}}}},
		&etcdserverpb.InternalRaftRequest{ID: 1 << 60, Header: &etcdserverpb.RequestHeader{Username: marker}, AuthUserAdd: &etcdserverpb.AuthUserAddRequest{Name: marker, Password: marker, HashedPassword: marker}},
		&etcdserverpb.InternalRaftRequest{ID: 1 << 60, Authenticate: &etcdserverpb.InternalAuthenticateRequest{Name: marker, Password: marker, SimpleToken: marker}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		frame(byte(walreader.TypeEntry), append(appendLong([]byte{1 << 3, 0, 2 << 3, 1, 3 << 3, byte(i + 1), 4<<3 | 2}, uint64(len(b)), 3), b...))
	}
	context, err := json.Marshal(map[string]any{"id": 5, "name": marker, "peerURLs": []string{"http://" + marker + ":2380"}})
	if err != nil {
		t.Fatal(err)
	}
	change := append(appendLong([]byte{1 << 3, 1, 2 << 3, 0, 3 << 3, 5, 4<<3 | 2}, uint64(len(context)), 3), context...)
	frame(byte(walreader.TypeEntry), append(appendLong([]byte{1 << 3, 1, 2 << 3, 1, 3 << 3, 9, 4<<3 | 2}, uint64(len(change)), 3), change...))
	frame(byte(walreader.TypeState), []byte{1 << 3, 1, 2 << 3, 0, 3 << 3, 6})
	return append(log, make([]byte, 512)...)
}

// holdsNone fails when a copy holds the marker, or either half of it.
func holdsNone(t *testing.T, copied []byte) {
	t.Helper()
	for _, part := range []string{marker, marker[:len(marker)/2], marker[len(marker)/2:]} {
		if at := bytes.Index(copied, []byte(part)); at >= 0 {
			t.Fatalf("%q is in the copy at %d: %q", part, at, copied[max(0, at-100):min(len(copied), at+100)])
		}
	}
}

// redactFile puts a file through both passes.
func redactFile(t *testing.T, do func(r *redactor, w *writer) error) (copied []byte, err error) {
	t.Helper()
	r := &redactor{cipher: newCipher("fuzz"), names: newNames(), prefixes: knownPrefixes(), ids: map[string]bool{}, survey: true}
	if err := do(r, nil); err != nil {
		return nil, err
	}
	r.survey = false
	r.names.settle(r.cipher)
	w, err := create(filepath.Join(t.TempDir(), "copy"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.f.Close()
	if err := errors.Join(do(r, w), w.f.Truncate(w.size)); err != nil {
		return nil, err
	}
	if copied, err = os.ReadFile(w.f.Name()); err != nil {
		t.Fatal(err)
	}
	return copied, nil
}

func databaseCopy(t *testing.T, b []byte) []byte {
	t.Helper()
	copied, err := redactFile(t, func(r *redactor, w *writer) error {
		return r.database(context.Background(), bytes.NewReader(b), int64(len(b)), w)
	})
	if err == nil && len(copied) != len(b) {
		t.Fatalf("%d bytes became %d", len(b), len(copied))
	}
	return copied
}

func logCopied(t *testing.T, b []byte) []byte {
	t.Helper()
	copied, err := redactFile(t, func(r *redactor, w *writer) error {
		var outs []*writer
		if w != nil {
			outs = []*writer{w}
		}
		return r.log(context.Background(), []input{{name: "0000000000000000-0000000000000000.wal", r: bytes.NewReader(b), size: int64(len(b))}}, outs)
	})
	if err != nil && !errors.Is(err, errNoFit) {
		t.Fatal(err)
	}
	if err == nil && len(copied) != len(b) {
		t.Fatalf("%d bytes became %d", len(b), len(copied))
	}
	return copied
}

// maxFuzzed bounds the inputs: the seeds have less.
const maxFuzzed = 1 << 17

// Damage of every kind, as a fuzzer makes it seldom: numbers, pages, pieces of the other file, ends.
func TestDamagedCopiesHoldNoMarker(t *testing.T) {
	n := uint64(150)
	if testing.Short() {
		n = 15
	}
	seeds := [][]byte{planted(t, 512), planted(t, 4096), plantedLog(t)}
	for i := range n {
		rnd := rand.New(rand.NewPCG(i, 3))
		b := seeds[i%3]
		for range 1 + rnd.IntN(6) {
			b, _ = mutants.Bytes(b, rnd, seeds)
		}
		if i%3 == 2 {
			holdsNone(t, logCopied(t, b))
		} else {
			holdsNone(t, databaseCopy(t, b))
		}
	}
}

// Whatever a database has become, its copy is as long, and does not hold the marker.
func FuzzDatabaseCopyHoldsNoMarker(f *testing.F) {
	for _, size := range []int{512, 1024, 4096} {
		b := planted(f, size)
		if bytes.Count(b, []byte(marker)) < 20 {
			f.Fatal("no marker in the seed")
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) <= maxFuzzed {
			holdsNone(t, databaseCopy(t, b))
		}
	})
}

// The same of a log.
func FuzzLogCopyHoldsNoMarker(f *testing.F) {
	b := plantedLog(f)
	if bytes.Count(b, []byte(marker)) < 12 {
		f.Fatal("no marker in the seed")
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) <= maxFuzzed {
			holdsNone(t, logCopied(t, b))
		}
	})
}

// The same of a .snap file with a store of version 2.
func FuzzSnapCopyHoldsNoMarker(f *testing.F) {
	store := []byte(`{"Root":{"Path":"/","Children":{"1":{"Path":"/1/` + marker + `","Value":"{\"` + marker + `\":\"http://` + marker + `:1\"}"}}}}`)
	data := append(appendLong([]byte{1<<3 | 2}, uint64(len(store)), 2), store...)
	seed := appendLong([]byte{1 << 3}, uint64(walreader.Checksum(0, data)), 5)
	f.Add(append(appendLong(append(seed, 2<<3|2), uint64(len(data)), 2), data...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > maxFuzzed {
			return
		}
		copied, err := redactFile(t, func(r *redactor, w *writer) error {
			return r.snapshot(context.Background(), bytes.NewReader(b), int64(len(b)), w)
		})
		if err != nil {
			t.Fatal(err)
		}
		holdsNone(t, copied)
	})
}

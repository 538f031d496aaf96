package keyspace

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/lease/leasepb"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
)

func TestRevisionsAreThoseOfEtcd(t *testing.T) {
	for _, r := range []Revision{{Main: 1}, {Main: 490, Sub: 3}, {Main: 1<<63 - 1, Sub: 1<<63 - 1}, {Main: 7, Tombstone: true}} {
		b := r.Append(nil)
		theirs := mvcc.BytesToBucketKey(b)
		if theirs.Main != r.Main || theirs.Sub != r.Sub || mvcc.IsTombstone(b) != r.Tombstone {
			t.Errorf("%+v: etcd reads %+v", r, theirs)
		}
		if got, ok := DecodeRevision(b); !ok || got != r {
			t.Errorf("%+v read back as %+v, %v", r, got, ok)
		}
	}
}

func TestKeysThatAreNoRevisions(t *testing.T) {
	good := Revision{Main: 1}.Append(nil)
	negative := bytes.Clone(good)
	negative[0] = 0x80
	separator := bytes.Clone(good)
	separator[8] = '-'
	for name, b := range map[string][]byte{
		"empty": nil, "16 bytes": good[:16], "19 bytes": append(bytes.Clone(good), "tt"...), "other mark": append(bytes.Clone(good), 'x'),
		"negative": negative, "other separator": separator,
	} {
		if _, ok := DecodeRevision(b); ok {
			t.Errorf("%s: accepted", name)
		}
	}
}

func kv(fields ...byte) []byte { return fields }

// keyValues are messages that stress the decoder, beside what etcd writes.
func keyValues(tb testing.TB) [][]byte {
	var all [][]byte
	for _, m := range []*mvccpb.KeyValue{
		{}, {Key: []byte("k")},
		{Key: []byte("k"), CreateRevision: 2, ModRevision: 3, Version: 4, Value: bytes.Repeat([]byte("v"), 300), Lease: 5},
		{Key: bytes.Repeat([]byte("k"), 200), ModRevision: 1<<63 - 1, Lease: -1},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, b)
	}
	return append(all,
		kv(0x0a, 1, 'a', 0x0a, 1, 'b'),                        // a repeated field
		kv(0x18, 5, 0x10, 4),                                  // out of order
		kv(0x8a, 0x00, 1, 'k'),                                // key with an overlong tag
		kv(0x08, 1),                                           // key with a number's type
		kv(0x12, 1, 'x'),                                      // create revision with bytes' type
		kv(0x7a, 2, 'x', 'y'),                                 // an unknown field
		kv(0x0b, 0x0c),                                        // an empty group under the key's number
		kv(0x0a, 5, 'a'),                                      // too short
		kv(0x10, 0xff),                                        // unfinished number
		kv(0x00), kv(0x0f), kv(0x0c), []byte("not a message"), // no message
		kv(0xe8, 0xca, 0xca, 0xca, 0x30, 0x30),                               // a field number that is too high
		kv(0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f), // more than 64 bits
	)
}

func sameAsEtcd(t *testing.T, b []byte) {
	t.Helper()
	got, err := DecodeKeyValue(b)
	var theirs mvccpb.KeyValue
	theirErr := proto.Unmarshal(b, &theirs)
	if (err != nil) != (theirErr != nil) {
		t.Fatalf("%x: we say %v, etcd says %v", b, err, theirErr)
	}
	if err != nil {
		return
	}
	if !bytes.Equal(got.Key, theirs.Key) || !bytes.Equal(got.Value, theirs.Value) || got.CreateRevision != theirs.CreateRevision ||
		got.ModRevision != theirs.ModRevision || got.Version != theirs.Version || got.Lease != theirs.Lease {
		t.Fatalf("%x: we read %+v, etcd %v", b, got, &theirs)
	}
}

func TestKeyValuesAreThoseOfEtcd(t *testing.T) {
	for _, b := range keyValues(t) {
		sameAsEtcd(t, b)
	}
}

func FuzzKeyValue(f *testing.F) {
	for _, b := range keyValues(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) { sameAsEtcd(t, b) })
}

func FuzzRevision(f *testing.F) {
	f.Add(Revision{Main: 3, Sub: 1}.Append(nil))
	f.Add(Revision{Main: 3, Tombstone: true}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, ok := DecodeRevision(b); ok && !bytes.Equal(r.Append(nil), b) {
			t.Fatalf("%x does not survive a round trip: %+v", b, r)
		}
	})
}

func FuzzRecords(f *testing.F) {
	f.Add([]byte("8e9e05c52164694d"), []byte(`{"id":10276657743932975437,"peerURLs":["http://a:1"],"name":"m1"}`))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 1}, []byte{8, 1, 16, 60})
	f.Fuzz(func(t *testing.T, k, v []byte) {
		DecodeMember(k, v)
		DecodeLease(k, v)
		DecodeAlarm(k)
		DecodeUser(k, v)
		DecodeConfState(v)
		DecodeStorageVersion(v)
		DecodeUint64(v)
	})
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSmallRecordsAreThoseOfEtcd(t *testing.T) {
	id := []byte{0x80, 0, 0, 0, 0, 0, 0, 9}
	l, err := DecodeLease(id, marshal(t, &leasepb.Lease{ID: -1<<63 + 9, TTL: 60, RemainingTTL: 7}))
	if err != nil || l != (Lease{ID: -1<<63 + 9, TTL: 60, RemainingTTL: 7}) {
		t.Errorf("lease: %+v, %v", l, err)
	}
	if _, err := DecodeLease(id, marshal(t, &leasepb.Lease{ID: 5})); err == nil {
		t.Error("a lease under another id was accepted")
	}
	a, err := DecodeAlarm(marshal(t, &etcdserverpb.AlarmMember{MemberID: 1 << 63, Alarm: etcdserverpb.AlarmType_CORRUPT}))
	if err != nil || a != (Alarm{1 << 63, AlarmCorrupt}) || a.Type.String() != "CORRUPT" {
		t.Errorf("alarm: %+v, %v", a, err)
	}
	u, err := DecodeUser([]byte("root"), marshal(t, &authpb.User{Name: []byte("root"), Password: []byte("secret"), Roles: []string{"b", "a"}}))
	if err != nil || u.Name != "root" || len(u.Roles) != 2 || u.Roles[0] != "a" {
		t.Errorf("user: %+v, %v", u, err)
	}
	m, err := DecodeMember([]byte("8e9e05c52164694d"), []byte(`{"id":10276657743932975437,"peerURLs":["http://a:1"],"isLearner":true,"name":"m1"}`))
	if err != nil || m.ID != 0x8e9e05c52164694d || m.Name != "m1" || !m.IsLearner || len(m.PeerURLs) != 1 {
		t.Errorf("member: %+v, %v", m, err)
	}
	if _, err := DecodeMember([]byte("1"), []byte(`{"id":2}`)); err == nil {
		t.Error("a member under another id was accepted")
	}
}

func TestKeyValuesOfEverySizeAreThoseOfEtcd(t *testing.T) {
	for n := range 20000 {
		want := &mvccpb.KeyValue{
			Key: bytes.Repeat([]byte("k"), n%300), CreateRevision: int64(n) * int64(n), ModRevision: 1 << (n % 63), Version: int64(n % 200),
			Value: bytes.Repeat([]byte("v"), n), Lease: int64(n % 3),
		}
		b, err := proto.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		kv, err := DecodeKeyValue(b)
		if err != nil || !bytes.Equal(kv.Key, want.Key) || !bytes.Equal(kv.Value, want.Value) || kv.CreateRevision != want.CreateRevision ||
			kv.ModRevision != want.ModRevision || kv.Version != want.Version || kv.Lease != want.Lease {
			t.Fatalf("%d: %v, %d and %d bytes, %d %d %d %d", n, err, len(kv.Key), len(kv.Value), kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease)
		}
	}
}

func BenchmarkDecodeKeyValue(b *testing.B) {
	m, err := proto.Marshal(&mvccpb.KeyValue{Key: bytes.Repeat([]byte("k"), 60), CreateRevision: 1 << 20, ModRevision: 1 << 21, Version: 7, Value: make([]byte, 1500)})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(m)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeKeyValue(m); err != nil {
			b.Fatal(err)
		}
	}
}

func TestKeyValuesAreWrittenAsEtcdWritesThem(t *testing.T) {
	for _, kv := range []*mvccpb.KeyValue{
		{},
		{Key: []byte("deleted")},
		{Key: []byte("k"), CreateRevision: 3, ModRevision: 1 << 40, Version: 300, Value: bytes.Repeat([]byte("v"), 200), Lease: -1},
		{Key: []byte("k"), CreateRevision: 2, ModRevision: 2, Version: 1, Lease: 1<<63 - 1},
	} {
		want, err := proto.Marshal(kv)
		if err != nil {
			t.Fatal(err)
		}
		own := KeyValue{Key: kv.Key, Value: kv.Value, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Version: kv.Version, Lease: kv.Lease}
		if got := own.Append(nil); !bytes.Equal(got, want) {
			t.Errorf("%v: %x, etcd writes %x", kv, got, want)
		}
	}
}

package snapfile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.uber.org/zap"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap/snappb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v2store"
	"go.etcd.io/raft/v3/raftpb"
)

func ptr[T any](v T) *T { return &v }

// v2 is a v2 store as 3.5 writes it: m1, a learner that never started, one
// removed member, and what set adds.
func v2(t testing.TB, set map[string]string) []byte {
	t.Helper()
	s := v2store.New("/0", "/1")
	all := map[string]string{
		"/0/members/8c9a5bee07a14425/raftAttributes": `{"peerURLs":["http://a:2380"]}`,
		"/0/members/8c9a5bee07a14425/attributes":     `{"name":"m1","clientURLs":["http://a:2379"]}`,
		"/0/members/b4ba4175fe26bb9/raftAttributes":  `{"peerURLs":["http://b:2380"],"isLearner":true}`,
		"/0/removed_members/c52e60539e68d758":        "removed",
		"/0/version":                                 "3.5.0",
	}
	for k, v := range set {
		all[k] = v
	}
	for k, v := range all {
		if _, err := s.Create(k, false, v, false, v2store.TTLOptionSet{}); err != nil {
			t.Fatal(err)
		}
	}
	b, err := s.Save()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// snapshot has etcd's own package write a .snap file and gives its bytes.
func snapshot(t testing.TB, store []byte) []byte {
	t.Helper()
	dir := t.TempDir()
	m := &raftpb.Snapshot{Data: store, Metadata: &raftpb.SnapshotMetadata{
		Index: ptr(uint64(0x4b3)), Term: ptr(uint64(3)),
		ConfState: &raftpb.ConfState{Voters: []uint64{7, 8}, Learners: []uint64{9}, AutoLeave: ptr(false)},
	}}
	if err := snap.New(nil, dir).SaveSnap(m); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, Name{3, 0x4b3}.String()))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func read(t testing.TB, b []byte) *File {
	t.Helper()
	f, err := Read(context.Background(), bytes.NewReader(b), int64(len(b)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// readsInEtcd says whether etcd's own package reads the bytes.
func readsInEtcd(t testing.TB, b []byte) bool {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.snap")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := snap.Read(zap.NewNop(), path)
	return err == nil
}

func TestASnapshotThatEtcdWrote(t *testing.T) {
	f := read(t, snapshot(t, v2(t, nil)))
	if !f.Valid || f.Faults != nil || f.Index != 0x4b3 || f.Term != 3 || f.CRC != f.Computed {
		t.Errorf("%+v", f)
	}
	if c := f.ConfState; !reflect.DeepEqual(c.Voters, []uint64{7, 8}) || !reflect.DeepEqual(c.Learners, []uint64{9}) {
		t.Errorf("%+v", c)
	}
	want := &Store{
		Members: []Member{
			{ID: 0xb4ba4175fe26bb9, PeerURLs: []string{"http://b:2380"}, IsLearner: true, HasRaftAttributes: true},
			{ID: 0x8c9a5bee07a14425, PeerURLs: []string{"http://a:2380"}, Name: "m1", ClientURLs: []string{"http://a:2379"}, HasRaftAttributes: true, HasAttributes: true},
		},
		Removed: []uint64{0xc52e60539e68d758}, ClusterVersion: "3.5.0", CurrentIndex: 5, CurrentVersion: 2, Complete: true,
	}
	if !reflect.DeepEqual(f.Store, want) {
		t.Errorf("%+v\nwant %+v", f.Store, want)
	}
}

func TestKeysOfAClientAreListed(t *testing.T) {
	f := read(t, snapshot(t, v2(t, map[string]string{
		"/foo/bar": "hunter2", "/1/baz": "x", "/0/members/1/other": "x", "/0/odd": "x",
	})))
	s := f.Store
	if !reflect.DeepEqual(s.Custom, []string{"/foo/bar"}) || s.CustomCount != 1 {
		t.Errorf("custom %q", s.Custom)
	}
	if want := []string{"/0/members/1/other", "/0/odd", "/1/baz"}; !reflect.DeepEqual(s.System, want) {
		t.Errorf("system %q", s.System)
	}
	if strings.Contains(fmt.Sprintf("%+v", f), "hunter2") {
		t.Error("a value is shown")
	}
}

func TestASnapshotWith(t *testing.T) {
	store := v2(t, nil)
	good := snapshot(t, store)
	frame := func(data []byte) []byte { return snapshot(t, data) }
	outer := func(crc uint32, data []byte) []byte {
		b, err := proto.Marshal(&snappb.Snapshot{Crc: &crc, Data: data})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	edit := func(from, to string) []byte { return frame(bytes.Replace(store, []byte(from), []byte(to), 1)) }
	for _, test := range []struct {
		name  string
		b     []byte
		kinds []FaultKind
		valid bool
	}{
		{"no bytes", nil, []FaultKind{FaultEmpty}, false},
		{"zeros", make([]byte, 4096), []FaultKind{FaultFrame}, false},
		{"a checksum of zero", outer(0, []byte("x")), []FaultKind{FaultEmpty}, false},
		{"no data", outer(7, nil), []FaultKind{FaultEmpty}, false},
		{"its last byte missing", good[:len(good)-1], []FaultKind{FaultTruncated}, false},
		{"its second half missing", good[:len(good)/2], []FaultKind{FaultTruncated}, false},
		{"ten bytes", good[:10], []FaultKind{FaultTruncated}, false},
		{"another bit in the store", flip(good, len(good)/2), []FaultKind{FaultChecksum}, false},
		{"another bit in the checksum", flip(good, 2), []FaultKind{FaultChecksum}, false},
		{"a field number that no field has", append([]byte{0x00}, good...), []FaultKind{FaultFrame}, false},
		{"an unknown field", append(bytes.Clone(good), 0x78, 0x01), nil, true},
		{"a store that is no JSON", frame([]byte("{")), []FaultKind{FaultStore}, true},
		{"a store of another shape", frame([]byte(`[1]`)), []FaultKind{FaultStore}, true},
		{"a store without a root", frame([]byte(`{"CurrentIndex":5}`)), []FaultKind{FaultStore}, true},
		{"no store", frame(nil), nil, true},
		{"a member whose id is no number", edit(`"8c9a5bee07a14425":`, `"8c9a5bee07a1442g":`), []FaultKind{FaultMembership, FaultMembership}, true},
		{"attributes that are no JSON", edit(`{\"name\":`, `[\"name\":`), []FaultKind{FaultMembership}, true},
		{"a store nested very deep", frame(bytes.Repeat([]byte(`{"Root":{"Children":{"a":`), 1<<16)), []FaultKind{FaultLimit}, true},
		{"children nested deeper than the limit", frame(append([]byte(`{"Root":`), bytes.Repeat([]byte(`{"Children":{"a":`), maxDepth+2)...)), []FaultKind{FaultLimit}, true},
		{"garbage nested deeper than the limit", frame(append([]byte(`{"Other":`), bytes.Repeat([]byte(`[`), maxDepth+2)...)), []FaultKind{FaultLimit}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := read(t, test.b)
			var kinds []FaultKind
			for _, fault := range f.Faults {
				kinds = append(kinds, fault.Kind)
				if fault.Offset < 0 || fault.Offset > f.Size {
					t.Errorf("%v lies outside the file", &fault)
				}
			}
			if !reflect.DeepEqual(kinds, test.kinds) || f.Valid != test.valid {
				t.Errorf("%v, valid %v", f.Faults, f.Valid)
			}
			if etcd := readsInEtcd(t, test.b); etcd != f.Valid {
				t.Errorf("valid %v, etcd reads it: %v", f.Valid, etcd)
			}
		})
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

func TestAMillionFieldsEnd(t *testing.T) {
	b := bytes.Repeat([]byte{0x78, 0x01}, 1<<20)
	if f := read(t, b); len(f.Faults) != 1 || f.Faults[0].Kind != FaultLimit {
		t.Errorf("%v", f.Faults)
	}
}

func TestMembersOverTheLimitAreCounted(t *testing.T) {
	set := map[string]string{}
	for i := range 20 {
		set[fmt.Sprintf("/0/members/%x/raftAttributes", i+1)] = `{}`
		set[fmt.Sprintf("/custom/%d", i)] = ""
	}
	b := snapshot(t, v2(t, set))
	f, err := Read(context.Background(), bytes.NewReader(b), int64(len(b)), Options{MaxMembers: 5})
	if err != nil || len(f.Store.Members) != 5 || f.Store.Dropped < 17 || len(f.Store.Custom) != 5 || f.Store.CustomCount != 20 {
		t.Errorf("%d members, %d dropped, %d of %d custom, %v", len(f.Store.Members), f.Store.Dropped, len(f.Store.Custom), f.Store.CustomCount, err)
	}
}

var errDisk = errors.New("disk")

func TestWhatCannotBeReadIsNoFault(t *testing.T) {
	good := snapshot(t, v2(t, nil))
	for _, from := range []int64{0, 3} {
		f, err := Read(context.Background(), failingAfter{good, from}, int64(len(good)), Options{})
		if !errors.Is(err, errDisk) || f.Faults != nil || f.Valid {
			t.Errorf("%+v, %v", f, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Read(ctx, bytes.NewReader(good), int64(len(good)), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if f, err := Read(context.Background(), bytes.NewReader(good), int64(len(good))+9, Options{}); !errors.Is(err, io.ErrUnexpectedEOF) || f.Valid {
		t.Errorf("%+v, %v", f, err)
	}
}

// failingAfter fails every read behind an offset.
type failingAfter struct {
	b    []byte
	from int64
}

func (f failingAfter) ReadAt(b []byte, off int64) (int, error) {
	if off > f.from || f.from == 0 {
		return 0, errDisk
	}
	return bytes.NewReader(f.b).ReadAt(b, off)
}

func TestNamesInASnapDirectory(t *testing.T) {
	for _, test := range []struct {
		name  string
		class NameClass
		n     Name
	}{
		{"db", NameBackend, Name{}},
		{"0000000000000003-00000000000004b3.snap", NameSnap, Name{3, 0x4b3}},
		{"0000000000000003-00000000000004B3.snap", NameMisspelt, Name{}},
		{"0000000000000003-00000000000004b3.snap.broken", NameBroken, Name{}},
		{"00000000000004b3.snap.db", NameReceived, Name{Index: 0x4b3}},
		{"4b3.snap.db", NameForeign, Name{}},
		{"tmp123456", NameReceiving, Name{}},
		{"db.tmp.123456", NameDefrag, Name{}},
		{"x.snap", NameMisspelt, Name{}},
		{"db.bak", NameForeign, Name{}},
		{"", NameForeign, Name{}},
	} {
		if class, n := ClassifyName(test.name); class != test.class || n != test.n {
			t.Errorf("%q: %v %v", test.name, class, n)
		}
	}
}

func FuzzSnap(f *testing.F) {
	f.Add(snapshot(f, v2(f, nil)))
	f.Add(snapshot(f, nil))
	f.Add(snapshot(f, []byte(`{"Root":null}`)))
	f.Fuzz(func(t *testing.T, b []byte) {
		file := read(t, b)
		for _, fault := range file.Faults {
			if fault.Offset < 0 || fault.Offset > int64(len(b)) || fault.Kind == FaultUnknown {
				t.Fatalf("%v in %d bytes", &fault, len(b))
			}
		}
		var outer snappb.Snapshot
		var inner raftpb.Snapshot
		if !file.Valid {
			return
		}
		// What is valid here is valid for etcd and says the same.
		if err := errors.Join(proto.Unmarshal(b, &outer), proto.Unmarshal(outer.Data, &inner)); err != nil {
			t.Fatal(err)
		}
		if file.Index != inner.GetMetadata().GetIndex() || file.Term != inner.GetMetadata().GetTerm() || file.StoreSize != int64(len(inner.Data)) {
			t.Fatalf("%+v, etcd has %v", file, inner.GetMetadata())
		}
	})
}

func TestTheStoreIsReadInThePlaceOfTheData(t *testing.T) {
	// Unknown fields before the data must not move what offsets name.
	inner := protowire.AppendTag(nil, 15, protowire.BytesType)
	inner = protowire.AppendBytes(inner, make([]byte, 1000))
	store, err := json.Marshal(map[string]any{"Root": map[string]any{"Children": map[string]any{"k": map[string]any{"Value": 5}}}})
	if err != nil {
		t.Fatal(err)
	}
	inner = protowire.AppendTag(inner, 1, protowire.BytesType)
	inner = protowire.AppendBytes(inner, store)
	f := &reader{ctx: context.Background(), src: bytes.NewReader(inner), file: &File{Size: int64(len(inner))}}
	if err := f.snapshot(extent{0, int64(len(inner))}, true); err != nil {
		t.Fatal(err)
	}
	if len(f.file.Faults) != 1 || f.file.Faults[0].Offset < 1000 {
		t.Errorf("%v", f.file.Faults)
	}
}

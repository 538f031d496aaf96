package raftlog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/raft/v3/raftpb"

	"etcd-forensics/walreader"
)

func FuzzEntry(f *testing.F) {
	for _, m := range requests() {
		f.Add(marshal(f, &raftpb.Entry{Index: ptr(uint64(7)), Term: ptr(uint64(2)), Data: marshal(f, m)}))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeEntry(b)
		if err != nil {
			return
		}
		if len(e.Data) > len(b) {
			t.Fatalf("%d bytes of data from %d", len(e.Data), len(b))
		}
		// What decodes here decodes to the same with etcd's package.
		var want raftpb.Entry
		if err := proto.Unmarshal(b, &want); err != nil {
			t.Fatalf("%+v, but etcd says %v", e, err)
		}
		if e.Index != want.GetIndex() || e.Term != want.GetTerm() || !bytes.Equal(e.Data, want.Data) {
			t.Fatalf("%+v, etcd has %v", e, &want)
		}
		DecodeConfChange(EntryConfChange, b)
		DecodeConfChange(EntryConfChangeV2, b)
		DecodeHardState(b)
		DecodeMetadata(b)
		DecodeSnapshotRecord(b)
		DecodeConfState(b)
	})
}

func FuzzRequest(f *testing.F) {
	for _, m := range requests() {
		m.Header = &pb.RequestHeader{ID: 1, Username: "u"}
		f.Add(marshal(f, m))
	}
	f.Add(v2Request(7, "PUT", "/0/members/1/attributes", `{"name":"m1"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeRequest(b)
		kind, kindErr := KindOf(b)
		if err == nil && (kindErr != nil || kind != r.Kind) {
			t.Fatalf("decoded as %q, but KindOf says %q, %v", r.Kind, kind, kindErr)
		}
		for _, op := range r.Ops {
			if v := op.Value; v.Off < 0 || v.Len < 0 || v.Off+v.Len > len(b) || len(v.In(b)) != v.Len {
				t.Fatalf("value %+v of %d bytes", v, len(b))
			}
		}
	})
}

// bigLog is 64 MB of puts with values of the given size.
func bigLog(size int) []byte {
	b := walreader.AppendFrame(nil, walreader.Record{Type: walreader.TypeCRC})
	data := put("/registry/pods/default/example", size)
	var sum uint32
	for i := uint64(1); len(b) < 64_000_000; i++ {
		e, err := proto.Marshal(&raftpb.Entry{Index: &i, Term: ptr(uint64(2)), Data: data})
		if err != nil {
			panic(err)
		}
		sum = walreader.Checksum(sum, e)
		b = walreader.AppendFrame(b, walreader.Record{Type: walreader.TypeEntry, CRC: sum, Data: e})
	}
	return b
}

// BenchmarkDecode verifies and sums up a log of Kubernetes-sized values, beside
// the SHA-256 of the same bytes.
func BenchmarkDecode(b *testing.B) {
	for name, size := range map[string]int{"value=200": 200, "value=2000": 2000} {
		segment := bigLog(size)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(segment)))
			b.ReportAllocs()
			for b.Loop() {
				c := walreader.NewChain([]walreader.File{{Name: walreader.SegmentName{}.String(), R: bytes.NewReader(segment), Size: int64(len(segment))}})
				l, err := Summarize(context.Background(), c, Options{})
				if err != nil || l.Stop != nil {
					b.Fatal(err, l.Stop)
				}
			}
		})
	}
	b.Run("sha256", func(b *testing.B) {
		segment := bigLog(2000)
		b.SetBytes(int64(len(segment)))
		for b.Loop() {
			sha256.Sum256(segment)
		}
	})
}

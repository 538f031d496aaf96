package raftlog

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// v2Request encodes an etcdserverpb.Request, which etcd dropped in 3.6, as 3.5
// writes it: every field, also when it is empty.
func v2Request(id uint64, method, path, value string) []byte {
	b := protowire.AppendTag(nil, 1, protowire.VarintType)
	b = protowire.AppendVarint(b, id)
	for i, s := range []string{method, path, value} {
		b = protowire.AppendTag(b, protowire.Number(2+i), protowire.BytesType)
		b = protowire.AppendString(b, s)
	}
	b = protowire.AppendTag(b, 5, protowire.VarintType)
	b = protowire.AppendVarint(b, 0)
	b = protowire.AppendTag(b, 6, protowire.BytesType)
	b = protowire.AppendString(b, "")
	for _, n := range []protowire.Number{7, 9, 10, 11, 12, 13, 14, 15, 16} {
		b = protowire.AppendTag(b, n, protowire.VarintType)
		b = protowire.AppendVarint(b, 0)
	}
	return b
}

func TestRequestsOfTheV2Store(t *testing.T) {
	for _, test := range []struct {
		name    string
		data    []byte
		member  *Member
		version *Version
	}{
		{"a member publishes its name", v2Request(7, "PUT", "/0/members/8c9a5bee07a14425/attributes", `{"name":"m1","clientURLs":["http://a"]}`),
			&Member{ID: 0x8c9a5bee07a14425, Name: "m1", ClientURLs: []string{"http://a"}}, nil},
		{"the cluster version", v2Request(7, "PUT", "/0/version", "3.5.0"), nil, &Version{"3.5.0", false}},
		{"attributes that are no JSON", v2Request(7, "PUT", "/0/members/1/attributes", "{"), nil, nil},
		{"a path that only looks like it", v2Request(7, "PUT", "/0/members/xyz/attributes", "{}"), nil, nil},
		{"a client's key", v2Request(7, "POST", "/1/queue", secret), nil, nil},
		{"a sync", v2Request(7, "SYNC", "", ""), nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			if k, err := KindOf(test.data); k != KindV2 || err != nil {
				t.Errorf("KindOf: %q, %v", k, err)
			}
			r, err := DecodeRequest(test.data)
			if err != nil || r.Kind != KindV2 || r.ID != 7 || r.V2 == nil {
				t.Fatalf("%+v, %v", r, err)
			}
			if !reflect.DeepEqual(r.Member, test.member) || !reflect.DeepEqual(r.Version, test.version) {
				t.Errorf("%+v, %+v", r.Member, r.Version)
			}
		})
	}
}

func TestOddRequests(t *testing.T) {
	field := func(b []byte, num protowire.Number, body string) []byte {
		return protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), body)
	}
	for _, test := range []struct {
		name string
		data []byte
		want Request
		err  string
	}{
		{"nothing", nil, Request{Kind: KindNone}, ""},
		{"a kind of a later etcd", field(nil, 1400, "x"), Request{Kind: KindUnknown, Unknown: []int32{1400}}, ""},
		{"two kinds at once", field(field(nil, 1000, ""), 1011, ""), Request{Kind: "auth_enable", Also: []Kind{"auth_disable"}, Auth: &Auth{}}, ""},
		{"an id and no request", []byte{0x08, 0x05}, Request{Kind: KindUnknown, ID: 5}, ""},
		{"a length that is too long", []byte{0x22, 0x7f}, Request{}, "EOF"},
		{"a wrong wire type", []byte{0x20, 0x01}, Request{}, "wire type"},
		{"a put with a wrong wire type", field(nil, 4, "\x08\x01"), Request{}, "wire type"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := DecodeRequest(test.data)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(r, test.want) {
				t.Errorf("%+v, %v, want %+v", r, err, test.want)
			}
		})
	}
}

func TestLimitsOfOneRequest(t *testing.T) {
	t.Run("many operations", func(t *testing.T) {
		op := []byte{0x12, 0x02, 0x12, 0x00} // success: an empty put
		data := protowire.AppendTag(nil, 6, protowire.BytesType)
		data = protowire.AppendBytes(data, bytes.Repeat(op, maxOps+10))
		r, err := DecodeRequest(data)
		if err != nil || len(r.Ops) != maxOps || r.OpsDropped != 10 {
			t.Errorf("%d operations, %d dropped, %v", len(r.Ops), r.OpsDropped, err)
		}
	})
	t.Run("deep transactions", func(t *testing.T) {
		txn := &pb.TxnRequest{}
		for range maxTxnDepth {
			txn = &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: txn}}}}
		}
		_, err := DecodeRequest(marshal(t, &pb.InternalRaftRequest{Txn: txn}))
		if err == nil || !strings.Contains(err.Error(), "nested") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("many voters", func(t *testing.T) {
		packed := protowire.AppendTag(nil, 1, protowire.BytesType)
		packed = protowire.AppendBytes(packed, bytes.Repeat([]byte{1}, maxConfMembers+1))
		if _, err := DecodeConfState(packed); err == nil {
			t.Error("no error")
		}
	})
	t.Run("packed and plain voters", func(t *testing.T) {
		c, err := DecodeConfState([]byte{0x08, 0x05, 0x0a, 0x02, 0x06, 0x07})
		if err != nil || !reflect.DeepEqual(c.Voters, []uint64{5, 6, 7}) {
			t.Errorf("%v, %v", c, err)
		}
	})
}

func TestTermsKeepTheirNewestRuns(t *testing.T) {
	var terms Terms
	const n = 3*maxRuns + 7
	for i := uint64(1); i <= n; i++ {
		terms.add(Run{First: i, Last: i, Term: i})
	}
	if terms.Complete() || len(terms.Runs()) > 2*maxRuns {
		t.Errorf("complete %v, %d runs", terms.Complete(), len(terms.Runs()))
	}
	if term, ok := terms.At(n - maxRuns + 1); !ok || term != n-maxRuns+1 {
		t.Errorf("term %d, %v", term, ok)
	}
	if _, ok := terms.At(1); ok {
		t.Error("the first run is still there")
	}
	if cut := terms.cut(n - 9); cut != 10 {
		t.Errorf("cut %d", cut)
	}
	if last, _ := terms.last(); last.Last != n-10 {
		t.Errorf("last %d", last.Last)
	}
}

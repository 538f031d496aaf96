package replay

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"etcd-forensics/walreader/raftlog"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == ChildCommand {
		os.Exit(Child(os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func TestFramesComeOutAsTheyWentIn(t *testing.T) {
	entries := []raftlog.Entry{
		{Index: 1, Term: 1, Type: raftlog.EntryConfChange, Data: []byte("change")},
		{Index: 1 << 40, Term: 1 << 50, Data: bytes.Repeat([]byte{7}, 1<<20)},
		{Index: 3, Term: 2, Data: []byte{}},
	}
	var b []byte
	for _, e := range entries {
		b = append(appendHead(b, e, byte(e.Type)), e.Data...)
	}
	b = appendHead(b, raftlog.Entry{}, typeEnd)
	r, into := bytes.NewReader(b), &batch{}
	for _, want := range entries {
		got, end, err := readFrame(r, into)
		if err != nil || end || got.Index != want.Index || got.Term != want.Term || got.Type != want.Type || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("%d: %+v, %t, %v", want.Index, got.Index, end, err)
		}
	}
	if _, end, err := readFrame(r, into); !end || err != nil {
		t.Errorf("%t, %v", end, err)
	}
	if _, _, err := readFrame(r, into); err != io.EOF {
		t.Errorf("behind the end: %v", err)
	}
	if _, _, err := readFrame(bytes.NewReader([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}), into); err != errFrame {
		t.Errorf("a frame of 4 GiB: %v", err)
	}
}

// v2 makes a request of the v2 store as 3.4 writes it.
func v2(method, path, value string) []byte {
	b := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 5)
	for i, s := range []string{method, path, value} {
		b = protowire.AppendString(protowire.AppendTag(b, protowire.Number(i+2), protowire.BytesType), s)
	}
	return b
}

func TestRequestsOfTheV2StoreBecomeThoseOfV3(t *testing.T) {
	r, f := decode(v2("PUT", "/0/members/8469673bd9d60b61/attributes", `{"name":"m1","clientURLs":["http://a:2379"]}`))
	if f != nil || r.GetClusterMemberAttrSet().GetMember_ID() != 0x8469673bd9d60b61 || r.ClusterMemberAttrSet.MemberAttributes.Name != "m1" || r.ClusterMemberAttrSet.MemberAttributes.ClientUrls[0] != "http://a:2379" || r.Header.ID != 5 {
		t.Errorf("%v, %v", r, f)
	}
	if r, f = decode(v2("PUT", "/0/version", "3.5.0")); f != nil || r.GetClusterVersionSet().GetVer() != "3.5.0" {
		t.Errorf("%v, %v", r, f)
	}
	if _, f = decode(v2("PUT", "/0/version", "3.8.0")); f == nil || f.Reason != ReasonVersion {
		t.Errorf("%v", f)
	}
	for _, data := range [][]byte{v2("DELETE", "/1/a", ""), v2("PUT", "/1/a", "x"), v2("SYNC", "", ""), nil} {
		if r, f := decode(data); r != nil || f != nil {
			t.Errorf("%v, %v", r, f)
		}
	}
}

// What may be secret is in no word of a refusal.
func TestNoRefusalHoldsWhatARequestSays(t *testing.T) {
	unknown := &pb.InternalRaftRequest{AuthUserAdd: &pb.AuthUserAddRequest{Name: "secret-user", Password: "secret-word"}}
	unknown.AuthUserAdd.ProtoReflect().SetUnknown([]byte{0xc2, 0xb8, 0x02, 0x00})
	data, err := proto.Marshal(unknown)
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range [][]byte{data, data[:len(data)-1], append(v2("PUT", "/0/version", "secret"), 0xff), append(data, 0xff)} {
		_, f := decode(data)
		if f == nil || strings.Contains(f.Text, "secret") {
			t.Errorf("%v", f)
		}
	}
}

func TestWhatIsNotKnownIsSeenWhereverItIs(t *testing.T) {
	field := protowire.AppendVarint(protowire.AppendTag(nil, 9000, protowire.VarintType), 1)
	put := func() *pb.InternalRaftRequest {
		return &pb.InternalRaftRequest{Header: &pb.RequestHeader{ID: 7}, Put: &pb.PutRequest{Key: []byte("k"), Value: []byte("v")}}
	}
	inTxn := &pb.PutRequest{Key: []byte("k")}
	txn := &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestPut{RequestPut: inTxn}}}}
	for where, add := range map[string]func(r *pb.InternalRaftRequest){
		"nowhere":             func(r *pb.InternalRaftRequest) {},
		"the request":         func(r *pb.InternalRaftRequest) { r.ProtoReflect().SetUnknown(field) },
		"the header":          func(r *pb.InternalRaftRequest) { r.Header.ProtoReflect().SetUnknown(field) },
		"the put":             func(r *pb.InternalRaftRequest) { r.Put.ProtoReflect().SetUnknown(field) },
		"a txn":               func(r *pb.InternalRaftRequest) { inTxn.ProtoReflect().SetUnknown(field); r.Put, r.Txn = nil, txn },
		"a txn beside a put":  func(r *pb.InternalRaftRequest) { inTxn.ProtoReflect().SetUnknown(field); r.Txn = txn },
		"an older id, beside": func(r *pb.InternalRaftRequest) { r.ID = 3; r.Put.ProtoReflect().SetUnknown(field) },
	} {
		request := put()
		add(request)
		data, err := proto.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		r, f := decode(data)
		if known := where == "nowhere"; known != (f == nil) || known != (r != nil) || f != nil && f.Reason != ReasonUnknown {
			t.Errorf("in %s: %v, %v", where, r, f)
		}
	}
}

// What has the number of a field, and not its type, is a field that is not known.
func TestFieldsOfAnotherTypeAreNotKnown(t *testing.T) {
	put, err := proto.Marshal(&pb.InternalRaftRequest{Header: &pb.RequestHeader{ID: 7}, Put: &pb.PutRequest{Key: []byte("k"), Value: []byte("v")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, number := range []protowire.Number{fieldPut, fieldHeader} {
		data := protowire.AppendVarint(protowire.AppendTag(slices.Clone(put), number, protowire.VarintType), 1)
		if r, f := decode(data); f == nil || f.Reason != ReasonUnknown {
			t.Errorf("field %d: %v, %v", number, r, f)
		}
	}
}

// A child that has done all and ended before anyone waits for it has not failed.
func TestAQuickChildHasDoneIt(t *testing.T) {
	gone := make(chan struct{})
	close(gone)
	for range 8 { // of two things that have happened, a select takes either
		in, stdin := io.Pipe()
		in.Close()
		p := &Process{stdin: stdin, out: bufio.NewWriter(stdin), finished: gone, complete: gone, exited: gone, done: &Done{}, written: &Written{Size: 5}}
		_, err := p.Finish(t.Context())
		written, ended := p.Wait(t.Context())
		if err = errors.Join(err, ended); err != nil || written.Size != 5 {
			t.Fatalf("%+v, %v", written, err)
		}
	}
}

// A limitSeer notes the limit of memory at the first thing that a child says.
type limitSeer struct {
	bytes.Buffer
	limit int64
}

func (l *limitSeer) Write(b []byte) (int, error) {
	if l.Len() == 0 {
		l.limit = debug.SetMemoryLimit(-1)
	}
	return l.Buffer.Write(b)
}

// While a store opens its index grows past any limit, and from then on memory would be
// taken back all the time; behind that the limit follows what is in use.
func TestMemoryIsLimitedWhenTheStoreIsOpen(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	defer func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(limit) }()
	order, err := json.Marshal(Order{Work: filepath.Join(t.TempDir(), "work"), MaxLearners: 1, MinLeaseTTL: 2})
	if err != nil {
		t.Fatal(err)
	}
	said := &limitSeer{}
	waiting, parent := io.Pipe()
	defer parent.Close()
	in := io.MultiReader(bytes.NewReader(appendHead(append(order, '\n'), raftlog.Entry{}, typeEnd)), waiting)
	if exit := Child(in, said, io.Discard); exit != 0 {
		t.Fatalf("exit %d: %s", exit, said)
	}
	if said.limit != limit {
		t.Errorf("a limit of %d while the store opened", said.limit)
	}
	if held := make([]byte, 64<<20); len(held) > 0 {
		runtime.GC()
		(&garbage{}).limit()
		if now := debug.SetMemoryLimit(-1); now < int64(len(held))+garbageBytes || now > int64(len(held))+maxGarbageBytes {
			t.Errorf("a limit of %d with %d in use", now, len(held))
		}
		runtime.KeepAlive(held)
	}
}

// The more is in use, the more may lie about, within bounds.
func TestWhatMayLieAbout(t *testing.T) {
	last := uint64(garbageBytes - 1)
	for inUse := uint64(0); last < maxGarbageBytes; inUse += 64 << 20 {
		may := mayLieAbout(inUse)
		if may <= last || may > maxGarbageBytes {
			t.Fatalf("%d beside %d, and %d beside less", may, inUse, last)
		}
		last = may
	}
	if may := mayLieAbout(math.MaxUint64); may != maxGarbageBytes {
		t.Errorf("%d beside all", may)
	}
}

func TestAChildWithoutAnOrderEnds(t *testing.T) {
	for _, in := range []string{"", "{}", "nonsense\n"} {
		var out bytes.Buffer
		if code := Child(strings.NewReader(in), &out, io.Discard); code != 2 {
			t.Errorf("%q: exit code %d", in, code)
		}
		var e event
		if json.Unmarshal(out.Bytes(), &e) != nil || e.Failed == nil {
			t.Errorf("%q: %s", in, out.Bytes())
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(v2("PUT", "/0/version", "3.5.0"))
	f.Add([]byte{0x22, 0x04, 0x0a, 0x02, 'k', 'v'})
	f.Fuzz(func(t *testing.T, data []byte) {
		r, failure := decode(data)
		if r != nil && failure != nil {
			t.Errorf("both: %v, %v", r, failure)
		}
	})
}

// TestAChildWithoutAParentLeavesNothing leaves a child alone in the two ways in which it can
// notice that: the input ends, as it does when the parent is killed, and what it says cannot be
// said, which comes first when it is just then that it says something.
func TestAChildWithoutAParentLeavesNothing(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, ends := range []bool{true, false} {
		dir := t.TempDir()
		o := Order{Sweep: filepath.Join(dir, "scratch"), Out: filepath.Join(dir, "out.partial"), MaxLearners: 1, MinLeaseTTL: 2}
		o.Work = filepath.Join(o.Sweep, "work.db")
		if err := os.Mkdir(o.Sweep, 0o700); err != nil {
			t.Fatal(err)
		}
		order, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		in, parent, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		heard, out, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parent.Write(appendHead(append(order, '\n'), raftlog.Entry{}, typeEnd)); err != nil {
			t.Fatal(err)
		}
		if ends {
			parent.Close()
		} else {
			heard.Close()
		}
		child := exec.Command(self, ChildCommand)
		child.Stdin, child.Stdout = in, out
		if err := child.Run(); child.ProcessState.ExitCode() != 3 {
			t.Errorf("input ends: %t: %v", ends, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("input ends: %t: left: %v, %v", ends, left, err)
		}
		for _, f := range []*os.File{in, parent, heard, out} {
			f.Close()
		}
	}
}

// TestBucketsInBucketsAreCopied saves a database to which another program added a bucket
// with one in it.
func TestBucketsInBucketsAreCopied(t *testing.T) {
	work, out := filepath.Join(t.TempDir(), "work"), filepath.Join(t.TempDir(), "out")
	db, err := bbolt.Open(work, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		outer, err := tx.CreateBucket([]byte("outer"))
		if err != nil {
			return err
		}
		inner, err := outer.CreateBucket([]byte("inner"))
		return errors.Join(err, outer.Put([]byte("a"), []byte("1")), outer.Put([]byte("z"), []byte("2")), inner.Put([]byte("b"), []byte("3")), inner.SetSequence(7))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	looked := make(chan struct{})
	file, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	written, err := rewrite(work, file, 0, func() { go lookAt(t, out, looked) }, looked)
	<-looked
	if err != nil {
		t.Fatal(err)
	}
	if is, err := os.Stat(out); err != nil || is.Size() != written.Size {
		t.Errorf("%v, %v; said to have %d bytes", is, err, written.Size)
	}
	if left, err := os.ReadDir(filepath.Dir(work)); err != nil || len(left) > 0 {
		t.Errorf("work files are left: %v, %v", left, err)
	}
	if db, err = bbolt.Open(out, 0o600, &bbolt.Options{ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.View(func(tx *bbolt.Tx) error {
		outer := tx.Bucket([]byte("outer"))
		if inner := outer.Bucket([]byte("inner")); inner == nil || string(inner.Get([]byte("b"))) != "3" || inner.Sequence() != 7 {
			t.Error("the bucket in the other is not there")
		}
		if string(outer.Get([]byte("a"))) != "1" || string(outer.Get([]byte("z"))) != "2" {
			t.Error("records beside it are not there")
		}
		return nil
	})
}

// lookAt looks at a new file for a while, in which it must not change.
func lookAt(t *testing.T, path string, looked chan<- struct{}) {
	defer close(looked)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Error(err)
		return
	}
	defer db.Close()
	time.Sleep(50 * time.Millisecond)
	if is, err := os.Stat(path); err != nil || is.Size()%int64(db.Info().PageSize) != 0 {
		t.Errorf("the file grew while it was looked at: %v, %v", is, err)
	}
}

// TestWhatAChildSaysIsNotTrusted starts children that say what no child says.
func TestWhatAChildSaysIsNotTrusted(t *testing.T) {
	// The others read their order and that no entry follows; the one that says nothing ends.
	waits := map[bool]string{false: "; read -r order; head -c 21 > /dev/null"}
	for said, want := range map[string]string{
		"nonsense": "cannot be read",
		"":         "has ended",
		`{"Opened":{}}\n{"Opened":{}}\n{"Opened":{}}`: "has ended",
		`{"Opened":{}}\n{"Done":{}}`:                  "has ended",
		`{"Opened":{}}\n{"Done":{}}\nnonsense`:        "cannot be read",
	} {
		p, _, err := Start(t.Context(), []string{"sh", "-c", "printf '" + said + "'" + waits[said == ""]}, Order{})
		if p != nil {
			_, err = p.Finish(t.Context())
			_, ended := p.Wait(t.Context())
			err = errors.Join(err, ended)
		}
		if f, ok := IsFailure(err); !ok || !strings.Contains(err.Error(), want) || f.Reason != ReasonEnded {
			t.Errorf("%q: %v", said, err)
		}
	}
}

// Whether base and log are to be blamed for a child's end is told by what it said.
func TestWhoIsBlamedForAnEnd(t *testing.T) {
	for said, want := range map[string]Reason{
		"": ReasonEnded,
		"fatal error: runtime: out of memory\n\ngoroutine 1": ReasonEnded,
		"panic: page 7 already freed\n\ngoroutine 1":         ReasonApplier,
		`{"level":"fatal","msg":"index is not as it was"}`:   ReasonApplier,
	} {
		p := &Process{}
		p.log.Write([]byte(said))
		if f, _ := IsFailure(p.why(t.Context())); f.Reason != want {
			t.Errorf("%q: %s", said, f.Reason)
		}
	}
}

// A copy that cannot be written says nothing of what is applied to it.
func TestACopyThatCannotBeWritten(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	limited := []string{"sh", "-c", `ulimit -f 4096 && exec "$0" "$@"`, self, ChildCommand} // in blocks of 512 bytes
	p, _, err := Start(t.Context(), limited, Order{Work: filepath.Join(t.TempDir(), "work"), MaxLearners: 1, MinLeaseTTL: 2})
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(100) {
		data, err := proto.Marshal(&pb.InternalRaftRequest{Header: &pb.RequestHeader{ID: i}, Put: &pb.PutRequest{Key: []byte("k"), Value: make([]byte, 1<<20)}})
		if err != nil {
			t.Fatal(err)
		}
		p.Send(raftlog.Entry{Index: i + 1, Term: 1, Data: data})
	}
	_, err = p.Finish(t.Context())
	if f, ok := IsFailure(err); !ok || f.Reason != ReasonFile || !strings.HasPrefix(f.Text, failedCommit+": ") {
		t.Errorf("%+v", err)
	}
	p.Wait(t.Context())
}

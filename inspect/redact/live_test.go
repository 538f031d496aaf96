package redact_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect/redact"
	"etcd-forensics/inspect/source"
)

// secrets are in what the server of the test is told. None may be in the copy.
var secrets = []string{
	"topsecretkey", "topsecretns", "topsecretvalue", "topsecretowner", "topsecrethost", "topsecretmember",
	"topsecretuser", "topsecretpassword", "topsecretrole", "topsecretrange", "topsecretgone", "topsecretgroup", "topsecretcompared",
	"topsecretrenamed",
}

func freeURL(t *testing.T) url.URL {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return url.URL{Scheme: "http", Host: l.Addr().String()}
}

// tellSecrets lets a server write secrets to every place that it has for them, and to those that
// it gives up again.
func tellSecrets(t *testing.T, dir string) {
	t.Helper()
	peer, client := freeURL(t), freeURL(t)
	named := func(u url.URL) url.URL { u.Host = "topsecrethost.example:" + u.Port(); return u }
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = "topsecretmember", dir
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{named(peer)}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{named(client)}
	cfg.InitialCluster = cfg.Name + "=" + cfg.AdvertisePeerUrls[0].String()
	cfg.SnapshotCount = 20
	cfg.EnableGRPCGateway = false
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	<-e.Server.ReadyNotify()
	c := v3client.New(e.Server)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 30 {
		must(c.Put(ctx, "/registry/secrets/topsecretns/topsecretkey", "k8s\x00\n\x0c\n\x02v1\x12\x06Secret\x12\x10topsecretvalue!!\x1a\x00\"\x00"))
	}
	must(c.Put(ctx, "/registry/topsecretgroup.example/topsecretowners/topsecretns/topsecretkey", `{"kind":"topsecretowner"}`))
	must(c.Put(ctx, "topsecretkey", "topsecretvalue"))
	must(c.Put(ctx, "topsecretgone", string(bytes.Repeat([]byte("topsecretvalue"), 2000))))
	must(c.Delete(ctx, "topsecretgone"))
	must(c.Put(ctx, "plain/topsecretrange1", "topsecretvalue"))
	must(c.Delete(ctx, "plain/topsecretra", clientv3.WithPrefix()))
	must(c.Txn(ctx).If(clientv3.Compare(clientv3.Value("topsecretkey"), "=", "topsecretcompared")).
		Then(clientv3.OpPut("topsecretkey", "topsecretvalue")).Else(clientv3.OpPut("topsecretgone", "topsecretvalue")).Commit())
	members, err := c.MemberList(ctx)
	must(nil, err)
	must(c.MemberUpdate(ctx, members.Members[0].ID, []string{"http://topsecretrenamed.example:2380"}))
	must(c.RoleAdd(ctx, "topsecretrole"))
	must(c.RoleGrantPermission(ctx, "topsecretrole", "topsecretkey", "topsecretrange", clientv3.PermissionType(authpb.READWRITE)))
	for _, user := range []string{"topsecretuser", "topsecretuser2", "a-topsecretuser", "z-topsecretuser"} {
		must(c.UserAdd(ctx, user, "topsecretpassword"))
	}
	must(c.UserGrantRole(ctx, "topsecretuser", "topsecretrole"))
	must(c.UserDelete(ctx, "topsecretuser2"))
	must(c.UserChangePassword(ctx, "topsecretuser", "topsecretpassword2"))
	must(c.Compact(ctx, 10))
	time.Sleep(200 * time.Millisecond) // the backend commits every 100 ms
}

// has says whether a text stands in b, as it is or in base64.
func has(b []byte, text string) bool {
	if bytes.Contains(b, []byte(text)) {
		return true
	}
	for lead := range 3 { // at each of the three places where it can begin
		s := base64.StdEncoding.EncodeToString(append(make([]byte, lead), text...))
		from := []int{0, 2, 3}[lead]
		if s = s[from : len(s)-4]; bytes.Contains(b, []byte(s)) {
			return true
		}
	}
	return false
}

// count gives how many files below dir have a text, in them or in their names.
func count(t *testing.T, dir, text string) int {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if has(b, text) || has([]byte(d.Name()), text) {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// hashes gives the hashes of passwords in the files below dir.
func hashes(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, h := range bcrypted.FindAll(b, -1) {
			all = append(all, string(h[7:]))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

var bcrypted = regexp.MustCompile(`\$2a\$10\$[./A-Za-z0-9]{53}`)

// What a server was told is nowhere in the copy of its directory, and the copy has the same findings.
func TestNoSecretIsLeft(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "member.etcd")
	tellSecrets(t, dir)
	for _, s := range secrets {
		// Passwords are hashed before they are logged.
		if s != "topsecretpassword" && count(t, dir, s) == 0 {
			t.Errorf("%s is nowhere in the evidence", s)
		}
	}
	before, sources := examine(t, []string{dir})
	out := filepath.Join(t.TempDir(), "out")
	if _, err := redact.Run(t.Context(), sources, out, redact.Options{Seed: "live"}); err != nil {
		t.Fatal(err)
	}
	hidden := append(hashes(t, dir), secrets...)
	if len(hidden) == len(secrets) {
		t.Error("no hash of a password is in the evidence")
	}
	for _, s := range hidden {
		if n := count(t, out, s); n > 0 {
			t.Errorf("%s is in %d files of the copy", s, n)
		}
	}
	after, _ := examine(t, []string{out})
	same(t, before, after)
}

// A failed run leaves nothing.
func TestInterruptLeavesNothing(t *testing.T) {
	dir := filepath.Join(fixtures.Dir(t, "auth-3.6"), "m1")
	out := filepath.Join(t.TempDir(), "out")
	for n := range 30 {
		ctx, cancel := context.WithCancel(t.Context())
		reads := 0
		sources, problems := source.Open(t.Context(), []string{dir}, source.Options{Progress: func(int64) {
			if reads++; reads > 1<<n {
				cancel()
			}
		}})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		_, err := redact.Run(ctx, sources, out, redact.Options{Seed: "live"})
		sources[0].Close()
		cancel()
		if err == nil {
			if n < 3 {
				t.Error("never interrupted")
			}
			return
		}
		if _, err := os.Lstat(out); err == nil {
			t.Fatalf("after %d reads something is left", 1<<n)
		}
	}
	t.Error("it did not end")
}

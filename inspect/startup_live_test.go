package inspect_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/config"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/features"
	"go.uber.org/zap"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/walreader"
	"etcd-forensics/walreader/raftlog"
)

// The test binary is the server as well: etcd panics in goroutines and ends the
// process through its logger, so it gets a process of its own.
const (
	serverDir   = "STARTUP_SERVER_DIR"
	serverName  = "STARTUP_SERVER_NAME"
	serverPeers = "STARTUP_SERVER_PEERS"
)

// Lines that the server's process writes to stdout.
const (
	wroteUp     = "up"
	wroteServes = "serves"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(serverDir); dir != "" {
		serve(dir, os.Getenv(serverName), os.Getenv(serverPeers))
	}
	os.Exit(m.Run())
}

// serve runs etcd 3.7 until it ends by itself or its parent ends it. Of what embed
// puts around the server, the listeners, nothing is needed here.
func serve(dir, name, peers string) {
	logger, err := zap.NewProduction()
	if err != nil {
		panic(err)
	}
	s, err := etcdserver.NewServer(serverConfig(dir, name, peers, logger))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s.Start()
	fmt.Println(wroteUp)
	select {
	case <-s.ReadyNotify():
		_, err := s.Put(context.Background(), &pb.PutRequest{Key: []byte("startup"), Value: []byte("1")})
		for err != nil && strings.Contains(err.Error(), "timed out") {
			_, err = s.Put(context.Background(), &pb.PutRequest{Key: []byte("startup"), Value: []byte("1")})
		}
		if err == nil {
			fmt.Println(wroteServes)
		}
	case <-s.StopNotify():
	}
	<-s.StopNotify()
	os.Exit(1)
}

// serverConfig is what embed's defaults come to (etcd v3.7.3,
// server/embed/config.go and etcd.go).
func serverConfig(dir, name, peers string, logger *zap.Logger) config.ServerConfig {
	cluster, err := types.NewURLsMap(peers)
	if err != nil {
		panic(err)
	}
	return config.ServerConfig{
		Name: name, DataDir: dir, ClientURLs: types.URLs{freeURL()}, PeerURLs: cluster[name],
		InitialPeerURLsMap: cluster, InitialClusterToken: "fixture", NewCluster: true,
		SnapshotCount: etcdserver.DefaultSnapshotCount, SnapshotCatchUpEntries: etcdserver.DefaultSnapshotCatchUpEntries,
		MaxSnapFiles: 5, MaxWALFiles: 5, TickMs: 100, ElectionTicks: 10, InitialElectionTickAdvance: true,
		BackendFreelistType: bbolt.FreelistMapType, MaxTxnOps: 128, MaxRequestBytes: 1.5 * 1024 * 1024, StrictReconfigCheck: true,
		AuthToken: "simple", BcryptCost: 10, TokenTTL: 300, PreVote: true, CompactionBatchLimit: 1000, DowngradeCheckTime: 5 * time.Second,
		WarningApplyDuration: 100 * time.Millisecond, MaxLearners: 1, Logger: logger,
		ServerFeatureGate: features.NewDefaultServerFeatureGate(name, logger),
	}
}

func freeURL() url.URL {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	return url.URL{Scheme: "http", Host: l.Addr().String()}
}

const (
	giveUp    = 30 * time.Second        // in all, and for what is predicted
	serveTime = 5500 * time.Millisecond // for an election and a put that are not predicted
	settle    = 1500 * time.Millisecond // for the end of a member that is predicted to stay up
)

// live lists the fixtures that are started in every run, the first few of them in
// a short one; `make versions` starts all of them with all versions.
var live = []string{
	"wal-bit-flipped", "wal-length-trashed-last", "leaf-zeroed", "meta-active-broken",
	"wal-record-unknown", "wal-zero-gap", "wal-torn-tail", "wal-name-wrong", "wal-first-segment-missing", "wal-index-gap", "wal-commit-beyond-end",
	"database-older", "backend-missing", "bucket-missing", "value-undecodable", "revision-key-malformed", "healthy-3.5", "healthy-3.8",
}

const liveShort = 4

// What is said of a member directory is what etcd 3.7 does with it now.
func TestStartupIsWhatEtcdDoes(t *testing.T) {
	list := live
	if testing.Short() {
		list = live[:liveShort]
	}
	for _, name := range list {
		t.Run(name, func(t *testing.T) {
			f, err := fixtures.Lookup(name)
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(fixtures.Dir(t, name), f.Sources[0])
			predicted := predict(t, dir)[3] // of 3.4 to 3.8
			before := readable(t, dir)
			o := start(t, name, dir, predicted)
			o.Fixture, o.Etcd, o.CutsEntries = name, predicted.EtcdVersion, gone(before, readable(t, dir))
			compareStart(t, predicted, o)
		})
	}
}

// readable reads a log with all that stands behind its faults.
func readable(t *testing.T, dir string) *raftlog.Log {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "member", "wal")); os.IsNotExist(err) {
		return &raftlog.Log{}
	}
	c, err := walreader.OpenChain(os.DirFS(filepath.Join(dir, "member")), "wal")
	if err != nil {
		t.Fatal(err)
	}
	l, err := raftlog.Summarize(context.Background(), c, raftlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// gone counts the entries of one log that another does not hold with the same term.
func gone(before, after *raftlog.Log) (n uint64) {
	for _, run := range before.Terms.Runs() {
		for i := run.First; i <= run.Last; i++ {
			if term, ok := after.TermAt(i); !ok || term != run.Term {
				n++
			}
		}
	}
	return n
}

// lastWords gives what a server's process wrote, and each fatal message with its error
// in one piece, as `make versions` records it.
func lastWords(log string) string {
	words := log
	for line := range strings.Lines(log) {
		var l struct{ Level, Msg, Error, Panic string }
		if json.Unmarshal([]byte(line), &l) == nil && (l.Level == "fatal" || l.Level == "panic") {
			words += l.Msg + ": " + l.Error + l.Panic + "\n"
		}
	}
	return strings.ReplaceAll(words, "\u00a0", " ") // protobuf varies its spaces from build to build
}

// start runs a server on a member directory, which it changes.
func start(t *testing.T, name, dir string, predicted inspect.Startup) outcome {
	t.Helper()
	var peers []string
	voters := 0
	for _, m := range fixtures.LoadTruth(t, name).Members {
		peers = append(peers, m.Name+"="+m.PeerURLs[0])
		hold(t, m.PeerURLs)
		if !m.IsLearner {
			voters++
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), giveUp)
	defer cancel()
	c := exec.CommandContext(ctx, os.Args[0])
	c.Env = append(os.Environ(), serverDir+"="+dir, serverName+"="+filepath.Base(dir), serverPeers+"="+strings.Join(peers, ","))
	var log bytes.Buffer
	c.Stderr = &log
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	o := observe(lines, voters == 1, predicted)
	o.Member = filepath.Base(dir)
	cancel()
	for range lines {
	}
	c.Wait()
	if !o.Starts {
		o.Error = lastWords(log.String())
	}
	return o
}

// hold listens where members of the cluster once did, and answers nobody: a member of a
// copy that another test starts, and that happens to get such a port, would tell the
// server that it was removed.
func hold(t *testing.T, urls []string) {
	t.Helper()
	for _, s := range urls {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", u.Host)
		for end := time.Now().Add(giveUp); errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(end); l, err = net.Listen("tcp", u.Host) {
			time.Sleep(50 * time.Millisecond)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				c.Close()
			}
		}()
	}
}

// observe reads what the server's process writes until it has shown what it does. It
// waits long for what is predicted, and a while for what is not.
func observe(lines <-chan string, alone bool, predicted inspect.Startup) outcome {
	o := outcome{Serves: new(bool)}
	end := time.After(giveUp)
	for {
		select {
		case line, ok := <-lines:
			switch {
			case !ok:
				return outcome{Serves: new(bool)}
			case line == wroteServes:
				*o.Serves = true
				return o
			case line != wroteUp:
				continue
			}
			o.Starts = true
			if !alone {
				o.Serves = nil
			}
			switch says := func(p *bool, want bool) bool { return p != nil && *p == want }; {
			case says(predicted.Starts, false), alone && says(predicted.Serves, true):
				end = time.After(giveUp)
			case alone:
				end = time.After(serveTime)
			default:
				end = time.After(settle)
			}
		case <-end:
			return o
		}
	}
}

package rehearse

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"time"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Child is the program as a child: it takes one order from in and ends when that ends.
// What etcd logs goes to log. The exit code is given.
func Child(in io.Reader, out, log io.Writer) int {
	lines := bufio.NewReader(in)
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return 2
	}
	var o order
	if err := json.Unmarshal(line, &o); err != nil {
		say(out, eventFailed, err)
		return 2
	}
	end := make(chan struct{})
	go func() {
		io.Copy(io.Discard, lines)
		close(end)
	}()
	if err := o.obey(end, out, logger(log)); err != nil {
		say(out, eventFailed, err)
		return 1
	}
	return 0
}

func (o *order) obey(end <-chan struct{}, out io.Writer, lg *zap.Logger) error {
	switch {
	case o.Restore != nil:
		// A restore cannot be stopped, except with its process.
		go func() {
			<-end
			os.Exit(1)
		}()
		if err := o.Restore.obey(lg); err != nil {
			return err
		}
		say(out, eventDone, nil)
		return nil
	case o.Peers != nil:
		if err := o.Peers.obey(); err != nil {
			return err
		}
		say(out, eventDone, nil)
		return nil
	case o.Serve != nil:
		return o.Serve.obey(end, out, lg)
	case o.Run != nil:
		return o.Run.obey(end, out)
	case o.Sweep != "":
		<-end
		return sweep(o.Sweep)
	}
	return errors.New("no order")
}

func logger(w io.Writer) *zap.Logger {
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), zap.InfoLevel))
}

func (o *restoreOrder) obey(lg *zap.Logger) error {
	return snapshot.NewV3(lg).Restore(snapshot.RestoreConfig{
		SnapshotPath: o.File, Name: o.Name, OutputDataDir: o.DataDir,
		PeerURLs: []string{o.PeerURL}, InitialCluster: o.InitialCluster, InitialClusterToken: o.Token,
		SkipHashCheck: o.SkipHashCheck, RevisionBump: o.Bump, MarkCompacted: o.Bump > 0,
	})
}

func (o *serveOrder) obey(end <-chan struct{}, out io.Writer, lg *zap.Logger) error {
	cfg, err := o.config(lg)
	if err != nil {
		return err
	}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	// Not Close: all members end at once, and none has whom to give the lead to.
	defer e.Server.HardStop()
	ready := e.Server.ReadyNotify()
	for {
		select {
		case <-ready:
			say(out, eventReady, nil)
			ready = nil
		case err := <-e.Err():
			return err
		case <-e.Server.StopNotify():
			return errors.New("the server stopped by itself")
		case <-end:
			return nil
		}
	}
}

// config is etcd's default but for what is on loopback and where it logs.
func (o *serveOrder) config(lg *zap.Logger) (*embed.Config, error) {
	peer, err := url.Parse(o.PeerURL)
	if err != nil {
		return nil, err
	}
	client, err := url.Parse(o.ClientURL)
	if err != nil {
		return nil, err
	}
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = o.Name, o.DataDir
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	cfg.InitialCluster = o.InitialCluster
	cfg.QuotaBackendBytes = o.Quota
	cfg.ForceNewCluster = o.ForceNewCluster
	cfg.EnableGRPCGateway = false
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(lg)
	return cfg, nil
}

// obey rewrites bucket members, from which etcd takes the URLs of its peers when it
// starts, since 3.6 (etcd v3.7.3, server/etcdserver/bootstrap.go; records as in
// server/storage/schema/membership.go).
func (o *peersOrder) obey() error {
	b, err := bbolt.Open(o.DB, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		return err
	}
	return errors.Join(b.Update(o.rewrite), b.Close())
}

func (o *peersOrder) rewrite(tx *bbolt.Tx) error {
	members := tx.Bucket([]byte("members"))
	if members == nil {
		return nil
	}
	rewritten := map[string][]byte{}
	err := members.ForEach(func(id, record []byte) error {
		var m map[string]any
		d := json.NewDecoder(bytes.NewReader(record))
		d.UseNumber() // ids do not fit a float
		if err := d.Decode(&m); err != nil {
			return fmt.Errorf("bucket members: %w", err)
		}
		url, ok := o.URLs[string(id)]
		if !ok {
			url = o.Else
		}
		m["peerURLs"] = []string{url}
		var err error
		rewritten[string(id)], err = json.Marshal(m)
		return err
	})
	for id, record := range rewritten {
		err = errors.Join(err, members.Put([]byte(id), record))
	}
	return err
}

// obey starts a program and ends it with the order: asked first, then killed.
func (o *runOrder) obey(end <-chan struct{}, out io.Writer) error {
	cmd := exec.Command(o.Argv[0], o.Argv[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.SysProcAttr = grandchild()
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	if !o.Ends {
		say(out, eventReady, nil)
	}
	select {
	case err := <-exited:
		switch {
		case err != nil:
			say(out, eventEnded, err)
		case !o.Ends:
			say(out, eventEnded, errors.New("the program ended by itself"))
		default:
			say(out, eventDone, nil)
		}
		return nil
	case <-end:
	}
	if o.Ends {
		cmd.Process.Kill()
	} else {
		interrupt(cmd.Process)
	}
	select {
	case <-exited:
	case <-time.After(stopTimeout):
		cmd.Process.Kill()
		<-exited
		return errors.New("the program did not end when asked")
	}
	return nil
}

// stopTimeout is how long etcd may take to end when it is asked to.
const stopTimeout = 30 * time.Second

// sweep removes a folder after the rehearsal that made it has gone.
func sweep(dir string) error {
	var err error
	for range 40 { // Windows removes nothing that is open
		if err = os.RemoveAll(dir); err == nil {
			return nil
		}
		time.Sleep(250 * time.Millisecond)
	}
	return err
}

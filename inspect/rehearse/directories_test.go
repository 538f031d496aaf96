package rehearse_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/inspect/rehearse"
	"etcd-forensics/inspect/restore"
)

// peer listens on loopback and counts who comes.
func peer(t *testing.T) (url string, came *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	came = new(atomic.Int64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			came.Add(1)
			c.Close()
		}
	}()
	return "http://" + l.Addr().String(), came
}

// movePeers gives all members that a database names one peer URL.
func movePeers(t *testing.T, db, url string) {
	t.Helper()
	inBucket(t, db, "members", func(b *bbolt.Bucket) error {
		records := map[string][]byte{}
		err := b.ForEach(func(id, record []byte) error {
			var m struct {
				ID         uint64   `json:"id"`
				PeerURLs   []string `json:"peerURLs"`
				Name       string   `json:"name"`
				ClientURLs []string `json:"clientURLs"`
			}
			if err := json.Unmarshal(record, &m); err != nil {
				return err
			}
			m.PeerURLs = []string{url}
			var err error
			records[string(id)], err = json.Marshal(m)
			return err
		})
		for id, record := range records {
			if err := b.Put([]byte(id), record); err != nil {
				return err
			}
		}
		return err
	})
}

func TestACopyIsStartedAloneAndSpeaksToNoOne(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts etcd")
	}
	url, came := peer(t)
	dir := copied(t, "cluster3-3.7-crash", "m1")
	movePeers(t, filepath.Join(dir, "member", "snap", "db"), url)
	c, sources := examine(t, dir)
	p := planned(t, c, "n1", "n2")
	unapplied := int64(c.Members[0].WAL.Unapplied.Count)
	p.Way, p.Copy, p.Revision.Highest = restore.WayForceNewCluster, dir, p.Revision.Source+unapplied
	p.File = restore.Artifact{Path: "recovered.db", Hashed: true}
	r := rehearsed(t, c, p, sources, rehearse.Options{})
	defer dump(t, r)
	if r.Outcome != rehearse.Proven {
		t.Errorf("%s: %s", r.Outcome, r.Why)
	}
	wantProven(t, r, 1, rehearse.CheckForcedStart, rehearse.CheckWrite)
	wantProven(t, r, 2, rehearse.CheckForcedState, rehearse.CheckHashKV, rehearse.CheckRecords, rehearse.CheckRevision)
	if got := r.Members[0].Revision; got <= p.Revision.Source+1 {
		t.Errorf("revision %d: the log added nothing to %d", got, p.Revision.Source)
	}
	if n := came.Load(); n > 0 {
		t.Errorf("the copies spoke %d times to the members that they know", n)
	}
}

func TestACopyThatGivesNoSnapshotWithoutAPassword(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts etcd")
	}
	dir := copied(t, "auth-3.6", "m1")
	c, sources := examine(t, dir)
	p := planned(t, c, "n1")
	p.Way, p.Copy, p.File = restore.WayForceNewCluster, dir, restore.Artifact{Path: "recovered.db", Hashed: true}
	r := rehearsed(t, c, p, sources, rehearse.Options{})
	defer dump(t, r)
	if r.Outcome != rehearse.Proven {
		t.Errorf("%s: %s", r.Outcome, r.Why)
	}
	wantProven(t, r, 1, rehearse.CheckForcedStart, rehearse.CheckRestore, rehearse.CheckMembers, rehearse.CheckRecords, rehearse.CheckAlarms, rehearse.CheckAuth)
	if got := states(r, rehearse.CheckForcedState); !slices.Equal(got, []rehearse.State{rehearse.StateNotTried, rehearse.StateProven, rehearse.StateProven}) {
		t.Errorf("%v", got)
	}
}

// again makes a plan that starts these directories as they are.
func again(c *inspect.Case, count int) *restore.Plan {
	p := &restore.Plan{Way: restore.WayRejoin, Source: c.Members[0].Source, EtcdVersion: "3.7", ClusterID: *c.Members[0].ClusterID}
	for i, m := range c.Members {
		p.Revision.Source = max(p.Revision.Source, *m.Backend.Revision)
		if *m.Backend.Revision == p.Revision.Source {
			p.Source = m.Source
		}
		if i < count {
			p.Members = append(p.Members, restore.Member{Name: *m.Name, MemberID: m.MemberID})
		}
	}
	return p
}

func TestDirectoriesFormTheirClusterAgain(t *testing.T) {
	for _, test := range []struct {
		fixture string
		count   int // of the directories that start again; the others are replaced
	}{{"cluster3-3.7-crash", 3}, {"cluster3-3.6-crash", 2}} {
		t.Run(test.fixture, func(t *testing.T) {
			t.Parallel()
			if testing.Short() {
				t.Skip("starts etcd")
			}
			dir := fixtures.Dir(t, test.fixture)
			url, came := peer(t)
			var paths []string
			for _, m := range []string{"m1", "m2", "m3"} {
				paths = append(paths, filepath.Join(dir, m))
				movePeers(t, filepath.Join(dir, m, "member", "snap", "db"), url)
			}
			c, sources := examine(t, paths...)
			r := rehearsed(t, c, again(c, test.count), sources, rehearse.Options{})
			defer dump(t, r)
			if r.Outcome != rehearse.Proven {
				t.Errorf("%s: %s", r.Outcome, r.Why)
			}
			wantProven(t, r, 1, rehearse.CheckRejoin, rehearse.CheckWrite)
			wantProven(t, r, test.count, rehearse.CheckBoot, rehearse.CheckMembers, rehearse.CheckRecords, rehearse.CheckRevision)
			if n := came.Load(); n > 0 {
				t.Errorf("the copies spoke %d times to where they were", n)
			}
		})
	}
}

// binaries makes the etcd and etcdutl that TestMain is.
func binaries(t *testing.T) (etcd, etcdutl string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"etcd", "etcdutl"} {
		if err := os.Symlink(executable(t), filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
	}
	return filepath.Join(dir, "etcd"), filepath.Join(dir, "etcdutl")
}

func TestBinariesOfTheVersionThatWillRun(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts etcd")
	}
	etcd, etcdutl := binaries(t)
	dir := copied(t, "cluster3-3.7-crash", "m2")
	c, sources := examine(t, dir)
	p := planned(t, c, "-n 1", "$(reboot)")
	p.Way, p.Copy, p.Revision.Highest, p.Revision.Bump = restore.WayForceNewCluster, dir, p.Revision.Source+1000, 1000
	r := rehearsed(t, c, p, sources, rehearse.Options{EtcdBinary: etcd, EtcdutlBinary: etcdutl})
	defer dump(t, r)
	if r.Outcome != rehearse.Proven || r.Versions.Etcd != "etcd 3.7.3" || r.Versions.Restore != "etcdutl 3.7.3" {
		t.Errorf("%s: %s, with %+v", r.Outcome, r.Why, r.Versions)
	}
	wantProven(t, r, 2, rehearse.CheckRestore, rehearse.CheckBoot, rehearse.CheckMembers, rehearse.CheckCompaction, rehearse.CheckRecords, rehearse.CheckRevision)

	p.Way, p.File.Path, p.File.Hashed = restore.WayRestoreDB, filepath.Join(dir, "member", "snap", "db"), true
	r = rehearsed(t, c, p, sources, rehearse.Options{EtcdBinary: etcd, EtcdutlBinary: etcdutl})
	if r.Outcome != rehearse.NotProven || !strings.Contains(r.Why, "snapshot missing hash") {
		t.Errorf("%s: %s", r.Outcome, r.Why)
	}
}

// TestOlderBinaries runs where an etcd of before 3.6 is installed.
func TestOlderBinaries(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("etcd", "--version").Output()
	if err != nil || !slices.ContainsFunc([]string{"etcd Version: 3.4.", "etcd Version: 3.5."}, func(s string) bool { return strings.HasPrefix(string(out), s) }) || testing.Short() {
		t.Skip("no etcd 3.4 or 3.5 is installed")
	}
	if _, err := exec.LookPath("etcdctl"); err != nil {
		t.Skip("no etcdctl is installed")
	}
	o := rehearse.Options{EtcdBinary: "etcd", EtcdutlBinary: "etcdctl"}
	c, sources := examine(t, copied(t, "healthy-3.4", "m1"))
	p := planned(t, c, "n1", "n2")
	p.EtcdVersion = "3.4"
	r := rehearsed(t, c, p, sources, o)
	defer dump(t, r)
	if r.Outcome != rehearse.Proven {
		t.Errorf("%s: %s", r.Outcome, r.Why)
	}
	wantProven(t, r, 2, rehearse.CheckRestore, rehearse.CheckBoot, rehearse.CheckMembers, rehearse.CheckHashKV)

	// Its log is applied, and its peers are where they were: it is started alone.
	r = rehearsed(t, c, again(c, 1), sources, o)
	if r.Outcome != rehearse.Proven || !slices.Equal(states(r, rehearse.CheckRejoin), []rehearse.State{rehearse.StateNotTried}) {
		t.Errorf("%s: %s, %+v", r.Outcome, r.Why, r.Checks)
	}
	wantProven(t, r, 1, rehearse.CheckForcedStart, rehearse.CheckForcedState)
}

// TestMadeDatabasesAreRehearsed: a log that is applied to a database, or makes one anew,
// and what a damaged one proves.
func TestMadeDatabasesAreRehearsed(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: several servers are started")
	}
	for _, test := range []struct {
		fixture, source string
		options         restore.Options
		way             restore.Way
	}{
		{"cluster3-3.7-crash", "m1", restore.Options{}, restore.WayRollForward},
		{"backend-missing", "m1", restore.Options{EtcdVersion: "3.6"}, restore.WayRollForward},
		{"snapshot-truncated", "snapshot.db", restore.Options{Members: []restore.NewMember{{Name: "a", PeerURLs: []string{"http://10.0.0.1:2380"}}}}, restore.WaySalvage},
	} {
		t.Run(test.fixture, func(t *testing.T) {
			t.Parallel()
			c, sources := examine(t, copied(t, test.fixture, test.source))
			p := restore.New(c, test.options)
			if p.Refused != nil || p.Way != test.way {
				t.Fatalf("%s (%v), want %s", p.Way, p.Refused, test.way)
			}
			r := rehearsed(t, c, p, sources, rehearse.Options{})
			if r.Outcome != rehearse.Proven {
				t.Errorf("%s: %s", r.Outcome, r.Why)
			}
			wantProven(t, r, 1, rehearse.CheckMade)
		})
	}
}

// TestABumpCountsFromTheNewestRecord: a compaction of 3.4 at the revision of a deletion takes
// that away, too, so that the newest record is older than the store. etcd raises the
// revision of that record at a restore.
func TestABumpCountsFromTheNewestRecord(t *testing.T) {
	db := filepath.Join(copied(t, "healthy-3.4", "m1"), "member", "snap", "db")
	const deleted = 2 // revisions that nothing is left of: a key was put and deleted
	before := compactedAtHead(t, db, deleted)
	c, sources := examine(t, db)
	if b := c.Members[0].Backend; *b.Revision != before+deleted || b.LastRecord > before {
		t.Fatalf("at revision %d with records up to %d; it was at %d", *b.Revision, b.LastRecord, before)
	}
	p := restore.New(c, restore.Options{EtcdVersion: "3.4.27", Members: []restore.NewMember{{Name: "a", PeerURLs: []string{"http://10.0.0.1:2380"}}}})
	if p.Refused != nil || *p.Revision.Restored <= p.Revision.Highest || *p.Revision.Restored != c.Members[0].Backend.LastRecord+int64(p.Revision.Bump) {
		t.Fatalf("%v, %+v", p.Refused, p.Revision)
	}
	r := rehearsed(t, c, p, sources, rehearse.Options{})
	if r.Outcome != rehearse.Proven || r.Members[0].Revision != *p.Revision.Restored+1 { // one key is written
		t.Errorf("%s: %s; %d of %+v", r.Outcome, r.Why, r.Members[0].Revision, p.Revision)
	}
}

// compactedAtHead leaves of a database what 3.4 leaves of it when revisions that delete
// follow and the last of them is compacted, and gives the revision that it was at.
func compactedAtHead(t *testing.T, path string, revisions int64) (newest int64) {
	t.Helper()
	fixtures.Edit(t, path, func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("key"))
		latest := map[string][]byte{}
		var gone [][]byte
		err := b.ForEach(func(k, v []byte) error {
			var kv mvccpb.KeyValue
			if err := proto.Unmarshal(v, &kv); err != nil {
				return err
			}
			k = bytes.Clone(k)
			if old := latest[string(kv.Key)]; old != nil {
				gone = append(gone, old)
			}
			latest[string(kv.Key)] = k
			newest = int64(binary.BigEndian.Uint64(k))
			if len(k) > 17 {
				gone = append(gone, k)
				delete(latest, string(kv.Key))
			}
			return nil
		})
		for _, k := range gone {
			err = errors.Join(err, b.Delete(k))
		}
		mark := append(binary.BigEndian.AppendUint64(nil, uint64(newest+revisions)), '_', 0, 0, 0, 0, 0, 0, 0, 0)
		for _, name := range []string{"scheduledCompactRev", "finishedCompactRev"} {
			err = errors.Join(err, tx.Bucket([]byte("meta")).Put([]byte(name), mark))
		}
		return err
	})
	return newest
}

package backup_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.uber.org/zap"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/inspect/backup"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb/keyspace"
)

// now is later than every fixture.
var now = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// produced are the codes of all findings.
var produced = map[inspect.Code]bool{}

func TestMain(m *testing.M) {
	exit := m.Run()
	if flag.Lookup("test.run").Value.String() == "" && exit == 0 {
		for _, code := range inspect.Codes() {
			if strings.HasPrefix(string(code), "backup-") && !produced[code] {
				fmt.Printf("no test produces %s\n", code)
				exit = 1
			}
		}
	}
	os.Exit(exit)
}

func verify(t testing.TB, p backup.Policy, paths ...string) *backup.Report {
	t.Helper()
	if p.FailOn == 0 {
		p.FailOn = inspect.SeverityWarning
	}
	if p.Now.IsZero() {
		p.Now = now
	}
	if p.MaxDrop == 0 {
		p.MaxDrop = backup.DefaultMaxDrop
	}
	scratch := t.TempDir()
	r, err := backup.Verify(context.Background(), paths, backup.Options{Policy: p, Inspect: inspect.Options{Digest: true}, Source: source.Options{Scratch: scratch}})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range r.Backups {
		for _, f := range b.Findings {
			produced[f.Code] = true
		}
	}
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	return r
}

// failed gives the names of the checks that did not pass.
func failed(b *backup.Backup) []string {
	names := []string{}
	for _, c := range b.Checks {
		if c.Outcome != backup.Passed {
			names = append(names, c.Name)
		}
	}
	return names
}

func snapshot(t testing.TB, name string) []byte {
	t.Helper()
	b, err := fixtures.ReadFile(name, "snapshot.db")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, dir, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// hashed puts the trailer of a snapshot behind a database.
func hashed(b []byte) []byte {
	sum := sha256.Sum256(b)
	return slices.Concat(b, sum[:])
}

// edited changes a copy of a snapshot with bbolt and puts a fitting hash behind it.
func edited(t testing.TB, b []byte, edit func(tx *bbolt.Tx) error) []byte {
	t.Helper()
	path := write(t, t.TempDir(), "db", b[:len(b)-sha256.Size])
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(edit); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := db.View(func(tx *bbolt.Tx) error { _, err := tx.WriteTo(&out); return err }); err != nil {
		t.Fatal(err)
	}
	db.Close()
	return hashed([]byte(out.String()))
}

// without deletes keys as etcd does not: so that nothing but their number tells.
func without(t testing.TB, b []byte, part int) []byte {
	return edited(t, b, func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte("key"))
		latest := map[string][]byte{}
		var order []string
		bucket.ForEach(func(k, v []byte) error {
			kv, err := keyspace.DecodeKeyValue(v)
			if err == nil {
				if latest[string(kv.Key)] == nil {
					order = append(order, string(kv.Key))
				}
				latest[string(kv.Key)] = slices.Clone(k)
			}
			return nil
		})
		gone := map[string]bool{}
		for i, key := range order {
			gone[key] = i%part == 0
		}
		var records [][]byte
		bucket.ForEach(func(k, v []byte) error {
			if kv, err := keyspace.DecodeKeyValue(v); err == nil && gone[string(kv.Key)] {
				records = append(records, slices.Clone(k))
			}
			return nil
		})
		for _, k := range records {
			if err := bucket.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
}

var versions = []string{"healthy-3.4", "healthy-3.5", "healthy-3.6", "healthy-3.7", "healthy-3.8"}

func TestHealthyBackupsOfEveryVersionPass(t *testing.T) {
	for _, name := range versions {
		path := write(t, t.TempDir(), "backup.db", snapshot(t, name))
		r := verify(t, backup.Policy{MinKeys: 10, MinRevision: 10, Required: []backup.Required{{Prefix: []byte("/registry/"), Count: 10}, {Count: 10}}}, path)
		if b := &r.Backups[0]; !r.Passed || !b.Passed || len(failed(b)) > 0 || b.SHA256 == nil {
			t.Errorf("%s: %+v", name, b.Checks)
		}
	}
}

// TestBadBackupsFail injures a snapshot in every way in which backups go wrong: the
// check that fails is the one that should.
func TestBadBackupsFail(t *testing.T) {
	good := snapshot(t, "healthy-3.7")
	flip := func(at int) []byte {
		b := slices.Clone(good)
		b[at] ^= 0x10
		return b
	}
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"hash mismatch", flip(len(good) - 5), backup.CheckHash},
		{"hash missing", good[:len(good)-sha256.Size], backup.CheckHash},
		{"half a trailer", good[:len(good)-sha256.Size/2], backup.CheckHash},
		{"empty file", nil, backup.CheckReadable},
		{"text", []byte("Error: context deadline exceeded\n"), backup.CheckReadable},
		{"zeros", make([]byte, 1<<20), backup.CheckReadable},
		{"half of it", good[:len(good)/2], backup.CheckSound},
		{"one byte", good[:1], backup.CheckReadable},
		{"a value changed", flip(len(good) / 2), backup.CheckHash},
		{"bytes behind", append(slices.Clone(good), "garbage"...), backup.CheckHash},
		{"no key", edited(t, good, func(tx *bbolt.Tx) error {
			if err := tx.DeleteBucket([]byte("key")); err != nil {
				return err
			}
			_, err := tx.CreateBucket([]byte("key"))
			return err
		}), backup.CheckNotEmpty},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := verify(t, backup.Policy{}, write(t, t.TempDir(), "backup.db", c.data))
			if got := failed(&r.Backups[0]); r.Passed || !slices.Contains(got, c.want) {
				t.Errorf("failed checks are %v, should have %s among them", got, c.want)
			}
		})
	}
}

// A file whose end is missing is told to be just that: what it held is not judged.
func TestTruncatedBackupGetsOneAdvice(t *testing.T) {
	good, dir := snapshot(t, "healthy-3.7"), t.TempDir()
	write(t, dir, "backup-2026-01-01.db", good)
	write(t, dir, "backup-2026-01-02.db", good[:len(good)/2])
	r := verify(t, backup.Policy{MinKeys: 1, MinRevision: 1, Required: []backup.Required{{Prefix: []byte("/"), Count: 1}}}, dir)
	b := &r.Backups[1]
	if r.Passed || !r.Backups[0].Passed || b.Counted() {
		t.Errorf("%+v", r)
	}
	for _, c := range b.Checks {
		switch {
		case c.Name == backup.CheckReadable:
		case c.Name == backup.CheckSound && c.Outcome == backup.Failed && slices.Equal(c.Codes, []inspect.Code{inspect.CodeBackendTruncated}) &&
			strings.HasPrefix(c.Message, fmt.Sprintf("the file has %d bytes, its ", len(good)/2)):
		case c.Name != backup.CheckSound && c.Outcome == backup.Skipped && strings.HasPrefix(c.Message, "not examined: the file is truncated"):
		default:
			t.Errorf("%+v", c)
		}
	}
	if len(b.Checks) != 7 {
		t.Errorf("%+v", b.Checks)
	}
}

// What an interrupt kept from being examined neither passes nor fails.
func TestInterruptedBackupSaysNothingElse(t *testing.T) {
	path := write(t, t.TempDir(), "backup.db", snapshot(t, "healthy-3.7"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := backup.Policy{FailOn: inspect.SeverityWarning, Now: now, MinKeys: 1}
	r, err := backup.Verify(ctx, []string{path}, backup.Options{
		Policy: p, Inspect: inspect.Options{Digest: true}, Source: source.Options{Scratch: t.TempDir()}, Opened: func(*source.Source) { cancel() },
	})
	if err == nil || r.Passed || !r.Interrupted || r.Backups[0].Counted() || len(r.Backups[0].Findings) > 0 {
		t.Errorf("%v: %+v", err, r)
	}
	for _, c := range r.Backups[0].Checks[1:] {
		if c.Outcome != backup.Skipped || c.Message != "not examined: interrupted" {
			t.Errorf("%+v", c)
		}
	}
}

// TestEveryCutAndFlippedBitFails tries a sample of both.
func TestEveryCutAndFlippedBitFails(t *testing.T) {
	good := snapshot(t, "healthy-3.6")
	r := rand.New(rand.NewPCG(7, 7))
	n := 120
	if testing.Short() {
		n = 6
	}
	dir := t.TempDir()
	for i := range n {
		b, what := slices.Clone(good), ""
		if i%2 == 0 {
			at := r.IntN(len(b))
			b, what = b[:at], fmt.Sprintf("cut at %d", at)
		} else {
			at := r.IntN(len(b))
			b[at] ^= 1 << r.IntN(8)
			what = fmt.Sprintf("bit flipped at %d", at)
		}
		if r := verify(t, backup.Policy{}, write(t, dir, "backup.db", b)); r.Passed || len(failed(&r.Backups[0])) == 0 {
			t.Errorf("%s: passed", what)
		}
	}
}

func TestPolicyIsAskedOfEachBackup(t *testing.T) {
	path := write(t, t.TempDir(), "backup.db", snapshot(t, "healthy-3.7"))
	old := time.Date(2029, 12, 1, 0, 0, 0, 0, time.UTC)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		policy backup.Policy
		want   []string
		says   string
	}{
		{backup.Policy{MinKeys: 1 << 40}, []string{backup.CheckKeys}, "fewer than"},
		{backup.Policy{MinRevision: 1 << 40}, []string{backup.CheckRevision}, "below"},
		{backup.Policy{Required: []backup.Required{{Prefix: []byte("/nowhere/"), Count: 1}}}, []string{backup.CheckPrefix + ` "/nowhere/"`}, "0 keys under"},
		{backup.Policy{MaxAge: time.Hour, Now: now}, []string{backup.CheckAge}, "old, more than 1h0m0s"},
		{backup.Policy{MaxAge: 100 * 365 * 24 * time.Hour, Now: now}, []string{}, ""},
		{backup.Policy{MaxAge: time.Hour, Now: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)}, []string{backup.CheckAge}, "ahead of the clock here"},
	} {
		r := verify(t, c.policy, path)
		if got := failed(&r.Backups[0]); !slices.Equal(got, c.want) {
			t.Errorf("%+v: failed checks are %v", c.policy, got)
		}
		for _, check := range r.Backups[0].Checks {
			if check.Outcome == backup.Failed && !strings.Contains(check.Message, c.says) {
				t.Errorf("%s says %q", check.Name, check.Message)
			}
		}
	}
}

// states gives three states of one member: its database at older revisions, as a
// backup at that time would have it.
func states(t testing.TB) [][]byte {
	whole := snapshot(t, "healthy-3.7")
	var list [][]byte
	for _, back := range []int64{60, 30, 0} {
		list = append(list, edited(t, whole, func(tx *bbolt.Tx) error {
			bucket := tx.Bucket([]byte("key"))
			last, _ := bucket.Cursor().Last()
			newest, _ := keyspace.DecodeRevision(last)
			var later [][]byte
			bucket.ForEach(func(k, _ []byte) error {
				if rev, ok := keyspace.DecodeRevision(k); ok && rev.Main > newest.Main-back {
					later = append(later, slices.Clone(k))
				}
				return nil
			})
			for _, k := range later {
				if err := bucket.Delete(k); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	return list
}

func TestSeriesOfOneStorePasses(t *testing.T) {
	dir := t.TempDir()
	for i, b := range states(t) {
		write(t, dir, fmt.Sprintf("etcd-%d.db", 9+i), b) // 9, 10, 11: numbers, not letters
	}
	write(t, dir, "README", []byte("text\n"))
	r := verify(t, backup.Policy{}, dir)
	if !r.Passed || len(r.Backups) != 3 || len(r.PassedOver) != 1 {
		t.Fatalf("%+v", r)
	}
	for i, b := range r.Backups {
		if want := filepath.Join(dir, fmt.Sprintf("etcd-%d.db", 9+i)); b.Path != want || len(failed(&b)) > 0 {
			t.Errorf("backup %d is %s, %+v", i, b.Path, b.Checks)
		}
		if i > 0 && b.Previous != r.Backups[i-1].Path {
			t.Errorf("compared with %q", b.Previous)
		}
	}
}

func TestSeriesThatIsWrong(t *testing.T) {
	s := states(t)
	other := snapshot(t, "membership-3.7")
	for _, c := range []struct {
		name  string
		files [][]byte
		want  [][]string // checks that fail, by file
	}{
		{"an older one under the newest name", [][]byte{s[1], s[2], s[0]}, [][]string{{}, {}, {backup.CheckOrder}}},
		{"a newer one under the oldest name", [][]byte{s[2], s[0], s[1]}, [][]string{{backup.CheckOrder}, {}, {}}},
		{"another cluster's", [][]byte{s[0], other, s[2]}, [][]string{{}, {backup.CheckHistory}, {}}},
		{"another cluster's first", [][]byte{other, s[0], s[2]}, [][]string{{backup.CheckHistory}, {}, {}}},
		{"half the keys gone", [][]byte{s[0], s[1], without(t, s[2], 2)}, [][]string{{}, {}, {backup.CheckSound, backup.CheckDrop}}},
		{"an empty one among them", [][]byte{s[0], nil, s[2]}, [][]string{{}, {backup.CheckReadable}, {}}},
		{"the same again", [][]byte{s[0], s[0], s[1]}, [][]string{{}, {backup.CheckOrder}, {}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for i, b := range c.files {
				write(t, dir, fmt.Sprintf("snapshot_2026-01-%02d_120000.db", i+1), b)
			}
			r := verify(t, backup.Policy{}, dir)
			for i := range r.Backups {
				if got := failed(&r.Backups[i]); !slices.Equal(got, c.want[i]) && !(c.name == "half the keys gone" && slices.Contains(got, backup.CheckDrop)) {
					t.Errorf("%s: failed checks are %v, should be %v\n%+v", r.Backups[i].Path, got, c.want[i], r.Backups[i].Checks)
				}
			}
		})
	}
}

// TestAgainstComparesWithOneThatIsNotJudged: the one before is not in the report.
func TestAgainstComparesWithOneThatIsNotJudged(t *testing.T) {
	s := states(t)
	dir := t.TempDir()
	older, newer := write(t, dir, "older.db", s[0]), write(t, dir, "newer.db", s[2])
	foreign := write(t, dir, "foreign.db", snapshot(t, "membership-3.7"))
	for _, c := range []struct {
		path, against string
		want          []string
	}{
		{newer, older, []string{}},
		{older, newer, []string{backup.CheckOrder}},
		{foreign, older, []string{backup.CheckHistory}},
	} {
		r := verify(t, backup.Policy{Against: c.against, MaxDrop: 100}, c.path)
		if got := failed(&r.Backups[0]); len(r.Backups) != 1 || !slices.Equal(got, c.want) {
			t.Errorf("%s against %s: failed checks are %v, should be %v", filepath.Base(c.path), filepath.Base(c.against), got, c.want)
		}
	}
}

// TestDropUnderOnePrefixIsSeen: in all, few keys are gone.
func TestDropUnderOnePrefixIsSeen(t *testing.T) {
	good := snapshot(t, "healthy-3.7")
	pods := []byte("/registry/pods/")
	n := 0
	fewer := edited(t, good, func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte("key"))
		last, _ := bucket.Cursor().Last()
		var records [][]byte
		bucket.ForEach(func(k, v []byte) error {
			if kv, err := keyspace.DecodeKeyValue(v); err == nil && bytes.HasPrefix(kv.Key, pods) && !bytes.Equal(k, last) {
				records = append(records, slices.Clone(k))
			}
			return nil
		})
		n = len(records)
		for _, k := range records {
			if err := bucket.Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
	if n < 50 {
		t.Fatalf("only %d records of pods", n)
	}
	dir := t.TempDir()
	r := verify(t, backup.Policy{Against: write(t, dir, "a.db", good), FailOn: inspect.SeverityError, MaxDrop: 60}, write(t, dir, "b.db", fewer))
	i := slices.IndexFunc(r.Backups[0].Checks, func(c backup.Check) bool { return c.Name == backup.CheckDrop })
	if i < 0 {
		t.Fatalf("%+v", r.Backups[0].Checks)
	}
	if c := r.Backups[0].Checks[i]; c.Outcome != backup.Failed || !strings.Contains(c.Message, ` under "/registry/pods/", `) {
		t.Errorf("%+v", c)
	}
}

func TestGapsInARegularSeries(t *testing.T) {
	good := states(t)[0]
	dir := t.TempDir()
	for _, hour := range []int{0, 6, 12, 18, 24, 42, 48} {
		at := time.Date(2026, 3, 1, hour, 0, 0, 0, time.UTC)
		write(t, dir, "etcd-"+at.Format("20060102-150405")+".db", edited(t, good, func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte("cluster")).Put([]byte("test"), []byte(at.String())) // or they would be copies
		}))
	}
	r := verify(t, backup.Policy{}, dir)
	for _, b := range r.Backups {
		want := []string{}
		if strings.Contains(b.Path, "20260302-180000") {
			want = []string{backup.CheckGap}
		}
		if got := failed(&b); !slices.Equal(got, want) {
			t.Errorf("%s: %v", b.Path, got)
		}
	}
}

// TestFoldersAsPeopleHaveThem: what lies beside backups, links, and what was meant as
// a backup and is none.
func TestFoldersAsPeopleHaveThem(t *testing.T) {
	dir := t.TempDir()
	s := states(t)
	write(t, dir, "etcd-20260101-000000.db", s[0])
	newest := write(t, dir, "etcd-20260102-000000.db", s[1])
	for _, name := range []string{"README", "etcd-20260101-000000.db.sha256", "notes-2026-01-01.txt", ".hidden"} {
		write(t, dir, name, []byte("text\n"))
	}
	for name, to := range map[string]string{"current.db": newest, "dangling.db": "nowhere", "folder": t.TempDir()} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
	}
	if r := verify(t, backup.Policy{}, dir); !r.Passed || len(r.Backups) != 2 || len(r.PassedOver) != 7 {
		t.Errorf("%+v", r)
	}
	for _, name := range []string{"etcd-20260103-000000.db", "etcd-20260103-000000", "x.zip"} {
		path := write(t, dir, name, []byte("Error: context deadline exceeded\n"))
		if r := verify(t, backup.Policy{}, dir); r.Passed || len(r.Backups) != 3 {
			t.Errorf("%s: %+v", name, r)
		}
		os.Remove(path)
	}
	if r := verify(t, backup.Policy{Against: dir}, newest); !r.Passed || r.Backups[0].Previous != filepath.Join(dir, "etcd-20260101-000000.db") {
		t.Errorf("%+v", r)
	}
}

// TestAgeIsAskedOfTheNewestOfASeries: the others are older, as they should be.
func TestAgeIsAskedOfTheNewestOfASeries(t *testing.T) {
	dir := t.TempDir()
	for i, b := range states(t) {
		write(t, dir, fmt.Sprintf("etcd-%d.db", i), b)
	}
	all := verify(t, backup.Policy{}, dir)
	newest := all.Backups[2].Time.UTC
	if r := verify(t, backup.Policy{MaxAge: time.Minute, Now: newest.Add(30 * time.Second)}, dir); !r.Passed {
		t.Errorf("%+v", r)
	}
	r := verify(t, backup.Policy{MaxAge: time.Minute, Now: newest.Add(time.Hour)}, dir)
	n := 0
	for i := range r.Backups {
		if slices.Contains(failed(&r.Backups[i]), backup.CheckAge) {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d backups are too old", n)
	}
}

// TestManyStores: from some number on no further histories are told apart, and
// nothing passes for that.
func TestManyStores(t *testing.T) {
	dir := t.TempDir()
	for i := range 10 {
		path := filepath.Join(t.TempDir(), "db")
		be := backend.NewDefaultBackend(zap.NewNop(), path)
		store := mvcc.New(zap.NewNop(), be, &lease.FakeLessor{}, mvcc.StoreConfig{})
		for k := range 5 {
			store.Put([]byte(fmt.Sprint("key", k)), []byte(fmt.Sprint(i)), lease.NoLease)
		}
		store.Commit()
		store.Close()
		be.Close()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, fmt.Sprintf("b%02d.db", i), hashed(b))
	}
	r := verify(t, backup.Policy{FailOn: inspect.SeverityError}, dir)
	for i := range r.Backups {
		if other := slices.Contains(failed(&r.Backups[i]), backup.CheckHistory); other != (i > 0) {
			t.Errorf("%s: %+v", r.Backups[i].Path, r.Backups[i].Checks)
		}
	}
}

func TestNothingIsPassedThatWasNotExamined(t *testing.T) {
	path := write(t, t.TempDir(), "backup.db", snapshot(t, "healthy-3.7"))
	r, err := backup.Verify(context.Background(), []string{path}, backup.Options{Policy: backup.Policy{FailOn: inspect.SeverityWarning}})
	if err != nil || r.Passed || !r.Incomplete() || !slices.Equal(failed(&r.Backups[0]), []string{backup.CheckHash}) {
		t.Errorf("%v %+v", err, r)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if r, err := backup.Verify(ctx, []string{path}, backup.Options{Policy: backup.Policy{FailOn: inspect.SeverityWarning}}); err == nil || r.Passed || !r.Incomplete() {
		t.Errorf("%v %+v", err, r)
	}
}

// TestBootIsACheckOfItsOwn: what a restore and a server came to decides, and what could not
// be tried is no pass.
func TestBootIsACheckOfItsOwn(t *testing.T) {
	path := write(t, t.TempDir(), "backup.db", snapshot(t, "healthy-3.7"))
	for _, outcome := range []backup.Outcome{backup.Passed, backup.Failed, backup.Skipped} {
		asked := 0
		r, err := backup.Verify(context.Background(), []string{path}, backup.Options{
			Policy:  backup.Policy{FailOn: inspect.SeverityWarning, Now: now, MaxDrop: backup.DefaultMaxDrop},
			Inspect: inspect.Options{Digest: true}, Source: source.Options{Scratch: t.TempDir()},
			Boot: func(_ context.Context, c *inspect.Case, s *source.Source) backup.Boot {
				asked++
				if len(c.Members) != 1 || c.Members[0].Source != s.Path || s.Path != path {
					t.Errorf("asked of %s with %d members", s.Path, len(c.Members))
				}
				return backup.Boot{Outcome: outcome, Message: "said"}
			},
		})
		if err != nil || asked != 1 {
			t.Fatalf("asked %d times: %v", asked, err)
		}
		b := r.Backups[0]
		i := slices.IndexFunc(b.Checks, func(c backup.Check) bool { return c.Name == backup.CheckBoot })
		if i < 0 || b.Checks[i].Outcome != outcome || b.Checks[i].Message != "said" {
			t.Fatalf("%s: %+v", outcome, b.Checks)
		}
		if b.Passed != (outcome == backup.Passed) || r.Passed != b.Passed {
			t.Errorf("%s: passed %v", outcome, b.Passed)
		}
		for _, f := range b.Findings {
			produced[f.Code] = true
		}
	}
}

package recover_test

import (
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect/recover"
	"etcd-forensics/inspect/source"
	"etcd-forensics/walreader/replay"
)

// follow runs the only way that a statement gives, with a backup where it needs one, and
// gives what comes of it.
func follow(t *testing.T, st *recover.Statement, backup string) contents {
	t.Helper()
	if len(st.Ways) != 1 {
		t.Fatalf("%d ways: %+v", len(st.Ways), st)
	}
	argv := slices.Clone(st.Ways[0].Argv)
	if i := slices.Index(argv, "BACKUP"); i >= 0 {
		argv[i] = backup
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := recover.RollOptions{Self: []string{self, replay.ChildCommand}, Out: filepath.Join(t.TempDir(), argv[len(argv)-1])}
	flag := func(name string) []*source.Source {
		i := slices.Index(argv, name)
		if i < 0 {
			return nil
		}
		sources, problems := source.Open(t.Context(), argv[i+1:i+2], source.Options{})
		if len(problems) > 0 || len(sources) != 1 {
			t.Fatalf("%v: %v", argv, problems)
		}
		t.Cleanup(func() { sources[0].Close() })
		return sources
	}
	if base := flag("--base"); base != nil {
		o.Base = base[0]
	}
	o.WALs = flag("--wal")
	if _, err := recover.Roll(t.Context(), o); err != nil {
		t.Fatalf("%v: %v", argv, err)
	}
	return dump(t, o.Out, true)
}

// committed gives what the log of a member leads to from nothing.
func committed(t *testing.T, dir string) contents {
	return follow(t, &recover.Statement{Ways: []recover.Way{{Argv: []string{"--wal", dir, "-o", "whole.db"}}}}, "")
}

func same(t *testing.T, got, want contents) {
	t.Helper()
	for name, rows := range want {
		if !maps.Equal(got[name], rows) {
			t.Errorf("bucket %s differs", name)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d buckets, not %d", len(got), len(want))
	}
}

// spoilNewest breaks the checksum of the newer meta page and zeroes the root page that it
// names (bbolt v1.5.0, internal/common/meta.go: the page of the root bucket, the
// transaction, and behind it the checksum).
func spoilNewest(b []byte) {
	const root, txid, checksum, pageSize = 32, 64, 72, 4096
	at := 0
	if binary.LittleEndian.Uint64(b[pageSize+txid:]) > binary.LittleEndian.Uint64(b[txid:]) {
		at = pageSize
	}
	page := binary.LittleEndian.Uint64(b[at+root:]) * pageSize
	clear(b[page : page+pageSize])
	b[at+checksum] ^= 1
}

// spoiled salvages a member whose newer meta page is broken, and the root with it, so that
// the transaction before is what is left.
func spoiled(t *testing.T, m *memberCopy, with ...string) *recover.Result {
	t.Helper()
	b := m.read(t)
	spoilNewest(b)
	if err := os.WriteFile(m.db, b, 0o600); err != nil {
		t.Fatal(err)
	}
	o := recover.Options{Out: filepath.Join(t.TempDir(), "out.db")}
	for _, path := range with {
		sources, problems := source.Open(t.Context(), []string{path}, source.Options{})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		t.Cleanup(func() { sources[0].Close() })
		o.With = append(o.With, sources...)
	}
	r, err := salvage(t, m.dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTheWaysOfAStatementGiveAllThatIsLost(t *testing.T) {
	cluster := fixtures.Dir(t, "cluster3-3.5-crash")
	behind := filepath.Join(cluster, "m3", "member", "snap", "db")
	whole := committed(t, filepath.Join(cluster, "m1"))
	for name, c := range map[string]struct {
		member string
		with   []string
		base   string // of the way
	}{
		"a log from the first entry on": {member: "m1"},
		"a log that begins later":       {member: "m2", base: "BACKUP"},
		"a log and a database behind":   {member: "m2", base: behind, with: []string{behind}},
	} {
		r := spoiled(t, copyOf(t, "cluster3-3.5-crash", c.member), c.with...)
		if base := slices.Contains(r.Statement.Ways[0].Argv, c.base); base != (c.base != "") {
			t.Errorf("%s: %v", name, r.Statement.Ways)
		}
		same(t, follow(t, &r.Statement, behind), whole)
	}
}

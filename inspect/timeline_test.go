package inspect_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/inspect/inspecttest"
)

// inspectLogs examines the sources of a fixture that have a log.
func inspectLogs(t *testing.T, name string, opts inspect.Options) []inspect.Member {
	t.Helper()
	f, err := fixtures.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	dir := fixtures.Dir(t, name)
	var paths []string
	for _, s := range f.Sources {
		paths = append(paths, filepath.Join(dir, s))
	}
	c := inspecttest.Paths(t, opts, paths...)
	return slices.DeleteFunc(c.Members, func(m inspect.Member) bool { return m.WAL == nil })
}

func TestStatisticsOfLogsAddUp(t *testing.T) {
	inspect.InFullOnly(t)
	for _, name := range fixtures.Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			truth := fixtures.LoadTruth(t, name)
			for _, m := range inspectLogs(t, name, inspect.Options{}) {
				s := m.WAL.Statistics
				var kinds, named, prefixes inspect.Share
				for _, k := range s.Kinds {
					kinds.Entries, kinds.Bytes = kinds.Entries+k.Entries, kinds.Bytes+k.Bytes
					if slices.Contains([]string{"put", "range", "delete_range", "txn"}, k.Kind) {
						named.Entries, named.Bytes = named.Entries+k.Entries, named.Bytes+k.Bytes
					}
				}
				for _, p := range s.Prefixes {
					prefixes.Entries, prefixes.Bytes = prefixes.Entries+p.Entries, prefixes.Bytes+p.Bytes
				}
				prefixes.Entries, prefixes.Bytes = prefixes.Entries+s.Others.Entries, prefixes.Bytes+s.Others.Bytes
				if kinds != (inspect.Share{Entries: s.Entries, Bytes: s.Bytes}) || prefixes != named {
					t.Errorf("%s: kinds %+v of %d entries; prefixes %+v of %+v", m.Source, kinds, s.Entries, prefixes, named)
				}
				if want := *m.WAL.LastIndex - *m.WAL.FirstIndex + 1; name != "received-snapshot-3.6" && !strings.HasPrefix(name, "membership") && !strings.HasPrefix(name, "zombie-forced") && uint64(s.Entries) != want {
					t.Errorf("%s: %d entries, the indexes say %d", m.Source, s.Entries, want)
				}
				var compacted int64
				members := 0
				for _, e := range m.WAL.Timeline {
					switch {
					case e.Event == inspect.EventCompaction && *e.Proven && !e.Overwritten:
						compacted = max(compacted, *e.Revision)
					case e.Event == inspect.EventMembership:
						members++
					case e.Event == inspect.EventFault:
						t.Errorf("%s: %s", m.Source, e.What)
					}
				}
				if strings.HasPrefix(name, "healthy-") && (compacted != truth.CompactRevision || members != len(truth.Members)) {
					t.Errorf("%s: compacted at %d by %d members, the server said %d and %d", m.Source, compacted, members, truth.CompactRevision, len(truth.Members))
				}
			}
		})
	}
}

func TestTheTimelineTellsOfLeadersAndDamage(t *testing.T) {
	events := func(name, event string) (whats []string) {
		for _, e := range inspectLogs(t, name, inspect.Options{})[0].WAL.Timeline {
			if e.Event == event {
				index := uint64(0)
				if e.Index != nil {
					index = *e.Index
				}
				whats = append(whats, fmt.Sprintf("%d: %s", index, e.What))
			}
		}
		return whats
	}
	for _, tt := range []struct {
		fixture, event string
		want           []string
	}{
		{"cluster3-3.7-crash", inspect.EventLeader, []string{"4: a leader began term 2", "468: a leader began term 3", "589: a leader began term 4", "705: a leader began term 5"}},
		{"auth-3.6", inspect.EventAuth, []string{"188: authentication was switched on"}},
		{"wal-bit-flipped", inspect.EventFault, []string{"0: checksum mismatch where index 561 belongs: etcd reads nothing from here on"}},
		{"wal-index-gap", inspect.EventGap, []string{"0: entries 1167 to 1167 are not in the log"}},
	} {
		if got := events(tt.fixture, tt.event); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %s: %q", tt.fixture, tt.event, got)
		}
	}
}

// Every write that the cluster acknowledged and the database lacks is among the keys that
// only the log holds.
func TestUnappliedKeysAreTheAcknowledgedOnes(t *testing.T) {
	for _, name := range []string{"cluster3-3.5-crash", "cluster3-3.7-crash"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			acked := fixtures.LoadAckedWrites(t, name)
			lacking := 0
			total := map[string]int64{}
			for _, m := range inspectLogs(t, name, inspect.Options{Limits: inspect.Limits{UnappliedKeys: 10000}}) {
				u := m.WAL.Unapplied
				total[filepath.Base(m.Source)] = int64(len(u.Keys)) + u.OtherKeys
				keys := map[string]inspect.UnappliedKey{}
				for _, k := range u.Keys {
					keys[string(k.Key)] = k
					if k.Index < *u.FirstIndex || k.Index > *u.LastIndex || k.Conditional || k.Change != "put" {
						t.Errorf("%s: %q: %+v", m.Source, k.Key, k)
					}
				}
				// Each unapplied entry makes one revision at most.
				last := *m.Backend.Revision + int64(u.Count)
				for _, a := range acked {
					if a.Revision <= *m.Backend.Revision || a.Revision > last {
						continue
					}
					lacking++
					if _, ok := keys[a.Key]; !ok {
						t.Errorf("%s: %q of revision %d is not among the unapplied keys", m.Source, a.Key, a.Revision)
					}
				}
			}
			if lacking == 0 {
				t.Error("no database lacks an acknowledged write")
			}
			for _, m := range inspectLogs(t, name, inspect.Options{Limits: inspect.Limits{UnappliedKeys: 3}}) {
				u, want := m.WAL.Unapplied, total[filepath.Base(m.Source)]
				if int64(len(u.Keys)) != min(3, want) || int64(len(u.Keys))+u.OtherKeys != want {
					t.Errorf("%s: %d keys and %d more of %d", m.Source, len(u.Keys), u.OtherKeys, want)
				}
			}
		})
	}
}

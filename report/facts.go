package report

import (
	"fmt"
	"strings"

	"etcd-forensics/inspect"
)

// version tells what wrote a database, as far as it says so.
func version(b *inspect.Backend) string {
	switch {
	case b.StorageVersion != nil:
		return minor(*b.StorageVersion)
	case b.ClusterVersion != nil:
		return minor(*b.ClusterVersion)
	}
	return "-"
}

func minor(v string) string {
	if parts := strings.SplitN(v, ".", 3); len(parts) == 3 {
		return Plain(parts[0] + "." + parts[1])
	}
	return Plain(v)
}

// A fact is one row of the table of numbers.
type fact struct {
	name string
	of   func(m inspect.Member) string
}

// ofBackend makes a fact that a source without a database lacks.
func ofBackend(name string, of func(b *inspect.Backend) string) fact {
	return fact{name, func(m inspect.Member) string {
		if m.Backend == nil {
			return "-"
		}
		return of(m.Backend)
	}}
}

// ofWholeWAL makes a fact that takes the database as well, and that a source lacks that was
// not examined to its end.
func ofWholeWAL(name string, of func(w *inspect.WAL) string) fact {
	return fact{name, func(m inspect.Member) string {
		if m.WAL == nil || m.Interrupted {
			return "-"
		}
		return of(m.WAL)
	}}
}

// ofWAL makes a fact that a source without a WAL lacks.
func ofWAL(name string, of func(w *inspect.WAL) string) fact {
	return fact{name, func(m inspect.Member) string {
		if m.WAL == nil {
			return "-"
		}
		return of(m.WAL)
	}}
}

var facts = []fact{
	{"VERDICT", func(m inspect.Member) string {
		if m.Removed {
			return m.Verdict.Grade.String() + ", of a removed member"
		}
		return m.Verdict.Grade.String()
	}},
	{"MEMBER", func(m inspect.Member) string {
		if m.MemberID == nil {
			return "-"
		}
		return m.MemberID.String()
	}},
	{"CLUSTER", func(m inspect.Member) string {
		if m.ClusterID == nil {
			return "-"
		}
		return m.ClusterID.String()
	}},
	{"NAME", func(m inspect.Member) string { return text(m.Name) }},
	ofBackend("STORAGE VERSION", func(b *inspect.Backend) string { return text(b.StorageVersion) }),
	ofBackend("CLUSTER VERSION", func(b *inspect.Backend) string { return text(b.ClusterVersion) }),
	ofBackend("REVISION", func(b *inspect.Backend) string { return number(b.Revision) }),
	ofBackend("COMPACT REVISION", func(b *inspect.Backend) string { return number(b.CompactRevision) }),
	ofBackend("HASHKV", func(b *inspect.Backend) string {
		if b.HashKV == nil {
			return "-"
		}
		return fmt.Sprint(b.HashKV.Hash)
	}),
	ofBackend("KEYS", func(b *inspect.Backend) string { return ofKeys(b, func(k *inspect.Keys) int64 { return k.Live }) }),
	ofBackend("RECORDS", func(b *inspect.Backend) string { return ofKeys(b, func(k *inspect.Keys) int64 { return k.Revisions }) }),
	ofBackend("TOMBSTONES", func(b *inspect.Backend) string { return ofKeys(b, func(k *inspect.Keys) int64 { return k.Tombstones }) }),
	ofBackend("CONSISTENT INDEX", func(b *inspect.Backend) string { return number(b.ConsistentIndex) }),
	ofBackend("TERM", func(b *inspect.Backend) string { return number(b.Term) }),
	ofWAL("WAL FROM INDEX", func(w *inspect.WAL) string { return number(w.FirstIndex) }),
	ofWAL("WAL TO INDEX", func(w *inspect.WAL) string { return number(w.LastIndex) }),
	ofWAL("WAL LAST TERM", func(w *inspect.WAL) string { return number(w.LastTerm) }),
	ofWAL("COMMIT", func(w *inspect.WAL) string { return number(w.Commit) }),
	ofWAL("PROVEN COMMIT", func(w *inspect.WAL) string { return number(w.ProvenCommit) }),
	ofWholeWAL("UNAPPLIED", func(w *inspect.WAL) string { return fmt.Sprint(w.Unapplied.Count) }),
	ofWholeWAL("UNCOMMITTED", func(w *inspect.WAL) string { return fmt.Sprint(w.Uncommitted.Count) }),
	ofWAL("WAL ENDS", func(w *inspect.WAL) string { return Plain(w.Tail) }),
	ofBackend("LEASES", func(b *inspect.Backend) string { return number(b.Leases) }),
	ofBackend("ALARMS", alarms),
	ofBackend("AUTH", auth),
	ofBackend("FILE", func(b *inspect.Backend) string { return size(b.Size) }),
	ofBackend("IN USE", func(b *inspect.Backend) string {
		return ofSpace(b, func(s *inspect.Space) int64 { return s.InUseBytes })
	}),
	ofBackend("FREE", func(b *inspect.Backend) string {
		return ofSpace(b, func(s *inspect.Space) int64 { return s.FreeBytes })
	}),
	ofBackend("LIVE DATA", func(b *inspect.Backend) string {
		return ofSpace(b, func(s *inspect.Space) int64 { return s.LiveBytes })
	}),
	ofBackend("HISTORY", func(b *inspect.Backend) string {
		return ofSpace(b, func(s *inspect.Space) int64 { return s.HistoryBytes })
	}),
	ofBackend("PAGES", func(b *inspect.Backend) string {
		if b.Pages.Total == 0 {
			return "-"
		}
		return fmt.Sprintf("%d of %s", b.Pages.Total, size(int64(b.PageSize)))
	}),
	ofBackend("DAMAGED PAGES", func(b *inspect.Backend) string {
		if b.Pages.Total == 0 {
			return "-"
		}
		return fmt.Sprint(b.Pages.Damaged)
	}),
	ofBackend("FREELIST", func(b *inspect.Backend) string {
		switch {
		case b.Pages.Total == 0:
			return "-"
		case b.Pages.FreelistStored:
			return "stored"
		case b.Pages.FreelistLost:
			return "not usable"
		}
		return "not stored"
	}),
	ofBackend("SNAPSHOT HASH", trailer),
	ofBackend("OTHER BUCKETS", otherBuckets),
}

func ofKeys(b *inspect.Backend, get func(*inspect.Keys) int64) string {
	if b.Keys == nil {
		return "-"
	}
	s := fmt.Sprint(get(b.Keys))
	if !b.Complete {
		s += " or more"
	}
	return s
}

func ofSpace(b *inspect.Backend, get func(*inspect.Space) int64) string {
	if b.Space == nil {
		return "-"
	}
	return size(get(b.Space))
}

func alarms(b *inspect.Backend) string {
	if b.Auth == nil && len(b.Alarms) == 0 && b.Leases == nil {
		return "-"
	}
	if len(b.Alarms) == 0 {
		return "none"
	}
	var names []string
	for _, a := range b.Alarms {
		names = append(names, Plain(a.Alarm)+" "+a.MemberID.String())
	}
	return strings.Join(names, "\n")
}

func auth(b *inspect.Backend) string {
	switch {
	case b.Auth == nil:
		return "-"
	case b.Auth.Enabled:
		return fmt.Sprintf("on, %s, %s", plural(int64(len(b.Auth.Users)), "user"), plural(int64(len(b.Auth.Roles)), "role"))
	}
	return "off"
}

func trailer(b *inspect.Backend) string {
	switch t := b.Trailer; {
	case !t.Present:
		return "-"
	case t.Valid == nil:
		return "not examined"
	case *t.Valid:
		return "valid"
	}
	return "WRONG"
}

func otherBuckets(b *inspect.Backend) string {
	if len(b.Buckets) == 0 {
		return "-"
	}
	var names []string
	for _, k := range b.Buckets {
		if !k.Known {
			names = append(names, fmt.Sprintf("%s (%s)", Plain(k.Name), plural(k.Records, "record")))
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, "\n")
}

// membersAcross is the number of sources that one table shows side by side.
const membersAcross = 3

// members writes the numbers, sources side by side.
func (t *textWriter) members(c *inspect.Case) {
	for from := 0; from < len(c.Members); from += membersAcross {
		ms := c.Members[from:min(from+membersAcross, len(c.Members))]
		header := []string{""}
		for _, m := range ms {
			header = append(header, label(m.Source))
		}
		var rows [][]string
		for _, f := range facts {
			row := []string{f.name}
			something := false
			for _, m := range ms {
				v := f.of(m)
				something = something || v != "-"
				row = append(row, v)
			}
			if something {
				rows = append(rows, row)
			}
		}
		t.printf("\n")
		t.table(header, rows)
	}
}

// label shortens a path for the head of one of three columns; the sources are listed
// whole.
func label(path string) string { return pathEnd(path, 24) }

// pathEnd gives the end of a path, of so many characters at most.
func pathEnd(path string, most int) string {
	p := []rune(Plain(strings.TrimRight(path, "/")))
	if len(p) <= most {
		return string(p)
	}
	return "..." + string(p[len(p)-most+3:])
}

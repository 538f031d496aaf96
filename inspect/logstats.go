package inspect

import (
	"bytes"
	"cmp"
	"slices"

	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/walreader"
	"etcd-forensics/walreader/raftlog"
)

// LogStatistics say what the entries of a log are made of. All entries that were found
// count, overwritten ones and those behind damage too.
type LogStatistics struct {
	Entries int64        `json:"entries"`
	Bytes   int64        `json:"bytes"` // of requests, here and below
	Events  []EventCount `json:"events"`
	Kinds   []KindShare  `json:"kinds"` // the largest first, as all lists
	// Prefixes say which keys were asked for: an entry counts under the prefix of the
	// first key that it writes, or else names.
	Prefixes []PrefixShare  `json:"prefixes"`
	Others   Share          `json:"otherPrefixes"` // those that are not listed
	Users    []UserShare    `json:"users"`         // entries that came with a user
	Unlisted Share          `json:"otherUsers"`
	Biggest  []LargeRequest `json:"biggest"`
}

// A Share is a part of a log.
type Share struct {
	Entries int64 `json:"entries"`
	Bytes   int64 `json:"bytes"`
}

// A KindShare is the part of one kind of entry.
type KindShare struct {
	Kind string `json:"kind"`
	Share
}

// A PrefixShare is the part of the keys with one prefix.
type PrefixShare struct {
	Prefix []byte `json:"-"` // renderers quote it
	Share
}

// A UserShare is the part of one user.
type UserShare struct {
	User string `json:"user"`
	Share
}

// A LargeRequest is one of the biggest requests of a log.
type LargeRequest struct {
	Index  uint64 `json:"index"`
	Term   uint64 `json:"term"`
	Kind   string `json:"kind"`
	Bytes  int64  `json:"bytes"`
	Key    []byte `json:"-"` // the first that it writes, nil for none
	File   string `json:"file"`
	Offset int64  `json:"offset"`
}

// Limits of the statistics.
const (
	prefixDepth  = 2    // delimiters in a prefix, one in the first position not counted
	maxPrefix    = 256  // bytes
	maxShares    = 4096 // names counted at the same time
	sharesListed = 50   // of them
	maxBiggest   = 10   // requests
)

var delimiter = []byte("/")

// shares count entries by name with a bounded number of names. Names that have less than
// others are dropped when there are too many, and counted together.
type shares struct {
	of   map[string]*Share
	rest Share

	last     []byte // name that was counted last
	lastPart *Share
}

func (s *shares) add(name []byte, size int64) {
	part := s.lastPart
	if part == nil || !bytes.Equal(s.last, name) {
		if part = s.of[string(name)]; part == nil {
			part = s.begin(name)
		}
		s.last, s.lastPart = append(s.last[:0], name...), part
	}
	part.Entries++
	part.Bytes += size
}

func (s *shares) begin(name []byte) *Share {
	if s.of == nil {
		s.of = map[string]*Share{}
	}
	if len(s.of) == maxShares {
		for _, n := range s.sorted()[maxShares/2:] {
			s.rest.add(*s.of[n])
			delete(s.of, n)
		}
	}
	part := &Share{}
	s.of[string(name)] = part
	return part
}

func (s *Share) add(more Share) {
	s.Entries += more.Entries
	s.Bytes += more.Bytes
}

// sorted gives the names, those with most bytes first.
func (s *shares) sorted() []string {
	names := make([]string, 0, len(s.of))
	for n := range s.of {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int {
		x, y := s.of[a], s.of[b]
		return cmp.Or(cmp.Compare(y.Bytes, x.Bytes), cmp.Compare(y.Entries, x.Entries), cmp.Compare(a, b))
	})
	return names
}

// listed gives the largest shares; the others are added to rest.
func (s *shares) listed() (names []string, rest Share) {
	names, rest = s.sorted(), s.rest
	if len(names) > sharesListed {
		for _, n := range names[sharesListed:] {
			rest.add(*s.of[n])
		}
		names = names[:sharesListed]
	}
	return names, rest
}

// logStats counts the entries of a log in one pass.
type logStats struct {
	confChanges map[raftlog.EntryType]*Share
	prefixes    shares
	users       shares
	biggest     []LargeRequest // the biggest first
}

// entry takes an entry; r is nil when it is no request that can be read.
func (s *logStats) entry(e raftlog.Entry, at walreader.Position, r *raftlog.Request) {
	size := int64(len(e.Data))
	if e.Type != raftlog.EntryNormal {
		if s.confChanges == nil {
			s.confChanges = map[raftlog.EntryType]*Share{}
		}
		if part := s.confChanges[e.Type]; part != nil {
			part.add(Share{1, size})
		} else if len(s.confChanges) < maxBiggest { // raft has two types
			s.confChanges[e.Type] = &Share{1, size}
		}
	}
	var key []byte
	if r != nil {
		if key = mainKey(r.Ops); key != nil {
			s.prefixes.add(prefixOf(key), size)
		}
		if r.User != "" {
			s.users.add([]byte(r.User), size)
		}
	}
	if n := len(s.biggest); n < maxBiggest || size > s.biggest[n-1].Bytes {
		s.large(e, at, r, key)
	}
}

// mainKey gives the first key that is written, or else named.
func mainKey(ops []raftlog.Op) (key []byte) {
	for i := range ops {
		switch op := &ops[i]; op.Kind {
		case raftlog.OpPut, raftlog.OpDeleteRange:
			return op.Key
		case raftlog.OpRange, raftlog.OpCompare:
			if key == nil {
				key = op.Key
			}
		}
	}
	return key
}

// prefixOf gives the part of a key by which it is counted, of a long one no more than
// lies in its first bytes.
func prefixOf(key []byte) []byte {
	key = key[:min(len(key), maxPrefix)]
	return key[:keyspace.PrefixEnd(key, delimiter, prefixDepth)]
}

// large puts a request among the biggest; of equal ones the earlier stays in front.
func (s *logStats) large(e raftlog.Entry, at walreader.Position, r *raftlog.Request, key []byte) {
	big := LargeRequest{Index: e.Index, Term: e.Term, Bytes: int64(len(e.Data)), File: at.Segment, Offset: at.Offset, Kind: e.Type.String(), Key: bytes.Clone(key)}
	if e.Type == raftlog.EntryNormal {
		big.Kind = string(raftlog.KindUnknown)
		if r != nil {
			big.Kind = KindName(r.Kind)
		}
	}
	i := len(s.biggest)
	for i > 0 && s.biggest[i-1].Bytes < big.Bytes {
		i--
	}
	s.biggest = slices.Insert(s.biggest, i, big)
	s.biggest = s.biggest[:min(len(s.biggest), maxBiggest)]
}

// KindEmpty is the name of an entry without a request.
const KindEmpty = "empty"

// KindName gives the name of a kind as it is shown.
func KindName(k raftlog.Kind) string {
	if k == raftlog.KindNone {
		return KindEmpty
	}
	return string(k)
}

// finish puts the counts of the summary beside its own.
func (s *logStats) finish(l *raftlog.Log) *LogStatistics {
	st := &LogStatistics{Kinds: []KindShare{}, Prefixes: []PrefixShare{}, Users: []UserShare{}, Biggest: s.biggest}
	if st.Biggest == nil {
		st.Biggest = []LargeRequest{}
	}
	for _, k := range l.Requests {
		st.Kinds = append(st.Kinds, KindShare{KindName(k.Kind), Share{k.Entries, k.Bytes}})
	}
	for t, part := range s.confChanges {
		st.Kinds = append(st.Kinds, KindShare{t.String(), *part})
	}
	slices.SortFunc(st.Kinds, func(a, b KindShare) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(b.Entries, a.Entries), cmp.Compare(a.Kind, b.Kind))
	})
	for _, k := range st.Kinds {
		st.Entries += k.Entries
		st.Bytes += k.Bytes
	}
	var names []string
	names, st.Others = s.prefixes.listed()
	for _, n := range names {
		st.Prefixes = append(st.Prefixes, PrefixShare{[]byte(n), *s.prefixes.of[n]})
	}
	names, st.Unlisted = s.users.listed()
	for _, n := range names {
		st.Users = append(st.Users, UserShare{n, *s.users.of[n]})
	}
	return st
}

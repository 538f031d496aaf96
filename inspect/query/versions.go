package query

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"sync"

	"etcd-forensics/inspect"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/kube"
	"etcd-forensics/snapdb/scan"
)

// Keys says which keys are asked for.
type Keys struct {
	Key    []byte
	Prefix bool // all keys that begin with Key
}

// Has says whether a key is asked for.
func (k Keys) Has(key []byte) bool {
	if k.Prefix {
		return bytes.HasPrefix(key, k.Key)
	}
	return bytes.Equal(key, k.Key)
}

// A Version is one record of a key.
type Version struct {
	Key            []byte
	Revision       keyspace.Revision
	CreateRevision int64 // 0 of a deletion, as are Version and Lease
	Version        int64
	Lease          int64
	ValueSize      int64  // bytes
	Value          []byte // nil unless it was asked for

	sum uint64 // of the value, in one history
}

// ErrTooMany is given when more was asked for than is kept in memory.
var ErrTooMany = errors.New("too many keys or values for one answer")

// Limits of what a question may ask for at once.
const (
	maxVersions   = 1 << 20
	maxValueBytes = 512 << 20
	versionCost   = 128 // bytes beside key and value
)

// versions collects records of bucket key in one pass.
type versions struct {
	keyspace *inspect.Keyspace
	keys     Keys
	revision int64 // records above it are left out
	newest   bool  // only the newest record of each key
	values   bool
	clock    *kube.Clock // nil when no time is asked for
	seed     maphash.Seed

	mu    sync.Mutex // guards clock
	sinks []*versionSink

	reach       inspect.Reach  // of the pass
	interrupted *inspect.Reach // the same when it did not come to its end, otherwise nil
}

type versionSink struct {
	of     *versions
	list   []Version
	newest map[string]int // by key: its place in list
	size   int64
	full   bool
}

// Sink implements scan.Consumer.
func (v *versions) Sink() scan.Sink {
	s := &versionSink{of: v, newest: map[string]int{}}
	v.sinks = append(v.sinks, s)
	return s
}

// Leaf implements scan.Sink.
func (s *versionSink) Leaf(l *scan.Leaf) {
	v := s.of
	if l.Bucket != v.keyspace.Bucket {
		return
	}
	for i := range l.Elements {
		e := &l.Elements[i]
		rev, ok := keyspace.DecodeRevision(e.Key)
		if !ok || e.Bucket || rev.Main > v.revision {
			continue
		}
		kv, err := keyspace.DecodeKeyValue(e.Value)
		if err != nil {
			continue
		}
		if v.clock != nil && !rev.Tombstone {
			s.anchor(rev, &kv)
		}
		if v.keys.Has(kv.Key) && len(e.Value) > 0 {
			s.take(rev, &kv)
		}
	}
}

// take keeps a record, in place of an older one when only the newest counts.
func (s *versionSink) take(rev keyspace.Revision, kv *keyspace.KeyValue) {
	at := len(s.list)
	if s.of.newest {
		if i, ok := s.newest[string(kv.Key)]; ok {
			if s.list[i].Revision.Compare(rev) > 0 {
				return
			}
			at = i
		}
	}
	record := Version{Revision: rev, CreateRevision: kv.CreateRevision, Version: kv.Version, Lease: kv.Lease, ValueSize: int64(len(kv.Value)),
		sum: maphash.Bytes(s.of.seed, kv.Value)}
	s.size += versionCost + int64(len(kv.Key))
	if s.of.values {
		s.size += int64(len(kv.Value))
	}
	if s.full = s.full || len(s.list) >= maxVersions || s.size > maxValueBytes; s.full {
		return
	}
	if s.of.values && !rev.Tombstone {
		record.Value = append([]byte{}, kv.Value...)
	}
	if at < len(s.list) {
		record.Key = s.list[at].Key
		s.size -= versionCost + int64(len(record.Key)+len(s.list[at].Value))
		s.list[at] = record
		return
	}
	record.Key = bytes.Clone(kv.Key)
	if s.of.newest {
		s.newest[string(record.Key)] = at
	}
	s.list = append(s.list, record)
}

// anchor takes the time that a record names, of those that name the moment of their writing
// most often.
func (s *versionSink) anchor(rev keyspace.Revision, kv *keyspace.KeyValue) {
	if !kube.Timed(kv.Key) {
		return
	}
	if a, ok := kube.AnchorIn(kv.Key, kv.Value, kv.Version); ok {
		s.of.mu.Lock()
		s.of.clock.Add(rev.Main, a)
		s.of.mu.Unlock()
	}
}

// read makes the pass and gives the records by key and revision. whole is false when
// records may be missing. When ctx ends behind the first records, it gives what they
// tell with the error.
func (v *versions) read(ctx context.Context) (list []Version, findings []inspect.Finding, whole bool, err error) {
	if v.revision == 0 {
		v.revision = math.MaxInt64
	}
	meter := v.keyspace.Meter()
	pass, err := scan.Run(ctx, v.keyspace.Tree, scan.Options{}, v, meter)
	v.reach = meter.Reach()
	switch {
	case err == nil:
	case v.reach.Pages == 0:
		return nil, nil, false, err
	default:
		v.interrupted = &v.reach
	}
	findings, whole = v.keyspace.Judge(pass)
	whole = whole && err == nil
	for _, s := range v.sinks {
		if s.full {
			v.interrupted = nil
			return nil, nil, false, fmt.Errorf("%s: %w; name a longer prefix", v.keyspace.File, ErrTooMany)
		}
		list = append(list, s.list...)
	}
	slices.SortFunc(list, func(a, b Version) int {
		return cmp.Or(bytes.Compare(a.Key, b.Key), a.Revision.Compare(b.Revision))
	})
	if v.newest { // of those that the parsers have found, each by itself
		out := list[:0]
		for i := range list {
			if i+1 == len(list) || !bytes.Equal(list[i].Key, list[i+1].Key) {
				out = append(out, list[i])
			}
		}
		list = out
	}
	return list, findings, whole, err
}

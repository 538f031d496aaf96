package query

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/scan"
)

// KeysOptions say how keys are counted.
type KeysOptions struct {
	Depth      int    // delimiters in a prefix, one in the first position not counted
	Delimiter  string // one character
	Kubernetes KubernetesMode
	EtcdPrefix string // of the API server; "" to find it out
	Sort       KeySort
	Top        int   // keys of each list; 0 for defaultKeys
	Revision   int64 // as of which; 0 is the newest
	Quota      int64 // bytes; 0 when it is not known
	Objects    bool  // look into the objects of an API server, too
	Decryption *Decryption
	Limits     inspect.Limits
}

// defaultKeys is the number of keys in each list of keys.
const defaultKeys = 10

// KeySort says by what rows are sorted: the largest first, or prefixes in their
// order.
type KeySort string

// KeySorts are what rows can be sorted by, the default first.
var KeySorts = []KeySort{"live-bytes", "history-bytes", "live", "revisions", "tombstones", "prefix"}

// ofPart gives the order of rows of which it is not known which keys are there.
func (by KeySort) ofPart() KeySort {
	if by == "live-bytes" || by == "live" {
		return "history-bytes"
	}
	return by
}

// KeyCounts are what a row, or the whole, holds. Bytes are those of the records' keys
// and values as stored.
type KeyCounts struct {
	Live         int64 `json:"live"`
	Revisions    int64 `json:"revisions"`
	Tombstones   int64 `json:"tombstones"`
	LiveBytes    int64 `json:"liveBytes"`    // of the latest records of keys that are there
	HistoryBytes int64 `json:"historyBytes"` // of all other records
}

// countsOf turns what a pass has counted into counts. Of part of the records, Live and
// LiveBytes are 0, since a later deletion may be among the others; so HistoryBytes are
// those of all records then.
func countsOf(c *scan.Counts) KeyCounts {
	return KeyCounts{c.Live, c.Revisions, c.Tombstones, c.LiveBytes, c.Bytes - c.LiveBytes}
}

func (c *KeyCounts) add(o *KeyCounts) {
	c.Live += o.Live
	c.Revisions += o.Revisions
	c.Tombstones += o.Tombstones
	c.LiveBytes += o.LiveBytes
	c.HistoryBytes += o.HistoryBytes
}

// compare sorts counts as a KeySort says; those of an order by prefix are all alike.
func (c *KeyCounts) compare(o *KeyCounts, by KeySort) int {
	switch by {
	case "live":
		return cmp.Compare(o.Live, c.Live)
	case "revisions":
		return cmp.Compare(o.Revisions, c.Revisions)
	case "tombstones":
		return cmp.Compare(o.Tombstones, c.Tombstones)
	case "history-bytes":
		return cmp.Compare(o.HistoryBytes, c.HistoryBytes)
	case "prefix":
		return 0
	}
	return cmp.Compare(o.LiveBytes, c.LiveBytes)
}

// A KeyRow counts the keys that begin alike.
type KeyRow struct {
	Prefix []byte
	KeyCounts
}

// OtherRows are the rows that are not listed, as one.
type OtherRows struct {
	Rows int64 `json:"rows"`
	KeyCounts
}

// A KeyCount is one key among those of which there is most.
type KeyCount struct {
	Key       []byte
	Revisions int64 // that the database holds of it

	// Of its latest record.
	ModRevision int64
	Version     int64 // 0 of a deletion
	Deleted     bool
	RecordBytes int64 // as stored
	ValueSize   int64 // bytes
}

// A SizeCount is the number of keys and of values of From to To bytes. A deletion has no
// value.
type SizeCount struct{ From, To, Keys, Values int64 }

// KeysResult says what fills a database, as of a revision.
type KeysResult struct {
	File            string
	Revision        int64 // as of which
	CompactRevision int64 // -1 when nothing was ever compacted
	KeyCounts
	Prefixes   []KeyRow // all that there was room for
	Other      OtherRows
	Kubernetes *KubernetesKeys // nil when the keys are not an API server's
	Hottest    []KeyCount      // keys with most revisions left
	Versions   []KeyCount      // keys written most often since they were created
	Largest    []KeyCount      // keys with the largest records
	Sizes      []SizeCount     // of the keys and values of all records, those that occur
	Space      KeySpace
	Alarms     []inspect.Alarm
	Findings   []inspect.Finding // those that the pages alone tell
	Whole      bool              // no record can be missing

	// Interrupted says how far the counting came; nil when everything was done.
	Interrupted *inspect.Reach
	// Partial is set when that was too early to tell which keys are there: Live, LiveBytes,
	// the lists of keys and Space are empty, HistoryBytes counts all records, and all
	// counts are lower bounds.
	Partial bool
}

// CountKeys counts the keys of the database that etcd would open. It reads the file
// once; memory grows with the number of distinct keys, and not with the file. Only where
// there are more prefixes than Limits.Prefixes it reads it twice more.
func CountKeys(ctx context.Context, s *source.Source, opts KeysOptions) (*KeysResult, error) {
	k, err := inspect.OpenKeyspace(ctx, s, opts.Limits)
	if err == nil {
		err = k.Check(opts.Revision)
	}
	if err != nil {
		return nil, err
	}
	depth := cutAtDepth(opts.Delimiter, opts.Depth)
	prefix, isKube := opts.kubernetes(k.Rows)
	cut := depth
	if isKube {
		cut = cutAtNamespace(prefix, depth)
	}
	revision := cmp.Or(opts.Revision, k.Revision)
	counted, err := scan.CountPrefixes(ctx, k.Tree, k.Bucket, scan.PrefixOptions{
		Revision: opts.Revision, Cut: cut, MaxRows: k.Limits().Prefixes, Top: cmp.Or(opts.Top, defaultKeys), Edge: revision,
	})
	if err != nil && counted.Reach.Pages == 0 {
		return nil, err
	}
	r := &KeysResult{
		File: k.File, Revision: revision, CompactRevision: k.CompactRevision, KeyCounts: countsOf(&counted.Total),
		Hottest: keysOf(counted.Hottest), Versions: keysOf(counted.Versions), Largest: keysOf(counted.Largest), Sizes: sizesOf(counted),
		Alarms: k.Alarms(),
	}
	r.Findings, r.Whole = k.Judge(counted.Pass)
	r.Whole = r.Whole && counted.Unread == 0
	if err == nil {
		r.Space = measure(k, counted, revision, opts.Quota)
	} else {
		r.Interrupted, r.Partial, r.Whole = &counted.Reach, true, false
		opts.Sort = opts.Sort.ofPart()
	}
	r.prefixes(counted, depth, opts)
	if isKube {
		r.Kubernetes = countObjects(counted, prefix, opts)
		if opts.guesses() && r.Kubernetes.Outside.Revisions > r.Revisions/2 {
			r.Kubernetes = nil
		}
	}
	if err == nil && r.Kubernetes != nil && opts.Objects {
		if r.Kubernetes.Objects, err = readObjects(ctx, k, prefix, counted.Distinct, opts); err != nil {
			r.Interrupted = &counted.Reach
		}
	}
	return r, err
}

func keysOf(counted []scan.KeyCount) []KeyCount {
	keys := make([]KeyCount, len(counted))
	for i, k := range counted {
		keys[i] = KeyCount{k.Key, k.Records, k.Revision.Main, k.Version, k.Revision.Tombstone, k.Bytes, k.ValueSize}
	}
	return keys
}

func sizesOf(counted *scan.PrefixResult) []SizeCount {
	var sizes []SizeCount
	for i, keys := range counted.KeySizes {
		if values := counted.Values[i]; keys > 0 || values > 0 {
			from, to := scan.SizesOf(i)
			sizes = append(sizes, SizeCount{from, to, keys, values})
		}
	}
	return sizes
}

// prefixes makes the rows by prefix of rows that may be cut later.
func (r *KeysResult) prefixes(counted *scan.PrefixResult, cut func([]byte) int, opts KeysOptions) {
	r.Other = OtherRows{counted.OtherRows, countsOf(&counted.Other)}
	at := map[string]int{}
	for i := range counted.Rows {
		row := &counted.Rows[i]
		prefix, counts := row.Prefix[:cut(row.Prefix)], countsOf(&row.Counts)
		n, ok := at[string(prefix)]
		if !ok {
			n = len(r.Prefixes)
			at[string(prefix)] = n
			r.Prefixes = append(r.Prefixes, KeyRow{Prefix: prefix})
		}
		r.Prefixes[n].add(&counts)
	}
	slices.SortFunc(r.Prefixes, func(a, b KeyRow) int {
		return cmp.Or(a.compare(&b.KeyCounts, opts.Sort), bytes.Compare(a.Prefix, b.Prefix))
	})
}

// MostHistory gives the prefix with most bytes of history, nil when there is none.
func (r *KeysResult) MostHistory() *KeyRow {
	var most *KeyRow
	for i := range r.Prefixes {
		if row := &r.Prefixes[i]; row.HistoryBytes > 0 && (most == nil || row.HistoryBytes > most.HistoryBytes) {
			most = row
		}
	}
	return most
}

// Listed gives the first n of all rows, and the others as one, together with those for
// which there was no room; 0 gives all rows.
func Listed[R interface{ Counts() *KeyCounts }](all []R, rest OtherRows, n int) ([]R, OtherRows) {
	if n == 0 || len(all) <= n {
		return all, rest
	}
	for _, row := range all[n:] {
		rest.Rows++
		rest.add(row.Counts())
	}
	return all[:n], rest
}

// Counts gives the counts of a row.
func (c KeyCounts) Counts() *KeyCounts { return &c }

// cutAtDepth gives the length of the prefix by which a key is counted.
func cutAtDepth(delimiter string, depth int) func(key []byte) int {
	d := []byte(delimiter)
	return func(key []byte) int { return keyspace.PrefixEnd(key, d, depth) }
}

// ParseKeySort reads the name of an order.
func ParseKeySort(name string) (KeySort, error) {
	if by := KeySort(name); slices.Contains(KeySorts, by) {
		return by, nil
	}
	return "", fmt.Errorf("must be one of %v", KeySorts)
}

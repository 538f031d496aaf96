package rehearse

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
	"etcd-forensics/inspect/restore"
	"etcd-forensics/inspect/source"
)

// held is what a member's files hold after it has ended.
type held struct {
	err      error
	source   *source.Source
	revision int64 // the newest
	compact  int64
	hashKV   *inspect.HashKV // at the promised revision
	diff     *query.DiffResult
	later    *query.DiffResult // what was written since; nil when that was not looked at
	alarms   []inspect.Alarm
}

// compareContent reads the members' databases and holds them against the evidence.
func (h *rehearsal) compareContent(ctx context.Context) error {
	tally, err := query.TallyKeys(ctx, h.promise.source, nil)
	if err != nil {
		return err
	}
	h.promise.tally = tally
	k, err := inspect.OpenKeyspace(ctx, h.promise.source, inspect.DefaultLimits)
	if err != nil {
		return err
	}
	h.promise.newest = k.LastRecord
	all := make([]held, len(h.receipt.Members))
	turns := make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)) // each reads with two
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i := range all {
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			all[i] = h.read(ctx, h.dataDir(i))
			if all[i].source != nil {
				mu.Lock()
				h.made = append(h.made, all[i].source)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, r := range tally.Rows {
		h.receipt.Prefixes = append(h.receipt.Prefixes, Prefix{Prefix: r.Prefix, Expected: r.Live, Actual: []int64{}})
	}
	for i := range all {
		m := &h.receipt.Members[i]
		if err := all[i].err; err != nil {
			return failure{err, CheckRecords, m.Name, "a database that can be read"}
		}
		if h.locked {
			if err := h.readMembers(ctx, m.Name, all[i].source); err != nil {
				return err
			}
		}
		m.Revision, m.HashKV = all[i].revision, all[i].hashKV
		h.checkContent(m.Name, &all[i])
	}
	h.checkAgreement(all)
	return nil
}

// promised is the revision at which the restored cluster begins.
func (h *rehearsal) promised() int64 {
	if h.plan.Revision.Bump > 0 {
		return h.promise.newest + int64(h.plan.Revision.Bump)
	}
	return h.promise.revision
}

// read reads what a member holds.
func (h *rehearsal) read(ctx context.Context, dir string) (r held) {
	sources, problems := source.Open(ctx, []string{dir}, source.Options{})
	if len(sources) == 0 {
		r.err = problems[0]
		return r
	}
	s := sources[0]
	r.source = s
	k, err := inspect.OpenKeyspace(ctx, s, inspect.DefaultLimits)
	if err != nil {
		r.err = err
		return r
	}
	r.revision, r.compact, r.alarms = k.Revision, k.CompactRevision, k.Alarms()
	if r.revision < h.promised() {
		return r // what is missing is told by the revision
	}
	hash, err := inspect.HashKVAt(ctx, s, h.promised())
	if err != nil {
		r.err = err
		return r
	}
	r.hashKV = &hash
	if r.diff, r.err = query.Diff(ctx, h.promise.source, s, query.DiffOptions{NewRevision: h.promised(), MaxKeys: 1}); r.err != nil {
		return r
	}
	if r.revision > h.promised() {
		r.later, r.err = query.Diff(ctx, s, s, query.DiffOptions{OldRevision: h.promised(), MaxKeys: 1})
	}
	return r
}

func (h *rehearsal) checkContent(name string, r *held) {
	h.checkRevision(name, r)
	if h.plan.Revision.Bump > 0 && h.auth {
		expected := fmt.Sprintf("compacted at %d", h.promised())
		h.receipt.compare(CheckCompaction, name, expected, fmt.Sprintf("compacted at %d", r.compact), "by its files")
	}
	if r.diff == nil {
		for _, check := range []string{CheckHashKV, CheckPrefixes, CheckRecords} {
			h.receipt.skip(check, name, "", "the revision was not reached")
		}
		return
	}
	switch {
	case h.plan.Way == restore.WayRejoin:
		h.receipt.skip(CheckHashKV, name, "", "the log adds to what the database held; the members are compared with each other, and the keys with the evidence")
	case h.plan.Revision.Bump > 0:
		h.receipt.skip(CheckHashKV, name, "", "a bump changes it; the members are compared with each other, and the keys with the evidence")
	case h.promise.hashKV == nil:
		h.receipt.skip(CheckHashKV, name, "", "that of the evidence is not known; the members are compared with each other")
	default:
		h.receipt.compare(CheckHashKV, name, hashWords(h.promise.hashKV), hashWords(r.hashKV), "")
	}
	h.checkPrefixes(name, r.diff)
	live := h.promise.tally.Live
	h.receipt.compare(CheckRecords, name, sameWords(live), recordWords(live, r.diff), h.promise.of)
	if h.plan.Way == restore.WayRejoin {
		return // the log may raise alarms and disarm them
	}
	h.receipt.compare(CheckAlarms, name, alarmWords(h.promise.alarms), alarmWords(r.alarms), "")
}

// checkRevision holds where a member's revisions begin against the promise. What comes
// after must be the key of the rehearsal, and keys whose leases ran out meanwhile.
func (h *rehearsal) checkRevision(name string, r *held) {
	promised := h.promised()
	expected := fmt.Sprintf("%d", promised)
	least := h.plan.Revision.Restored
	switch {
	case least != nil && promised < *least: // and the plan's own check would fail
		h.receipt.fail(CheckRevision, name, fmt.Sprintf("%d or more", *least), expected)
	case h.plan.Way == restore.WayRejoin && r.revision >= promised:
		h.receipt.compare(CheckRevision, name, expected+" or more", expected+" or more", fmt.Sprintf("with its log and the key of the rehearsal it is at %d", r.revision))
	case r.revision == promised:
		h.receipt.compare(CheckRevision, name, expected, expected, "")
	case r.revision < promised || r.later == nil:
		h.receipt.fail(CheckRevision, name, expected, fmt.Sprintf("%d", r.revision))
	default:
		c := &r.later.Counts
		written := c.Added + c.Changed + c.Recreated
		if written > h.wrote || c.Removed > 0 && !h.promise.leases {
			h.receipt.fail(CheckRevision, name, expected, fmt.Sprintf("%d, with %d keys written and %d removed since %d", r.revision, written, c.Removed, promised))
			return
		}
		why := "then the key of the rehearsal"
		if c.Removed > 0 {
			why = fmt.Sprintf("then %d keys whose leases ran out, and the key of the rehearsal", c.Removed)
		}
		h.receipt.compare(CheckRevision, name, expected, expected, why)
	}
}

// checkPrefixes counts a member's keys by prefix, at the promised revision.
func (h *rehearsal) checkPrefixes(name string, d *query.DiffResult) {
	change := map[string]int64{}
	for _, row := range d.Prefixes {
		change[string(row.Prefix)] = row.Added - row.Removed
	}
	var unlike int
	for i := range h.receipt.Prefixes {
		p := &h.receipt.Prefixes[i]
		p.Actual = append(p.Actual, p.Expected+change[string(p.Prefix)])
		if change[string(p.Prefix)] != 0 {
			unlike++
		}
		delete(change, string(p.Prefix))
	}
	unlike += len(change) // prefixes that the evidence does not have
	expected := fmt.Sprintf("%d prefixes with the counts of the evidence", len(h.receipt.Prefixes))
	actual := expected
	if unlike > 0 {
		actual = fmt.Sprintf("%d prefixes with other counts", unlike)
	}
	h.receipt.compare(CheckPrefixes, name, expected, actual, "")
}

// checkAgreement holds the members against each other.
func (h *rehearsal) checkAgreement(all []held) {
	if len(all) < 2 || all[0].hashKV == nil {
		return
	}
	for i, r := range all[1:] {
		if r.hashKV != nil {
			h.receipt.compare(CheckAgreement, h.receipt.Members[i+1].Name, hashWords(all[0].hashKV), hashWords(r.hashKV), "as "+h.receipt.Members[0].Name)
		}
	}
}

func hashWords(k *inspect.HashKV) string {
	return fmt.Sprintf("%d at revision %d, compacted at %d", k.Hash, k.Revision, k.CompactRevision)
}

func sameWords(live int64) string { return fmt.Sprintf("%d keys as in the evidence", live) }

func recordWords(live int64, d *query.DiffResult) string {
	c := &d.Counts
	if c.Added+c.Removed+c.Changed+c.Recreated == 0 && c.Same == live {
		return sameWords(live)
	}
	return fmt.Sprintf("%d as in the evidence, %d added, %d removed, %d changed, %d re-created", c.Same, c.Added, c.Removed, c.Changed, c.Recreated)
}

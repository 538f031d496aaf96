package recover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/walreader/replay"
)

// Prover gives what proves a member's database by its own log: the entries up to its
// consistent index are applied to an empty store, or to an older database among the
// sources, and what comes out is compared record by record. Of o it takes the scratch
// folder, the program and what the servers' flags were.
func Prover(o RollOptions) inspect.Prover {
	return func(ctx context.Context, s *source.Source, m *inspect.Member, all []*source.Source) (*inspect.Proof, []inspect.Finding, error) {
		p := &proving{options: RollOptions{Scratch: o.Scratch, Self: o.Self, MaxLearners: o.MaxLearners, MinLeaseTTL: o.MinLeaseTTL}, src: s, member: m}
		return p.run(ctx, all)
	}
}

// A proving is the proof of one member in the making.
type proving struct {
	options  RollOptions
	src      *source.Source
	member   *inspect.Member
	file     *source.File // the database
	proof    inspect.Proof
	findings []inspect.Finding
}

func (p *proving) run(ctx context.Context, all []*source.Source) (*inspect.Proof, []inspect.Finding, error) {
	be := p.member.Backend
	if !be.Complete || be.ConsistentIndex == nil || *be.ConsistentIndex == 0 {
		return p.impossible("the database cannot be read to its end")
	}
	var err error
	if p.file, err = databaseOf(ctx, p.src); err != nil {
		return nil, nil, err
	}
	r, err := p.prepare(ctx, nil)
	if refused, ok := errors.AsType[*RollRefusal](err); ok {
		why := refused.Why
		for _, base := range p.bases(ctx, all) {
			if r, err = p.prepare(ctx, base); err == nil {
				break
			}
			if _, ok := errors.AsType[*RollRefusal](err); !ok {
				return nil, nil, err
			}
		}
		if err != nil {
			return p.impossible(why)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	if err := p.apply(ctx, r); err != nil {
		if refused, ok := errors.AsType[*RollRefusal](err); ok {
			return p.impossible(refused.Why)
		}
		return nil, nil, err
	}
	p.proof.Base, p.proof.Entries, p.proof.Outcome = r.Base, r.end-r.From.Index, inspect.ProofProven
	if p.proof.Records > 0 {
		p.proof.Outcome = inspect.ProofContradicted
	}
	return &p.proof, p.findings, nil
}

func (p *proving) impossible(why string) (*inspect.Proof, []inspect.Finding, error) {
	return &inspect.Proof{Outcome: inspect.ProofNotPossible, Why: why}, nil, nil
}

// prepare looks whether the log leads from a base to where the database is.
func (p *proving) prepare(ctx context.Context, base *source.Source) (*rolling, error) {
	o := p.options
	o.Base, o.WALs, o.ToIndex = base, []*source.Source{p.src}, *p.member.Backend.ConsistentIndex
	r := newRolling(o)
	err := r.prepare(ctx)
	if err == nil && r.Missing != nil {
		err = &RollRefusal{fmt.Sprintf("entries %d to %d are missing", r.Missing.First, r.Missing.Last), "another member's log"}
	}
	return r, err
}

// bases lists the other sources that have an older database, the newest first.
func (p *proving) bases(ctx context.Context, all []*source.Source) []*source.Source {
	type older struct {
		s     *source.Source
		index uint64
	}
	var list []older
	for _, s := range all {
		if s == p.src || s.DB == nil {
			continue
		}
		if index, err := inspect.ConsistentIndexOf(ctx, s.DB); err == nil && index > 0 && index < *p.member.Backend.ConsistentIndex {
			list = append(list, older{s, index})
		}
	}
	slices.SortStableFunc(list, func(a, b older) int { return cmp.Compare(b.index, a.index) })
	var bases []*source.Source
	for _, b := range list {
		bases = append(bases, b.s)
	}
	return bases
}

// apply applies the entries in a private folder, and compares.
func (p *proving) apply(ctx context.Context, r *rolling) (err error) {
	if r.room, err = newRoom(r.o.Scratch); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.room)) }()
	out := filepath.Join(r.room, "proof.db")
	r.o.Out = out
	if err := r.checkSpace(); err != nil {
		return err
	}
	_, err = r.apply(ctx, replay.Order{Out: out}, func(*replay.Done) error { return p.compare(ctx, out) })
	return err
}

// compare holds the database against what the log led to.
func (p *proving) compare(ctx context.Context, out string) error {
	sources, problems := source.Open(ctx, []string{out}, source.Options{})
	if len(sources) == 0 {
		return errors.Join(problems...)
	}
	defer sources[0].Close()
	return compareRecords(ctx, p.file, sources[0].DB, p.differs)
}

// differs takes a record in which database (A) and log (B) differ.
func (p *proving) differs(d Difference) error {
	if p.expected(d) {
		return nil
	}
	if p.proof.Records++; p.proof.Records > maxDifferences {
		return nil
	}
	f := inspect.NewFinding(inspect.CodeMVCCWALMismatch, p.src.Path, "")
	f.Location.File = p.file.Path
	if d.A != nil {
		f.Location.Page, f.Location.Offset = &d.Page, &d.Offset
	}
	rev, ok := keyspace.DecodeRevision(d.Key)
	if d.Bucket != keyspace.BucketKey || !ok {
		f.Message = fmt.Sprintf("the log leads to another record %s in bucket %s than the database has", strconv.QuoteToASCII(string(d.Key)), d.Bucket)
		p.findings = append(p.findings, f)
		return nil
	}
	f.Location.Revision = &rev.Main
	for _, value := range [][]byte{d.B, d.A} {
		if kv, err := keyspace.DecodeKeyValue(value); value != nil && err == nil {
			f.Location.Key = slices.Clone(kv.Key)
			break
		}
	}
	key := strconv.QuoteToASCII(string(f.Location.Key))
	switch {
	case d.A == nil:
		f.Message = fmt.Sprintf("the log leads to a revision %d of key %s, and the database lacks it", rev.Main, key)
	case d.B == nil:
		f.Message = fmt.Sprintf("the database has a revision %d of key %s that the log does not lead to", rev.Main, key)
	default:
		f.Message = fmt.Sprintf("revision %d of key %s is another one than the log leads to", rev.Main, key)
	}
	p.findings = append(p.findings, f)
	return nil
}

// maxDifferences is the number of records that have a finding; all are counted.
const maxDifferences = 20

// expected says whether a difference is known and no contradiction.
func (p *proving) expected(d Difference) bool {
	be := p.member.Backend
	before36 := be.ClusterVersion != nil && (strings.HasPrefix(*be.ClusterVersion, "3.4") || strings.HasPrefix(*be.ClusterVersion, "3.5"))
	switch d.Bucket {
	case keyspace.BucketMeta:
		switch string(d.Key) {
		case keyspace.MetaStorageVersion: // set by a timer, not by an entry
			return true
		case keyspace.MetaFinishedCompactRev: // a compaction that was not ended is, here
			return *be.ScheduledCompactRevision > *be.FinishedCompactRevision
		}
		return be.Term == nil // 3.4 has no term and no conf state, and its index may lag
	case keyspace.BucketKey:
		rev, ok := keyspace.DecodeRevision(d.Key)
		if !ok || d.A != nil && d.B != nil {
			return false
		}
		scheduled := *be.ScheduledCompactRevision
		switch {
		case d.B == nil: // not yet removed by a compaction that was not ended
			return rev.Main <= scheduled && scheduled > *be.FinishedCompactRevision
		case be.Term == nil: // 3.4 may have compacted behind its consistent index
			return rev.Main <= scheduled
		}
		// Before 3.6 a compaction removes a tombstone at its own revision.
		return before36 && rev.Tombstone && rev.Main == scheduled
	case keyspace.BucketLease: // times to live depend on flags and checkpoints
		return be.Term == nil || d.A != nil && d.B != nil
	case keyspace.BucketAuth, keyspace.BucketAuthUsers, keyspace.BucketAuthRoles, keyspace.BucketMembers, keyspace.BucketMembersRemoved, keyspace.BucketAlarm, keyspace.BucketCluster:
		return be.Term == nil // behind the consistent index; 3.4 salts passwords anew
	}
	return true // not etcd's
}

package recover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/scratch"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
	"etcd-forensics/snapdb/rebuild"
)

// spaceMargin is what a new database may take more than the old one, whose pages are
// filled differently.
const spaceMargin = 32 << 20

// checkSpace refuses what would not fit.
func (j *job) checkSpace() error {
	need := j.db.Size() + j.db.Size()/8 + spaceMargin
	dir := filepath.Dir(j.opts.Out)
	if free, known := scratch.Free(dir); known && free < need {
		return refuse("%s has %d bytes free, and %d may be needed", dir, free, need)
	}
	return nil
}

// write makes the new database beside its place.
func (j *job) write(ctx context.Context) error {
	if err := j.checkSpace(); err != nil {
		return err
	}
	var err error
	if j.part, err = partial(j.opts.Out); err != nil {
		return err
	}
	out, err := os.OpenFile(j.part, os.O_RDWR, 0)
	if err == nil {
		err = j.fillFile(ctx, out)
	}
	if err != nil {
		return errors.Join(err, j.discard())
	}
	return nil
}

// fillFile fills the new file, which it takes over.
func (j *job) fillFile(ctx context.Context, out *os.File) error {
	w, err := rebuild.New(out, j.db.PageSize, j.db.Size()+j.db.Size()/8)
	if err != nil {
		return errors.Join(err, out.Close())
	}
	if err := j.fill(ctx, w); err != nil {
		return errors.Join(err, w.Close())
	}
	if !j.opts.Snapshot {
		j.result.Size, err = w.End()
		return err
	}
	s, err := w.EndSnapshot()
	if err != nil {
		return err
	}
	j.result.Size, _, err = s.End()
	return errors.Join(err, s.Close())
}

// toDisk sees to it that the new file is on the disk.
func (j *job) toDisk() error {
	out, err := os.OpenFile(j.part, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(out.Sync(), out.Close())
}

// discard removes what is not complete, or what is complete and has its name.
func (j *job) discard() error {
	if err := os.Remove(j.part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// publish examines the new file, while it is brought to the disk, and gives it its name.
func (j *job) publish(ctx context.Context) error {
	var synced error
	var syncing sync.WaitGroup
	syncing.Go(func() { synced = j.toDisk() })
	err := j.reread(ctx)
	syncing.Wait()
	if err = errors.Join(err, synced); err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = appear(j.part, j.opts.Out)
	}
	return errors.Join(err, j.discard())
}

// reread reads the new file: it examines it, and says what is missing there.
func (j *job) reread(ctx context.Context) error {
	s, err := j.opened(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	var tree *snapdb.Tree
	var unread error
	var reading sync.WaitGroup
	reading.Go(func() { tree, unread = records(ctx, s.DB) })
	broken := inspect.BrokenChains{Keep: keysFollowed}
	err = j.examine(ctx, s, &broken)
	reading.Wait()
	if err = cmp.Or(err, unread); err != nil {
		return err
	}
	if j.mayBreak() {
		j.broken = brokenKeys(tree, &broken)
	}
	j.result.Conflicts = conflicts(j.contests)
	j.state(ctx, tree)
	return nil
}

// examine inspects the new file as any other. What the pages of it say must be sound;
// what its records say of records that are missing is part of the statement of loss.
func (j *job) examine(ctx context.Context, s *source.Source, broken *inspect.BrokenChains) error {
	c, err := inspect.Inspect(ctx, []*source.Source{s}, inspect.Options{Limits: j.opts.Limits, Digest: j.opts.Snapshot, Broken: broken})
	if err != nil {
		return err
	}
	if c.Interrupted != nil {
		return context.Cause(ctx)
	}
	back := c.Members[0].Backend
	if back == nil || !back.Complete {
		return errors.New("the new file cannot be read as a database, which is a mistake of this program")
	}
	for _, f := range c.Findings {
		j.result.Findings = append(j.result.Findings, j.published(f))
	}
	j.result.Keys = back.Keys.Live
	j.result.Revision = *back.Revision
	return nil
}

// published gives a finding of the new file as of the name that the file gets.
func (j *job) published(f inspect.Finding) inspect.Finding {
	for _, s := range []*string{&f.Member, &f.Location.File, &f.Message} {
		*s = strings.ReplaceAll(*s, j.part, j.opts.Out)
	}
	return f
}

// fill puts all buckets into the new database, in the order of their names.
func (j *job) fill(ctx context.Context, w *rebuild.Writer) error {
	r := j.result
	r.Index, r.CompactRevision = j.Index, j.CompactRevision()
	for _, p := range j.plans() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if p.base == nil {
			if err := w.Bucket(0, p.path...); err != nil {
				return err
			}
			r.Notes = append(r.Notes, fmt.Sprintf("bucket %s was not found, and is empty", p.path[0]))
			continue
		}
		if err := w.Bucket(p.base.Tree.Buckets[p.bucket].Sequence, p.path...); err != nil {
			return err
		}
		if len(p.path) == 1 {
			r.Buckets++
		}
		if p.base == j.base && p.bucket == j.key {
			if err := j.fillKey(ctx, w); err != nil {
				return err
			}
			continue
		}
		if p.was != "" {
			r.Notes = append(r.Notes, fmt.Sprintf("bucket %q has the records of %s, and is written as that", p.was, p.path[0]))
		}
		left := 0
		if err := p.base.rows(p.bucket, func() { left++ }, func(x row) error { return w.Put(x.key, x.value) }); err != nil {
			return err
		}
		r.Lost = append(r.Lost, p.base.unreadLosses(p.bucket)...)
		if left > 0 {
			holder := p.base.Tree.Buckets[p.bucket].Holder
			r.Lost = append(r.Lost, Loss{Page: &holder, Bucket: string(p.path[len(p.path)-1]), Reason: fmt.Sprintf("%d records that are not as etcd writes them", left)})
		}
	}
	return nil
}

// plans lists the buckets of the tree; where its own root bucket is damaged, those that
// only the tree of the transaction before still names; and those that nothing names.
func (j *job) plans() []bucketPlan {
	plans := j.bucketPlans()
	names := map[string]bool{}
	for _, p := range plans {
		names[string(p.path[0])] = true
	}
	if j.older != nil && j.Tree.Faults.InBucket(0) {
		plans = append(plans, j.olderPlans(names)...)
	}
	for _, name := range etcdBuckets {
		if !names[name] {
			plans = append(plans, bucketPlan{path: [][]byte{[]byte(name)}})
		}
	}
	return plans
}

// etcdBuckets are those that every etcd creates when it starts, and without which its
// tools fail.
var etcdBuckets = []string{
	keyspace.BucketKey, keyspace.BucketMeta, keyspace.BucketLease, keyspace.BucketAlarm, keyspace.BucketMembers,
	keyspace.BucketMembersRemoved, keyspace.BucketAuth, keyspace.BucketAuthUsers, keyspace.BucketAuthRoles,
}

// olderPlans lists the buckets of etcd's that only the tree of the transaction before
// names.
func (j *job) olderPlans(names map[string]bool) []bucketPlan {
	var plans []bucketPlan
	old := &base{file: j.file, mended: j.mended, db: j.older.Tree.File, WalkedTree: j.older, key: -1, unread: map[page.ID]error{}}
	for _, p := range old.bucketPlans() {
		if _, known := rowChecks[string(p.path[0])]; known && len(p.path) == 1 && !names[string(p.path[0])] {
			names[string(p.path[0])] = true
			plans = append(plans, p)
			j.result.Notes = append(j.result.Notes, fmt.Sprintf("bucket %s is that of the transaction before", p.path[0]))
		}
	}
	return plans
}

// fillKey puts the records of bucket key: those of the tree, and among them those that
// were found elsewhere.
func (j *job) fillKey(ctx context.Context, w *rebuild.Writer) error {
	extras := extraReader{found: j.extras}
	h := holes{result: j.result, before: keyspace.Revision{Main: max(j.CompactRevision(), 1)}, compacted: j.CompactRevision()}
	put := func(key, value []byte, rev keyspace.Revision) error {
		h.next(rev)
		j.result.Records++
		return w.Put(key, value)
	}
	n := 0
	var last keyspace.Revision
	for rec := range j.self.each(keyspace.Revision{}) {
		if n++; n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		replaced, err := extras.before(&rec.rev, put)
		if err != nil {
			return err
		}
		if rec.rev.Compare(last) <= 0 || replaced {
			continue
		}
		last = rec.rev
		if err := put(rec.Key, rec.Value, rec.rev); err != nil {
			return err
		}
	}
	if j.self.err != nil {
		return j.self.err
	}
	_, err := extras.before(nil, put)
	j.missing, j.partialAll = h.missing, h.partial
	return err
}

// An extraReader gives the records that were found outside the tree, in order.
type extraReader struct {
	found    []found
	page     found // whose page buf holds
	elements map[int]record
	buf      []byte
}

// before puts the records before rev, nil for all that are left. Of rev itself, which the
// tree has, it puts what has been decided to be in its place, and says so.
func (x *extraReader) before(rev *keyspace.Revision, put func(key, value []byte, rev keyspace.Revision) error) (replaced bool, err error) {
	for len(x.found) > 0 {
		f := x.found[0]
		order := -1
		if rev != nil {
			order = f.rev.Compare(*rev)
		}
		if order > 0 {
			return replaced, nil
		}
		x.found = x.found[1:]
		if order == 0 && !f.instead {
			continue
		}
		replaced = replaced || order == 0
		rec, ok := x.read(f)
		if !ok {
			return false, fmt.Errorf("revision %s can no longer be read from page %d", f.rev, f.page)
		}
		if err := put(rec.Key, rec.Value, rec.rev); err != nil {
			return false, err
		}
	}
	return replaced, nil
}

// read reads a record from its page, which was read before.
func (x *extraReader) read(f found) (record, bool) {
	if f.made != nil {
		return f.made.record(f.rev), true
	}
	if x.elements == nil || x.page.page != f.page || x.page.in != f.in {
		records, ok := x.readPage(f)
		if !ok {
			return record{}, false
		}
		x.page, x.elements = f, map[int]record{}
		for _, r := range records {
			x.elements[r.Index] = r
		}
	}
	r, ok := x.elements[f.element]
	return r, ok && r.rev.Compare(f.rev) == 0
}

func (x *extraReader) readPage(f found) ([]record, bool) {
	if f.inline != nil {
		r := leafReader{base: f.inline.base}
		return r.inline(), true
	}
	buf, elements, sound, ok := readStray(f.in, f.page, x.buf, nil)
	x.buf = buf
	if !ok {
		return nil, false
	}
	records, _ := provenOn(f.page, elements, sound, len(buf), nil)
	return records, true
}

// spansListed bounds the list of missing revisions.
const spansListed = 1000

// holes notes which revisions are missing above the compact revision: there the main
// revisions follow each other, and the operations within each.
type holes struct {
	result    *Result
	before    keyspace.Revision
	compacted int64
	begun     bool
	missing   []Span
	partial   []keyspace.Revision
}

func (h *holes) next(rev keyspace.Revision) {
	r := h.result
	if !r.CompactionKnown || rev.Main <= h.compacted {
		return
	}
	same := h.begun && rev.Main == h.before.Main
	if gap := rev.Main - h.before.Main - 1; !same && gap > 0 {
		r.MissingCount += gap
		h.missing = append(h.missing, Span{h.before.Main + 1, rev.Main - 1})
		if len(r.Missing) < spansListed {
			r.Missing = append(r.Missing, Span{h.before.Main + 1, rev.Main - 1})
		}
	}
	if !same && rev.Sub > 0 || same && rev.Sub != h.before.Sub+1 {
		h.partial = append(h.partial, rev)
		if len(r.Partial) < spansListed {
			r.Partial = append(r.Partial, rev)
		}
	}
	h.before, h.begun = rev, true
}

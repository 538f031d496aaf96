package replay

import (
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"etcd-forensics/snapdb/rebuild"
)

// finish closes the store and writes it to a new file as a snapshot, with its hash
// behind it. The file is given, too, to be brought to the disk; nil for none.
func (s *store) finish(work, out string) (*Done, *os.File, error) {
	s.be.ForceCommit()
	mark, err := s.mark()
	if err != nil {
		return nil, nil, err
	}
	done := &Done{Mark: mark, Counts: s.counts, Change: s.watched}
	done.CompactRevision = s.state().CompactRevision
	err = s.kv.Close()
	s.lessor.Stop()
	if err = errors.Join(err, s.be.Close()); err != nil || out == "" {
		return done, nil, err
	}
	f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, nil, err
	}
	if done.Size, done.SHA256, err = rewrite(work, f); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return done, f, nil
}

// rewrite fills a new database bucket by bucket in key order and writes that out. etcd's
// own defragmentation fills several buckets in one transaction, and bbolt lays those out
// in the order of a map, which differs from run to run. The work files are gone at the
// end, before the new one is brought to the disk: a file system may bring there all that
// is not yet, which nobody needs of them.
func rewrite(work string, out io.Writer) (size int64, sum []byte, err error) {
	anew, err := os.OpenFile(work+".anew", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, nil, err
	}
	defer os.Remove(anew.Name())
	w, err := fill(work, anew)
	if err != nil {
		return 0, nil, err
	}
	var removed sync.WaitGroup
	removed.Go(func() { os.Remove(work) })
	size, sum, err = w.WriteSnapshotTo(out)
	removed.Wait()
	return size, sum, errors.Join(err, w.Close())
}

// fill copies every bucket.
func fill(work string, anew *os.File) (w *rebuild.Writer, err error) {
	db, err := bbolt.Open(work, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Minute})
	if err != nil {
		return nil, errors.Join(err, anew.Close())
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	info, err := os.Stat(work)
	if err != nil {
		return nil, errors.Join(err, anew.Close())
	}
	if w, err = rebuild.New(anew, db.Info().PageSize, info.Size()); err != nil {
		return nil, err
	}
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error { return fillBucket(w, b, name) })
	})
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// fillBucket copies a bucket, its records before the buckets in it, which etcd has none of
// and other programs may.
func fillBucket(w *rebuild.Writer, b *bbolt.Bucket, path ...[]byte) error {
	if err := w.Bucket(b.Sequence(), path...); err != nil {
		return err
	}
	var within [][]byte
	err := b.ForEach(func(k, v []byte) error {
		if v == nil {
			within = append(within, k)
			return nil
		}
		return w.Put(k, v)
	})
	for i := 0; err == nil && i < len(within); i++ {
		err = fillBucket(w, b.Bucket(within[i]), append(slices.Clone(path), within[i])...)
	}
	return err
}

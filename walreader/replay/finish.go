package replay

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"os"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"etcd-forensics/snapdb/rebuild"
)

// finish closes the store and writes it to a new file as a snapshot, with its hash
// behind it.
func (s *store) finish(work, out string) (*Done, error) {
	s.be.ForceCommit()
	mark, err := s.mark()
	if err != nil {
		return nil, err
	}
	done := &Done{Mark: mark, Counts: s.counts, Change: s.watched}
	done.CompactRevision = s.state().CompactRevision
	err = s.kv.Close()
	s.lessor.Stop()
	if err = errors.Join(err, s.be.Close()); err != nil || out == "" {
		return done, err
	}
	done.Size, done.SHA256, err = save(work, out)
	return done, err
}

// save writes the database anew, bucket by bucket in key order, and gives the file's size
// and digest. etcd's own defragmentation fills several buckets in one transaction, and
// bbolt lays those out in the order of a map, which differs from run to run.
func save(work, out string) (size int64, sum []byte, err error) {
	db, err := bbolt.Open(work, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Minute})
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	info, err := os.Stat(work)
	if err != nil {
		return 0, nil, err
	}
	f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	anew, err := os.OpenFile(work+".anew", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, nil, err
	}
	defer os.Remove(anew.Name())
	w, err := rebuild.New(anew, db.Info().PageSize, info.Size())
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	whole := sha256.New()
	if size, err = fill(db, w, f, whole); err != nil {
		return 0, nil, err
	}
	return size, whole.Sum(nil), f.Sync()
}

// fill copies every bucket and writes what that gives.
func fill(db *bbolt.DB, w *rebuild.Writer, out io.Writer, whole hash.Hash) (size int64, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error { return fillBucket(w, b, name) })
	})
	if err != nil {
		return 0, err
	}
	return w.WriteTo(io.MultiWriter(out, whole), true)
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

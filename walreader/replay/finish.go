package replay

import (
	"cmp"
	"errors"
	"os"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"etcd-forensics/snapdb/rebuild"
)

// finish closes the store and says what was done.
func (s *store) finish() (*Done, error) {
	s.be.ForceCommit()
	mark, err := s.mark()
	if err != nil {
		return nil, err
	}
	done := &Done{Mark: mark, Counts: s.counts, Change: s.watched}
	done.CompactRevision = s.state().CompactRevision
	err = s.kv.Close()
	s.lessor.Stop()
	return done, errors.Join(err, s.be.Close())
}

// rewrite writes a database anew to an empty file, which it takes over, as a snapshot, with
// its hash behind it, and brings it to the disk. readable is called when all but the hash is
// there, which follows when it has been looked at: a file that changes while it is read proves
// nothing. The work file is gone before the new one is brought to the disk: a file system may
// bring there all that is not yet, which nobody needs of it. A page size of 0 is that of the copy.
func rewrite(work string, out *os.File, pageSize int, readable func(), looked <-chan struct{}) (written *Written, err error) {
	defer out.Close() // which has no effect where it was filled
	snapshot, err := fill(work, out, pageSize)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, snapshot.Close()) }()
	readable()
	os.Remove(work) // where that is in use, it goes with the folder
	err = snapshot.Sync()
	<-looked
	if err != nil {
		return nil, err
	}
	written = &Written{}
	if written.Size, written.SHA256, err = snapshot.End(); err != nil {
		return nil, err
	}
	return written, snapshot.Sync()
}

// fill copies every bucket in key order to a new database. etcd's own defragmentation fills
// several buckets in one transaction, and bbolt lays those out in the order of a map, which
// differs from run to run.
func fill(work string, out *os.File, pageSize int) (*rebuild.Snapshot, error) {
	db, err := bbolt.Open(work, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Minute})
	if err != nil {
		return nil, err
	}
	w, err := fillFrom(db, out, pageSize)
	if err = errors.Join(err, db.Close()); err != nil {
		if w != nil {
			err = errors.Join(err, w.Close())
		}
		return nil, err
	}
	return w.EndSnapshot()
}

// fillFrom gives the writer with an error, too, where there is one.
func fillFrom(db *bbolt.DB, out *os.File, pageSize int) (*rebuild.Writer, error) {
	info, err := os.Stat(db.Path())
	if err != nil {
		return nil, err
	}
	w, err := rebuild.New(out, cmp.Or(pageSize, db.Info().PageSize), info.Size())
	if err != nil {
		return nil, err
	}
	return w, db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error { return fillBucket(w, b, name) })
	})
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

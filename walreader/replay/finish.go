package replay

import (
	"cmp"
	"errors"
	"os"
	"slices"
	"sync"
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

// files are those that the end of an order makes.
type files struct {
	anew *os.File // what the database is copied to
	out  *os.File // what that is written to, with its hash
}

func createFiles(work, out string) (made files, err error) {
	if made.anew, err = os.OpenFile(work+".anew", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return made, err
	}
	if made.out, err = os.OpenFile(out, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return made, errors.Join(err, made.anew.Close(), os.Remove(made.anew.Name()))
	}
	return made, nil
}

// rewrite writes a database anew to a new file as a snapshot, with its hash behind it, and
// brings it to the disk. readable is called when all but the hash is there, which follows
// when it has been looked at: a file that changes while it is read proves nothing. The work
// files are gone before the new one is brought to the disk: a file system may bring there
// all that is not yet, which nobody needs of them. A page size of 0 is that of the copy.
func (f files) rewrite(work string, pageSize int, readable func(), looked <-chan struct{}) (written *Written, err error) {
	defer func() { err = errors.Join(err, f.out.Close()) }()
	snapshot, err := f.copy(work, pageSize)
	if err != nil {
		return nil, err
	}
	readable()
	var synced sync.WaitGroup
	var syncErr error
	synced.Go(func() {
		os.Remove(work) // where that is in use, it goes with the folder
		syncErr = f.out.Sync()
	})
	<-looked
	written = &Written{}
	written.Size, written.SHA256, err = snapshot.End()
	synced.Wait()
	return written, errors.Join(err, syncErr, f.out.Sync())
}

// copy fills a new database bucket by bucket in key order and writes that out. etcd's own
// defragmentation fills several buckets in one transaction, and bbolt lays those out in
// the order of a map, which differs from run to run.
func (f files) copy(work string, pageSize int) (snapshot *rebuild.Snapshot, err error) {
	defer os.Remove(f.anew.Name())
	w, err := fill(work, f.anew, pageSize)
	if err != nil {
		return nil, err
	}
	snapshot, err = w.Snapshot(f.out)
	return snapshot, errors.Join(err, w.Close())
}

// fill copies every bucket.
func fill(work string, anew *os.File, pageSize int) (w *rebuild.Writer, err error) {
	db, err := bbolt.Open(work, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Minute})
	if err != nil {
		return nil, errors.Join(err, anew.Close())
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	info, err := os.Stat(work)
	if err != nil {
		return nil, errors.Join(err, anew.Close())
	}
	if w, err = rebuild.New(anew, cmp.Or(pageSize, db.Info().PageSize), info.Size()); err != nil {
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

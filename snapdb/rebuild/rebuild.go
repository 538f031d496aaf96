// Package rebuild writes a new bbolt database from records in key order. It opens
// nothing but the empty file that it is given.
//
// The same records give the same bytes. Three things of bbolt's would not: the order
// in which a transaction writes several buckets (a map), the pages that the hashmap
// freelist hands out, and a stored freelist. So a transaction writes one bucket, the
// freelist is an array, and it is not stored, which is etcd's choice as well (bbolt
// v1.5.0, bucket.go, spill; internal/freelist; etcd v3.7.3,
// server/storage/backend/backend.go, NoFreelistSync).
package rebuild

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"

	"go.etcd.io/bbolt"
)

// batchBytes bounds the keys and values of one transaction, which bbolt holds in
// memory. What fits into a processor's cache is written fastest.
const batchBytes = 2 << 20

// recordBytes is what a record takes in memory beside its bytes, about.
const recordBytes = 100

// fillPercent is how full pages get: records come in order, and nothing is put between
// them later but what etcd appends at the end.
const fillPercent = 0.9

var errOrder = errors.New("records do not come in key order")

// A Writer fills one new database.
type Writer struct {
	db     *bbolt.DB
	tx     *bbolt.Tx
	bucket *bbolt.Bucket
	path   [][]byte // of the bucket being filled
	last   []byte
	values []byte // put in this transaction, one behind the other
	held   int64  // bytes put in this transaction
	room   *room  // nil where none was set aside
}

// New begins a database in an empty file, which it takes over: bbolt closes it.
// expected is the size that the database will have, about.
func New(work *os.File, pageSize int, expected int64) (*Writer, error) {
	mapped := 0
	if expected > 0 && expected < 1<<40 {
		mapped = int(expected)
	}
	if int64(mapped) != expected {
		mapped = 0 // more than an int holds: bbolt maps step by step
	}
	db, err := bbolt.Open(work.Name(), 0o600, &bbolt.Options{
		PageSize: pageSize, FreelistType: bbolt.FreelistArrayType, NoFreelistSync: true, NoSync: true, NoGrowSync: true, NoStatistics: true,
		InitialMmapSize: mapped,
		OpenFile:        func(string, int, os.FileMode) (*os.File, error) { return work, nil },
	})
	if err != nil {
		return nil, fmt.Errorf("new database: %w", err)
	}
	w := &Writer{db: db}
	// bbolt writes a page at a time, which a file system that has set the room aside takes
	// faster. What is too much goes when the file ends.
	if reserve(work, expected) {
		w.room = beginRoom(work, expected, fetch)
	}
	return w, nil
}

// Bucket begins a bucket; a path of several names leads into buckets that were begun
// before. What comes next is put there.
func (w *Writer) Bucket(sequence uint64, path ...[]byte) error {
	if err := w.commit(); err != nil {
		return err
	}
	if err := w.begin(path[:len(path)-1]); err != nil {
		return err
	}
	var parent interface {
		CreateBucket([]byte) (*bbolt.Bucket, error)
	} = w.tx
	if w.bucket != nil {
		parent = w.bucket
	}
	b, err := parent.CreateBucket(path[len(path)-1])
	if err != nil {
		return fmt.Errorf("bucket %q: %w", path, err)
	}
	if sequence != 0 {
		if err := b.SetSequence(sequence); err != nil {
			return err
		}
	}
	b.FillPercent = fillPercent
	w.bucket, w.path, w.last = b, path, nil
	return nil
}

// begin opens a transaction and goes down to a bucket.
func (w *Writer) begin(path [][]byte) error {
	var err error
	if w.tx, err = w.db.Begin(true); err != nil {
		return err
	}
	w.room.writeFrom(w.tx.Size())
	w.bucket, w.held = nil, 0
	for i, name := range path {
		if i == 0 {
			w.bucket = w.tx.Bucket(name)
		} else {
			w.bucket = w.bucket.Bucket(name)
		}
		if w.bucket == nil {
			return fmt.Errorf("bucket %q was not begun", path[:i+1])
		}
		w.bucket.FillPercent = fillPercent
	}
	return nil
}

// Put adds a record behind the one before.
func (w *Writer) Put(key, value []byte) error {
	if w.last != nil && bytes.Compare(w.last, key) >= 0 {
		return errOrder
	}
	if w.held > batchBytes {
		if err := w.commit(); err != nil {
			return err
		}
		if err := w.begin(w.path); err != nil {
			return err
		}
	}
	// bbolt keeps the value until the commit, and copies the key.
	w.values = append(w.values, value...) // where it moves, those before stay as they are
	if err := w.bucket.Put(key, slices.Clip(w.values[len(w.values)-len(value):])); err != nil {
		return fmt.Errorf("put in bucket %q: %w", w.path, err)
	}
	w.held += int64(len(key)+len(value)) + recordBytes
	w.last = append(w.last[:0], key...)
	return nil
}

func (w *Writer) commit() error {
	if w.tx == nil {
		return nil
	}
	tx := w.tx
	w.tx = nil
	err := tx.Commit()
	if w.values = w.values[:0]; cap(w.values) > 2*batchBytes {
		w.values = nil
	}
	return err
}

// End finishes the database in the file itself, which then ends at the high-water mark, and
// gives the file up. Its metas are as those of a file that bbolt writes out: both name one
// tree, and page 0 the later transaction (bbolt v1.5.0, tx.go, WriteTo).
func (w *Writer) End() (size int64, err error) {
	path := w.db.Path()
	err = w.commit()
	for even := false; err == nil && !even; {
		err = w.db.Update(func(tx *bbolt.Tx) error { // of no change; page 0 has the even ones
			size, even = tx.Size(), tx.ID()%2 == 0
			return nil
		})
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return 0, err
	}
	return size, os.Truncate(path, size)
}

// Close gives the file up.
func (w *Writer) Close() error {
	var err error
	w.room.end()
	w.room = nil
	if w.tx != nil {
		err = w.tx.Rollback()
		w.tx = nil
	}
	return errors.Join(err, w.db.Close())
}

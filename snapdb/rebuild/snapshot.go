package rebuild

import (
	"crypto/sha256"
	"hash"
	"io"
	"os"
)

// A Snapshot is a finished database whose SHA-256, which `etcdctl snapshot save` appends, is
// being computed. It has the file open until it is closed.
type Snapshot struct {
	file   *os.File
	size   int64 // of the database, in bytes
	summed chan summed
}

// summed is what came of summing.
type summed struct {
	sum hash.Hash
	err error
}

// EndSnapshot finishes the database in the file itself, as End does, and begins to compute
// its hash. That file can be read when it returns, and changes at the end of the Snapshot.
func (w *Writer) EndSnapshot() (*Snapshot, error) {
	path := w.db.Path()
	size, err := w.End()
	if err != nil {
		return nil, err
	}
	s := &Snapshot{size: size, summed: make(chan summed, 1)}
	if s.file, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		return nil, err
	}
	go func() {
		sum := sha256.New()
		n, err := io.CopyBuffer(sum, io.NewSectionReader(s.file, 0, size), make([]byte, chunkBytes))
		if err == nil && n < size {
			err = io.ErrUnexpectedEOF
		}
		s.summed <- summed{sum, err}
	}()
	return s, nil
}

// chunkBytes is what is read at a time: it fits a processor's cache.
const chunkBytes = 1 << 18

// Sync brings the file to the disk, as far as it is written.
func (s *Snapshot) Sync() error { return s.file.Sync() }

// End waits for the hash and writes it behind the database. The size and the digest of the
// whole are given.
func (s *Snapshot) End() (size int64, digest []byte, err error) {
	is := <-s.summed
	if is.err != nil {
		return s.size, nil, is.err
	}
	hash := is.sum.Sum(nil)
	n, err := s.file.WriteAt(hash, s.size)
	is.sum.Write(hash)
	return s.size + int64(n), is.sum.Sum(nil), err
}

// Close gives the file up.
func (s *Snapshot) Close() error { return s.file.Close() }

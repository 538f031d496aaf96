package rebuild

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"os"
)

// A File is what a snapshot is written to. Its hash is computed of what can be read again.
type File interface {
	io.Writer
	io.ReaderAt
}

// A Snapshot is a finished database that is written to a file, while its SHA-256, which
// `etcdctl snapshot save` appends, is being computed.
type Snapshot struct {
	size   int64 // of the database, in bytes
	out    File
	summed chan summed
}

// summed is what came of summing.
type summed struct {
	sum hash.Hash
	err error
}

// Snapshot writes the finished database. It needs the Writer no longer when it returns.
func (w *Writer) Snapshot(out File) (*Snapshot, error) {
	s := &Snapshot{out: out, summed: make(chan summed, 1)}
	written := &meter{out: out, total: make(newest, 1)}
	go func() { s.summed <- sumBehind(out, written.total) }()
	buffered := bufio.NewWriterSize(written, chunkBytes)
	size, err := w.WriteTo(buffered)
	if err == nil {
		err = buffered.Flush()
	}
	close(written.total)
	if err != nil {
		return nil, err
	}
	s.size = size
	return s, nil
}

// End waits for the hash and writes it behind the database. The size and the digest of
// the whole are given.
func (s *Snapshot) End() (size int64, digest []byte, err error) {
	is := <-s.summed
	if is.err != nil {
		return s.size, nil, is.err
	}
	hash := is.sum.Sum(nil)
	n, err := s.out.Write(hash)
	is.sum.Write(hash)
	return s.size + int64(n), is.sum.Sum(nil), err
}

// EndSnapshot finishes the database in the file itself, as End does, and writes its SHA-256
// behind it. The size is that of both.
func (w *Writer) EndSnapshot() (size int64, err error) {
	path := w.db.Path()
	if size, err = w.End(); err != nil {
		return 0, err
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, io.NewSectionReader(file, 0, size), make([]byte, chunkBytes)); err != nil {
		return 0, err
	}
	n, err := file.WriteAt(sum.Sum(nil), size)
	return size + int64(n), err
}

// chunkBytes is what is written, and read again, at a time: it fits a processor's cache.
const chunkBytes = 1 << 18

// A meter tells how many bytes are written.
type meter struct {
	out     io.Writer
	written int64
	total   newest
}

func (m *meter) Write(b []byte) (int, error) {
	n, err := m.out.Write(b)
	m.written += int64(n)
	m.total.tell(m.written)
	return n, err
}

// sumBehind computes the digest of a file that grows: writing is several times as fast as
// SHA-256, and who wrote a file can go on with it.
func sumBehind(r io.ReaderAt, total <-chan int64) summed {
	sum, chunk, at := sha256.New(), make([]byte, chunkBytes), int64(0)
	for until := range total {
		for at < until {
			n, err := r.ReadAt(chunk[:min(until-at, chunkBytes)], at)
			if err != nil && (n == 0 || !errors.Is(err, io.EOF)) {
				return summed{err: err}
			}
			sum.Write(chunk[:n])
			at += int64(n)
		}
	}
	return summed{sum: sum}
}

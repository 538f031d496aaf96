package source

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// A File is one file of the evidence, open for reading only.
type File struct {
	Path string // as a user would write it: the PATH given, and what follows below it

	f        *os.File
	closer   io.Closer // f, or what takes it away
	before   os.FileInfo
	unpacked bool      // f is a private copy of an archive's entry
	name     string    // of an unpacked file: the last part of the entry's
	modified time.Time // of an unpacked file: as the archive says; zero when it does not
	progress func(bytes int64)

	digest   [sha256.Size]byte
	digested bool
}

// openFile opens path without asking for more than to read it. It is not locked,
// not mapped, and a pipe or device is refused, since opening one can block or
// change it.
func openFile(path string, progress func(bytes int64)) (*File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, plain(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", show(path))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, plain(path, err)
	}
	if info, err = f.Stat(); err != nil {
		f.Close()
		return nil, plain(path, err)
	}
	return &File{Path: path, f: f, closer: f, before: info, progress: progress}, nil
}

var _ io.ReaderAt = (*File)(nil)

// ReadAt implements io.ReaderAt and reports what it gives as progress.
func (f *File) ReadAt(b []byte, offset int64) (int, error) {
	n, err := f.f.ReadAt(b, offset)
	if f.progress != nil {
		f.progress(int64(n))
	}
	return n, err
}

// Name gives the last part of the path.
func (f *File) Name() string {
	if f.unpacked {
		return f.name
	}
	return filepath.Base(f.Path)
}

// Size gives the file's bytes when it was opened.
func (f *File) Size() int64 { return f.before.Size() }

// ModTime gives the time of the last modification.
func (f *File) ModTime() time.Time {
	if f.unpacked {
		return f.modified
	}
	return f.before.ModTime()
}

// SetDigest records the SHA-256 of the whole file.
func (f *File) SetDigest(sum [sha256.Size]byte) { f.digest, f.digested = sum, true }

// Digest gives the SHA-256 of the whole file, when it was computed.
func (f *File) Digest() ([sha256.Size]byte, bool) { return f.digest, f.digested }

// Changed says how the file differs from what was opened, "" when it does not:
// its size or time moved, or another file lies at its path.
func (f *File) Changed() string {
	if f.unpacked {
		return "" // the archive is asked
	}
	now, err := f.f.Stat()
	if err != nil {
		return err.Error()
	}
	if now.Size() != f.before.Size() {
		return fmt.Sprintf("its size was %d bytes and is %d", f.before.Size(), now.Size())
	}
	if !now.ModTime().Equal(f.before.ModTime()) {
		return fmt.Sprintf("its modification time was %s and is %s",
			f.before.ModTime().UTC().Format(timeFormat), now.ModTime().UTC().Format(timeFormat))
	}
	if there, err := os.Stat(f.f.Name()); err != nil {
		return "it is no longer at its path"
	} else if !os.SameFile(now, there) {
		return "another file lies at its path"
	}
	return ""
}

const timeFormat = "2006-01-02T15:04:05.000000000Z"

// Close closes the file. An archive is closed once for each of its sources.
func (f *File) Close() error {
	if err := f.closer.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

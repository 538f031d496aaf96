package redact

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// chunkSize is the bytes read at once where a file has no parts.
const chunkSize = 1 << 20

// An input is one file of the evidence.
type input struct {
	name string
	r    io.ReaderAt
	size int64
}

// readAt fills b.
func readAt(src io.ReaderAt, b []byte, at int64) ([]byte, error) {
	if n, err := src.ReadAt(b, at); n < len(b) {
		return nil, fmt.Errorf("read %d bytes at %d: %w", len(b), at, err)
	}
	return b, nil
}

// A writer writes a new file from front to back. Blocks of zeros take no space.
type writer struct {
	f    *os.File
	size int64
}

// create makes a file that is not there yet, and the folders above it.
func create(path string) (*writer, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &writer{f: f}, nil
}

func (w *writer) write(b []byte) error {
	const block = 4096
	for len(b) > 0 {
		part := b[:min(len(b), block-int(w.size%block))]
		if len(part) < block || !zeros(part) {
			if _, err := w.f.WriteAt(part, w.size); err != nil {
				return err
			}
		}
		w.size += int64(len(part))
		b = b[len(part):]
	}
	return nil
}

func zeros(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// close ends the file, which takes the time of the one that it is a copy of.
func (w *writer) close(modified time.Time) error {
	err := w.f.Truncate(w.size)
	if cerr := w.f.Close(); err == nil {
		err = cerr
	}
	if err == nil && !modified.IsZero() {
		err = os.Chtimes(w.f.Name(), modified, modified)
	}
	return err
}

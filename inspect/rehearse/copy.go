package rehearse

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"etcd-forensics/inspect/source"
)

// dbSize gives the bytes of the largest database of a source.
func dbSize(s *source.Source) (n int64) {
	if s.DB != nil {
		n = s.DB.Size()
	}
	for _, f := range s.Received {
		n = max(n, f.Size())
	}
	return n
}

// directorySize gives the bytes of what copyMember copies.
func directorySize(s *source.Source) (n int64) {
	for _, f := range memberFiles(s, "") {
		n += f.Size()
	}
	return n
}

// openedDB gives the database of a source that etcd would open.
func openedDB(s *source.Source, path string) *source.File {
	for _, f := range s.Received {
		if f.Path == path {
			return f
		}
	}
	return s.DB
}

// memberFiles lists what etcd reads of a member's directory, by where it lies in a data
// directory below dir.
func memberFiles(s *source.Source, dir string) map[string]*source.File {
	files := map[string]*source.File{}
	snap, wal := filepath.Join(dir, "member", "snap"), filepath.Join(dir, "member", "wal")
	if s.DB != nil {
		files[filepath.Join(snap, "db")] = s.DB
	}
	for _, f := range append(append([]*source.File{}, s.Received...), s.Snaps...) {
		files[filepath.Join(snap, f.Name())] = f
	}
	for _, f := range s.WAL {
		files[filepath.Join(wal, f.Name())] = f
	}
	return files
}

// copyMember makes a data directory of a source's files.
func copyMember(ctx context.Context, s *source.Source, dir string) error {
	for _, sub := range []string{"snap", "wal"} {
		if err := os.MkdirAll(filepath.Join(dir, "member", sub), 0o700); err != nil {
			return err
		}
	}
	for to, from := range memberFiles(s, dir) {
		if err := copyFile(ctx, to, from, from.Size()); err != nil {
			return err
		}
	}
	return nil
}

// block is what is copied at a time; one of zeros is left as a hole.
const block = 1 << 20

// copyFile copies size bytes to a new file.
func copyFile(ctx context.Context, to string, from io.ReaderAt, size int64) (err error) {
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(size); err != nil {
		return err
	}
	buf, zeros := make([]byte, block), make([]byte, block)
	for at := int64(0); at < size; at += block {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buf[:min(block, size-at)]
		if _, err := from.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if bytes.Equal(b, zeros[:len(b)]) {
			continue
		}
		if _, err := f.WriteAt(b, at); err != nil {
			return err
		}
	}
	return nil
}

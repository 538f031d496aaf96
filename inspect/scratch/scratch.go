// Package scratch holds private temporary files: what is unpacked or worked on
// lies there, never beside evidence.
package scratch

import (
	"errors"
	"fmt"
	"os"
)

// Dir gives the folder for temporary files: dir, or the system's when it is "".
func Dir(dir string) string {
	if dir == "" {
		return os.TempDir()
	}
	return dir
}

// A File is a temporary file that only this process can open, and that goes away
// with it where the system allows that.
type File struct {
	*os.File
	path string // "" when the file has no name any more
}

// New makes an empty file in dir.
func New(dir string) (*File, error) {
	f, err := os.CreateTemp(Dir(dir), "etcd-forensics-*")
	if err != nil {
		return nil, fmt.Errorf("no scratch file: %w", err)
	}
	// A file without a name cannot be left behind, not even by a kill. Windows
	// keeps the name while the file is open.
	if os.Remove(f.Name()) == nil {
		return &File{File: f}, nil
	}
	return &File{f, f.Name()}, nil
}

// Close removes the file, which may have been closed by what it was handed to. Closing
// it again does nothing.
func (f *File) Close() error {
	err := f.File.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	if f.path != "" {
		err = errors.Join(err, os.Remove(f.path))
		f.path = ""
	}
	return err
}

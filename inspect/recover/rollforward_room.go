package recover

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"

	"etcd-forensics/inspect/scratch"
)

// marginBytes is what a roll may take besides what its input lets expect.
const marginBytes = 64 << 20

// checkSpace looks whether the copy and the entries, in pages that may be half empty, fit
// into the scratch folder, and the result where it shall lie. Where both are of one file
// system, what was said of pages makes up for the result.
func (r *rolling) checkSpace() error {
	size := r.logs.bytes()
	if r.base != nil {
		size += r.base.file.Size()
	}
	if err := fits(scratch.Dir(r.o.Scratch), 2*size+marginBytes, "name a larger folder with --scratch"); err != nil {
		return err
	}
	return fits(filepath.Dir(r.Out), size+marginBytes, "name another place with -o")
}

// bytes gives the bytes that the entries to be applied take in their logs, on average.
func (ls *logs) bytes() (n int64) {
	for _, s := range ls.spans {
		l := ls.list[s.log].Log
		whole := int64(0)
		for _, seg := range l.Segments {
			whole += seg.End
		}
		n += int64(float64(whole) * min(1, float64(s.last-s.first+1)/float64(max(l.Found.Count, 1))))
	}
	return n
}

// errNoSpace says that a folder is too small.
type errNoSpace struct{ text string }

func (e errNoSpace) Error() string { return e.text }

func fits(dir string, needed int64, help string) error {
	free, known := scratch.Free(dir)
	if !known || free >= needed {
		return nil
	}
	return errNoSpace{fmt.Sprintf("this needs up to %s in %s, and %s are free; %s", humanize.IBytes(uint64(needed)), dir, humanize.IBytes(uint64(free)), help)}
}

// newRoom makes a private folder.
func newRoom(dir string) (string, error) {
	dir, err := filepath.Abs(scratch.Dir(dir)) // the child works in it
	if err != nil {
		return "", err
	}
	room, err := os.MkdirTemp(dir, "etcd-forensics-recover-*") // 0700
	if err != nil {
		return "", fmt.Errorf("no scratch folder: %w", err)
	}
	return room, nil
}

// partial makes an empty file beside out, which becomes it when it is complete.
func partial(out string) (string, error) {
	out, err := filepath.Abs(out)
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(filepath.Dir(out), ".etcd-forensics-*.partial") // 0600
	if err != nil {
		return "", err
	}
	if err := f.Close(); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// appear gives the complete file its name, and never takes one that is there.
func appear(part, out string) error {
	err := os.Link(part, out)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	// Not every file system has links.
	if _, err := os.Lstat(out); err == nil {
		return &fs.PathError{Op: "rename", Path: out, Err: fs.ErrExist}
	}
	return os.Rename(part, out)
}

// Package source recognises what was handed in, by content, and opens it for
// reading only: nothing is locked, mapped, created or renamed.
package source

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// A Kind is what a source is.
type Kind string

const (
	KindSnapshot  Kind = "snapshot"   // a file that `snapshot save` wrote, or like it
	KindBackend   Kind = "backend"    // a member's database by itself
	KindDataDir   Kind = "data-dir"   // what etcd's --data-dir names
	KindMemberDir Kind = "member-dir" // the member folder in it
	KindWALDir    Kind = "wal-dir"    // the wal folder in that
)

// A Source is one thing that was handed in.
type Source struct {
	Path string // as it was given; PATH/sub for one of several below a PATH
	Kind Kind

	// DB is the database: the file itself, or snap/db of a directory; nil when
	// there is none.
	DB *File
	// ByPlace is set when DB is a database because of where it lies, whatever is
	// in it.
	ByPlace bool
}

// Options control how paths are opened.
type Options struct {
	// WALDir names the WAL of a data directory when it lies elsewhere.
	WALDir string
	// Progress is called with the bytes read since the last call, from several
	// goroutines.
	Progress func(bytes int64)
}

// Open opens each path. A path that holds several sources one level down gives
// several. A problem is one sentence that names the path.
func Open(paths []string, opts Options) (sources []*Source, problems []error) {
	for _, p := range paths {
		found, errs := open(p, opts)
		sources = append(sources, found...)
		problems = append(problems, errs...)
	}
	return sources, problems
}

func open(path string, opts Options) ([]*Source, []error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, []error{plain(path, err)}
	}
	if !info.IsDir() {
		s, err := openLone(path, opts)
		if err != nil {
			return nil, []error{err}
		}
		return []*Source{s}, nil
	}
	if s, err := openDir(path, opts); err != nil {
		return nil, []error{err}
	} else if s != nil {
		return []*Source{s}, nil
	}
	return openBelow(path, opts)
}

// openBelow looks for sources among the entries of a directory.
func openBelow(path string, opts Options) (sources []*Source, problems []error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, []error{plain(path, err)}
	}
	for _, e := range entries {
		sub := filepath.Join(path, e.Name())
		info, err := os.Stat(sub)
		if err != nil {
			continue // a dangling link, or a loop of links
		}
		var s *Source
		switch {
		case info.IsDir():
			s, err = openDir(sub, opts)
		case info.Mode().IsRegular() && looksLikeDatabase(sub):
			s, err = openLone(sub, opts)
		default:
			continue
		}
		if err != nil {
			problems = append(problems, err)
		} else if s != nil {
			sources = append(sources, s)
		}
	}
	if len(sources) == 0 && len(problems) == 0 {
		problems = []error{fmt.Errorf("%s: no etcd files in it or one level down; looked for member/, snap/db, wal/*.wal and databases", show(path))}
	}
	return sources, problems
}

// openLone opens a path that names a file.
func openLone(path string, opts Options) (*Source, error) {
	f, err := openFile(path, opts.Progress)
	if err != nil {
		return nil, err
	}
	kind, err := recognise(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", show(path), err)
	}
	return &Source{Path: path, Kind: kind, DB: f}, nil
}

// openDir opens a path that names a directory of etcd's. It gives nil when the
// directory is none.
func openDir(path string, opts Options) (*Source, error) {
	member := filepath.Join(path, "member")
	switch {
	case isMember(member):
		return openMember(path, member, KindDataDir, opts)
	case isMember(path):
		return openMember(path, path, KindMemberDir, opts)
	case hasFile(path, ".wal"):
		return &Source{Path: path, Kind: KindWALDir}, nil
	}
	// A directory that cannot be looked into is not the same as one without
	// anything in it.
	if _, err := os.ReadDir(path); err != nil {
		return nil, plain(path, err)
	}
	return nil, nil
}

func openMember(path, member string, kind Kind, opts Options) (*Source, error) {
	s := &Source{Path: path, Kind: kind, ByPlace: true}
	f, err := openFile(filepath.Join(member, "snap", "db"), opts.Progress)
	switch {
	case err == nil:
		s.DB = f
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return s, nil
}

// isMember says whether a directory is a member's: it has a database where etcd
// keeps it, or WAL segments, or .snap files.
func isMember(path string) bool {
	if info, err := os.Stat(filepath.Join(path, "snap", "db")); err == nil && !info.IsDir() {
		return true
	}
	return hasFile(filepath.Join(path, "wal"), ".wal") || hasFile(filepath.Join(path, "snap"), ".snap")
}

func hasFile(dir, suffix string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		return !e.IsDir() && strings.HasSuffix(e.Name(), suffix)
	})
}

// Files lists the files that were opened.
func (s *Source) Files() []*File {
	if s.DB == nil {
		return nil
	}
	return []*File{s.DB}
}

// Size gives the bytes of the files that were opened.
func (s *Source) Size() int64 {
	var n int64
	for _, f := range s.Files() {
		n += f.Size()
	}
	return n
}

// Close closes the files.
func (s *Source) Close() error {
	var errs []error
	for _, f := range s.Files() {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// plain makes one sentence of what the system said about a path.
func plain(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return sentence{show(path) + ": no such file or directory", err}
	case errors.Is(err, fs.ErrPermission):
		return sentence{show(path) + ": no permission to read it", err}
	case errors.Is(err, syscall.ELOOP):
		return sentence{show(path) + ": a loop of symbolic links", err}
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return sentence{fmt.Sprintf("%s: %v", show(path), err), err}
}

type sentence struct {
	text  string
	cause error
}

func (s sentence) Error() string { return s.text }
func (s sentence) Unwrap() error { return s.cause }

// show quotes a path only when it needs it.
func show(path string) string {
	if q := strconv.QuoteToGraphic(path); q[1:len(q)-1] != path || path == "" {
		return q
	}
	return path
}

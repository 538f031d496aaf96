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

	// What lies beside it in a member directory. Of Strays only the names are
	// known: etcd does not read them.
	Received []*File // <index>.snap.db: databases that a leader sent
	Snaps    []*File // *.snap
	WAL      []*File // *.wal
	WALDir   string  // where the WAL is or should be, "" for a lone file
	SnapDir  string
	Strays   []Stray
	Unread   []error // files beside the database that could not be opened
}

// A Stray is a file in a member's directories that was not opened.
type Stray struct {
	Path string
	Name string // its last part
	WAL  bool   // it lies in the WAL directory, otherwise beside the database
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
	if opts.WALDir != "" && len(sources) > 0 && (len(sources) > 1 || sources[0].SnapDir == "") {
		for _, s := range sources {
			s.Close()
		}
		return nil, append(problems, errors.New("--wal-dir goes with one data directory"))
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
		s := &Source{Path: path, Kind: KindWALDir, WALDir: path}
		return s, s.openWAL(opts)
	}
	// A directory that cannot be looked into is not the same as one without
	// anything in it.
	if _, err := os.ReadDir(path); err != nil {
		return nil, plain(path, err)
	}
	return nil, nil
}

func openMember(path, member string, kind Kind, opts Options) (*Source, error) {
	s := &Source{Path: path, Kind: kind, ByPlace: true, SnapDir: filepath.Join(member, "snap"), WALDir: filepath.Join(member, "wal")}
	if opts.WALDir != "" {
		s.WALDir = opts.WALDir
	}
	err := s.openSnap(opts)
	if err == nil {
		err = s.openWAL(opts)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// openSnap opens the database and what lies beside it.
func (s *Source) openSnap(opts Options) error {
	return eachFile(s.SnapDir, func(path, name string) error {
		var to *[]*File
		switch {
		case name == "db":
			f, err := openFile(path, opts.Progress)
			s.DB = f
			return err
		case strings.HasSuffix(name, ".snap.db"):
			to = &s.Received
		case strings.HasSuffix(name, ".snap"):
			to = &s.Snaps
		default:
			s.Strays = append(s.Strays, Stray{Path: path, Name: name})
			return nil
		}
		s.open(path, to, opts)
		return nil
	})
}

// open opens a file beside the database. One that cannot be opened does not keep
// the others from being judged.
func (s *Source) open(path string, to *[]*File, opts Options) {
	f, err := openFile(path, opts.Progress)
	if err != nil {
		s.Unread = append(s.Unread, err)
		return
	}
	*to = append(*to, f)
}

// openWAL opens the segments.
func (s *Source) openWAL(opts Options) error {
	return eachFile(s.WALDir, func(path, name string) error {
		if !strings.HasSuffix(name, ".wal") {
			s.Strays = append(s.Strays, Stray{Path: path, Name: name, WAL: true})
			return nil
		}
		s.open(path, &s.WAL, opts)
		return nil
	})
}

// eachFile visits the entries of a directory that are no directories, in the
// order of their names. A directory that is not there has none.
func eachFile(dir string, visit func(path, name string) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return plain(dir, err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			continue // a folder, or a link that leads nowhere
		}
		if err := visit(path, e.Name()); err != nil {
			return err
		}
	}
	return nil
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
	var files []*File
	if s.DB != nil {
		files = append(files, s.DB)
	}
	return slices.Concat(files, s.Received, s.Snaps, s.WAL)
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

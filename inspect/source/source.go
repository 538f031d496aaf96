// Package source recognises what was handed in, by content, and opens it for
// reading only: nothing is locked, mapped, created or renamed.
package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
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

	// Archive is the file from which the others were unpacked; nil when they were
	// handed in as they are.
	Archive *File

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
	// Scratch is the folder for what is unpacked; "" for the system's.
	Scratch string
	// ScratchLimit is the most bytes that one archive may unpack to; 0 for
	// DefaultScratchLimit.
	ScratchLimit int64
}

// Open opens each path. A path that holds several sources one level down gives
// several. An archive is unpacked first. A problem is one sentence that names the
// path. Sources that were opened when ctx ended are given all the same.
func Open(ctx context.Context, paths []string, opts Options) (sources []*Source, problems []error) {
	for _, p := range paths {
		found, errs := open(ctx, p, opts)
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

func open(ctx context.Context, path string, opts Options) ([]*Source, []error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, []error{plain(path, err)}
	}
	on := finder{ctx, disk{opts.Progress}, opts}
	if !info.IsDir() {
		return on.file(path)
	}
	return on.dir(path)
}

// A finder looks for sources in a tree.
type finder struct {
	ctx  context.Context
	tree tree
	opts Options
}

// file opens a path that names a file. An archive can hold several sources.
func (d finder) file(path string) ([]*Source, []error) {
	f, err := d.tree.open(path)
	if err != nil {
		return nil, []error{err}
	}
	kind, err := recognise(f)
	if format, ok := errors.AsType[packedError](err); ok {
		sources, problems := openArchive(d.ctx, f, string(format), d.opts)
		if len(sources) == 0 {
			f.Close()
		}
		return sources, problems
	}
	if err != nil {
		f.Close()
		return nil, []error{fmt.Errorf("%s: %w", show(f.Path), err)}
	}
	return []*Source{{Path: f.Path, Kind: kind, DB: f}}, nil
}

// dir opens a path that names a folder: a source, or one that holds some.
func (d finder) dir(path string) ([]*Source, []error) {
	if s, err := d.openDir(path); err != nil {
		return nil, []error{err}
	} else if s != nil {
		return []*Source{s}, nil
	}
	return d.below(path)
}

// below looks for sources among the entries of a folder.
func (d finder) below(path string) (sources []*Source, problems []error) {
	entries, err := d.tree.list(path)
	if err != nil {
		return nil, []error{plain(d.tree.shown(path), err)}
	}
	for _, e := range entries {
		sub := d.tree.join(path, e.name)
		var found []*Source
		var errs []error
		switch {
		case e.dir:
			s, err := d.openDir(sub)
			if err != nil {
				errs = []error{err}
			} else if s != nil {
				found = []*Source{s}
			}
		case e.regular && d.tree.hasMeta(sub):
			found, errs = d.file(sub)
		case e.regular && d.tree.isPacked(sub):
			if found, errs = d.file(sub); len(errs) == 1 && errors.Is(errs[0], errNothing) {
				errs = nil // an archive of something else, as OpenShift has beside its snapshots
			}
		}
		sources = append(sources, found...)
		problems = append(problems, errs...)
	}
	if len(sources) == 0 && len(problems) == 0 {
		problems = []error{sentence{show(d.tree.shown(path)) + ": no etcd files in it or one level down; looked for member/, snap/db, wal/*.wal and databases", errNothing}}
	}
	return sources, problems
}

// errNothing is the cause of a problem when there is nothing of etcd's.
var errNothing = errors.New("no etcd files")

// openDir opens a folder of etcd's. It gives nil when the folder is none.
func (d finder) openDir(path string) (*Source, error) {
	member := d.tree.join(path, "member")
	switch {
	case d.isMember(member):
		return d.openMember(path, member, KindDataDir)
	case d.isMember(path):
		return d.openMember(path, path, KindMemberDir)
	case d.has(path, ".wal"):
		s := &Source{Path: d.tree.shown(path), Kind: KindWALDir, WALDir: d.tree.shown(path)}
		return s, d.openWAL(s, path)
	}
	// A folder that cannot be looked into is not the same as one without
	// anything in it.
	if _, err := d.tree.list(path); err != nil {
		return nil, plain(d.tree.shown(path), err)
	}
	return nil, nil
}

func (d finder) openMember(path, member string, kind Kind) (*Source, error) {
	snap, wal := d.tree.join(member, "snap"), d.tree.join(member, "wal")
	s := &Source{Path: d.tree.shown(path), Kind: kind, ByPlace: true, SnapDir: d.tree.shown(snap), WALDir: d.tree.shown(wal)}
	err := d.openSnap(s, snap)
	if err == nil {
		if d.opts.WALDir != "" {
			s.WALDir = d.opts.WALDir
			err = finder{d.ctx, disk{d.opts.Progress}, d.opts}.openWAL(s, s.WALDir)
		} else {
			err = d.openWAL(s, wal)
		}
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// openSnap opens the database and what lies beside it.
func (d finder) openSnap(s *Source, dir string) error {
	return d.eachFile(dir, func(path, name string) error {
		var to *[]*File
		switch {
		case name == "db":
			f, err := d.tree.open(path)
			s.DB = f
			return err
		case strings.HasSuffix(name, ".snap.db"):
			to = &s.Received
		case strings.HasSuffix(name, ".snap"):
			to = &s.Snaps
		default:
			s.Strays = append(s.Strays, Stray{Path: d.tree.shown(path), Name: name})
			return nil
		}
		d.openBeside(s, path, to)
		return nil
	})
}

// openBeside opens a file beside the database. One that cannot be opened does not
// keep the others from being judged.
func (d finder) openBeside(s *Source, path string, to *[]*File) {
	f, err := d.tree.open(path)
	if err != nil {
		s.Unread = append(s.Unread, err)
		return
	}
	*to = append(*to, f)
}

// openWAL opens the segments.
func (d finder) openWAL(s *Source, dir string) error {
	return d.eachFile(dir, func(path, name string) error {
		if !strings.HasSuffix(name, ".wal") {
			s.Strays = append(s.Strays, Stray{Path: d.tree.shown(path), Name: name, WAL: true})
			return nil
		}
		d.openBeside(s, path, &s.WAL)
		return nil
	})
}

// eachFile visits the entries of a folder that are no folders, in the order of
// their names. A folder that is not there has none.
func (d finder) eachFile(dir string, visit func(path, name string) error) error {
	entries, err := d.tree.list(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return plain(d.tree.shown(dir), err)
	}
	for _, e := range entries {
		if e.dir {
			continue
		}
		if err := visit(d.tree.join(dir, e.name), e.name); err != nil {
			return err
		}
	}
	return nil
}

// isMember says whether a folder is a member's: it has a database where etcd
// keeps it, or WAL segments, or .snap files.
func (d finder) isMember(path string) bool {
	snap := d.tree.join(path, "snap")
	return d.any(snap, func(name string) bool { return name == "db" || strings.HasSuffix(name, ".snap") }) ||
		d.has(d.tree.join(path, "wal"), ".wal")
}

// IsMember says whether a folder is a member's data directory or the member folder
// in it, or a WAL directory.
func IsMember(path string) bool {
	d := finder{tree: disk{}}
	return d.isMember(filepath.Join(path, "member")) || d.isMember(path) || d.has(path, ".wal")
}

func (d finder) has(dir, suffix string) bool {
	return d.any(dir, func(name string) bool { return strings.HasSuffix(name, suffix) })
}

// any says whether a folder has an entry, no folder, with such a name.
func (d finder) any(dir string, matches func(name string) bool) bool {
	entries, err := d.tree.list(dir)
	return err == nil && slices.ContainsFunc(entries, func(e node) bool { return !e.dir && matches(e.name) })
}

// Files lists the files that were opened.
func (s *Source) Files() []*File {
	var files []*File
	if s.Archive != nil {
		files = append(files, s.Archive)
	}
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

// Time gives the modification time of the database, or of the newest file when there
// is none. That of an entry of an archive is the archive's word.
func (s *Source) Time() time.Time {
	var newest time.Time
	for _, f := range s.Files() {
		if f == s.DB {
			return f.ModTime()
		}
		if t := f.ModTime(); t.After(newest) && f != s.Archive {
			newest = t
		}
	}
	return newest
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

// show quotes a path only when it needs it, which the separator of the system does not.
func show(path string) string {
	slashed := filepath.ToSlash(path)
	if q := strconv.QuoteToGraphic(slashed); q[1:len(q)-1] != slashed || path == "" {
		return strconv.QuoteToGraphic(path)
	}
	return path
}

package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// openArchive unpacks f into private files and looks for sources among them, at
// any depth. One source has f's path, each of several PATH/sub.
func openArchive(ctx context.Context, f *File, format string, opts Options) ([]*Source, []error) {
	u := newUnpacker(ctx, f, opts)
	err := u.unpack(format)
	if err != nil {
		u.tree.close()
		return nil, []error{sentence{fmt.Sprintf("%s: %v", show(f.Path), err), err}}
	}
	on := finder{ctx, u.tree, opts}
	sources, problems := on.anywhere("/")
	for _, s := range sources {
		s.Archive = f
		u.tree.taken(s.Files())
	}
	u.tree.close()
	if len(sources) == 1 {
		sources[0].Path = f.Path
	}
	if len(sources) == 0 && len(problems) == 0 {
		problems = []error{sentence{show(f.Path) + ": no etcd files in this archive" + u.tree.hint(), errNothing}}
	}
	return sources, problems
}

// anywhere looks for sources in a folder of an archive and below it.
func (d finder) anywhere(dir string) (sources []*Source, problems []error) {
	entries, err := d.tree.list(dir)
	if err != nil {
		return nil, nil // an archive without any file of etcd's
	}
	if s, err := d.openDir(dir); s != nil || err != nil {
		if err != nil {
			return nil, []error{err}
		}
		return []*Source{s}, nil
	}
	for _, e := range entries {
		sub := path.Join(dir, e.name)
		var found []*Source
		var errs []error
		if e.dir {
			found, errs = d.anywhere(sub)
		} else if d.tree.hasMeta(sub) {
			if found, errs = d.file(sub); len(found) == 1 {
				found[0].Path = d.tree.shown("/") + sub
			}
		}
		sources, problems = append(sources, found...), append(problems, errs...)
	}
	return sources, problems
}

// unpackedTree is what was kept of an archive. Its paths begin with a slash and
// are clean, whatever the archive calls its entries.
type unpackedTree struct {
	archive   string // the archive's path as a user would write it
	files     map[string]*unpackedFile
	folders   map[string][]string // the entries of each folder, sorted by list
	openShift bool                // it looks like OpenShift's static_kuberesources
}

// An unpackedFile is one entry. Of a stray only the name was kept.
type unpackedFile struct {
	file     *File // nil for a stray
	problem  error // why it cannot be opened though it was wanted
	database bool  // its content says so
	taken    bool
}

func newUnpackedTree(archive string) *unpackedTree {
	return &unpackedTree{archive: archive, files: map[string]*unpackedFile{}, folders: map[string][]string{}}
}

// add puts an entry in its place. An entry replaces an earlier one of its name, as
// it does when tar unpacks it.
func (t *unpackedTree) add(at string, f *unpackedFile) {
	if old := t.files[at]; old != nil {
		if old.file != nil {
			old.file.Close()
		}
		t.files[at] = f
		return
	}
	t.files[at] = f
	for at != "/" {
		dir, name := path.Split(at)
		dir = path.Clean(dir)
		_, known := t.folders[dir]
		t.folders[dir] = append(t.folders[dir], name)
		if known {
			return
		}
		at = dir
	}
}

func (t *unpackedTree) list(dir string) ([]node, error) {
	names, ok := t.folders[dir]
	if !ok {
		return nil, fs.ErrNotExist
	}
	slices.Sort(names)
	nodes := make([]node, len(names))
	for i, name := range names {
		_, isDir := t.folders[path.Join(dir, name)]
		nodes[i] = node{name, isDir, !isDir}
	}
	return nodes, nil
}

func (t *unpackedTree) open(at string) (*File, error) {
	f := t.files[at]
	switch {
	case f == nil || f.file == nil && f.problem == nil:
		return nil, plain(t.shown(at), fs.ErrNotExist)
	case f.problem != nil:
		return nil, fmt.Errorf("%s: %w", show(t.shown(at)), f.problem)
	}
	return f.file, nil
}

func (t *unpackedTree) hasMeta(at string) bool { f := t.files[at]; return f != nil && f.database }
func (t *unpackedTree) isPacked(string) bool   { return false }

func (t *unpackedTree) join(elements ...string) string { return path.Join(elements...) }

func (t *unpackedTree) shown(at string) string {
	if f := t.files[at]; f != nil && f.file != nil {
		return f.file.Path
	}
	return t.archive + strings.TrimSuffix(at, "/")
}

// taken marks files that belong to a source now.
func (t *unpackedTree) taken(files []*File) {
	for _, f := range t.files {
		f.taken = f.taken || slices.Contains(files, f.file)
	}
}

// close closes the files that were not taken.
func (t *unpackedTree) close() {
	for _, f := range t.files {
		if f.file != nil && !f.taken {
			f.file.Close()
		}
	}
}

func (t *unpackedTree) hint() string {
	if t.openShift {
		return "; these are OpenShift's static resources, and the snapshot is the file snapshot_<date>.db made with them"
	}
	return ""
}

var errLink = errors.New("a link inside an archive, which is not followed; unpack it first")

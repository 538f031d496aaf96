package source

import (
	"os"
	"path/filepath"
)

// A tree is what sources are looked for in: the disk, or what was unpacked from
// an archive.
type tree interface {
	// list gives the entries of a folder in the order of their names. What leads
	// nowhere is left out.
	list(dir string) ([]node, error)
	// open opens a file for reading only.
	open(path string) (*File, error)
	// hasMeta says whether a file begins with a meta page of bbolt.
	hasMeta(path string) bool
	// isPacked says whether a file is an archive or compressed.
	isPacked(path string) bool
	// shown is the path as a user would write it.
	shown(path string) string
	// join gives the path of what lies in a folder: the operating system's separator is
	// no archive's.
	join(elements ...string) string
}

// A node is one entry of a folder, links followed.
type node struct {
	name         string
	dir, regular bool
}

// disk is the tree of the operating system.
type disk struct{ progress func(bytes int64) }

func (d disk) list(dir string) ([]node, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	nodes := make([]node, 0, len(entries))
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // a dangling link, or a loop of links
		}
		nodes = append(nodes, node{e.Name(), info.IsDir(), info.Mode().IsRegular()})
	}
	return nodes, nil
}

func (d disk) open(path string) (*File, error) { return openFile(path, d.progress) }
func (d disk) shown(path string) string        { return path }
func (d disk) join(elements ...string) string  { return filepath.Join(elements...) }

func (d disk) hasMeta(path string) bool {
	return begins(path, func(head []byte) bool { _, ok := byMeta(head, 0); return ok })
}
func (d disk) isPacked(path string) bool {
	return begins(path, func(head []byte) bool { return packedAs(head) != "" })
}

// begins says whether the start of a file is as wanted.
func begins(path string, wanted func(head []byte) bool) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, headSize)
	n, _ := f.ReadAt(head, 0)
	return wanted(head[:n])
}

package snapdb

import (
	"bytes"
	"hash/crc64"

	"etcd-forensics/snapdb/page"
)

// A glance looks into a tree along one way down, without walking it: there may be
// as many roots to choose from as the file has pages.
const (
	glanceDepth = 8        // levels of branch pages
	glanceBytes = 64 << 10 // read of one page
	glancePages = 64       // of the root bucket
)

// pageNumberSize is the length of the number that a page begins with.
const pageNumberSize = 8

var ecma = crc64.MakeTable(crc64.ECMA)

// Glance looks into the tree below one root.
type Glance struct {
	Sum uint64 // of the root page's bytes without its number: equal for roots of one tree

	file    *File
	buf     []byte
	names   [][]byte
	headers []page.Bucket
}

// Glance reads the root bucket at root. The result is valid until the next call
// with the same into, which may be nil.
func (r *Remains) Glance(root page.ID, into *Glance) *Glance {
	g := into
	if g == nil {
		g = &Glance{}
	}
	g.Sum, g.file, g.names, g.headers = 0, r.file, g.names[:0], g.headers[:0]
	pending := []page.ID{root}
	for n := 0; len(pending) > 0 && n < glancePages; n++ {
		id := pending[0]
		pending = pending[1:]
		b := g.read(id)
		if n == 0 && len(b) > 0 {
			g.Sum = crc64.Checksum(b[pageNumberSize:], ecma)
		}
		switch kindOf(b) {
		case page.KindLeaf:
			g.addBuckets(b)
		case page.KindBranch:
			br, _ := page.OpenBranch(b)
			for i := range min(br.Len(), glancePages) {
				e, _ := br.Element(i)
				pending = append(pending, e.Child)
			}
		}
	}
	return g
}

func (g *Glance) addBuckets(b []byte) {
	l, _ := page.OpenLeaf(b)
	for i := range l.Len() {
		e, fault := l.Element(i)
		if fault != nil || !e.Bucket {
			continue
		}
		if bk, fault := page.DecodeBucket(e.Value); fault == nil {
			bk.Inline = bytes.Clone(bk.Inline)
			g.names, g.headers = append(g.names, bytes.Clone(e.Key)), append(g.headers, bk)
		}
	}
}

// read gives the bytes of a page that carries its own number, none of any other.
func (g *Glance) read(id page.ID) []byte {
	b, err := g.file.ReadPage(id, glanceBytes, g.buf)
	if err != nil {
		return nil
	}
	g.buf = b
	if kindOf(b) == page.KindUnknown || page.DecodeHeader((*[page.HeaderSize]byte)(b)).ID != id {
		return nil
	}
	return b
}

func kindOf(b []byte) page.Kind {
	if len(b) < page.HeaderSize {
		return page.KindUnknown
	}
	return page.DecodeHeader((*[page.HeaderSize]byte)(b)).Kind()
}

// Buckets gives the number of buckets in the root bucket.
func (g *Glance) Buckets() int { return len(g.names) }

// Has says whether the root bucket names a bucket.
func (g *Glance) Has(name string) bool {
	_, ok := g.bucket(name)
	return ok
}

func (g *Glance) bucket(name string) (page.Bucket, bool) {
	for i, n := range g.names {
		if string(n) == name {
			return g.headers[i], true
		}
	}
	return page.Bucket{}, false
}

// Value finds the value of a key in a bucket. It is valid until the next call.
func (g *Glance) Value(bucket, key string) ([]byte, bool) {
	var found []byte
	g.descend(bucket, func(e page.BranchElement) bool { return string(e.Key) <= key }, func(l *page.Leaf) {
		for i := range l.Len() {
			if e, fault := l.Element(i); fault == nil && string(e.Key) == key {
				found = e.Value
			}
		}
	})
	return found, found != nil
}

// LastKey gives the last key of a bucket. It is valid until the next call.
func (g *Glance) LastKey(bucket string) []byte {
	var last []byte
	g.descend(bucket, func(page.BranchElement) bool { return true }, func(l *page.Leaf) {
		for i := range l.Len() {
			if e, fault := l.Element(i); fault == nil {
				last = e.Key
			}
		}
	})
	return last
}

// descend follows the last child that below says yes to, down to a leaf.
func (g *Glance) descend(bucket string, below func(page.BranchElement) bool, visit func(*page.Leaf)) {
	bk, ok := g.bucket(bucket)
	if !ok {
		return
	}
	b := bk.Inline
	if b == nil {
		b = g.read(bk.Root)
	}
	for range glanceDepth {
		switch kindOf(b) {
		case page.KindLeaf:
			l, _ := page.OpenLeaf(b)
			visit(&l)
			return
		case page.KindBranch:
			br, _ := page.OpenBranch(b)
			child := page.ID(0)
			for i := range br.Len() {
				if e, _ := br.Element(i); i == 0 || below(e) {
					child = e.Child
				}
			}
			b = g.read(child)
		default:
			return
		}
	}
}

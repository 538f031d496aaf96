package snapdb_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/page"
)

// A tally notes how often each byte was read.
type tally struct {
	*bytes.Reader
	read map[int64]int
}

func (r *tally) ReadAt(b []byte, offset int64) (int, error) {
	n, err := r.Reader.ReadAt(b, offset)
	for i := range n {
		r.read[offset+int64(i)]++
	}
	return n, err
}

// TestAPageIsReadOnce lays pages out behind those of a database and reads each: with and
// without overflow, with a table of elements that is longer than a page, and less than the
// overflow that its header claims.
func TestAPageIsReadOnce(t *testing.T) {
	const size = 1024
	path := filepath.Join(t.TempDir(), "db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: size})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const flagBranch, flagLeaf = 1, 2
	for _, c := range []struct {
		flags    uint16
		elements int
		value    int // bytes of the last element's
		overflow uint32
		limit    int64
		want     int // bytes
	}{
		{flagLeaf, 3, 10, 0, 1 << 20, size},
		{flagLeaf, 3, 3000, 2, 1 << 20, 16 + 3*16 + 3000},
		{flagLeaf, 200, 10, 3, 1 << 20, 16 + 200*16 + 10},
		{flagLeaf, 200, 0, 5, 1 << 20, 16 + 200*16},
		{flagLeaf, 3, 10, 5, 1 << 20, size},
		{flagLeaf, 3, 3000, 2, 2000, 2000},
		{flagLeaf, 200, 3000, 6, 100, size},
		{flagBranch, 3, 0, 2, 1 << 20, 3 * size},
	} {
		id := page.ID(len(data) / size)
		p := make([]byte, (int(c.overflow)+1)*size)
		for i := range p {
			p[i] = byte(i * 7)
		}
		copy(p, page.Header{ID: id, Flags: c.flags, Count: uint16(c.elements), Overflow: c.overflow}.Append(nil))
		for i := range c.elements {
			e := p[page.HeaderSize+i*page.ElementSize:][:page.ElementSize]
			clear(e)
			binary.LittleEndian.PutUint32(e[4:], uint32((c.elements-i)*page.ElementSize)) // where the keys begin
			if i == c.elements-1 {
				binary.LittleEndian.PutUint32(e[12:], uint32(c.value))
			}
		}
		whole := append(bytes.Clone(data), p...)
		r := &tally{bytes.NewReader(whole), map[int64]int{}}
		f, err := snapdb.Open(r, int64(len(whole)))
		if err != nil {
			t.Fatal(err)
		}
		for _, buf := range [][]byte{nil, make([]byte, 10, 100), make([]byte, 0, size+1), make([]byte, 1<<14)} {
			clear(r.read)
			b, err := f.ReadPage(id, c.limit, buf)
			if err != nil || !bytes.Equal(b, p[:c.want]) {
				t.Errorf("%+v: %d bytes, %v", c, len(b), err)
			}
			for at, n := range r.read {
				// A table of elements may reach past the limit.
				if n > 1 || at < int64(len(data)) || at >= int64(len(data)+max(c.want, page.HeaderSize+c.elements*page.ElementSize)) {
					t.Fatalf("%+v: byte %d was read %d times", c, at, n)
				}
			}
		}
	}
}

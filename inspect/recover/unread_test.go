package recover

import (
	"errors"
	"io"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
)

// A failing reader gives bytes until it is told not to.
type failing struct {
	io.ReaderAt
	from, to int64 // of what it does not give
}

var errSector = errors.New("a sector that cannot be read")

func (f *failing) ReadAt(b []byte, at int64) (int, error) {
	if at < f.to && at+int64(len(b)) > f.from {
		return 0, errSector
	}
	return f.ReaderAt.ReadAt(b, at)
}

// baseOf reads the tree of a database.
func baseOf(t *testing.T, path string) *base {
	t.Helper()
	f, err := inspect.BackendFile(t.Context(), opened(t, path)[0], inspect.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := openBase(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPagesThatTheMachineDoesNotGiveAreNotPassedOver opens a database, lets single pages
// become unreadable, and reads the records again.
func TestPagesThatTheMachineDoesNotGiveAreNotPassedOver(t *testing.T) {
	path := filepath.Join(fixtures.Dir(t, "auth-3.6"), "m1", "member", "snap", "db")
	fixtures.Edit(t, path, func(tx *bbolt.Tx) error {
		other, err := tx.CreateBucket([]byte("other"))
		for n := 0; err == nil && n < 200; n++ {
			err = other.Put([]byte{'k', byte(n)}, make([]byte, 100))
		}
		return err
	})
	b := baseOf(t, path)
	r := &failing{ReaderAt: b.mended.r}
	b.mended.r = r
	w := newWitness(b, "x")
	size := int64(b.db.PageSize)
	tried := map[bool]int{}
	for i := range b.Tree.Leaves {
		l := &b.Tree.Leaves[i]
		if l.ID == 0 {
			continue
		}
		r.from, r.to = int64(l.ID)*size, int64(l.ID+1)*size
		isKey := int(l.Bucket) == b.key
		switch {
		case isKey:
			w.err = nil
			for range w.each(keyspace.Revision{}) {
			}
			if !errors.Is(w.err, errSector) {
				t.Errorf("page %d of bucket key: %v", l.ID, w.err)
			}
		case b.Tree.Buckets[l.Bucket].Parent == 0 && l.Bucket != 0:
			b.unread = map[page.ID]error{}
			if err := b.rows(int(l.Bucket), nil, func(row) error { return nil }); err != nil {
				t.Fatal(err)
			}
			losses := b.unreadLosses(int(l.Bucket))
			if len(losses) != 1 || *losses[0].Page != l.ID {
				t.Errorf("page %d: %+v", l.ID, losses)
			}
		default:
			continue
		}
		tried[isKey]++
	}
	if tried[true] == 0 || tried[false] == 0 {
		t.Fatalf("tried %v", tried)
	}
}

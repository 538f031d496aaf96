package snapdb_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"go.etcd.io/bbolt"

	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/page"
)

// twoTrees writes a database of which each transaction changes a few records, and walks
// the trees of both metas.
func twoTrees(t *testing.T) (newer, older *snapdb.Tree) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: 1024, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	for n := range 20 {
		if err := db.Update(func(tx *bbolt.Tx) error {
			for _, name := range []string{"key", "other"} {
				b, err := tx.CreateBucketIfNotExists([]byte(name))
				for i := n * 100; err == nil && i < n*100+100; i++ {
					size := 100
					if i%50 == 7 {
						size = 3000
					}
					err = b.Put(binary.BigEndian.AppendUint64(nil, uint64(i*7919%100003)), make([]byte, size))
				}
				if err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("key")).Put([]byte("one more"), nil) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	newer = walked(t, path)
	older, err = snapdb.Walk(context.Background(), newer.File.As(1-newer.File.Active), 10)
	if err != nil {
		t.Fatal(err)
	}
	for i := range newer.Leaves {
		b, err := newer.File.ReadPage(newer.Leaves[i].ID, 1<<20, nil)
		if err != nil {
			t.Fatal(err)
		}
		newer.ReadLeaf(i, b, nil, &newer.Faults)
	}
	if newer.Faults.Len() > 0 || older.Faults.Len() > 0 {
		t.Fatal("a healthy database has faults")
	}
	return newer, older
}

func numberOf(t *testing.T, tree *snapdb.Tree, name string) int {
	t.Helper()
	n := slices.IndexFunc(tree.Buckets, func(b snapdb.Bucket) bool { return string(b.Name) == name })
	if n < 0 {
		t.Fatalf("no bucket %s", name)
	}
	return n
}

// TestAdoptedLeavesAreTheSameInBothTrees holds what is adopted against a search for it.
func TestAdoptedLeavesAreTheSameInBothTrees(t *testing.T) {
	newer, older := twoTrees(t)
	mine, theirs := numberOf(t, older, "key"), numberOf(t, newer, "key")
	place := func(tree *snapdb.Tree, i int) string {
		lo, hi := tree.Range(i)
		return fmt.Sprintf("%d %x %t %x %t", tree.Leaves[i].ID, lo, lo == nil, hi, hi == nil)
	}
	want := map[string]int{}
	for k, l := range newer.Leaves {
		if int(l.Bucket) == theirs && k%5 > 0 {
			want[place(newer, k)] = k
		}
	}
	adopted, same, overflowing, whole := 0, 0, 0, 0
	for i, k := range older.Adopt(mine, newer, theirs, func(k int) bool { return k%5 > 0 }) {
		if int(older.Leaves[i].Bucket) == mine {
			whole++
		}
		there, ok := want[place(older, i)]
		if ok = ok && int(older.Leaves[i].Bucket) == mine; ok {
			same++
		}
		switch {
		case k >= 0:
			adopted++
			if older.Leaves[i].Overflow > 0 {
				overflowing++
			}
			if older.Leaves[i].Overflow != newer.Leaves[k].Overflow {
				t.Errorf("leaf %d has %d pages behind its first, not %d", i, older.Leaves[i].Overflow, newer.Leaves[k].Overflow)
			}
			if !ok || int(k) != there {
				t.Errorf("leaf %d, %s, is said to be leaf %d there", i, place(older, i), k)
			}
		case ok:
			t.Errorf("leaf %d, %s, is not adopted", i, place(older, i))
		}
	}
	if adopted != same || adopted < 100 || overflowing < 20 || adopted == whole {
		t.Errorf("%d leaves of %d are adopted", adopted, whole)
	}
	if of := older.Adopt(mine, newer, theirs, func(int) bool { return false }); slices.ContainsFunc(of, func(k int32) bool { return k >= 0 }) {
		t.Error("leaves that are not sound are adopted")
	}
	if of := older.Adopt(mine, newer, numberOf(t, newer, "other"), func(int) bool { return true }); slices.ContainsFunc(of, func(k int32) bool { return k >= 0 }) {
		t.Error("leaves of another bucket are adopted")
	}
	file := *older.File
	file.PageSize /= 2
	older.File = &file
	if of := older.Adopt(mine, newer, theirs, func(int) bool { return true }); slices.ContainsFunc(of, func(k int32) bool { return k >= 0 }) {
		t.Error("leaves of pages of another size are adopted")
	}
}

// TestLeavesPromisedOtherKeysAreNotAdopted changes the separators on the root page of bucket
// key that only the older tree has: leaves that end there are promised other keys.
func TestLeavesPromisedOtherKeysAreNotAdopted(t *testing.T) {
	newer, older := twoTrees(t)
	mine, theirs := numberOf(t, older, "key"), numberOf(t, newer, "key")
	sound := func(int) bool { return true }
	before := older.Adopt(mine, newer, theirs, sound)
	root := older.Buckets[mine].Root
	if root == newer.Buckets[theirs].Root {
		t.Fatal("both trees have one root page")
	}
	whole := make([]byte, older.File.Size())
	if _, err := older.File.ReaderAt().ReadAt(whole, 0); err != nil {
		t.Fatal(err)
	}
	br, fault := page.OpenBranch(whole[int64(root)*int64(older.File.PageSize):])
	if fault != nil {
		t.Fatal(fault.Err)
	}
	ends := map[string]bool{}
	for n := range br.Len() {
		e, fault := br.Element(n)
		if fault != nil {
			t.Fatal(fault.Err)
		}
		if last := &e.Key[len(e.Key)-1]; n > 0 && *last > 0 {
			ends[string(e.Key)] = true
			*last--
		}
	}
	want := slices.Clone(before)
	changed := 0
	for i := range want {
		if _, hi := older.Range(i); want[i] >= 0 && ends[string(hi)] {
			want[i] = -1
			changed++
		}
	}
	db, err := snapdb.Open(bytes.NewReader(whole), int64(len(whole)))
	if err != nil {
		t.Fatal(err)
	}
	if older, err = snapdb.Walk(context.Background(), db.As(1-db.Active), 10); err != nil {
		t.Fatal(err)
	}
	if of := older.Adopt(mine, newer, theirs, sound); changed < 2 || !slices.Equal(of, want) {
		t.Errorf("%d leaves end at a separator that was changed; adopted are %v, not %v", changed, of, want)
	}
}

// TestLeavesWithoutTheirRoomAreNotAdopted has the root page of bucket key of the older tree
// lead into the overflow of a leaf of both.
func TestLeavesWithoutTheirRoomAreNotAdopted(t *testing.T) {
	newer, older := twoTrees(t)
	mine, theirs := numberOf(t, older, "key"), numberOf(t, newer, "key")
	sound := func(int) bool { return true }
	of := older.Adopt(mine, newer, theirs, sound)
	at := 0
	for i, k := range of {
		if k >= 0 && older.Leaves[i].Overflow > 1 {
			at = i // the last, which does not lie below the first element
		}
	}
	whole := make([]byte, older.File.Size())
	if _, err := older.File.ReaderAt().ReadAt(whole, 0); err != nil {
		t.Fatal(err)
	}
	id := older.Leaves[at].ID
	first := whole[int64(older.Buckets[mine].Root)*int64(older.File.PageSize)+page.HeaderSize:]
	binary.LittleEndian.PutUint64(first[8:], uint64(id)+1) // of the first element, the page it leads to
	db, err := snapdb.Open(bytes.NewReader(whole), int64(len(whole)))
	if err != nil {
		t.Fatal(err)
	}
	if older, err = snapdb.Walk(context.Background(), db.As(1-db.Active), 10); err != nil {
		t.Fatal(err)
	}
	after := older.Adopt(mine, newer, theirs, sound)
	n := slices.IndexFunc(older.Leaves, func(l snapdb.Leaf) bool { return l.ID == id })
	if at == 0 || n < 0 || after[n] >= 0 || !slices.ContainsFunc(after, func(k int32) bool { return k >= 0 }) {
		t.Errorf("leaf %d, now %d, on page %d is adopted as %v", at, n, id, after)
	}
}

package rebuild_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"go.etcd.io/bbolt"

	"etcd-forensics/snapdb/rebuild"
)

// records gives n records in key order, some longer than a page.
func records(n int) (keys, values [][]byte) {
	for i := range n {
		keys = append(keys, binary.BigEndian.AppendUint64(nil, uint64(i)))
		values = append(values, bytes.Repeat([]byte{byte(i)}, i%700+i%97*i%13*300))
	}
	return keys, values
}

func write(t *testing.T, pageSize, n int, hash bool) []byte {
	t.Helper()
	work, err := os.Create(filepath.Join(t.TempDir(), "work"))
	if err != nil {
		t.Fatal(err)
	}
	w, err := rebuild.New(work, pageSize, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	keys, values := records(n)
	for _, path := range [][][]byte{{[]byte("a")}, {[]byte("key")}, {[]byte("empty")}, {[]byte("a"), []byte("nested")}} {
		if err := w.Bucket(uint64(len(path)-1), path...); err != nil {
			t.Fatal(err)
		}
		if string(path[0]) == "empty" {
			continue
		}
		for i := range keys {
			if string(path[0]) == "a" && i > 20 {
				break
			}
			if err := w.Put(keys[i], values[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	var out bytes.Buffer
	if !hash {
		size, err := w.WriteTo(&out)
		if err != nil || size != int64(out.Len()) {
			t.Fatalf("size %d of %d, %v", size, out.Len(), err)
		}
		return out.Bytes()
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	size, digest, err := w.WriteSnapshotTo(file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file.Name())
	if err != nil || size != int64(len(b)) {
		t.Fatalf("size %d of %d, %v", size, len(b), err)
	}
	if sum := sha256.Sum256(b); !bytes.Equal(digest, sum[:]) {
		t.Errorf("the digest of the whole is %x, not %x", sum, digest)
	}
	return b
}

func TestTheSameRecordsGiveTheSameBytes(t *testing.T) {
	for _, pageSize := range []int{512, 4096, 16384} {
		before := runtime.GOMAXPROCS(1)
		one := write(t, pageSize, 3000, false)
		runtime.GOMAXPROCS(8)
		eight := write(t, pageSize, 3000, false)
		runtime.GOMAXPROCS(before)
		if !bytes.Equal(one, eight) {
			t.Errorf("page size %d: two runs differ", pageSize)
		}
	}
}

func TestWhatIsWrittenIsThere(t *testing.T) {
	for _, pageSize := range []int{512, 4096} {
		b := write(t, pageSize, 3000, true)
		data := b[:len(b)-sha256.Size]
		if sum := sha256.Sum256(data); !bytes.Equal(sum[:], b[len(data):]) {
			t.Error("the hash at the end is not that of the rest")
		}
		path := filepath.Join(t.TempDir(), "db")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, PreLoadFreelist: true})
		if err != nil {
			t.Fatal(err)
		}
		if got := db.Info().PageSize; got != pageSize {
			t.Errorf("page size is %d, not %d", got, pageSize)
		}
		err = db.View(func(tx *bbolt.Tx) error {
			for err := range tx.Check() {
				t.Error(err)
			}
			keys, values := records(3000)
			n := 0
			err := tx.Bucket([]byte("key")).ForEach(func(k, v []byte) error {
				if !bytes.Equal(k, keys[n]) || !bytes.Equal(v, values[n]) {
					return fmt.Errorf("record %d is another", n)
				}
				n++
				return nil
			})
			if n != len(keys) {
				t.Errorf("%d records of %d", n, len(keys))
			}
			if nested := tx.Bucket([]byte("a")).Bucket([]byte("nested")); nested == nil || nested.Sequence() != 1 || nested.Get(keys[7]) == nil {
				t.Error("the nested bucket is not what was written")
			}
			if tx.Bucket([]byte("empty")) == nil {
				t.Error("the empty bucket is missing")
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		db.Close()
	}
}

func TestRecordsOutOfOrderAreRefused(t *testing.T) {
	work, err := os.Create(filepath.Join(t.TempDir(), "work"))
	if err != nil {
		t.Fatal(err)
	}
	w, err := rebuild.New(work, 4096, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Bucket(0, []byte("key")); err != nil {
		t.Fatal(err)
	}
	if err := w.Put([]byte("b"), nil); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "b"} {
		if w.Put([]byte(key), nil) == nil {
			t.Errorf("%q was taken behind %q", key, "b")
		}
	}
}

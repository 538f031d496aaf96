package rebuild_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"go.etcd.io/bbolt"

	"etcd-forensics/snapdb/page"
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

// begin begins a database in a new file.
func begin(t *testing.T, pageSize int, expected int64) (w *rebuild.Writer, path string) {
	t.Helper()
	work, err := os.Create(filepath.Join(t.TempDir(), "work"))
	if err != nil {
		t.Fatal(err)
	}
	if w, err = rebuild.New(work, pageSize, expected); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w, work.Name()
}

// A way is how what was written is finished.
type way func(t *testing.T, w *rebuild.Writer, work string) []byte

// plain ends the database.
func plain(t *testing.T, w *rebuild.Writer, work string) []byte {
	t.Helper()
	size, err := w.End()
	return whole(t, work, size, err)
}

// withHash does that, too, and appends the hash.
func withHash(t *testing.T, w *rebuild.Writer, work string) []byte {
	t.Helper()
	s, err := w.EndSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	size, digest, err := s.End()
	b := whole(t, work, size, errors.Join(err, s.Close()))
	if sum := sha256.Sum256(b); !bytes.Equal(digest, sum[:]) {
		t.Errorf("the digest of the whole is %x, not %x", digest, sum)
	}
	return b
}

func whole(t *testing.T, path string, size int64, err error) []byte {
	t.Helper()
	b, readErr := os.ReadFile(path)
	if err = errors.Join(err, readErr); err != nil || size != int64(len(b)) {
		t.Fatalf("size %d of %d, %v", size, len(b), err)
	}
	return b
}

func write(t *testing.T, pageSize, n int, end way) []byte {
	t.Helper()
	w, work := begin(t, pageSize, 1<<20)
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
	return end(t, w, work)
}

func TestTheSameRecordsGiveTheSameBytes(t *testing.T) {
	for _, pageSize := range []int{512, 4096, 16384} {
		for n, end := range []way{plain, withHash} {
			before := runtime.GOMAXPROCS(1)
			one := write(t, pageSize, 3000, end)
			runtime.GOMAXPROCS(8)
			eight := write(t, pageSize, 3000, end)
			runtime.GOMAXPROCS(before)
			if !bytes.Equal(one, eight) {
				t.Errorf("page size %d, way %d: two runs differ", pageSize, n)
			}
		}
	}
}

func TestWhatIsWrittenIsThere(t *testing.T) {
	for pageSize, end := range map[int]way{512: plain, 1024: withHash, 2048: plain, 4096: withHash, 8192: plain, 16384: withHash} {
		data := write(t, pageSize, 3000, end)
		if len(data)%pageSize != 0 {
			b := data
			data = b[:len(b)-sha256.Size]
			if sum := sha256.Sum256(data); !bytes.Equal(sum[:], b[len(data):]) {
				t.Error("the hash at the end is not that of the rest")
			}
		}
		checkMetas(t, data, pageSize)
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

// checkMetas says whether the metas are valid, and of one tree and high-water mark: page 0
// of the later transaction.
func checkMetas(t *testing.T, data []byte, pageSize int) {
	t.Helper()
	var metas [2]page.Meta
	for i := range metas {
		metas[i] = page.DecodeMeta((*[page.MetaSize]byte)(data[i*pageSize+page.HeaderSize:]))
		if problems := metas[i].Problems(); len(problems) > 0 {
			t.Errorf("meta %d: %v", i, problems)
		}
	}
	if metas[0].Root != metas[1].Root || metas[0].Pgid != metas[1].Pgid || metas[0].Txid != metas[1].Txid+1 {
		t.Errorf("the metas are %+v", metas)
	}
}

// TestTheMetasAreAlikeAfterAnyNumberOfTransactions writes one bucket a transaction.
func TestTheMetasAreAlikeAfterAnyNumberOfTransactions(t *testing.T) {
	for buckets := range 5 {
		for n, end := range []way{plain, withHash} {
			w, work := begin(t, 4096, 0)
			for i := range buckets {
				if err := w.Bucket(0, []byte{byte('a' + i)}); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("%d buckets, way %d", buckets, n)
			checkMetas(t, end(t, w, work), 4096)
		}
	}
}

func TestRecordsOutOfOrderAreRefused(t *testing.T) {
	w, _ := begin(t, 4096, 0)
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

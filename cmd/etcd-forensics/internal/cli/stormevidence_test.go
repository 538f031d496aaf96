package cli_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"hash/fnv"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"etcd-forensics/fixtures"
	"etcd-forensics/fixtures/mutants"
)

// A specimen is a small piece of evidence of which damaged copies go through the commands.
type specimen struct {
	name  string
	files mutants.Files
	given string // what of the files is handed in: a path, "" for the folder
	pack  func(testing.TB, mutants.Files) []byte
	lines []commandLine
	// hidden are secrets of the evidence that redact must not leave.
	hidden []string
}

// stormSpecimens are pieces of evidence of every kind that a command reads.
func stormSpecimens(t testing.TB) []specimen {
	small := mutants.Files{"snapshot.db": smallStore(t, "healthy-3.7/snapshot.db")}
	zombie, auth := folder(t, "zombie-3.7/m1"), folder(t, "auth-3.6/m1")
	file := func(name string, b []byte) mutants.Files {
		if len(b) == 0 {
			t.Fatalf("no bytes for %s", name)
		}
		return mutants.Files{name: b}
	}
	secrets := []string{"certificate-only", "pods-writer", "fixture-alice", "no-permission", "$2a$10$"}
	const segment, snap = "0000000000000000-0000000000000000.wal", "0000000000000003-0000000000000010.snap"
	const last = "member/wal/0000000000000007-0000000000000130.wal"
	users := file("member/snap/db", smallStore(t, "auth-3.6/m1/member/snap/db"))
	users[last] = auth[last]
	list := []specimen{
		{name: "snapshot with pages of 512 bytes", files: small, given: "snapshot.db"},
		{name: "snapshot", files: file("snapshot.db", folder(t, "membership-3.7")["snapshot.db"]), given: "snapshot.db"},
		{name: "database", files: file("db", zombie["member/snap/db"]), given: "db"},
		{name: "data directory of 3.7", files: zombie},
		{name: "data directory of 3.5 with .snap files", files: folder(t, "membership-3.5/m1")},
		{name: "data directory with users", files: users, hidden: secrets},
		{name: "data directory with a received database", files: folder(t, "received-snapshot-3.6/m3")},
		{name: "cluster", files: folder(t, "learner-promoted-3.5.17")},
		{name: "segment", files: file(segment, auth["member/wal/"+segment]), hidden: secrets},
		{name: ".snap file", files: file(snap, zombie["member/snap/"+snap]), given: snap},
		{name: "gzip", files: small, given: "backup.db.gz", pack: packedFile(gzipWriter)},
		{name: "tar with gzip", files: zombie, given: "m1.tar.gz", pack: packedTar(gzipWriter)},
		{name: "tar with zstd", files: users, given: "m1.tar.zst", pack: packedTar(zstdWriter), hidden: secrets},
		{name: "tar with xz", files: zombie, given: "m1.tar.xz", pack: packedTar(xzWriter)},
		{name: "zip", files: zombie, given: "m1.zip", pack: packedZip},
	}
	for i := range list {
		list[i].lines = evidenceLines
	}
	return append(list,
		specimen{name: "log", files: mutants.Files{"etcd.log": readLog(t)}, given: "etcd.log", lines: logLines},
		specimen{name: "encryption configuration", files: mutants.Files{"config.yaml": []byte(encryptionConfig)}, given: "config.yaml", lines: encryptionLines},
	)
}

func sortedNames(f mutants.Files) []string {
	return slices.Sorted(maps.Keys(f))
}

// folder reads what is etcd's in a fixture, or in a folder of it, without the zeros that files
// are preallocated with.
func folder(t testing.TB, name string) mutants.Files {
	t.Helper()
	fixture, below, _ := strings.Cut(name, "/")
	root := filepath.Join(fixtures.Dir(t, fixture), below)
	files := mutants.Files{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.Contains(filepath.Ext(path), "json") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if used := len(bytes.TrimRight(b, "\x00")); len(b)-used > 8192 {
			b = b[:(used+4095)/4096*4096+4096]
		}
		rel, err := filepath.Rel(root, path)
		files[filepath.ToSlash(rel)] = b
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatal(name, err)
	}
	return files
}

// stormKey encrypts the Secrets of the small store.
const stormKey = "0123456789abcdef"

// encryptionConfig is what the API server of the small store would have.
var encryptionConfig = `apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: ["secrets", "configmaps"]
  providers:
  - aescbc:
      keys:
      - name: key1
        secret: ` + base64.StdEncoding.EncodeToString([]byte(stormKey)) + `
  - secretbox:
      keys:
      - name: key2
        secret: ` + base64.StdEncoding.EncodeToString([]byte(stormKey+stormKey)) + `
  - kms: {apiVersion: v2, name: plugin, endpoint: "unix:///tmp/kms.sock"}
  - identity: {}
`

// smallStore gives a database with pages of 512 bytes, in which an eighth of the keys of another one take
// as many levels as those of large stores. Its Secrets are encrypted, and it ends with its hash
// when the other one does.
func smallStore(t testing.TB, path string) []byte {
	t.Helper()
	fixture, path, _ := strings.Cut(path, "/")
	from, err := bbolt.Open(filepath.Join(fixtures.Dir(t, fixture), path), 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	name := filepath.Join(t.TempDir(), "db")
	to, err := bbolt.Open(name, 0o600, &bbolt.Options{PageSize: 512, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	err = from.View(func(r *bbolt.Tx) error {
		return r.ForEach(func(bucket []byte, b *bbolt.Bucket) error {
			// One transaction each: bbolt lays out several buckets in the order of a map.
			return to.Update(func(w *bbolt.Tx) error {
				made, err := w.CreateBucket(bucket)
				if err != nil {
					return err
				}
				return b.ForEach(func(k, v []byte) error {
					if string(bucket) == "key" {
						if v, err = fewer(v); v == nil {
							return err
						}
					}
					return made.Put(k, v)
				})
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Ext(path) != ".db" {
		return b
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// fewer leaves one key of eight, without long values.
func fewer(v []byte) ([]byte, error) {
	kv := &mvccpb.KeyValue{}
	if err := proto.Unmarshal(v, kv); err != nil {
		return nil, err
	}
	h := fnv.New32a()
	h.Write(kv.Key)
	secret := bytes.HasPrefix(kv.Key, []byte("/registry/secrets/"))
	if (h.Sum32()%8 > 0 && !secret) || len(kv.Value) > 4096 {
		return nil, nil
	}
	if secret && len(kv.Value) > 0 {
		block, err := aes.NewCipher([]byte(stormKey))
		if err != nil {
			return nil, err
		}
		pad := aes.BlockSize - len(kv.Value)%aes.BlockSize
		text := append(bytes.Clone(kv.Value), bytes.Repeat([]byte{byte(pad)}, pad)...)
		iv := make([]byte, aes.BlockSize)
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(text, text)
		kv.Value = append(append([]byte("k8s:enc:aescbc:v1:key1:"), iv...), text...)
	}
	return proto.Marshal(kv)
}

// readLog gives a log with every line that is recognised.
func readLog(t testing.TB) []byte {
	t.Helper()
	const testdata = "../../../../inspect/symptom/testdata/"
	var log []byte
	for _, name := range []string{"lines.txt", "healthy-3.4-zap.log", "healthy-3.6-console.log"} {
		b, err := os.ReadFile(testdata + name)
		if err != nil {
			t.Fatal(err)
		}
		log = append(log, b...)
	}
	return log
}

type writerOf func(io.Writer) (io.WriteCloser, error)

func gzipWriter(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }
func zstdWriter(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }
func xzWriter(w io.Writer) (io.WriteCloser, error)   { return xz.NewWriter(w) }

// packed compresses what write gives.
func packed(t testing.TB, with writerOf, write func(io.Writer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := with(&b)
	if err != nil {
		t.Fatal(err)
	}
	if err := write(w); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// packedFile compresses the only file.
func packedFile(with writerOf) func(testing.TB, mutants.Files) []byte {
	return func(t testing.TB, f mutants.Files) []byte {
		return packed(t, with, func(w io.Writer) error {
			for _, b := range f {
				if _, err := w.Write(b); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

func packedTar(with writerOf) func(testing.TB, mutants.Files) []byte {
	return func(t testing.TB, f mutants.Files) []byte {
		return packed(t, with, func(w io.Writer) error {
			a := tar.NewWriter(w)
			for _, name := range sortedNames(f) {
				if err := a.WriteHeader(&tar.Header{Name: "m1/" + name, Size: int64(len(f[name])), Mode: 0o600, Typeflag: tar.TypeReg}); err != nil {
					return err
				}
				if _, err := a.Write(f[name]); err != nil {
					return err
				}
			}
			return a.Close()
		})
	}
}

func packedZip(t testing.TB, f mutants.Files) []byte {
	t.Helper()
	var b bytes.Buffer
	a := zip.NewWriter(&b)
	for _, name := range sortedNames(f) {
		w, err := a.Create("m1/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

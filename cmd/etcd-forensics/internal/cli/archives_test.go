package cli_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"etcd-forensics/fixtures"
)

// TestEveryArchiveFormGoesThroughTheCommands packs one snapshot in every form in which
// people keep one: inspect, keys and verify say of each what they say of the file.
func TestEveryArchiveFormGoesThroughTheCommands(t *testing.T) {
	db, err := fixtures.ReadFile("healthy-3.7", "snapshot.db")
	if err != nil {
		t.Fatal(err)
	}
	pack := func(data []byte, open func(io.Writer) (io.WriteCloser, error)) []byte {
		var b bytes.Buffer
		w, err := open(&b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	gz := func(b []byte) []byte {
		return pack(b, func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })
	}
	zst := func(b []byte) []byte {
		return pack(b, func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) })
	}
	xzed := func(b []byte) []byte {
		return pack(b, func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) })
	}
	zipped := func(names ...string) []byte { // the snapshot first, then what lies beside it
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for i, name := range names {
			w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate})
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				w.Write(db)
			} else {
				io.WriteString(w, "{}")
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	tarredWith := func(name string, data []byte) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o600, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		w.Write(data)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	tarred := func(name string) []byte { return tarredWith(name, db) }
	resources := gz(tarredWith("static-pod-resources/kube-apiserver-pod-6/secrets/encryption-config/encryption-config", []byte("key")))
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain.db")
	for path, data := range map[string][]byte{
		"plain.db": db, "backup.db.gz": gz(db), "backup.db.zst": zst(db), "backup.db.xz": xzed(db),
		"k3s/etcd-snapshot-node-1-1768996800.zip": zipped("etcd-snapshot-node-1-1768996800"),
		"rke.zip":    zipped("/backup/2026-01-21T12:00:00Z_etcd", "/etc/kubernetes/2026-01-21T12:00:00Z_etcd.rkestate"),
		"backup.tar": tarred("etcd.db"), "backup.tar.gz": gz(tarred("./etcd.db")), "backup.tar.zst": zst(tarred("etcd.db")), "backup.tar.xz": xzed(tarred("etcd.db")),
		"openshift/snapshot_2026-01-21_120000.db": db, "openshift/static_kuberesources_2026-01-21_120000.tar.gz": resources,
		"kops/2026-01-21T12:00:00Z-000001/etcd.backup.gz": gz(db), "kops/2026-01-21T12:00:00Z-000001/_etcd_backup.meta": []byte(`{"etcdVersion":"3.7.3"}`),
	} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// All that keys says, but for the name of the file.
	keysOf := func(args ...string) (exit int, says map[string]any) {
		exit, out, stderr := run(t, append([]string{"keys", "-w", "json"}, args...)...)
		if err := json.Unmarshal([]byte(out), &says); err != nil {
			t.Fatalf("%v %s", err, stderr)
		}
		delete(says, "file")
		return exit, says
	}
	_, want := keysOf(plain)
	for _, form := range []string{
		"backup.db.gz", "backup.db.zst", "backup.db.xz", "k3s/etcd-snapshot-node-1-1768996800.zip", "rke.zip", "backup.tar", "backup.tar.gz", "backup.tar.zst",
		"backup.tar.xz", "kops/2026-01-21T12:00:00Z-000001/etcd.backup.gz", "k3s", "openshift", "kops",
	} {
		path, scratch := filepath.Join(dir, form), t.TempDir()
		if form == "kops" {
			path = filepath.Join(path, "2026-01-21T12:00:00Z-000001")
		}
		exit, out, stderr := run(t, "inspect", "--scratch", scratch, "-w", "json", path)
		var c struct {
			Verdict struct{ Grade string }
			Members []struct {
				Backend struct {
					Revision int64
					Trailer  struct{ Valid bool }
				}
			}
		}
		if err := json.Unmarshal([]byte(out), &c); err != nil || exit != 0 || len(c.Members) != 1 || c.Verdict.Grade != "sound" || c.Members[0].Backend.Revision != 1196 || !c.Members[0].Backend.Trailer.Valid {
			t.Errorf("inspect %s: exit %d, %v, %+v %s", form, exit, err, c, stderr)
		}
		if exit, got := keysOf("--scratch", scratch, path); exit != 0 || !reflect.DeepEqual(got, want) || want["live"] != float64(782) {
			t.Errorf("keys %s: exit %d, %v", form, exit, got["live"])
		}
		if exit, out, stderr := run(t, "verify", "--scratch", scratch, path); exit != 0 {
			t.Errorf("verify %s: exit %d, %s%s", form, exit, out, stderr)
		}
		if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
			t.Errorf("%s: left behind: %v %v", form, left, err)
		}
	}
}

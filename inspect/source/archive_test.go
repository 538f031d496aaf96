package source_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect/source"
)

// A file is one entry of an archive that a test makes.
type file struct {
	name string
	data []byte
}

func tarred(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.data)), Mode: 0o600, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		w.Write(f.data)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// zipped writes entries as rke-tools does (main.go, compressFiles: the whole path
// is the name) and K3s (pkg/etcd/snapshot.go, compressSnapshot: the base name).
func zipped(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range files {
		w, err := z.CreateHeader(&zip.FileHeader{Name: f.name, Method: zip.Deflate})
		if err != nil {
			t.Fatal(err)
		}
		w.Write(f.data)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func packed(t testing.TB, data []byte, open func(io.Writer) (io.WriteCloser, error)) []byte {
	t.Helper()
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

func gzipped(t testing.TB, data []byte) []byte {
	return packed(t, data, func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })
}

func zstded(t testing.TB, data []byte) []byte {
	return packed(t, data, func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) })
}

func xzed(t testing.TB, data []byte) []byte {
	return packed(t, data, func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) })
}

func snapshot(t testing.TB) []byte {
	t.Helper()
	b, err := fixtures.ReadFile("healthy-3.7", "snapshot.db")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// member gives the files of a data directory, as tar names them when it is told
// to pack the folder.
func member(t testing.TB, name, below string) []file {
	t.Helper()
	var files []file
	dir := fixtures.Dir(t, name)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		files = append(files, file{below + filepath.ToSlash(rel), data})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// openPacked opens data as a file called name. scratch is empty before and must be
// so afterwards.
func openPacked(t testing.TB, name string, data []byte, opts source.Options) ([]*source.Source, []error, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	opts.Scratch = t.TempDir()
	sources, problems := source.Open(context.Background(), []string{path}, opts)
	t.Cleanup(func() {
		for _, s := range sources {
			s.Close()
		}
		for _, dir := range []string{opts.Scratch, filepath.Dir(path)} {
			left, err := os.ReadDir(dir)
			if err != nil || len(left) > 0 && left[0].Name() != name || len(left) > 1 {
				t.Errorf("left behind in %s: %v %v", dir, left, err)
			}
		}
	})
	return sources, problems, path
}

func content(t testing.TB, f *source.File) []byte {
	t.Helper()
	b := make([]byte, f.Size())
	if n, err := f.ReadAt(b, 0); n < len(b) {
		t.Fatal(err)
	}
	return b
}

// TestArchivesAsPlatformsWriteThem opens a snapshot in every form in which people
// keep one.
func TestArchivesAsPlatformsWriteThem(t *testing.T) {
	db := snapshot(t)
	state := []byte(`{"desiredState":{}}`)
	resources := tarred(t, file{"static-pod-resources/kube-apiserver-pod-6/secrets/encryption-config/encryption-config", []byte("key")})
	for _, c := range []struct {
		name, inside string
		data         []byte
	}{
		{"backup.db.gz", "backup.db", gzipped(t, db)},
		{"etcd.backup.gz", "etcd.backup", gzipped(t, db)}, // kOps' etcd-manager
		{"backup.db.zst", "backup.db", zstded(t, db)},
		{"backup.db.xz", "backup.db", xzed(t, db)},
		{"etcd-snapshot-node-1-1768996800.zip", "etcd-snapshot-node-1-1768996800", zipped(t, file{"etcd-snapshot-node-1-1768996800", db})}, // K3s, RKE2
		{"rke.zip", "/backup/2026-01-21T12:00:00Z_etcd", zipped(t, file{"/backup/2026-01-21T12:00:00Z_etcd", db}, file{"/etc/kubernetes/2026-01-21T12:00:00Z_etcd.rkestate", state})},
		{"backup.tar", "var/backups/etcd.db", tarred(t, file{"var/backups/README", []byte("text")}, file{"var/backups/etcd.db", db})},
		{"backup.tar.gz", "./etcd.db", gzipped(t, tarred(t, file{"./etcd.db", db}))},
		{"backup.tar.zst", "etcd.db", zstded(t, tarred(t, file{"etcd.db", db}))},
		{"backup.tar.xz", "etcd.db", xzed(t, tarred(t, file{"etcd.db", db}))},
		{"nested.tar.gz", "a/etcd.db.gz", gzipped(t, tarred(t, file{"a/etcd.db.gz", gzipped(t, db)}))},
		{"openshift.tar", "backup/snapshot_2026-01-21_120000.db", tarred(t, file{"backup/snapshot_2026-01-21_120000.db", db},
			file{"backup/static_kuberesources_2026-01-21_120000.tar.gz", gzipped(t, resources)})},
		{"..zip", "../../x", zipped(t, file{"../../x", db})},
		{"passwd.zip", "/etc/passwd", zipped(t, file{"/etc/passwd", db})},
		{"backslash.zip", `C:\Windows\x`, zipped(t, file{`C:\Windows\x`, db})},
		{"dotdot.tar", "../../x", tarred(t, file{"../../x", db})},
		{"twice.tar", "x", tarred(t, file{"x", bytes.Repeat(db[:4096], 3)}, file{"x", db})}, // tar keeps the last
	} {
		t.Run(c.name, func(t *testing.T) {
			sources, problems, path := openPacked(t, c.name, c.data, source.Options{})
			if len(sources) != 1 || len(problems) > 0 {
				t.Fatalf("%d sources, %v", len(sources), problems)
			}
			s := sources[0]
			if s.Kind != source.KindSnapshot || s.Path != path || s.Archive.Path != path || s.DB.Path != path+"!"+c.inside {
				t.Errorf("is %+v, database %s", s, s.DB.Path)
			}
			if !bytes.Equal(content(t, s.DB), db) {
				t.Error("the content is not the snapshot's")
			}
			if how := s.DB.Changed() + s.Archive.Changed(); how != "" {
				t.Error(how)
			}
		})
	}
}

// TestArchivedMembersAreLikeUnpackedOnes packs data directories and compares what
// is found with what is found in the directory.
func TestArchivedMembersAreLikeUnpackedOnes(t *testing.T) {
	for _, below := range []string{"", "./", "/var/lib/etcd/", "default.etcd/"} {
		plain, problems := source.Open(context.Background(), []string{fixtures.Dir(t, "healthy-3.5")}, source.Options{})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		sources, problems, path := openPacked(t, "copy.tar.zst", zstded(t, tarred(t, member(t, "healthy-3.5", below)...)), source.Options{})
		if len(problems) > 0 || len(sources) != len(plain) || len(sources) < 2 {
			t.Fatalf("%q: %d sources, %v; the directory holds %d", below, len(sources), problems, len(plain))
		}
		slices.SortFunc(plain, func(a, b *source.Source) int { return strings.Compare(a.Path, b.Path) })
		slices.SortFunc(sources, func(a, b *source.Source) int { return strings.Compare(a.Path, b.Path) })
		for i, s := range sources {
			if want := filepath.Base(plain[i].Path); s.Kind != plain[i].Kind || filepath.Base(s.Path) != want || !strings.HasPrefix(s.Path, path+"/") {
				t.Errorf("%q: source %d is %s %s, should be %s %s", below, i, s.Kind, s.Path, plain[i].Kind, want)
			}
			if got, want := sums(t, s.Files()[1:]), sums(t, plain[i].Files()); got != want {
				t.Errorf("%q: %s holds\n%s\nshould hold\n%s", below, s.Path, got, want)
			}
			if len(s.Strays) != len(plain[i].Strays) {
				t.Errorf("%q: strays are %v, should be %v", below, s.Strays, plain[i].Strays)
			}
			plain[i].Close()
		}
	}
}

func sums(t testing.TB, files []*source.File) string {
	var b strings.Builder
	for _, f := range files {
		fmt.Fprintf(&b, "%s %x\n", f.Name(), sha256.Sum256(content(t, f)))
	}
	return b.String()
}

// TestOneMemberKeepsThePathGiven: a lone data directory in an archive is called by
// the archive's path.
func TestOneMemberKeepsThePathGiven(t *testing.T) {
	var files []file
	for _, f := range member(t, "healthy-3.6", "var/lib/") {
		if strings.Contains(f.name, "/m1/") {
			files = append(files, f)
		}
	}
	sources, problems, path := openPacked(t, "m1.tgz", gzipped(t, tarred(t, files...)), source.Options{})
	if len(sources) != 1 || len(problems) > 0 || sources[0].Path != path || sources[0].Kind != source.KindDataDir {
		t.Fatalf("%+v, %v", sources, problems)
	}
}

// TestDirectoryOfArchives opens each archive of a folder, and passes over those
// that hold nothing of etcd's.
func TestDirectoryOfArchives(t *testing.T) {
	dir := t.TempDir()
	db := snapshot(t)
	for name, data := range map[string][]byte{
		"a.db.gz": gzipped(t, db), "b.db": db,
		"snapshot_1.db": db, "static_kuberesources_1.tar.gz": gzipped(t, tarred(t, file{"static-pod-resources/x", []byte("x")})),
		"notes.gz": gzipped(t, []byte("text")),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sources, problems := source.Open(context.Background(), []string{dir}, source.Options{Scratch: t.TempDir()})
	if len(problems) > 0 || len(sources) != 3 {
		t.Errorf("%d sources, %v", len(sources), problems)
	}
	for _, s := range sources {
		s.Close()
	}
}

// TestArchivesThatCannotBeRead: each gives one sentence that says why.
func TestArchivesThatCannotBeRead(t *testing.T) {
	db := snapshot(t)
	gz := gzipped(t, db)
	flipped := slices.Clone(gz)
	flipped[len(flipped)-6] ^= 1 // in the checksum
	wrongZip := zipped(t, file{"x", db})
	at := bytes.LastIndex(wrongZip, []byte("PK\x01\x02"))
	wrongZip[at+16] ^= 1 // the checksum in the central directory
	wrongZstd := zstded(t, db)
	wrongZstd[len(wrongZstd)-1] ^= 1
	onion := db
	for range 7 {
		onion = gzipped(t, onion)
	}
	var encrypted bytes.Buffer
	z := zip.NewWriter(&encrypted)
	w, err := z.CreateRaw(&zip.FileHeader{Name: "x", Flags: 1, CompressedSize64: 5, UncompressedSize64: 5})
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "12345")
	z.Close()
	bomb := gzipped(t, append(slices.Clone(db), make([]byte, 64<<20)...))
	const small, large = 1 << 20, 1 << 30
	for _, c := range []struct {
		name  string
		data  []byte
		limit int64
		says  string
	}{
		{"cut.gz", gz[:len(gz)/2], large, "the gzip data ends early"},
		{"sum.gz", flipped, large, "does not fit its checksum"},
		{"sum.zip", wrongZip, large, "does not fit its checksum"},
		{"sum.zst", wrongZstd, large, "does not fit its checksum"},
		{"cut.tar", tarred(t, file{"etcd.db", db})[:len(db)/2], large, "the tar data ends early"},
		{"cut.zip", wrongZip[:len(wrongZip)/2], large, "damaged zip data"},
		{"text.gz", gzipped(t, []byte("text")), large, "not an etcd file"},
		{"empty.gz", gzipped(t, nil), large, "nothing is packed in it"},
		{"text.tar", tarred(t, file{"a", []byte("text")}), large, "no etcd files in this archive"},
		{"empty.zip", zipped(t), large, "no etcd files in this archive"},
		{"openshift.tar.gz", gzipped(t, tarred(t, file{"static-pod-resources/kube/x", []byte("x")})), large, "snapshot_<date>.db"},
		{"onion.gz", onion, large, "archives in each other"},
		{"zip.gz", gzipped(t, zipped(t, file{"x", db})), large, "a zip file inside another archive"},
		{"bzip2", []byte("BZh91AY&SY"), large, "bzip2 data, which is not read"},
		{"backup.db.age", []byte("age-encryption.org/v1\n"), large, "age-encrypted data, which is not read"},
		{"locked.zip", encrypted.Bytes(), large, "is encrypted"},
		{"bomb.gz", bomb, small, "unpacks to more than 1.0 MiB; --scratch-limit allows more"},
		{"bomb.tar", tarred(t, file{"etcd.db", append(slices.Clone(db), make([]byte, 4<<20)...)}), small, "unpacks to more than 1.0 MiB"},
		{"skipped.tar.gz", gzipped(t, tarred(t, file{"zeros", make([]byte, 64<<20)}, file{"etcd.db", db})), small, "unpacks to more than 1.0 MiB"},
		{"segment.gz", gzipped(t, segment(t)), large, "a WAL segment by itself"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sources, problems, path := openPacked(t, c.name, c.data, source.Options{ScratchLimit: c.limit})
			if len(sources) > 0 || len(problems) != 1 {
				t.Fatalf("%d sources, %v", len(sources), problems)
			}
			if text := problems[0].Error(); !strings.Contains(text, c.says) || !strings.HasPrefix(text, path+": ") || strings.Contains(text, "\n") {
				t.Errorf("says %q; it should say %q", text, c.says)
			}
		})
	}
}

func segment(t testing.TB) []byte {
	for _, f := range member(t, "healthy-3.7", "") {
		if strings.HasSuffix(f.name, ".wal") {
			return f.data
		}
	}
	t.Fatal("no segment")
	return nil
}

// large is a snapshot's head with so much behind it that no buffer holds it all, and
// no bytes that pack well.
func large(t testing.TB) []byte {
	b := snapshot(t)
	r := rand.New(rand.NewPCG(3, 4))
	for len(b) < 5<<20 {
		b = append(b, byte(r.Uint32()))
	}
	return b
}

// TestChecksumsBehindAnArchiveAreRead: what is of use ends before the packed data
// does.
func TestChecksumsBehindAnArchiveAreRead(t *testing.T) {
	inner := tarred(t, file{"etcd.db", large(t)})
	forms := map[string][]byte{"tar.gz": gzipped(t, inner), "tar.zst": zstded(t, inner), "tar.xz": xzed(t, inner)}
	for name, good := range forms {
		flipped := slices.Clone(good)
		at := map[string]int{"tar.gz": 6, "tar.zst": 1, "tar.xz": 6}[name] // from the end: in the checksum, or the footer
		flipped[len(flipped)-at] ^= 1
		for how, data := range map[string][]byte{"cut": good[:len(good)-1], "flipped": flipped, "garbage": append(slices.Clone(good), "garbage behind"...)} {
			if sources, problems, _ := openPacked(t, "backup."+name, data, source.Options{}); len(sources) > 0 || len(problems) != 1 {
				t.Errorf("%s %s: %d sources, %v", name, how, len(sources), problems)
			}
		}
		if sources, problems, _ := openPacked(t, "backup."+name, good, source.Options{}); len(sources) != 1 || len(problems) > 0 {
			t.Errorf("%s: %v", name, problems)
		}
	}
	padded := append(slices.Clone(forms["tar.gz"]), make([]byte, 10240)...)
	if sources, problems, _ := openPacked(t, "padded.gz", padded, source.Options{}); len(sources) != 1 || len(problems) > 0 {
		t.Errorf("zeros behind: %v", problems)
	}
}

// TestHugeWindowsAreRefused: the formats can ask for gigabytes to look back in.
func TestHugeWindowsAreRefused(t *testing.T) {
	db := snapshot(t)
	hugeXZ := packed(t, db, func(w io.Writer) (io.WriteCloser, error) { return xz.WriterConfig{DictCap: 1 << 30}.NewWriter(w) })
	hugeZstd := packed(t, nil, func(w io.Writer) (io.WriteCloser, error) {
		// A frame header whose window descriptor says 2 GiB (RFC 8878, 3.1.1.1.2).
		_, err := w.Write([]byte("\x28\xb5\x2f\xfd\x00\xa8"))
		return nopCloser{w}, err
	})
	for name, data := range map[string][]byte{"db.xz": hugeXZ, "db.zst": hugeZstd} {
		if _, problems, _ := openPacked(t, name, data, source.Options{}); len(problems) != 1 || !strings.Contains(problems[0].Error(), "of memory to unpack") {
			t.Errorf("%s: %v", name, problems)
		}
	}
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// TestBrokenArchivesLeaveNothingBehind opens archives with random damage: no
// panic, and nothing stays in the scratch folder.
func TestBrokenArchivesLeaveNothingBehind(t *testing.T) {
	db := snapshot(t)
	forms := [][]byte{gzipped(t, db), zstded(t, db), xzed(t, db), tarred(t, file{"etcd.db", db}), zipped(t, file{"etcd.db", db}), gzipped(t, tarred(t, file{"a", db}, file{"b", db}))}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 150 {
		data := slices.Clone(forms[i%len(forms)])
		switch i / len(forms) % 4 {
		case 0:
			data = data[:r.IntN(len(data))]
		case 1:
			for range 1 + r.IntN(8) {
				data[r.IntN(len(data))] ^= 1 << r.IntN(8)
			}
		case 2:
			at := r.IntN(len(data))
			clear(data[at:min(len(data), at+4096)])
		default:
			data = slices.Concat(data, data[:r.IntN(len(data))])
		}
		openPacked(t, "backup", data, source.Options{ScratchLimit: 64 << 20})
	}
}

// TestInterruptEndsUnpacking: the end of the context is the end of the work.
func TestInterruptEndsUnpacking(t *testing.T) {
	path := filepath.Join(t.TempDir(), "backup.gz")
	if err := os.WriteFile(path, gzipped(t, snapshot(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	scratch := t.TempDir()
	sources, problems := source.Open(ctx, []string{path}, source.Options{Scratch: scratch})
	if len(sources) > 0 || len(problems) != 1 || !errors.Is(problems[0], context.Canceled) {
		t.Errorf("%v, %v", sources, problems)
	}
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

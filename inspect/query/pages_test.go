package query_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
)

// open reads the pages of one path.
func open(tb testing.TB, path string) *query.Pages {
	tb.Helper()
	p, err := tryOpen(tb, path)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func tryOpen(tb testing.TB, path string) (*query.Pages, error) {
	tb.Helper()
	return query.OpenPages(context.Background(), openSource(tb, path), -1)
}

// look gives one page in full.
func look(tb testing.TB, p *query.Pages, id uint64, opts query.PageOptions) *query.Page {
	tb.Helper()
	var got *query.Page
	err := p.Look(context.Background(), []uint64{id}, opts, func(v *query.Page) error {
		got = v
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return got
}

// inUse gives the numbers of the pages below the high-water mark.
func inUse(p *query.Pages) []uint64 {
	ids := make([]uint64, len(p.Pages.Class))
	for i := range ids {
		ids[i] = uint64(i)
	}
	return ids
}

func list(tb testing.TB, p *query.Pages) []query.PageRow {
	tb.Helper()
	var rows []query.PageRow
	err := p.List(context.Background(), func(r query.PageRow) error {
		rows = append(rows, r)
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return rows
}

func TestPagesAgreeWithBbolt(t *testing.T) {
	for _, name := range fixtures.Names() {
		if name == "copied-while-running-3.6" {
			continue // a torn copy: bbolt itself may fail on it
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, path := range fixtures.Databases(t, name) {
				p := open(t, path)
				addsUp(t, p)
				rows, m := list(t, p), p.Map()
				db, err := bolt.Open(path, 0o400, &bolt.Options{ReadOnly: true, PreLoadFreelist: true})
				if err != nil {
					t.Fatal(err)
				}
				err = db.View(func(tx *bolt.Tx) error {
					if got, want := fmt.Sprint(bboltRows(rows)), fmt.Sprint(theirRows(t, tx)); got != want {
						t.Errorf("%s: the list is\n%s\nbbolt says\n%s", path, got, want)
					}
					compareBuckets(t, tx, m)
					return nil
				})
				if err := db.Close(); err != nil {
					t.Error(err)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// bboltRows writes rows as theirRows does.
func bboltRows(rows []query.PageRow) []string {
	var lines []string
	for _, r := range rows {
		if r.Class == "free" {
			lines = append(lines, fmt.Sprintf("%d free", r.Page))
			continue
		}
		lines = append(lines, fmt.Sprintf("%d %s %d %d", r.Page, r.Class, *r.Items, *r.Overflow))
	}
	return lines
}

// theirRows lists the pages as `bbolt pages` walks them.
func theirRows(t *testing.T, tx *bolt.Tx) []string {
	var lines []string
	for id := 0; ; {
		info, err := tx.Page(id)
		if err != nil {
			t.Fatal(err)
		}
		if info == nil {
			return lines
		}
		if info.Type == "free" {
			lines = append(lines, fmt.Sprintf("%d free", id))
			id++
			continue
		}
		lines = append(lines, fmt.Sprintf("%d %s %d %d", id, info.Type, info.Count, info.OverflowCount))
		id += 1 + info.OverflowCount
	}
}

// compareBuckets holds the buckets of the map against bbolt's statistics. Those of
// a bucket with buckets in it include theirs, so it is left out.
func compareBuckets(t *testing.T, tx *bolt.Tx, m *query.PageMap) {
	compared := 0
	for _, b := range m.Buckets {
		bucket := tx.Bucket([]byte(b.Bucket))
		if bucket == nil {
			continue // the root bucket, or one whose name is quoted
		}
		s := bucket.Stats()
		if s.BucketN != 1 {
			t.Fatalf("bucket %s holds buckets", b.Bucket)
		}
		compared++
		want := query.BucketPages{
			Bucket: b.Bucket, Root: uint64(bucket.Root()), Holder: b.Holder, Inline: s.InlineBucketN == 1, Depth: s.Depth,
			BranchPages: int64(s.BranchPageN), LeafPages: int64(s.LeafPageN), OverflowPages: int64(s.BranchOverflowN + s.LeafOverflowN),
			Records: int64(s.KeyN), UsedBytes: int64(s.BranchInuse + s.LeafInuse), PageBytes: int64(s.BranchAlloc + s.LeafAlloc), Fill: b.Fill,
		}
		if b != want {
			t.Errorf("bucket %s is\n%+v\nbbolt says\n%+v", b.Bucket, b, want)
		}
	}
	if compared < 9 {
		t.Errorf("only %d buckets were compared", compared)
	}
}

// addsUp fails unless every page has one class and the classes take the whole
// file.
func addsUp(t *testing.T, p *query.Pages) {
	t.Helper()
	m := p.Map()
	var bytes, pages, next int64
	for _, c := range m.Classes {
		bytes += c.Bytes
		pages += c.Pages
	}
	if bytes+m.TrailerBytes != m.Size || pages != m.Total {
		t.Errorf("%s: the classes take %d + %d bytes of %d, %d pages of %d", m.File, bytes, m.TrailerBytes, m.Size, pages, m.Total)
	}
	for r := range m.Runs {
		if r.First != next || r.Count < 1 {
			t.Errorf("%s: run %+v, page %d is next", m.File, r, next)
		}
		next = r.First + r.Count
	}
	if next != m.Total {
		t.Errorf("%s: the runs end before page %d of %d", m.File, next, m.Total)
	}
	drawn := 0
	for _, row := range m.Picture.Rows {
		drawn += len(row.Cells)
	}
	if each := int(m.Picture.PagesPerCell); drawn > 1024 || drawn != (len(p.Pages.Class)+each-1)/each {
		t.Errorf("%s: %d characters of %d pages for %d pages", m.File, drawn, each, len(p.Pages.Class))
	}
}

// structural says whether an injury is one of pages.
func structural(i fixtures.Injury) bool {
	return slices.ContainsFunc(i.Codes, func(c string) bool {
		return strings.HasPrefix(c, "backend-page") || strings.HasPrefix(c, "backend-freelist") || strings.HasPrefix(c, "backend-truncated") ||
			c == "backend-meta-rollback" || c == "backend-meta-checksum" || c == "backend-meta-impossible"
	})
}

func TestDamagedPagesSayWhatIsWrong(t *testing.T) {
	tested := 0
	for _, i := range fixtures.Injuries {
		if !structural(i) {
			continue
		}
		tested++
		t.Run(i.Name, func(t *testing.T) {
			t.Parallel()
			f, err := fixtures.Lookup(i.Name)
			if err != nil {
				t.Fatal(err)
			}
			p := open(t, filepath.Join(fixtures.Dir(t, i.Name), f.Sources[0]))
			addsUp(t, p)
			list(t, p)
			views := map[uint64]*query.Page{}
			err = p.Look(context.Background(), inUse(p), query.PageOptions{Hex: true, Values: true}, func(v *query.Page) error {
				v.Bytes = nil
				views[v.Page] = v
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, code := range i.Codes {
				if code != string(inspect.CodeBackendOlderTreeSound) && !slices.ContainsFunc(p.Findings, func(f inspect.Finding) bool { return string(f.Code) == code }) {
					t.Errorf("no finding %s", code)
				}
			}
			drawn := strings.Join(picture(p.Map()), "")
			for _, f := range p.Findings {
				if f.Location.Page == nil {
					continue
				}
				id := *f.Location.Page
				if !slices.ContainsFunc(views[id].Findings, func(g inspect.Finding) bool { return g.Code == f.Code && g.Message == f.Message }) {
					t.Errorf("page %d does not say %s", id, f.Message)
				}
				if f.Severity == inspect.SeverityError && id >= 2 && drawn[id/uint64(p.Map().Picture.PagesPerCell)] != 'X' {
					t.Errorf("page %d is not drawn as damaged: %s", id, drawn)
				}
			}
		})
	}
	if tested < 15 {
		t.Errorf("only %d injuries are of pages", tested)
	}
}

func picture(m *query.PageMap) []string {
	var rows []string
	for _, r := range m.Picture.Rows {
		rows = append(rows, r.Cells)
	}
	return rows
}

func TestPathsLeadToThePage(t *testing.T) {
	for _, name := range []string{"healthy-3.6", "pagesize-512", "freelist-synced", "bucket-unknown"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := open(t, fixtures.Databases(t, name)[0])
			views := map[uint64]*query.Page{}
			err := p.Look(context.Background(), inUse(p), query.PageOptions{}, func(v *query.Page) error {
				views[v.Page] = v
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			root := uint64(p.DB.Meta().Root)
			named := 0
			for id, v := range views {
				switch v.Class {
				case "free", "meta":
					if len(v.References) != 0 || v.Bucket != nil {
						t.Errorf("page %d is %s and named by %+v", id, v.Class, v.References)
					}
					continue
				case "overflow":
					head := views[*v.PartOf]
					if head == nil || head.Class == "overflow" || uint64(head.Header.Overflow) < id-*v.PartOf || fmt.Sprint(head.Path) != fmt.Sprint(v.Path) {
						t.Errorf("page %d is no overflow of page %d", id, *v.PartOf)
					}
					continue
				case "freelist":
					if len(v.References) != 1 || v.References[0].Field != "freelist" || len(v.Path) != 0 {
						t.Errorf("freelist page %d: %+v", id, v)
					}
					continue
				}
				if len(v.References) != 1 || v.Path[0] != root || v.Path[len(v.Path)-1] != id {
					t.Errorf("page %d: path %v, named by %+v", id, v.Path, v.References)
					continue
				}
				r := v.References[0]
				if r.Field == "root" {
					continue
				}
				holder := views[r.Holder]
				if e := holder.Elements[r.Element]; e.Child != id && (e.Bucket == nil || e.Bucket.Root != id) {
					t.Errorf("element %d of page %d does not name page %d", r.Element, r.Holder, id)
				}
				if fmt.Sprint(holder.Path) != fmt.Sprint(v.Path[:len(v.Path)-1]) {
					t.Errorf("page %d has path %v, the page that names it %v", id, v.Path, holder.Path)
				}
				for _, e := range v.Elements {
					if r.Lo != nil && bytes.Compare(e.Key.Raw, r.Lo.Raw) < 0 || r.Hi != nil && bytes.Compare(e.Key.Raw, r.Hi.Raw) >= 0 {
						t.Errorf("page %d, element %d lies outside what page %d promises", id, e.Index, r.Holder)
					}
				}
				named++
			}
			if named < 100 {
				t.Errorf("only %d pages are named by others", named)
			}
		})
	}
}

func TestKeysOfAPage(t *testing.T) {
	p := open(t, fixtures.Databases(t, "healthy-3.6")[0])
	keys := map[string]bool{}
	tombstones := 0
	err := p.Look(context.Background(), inUse(p), query.PageOptions{}, func(v *query.Page) error {
		if v.Class != "leaf" || v.Bucket == nil || *v.Bucket != "key" {
			return nil
		}
		for _, e := range v.Elements {
			if e.Key.Revision == "" || e.EtcdKey == nil || len(e.Faults) > 0 {
				t.Errorf("page %d: %+v", v.Page, e)
			}
			if e.Key.Tombstone {
				tombstones++
			}
			keys[string(e.EtcdKey)] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range fixtures.LoadLiveKeys(t, "healthy-3.6") {
		if !keys[string(k.Key)] {
			t.Errorf("key %q is on no page", k.Key)
		}
	}
	if tombstones == 0 {
		t.Error("no tombstone")
	}
}

// bcrypt begins every hash of a password that etcd stores.
var bcrypt = []byte("$2a$")

func TestAuthRecordsAreNeverShown(t *testing.T) {
	path := fixtures.Databases(t, "auth-3.6")[0]
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Count(file, bcrypt) < 4 {
		t.Fatal("the fixture holds no passwords")
	}
	p := open(t, path)
	dumped := 0
	err = p.Look(context.Background(), inUse(p), query.PageOptions{Hex: true, Values: true}, func(v *query.Page) error {
		noPasswords(t, v)
		if v.Bytes != nil {
			dumped++
		}
		return nil
	})
	if err != nil || dumped != len(p.Pages.Class) {
		t.Errorf("%d of %d pages, %v", dumped, len(p.Pages.Class), err)
	}
}

func noPasswords(t *testing.T, v *query.Page) {
	t.Helper()
	if bytes.Contains(v.Bytes, bcrypt) {
		t.Errorf("page %d shows the hash of a password", v.Page)
	}
	for _, e := range v.Elements {
		shows := bytes.Contains(e.Key.Raw, bcrypt) || bytes.Contains(e.EtcdKey, bcrypt)
		if e.Bucket != nil {
			for _, inner := range e.Bucket.Elements {
				shows = shows || bytes.Contains(inner.Key.Raw, bcrypt)
			}
		}
		if shows {
			t.Errorf("page %d, element %d shows the hash of a password", v.Page, e.Index)
		}
	}
}

func TestValuesNeedToBeAskedFor(t *testing.T) {
	p := open(t, fixtures.Databases(t, "freelist-synced")[0])
	seen := map[string]int{}
	for r := range p.Map().Runs {
		if seen[r.Class]++; seen[r.Class] > 3 {
			continue
		}
		id := uint64(r.First)
		v := look(t, p, id, query.PageOptions{Hex: true})
		of := v.Class
		if v.PartOf != nil {
			of = look(t, p, *v.PartOf, query.PageOptions{}).Class
		}
		allowed := of == "meta" || of == "branch" || of == "freelist"
		if err := p.MayDump(id, false); (err == nil) != allowed {
			t.Errorf("page %d (%s): %v", id, r.Class, err)
		}
		if err := p.MayDump(id, true); err != nil {
			t.Errorf("page %d (%s), asked for: %v", id, r.Class, err)
		}
		if (v.Bytes != nil) != allowed {
			t.Errorf("page %d (%s) gives %d bytes", id, r.Class, len(v.Bytes))
		}
	}
	if len(seen) != 7 { // all but unreachable and damaged
		t.Errorf("classes %v", seen)
	}
}

func TestBytesOfAPageAreItsOwn(t *testing.T) {
	path := fixtures.Databases(t, "freelist-synced")[0]
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, path)
	whole := 0
	for id := range uint64(len(p.Pages.Class)) {
		v := look(t, p, id, query.PageOptions{Hex: true, Values: true})
		if len(v.Masked) == 0 && !bytes.Equal(v.Bytes, file[v.Offset:v.Offset+v.Size]) {
			t.Errorf("page %d: its bytes are others", id)
		}
		if v.PartOf == nil && v.Size > int64(p.DB.PageSize) {
			whole++
		}
	}
	if whole < 2 {
		t.Error("no page with overflow")
	}
}

// TestFlippedBytesShowNoPasswords turns bytes of the page that holds the users of
// a small copy, and looks at it.
func TestFlippedBytesShowNoPasswords(t *testing.T) {
	path := fixtures.Databases(t, "auth-3.6")[0]
	id := uint64(open(t, path).DB.Meta().Root)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sound := make([]byte, 4096)
	at := int64(id) * int64(len(sound))
	if _, err := f.ReadAt(sound, at); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(4, 11))
	for range 150 {
		hurt := bytes.Clone(sound)
		for range 1 + random.IntN(3) {
			hurt[random.IntN(1800)] = byte(random.IntN(256))
		}
		if _, err := f.WriteAt(hurt, at); err != nil {
			t.Fatal(err)
		}
		p := open(t, path)
		noPasswords(t, look(t, p, id, query.PageOptions{Hex: true, Values: true}))
	}
}

// TestFlippedBytesEndInAnswers turns bytes anywhere below the high-water mark of a
// small database, above all in headers and element tables, and asks for all.
func TestFlippedBytesEndInAnswers(t *testing.T) {
	path := fixtures.Databases(t, "freelist-synced")[0]
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var ids []uint64
	for _, r := range list(t, open(t, path)) {
		if r.Class != "free" {
			ids = append(ids, r.Page)
		}
	}
	random := rand.New(rand.NewPCG(7, 3))
	for range 60 {
		var changed []int64
		for range 1 + random.IntN(8) {
			at := int64(ids[random.IntN(len(ids))])*4096 + int64(random.IntN(96))
			changed = append(changed, at)
			if _, err := f.WriteAt([]byte{byte(random.IntN(256))}, at); err != nil {
				t.Fatal(err)
			}
		}
		if p, err := tryOpen(t, path); err == nil {
			addsUp(t, p)
			list(t, p)
			for _, at := range changed {
				look(t, p, uint64(at/4096), query.PageOptions{Hex: true, Values: true})
			}
		}
		for _, at := range changed {
			if _, err := f.WriteAt(sound[at:at+1], at); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestOtherSlot(t *testing.T) {
	path := fixtures.Databases(t, "healthy-3.6")[0]
	s := openSource(t, path)
	for slot := range 2 {
		p, err := query.OpenPages(context.Background(), s, slot)
		if err != nil {
			t.Fatal(err)
		}
		m := p.Map()
		if m.ActiveMeta == nil || *m.ActiveMeta != slot || m.Txid != m.Metas[slot].Txid || m.Buckets[0].Root != m.Metas[slot].Root || m.Metas[slot].Active != true {
			t.Errorf("slot %d: %+v", slot, m)
		}
		addsUp(t, p)
	}
}

func TestFilesWithoutPages(t *testing.T) {
	for name, want := range map[string]string{"metas-and-roots-zeroed": inspect.ErrNoMeta.Error(), "not-bbolt": inspect.ErrNoDatabase.Error(), "backend-missing": inspect.ErrNoDatabase.Error()} {
		if _, err := tryOpen(t, filepath.Join(fixtures.Dir(t, name), "m1")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

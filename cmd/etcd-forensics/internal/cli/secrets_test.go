package cli_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"etcd-forensics/fixtures"
)

// shownOf runs what shows most of a database and gives all output in one. The
// dumps put 16 bytes a line beside their hex; these are joined.
func shownOf(t *testing.T, db string, ids ...string) string {
	t.Helper()
	var all strings.Builder
	for _, args := range [][]string{
		{"inspect", "--no-digest", db}, {"inspect", "--no-digest", "-w", "json", db}, {"pages", db},
		append([]string{"pages", db}, ids...), append([]string{"pages", "--hex", "--values", "full", "-w", "json", db}, ids...),
	} {
		exit, out, stderr := run(t, args...)
		if exit > 3 {
			t.Fatalf("%v: exit %d", args, exit)
		}
		all.WriteString(out + stderr)
	}
	return all.String()
}

// flips calls try with every bit flipped, one at a time, of the fields of every
// element on a page: pos, ksize and vsize, as far as they can stay on the page.
func flips(db []byte, at, elements, step int, try func(what string)) {
	n := 0
	for e := range elements {
		for field := 4; field < 16; field += 4 {
			for bit := range 13 {
				if n++; n%step != 0 {
					continue
				}
				where := at + 16 + e*16 + field + bit/8
				db[where] ^= 1 << (bit % 8)
				try(fmt.Sprintf("element %d, field %d, bit %d at 0x%x", e, field, bit, at))
				db[where] ^= 1 << (bit % 8)
			}
		}
	}
}

// TestDamageShowsNoPassword flips bits where they make records of auth look like
// something else: in the elements of the root bucket, and in those of the inline
// bucket authUsers.
func TestDamageShowsNoPassword(t *testing.T) {
	dir := fixtures.Dir(t, "auth-3.6")
	from, err := os.ReadFile(filepath.Join(dir, "m1", "member", "snap", "db"))
	if err != nil {
		t.Fatal(err)
	}
	const pageSize = 4096
	users := bytes.LastIndex(from, []byte("authUsers")) + len("authUsers") + 16
	var roots []int // pages that hold the root bucket now or did before
	for at := 0; at < len(from); at += pageSize {
		if p := from[at : at+pageSize]; p[8] == 2 && bytes.Contains(p, []byte("authUsers")) {
			roots = append(roots, at)
		}
	}
	if !bytes.Contains(from, []byte("$2a$")) || len(roots) == 0 || users < 16 {
		t.Fatal("no password in the fixture")
	}
	db := bytes.Clone(from)
	file := filepath.Join(t.TempDir(), "db")
	tried := 0
	try := func(ids ...string) func(string) {
		return func(what string) {
			tried++
			if err := os.WriteFile(file, db, 0o600); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(shownOf(t, file, ids...), "$2a$") {
				t.Errorf("%s: a password is shown", what)
			}
		}
	}
	step := 7
	if testing.Short() {
		step = 41
	}
	for _, at := range roots {
		id := fmt.Sprint(at / pageSize)
		n := int(binary.LittleEndian.Uint16(from[at+10:]))
		flips(db, at, n, step, try(id))
		at += bytes.Index(from[at:at+pageSize], []byte("authUsers")) + len("authUsers") + 16
		if n := int(binary.LittleEndian.Uint16(from[at+10:])); n > 0 && n < 100 {
			flips(db, at, n, step, try(id))
		}
	}
	for _, at := range roots { // the letter that tells the bucket from others
		at += bytes.Index(db[at:at+pageSize], []byte("authUsers"))
		db[at+8] ^= 1
		try(fmt.Sprint(at / pageSize))("name of the bucket")
		db[at+8] ^= 1
	}
	if tried < 50 && !testing.Short() {
		t.Errorf("only %d bits flipped", tried)
	}
}

// TestDamageShowsNoValue flips bits of the sizes of the last record on pages of
// bucket key, where nothing behind it tells that they are wrong.
func TestDamageShowsNoValue(t *testing.T) {
	dir := fixtures.Dir(t, "healthy-3.6")
	from, err := os.ReadFile(filepath.Join(dir, "m1", "member", "snap", "db"))
	if err != nil {
		t.Fatal(err)
	}
	const pageSize = 4096
	file := filepath.Join(t.TempDir(), "db")
	tried := 0
	for at := 2 * pageSize; at < len(from) && tried < 60; at += pageSize {
		n := int(binary.LittleEndian.Uint16(from[at+10:]))
		if from[at+8] != 2 || n < 2 || n > 200 {
			continue
		}
		last := at + 16 + 16*(n-1)
		key := last + int(binary.LittleEndian.Uint32(from[last+4:]))
		if binary.LittleEndian.Uint32(from[last+8:]) != 17 || key+64 > len(from) {
			continue
		}
		for bit := 5; bit < 8; bit++ { // 32 to 128 bytes more
			db := bytes.Clone(from)
			db[last+8] ^= 1 << bit
			record := from[key+17 : min(key+17+40, len(from))]
			if err := os.WriteFile(file, db, 0o600); err != nil {
				t.Fatal(err)
			}
			tried++
			_, out, _ := run(t, "inspect", "--no-digest", file)
			i := bytes.Index(record, []byte("/registry/"))
			for _, line := range strings.Split(out, "\n") {
				if i >= 0 && strings.Contains(line, "is not a revision") && strings.Contains(line, string(record[i:i+14])) {
					t.Errorf("page %d, ksize bit %d: part of a record is shown: %s", at/pageSize, bit, line)
				}
			}
		}
	}
	if tried < 30 {
		t.Errorf("only %d records tried", tried)
	}
}

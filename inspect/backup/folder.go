package backup

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"etcd-forensics/inspect/source"
)

// A candidate is a file or folder that may be a backup.
type candidate struct {
	path  string
	name  string // below the folder that was handed in
	size  int64
	named time.Time // the time in its name; zero when there is none
}

// maxDepth is how far below a folder backups are looked for: kOps has one folder
// for each, Velero's and Gardener's lie deeper.
const maxDepth = 4

// candidates lists what is to be judged at path. A member's directory is one
// backup; any other folder is a series.
func (v *verification) candidates(path string) (found []candidate, isFolder bool, err error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() || source.IsMember(path) {
		c := candidate{path: path, name: filepath.Base(path)}
		if err == nil && !info.IsDir() {
			c.size = info.Size()
		}
		c.named = timeIn(c.name)
		return []candidate{c}, false, nil
	}
	err = filepath.WalkDir(path, func(at string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(path, at)
		switch {
		case err != nil && rel != ".":
			v.passOver(at, "it cannot be read: "+plainReason(err))
			return fs.SkipDir
		case err != nil:
			return err
		case d.IsDir() && rel != ".":
			if source.IsMember(at) {
				found = append(found, candidate{path: at, name: rel, named: timeIn(rel)})
				return fs.SkipDir
			}
			if strings.Count(filepath.ToSlash(rel), "/") >= maxDepth {
				v.passOver(at, "a folder this deep is not looked into")
				return fs.SkipDir
			}
		case !d.IsDir():
			v.consider(&found, path, at, rel)
		}
		return nil
	})
	sortCandidates(found)
	return found, true, err
}

func (v *verification) passOver(path, reason string) {
	v.report.PassedOver = append(v.report.PassedOver, PassedOver{path, reason})
}

func plainReason(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "no permission"
	}
	return err.Error()
}

// consider takes a file of a folder for a backup unless it is clearly something
// else. An empty file, one whose bytes mean nothing, or an error message under a
// backup's name, was meant as one.
func (v *verification) consider(found *[]candidate, folder, at, rel string) {
	info, err := os.Stat(at)
	name := filepath.Base(at)
	switch link, _ := os.Lstat(at); {
	case err != nil:
		v.passOver(at, "a link that leads nowhere")
	case info.IsDir():
		v.passOver(at, "a link to a folder")
	case !info.Mode().IsRegular():
		v.passOver(at, "no regular file")
	case link != nil && link.Mode()&fs.ModeSymlink != 0 && leadsInto(at, folder):
		v.passOver(at, "a link to a file that is there as well")
	case strings.HasPrefix(name, "."):
		v.passOver(at, "a hidden file")
	case strings.Contains(name, "static_kuberesources"):
		v.passOver(at, "OpenShift's static resources, which are kept beside a snapshot")
	case isText(at) && !namedAsBackup(name):
		v.passOver(at, "text")
	default:
		*found = append(*found, candidate{at, rel, info.Size(), timeIn(rel)})
	}
}

// leadsInto says whether a link leads to a file in a folder.
func leadsInto(link, folder string) bool {
	to, err := filepath.EvalSymlinks(link)
	if err != nil {
		return false
	}
	folder, err = filepath.EvalSymlinks(folder)
	if err != nil {
		return false
	}
	rel, err := filepath.Rel(folder, to)
	return err == nil && filepath.IsLocal(rel)
}

// Endings of what lies beside backups, and of backups.
var (
	besideBackups = []string{".txt", ".md", ".log", ".json", ".yaml", ".yml", ".sha256", ".sha256sum", ".md5", ".meta", ".rkestate", ".asc", ".sig", ".prom", ".xml"}
	ofBackups     = []string{".db", ".snap", ".snapshot", ".backup", ".bak", ".gz", ".tgz", ".zst", ".xz", ".zip", ".tar"}
)

// namedAsBackup says whether a name is a backup's: by its ending, or by a time in it.
func namedAsBackup(name string) bool {
	ending := strings.ToLower(filepath.Ext(name))
	return slices.Contains(ofBackups, ending) || !slices.Contains(besideBackups, ending) && !timeIn(name).IsZero()
}

// isText says whether a file begins with nothing but text.
func isText(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 4096)
	n, _ := f.ReadAt(head, 0)
	head = head[:n]
	for cut := 0; cut < utf8.UTFMax && len(head) > 0 && !utf8.Valid(head); cut++ {
		head = head[:len(head)-1] // a character that goes on behind
	}
	return len(head) > 0 && utf8.Valid(head) && !bytes.ContainsFunc(head, func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' && r != '\t' })
}

// sortCandidates puts a series in order: by the times in the names when all have
// one, otherwise by name, with numbers as numbers.
func sortCandidates(list []candidate) {
	timed := !slices.ContainsFunc(list, func(c candidate) bool { return c.named.IsZero() })
	slices.SortFunc(list, func(a, b candidate) int {
		if timed {
			if c := a.named.Compare(b.named); c != 0 {
				return c
			}
		}
		return cmp.Or(compareNatural(a.name, b.name), strings.Compare(a.name, b.name))
	})
}

var digits = regexp.MustCompile(`\d+|\D+`)

// compareNatural compares names with numbers in them as numbers.
func compareNatural(a, b string) int {
	as, bs := digits.FindAllString(a, -1), digits.FindAllString(b, -1)
	for i := range min(len(as), len(bs)) {
		x, y := strings.TrimLeft(as[i], "0"), strings.TrimLeft(bs[i], "0")
		c := strings.Compare(as[i], bs[i])
		if isDigit(as[i][0]) && isDigit(bs[i][0]) {
			c = cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y))
		}
		if c != 0 {
			return c
		}
	}
	return cmp.Compare(len(as), len(bs))
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// A date with or without separators, and perhaps a time of day: 2026-11-21T13:05:00Z,
// 20261121-130500, 2026-11-21_130500; or seconds since 1970, as K3s has them.
var (
	dateInName  = regexp.MustCompile(`(20\d\d)[-_.]?(0[1-9]|1[0-2])[-_.]?([0-3]\d)(?:[-_.T ]?([0-2]\d)[-_.:h]?([0-5]\d)(?:[-_.:m]?([0-5]\d))?)?`)
	epochInName = regexp.MustCompile(`(?:^|\D)(1\d{9})(?:\D|$)`)
)

// timeIn reads the time that a name holds; zero when it holds none.
func timeIn(name string) time.Time {
	if m := dateInName.FindStringSubmatch(name); m != nil {
		var n [6]int
		for i := range n {
			n[i], _ = strconv.Atoi(m[i+1])
		}
		t := time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], 0, time.UTC)
		if t.Day() == n[2] && n[3] < 24 {
			return t
		}
	}
	if m := epochInName.FindStringSubmatch(name); m != nil {
		n, _ := strconv.ParseInt(m[1], 10, 64)
		return time.Unix(n, 0).UTC()
	}
	return time.Time{}
}

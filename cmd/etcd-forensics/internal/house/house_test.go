// Package house holds the tests of the rules that docs/architecture.md states.
package house

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = "../../../.."
	module = "etcd-forensics"
)

// readers decode evidence.
var readers = []string{
	"walreader", "walreader/raftlog", "walreader/snapfile", "snapdb", "snapdb/page", "snapdb/scan", "snapdb/keyspace", "snapdb/kube",
}

// arrows says which packages of ours each package may import.
var arrows = map[string][]string{
	"cmd/etcd-forensics": {"cmd/etcd-forensics/internal/cli"},

	"cmd/etcd-forensics/internal/manpages": {"cmd/etcd-forensics/internal/cli"},

	"cmd/etcd-forensics/internal/cli": {"inspect", "inspect/source", "inspect/query", "inspect/backup", "inspect/symptom", "inspect/restore", "inspect/rehearse", "inspect/recover", "inspect/redact", "walreader/replay", "report"},
	"report":                          {"inspect", "inspect/query", "inspect/backup", "inspect/symptom", "inspect/restore", "inspect/rehearse", "inspect/recover", "inspect/redact", "snapdb/kube", "snapdb/kube/manifest"},
	"inspect":                         append([]string{"inspect/source"}, readers...),
	"inspect/query":                   append([]string{"inspect", "inspect/source"}, readers...),
	"inspect/backup":                  {"inspect", "inspect/source", "inspect/query", "snapdb/kube"},
	"inspect/symptom":                 {"inspect"},
	"inspect/restore":                 {"inspect", "snapdb/kube"},
	"inspect/redact":                  append([]string{"inspect/source"}, readers...),
	"inspect/rehearse":                {"inspect", "inspect/source", "inspect/query", "inspect/restore", "inspect/recover", "inspect/scratch", "walreader/replay"},
	"inspect/recover":                 append([]string{"inspect", "inspect/source", "inspect/scratch", "walreader/replay", "snapdb/rebuild"}, readers...),
	"walreader/replay":                {"walreader", "walreader/raftlog", "snapdb/rebuild"},
	"snapdb/rebuild":                  nil,
	"snapdb/scan":                     {"snapdb", "snapdb/page", "snapdb/keyspace"},
	"walreader/raftlog":               {"walreader"},
	"walreader/snapfile":              {"walreader", "walreader/raftlog"}, // raft's conf state
	"snapdb":                          {"snapdb/page"},
	"snapdb/kube/manifest":            {"snapdb/kube"},
	"walreader":                       nil,
	"snapdb/page":                     nil,
	"snapdb/keyspace":                 nil,
	"snapdb/kube":                     nil,
	"inspect/source":                  {"inspect/scratch"},
	"inspect/scratch":                 nil,
	"inspect/inspecttest":             {"inspect", "inspect/source", "inspect/source/sourcetest"},
	"inspect/source/sourcetest":       {"inspect/source"},
	"fixtures":                        nil,
	"fixtures/mutants":                {"fixtures", "snapdb/page"},
	"fixtures/unpack":                 {"fixtures"},
}

// mapsOrWrites are packages that open files in ways evidence must not be opened.
var mapsOrWrites = []string{"go.etcd.io/bbolt", "go.etcd.io/etcd/server", "go.etcd.io/etcd/etcdutl", "golang.org/x/sys/unix", "syscall"}

// sourceFile is one Go file of the product.
type sourceFile struct {
	path    string // from the root
	pkg     string
	test    bool
	imports []string
	text    string
}

func sourceFiles(t *testing.T) []sourceFile {
	t.Helper()
	var files []sourceFile
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), ".") && rel != "." || rel == filepath.Join("fixtures", "gen") || rel == "build" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ImportsOnly)
		if err != nil {
			return err
		}
		f := sourceFile{path: filepath.ToSlash(rel), pkg: filepath.ToSlash(filepath.Dir(rel)), test: strings.HasSuffix(path, "_test.go"), text: string(text)}
		for _, i := range parsed.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, p)
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("only %d Go files found", len(files))
	}
	return files
}

func TestImportsFollowTheArrows(t *testing.T) {
	for _, f := range sourceFiles(t) {
		if f.test {
			continue
		}
		allowed, known := arrows[f.pkg]
		if !known {
			t.Errorf("%s is in no row of the arrows", f.pkg)
		}
		for _, i := range f.imports {
			ours, ok := strings.CutPrefix(i, module+"/")
			if ok && !slices.Contains(allowed, ours) {
				t.Errorf("%s may not import %s (%s)", f.pkg, ours, f.path)
			}
		}
	}
}

// TestArrowsAreThoseOfTheDocument holds the block of arrows in docs/architecture.md to
// the table. It calls packages by the ends of their paths.
func TestArrowsAreThoseOfTheDocument(t *testing.T) {
	drawn := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z/, -]+?) +-> ([^;(\n]+)`).FindAllStringSubmatch(read(t, "docs/architecture.md"), -1) {
		for from := range strings.SplitSeq(m[1], ", ") {
			drawn[fullPath(t, from)] = []string{}
			for to := range strings.SplitSeq(strings.TrimSpace(m[2]), ", ") {
				switch to {
				case "nothing of ours":
				case "readers":
					drawn[fullPath(t, from)] = append(drawn[fullPath(t, from)], readers...)
				default:
					drawn[fullPath(t, from)] = append(drawn[fullPath(t, from)], fullPath(t, to))
				}
			}
		}
	}
	for pkg, allowed := range arrows {
		got, known := drawn[pkg]
		if want := slices.Sorted(slices.Values(allowed)); !known || !slices.Equal(slices.Sorted(slices.Values(got)), want) {
			t.Errorf("docs/architecture.md draws %s -> %q, the table has %q", pkg, got, want)
		}
	}
}

// fullPath finds the package whose path is this or ends so.
func fullPath(t *testing.T, name string) string {
	t.Helper()
	found := ""
	for pkg := range arrows {
		if pkg == name {
			return pkg
		}
		if strings.HasSuffix(pkg, "/"+name) {
			if found != "" {
				t.Errorf("%s and %s are both called %s", found, pkg, name)
			}
			found = pkg
		}
	}
	if found == "" {
		t.Errorf("docs/architecture.md draws %s, which is no package", name)
	}
	return found
}

func TestNothingThatReadsEvidenceCanWriteOrMapIt(t *testing.T) {
	writes := regexp.MustCompile(`\bos\.(OpenFile|Create|CreateTemp|WriteFile|Rename|Remove|RemoveAll|Mkdir|MkdirAll|Truncate|Chmod|Chtimes)\b|\b(bbolt|bolt|wal|backend|mvcc)\.(Open|New|NewStore)\b`)
	for _, f := range sourceFiles(t) {
		if f.test || !slices.Contains(readers, f.pkg) && f.pkg != "inspect" && f.pkg != "inspect/source" && f.pkg != "inspect/query" {
			continue
		}
		if found := writes.FindString(withoutComments(f.text)); found != "" {
			t.Errorf("%s may not use %s", f.path, found)
		}
		for _, i := range f.imports {
			for _, m := range mapsOrWrites {
				if i == m && f.pkg == "inspect/source" && m == "syscall" {
					continue // names of errors
				}
				if i == m || strings.HasPrefix(i, m+"/") {
					t.Errorf("%s may not import %s", f.path, i)
				}
			}
			if slices.Contains(readers, f.pkg) && i == "os" {
				t.Errorf("%s may not import os: readers take what they read", f.path)
			}
		}
	}
}

// withoutComments leaves out the lines that are comments as a whole.
func withoutComments(text string) string {
	return regexp.MustCompile(`(?m)^\s*//.*$`).ReplaceAllString(text, "")
}

func TestNothingIsLeftUnfinished(t *testing.T) {
	marks := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b|not imple` + `mented`)
	for _, f := range sourceFiles(t) {
		text := f.text
		if f.path == "inspect/startup_rules.go" { // etcd's own words, in the one constant that has them
			text = strings.Replace(text, `const PanicUnknownRequest = "panic: not imple`+`mented"`, "", 1)
		}
		if found := marks.FindString(text); found != "" {
			t.Errorf("%s: %s", f.path, found)
		}
	}
}

func TestDocumentsNameWhatIsThere(t *testing.T) {
	makefile := read(t, "Makefile")
	for _, target := range []string{"demo", "test", "verify", "bench", "bench-scale", "fuzz", "fixtures", "golden", "tools", "full"} {
		if !regexp.MustCompile(`(?m)^` + target + `:`).MatchString(makefile) {
			t.Errorf("the Makefile has no target %s", target)
		}
	}
	for _, doc := range documents(t) {
		for _, m := range regexp.MustCompile("`make ([a-z-]+)").FindAllStringSubmatch(read(t, doc), -1) {
			if !regexp.MustCompile(`(?m)^` + m[1] + `:`).MatchString(makefile) {
				t.Errorf("%s names make %s, which is not there", doc, m[1])
			}
		}
	}
	architecture := read(t, "docs/architecture.md")
	for pkg := range arrows {
		if name := filepath.Base(pkg); !strings.Contains(architecture, name) {
			t.Errorf("docs/architecture.md does not mention %s", pkg)
		}
	}
}

// documents are all texts for readers.
func documents(t *testing.T) []string {
	t.Helper()
	list, err := fs.Glob(os.DirFS(root), "docs/*.md")
	if err != nil || len(list) < 10 {
		t.Fatalf("documents %q: %v", list, err)
	}
	return append(list, "README.md", "report/schema.md")
}

// TestLinksLeadSomewhere: to a file that is there and a heading in it, from README to
// every document.
func TestLinksLeadSomewhere(t *testing.T) {
	linked := map[string]bool{}
	for _, doc := range documents(t) {
		for _, m := range regexp.MustCompile(`\]\(([^)#:]*)(?:#([^)]*))?\)`).FindAllStringSubmatch(read(t, doc), -1) {
			target := doc
			if m[1] != "" {
				target = path.Join(path.Dir(doc), m[1])
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s links to %s, which is not there", doc, m[1])
				continue
			}
			linked[target] = linked[target] || target != doc
			if m[2] != "" && !slices.Contains(anchors(read(t, target)), m[2]) {
				t.Errorf("%s links to #%s in %s, which is not there", doc, m[2], target)
			}
		}
	}
	for _, doc := range documents(t) {
		if !linked[doc] && doc != "README.md" {
			t.Errorf("nothing links to %s", doc)
		}
	}
}

// anchors are the names that GitHub gives to the headings of a document.
func anchors(text string) []string {
	var list []string
	text = regexp.MustCompile("(?s)```.*?```").ReplaceAllString(text, "")
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N}_ -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		list = append(list, strings.ReplaceAll(name, " ", "-"))
	}
	return list
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

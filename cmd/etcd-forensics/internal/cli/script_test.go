package cli_test

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"etcd-forensics/cmd/etcd-forensics/internal/cli"
	"etcd-forensics/fixtures"
	"etcd-forensics/inspect/rehearse"
	"etcd-forensics/walreader/replay"
)

var update = flag.Bool("update", false, "rewrite what the transcripts compare with")

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == rehearse.ChildCommand || os.Args[1] == replay.ChildCommand) { // the program's own child
		os.Exit(cli.Run(context.Background(), cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, os.Args[1:]))
	}
	testscript.Main(m, map[string]func(){
		"etcd-forensics": func() {
			os.Exit(cli.Run(context.Background(), cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, os.Args[1:]))
		},
	})
}

// TestScripts runs the transcripts of testdata/script: whole runs of the program
// as a user sees them.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		Cmds:                commands,
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Values[evidenceKey{}] = map[string]string{}
			return nil
		},
	})
}

// evidenceKey finds the descriptions that `fixture` and `remember` took.
type evidenceKey struct{}

// commands are those that the scripts know beside testscript's own.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	// fixture NAME: unpack a fixture to NAME and remember what it is.
	"fixture": func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 1 {
			ts.Fatalf("usage: fixture NAME")
		}
		ts.Check(fixtures.Unpack(args[0], ts.MkAbs(args[0])))
		remember(ts, args[0])
	},
	// remember PATH: take a description for `unchanged` of files that are no fixture.
	"remember": func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 1 {
			ts.Fatalf("usage: remember PATH")
		}
		remember(ts, args[0])
	},
	// pack ARCHIVE PATH: put a file or a folder into an archive: .tar, .tar.gz, .zip.
	"pack": func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 2 {
			ts.Fatalf("usage: pack ARCHIVE PATH")
		}
		ts.Check(pack(ts.MkAbs(args[0]), ts.MkAbs(args[1])))
		remember(ts, args[0])
	},
	// unchanged PATH: every file is as it was: name, mode, size, time, bytes.
	"unchanged": func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 1 {
			ts.Fatalf("usage: unchanged PATH")
		}
		before, known := ts.Value(evidenceKey{}).(map[string]string)[args[0]]
		if !known {
			ts.Fatalf("%s was not remembered", args[0])
		}
		after, err := describe(ts.MkAbs(args[0]))
		ts.Check(err)
		if before != after {
			ts.Fatalf("%s has changed:\n%s\nbecame\n%s", args[0], before, after)
		}
	},
	// exits CODE ARG...: run the program and insist on its exit code.
	"exits": func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < 2 {
			ts.Fatalf("usage: exits CODE ARG...")
		}
		err := ts.Exec("etcd-forensics", args[1:]...)
		code := 0
		if exit, ok := err.(interface{ ExitCode() int }); ok {
			code = exit.ExitCode()
		} else {
			ts.Check(err)
		}
		if fmt.Sprint(code) != args[0] {
			ts.Fatalf("exit code %d, not %s", code, args[0])
		}
	},
	// json FILE PATH WANT: a value in a JSON file, by names and numbers joined with
	// dots; WANT is JSON.
	"json": func(ts *testscript.TestScript, neg bool, args []string) {
		if len(args) != 3 {
			ts.Fatalf("usage: json FILE PATH WANT")
		}
		var v any
		d := json.NewDecoder(strings.NewReader(ts.ReadFile(args[0])))
		d.UseNumber()
		ts.Check(d.Decode(&v))
		if d.More() {
			ts.Fatalf("%s: more than one JSON value", args[0])
		}
		for _, name := range strings.Split(args[1], ".") {
			switch at := v.(type) {
			case map[string]any:
				var there bool
				if v, there = at[name]; !there {
					ts.Fatalf("%s: no %s", args[1], name)
				}
			case []any:
				var i int
				if _, err := fmt.Sscan(name, &i); err != nil || i >= len(at) {
					ts.Fatalf("%s: no element %s among %d", args[1], name, len(at))
				}
				v = at[i]
			default:
				ts.Fatalf("%s: %s of a plain value", args[1], name)
			}
		}
		got, err := json.Marshal(v)
		ts.Check(err)
		if (string(got) == args[2]) == neg {
			ts.Fatalf("%s is %s", args[1], got)
		}
	},
}

func remember(ts *testscript.TestScript, path string) {
	d, err := describe(ts.MkAbs(path))
	ts.Check(err)
	ts.Value(evidenceKey{}).(map[string]string)[path] = d
}

// describe gives one line a file: name, mode, size, time and digest.
func describe(root string) (string, error) {
	var b strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var sum [sha256.Size]byte
		if info.Mode().IsRegular() && info.Mode().Perm()&0o400 != 0 {
			bytes, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			sum = sha256.Sum256(bytes)
		}
		size := info.Size()
		if d.IsDir() {
			size = 0
		}
		rel, err := filepath.Rel(root, path)
		fmt.Fprintf(&b, "%s %s %d %s %x\n", rel, info.Mode(), size, info.ModTime().Format("15:04:05.000000000"), sum[:6])
		return err
	})
	return b.String(), err
}

// pack writes an archive of the kind that its name says.
func pack(archive, path string) (err error) {
	f, err := os.Create(archive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	files := os.DirFS(filepath.Dir(path))
	if info, err := os.Stat(path); err != nil {
		return err
	} else if info.IsDir() {
		files = os.DirFS(path)
	} else {
		files = oneFile{files, filepath.Base(path)}
	}
	switch {
	case strings.HasSuffix(archive, ".zip"):
		z := zip.NewWriter(f)
		return errors.Join(z.AddFS(files), z.Close())
	case strings.HasSuffix(archive, ".gz"):
		z := gzip.NewWriter(f)
		t := tar.NewWriter(z)
		return errors.Join(t.AddFS(files), t.Close(), z.Close())
	}
	t := tar.NewWriter(f)
	return errors.Join(t.AddFS(files), t.Close())
}

// oneFile is a folder in which only one file is seen.
type oneFile struct {
	fs.FS
	name string
}

func (o oneFile) ReadDir(string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(o.FS, ".")
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.Name() != o.name }), err
}

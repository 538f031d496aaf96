// Package cli turns arguments into calls and what they give into output and an
// exit code, one file a command. The answer goes to Streams.Out, everything else
// to Streams.Err.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
)

// Exit codes.
const (
	ExitSound    = 0 // examined to the end; nothing at or above --fail-on
	ExitFindings = 1 // examined; findings at or above --fail-on
	ExitUsage    = 2 // the arguments made no sense; nothing was judged
	ExitPartial  = 3 // the examination could not be finished
)

const exitHelp = `Exit codes:
  0  examined to the end; nothing at or above --fail-on
  1  examined; findings at or above --fail-on
  2  the arguments made no sense, or nothing of etcd's could be read; nothing was judged
  3  the examination could not be finished; what was seen is reported`

// Streams are where a run writes.
type Streams struct{ Out, Err io.Writer }

// program is one run of the command.
type program struct {
	streams Streams
	exit    int

	writeOut writeOut
	failOn   severity
	noDigest bool
	progress progressMode
	noColor  bool
	output   string
	walDir   string
}

// Run executes one command line and gives the exit code.
func Run(ctx context.Context, streams Streams, args []string) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	p := &program{streams: streams, writeOut: "text", failOn: severity(inspect.SeverityError), progress: "auto"}
	root := p.root()
	root.SetArgs(args)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	if err := root.ExecuteContext(ctx); err != nil {
		p.complain(err)
		if p.exit == ExitSound {
			p.exit = ExitUsage
		}
	}
	return p.exit
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "etcd-forensics",
		Short:         "Examine copied etcd files without a running cluster",
		Long:          "etcd-forensics examines copied etcd data directories and snapshots without a\nrunning cluster. It never changes what it reads.\n\n" + exitHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	flags := root.PersistentFlags()
	flags.VarP(&p.writeOut, "write-out", "w", "output format: text or json")
	flags.Var(&p.failOn, "fail-on", "least severity that makes the exit code 1: note, warning or error")
	flags.BoolVar(&p.noDigest, "no-digest", false, "leave SHA-256 out; a snapshot's hash is then not examined")
	flags.Var(&p.progress, "progress", "progress on stderr: auto, always or never")
	flags.BoolVar(&p.noColor, "no-color", false, "no colour (also: NO_COLOR)")
	flags.StringVarP(&p.output, "output", "o", "", "write the answer to this new file")
	flags.StringVar(&p.walDir, "wal-dir", "", "WAL directory, when it lies outside the data directory")
	root.AddCommand(p.inspect(), p.hashkv(), p.explain(), p.version())
	root.SetHelpCommand(&cobra.Command{Hidden: true})
	return root
}

// complain writes an error, and its hint, for people.
func (p *program) complain(err error) {
	fmt.Fprintf(p.streams.Err, "etcd-forensics: %v\n", err)
	var h hinted
	if errors.As(err, &h) {
		fmt.Fprintf(p.streams.Err, "hint: %s\n", h.hint)
	}
}

// hinted is an error with a likely cure.
type hinted struct {
	error
	hint string
}

// open opens the paths. Without any usable one it gives an error; otherwise the
// problems with the others were complained of.
func (p *program) open(paths []string, progress func(int64)) ([]*source.Source, []error, error) {
	sources, problems := source.Open(paths, source.Options{WALDir: p.walDir, Progress: progress})
	if len(sources) == 0 {
		for _, err := range problems[1:] {
			p.complain(err)
		}
		return nil, nil, problems[0]
	}
	for _, err := range problems {
		p.complain(err)
	}
	return sources, problems, nil
}

func closeAll(sources []*source.Source) {
	for _, s := range sources {
		s.Close()
	}
}

// answer writes what render gives to standard output, or to the file that -o
// names, which must not exist and must not lie inside a source.
func (p *program) answer(sources []*source.Source, render func(io.Writer) error) error {
	if p.output == "" {
		return render(p.streams.Out)
	}
	f, err := os.OpenFile(p.output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(render(f), f.Close()); err != nil {
		return errors.Join(err, os.Remove(p.output))
	}
	return nil
}

// checkOutput refuses an output path before anything is examined.
func (p *program) checkOutput(sources []*source.Source) error {
	if p.output == "" {
		return nil
	}
	if _, err := os.Lstat(p.output); err == nil {
		return fmt.Errorf("%s exists already", p.output)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(p.output))
	if err != nil {
		return fmt.Errorf("%s: %w", p.output, err)
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return err
	}
	for _, s := range sources {
		inside, err := within(dir, s.Path)
		if err != nil {
			return err
		}
		if inside {
			return hinted{fmt.Errorf("%s lies inside the evidence %s", p.output, s.Path), "name a file elsewhere; evidence is never written to"}
		}
	}
	return nil
}

// within says whether dir is path or lies below it; for a file that is never so.
func within(dir, path string) (bool, error) {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return false, err
	}
	root, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false, err
	}
	if root, err = filepath.Abs(root); err != nil {
		return false, err
	}
	rel, err := filepath.Rel(root, dir)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)), nil
}

// writeOut is the value of --write-out.
type writeOut string

var _ pflag.Value = (*writeOut)(nil)

func (w *writeOut) String() string { return string(*w) }
func (w *writeOut) Type() string   { return "format" }
func (w *writeOut) Set(s string) error {
	if s != "text" && s != "json" {
		return errors.New("must be text or json")
	}
	*w = writeOut(s)
	return nil
}

// severity is the value of --fail-on.
type severity inspect.Severity

func (s *severity) String() string { return inspect.Severity(*s).String() }
func (s *severity) Type() string   { return "severity" }
func (s *severity) Set(name string) error {
	v, ok := inspect.ParseSeverity(name)
	if !ok {
		return errors.New("must be note, warning or error")
	}
	*s = severity(v)
	return nil
}

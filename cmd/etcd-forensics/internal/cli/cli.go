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
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
	"etcd-forensics/report"
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

// Streams are where a run writes, and where it reads what is no file.
type Streams struct {
	In       io.Reader // what a file named - is; nil for nothing
	Out, Err io.Writer
	// Read is told how many bytes of evidence were read since the last time, from several
	// goroutines; nil for nobody.
	Read func(bytes int64)
}

// program is one run of the command.
type program struct {
	streams Streams
	exit    int

	writeOut writeOut
	failOn   severity
	noDigest bool
	progress progressMode
	noColor  bool
	values   valuesMode
	output   string
	walDir   string
	scratch  string

	scratchLimit byteCount

	complained bool // see complainOnce
}

// Run executes one command line and gives the exit code.
func Run(ctx context.Context, streams Streams, args []string) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second interrupt ends the process at once
	if streams.In == nil {
		streams.In = strings.NewReader("")
	}
	p := newProgram(streams)
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

// Command gives the tree of commands, for what describes them: man pages.
func Command() *cobra.Command { return newProgram(Streams{}).root() }

func newProgram(streams Streams) *program {
	return &program{streams: streams, writeOut: "text", failOn: severity(inspect.SeverityError), progress: "auto", values: "none", scratchLimit: source.DefaultScratchLimit}
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:               "etcd-forensics",
		Short:             "Examine copied etcd files without a running cluster",
		Long:              "etcd-forensics examines copied etcd data directories and snapshots without a\nrunning cluster. It never changes what it reads.\n\n" + exitHelp,
		PersistentPreRunE: p.checkFormat,

		SilenceUsage:  true,
		SilenceErrors: true,
	}
	flags := root.PersistentFlags()
	flags.VarP(&p.writeOut, "write-out", "w", "output format: text or json")
	flags.Var(&p.failOn, "fail-on", "least severity that makes the exit code 1: note, warning or error")
	flags.BoolVar(&p.noDigest, "no-digest", false, "leave SHA-256 out; a snapshot's hash is then not examined")
	flags.Var(&p.progress, "progress", "progress on stderr: auto, always or never")
	flags.BoolVar(&p.noColor, "no-color", false, "no colour (also: NO_COLOR)")
	flags.Var(&p.values, "values", "what is shown of the values of keys: none, hash or full")
	flags.StringVarP(&p.output, "output", "o", "", "write the answer to this new file")
	flags.StringVar(&p.walDir, "wal-dir", "", "WAL directory, when it lies outside the data directory")
	flags.StringVar(&p.scratch, "scratch", "", "folder for temporary files, such as unpacked archives (default: the system's)")
	flags.Var(&p.scratchLimit, "scratch-limit", "most bytes that one archive may unpack to; also as 2G or 8GiB")
	complete(root, "write-out", formatsKnown)
	completeWith(root, "fail-on", "note", "warning", "error")
	completeWith(root, "progress", "auto", "always", "never")
	completeWith(root, "values", "none", "hash", "full")
	root.AddCommand(p.inspect(), p.compare(), p.members(), p.keys(), p.get(), p.history(), p.diff(), p.hashkv(), p.pages(), p.wal(), p.verify(), p.plan(), p.rehearse(), p.rehearseChild(), p.salvage(), p.rollforward(), p.replayChild(), p.redact(), p.explain(), p.version())
	return root
}

// completeWith makes the shell offer values for a flag.
func completeWith(cmd *cobra.Command, flag string, values ...string) {
	complete(cmd, flag, func(*cobra.Command) []string { return values })
}

func complete(cmd *cobra.Command, flag string, values func(*cobra.Command) []string) {
	offer := func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return values(cmd), cobra.ShellCompDirectiveNoFileComp
	}
	if err := cmd.RegisterFlagCompletionFunc(flag, offer); err != nil {
		panic(err) // there is no such flag
	}
}

// formatsKnown are those that a command writes.
func formatsKnown(cmd *cobra.Command) []string {
	if known := cmd.Annotations[formatsOf]; known != "" {
		return strings.Fields(known)
	}
	return []string{"text", "json"}
}

// complain writes an error, and its hint, for people.
func (p *program) complain(err error) {
	message, hint := err.Error(), ""
	if first, names, ok := strings.Cut(message, suggestion); ok {
		message, hint = first, "did you mean "+strings.Join(strings.Fields(names), " or ")
	}
	message = strings.Join(slices.Compact(strings.Split(strings.TrimSpace(message), "\n")), "; ") // of several that were joined
	if h, ok := errors.AsType[hinted](err); ok {
		hint = h.hint
	}
	fmt.Fprintf(p.streams.Err, "etcd-forensics: %s\n", report.Plain(message))
	if hint != "" {
		fmt.Fprintf(p.streams.Err, "hint: %s\n", report.Plain(hint))
	}
}

// suggestion stands before the names that cobra puts under an unknown command.
const suggestion = "Did you mean this?"

// needsPath insists on one path at least, and on one at most unless several
// make sense.
func needsPath(several bool) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return hinted{fmt.Errorf("%s needs a PATH", cmd.Name()), "a snapshot, a database file or a data directory, as in " + strings.TrimSpace(strings.Split(cmd.Example, "\n")[0])}
		case len(args) > 1 && !several:
			return fmt.Errorf("%s takes one PATH, not %d", cmd.Name(), len(args))
		}
		return nil
	}
}

// hinted is an error with a likely cure.
type hinted struct {
	error
	hint string
}

// open opens the paths. Without any usable one it gives an error; otherwise the
// problems with the others were complained of.
func (p *program) open(ctx context.Context, paths []string, progress func(int64)) ([]*source.Source, []error, error) {
	if err := p.checkScratch(paths); err != nil {
		return nil, nil, err
	}
	if told := p.streams.Read; told != nil {
		shown := progress
		progress = func(n int64) {
			shown(n)
			told(n)
		}
	}
	sources, problems := source.Open(ctx, paths, source.Options{
		WALDir: p.walDir, Progress: progress, Scratch: p.scratch, ScratchLimit: int64(p.scratchLimit)})
	if len(sources) == 0 && ctx.Err() != nil {
		p.exit = ExitPartial
		return nil, nil, errStopped
	}
	if len(sources) == 0 {
		last := len(problems) - 1
		for _, err := range problems[:last] {
			p.complain(err)
		}
		return nil, nil, problems[last]
	}
	for _, err := range problems {
		p.complain(err)
	}
	return sources, problems, nil
}

// openOne opens a path that must hold one source. problems are those with what else
// lies there.
func (p *program) openOne(ctx context.Context, path string, progress func(int64)) (*source.Source, []error, error) {
	sources, problems, err := p.open(ctx, []string{path}, progress)
	if err != nil {
		return nil, nil, err
	}
	if len(sources) == 1 {
		return sources[0], problems, nil
	}
	closeAll(sources)
	hint := "name one of them, such as " + sources[0].Path
	if sources[0].Archive != nil {
		hint = "unpack it and name one of them"
	}
	return nil, nil, hinted{fmt.Errorf("%s holds %d sources", report.Plain(path), len(sources)), hint}
}

func closeAll(sources []*source.Source) {
	for _, s := range sources {
		s.Close()
	}
}

// answer writes what render gives to standard output, or to the file that -o
// names. What could not be written was not finished; what was seen until an interrupt stays.
func (p *program) answer(render func(io.Writer) error) error {
	if p.output == "" {
		return p.say(render)
	}
	if err := p.checkOutput(nil); err != nil {
		return err
	}
	f, err := os.OpenFile(p.output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return p.unfinished(err)
	}
	said := &counted{w: f}
	err = errors.Join(render(said), f.Close())
	if err != nil && (said.n == 0 || !errors.Is(err, context.Canceled)) {
		err = errors.Join(err, os.Remove(p.output))
	}
	return p.unfinished(said.interrupted(err))
}

// answerUntil writes what was seen until an interrupt, or with a nil error all there is to see.
func (p *program) answerUntil(interrupt error, render func(io.Writer) error) error {
	if err := p.answer(render); err != nil || interrupt == nil {
		return err
	}
	return p.unfinished(interrupted(interrupt))
}

// say writes what render gives to standard output: the answer of a command that writes something
// else to what -o names. What could not be written was not finished.
func (p *program) say(render func(io.Writer) error) error {
	said := &counted{w: p.streams.Out}
	return p.unfinished(said.interrupted(render(said)))
}

// counted counts the bytes that are written.
type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// interrupted says in a user's words whether the answer that was interrupted holds anything.
func (c *counted) interrupted(err error) error {
	if c.n == 0 {
		return stopped(err)
	}
	return interrupted(err)
}

// errStopped says that an interrupt came before there was anything to report.
var errStopped = errors.New("interrupted; nothing is reported")

// stopped says in a user's words that a command was interrupted of which half an answer is
// none.
func stopped(err error) error {
	if errors.Is(err, context.Canceled) {
		return errStopped
	}
	return err
}

// interrupted says in a user's words that the examination was stopped.
func interrupted(err error) error {
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted; the report holds what was seen until then")
	}
	return err
}

// unwritten says in a user's words that nothing of what was to be written is there.
func unwritten(err error) error {
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted; nothing was written")
	}
	return fmt.Errorf("nothing was written: %w", err)
}

// unfinished gives the exit code of what could not be finished, when err says so.
func (p *program) unfinished(err error) error {
	if err != nil {
		p.exit = ExitPartial
	}
	return err
}

// checkOutput refuses an output path that exists or lies inside the evidence. It
// is asked before anything is examined, so that no one waits for a refusal.
func (p *program) checkOutput(evidence []string) error {
	if p.output == "" {
		return nil
	}
	return p.checkNew(p.output, evidence)
}

// checkNew refuses a path to write to that exists or lies inside the evidence.
func (p *program) checkNew(name string, evidence []string) error {
	if _, err := os.Lstat(name); err == nil {
		return hinted{fmt.Errorf("%s exists already", report.Plain(name)), "name a new one; nothing is overwritten"}
	}
	dir, err := canonical(filepath.Dir(filepath.Clean(name)))
	if err != nil {
		return fmt.Errorf("%s: there is no directory to write it to", report.Plain(name))
	}
	if path := p.within(dir, evidence); path != "" {
		return hinted{fmt.Errorf("%s lies inside the evidence %s", report.Plain(name), report.Plain(path)), "name one elsewhere; evidence is never written to"}
	}
	return nil
}

// checkScratch refuses a folder for temporary files that lies inside the evidence.
func (p *program) checkScratch(evidence []string) error {
	if p.scratch == "" {
		return nil
	}
	dir, err := canonical(p.scratch)
	if err != nil {
		return fmt.Errorf("--scratch %s: there is no such folder", report.Plain(p.scratch))
	}
	if path := p.within(dir, evidence); path != "" {
		return hinted{fmt.Errorf("--scratch %s lies inside the evidence %s", report.Plain(p.scratch), report.Plain(path)), "name a folder elsewhere; evidence is never written to"}
	}
	return nil
}

// within gives the path of the evidence that the canonical dir lies in, "" when it
// lies in none.
func (p *program) within(dir string, evidence []string) string {
	if p.walDir != "" {
		evidence = append(slices.Clone(evidence), p.walDir)
	}
	for _, path := range evidence {
		for _, root := range evidenceAt(path) {
			root, err := canonical(root)
			if err != nil {
				continue // unusable, which is said elsewhere
			}
			if rel, err := filepath.Rel(root, dir); err == nil && filepath.IsLocal(rel) {
				return path
			}
		}
	}
	return ""
}

// evidenceAt gives where the evidence of a path lies: there, in snap and wal below it, which
// may be links, and of a part of a member directory in that as a whole, since whoever names
// a database alone has the rest of the evidence beside it.
func evidenceAt(path string) []string {
	at := []string{path}
	for _, below := range []string{"snap", "wal"} {
		at = append(at, filepath.Join(path, below), filepath.Join(path, "member", below))
	}
	names := []string{path}
	if abs, err := filepath.Abs(path); err == nil {
		names[0] = abs
	}
	if resolved, err := canonical(path); err == nil && resolved != names[0] {
		names = append(names, resolved)
	}
	for _, name := range names {
		for _, dir := range []string{name, filepath.Dir(name)} {
			above, part := filepath.Dir(dir), filepath.Base(dir)
			if (part == "snap" || part == "wal") && filepath.Base(above) == "member" {
				at = append(at, dir, above)
			}
		}
	}
	return at
}

// canonical gives the absolute path without symbolic links, by which two names of
// one directory can be told to be one.
func canonical(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// writeOut is the value of --write-out.
type writeOut string

var _ pflag.Value = (*writeOut)(nil)

func (w *writeOut) String() string { return string(*w) }
func (w *writeOut) Type() string   { return "format" }
func (w *writeOut) Set(s string) error {
	if !slices.Contains(formats, s) {
		return errors.New("must be text or json, or what the command names")
	}
	*w = writeOut(s)
	return nil
}

// formats are all that some command knows.
var formats = []string{"text", "json", "yaml", "csv", "junit", "sarif", "markdown", "html"}

// formatsOf is the annotation of a command that knows more formats than text and json.
const formatsOf = "formats"

// checkFormat refuses a format that the command does not know.
func (p *program) checkFormat(cmd *cobra.Command, _ []string) error {
	if list := formatsKnown(cmd); !slices.Contains(list, string(p.writeOut)) {
		return fmt.Errorf("%s writes %s, not %s", cmd.Name(), strings.Join(list, " or "), p.writeOut)
	}
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

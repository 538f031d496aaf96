package cli_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/html"

	"etcd-forensics/cmd/etcd-forensics/internal/cli"
	"etcd-forensics/fixtures/mutants"
)

var (
	mutations = flag.Int("mutations", 0, "damaged copies that go through the commands; 0 for a short sample")
	firstOne  = flag.Int("first", 0, "number of the first of them")
	keep      = flag.String("keep", "", "folder to copy damaged evidence to of which something is wrong")
	stride    = flag.Int("stride", 1, "from one to the next, for several processes")
)

// A commandLine is what a command is given. PATH stands for the evidence, OTHER for healthy
// evidence of the same kind, STORE for the healthy small store, LINE for a line of the evidence, OUT for
// a new path.
type commandLine []string

func lines(all ...string) (list []commandLine) {
	for _, line := range all {
		list = append(list, strings.Fields(line))
	}
	return list
}

// evidenceLines give damaged evidence to every command but rehearse, in every format. Those of
// one command are alternatives.
var evidenceLines = lines(
	"inspect PATH", "inspect PATH -w json", "inspect PATH -w html", "inspect PATH OTHER -w html", "inspect PATH --no-digest -w json -o OUT", "inspect --prove PATH -w json",
	"compare PATH OTHER", "compare OTHER PATH -w json",
	"members PATH --token etcd-cluster", "members PATH -w json",
	"keys PATH", "keys PATH -w json --depth 3", "keys PATH -w csv", "keys PATH --kubernetes=false --sort bytes", "keys PATH --kubernetes -w json --encryption-config CONFIG", "keys PATH --rev 400 -w json",
	"get PATH / --prefix", "get PATH /registry --prefix --values full -w json", "get PATH / --prefix -w yaml --show-secrets --encryption-config CONFIG", "get PATH k --prefix --values hash --rev 40",
	"history PATH /registry/secrets --prefix", "history PATH / --prefix --values full -w json",
	"diff PATH OTHER", "diff OTHER PATH -w json --values full", "diff PATH --old-rev 40 -w json",
	"hashkv PATH", "hashkv PATH --rev 30 -w json",
	"pages PATH", "pages PATH -w json", "pages PATH --list", "pages PATH 0 1 2 3 4 5 6 7 8 --hex --values full", "pages PATH 2 3 9 10 11 12 -w json --values hash", "pages PATH --slot 1",
	"wal PATH", "wal PATH -w json --values full", "wal PATH --stats", "wal PATH --stats -w json",
	"verify PATH", "verify PATH -w json --against OTHER", "verify OTHER PATH --chain -w junit", "verify PATH -w sarif --min-keys 1 --require-prefix /registry=1",
	"plan PATH", "plan PATH OTHER -w json", "plan PATH -w markdown --platform systemd", "plan PATH --platform talos --script OUT",
	"explain backend-page-type PATH", "explain etcdserver:mvcc:database-space-exceeded PATH -w json",
	"salvage PATH -o OUT", "salvage PATH -o OUT --snapshot -w json", "salvage PATH -o OUT --with OTHER --strict", "salvage OTHER -o OUT --with PATH",
	"rollforward --wal PATH -o OUT", "rollforward --base PATH --wal OTHER -o OUT -w json", "rollforward --base OTHER --wal PATH --tail -o OUT",
	"redact PATH -o OUT --seed storm", "redact PATH OTHER -o OUT --seed storm -w json",
)

var logLines = lines("explain --log PATH", "explain --log PATH STORE -w json", "explain LINE", "explain LINE -w json", "explain LINE STORE")

var encryptionLines = lines("keys STORE --kubernetes -w json --encryption-config PATH", "get STORE /registry/secrets --prefix --values full --encryption-config PATH",
	"history STORE /registry/secrets --prefix -w json --values full --encryption-config PATH")

// Bounds of a command: so often the time that healthy evidence took, and so much more, because others use
// the machine; and of the bytes in use at once.
const (
	stormFactor = 30
	stormSlack  = time.Minute
	stormTick   = 20 * time.Millisecond
	stormMemory = 1 << 30
)

// TestStorm damages evidence of every kind at random, and gives it to every command. None panics, hangs, leaves
// a file, changes the evidence, or gives an exit code or an output that is none.
//
//	make storm MUTATIONS=10000
func TestStorm(t *testing.T) {
	n := *mutations
	if n == 0 {
		n = 17 // one of each kind
	}
	s := newStorm(t)
	began := time.Now()
	for i := *firstOne; i < n; i += *stride {
		s.one(t, i)
		if i/1000 != (i+*stride)/1000 && *mutations > 0 {
			t.Logf("%d after %v", i+*stride, time.Since(began).Round(time.Second))
		}
	}
	t.Log(s.tally(time.Since(began)))
}

// A storm is one run.
type storm struct {
	specimens []specimen
	others    [][]byte // whose pieces are put into evidence
	healthy   []string // the specimens in files
	took      map[string]time.Duration
	temporary string
	config    string
	store     string
	ran       map[string]int
	slowest   float64
	slowLine  string
	exits     [4]int
	peak      uint64
	peakLine  string
	openFiles int
}

func newStorm(t *testing.T) *storm {
	s := &storm{specimens: stormSpecimens(t), took: map[string]time.Duration{}, ran: map[string]int{}, temporary: t.TempDir()}
	dir := t.TempDir()
	for i, sp := range s.specimens {
		for _, name := range sortedNames(sp.files) {
			s.others = append(s.others, sp.files[name])
		}
		s.healthy = append(s.healthy, write(t, filepath.Join(dir, strconv.Itoa(i)), &sp, sp.files, nil))
	}
	s.store, s.config = s.healthy[0], s.healthy[len(s.healthy)-1]
	t.Setenv("TMPDIR", s.temporary)
	return s
}

// write puts files into a folder, or packs them into a file in it, which damage changes. It gives
// the path to hand in.
func write(t testing.TB, dir string, sp *specimen, files mutants.Files, damage func([]byte) []byte) string {
	t.Helper()
	if sp.pack != nil {
		b := sp.pack(t, files)
		if damage != nil {
			b = damage(b)
		}
		files = mutants.Files{sp.given: b}
	}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(dir, 0o700))
	for _, name := range sortedNames(files) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		must(os.MkdirAll(filepath.Dir(path), 0o700))
		must(os.WriteFile(path, files[name], 0o600))
	}
	return filepath.Join(dir, sp.given)
}

// one sends one damaged copy through the commands. Everything about it follows from its number.
func (s *storm) one(t *testing.T, i int) {
	rnd := rand.New(rand.NewPCG(uint64(i), 11))
	at := i % len(s.specimens)
	sp := &s.specimens[at]
	files := sp.files.Clone()
	var story []string
	var damage func([]byte) []byte
	if sp.pack != nil && rnd.IntN(2) == 0 {
		damage = func(b []byte) []byte {
			b, what := mutants.Bytes(b, rnd, s.others)
			story = append(story, what)
			return b
		}
	} else {
		story = files.Damage(rnd, s.others)
	}
	dir := t.TempDir()
	root := filepath.Join(dir, "evidence")
	path := write(t, root, sp, files, damage)
	before, err := describe(root)
	if err != nil {
		t.Fatal(err)
	}
	where := fmt.Sprintf("-first %d -mutations %d (%s: %s)", i, i+1, sp.name, strings.Join(story, "; "))
	failed := t.Failed()
	for _, line := range choose(rnd, sp.lines) {
		args := s.arguments(rnd, line, path, s.healthy[at], filepath.Join(dir, "out"))
		if args == nil {
			continue
		}
		s.command(t, sp, args, filepath.Join(dir, "out"), where, s.healthyTime(t, sp, line, at))
	}
	after, err := describe(root)
	if err != nil || before != after {
		t.Errorf("%s: the evidence has changed (%v):\n%s\nbecame\n%s", where, err, before, after)
	}
	if *keep != "" && t.Failed() && !failed {
		err = os.CopyFS(filepath.Join(*keep, strconv.Itoa(i)), os.DirFS(root))
	}
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		t.Fatal(err)
	}
}

// choose takes one of the lines of each command.
func choose(rnd *rand.Rand, all []commandLine) []commandLine {
	by := map[string][]commandLine{}
	var order []string
	for _, line := range all {
		if by[line[0]] == nil {
			order = append(order, line[0])
		}
		by[line[0]] = append(by[line[0]], line)
	}
	var list []commandLine
	for _, name := range order {
		list = append(list, by[name][rnd.IntN(len(by[name]))])
	}
	return list
}

func (s *storm) arguments(rnd *rand.Rand, line commandLine, path, other, out string) []string {
	args := slices.Clone(line)
	for i, a := range args {
		switch a {
		case "PATH":
			args[i] = path
		case "OTHER":
			args[i] = other
		case "STORE":
			args[i] = s.store
		case "CONFIG":
			args[i] = s.config
		case "OUT":
			args[i] = out
		case "LINE":
			b, err := os.ReadFile(path)
			lines := bytes.Split(b, []byte("\n"))
			if args[i] = string(lines[rnd.IntN(len(lines))]); err != nil || args[i] == "" || args[i][0] == '-' {
				return nil
			}
		}
	}
	return args
}

// healthyTime gives what a line takes with healthy evidence.
func (s *storm) healthyTime(t *testing.T, sp *specimen, line commandLine, at int) time.Duration {
	key := sp.name + strings.Join(line, " ")
	if d, ok := s.took[key]; ok {
		return d
	}
	if *mutations == 0 {
		return time.Second // not worth the time
	}
	out := filepath.Join(t.TempDir(), "out")
	args := s.arguments(rand.New(rand.NewPCG(1, 1)), line, s.healthy[at], s.healthy[at], out)
	if args == nil {
		return 0
	}
	began := time.Now()
	exit, _, stderr := run(t, args...)
	s.took[key] = time.Since(began)
	if exit < 0 || exit > 3 {
		t.Errorf("%s, healthy: exit %d %s", key, exit, stderr)
	}
	return s.took[key]
}

// An outcome is what became of a command.
type outcome struct {
	exit        int
	out, stderr []byte
	panicked    any
}

// command runs one command line and looks at everything that it gives and leaves.
func (s *storm) command(t *testing.T, sp *specimen, args []string, out, where string, healthy time.Duration) {
	t.Helper()
	where = strings.Join(args, " ") + "\n" + where
	if *mutations > 0 { // so that a panic in a goroutine of the product can be told
		if err := os.WriteFile(filepath.Join(os.TempDir(), "..", "running"), []byte(where), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan outcome, 1)
	began := time.Now()
	go func() { done <- runRecovered(t, args) }()
	bound := stormFactor*healthy + stormSlack
	tick := time.NewTicker(stormTick)
	defer tick.Stop()
	var o outcome
	var waited time.Duration // in ticks: a machine that stands still is no command that does
wait:
	for {
		select {
		case o = <-done:
			break wait
		case <-tick.C:
			s.watchMemory(t, where)
			if waited += stormTick; waited > bound {
				stacks := make([]byte, 1<<20)
				t.Fatalf("%s\nis not done after %v; healthy evidence takes %v\n%s", where, bound, healthy, stacks[:runtime.Stack(stacks, true)])
			}
		}
	}
	if ratio := float64(time.Since(began)) / float64(healthy+50*time.Millisecond); ratio > s.slowest {
		s.slowest, s.slowLine = ratio, where
	}
	s.ran[args[0]]++
	if o.panicked != nil {
		t.Errorf("%s\npanics: %v", where, o.panicked)
		return
	}
	if o.exit < 0 || o.exit > 3 {
		t.Errorf("%s\nexit code %d", where, o.exit)
		return
	}
	s.exits[o.exit]++
	if err := errors.Join(s.leftovers(sp, args, o, out), wellFormed(args, o), os.RemoveAll(out)); err != nil {
		t.Errorf("%s\nexit %d: %v\nstderr: %s", where, o.exit, err, o.stderr)
	}
}

func runRecovered(t *testing.T, args []string) (o outcome) {
	defer func() {
		if v := recover(); v != nil {
			o.panicked = fmt.Sprintf("%v\n%s", v, debug.Stack())
		}
	}()
	var out, errs bytes.Buffer
	o.exit = cli.Run(t.Context(), cli.Streams{Out: &out, Err: &errs}, args)
	o.out, o.stderr = out.Bytes(), errs.Bytes()
	// cobra holds on to every program whose flags have completions, and that to its streams.
	out, errs = bytes.Buffer{}, bytes.Buffer{}
	return o
}

func (s *storm) watchMemory(t *testing.T, where string) {
	in := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(in)
	n := in[0].Value.Uint64()
	if n > stormMemory { // with garbage of the commands before
		runtime.GC()
		metrics.Read(in)
		n = in[0].Value.Uint64()
	}
	if n > s.peak {
		s.peak, s.peakLine = n, where
	}
	if n > stormMemory {
		t.Fatalf("%s\n%d bytes are in use", where, n)
	}
}

// leftovers looks for files that a command should have removed, or have written.
func (s *storm) leftovers(sp *specimen, args []string, o outcome, out string) error {
	var errs []error
	left, err := os.ReadDir(s.temporary)
	if len(left) > 0 || err != nil {
		errs = append(errs, fmt.Errorf("left in the temporary folder: %v %v", left, err))
	}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		if s.openFiles == 0 {
			s.openFiles = len(fds) + 8
		}
		if len(fds) > s.openFiles {
			errs = append(errs, fmt.Errorf("%d files are open", len(fds)))
			s.openFiles = len(fds)
		}
	}
	_, err = os.Lstat(out)
	there := err == nil
	switch args[0] {
	case "salvage", "rollforward":
		if there != (o.exit == cli.ExitSound) {
			errs = append(errs, fmt.Errorf("the output is there: %t", there))
		}
	case "redact":
		if written := len(o.out) > 0; there != written {
			errs = append(errs, fmt.Errorf("the copy is there: %t", there))
		}
		errs = append(errs, hidden(out, sp.hidden))
	}
	return errors.Join(errs...)
}

// hidden says which texts stand in the files below a folder.
func hidden(dir string, texts []string) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return nil // there is none
		}
		for _, text := range texts {
			if !d.IsDir() {
				if b, err := os.ReadFile(path); err != nil || bytes.Contains(b, []byte(text)) {
					return fmt.Errorf("%q is in %s (%v)", text, path, err)
				}
			}
		}
		return nil
	})
}

// wellFormed holds what a command writes against its format.
func wellFormed(args []string, o outcome) error {
	if err := shown(o.stderr); err != nil {
		return fmt.Errorf("stderr: %w", err)
	}
	b := o.out
	for i, a := range args {
		if a == "-o" && args[0] == "inspect" && o.exit != cli.ExitUsage {
			var err error
			if b, err = os.ReadFile(args[i+1]); err != nil {
				return err
			}
		}
	}
	format := "text"
	if i := slices.Index(args, "-w"); i >= 0 {
		format = args[i+1]
	}
	if len(b) == 0 && !(args[0] == "wal" && !slices.Contains(args, "--stats") && format == "json") { // a log without records has no lines
		if o.exit == cli.ExitSound && format != "yaml" || len(o.stderr) == 0 {
			return errors.New("nothing is said")
		}
		return nil
	}
	if err := shown(b); err != nil && format != "csv" && format != "junit" {
		return err
	}
	switch format {
	case "json", "sarif":
		if args[0] == "wal" && !slices.Contains(args, "--stats") { // one value a line
			return nil
		}
		d := json.NewDecoder(bytes.NewReader(b))
		var v any
		if err := d.Decode(&v); err != nil {
			return err
		}
		if err := d.Decode(&v); !errors.Is(err, io.EOF) {
			return fmt.Errorf("behind the JSON: %v", err)
		}
	case "junit":
		return wholeXML(b)
	case "csv":
		_, err := csv.NewReader(bytes.NewReader(b)).ReadAll()
		return err
	case "html":
		return harmless(b)
	}
	return nil
}

// shown insists on characters that a terminal shows. The one that stands for a wrong byte is one of them:
// JSON of etcd's with such a byte is read so by etcd, too.
func shown(b []byte) error {
	if !utf8.Valid(b) {
		return errors.New("the output is not UTF-8")
	}
	for _, r := range string(b) {
		if r != '\n' && !unicode.IsPrint(r) {
			return fmt.Errorf("%+q in the output", r)
		}
	}
	return nil
}

func wholeXML(b []byte) error {
	d := xml.NewDecoder(bytes.NewReader(b))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// harmless insists that nothing but the page's own script can run, and nothing is loaded.
func harmless(b []byte) error {
	z := html.NewTokenizer(bytes.NewReader(b))
	scripts := 0
	for {
		switch z.Next() {
		case html.ErrorToken:
			if scripts != 1 || !errors.Is(z.Err(), io.EOF) {
				return fmt.Errorf("%d scripts, %v", scripts, z.Err())
			}
			return nil
		case html.StartTagToken, html.SelfClosingTagToken:
			tag := z.Token()
			switch tag.Data {
			case "script":
				scripts++
			case "img", "iframe", "object", "embed", "link", "base", "form", "input", "video", "audio", "image", "use", "foreignobject":
				return fmt.Errorf("an element %s", tag.Data)
			}
			for _, a := range tag.Attr {
				if strings.HasPrefix(a.Key, "on") || a.Key == "src" || a.Key == "style" || a.Key == "href" && !strings.HasPrefix(a.Val, "#") {
					return fmt.Errorf("%s has an attribute %s", tag.Data, a.Key)
				}
			}
		}
	}
}

// tally says what was run.
func (s *storm) tally(took time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v; exit codes %v\nmost memory in use, %d MiB: %s\nslowest, %.1f times healthy: %s\n", took.Round(time.Second), s.exits, s.peak>>20, s.peakLine, s.slowest, s.slowLine)
	for _, line := range choose(rand.New(rand.NewPCG(1, 1)), slices.Concat(evidenceLines, logLines)) {
		fmt.Fprintf(&b, "%s %d, ", line[0], s.ran[line[0]])
	}
	return b.String()
}

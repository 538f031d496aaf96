package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2/maybe"
	"github.com/spf13/cobra"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/backup"
	"etcd-forensics/inspect/rehearse"
	"etcd-forensics/inspect/restore"
	"etcd-forensics/inspect/source"
	"etcd-forensics/report"
)

// verifyFlags are those of verify alone.
type verifyFlags struct {
	against       string
	maxAge        time.Duration
	minKeys       int64
	minRevision   int64
	requirePrefix []string
	maxDrop       float64
	chain         bool
	metrics       string
	boot          bool
	binaries      rehearse.Options
}

func (p *program) verify() *cobra.Command {
	var flags verifyFlags
	cmd := &cobra.Command{
		Use:   "verify SNAPSHOT...",
		Short: "Say whether backups are good, for cron and CI",
		Long: `verify examines backups as inspect does and fails on whatever would keep one
from being restored: a hash that is wrong or missing, damage, an empty store.
The other flags are a policy. --fail-on is warning here.

A folder is a series of backups, in the order of the times in the names when all
have one, otherwise of the names: its revisions must rise, all must be of one
store, and the keys must not drop. --chain says the same of files.

With --boot each backup is also restored in the scratch folder, and a server is
started on it and held against the backup, as rehearse does.

The age, in a series that of the newest backup, is told by the newest lease or
event of Kubernetes in it, otherwise by the file; the check says which.

Exit codes:
  0  every backup passed
  1  a backup failed, or is not there
  2  the arguments made no sense, or none of the backups is there
  3  something could not be examined to the end, and nothing failed`,
		Example:     "  etcd-forensics verify backup.db\n  etcd-forensics verify backups/ --max-age 26h --require-prefix /registry/=100\n  etcd-forensics verify new.db --against old.db --max-drop 20 -w junit -o verify.xml",
		Args:        needsPath(true),
		Annotations: map[string]string{formatsOf: "text json junit sarif"},
		RunE: func(cmd *cobra.Command, paths []string) error {
			if !cmd.Flags().Changed("fail-on") {
				p.failOn = severity(inspect.SeverityWarning)
			}
			return p.runVerify(cmd.Context(), paths, flags)
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.against, "against", "", "the backup before, which this one must continue")
	f.DurationVar(&flags.maxAge, "max-age", 0, "how old a backup may be, as 26h")
	f.Int64Var(&flags.minKeys, "min-keys", 0, "least number of live keys")
	f.Int64Var(&flags.minRevision, "min-revision", 0, "least revision")
	f.StringArrayVar(&flags.requirePrefix, "require-prefix", nil, "PREFIX or PREFIX=COUNT: least number of keys under a prefix; can be given again")
	f.Float64Var(&flags.maxDrop, "max-drop", backup.DefaultMaxDrop, "percent of the keys that may have gone since the backup before, in all and under each prefix")
	f.BoolVar(&flags.chain, "chain", false, "the files are one series, in the order given")
	f.StringVar(&flags.metrics, "metrics", "", "write metrics for Prometheus' textfile collector to this file, which is replaced")
	f.BoolVar(&flags.boot, "boot", false, "restore each backup in the scratch folder, start etcd on it, and compare")
	f.StringVar(&flags.binaries.EtcdBinary, "etcd-binary", "", "with --boot: the etcd to start (default: the one that is built in)")
	f.StringVar(&flags.binaries.EtcdutlBinary, "etcdutl-binary", "", "with --boot: the etcdutl that restores, or the etcdctl of 3.4 (default: the one that is built in)")
	return cmd
}

// policy turns the flags into what is asked of backups.
func (f *verifyFlags) policy(failOn inspect.Severity) (backup.Policy, error) {
	p := backup.Policy{
		FailOn: failOn, Now: time.Now(), MaxAge: f.maxAge, MinKeys: f.minKeys, MinRevision: f.minRevision,
		MaxDrop: f.maxDrop, Against: f.against, Chain: f.chain,
	}
	if !f.boot && f.binaries.EtcdBinary+f.binaries.EtcdutlBinary != "" {
		return p, errors.New("--etcd-binary and --etcdutl-binary go with --boot")
	}
	if f.maxAge < 0 || f.minKeys < 0 || f.minRevision < 0 || f.maxDrop < 0 || f.maxDrop > 100 {
		return p, errors.New("--max-age, --min-keys and --min-revision must not be negative, and --max-drop must be a percentage")
	}
	for _, text := range f.requirePrefix {
		r := backup.Required{Prefix: []byte(text), Count: 1}
		if i := strings.LastIndexByte(text, '='); i >= 0 {
			n, err := strconv.ParseInt(text[i+1:], 10, 64)
			if err != nil || n < 1 {
				return p, fmt.Errorf("--require-prefix %s: the count behind = must be a number above 0", report.Plain(text))
			}
			r = backup.Required{Prefix: []byte(text[:i]), Count: n}
		}
		p.Required = append(p.Required, r)
	}
	return p, nil
}

func (p *program) runVerify(ctx context.Context, paths []string, flags verifyFlags) error {
	policy, err := flags.policy(inspect.Severity(p.failOn))
	if err != nil {
		return err
	}
	evidence := paths
	if flags.against != "" {
		evidence = append([]string{flags.against}, paths...)
		if _, err := os.Stat(flags.against); err != nil {
			return fmt.Errorf("--against %s: no such file or directory", report.Plain(flags.against))
		}
	}
	if err := errors.Join(p.checkOutput(evidence), p.checkScratch(evidence), p.checkMetrics(flags.metrics, evidence)); err != nil {
		return err
	}
	absent := p.absent(paths)
	bar := p.newBar()
	var boot func(context.Context, *inspect.Case, *source.Source) backup.Boot
	if flags.boot {
		boot = p.booter(flags.binaries)
	}
	r, err := backup.Verify(ctx, paths, backup.Options{
		Boot:    boot,
		Policy:  policy,
		Inspect: inspect.Options{Digest: !p.noDigest},
		Source:  source.Options{Progress: bar.add, Scratch: p.scratch, ScratchLimit: int64(p.scratchLimit)},
		Opened:  func(s *source.Source) { bar.start([]*source.Source{s}) },
	})
	bar.finish()
	if werr := errors.Join(p.answer(func(w io.Writer) error { return p.writeVerify(w, r) }), p.unfinished(writeMetrics(flags.metrics, r))); werr != nil {
		return werr
	}
	p.exit = verifyExit(r)
	if absent == len(paths) {
		p.exit = ExitUsage
	}
	if err != nil {
		p.exit = ExitPartial
	}
	return interrupted(err)
}

// bootMember stands for the one member that a backup is restored as.
var bootMember = restore.NewMember{Name: "verify", PeerURLs: []string{"http://127.0.0.1:2380"}}

// booter restores a backup as one member, starts it, and compares.
func (p *program) booter(o rehearse.Options) func(context.Context, *inspect.Case, *source.Source) backup.Boot {
	o.Scratch = p.scratch
	return func(ctx context.Context, c *inspect.Case, s *source.Source) backup.Boot {
		plan := restore.New(c, restore.Options{Members: []restore.NewMember{bootMember}})
		if plan.Refused != nil {
			return backup.Boot{Outcome: backup.Failed, Message: *plan.Refused}
		}
		r, err := rehearse.Run(ctx, c, plan, []*source.Source{s}, o)
		switch {
		case r.Outcome == rehearse.Proven:
			return backup.Boot{Outcome: backup.Passed, Message: fmt.Sprintf("restored by %s and served by etcd %s as it is here", r.Versions.Restore, r.Versions.Etcd)}
		case r.Outcome == rehearse.NotProven:
			return backup.Boot{Outcome: backup.Failed, Message: r.Why}
		case err != nil:
			return backup.Boot{Outcome: backup.Skipped, Message: err.Error()}
		}
		return backup.Boot{Outcome: backup.Skipped, Message: r.Why}
	}
}

func (p *program) writeVerify(w io.Writer, r *backup.Report) error {
	switch p.writeOut {
	case "json":
		return report.VerifyJSON(w, r)
	case "junit":
		return report.VerifyJUnit(w, r)
	case "sarif":
		return report.VerifySARIF(w, r)
	}
	return report.Verify(w, r, report.TextOptions{Color: p.color()})
}

// absent counts the paths at which nothing is, and complains of each. They are failed
// backups in the answer: who looks at it alone must not take them for good ones.
func (p *program) absent(paths []string) (n int) {
	for _, path := range paths {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			p.complain(fmt.Errorf("%s: no such file or directory", report.Plain(path)))
			n++
		}
	}
	return n
}

// verifyExit follows the table in verify's help: a failed backup weighs more than
// one that was not examined to the end.
func verifyExit(r *backup.Report) int {
	for i := range r.Backups {
		for _, c := range r.Backups[i].Checks {
			if c.Outcome == backup.Failed {
				return ExitFindings
			}
		}
	}
	switch {
	case r.Incomplete():
		return ExitPartial
	case len(r.Backups) == 0:
		return ExitUsage
	}
	return ExitSound
}

// checkMetrics refuses a metrics file inside the evidence.
func (p *program) checkMetrics(path string, evidence []string) error {
	if path == "" {
		return nil
	}
	dir, err := canonical(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("--metrics %s: there is no folder to write it to", report.Plain(path))
	}
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("--metrics %s is no regular file, and would be replaced", report.Plain(path))
	}
	if out, err := canonical(filepath.Dir(p.output)); p.output != "" && err == nil && out == dir && filepath.Base(p.output) == filepath.Base(path) {
		return fmt.Errorf("--metrics and -o both name %s", report.Plain(path))
	}
	inside := p.within(dir, evidence)
	if at, err := canonical(path); err == nil && inside == "" {
		inside = p.within(at, evidence) // the file itself
	}
	if inside != "" {
		return hinted{fmt.Errorf("--metrics %s lies inside the evidence %s", report.Plain(path), report.Plain(inside)), "name a file elsewhere; evidence is never written to"}
	}
	return nil
}

// writeMetrics replaces the metrics file at once, so that no reader sees half of
// it.
func writeMetrics(path string, r *backup.Report) error {
	if path == "" {
		return nil
	}
	var b bytes.Buffer
	if err := report.VerifyMetrics(&b, r); err != nil {
		return err
	}
	return maybe.WriteFile(path, b.Bytes(), 0o644)
}

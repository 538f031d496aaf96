// Package backup judges backups before the disaster: whether each will restore,
// and whether it holds what a policy asks for.
package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
	"etcd-forensics/inspect/source"
)

// An Outcome is what a check came to.
type Outcome string

// The outcomes. Skipped is what was not examined: it is no pass.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped"
)

// A Check is one question asked of one backup.
type Check struct {
	Name    string         `json:"check"`
	Outcome Outcome        `json:"outcome"`
	Message string         `json:"message"`
	Codes   []inspect.Code `json:"codes"`
}

// The names of checks. A check of a required prefix is called CheckPrefix and the
// prefix.
const (
	CheckReadable = "readable"     // it is etcd's, whatever it is packed in
	CheckHash     = "hash"         // the SHA-256 that snapshot save appended
	CheckSound    = "sound"        // pages and records
	CheckNotEmpty = "not-empty"    // there is something to restore
	CheckAge      = "max-age"      //
	CheckKeys     = "min-keys"     //
	CheckRevision = "min-revision" //
	CheckPrefix   = "prefix"       //
	CheckHistory  = "same-cluster" // it continues the one before
	CheckOrder    = "order"        // it is not older than one named before it
	CheckDrop     = "max-drop"     // keys since the one before
	CheckGap      = "no-gap"       // of a regular series none is missing
	CheckBoot     = "boot"         // etcd serves it after a restore
)

// A Backup is what was found of one.
type Backup struct {
	Path     string            `json:"path"`
	Passed   bool              `json:"passed"`
	Kind     string            `json:"kind"` // as inspect has it; "" when it is nothing of etcd's
	Size     int64             `json:"size"` // bytes of the file handed in
	SHA256   *string           `json:"sha256"`
	Revision int64             `json:"revision"`
	Keys     int64             `json:"keys"` // that are live
	Time     *Time             `json:"time"`
	Previous string            `json:"previous"` // the one that it was compared with
	Checks   []Check           `json:"checks"`
	Findings []inspect.Finding `json:"-"`

	named   time.Time // the time in its name; zero when there is none
	tally   *query.Tally
	members []inspect.ID
	// contradiction says how it differs from the first history it was compared with.
	contradiction string
}

// A Time says when a backup was made, and what says so.
type Time struct {
	UTC time.Time `json:"utc"`
	By  string    `json:"by"`
}

// A Report is what became of all of them.
type Report struct {
	SchemaVersion int      `json:"schemaVersion"`
	Passed        bool     `json:"passed"`
	Backups       []Backup `json:"backups"`
	// PassedOver are files of a folder that are no backups.
	PassedOver []PassedOver `json:"passedOver"`

	// Interrupted is set when not all of them were examined.
	Interrupted bool `json:"-"`
}

// PassedOver is a file of a folder that was not taken for a backup.
type PassedOver struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// Incomplete says whether anything was left unexamined.
func (r *Report) Incomplete() bool {
	return r.Interrupted || slices.ContainsFunc(r.Backups, func(b Backup) bool {
		return slices.ContainsFunc(b.Checks, func(c Check) bool { return c.Outcome == Skipped })
	})
}

// Options control the examination.
type Options struct {
	Policy  Policy
	Inspect inspect.Options
	Source  source.Options
	// Opened is called with each backup before it is read.
	Opened func(*source.Source)
	// Boot restores a backup and starts a server on it; nil to leave that out.
	Boot func(context.Context, *inspect.Case, *source.Source) Boot
}

// A Boot says what came of restoring a backup and starting a server on it.
type Boot struct {
	Outcome Outcome // Skipped when it could not be tried
	Message string
}

// A verification goes through the backups of one call, one at a time.
type verification struct {
	ctx    context.Context
	opts   Options
	report *Report
}

// Verify judges the backups at paths. A folder is a series, in the order of the times in its
// names or of the names; other paths stand by themselves unless the policy has
// them in a chain. Only the end of ctx is an error.
func Verify(ctx context.Context, paths []string, opts Options) (*Report, error) {
	v := &verification{ctx, opts, &Report{SchemaVersion: inspect.SchemaVersion, Backups: []Backup{}, PassedOver: []PassedOver{}}}
	var lone []candidate
	for _, path := range paths {
		found, isFolder, err := v.candidates(path)
		switch {
		case err != nil:
			v.report.Backups = append(v.report.Backups, unreadable(path, err, opts.Policy))
		case isFolder:
			v.series(found)
		default:
			lone = append(lone, found...)
		}
	}
	if opts.Policy.Chain {
		v.series(lone)
	} else {
		for _, c := range lone {
			v.series([]candidate{c})
		}
	}
	v.report.Passed = !v.report.Incomplete() && len(v.report.Backups) > 0
	for i := range v.report.Backups {
		b := &v.report.Backups[i]
		b.Passed = !slices.ContainsFunc(b.Checks, func(c Check) bool { return c.Outcome != Passed })
		v.report.Passed = v.report.Passed && b.Passed
	}
	v.report.Interrupted = ctx.Err() != nil
	return v.report, ctx.Err()
}

// unreadable is a backup of which nothing can be read.
func unreadable(path string, err error, policy Policy) Backup {
	b := Backup{Path: path}
	b.find(CheckReadable, inspect.CodeBackupUnreadable, policy, "%v", err)
	return b
}

// find adds a failed check, and its finding, or a passed one when the policy does
// not fail on it.
func (b *Backup) find(check string, code inspect.Code, policy Policy, format string, args ...any) {
	f := inspect.NewFinding(code, b.Path, fmt.Sprintf(format, args...))
	f.Location.File = b.Path
	b.Findings = append(b.Findings, f)
	outcome := Passed
	if f.Severity >= policy.FailOn {
		outcome = Failed
	}
	b.add(Check{check, outcome, f.Message, []inspect.Code{code}})
}

func (b *Backup) pass(check, format string, args ...any) {
	b.add(Check{check, Passed, fmt.Sprintf(format, args...), []inspect.Code{}})
}

func (b *Backup) skip(check, format string, args ...any) {
	b.add(Check{check, Skipped, fmt.Sprintf(format, args...), []inspect.Code{}})
}

func (b *Backup) add(c Check) { b.Checks = append(b.Checks, c) }

// examine opens one backup and judges it by itself. The source is nil when it
// could not be opened.
func (v *verification) examine(c candidate) (*Backup, *source.Source) {
	b := &Backup{Path: c.path, Size: c.size, named: c.named, Checks: []Check{}}
	sources, problems := source.Open(v.ctx, []string{c.path}, v.opts.Source)
	if len(problems) > 0 || len(sources) != 1 {
		for _, s := range sources {
			s.Close()
		}
		if len(problems) == 0 {
			problems = []error{several(c.path, sources)}
		}
		b.unopened(problems[0], v.opts.Policy)
		return b, nil
	}
	s := sources[0]
	b.Kind = string(s.Kind)
	b.pass(CheckReadable, "a %s", describe(s))
	if v.opts.Opened != nil {
		v.opts.Opened(s)
	}
	v.inspect(b, s)
	err := v.tally(b, s)
	why := ""
	switch {
	case v.ctx.Err() != nil:
		why = interruptedCheck
	case b.truncated():
		why = truncatedCheck
	case err != nil:
		why = err.Error()
	}
	if why != "" {
		b.skip(CheckNotEmpty, "%s", why)
		v.opts.Policy.skip(b, why)
		s.Close()
		return b, nil
	}
	v.opts.Policy.check(b)
	return b, s
}

// truncated says whether the end of the file is missing.
func (b *Backup) truncated() bool {
	return slices.ContainsFunc(b.Findings, func(f inspect.Finding) bool { return f.Code == inspect.CodeBackendTruncated })
}

// Counted says whether its revision and keys are known: a store's revision is 1 at least.
func (b *Backup) Counted() bool { return b.Revision > 0 }

// Why checks of the content were not examined.
const (
	interruptedCheck = "not examined: interrupted"
	truncatedCheck   = "not examined: the file is truncated, so that what it held cannot be told"
)

// several says that a path holds more than one backup.
func several(path string, sources []*source.Source) error {
	var names []string
	for _, s := range sources {
		names = append(names, strings.TrimPrefix(s.Path, path+"/"))
	}
	return fmt.Errorf("%s: holds %d backups (%s); unpack it and verify them one by one", path, len(names), strings.Join(names, ", "))
}

// unopened says why a backup could not be opened: what an interrupt or the scratch
// folder kept from being examined is not the backup's fault.
func (b *Backup) unopened(err error, policy Policy) {
	if errors.Is(err, context.Canceled) {
		b.skip(CheckReadable, interruptedCheck)
		return
	}
	if errors.Is(err, fs.ErrPermission) || source.IsLimit(err) {
		b.skip(CheckReadable, "%v", err)
		return
	}
	b.find(CheckReadable, inspect.CodeBackupUnreadable, policy, "%v", err)
}

func describe(s *source.Source) string {
	if s.Archive != nil {
		return string(s.Kind) + " in an archive"
	}
	return string(s.Kind)
}

// inspect makes the whole examination, and turns its findings into checks.
func (v *verification) inspect(b *Backup, s *source.Source) {
	c, err := inspect.Inspect(v.ctx, []*source.Source{s}, v.opts.Inspect)
	if files := c.Sources[0].Files; len(files) > 0 {
		b.SHA256 = files[0].SHA256
	}
	m := &c.Members[0]
	b.Findings = append(b.Findings, c.Findings...)
	for _, member := range m.Membership.Members {
		b.members = append(b.members, member.MemberID)
	}
	v.checkHash(b, s, m)
	bad := slices.DeleteFunc(slices.Clone(c.Findings), func(f inspect.Finding) bool {
		return f.Severity < v.opts.Policy.FailOn || isHash(f.Code) || aside(f.Code)
	})
	notExamined := len(m.NotExamined)
	if t := trailer(m); t.Present && t.Valid == nil {
		notExamined-- // the hash, which is a check of its own
	}
	truncated := slices.IndexFunc(bad, func(f inspect.Finding) bool {
		return f.Code == inspect.CodeBackendTruncated && strings.HasPrefix(f.Message, "the file has ")
	})
	switch {
	case truncated >= 0:
		b.add(Check{CheckSound, Failed, bad[truncated].Message + ": it was copied or downloaded in part", codesOf(bad)})
	case len(bad) > 0:
		message := bad[0].Message
		if len(bad) > 1 {
			message += fmt.Sprintf(" (and %d more)", len(bad)-1)
		}
		b.add(Check{CheckSound, Failed, message, codesOf(bad)})
	case v.ctx.Err() != nil:
		b.skip(CheckSound, interruptedCheck)
	case err != nil || notExamined > 0:
		b.skip(CheckSound, "not all was examined: %s", m.NotExamined[0])
	default:
		b.pass(CheckSound, "every page and record")
	}
	if v.opts.Boot != nil {
		v.boot(b, c, s)
	}
}

// boot asks whether a server comes up on the backup.
func (v *verification) boot(b *Backup, c *inspect.Case, s *source.Source) {
	switch r := v.opts.Boot(v.ctx, c, s); r.Outcome {
	case Passed:
		b.pass(CheckBoot, "%s", r.Message)
	case Failed:
		b.find(CheckBoot, inspect.CodeBackupBootFailed, v.opts.Policy, "%s", r.Message)
	default:
		b.skip(CheckBoot, "%s", r.Message)
	}
}

// checkHash asks for the hash that snapshot save appends. A database that was
// copied has none.
func (v *verification) checkHash(b *Backup, s *source.Source, m *inspect.Member) {
	for _, f := range b.Findings {
		if isHash(f.Code) {
			outcome := Failed
			if f.Severity < v.opts.Policy.FailOn {
				outcome = Passed
			}
			b.add(Check{CheckHash, outcome, f.Message, []inspect.Code{f.Code}})
			return
		}
	}
	t := trailer(m)
	switch {
	case v.ctx.Err() != nil && t.Valid == nil:
		b.skip(CheckHash, interruptedCheck)
	case b.truncated():
		b.skip(CheckHash, "not examined: the file is truncated, and the hash stands at its end")
	case s.Kind != source.KindSnapshot:
		b.find(CheckHash, inspect.CodeSnapshotHashMissing, v.opts.Policy,
			"a copied database, not a snapshot: it has no hash, and etcdutl restores it only with --skip-hash-check")
	case t.Valid != nil && *t.Valid:
		b.pass(CheckHash, "the SHA-256 at its end is that of its content")
	default:
		b.skip(CheckHash, "the hash was not examined")
	}
}

// trailer gives what was found of the hash; the zero value when there is no database.
func trailer(m *inspect.Member) inspect.Trailer {
	if m.Backend == nil {
		return inspect.Trailer{}
	}
	return m.Backend.Trailer
}

// aside says whether a warning does not concern the restore: a compaction that was under
// way, which etcd goes on with, a quota that is near,
// values that are encrypted in several ways, as while keys are being changed, and
// the membership, which a restore writes anew.
func aside(c inspect.Code) bool {
	switch c {
	case inspect.CodeMVCCCompactionUnfinished, inspect.CodeSpaceNearQuota, inspect.CodeKubeEncryptionMixed,
		inspect.CodeMemberSourcesDisagree, inspect.CodeMemberLearnerMismatch, inspect.CodeMemberZombie, inspect.CodeMemberDuplicate:
		return true
	}
	return false
}

func isHash(c inspect.Code) bool {
	return c == inspect.CodeSnapshotHashMismatch || c == inspect.CodeSnapshotHashMissing || c == inspect.CodeSnapshotTrailingBytes
}

// codesOf lists the codes of findings, each once.
func codesOf(findings []inspect.Finding) []inspect.Code {
	var codes []inspect.Code
	for _, f := range findings {
		if !slices.Contains(codes, f.Code) {
			codes = append(codes, f.Code)
		}
	}
	return codes
}

// tally counts what the policy asks for.
func (v *verification) tally(b *Backup, s *source.Source) error {
	t, err := query.TallyKeys(v.ctx, s, v.opts.Policy.prefixes())
	if err != nil {
		return err
	}
	if v.ctx.Err() != nil || b.truncated() {
		return nil
	}
	b.tally, b.Revision, b.Keys = t, t.Revision, t.Live
	b.Time = &Time{s.Time().UTC(), "the file's modification time"}
	if s.Archive != nil {
		b.Time.By = "the time that the archive gives"
	}
	if !t.Newest.IsZero() {
		b.Time = &Time{t.Newest.UTC(), "leases and events of Kubernetes in it (estimate)"}
	}
	return nil
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
	"etcd-forensics/inspect/source"
	"etcd-forensics/report"
)

// keyFlags are the flags of the commands that are about keys.
type keyFlags struct {
	prefix      bool
	rev         int64
	encryption  string
	showSecrets bool
}

func (f *keyFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.prefix, "prefix", false, "all keys that begin with KEY")
	cmd.Flags().StringVar(&f.encryption, "encryption-config", "", "EncryptionConfiguration file of the API server: values are decrypted in memory")
}

// needsKey insists on a path and a key.
func needsKey(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 2:
		return nil
	case len(args) < 2:
		return hinted{fmt.Errorf("%s needs a PATH and a KEY", cmd.Name()), cmd.Name() + " backup.db /registry/configmaps/default/settings; --prefix takes all keys that begin with KEY"}
	}
	return fmt.Errorf("%s takes one PATH and one KEY, not %d arguments", cmd.Name(), len(args))
}

func (p *program) get() *cobra.Command {
	var flags keyFlags
	cmd := &cobra.Command{
		Use:   "get PATH KEY",
		Short: "Show a key as it was at a revision",
		Long: `get shows what a key was at a revision, or at the newest. Its value is shown only with
--values full, and with --values hash as its SHA-256. With -w yaml --values full an object
of Kubernetes is written so that kubectl apply takes it: one deleted object comes back
without the rest of the cluster. The data of Secrets is masked without --show-secrets.

A key that is not there makes the exit code 1.

` + exitHelp,
		Example:     "  etcd-forensics get backup.db /registry/configmaps/default/settings\n  etcd-forensics get m1 /registry/deployments/shop/cart --rev 4711 -w yaml --values full | kubectl apply -f -\n  etcd-forensics get m1 --prefix /registry/leases/ -w json",
		Args:        needsKey,
		Annotations: map[string]string{formatsOf: "text json yaml"},
		RunE:        func(cmd *cobra.Command, args []string) error { return p.runGet(cmd, args, flags) },
	}
	flags.add(cmd)
	cmd.Flags().Int64Var(&flags.rev, "rev", 0, "as of this revision; 0 is the newest")
	cmd.Flags().BoolVar(&flags.showSecrets, "show-secrets", false, "with -w yaml: the data of Secrets, too")
	return cmd
}

func (p *program) runGet(cmd *cobra.Command, args []string, flags keyFlags) error {
	if p.writeOut == "yaml" && p.values != "full" {
		return hinted{errors.New("-w yaml shows values"), "add --values full"}
	}
	return p.askKeys(cmd, args, flags, func(ctx context.Context, s *source.Source, keys query.Keys, d *query.Decryption) (func(io.Writer) error, error) {
		r, err := query.Get(ctx, s, query.GetOptions{Keys: keys, Revision: flags.rev, Values: p.values != "none"})
		if r == nil || r.Interrupted != nil && p.writeOut == "yaml" { // what is applied must be the newest
			return nil, err
		}
		p.judge(r.File, r.Findings, r.Whole, r.Interrupted != nil)
		if len(r.List) == 0 && r.Interrupted == nil {
			p.exit = max(p.exit, ExitFindings)
			if p.writeOut != "json" {
				what, hint := "key "+quote(keys.Key)+" is not there", "history shows what became of it"
				if flags.prefix {
					what, hint = "no key that begins with "+quote(keys.Key)+" is there", "history --prefix shows what became of them"
				}
				return nil, hinted{fmt.Errorf("%s at revision %d", what, r.Revision), hint}
			}
		}
		for i := range r.List {
			p.complainOnce(d.Open(&r.List[i]))
		}
		return func(w io.Writer) error {
			switch p.writeOut {
			case "json":
				return report.GetJSON(w, r, report.Values(p.values))
			case "yaml":
				return report.GetYAML(w, r, flags.showSecrets)
			}
			return report.GetText(w, r, flags.prefix, report.Values(p.values))
		}, err
	})
}

func (p *program) history() *cobra.Command {
	var flags keyFlags
	cmd := &cobra.Command{
		Use:   "history PATH KEY",
		Short: "Show every version of a key that database and write-ahead log still hold",
		Long: `history shows what happened to a key, oldest first: every version that the database still
has, and what only the write-ahead log tells, such as versions that a compaction has removed
and writes that the database lacks. Where objects of Kubernetes in the database name the
time of their writing (leases of nodes, events), the time of each revision is estimated.

` + exitHelp,
		Example: "  etcd-forensics history m1 /registry/deployments/shop/cart\n  etcd-forensics history backup.db --prefix /registry/leases/kube-node-lease/ -w json",
		Args:    needsKey,
		RunE:    func(cmd *cobra.Command, args []string) error { return p.runHistory(cmd, args, flags) },
	}
	flags.add(cmd)
	cmd.Flags().Int64Var(&flags.rev, "rev", 0, "nothing behind this revision; 0 for all")
	return cmd
}

func (p *program) runHistory(cmd *cobra.Command, args []string, flags keyFlags) error {
	return p.askKeys(cmd, args, flags, func(ctx context.Context, s *source.Source, keys query.Keys, d *query.Decryption) (func(io.Writer) error, error) {
		r, err := query.History(ctx, s, query.HistoryOptions{Keys: keys, Revision: flags.rev, Values: p.values != "none"})
		if r == nil {
			return nil, err
		}
		p.judge(r.File, r.Findings, r.Whole, r.Interrupted != nil)
		if len(r.List) == 0 && r.Interrupted == nil {
			p.exit = max(p.exit, ExitFindings)
			if p.writeOut != "json" {
				return nil, fmt.Errorf("nothing is known of key %s", quote(keys.Key))
			}
		}
		for i := range r.List {
			p.complainOnce(d.Open(&r.List[i].Version))
		}
		return func(w io.Writer) error {
			if p.writeOut == "json" {
				return report.HistoryJSON(w, r, report.Values(p.values))
			}
			return report.HistoryText(w, r, report.Values(p.values))
		}, err
	})
}

// askKeys opens the source and asks it about keys. What ask gives beside an error is what was
// seen until an interrupt.
func (p *program) askKeys(cmd *cobra.Command, args []string, flags keyFlags,
	ask func(context.Context, *source.Source, query.Keys, *query.Decryption) (func(io.Writer) error, error)) error {
	if flags.rev < 0 {
		return errors.New("--rev must not be negative")
	}
	if args[1] == "" && !flags.prefix {
		return hinted{errors.New("KEY is empty"), "--prefix with an empty KEY takes all keys"}
	}
	paths := args[:1]
	if err := p.checkOutput(paths); err != nil {
		return err
	}
	decryption, err := readEncryption(flags.encryption)
	if err != nil {
		return err
	}
	bar := p.newBar()
	src, problems, err := p.openOne(cmd.Context(), args[0], bar.add)
	if err != nil {
		return err
	}
	defer src.Close()
	if len(problems) > 0 {
		p.exit = ExitPartial
	}
	bar.start([]*source.Source{src})
	render, err := ask(cmd.Context(), src, query.Keys{Key: []byte(args[1]), Prefix: flags.prefix}, decryption)
	bar.finish()
	if render == nil {
		if p.exit == ExitSound {
			p.exit = ExitFindings
		}
		if unread(cmd.Context(), src, err) {
			p.exit = ExitPartial
		}
		return stopped(err)
	}
	return p.answerUntil(err, render)
}

// readEncryption reads the EncryptionConfiguration of that name, if there is a name.
func readEncryption(name string) (*query.Decryption, error) {
	if name == "" {
		return nil, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	d, err := query.NewDecryption(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", report.Plain(name), err)
	}
	return d, nil
}

// judge sets the exit code by what a pass over the database found, and says that
// there is something. That an interrupted pass is not whole the answer says itself.
func (p *program) judge(file string, findings []inspect.Finding, whole, interrupted bool) {
	worst := 0
	for _, f := range findings {
		if f.Severity >= inspect.Severity(p.failOn) {
			worst++
		}
	}
	if worst > 0 {
		p.exit = max(p.exit, ExitFindings)
	}
	if worst > 0 || !whole && !interrupted {
		missing := "the answer may lack records"
		if whole {
			missing = "no record is missing from the answer"
		}
		p.complain(hinted{fmt.Errorf("%s: %s; %s", report.Plain(file), plural(len(findings), "finding"), missing), "inspect tells what is wrong with the file"})
	}
}

// complainOnce complains of the first error of its kind.
func (p *program) complainOnce(err error) {
	if err == nil || p.complained {
		return
	}
	p.complained = true
	p.complain(err)
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

func quote(key []byte) string { return fmt.Sprintf("%+q", key) }

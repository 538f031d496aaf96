package cli

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
	"etcd-forensics/inspect/source"
	"etcd-forensics/report"
)

// keysFlags are the flags of keys.
type keysFlags struct {
	depth, top            int
	delimiter, etcdPrefix string
	kubernetes            bool
	encryption            string
	sort                  keySort
	rev                   int64
	quota                 byteCount
}

// keysRows is the number of rows of each table in text without --top.
const keysRows = 20

func (p *program) keys() *cobra.Command {
	flags := keysFlags{sort: keySort(query.KeySorts[0])}
	cmd := &cobra.Command{
		Use:   "keys PATH",
		Short: "Show what fills a database: keys, revisions and bytes by prefix, and its space",
		Long: `keys counts live keys, revisions, tombstones and bytes by prefix, exactly, and names the
keys with most revisions and the largest ones. It adds the bytes of the file up, and says
what a compaction and a defragmentation would give back and how far a quota is.

When the keys are those of a Kubernetes API server they are counted by resource and by
namespace as well. --kubernetes insists on it, --kubernetes=false leaves it out, and
--etcd-prefix names the API server's prefix when the keys do not give it away. With one of
the two, or with --encryption-config, the newest version of each object is looked into as
well: owners that are not there, deletions that are stuck, nodes that went silent, unused
leases, and by which keys objects are encrypted. That takes some seconds for each million
objects. Nothing but the metadata of objects is read.

-w csv writes the rows by prefix, or with --kubernetes by resource and namespace.

` + exitHelp,
		Example:     "  etcd-forensics keys backup.db\n  etcd-forensics keys m1 --depth 3 --sort history-bytes\n  etcd-forensics keys m1 --rev 4711 --quota 8GiB\n  etcd-forensics keys backup.db --kubernetes -w csv",
		Args:        needsPath(false),
		Annotations: map[string]string{formatsOf: "text json csv"},
		RunE:        func(cmd *cobra.Command, paths []string) error { return p.runKeys(cmd, paths, flags) },
	}
	cmd.Flags().IntVar(&flags.depth, "depth", 2, "delimiters in a prefix, not counting one in the first position")
	cmd.Flags().StringVar(&flags.delimiter, "delimiter", "/", "character that ends a part of a key")
	cmd.Flags().BoolVar(&flags.kubernetes, "kubernetes", true, "by resource and namespace; without the flag the keys decide")
	cmd.Flags().StringVar(&flags.etcdPrefix, "etcd-prefix", "", "prefix of the API server's keys (its --etcd-prefix)")
	cmd.Flags().StringVar(&flags.encryption, "encryption-config", "", "EncryptionConfiguration file of the API server: objects are decrypted in memory, and the keys that it lacks are named")
	cmd.Flags().IntVar(&flags.top, "top", 0, "rows of each table, and keys of each list (default 20 and 10 in text, all and 10 otherwise)")
	cmd.Flags().Var(&flags.sort, "sort", "order of rows: "+keySortNames())
	cmd.Flags().Int64Var(&flags.rev, "rev", 0, "as of this revision; 0 is the newest")
	cmd.Flags().Var(&flags.quota, "quota", "the servers' --quota-backend-bytes; also as 2G or 8GiB, in powers of 1024")
	return cmd
}

// options turns the flags into options.
func (f *keysFlags) options(cmd *cobra.Command) (query.KeysOptions, error) {
	opts := query.KeysOptions{
		Depth: f.depth, Delimiter: f.delimiter, EtcdPrefix: f.etcdPrefix, Sort: query.KeySort(f.sort), Top: f.top, Revision: f.rev, Quota: int64(f.quota),
	}
	named := cmd.Flags().Changed("kubernetes")
	opts.Objects = f.kubernetes && (named || f.etcdPrefix != "" || f.encryption != "")
	switch {
	case f.depth < 1:
		return opts, errors.New("--depth must be at least 1")
	case utf8.RuneCountInString(f.delimiter) != 1:
		return opts, errors.New("--delimiter must be one character")
	case f.rev < 0:
		return opts, errors.New("--rev must not be negative")
	case cmd.Flags().Changed("top") && (f.top < 1 || f.top > maxTop):
		return opts, fmt.Errorf("--top must be from 1 to %d", maxTop)
	case cmd.Flags().Changed("etcd-prefix") && f.etcdPrefix == "":
		return opts, hinted{errors.New("--etcd-prefix is empty"), "--etcd-prefix / stands for keys such as /pods/default/web-0"}
	case named && !f.kubernetes && f.etcdPrefix != "":
		return opts, errors.New("--etcd-prefix goes without --kubernetes=false")
	case named && !f.kubernetes && f.encryption != "":
		return opts, errors.New("--encryption-config goes without --kubernetes=false")
	case named && f.kubernetes:
		opts.Kubernetes = query.KubernetesOn
	case named:
		opts.Kubernetes = query.KubernetesOff
	}
	return opts, nil
}

// maxTop bounds the keys that are named.
const maxTop = 100000

func (p *program) runKeys(cmd *cobra.Command, paths []string, flags keysFlags) error {
	opts, err := flags.options(cmd)
	if err != nil {
		return err
	}
	if err := p.checkOutput(paths); err != nil {
		return err
	}
	opts.Objects = opts.Objects && p.writeOut != "csv"
	if opts.Decryption, err = readEncryption(flags.encryption); err != nil {
		return err
	}
	bar := p.newBar()
	src, problems, err := p.openOne(cmd.Context(), paths[0], bar.add)
	if err != nil {
		return err
	}
	defer src.Close()
	bar.start([]*source.Source{src})
	r, err := query.CountKeys(cmd.Context(), src, opts)
	bar.finish()
	if r == nil {
		switch {
		case unread(cmd.Context(), src, err):
			p.exit = ExitPartial
		case !errors.Is(err, inspect.ErrNoDatabase):
			p.exit = ExitFindings
		}
		return stopped(err)
	}
	p.judge(r.File, r.Findings, r.Whole, r.Interrupted != nil)
	if c := (inspect.Case{Findings: r.Findings}); len(problems) > 0 || c.Unfinished() {
		p.exit = ExitPartial
	}
	return p.answerUntil(err, func(w io.Writer) error {
		switch p.writeOut {
		case "json":
			return report.KeysJSON(w, r, flags.top)
		case "csv":
			return report.KeysCSV(w, r, opts.Kubernetes == query.KubernetesOn || opts.EtcdPrefix != "", flags.top)
		}
		text := report.KeysTextOptions{Rows: keysRows, ByPrefix: cmd.Flags().Changed("depth") || cmd.Flags().Changed("delimiter")}
		if flags.top > 0 {
			text.Rows = flags.top
		}
		return report.KeysText(w, r, text)
	})
}

func keySortNames() string {
	names := make([]string, len(query.KeySorts))
	for i, by := range query.KeySorts {
		names[i] = string(by)
	}
	return strings.Join(names, ", ")
}

// keySort is the value of --sort.
type keySort query.KeySort

func (s *keySort) String() string { return string(*s) }
func (s *keySort) Type() string   { return "order" }
func (s *keySort) Set(name string) error {
	by, err := query.ParseKeySort(name)
	if err != nil {
		return errors.New("must be one of " + keySortNames())
	}
	*s = keySort(by)
	return nil
}

// byteCount is a number of bytes: 2147483648, 2G, 2Gi, 2GB or 2GiB.
type byteCount int64

func (b *byteCount) String() string {
	if *b == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*b), 10)
}
func (b *byteCount) Type() string { return "bytes" }
func (b *byteCount) Set(s string) error {
	word := strings.ToUpper(strings.TrimSpace(s))
	number := strings.TrimRight(word, "KMGTIB ")
	unit, known := map[string]int64{
		"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40,
	}[strings.TrimSuffix(strings.TrimSuffix(strings.TrimSpace(word[len(number):]), "B"), "I")]
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || !known || n < 1 || n > math.MaxInt64/unit {
		return errors.New("must be a number of bytes such as 2147483648, 2G or 8GiB")
	}
	*b = byteCount(n * unit)
	return nil
}

package cli

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"etcd-forensics/report"
)

func (p *program) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version and what it was built from",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := buildVersion()
			return p.answer(func(w io.Writer) error {
				if p.writeOut == "json" {
					return report.Value(w, v)
				}
				_, err := fmt.Fprintf(w, "etcd-forensics %s\n%s %s, with etcd %s and bbolt %s\nreads what etcd %s wrote\n", v.Version, v.Go, v.Platform, v.Etcd, v.Bbolt, v.Reads)
				return err
			})
		},
	}
}

type versionInfo struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Etcd     string `json:"etcd"`  // whose applier and restore are inside
	Bbolt    string `json:"bbolt"` // that writes new databases
	Reads    string `json:"reads"`
}

func buildVersion() versionInfo {
	v := versionInfo{Version: "(unknown)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Etcd: "(unknown)", Bbolt: "(unknown)", Reads: "3.4 to 3.8"}
	if b, ok := debug.ReadBuildInfo(); ok {
		v.Version = b.Main.Version
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" {
				v.Version += " " + s.Value
			}
		}
		for _, m := range b.Deps {
			switch m.Path {
			case "go.etcd.io/etcd/server/v3":
				v.Etcd = strings.TrimPrefix(m.Version, "v")
			case "go.etcd.io/bbolt":
				v.Bbolt = strings.TrimPrefix(m.Version, "v")
			}
		}
	}
	return v
}

package cli

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

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
				_, err := fmt.Fprintf(w, "etcd-forensics %s\n%s %s\nreads what etcd %s wrote\n", v.Version, v.Go, v.Platform, v.Reads)
				return err
			})
		},
	}
}

type versionInfo struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Reads    string `json:"reads"`
}

func buildVersion() versionInfo {
	v := versionInfo{Version: "(unknown)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Reads: "3.4 to 3.8"}
	if b, ok := debug.ReadBuildInfo(); ok {
		v.Version = b.Main.Version
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" {
				v.Version += " " + s.Value
			}
		}
	}
	return v
}

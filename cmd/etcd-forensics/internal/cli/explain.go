package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"etcd-forensics/inspect"
	"etcd-forensics/report"
)

func (p *program) explain() *cobra.Command {
	return &cobra.Command{
		Use:     "explain CODE",
		Short:   "Say what a finding code means, what evidence shows it and what to do",
		Example: "  etcd-forensics explain backend-page-shared",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return hinted{errors.New("explain takes one CODE"), "the codes stand in the report of inspect, as backend-page-shared"}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			code := inspect.Code(strings.ToLower(strings.TrimSpace(args[0])))
			e, ok := inspect.Explain(code)
			if !ok {
				return hinted{fmt.Errorf("no finding has the code %q", args[0]), nearest(string(code))}
			}
			return p.answer(func(w io.Writer) error {
				if p.writeOut == "json" {
					return report.Value(w, e)
				}
				return report.Explanation(w, e)
			})
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var codes []string
			for _, c := range inspect.Codes() {
				codes = append(codes, string(c))
			}
			return codes, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// nearest names the codes that share the most with a code that does not exist.
func nearest(code string) string {
	parts := strings.Split(code, "-")
	best, most := []string{}, 0
	for _, c := range inspect.Codes() {
		n := 0
		for _, part := range strings.Split(string(c), "-") {
			for _, given := range parts {
				if part == given {
					n++
				}
			}
		}
		switch {
		case n > most:
			best, most = []string{string(c)}, n
		case n == most && n > 0:
			best = append(best, string(c))
		}
	}
	if most == 0 {
		for _, c := range inspect.Codes() {
			best = append(best, string(c))
		}
		return "the codes are " + strings.Join(best, ", ")
	}
	return "similar: " + strings.Join(best, ", ")
}

package cli_test

import (
	"bytes"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"etcd-forensics/cmd/etcd-forensics/internal/cli"
	"etcd-forensics/fixtures"
)

// TestProgressEndsWhereTheWorkDoes inspects members whose contents are compared, so that
// they are read more than once.
func TestProgressEndsWhereTheWorkDoes(t *testing.T) {
	dir := fixtures.Dir(t, "cluster3-3.7-crash")
	args := []string{"inspect", "--progress", "always"}
	for _, m := range []string{"m1", "m2", "m3"} {
		args = append(args, filepath.Join(dir, m))
	}
	var out, errs bytes.Buffer
	cli.Run(t.Context(), cli.Streams{Out: &out, Err: &errs}, args)
	shown := regexp.MustCompile(`([0-9.]+)%`).FindAllStringSubmatch(errs.String(), -1)
	if len(shown) == 0 {
		t.Fatalf("no progress in %q", errs.String())
	}
	for _, s := range shown {
		if n, err := strconv.ParseFloat(s[1], 64); err != nil || n > 100 {
			t.Errorf("%s of the work is done", s[0])
		}
	}
	if last := shown[len(shown)-1][1]; last != "100.00" {
		t.Errorf("it ends at %s %%", last)
	}
}

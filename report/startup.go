package report

import (
	"fmt"
	"strings"

	"etcd-forensics/inspect"
)

// startups writes what each version of etcd would do with the member directories,
// once for all of which it is the same.
func (t *textWriter) startups(c *inspect.Case) {
	var order []string
	of := map[string][]string{}
	for _, m := range c.Members {
		if len(m.Startup) == 0 {
			continue
		}
		text := startup(m.Startup)
		if of[text] == nil {
			order = append(order, text)
		}
		of[text] = append(of[text], Plain(m.Source))
	}
	for _, text := range order {
		switch on := of[text]; {
		case len(c.Members) == 1:
			t.printf("\nwould etcd start\n")
		case len(on) == len(c.Members):
			t.printf("\nwould etcd start, on every source\n")
		default:
			t.printf("\n")
			t.wrapHanging("would etcd start on ", "  ", strings.Join(on, ", "))
		}
		t.printf("%s", text)
	}
}

// startup gives one line for all versions that do the same.
func startup(all []inspect.Startup) string {
	var order []string
	versions := map[string][]int{} // by what they do, as places in all
	for i, s := range all {
		does := startWords(s)
		if versions[does] == nil {
			order = append(order, does)
		}
		versions[does] = append(versions[does], i)
	}
	var b strings.Builder
	t := &textWriter{w: &b}
	for _, does := range order {
		t.wrapHanging("  "+versionRange(all, versions[does])+": ", "    ", does)
	}
	return b.String()
}

// startWords says what one version does.
func startWords(s inspect.Startup) string {
	var words, cuts string
	if s.CutsEntries != nil && *s.CutsEntries > 0 {
		n := *s.CutsEntries
		cuts = fmt.Sprintf(", and cuts %d %s off the log without a word", n, map[bool]string{true: "entry", false: "entries"}[n == 1])
	}
	switch {
	case s.Starts == nil:
		words = "cannot be told from the files"
	case !*s.Starts:
		words = "exits: " + Plain(s.Error) + cuts
	case s.Serves == nil:
		words = "starts; whether it takes writes is up to the other members" + cuts
	case *s.Serves:
		words = "starts and takes writes" + cuts
	default:
		words = "stays up and takes no writes" + cuts
	}
	if len(s.BecauseOf) == 0 {
		return words
	}
	codes := make([]string, len(s.BecauseOf))
	for i, c := range s.BecauseOf {
		codes[i] = string(c)
	}
	return words + " (" + strings.Join(codes, ", ") + ")"
}

// versionRange names versions, neighbours as "3.5 to 3.7".
func versionRange(all []inspect.Startup, at []int) string {
	var parts []string
	for i := 0; i < len(at); {
		j := i
		for j+1 < len(at) && at[j+1] == at[j]+1 {
			j++
		}
		part := Plain(all[at[i]].EtcdVersion)
		if j > i {
			part += " to " + Plain(all[at[j]].EtcdVersion)
		}
		parts = append(parts, part)
		i = j + 1
	}
	return strings.Join(parts, ", ")
}

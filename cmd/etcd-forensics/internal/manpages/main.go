// Command manpages writes a man page of every command into a folder. The pages are made
// from the commands themselves, so they cannot say anything else than --help.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra/doc"

	"etcd-forensics/cmd/etcd-forensics/internal/cli"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "manpages:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: manpages DIR")
	}
	if err := os.MkdirAll(args[0], 0o755); err != nil {
		return err
	}
	// The date is that of SOURCE_DATE_EPOCH when it is set, as the Makefile does.
	header := &doc.GenManHeader{Section: "1", Source: "etcd-forensics", Manual: "etcd-forensics"}
	root := cli.Command()
	root.DisableAutoGenTag = true
	return doc.GenManTree(root, header, args[0])
}

// Command etcd-forensics examines copied etcd files without a running cluster.
package main

import (
	"context"
	"os"

	"etcd-forensics/cmd/etcd-forensics/internal/cli"
)

func main() {
	os.Exit(cli.Run(context.Background(), cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, os.Args[1:]))
}

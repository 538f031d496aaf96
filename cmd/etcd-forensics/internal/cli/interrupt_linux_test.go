package cli_test

import (
	"bytes"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"etcd-forensics/cmd/etcd-forensics/internal/cli"
	"etcd-forensics/fixtures"
)

// The signals that a terminal and a supervisor send are interrupts.
func TestSignalsInterrupt(t *testing.T) {
	snapshot := filepath.Join(fixtures.Dir(t, "healthy-3.6"), "snapshot.db")
	for _, sent := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		for _, args := range [][]string{{"inspect", snapshot}, {"keys", snapshot}, {"hashkv", snapshot}, {"get", snapshot, "/", "--prefix"}, {"history", snapshot, "/", "--prefix"}, {"diff", snapshot, "--old-rev", "1100"}} {
			at := make(chan int, 1)
			at <- 0
			arrived := make(chan os.Signal, 1)
			signal.Notify(arrived, sent)
			var out, errs bytes.Buffer
			exit := cli.Run(t.Context(), cli.Streams{Out: &out, Err: &errs, Read: func(int64) {
				n := <-at + 1
				if n == 20 {
					if err := syscall.Kill(syscall.Getpid(), sent); err != nil {
						t.Error(err)
					} else {
						<-arrived
					}
				}
				if n >= 20 { // what is left takes longer than the signal does to arrive
					time.Sleep(2 * time.Millisecond)
				}
				at <- n
			}}, args)
			signal.Stop(arrived)
			if exit != cli.ExitPartial || !strings.Contains(errs.String(), "interrupted") {
				t.Errorf("%v of %s: exit %d, %s%.300s", sent, args[0], exit, errs.String(), out.String())
			}
		}
	}
}

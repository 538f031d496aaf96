//go:build unix

package rehearse

import (
	"os"
	"syscall"
)

func killGroup(p *os.Process) { syscall.Kill(-p.Pid, syscall.SIGKILL) }
func interrupt(p *os.Process) { p.Signal(syscall.SIGTERM) }

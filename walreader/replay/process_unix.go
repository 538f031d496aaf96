//go:build unix

package replay

import (
	"os"
	"syscall"
)

// group makes a child the first of a group of its own, which an interrupt from the
// terminal does not reach.
func group() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func killGroup(p *os.Process) error { return syscall.Kill(-p.Pid, syscall.SIGKILL) }

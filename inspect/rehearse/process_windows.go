package rehearse

import (
	"os"
	"syscall"
)

// attributes make a child the first of a group of its own, which an interrupt from the
// terminal does not reach.
func attributes(bool) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

func grandchild() *syscall.SysProcAttr { return nil }

func killGroup(p *os.Process) { p.Kill() }
func interrupt(p *os.Process) { p.Kill() } // no signal reaches another process

package replay

import (
	"os"
	"syscall"
)

// group keeps an interrupt from the terminal away from a child.
func group() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

func killGroup(p *os.Process) error { return p.Kill() }

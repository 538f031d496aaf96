package rehearse

import "syscall"

// attributes make a child the first of a group of its own, which an interrupt from the
// terminal does not reach, and which ends with this process. The sweeper outlives it.
func attributes(sweeper bool) *syscall.SysProcAttr {
	if sweeper {
		return &syscall.SysProcAttr{Setpgid: true}
	}
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// grandchild is for what a child starts: it belongs to the child's group.
func grandchild() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

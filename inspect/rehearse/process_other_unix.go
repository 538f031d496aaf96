//go:build unix && !linux

package rehearse

import "syscall"

// attributes make a child the first of a group of its own, which an interrupt from the
// terminal does not reach.
func attributes(bool) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func grandchild() *syscall.SysProcAttr { return nil }

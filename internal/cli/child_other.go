//go:build !linux

package cli

import "syscall"

// childAttributes puts a child into a process group of its own, so that the
// terminal's Ctrl-C reaches `up` alone.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

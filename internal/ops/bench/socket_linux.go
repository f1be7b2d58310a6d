//go:build !race

package bench

import (
	"syscall"
	"unsafe"
)

// socketRead reads from a socket that does not block, and so need not tell the
// scheduler. There must be room.
func socketRead(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), errno
}

// socketWrite writes to a socket that does not block. There must be something.
func socketWrite(fd uintptr, p []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), errno
}

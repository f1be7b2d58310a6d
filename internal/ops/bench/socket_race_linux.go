//go:build race

package bench

import (
	"errors"
	"syscall"
)

// The race detector learns from the ordinary calls that what was written before
// an answer was sent happened before the answer was read.

func socketRead(fd uintptr, p []byte) (int, syscall.Errno) { return outcome(syscall.Read(int(fd), p)) }

func socketWrite(fd uintptr, p []byte) (int, syscall.Errno) {
	return outcome(syscall.Write(int(fd), p))
}

func outcome(n int, err error) (int, syscall.Errno) {
	var errno syscall.Errno
	if err != nil && !errors.As(err, &errno) {
		errno = syscall.EIO
	}
	return n, errno
}

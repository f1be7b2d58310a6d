package link

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// controlSocket asks for BBR before a socket connects or listens: on a long way
// with some loss it is 8 to 15 times as fast as what most kernels default to.
// Without it the link works, and Stats tells.
func controlSocket(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "bbr") // tuneSocket looks at what came of it
	})
}

// tuneSocket makes the kernel give up on unacknowledged data after a while, and
// reports what the socket has.
func tuneSocket(c *net.TCPConn, userTimeout time.Duration) (bbr, timeout bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return false, false
	}
	err = raw.Control(func(fd uintptr) {
		control, err := unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
		bbr = err == nil && control == "bbr"
		timeout = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds())) == nil
	})
	return bbr && err == nil, timeout && err == nil
}

//go:build !linux

package link

import (
	"net"
	"syscall"
	"time"
)

// controlSocket has nothing to ask for: congestion control is the system's choice.
func controlSocket(_, _ string, _ syscall.RawConn) error { return nil }

// tuneSocket has nothing to set: keep-alives and heartbeats find a dead peer.
func tuneSocket(*net.TCPConn, time.Duration) (bbr, timeout bool) { return false, false }

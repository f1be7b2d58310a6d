package link

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// napper waits with the precision of the kernel's high-resolution timers. Go's
// own timers wake an idle process up to a millisecond late, because epoll counts
// in milliseconds; a timer descriptor in the same epoll does not, and costs no thread.
type napper struct {
	fd   int
	file *os.File // nil: fall back to Go's timers
}

func newNapper() *napper {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return &napper{}
	}
	return &napper{fd: fd, file: os.NewFile(uintptr(fd), "timerfd")}
}

// nap sleeps for a short while that nothing interrupts.
func (n *napper) nap(d time.Duration) {
	if n.file == nil || n.arm(d) != nil {
		timer := time.NewTimer(d)
		defer timer.Stop()
		<-timer.C
		return
	}
	var expirations [8]byte
	_, _ = n.file.Read(expirations[:]) // an error ends the nap early, and whoever naps looks at the clock
}

func (n *napper) arm(d time.Duration) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(d.Nanoseconds(), 1))}
	if err := unix.TimerfdSettime(n.fd, 0, &spec, nil); err != nil {
		return fmt.Errorf("arm timer: %w", err)
	}
	return nil
}

func (n *napper) close() {
	if n.file != nil {
		_ = n.file.Close() // a timer has nothing to lose
	}
}

package lease

import (
	"time"

	"golang.org/x/sys/unix"
)

// Boottime reads a clock that never steps and runs on while the machine sleeps.
// Only differences of it mean anything.
func Boottime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Every kernel since 2.6.39 has it; without it no lease is safe.
		panic("lease: no CLOCK_BOOTTIME: " + err.Error())
	}
	return time.Duration(ts.Nano())
}

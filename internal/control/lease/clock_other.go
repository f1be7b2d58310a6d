//go:build !linux

package lease

import "time"

var started = time.Now() //nolint:forbidigo // only differences are used

// Boottime reads a clock that never steps. Only differences of it mean anything.
// Whether it runs on while the machine sleeps is up to the system: on macOS and
// Windows Go's monotonic clock stands still then, so a region that is put to sleep
// there may believe in its lease for a moment after it wakes. Those are machines
// to develop on.
func Boottime() time.Duration { return time.Since(started) } //nolint:forbidigo // the monotonic part

package hlc

import (
	"errors"
	"fmt"
	"time"

	"github.com/antipode-io/antipode"
)

// Config says how a clock runs.
type Config struct {
	// Wall reads the wall clock. Default time.Now. Times that carry a monotonic
	// reading, as those of time.Now do, let Check notice at once that the wall
	// clock was set.
	Wall func() time.Time
	// MaxAhead bounds how far this clock may be ahead of all its peers before
	// local writes are refused. Default 500 ms.
	MaxAhead time.Duration
	// Ceiling is what Persist was last called with in the run before; 0 in the
	// first run. No stamp is below it.
	Ceiling antipode.Stamp
	// Persist moves the ceiling. It returns when the ceiling is durable and must
	// not call the clock. Calls don't overlap. Only Close may move it down. Nil
	// keeps nothing: stamps may then run back over a restart.
	Persist func(antipode.Stamp) error
	// Step is how far ahead of its stamps the clock sets the ceiling, and so how
	// far stamps may start ahead of the wall clock after a crash. A write in
	// each half Step waits for Persist. Default 1 s, at least 2 ms.
	Step time.Duration
}

func (c *Config) fill() error {
	if c.Wall == nil {
		c.Wall = time.Now
	}
	if c.MaxAhead == 0 {
		c.MaxAhead = 500 * time.Millisecond
	}
	if c.Step == 0 {
		c.Step = time.Second
	}
	if c.Persist == nil {
		c.Persist = func(antipode.Stamp) error { return nil }
	}
	var errs []error
	if c.MaxAhead < 0 {
		errs = append(errs, fmt.Errorf("clock: MaxAhead is %v; set it above 0, or to 0 for the default of 500ms", c.MaxAhead))
	}
	if c.Step < 2*time.Millisecond {
		errs = append(errs, fmt.Errorf("clock: Step is %v; set it to at least 2ms, or to 0 for the default of 1s", c.Step))
	}
	if c.Ceiling.Millis() > maxMillis {
		errs = append(errs, fmt.Errorf("clock: the stored ceiling %d is beyond the year 9999; what was stored is corrupt", uint64(c.Ceiling)))
	}
	return errors.Join(errs...)
}

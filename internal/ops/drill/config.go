package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/operator"
	"github.com/antipode-io/antipode/internal/ops/bench"
)

// Site is one region as a user can reach it.
type Site struct {
	Name     antipode.Region
	Witness  bool
	Endpoint bench.Endpoint // of the client API; empty for a witness
	Operator *operator.Client
}

// Config says which drill to run on what.
type Config struct {
	// Kind is the drill's name. Required.
	Kind string
	// Region is hurt. Default: the first that stores tables.
	Region antipode.Region
	// For is how long the fault lasts. Default 60 s, at least 1 s.
	For time.Duration
	// Rate is how many writes a second the load asks for, over all regions and
	// tables. Default 1,000.
	Rate int
	// Skew is how far clock-skew sets the clock ahead, then behind. Default 5 s.
	Skew time.Duration
	// Keep leaves the drill's tables there.
	Keep bool
	// RTO is the promised bound on recovery by itself. Default 5 s.
	RTO time.Duration

	// Sites are all regions of the system, witnesses included. Required.
	Sites []Site
	// Dir keeps the records. It is made when it is not there. Required.
	Dir string
	FS  vfs.FS // holds Dir; default the disk
	// Restart has a region that was killed started again. Required.
	Restart func(context.Context, antipode.Region) error
	// Signal sends a signal to a process of this machine. Required.
	Signal func(pid int, sig syscall.Signal) error
	// Now reads the clock, whose times are monotonic. Required.
	Now func() time.Time
	// Progress is told what happens as it happens. Calls don't overlap. Default: none.
	Progress func(Event)
}

func (c *Config) fill() error {
	c.For = orDefault(c.For, 60*time.Second)
	c.Rate = orDefault(c.Rate, 1000)
	c.Skew = orDefault(c.Skew, 5*time.Second)
	c.RTO = orDefault(c.RTO, 5*time.Second)
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.Progress == nil {
		c.Progress = func(Event) {}
	}
	if c.Restart == nil || c.Signal == nil || c.Now == nil || c.Dir == "" {
		return errors.New("drill: Config lacks Restart, Signal, Now or Dir")
	}
	return nil
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// validate says what is wrong with what was asked for.
func (c *Config) validate() error {
	if _, ok := KindOf(c.Kind); !ok {
		return fmt.Errorf("%w: there is no drill %q; there are %s", ErrInvalid, c.Kind, Names())
	}
	var data []string
	for _, s := range c.Sites {
		if !s.Witness {
			data = append(data, string(s.Name))
		}
	}
	switch {
	case len(data) < 2:
		return fmt.Errorf("%w: a drill needs two regions that store tables, and there are %d; nothing could take over", ErrInvalid, len(data))
	case c.Region != "" && !slices.Contains(data, string(c.Region)):
		return fmt.Errorf("%w: %q is no region that stores tables; these do: %s", ErrInvalid, c.Region, strings.Join(data, ", "))
	case c.For < time.Second:
		return fmt.Errorf("%w: the fault lasts %v; give it at least 1s", ErrInvalid, c.For)
	case c.Rate < 1 || c.Rate > 100_000:
		return fmt.Errorf("%w: %d writes a second; give 1 to 100000", ErrInvalid, c.Rate)
	case c.Skew < 0 || c.Skew > time.Hour:
		return fmt.Errorf("%w: a skew of %v; give at most 1h", ErrInvalid, c.Skew)
	}
	return nil
}

var (
	// ErrInvalid wraps what is wrong with what was asked for.
	ErrInvalid = errors.New("this drill can't be run")
	// ErrDegraded wraps why the system is not fit for a drill now.
	ErrDegraded = errors.New("nothing was done: a drill on a system that is not well would tell nothing, and might hurt")
	// ErrBusy is returned while another drill runs.
	ErrBusy = errors.New("another drill runs on this system; wait for its end")
)

// Package hlc is time: the only place that reads the wall clock. A Clock gives
// hybrid logical stamps (Kulkarni et al., OPODIS 2014) that are unique, strictly
// rising, later than every stamp received before, and that never run back, not
// even over a restart or when the wall clock is set back: a ceiling is durable
// before Now gives out a stamp below it or Update returns, and the next run
// starts at the ceiling.
//
// The clock also watches itself: Observe compares it with its peers', Check
// refuses local writes while it is ahead of all of them by more than a bound.
// The guard stands at the origin because an entry that is in a journal already
// can't be dropped anywhere without the regions drifting apart.
//
// All methods may be called concurrently. A Clock has no goroutine; its owner
// calls Close to hand the unused part of the ceiling back, which is optional.
package hlc

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/antipode-io/antipode"
)

const (
	// maxMillis is the last millisecond of the year 9999. No clock is there, so
	// a stamp beyond it is garbage; the counter's 16 bits over it can't overflow.
	maxMillis = 253402300799999
	// closedMark stands in last once the clock is closed.
	closedMark = math.MaxUint64
	// firstQuantum is how far a new run reserves beyond a ceiling that is still
	// in the future. Were it a whole Step, a process that crashes in a loop
	// would push its stamps a Step further ahead of the wall each time.
	firstQuantum = 100 * time.Millisecond
)

// Clock gives stamps. See the package comment.
type Clock struct {
	cfg Config

	// last is the highest stamp given out or taken over. It moves by compare
	// and swap, so that writers don't queue.
	last atomic.Uint64
	// ceiling is durable: every stamp below it may be used. soft lies before it;
	// who passes soft moves the ceiling on while all others go on below it.
	ceiling, soft atomic.Uint64

	// mu is held while the ceiling is being made durable.
	mu    sync.Mutex
	final antipode.Stamp // last, once closed; by mu

	guard guard
}

// New starts a clock at cfg.Ceiling and makes its first own ceiling durable.
func New(cfg Config) (*Clock, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	c := &Clock{cfg: cfg}
	if cfg.Ceiling > 0 {
		c.last.Store(uint64(cfg.Ceiling) - 1)
	}
	wall := stampOf(cfg.Wall())
	target := max(add(wall, cfg.Step), add(cfg.Ceiling, min(cfg.Step, firstQuantum)))
	if err := c.raise(max(wall, cfg.Ceiling), target); err != nil {
		return nil, err
	}
	return c, nil
}

// Now returns the next stamp. It is quick (no lock, no allocation), but for the
// one call in each half Step that moves the ceiling on, and for calls after a
// pause, when the ceiling lies behind. An error means that the ceiling could not
// be made durable; no stamp was used.
func (c *Clock) Now() (antipode.Stamp, error) {
	wall := stampOf(c.cfg.Wall())
	for {
		last := c.last.Load()
		if last == closedMark {
			return 0, ErrClosed
		}
		s := max(uint64(wall), last+1)
		if s >= c.ceiling.Load() {
			if err := c.extend(antipode.Stamp(s)); err != nil {
				return 0, err
			}
			continue
		}
		if c.last.CompareAndSwap(last, s) {
			if s >= c.soft.Load() {
				c.tryExtend(antipode.Stamp(s))
			}
			return antipode.Stamp(s), nil
		}
	}
}

// Update takes over a stamp that came with an entry from elsewhere: later stamps
// made here are above it, in a later run too. The stamp is taken over whatever
// Update returns (an entry in a journal can't be refused), so an error is there
// to be reported, never to drop the entry: ErrFuture when the stamp is far ahead
// of this clock, or what went wrong with the ceiling. Only a stamp beyond the
// year 9999 is passed over.
func (c *Clock) Update(s antipode.Stamp) error {
	if s.Millis() > maxMillis {
		return fmt.Errorf("%w: stamp %d is beyond the year 9999, which no clock can have given; it was passed over, "+
			"the entry that carries it is corrupt or forged", ErrFuture, uint64(s))
	}
	for {
		last := c.last.Load()
		if last == closedMark {
			return ErrClosed
		}
		if uint64(s) <= last {
			break
		}
		if c.last.CompareAndSwap(last, uint64(s)) {
			break
		}
	}
	err := c.cover(s)
	// A peer that came back from a crash runs up to a Step ahead, see Config.
	bound := c.cfg.MaxAhead + c.cfg.Step
	if wall := c.cfg.Wall(); s > add(stampOf(wall), bound) {
		return fmt.Errorf("%w: %s is %v ahead of this clock (bound %v); it was taken over, so stamps made here run ahead "+
			"as well until real time catches up; check that NTP runs in the region that wrote it, and here",
			ErrFuture, s, s.Time().Sub(wall).Round(time.Millisecond), bound)
	}
	return err
}

// Extend moves the ceiling on when half of it is used up. Calling it now and
// then (each second, with the heartbeats) spares the first write after a pause
// the wait for the disk.
func (c *Clock) Extend() error {
	if c.last.Load() == closedMark {
		return ErrClosed
	}
	return c.cover(stampOf(c.cfg.Wall()))
}

// Last returns the highest stamp given out or taken over so far.
func (c *Clock) Last() antipode.Stamp {
	if n := c.last.Load(); n != closedMark {
		return antipode.Stamp(n)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.final
}

// Wall returns the wall clock's time, as Config.Wall gives it.
func (c *Clock) Wall() time.Time { return c.cfg.Wall() }

// Lead returns how far Last is ahead of the wall clock: 0 in normal times, more
// after a crash (up to Step), after the wall clock was set back, or when stamps
// from the future were received.
func (c *Clock) Lead() time.Duration {
	return max(0, time.Duration(c.Last().Millis()-stampOf(c.cfg.Wall()).Millis())*time.Millisecond)
}

// Close ends the clock and lowers the durable ceiling to just above the last
// stamp, so that a clean restart leaves no gap. Later calls of Now and Update
// return ErrClosed.
func (c *Clock) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	// The swap is what makes the last stamp final: a Now that has not swapped
	// its own in by then finds closedMark.
	last := c.last.Swap(closedMark)
	if last == closedMark {
		return nil
	}
	c.final = antipode.Stamp(last)
	if err := c.cfg.Persist(c.final + 1); err != nil {
		return fmt.Errorf("persist clock ceiling %s: %w", c.final+1, err)
	}
	return nil
}

// cover sees to it that s lies below the durable ceiling.
func (c *Clock) cover(s antipode.Stamp) error {
	switch {
	case uint64(s) >= c.ceiling.Load():
		return c.extend(s)
	case uint64(s) >= c.soft.Load():
		c.tryExtend(s)
	}
	return nil
}

// extend moves the ceiling beyond s, waiting for a call that is at it already.
func (c *Clock) extend(s antipode.Stamp) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if uint64(s) < c.ceiling.Load() {
		return nil
	}
	if c.last.Load() == closedMark {
		return ErrClosed
	}
	return c.raise(s, add(max(s, stampOf(c.cfg.Wall())), c.cfg.Step))
}

// tryExtend moves the ceiling on unless a call is at it already. There is time
// for another try until the ceiling itself is reached, so an error only puts
// soft off; at the ceiling, extend reports it.
func (c *Clock) tryExtend(s antipode.Stamp) {
	if !c.mu.TryLock() {
		return
	}
	defer c.mu.Unlock()
	if uint64(s) < c.soft.Load() || c.last.Load() == closedMark {
		return
	}
	if err := c.raise(s, add(s, c.cfg.Step)); err != nil {
		c.soft.Store(uint64(add(s, c.cfg.Step/16)))
	}
}

// raise makes target durable and publishes it. The caller holds mu, or nobody
// else knows the clock yet.
func (c *Clock) raise(s, target antipode.Stamp) error {
	if err := c.cfg.Persist(target); err != nil {
		return fmt.Errorf("persist clock ceiling %s (without it no write can be stamped, or a restart might use a stamp twice): %w", target, err)
	}
	c.ceiling.Store(uint64(target))
	c.soft.Store(uint64(s) + uint64(target-s)/2)
	return nil
}

// stampOf gives the lowest stamp of the time's millisecond, held within what a
// stamp can say.
func stampOf(t time.Time) antipode.Stamp {
	return antipode.MakeStamp(min(max(t.UnixMilli(), 0), maxMillis), 0)
}

func add(s antipode.Stamp, d time.Duration) antipode.Stamp {
	return s + antipode.MakeStamp(d.Milliseconds(), 0)
}

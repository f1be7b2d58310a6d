package hlc

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/antipode-io/antipode"
)

const (
	// staleAfter is when a peer that is not heard any more stops to count.
	staleAfter = 30 * time.Second
	// samplesKept is the window of the filter: of this many comparisons the one
	// with the shortest round trip counts, as in NTP (RFC 5905, §10).
	samplesKept = 8
	// driftPPM is how far two clocks are thought to drift apart unseen.
	// RFC 5905 calls it the frequency tolerance and says 15; crystals in hot
	// machines and virtual clocks are worse.
	driftPPM = 200
)

// Unknown is what Uncertainty returns before any peer was heard.
const Unknown time.Duration = math.MaxInt64

// guard is what the clock knows of its peers' clocks.
type guard struct {
	mu      sync.Mutex
	windows map[antipode.Region][]sample // by mu; newest last
	// best is the current choice of each window, sorted by region, replaced as
	// a whole, so that Check takes no lock.
	best atomic.Pointer[[]sample]
}

// sample is one comparison of clocks.
type sample struct {
	peer   antipode.Region
	at     time.Time     // here, when the peer's time arrived
	offset time.Duration // the peer's clock minus this one
	err    time.Duration // the offset is right within ± this
}

// now returns the sample as it would read at t: if the wall clock was set since,
// then the offset has moved by as much, and the two clocks may have drifted.
func (s sample) now(t time.Time) sample {
	age := t.Sub(s.at) // monotonic, where both times say
	s.offset -= t.Round(0).Sub(s.at.Round(0)) - age
	s.err += age.Abs() / 1e6 * driftPPM
	return s
}

// ahead returns by how much this clock is certainly ahead of the peer's.
func (s sample) ahead() time.Duration { return -s.offset - s.err }

func (s sample) stale(t time.Time) bool {
	age := t.Sub(s.at)
	return age > staleAfter || age < -staleAfter
}

// Peer is what is known of one peer's clock.
type Peer struct {
	Region      antipode.Region
	Offset      time.Duration // its clock minus this one
	Uncertainty time.Duration // Offset is right within ± this
	Age         time.Duration // since the comparison that says so
	Live        bool          // heard of lately; only live peers count in Check
}

// Observe compares clocks with a peer: theirs is what its Wall said in an
// answer that has just arrived, rtt the time from the question to the answer.
// Half of rtt bounds the error, whatever the two directions took. If theirs
// travels in whole milliseconds, add one to rtt.
func (c *Clock) Observe(peer antipode.Region, theirs time.Time, rtt time.Duration) {
	here := c.cfg.Wall()
	rtt = max(rtt, 0)
	s := sample{peer: peer, at: here, offset: theirs.Sub(here.Round(0)) + rtt/2, err: rtt / 2}

	g := &c.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.windows == nil {
		g.windows = map[antipode.Region][]sample{}
	}
	// Two true comparisons overlap. One that does not overlap says that one of
	// the clocks was set in between, and then the older is of no use.
	window := slices.DeleteFunc(g.windows[peer], func(old sample) bool {
		old = old.now(here)
		return old.stale(here) || (old.offset-s.offset).Abs() > old.err+s.err
	})
	window = append(window, s)
	if len(window) > samplesKept {
		window = slices.Delete(window, 0, len(window)-samplesKept)
	}
	g.windows[peer] = window
	g.publishLocked()
}

// Forget drops a peer that is no longer a region.
func (c *Clock) Forget(peer antipode.Region) {
	c.guard.mu.Lock()
	defer c.guard.mu.Unlock()
	delete(c.guard.windows, peer)
	c.guard.publishLocked()
}

func (g *guard) publishLocked() {
	best := make([]sample, 0, len(g.windows))
	for _, window := range g.windows {
		best = append(best, slices.MinFunc(window, func(a, b sample) int { return cmp.Compare(a.err, b.err) }))
	}
	slices.SortFunc(best, func(a, b sample) int { return strings.Compare(string(a.peer), string(b.peer)) })
	g.best.Store(&best)
}

func (g *guard) load() []sample {
	if p := g.best.Load(); p != nil {
		return *p
	}
	return nil
}

// Check returns ErrAhead, with what to do about it, while this clock is ahead of
// every live peer's by more than MaxAhead, what can't be known given in its
// favour. Local writes must then be refused: their stamps would win over writes
// made later elsewhere. Without a live peer nothing is refused. It costs a look
// at the wall clock and takes no lock.
func (c *Clock) Check() error {
	best := c.guard.load()
	if len(best) == 0 {
		return nil
	}
	t := c.cfg.Wall()
	live := false
	for _, s := range best {
		if s.stale(t) {
			continue
		}
		live = true
		if s.now(t).ahead() <= c.cfg.MaxAhead {
			return nil
		}
	}
	if !live {
		return nil
	}
	return c.aheadError(t, best)
}

func (c *Clock) aheadError(t time.Time, best []sample) error {
	var peers []string
	for _, s := range best {
		if !s.stale(t) {
			s = s.now(t)
			peers = append(peers, fmt.Sprintf("%v ahead of %s (±%v)", round(-s.offset), s.peer, round(s.err)))
		}
	}
	return fmt.Errorf("%w: this clock is %s, and the bound is %v; writes here are refused, since their stamps would win "+
		"over writes made later elsewhere; set this machine's clock and see that NTP keeps it (chronyc tracking, timedatectl), "+
		"or the others' if it is they that are wrong", ErrAhead, strings.Join(peers, ", "), c.cfg.MaxAhead)
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// Uncertainty returns how well the clocks agree: no peer's clock differs from
// this one by more. It counts peers that are out of reach too, with the drift
// since they were heard, because it is then that collisions are made. Unknown
// before any peer was heard.
func (c *Clock) Uncertainty() time.Duration {
	best := c.guard.load()
	if len(best) == 0 {
		return Unknown
	}
	t := c.cfg.Wall()
	var u time.Duration
	for _, s := range best {
		s = s.now(t)
		u = max(u, s.offset.Abs()+s.err)
	}
	return u
}

// Peers lists what is known of the peers' clocks, sorted by region.
func (c *Clock) Peers() []Peer {
	best := c.guard.load()
	t := c.cfg.Wall()
	out := make([]Peer, 0, len(best))
	for _, s := range best {
		n := s.now(t)
		out = append(out, Peer{s.peer, n.offset, n.err, max(0, t.Sub(s.at)), !s.stale(t)})
	}
	return out
}

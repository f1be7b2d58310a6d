package link

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Reasons why nothing travels in one direction. Each end of an in-memory link
// can cut it, and each heals what it cut.
const (
	cutBySender uint8 = 1 << iota
	cutByReceiver
)

// shape is one direction of the emulated way to a peer. All connections share
// it, and so its bandwidth.
type shape struct {
	mu      sync.Mutex
	params  Shape
	cut     uint8
	free    time.Time     // when the last byte accepted so far has left the sender
	changed chan struct{} // closed and replaced when the cut changes
}

func newShape(params Shape) *shape {
	return &shape{params: params, changed: make(chan struct{})}
}

// schedule returns when n bytes that are sent now arrive.
func (s *shape) schedule(now time.Time, n int) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.params.Bandwidth > 0 {
		if s.free.Before(now) {
			s.free = now
		}
		s.free = s.free.Add(time.Duration(float64(n) / float64(s.params.Bandwidth) * float64(time.Second)))
		now = s.free
	}
	due := now.Add(s.params.Delay)
	if s.params.Jitter > 0 {
		due = due.Add(rand.N(s.params.Jitter))
	}
	return due
}

// capacity is how much may be on the way: what the bandwidth and the delay hold,
// within reason.
func (s *shape) capacity() int {
	const least, most = 256 << 10, 4 << 20
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.params.Bandwidth <= 0 {
		return most
	}
	bdp := 2 * s.params.Delay.Seconds() * float64(s.params.Bandwidth)
	return int(min(max(bdp, least), most))
}

// blocked reports whether the direction is cut, and what tells of a change.
func (s *shape) blocked() (bool, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cut != 0, s.changed
}

func (s *shape) setDelay(delay, jitter time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.params.Delay, s.params.Jitter = delay, jitter
}

func (s *shape) delay() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.params.Delay
}

func (s *shape) setBandwidth(bytesPerSecond int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.params.Bandwidth, s.free = bytesPerSecond, time.Time{}
}

// setCut adds or takes away one reason for being cut.
func (s *shape) setCut(reason uint8, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.cut &^ reason
	if on {
		next |= reason
	}
	if (next == 0) != (s.cut == 0) {
		close(s.changed)
		s.changed = make(chan struct{})
	}
	s.cut = next
}

// shapes are both directions between this region and a peer, and the reason
// that this region gives when it cuts one.
type shapes struct {
	out, in             *shape
	outReason, inReason uint8
}

func (s shapes) cut(d Direction, on bool) {
	if d&Outgoing != 0 {
		s.out.setCut(s.outReason, on)
	}
	if d&Incoming != 0 {
		s.in.setCut(s.inReason, on)
	}
}

package link

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ending is how a line ends for its reader. A higher one takes the place of a lower.
type ending uint8

const (
	open       ending = iota
	halfClosed        // the writer writes no more
	hungUp            // the writer is gone altogether: reads give io.EOF, writes back fail
	reset             // the writer was killed: what it had sent is lost
)

// err is what reads give.
func (e ending) err() error {
	if e == reset {
		return syscall.ECONNRESET
	}
	return io.EOF
}

// line carries the bytes of one direction of one connection: what is written
// can be read once its time has come, in order, unless the direction is cut.
// No lock is held while waiting, so that a synctest bubble sees the waiters as
// blocked.
type line struct {
	now   func() time.Time
	limit int                   // bytes on the way before writers wait; 0: what the shape holds
	shape atomic.Pointer[shape] // nil: everything arrives at once

	mu      sync.Mutex
	chunks  []chunk
	queued  int
	last    time.Time     // due time of the newest chunk; later ones are not before it
	end     ending        // not open once the writer wrote its last
	gone    bool          // the reader reads no more: what is written is dropped
	changed chan struct{} // closed and replaced to wake those who wait
	waiting bool
}

// chunk is a piece of data, or the end.
type chunk struct {
	data []byte
	end  ending // open: there is data
	due  time.Time
}

func newLine(now func() time.Time, s *shape, limit int) *line {
	l := &line{now: now, limit: limit, changed: make(chan struct{})}
	l.shape.Store(s)
	return l
}

func (l *line) wakeLocked() {
	if l.waiting {
		close(l.changed)
		l.changed, l.waiting = make(chan struct{}), false
	}
}

func (l *line) waitLocked() <-chan struct{} {
	l.waiting = true
	return l.changed
}

func (l *line) capacity() int {
	if l.limit > 0 {
		return l.limit
	}
	if s := l.shape.Load(); s != nil {
		return s.capacity()
	}
	return 4 << 20
}

// write queues a copy of b and waits while the line is full, until the deadline
// or the connection is closed.
func (l *line) write(b []byte, d *deadline, closed <-chan struct{}) (int, error) {
	const most = 64 << 10 // per chunk, so that the bandwidth is felt evenly
	written := 0
	for written < len(b) {
		if d.passed() {
			return written, os.ErrDeadlineExceeded
		}
		capacity := l.capacity()
		l.mu.Lock()
		switch {
		case l.end != open:
			l.mu.Unlock()
			return written, net.ErrClosed
		case l.gone:
			l.mu.Unlock()
			return len(b), nil
		case l.queued < capacity:
			n := min(len(b)-written, most)
			l.pushLocked(chunk{data: bytes.Clone(b[written : written+n])})
			written += n
			l.mu.Unlock()
			continue
		}
		changed := l.waitLocked()
		l.mu.Unlock()
		select {
		case <-changed:
		case <-d.done():
		case <-closed:
			return written, net.ErrClosed
		}
	}
	return written, nil
}

func (l *line) pushLocked(c chunk) {
	c.due = l.now()
	if s := l.shape.Load(); s != nil {
		c.due = s.schedule(c.due, len(c.data))
	}
	if c.due.Before(l.last) {
		c.due = l.last
	}
	l.last = c.due
	l.chunks = append(l.chunks, c)
	l.queued += len(c.data)
	l.wakeLocked()
}

// finish ends the line for its reader, once what is queued has been read; a
// reset drops what is queued.
func (l *line) finish(end ending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if end <= l.end {
		return
	}
	if end == reset {
		l.dropLocked()
	} else if l.end != open && len(l.chunks) > 0 {
		l.chunks = l.chunks[:len(l.chunks)-1] // the softer end
	}
	l.end = end
	l.pushLocked(chunk{end: end})
}

// leave is called when the reader reads no more.
func (l *line) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = true
	l.dropLocked()
	l.wakeLocked()
}

func (l *line) dropLocked() { l.chunks, l.queued = nil, 0 }

// wakeup says when to look at a line again: after a while (negative: not known),
// or when something changes.
type wakeup struct {
	wait            time.Duration
	changed, healed <-chan struct{}
}

// poll gives the next chunk to use if its time has come; use returns how many
// bytes it took. An end is never used up: every later read meets it.
func (l *line) poll(use func(c chunk) int) (bool, wakeup) {
	var healed <-chan struct{}
	if s := l.shape.Load(); s != nil {
		var cut bool
		if cut, healed = s.blocked(); cut {
			return false, wakeup{wait: -1, healed: healed}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.chunks) == 0 {
		return false, wakeup{wait: -1, changed: l.waitLocked(), healed: healed}
	}
	head := &l.chunks[0]
	if wait := head.due.Sub(l.now()); wait > 0 {
		return false, wakeup{wait: wait, changed: l.waitLocked(), healed: healed}
	}
	n := use(*head)
	if head.end != open {
		return true, wakeup{}
	}
	l.queued -= n
	if head.data = head.data[n:]; len(head.data) == 0 {
		*head = chunk{}
		l.chunks = l.chunks[1:]
	}
	l.wakeLocked()
	return true, wakeup{}
}

// read waits for what has arrived.
func (l *line) read(b []byte, d *deadline, closed <-chan struct{}) (n int, err error) {
	use := func(c chunk) int {
		if c.end != open {
			err = c.end.err()
		}
		n = copy(b, c.data)
		return n
	}
	for {
		if d.passed() {
			return 0, os.ErrDeadlineExceeded
		}
		ok, w := l.poll(use)
		if ok {
			return n, err
		}
		if !w.await(d.done(), closed) {
			return 0, net.ErrClosed
		}
	}
}

// await returns false when closed ended it.
func (w wakeup) await(done, closed <-chan struct{}) bool {
	var expired <-chan time.Time
	if w.wait >= 0 {
		timer := time.NewTimer(w.wait)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-expired:
	case <-w.changed:
	case <-w.healed:
	case <-done:
	case <-closed:
		return false
	}
	return true
}

// isHungUp reports whether the news has arrived that the writer is gone, so that
// what is written back meets nobody.
func (l *line) isHungUp() bool {
	if s := l.shape.Load(); s != nil {
		if cut, _ := s.blocked(); cut {
			return false
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end > halfClosed && !l.now().Before(l.last)
}

package link

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/antipode-io/antipode"
)

// Waits up to precise are left to the napper; longer ones end early by margin.
const (
	precise = 2 * time.Millisecond
	margin  = 1500 * time.Microsecond
)

// wanConn makes a connection behave as over a wide-area network: what is written
// leaves when its time has come, and while a direction is cut nothing passes.
// It sits below TLS, so that the handshake takes its round trips too.
type wanConn struct {
	net.Conn
	t       *tcpTransport
	out     *line
	in      atomic.Pointer[shape] // nil until the peer is known
	readBy  *deadline
	writeBy *deadline
	closed  chan struct{}
	killed  chan struct{}
	once    sync.Once
	killing sync.Once

	mu     sync.Mutex // guards what follows
	held   []heldRead // what was read when the way was found cut
	linger *time.Timer
}

type heldRead struct {
	data []byte
	err  error
}

// newWANConn starts a goroutine that ends after Close or kill.
func newWANConn(t *tcpTransport, plain net.Conn) *wanConn {
	w := &wanConn{
		Conn: plain, t: t, out: newLine(t.cfg.Now, nil, 0),
		readBy: newDeadline(), writeBy: newDeadline(),
		closed: make(chan struct{}), killed: make(chan struct{}),
	}
	t.adopt(w)
	return w
}

// setPeer says whose way it is, before anything is written.
func (w *wanConn) setPeer(peer antipode.Region) {
	if s, ok := w.t.emulated[peer]; ok {
		w.out.shape.Store(s.out)
		w.in.Store(s.in)
	}
}

// send passes on what is due.
func (w *wanConn) send() {
	napper := newNapper()
	defer napper.close()
	defer w.kill()
	var next []byte
	var end ending
	use := func(c chunk) int {
		next, end = c.data, c.end
		return len(c.data)
	}
	for {
		ok, wake := w.out.poll(use)
		switch {
		case ok && end != open:
			return
		case ok:
			if _, err := w.Conn.Write(next); err != nil {
				return
			}
		case wake.wait >= 0 && wake.wait <= precise:
			napper.nap(wake.wait)
		default:
			if wake.wait > precise {
				wake.wait -= margin
			}
			if !wake.await(nil, w.killed) {
				return
			}
		}
	}
}

// Write implements net.Conn. It waits while more is on the way than the way holds.
func (w *wanConn) Write(b []byte) (int, error) { return w.out.write(b, w.writeBy, w.killed) }

// Read implements net.Conn. What arrives while the way is cut waits for it to heal.
func (w *wanConn) Read(b []byte) (int, error) {
	h, ok := w.takeHeld(b)
	if !ok {
		h.data = b
		var n int
		n, h.err = w.Conn.Read(b)
		h.data = b[:n]
	}
	for {
		in := w.in.Load()
		if in == nil {
			return len(h.data), h.err
		}
		cut, changed := in.blocked()
		if !cut {
			return len(h.data), h.err
		}
		select {
		case <-changed:
		case <-w.closed:
			return 0, net.ErrClosed
		case <-w.killed:
			return 0, net.ErrClosed
		case <-w.readBy.done():
			w.putBack(h)
			return 0, os.ErrDeadlineExceeded
		}
	}
}

// takeHeld returns what a read before had to leave.
func (w *wanConn) takeHeld(b []byte) (heldRead, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.held) == 0 {
		return heldRead{}, false
	}
	first := &w.held[0]
	n := copy(b, first.data)
	if n < len(first.data) {
		first.data = first.data[n:]
		return heldRead{data: b[:n]}, true
	}
	out := heldRead{data: b[:n], err: first.err}
	w.held = w.held[1:]
	return out, true
}

func (w *wanConn) putBack(h heldRead) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h.data = append([]byte(nil), h.data...)
	w.held = append([]heldRead{h}, w.held...)
}

// Close implements net.Conn. What was written still leaves, within LostAfter.
func (w *wanConn) Close() error {
	w.once.Do(func() {
		close(w.closed)
		w.out.finish(hungUp)
		_ = w.Conn.SetReadDeadline(time.Unix(1, 0)) // wakes a reader
		w.mu.Lock()
		defer w.mu.Unlock()
		w.linger = time.AfterFunc(w.t.cfg.LostAfter, w.kill)
	})
	return nil
}

// kill drops what is on the way and closes the connection.
func (w *wanConn) kill() {
	w.killing.Do(func() {
		close(w.killed)
		w.out.finish(reset)
		_ = w.Conn.Close() // wakes readers and the sender
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.linger != nil {
		w.linger.Stop()
	}
}

// SetDeadline implements net.Conn.
func (w *wanConn) SetDeadline(t time.Time) error {
	w.writeBy.set(t, w.t.cfg.Now())
	return w.SetReadDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (w *wanConn) SetReadDeadline(t time.Time) error {
	w.readBy.set(t, w.t.cfg.Now())
	return w.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (w *wanConn) SetWriteDeadline(t time.Time) error {
	w.writeBy.set(t, w.t.cfg.Now())
	return nil
}

package link

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/antipode-io/antipode"
)

// goodbye bounds how long closing a connection may take.
const goodbye = time.Second

// conn is a connection of a mesh.
type conn struct {
	*rawConn
	mesh  *Mesh
	since time.Time
	once  sync.Once
	// onClose runs once, when the connection is closed by its owner.
	onClose func()
	// reason is why the mesh broke the connection; nil if it did not.
	reason atomic.Pointer[error]
	// onBroken runs when a read meets the end or an error. May be nil.
	onBroken func(error)
}

// register makes the mesh responsible for a connection, or closes it.
func (m *Mesh) register(raw *rawConn) (*conn, error) {
	c := &conn{rawConn: raw, mesh: m, since: m.cfg.Now()}
	m.mu.Lock()
	closed := m.closed
	if !closed {
		m.conns[c] = struct{}{}
	}
	m.mu.Unlock()
	// The trust may have changed since the handshake. From here on SetTrust sees
	// the connection, so looking again leaves no gap.
	err := m.checkTrust(c)
	if closed {
		err = ErrClosed
	}
	if err != nil {
		c.breakOff(err)
		_ = c.Close() // broken already
		return nil, err
	}
	return c, nil
}

// Read implements net.Conn. When the mesh broke the connection, its error is an
// UnreachableError that says why.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.rawConn.Read(b)
	if err != nil {
		err = c.explain(err)
		if c.onBroken != nil {
			c.onBroken(err)
		}
	}
	return n, err
}

// Write implements net.Conn, with errors as for Read.
func (c *conn) Write(b []byte) (int, error) {
	n, err := c.rawConn.Write(b)
	if err != nil {
		err = c.explain(err)
	}
	return n, err
}

func (c *conn) explain(err error) error {
	if reason := c.reason.Load(); reason != nil {
		return &UnreachableError{Region: c.peer, Sent: true, Err: *reason}
	}
	return err
}

// Close implements net.Conn.
func (c *conn) Close() error {
	var err error
	c.once.Do(func() {
		// TLS says goodbye first. If what is unsent leaves no room for that, the
		// other end does not read, and closing is not to wait for it.
		timer := time.AfterFunc(goodbye, c.kill)
		err = c.rawConn.Close()
		timer.Stop()
		c.mesh.mu.Lock()
		delete(c.mesh.conns, c)
		c.mesh.mu.Unlock()
		if c.onClose != nil {
			c.onClose()
		}
	})
	return err
}

// CloseWrite tells the other end that no more is coming.
func (c *conn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("half-close %s: %w", c.kind, errors.ErrUnsupported)
	}
	return half.CloseWrite()
}

// breakOff makes the connection fail for both ends at once. Its owner still
// closes it.
func (c *conn) breakOff(reason error) {
	c.reason.CompareAndSwap(nil, &reason)
	c.kill()
}

// breakOff breaks those connections with a peer that the function picks.
func (m *Mesh) breakOff(peer antipode.Region, reason error, pick func(*conn) bool) {
	m.mu.Lock()
	var picked []*conn
	for c := range m.conns {
		if c.peer == peer && pick(c) {
			picked = append(picked, c)
		}
	}
	m.mu.Unlock()
	for _, c := range picked {
		c.breakOff(reason)
	}
}

package link

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/antipode-io/antipode"
)

// conn is a connection of a mesh.
type conn struct {
	*rawConn
	mesh  *Mesh
	since time.Time
	once  sync.Once
	// onClose runs once, when the connection is closed by its owner.
	onClose func()
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
		c.breakOff()
		_ = c.Close() // broken already
		return nil, err
	}
	return c, nil
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.rawConn.Read(b)
	if err != nil && c.onBroken != nil {
		c.onBroken(err)
	}
	return n, err
}

// Close implements net.Conn.
func (c *conn) Close() error {
	err := error(nil)
	c.once.Do(func() {
		err = c.rawConn.Close()
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
func (c *conn) breakOff() { c.kill() }

// breakOff breaks those connections with a peer that the function picks.
func (m *Mesh) breakOff(peer antipode.Region, pick func(*conn) bool) {
	m.mu.Lock()
	var picked []*conn
	for c := range m.conns {
		if c.peer == peer && pick(c) {
			picked = append(picked, c)
		}
	}
	m.mu.Unlock()
	for _, c := range picked {
		c.breakOff()
	}
}

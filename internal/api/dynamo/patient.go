package dynamo

import (
	"net"
	"time"
)

// patientListener accepts connections as patientConns.
type patientListener struct{ net.Listener }

// Accept implements net.Listener.
func (l patientListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &patientConn{Conn: conn}, nil
}

// patientConn moves its deadlines seldom. The server sets three for each request,
// and moving one costs a timer; most are moved again before anything has waited for
// them. One takes effect only when something is about to wait, and not at all where
// the one in effect is later by so little, or earlier by so little, that nobody
// minds. It belongs to one goroutine, but for Close.
type patientConn struct {
	net.Conn
	read, write patience
}

// patience is a deadline as it was asked for, and as it is in effect.
type patience struct{ want, set time.Time }

// deadlineSlack is by how much a deadline may be off: little beside the timeouts
// of Config, and many requests long.
const deadlineSlack = time.Second

// due returns true when the deadline has to be moved, and takes it for moved.
func (p *patience) due() bool {
	off := p.want.Sub(p.set)
	if p.want.IsZero() == p.set.IsZero() && -deadlineSlack < off && off < deadlineSlack {
		return false
	}
	p.set = p.want
	return true
}

// SetReadDeadline implements net.Conn.
func (c *patientConn) SetReadDeadline(t time.Time) error {
	c.read.want = t
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *patientConn) SetWriteDeadline(t time.Time) error {
	c.write.want = t
	return nil
}

// SetDeadline implements net.Conn.
func (c *patientConn) SetDeadline(t time.Time) error {
	c.read.want, c.write.want = t, t
	return nil
}

// Read implements net.Conn.
func (c *patientConn) Read(b []byte) (int, error) {
	if c.read.due() {
		if err := c.Conn.SetReadDeadline(c.read.set); err != nil {
			return 0, err
		}
	}
	return c.Conn.Read(b)
}

// Write implements net.Conn.
func (c *patientConn) Write(b []byte) (int, error) {
	if c.write.due() {
		if err := c.Conn.SetWriteDeadline(c.write.set); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(b)
}

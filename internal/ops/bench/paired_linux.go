package bench

import (
	"io"
	"net"
	"os"
	"syscall"
)

// pairedConn is a TCP connection on which a request and its answer are one visit
// to the runtime's poller: Write only keeps the request, and the Read that follows
// sends it, sleeps until there is an answer, and takes it. This saves what an
// ordinary connection does in between: a read that finds nothing, since no answer is
// there before its request, and giving up the processor around each system call,
// which wakes other threads where all processors are wanted. Neither call blocks.
//
// One goroutine reads and writes; Close and deadlines are as of any connection.
type pairedConn struct {
	net.Conn
	raw syscall.RawConn

	out     []byte // what is left to be sent; the caller's
	in      []byte // where Read wants its bytes
	n       int    // how many there were
	failure error
	// Methods, kept because making a function of one costs memory each time.
	exchange, send func(fd uintptr) bool
}

// paired makes the cheapest connection there is of one.
func paired(conn net.Conn) (net.Conn, error) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn, nil // TLS has a say in what is read when
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &pairedConn{Conn: conn, raw: raw}
	c.exchange, c.send = c.tryExchange, c.trySend
	return c, nil
}

// Write keeps the request for the next Read, which must come before p is changed.
func (c *pairedConn) Write(p []byte) (int, error) {
	c.out = p
	return len(p), nil
}

// Read sends what Write left, and reads.
func (c *pairedConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.in, c.n, c.failure = p, 0, nil
	err := c.raw.Read(c.exchange)
	c.in = nil
	switch {
	case err != nil:
		return 0, err
	case c.failure != nil:
		return 0, c.failure
	case c.n == 0:
		return 0, io.EOF
	}
	return c.n, nil
}

// tryExchange is called when the poller has forgotten what it knew of the
// connection, and again whenever there is something to be read. It returns
// whether Read is done.
func (c *pairedConn) tryExchange(fd uintptr) bool {
	if len(c.out) > 0 {
		if !c.trySend(fd) {
			c.failure = c.raw.Write(c.send)
		}
		return c.failure != nil
	}
	for {
		n, errno := socketRead(fd, c.in)
		switch errno {
		case 0:
			c.n = n
			return true
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			c.failure = os.NewSyscallError("read", errno)
			return true
		}
	}
}

// trySend sends as much as there is room for. It returns whether that was all, or
// no more can be sent.
func (c *pairedConn) trySend(fd uintptr) bool {
	for len(c.out) > 0 {
		n, errno := socketWrite(fd, c.out)
		switch errno {
		case 0:
			c.out = c.out[n:]
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			c.out, c.failure = nil, os.NewSyscallError("write", errno)
			return true
		}
	}
	return true
}

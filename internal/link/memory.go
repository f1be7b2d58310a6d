package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/antipode-io/antipode"
)

// memoryLimit is how much may be on the way on an in-memory connection for calls.
// It is more than HTTP/2 sends unanswered, so that writers, which hold HTTP/2's
// locks, never wait: a bubble's time stands still while a lock is waited for.
const memoryLimit = 64 << 20

// MemoryNetwork joins meshes of one process without sockets, for tests. It may
// be used within a synctest bubble.
type MemoryNetwork struct {
	now     func() time.Time
	regions []antipode.Region

	mu     sync.Mutex
	meshes map[antipode.Region]*memoryTransport
	ways   map[[2]antipode.Region]*shape // by sender and receiver
}

// NewMemoryNetwork makes a network for these regions. Now is time.Now.
func NewMemoryNetwork(now func() time.Time, regions ...antipode.Region) *MemoryNetwork {
	n := &MemoryNetwork{
		now: now, regions: slices.Clone(regions),
		meshes: map[antipode.Region]*memoryTransport{}, ways: map[[2]antipode.Region]*shape{},
	}
	for _, from := range regions {
		for _, to := range regions {
			if from != to {
				n.ways[[2]antipode.Region{from, to}] = newShape(Shape{})
			}
		}
	}
	return n
}

// Shape sets how bytes travel from one region to another; the way back is separate.
func (n *MemoryNetwork) Shape(from, to antipode.Region, s Shape) error {
	way, ok := n.ways[[2]antipode.Region{from, to}]
	if !ok {
		return fmt.Errorf("shape the way from %s to %s: %w", from, to, ErrUnknownPeer)
	}
	way.setDelay(s.Delay, s.Jitter)
	way.setBandwidth(s.Bandwidth)
	return nil
}

// NewMemory returns the mesh of one region of the network, whose peers are all
// the others. For a mesh with callbacks or other times use OpenMemory.
func NewMemory(ctx context.Context, network *MemoryNetwork, self antipode.Region) (*Mesh, error) {
	return OpenMemory(ctx, network, Config{Self: self})
}

// OpenMemory is Open over an in-memory network. Of the configuration, Listen,
// Listener, Peers, Identity, Trust, Emulation, Tokens, OnJoin and Now are not used.
// A region can be opened again once its mesh is closed.
func OpenMemory(ctx context.Context, network *MemoryNetwork, cfg Config) (*Mesh, error) {
	if !slices.Contains(network.regions, cfg.Self) {
		return nil, fmt.Errorf("open links of region %s in memory: %w", cfg.Self, ErrUnknownPeer)
	}
	cfg.Now, cfg.Peers = network.now, make(map[antipode.Region]string)
	for _, r := range network.regions {
		if r != cfg.Self {
			cfg.Peers[r] = string(r)
		}
	}
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	t := &memoryTransport{
		network: network, self: cfg.Self,
		incoming: make(chan *rawConn), closed: make(chan struct{}),
	}
	network.mu.Lock()
	defer network.mu.Unlock()
	if network.meshes[cfg.Self] != nil {
		return nil, fmt.Errorf("open links of region %s in memory: they are open already", cfg.Self)
	}
	network.meshes[cfg.Self] = t
	return start(ctx, cfg, t), nil
}

type memoryTransport struct {
	network  *MemoryNetwork
	self     antipode.Region
	incoming chan *rawConn
	closed   chan struct{}
	once     sync.Once
}

func (t *memoryTransport) addr() net.Addr { return memoryAddr(t.self) }

func (t *memoryTransport) close() {
	t.once.Do(func() {
		close(t.closed)
		t.network.mu.Lock()
		defer t.network.mu.Unlock()
		delete(t.network.meshes, t.self)
	})
}

func (t *memoryTransport) serve(_ context.Context, accept func(*rawConn)) {
	for {
		select {
		case c := <-t.incoming:
			accept(c)
		case <-t.closed:
			return
		}
	}
}

func (t *memoryTransport) shapes(peer antipode.Region) (shapes, error) {
	out, ok := t.network.ways[[2]antipode.Region{t.self, peer}]
	if !ok {
		return shapes{}, fmt.Errorf("link to %s: %w", peer, ErrUnknownPeer)
	}
	in := t.network.ways[[2]antipode.Region{peer, t.self}]
	return shapes{out: out, in: in, outReason: cutBySender, inReason: cutByReceiver}, nil
}

// dial takes the round trips that TCP and TLS 1.3 take.
func (t *memoryTransport) dial(ctx context.Context, to antipode.Region, kind Kind) (*rawConn, error) {
	way, err := t.shapes(to)
	if err != nil {
		return nil, err
	}
	// SYN; SYN and ACK; the client's hello; the server's.
	for _, s := range []*shape{way.out, way.in, way.out, way.in} {
		if err := s.cross(ctx); err != nil {
			return nil, err
		}
	}
	t.network.mu.Lock()
	peer := t.network.meshes[to]
	t.network.mu.Unlock()
	if peer == nil {
		return nil, fmt.Errorf("connect to %s: %w", to, syscall.ECONNREFUSED)
	}
	limit := 0
	if kind == KindRPC {
		limit = memoryLimit
	}
	there, back := newLine(t.network.now, way.out, limit), newLine(t.network.now, way.in, limit)
	near := newMemoryConn(t.network.now, t.self, to, back, there)
	far := newMemoryConn(t.network.now, to, t.self, there, back)
	select {
	case peer.incoming <- &rawConn{Conn: far, peer: t.self, kind: kind, inbound: true, kill: far.kill}:
		return &rawConn{Conn: near, peer: to, kind: kind, kill: near.kill}, nil
	case <-peer.closed:
		return nil, fmt.Errorf("connect to %s: %w", to, syscall.ECONNREFUSED)
	case <-t.closed:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// cross waits as long as a packet takes, cuts included.
func (s *shape) cross(ctx context.Context) error {
	timer := time.NewTimer(s.delay())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for {
		cut, changed := s.blocked()
		if !cut {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

type memoryAddr string

// Network returns "memory".
func (memoryAddr) Network() string { return "memory" }

// String returns the region.
func (a memoryAddr) String() string { return string(a) }

// memoryConn is one end of an in-memory connection.
type memoryConn struct {
	now           func() time.Time
	local, remote memoryAddr
	in, out       *line
	readBy        *deadline
	writeBy       *deadline
	closed        chan struct{}
	once          sync.Once
}

func newMemoryConn(now func() time.Time, local, remote antipode.Region, in, out *line) *memoryConn {
	return &memoryConn{
		now: now, local: memoryAddr(local), remote: memoryAddr(remote), in: in, out: out,
		readBy: newDeadline(), writeBy: newDeadline(), closed: make(chan struct{}),
	}
}

// Read implements net.Conn.
func (c *memoryConn) Read(b []byte) (int, error) {
	n, err := c.in.read(b, c.readBy, c.closed)
	return n, c.wrap("read", err)
}

// Write implements net.Conn.
func (c *memoryConn) Write(b []byte) (int, error) {
	if c.in.isHungUp() {
		return 0, c.wrap("write", syscall.EPIPE)
	}
	n, err := c.out.write(b, c.writeBy, c.closed)
	return n, c.wrap("write", err)
}

// wrap leaves io.EOF and ends that callers compare alone.
func (c *memoryConn) wrap(op string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return &net.OpError{Op: op, Net: "memory", Source: c.local, Addr: c.remote, Err: err}
}

// CloseWrite lets the other end read io.EOF.
func (c *memoryConn) CloseWrite() error {
	c.out.finish(halfClosed)
	return nil
}

// Close implements net.Conn. What was written still arrives.
func (c *memoryConn) Close() error {
	c.end(hungUp)
	return nil
}

func (c *memoryConn) kill() { c.end(reset) }

func (c *memoryConn) end(how ending) {
	c.once.Do(func() {
		close(c.closed)
		c.out.finish(how)
		c.in.leave()
		c.readBy.set(time.Time{}, time.Time{})
		c.writeBy.set(time.Time{}, time.Time{})
	})
}

// LocalAddr returns the region of this end.
func (c *memoryConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the region of the other end.
func (c *memoryConn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *memoryConn) SetDeadline(t time.Time) error {
	c.readBy.set(t, c.now())
	c.writeBy.set(t, c.now())
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *memoryConn) SetReadDeadline(t time.Time) error {
	c.readBy.set(t, c.now())
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *memoryConn) SetWriteDeadline(t time.Time) error {
	c.writeBy.set(t, c.now())
	return nil
}

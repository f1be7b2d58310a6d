// Package link is how regions talk: remote calls, and plain connections for what
// streams, between this region and each of its peers, over mutually authenticated
// TLS 1.3. A Mesh keeps a connection to every peer warm, notices within
// Config.LostAfter when a peer falls silent, closes what is left of its
// connections then, and reconnects by itself.
//
// It promises that a handler knows for certain which region it serves, that a
// call ends at the serving side when the caller gives up, that no connection to a
// lost or distrusted peer stays open, and that an error says whether the
// peer may have seen the request. It does not retry: callers know what is safe.
//
// With Config.Emulation the links behave like a wide-area network: delay, jitter,
// bandwidth, cuts. NewMemory gives the same Mesh without sockets, for synctest.
//
// All methods of a Mesh may be called concurrently. Whoever opened it closes it;
// Close waits for every handler.
package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/link/identity"
)

// CallHandler answers a remote call. Its ctx ends when the caller gives up, is
// lost, or the mesh closes. It owns body. To send a code along with an error it
// returns a *RemoteError.
type CallHandler func(ctx context.Context, from antipode.Region, body []byte) ([]byte, error)

// ConnHandler serves one connection that a peer dialed. The connection is closed
// when it returns. Its ctx ends when the mesh closes; conn fails by then too.
type ConnHandler func(ctx context.Context, from antipode.Region, conn net.Conn)

// Mesh is this region's links to all its peers.
type Mesh struct {
	cfg       Config
	log       *slog.Logger
	transport transport
	peers     map[antipode.Region]*peer // never changes
	ctx       context.Context           //nolint:containedctx // the life of the mesh, which handlers share
	cancel    context.CancelFunc
	wg        sync.WaitGroup // goroutines, handlers and rpc connections
	rpc       *rpcSide
	trust     atomic.Pointer[identity.Trust]

	mu           sync.Mutex // guards what follows
	closed       bool
	conns        map[*conn]struct{}
	callHandlers map[string]CallHandler
	connHandlers map[Kind]ConnHandler
}

// Open listens for the other regions and starts to reach them. It does not wait
// for any. The mesh lives until Close; of ctx it keeps the values only.
func Open(ctx context.Context, cfg Config) (*Mesh, error) {
	if err := errors.Join(cfg.fill(), cfg.validateTCP()); err != nil {
		return nil, err
	}
	t, err := listenTCP(ctx, &cfg)
	if err != nil {
		return nil, err
	}
	m := start(ctx, cfg, t)
	return m, nil
}

// start runs a mesh over a transport.
func start(ctx context.Context, cfg Config, t transport) *Mesh {
	m := &Mesh{
		cfg: cfg, log: cfg.Logger, transport: t,
		peers:        make(map[antipode.Region]*peer, len(cfg.Peers)),
		conns:        make(map[*conn]struct{}),
		callHandlers: make(map[string]CallHandler),
		connHandlers: make(map[Kind]ConnHandler),
	}
	m.ctx, m.cancel = context.WithCancel(context.WithoutCancel(ctx))
	m.trust.Store(&cfg.Trust)
	if tcp, ok := t.(*tcpTransport); ok {
		tcp.attach(m)
	}
	m.rpc = newRPCSide(m)
	m.HandleCall(heartbeatMethod, m.answerHeartbeat)
	for region := range cfg.Peers {
		m.peers[region] = newPeer(m, region)
	}
	m.wg.Go(m.rpc.serve)
	m.wg.Go(func() { t.serve(m.ctx, m.accept) })
	for _, p := range m.peers {
		m.wg.Go(p.keepConnected)
		m.wg.Go(p.watch)
	}
	return m
}

// Self returns this region.
func (m *Mesh) Self() antipode.Region { return m.cfg.Self }

// Addr returns where the mesh listens.
func (m *Mesh) Addr() net.Addr { return m.transport.addr() }

// Peers lists the other regions, sorted.
func (m *Mesh) Peers() []antipode.Region { return slices.Sorted(maps.Keys(m.peers)) }

// HandleCall serves calls of a method from now on, in place of whoever served it.
// Before, callers get ErrNoHandler.
func (m *Mesh) HandleCall(method string, h CallHandler) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.callHandlers[method] = h
}

// HandleConn serves connections of a kind from now on, in place of whoever served
// it. Before, they are closed as they come.
func (m *Mesh) HandleConn(kind Kind, h ConnHandler) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.connHandlers[kind] = h
}

// Call has a peer run a method and returns what its handler returned: an error of
// the handler as *RemoteError. While the peer is being connected the call waits;
// once it is declared lost, calls fail at once. A call that could not be made, or
// whose connection broke, gives an UnreachableError. When ctx ends first, the
// error matches ctx.Err() and the outcome is unknown, unless it is an
// UnreachableError with Sent false.
func (m *Mesh) Call(ctx context.Context, to antipode.Region, method string, body []byte) ([]byte, error) {
	p, ok := m.peers[to]
	if !ok {
		return nil, fmt.Errorf("call %s at %q: %w", method, to, ErrUnknownPeer)
	}
	if len(body) > m.cfg.MaxMessage {
		return nil, fmt.Errorf("call %s at %s: %w: %d bytes, at most %d", method, to, ErrTooLarge, len(body), m.cfg.MaxMessage)
	}
	client, err := p.await(ctx)
	if err != nil {
		return nil, err
	}
	return client.call(ctx, method, body)
}

// Ping measures one round trip to a peer, on the connection that calls use. Like
// Call it waits while the peer is being connected, which does not count.
func (m *Mesh) Ping(ctx context.Context, to antipode.Region) (time.Duration, error) {
	p, ok := m.peers[to]
	if !ok {
		return 0, fmt.Errorf("ping %q: %w", to, ErrUnknownPeer)
	}
	client, err := p.await(ctx)
	if err != nil {
		return 0, err
	}
	sent := m.cfg.Now()
	if _, err := client.call(ctx, heartbeatMethod, nil); err != nil {
		return 0, err
	}
	return m.cfg.Now().Sub(sent), nil
}

// Dial opens a connection of a kind to a peer, which its HandleConn serves. Like
// Call it waits while the peer is being connected and fails at once when it is
// lost. The connection breaks when the peer is lost or distrusted, or the mesh closes.
// The caller closes it. It may have a method CloseWrite() error for half-closing.
func (m *Mesh) Dial(ctx context.Context, to antipode.Region, kind Kind) (net.Conn, error) {
	p, ok := m.peers[to]
	if !ok {
		return nil, fmt.Errorf("dial %s at %q: %w", kind, to, ErrUnknownPeer)
	}
	if !slices.Contains(Kinds(), kind) || kind == KindRPC {
		return nil, fmt.Errorf("dial %q at %s: not a kind of connection to dial", kind, to)
	}
	if _, err := p.await(ctx); err != nil {
		return nil, err
	}
	dialCtx, cancel := m.dialContext(ctx)
	defer cancel()
	stop := context.AfterFunc(m.ctx, cancel)
	defer stop()
	c, err := m.dial(dialCtx, to, kind)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, &UnreachableError{Region: to, Err: fmt.Errorf("%w while connecting: %w", ended(ctx), err)}
	default:
		return nil, &UnreachableError{Region: to, Err: err}
	}
	if err := p.lostError(); err != nil { // lost while dialing: nobody else would close it
		c.breakOff(err)
		_ = c.Close() // broken already
		return nil, err
	}
	return c, nil
}

// dialContext bounds the making of one connection.
func (m *Mesh) dialContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, m.cfg.DialTimeout, fmt.Errorf("no answer within %v", m.cfg.DialTimeout))
}

// ended returns why a context ended: its error, and its cause where there is one.
func ended(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) && !errors.Is(cause, err) {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// dial makes a connection and registers it.
func (m *Mesh) dial(ctx context.Context, to antipode.Region, kind Kind) (*conn, error) {
	raw, err := m.transport.dial(ctx, to, kind)
	if err != nil {
		return nil, err
	}
	return m.register(raw)
}

// accept serves a connection that a peer made. It runs in a goroutine of the
// transport's choice and does not block.
func (m *Mesh) accept(raw *rawConn) {
	c, err := m.register(raw)
	if err != nil {
		m.log.Warn("link refused", "peer", raw.peer, "kind", raw.kind, "remote", raw.RemoteAddr().String(), "error", err)
		return
	}
	if p := m.peers[raw.peer]; p != nil {
		p.kickOff() // it reached us, so we may reach it
	}
	if raw.kind == KindRPC {
		m.rpc.accept(c)
		return
	}
	m.mu.Lock()
	h := m.connHandlers[raw.kind]
	m.mu.Unlock()
	if h == nil || !m.begin() {
		_ = c.Close() // the dialer reads the end
		return
	}
	go func() {
		defer m.wg.Done()
		defer c.Close() //nolint:errcheck // the handler is done with it
		h(m.ctx, c.peer, c)
	}()
}

// begin counts one more thing for Close to wait for, unless it is too late.
func (m *Mesh) begin() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.wg.Add(1)
	return true
}

// Connected reports whether the peer answers heartbeats.
func (m *Mesh) Connected(peer antipode.Region) bool {
	p, ok := m.peers[peer]
	return ok && p.connected()
}

// Reaches lists the peers that have answered a heartbeat within
// Config.SuspectAfter, sorted. A process that was stopped leaves the list long
// before its connections are given up.
func (m *Mesh) Reaches() []antipode.Region {
	now := m.cfg.Now()
	var out []antipode.Region
	for region, p := range m.peers {
		if p.reached(now) {
			out = append(out, region)
		}
	}
	slices.Sort(out)
	return out
}

// RTT returns the smoothed round trip to a peer, or 0 when it is not known.
func (m *Mesh) RTT(peer antipode.Region) time.Duration {
	if p, ok := m.peers[peer]; ok {
		return p.smoothedRTT()
	}
	return 0
}

// LeastRTT returns the shortest round trip to a peer on the connection that there
// is, or was last, or 0 when it is not known. Unlike RTT it says how far away the
// peer is, however busy both ends are.
func (m *Mesh) LeastRTT(peer antipode.Region) time.Duration {
	if p, ok := m.peers[peer]; ok {
		return p.leastOfConnection()
	}
	return 0
}

// SetTrust replaces the roots that are believed. Connections with peers that are
// no longer covered are closed before it returns, and refused from then on.
func (m *Mesh) SetTrust(trust identity.Trust) {
	m.trust.Store(&trust)
	m.mu.Lock()
	var distrusted []*conn
	for c := range m.conns {
		if m.checkTrust(c) != nil {
			distrusted = append(distrusted, c)
		}
	}
	m.mu.Unlock()
	reason := fmt.Errorf("%w any more: its root was removed or replaced", ErrNotTrusted)
	for _, c := range distrusted {
		m.log.Warn("link closed, its region is trusted no more", "peer", c.peer, "kind", c.kind)
		c.breakOff(reason)
	}
	for _, p := range m.peers {
		p.kickOff() // it may be trusted now
	}
}

// Trust returns the roots that are believed.
func (m *Mesh) Trust() identity.Trust { return *m.trust.Load() }

// checkTrust verifies a live connection against the present roots, as of the
// time it was made: a long-lived connection outlives its leaf.
func (m *Mesh) checkTrust(c *conn) error {
	if c.presented == nil {
		return nil // in memory
	}
	_, err := m.Trust().Verify(c.presented, c.since)
	return err
}

// SetDelay changes how long what is sent to a peer takes, one way; up to jitter
// is added. Emulated links only.
func (m *Mesh) SetDelay(peer antipode.Region, delay, jitter time.Duration) error {
	if delay < 0 || jitter < 0 {
		return fmt.Errorf("set delay to %s: %v and %v must not be negative", peer, delay, jitter)
	}
	s, err := m.transport.shapes(peer)
	if err != nil {
		return err
	}
	s.out.setDelay(delay, jitter)
	return nil
}

// Delay tells how long what is sent to a peer is held up, one way, without the
// jitter. Emulated links only.
func (m *Mesh) Delay(peer antipode.Region) (time.Duration, error) {
	s, err := m.transport.shapes(peer)
	if err != nil {
		return 0, err
	}
	return s.out.delay(), nil
}

// SetBandwidth bounds what is sent to a peer, in bytes per second; 0 lifts the
// bound. Emulated links only.
func (m *Mesh) SetBandwidth(peer antipode.Region, bytesPerSecond int64) error {
	if bytesPerSecond < 0 {
		return fmt.Errorf("set bandwidth to %s: %d must not be negative", peer, bytesPerSecond)
	}
	s, err := m.transport.shapes(peer)
	if err != nil {
		return err
	}
	s.out.setBandwidth(bytesPerSecond)
	return nil
}

// Cut makes a black hole of the way to a peer, of the way from it, or both: what
// is on the way is held, nothing is refused. Emulated links only.
func (m *Mesh) Cut(peer antipode.Region, d Direction) error {
	s, err := m.transport.shapes(peer)
	if err != nil {
		return err
	}
	s.cut(d, true)
	m.log.Info("link cut", "peer", peer, "outgoing", d&Outgoing != 0, "incoming", d&Incoming != 0)
	return nil
}

// Heal undoes what Cut did to a peer, in both directions. What the peer's side
// cut stays cut.
func (m *Mesh) Heal(peer antipode.Region) error {
	s, err := m.transport.shapes(peer)
	if err != nil {
		return err
	}
	s.cut(Both, false)
	if p := m.peers[peer]; p != nil {
		p.kickOff()
	}
	m.log.Info("link healed", "peer", peer)
	return nil
}

// Close breaks all connections, ends the handlers' contexts and waits for them.
func (m *Mesh) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		m.wg.Wait()
		return nil
	}
	m.closed = true
	conns := slices.Collect(maps.Keys(m.conns))
	m.mu.Unlock()

	m.cancel()
	m.transport.close()
	for _, c := range conns {
		c.breakOff(ErrClosed)
	}
	m.rpc.close()
	m.wg.Wait()
	return nil
}

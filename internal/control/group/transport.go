package group

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/link"
)

const (
	// maxFrame bounds one message; the largest are snapshots.
	maxFrame = 64 << 20
	// queueSize is how many messages wait for a peer; beyond it the oldest go.
	queueSize = 512
	// writeTimeout is how long a write may take before the connection is given up.
	writeTimeout = 10 * time.Second
	// minBackoff and maxBackoff bound the pause before a peer is dialed again.
	minBackoff, maxBackoff = 50 * time.Millisecond, 500 * time.Millisecond
)

// Links is what a Transport needs of package link.
type Links interface {
	// Dial opens a connection to a peer.
	Dial(ctx context.Context, to antipode.Region, kind link.Kind) (net.Conn, error)
	// HandleConn serves the connections that peers open.
	HandleConn(kind link.Kind, h link.ConnHandler)
}

// TransportConfig says whose messages a Transport carries.
type TransportConfig struct {
	// Self and Voters are as in Config.
	Self   antipode.Region
	Voters []antipode.Region
	// Links make the connections.
	Links Links
	// Receive takes the messages that come in; it must not wait. Group.Receive.
	Receive func(from antipode.Region, msg []byte)
	// Logger receives connections lost. Nothing is logged when nil.
	Logger *slog.Logger
}

// Transport carries messages between voters: a goroutine and a connection per
// peer for what goes out, and whatever the peers dial for what comes in. Messages
// may be lost, not changed. Send may be called concurrently; whoever made the
// Transport closes it.
type Transport struct {
	cfg   TransportConfig
	stop  context.CancelFunc
	peers map[antipode.Region]*sender
	wg    sync.WaitGroup

	mu      sync.Mutex
	inbound map[antipode.Region]*inbound
}

// inbound is the connection that a peer sends on.
type inbound struct {
	conn net.Conn
	done chan struct{}
}

// NewTransport starts a Transport, which works until ctx ends or Close is called.
// It serves connections of kind link.KindRaft from now on.
func NewTransport(ctx context.Context, cfg TransportConfig) *Transport {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(ctx)
	t := &Transport{cfg: cfg, stop: stop, peers: map[antipode.Region]*sender{}, inbound: map[antipode.Region]*inbound{}}
	for _, v := range cfg.Voters {
		if v == cfg.Self {
			continue
		}
		s := &sender{
			cfg: cfg, to: v, queue: make(chan []byte, queueSize),
			log: cfg.Logger.With(slog.String("peer", string(v))),
		}
		t.peers[v] = s
		t.wg.Go(func() { s.run(ctx) })
	}
	cfg.Links.HandleConn(link.KindRaft, t.serve)
	return t
}

// Close ends the goroutines that send and waits for them. Connections that came in are
// closed by the links they came over.
func (t *Transport) Close() error {
	t.stop()
	t.wg.Wait()
	return nil
}

// Send queues a message. It never waits. Messages to regions that do not vote
// are dropped.
func (t *Transport) Send(to antipode.Region, msg []byte) {
	s, ok := t.peers[to]
	if !ok || len(msg) > maxFrame {
		return
	}
	for {
		select {
		case s.queue <- msg:
			return
		default:
		}
		select {
		case <-s.queue: // the oldest is worth least
		default:
		}
	}
}

// serve hands on what a peer sends. A new connection takes the place of the one
// before: a Core relies on it that nothing arrives from before a peer's restart
// once something has arrived from after it.
func (t *Transport) serve(ctx context.Context, from antipode.Region, conn net.Conn) {
	own := &inbound{conn: conn, done: make(chan struct{})}
	defer close(own.done)
	t.mu.Lock()
	before := t.inbound[from]
	t.inbound[from] = own
	t.mu.Unlock()
	if before != nil {
		_ = before.conn.Close()
		<-before.done
	}
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.inbound[from] == own {
			delete(t.inbound, from)
		}
	}()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	r := bufio.NewReader(conn)
	for {
		msg, err := readFrame(r)
		if err != nil {
			t.cfg.Logger.Debug("control group's connection ended", slog.String("peer", string(from)), slog.Any("error", err))
			return
		}
		t.cfg.Receive(from, msg)
	}
}

// sender sends to one peer.
type sender struct {
	cfg   TransportConfig
	to    antipode.Region
	queue chan []byte
	log   *slog.Logger
}

// run keeps a connection up as long as there is something to send.
func (s *sender) run(ctx context.Context) {
	backoff := minBackoff
	for {
		select {
		case <-ctx.Done():
			return
		case msg := <-s.queue:
			sent, err := s.session(ctx, msg)
			if ctx.Err() != nil {
				return
			}
			if sent {
				backoff = minBackoff
			}
			s.log.Debug("control group lost its connection", slog.Any("error", err))
		}
		pause := time.NewTimer(backoff/2 + rand.N(backoff))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// session dials and sends until something fails. It reports whether anything was sent.
func (s *sender) session(ctx context.Context, first []byte) (sent bool, err error) {
	conn, err := s.cfg.Links.Dial(ctx, s.to, link.KindRaft)
	if err != nil {
		return false, fmt.Errorf("connect: %w", err)
	}
	// Nothing comes back on it: a read that returns says that the peer is gone.
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, conn)
	}()
	defer func() { <-gone }()
	defer func() { _ = conn.Close() }() // it has failed, or is no longer wanted
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()

	w := bufio.NewWriter(conn)
	stuck := time.AfterFunc(writeTimeout, func() { _ = conn.Close() })
	defer stuck.Stop()
	for msg := first; ; {
		stuck.Reset(writeTimeout)
		if err := writeFrame(w, msg); err != nil {
			return sent, err
		}
		if len(s.queue) == 0 {
			if err := w.Flush(); err != nil {
				return sent, fmt.Errorf("send: %w", err)
			}
		}
		sent = true
		stuck.Stop()
		select {
		case <-ctx.Done():
			return sent, context.Cause(ctx)
		case <-gone:
			return sent, io.ErrUnexpectedEOF
		case msg = <-s.queue:
		}
	}
}

// writeFrame writes length (4 bytes, big-endian) and message.
func writeFrame(w io.Writer, msg []byte) error {
	var size [4]byte
	binary.BigEndian.PutUint32(size[:], uint32(len(msg)))
	if _, err := w.Write(size[:]); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if _, err := w.Write(msg); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// readFrame reads what writeFrame wrote. Memory is taken as bytes come in, so
// that a length alone costs nothing.
func readFrame(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	n := int64(binary.BigEndian.Uint32(size[:]))
	if n == 0 || n > maxFrame {
		return nil, fmt.Errorf("%w: a frame of %d bytes, %d at most", ErrMessage, n, maxFrame)
	}
	msg, err := io.ReadAll(io.LimitReader(r, n))
	if err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	if int64(len(msg)) < n {
		return nil, fmt.Errorf("receive: %w", io.ErrUnexpectedEOF)
	}
	return msg, nil
}

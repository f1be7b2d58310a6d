package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/antipode-io/antipode"
)

const heartbeatMethod = "link/heartbeat"

var (
	errNotYet   = errors.New("not connected yet")
	errNoAnswer = errors.New("no answer to heartbeats")
	errDropped  = errors.New("connection was closed by the other side, or on the way")
)

// firstBackoff is the first pause after a connection failed.
const firstBackoff = 50 * time.Millisecond

// peer keeps the connection for calls to one peer, and judges by its heartbeats
// whether the peer is there.
type peer struct {
	mesh   *Mesh
	region antipode.Region
	kick   chan struct{} // cuts a pause short

	mu       sync.Mutex    // guards what follows
	client   *rpcClient    // nil while not connected
	lost     bool          // silent for LostAfter
	cause    error         // why there is no client
	rtt      time.Duration // smoothed
	leastRTT time.Duration // of the connection; 0: not known
	heardAt  time.Time     // when the peer last answered a heartbeat
	askedAt  time.Time     // when the peer last sent one
	connects uint64
	changed  chan struct{} // closed and replaced when client or lost change

	telling sync.Mutex // held while PeerChanged runs; guards told
	told    bool
}

func newPeer(m *Mesh, region antipode.Region) *peer {
	now := m.cfg.Now()
	return &peer{
		mesh: m, region: region, kick: make(chan struct{}, 1),
		cause: errNotYet, heardAt: now, askedAt: now, changed: make(chan struct{}),
	}
}

// await returns the connection for calls. It waits for it until the peer is lost.
func (p *peer) await(ctx context.Context) (*rpcClient, error) {
	for {
		p.mu.Lock()
		client, lost, cause, changed := p.client, p.lost, p.cause, p.changed
		p.mu.Unlock()
		switch {
		case p.mesh.ctx.Err() != nil:
			return nil, &UnreachableError{Region: p.region, Err: ErrClosed}
		case lost:
			return nil, &UnreachableError{Region: p.region, Err: cause}
		case client != nil:
			return client, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, &UnreachableError{Region: p.region, Err: fmt.Errorf("%w while connecting: %w", ended(ctx), cause)}
		case <-p.mesh.ctx.Done():
		}
	}
}

// lostError returns why the peer can't be reached, or nil if it is not lost.
func (p *peer) lostError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost {
		return &UnreachableError{Region: p.region, Err: p.cause}
	}
	return nil
}

func (p *peer) connected() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.client != nil && !p.lost
}

// reached reports whether the peer has answered a heartbeat lately.
func (p *peer) reached(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.client != nil && !p.lost && now.Sub(p.heardAt) <= p.mesh.cfg.SuspectAfter
}

func (p *peer) smoothedRTT() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rtt
}

func (p *peer) leastOfConnection() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leastRTT
}

// forgetLeast begins a connection, which may take another way than the last.
func (p *peer) forgetLeast() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leastRTT = 0
}

// kickOff ends a pause between attempts.
func (p *peer) kickOff() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// keepConnected runs until the mesh closes.
func (p *peer) keepConnected() {
	ctx := p.mesh.ctx
	pause := firstBackoff
	reported := ""
	for ctx.Err() == nil {
		up, err := p.session(ctx)
		if ctx.Err() != nil {
			break
		}
		if up {
			pause, reported = firstBackoff, ""
		}
		// The same trouble is told once, not at every attempt.
		if text := err.Error(); text != reported {
			p.mesh.log.Warn("link is down", "peer", p.region, "error", err)
			reported = text
		}
		timer := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-timer.C:
			pause = min(2*pause, p.mesh.cfg.MaxBackoff)
		case <-p.kick:
			pause = firstBackoff
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// session connects and sends heartbeats until one is not answered. It reports
// whether the peer was connected meanwhile.
func (p *peer) session(ctx context.Context) (up bool, err error) {
	dialCtx, cancel := p.mesh.dialContext(ctx)
	defer cancel()
	client, err := p.mesh.rpc.dial(dialCtx, p.region)
	if err != nil {
		p.setCause(err)
		return false, err
	}
	defer func() { client.close(err) }()
	p.forgetLeast()
	// The first answer proves that the peer accepted this region's certificate.
	if err := p.heartbeat(dialCtx, client); err != nil {
		err = explain(err)
		p.setCause(err)
		return false, err
	}
	p.setClient(client)
	defer func() { p.disconnect(err) }()
	ticker := time.NewTicker(p.mesh.cfg.Heartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-client.broken:
			return true, errDropped
		case <-ctx.Done():
			return true, context.Cause(ctx)
		}
		if err := p.beat(ctx, client); err != nil {
			return true, explain(err)
		}
	}
}

// explain says what an error of a handshake or a heartbeat means.
func explain(err error) error {
	var op *net.OpError
	var lost *UnreachableError
	switch {
	case errors.As(err, &op) && op.Op == "remote error": // a TLS alert
		return fmt.Errorf("the peer refuses this region's certificate; see its log, and have it trust this region's root: %w", err)
	case errors.Is(err, context.DeadlineExceeded):
		return errNoAnswer
	case errors.As(err, &lost):
		return lost.Err
	}
	return err
}

// beat sends one heartbeat within the time that the peer may be silent.
func (p *peer) beat(ctx context.Context, client *rpcClient) error {
	ctx, cancel := context.WithTimeout(ctx, p.mesh.cfg.LostAfter)
	defer cancel()
	return p.heartbeat(ctx, client)
}

func (p *peer) heartbeat(ctx context.Context, client *rpcClient) error {
	sent := p.mesh.cfg.Now()
	answer, err := client.call(ctx, heartbeatMethod, nil)
	if err != nil {
		return err
	}
	rtt := p.mesh.cfg.Now().Sub(sent)
	stamp, err := decodeHeartbeat(answer)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.heardAt = sent.Add(rtt)
	if p.rtt == 0 {
		p.rtt = rtt
	}
	p.rtt += (rtt - p.rtt) / 8
	if p.leastRTT == 0 || rtt < p.leastRTT {
		p.leastRTT = rtt
	}
	p.mu.Unlock()
	p.mesh.cfg.Observe(p.region, rtt, stamp)
	return nil
}

func (m *Mesh) answerHeartbeat(_ context.Context, from antipode.Region, _ []byte) ([]byte, error) {
	if p := m.peers[from]; p != nil {
		p.asked()
	}
	return binary.BigEndian.AppendUint64(nil, uint64(m.cfg.Stamp())), nil
}

// decodeHeartbeat reads an answer: a stamp, and whatever later versions append.
func decodeHeartbeat(answer []byte) (antipode.Stamp, error) {
	if len(answer) < 8 {
		return 0, fmt.Errorf("heartbeat was answered with %d bytes; the peer runs something else", len(answer))
	}
	return antipode.Stamp(binary.BigEndian.Uint64(answer)), nil
}

// watch judges by silence: of this region's heartbeats what it dialed, of the
// peer's what the peer dialed.
func (p *peer) watch() {
	ticker := time.NewTicker(p.mesh.cfg.Heartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.judge(p.mesh.cfg.Now())
		case <-p.mesh.ctx.Done():
			return
		}
	}
}

func (p *peer) judge(now time.Time) {
	since := now.Add(-p.mesh.cfg.LostAfter)
	silent := fmt.Errorf("silent for %v", p.mesh.cfg.LostAfter)
	p.mu.Lock()
	deaf := p.askedAt.Before(since)
	newlyLost := !p.lost && p.heardAt.Before(since)
	if newlyLost {
		p.lost = true
		p.cause = fmt.Errorf("%w: %w", silent, p.cause)
		p.broadcastLocked()
	}
	p.mu.Unlock()
	if newlyLost {
		p.mesh.log.Warn("peer is lost", "peer", p.region, "silent_for", p.mesh.cfg.LostAfter)
		p.mesh.breakOff(p.region, silent, func(c *conn) bool { return !c.inbound })
		p.tell()
	}
	if deaf {
		p.mesh.breakOff(p.region, silent, func(c *conn) bool { return c.inbound && c.since.Before(since) })
	}
}

// setClient makes the peer reachable.
func (p *peer) setClient(client *rpcClient) {
	p.mu.Lock()
	wasLost := p.lost
	p.client, p.lost, p.cause = client, false, errNoAnswer
	p.connects++
	p.broadcastLocked()
	p.mu.Unlock()
	p.mesh.log.Info("peer is connected", "peer", p.region, "rtt", p.smoothedRTT(), "was_lost", wasLost)
	p.tell()
}

// setCause says why there is no connection.
func (p *peer) setCause(cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cause = cause
}

// disconnect takes the connection away. If the peer was declared lost, that is
// why the connection broke, and stays the cause.
func (p *peer) disconnect(cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.client = nil
	if !p.lost {
		p.cause = cause
	}
	p.broadcastLocked()
}

func (p *peer) broadcastLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// tell reports a change of state, in order and each once.
func (p *peer) tell() {
	p.telling.Lock()
	defer p.telling.Unlock()
	p.mu.Lock()
	reachable := !p.lost
	p.mu.Unlock()
	if reachable != p.told {
		p.told = reachable
		p.mesh.cfg.PeerChanged(p.region, reachable)
	}
}

// asked notes that the peer sent a heartbeat.
func (p *peer) asked() {
	now := p.mesh.cfg.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.askedAt = now
}

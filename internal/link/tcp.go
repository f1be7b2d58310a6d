package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/antipode-io/antipode"
)

// maxHandshakes bounds connections that have not proved who they are. More wait
// to be accepted.
const maxHandshakes = 128

// fromPrefix starts the ALPN name by which a dialer on emulated links says who it
// is, so that the first answer is delayed already. It decides nothing else.
const fromPrefix = "antipode/from/"

// tcpTransport makes connections over TCP and TLS.
type tcpTransport struct {
	cfg      *Config
	mesh     *Mesh // set by attach
	listener net.Listener
	dialer   net.Dialer
	emulated map[antipode.Region]shapes // nil: not emulated
	slots    chan struct{}              // held by those who shake hands

	bbr, userTimeout atomic.Bool
	refused          atomic.Uint64
	closed           chan struct{}
	wg               sync.WaitGroup // senders of emulated connections

	mu      sync.Mutex // guards what follows
	ended   bool
	wans    map[*wanConn]struct{} // emulated connections whose sender runs
	refusal string                // the last refusal logged
	told    time.Time             // when that was
}

func listenTCP(ctx context.Context, cfg *Config) (*tcpTransport, error) {
	t := &tcpTransport{
		cfg: cfg, dialer: net.Dialer{Control: controlSocket},
		slots: make(chan struct{}, maxHandshakes), closed: make(chan struct{}), wans: make(map[*wanConn]struct{}),
	}
	if cfg.Emulation != nil {
		t.emulated = make(map[antipode.Region]shapes)
		for peer := range cfg.Peers {
			t.emulated[peer] = shapes{
				out: newShape(cfg.Emulation.Peers[peer]), in: newShape(Shape{}),
				outReason: cutBySender, inReason: cutByReceiver,
			}
		}
	}
	t.listener = cfg.Listener
	if t.listener == nil {
		lc := net.ListenConfig{Control: controlSocket}
		l, err := lc.Listen(ctx, "tcp", cfg.Listen)
		if err != nil {
			return nil, fmt.Errorf("listen for other regions on %s: %w; free the port, or give region %s another link address", cfg.Listen, err, cfg.Self)
		}
		t.listener = l
	} else if l, ok := t.listener.(*net.TCPListener); ok {
		if raw, err := l.SyscallConn(); err == nil {
			_ = controlSocket("", "", raw) // as above
		}
	}
	return t, nil
}

// attach tells the transport whom it works for.
func (t *tcpTransport) attach(m *Mesh) { t.mesh = m }

func (t *tcpTransport) addr() net.Addr { return t.listener.Addr() }

// close is called once.
func (t *tcpTransport) close() {
	close(t.closed)
	_ = t.listener.Close() // it only stops accepting
	t.mu.Lock()
	t.ended = true
	lingering := slices.Collect(maps.Keys(t.wans))
	t.mu.Unlock()
	for _, w := range lingering {
		w.kill()
	}
}

// adopt runs the sender of an emulated connection.
func (t *tcpTransport) adopt(w *wanConn) {
	t.mu.Lock()
	ended := t.ended
	if !ended {
		t.wans[w] = struct{}{}
		t.wg.Add(1)
	}
	t.mu.Unlock()
	if ended {
		w.kill()
		return
	}
	go func() {
		defer t.wg.Done()
		w.send()
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.wans, w)
	}()
}

func (t *tcpTransport) shapes(peer antipode.Region) (shapes, error) {
	if t.emulated == nil {
		return shapes{}, ErrNotEmulated
	}
	s, ok := t.emulated[peer]
	if !ok {
		return shapes{}, fmt.Errorf("link to %s: %w", peer, ErrUnknownPeer)
	}
	return s, nil
}

// dial implements transport.
func (t *tcpTransport) dial(ctx context.Context, to antipode.Region, kind Kind) (*rawConn, error) {
	if trust := t.mesh.Trust(); !trust.Has(to) {
		return nil, fmt.Errorf("%w: the root of region %s is not trusted here; let it join with a token", ErrNotTrusted, to)
	}
	if t.emulated != nil {
		// What TCP's own handshake would take.
		for _, s := range []*shape{t.emulated[to].out, t.emulated[to].in, t.emulated[to].out} {
			if err := s.cross(ctx); err != nil {
				return nil, fmt.Errorf("connect to %s: %w", t.cfg.Peers[to], err)
			}
		}
	}
	plain, err := t.dialer.DialContext(ctx, "tcp", t.cfg.Peers[to])
	if err != nil {
		return nil, err
	}
	t.tune(plain)
	protocols := []string{string(kind)}
	if t.emulated != nil {
		w := newWANConn(t, plain)
		w.setPeer(to)
		plain = w
		protocols = append(protocols, fromPrefix+string(t.cfg.Self))
	}
	secure := tls.Client(plain, t.clientConfig(to, protocols))
	if err := secure.HandshakeContext(ctx); err != nil {
		kill(plain)
		return nil, explainHandshake(ctx, err)
	}
	state := secure.ConnectionState()
	if state.NegotiatedProtocol != string(kind) {
		kill(plain)
		return nil, fmt.Errorf("region %s does not speak %s; it may run another version", to, kind)
	}
	return &rawConn{Conn: secure, peer: to, kind: kind, presented: state.PeerCertificates, kill: func() { kill(plain) }}, nil
}

// explainHandshake prefers the reason why the time was up.
func explainHandshake(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("handshake: %w", context.Cause(ctx))
	}
	return fmt.Errorf("handshake: %w", explain(err))
}

func (t *tcpTransport) clientConfig(to antipode.Region, protocols []string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             protocols,
		Time:                   t.cfg.Now,
		SessionTicketsDisabled: true,
		// Identity is a region's URI under that region's root, which
		// VerifyConnection checks; host names play no part.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			region, err := t.verify(state)
			if err == nil && region != to {
				err = fmt.Errorf("%w: the other end is region %s, not %s; correct the address of %s", ErrNotTrusted, region, to, to)
			}
			return err
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return t.cfg.Identity.Certificate(t.cfg.Now())
		},
	}
}

func (t *tcpTransport) serverConfig() *tls.Config {
	protocols := make([]string, 0, 5)
	for _, kind := range Kinds() {
		protocols = append(protocols, string(kind))
	}
	base := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		NextProtos:             protocols,
		Time:                   t.cfg.Now,
		SessionTicketsDisabled: true, // a resumed session would skip no check of ours, but outlive its certificate
		ClientAuth:             tls.RequireAnyClientCert,
		VerifyConnection: func(state tls.ConnectionState) error {
			region, err := t.verify(state)
			if err == nil && region == t.cfg.Self {
				err = fmt.Errorf("%w: the other end has the identity of this region, %s; a data directory was copied, or an address points back here", ErrNotTrusted, region)
			}
			return err
		},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return t.cfg.Identity.Certificate(t.cfg.Now())
		},
	}
	joining := base.Clone()
	joining.NextProtos = []string{string(kindJoin)}
	joining.VerifyConnection = nil // the token decides, see serveJoin
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if w, ok := hello.Conn.(*wanConn); ok {
			for _, protocol := range hello.SupportedProtos {
				if from, ok := strings.CutPrefix(protocol, fromPrefix); ok {
					w.setPeer(antipode.Region(from))
				}
			}
		}
		if t.cfg.Tokens != nil && slices.Contains(hello.SupportedProtos, string(kindJoin)) {
			return joining, nil
		}
		return nil, nil //nolint:nilnil // crypto/tls: go on with this configuration
	}
	return base
}

// verify returns which region the other end proved to be.
func (t *tcpTransport) verify(state tls.ConnectionState) (antipode.Region, error) {
	return t.mesh.Trust().Verify(state.PeerCertificates, t.cfg.Now())
}

// serve implements transport.
func (t *tcpTransport) serve(ctx context.Context, accept func(*rawConn)) {
	var handshakes sync.WaitGroup
	defer t.wg.Wait()
	defer handshakes.Wait()
	config := t.serverConfig()
	for {
		select {
		case t.slots <- struct{}{}:
		case <-t.closed:
			return
		}
		plain, err := t.listener.Accept()
		if err != nil {
			<-t.slots
			if errors.Is(err, net.ErrClosed) {
				return
			}
			t.cfg.Logger.Error("accept a link", "error", err)
			if !t.pause(100 * time.Millisecond) { // out of files, most likely
				return
			}
			continue
		}
		handshakes.Go(func() {
			defer func() { <-t.slots }()
			t.greet(ctx, plain, config, accept)
		})
	}
}

// pause waits, unless the transport is closed meanwhile.
func (t *tcpTransport) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.closed:
		return false
	}
}

// greet finds out who connected.
func (t *tcpTransport) greet(ctx context.Context, plain net.Conn, config *tls.Config, accept func(*rawConn)) {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.DialTimeout)
	defer cancel()
	t.tune(plain)
	if t.emulated != nil {
		plain = newWANConn(t, plain)
	}
	secure := tls.Server(plain, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		t.refuse(plain, explainHandshake(ctx, err))
		return
	}
	state := secure.ConnectionState()
	switch kind := Kind(state.NegotiatedProtocol); {
	case kind == kindJoin:
		if err := t.serveJoin(secure); err != nil {
			t.refused.Add(1)
			t.noteRefusal(plain, err)
		}
		_ = secure.Close() // the join is over; a refusal still leaves
	case slices.Contains(Kinds(), kind):
		region, err := t.verify(state)
		if err != nil { // distrusted since the handshake
			kill(plain)
			return
		}
		accept(&rawConn{
			Conn: secure, peer: region, kind: kind, inbound: true,
			presented: state.PeerCertificates, kill: func() { kill(plain) },
		})
	default:
		t.refuse(plain, errors.New("it does not say what the connection is for (no ALPN)"))
	}
}

// refuse turns a stranger away.
func (t *tcpTransport) refuse(plain net.Conn, reason error) {
	kill(plain)
	t.refused.Add(1)
	t.noteRefusal(plain, reason)
}

// noteRefusal logs; what repeats itself, every ten seconds.
func (t *tcpTransport) noteRefusal(plain net.Conn, reason error) {
	now, text := t.cfg.Now(), reason.Error()
	t.mu.Lock()
	quiet := t.ended || text == t.refusal && now.Sub(t.told) < 10*time.Second
	if !quiet {
		t.refusal, t.told = text, now
	}
	t.mu.Unlock()
	if !quiet {
		t.cfg.Logger.Warn("link refused", "remote", plain.RemoteAddr().String(), "error", reason)
	}
}

// tune sets what a socket should have and notes what it has not.
func (t *tcpTransport) tune(c net.Conn) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	keepAlive := net.KeepAliveConfig{Enable: true, Idle: t.cfg.LostAfter, Interval: time.Second, Count: 3}
	_ = errors.Join(tcp.SetNoDelay(true), tcp.SetKeepAliveConfig(keepAlive)) // a socket that refuses is about to fail anyway
	bbr, userTimeout := tuneSocket(tcp, t.cfg.LostAfter)
	t.bbr.Store(bbr)
	t.userTimeout.Store(userTimeout)
}

// kill closes a connection below TLS, so that no goodbye is waited for.
func kill(plain net.Conn) {
	if w, ok := plain.(*wanConn); ok {
		w.kill()
		return
	}
	_ = plain.Close() // it is broken, or becomes so
}

// Package region builds one running region out of the rest: store, clock, links,
// control group, journal, shipping, tables, and the servers that clients and
// operators speak to. It wires, and decides nothing.
//
// Open returns once the region takes part in the control group; Ready says when
// it serves clients, which at the very first start waits for the group to give it
// the incarnation of its journal. Whoever opened a Region closes it. All methods
// may be called concurrently.
package region

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/access"
	"github.com/antipode-io/antipode/internal/api/operator"
	"github.com/antipode-io/antipode/internal/control/failover"
	"github.com/antipode-io/antipode/internal/control/group"
	"github.com/antipode-io/antipode/internal/control/lease"
	"github.com/antipode-io/antipode/internal/data/table"
	"github.com/antipode-io/antipode/internal/engine/pebblekv"
	"github.com/antipode-io/antipode/internal/hlc"
	"github.com/antipode-io/antipode/internal/link"
	"github.com/antipode-io/antipode/internal/link/identity"
	"github.com/antipode-io/antipode/internal/replica/journal"
	"github.com/antipode-io/antipode/internal/replica/ship"
	"github.com/antipode-io/antipode/internal/spec"
)

// Region is one running region.
type Region struct {
	cfg      Config
	spec     *spec.Region
	dir      string
	started  time.Time
	log      *slog.Logger
	registry *prometheus.Registry

	store  *pebblekv.Store
	meta   *meta
	clock  *hlc.Clock
	mesh   *link.Mesh
	group  *group.Group
	tokens *identity.Tokens
	id     *identity.Identity
	keys   *access.Keyring // nil for a witness
	lease  *lease.Keeper   // nil where there are none to keep
	tls    *tls.Config

	cuts   sync.Map                                          // of peers to true: links that are cut on request
	skew   atomic.Int64                                      // nanoseconds that wall is ahead of the machine's clock
	seen   atomic.Pointer[map[antipode.Region]failover.Seen] // what the leader concludes; nil elsewhere
	data   atomic.Pointer[data]                              // once the journal has an author; never for a witness that keeps none
	reason atomic.Pointer[string]                            // why it is not ready

	incarnation atomic.Uint32 // of the journal; 0 as long as it is not known

	ready  chan struct{}
	failed chan error

	ctx    context.Context //nolint:containedctx // the life of the region, which its goroutines share
	cancel context.CancelFunc
	wg     sync.WaitGroup

	trustMu sync.Mutex // held while what is trusted changes
	watchMu sync.Mutex // guards what follows
	watch   *lease.Watch
	views   map[antipode.Region]view // what others have reported

	mu      sync.Mutex // guards what follows
	closers []closer   // in the order of opening
	closed  bool
}

// data is what a region that stores data has.
type data struct {
	journal *journal.Journal
	tables  *table.Tables
	ship    *ship.Ship
}

type closer struct {
	name  string
	close func() error
}

// Open starts a region. Of ctx it keeps the values only: the region lives until Close.
func Open(ctx context.Context, cfg Config) (*Region, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	def, _ := cfg.Spec.Region(cfg.Name)
	r := &Region{
		cfg: cfg, spec: def, dir: cfg.FS.PathJoin(cfg.Dir, string(cfg.Name)), started: cfg.Now(),
		log: cfg.Logger.With(slog.String("region", string(cfg.Name))), registry: prometheus.NewRegistry(),
		ready: make(chan struct{}), failed: make(chan error, 1),
	}
	r.because("it is starting")
	r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := r.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("start region %s: %w", cfg.Name, err), r.Close())
	}
	return r, nil
}

func (r *Region) open() error {
	for _, step := range []func() error{
		r.openDir, r.openStore, r.openClock, r.openLinks, r.openGroup, r.openLease, r.openFailover, r.openOperator,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	r.wg.Go(r.keepRoots)
	if r.spec.Witness {
		close(r.ready)
		if !r.spec.Journal {
			return nil
		}
	}
	r.wg.Go(func() {
		if err := r.openData(); err != nil && r.ctx.Err() == nil {
			r.fail(fmt.Errorf("start region %s: %w", r.cfg.Name, err))
		}
	})
	return nil
}

// Ready is closed once the region serves clients; a witness is ready at once.
func (r *Region) Ready() <-chan struct{} { return r.ready }

// Failed receives a fault that the region can't survive. It should be closed and
// started again, after doing what the error says.
func (r *Region) Failed() <-chan error { return r.failed }

func (r *Region) fail(err error) {
	r.because(err.Error())
	select {
	case r.failed <- err:
	default:
	}
}

func (r *Region) because(reason string) { r.reason.Store(&reason) }

// closing registers what Close closes, in reverse order.
func (r *Region) closing(name string, close func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closers = append(r.closers, closer{name, close})
}

// Close stops serving, then everything else in the reverse order of its start.
func (r *Region) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	r.mu.Unlock()
	r.because("it is stopping")
	r.cancel()
	r.wg.Wait() // openData among them: nothing is registered after it
	var errs []error
	r.mu.Lock()
	closers := r.closers
	r.mu.Unlock()
	for _, c := range slices.Backward(closers) {
		if err := c.close(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", c.name, err))
		}
	}
	return errors.Join(errs...)
}

func (r *Region) openDir() error {
	if err := claim(r.cfg.FS, r.dir, r.cfg.Name, r.started); err != nil {
		return err
	}
	r.tokens = identity.NewTokens(r.cfg.FS, TokensDir(r.cfg.FS, r.cfg.Dir, r.cfg.Name))
	if r.spec.TLS == nil {
		return nil
	}
	cert, err := tls.LoadX509KeyPair(r.spec.TLS.Cert, r.spec.TLS.Key)
	if err != nil {
		return fmt.Errorf("load the certificate for clients and operators: %w; check tls in the spec", err)
	}
	r.tls = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	return nil
}

func (r *Region) openStore() error {
	store, err := pebblekv.Open(pebblekv.Config{
		FS: r.cfg.FS, Dir: r.cfg.FS.PathJoin(r.dir, storeDir), Logger: r.log,
		OnFatal: func(err error) {
			r.fail(fmt.Errorf("region %s stops, because its disk failed: %w; everything it acknowledged is on disk; make room or mend the disk, then start it again", r.cfg.Name, err))
		},
	})
	if err != nil {
		return err
	}
	r.store = store
	r.meta = &meta{store: store}
	r.closing("store", store.Close)
	r.registry.MustRegister(pebblekv.NewCollector(store), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return nil
}

func (r *Region) openClock() error {
	ceiling, err := r.meta.ceiling()
	if err != nil {
		return err
	}
	r.clock, err = hlc.New(hlc.Config{Wall: r.wall, Ceiling: ceiling, Persist: r.meta.setCeiling})
	if err != nil {
		return err
	}
	r.closing("clock", r.clock.Close)
	r.wg.Go(func() {
		for r.every(250 * time.Millisecond) {
			if err := r.clock.Extend(); err != nil {
				r.log.Warn("extend clock", "error", err)
			}
		}
	})
	return nil
}

// wall reads the region's wall clock: the machine's, or one that a drill set
// wrong. It is for stamps, signatures and what else says when something was;
// timeouts and leases go by the machine's clock, as a clock that is set wrong
// does not change how fast time passes.
func (r *Region) wall() time.Time {
	now := r.cfg.Now()
	if skew := r.skew.Load(); skew != 0 {
		return now.Add(time.Duration(skew))
	}
	return now
}

// every waits for the time to pass and reports whether the region still lives.
func (r *Region) every(d time.Duration) bool {
	select {
	case <-time.After(d):
		return r.ctx.Err() == nil
	case <-r.ctx.Done():
		return false
	}
}

func (r *Region) openLinks() error {
	emulation, err := r.cfg.emulation()
	if err != nil {
		return err
	}
	cfg := link.Config{
		Self: r.cfg.Name, Listen: r.spec.Addresses.Link, Peers: make(map[antipode.Region]string),
		Emulation: emulation, Tokens: r.tokens, OnJoin: r.onJoin, Now: r.cfg.Now, Logger: r.log,
		Stamp: func() antipode.Stamp { return antipode.MakeStamp(r.wall().UnixMilli(), 0) },
		Observe: func(peer antipode.Region, rtt time.Duration, stamp antipode.Stamp) {
			if stamp != 0 {
				r.clock.Observe(peer, stamp.Time(), rtt+time.Millisecond) // stamps are whole milliseconds
			}
		},
	}
	for _, p := range r.cfg.Spec.Regions {
		if p.Name != r.cfg.Name {
			cfg.Peers[p.Name] = p.Addresses.Link
		}
	}
	if r.cfg.Network != nil {
		cfg.Tokens, cfg.OnJoin = nil, nil
		for peer, shape := range emulation.Peers {
			if err := r.cfg.Network.Shape(r.cfg.Name, peer, shape); err != nil {
				return err
			}
		}
		r.mesh, err = link.OpenMemory(r.ctx, r.cfg.Network, cfg)
	} else {
		if err := r.loadIdentity(&cfg); err != nil {
			return err
		}
		r.mesh, err = link.Open(r.ctx, cfg)
	}
	if err != nil {
		return explainListen(err)
	}
	r.closing("links", r.mesh.Close)
	return nil
}

func (r *Region) loadIdentity(cfg *link.Config) (err error) {
	dir := IdentityDir(r.cfg.FS, r.cfg.Dir, r.cfg.Name)
	if r.id, err = identity.LoadCA(r.cfg.FS, dir); err != nil {
		return err
	}
	cfg.Identity = r.id
	trust, err := identity.LoadTrust(r.cfg.FS, dir)
	if errors.Is(err, fs.ErrNotExist) {
		trust, err = identity.NewTrust(nil)
	}
	if err != nil {
		return err
	}
	cfg.Trust, err = trust.With(r.cfg.Name, r.id.RootPEM())
	return err
}

// explainListen says what to do about a port that is taken.
func explainListen(err error) error {
	if strings.Contains(err.Error(), "address already in use") {
		return fmt.Errorf("%w: another process has this port, perhaps the same region or another `antipode up`; end it, or choose other ports with --base-port or in the spec", err)
	}
	return err
}

func (r *Region) openGroup() error {
	var voters []antipode.Region
	for _, v := range r.cfg.Spec.Regions {
		voters = append(voters, v.Name)
	}
	var transport *group.Transport
	attached := make(chan struct{})
	g, err := group.Open(r.ctx, group.Config{
		Self: r.cfg.Name, Voters: voters, Store: r.store, Logger: r.log,
		Send: func(to antipode.Region, msg []byte) {
			<-attached
			transport.Send(to, msg)
		},
		OnFatal: func(err error) {
			r.fail(fmt.Errorf("region %s stops, because its part of the control group failed: %w", r.cfg.Name, err))
		},
	})
	if err != nil {
		close(attached)
		return err
	}
	transport = group.NewTransport(r.ctx, group.TransportConfig{
		Self: r.cfg.Name, Voters: voters, Links: r.mesh, Receive: g.Receive, Logger: r.log,
	})
	close(attached)
	r.group = g
	r.closing("group transport", transport.Close)
	r.closing("control group", g.Close)
	r.registry.MustRegister(group.NewCollector(g))
	return nil
}

func (r *Region) openOperator() error {
	if !r.spec.Witness {
		var err error
		r.keys, err = access.Open(access.Config{FS: r.cfg.FS, Path: KeysPath(r.cfg.FS, r.cfg.Dir, r.cfg.Name), Now: r.cfg.Now, Logger: r.log})
		if err != nil {
			return err
		}
	}
	if r.cfg.Network != nil {
		return nil
	}
	token, err := readFile(r.cfg.FS, TokenPath(r.cfg.FS, r.cfg.Dir, r.cfg.Name))
	if errors.Is(err, fs.ErrNotExist) {
		token = []byte(operator.NewToken())
		err = identity.WriteSecret(r.cfg.FS, r.dir, tokenFile, token)
	}
	if err != nil {
		return fmt.Errorf("operator token: %w", err)
	}
	server, err := operator.NewServer(operator.Config{
		Backend: r, Token: strings.TrimSpace(string(token)), Gatherer: r.registry, TLS: r.tls, Now: r.cfg.Now, Logger: r.log,
	})
	if err != nil {
		return err
	}
	ln, err := r.listen(r.spec.Addresses.Operator)
	if err != nil {
		return err
	}
	r.serve("operator API", func() error { return server.Serve(ln) }, server.Shutdown)
	return nil
}

func (r *Region) listen(addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", addr, err)
	}
	if ip := net.ParseIP(host); r.tls == nil && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("listen on %s: it is not a loopback address, and the region has no certificate; give tls.cert and tls.key in the spec, so that no secret travels in the clear", addr)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(r.ctx, "tcp", addr)
	if err != nil {
		return nil, explainListen(err)
	}
	return ln, nil
}

// shutdownGrace is how long running requests may take when the region stops.
const shutdownGrace = 5 * time.Second

// serve runs a server until the region closes.
func (r *Region) serve(name string, run func() error, shutdown func(context.Context) error) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := run(); err != nil && r.ctx.Err() == nil {
			r.fail(fmt.Errorf("region %s: %s: %w", r.cfg.Name, name, err))
		}
	}()
	r.closing(name, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), shutdownGrace)
		defer cancel()
		err := shutdown(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = nil // a client would not let go; its connection goes with the process
		}
		<-ended
		return err
	})
}

var _ io.Closer = (*Region)(nil)

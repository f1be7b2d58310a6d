package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/link/identity"
)

const (
	oregon antipode.Region = "oregon"
	mumbai antipode.Region = "mumbai"
)

// world opens the meshes of a test, over whichever transport.
type world interface {
	// open starts the mesh of a region, again after it was closed.
	open(t *testing.T, cfg Config) *Mesh
}

// memoryWorld runs in a synctest bubble.
type memoryWorld struct{ network *MemoryNetwork }

func (w *memoryWorld) open(t *testing.T, cfg Config) *Mesh {
	t.Helper()
	m, err := OpenMemory(t.Context(), w.network, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// tcpWorld runs over loopback.
type tcpWorld struct {
	ids       map[antipode.Region]*identity.Identity
	trust     identity.Trust
	addresses map[antipode.Region]string
	emulated  bool
}

func newTCPWorld(t testing.TB, emulated bool, regions ...antipode.Region) *tcpWorld {
	t.Helper()
	w := &tcpWorld{ids: map[antipode.Region]*identity.Identity{}, addresses: map[antipode.Region]string{}, emulated: emulated}
	roots := map[antipode.Region]string{}
	for _, r := range regions {
		id, err := identity.New(r, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		w.ids[r], roots[r] = id, id.RootPEM()
		w.addresses[r] = freeAddress(t)
	}
	var err error
	if w.trust, err = identity.NewTrust(roots); err != nil {
		t.Fatal(err)
	}
	return w
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (w *tcpWorld) config(cfg Config) Config {
	cfg.Listen, cfg.Now = w.addresses[cfg.Self], time.Now
	if cfg.Identity == nil {
		cfg.Identity = w.ids[cfg.Self]
	}
	if len(cfg.Trust.Regions()) == 0 {
		cfg.Trust = w.trust
	}
	cfg.Peers = map[antipode.Region]string{}
	for r, address := range w.addresses {
		if r != cfg.Self {
			cfg.Peers[r] = address
		}
	}
	if w.emulated && cfg.Emulation == nil {
		cfg.Emulation = &Emulation{}
	}
	return cfg
}

func (w *tcpWorld) open(t *testing.T, cfg Config) *Mesh {
	t.Helper()
	m, err := Open(t.Context(), w.config(cfg))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// quick has the times of a test over real sockets that waits for peers to be lost.
func quick(self antipode.Region) Config {
	return Config{
		Self: self, Heartbeat: 20 * time.Millisecond, LostAfter: 600 * time.Millisecond,
		MaxBackoff: 50 * time.Millisecond, DialTimeout: 600 * time.Millisecond,
	}
}

// patient is for tests that would be disturbed by a peer declared lost on a busy machine.
func patient(c *Config) { c.LostAfter, c.DialTimeout = 10*time.Second, 10*time.Second }

// pair opens two meshes that the test closes.
func pair(t *testing.T, w world, cfgs ...func(*Config)) (a, b *Mesh) {
	t.Helper()
	open := func(self antipode.Region) *Mesh {
		cfg := quick(self)
		for _, change := range cfgs {
			change(&cfg)
		}
		m := w.open(t, cfg)
		return m
	}
	a, b = open(oregon), open(mumbai)
	closeAtEnd(t, a, b)
	return a, b
}

// closeAtEnd closes the meshes, in a bubble within the bubble.
func closeAtEnd(t *testing.T, meshes ...*Mesh) {
	t.Helper()
	t.Cleanup(func() {
		for _, m := range meshes {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// eventually waits for a condition, without sleeping outside synctest: it polls
// by a ticker.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.NewTimer(10 * time.Second)
	defer timeout.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-timeout.C:
			t.Fatalf("did not come true: %s", what)
		}
	}
}

// suite is one test of the conformance suite.
type suite struct {
	*testing.T
	world world
}

// conformance is what every mesh does.
func conformance() map[string]func(suite) {
	return map[string]func(suite){
		"call":                testCall,
		"call errors":         testCallErrors,
		"call ends at server": testCallEnds,
		"call concurrently":   testCallConcurrently,
		"large bodies":        testLargeBodies,
		"dial":                testDial,
		"dial without taker":  testDialWithoutTaker,
		"half close":          testHalfClose,
		"deadlines":           testDeadlines,
		"peers and heartbeat": testHeartbeat,
		"ping":                testPing,
		"unknown peer":        testUnknownPeer,
		"cut both":            func(t suite) { testCut(t, Both) },
		"cut outgoing":        func(t suite) { testCut(t, Outgoing) },
		"cut incoming":        func(t suite) { testCut(t, Incoming) },
		"short cut":           testShortCut,
		"restart of a peer":   testRestart,
		"panic":               testPanic,
		"close":               testClose,
	}
}

func TestMemory(t *testing.T) {
	for name, test := range conformance() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test(suite{t, &memoryWorld{NewMemoryNetwork(time.Now, oregon, mumbai)}})
			})
		})
	}
}

func TestTCP(t *testing.T) {
	for name, test := range conformance() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(suite{t, newTCPWorld(t, true, oregon, mumbai)})
		})
	}
}

func echo(_ context.Context, from antipode.Region, body []byte) ([]byte, error) {
	return append([]byte(from+":"), body...), nil
}

func testCall(t suite) {
	a, b := pair(t.T, t.world, patient)
	b.HandleCall("echo", echo)
	for _, body := range []string{"", "hello"} {
		got, err := a.Call(t.Context(), mumbai, "echo", []byte(body))
		if err != nil || string(got) != "oregon:"+body {
			t.Errorf("echo %q: %q, %v", body, got, err)
		}
	}
	a.HandleCall("empty", func(context.Context, antipode.Region, []byte) ([]byte, error) { return nil, nil })
	if got, err := b.Call(t.Context(), oregon, "empty", nil); err != nil || len(got) != 0 {
		t.Errorf("empty: %q, %v", got, err)
	}
}

func testCallErrors(t suite) {
	a, b := pair(t.T, t.world, patient)
	b.HandleCall("plain", func(context.Context, antipode.Region, []byte) ([]byte, error) {
		return nil, errors.New("no\nluck")
	})
	b.HandleCall("coded", func(context.Context, antipode.Region, []byte) ([]byte, error) {
		return nil, fmt.Errorf("wrapped: %w", &RemoteError{Code: "not the writer", Text: "ask frankfurt"})
	})
	for method, want := range map[string]*RemoteError{
		"plain":  {Region: mumbai, Method: "plain", Text: "no\nluck"},
		"coded":  {Region: mumbai, Method: "coded", Code: "not the writer", Text: "wrapped: ask frankfurt"},
		"absent": {Region: mumbai, Method: "absent", Code: CodeNoHandler, Text: `method "absent" is not served (yet)`},
	} {
		_, err := a.Call(t.Context(), mumbai, method, nil)
		var got *RemoteError
		if !errors.As(err, &got) {
			t.Fatalf("%s: %v", method, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", method, diff)
		}
		if errors.Is(err, ErrNoHandler) != (method == "absent") || errors.Is(err, ErrUnreachable) {
			t.Errorf("%s: %v matches the wrong sentinel", method, err)
		}
	}
}

// testCallEnds checks that a handler's context ends when the caller cancels, and
// carries the caller's deadline.
func testCallEnds(t suite) {
	a, b := pair(t.T, t.world, patient)
	started, ended := make(chan time.Duration, 1), make(chan error, 1)
	b.HandleCall("hang", func(ctx context.Context, _ antipode.Region, _ []byte) ([]byte, error) {
		left := time.Duration(-1)
		if until, ok := ctx.Deadline(); ok {
			left = time.Until(until)
		}
		started <- left
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() {
		_, err := a.Call(ctx, mumbai, "hang", nil)
		answered <- err
	}()
	if left := <-started; left != -1 {
		t.Errorf("a call without deadline got one of %v", left)
	}
	cancel()
	if err := <-answered; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "mumbai") {
		t.Errorf("cancelled call: %v", err)
	}
	if err := <-ended; err == nil {
		t.Error("the handler's context did not end")
	}

	ctx, cancel = context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	_, err := a.Call(ctx, mumbai, "hang", nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("call with deadline: %v", err)
	}
	if left := <-started; left <= 0 || left > 150*time.Millisecond {
		t.Errorf("the handler had %v left of 150ms", left)
	}
	<-ended
}

func testCallConcurrently(t suite) {
	a, b := pair(t.T, t.world, patient)
	b.HandleCall("echo", echo)
	var all sync.WaitGroup
	for i := range 300 {
		all.Go(func() {
			body := bytes.Repeat([]byte{byte(i)}, i*10)
			got, err := a.Call(t.Context(), mumbai, "echo", body)
			if err != nil || !bytes.Equal(got[len("oregon:"):], body) {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	all.Wait()
	if n := a.Stats().Peers[mumbai].Dialed[KindRPC]; n != 1 {
		t.Errorf("%d connections for calls, want 1", n)
	}
}

func testLargeBodies(t suite) {
	a, b := pair(t.T, t.world, patient, func(c *Config) { c.MaxMessage = 3 << 20 })
	b.HandleCall("echo", func(_ context.Context, _ antipode.Region, body []byte) ([]byte, error) { return body, nil })
	b.HandleCall("much", func(context.Context, antipode.Region, []byte) ([]byte, error) { return make([]byte, 4<<20), nil })
	body := bytes.Repeat([]byte("0123456789abcdef"), 3<<16)
	got, err := a.Call(t.Context(), mumbai, "echo", body)
	if err != nil || !bytes.Equal(got, body) {
		t.Errorf("3 MiB: %d bytes back, %v", len(got), err)
	}
	if _, err := a.Call(t.Context(), mumbai, "echo", make([]byte, 3<<20+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("request above the limit: %v", err)
	}
	if _, err := a.Call(t.Context(), mumbai, "much", nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("answer above the limit: %v", err)
	}
}

// serveEcho has a mesh send back what comes, and reports who came.
func serveEcho(m *Mesh, kind Kind) <-chan antipode.Region {
	from := make(chan antipode.Region, 16)
	m.HandleConn(kind, func(_ context.Context, peer antipode.Region, c net.Conn) {
		from <- peer
		_, _ = io.Copy(c, c)
	})
	return from
}

func testDial(t suite) {
	a, b := pair(t.T, t.world, patient)
	for _, kind := range []Kind{KindRaft, KindJournal, KindBlob, KindTunnel} {
		from := serveEcho(b, kind)
		c, err := a.Dial(t.Context(), mumbai, kind)
		if err != nil {
			t.Fatal(err)
		}
		want := bytes.Repeat([]byte(kind), 10_000)
		go func() { _, _ = c.Write(want) }()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v", kind, err)
		}
		if r := <-from; r != oregon {
			t.Errorf("%s: handler saw region %q", kind, r)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if _, err := c.Write([]byte{1}); err == nil {
			t.Errorf("%s: wrote to a closed connection", kind)
		}
	}
	if _, err := a.Dial(t.Context(), mumbai, "antipode/nonsense"); err == nil {
		t.Error("dialed a kind that does not exist")
	}
	eventually(t.T, "closed connections are forgotten", func() bool {
		p := b.Stats().Peers[oregon]
		return len(p.Accepted) == 1 && len(a.Stats().Peers[mumbai].Dialed) == 1
	})
}

func testDialWithoutTaker(t suite) {
	a, _ := pair(t.T, t.world, patient)
	c, err := a.Dial(t.Context(), mumbai, KindBlob)
	if err != nil {
		return // the peer was quicker
	}
	defer c.Close()
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes from nobody", n)
	}
}

func testHalfClose(t suite) {
	a, b := pair(t.T, t.world, patient)
	b.HandleConn(KindTunnel, func(_ context.Context, _ antipode.Region, c net.Conn) {
		all, err := io.ReadAll(c)
		if err != nil {
			t.Errorf("read to the end: %v", err)
		}
		_, _ = c.Write(bytes.ToUpper(all))
	})
	c, err := a.Dial(t.Context(), mumbai, KindTunnel)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Write([]byte("shout"))
	half, ok := c.(interface{ CloseWrite() error })
	if !ok {
		t.Fatal("no CloseWrite")
	}
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "SHOUT" {
		t.Errorf("after half-close: %q, %v", got, err)
	}
}

func testDeadlines(t suite) {
	a, b := pair(t.T, t.world, patient)
	b.HandleConn(KindBlob, func(ctx context.Context, _ antipode.Region, c net.Conn) {
		<-ctx.Done() // reads nothing
	})
	c, err := a.Dial(t.Context(), mumbai, KindBlob)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	isTimeout := func(err error) bool {
		var timeout net.Error
		return errors.Is(err, os.ErrDeadlineExceeded) && errors.As(err, &timeout) && timeout.Timeout()
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !isTimeout(err) {
		t.Errorf("read past the deadline: %v", err)
	}
	_ = c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	for err == nil { // until all buffers on the way are full
		_, err = c.Write(make([]byte, 1<<20))
	}
	if !isTimeout(err) {
		t.Errorf("write past the deadline: %v", err)
	}
}

func testHeartbeat(t suite) {
	var last, told atomic.Int64
	a, _ := pair(t.T, t.world, func(c *Config) {
		c.Stamp = func() antipode.Stamp { return antipode.MakeStamp(7, uint16(len(c.Self))) }
		if c.Self == oregon {
			c.Observe = func(peer antipode.Region, rtt time.Duration, stamp antipode.Stamp) {
				if peer != mumbai || rtt < 0 {
					t.Errorf("observed %s at %v", peer, rtt)
				}
				last.Store(int64(stamp))
			}
			c.PeerChanged = func(_ antipode.Region, connected bool) {
				if connected {
					told.Add(1)
				}
			}
		}
	})
	if diff := cmp.Diff([]antipode.Region{mumbai}, a.Peers()); diff != "" {
		t.Error(diff)
	}
	eventually(t.T, "connected", func() bool { return a.Connected(mumbai) })
	eventually(t.T, "observed", func() bool { return last.Load() == int64(antipode.MakeStamp(7, 6)) })
	eventually(t.T, "told", func() bool { return told.Load() == 1 })
	if a.Connected("atlantis") || a.RTT("atlantis") != 0 || a.LeastRTT("atlantis") != 0 {
		t.Error("an unknown region is connected")
	}
}

// testPing measures a round trip: at least what the link is set to wait.
func testPing(t suite) {
	a, _ := pair(t.T, t.world)
	const delay = 30 * time.Millisecond
	if err := a.SetDelay(mumbai, delay, 0); err != nil {
		t.Fatal(err)
	}
	if is, err := a.Delay(mumbai); err != nil || is != delay {
		t.Errorf("the delay is %v, %v; want %v", is, err, delay)
	}
	if rtt, err := a.Ping(t.Context(), mumbai); err != nil || rtt < delay {
		t.Errorf("a ping took %v, %v; want at least %v", rtt, err, delay)
	}
}

func testUnknownPeer(t suite) {
	a, _ := pair(t.T, t.world)
	_, err := a.Call(t.Context(), "atlantis", "x", nil)
	_, err2 := a.Dial(t.Context(), "atlantis", KindRaft)
	_, err3 := a.Ping(t.Context(), "atlantis")
	_, err4 := a.Delay("atlantis")
	for _, err := range []error{err, err2, err3, err4, a.Cut("atlantis", Both), a.Heal("atlantis"), a.SetDelay("atlantis", 0, 0), a.SetBandwidth("atlantis", 0)} {
		if !errors.Is(err, ErrUnknownPeer) {
			t.Errorf("got %v", err)
		}
	}
}

// testCut checks that a cut is noticed at both ends, ends live connections and
// calls, and is forgotten soon after it heals.
func testCut(t suite, d Direction) {
	a, b := pair(t.T, t.world)
	b.HandleCall("echo", echo)
	b.HandleCall("hang", func(ctx context.Context, _ antipode.Region, _ []byte) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	from := serveEcho(b, KindJournal)
	fromBack := serveEcho(a, KindJournal)
	c, err := a.Dial(t.Context(), mumbai, KindJournal)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-from
	back, err := b.Dial(t.Context(), oregon, KindJournal)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	<-fromBack
	eventually(t.T, "both connected", func() bool { return a.Connected(mumbai) && b.Connected(oregon) })

	hanging := make(chan error, 1)
	go func() {
		_, err := a.Call(t.Context(), mumbai, "hang", nil)
		hanging <- err
	}()
	if err := a.Cut(mumbai, d); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var unreachable *UnreachableError
	if err := <-hanging; !errors.As(err, &unreachable) || !unreachable.Sent || unreachable.Region != mumbai {
		t.Errorf("call that was under way: %v", err)
	}
	for _, live := range []net.Conn{c, back} {
		_, _ = io.Copy(io.Discard, live) // ends, whether with an error or with EOF
	}
	eventually(t.T, "lost at both ends", func() bool {
		return a.Stats().Peers[mumbai].Lost && b.Stats().Peers[oregon].Lost
	})
	eventually(t.T, "the handlers' connections are broken too", func() bool {
		return a.Stats().Peers[mumbai].Accepted[KindJournal] == 0 && b.Stats().Peers[oregon].Accepted[KindJournal] == 0
	})
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v to notice", took)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, ErrUnreachable) {
		t.Errorf("write to a lost peer: %v", err)
	}
	_, err = a.Call(t.Context(), mumbai, "echo", nil)
	if !errors.As(err, &unreachable) || unreachable.Sent || !errors.Is(err, ErrUnreachable) {
		t.Errorf("call while cut: %v", err)
	}
	t.Logf("while cut: %v", err)
	if _, err := a.Dial(t.Context(), mumbai, KindJournal); !errors.Is(err, ErrUnreachable) {
		t.Errorf("dial while cut: %v", err)
	}
	if err := a.Heal(mumbai); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	eventually(t.T, "connected again", func() bool { return a.Connected(mumbai) && b.Connected(oregon) })
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v to heal", took)
	}
	if _, err := a.Call(t.Context(), mumbai, "echo", nil); err != nil {
		t.Errorf("call after heal: %v", err)
	}
}

// testShortCut checks that what was on the way during a short cut arrives after it.
func testShortCut(t suite) {
	a, b := pair(t.T, t.world, func(c *Config) { c.LostAfter = 10 * time.Second })
	b.HandleCall("echo", echo)
	if _, err := a.Call(t.Context(), mumbai, "echo", nil); err != nil {
		t.Fatal(err)
	}
	for _, d := range []Direction{Outgoing, Incoming, Both} {
		if err := a.Cut(mumbai, d); err != nil {
			t.Fatal(err)
		}
		answered := make(chan error, 1)
		go func() {
			_, err := a.Call(t.Context(), mumbai, "echo", []byte("still there?"))
			answered <- err
		}()
		timer := time.NewTimer(50 * time.Millisecond)
		select {
		case err := <-answered:
			t.Errorf("an answer through a cut: %v", err)
		case <-timer.C:
		}
		if err := a.Heal(mumbai); err != nil {
			t.Fatal(err)
		}
		if err := <-answered; err != nil {
			t.Errorf("after the cut: %v", err)
		}
	}
	if n := a.Stats().Peers[mumbai].Connects; n != 1 {
		t.Errorf("connected %d times, want 1", n)
	}
}

func testRestart(t suite) {
	var changes []bool
	var mu sync.Mutex
	cfg := quick(oregon)
	cfg.PeerChanged = func(_ antipode.Region, connected bool) {
		mu.Lock()
		defer mu.Unlock()
		changes = append(changes, connected)
	}
	a := t.world.open(t.T, cfg)
	closeAtEnd(t.T, a)
	for round := range 2 {
		b := t.world.open(t.T, quick(mumbai))
		b.HandleCall("round", func(context.Context, antipode.Region, []byte) ([]byte, error) {
			return []byte{byte(round)}, nil
		})
		from := serveEcho(b, KindRaft)
		eventually(t.T, "connected", func() bool { return a.Connected(mumbai) })
		if got, err := a.Call(t.Context(), mumbai, "round", nil); err != nil || got[0] != byte(round) {
			t.Errorf("round %d: %v, %v", round, got, err)
		}
		c, err := a.Dial(t.Context(), mumbai, KindRaft)
		if err != nil {
			t.Fatal(err)
		}
		<-from
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("read from a region that is down")
		}
		_ = c.Close()
		eventually(t.T, "not connected", func() bool { return !a.Connected(mumbai) })
		eventually(t.T, "told to be lost", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(changes) == 2*round+2
		})
		if !a.Stats().Peers[mumbai].Lost {
			t.Error("told to be lost, but is not")
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]bool{true, false, true, false}, changes); diff != "" {
		t.Error(diff)
	}
}

// testPanic checks that a handler's panic is the caller's error, and not the end.
func testPanic(t suite) {
	var log logBuffer
	a, b := pair(t.T, t.world, patient, func(c *Config) { c.Logger = log.logger() })
	b.HandleCall("panic", func(context.Context, antipode.Region, []byte) ([]byte, error) { panic("at the disco") })
	b.HandleCall("echo", echo)
	var unreachable *UnreachableError
	if _, err := a.Call(t.Context(), mumbai, "panic", nil); !errors.As(err, &unreachable) || !unreachable.Sent {
		t.Errorf("got %v", err)
	}
	if !log.contains("call handler panicked", "at the disco") {
		t.Error("the panic is not in the log")
	}
	if _, err := a.Call(t.Context(), mumbai, "echo", nil); err != nil {
		t.Errorf("call after a panic: %v", err)
	}
}

func testClose(t suite) {
	a, b := pair(t.T, t.world, patient)
	ended := make(chan struct{})
	started := make(chan struct{}, 2)
	b.HandleConn(KindRaft, func(ctx context.Context, _ antipode.Region, c net.Conn) {
		started <- struct{}{}
		_, _ = io.Copy(io.Discard, c)
		<-ctx.Done()
		close(ended)
	})
	b.HandleCall("hang", func(ctx context.Context, _ antipode.Region, _ []byte) ([]byte, error) {
		started <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	})
	c, err := a.Dial(t.Context(), mumbai, KindRaft)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answered := make(chan error, 1)
	go func() {
		_, err := a.Call(t.Context(), mumbai, "hang", nil)
		answered <- err
	}()
	<-started
	<-started
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-ended:
	default:
		t.Error("Close did not wait for a handler")
	}
	if err := <-answered; err == nil {
		t.Error("a call to a closed region was answered")
	}
	if err := b.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	for _, f := range []func() error{
		func() error { _, err := b.Call(t.Context(), oregon, "x", nil); return err },
		func() error { _, err := b.Dial(t.Context(), oregon, KindRaft); return err },
	} {
		if err := f(); !errors.Is(err, ErrClosed) || !errors.Is(err, ErrUnreachable) {
			t.Errorf("after Close: %v", err)
		}
	}
	if !slices.Equal(b.Peers(), []antipode.Region{oregon}) {
		t.Error("peers are gone")
	}
}

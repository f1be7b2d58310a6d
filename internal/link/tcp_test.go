package link

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/link/identity"
)

// logBuffer collects a log that several goroutines write.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) contains(parts ...string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for line := range strings.Lines(b.buf.String()) {
		all := true
		for _, part := range parts {
			all = all && strings.Contains(line, part)
		}
		if all {
			return true
		}
	}
	return false
}

func (b *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

func newIdentity(t testing.TB, region antipode.Region) *identity.Identity {
	t.Helper()
	id, err := identity.New(region, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestForeignCertificate has a region of the right name come with a root of its
// own: both sides say what is wrong, and nothing gets through.
func TestForeignCertificate(t *testing.T) {
	w := newTCPWorld(t, false, oregon, mumbai)
	var atOregon, atMumbai logBuffer
	cfg := quick(oregon)
	cfg.Logger = atOregon.logger()
	a := w.open(t, cfg)
	cfg = quick(mumbai)
	cfg.Logger, cfg.Identity = atMumbai.logger(), newIdentity(t, mumbai)
	b := w.open(t, cfg)
	closeAtEnd(t, a, b)
	b.HandleCall("echo", echo)

	eventually(t, "oregon tells that mumbai's certificate is signed by an unknown root", func() bool {
		return atOregon.contains("link refused", "not trusted", "mumbai", "unknown authority") &&
			atOregon.contains("link is down", "not trusted", "unknown authority")
	})
	eventually(t, "mumbai learns that it is refused", func() bool {
		return atMumbai.contains("link is down", "peer=oregon", "refuses this region's certificate")
	})
	if _, err := a.Call(t.Context(), mumbai, "echo", nil); !errors.Is(err, ErrUnreachable) || !errors.Is(err, ErrNotTrusted) {
		t.Errorf("call: %v", err)
	}
	if _, err := b.Call(t.Context(), oregon, "echo", nil); !errors.Is(err, ErrUnreachable) {
		t.Errorf("call back: %v", err)
	}
	if a.Stats().Refused == 0 {
		t.Error("nothing was counted as refused")
	}
}

// TestWrongRegion has mumbai's address lead to a trusted, but other region.
func TestWrongRegion(t *testing.T) {
	w := newTCPWorld(t, false, oregon, mumbai, "paris")
	w.addresses[mumbai] = w.addresses["paris"]
	var log logBuffer
	cfg := quick(oregon)
	cfg.Logger = log.logger()
	a := w.open(t, cfg)
	p := w.open(t, quick("paris"))
	closeAtEnd(t, a, p)
	eventually(t, "the wrong region is named", func() bool {
		return log.contains("peer=mumbai", "the other end is region paris, not mumbai")
	})
}

// TestTrustRemoval checks that distrusting a region closes what is live at once,
// refuses what is new, and is undone by trusting it again.
func TestTrustRemoval(t *testing.T) {
	a, b := pair(t, newTCPWorld(t, false, oregon, mumbai))
	a.HandleCall("echo", echo)
	serveEcho(a, KindJournal)
	c, err := b.Dial(t.Context(), oregon, KindJournal)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	trust := a.Trust()
	a.SetTrust(trust.Without(mumbai))
	began := time.Now()
	if _, err := c.Read(make([]byte, 1)); err == nil || time.Since(began) > 300*time.Millisecond {
		t.Errorf("a connection outlived the trust in its region by %v: %v", time.Since(began), err)
	}
	for kind, n := range a.Stats().Peers[mumbai].Accepted {
		if kind != KindRPC || n != 1 { // the server is still closing that one
			t.Errorf("%d connections of kind %s are left", n, kind)
		}
	}
	eventually(t, "b is refused", func() bool {
		_, err := b.Call(t.Context(), oregon, "echo", nil)
		return errors.Is(err, ErrUnreachable) && b.Stats().Peers[oregon].Lost
	})
	if _, err := a.Dial(t.Context(), mumbai, KindJournal); !errors.Is(err, ErrUnreachable) {
		t.Errorf("dial to a distrusted region: %v", err)
	}
	a.SetTrust(trust)
	eventually(t, "trusted again", func() bool { return b.Connected(oregon) && a.Connected(mumbai) })
}

// TestStrangers checks that who lacks a certificate or a purpose gets nothing.
func TestStrangers(t *testing.T) {
	w := newTCPWorld(t, false, oregon, mumbai)
	a := w.open(t, quick(oregon))
	closeAtEnd(t, a)
	a.HandleConn(KindRaft, func(context.Context, antipode.Region, net.Conn) { t.Error("a stranger was let in") })
	cert, err := w.ids[mumbai].Certificate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := newIdentity(t, mumbai).Certificate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*tls.Config{
		"no certificate":      {NextProtos: []string{string(KindRaft)}},
		"no protocol":         {Certificates: []tls.Certificate{*cert}},
		"unknown protocol":    {Certificates: []tls.Certificate{*cert}, NextProtos: []string{"h2"}},
		"foreign certificate": {Certificates: []tls.Certificate{*foreign}, NextProtos: []string{string(KindRaft)}},
		"join, not offered":   {Certificates: []tls.Certificate{*cert}, NextProtos: []string{string(kindJoin)}},
		"TLS 1.2":             {Certificates: []tls.Certificate{*cert}, NextProtos: []string{string(KindRaft)}, MaxVersion: tls.VersionTLS12},
	} {
		c.InsecureSkipVerify = true
		conn, err := tls.Dial("tcp", a.Addr().String(), c)
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	plain, err := net.Dial("tcp", a.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	_, _ = plain.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	if _, err := io.Copy(io.Discard, plain); err != nil {
		t.Logf("plain text: %v", err)
	}
}

// TestNotEmulated checks that links without emulation have no wrapper and say so.
func TestNotEmulated(t *testing.T) {
	w := newTCPWorld(t, false, oregon, mumbai)
	a, b := pair(t, w)
	serveEcho(b, KindBlob)
	c, err := a.Dial(t.Context(), mumbai, KindBlob)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	wrapped, ok := c.(*conn)
	if !ok {
		t.Fatalf("%T", c)
	}
	secure, ok := wrapped.Conn.(*tls.Conn)
	if !ok {
		t.Fatalf("%T", wrapped.Conn)
	}
	if _, ok := secure.NetConn().(*net.TCPConn); !ok {
		t.Errorf("below TLS is %T, want a bare *net.TCPConn", secure.NetConn())
	}
	for _, err := range []error{a.Cut(mumbai, Both), a.Heal(mumbai), a.SetDelay(mumbai, 1, 1), a.SetBandwidth(mumbai, 1)} {
		if !errors.Is(err, ErrNotEmulated) {
			t.Errorf("got %v", err)
		}
	}
	if !a.Stats().UserTimeout {
		t.Log("no TCP_USER_TIMEOUT on this system")
	}
}

// TestEmulatedDelay checks the round trips of handshakes and calls over sockets:
// never early, and late by little. The bound is loose, as machines are shared.
func TestEmulatedDelay(t *testing.T) {
	const oneWay = 25 * time.Millisecond
	w := newTCPWorld(t, true, oregon, mumbai)
	a, b := pair(t, w, func(c *Config) {
		c.DialTimeout, c.LostAfter = 5*time.Second, 3*time.Second
		c.Emulation = &Emulation{Peers: map[antipode.Region]Shape{oregon: {Delay: oneWay}, mumbai: {Delay: oneWay}}}
	})
	b.HandleCall("echo", echo)
	if _, err := a.Call(t.Context(), mumbai, "echo", nil); err != nil {
		t.Fatal(err)
	}
	best := time.Hour
	for range 10 {
		began := time.Now()
		if _, err := a.Call(t.Context(), mumbai, "echo", make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(began))
	}
	t.Logf("best round trip %v of %v", best, 2*oneWay)
	if best < 2*oneWay || best > 2*oneWay+10*time.Millisecond {
		t.Errorf("round trip %v, want %v", best, 2*oneWay)
	}
	serveEcho(b, KindBlob)
	began := time.Now()
	c, err := a.Dial(t.Context(), mumbai, KindBlob)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if took := time.Since(began); took < 4*oneWay {
		t.Errorf("connecting took %v, want the round trips of TCP and TLS: %v", took, 4*oneWay)
	}
	if err := a.SetDelay(mumbai, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := b.SetDelay(oregon, 0, 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the delay is gone", func() bool {
		began := time.Now()
		_, err := a.Call(t.Context(), mumbai, "echo", nil)
		return err == nil && time.Since(began) < oneWay
	})
}

// TestMemoryDelay checks, in virtual time, that each direction has exactly its
// own delay, that jitter stays within bounds and keeps the order, and that
// bandwidth is shared.
func TestMemoryDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t, &memoryWorld{NewMemoryNetwork(time.Now, oregon, mumbai)}, func(c *Config) {
			c.LostAfter, c.DialTimeout = time.Minute, time.Minute
		})
		b.HandleCall("echo", echo)
		serveEcho(b, KindJournal)
		const there, back = 110*time.Millisecond + 500*time.Microsecond, 90 * time.Millisecond
		if err := errors.Join(a.SetDelay(mumbai, there, 0), b.SetDelay(oregon, back, 0)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // settled
		began := time.Now()
		c, err := a.Dial(t.Context(), mumbai, KindJournal)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if took := time.Since(began); took != 2*(there+back) {
			t.Errorf("connecting took %v, want %v", took, 2*(there+back))
		}
		began = time.Now()
		if _, err := a.Call(t.Context(), mumbai, "echo", []byte("x")); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != there+back {
			t.Errorf("call took %v, want %v", took, there+back)
		}
		time.Sleep(20 * time.Second)
		if rtt := a.RTT(mumbai); rtt < there+back-time.Millisecond || rtt > there+back {
			t.Errorf("RTT is %v, want %v", rtt, there+back)
		}
		if rtt := a.LeastRTT(mumbai); rtt != there+back {
			t.Errorf("the least RTT is %v, want %v", rtt, there+back)
		}

		if err := a.SetDelay(mumbai, there, 30*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			began = time.Now()
			want := []byte{byte(i), byte(i + 1)}
			_, _ = c.Write(want[:1])
			_, _ = c.Write(want[1:])
			got := make([]byte, 2)
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%v in place of %v, %v", got, want, err)
			}
			if took := time.Since(began); took < there+back || took > there+back+30*time.Millisecond {
				t.Errorf("with jitter %v, want %v to 30ms more", took, there+back)
			}
		}

		if err := errors.Join(a.SetDelay(mumbai, there, 0), a.SetBandwidth(mumbai, 1<<20)); err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		go func() { _, _ = c.Write(make([]byte, 4<<20)) }()
		if _, err := io.CopyN(io.Discard, c, 4<<20); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 4*time.Second || took > 4500*time.Millisecond {
			t.Errorf("4 MiB at 1 MiB/s took %v", took)
		}
	})
}

// TestMemoryDefaults runs the default times in virtual time: a cut is noticed
// within LostAfter and a heartbeat, and forgotten within MaxBackoff.
func TestMemoryDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := NewMemoryNetwork(time.Now, oregon, mumbai, "frankfurt")
		var meshes []*Mesh
		for _, r := range []antipode.Region{oregon, mumbai, "frankfurt"} {
			m, err := NewMemory(t.Context(), network, r)
			if err != nil {
				t.Fatal(err)
			}
			meshes = append(meshes, m)
			for _, peer := range m.Peers() {
				if err := m.SetDelay(peer, 110*time.Millisecond, time.Millisecond); err != nil {
					t.Fatal(err)
				}
			}
		}
		closeAtEnd(t, meshes...)
		a, b := meshes[0], meshes[1]
		b.HandleCall("echo", echo)
		for round := range 5 {
			time.Sleep(10 * time.Second)
			if err := a.Cut(mumbai, Outgoing); err != nil {
				t.Fatal(err)
			}
			time.Sleep(4 * time.Second)
			if a.Connected(mumbai) || b.Connected(oregon) || !a.Connected("frankfurt") {
				t.Errorf("round %d: 4s after a cut: %+v", round, a.Stats())
			}
			began := time.Now()
			if _, err := a.Call(t.Context(), mumbai, "echo", nil); !errors.Is(err, ErrUnreachable) || time.Since(began) != 0 {
				t.Errorf("round %d: call took %v and gave %v", round, time.Since(began), err)
			}
			time.Sleep(time.Duration(round) * 7 * time.Second)
			if err := a.Heal(mumbai); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second)
			if !a.Connected(mumbai) || !b.Connected(oregon) {
				t.Errorf("round %d: 3s after healing: %+v", round, a.Stats().Peers[mumbai])
			}
		}
	})
}

// TestConfig checks that what is missing is named.
func TestConfig(t *testing.T) {
	id := newIdentity(t, mumbai)
	_, err := Open(t.Context(), Config{Identity: id, Peers: map[antipode.Region]string{"": "x"}, LostAfter: time.Millisecond})
	for _, want := range []string{"Self", "Listen", "Now", "Peers holds this region", "LostAfter", "identity is of region mumbai"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = Open(t.Context(), Config{Self: mumbai, Identity: id, Listen: l.Addr().String(), Now: time.Now})
	if err == nil || !strings.Contains(err.Error(), "free the port") {
		t.Errorf("port in use: %v", err)
	}
}

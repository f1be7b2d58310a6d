package link

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/antipode-io/antipode"
)

// connectionState is what a peer with this certificate looks like.
func connectionState(cert *tls.Certificate) tls.ConnectionState {
	return tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert.Leaf}}
}

func benchPair(b *testing.B, emulation *Emulation) (x, y *Mesh) {
	b.Helper()
	w := newTCPWorld(b, false, oregon, mumbai)
	open := func(self antipode.Region) *Mesh {
		m, err := Open(b.Context(), w.config(Config{Self: self, Emulation: emulation}))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = m.Close() })
		return m
	}
	return open(oregon), open(mumbai)
}

// BenchmarkJournal streams 64 KiB batches over 4 connections, as journals do.
func BenchmarkJournal(b *testing.B) {
	for name, emulation := range map[string]*Emulation{
		"plain":        nil,
		"emulated 0ms": {},
		"emulated 20ms": {Peers: map[antipode.Region]Shape{
			oregon: {Delay: 20 * time.Millisecond}, mumbai: {Delay: 20 * time.Millisecond},
		}},
	} {
		b.Run(name, func(b *testing.B) {
			const batch, streams = 64 << 10, 4
			x, y := benchPair(b, emulation)
			var received sync.WaitGroup
			received.Add(streams)
			y.HandleConn(KindJournal, func(_ context.Context, _ antipode.Region, c net.Conn) {
				defer received.Done()
				_, _ = io.Copy(io.Discard, c)
			})
			conns := make([]net.Conn, streams)
			for i := range conns {
				c, err := x.Dial(b.Context(), mumbai, KindJournal)
				if err != nil {
					b.Fatal(err)
				}
				conns[i] = c
			}
			data := make([]byte, batch)
			b.SetBytes(batch)
			b.ResetTimer()
			var senders sync.WaitGroup
			for i, c := range conns {
				senders.Go(func() {
					for n := i; n < b.N; n += streams {
						if _, err := c.Write(data); err != nil {
							b.Error(err)
							return
						}
					}
					_ = c.Close()
				})
			}
			senders.Wait()
			received.Wait()
		})
	}
}

// BenchmarkCall measures the round trip of a call with a small body.
func BenchmarkCall(b *testing.B) {
	x, y := benchPair(b, nil)
	y.HandleCall("echo", echo)
	body := make([]byte, 256)
	call := func() {
		if _, err := x.Call(b.Context(), mumbai, "echo", body); err != nil {
			b.Error(err)
		}
	}
	call()
	b.Run("one caller", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			call()
		}
	})
	b.Run("64 callers", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				call()
			}
		})
	})
}

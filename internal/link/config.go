package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/link/identity"
)

// Config says who this region is and whom it talks to.
type Config struct {
	// Self is this region. Required.
	Self antipode.Region
	// Listen is the address for everything between regions, as host:port. One of
	// Listen and Listener is required.
	Listen string
	// Listener is used in place of Listen when set. The mesh closes it.
	Listener net.Listener
	// Peers gives the addresses, as host:port, of the other regions.
	Peers map[antipode.Region]string
	// Identity is what this region proves itself with. Required.
	Identity *identity.Identity
	// Trust holds the roots of the regions that are believed. Required; see Mesh.SetTrust.
	Trust identity.Trust
	// Emulation makes the links behave like a wide-area network. Nil: off, at no cost.
	Emulation *Emulation

	// Tokens holds the join tokens that this region has given out. Nil: nobody can join here.
	Tokens *identity.Tokens
	// OnJoin tells that a region proved a join token and has this root, before
	// the region is answered. With replace the root may differ from the one that is
	// known. It spreads the root (and calls SetTrust); an error refuses the join and
	// leaves the token usable.
	OnJoin func(ctx context.Context, region antipode.Region, rootPEM string, replace bool) error

	// Stamp is what heartbeats are answered with. Nil: zero stamps.
	Stamp func() antipode.Stamp
	// Observe is told of each answered heartbeat: the round trip and the stamp
	// that the peer gave in the middle of it. It must not block. May be nil.
	Observe func(peer antipode.Region, rtt time.Duration, peerStamp antipode.Stamp)
	// PeerChanged is told when a peer becomes connected or is declared lost. It
	// must not block. May be nil.
	PeerChanged func(peer antipode.Region, connected bool)

	// Heartbeat is the time between heartbeats. Default 250 ms.
	Heartbeat time.Duration
	// SuspectAfter is how long a peer may be silent and still be taken for there by
	// Reaches. Nothing else follows from it. Default 1.5 s.
	SuspectAfter time.Duration
	// LostAfter is how long a peer may be silent before it is declared lost and
	// its connections are closed. Default 3 s.
	LostAfter time.Duration
	// DialTimeout bounds making one connection, handshake included. Default 5 s.
	DialTimeout time.Duration
	// MaxBackoff is the longest pause between attempts to reach a peer. Default 2 s.
	MaxBackoff time.Duration
	// MaxMessage bounds a call's request and its answer, in bytes. Default 64 MiB.
	MaxMessage int

	// Now reads the wall clock, with a monotonic reading as time.Now gives it. Required.
	Now func() time.Time
	// Logger takes what happens to peers. Default: discarded.
	Logger *slog.Logger
}

// Emulation is the wide-area network to emulate, per peer. A peer that is not
// named has no delay, but can be cut and shaped at run time.
type Emulation struct {
	Peers map[antipode.Region]Shape
}

// Shape says how what is sent to a peer travels. Each side shapes what it
// sends, so a symmetric link needs the same shape at both ends.
type Shape struct {
	Delay     time.Duration // one way
	Jitter    time.Duration // up to this much is added to Delay, evenly spread; the order is kept
	Bandwidth int64         // bytes per second, for all connections to the peer together; 0: no limit
}

func (c *Config) fill() error {
	setDefault(&c.Heartbeat, 250*time.Millisecond)
	setDefault(&c.SuspectAfter, 1500*time.Millisecond)
	setDefault(&c.LostAfter, 3*time.Second)
	setDefault(&c.DialTimeout, 5*time.Second)
	setDefault(&c.MaxBackoff, 2*time.Second)
	setDefault(&c.MaxMessage, 64<<20)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Stamp == nil {
		c.Stamp = func() antipode.Stamp { return 0 }
	}
	if c.Observe == nil {
		c.Observe = func(antipode.Region, time.Duration, antipode.Stamp) {}
	}
	if c.PeerChanged == nil {
		c.PeerChanged = func(antipode.Region, bool) {}
	}
	var errs []error
	if c.Self == "" {
		errs = append(errs, errors.New("link: Self is empty; name this region"))
	}
	if c.Now == nil {
		errs = append(errs, errors.New("link: Now is nil; give the wall clock"))
	}
	if _, ok := c.Peers[c.Self]; ok {
		errs = append(errs, fmt.Errorf("link: Peers holds this region, %s; leave it out", c.Self))
	}
	if c.Heartbeat < 0 || c.LostAfter < 2*c.Heartbeat {
		errs = append(errs, fmt.Errorf("link: LostAfter is %v and Heartbeat %v; LostAfter must be at least twice the Heartbeat", c.LostAfter, c.Heartbeat))
	}
	return errors.Join(errs...)
}

// validateTCP checks what only real connections need.
func (c *Config) validateTCP() error {
	var errs []error
	if c.Listen == "" && c.Listener == nil {
		errs = append(errs, errors.New("link: Listen is empty; give the address that other regions connect to, as host:port"))
	}
	switch {
	case c.Identity == nil:
		errs = append(errs, errors.New("link: Identity is nil; make one with antipode ca init"))
	case c.Identity.Region() != c.Self:
		errs = append(errs, fmt.Errorf("link: the identity is of region %s, but this is %s; point at the data directory of %s", c.Identity.Region(), c.Self, c.Self))
	}
	if c.OnJoin == nil && c.Tokens != nil {
		errs = append(errs, errors.New("link: Tokens is set without OnJoin"))
	}
	return errors.Join(errs...)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

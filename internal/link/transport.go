package link

import (
	"context"
	"crypto/x509"
	"net"

	"github.com/antipode-io/antipode"
)

// transport makes the connections that a Mesh manages: over TCP, or in memory.
type transport interface {
	// dial makes one connection to a peer that proved to be that peer.
	dial(ctx context.Context, to antipode.Region, kind Kind) (*rawConn, error)
	// serve accepts connections until the transport is closed. It returns when
	// all its goroutines have ended.
	serve(ctx context.Context, accept func(*rawConn))
	// shapes gives the emulated way to a peer; ErrNotEmulated, ErrUnknownPeer.
	shapes(peer antipode.Region) (shapes, error)
	addr() net.Addr
	close()
}

// rawConn is a connection whose other end is known.
type rawConn struct {
	net.Conn
	peer    antipode.Region
	kind    Kind
	inbound bool
	// presented are the peer's certificates; nil in memory.
	presented []*x509.Certificate
	// kill breaks the connection at once, without a goodbye that could block.
	kill func()
}

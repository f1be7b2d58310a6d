package link

import (
	"time"

	"github.com/antipode-io/antipode"
)

// Stats is the state of the links at one moment.
type Stats struct {
	// BBR and UserTimeout tell whether the sockets have BBR congestion control and
	// TCP_USER_TIMEOUT. Without BBR a long link with some loss is 8 to 15 times slower.
	BBR, UserTimeout bool
	// Refused counts connections whose other end could not prove to be a trusted region.
	Refused uint64
	Peers   map[antipode.Region]PeerStats
}

// PeerStats is the state of the links with one peer.
type PeerStats struct {
	Connected bool
	Lost      bool          // silent for Config.LostAfter
	RTT       time.Duration // smoothed; 0: not known
	Connects  uint64        // how often a connection for calls came about
	Cause     string        // why it is not connected
	Dialed    map[Kind]int  // open connections by who made them
	Accepted  map[Kind]int
}

// Stats returns the state of the links.
func (m *Mesh) Stats() Stats {
	s := Stats{Peers: make(map[antipode.Region]PeerStats, len(m.peers))}
	if tcp, ok := m.transport.(*tcpTransport); ok {
		s.BBR, s.UserTimeout, s.Refused = tcp.bbr.Load(), tcp.userTimeout.Load(), tcp.refused.Load()
	}
	for region, p := range m.peers {
		p.mu.Lock()
		peer := PeerStats{
			Connected: p.client != nil && !p.lost, Lost: p.lost, RTT: p.rtt, Connects: p.connects,
			Dialed: map[Kind]int{}, Accepted: map[Kind]int{},
		}
		if !peer.Connected {
			peer.Cause = p.cause.Error()
		}
		p.mu.Unlock()
		s.Peers[region] = peer
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.conns {
		peer, ok := s.Peers[c.peer]
		switch {
		case !ok:
		case c.inbound:
			peer.Accepted[c.kind]++
		default:
			peer.Dialed[c.kind]++
		}
	}
	return s
}

package ship

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// Sender knows what one peer lacks of one stripe.
type Sender struct {
	s      *Ship
	peer   antipode.Region
	stripe int
	codec  *codec

	mu       sync.Mutex
	welcomed bool
	origin   antipode.Origin                      // the peer's own
	sent     map[antipode.Shard]antipode.Frontier // what it holds or will, once what was sent arrives
	hears    []antipode.Region                    // whom the peer hears directly
	turn     int                                  // where Next starts looking
	copies   map[antipode.Shard]*outgoing         // shards that the peer needs a copy of: their entries are not sent
	copyNext bool                                 // it is a copy's turn, not the entries'
	offers   uint64                               // copies offered
	payload  []byte                               // memory for the next frame's
}

// NewSender returns the sender of one connection. Close it.
func (s *Ship) NewSender(peer antipode.Region, stripe int) (*Sender, error) {
	c, err := s.codec()
	if err != nil {
		return nil, err
	}
	return &Sender{s: s, peer: peer, stripe: stripe, codec: c, sent: make(map[antipode.Shard]antipode.Frontier)}, nil
}

// Close frees what the sender holds.
func (x *Sender) Close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, out := range x.copies {
		if err := out.close(); err != nil {
			x.s.cfg.Logger.Warn("close view of a shard", "shard", id.String(), "error", err)
		}
	}
	x.copies = nil
}

// Hello returns the first frame of the connection.
func (x *Sender) Hello() ([]byte, error) {
	return x.codec.sealJSON(frameHello, hello{
		Version: protocolVersion, Origin: x.s.self.String(), Stripe: x.stripe, Stripes: x.s.cfg.Stripes,
	})
}

// Receive takes a frame of the receiver's.
func (x *Sender) Receive(frame []byte) error {
	kind, payload, err := x.codec.open(frame)
	if err != nil {
		return err
	}
	switch kind {
	case frameWelcome:
		return x.welcome(payload)
	case frameAck:
		return x.ack(payload)
	case frameRewind:
		return x.rewind(payload)
	case frameAnswer:
		return x.answer(payload)
	default:
		return nil // a newer peer's: nothing here depends on it
	}
}

func (x *Sender) welcome(payload []byte) error {
	var h holding
	if err := openJSON(payload, &h); err != nil {
		return err
	}
	if h.Version != protocolVersion {
		return fmt.Errorf("%w: it speaks version %d, this region %d", ErrProtocol, h.Version, protocolVersion)
	}
	origin, err := antipode.ParseOrigin(h.Origin)
	if err != nil || origin.Region != x.peer {
		return fmt.Errorf("%w: %s says that it is %q", ErrProtocol, x.peer, h.Origin)
	}
	frontiers, err := h.frontiers()
	if err != nil {
		return err
	}
	for id, f := range frontiers {
		if mine := x.s.cfg.Journal.Shard(id).Applied().Seq(x.s.self); f.Seq(x.s.self) > mine {
			return fmt.Errorf("%w: %s has %d of %s in shard %s, here are %d", ErrForgotten, x.peer, f.Seq(x.s.self), x.s.self, id, mine)
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.welcomed, x.origin, x.hears = true, origin, h.Hears
	for id, f := range frontiers {
		x.acked(id, f, h.Filling)
		x.sent[id] = f
	}
	for _, sh := range x.s.shards(x.peer, x.stripe) {
		if _, ok := frontiers[sh.ID()]; !ok {
			sh.Acked(x.peer, antipode.Frontier{}) // whatever it held once, it doesn't any more
		}
	}
	return nil
}

func (x *Sender) ack(payload []byte) error {
	var h holding
	if err := openJSON(payload, &h); err != nil {
		return err
	}
	frontiers, err := h.frontiers()
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.hears = h.Hears
	for id, f := range frontiers {
		x.acked(id, f, h.Filling)
		x.sent[id] = x.sent[id].Join(f)
	}
	return nil
}

// acked has what the peer holds count towards stability, unless it is still being
// given what it lost.
func (x *Sender) acked(id antipode.Shard, f antipode.Frontier, filling bool) {
	if filling {
		f = antipode.Frontier{}
	}
	x.s.cfg.Journal.Shard(id).Acked(x.peer, f)
}

func (x *Sender) rewind(payload []byte) error {
	var r rewind
	if err := openJSON(payload, &r); err != nil {
		return err
	}
	id, err := antipode.ParseShard(r.Shard)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	origin, err := antipode.ParseOrigin(r.Origin)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	f := x.sent[id]
	x.sent[id] = slices.DeleteFunc(f, func(m antipode.Mark) bool { return m.Origin == origin }).With(origin, r.Seq)
	return nil
}

// sendsLocked reports whether the peer is to be sent this origin's entries.
func (x *Sender) sendsLocked(o antipode.Origin) bool {
	switch {
	case o == x.origin:
		return false // its own
	case o.Region == x.s.self.Region, o.Region == x.peer:
		return true // ours; or the peer's from before it lost its disk
	default:
		return !slices.Contains(x.hears, o.Region)
	}
}

// Next returns the next frame of entries, or nil when the peer lacks nothing
// that this member can send it.
func (x *Sender) Next() ([]byte, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.welcomed {
		return nil, nil
	}
	if x.copyNext {
		x.copyNext = false
		if frame, err := x.copyLocked(); frame != nil || err != nil {
			return frame, err
		}
	}
	shards := x.s.shards(x.peer, x.stripe)
	payload := x.payload[:0]
	for i := range shards {
		sh := shards[(x.turn+i)%len(shards)]
		var err error
		if payload, err = x.gatherLocked(payload, sh); err != nil {
			return nil, err
		}
		if len(payload) >= x.s.cfg.FrameBytes {
			x.turn = (x.turn + i + 1) % len(shards)
			break
		}
	}
	if len(payload) == 0 {
		return x.copyLocked()
	}
	if cap(payload) <= 2*x.s.cfg.FrameBytes { // a large item's is let go
		x.payload = payload
	}
	x.copyNext = len(x.copies) > 0
	return x.codec.seal(frameEntries, payload, !x.near()), nil
}

// nearRTT is the round trip below which a peer counts as near: in the same place,
// where the network carries more than can be compressed in the time, and nobody
// has to pay for it by the byte.
const nearRTT = 2 * time.Millisecond

func (x *Sender) near() bool {
	rtt := x.s.cfg.RTT(x.peer)
	return rtt > 0 && rtt < nearRTT
}

func (x *Sender) gatherLocked(payload []byte, sh *journal.Shard) ([]byte, error) {
	id := sh.ID()
	if x.copies[id] != nil {
		return payload, nil
	}
	for _, m := range sh.Durable() {
		from := x.sent[id].Seq(m.Origin)
		if from >= m.Seq || !x.sendsLocked(m.Origin) {
			continue
		}
		last := from
		err := x.s.cfg.Journal.Read(id, m.Origin, from, m.Seq, func(seq uint64, raw []byte) bool {
			if seq != last+1 {
				return false
			}
			last = seq
			payload = binary.AppendUvarint(payload, uint64(len(raw)))
			payload = append(payload, raw...)
			return len(payload) < x.s.cfg.FrameBytes
		})
		if err != nil {
			return nil, err
		}
		if last == from {
			// What the peer lacks was cut off here: it needs a copy of the items.
			if x.s.cfg.Copier != nil {
				x.wantLocked(id)
				return payload, nil
			}
			return payload, fmt.Errorf("%w: %s lacks entries of %s after %d in shard %s, which were cut off here; it has to be given a fresh copy",
				ErrTooOld, x.peer, m.Origin, from, id)
		}
		x.sent[id] = x.sent[id].With(m.Origin, last)
		if len(payload) >= x.s.cfg.FrameBytes {
			break
		}
	}
	return payload, nil
}

// prompt reports whether authors wait for the peer to have what it is sent.
func (x *Sender) prompt() bool {
	return x.s.cfg.Prompt != nil && slices.ContainsFunc(x.s.shards(x.peer, x.stripe), func(sh *journal.Shard) bool { return x.s.cfg.Prompt(sh.ID()) })
}

// Heartbeat returns a frame that tells the peer how far this member is.
func (x *Sender) Heartbeat() ([]byte, error) {
	beat := heartbeat{Stamp: x.s.cfg.Stamp(), Seqs: make(map[antipode.Shard]uint64)}
	for _, sh := range x.s.shards(x.peer, x.stripe) {
		if n := sh.DurableSeq(x.s.self); n > 0 {
			beat.Seqs[sh.ID()] = n
		}
	}
	return x.codec.sealJSON(frameHeartbeat, beat)
}

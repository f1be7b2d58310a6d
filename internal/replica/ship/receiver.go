package ship

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// Receiver takes one peer's frames of one stripe.
type Receiver struct {
	s      *Ship
	peer   antipode.Region
	codec  *codec
	names  journal.Origins // used by Receive only, whose calls don't overlap
	stripe int             // set by the hello
	origin antipode.Origin

	mu      sync.Mutex
	greeted bool
	told    map[antipode.Shard]antipode.Frontier // what the peer knows that this member holds
	filling bool                                 // and was told not to count on
	heard   []antipode.Region
	again   map[antipode.Dot]struct{} // shard and origin (no sequence) of which entries were dropped
	// ended is, per shard, how many of its copies had ended when the peer was last
	// told where to go on; copiesEnded is that over all shards.
	ended       map[antipode.Shard]uint64
	copiesEnded uint64
	// strange are the shards that the peer offered a copy of while their tables were
	// not known here. It waits to be told where to go on.
	strange map[antipode.Shard]struct{}
}

// NewReceiver returns the receiver of one connection. Close it.
func (s *Ship) NewReceiver(peer antipode.Region) (*Receiver, error) {
	c, err := s.codec()
	if err != nil {
		return nil, err
	}
	return &Receiver{
		s: s, peer: peer, codec: c, told: make(map[antipode.Shard]antipode.Frontier),
		again: make(map[antipode.Dot]struct{}), ended: make(map[antipode.Shard]uint64), strange: make(map[antipode.Shard]struct{}),
	}, nil
}

// Close says that the peer is no longer heard on this connection, and gives up a
// copy that has not come to its end.
func (r *Receiver) Close() {
	r.mu.Lock()
	greeted := r.greeted
	r.greeted = false
	r.mu.Unlock()
	if greeted {
		r.s.hear(r.peer, r.stripe, -1)
		r.abort()
	}
}

// Receive takes a frame. It returns a frame to answer with, or nil, and the
// commits that the caller has to wait for before it acknowledges.
func (r *Receiver) Receive(frame []byte) (reply []byte, commits []*journal.Commit, err error) {
	kind, payload, err := r.codec.open(frame)
	if err != nil {
		return nil, nil, err
	}
	r.mu.Lock()
	greeted := r.greeted
	r.mu.Unlock()
	switch {
	case kind == frameHello:
		reply, err = r.hello(payload)
		return reply, nil, err
	case !greeted:
		return nil, nil, fmt.Errorf("%w: %s sent a frame of kind %d before its hello", ErrProtocol, r.peer, kind)
	case kind == frameEntries:
		return r.entries(payload)
	case kind == frameCopy:
		return r.copy(payload)
	case kind == frameHeartbeat:
		beat := &heartbeat{Origin: r.origin}
		if err := openJSON(payload, beat); err != nil {
			return nil, nil, err
		}
		r.s.heartbeat(r.peer, r.stripe, beat)
	}
	return nil, nil, nil // an unknown kind is a newer peer's
}

func (r *Receiver) hello(payload []byte) ([]byte, error) {
	var h hello
	if err := openJSON(payload, &h); err != nil {
		return nil, err
	}
	if h.Version != protocolVersion {
		return nil, fmt.Errorf("%w: %s speaks version %d, this region %d", ErrProtocol, r.peer, h.Version, protocolVersion)
	}
	origin, err := antipode.ParseOrigin(h.Origin)
	if err != nil || origin.Region != r.peer {
		return nil, fmt.Errorf("%w: %s says that it is %q", ErrProtocol, r.peer, h.Origin)
	}
	if h.Stripes != r.s.cfg.Stripes || h.Stripe < 0 || h.Stripe >= h.Stripes {
		return nil, fmt.Errorf("%w: %s wants stripe %d of %d, this region has %d", ErrProtocol, r.peer, h.Stripe, h.Stripes, r.s.cfg.Stripes)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.greeted {
		return nil, fmt.Errorf("%w: %s said hello twice", ErrProtocol, r.peer)
	}
	r.greeted, r.origin, r.stripe = true, origin, h.Stripe
	r.s.hear(r.peer, r.stripe, 1)
	r.copiesEnded = r.s.copiesEnded.Load()
	for _, b := range r.s.boxes() {
		r.ended[b.shard.ID()] = b.endedCount() // before what it holds: it is told again of a copy that ends in between
	}
	r.filling = r.s.cfg.Filling() // before what it holds: should it end in between, that is told again
	all := make(map[antipode.Shard]antipode.Frontier)
	for _, sh := range r.s.shards(r.peer, r.stripe) {
		f := sh.Durable()
		all[sh.ID()], r.told[sh.ID()] = f, f
	}
	r.heard = r.s.hears(r.stripe)
	return r.codec.sealJSON(frameWelcome, holding{
		Version: protocolVersion, Origin: r.s.self.String(), Frontiers: frontiersOf(all), Hears: r.heard, Filling: r.filling,
	})
}

func (r *Receiver) entries(payload []byte) (reply []byte, commits []*journal.Commit, err error) {
	touched := make(map[antipode.Shard]*inbox)
	for len(payload) > 0 {
		n, w := binary.Uvarint(payload)
		if w <= 0 || n > uint64(len(payload)-w) {
			return nil, nil, fmt.Errorf("%w: entries cut short", ErrProtocol)
		}
		e, err := r.names.Decode(payload[w : w+int(n)])
		if err != nil {
			return nil, nil, fmt.Errorf("%w: from %s: %w", ErrProtocol, r.peer, err)
		}
		payload = payload[w+int(n):]
		if e.Dot.Origin == r.s.self || r.s.stripeOf(e.Dot.Shard) != r.stripe {
			return nil, nil, fmt.Errorf("%w: %s sent %s on stripe %d", ErrProtocol, r.peer, e.Dot, r.stripe)
		}
		b := touched[e.Dot.Shard]
		if b == nil {
			b = r.s.inbox(e.Dot.Shard)
			touched[e.Dot.Shard] = b
		}
		r.take(b, e)
	}
	ids := make([]antipode.Shard, 0, len(touched))
	for id := range touched {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		done, err := touched[id].drain()
		commits = append(commits, done...)
		if err != nil {
			return nil, commits, err
		}
	}
	return nil, commits, nil
}

func (r *Receiver) take(b *inbox, e *journal.Entry) {
	if o := b.offer(e); o == ahead || o == full {
		r.mu.Lock()
		r.again[antipode.Dot{Origin: e.Dot.Origin, Shard: e.Dot.Shard}] = struct{}{}
		r.mu.Unlock()
	}
}

// Ack returns the frames that tell the peer what became durable here since the
// last call, and of which entries it has to send again. It is called after
// commits and now and then.
func (r *Receiver) Ack() ([][]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.greeted {
		return nil, nil
	}
	var out [][]byte
	filling := r.s.cfg.Filling()
	filled := r.filling && !filling // all of it counts from now on
	r.filling = filling
	changed := make(map[antipode.Shard]antipode.Frontier)
	for _, sh := range r.s.shards(r.peer, r.stripe) {
		f := sh.Durable()
		if filled || !r.told[sh.ID()].Covers(f) {
			changed[sh.ID()], r.told[sh.ID()] = f, f
		}
	}
	heard := r.s.hears(r.stripe)
	if len(changed) > 0 || !slices.Equal(heard, r.heard) {
		r.heard = heard
		frame, err := r.codec.sealJSON(frameAck, holding{Frontiers: frontiersOf(changed), Hears: heard, Filling: filling})
		if err != nil {
			return nil, err
		}
		out = append(out, frame)
	}
	if ended := r.s.copiesEnded.Load(); ended != r.copiesEnded {
		frames, all, err := r.tellEnded()
		if err != nil {
			return nil, err
		}
		out = append(out, frames...)
		if all {
			r.copiesEnded = ended
		}
	}
	frames, err := r.tellStrange()
	if err != nil {
		return nil, err
	}
	out = append(out, frames...)
	again := slices.SortedFunc(maps.Keys(r.again), func(a, b antipode.Dot) int {
		return cmp.Or(cmp.Compare(a.Shard, b.Shard), a.Origin.Compare(b.Origin))
	})
	for _, d := range again {
		b := r.s.inbox(d.Shard)
		if !b.roomy(d.Origin) {
			continue
		}
		delete(r.again, d)
		frame, err := r.codec.sealJSON(frameRewind, rewind{Shard: d.Shard.String(), Origin: d.Origin.String(), Seq: b.last(d.Origin)})
		if err != nil {
			return nil, err
		}
		out = append(out, frame)
	}
	return out, nil
}

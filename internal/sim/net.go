package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/data/table"
	"github.com/antipode-io/antipode/internal/replica/journal"
	"github.com/antipode-io/antipode/internal/replica/ship"
)

var (
	errNotSent = errors.New("region can't be reached")
	errBroken  = errors.New("connection broke before the answer came")
)

// way is one direction between two regions.
type way struct{ from, to antipode.Region }

func (w way) back() way { return way{w.to, w.from} }

// delay draws how long something takes on the way.
func (s *simulation) delay() time.Duration {
	return s.faults.Delay/2 + s.between(0, s.faults.Delay/2+s.faults.Jitter)
}

func (s *simulation) open(w way) bool { return s.cut[w] == 0 }

// connection carries one stripe of one region's journals to another.
type connection struct {
	way
	id       int
	stripe   int
	a, b     *core // nil: that end is closed
	x        *ship.Sender
	r        *ship.Receiver
	sub      *journal.Subscription
	doomed   map[way]bool // what is sent that way never arrives
	last     map[way]time.Duration
	pumping  bool
	waiting  []*journal.Commit // for the disk
	syncing  bool
	accepted bool
}

func (n *connection) String() string { return fmt.Sprintf("%s>%s/%d#%d", n.from, n.to, n.stripe, n.id) }

// dial keeps a connection between the two regions, from when both are up.
func (s *simulation) dial(w way, stripe int, wait time.Duration) {
	s.after(wait, func() {
		a, b := s.sites[w.from].core, s.sites[w.to].core
		if s.dialled[dialling{w, stripe}] != nil {
			return
		}
		if a == nil || b == nil || !s.open(w) || !s.open(w.back()) {
			s.dial(w, stripe, s.between(100*time.Millisecond, 900*time.Millisecond))
			return
		}
		s.connections++
		n := &connection{way: w, id: s.connections, stripe: stripe, a: a, doomed: map[way]bool{}, last: map[way]time.Duration{}}
		var err error
		if n.x, err = a.ship.NewSender(w.to, stripe); err != nil {
			s.fail("%v: %v", n, err)
			return
		}
		n.sub = a.log.Subscribe(func(id antipode.Shard) bool { return id.Range()%stripes == stripe })
		s.dialled[dialling{w, stripe}] = n
		s.live = append(s.live, n)
		s.note("dial %v", n)
		frame, err := n.x.Hello()
		if err != nil {
			s.fail("%v: %v", n, err)
			return
		}
		s.send(n, n.way, frame)
		s.beat(n)
	})
}

type dialling struct {
	way
	stripe int
}

// send puts a frame on its way. What is sent in one direction of a connection
// arrives in order or, from some point on, not at all.
func (s *simulation) send(n *connection, w way, frame []byte) {
	s.inspect(n, w, frame)
	if !s.open(w) {
		n.doomed[w] = true
	}
	if n.doomed[w] {
		return
	}
	at := max(s.now()+s.delay()+s.lag[w], n.last[w]+time.Microsecond)
	n.last[w] = at
	s.after(at-s.now(), func() {
		if n.doomed[w] {
			return
		}
		s.on(w.to, func() {
			switch {
			case n.doomed[w]:
			case w == n.way:
				s.arriveForward(n, frame)
			default:
				s.arriveBack(n, frame)
			}
		})
	})
}

func (s *simulation) arriveForward(n *connection, frame []byte) {
	if n.b == nil {
		b := s.sites[n.to].core
		if n.accepted || b == nil {
			s.breakSoon(n) // that end is closed: a reset comes back
			return
		}
		r, err := b.ship.NewReceiver(n.from)
		if err != nil {
			s.fail("%v: %v", n, err)
			return
		}
		n.b, n.r, n.accepted = b, r, true
		s.tellNow(n)
	}
	s.note("%v frame %d", n, frame[0])
	n.b.inline = true
	reply, commits, err := s.bugs.receive(n, frame)
	n.b.inline = false
	s.waitFor(n, commits)
	if err != nil {
		s.complain(n, err)
		s.closeReceiver(n)
		s.breakSoon(n)
		return
	}
	if reply != nil {
		s.send(n, n.back(), reply)
	}
}

// waitFor has what a frame brought made durable soon, and acknowledges it then.
func (s *simulation) waitFor(n *connection, commits []*journal.Commit) {
	if len(commits) == 0 {
		return
	}
	n.waiting = append(n.waiting, commits...)
	if n.syncing {
		return
	}
	n.syncing = true
	b := n.b
	s.later(b.site.name, s.between(0, 15*time.Millisecond), func() { s.sync(n, b) })
}

// sync makes what has come durable, also when the connection is gone since.
func (s *simulation) sync(n *connection, b *core) {
	commits := n.waiting
	n.waiting, n.syncing = nil, false
	if b.site.core != b {
		return
	}
	s.spawn(b, func(_ context.Context, a *actor) {
		err := journal.Sync(commits...)
		s.post(a.id, func() {
			if err != nil && b.site.core == b {
				s.fail("%v: %v", n, err)
			}
			s.tell(n)
		})
	})
}

// tell sends what the receiver has to tell.
func (s *simulation) tell(n *connection) {
	if n.b == nil {
		return
	}
	frames, err := n.r.Ack()
	if err != nil {
		s.fail("%v: %v", n, err)
	}
	for _, f := range frames {
		s.send(n, n.back(), f)
	}
}

// tellNow has the receiver tell what it holds now and then.
func (s *simulation) tellNow(n *connection) {
	s.later(n.to, s.between(80*time.Millisecond, 150*time.Millisecond), func() {
		if n.b != nil {
			s.tell(n)
			s.tellNow(n)
		}
	})
}

func (s *simulation) arriveBack(n *connection, frame []byte) {
	if n.a == nil {
		s.breakSoon(n)
		return
	}
	s.note("%v back %d", n, frame[0])
	if frame[0] == frameRewind {
		s.count(statRewinds)
	}
	s.bugs.answer(n, frame)
	s.bugs.sent(n)
	if err := n.x.Receive(frame); err != nil {
		s.complain(n, err)
		s.closeSender(n)
		return
	}
	s.pump(n)
}

// beat sends heartbeats, with which a sender also looks for what there is to send.
func (s *simulation) beat(n *connection) {
	s.later(n.from, s.between(300*time.Millisecond, 500*time.Millisecond), func() {
		if n.a == nil {
			return
		}
		if n.accepted {
			frame, err := n.x.Heartbeat()
			if err != nil {
				s.fail("%v: %v", n, err)
			}
			s.send(n, n.way, frame)
			s.pump(n)
		}
		// What is sent again and again without an answer ends a connection.
		if n.doomed[n.way] || n.doomed[n.back()] || !s.open(n.back()) && s.rng.IntN(4) == 0 {
			s.breakSoon(n)
		}
		s.beat(n)
	})
}

// wake pumps connections that were told that something has become durable.
func (s *simulation) wake() {
	for _, n := range s.live {
		if n.a == nil {
			continue
		}
		select {
		case <-n.sub.C:
			s.pump(n)
		default:
		}
	}
}

// pump sends what there is to send.
func (s *simulation) pump(n *connection) {
	if n.pumping {
		return
	}
	n.pumping = true
	s.later(n.from, s.between(0, 2*time.Millisecond), func() {
		n.pumping = false
		if n.a == nil {
			return
		}
		frame, err := n.x.Next()
		if err != nil {
			s.complain(n, err)
			s.closeSender(n)
			return
		}
		if frame == nil {
			return
		}
		s.send(n, n.way, frame)
		s.pump(n)
	})
}

// complain notes what ended a connection: nothing that a peer does is wrong here.
func (s *simulation) complain(n *connection, err error) {
	if errors.Is(err, errNaive) {
		return
	}
	// A copy that comes before its table is known, or is taken when it is no longer
	// offered, ends with its connection, and is begun again.
	if s.cfg.LoseDisk && (errors.Is(err, table.ErrNoTable) || strings.Contains(err.Error(), "not offered any more")) {
		s.note("%v: %v", n, err)
		return
	}
	if s.group != nil && strings.Contains(err.Error(), "a failover is under way") {
		s.note("%v: %v", n, err) // a copy that comes in the middle of one: it is tried again
		return
	}
	s.fail("connection %v: %v", n, err)
}

// breakSoon has both ends notice, each in its time, that the connection is gone.
func (s *simulation) breakSoon(n *connection) {
	n.doomed[n.way], n.doomed[n.back()] = true, true
	s.after(s.between(0, 1500*time.Millisecond), func() { s.closeSender(n) })
	s.after(s.between(0, 1500*time.Millisecond), func() { s.closeReceiver(n) })
}

func (s *simulation) closeSender(n *connection) {
	if n.a == nil {
		return
	}
	s.note("%v sender closes", n)
	n.a.log.Unsubscribe(n.sub)
	n.x.Close()
	n.a = nil
	s.forget(n)
	delete(s.dialled, dialling{n.way, n.stripe})
	s.dial(n.way, n.stripe, s.between(25*time.Millisecond, time.Second))
}

func (s *simulation) closeReceiver(n *connection) {
	if n.b == nil {
		return
	}
	s.note("%v receiver closes", n)
	n.b.inline = true
	n.r.Close()
	n.b.inline = false
	n.b = nil
	s.forget(n)
}

func (s *simulation) forget(n *connection) {
	if n.a == nil && n.b == nil {
		s.live = slices.DeleteFunc(s.live, func(m *connection) bool { return m == n })
	}
}

// dropConnections ends what a crashed region had open; the other ends notice later.
func (s *simulation) dropConnections(c *core) {
	for _, n := range slices.Clone(s.live) {
		if n.a != c && n.b != c {
			continue
		}
		if n.a == c {
			s.closeSender(n)
		}
		if n.b == c {
			s.closeReceiver(n)
		}
		s.breakSoon(n)
	}
}

// Frames as docs/format/ship.md has them.
const (
	frameWelcome = 2
	frameEntries = 3
	frameAck     = 4
	frameRewind  = 5
	frameCopy    = 7
	frameHeader  = 6
)

func (s *simulation) payload(frame []byte) []byte {
	if frame[1]&1 == 0 {
		return frame[frameHeader:]
	}
	out, err := s.zstd.DecodeAll(frame[frameHeader:], nil)
	if err != nil {
		s.fail("frame of kind %d does not expand: %v", frame[0], err)
	}
	return out
}

// entriesOf takes a frame of entries apart.
func entriesOf(payload []byte) ([]*journal.Entry, error) {
	var out []*journal.Entry
	var names journal.Origins
	for len(payload) > 0 {
		n, w := binary.Uvarint(payload)
		if w <= 0 || n > uint64(len(payload)-w) {
			return nil, errors.New("entries cut short")
		}
		e, err := names.Decode(payload[w : w+int(n)])
		if err != nil {
			return nil, fmt.Errorf("entry in a frame: %w", err)
		}
		out = append(out, e)
		payload = payload[w+int(n):]
	}
	return out, nil
}

type holding struct {
	Version   int                          `json:"version,omitempty"`
	Origin    string                       `json:"origin,omitempty"`
	Frontiers map[string]map[string]uint64 `json:"frontiers,omitempty"`
	Hears     []antipode.Region            `json:"hears"`
}

// inspect looks at a frame as it leaves: nothing of a table that the other side
// does not keep, nothing that is not durable.
func (s *simulation) inspect(n *connection, w way, frame []byte) {
	payload := s.payload(frame)
	s.guard(w, payload)
	from := n.a
	if w != n.way {
		from = n.b
	}
	switch frame[0] {
	case frameEntries:
		all, err := entriesOf(payload)
		if err != nil {
			s.fail("%v: %v", n, err)
		}
		for _, e := range all {
			s.leaves(n, from, e)
		}
	case frameCopy:
		if s.stats[statLosses] == 0 && s.group == nil { // there, a set of replicas may be without a table for a while
			s.fail("%v: a shard is copied, though no disk was lost", n)
		}
	case frameWelcome, frameAck:
		var h holding
		if err := json.Unmarshal(payload, &h); err != nil {
			s.fail("%v: %v", n, err)
		}
		for _, shard := range sortedKeys(h.Frontiers) {
			id, err := antipode.ParseShard(shard)
			if err != nil {
				s.fail("%v: %v", n, err)
			}
			for _, name := range sortedKeys(h.Frontiers[shard]) {
				o, err := antipode.ParseOrigin(name)
				if err != nil {
					s.fail("%v: %v", n, err)
				}
				s.told(from, id, o, h.Frontiers[shard][name])
			}
		}
	}
}

// leaves notes that an entry goes to another region.
func (s *simulation) leaves(n *connection, from *core, e *journal.Entry) {
	if e.Dot.Origin.Region != from.site.name {
		s.count(statRelays)
	}
	w := s.writes[e.Dot]
	if w == nil {
		s.fail("%v: %s was sent, which its author does not have", n, e.Dot)
		return
	}
	w.left = true
	if at, ok := from.site.books.at[e.Dot]; ok && !from.store.durable(at) {
		s.suspect("%v: %s was sent before it was durable", n, e.Dot)
	}
}

// guard looks for keys and bodies of tables that the receiving region does not keep.
func (s *simulation) guard(w way, b []byte) {
	for _, id := range sortedKeys(s.tables) {
		if t := s.tables[id]; !slices.Contains(s.keepers(t), w.to) && bytes.Contains(b, []byte(mark(t.Name))) {
			s.fail("something of table %s went from %s to %s, which keeps no replica of it", t.Name, w.from, w.to)
		}
	}
}

// call is the way of a request to another region and of its answer back.
func (s *simulation) call(c *core, ctx context.Context, to antipode.Region, method string, body []byte) ([]byte, error) { //nolint:revive // the core comes first as it is the receiver
	a, ok := ctx.Value(actorKey{}).(*actor)
	if !ok {
		return nil, errNotSent
	}
	answer := make(chan reply, 1)
	q := &request{way: way{c.site.name, to}, method: method, body: body, answer: answer}
	q.deadline, q.bounded = ctx.Deadline()
	s.post(a.id, func() { s.request(q) })
	select {
	case r := <-answer:
		return r.body, r.err
	case <-ctx.Done():
		s.yield(ctx) // several calls may be given up at once
		return nil, ctx.Err()
	}
}

type reply struct {
	body []byte
	err  error
}

type request struct {
	way
	method   string
	body     []byte
	answer   chan reply
	deadline time.Time
	bounded  bool
}

// request sends a request off.
func (s *simulation) request(q *request) {
	s.guard(q.way, q.body)
	late := s.heldUp(q)
	if !s.passes(q.way) || s.sites[q.to].core == nil {
		if s.rng.IntN(2) == 0 { // known to be out of reach
			s.after(time.Millisecond, func() { s.reply(q, reply{err: errNotSent}) })
		}
		return // or nobody knows: it never arrives
	}
	s.later(q.to, s.delay()+late, func() {
		target := s.sites[q.to].core
		if target == nil {
			s.after(s.delay(), func() { s.reply(q, reply{err: errBroken}) })
			return
		}
		s.note("call %s %s>%s", q.method, q.from, q.to)
		s.spawn(target, func(ctx context.Context, a *actor) { s.serve(ctx, a, target, q) })
	})
}

// serve runs a request where it arrived.
func (s *simulation) serve(ctx context.Context, a *actor, target *core, q *request) {
	if q.bounded { // a peer is told how long its caller waits
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, q.deadline.Add(time.Nanosecond))
		defer cancel()
	}
	out, err := target.tables.Handlers()[q.method](ctx, q.from, q.body)
	s.post(a.id, func() {
		s.guard(q.back(), out)
		if target.site.core != target || !s.passes(q.back()) {
			return // crashed, or cut: no answer
		}
		s.later(q.from, s.delay(), func() { s.reply(q, reply{out, err}) })
	})
}

func (s *simulation) reply(q *request, r reply) {
	select {
	case q.answer <- r:
	default: // answered already
	}
}

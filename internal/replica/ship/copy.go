package ship

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// A region that lost its disk may lack entries that were cut off everywhere. It
// is then given a copy of the shard: the sender offers one, the receiver takes
// it, has the sender wait because it takes another's, or says what it holds
// because it needs none. Entries of the shard are not sent meanwhile.

// Copier copies the rows of shards. It may be called concurrently for different
// shards, and by a sender and a receiver at the same time.
type Copier interface {
	// Export opens a view of a shard, or returns nil if there is none to give now.
	Export(id antipode.Shard) (journal.Source, error)
	// Begin empties a shard for a copy. An error refuses it.
	Begin(id antipode.Shard) error
	// Install stores rows, in the order in which they were exported.
	Install(id antipode.Shard, rows []byte) (*journal.Commit, error)
	// Finish checks that all has come, and makes it the shard. Its Commit makes all
	// of it durable.
	Finish(id antipode.Shard, want journal.State) (*journal.Commit, error)
	// Abort empties a shard whose copy was begun, in this run or one before, and
	// has not ended.
	Abort(id antipode.Shard) error
}

// copyHeader begins the payload of a copy frame, after its length. Part 0 is the
// offer, and has no rows.
type copyHeader struct {
	Shard string `json:"shard"`
	Offer uint64 `json:"offer"` // numbers the sender's offers
	Part  uint64 `json:"part"`
	Last  bool   `json:"last,omitempty"`
	// What the copy contains, in an offer only.
	Frontier map[string]uint64 `json:"frontier,omitempty"`
	Floors   map[string]uint64 `json:"floors,omitempty"`
	Heads    map[string][]byte `json:"heads,omitempty"`
}

// answer is a receiver's word on an offer, or, with Holds, on where to go on.
type answer struct {
	Shard string            `json:"shard"`
	Offer uint64            `json:"offer,omitempty"`
	Take  bool              `json:"take,omitempty"` // send it
	Wait  bool              `json:"wait,omitempty"` // another's is being taken
	Holds map[string]uint64 `json:"holds,omitempty"`
}

func frontierOf(marks map[string]uint64) (antipode.Frontier, error) {
	f, err := antipode.ParseMarks(marks)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return f, nil
}

func (h *copyHeader) promise(state journal.State) {
	h.Frontier, h.Floors = state.Applied.Marks(), state.Floors.Marks()
	h.Heads = make(map[string][]byte, len(state.Heads))
	for o, hash := range state.Heads {
		h.Heads[o.String()] = hash[:]
	}
}

func (h *copyHeader) promised() (state journal.State, err error) {
	if state.Applied, err = frontierOf(h.Frontier); err != nil {
		return state, err
	}
	if state.Floors, err = frontierOf(h.Floors); err != nil {
		return state, err
	}
	state.Heads = make(map[antipode.Origin]journal.Hash, len(h.Heads))
	for name, hash := range h.Heads {
		o, err := antipode.ParseOrigin(name)
		if err != nil || len(hash) != len(journal.Hash{}) {
			return state, fmt.Errorf("%w: head of %q", ErrProtocol, name)
		}
		state.Heads[o] = journal.Hash(hash)
	}
	return state, nil
}

// seal makes a frame of a header and rows.
func (h *copyHeader) seal(c *codec, rows []byte) ([]byte, error) {
	head, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode frame: %w", err)
	}
	payload := binary.AppendUvarint(make([]byte, 0, len(head)+len(rows)+binary.MaxVarintLen32), uint64(len(head)))
	return c.seal(frameCopy, append(append(payload, head...), rows...), true), nil
}

func openCopy(payload []byte) (h copyHeader, id antipode.Shard, rows []byte, err error) {
	n, w := binary.Uvarint(payload)
	if w <= 0 || n > uint64(len(payload)-w) {
		return h, 0, nil, fmt.Errorf("%w: copy cut short", ErrProtocol)
	}
	if err := openJSON(payload[w:w+int(n)], &h); err != nil {
		return h, 0, nil, err
	}
	if id, err = antipode.ParseShard(h.Shard); err != nil || id.Range() >= antipode.ShardsPerSet {
		return h, 0, nil, fmt.Errorf("%w: copy of shard %q", ErrProtocol, h.Shard)
	}
	return h, id, payload[w+int(n):], nil
}

// outgoing is a copy that a sender gives, or would give.
type outgoing struct {
	number uint64
	source journal.Source // nil before it is this one's turn, and while it waits
	stage  stage
	part   uint64
}

type stage int

const (
	wanted   stage = iota // the peer lacks what was cut off here
	proposed              // and was told so
	accepted              // and takes it
	waiting               // the peer takes another's, and will say when to go on
)

func (o *outgoing) close() error {
	if o == nil || o.source == nil {
		return nil
	}
	err := o.source.Close()
	o.source = nil
	return err
}

// wantLocked remembers that the peer needs a copy of the shard.
func (x *Sender) wantLocked(id antipode.Shard) {
	if x.copies == nil {
		x.copies = make(map[antipode.Shard]*outgoing)
	}
	x.copies[id] = &outgoing{}
}

// copyLocked returns the next frame of a copy, or nil where there is none now.
// One copy is given at a time, so that no more than one view is held open.
func (x *Sender) copyLocked() ([]byte, error) {
	for _, id := range slices.Sorted(maps.Keys(x.copies)) {
		out := x.copies[id]
		switch out.stage {
		case waiting:
			continue
		case wanted:
			return x.offerLocked(id, out)
		case accepted:
			return x.partLocked(id, out)
		case proposed:
		}
		return nil, nil
	}
	return nil, nil
}

func (x *Sender) offerLocked(id antipode.Shard, out *outgoing) ([]byte, error) {
	if out.source == nil {
		source, err := x.s.cfg.Copier.Export(id)
		if err != nil {
			return nil, err
		}
		if source == nil {
			if !x.lacksLocked(id, x.s.cfg.Journal.Shard(id).Floors()) {
				delete(x.copies, id) // it came another way: entries are sent again
			}
			return nil, nil
		}
		out.source = source
	}
	state := out.source.State()
	if !x.lacksLocked(id, state.Floors) { // it came another way meanwhile
		delete(x.copies, id)
		return nil, out.close()
	}
	if !x.s.cfg.Journal.Shard(id).Durable().Covers(state.Applied) {
		return nil, nil // nothing leaves before its own fsync
	}
	x.offers++
	out.number, out.stage = x.offers, proposed
	h := copyHeader{Shard: id.String(), Offer: out.number}
	h.promise(state)
	return h.seal(x.codec, nil)
}

// lacksLocked reports whether the peer lacks entries that this sender would
// send it, and that are below the floors.
func (x *Sender) lacksLocked(id antipode.Shard, floors antipode.Frontier) bool {
	sent := x.sent[id]
	return slices.ContainsFunc(floors, func(m antipode.Mark) bool {
		return sent.Seq(m.Origin) < m.Seq && x.sendsLocked(m.Origin)
	})
}

func (x *Sender) partLocked(id antipode.Shard, out *outgoing) ([]byte, error) {
	rows, more, err := out.source.Next(nil, x.s.cfg.FrameBytes)
	if err != nil {
		return nil, err
	}
	out.part++
	h := copyHeader{Shard: id.String(), Offer: out.number, Part: out.part, Last: !more}
	if !more {
		x.sent[id] = out.source.State().Applied.Clone()
		delete(x.copies, id)
		if err := out.close(); err != nil {
			return nil, err
		}
		x.s.cfg.Logger.Info("gave a copy of a shard", "shard", id.String(), "peer", string(x.peer), "parts", out.part)
	}
	return h.seal(x.codec, rows)
}

// answer takes the peer's word on a copy.
func (x *Sender) answer(payload []byte) error {
	var a answer
	if err := openJSON(payload, &a); err != nil {
		return err
	}
	id, err := antipode.ParseShard(a.Shard)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	holds, err := frontierOf(a.Holds)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	out := x.copies[id]
	mine := out != nil && out.number == a.Offer && out.stage == proposed
	switch {
	case a.Take && out == nil:
		// It said in between what it holds, and lacks nothing. Its copy ends with
		// the connection.
		return fmt.Errorf("%w: %s takes a copy of shard %s that is not offered any more", ErrProtocol, x.peer, id)
	case a.Take && mine:
		out.stage = accepted
	case a.Wait && mine:
		out.stage = waiting
		return out.close()
	case a.Take, a.Wait: // on an offer that was renewed since
	default:
		delete(x.copies, id)
		x.sent[id] = holds // it counts once the peer says so in an acknowledgement
		return out.close()
	}
	return nil
}

// incoming is a copy that a shard is made of.
type incoming struct {
	from  *Receiver
	offer uint64
	part  uint64
	want  journal.State
}

// copy takes a copy frame.
func (r *Receiver) copy(payload []byte) (reply []byte, commits []*journal.Commit, err error) {
	h, id, rows, err := openCopy(payload)
	if err != nil {
		return nil, nil, err
	}
	members := r.s.cfg.Members(id)
	if len(members) == 0 && h.Part == 0 && r.s.cfg.Copier != nil {
		// The tables of this set are not known here yet, or no more, and the peer
		// has not heard of that: it is told once they are.
		r.mu.Lock()
		r.strange[id] = struct{}{}
		r.mu.Unlock()
		reply, err = r.codec.sealJSON(frameAnswer, answer{Shard: h.Shard, Offer: h.Offer, Wait: true})
		return reply, nil, err
	}
	if r.s.cfg.Copier == nil || r.s.stripeOf(id) != r.stripe || !slices.Contains(members, r.peer) {
		return nil, nil, fmt.Errorf("%w: %s sent a copy of shard %s on stripe %d", ErrProtocol, r.peer, id, r.stripe)
	}
	b := r.s.inbox(id)
	b.mu.Lock()
	defer b.mu.Unlock()
	if h.Part == 0 {
		reply, err = r.consider(b, &h)
		return reply, nil, explainCopy(err)
	}
	if b.copy == nil || b.copy.from != r || b.copy.offer != h.Offer {
		return nil, nil, nil // of an offer that was refused
	}
	if b.copy.part++; h.Part != b.copy.part {
		return nil, nil, fmt.Errorf("%w: %s sent part %d of a copy in the place of %d", ErrProtocol, r.peer, h.Part, b.copy.part)
	}
	c, err := r.s.cfg.Copier.Install(id, rows)
	if err != nil {
		return nil, nil, explainCopy(err)
	}
	commits = append(commits, c)
	if h.Last {
		if c, err = b.finishLocked(); err != nil {
			return nil, commits, explainCopy(err)
		}
		commits = append(commits, c)
	}
	return nil, commits, nil
}

// explainCopy tells what a peer did wrong from what went wrong here.
func explainCopy(err error) error {
	if errors.Is(err, journal.ErrMalformed) {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return err
}

// consider decides on an offer.
func (r *Receiver) consider(b *inbox, h *copyHeader) ([]byte, error) {
	want, err := h.promised()
	if err != nil {
		return nil, err
	}
	id, applied := b.shard.ID(), b.shard.Applied()
	a := answer{Shard: h.Shard, Offer: h.Offer}
	switch {
	case b.copy != nil && b.copy.from != r:
		a.Wait = true
		return r.codec.sealJSON(frameAnswer, a)
	case b.copy == nil && applied.Covers(want.Floors):
		// What it lacked came another way: the entries will do.
		a.Holds = b.shard.Durable().Marks()
		return r.codec.sealJSON(frameAnswer, a)
	case applied.Seq(r.s.self) > 0:
		return nil, fmt.Errorf("%w: %s offers a copy of shard %s, because entries that this region lacks were cut off there; but %s has written to the shard, and would lose that; stop it, move its store away and start it again",
			ErrProtocol, r.peer, id, r.s.self)
	case !want.Applied.Covers(applied):
		return nil, fmt.Errorf("%w: %s offers a copy of shard %s at %v, which lacks some of %v that is applied here",
			ErrProtocol, r.peer, id, want.Applied, applied)
	}
	// From here on Close gives it up.
	b.copy = &incoming{from: r, offer: h.Offer, want: want}
	b.forgetAllLocked()
	if err := r.s.cfg.Copier.Begin(id); err != nil {
		return nil, err
	}
	r.s.cfg.Logger.Info("taking a copy of a shard", "shard", id.String(), "peer", string(r.peer))
	a.Take = true
	return r.codec.sealJSON(frameAnswer, a)
}

func (b *inbox) forgetAllLocked() {
	b.queues, b.bytes = make(map[antipode.Origin]*queue), 0
}

func (b *inbox) finishLocked() (*journal.Commit, error) {
	c, err := b.s.cfg.Copier.Finish(b.shard.ID(), b.copy.want)
	if err != nil {
		return nil, err
	}
	b.copied, b.finisher = b.copy.want.Applied, b.copy.from
	b.endLocked()
	return c, nil
}

// endLocked lets the shard's entries be applied again, and has every peer told
// where to go on: what was sent meanwhile was dropped.
func (b *inbox) endLocked() {
	b.copy = nil
	b.ended++
	b.s.copiesEnded.Add(1)
}

// abortLocked gives up a copy and leaves the shard empty.
func (b *inbox) abortLocked() error {
	if b.s.cfg.Copier == nil {
		return fmt.Errorf("shard %s: a copy of it was begun and not ended, and can't be given up without a Copier", b.shard.ID())
	}
	b.forgetAllLocked()
	b.copied, b.finisher = nil, nil
	b.endLocked()
	return b.s.cfg.Copier.Abort(b.shard.ID())
}

// abort gives up the copies that came over a connection that has ended.
func (r *Receiver) abort() {
	for _, b := range r.s.boxes() {
		b.mu.Lock()
		if b.copy != nil && b.copy.from == r {
			if err := b.abortLocked(); err != nil { // done again before the shard is used
				r.s.cfg.Logger.Warn("give up the copy of a shard", "shard", b.shard.ID().String(), "error", err)
			}
		}
		b.mu.Unlock()
	}
}

// tellStrange returns frames that tell the peer where to go on in the shards
// whose tables have become known here since it offered a copy.
func (r *Receiver) tellStrange() (frames [][]byte, err error) {
	for _, id := range slices.Sorted(maps.Keys(r.strange)) {
		if len(r.s.cfg.Members(id)) == 0 {
			continue
		}
		delete(r.strange, id)
		b := r.s.inbox(id)
		b.mu.Lock()
		busy, holds := b.copy != nil || b.shard.Copying(), b.shard.Durable()
		b.mu.Unlock()
		if busy {
			continue // it is told when that has ended
		}
		frame, err := r.codec.sealJSON(frameAnswer, answer{Shard: id.String(), Holds: holds.Marks()})
		if err != nil {
			return nil, err
		}
		frames = append(frames, frame)
	}
	return frames, nil
}

// tellEnded returns frames that tell the peer where to go on in the shards of
// which a copy has ended since it was last told; all is false where one is not
// durable yet.
func (r *Receiver) tellEnded() (frames [][]byte, all bool, err error) {
	all = true
	for _, b := range r.s.boxes() {
		id := b.shard.ID()
		if r.s.stripeOf(id) != r.stripe || !slices.Contains(r.s.cfg.Members(id), r.peer) {
			continue
		}
		b.mu.Lock()
		ended, pending, own := b.ended, b.copy != nil || b.shard.Copying(), b.finisher == r
		holds := b.shard.Durable()
		pending = pending || !holds.Covers(b.copied)
		b.mu.Unlock()
		if ended == r.ended[id] {
			continue
		}
		if pending {
			all = false
			continue
		}
		r.ended[id] = ended
		if own {
			continue // its sender knows where it ended
		}
		frame, err := r.codec.sealJSON(frameAnswer, answer{Shard: id.String(), Holds: holds.Marks()})
		if err != nil {
			return nil, false, err
		}
		frames = append(frames, frame)
	}
	return frames, all, nil
}

// Package ship carries journal entries between regions. A Sender knows what one
// peer lacks of one stripe of shards and makes frames of it; a Receiver takes a
// peer's frames, lets entries wait until they are next and what they had seen is
// applied here, and applies them. Both are passive: they are handed frames and
// asked for frames, so that a simulator can drive them one step at a time. Runner
// drives them over links, with a goroutine per connection.
//
// Any holder may serve any origin's entries. Normally a region sends what it
// wrote itself; it relays another origin's entries to a peer that says that it
// doesn't hear that region. A peer that lacks what was cut off here is given a copy
// of the shard.
//
// Ship, Sender and Receiver are safe for concurrent use.
package ship

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

var (
	// ErrForgotten is returned when a peer holds more of this member's journal
	// than this member does: its disk was lost or replaced by an old copy.
	ErrForgotten = errors.New("a peer holds writes of this region that this region no longer has")
	// ErrTooOld is returned when a peer lacks entries that were cut off here.
	ErrTooOld = errors.New("peer is too far behind")
	// ErrProtocol wraps what a peer sent and should not have.
	ErrProtocol = errors.New("peer broke the journal protocol")
)

// Session applies entries within one transaction of a shard.
type Session interface {
	// Apply adds to the transaction what the entry does to its item.
	Apply(e *journal.Entry) error
	// Committed is called once the transaction is visible, the shard being locked
	// still.
	Committed()
}

// Config is what shipping needs.
type Config struct {
	Journal *journal.Journal
	// Members returns who shares a shard: only they get its entries.
	Members func(antipode.Shard) []antipode.Region
	// Session starts applying within a transaction, the shard being locked.
	Session func(*journal.Txn) Session
	// Copier gives and takes copies of shards, where entries were cut off that a
	// peer lacks. Nil: such a peer is told ErrTooOld.
	Copier Copier
	// Filling reports whether this member is still being given what it lost with
	// its disk. What it holds until then counts nothing towards stability: others
	// may hold writes of its own that it does not know of yet. Nil: never.
	Filling func() bool
	// Known reports whether an entry's table is known here yet.
	Known func(*journal.Entry) bool
	// Prompt reports whether authors of the shard's entries wait for them to be
	// acknowledged, so that this is not put off. Nil: never.
	Prompt func(antipode.Shard) bool
	// Admit says when an entry may be applied; after one that has to wait may be
	// applied, Kick does so. It is asked with the shard locked, and without, where
	// the answer may be out of date. Nil: now.
	Admit func(*journal.Entry) journal.Admission
	// Stamp returns this member's clock, for heartbeats.
	Stamp func() antipode.Stamp
	// RTT returns the shortest round trip to a peer, 0 where it is not known: what is
	// sent to one that is near is not compressed. Nil: never known.
	RTT func(peer antipode.Region) time.Duration
	// Stripes is how many connections share the shards of a pair. Default 4.
	Stripes int
	// FrameBytes bounds the entries in a frame, but for one that is larger by
	// itself. Default 256 KiB.
	FrameBytes int
	// WaitingBytes bounds, per shard, the entries that wait here for others, but
	// for one of each origin. Default 8 MiB.
	WaitingBytes int
	Logger       *slog.Logger
}

// Ship is one member's shipping.
type Ship struct {
	cfg  Config
	self antipode.Origin
	// codec makes the one codec, when it is first needed.
	codec func() (*codec, error)

	copiesEnded atomic.Uint64 // over all shards

	mu      sync.Mutex
	inboxes map[antipode.Shard]*inbox
	heard   map[antipode.Region]*hearing
}

// New returns the shipping of one member.
func New(cfg Config) *Ship {
	if cfg.Stripes == 0 {
		cfg.Stripes = 4
	}
	if cfg.FrameBytes == 0 {
		cfg.FrameBytes = 256 << 10
	}
	if cfg.WaitingBytes == 0 {
		cfg.WaitingBytes = 8 << 20
	}
	if cfg.Admit == nil {
		cfg.Admit = func(*journal.Entry) journal.Admission { return journal.Now }
	}
	if cfg.RTT == nil {
		cfg.RTT = func(antipode.Region) time.Duration { return 0 }
	}
	if cfg.Filling == nil {
		cfg.Filling = func() bool { return false }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Ship{
		cfg: cfg, self: cfg.Journal.Origin(), codec: sync.OnceValues(newCodec),
		inboxes: make(map[antipode.Shard]*inbox), heard: make(map[antipode.Region]*hearing),
	}
}

// Stripes returns how many connections share the shards of a pair.
func (s *Ship) Stripes() int { return s.cfg.Stripes }

func (s *Ship) stripeOf(id antipode.Shard) int { return id.Range() % s.cfg.Stripes }

// shards lists the known shards of a stripe that the peer shares.
func (s *Ship) shards(peer antipode.Region, stripe int) []*journal.Shard {
	var out []*journal.Shard
	for _, id := range s.cfg.Journal.Shards() {
		if s.stripeOf(id) == stripe && slices.Contains(s.cfg.Members(id), peer) {
			out = append(out, s.cfg.Journal.Shard(id))
		}
	}
	return out
}

func (s *Ship) inbox(id antipode.Shard) *inbox {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.inboxes[id]
	if b == nil {
		b = &inbox{s: s, shard: s.cfg.Journal.Shard(id), queues: make(map[antipode.Origin]*queue)}
		s.inboxes[id] = b
	}
	return b
}

// boxes lists the inboxes, in the order of their shards.
func (s *Ship) boxes() []*inbox {
	s.mu.Lock()
	boxes := slices.Collect(maps.Values(s.inboxes))
	s.mu.Unlock()
	slices.SortFunc(boxes, func(a, b *inbox) int {
		if a.shard.ID() < b.shard.ID() {
			return -1
		}
		return 1
	})
	return boxes
}

// Kick applies what has waited for a table that is known now. The commits are
// the caller's to wait for.
func (s *Ship) Kick() ([]*journal.Commit, error) {
	var commits []*journal.Commit
	for _, b := range s.boxes() {
		done, err := b.drain()
		commits = append(commits, done...)
		if err != nil {
			return commits, err
		}
	}
	return commits, nil
}

// Waiting returns the bytes of entries that wait for others, over all shards.
func (s *Ship) Waiting() int {
	n := 0
	for _, b := range s.boxes() {
		b.mu.Lock()
		n += b.bytes
		b.mu.Unlock()
	}
	return n
}

// hearing is what this member knows of how far it is behind a region: per
// stripe, the connections that are open, and the last time up to which all that
// the region wrote is applied here.
type hearing struct {
	stripes []stripeHearing
}

type stripeHearing struct {
	open     int
	caughtUp antipode.Stamp // everything with a lower stamp is applied here
	held     *heartbeat     // not yet covered
	newest   *heartbeat
	at       time.Time // when the last heartbeat came
}

func (s *Ship) hear(r antipode.Region, stripe, change int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hearingLocked(r).stripes[stripe].open += change
}

func (s *Ship) hearingLocked(r antipode.Region) *hearing {
	h := s.heard[r]
	if h == nil {
		h = &hearing{stripes: make([]stripeHearing, s.cfg.Stripes)}
		s.heard[r] = h
	}
	return h
}

// hears lists the regions that are heard directly on the stripe, sorted.
func (s *Ship) hears(stripe int) []antipode.Region {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []antipode.Region
	for r, h := range s.heard {
		if h.stripes[stripe].open > 0 {
			out = append(out, r)
		}
	}
	slices.Sort(out)
	return out
}

func (s *Ship) heartbeat(r antipode.Region, stripe int, beat *heartbeat) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &s.hearingLocked(r).stripes[stripe]
	h.newest, h.at = beat, s.cfg.Stamp().Time()
	if h.held == nil {
		h.held = beat
	}
	s.catchUpLocked(h)
}

func (s *Ship) catchUpLocked(h *stripeHearing) {
	for h.held != nil {
		for id, seq := range h.held.Seqs {
			if s.cfg.Journal.Shard(id).Applied().Seq(h.held.Origin) < seq {
				return
			}
		}
		h.caughtUp = max(h.caughtUp, h.held.Stamp)
		caught := h.held
		if h.held = nil; h.newest != caught {
			h.held = h.newest
		}
	}
}

// freshFor is how long after a heartbeat a region that is caught up counts as
// having no lag at all.
const freshFor = 2 * time.Second

// Lag returns, per region heard since this member started, the age of its
// oldest write that is not applied here: 0 when all that it has told of is. For a
// region that is not heard it is the time since it last was caught up, because
// nobody here can know what it wrote since.
func (s *Ship) Lag() map[antipode.Region]time.Duration {
	now := s.cfg.Stamp().Time()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[antipode.Region]time.Duration)
	for r, h := range s.heard {
		var lag time.Duration
		for i := range h.stripes {
			st := &h.stripes[i]
			s.catchUpLocked(st)
			if st.held == nil && st.open > 0 && now.Sub(st.at) < freshFor {
				continue
			}
			if st.caughtUp != 0 {
				lag = max(lag, now.Sub(st.caughtUp.Time()))
			}
		}
		out[r] = lag
	}
	return out
}

// inbox holds a shard's entries until they can be applied.
type inbox struct {
	s     *Ship
	shard *journal.Shard

	mu     sync.Mutex // guards what follows; taken before the shard's lock
	queues map[antipode.Origin]*queue
	bytes  int

	copy     *incoming // nil while none is taken; what arrives meanwhile is dropped
	ended    uint64    // copies of the shard that have ended, well or not
	copied   antipode.Frontier
	finisher *Receiver // whose copy it was, if the last one ended well
}

// queue holds consecutive entries of one origin.
type queue struct{ entries []*journal.Entry }

type offered int

const (
	taken    offered = iota
	repeated         // it is here already
	ahead            // entries before it are missing
	full             // there is no room to let it wait
	refused          // the shard is being copied: the sender will be told where to go on
)

// offer takes an entry in, if it is the next and there is room for it to wait.
func (b *inbox) offer(e *journal.Entry) offered {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.copy != nil {
		return refused
	}
	q := b.queues[e.Dot.Origin]
	if q == nil {
		q = &queue{}
		b.queues[e.Dot.Origin] = q
	}
	switch have := b.lastLocked(e.Dot.Origin); {
	case e.Dot.Seq <= have:
		return repeated
	case e.Dot.Seq > have+1:
		return ahead
	case len(q.entries) > 0 && b.bytes+len(e.Raw()) > b.s.cfg.WaitingBytes:
		return full // but for an origin's next one: others may wait for just that
	}
	q.entries = append(q.entries, e)
	b.bytes += len(e.Raw())
	return taken
}

// last returns the last sequence of an origin that is applied or waits here.
func (b *inbox) last(o antipode.Origin) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lastLocked(o)
}

func (b *inbox) lastLocked(o antipode.Origin) uint64 {
	have := b.shard.Applied().Seq(o)
	if q := b.queues[o]; q != nil && len(q.entries) > 0 {
		have = max(have, q.entries[len(q.entries)-1].Dot.Seq)
	}
	return have
}

// roomy reports whether at least half of the room is free again, or nothing of
// the origin waits, for whose next entry there always is room.
func (b *inbox) roomy(o antipode.Origin) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.queues[o]
	return b.copy == nil && (b.bytes <= b.s.cfg.WaitingBytes/2 || q == nil || len(q.entries) == 0)
}

func (b *inbox) endedCount() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended
}

// txnBytes bounds one transaction of applied entries, and so for how long
// a local write of the shard may have to wait for it.
const txnBytes = 512 << 10

// drain applies what can be.
func (b *inbox) drain() ([]*journal.Commit, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.copy != nil {
		return nil, nil
	}
	if b.shard.Copying() { // begun in a run before, or could not be given up
		return nil, b.abortLocked()
	}
	var commits []*journal.Commit
	for {
		c, err := b.applyLocked()
		if c != nil {
			commits = append(commits, c)
		}
		if err != nil || c == nil {
			return commits, err
		}
	}
}

func (b *inbox) applyLocked() (*journal.Commit, error) {
	if !b.readyLocked() {
		return nil, nil
	}
	b.shard.Lock()
	defer b.shard.Unlock()
	txn := b.shard.Begin(b.s.cfg.Journal.NewBatch())
	a := &applying{txn: txn, session: b.s.cfg.Session(txn)}
	origins := slices.SortedFunc(maps.Keys(b.queues), antipode.Origin.Compare)
	done := make(map[antipode.Origin]int)
	for progress := true; progress && !a.full(); {
		progress = false
		for _, o := range origins {
			n, err := b.applyOrigin(a, b.queues[o].entries[done[o]:])
			if err != nil {
				txn.Discard()
				return nil, err
			}
			done[o] += n
			progress = progress || n > 0
		}
	}
	c, err := txn.CommitLater()
	if err != nil {
		return nil, err
	}
	a.session.Committed()
	for o, n := range done {
		b.forgetLocked(o, n)
	}
	return c, nil
}

// applying is a transaction of entries under way.
type applying struct {
	txn     *journal.Txn
	session Session
	some    bool // it has entries
	ended   bool // nothing more belongs into it
}

func (a *applying) full() bool { return a.ended || a.txn.Len() >= txnBytes }

// admits reports whether an entry may be applied in this transaction.
func (a *applying) admits(how journal.Admission) bool {
	switch how {
	case journal.NotYet:
		return false
	case journal.Alone:
		a.ended = true
		return !a.some
	default:
		return true
	}
}

// readyLocked reports whether anything can be applied, without the shard's lock.
func (b *inbox) readyLocked() bool {
	for o, q := range b.queues {
		for len(q.entries) > 0 {
			err := b.shard.Ready(q.entries[0])
			if err == nil && b.s.cfg.Known(q.entries[0]) && b.s.cfg.Admit(q.entries[0]) != journal.NotYet {
				return true
			}
			if !errors.Is(err, journal.ErrGap) || q.entries[0].Dot.Seq > b.shard.Applied().Seq(o) {
				break
			}
			b.forgetLocked(o, 1) // it came another way meanwhile
		}
	}
	return false
}

func (b *inbox) forgetLocked(o antipode.Origin, n int) {
	q := b.queues[o]
	for _, e := range q.entries[:n] {
		b.bytes -= len(e.Raw())
	}
	if q.entries = q.entries[n:]; len(q.entries) == 0 {
		q.entries = nil // let the array go
	}
}

// applyOrigin applies as many of the entries as it can and returns how many.
func (b *inbox) applyOrigin(a *applying, entries []*journal.Entry) (int, error) {
	for i, e := range entries {
		if a.full() || !b.s.cfg.Known(e) {
			return i, nil
		}
		if e.Dot.Seq <= a.txn.Applied().Seq(e.Dot.Origin) {
			continue // it came another way meanwhile
		}
		if !a.txn.Applied().Covers(e.Context) || !a.admits(b.s.cfg.Admit(e)) {
			return i, nil
		}
		if err := a.txn.Put(e); err != nil {
			return i, err
		}
		a.some = true
		if err := a.session.Apply(e); err != nil {
			return i, fmt.Errorf("apply %s: %w", e.Dot, err)
		}
	}
	return len(entries), nil
}

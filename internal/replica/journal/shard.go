package journal

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/engine"
)

// Shard is one shard's logs. Lock it around reading an item, deciding and
// committing; everything else takes a short lock of its own.
type Shard struct {
	id antipode.Shard
	j  *Journal

	crit  sync.Mutex               // the critical section: held from the item's read to its commit
	heads map[antipode.Origin]Hash // guarded by crit: hash of each origin's last entry
	// intake is what a copy has brought so far, guarded by crit; nil while there is none.
	intake  *intake
	copying atomic.Bool // a copy was begun and has not ended

	st      sync.Mutex // guards what follows; never held while waiting
	applied antipode.Frontier
	durable antipode.Frontier
	floors  antipode.Frontier // entries up to here were cut off
	changed chan struct{}     // closed when applied or durable rises; nil while nobody waits
	acks    map[antipode.Region]*ack
	recent  []recentEntry // own entries, consecutive, newest last
	size    int           // bytes in recent
	life    uint64        // rises when all that is stored is replaced
	copies  chan struct{} // closed when copied rises; nil while nobody waits
	hearing atomic.Int64  // who waits in WaitHeard, and is woken by what is applied, too

	// ownDurable is durable's mark of this member: what every read compares with.
	// ownFloor is that of floors.
	ownDurable, ownFloor atomic.Uint64
	// copied has, per number of other members less one, up to which own entry
	// that many hold; what it points to is not changed. keptCopied was stored last.
	copied, keptCopied atomic.Pointer[[]uint64]
}

type recentEntry struct {
	seq uint64
	raw []byte
}

// ID returns the shard's name.
func (s *Shard) ID() antipode.Shard { return s.id }

// Lock enters the shard's critical section.
func (s *Shard) Lock() { s.crit.Lock() }

// Unlock leaves it.
func (s *Shard) Unlock() { s.crit.Unlock() }

// Applied returns a copy of the frontier of what is visible here.
func (s *Shard) Applied() antipode.Frontier {
	s.st.Lock()
	defer s.st.Unlock()
	return s.applied.Clone()
}

// Durable returns a copy of the frontier of what would survive a crash.
func (s *Shard) Durable() antipode.Frontier {
	s.st.Lock()
	defer s.st.Unlock()
	return s.durable.Clone()
}

// DurableSeq returns the durable sequence of one origin.
func (s *Shard) DurableSeq(o antipode.Origin) uint64 {
	s.st.Lock()
	defer s.st.Unlock()
	return s.durable.Seq(o)
}

// Floors returns up to where each origin's entries were cut off.
func (s *Shard) Floors() antipode.Frontier {
	s.st.Lock()
	defer s.st.Unlock()
	return s.floors.Clone()
}

// Ready reports whether the entry can be applied now: nil, or ErrGap,
// ErrNotCovered or ErrOwnEcho.
func (s *Shard) Ready(e *Entry) error {
	s.st.Lock()
	defer s.st.Unlock()
	return s.j.ready(s.applied, e)
}

func (j *Journal) ready(applied antipode.Frontier, e *Entry) error {
	switch {
	case e.Dot.Origin == j.cfg.Origin:
		return ErrOwnEcho
	case applied.Seq(e.Dot.Origin)+1 != e.Dot.Seq:
		return ErrGap
	case !applied.Covers(e.Context):
		return ErrNotCovered
	}
	return nil
}

// WaitDurable returns when this member's own entry with the sequence is durable.
func (s *Shard) WaitDurable(ctx context.Context, seq uint64) error {
	if s.ownDurable.Load() >= seq {
		return nil
	}
	return s.wait(ctx, func() bool { return s.ownDurable.Load() >= seq })
}

func (s *Shard) wait(ctx context.Context, doneLocked func() bool) error {
	for blocked := false; ; blocked = true {
		s.st.Lock()
		if doneLocked() {
			s.st.Unlock()
			if blocked {
				s.j.Resume(ctx)
			}
			return nil
		}
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		ch := s.changed
		s.st.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			s.j.Resume(ctx)
			return ctx.Err()
		}
	}
}

func (s *Shard) wakeLocked() {
	if s.hearing.Load() > 0 {
		s.wakeCopiedLocked()
	}
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

func (s *Shard) readRecent(after, upto uint64, visit Visit) (done bool) {
	s.st.Lock()
	if len(s.recent) == 0 || s.recent[0].seq > after+1 {
		s.st.Unlock()
		return false
	}
	from := min(int(after+1-s.recent[0].seq), len(s.recent))
	window := s.recent[from:]
	s.st.Unlock() // entries are immutable, and the slice is only ever replaced or appended to
	for _, e := range window {
		if e.seq > upto || !visit(e.seq, e.raw) {
			return true
		}
	}
	return len(window) > 0 && window[len(window)-1].seq >= upto
}

// keepLocked remembers an own entry for sending.
func (s *Shard) keepLocked(seq uint64, raw []byte) {
	s.recent = append(s.recent, recentEntry{seq, raw})
	s.size += len(raw)
	if s.size <= s.j.cfg.RecentBytes {
		return
	}
	// Let go of half at once, into fresh memory: readers hold windows of the old.
	drop := 0
	for s.size > s.j.cfg.RecentBytes/2 && drop < len(s.recent)-1 {
		s.size -= len(s.recent[drop].raw)
		drop++
	}
	s.recent = slices.Clone(s.recent[drop:])
}

// Txn is one batch on its way into a shard. The caller holds the shard's lock
// from Begin to Commit or Discard.
type Txn struct {
	s       *Shard
	batch   engine.Batch
	applied antipode.Frontier // as it will be
	heads   []head            // of this transaction's entries, in order
	entries []*Entry          // not in the batch yet
	size    int               // of their bytes
	own     []recentEntry
}

type head struct {
	origin antipode.Origin
	hash   Hash
}

// Begin starts a transaction around a batch of the journal's store.
func (s *Shard) Begin(batch engine.Batch) *Txn {
	return &Txn{s: s, batch: batch, applied: s.Applied()}
}

// Batch returns the batch, for the rows that go with the entries.
func (t *Txn) Batch() engine.Batch { return t.batch }

// Entries returns the transaction's entries. They are not in the journal yet; the
// list is the transaction's own.
func (t *Txn) Entries() []*Entry { return t.entries }

// Len returns the size of the transaction in bytes.
func (t *Txn) Len() int { return t.batch.Len() + t.size }

// Applied returns the frontier as it is within the transaction. It is the
// transaction's own: the caller must not change it.
func (t *Txn) Applied() antipode.Frontier { return t.applied }

func (t *Txn) head(o antipode.Origin) Hash {
	for _, h := range slices.Backward(t.heads) {
		if h.origin == o {
			return h.hash
		}
	}
	return t.s.heads[o]
}

// Append numbers an entry of this member, gives it context and chain, and adds
// it to the batch.
func (t *Txn) Append(e *Entry) {
	self := t.s.j.cfg.Origin
	e.Dot = antipode.Dot{Origin: self, Shard: t.s.id, Seq: t.applied.Seq(self) + 1}
	e.Context = make(antipode.Frontier, 0, len(t.applied))
	for _, m := range t.applied {
		if m.Origin != self {
			e.Context = append(e.Context, m)
		}
	}
	e.Prev = t.head(self)
	raw := e.Encode()
	t.own = append(t.own, recentEntry{e.Dot.Seq, raw})
	t.put(e)
}

// Put adds another origin's entry to the batch after checking that it is the
// next one, that what it had seen is applied here, and that it follows from the
// one held here.
func (t *Txn) Put(e *Entry) error {
	if err := t.s.j.ready(t.applied, e); err != nil {
		return fmt.Errorf("put %s: %w", e.Dot, err)
	}
	if e.Prev != t.head(e.Dot.Origin) {
		return fmt.Errorf("put %s: %w; ask which region was restored from an old copy, and remove it", e.Dot, ErrForked)
	}
	t.put(e)
	return nil
}

func (t *Txn) put(e *Entry) {
	t.entries = append(t.entries, e)
	t.size += len(e.raw)
	t.heads = append(t.heads, head{e.Dot.Origin, sha256.Sum256(e.raw)})
	t.applied = t.applied.With(e.Dot.Origin, e.Dot.Seq)
}

// fill adds the entries to the batch, side by side: the engine finds the place
// of a row fast that follows the one before it.
func (t *Txn) fill() {
	for _, e := range t.entries {
		t.batch.Set(entryKey(e.Dot.Shard, e.Dot.Origin, e.Dot.Seq), e.raw)
	}
}

// Commit makes the batch visible and raises the applied frontier. The shard may
// be unlocked after it; the returned Commit's Wait makes it durable.
func (t *Txn) Commit() (*Commit, error) {
	t.fill()
	c, err := t.s.j.cfg.Store.Apply(t.batch)
	if err != nil {
		return nil, fmt.Errorf("commit to shard %s: %w", t.s.id, err)
	}
	return t.committed(c), nil
}

// CommitLater is Commit without asking the disk at once: for what others wrote,
// which only has to be durable before it is acknowledged. See Sync.
func (t *Txn) CommitLater() (*Commit, error) {
	t.fill()
	if err := t.s.j.cfg.Store.ApplyLater(t.batch); err != nil {
		return nil, fmt.Errorf("commit to shard %s: %w", t.s.id, err)
	}
	return t.committed(nil), nil
}

func (t *Txn) committed(c engine.Commit) *Commit {
	s := t.s
	for _, h := range t.heads {
		s.heads[h.origin] = h.hash
	}
	s.st.Lock()
	s.applied = s.applied.Join(t.applied)
	for _, r := range t.own {
		s.keepLocked(r.seq, r.raw)
	}
	s.wakeLocked()
	life := s.life
	s.st.Unlock()
	return &Commit{s: s, c: c, life: life, reached: t.applied}
}

// Discard gives up the transaction.
func (t *Txn) Discard() { t.batch.Discard() }

// Commit is a transaction that is visible and on its way to disk.
type Commit struct {
	s       *Shard
	c       engine.Commit // nil after CommitLater
	life    uint64        // of the shard, when this was committed
	reached antipode.Frontier
}

// Wait returns when the transaction is durable, and raises the durable
// frontier. It is called exactly once. Since batches become durable in the order
// in which they were applied, everything applied before is durable too.
func (c *Commit) Wait() error {
	if c.c == nil {
		return Sync(c)
	}
	if err := c.c.Wait(); err != nil {
		return fmt.Errorf("sync shard %s: %w", c.s.id, err)
	}
	c.durable()
	return nil
}

func (c *Commit) durable() {
	c.s.st.Lock()
	if c.life == c.s.life {
		c.s.durable = c.s.durable.Join(c.reached)
		c.s.ownDurable.Store(c.s.durable.Seq(c.s.j.cfg.Origin))
		c.s.wakeLocked()
	}
	c.s.st.Unlock()
	c.s.j.notify(c.s.id)
}

// Sync waits for several commits of one journal, with one sync of the disk
// where they came from CommitLater.
func Sync(commits ...*Commit) error {
	var later []*Commit
	for _, c := range commits {
		if c.c == nil {
			later = append(later, c)
			continue
		}
		if err := c.Wait(); err != nil {
			return err
		}
	}
	if len(later) == 0 {
		return nil
	}
	store := later[0].s.j.cfg.Store
	all, err := store.Apply(store.NewBatch())
	if err == nil {
		err = all.Wait()
	}
	if err != nil {
		return fmt.Errorf("sync shard %s: %w", later[0].s.id, err)
	}
	for _, c := range later {
		c.durable()
	}
	return nil
}

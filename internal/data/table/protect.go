package table

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/engine"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// protection keeps what tables promise about the loss of a region (PROTOCOL §5).
// Where the rpo is 0s, a write is answered, and shown to anybody here, once
// enough other members have it on disk. Where it is longer, no write is accepted
// while an older one has not left the region for that long.
type protection struct {
	began time.Time                // this run
	state atomic.Pointer[promises] // of the catalog as last seen

	mu        sync.Mutex // guards what follows
	loaded    bool       // stretches
	kept      time.Time  // when what others hold was stored last
	backlogs  map[antipode.Shard]*backlog
	guards    map[guardID]*guard
	looks     map[antipode.Shard]*look      // by set
	stretches map[antipode.TableID]*stretch // the open ones

	confirmed sync.Map // copiesID -> *atomic.Uint64: see confirmed
}

// copiesID names a shard's own entries that so many other members have.
type copiesID struct {
	shard    antipode.Shard
	copies   int
	forcible bool // in tables whose roles a person may give away
}

// promises are the sets of replicas that have a table with an rpo: bounded has
// those of which this region keeps a replica, prompt those with an rpo of 0s.
type promises struct {
	of              *control.State
	bounded, prompt map[antipode.Shard]bool
}

// guardID names what is waited for: copies on so many members of a set.
type guardID struct {
	set    antipode.Shard
	copies int
}

// guard knows whether it is waited for in vain.
type guard struct{ missing atomic.Bool }

// How writes are held back.
const (
	// heldBack is how long a write waits for older ones to leave the region
	// before it is refused.
	heldBack = time.Second
	// lookEvery is how old the knowledge of a set's oldest write under way may be.
	lookEvery = 20 * time.Millisecond
	// recheck is how often a waiting write looks whether it may go on without.
	recheck = 250 * time.Millisecond
	// caughtUp is the age of the oldest write under way below which members that
	// were missed count as back.
	caughtUp = time.Second
)

// promised reports whether a table of the shard's set has an rpo.
func (ts *Tables) promised(id antipode.Shard) bool { return ts.promises().bounded[id.Set()] }

// Prompt reports whether writes to the shard are answered only once others have
// acknowledged them.
func (ts *Tables) Prompt(id antipode.Shard) bool { return ts.promises().prompt[id.Set()] }

func (ts *Tables) promises() *promises {
	state := ts.cfg.Catalog()
	p := ts.protect.state.Load()
	if p != nil && p.of == state {
		return p
	}
	p = &promises{of: state}
	for _, t := range state.Tables {
		if _, ok := t.Bound(); !ok {
			continue
		}
		if p.bounded == nil {
			p.bounded, p.prompt = make(map[antipode.Shard]bool), make(map[antipode.Shard]bool)
		}
		if t.HasReplica(ts.cfg.Self) {
			p.bounded[t.Shards()] = true
		}
		if t.AckCopies() > 0 {
			p.prompt[t.Shards()] = true
		}
	}
	ts.protect.state.Store(p)
	return p
}

func (ts *Tables) guard(t *TableRef) *guard {
	ts.protect.mu.Lock()
	defer ts.protect.mu.Unlock()
	return ts.guardLocked(guardID{t.Shards(), t.AckCopies()})
}

func (ts *Tables) guardLocked(id guardID) *guard {
	g := ts.protect.guards[id]
	if g == nil {
		if ts.protect.guards == nil {
			ts.protect.guards = make(map[guardID]*guard)
		}
		g = &guard{}
		ts.protect.guards[id] = g
	}
	return g
}

// miss says that copies are waited for in vain, and wakes who may go on without.
func (ts *Tables) miss(g *guard, set antipode.Shard) {
	if g.missing.Swap(true) {
		return
	}
	for _, sh := range ts.shardsOf(set) {
		sh.Nudge()
	}
}

// mayGoOn reports whether the table's writes may be answered without copies: only
// while nobody else can be given this region's roles.
func (ts *Tables) mayGoOn(t *TableRef) bool {
	if t.Unprotected == control.UnprotectedBlock {
		return false
	}
	return t.Writes == antipode.WriteLocal || t.Pinned() || ts.cfg.Lease == nil || ts.cfg.Lease()
}

// shardsOf lists the known shards of a set.
func (ts *Tables) shardsOf(set antipode.Shard) (out []*journal.Shard) {
	for _, id := range ts.cfg.Journal.Shards() {
		if id.Set() == set.Set() {
			out = append(out, ts.cfg.Journal.Shard(id))
		}
	}
	return out
}

// holdBack holds a write back, before anything of it is done, while the table's
// promise does not allow for more.
func (ts *Tables) holdBack(ctx context.Context, t *TableRef, id antipode.Shard) error {
	if !ts.promised(id) {
		return nil
	}
	sh := ts.cfg.Journal.Shard(id)
	ts.note(sh)
	bound, ok := t.Bound()
	switch {
	case !ok:
		return nil
	case bound > 0:
		return ts.admitWithin(ctx, t, sh, bound)
	case t.Unprotected == control.UnprotectedBlock:
		return ts.admitProtected(ctx, t, sh)
	}
	return nil
}

// admitWithin waits, for a while, until no own write of the table's shards is older
// than the bound and in no other region.
func (ts *Tables) admitWithin(ctx context.Context, t *TableRef, sh *journal.Shard, bound time.Duration) error {
	age, err := ts.oldestSoon(t.Shards(), false)
	if err != nil || age <= bound {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, heldBack)
	defer cancel()
	for {
		if age, err = ts.oldestSoon(t.Shards(), true); err != nil || age <= bound {
			return err
		}
		if wait.Err() != nil {
			return fmt.Errorf("%w: table %s promises an rpo of %v, and what %s wrote in the last %v is on no disk of %v; nothing more was written; it goes on by itself once one of them is reached, see `antipode rpo`",
				ErrThrottled, t.Name, bound, ts.cfg.Self, age.Round(time.Millisecond), ts.others(sh.ID()))
		}
		// It may be another shard that is late.
		look, stop := context.WithTimeout(wait, lookEvery)
		_ = sh.WaitCopied(look, 1, sh.Copied(1)+1, nil) // it is looked again either way
		stop()
	}
}

// look is what was last seen of a set's oldest write that is in no other region.
type look struct {
	mu    sync.Mutex
	at    time.Time // when it was looked
	since time.Time // of the write; zero for none
}

func (ts *Tables) look(set antipode.Shard) *look {
	p := &ts.protect
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.looks[set]
	if l == nil {
		if p.looks == nil {
			p.looks = make(map[antipode.Shard]*look)
		}
		l = &look{}
		p.looks[set] = l
	}
	return l
}

// oldestSoon is oldest, of one other member, as it was a moment ago, unless that
// has to be known now.
func (ts *Tables) oldestSoon(set antipode.Shard, now bool) (time.Duration, error) {
	l, wall := ts.look(set), ts.cfg.Clock.Wall()
	l.mu.Lock()
	defer l.mu.Unlock()
	if now || wall.Sub(l.at) >= lookEvery || wall.Before(l.at) {
		age, err := ts.oldest(set, 1)
		if err != nil {
			return 0, err
		}
		l.at, l.since = wall, time.Time{}
		if age > 0 {
			l.since = wall.Add(-age)
		}
	}
	if l.since.IsZero() {
		return 0, nil
	}
	return wall.Sub(l.since), nil
}

// admitProtected waits until enough members are there to keep the write.
func (ts *Tables) admitProtected(ctx context.Context, t *TableRef, sh *journal.Shard) error {
	g := ts.guard(t)
	if !g.missing.Load() {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, ts.cfg.Timeout)
	defer cancel()
	again := time.NewTicker(recheck)
	defer again.Stop()
	for g.missing.Load() {
		select {
		case <-again.C:
			ts.cfg.Journal.Resume(ctx)
		case <-wait.Done():
			ts.cfg.Journal.Resume(ctx)
			return fmt.Errorf("%w: table %s promises that nothing is lost with a region, and fewer than %d of %v confirm writes; nothing was written; try again, see `antipode rpo`",
				ErrUnavailable, t.Name, t.AckCopies(), ts.others(sh.ID()))
		}
	}
	return nil
}

func (ts *Tables) others(id antipode.Shard) []antipode.Region {
	return slices.DeleteFunc(slices.Clone(ts.Members(id)), func(r antipode.Region) bool { return r == ts.cfg.Self })
}

// answerable returns when a write of this region may be answered: once enough
// members have it, or the table's writes go on without.
func (ts *Tables) answerable(ctx context.Context, t *TableRef, sh *journal.Shard, seq uint64) error {
	if err := ts.copied(ctx, t, sh, seq); err != nil {
		return fmt.Errorf("write to %s: %w: it is on disk in %s, but fewer than %d of %v have confirmed it in time; they will get it when they are reached; read the item to see, and `antipode rpo`",
			t.Name, ErrOutcomeUnknown, ts.cfg.Self, t.AckCopies(), ts.others(sh.ID()))
	}
	return nil
}

// tellable returns when an answer may tell of what is here: of own writes up to a
// sequence, and of the version that was seen, or, where that is nil, of all that is
// applied now.
func (ts *Tables) tellable(ctx context.Context, t *TableRef, sh *journal.Shard, seq uint64, seen *antipode.Dot) error {
	if err := sh.WaitDurable(ctx, seq); err != nil {
		return fmt.Errorf("%w: what was written last is not on the disk of %s in time; try again", ErrUnavailable, ts.cfg.Self)
	}
	k := t.AckCopies()
	if k == 0 || seen != nil && seen.Origin == ts.origin && ts.confirmed(t, sh, k, seq) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, ts.cfg.Timeout)
	defer cancel()
	err := ts.copied(ctx, t, sh, seq)
	switch {
	case err != nil:
	case seen == nil:
		err = sh.WaitHeld(ctx, sh.Applied())
	case seen.Origin != ts.origin: // once it is on this disk, it is in two regions
		err = sh.WaitHeld(ctx, antipode.Frontier{{Origin: seen.Origin, Seq: seen.Seq}})
	}
	if err != nil {
		return fmt.Errorf("%w: table %s promises that nothing is lost with a region, and what was written last is not yet on enough disks to be shown; try again, see `antipode rpo`",
			ErrUnavailable, t.Name)
	}
	return nil
}

// copied waits for enough members to have an own write, or for the table's
// writes to go on without: then the write is put on record. It is the same for
// whoever wrote and whoever reads.
func (ts *Tables) copied(ctx context.Context, t *TableRef, sh *journal.Shard, seq uint64) error {
	k := t.AckCopies()
	if k == 0 || ts.confirmed(t, sh, k, seq) {
		return nil
	}
	if shown, err := ts.shownWithout(t, sh.ID(), seq); shown || err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, ts.cfg.Timeout)
	defer cancel()
	g := ts.guard(t)
	without := func() bool { return g.missing.Load() && ts.mayGoOn(t) }
	patience, forcible := ts.cfg.DegradeAfter, ts.forcible(t)
	reached := sh.WaitCopied
	if forcible {
		reached = sh.WaitHeard
	}
	for {
		wait, stop := context.WithTimeout(ctx, patience)
		err := reached(wait, k, seq, without)
		stop()
		switch {
		case err == nil && ts.confirmed(t, sh, k, seq):
			return nil
		case err == nil && !forcible && sh.Copied(k) >= seq:
			if err := ts.pause(ctx, recheck); err != nil { // until the lease is back
				return err
			}
			continue
		case err == nil:
			return ts.goOn(ctx, t, sh, seq)
		case ctx.Err() != nil:
			return err
		}
		ts.miss(g, t.Shards())
		patience = recheck // the lease may be back
	}
}

// confirmed reports whether enough other members have an own write, and have it
// as one that counts: a region that took this one's roles over keeps, and
// acknowledges, what lies beyond its cutoff, too. While this region has its lease,
// nobody has taken anything over; so what was reported by then is remembered, and
// what is reported while there is no lease is not counted before there is one again.
// Where a person may have given the roles away no lease tells; but then the region
// that has them has said so in its journal, before what it reported.
func (ts *Tables) confirmed(t *TableRef, sh *journal.Shard, copies int, seq uint64) bool {
	n := sh.Copied(copies)
	if n < seq {
		return false
	}
	if t.Writes == antipode.WriteLocal {
		return true
	}
	forcible := ts.forcible(t)
	mark := ts.confirmedMark(sh.ID(), copies, forcible)
	if mark.Load() >= seq {
		return true
	}
	if forcible {
		n = sh.Heard(copies)
	}
	if n < seq || !forcible && !ts.cfg.Lease() {
		return false
	}
	for was := mark.Load(); was < n && !mark.CompareAndSwap(was, n); was = mark.Load() {
	}
	return true
}

// forcible reports whether a person may give a table's roles away unheard.
func (ts *Tables) forcible(t *TableRef) bool {
	return t.Writes != antipode.WriteLocal && (t.Pinned() || ts.cfg.Lease == nil)
}

func (ts *Tables) confirmedMark(id antipode.Shard, copies int, forcible bool) *atomic.Uint64 {
	at := copiesID{id, copies, forcible}
	m, ok := ts.protect.confirmed.Load(at)
	if !ok {
		m, _ = ts.protect.confirmed.LoadOrStore(at, new(atomic.Uint64))
	}
	mark, _ := m.(*atomic.Uint64) // nothing else is in there
	return mark
}

// maxCopies bounds the numbers of copies whose state is known at a start.
const maxCopies = 8

// confirmStored takes what the run before knew of copies for confirmed.
func (ts *Tables) confirmStored() {
	for _, id := range ts.cfg.Journal.Shards() {
		for k := 1; k <= maxCopies; k++ {
			if n := ts.cfg.Journal.Shard(id).Copied(k); n > 0 {
				ts.confirmedMark(id, k, false).Store(n)
				ts.confirmedMark(id, k, true).Store(n)
			}
		}
	}
}

// pause waits for a while.
func (ts *Tables) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		ts.cfg.Journal.Resume(ctx)
		return nil
	case <-ctx.Done():
		ts.cfg.Journal.Resume(ctx)
		return ctx.Err()
	}
}

// backlog remembers since when own writes are under way to other members: to
// within a fraction, in little room.
type backlog struct {
	marks []mark // rising
	width time.Duration
	// The entry that was last looked up, for what was written before this run.
	seq uint64
	at  time.Time
}

// mark says that entries from seq on were written at this time or later.
type mark struct {
	seq uint64
	at  time.Time
}

const (
	marksKept = 64
	minWidth  = 5 * time.Millisecond
)

// note is called before a write is numbered.
func (ts *Tables) note(sh *journal.Shard) {
	now := ts.cfg.Clock.Wall()
	next := sh.AppliedSeq(ts.origin) + 1
	ts.protect.mu.Lock()
	defer ts.protect.mu.Unlock()
	ts.backlogLocked(sh.ID()).note(next, now)
}

func (ts *Tables) backlogLocked(id antipode.Shard) *backlog {
	b := ts.protect.backlogs[id]
	if b == nil {
		if ts.protect.backlogs == nil {
			ts.protect.backlogs = make(map[antipode.Shard]*backlog)
		}
		b = &backlog{marks: make([]mark, 0, marksKept), width: minWidth}
		ts.protect.backlogs[id] = b
	}
	return b
}

func (b *backlog) note(seq uint64, at time.Time) {
	if n := len(b.marks); n > 0 {
		switch newest := &b.marks[n-1]; {
		case newest.seq == seq && at.After(newest.at):
			newest.at = at // who noted it before has not written yet, or not at all
			return
		case newest.seq >= seq || at.Sub(newest.at) < b.width:
			return
		}
	}
	if len(b.marks) == marksKept {
		for i := range marksKept / 2 {
			b.marks[i] = b.marks[2*i] // the older of two: what is under way is never taken for younger than it is
		}
		b.marks = b.marks[:marksKept/2]
		b.width *= 2
	}
	b.marks = append(b.marks, mark{seq, at})
}

// since returns the mark that stands for the entry, and forgets those before it.
func (b *backlog) since(seq uint64) (time.Time, bool) {
	n := 0
	for n < len(b.marks) && b.marks[n].seq <= seq {
		n++
	}
	if n == 0 {
		return time.Time{}, false
	}
	b.marks = append(b.marks[:0], b.marks[n-1:]...)
	if len(b.marks) < marksKept/4 && b.width > minWidth {
		b.width = max(minWidth, b.width/2)
	}
	return b.marks[0].at, true
}

// age returns for how long the shard's oldest own write that fewer members than
// that have on disk is under way; 0 when there is none.
func (ts *Tables) age(sh *journal.Shard, members int) (time.Duration, error) {
	last, held := sh.AppliedSeq(ts.origin), sh.Copied(members)
	now := ts.cfg.Clock.Wall()
	ts.protect.mu.Lock()
	defer ts.protect.mu.Unlock()
	b := ts.backlogLocked(sh.ID())
	if held >= last {
		b.marks, b.width = b.marks[:0], minWidth
		return 0, nil
	}
	if at, ok := b.since(held + 1); ok {
		return max(0, now.Sub(at)), nil
	}
	if b.seq != held+1 { // written in a run before, or while no table had an rpo
		e, err := ts.ownEntry(sh.ID(), held+1)
		if errors.Is(err, engine.ErrNotFound) {
			return 0, nil // cut off: all members had it
		}
		if err != nil {
			return 0, err
		}
		b.seq, b.at = held+1, e.Stamp.Time()
	}
	return max(0, now.Sub(b.at)), nil
}

// ownEntry reads an entry of this region's own.
func (ts *Tables) ownEntry(id antipode.Shard, seq uint64) (e *journal.Entry, err error) {
	found := engine.ErrNotFound
	err = ts.cfg.Journal.Read(id, ts.origin, seq-1, seq, func(_ uint64, raw []byte) bool {
		var names journal.Origins
		e, found = names.Decode(bytes.Clone(raw))
		return false
	})
	if err = errors.Join(err, found); err != nil {
		return nil, fmt.Errorf("read %d of shard %s: %w", seq, id, err)
	}
	return e, nil
}

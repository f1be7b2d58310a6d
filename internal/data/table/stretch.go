package table

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/engine"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// prefixStretch has what was answered without the copies that its table promises.
const prefixStretch = 'u' // table, stamp of the first write -> Stretch as JSON

// Stretch is a time in which writes of a table were answered though fewer other
// members had them on disk than the table promises. First and Last bound them, by
// their stamps. While it is Open, writes are still answered like that, or the last
// of them are not everywhere yet where they should be.
type Stretch struct {
	Table  antipode.TableID `json:"table"`
	Name   string           `json:"name"`
	Copies int              `json:"copies"` // that the table promises
	First  Unprotected      `json:"first"`
	Last   Unprotected      `json:"last"`
	Writes uint64           `json:"writes"` // from First to Last
	Open   bool             `json:"open,omitempty"`
	// Ended is when enough members had all of it, in milliseconds since the Unix epoch.
	Ended int64 `json:"ended,omitempty"`
	// Upto has, per shard, the last sequence that belongs to it.
	Upto map[antipode.Shard]uint64 `json:"upto"`
}

// Unprotected is one write that was answered without the copies promised.
type Unprotected struct {
	Dot   string         `json:"dot"`
	Stamp antipode.Stamp `json:"stamp"`
}

// stretch is one that is open.
type stretch struct {
	Stretch

	set   antipode.Shard
	row   []byte // its key
	dirty bool   // changed since it was stored
	// kept is closed once its first row is durable, or can't be made so; nil for one
	// of a run before.
	kept chan struct{}
	err  error // then this is why not
}

// add puts a write on record.
func (s *stretch) add(e *journal.Entry) {
	u := Unprotected{e.Dot.String(), e.Stamp}
	if s.First.Stamp == 0 || u.Stamp < s.First.Stamp {
		s.First = u
	}
	if u.Stamp > s.Last.Stamp {
		s.Last = u
	}
	s.Upto[e.Dot.Shard] = e.Dot.Seq
	s.Writes++
	s.dirty = true
}

// goOn puts an own write on record that is answered, or shown, without the copies
// that its table promises, along with those before it. The first one's record is
// durable before that.
func (ts *Tables) goOn(ctx context.Context, t *TableRef, sh *journal.Shard, seq uint64) error {
	p := &ts.protect
	p.mu.Lock()
	s := p.stretches[t.ID]
	if s != nil {
		err := ts.extend(s, sh, seq)
		p.mu.Unlock()
		if err == nil && s.kept != nil {
			<-s.kept
			ts.cfg.Journal.Resume(ctx)
			err = s.err
		}
		return err
	}
	s, c, err := ts.beginLocked(t, sh, seq)
	p.mu.Unlock()
	if s == nil || err != nil {
		return err // enough have it by now
	}
	// Nobody who only has to look something up waits for the disk.
	if err := c.Wait(); err != nil {
		s.err = fmt.Errorf("put unprotected writes of %s on record: %w", s.Name, err)
		p.mu.Lock()
		delete(p.stretches, t.ID)
		p.mu.Unlock()
	}
	close(s.kept)
	if s.err == nil {
		ts.cfg.Logger.Warn("writes are answered without the copies promised", "table", t.Name, "copies", s.Copies, "first", s.First.Dot)
	}
	return s.err
}

// beginLocked begins a stretch, whose row is on its way to disk then; nil where
// enough members have everything.
func (ts *Tables) beginLocked(t *TableRef, sh *journal.Shard, seq uint64) (*stretch, engine.Commit, error) {
	s := &stretch{
		Stretch: Stretch{Table: t.ID, Name: t.Name, Copies: t.AckCopies(), Open: true, Upto: make(map[antipode.Shard]uint64)},
		set:     t.Shards(), kept: make(chan struct{}),
	}
	if err := ts.extend(s, sh, seq); err != nil || s.Writes == 0 {
		return nil, nil, err
	}
	s.row = binary.BigEndian.AppendUint64(tablePrefix(prefixStretch, t.ID), uint64(s.First.Stamp))
	b := ts.cfg.Store.NewBatch()
	if err := s.put(b); err != nil {
		b.Discard()
		return nil, nil, err
	}
	c, err := ts.cfg.Store.Apply(b)
	if err != nil {
		return nil, nil, fmt.Errorf("put unprotected writes of %s on record: %w", s.Name, err)
	}
	ts.protect.stretches[t.ID] = s
	return s, c, nil
}

// extend adds the table's own writes of a shard up to a sequence that are not on
// record yet.
func (ts *Tables) extend(s *stretch, sh *journal.Shard, upto uint64) error {
	for seq := max(s.Upto[sh.ID()], sh.Copied(s.Copies)) + 1; seq <= upto; seq++ {
		e, err := ts.ownEntry(sh.ID(), seq)
		if err != nil {
			return err
		}
		if e.Mutation.Table == s.Table {
			s.add(e)
		}
	}
	return nil
}

func (s *stretch) put(b engine.Batch) error {
	text, err := json.Marshal(&s.Stretch)
	if err != nil {
		return fmt.Errorf("put unprotected writes of %s on record: %w", s.Name, err)
	}
	b.Set(s.row, text)
	s.dirty = false
	return nil
}

// shownWithout reports whether an own write has been answered without copies.
func (ts *Tables) shownWithout(t *TableRef, id antipode.Shard, seq uint64) (bool, error) {
	ts.protect.mu.Lock()
	defer ts.protect.mu.Unlock()
	if err := ts.loadStretchesLocked(); err != nil {
		return false, err
	}
	s := ts.protect.stretches[t.ID]
	if s == nil || s.Upto[id] < seq {
		return false, nil
	}
	if s.kept != nil {
		select {
		case <-s.kept:
		default:
			return false, nil // its record is on its way to disk: who asks waits for it
		}
	}
	return true, nil
}

// loadStretchesLocked reads the stretches that were open when this region
// stopped. What it wrote after they were stored last may have been answered: it
// belongs to them.
func (ts *Tables) loadStretchesLocked() error {
	p := &ts.protect
	if p.loaded {
		return nil
	}
	open := make(map[antipode.TableID]*stretch)
	err := ts.eachStretch(func(row []byte, one Stretch) error {
		if !one.Open {
			return nil
		}
		s := &stretch{Stretch: one, row: row}
		for id := range one.Upto {
			s.set = id.Set()
		}
		open[one.Table] = s
		for _, sh := range ts.shardsOf(s.set) {
			if err := ts.extend(s, sh, sh.AppliedSeq(ts.origin)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, s := range open {
		ts.guardLocked(guardID{s.set, s.Copies}).missing.Store(true)
	}
	p.stretches, p.loaded = open, true
	return nil
}

func (ts *Tables) eachStretch(visit func(row []byte, s Stretch) error) error {
	return ts.eachRow(shardSpan(prefixStretch, nil), func(key, value []byte) error {
		var s Stretch
		if err := json.Unmarshal(value, &s); err != nil {
			return fmt.Errorf("%w: unprotected writes %x: %w", engine.ErrCorrupt, key, err)
		}
		return visit(key, s)
	})
}

// Unprotected lists the times in which this region answered writes without the
// copies that their tables promise, oldest first within each table.
func (ts *Tables) Unprotected(ctx context.Context) ([]Stretch, error) {
	ts.protect.mu.Lock()
	defer ts.protect.mu.Unlock()
	if err := ts.loadStretchesLocked(); err != nil {
		return nil, fmt.Errorf("list unprotected writes: %w", err)
	}
	var out []Stretch
	err := ts.eachStretch(func(_ []byte, s Stretch) error {
		if open := ts.protect.stretches[s.Table]; open != nil && s.Open {
			s = open.Stretch
		}
		out = append(out, s)
		return ctx.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list unprotected writes: %w", err)
	}
	return out, nil
}

// Protection is how far a table keeps its promise now, in this region.
type Protection struct {
	Table  *TableRef
	Oldest time.Duration // age of the oldest write of its shards here that is in no other region, or on too few
	// Missing: the copies that it promises have been waited for in vain.
	Missing bool
}

// Protection tells of each table that has a replica here.
func (ts *Tables) Protection(ctx context.Context) ([]Protection, error) {
	var out []Protection
	for _, t := range ts.cfg.Catalog().Tables {
		if !t.HasReplica(ts.cfg.Self) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		oldest, err := ts.oldest(t.Shards(), max(1, t.AckCopies()))
		if err != nil {
			return nil, err
		}
		out = append(out, Protection{Table: t, Oldest: oldest, Missing: t.AckCopies() > 0 && ts.guard(t).missing.Load()})
	}
	slices.SortFunc(out, func(a, b Protection) int { return int(a.Table.ID) - int(b.Table.ID) })
	return out, nil
}

func (ts *Tables) oldest(set antipode.Shard, members int) (oldest time.Duration, err error) {
	for _, sh := range ts.shardsOf(set) {
		age, err := ts.age(sh, members)
		if err != nil {
			return 0, err
		}
		oldest = max(oldest, age)
	}
	return oldest, nil
}

// ProtectEvery is how often StepProtect is to be called.
const ProtectEvery = recheck

// StepProtect looks whether members that have to keep copies are missing or back,
// ends stretches, and stores what the next start wants to know. It is called each
// ProtectEvery, by one caller at a time.
func (ts *Tables) StepProtect() error {
	state := ts.cfg.Catalog()
	wanted := make(map[guardID]bool)
	for _, t := range state.Tables {
		if _, ok := t.Bound(); ok && t.HasReplica(ts.cfg.Self) {
			wanted[guardID{t.Shards(), t.AckCopies()}] = true
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	for id := range wanted {
		oldest, err := ts.oldest(id.set, max(1, id.copies))
		if err != nil {
			return fmt.Errorf("watch copies: %w", err)
		}
		if id.copies > 0 {
			ts.watch(id, oldest, tooFew(state, ts.cfg.Self, id))
		}
	}
	return ts.keepProtection()
}

// tooFew reports whether the copies can't be had because the regions agree that too
// few members are left. Who takes over from a lost region need not wait once more to
// find out what all know: its writes would stand still for that long again.
func tooFew(state *control.State, self antipode.Region, id guardID) bool {
	left := 0
	for _, name := range state.MembersOf(id.set) {
		if name != self && !state.Fenced(name) {
			left++
		}
	}
	return left < id.copies
}

// watch compares the age of the oldest write that lacks copies with what may be.
func (ts *Tables) watch(id guardID, oldest time.Duration, tooFew bool) {
	ts.protect.mu.Lock()
	g := ts.guardLocked(id)
	ts.protect.mu.Unlock()
	// Members can be missed only since this region runs.
	running := ts.cfg.Clock.Wall().Sub(ts.protect.began)
	switch {
	case tooFew, min(oldest, running) > ts.cfg.DegradeAfter:
		ts.miss(g, id.set)
	case oldest <= caughtUp && g.missing.Swap(false):
		ts.cfg.Logger.Info("copies are confirmed again", "copies", id.copies)
	}
}

// keepEvery is how often what others hold, and how far open stretches go, is stored.
const keepEvery = time.Second

func (ts *Tables) keepProtection() error {
	p := &ts.protect
	now := ts.cfg.Clock.Wall()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := ts.loadStretchesLocked(); err != nil {
		return err
	}
	due := now.Sub(p.kept) >= keepEvery || now.Before(p.kept)
	if due {
		p.kept = now
		if err := ts.cfg.Journal.KeepCopied(); err != nil {
			return err
		}
	}
	for id, s := range p.stretches {
		if _, ok := ts.cfg.Catalog().TableByID(id); !ok {
			delete(p.stretches, id) // its rows go with the table's
			continue
		}
		ends := !ts.guardLocked(guardID{s.set, s.Copies}).missing.Load() && ts.covered(s)
		if !ends && (!s.dirty || !due) {
			continue
		}
		if ends {
			s.Open, s.Ended = false, now.UnixMilli()
		}
		// A crash that takes this leaves the stretch open: it ends again.
		b := ts.cfg.Store.NewBatch()
		if err := s.put(b); err != nil {
			b.Discard()
			return err
		}
		if err := ts.cfg.Store.ApplyLater(b); err != nil {
			return fmt.Errorf("put unprotected writes of %s on record: %w", s.Name, err)
		}
		if ends {
			delete(p.stretches, id)
			ts.cfg.Logger.Info("writes that were answered without copies have them", "table", s.Name, "writes", s.Writes, "first", s.First.Dot, "last", s.Last.Dot)
		}
	}
	return nil
}

// covered reports whether enough members have all of a stretch.
func (ts *Tables) covered(s *stretch) bool {
	for id, seq := range s.Upto {
		if ts.cfg.Journal.Shard(id).Copied(s.Copies) < seq {
			return false
		}
	}
	return true
}

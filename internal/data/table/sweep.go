package table

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/engine"
	"github.com/antipode-io/antipode/internal/replica/collision"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// sweeper remembers how far stable entries were looked at, per shard.
type sweeper struct {
	mu    sync.Mutex
	swept map[antipode.Shard]antipode.Frontier
	drops map[antipode.Shard]uint64
}

// dropped counts the tombstones that were dropped from a shard in this run.
func (g *sweeper) dropped(s antipode.Shard) uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.drops[s]
}

func (g *sweeper) drop(s antipode.Shard) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.drops == nil {
		g.drops = make(map[antipode.Shard]uint64)
	}
	g.drops[s]++
}

func (g *sweeper) from(s antipode.Shard, floors antipode.Frontier) antipode.Frontier {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.swept[s]; f != nil {
		return f.Clone()
	}
	return floors
}

func (g *sweeper) reached(s antipode.Shard, o antipode.Origin, seq uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.swept == nil {
		g.swept = make(map[antipode.Shard]antipode.Frontier)
	}
	g.swept[s] = g.swept[s].With(o, seq)
}

// sweepBatch is how many entries one step looks at, so that a shard is never
// held for long.
const sweepBatch = 512

// Sweep lets go of what nobody needs any more: tombstones that are stable,
// journal entries that are stable and older than the retention, and the rows of
// deleted tables. It is called now and then, by one caller at a time.
func (ts *Tables) Sweep(ctx context.Context) error {
	if ts.fill.on.Load() {
		return nil // what is here may be replaced by a copy at any time
	}
	if err := ts.purgeDeleted(ctx); err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	for _, id := range ts.cfg.Journal.Shards() {
		members := ts.Members(id)
		if members == nil {
			continue
		}
		sh := ts.cfg.Journal.Shard(id)
		stable := sh.Stable(members)
		from := ts.gc.from(id, sh.Floors())
		for _, m := range stable {
			if err := ts.sweepOrigin(ctx, sh, m.Origin, from.Seq(m.Origin), m.Seq, stable); err != nil {
				return fmt.Errorf("sweep shard %s: %w", id, err)
			}
			if err := ts.cutOrigin(ctx, sh, m.Origin, m.Seq); err != nil {
				return fmt.Errorf("cut journal of shard %s: %w", id, err)
			}
		}
	}
	return nil
}

// sweepOrigin drops the tombstones among an origin's entries that became stable.
func (ts *Tables) sweepOrigin(ctx context.Context, sh *journal.Shard, o antipode.Origin, done, upto uint64, stable antipode.Frontier) error {
	for done < upto {
		entries, err := ts.stableEntries(sh.ID(), o, done, upto)
		if err != nil || len(entries) == 0 {
			return err
		}
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := ts.dropTombstone(sh, e, stable); err != nil {
				return err
			}
			done = e.Dot.Seq
		}
		ts.gc.reached(sh.ID(), o, done)
	}
	return nil
}

func (ts *Tables) stableEntries(id antipode.Shard, o antipode.Origin, done, upto uint64) ([]*journal.Entry, error) {
	var entries []*journal.Entry
	var names journal.Origins
	var bad error
	err := ts.cfg.Journal.Read(id, o, done, upto, func(_ uint64, raw []byte) bool {
		e, err := names.Decode(bytes.Clone(raw))
		if err != nil {
			bad = err
			return false
		}
		entries = append(entries, e)
		return len(entries) < sweepBatch
	})
	return entries, errors.Join(err, bad)
}

func (ts *Tables) dropTombstone(sh *journal.Shard, e *journal.Entry, stable antipode.Frontier) error {
	t, ok := ts.cfg.Catalog().TableByID(e.Mutation.Table)
	if !ok || !e.Mutation.Delete && t.Writes != antipode.WriteLocal {
		return nil
	}
	sh.Lock()
	c, err := ts.dropLocked(t, locateEncoded(t, e.Mutation.Key), stable)
	sh.Unlock() // nobody who writes to the shard waits for this disk access
	if err != nil || c == nil {
		return err
	}
	return c.Wait()
}

func (ts *Tables) dropLocked(t *TableRef, p place, stable antipode.Frontier) (engine.Commit, error) {
	siblings, err := ts.load(p.item)
	if err != nil {
		return nil, err
	}
	if !collision.Droppable(siblings, t.Rule, t.Priority, stable.Includes) {
		return nil, nil
	}
	b := ts.cfg.Store.NewBatch()
	b.Delete(p.item)
	c, err := ts.cfg.Store.Apply(b)
	if err != nil {
		return nil, err
	}
	ts.gc.drop(p.shard)
	return c, nil
}

// cutOrigin removes an origin's stable entries that are older than the
// retention. Versions that collided are kept, on the key's history.
func (ts *Tables) cutOrigin(ctx context.Context, sh *journal.Shard, o antipode.Origin, upto uint64) error {
	oldest := ts.cfg.Clock.Wall().Add(-ts.cfg.Retention).UnixMilli()
	for done := sh.Floors().Seq(o); done < upto; {
		if err := ctx.Err(); err != nil {
			return err
		}
		entries, err := ts.stableEntries(sh.ID(), o, done, upto)
		if err != nil {
			return err
		}
		n := 0
		for n < len(entries) && entries[n].Stamp.Millis() < oldest {
			n++
		}
		if n == 0 {
			return nil
		}
		if err := ts.cut(sh, entries[:n]); err != nil {
			return err
		}
		done = entries[n-1].Dot.Seq
	}
	return nil
}

func (ts *Tables) cut(sh *journal.Shard, entries []*journal.Entry) error {
	sh.Lock()
	c, err := ts.cutLocked(entries)
	sh.Unlock()
	if err != nil {
		return err
	}
	return c.Wait()
}

func (ts *Tables) cutLocked(entries []*journal.Entry) (engine.Commit, error) {
	b := ts.cfg.Store.NewBatch()
	collided := make(map[string]map[antipode.Dot]bool) // by key: the versions on record
	for _, e := range entries {
		t, ok := ts.cfg.Catalog().TableByID(e.Mutation.Table)
		if !ok || t.Writes != antipode.WriteLocal {
			continue
		}
		p := locateEncoded(t, e.Mutation.Key)
		on, ok := collided[string(p.item)]
		if !ok {
			var err error
			if on, err = ts.onRecord(t, p); err != nil {
				b.Discard()
				return nil, err
			}
			collided[string(p.item)] = on
		}
		if on[e.Dot] {
			b.Set(historyKey(t.ID, p.key, e.Dot), collision.AppendEntry(nil, entryOf(e)))
		} else {
			b.Delete(historyKey(t.ID, p.key, e.Dot))
		}
	}
	last := entries[len(entries)-1]
	ts.cfg.Journal.Cut(b, last.Dot, last.Raw())
	c, err := ts.cfg.Store.Apply(b)
	if err != nil {
		return nil, err
	}
	ts.cfg.Journal.WasCut(last.Dot)
	return c, nil
}

// onRecord returns the versions of a key that are in a collision record.
func (ts *Tables) onRecord(t *TableRef, p place) (map[antipode.Dot]bool, error) {
	_, err := ts.cfg.Store.Get(nil, keyed(prefixCollision, t.ID, p.key))
	if errors.Is(err, engine.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	history, err := loadHistory(ts.cfg.Store, t.ID, p)
	if err != nil {
		return nil, err
	}
	on := make(map[antipode.Dot]bool)
	for _, r := range collision.Collisions(history, t.Rule, t.Priority) {
		for _, v := range r.Versions {
			on[v.Dot] = true
		}
	}
	return on, nil
}

// purgeDeleted removes the rows of tables that the catalog no longer has.
func (ts *Tables) purgeDeleted(ctx context.Context) error {
	state := ts.cfg.Catalog()
	for id := antipode.TableID(1); id < state.NextTable; id++ {
		if _, ok := state.TableByID(id); ok {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, prefix := range []byte{prefixItem, prefixHistory, prefixCollision, prefixGrant, prefixPending} {
			if err := ts.purge(tablePrefix(prefix, id)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (ts *Tables) purge(prefix []byte) error {
	it, err := ts.cfg.Store.Iterate(prefix, after(prefix))
	if err != nil {
		return err
	}
	some := it.First()
	if err := it.Close(); err != nil || !some {
		return err
	}
	b := ts.cfg.Store.NewBatch()
	b.DeleteRange(prefix, after(prefix))
	c, err := ts.cfg.Store.Apply(b)
	if err != nil {
		return err
	}
	return c.Wait()
}

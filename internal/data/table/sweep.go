package table

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
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

// sweepBatch is how many entries one step takes on, so that a shard is never
// held for long, and a sweep that is stopped goes on from near there.
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
	look := candidates{ts: ts, collides: make(map[antipode.TableID]bool)}
	for done < upto {
		places, last, err := look.among(sh.ID(), o, done, upto)
		if err != nil || last == done {
			return err
		}
		for _, c := range places {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := ts.dropTombstone(sh, c, stable); err != nil {
				return err
			}
		}
		done = last
		ts.gc.reached(sh.ID(), o, done)
	}
	return nil
}

// candidates finds the items among stable entries that may be droppable. Most
// writes are neither deletes nor beside one: they are passed over without a look
// at their items.
type candidates struct {
	ts       *Tables
	collides map[antipode.TableID]bool // whether a table has collisions on record
	names    journal.Origins
}

// candidate is an item that may be droppable.
type candidate struct {
	table *TableRef
	place place
}

// among looks at the next entries of an origin, and returns the last one's sequence.
func (c *candidates) among(id antipode.Shard, o antipode.Origin, done, upto uint64) (found []candidate, last uint64, err error) {
	last = done
	var bad error
	err = c.ts.cfg.Journal.Read(id, o, done, upto, func(seq uint64, raw []byte) bool {
		var e *journal.Entry
		if e, bad = c.names.Decode(raw); bad != nil {
			return false
		}
		t, ok := c.ts.cfg.Catalog().TableByID(e.Mutation.Table)
		if ok {
			if ok, bad = c.droppable(t, e); bad != nil {
				return false
			}
		}
		if ok {
			found = append(found, candidate{t, locateEncoded(t, e.Mutation.Key)})
		}
		last = seq
		return len(found) < sweepBatch && last < done+16*sweepBatch
	})
	return found, last, errors.Join(err, bad)
}

// droppable reports whether the entry, which is stable, can be the last one that
// kept an item from being dropped: a delete, or a write beside one. Of those that
// stood beside each other the key's mark has been there since the second of them
// was applied here, and so before both were stable.
func (c *candidates) droppable(t *TableRef, e *journal.Entry) (bool, error) {
	if e.Mutation.Delete || t.Writes != antipode.WriteLocal {
		return e.Mutation.Delete, nil
	}
	some, ok := c.collides[t.ID]
	if !ok {
		var err error
		prefix := tablePrefix(prefixCollision, t.ID)
		if some, err = c.ts.any(prefix); err != nil {
			return false, err
		}
		c.collides[t.ID] = some
	}
	if !some {
		return false, nil
	}
	return c.ts.has(keyed(prefixCollision, t.ID, e.Mutation.Key))
}

// has reports whether there is such a row.
func (ts *Tables) has(row []byte) (bool, error) {
	_, err := ts.cfg.Store.Get(nil, row)
	if errors.Is(err, engine.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// any reports whether there is a row with the prefix.
func (ts *Tables) any(prefix []byte) (bool, error) {
	it, err := ts.cfg.Store.Iterate(prefix, after(prefix))
	if err != nil {
		return false, err
	}
	some := it.First()
	return some, it.Close()
}

func (ts *Tables) dropTombstone(sh *journal.Shard, at candidate, stable antipode.Frontier) error {
	sh.Lock()
	c, err := ts.dropLocked(at.table, at.place, stable)
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

// spent reports whether an item that is to be put back, once what stood in its
// place was taken out, is a tombstone that nobody needs. Sweep has passed its
// entry by then, finding a write that did not count, and won't come by again.
func (ts *Tables) spent(t *TableRef, shard antipode.Shard, siblings []collision.Version) bool {
	if ts.fill.on.Load() {
		return false
	}
	stable := ts.cfg.Journal.Shard(shard).Stable(ts.Members(shard))
	return collision.Droppable(siblings, t.Rule, t.Priority, stable.Includes)
}

// cutOrigin removes an origin's stable entries that are older than the
// retention. Versions that collided are kept, on the key's history.
func (ts *Tables) cutOrigin(ctx context.Context, sh *journal.Shard, o antipode.Origin, upto uint64) error {
	oldest := ts.cfg.Clock.Wall().Add(-ts.cfg.Retention).UnixMilli()
	for done := sh.Floors().Seq(o); done < upto; {
		if err := ctx.Err(); err != nil {
			return err
		}
		entries, err := ts.entriesBefore(oldest, sh.ID(), o, done, upto)
		if err != nil || len(entries) == 0 {
			return err
		}
		if err := ts.cut(sh, entries); err != nil {
			return err
		}
		done = entries[len(entries)-1].Dot.Seq
	}
	return nil
}

// entriesBefore reads the next entries of an origin up to the first that is not
// older than the time in milliseconds.
func (ts *Tables) entriesBefore(millis int64, id antipode.Shard, o antipode.Origin, done, upto uint64) ([]*journal.Entry, error) {
	var entries []*journal.Entry
	var names journal.Origins
	var bad error
	err := ts.cfg.Journal.Read(id, o, done, upto, func(_ uint64, raw []byte) bool {
		var e *journal.Entry
		if e, bad = names.Decode(bytes.Clone(raw)); bad != nil || e.Stamp.Millis() >= millis {
			return false
		}
		entries = append(entries, e)
		return len(entries) < sweepBatch
	})
	return entries, errors.Join(err, bad)
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
		row := historyKey(t.ID, p.key, e.Dot)
		if on[e.Dot] {
			b.Set(row, collision.AppendEntry(nil, entryOf(e)))
			continue
		}
		listed, err := ts.has(row)
		if err != nil {
			b.Discard()
			return nil, err
		}
		if listed {
			b.Delete(row)
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
	if some, err := ts.has(keyed(prefixCollision, t.ID, p.key)); err != nil || !some {
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
		for _, prefix := range []byte{prefixItem, prefixHistory, prefixCollision, prefixGrant, prefixPending, prefixStretch} {
			if err := ts.purge(tablePrefix(prefix, id)); err != nil {
				return err
			}
		}
	}
	return ts.purgeRoles(state)
}

// purgeRoles removes what is known of the roles of deleted tables, seals of
// failovers that ended with their table among it. Nothing of such a table is
// applied or asked for again, and its number is given to no other one.
func (ts *Tables) purgeRoles(state *control.State) error {
	gone := make(map[antipode.Shard][]control.RoleID)
	ts.tn.mu.RLock()
	for shard, roles := range ts.tn.shards {
		for id := range roles {
			if _, ok := state.TableByID(id.Table); !ok && id.Table < state.NextTable {
				gone[shard] = append(gone[shard], id)
			}
		}
	}
	ts.tn.mu.RUnlock()
	return ts.inShards(slices.Sorted(maps.Keys(gone)), func(c *change) (bool, error) {
		for _, id := range gone[c.shard] {
			tenures := roleRow(prefixTenure, c.shard, id)
			c.txn.Batch().DeleteRange(tenures, after(tenures))
			c.txn.Batch().Delete(roleRow(prefixSeal, c.shard, id))
		}
		c.after = append(c.after, func() {
			ts.tn.mu.Lock()
			defer ts.tn.mu.Unlock()
			for _, id := range gone[c.shard] {
				delete(ts.tn.shards[c.shard], id)
			}
		})
		return true, nil
	})
}

func (ts *Tables) purge(prefix []byte) error {
	if some, err := ts.any(prefix); err != nil || !some {
		return err
	}
	b := ts.cfg.Store.NewBatch()
	b.DeleteRange(prefix, after(prefix))
	return ts.durable(b)
}

// durable applies a batch and returns when it, and all before it, is on disk.
func (ts *Tables) durable(b engine.Batch) error {
	c, err := ts.cfg.Store.Apply(b)
	if err != nil {
		return err
	}
	return c.Wait()
}

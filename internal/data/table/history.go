package table

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/engine"
	"github.com/antipode-io/antipode/internal/replica/collision"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// Collision is one collision on record.
type Collision struct {
	Key    Key
	Record collision.Record
	Final  bool // it can't change any more, and is equal in all regions
}

// Collisions visits the collisions on record of a table in the order of its
// keys. They are found anew from the versions kept: a pure function of what was
// written, so that all regions list the same once it has arrived everywhere.
func (ts *Tables) Collisions(t *TableRef, visit func(Collision) (more bool)) error {
	snap := ts.cfg.Store.Snapshot()
	err := ts.eachCollision(snap, t, visit)
	return errors.Join(err, snap.Close())
}

func (ts *Tables) eachCollision(snap engine.Reader, t *TableRef, visit func(Collision) bool) error {
	prefix := tablePrefix(prefixCollision, t.ID)
	it, err := snap.Iterate(prefix, after(prefix))
	if err != nil {
		return fmt.Errorf("list collisions of %s: %w", t.Name, err)
	}
	stable := make(map[antipode.Shard]antipode.Frontier)
	for ok := it.First(); ok; ok = it.Next() {
		p := locateEncoded(t, it.Key()[len(prefix):])
		more, err := ts.keyCollisions(snap, t, p, stable, visit)
		if err != nil || !more {
			return errors.Join(err, it.Close())
		}
	}
	if err := it.Close(); err != nil {
		return fmt.Errorf("list collisions of %s: %w", t.Name, err)
	}
	return nil
}

func (ts *Tables) keyCollisions(snap engine.Reader, t *TableRef, p place, stable map[antipode.Shard]antipode.Frontier, visit func(Collision) bool) (more bool, err error) {
	history, err := loadHistory(snap, t.ID, p)
	if err != nil {
		return false, fmt.Errorf("list collisions of %s: %w", t.Name, err)
	}
	key, err := splitKey(p.key)
	if err != nil {
		return false, err
	}
	f, ok := stable[p.shard]
	if !ok {
		f = ts.cfg.Journal.Shard(p.shard).Stable(t.Replicas)
		stable[p.shard] = f
	}
	for _, r := range collision.Collisions(history, t.Rule, t.Priority) {
		if !visit(Collision{Key: key, Record: r, Final: collision.Final(r, f.Includes)}) {
			return false, nil
		}
	}
	return true, nil
}

// loadHistory reads the versions of a key that collided, and maybe others: a
// version that is concurrent with none is in no record.
func loadHistory(r engine.Reader, id antipode.TableID, p place) ([]collision.Entry, error) {
	prefix := historyPrefix(id, p.key)
	it, err := r.Iterate(prefix, after(prefix))
	if err != nil {
		return nil, err
	}
	var history []collision.Entry
	var names journal.Origins
	for ok := it.First(); ok; ok = it.Next() {
		d, err := historyDot(it.Key(), len(prefix), p.shard)
		if err != nil {
			return nil, errors.Join(err, it.Close())
		}
		var e collision.Entry
		if kept := it.Value(); len(kept) > 0 {
			e, err = collision.DecodeEntry(append([]byte(nil), kept...))
		} else {
			e, err = loadVersion(r, &names, d)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("read version %s: %w", d, err), it.Close())
		}
		history = append(history, e)
	}
	return history, it.Close()
}

func loadVersion(r engine.Reader, names *journal.Origins, d antipode.Dot) (collision.Entry, error) {
	raw, err := journal.Load(r, d)
	if err != nil {
		return collision.Entry{}, err
	}
	e, err := names.Decode(raw)
	if err != nil {
		return collision.Entry{}, err
	}
	return entryOf(e), nil
}

func entryOf(e *journal.Entry) collision.Entry {
	return collision.Entry{
		Version: versionOf(e), Context: e.Context,
		Uncertainty: time.Duration(e.Uncertainty) * time.Millisecond,
	}
}

// historyIndex knows which entries have a row in their keys' histories. An entry
// gets one once another of its shard has collided that did not see it. Until then
// the journal alone has it: nearly all entries are seen by all that come after
// them, and no row is written for those.
type historyIndex struct {
	mu    sync.Mutex
	spans map[antipode.Shard]map[antipode.Origin]seqSpan
}

// seqSpan is the sequences above one, up to another.
type seqSpan struct{ above, upto uint64 }

// forget is called when a shard's rows were removed.
func (x *historyIndex) forget(id antipode.Shard) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.spans, id)
}

// lacks returns what of a span has no rows yet.
func (x *historyIndex) lacks(id antipode.Shard, o antipode.Origin, s seqSpan) []seqSpan {
	x.mu.Lock()
	defer x.mu.Unlock()
	has, ok := x.spans[id][o]
	if !ok || s.above > has.upto {
		return []seqSpan{s}
	}
	var out []seqSpan
	if s.above < has.above {
		out = append(out, seqSpan{s.above, has.above})
	}
	if s.upto > has.upto {
		out = append(out, seqSpan{has.upto, s.upto})
	}
	return out
}

// has notes that a span has its rows. It keeps one span of an origin, the latest.
func (x *historyIndex) has(id antipode.Shard, o antipode.Origin, s seqSpan) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if old, ok := x.spans[id][o]; ok && s.above <= old.upto {
		s = seqSpan{min(s.above, old.above), max(s.upto, old.upto)}
	}
	if x.spans == nil {
		x.spans = make(map[antipode.Shard]map[antipode.Origin]seqSpan)
	}
	if x.spans[id] == nil {
		x.spans[id] = make(map[antipode.Origin]seqSpan)
	}
	x.spans[id][o] = s
}

// collided remembers the collision of an entry of this transaction: its key, the
// entry, and the versions that it met. Those that its author had not seen are
// among the entries of others after its context.
func (s *Session) collided(t *TableRef, p place, e *journal.Entry) error {
	b := s.txn.Batch()
	b.Set(keyed(prefixCollision, t.ID, p.key), nil)
	for _, other := range s.txn.Entries() { // not in the journal yet
		if other.Mutation.Table == t.ID && bytes.Equal(other.Mutation.Key, p.key) {
			b.Set(historyKey(t.ID, p.key, other.Dot), nil)
		}
	}
	for _, m := range s.ts.cfg.Journal.Shard(e.Dot.Shard).Applied() {
		span := seqSpan{e.Context.Seq(m.Origin), m.Seq}
		if m.Origin == e.Dot.Origin || span.above >= span.upto {
			continue
		}
		if err := s.ts.addHistory(e.Dot.Shard, m.Origin, span); err != nil {
			return fmt.Errorf("find what it collides with: %w", err)
		}
	}
	return nil
}

// addHistory writes the rows that a span of entries lacks. They need not be
// durable: after a crash that takes them, it is as if they had never been asked for.
func (ts *Tables) addHistory(id antipode.Shard, o antipode.Origin, s seqSpan) error {
	b := ts.cfg.Store.NewBatch()
	var names journal.Origins
	var bad error
	for _, lacking := range ts.index.lacks(id, o, s) {
		err := ts.cfg.Journal.Read(id, o, lacking.above, lacking.upto, func(_ uint64, raw []byte) bool {
			var e *journal.Entry
			if e, bad = names.Decode(raw); bad != nil {
				return false
			}
			if t, ok := ts.cfg.Catalog().TableByID(e.Mutation.Table); ok && t.Writes == antipode.WriteLocal {
				b.Set(historyKey(t.ID, e.Mutation.Key, e.Dot), nil)
			}
			if b.Len() >= emptyBytes {
				bad = ts.cfg.Store.ApplyLater(b)
				b = ts.cfg.Store.NewBatch()
			}
			return bad == nil
		})
		if err = errors.Join(err, bad); err != nil {
			b.Discard()
			return err
		}
	}
	if err := ts.cfg.Store.ApplyLater(b); err != nil {
		return err
	}
	ts.index.has(id, o, s)
	return nil
}

package table

import (
	"fmt"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/replica/collision"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// Session applies other regions' entries within one transaction. It belongs to
// whoever holds the shard's lock.
type Session struct {
	ts      *Tables
	txn     *journal.Txn
	overlay map[string][]collision.Version // items changed by this transaction
}

// Session starts applying within a transaction.
func (ts *Tables) Session(txn *journal.Txn) *Session { return &Session{ts: ts, txn: txn} }

// Known reports whether the entry's table is known here: one that was deleted
// is, one that the control group has made and this region has not heard of yet
// is not, and its entries must wait.
func (ts *Tables) Known(e *journal.Entry) bool {
	return e.Mutation.Table == 0 || e.Mutation.Table < ts.cfg.Catalog().NextTable
}

// Apply adds to the transaction what the entry, put into the journal by the same
// transaction, does to its item.
func (s *Session) Apply(e *journal.Entry) error {
	ts := s.ts
	if err := ts.cfg.Clock.Update(e.Stamp); err != nil {
		ts.cfg.Logger.Warn("stamp of another region", "dot", e.Dot.String(), "error", err)
	}
	t, ok := ts.cfg.Catalog().TableByID(e.Mutation.Table)
	if !ok || !t.HasReplica(ts.cfg.Self) {
		return nil // deleted since: the journal keeps count, nothing else does
	}
	p := locateEncoded(t, e.Mutation.Key)
	if p.shard != e.Dot.Shard {
		return fmt.Errorf("apply %s: %w: its key belongs to shard %s", e.Dot, journal.ErrMalformed, p.shard)
	}
	v := versionOf(e)
	if e.Kind == journal.KindWrite && s.covered(e) {
		s.set(t, p, e, []collision.Version{v})
		return nil
	}
	was, ok := s.overlay[string(p.item)]
	if !ok {
		var err error
		if was, err = ts.load(p.item); err != nil {
			return fmt.Errorf("apply %s: %w", e.Dot, err)
		}
	}
	switch e.Kind {
	case journal.KindWrite:
	case journal.KindHandoff, journal.KindAccept:
		// They move the item and leave it as it is.
		if cur, ok := collision.Visible(was, t.Rule, t.Priority); ok {
			v.Body, v.Delete = cur.Body, cur.Delete
		}
	default:
		return nil // a newer region's kind: kept and relayed, nothing we know to do
	}
	s.set(t, p, e, collision.Apply(was, v, e.FullContext()))
	// While this region is being filled, the accept that it gave before it lost
	// its disk may be on its way: a second one would split the timeline. Should it
	// be lost, the next write at home stands for it.
	if e.Kind == journal.KindHandoff && v.Home == ts.cfg.Self && !ts.fill.on.Load() {
		return s.accept(t, p, e, v)
	}
	return nil
}

// covered reports whether the entry's author had seen all that is applied here,
// as it has while only one region writes to the shard. Then it replaces whatever
// is there, which need not be read.
func (s *Session) covered(e *journal.Entry) bool {
	for _, m := range s.txn.Applied() {
		if m.Origin != e.Dot.Origin && m.Seq > e.Context.Seq(m.Origin) {
			return false
		}
	}
	return true
}

// set stores siblings, and remembers the collision if there are several.
func (s *Session) set(t *TableRef, p place, e *journal.Entry, siblings []collision.Version) {
	b := s.txn.Batch()
	b.Set(p.item, collision.AppendItem(nil, siblings))
	if s.overlay == nil {
		s.overlay = make(map[string][]collision.Version)
	}
	s.overlay[string(p.item)] = siblings
	switch t.Writes {
	case antipode.WriteLocal:
		b.Set(historyKey(t.ID, p.key, e.Dot), nil)
		if len(siblings) > 1 {
			b.Set(keyed(prefixCollision, t.ID, p.key), nil)
		}
	case antipode.WritePartitioned:
		if !e.Mutation.Delete && arbiterOf(t, p.key) == s.ts.cfg.Self {
			b.Delete(keyed(prefixGrant, t.ID, p.key)) // the birth that it allowed has happened
		}
	case antipode.WriteGlobal:
	}
	if t.Writes != antipode.WriteLocal && len(siblings) > 1 {
		// One timeline per key is what these tables promise; should it ever
		// break, it is said, and regions still agree.
		b.Set(keyed(prefixCollision, t.ID, p.key), nil)
		s.ts.cfg.Logger.Error("two timelines of one item", "table", t.Name, "dot", e.Dot.String(), "versions", len(siblings))
	}
}

// accept takes over an item that was handed to this region, in the very
// transaction that applies the handoff.
func (s *Session) accept(t *TableRef, p place, handoff *journal.Entry, v collision.Version) error {
	stamp, err := s.ts.cfg.Clock.Now()
	if err != nil {
		return fmt.Errorf("accept %s: %w", handoff.Dot, err)
	}
	e := &journal.Entry{
		Stamp: stamp, Kind: journal.KindAccept, Uncertainty: s.ts.uncertainty(),
		Mutation: antipode.Mutation{Table: t.ID, Key: p.key, Home: s.ts.cfg.Self},
		Replaced: handoff.Dot,
	}
	s.txn.Append(e)
	v.Dot, v.Stamp = e.Dot, e.Stamp
	s.set(t, p, e, []collision.Version{v})
	return nil
}

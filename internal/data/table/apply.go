package table

import (
	"fmt"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/replica/collision"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// Session applies other regions' entries within one transaction. It belongs to
// whoever holds the shard's lock.
type Session struct {
	ts      *Tables
	txn     *journal.Txn
	overlay map[string][]collision.Version // items changed by this transaction
	change  *change                        // of what is known of roles; nil while there is none
	asked   []*journal.Entry               // entries that this region has forwarded as requests
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
	if ts.tn.broken != nil {
		return fmt.Errorf("apply %s: %w", e.Dot, ts.tn.broken)
	}
	t, ok := ts.cfg.Catalog().TableByID(e.Mutation.Table)
	if !ok {
		return nil // deleted since: the journal keeps count, nothing else does
	}
	if done, err := s.applyRole(t, e); done || err != nil {
		return err
	}
	if !t.HasReplica(ts.cfg.Self) {
		return nil // a witness keeps the journal only
	}
	p := locateEncoded(t, e.Mutation.Key)
	if p.shard != e.Dot.Shard {
		return fmt.Errorf("apply %s: %w: its key belongs to shard %s", e.Dot, journal.ErrMalformed, p.shard)
	}
	if e.From == ts.cfg.Self && ts.asked.n.Load() > 0 {
		s.asked = append(s.asked, e)
	}
	if k, ok := ts.pend.get(p.item); ok {
		if done, err := s.applyPending(t, k, e); done || err != nil {
			return err
		}
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
	siblings := collision.Apply(was, v, e.FullContext())
	s.set(t, p, e, siblings)
	if len(siblings) > 1 && t.Writes == antipode.WriteLocal {
		if err := s.collided(t, p, e); err != nil {
			return fmt.Errorf("apply %s: %w", e.Dot, err)
		}
	}
	// While this region is being filled, the accept that it gave before it lost
	// its disk may be on its way: a second one would split the timeline. Should it
	// be lost, the next write at home stands for it.
	if e.Kind == journal.KindHandoff && !ts.fill.on.Load() {
		if under, err := ts.act(t, v.Home, p.shard); err == nil { // else the next write stands for it
			return s.accept(t, p, e, v, under)
		}
	}
	return nil
}

// applyRole applies what an entry says of roles, and lists one that does not
// count. It returns true where nothing else is to be done.
func (s *Session) applyRole(t *TableRef, e *journal.Entry) (done bool, err error) {
	if e.Kind != journal.KindEpoch && e.Kind != journal.KindRelease && !s.ts.tn.some.Load() {
		return false, nil
	}
	if s.change == nil {
		s.change = s.ts.change(e.Dot.Shard, s.txn)
	}
	switch {
	case e.Kind == journal.KindEpoch:
		return true, s.change.epoch(t, e)
	case e.Kind == journal.KindRelease:
		return true, s.change.release(t, e)
	case strands(e) && !s.change.counts(t, e):
		_, err := s.change.strand(e)
		return true, err
	}
	return false, nil
}

// applyPending applies an entry that counts to an item whose version is not
// known here: a write makes it known, the rest needs it.
func (s *Session) applyPending(t *TableRef, k *pendingKey, e *journal.Entry) (done bool, err error) {
	if s.change == nil {
		s.change = s.ts.change(e.Dot.Shard, s.txn)
	}
	row := keyed(prefixPending, t.ID, k.key)
	if _, ok := s.overlay[string(k.item)]; ok {
		return false, nil // an entry of this very transaction has made it known
	}
	if e.Kind == journal.KindWrite {
		s.txn.Batch().Delete(row)
		s.change.after = append(s.change.after, func() { s.ts.pend.forget(k.item) })
		return false, nil
	}
	next := *k
	next.need = k.need.Clone().With(e.Dot.Origin, e.Dot.Seq)
	value, err := next.row()
	if err != nil {
		return true, err
	}
	s.txn.Batch().Set(row, value)
	s.ts.pend.put(&next) // nobody but who has the shard locked looks at what it needs
	return true, nil
}

// Committed is called once the transaction is visible, the shard being locked
// still.
func (s *Session) Committed() {
	for _, e := range s.asked {
		s.ts.asked.found(e)
	}
	if s.change != nil {
		s.change.committed()
	}
}

// Admit says when another region's entry may be applied: nothing of a tenure that
// a failover has ended is, until its cutoff says what counts. A successor that lost
// its disk takes what there is, since it can't decide before it has been filled; nor
// does it count as a holder of anything before.
func (ts *Tables) Admit(e *journal.Entry) journal.Admission {
	return ts.admit(e, func(id control.RoleID) bool {
		if !ts.fill.on.Load() {
			return false
		}
		t, ok := ts.cfg.Catalog().TableByID(id.Table)
		return ok && ts.standing(t, id.Home, e.Dot.Shard).Holder == ts.cfg.Self
	})
}

// opens reports whether this region holds the role and has not said so in its
// journal. Until it has, it takes nothing that does not count: once everybody has
// such an entry, its author may cut it, and must know by then that it does not
// count. The author counts an acknowledgement only after it has applied what came
// before it from here.
func (ts *Tables) opens(t *TableRef, home antipode.Region, shard antipode.Shard) bool {
	s := ts.standing(t, home, shard)
	return s.Holder == ts.cfg.Self && !s.open
}

// admit is Admit but for roles whose seals do not hold, as for whoever has to
// learn what there is to decide on.
func (ts *Tables) admit(e *journal.Entry, open func(control.RoleID) bool) journal.Admission {
	if ts.tn.some.Load() {
		if t, ok := ts.cfg.Catalog().TableByID(e.Mutation.Table); ok {
			if home, ok := roleOf(t, e); ok {
				id := control.RoleID{Table: t.ID, Home: home}
				k := ts.known(e.Dot.Shard, id)
				if !open(id) && (k.sealed(tenureOf(e)) || !k.counts(tenureOf(e), e.Dot) && ts.opens(t, home, e.Dot.Shard)) {
					return journal.NotYet
				}
			}
		}
	}
	if e.Kind == journal.KindEpoch {
		return journal.Alone
	}
	return journal.Now
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

// set stores siblings, and says so should there be several where there must not.
func (s *Session) set(t *TableRef, p place, e *journal.Entry, siblings []collision.Version) {
	b := s.txn.Batch()
	b.Set(p.item, collision.AppendItem(nil, siblings))
	if s.overlay == nil {
		s.overlay = make(map[string][]collision.Version)
	}
	s.overlay[string(p.item)] = siblings
	if t.Writes == antipode.WritePartitioned && !e.Mutation.Delete && s.ts.arbitrates(t, p.key) {
		b.Delete(keyed(prefixGrant, t.ID, p.key)) // the birth that it allowed has happened
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
func (s *Session) accept(t *TableRef, p place, handoff *journal.Entry, v collision.Version, under control.Tenure) error {
	stamp, err := s.ts.cfg.Clock.Now()
	if err != nil {
		return fmt.Errorf("accept %s: %w", handoff.Dot, err)
	}
	e := &journal.Entry{
		Stamp: stamp, Kind: journal.KindAccept, Uncertainty: s.ts.uncertainty(),
		Mutation: antipode.Mutation{Table: t.ID, Key: p.key, Home: v.Home},
		Replaced: handoff.Dot, Epoch: under.Epoch,
	}
	s.txn.Append(e)
	v.Dot, v.Stamp, v.Epoch = e.Dot, e.Stamp, e.Epoch
	s.set(t, p, e, []collision.Version{v})
	return nil
}

package table

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/engine"
	"github.com/antipode-io/antipode/internal/replica/collision"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// note is the body of a KindEpoch or a KindRelease entry; see docs/format/journal.md.
type note struct {
	Failover uint64            `json:"failover,omitempty"`
	Forced   bool              `json:"forced,omitempty"`
	Cutoff   map[string]uint64 `json:"cutoff,omitempty"`
	Earlier  []noteCutoff      `json:"earlier,omitempty"`

	To     antipode.Region `json:"to,omitempty"`
	Grants []noteGrant     `json:"grants,omitempty"`
}

// noteCutoff is a cutoff of another tenure of the set.
type noteCutoff struct {
	control.RoleID

	Epoch  uint64            `json:"epoch"`
	Holder antipode.Region   `json:"holder"`
	Cutoff map[string]uint64 `json:"cutoff,omitempty"`
}

// noteGrant is a birth that was granted and has not happened.
type noteGrant struct {
	Key  []byte          `json:"key"`
	Home antipode.Region `json:"home"`
	Tomb string          `json:"tomb,omitempty"`
}

func readNote(e *journal.Entry) (*note, error) {
	n := new(note)
	if err := json.Unmarshal(e.Mutation.Body, n); err != nil {
		return nil, fmt.Errorf("%s %s: %w: %w", e.Kind, e.Dot, journal.ErrMalformed, err)
	}
	return n, nil
}

// change is what one transaction does to what is known of roles in its shard. It
// belongs to whoever holds the shard's lock.
type change struct {
	ts    *Tables
	shard antipode.Shard
	txn   *journal.Txn
	next  map[control.RoleID]*known
	after []func() // to be done once the transaction is visible
}

func (ts *Tables) change(shard antipode.Shard, txn *journal.Txn) *change {
	return &change{ts: ts, shard: shard, txn: txn, next: make(map[control.RoleID]*known)}
}

func (c *change) known(id control.RoleID) *known {
	if k, ok := c.next[id]; ok {
		return k
	}
	return c.ts.known(c.shard, id)
}

// committed makes the change known, once the transaction is visible.
func (c *change) committed() {
	for id, k := range c.next {
		c.ts.setKnown(c.shard, id, k)
	}
	for _, f := range c.after {
		f()
	}
	if len(c.next) > 0 {
		c.ts.wakeRoles()
		c.ts.passOver()
	}
}

// learn stores what is told of a tenure. It returns true where its cutoff was not
// in force here before: then what lies beyond it has to be taken out.
func (c *change) learn(id control.RoleID, row tenure) (fresh bool, err error) {
	k := c.known(id)
	merged := k.of(row.Tenure)
	if row.Bound && !merged.Bound {
		fresh, merged.Bound, merged.Cutoff = true, true, row.Cutoff
	}
	merged.Failover = max(merged.Failover, row.Failover)
	merged.Forced = merged.Forced || row.Forced
	if !row.Opened.IsZero() {
		merged.Opened = row.Opened
	}
	if !row.Released.IsZero() {
		merged.Released, merged.Grants = row.Released, row.Grants
	}
	value, err := merged.encode()
	if err != nil {
		return false, fmt.Errorf("store tenure: %w", err)
	}
	c.txn.Batch().Set(tenureKey(c.shard, id, row.Tenure), value)
	next := k.with(merged)
	if k != nil && k.seal != (control.Tenure{}) && next.seal == (control.Tenure{}) {
		c.txn.Batch().Delete(roleRow(prefixSeal, c.shard, id))
	}
	c.next[id] = next
	return fresh, nil
}

// roleTenure is a tenure and its role.
type roleTenure struct {
	control.RoleID

	row tenure
}

// bind puts cutoffs in force, in one batch with what follows from them.
func (c *change) bind(all ...roleTenure) error {
	var from antipode.Frontier
	some := false
	for _, r := range all {
		fresh, err := c.learn(r.RoleID, r.row)
		if err != nil {
			return err
		}
		if !fresh {
			continue
		}
		if !some {
			from, some = r.row.Cutoff, true
		} else {
			from = from.Meet(r.row.Cutoff)
		}
	}
	if !some {
		return nil
	}
	return c.takeOut(from)
}

// takeOut looks at everything beyond a frontier that is applied here: what does
// not count is listed as stranded, and taken out of its item.
func (c *change) takeOut(from antipode.Frontier) error {
	void := make(map[string][]*journal.Entry) // by item
	var items []string
	var names journal.Origins
	for _, m := range c.txn.Applied() {
		var bad error
		err := c.ts.cfg.Journal.Read(c.shard, m.Origin, from.Seq(m.Origin), m.Seq, func(_ uint64, raw []byte) bool {
			e, err := names.Decode(append([]byte(nil), raw...))
			if err != nil {
				bad = err
				return false
			}
			t, ok := c.ts.cfg.Catalog().TableByID(e.Mutation.Table)
			if !ok || c.counts(t, e) || !strands(e) {
				return true
			}
			if fresh, err := c.strand(e); err != nil || !fresh {
				bad = err
				return err == nil
			}
			item := string(locateEncoded(t, e.Mutation.Key).item)
			if void[item] == nil {
				items = append(items, item)
			}
			void[item] = append(void[item], e)
			return true
		})
		if err = errors.Join(err, bad); err != nil {
			return fmt.Errorf("take out what lies beyond a cutoff of shard %s: %w", c.shard, err)
		}
	}
	for _, item := range items {
		if err := c.takeOutItem(void[item]); err != nil {
			return fmt.Errorf("take out what lies beyond a cutoff of shard %s: %w", c.shard, err)
		}
	}
	return nil
}

// counts reports whether an entry is within the cutoffs of its role.
func (c *change) counts(t *TableRef, e *journal.Entry) bool {
	home, ok := roleOf(t, e)
	return !ok || c.known(control.RoleID{Table: t.ID, Home: home}).counts(tenureOf(e), e.Dot)
}

// strands reports whether an entry is a write in somebody's eyes.
func strands(e *journal.Entry) bool {
	return e.Kind == journal.KindWrite || e.Kind == journal.KindHandoff || e.Kind == journal.KindAccept
}

// takeOutItem takes the versions that do not count out of an item. Where the one
// before them is in the journal, it takes their place; else the item is pending.
func (c *change) takeOutItem(void []*journal.Entry) error {
	ts := c.ts
	t, ok := ts.cfg.Catalog().TableByID(void[0].Mutation.Table)
	if !ok || !t.HasReplica(ts.cfg.Self) {
		return nil
	}
	p := locateEncoded(t, void[0].Mutation.Key)
	siblings, err := ts.load(p.item)
	if err != nil {
		return err
	}
	byDot := make(map[antipode.Dot]*journal.Entry, len(void))
	for _, e := range void {
		byDot[e.Dot] = e
	}
	for _, v := range siblings {
		e := byDot[v.Dot]
		if e == nil {
			continue
		}
		first := e // whose role answers for what stands before it
		for byDot[first.Replaced] != nil {
			first = byDot[first.Replaced]
		}
		home, _ := roleOf(t, first)
		v.Home = home
		was, err := c.before(byDot, e)
		if err != nil {
			return err
		}
		if was != nil {
			if ts.spent(t, p.shard, []collision.Version{*was}) {
				c.txn.Batch().Delete(p.item)
				c.after = append(c.after, func() { ts.gc.drop(p.shard) })
				return nil
			}
			c.txn.Batch().Set(p.item, collision.AppendItem(nil, []collision.Version{*was}))
			return nil
		}
		k := &pendingKey{table: t.ID, key: p.key, item: p.item, shard: p.shard, home: home, void: collision.AppendItem(nil, []collision.Version{v}), dot: v.Dot}
		row, err := k.row()
		if err != nil {
			return err
		}
		c.txn.Batch().Set(keyed(prefixPending, t.ID, p.key), row)
		c.txn.Batch().Delete(p.item)
		ts.pend.put(k) // before it is visible: no reader may take it for removed
		return nil
	}
	return nil
}

// before follows the versions that were replaced back to the first that counts,
// or returns nil where that is not in the journal, or was replaced unread.
func (c *change) before(void map[antipode.Dot]*journal.Entry, e *journal.Entry) (*collision.Version, error) {
	for void[e.Replaced] != nil {
		e = void[e.Replaced]
	}
	if e.Replaced.IsZero() {
		return nil, nil
	}
	v, err := c.ts.versionAt(e.Replaced)
	if errors.Is(err, engine.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	t, ok := c.ts.cfg.Catalog().TableByID(e.Mutation.Table)
	if !ok {
		return nil, nil
	}
	if raw, err := journal.Load(c.ts.cfg.Store, e.Replaced); err == nil {
		var names journal.Origins
		if was, err := names.Decode(raw); err != nil || !c.counts(t, was) {
			return nil, err // void by a cutoff from before, and taken out then
		}
	}
	return v, nil
}

// versionAt reads the version that an entry has left, from the journal: a handoff
// or an accept leaves the body that was there. engine.ErrNotFound where an entry
// was cut off.
func (ts *Tables) versionAt(d antipode.Dot) (*collision.Version, error) {
	var out *collision.Version
	var names journal.Origins
	for !d.IsZero() {
		raw, err := journal.Load(ts.cfg.Store, d)
		if err != nil {
			return nil, err
		}
		e, err := names.Decode(raw)
		if err != nil {
			return nil, err
		}
		v := versionOf(e)
		if out == nil {
			out = &v
		}
		switch e.Kind {
		case journal.KindWrite:
			out.Body, out.Delete = v.Body, v.Delete
			return out, nil
		case journal.KindHandoff, journal.KindAccept:
			d = e.Replaced
		default:
			return nil, fmt.Errorf("version %s: %w", d, engine.ErrNotFound)
		}
	}
	return nil, fmt.Errorf("version before a handoff: %w", engine.ErrNotFound)
}

// epoch applies the first entry of a tenure: its cutoff, and the others of the
// set that its author knew, are in force here from now on.
func (c *change) epoch(t *TableRef, e *journal.Entry) error {
	n, err := readNote(e)
	if err != nil {
		return err
	}
	var rows []roleTenure
	for _, was := range n.Earlier {
		f, err := antipode.ParseMarks(was.Cutoff)
		if err != nil {
			return fmt.Errorf("%s %s: %w: %w", e.Kind, e.Dot, journal.ErrMalformed, err)
		}
		rows = append(rows, roleTenure{was.RoleID, tenure{Tenure: control.Tenure{Epoch: was.Epoch, Holder: was.Holder}, Cutoff: f, Bound: true}})
	}
	f, err := antipode.ParseMarks(n.Cutoff)
	if err != nil {
		return fmt.Errorf("%s %s: %w: %w", e.Kind, e.Dot, journal.ErrMalformed, err)
	}
	id := control.RoleID{Table: t.ID, Home: e.Role}
	return c.bind(append(rows, roleTenure{id, tenure{Tenure: tenureOf(e), Failover: n.Failover, Forced: n.Forced, Cutoff: f, Bound: true, Opened: e.Dot}})...)
}

// release applies the last entry of a tenure: its author hands the role over.
func (c *change) release(t *TableRef, e *journal.Entry) error {
	n, err := readNote(e)
	if err != nil || !c.counts(t, e) {
		return err
	}
	_, err = c.learn(control.RoleID{Table: t.ID, Home: e.Role}, tenure{Tenure: control.Tenure{Epoch: e.Epoch + 1, Holder: n.To}, Released: e.Dot, Grants: n.Grants})
	return err
}

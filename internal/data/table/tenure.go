package table

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/engine"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// errNotOpen says inside the critical section that the role is this region's, or
// about to be, and that something has to happen first: whoever meets it waits.
var errNotOpen = errors.New("the role is being handed over")

// tenures are what this region's journals and the group have said about roles,
// per shard, beyond what the catalog says. It is empty, and costs one atomic
// load, until the first role of a table kept here changes hands.
type tenures struct {
	some atomic.Bool // there is something in shards

	mu      sync.RWMutex
	shards  map[antipode.Shard]map[control.RoleID]*known
	changed chan struct{} // closed when something has changed that roles depend on
	broken  error         // what is stored can't be read: nothing is decided

	step stepper
}

// known is what is known of a role in one shard. It is immutable: whoever has it
// may read it without a lock. It changes while the shard is locked.
type known struct {
	rows []tenure // rising
	seal control.Tenure
}

// tenure is one row: a tenure that this region has heard of other than as the
// group's present one.
type tenure struct {
	Tenure   control.Tenure
	Failover uint64
	Forced   bool
	// Cutoff bounds what counts of all lower tenures of the role, once Bound.
	Cutoff antipode.Frontier
	Bound  bool
	// Opened is the holder's first entry under the tenure, Released the last one
	// of the holder before it, in a planned switch.
	Opened, Released antipode.Dot
	// Grants are the births that the holder before it had granted, as Released says:
	// that entry may be cut off by the time they are taken over.
	Grants []noteGrant
}

// last returns the highest tenure that is known, or nil.
func (k *known) last() *tenure {
	if k == nil || len(k.rows) == 0 {
		return nil
	}
	return &k.rows[len(k.rows)-1]
}

// of returns what is known of a tenure, or a new row.
func (k *known) of(t control.Tenure) tenure {
	if k != nil {
		for _, r := range k.rows {
			if r.Tenure == t {
				return r
			}
		}
	}
	return tenure{Tenure: t}
}

// counts reports whether an entry written under a tenure is within every cutoff
// of a higher one: a later successor may have known less than an earlier one.
func (k *known) counts(t control.Tenure, d antipode.Dot) bool {
	if k == nil {
		return true
	}
	for i := len(k.rows) - 1; i >= 0 && t.Compare(k.rows[i].Tenure) < 0; i-- {
		if r := &k.rows[i]; r.Bound && !r.Cutoff.Includes(d) {
			return false
		}
	}
	return true
}

// sealed reports whether nothing of the tenure may be written or applied now.
func (k *known) sealed(t control.Tenure) bool { return k != nil && t.Compare(k.seal) < 0 }

// with returns k with a row put in its place.
func (k *known) with(row tenure) *known {
	next := &known{}
	if k != nil {
		*next = *k
	}
	rows := slices.Clone(next.rows)
	i, ok := slices.BinarySearchFunc(rows, row.Tenure, func(r tenure, t control.Tenure) int { return r.Tenure.Compare(t) })
	if ok {
		rows[i] = row
	} else {
		rows = slices.Insert(rows, i, row)
	}
	next.rows = rows
	if row.Bound && next.seal.Compare(row.Tenure) <= 0 {
		next.seal = control.Tenure{} // its cutoff is known: it says which entries count
	}
	return next
}

func (ts *Tables) known(shard antipode.Shard, id control.RoleID) *known {
	if !ts.tn.some.Load() {
		return nil
	}
	ts.tn.mu.RLock()
	defer ts.tn.mu.RUnlock()
	return ts.tn.shards[shard][id]
}

// knownRoles lists the roles of which something is known in a shard.
func (ts *Tables) knownRoles(shard antipode.Shard) []control.RoleID {
	ts.tn.mu.RLock()
	defer ts.tn.mu.RUnlock()
	return slices.Collect(maps.Keys(ts.tn.shards[shard]))
}

// setKnown is called with the shard locked, or before anything runs.
func (ts *Tables) setKnown(shard antipode.Shard, id control.RoleID, k *known) {
	ts.tn.mu.Lock()
	defer ts.tn.mu.Unlock()
	m := ts.tn.shards[shard]
	if m == nil {
		if ts.tn.shards == nil {
			ts.tn.shards = make(map[antipode.Shard]map[control.RoleID]*known)
		}
		m = make(map[control.RoleID]*known)
		ts.tn.shards[shard] = m
	}
	m[id] = k
	ts.tn.some.Store(true)
}

// rolesChanged returns a channel that is closed at the next change.
func (ts *Tables) rolesChanged() <-chan struct{} {
	ts.tn.mu.Lock()
	defer ts.tn.mu.Unlock()
	if ts.tn.changed == nil {
		ts.tn.changed = make(chan struct{})
	}
	return ts.tn.changed
}

// wakeRoles has those look again who wait for a role, RunRoles among them.
func (ts *Tables) wakeRoles() {
	ts.tn.mu.Lock()
	defer ts.tn.mu.Unlock()
	if ts.tn.changed != nil {
		close(ts.tn.changed)
		ts.tn.changed = nil
	}
}

// standing is who accepts writes under a role in one shard, as far as is known here.
type standing struct {
	control.Tenure

	open     bool         // its cutoff and its first entry are settled: meaningful at the holder only
	sealed   bool         // a failover has ended it, the cutoff is not known yet
	forced   bool         // a person took it without the group, which does not know yet
	failover uint64       // by which it came, as the group knows it
	after    antipode.Dot // what the holder must have applied to know of it; zero where nothing
	next     antipode.Region
}

// standing returns the higher of what the group says and what journals say.
func (ts *Tables) standing(t *TableRef, home antipode.Region, shard antipode.Shard) standing {
	r := t.Role(home)
	s := standing{Tenure: r.Tenure(), open: r.Failover == 0, failover: r.Failover, next: r.Next}
	k := ts.known(shard, control.RoleID{Table: t.ID, Home: home})
	if k == nil {
		return s
	}
	if last := k.last(); last != nil {
		switch last.Tenure.Compare(s.Tenure) {
		case 0:
			s.open = s.open || !last.Opened.IsZero()
			s.after = last.Released
		case 1:
			s = standing{Tenure: last.Tenure, open: !last.Opened.IsZero(), forced: last.Forced, after: last.Released}
		}
	}
	s.sealed = k.sealed(s.Tenure)
	return s
}

// roleOf returns the home whose role an entry was written under, and false in
// tables that have no roles.
func roleOf(t *TableRef, e *journal.Entry) (home antipode.Region, ok bool) {
	switch {
	case t.Writes == antipode.WriteGlobal:
		return "", true
	case t.Writes != antipode.WritePartitioned:
		return "", false
	case e.Kind == journal.KindWrite || e.Kind == journal.KindAccept:
		return e.Mutation.Home, true
	case e.Kind == journal.KindHandoff && e.Role == "":
		return e.Dot.Origin.Region, true // written before entries named their role
	default:
		return e.Role, true
	}
}

func tenureOf(e *journal.Entry) control.Tenure {
	return control.Tenure{Epoch: e.Epoch, Holder: e.Dot.Origin.Region}
}

// act is asked in the critical section: may this region write, grant or answer
// for the role now? It returns the tenure under which it does.
func (ts *Tables) act(t *TableRef, home antipode.Region, shard antipode.Shard) (control.Tenure, error) {
	s := ts.standing(t, home, shard)
	switch {
	case s.Holder != ts.cfg.Self:
		return s.Tenure, &movedError{home: home, tenure: s.Tenure, after: s.after}
	case !s.open || s.sealed:
		return s.Tenure, errNotOpen
	case !ts.leased(t, s.forced):
		return s.Tenure, ts.noLease(t)
	}
	return s.Tenure, nil
}

// leased reports whether this region may use a role now: it has a lease, or
// needs none, as where a person vouches that nobody else does.
func (ts *Tables) leased(t *TableRef, forced bool) bool {
	return t.Pinned() || forced || ts.cfg.Lease == nil || ts.cfg.Lease()
}

func (ts *Tables) noLease(t *TableRef) error {
	return fmt.Errorf("%w: %s has no lease to accept writes of %s: it can't reach a majority of the regions, or starts just now; nothing was written; try again, or see `antipode status`",
		ErrUnavailable, ts.cfg.Self, t.Name)
}

// stands is asked before an answer that leans on having held the role: it still
// holds under the very tenure, or ended in a way that leaves the dot standing (a
// zero one for a read). A process may have been stopped for minutes in between.
// Where nothing was done, and another tenure is known, that is said.
func (ts *Tables) stands(t *TableRef, home antipode.Region, shard antipode.Shard, under control.Tenure, d antipode.Dot) error {
	if t.Writes == antipode.WriteLocal {
		return nil
	}
	s := ts.standing(ts.fresh(t), home, shard)
	ok := ts.leased(t, s.forced)
	if ok && ts.tn.some.Load() {
		k := ts.known(shard, control.RoleID{Table: t.ID, Home: home})
		ok = !k.sealed(under) && (s.Tenure == under || !d.IsZero() && ts.settled(k, under, d))
	} else if ok {
		ok = s.Tenure == under
	}
	switch {
	case ok:
		return nil
	case d.IsZero() && s.Compare(under) > 0:
		return &movedError{home: home, tenure: s.Tenure, after: s.after} // nothing was done: its holder is asked
	case d.IsZero():
		return fmt.Errorf("%w: %s lost its role in %s while it answered; try again", ErrUnavailable, ts.cfg.Self, t.Name)
	default:
		return fmt.Errorf("%w: it was written in %s (%s), which lost its role in %s before it could be sure that this counts; read the item to see",
			ErrOutcomeUnknown, ts.cfg.Self, d, t.Name)
	}
}

// settled reports whether an own write stands though its tenure has ended: it
// was handed over after it, or is within the cutoff.
func (ts *Tables) settled(k *known, under control.Tenure, d antipode.Dot) bool {
	if k == nil {
		return false
	}
	for _, r := range k.rows {
		if under.Compare(r.Tenure) >= 0 {
			continue
		}
		handed := r.Released.Origin == d.Origin && r.Released.Seq > d.Seq
		if !handed && (!r.Bound || !r.Cutoff.Includes(d)) {
			return false
		}
	}
	last := k.last()
	return last != nil && under.Compare(last.Tenure) < 0
}

// Holder returns who holds a role of a table, as far as is known here: the group
// may not know yet, or no more. Shards may differ during a switch; the last one to change counts.
func (ts *Tables) Holder(t *TableRef, home antipode.Region) control.Role {
	r := t.Role(home)
	id := control.RoleID{Table: t.ID, Home: home}
	for i := range antipode.ShardsPerSet {
		last := ts.known(t.Shards()|antipode.Shard(i), id).last()
		if last != nil && !last.Opened.IsZero() && last.Tenure.Compare(r.Tenure()) > 0 {
			r = control.Role{Holder: last.Tenure.Holder, Epoch: last.Tenure.Epoch}
		}
	}
	return r
}

// whenOpen does what needs a role, again and again while the role is only just
// being taken over here, for as long as a request may take.
func (ts *Tables) whenOpen(ctx context.Context, t *TableRef, do func(*TableRef) error) error {
	err := do(t)
	if !errors.Is(err, errNotOpen) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, ts.cfg.Timeout)
	defer cancel()
	for {
		changed := ts.rolesChanged()
		if err := do(ts.fresh(t)); !errors.Is(err, errNotOpen) {
			return err
		}
		if err := ts.waitOpen(ctx, changed, t); err != nil {
			return err
		}
	}
}

// waitOpen waits until something has changed that a role depends on.
func (ts *Tables) waitOpen(ctx context.Context, changed <-chan struct{}, t *TableRef) error {
	select {
	case <-changed:
		ts.cfg.Journal.Resume(ctx)
		return nil
	case <-ctx.Done():
		ts.cfg.Journal.Resume(ctx)
		return fmt.Errorf("%w: %s takes over table %s, and has not finished in time; nothing was written; try again", ErrUnavailable, ts.cfg.Self, t.Name)
	}
}

// Rows of tenures and seals: prefix, shard:8, table:4, home, 0, and for tenures
// epoch:8 and the holder's name.

func roleRow(prefix byte, shard antipode.Shard, id control.RoleID) []byte {
	b := binary.BigEndian.AppendUint64([]byte{prefix}, uint64(shard))
	b = binary.BigEndian.AppendUint32(b, uint32(id.Table))
	return append(append(b, id.Home...), 0)
}

func tenureKey(shard antipode.Shard, id control.RoleID, t control.Tenure) []byte {
	b := binary.BigEndian.AppendUint64(roleRow(prefixTenure, shard, id), t.Epoch)
	return append(b, t.Holder...)
}

// parseRoleRow reads shard and role of a row's key, and what follows.
func parseRoleRow(key []byte) (shard antipode.Shard, id control.RoleID, rest []byte, err error) {
	const head = 1 + 8 + 4
	if len(key) > head {
		if i := slices.Index(key[head:], 0); i >= 0 {
			shard = antipode.Shard(binary.BigEndian.Uint64(key[1:]))
			id.Table = antipode.TableID(binary.BigEndian.Uint32(key[9:]))
			id.Home = antipode.Region(key[head : head+i])
			return shard, id, key[head+i+1:], nil
		}
	}
	return 0, id, nil, fmt.Errorf("%w: row of a role %x", engine.ErrCorrupt, key)
}

// storedTenure is a tenure's row.
type storedTenure struct {
	Failover uint64            `json:"failover,omitempty"`
	Forced   bool              `json:"forced,omitempty"`
	Bound    bool              `json:"bound,omitempty"`
	Cutoff   map[string]uint64 `json:"cutoff,omitempty"`
	Opened   string            `json:"opened,omitempty"`
	Released string            `json:"released,omitempty"`
	Grants   []noteGrant       `json:"grants,omitempty"`
}

func (r *tenure) encode() ([]byte, error) {
	s := storedTenure{Failover: r.Failover, Forced: r.Forced, Bound: r.Bound, Cutoff: r.Cutoff.Marks(), Grants: r.Grants}
	if !r.Opened.IsZero() {
		s.Opened = r.Opened.String()
	}
	if !r.Released.IsZero() {
		s.Released = r.Released.String()
	}
	return json.Marshal(s)
}

func decodeTenure(key, value []byte) (antipode.Shard, control.RoleID, tenure, error) {
	shard, id, rest, err := parseRoleRow(key)
	if err != nil {
		return 0, id, tenure{}, err
	}
	var s storedTenure
	bad := func(err error) error { return fmt.Errorf("%w: row of a role %x: %w", engine.ErrCorrupt, key, err) }
	if len(rest) < 9 {
		return 0, id, tenure{}, bad(errors.New("no tenure"))
	}
	if err := json.Unmarshal(value, &s); err != nil {
		return 0, id, tenure{}, bad(err)
	}
	r := tenure{Tenure: control.Tenure{Epoch: binary.BigEndian.Uint64(rest), Holder: antipode.Region(rest[8:])}, Failover: s.Failover, Forced: s.Forced, Bound: s.Bound, Grants: s.Grants}
	if r.Cutoff, err = antipode.ParseMarks(s.Cutoff); err != nil {
		return 0, id, tenure{}, bad(err)
	}
	for _, f := range []struct {
		text string
		d    *antipode.Dot
	}{{s.Opened, &r.Opened}, {s.Released, &r.Released}} {
		if f.text == "" {
			continue
		}
		if *f.d, err = antipode.ParseDot(f.text); err != nil {
			return 0, id, tenure{}, bad(err)
		}
	}
	return shard, id, r, nil
}

// storedSeal is a seal's row: lower tenures than this one are sealed.
type storedSeal struct {
	Epoch  uint64          `json:"epoch"`
	Holder antipode.Region `json:"holder"`
}

// loadTenures reads again what a run before has stored; of one shard, or of all.
func (ts *Tables) loadTenures(only *antipode.Shard) error {
	return errors.Join(
		ts.eachRow(shardSpan(prefixTenure, only), func(key, value []byte) error {
			shard, id, row, err := decodeTenure(key, value)
			if err == nil {
				ts.setKnown(shard, id, ts.known(shard, id).with(row))
			}
			return err
		}),
		ts.eachRow(shardSpan(prefixSeal, only), func(key, value []byte) error {
			shard, id, _, err := parseRoleRow(key)
			if err != nil {
				return err
			}
			var s storedSeal
			if err := json.Unmarshal(value, &s); err != nil {
				return fmt.Errorf("%w: seal %x: %w", engine.ErrCorrupt, key, err)
			}
			next := &known{}
			if k := ts.known(shard, id); k != nil {
				*next = *k
			}
			next.seal = control.Tenure{Epoch: s.Epoch, Holder: s.Holder}
			ts.setKnown(shard, id, next)
			return nil
		}),
	)
}

// reachable is a cutoff without what went with the disk of its author, which nobody
// else had, and which will never come: since it has been filled, its author has all
// that was left of it, and says so.
func (ts *Tables) reachable(id antipode.Shard, cutoff antipode.Frontier) antipode.Frontier {
	sh, state := ts.cfg.Journal.Shard(id), ts.cfg.Catalog()
	out := cutoff
	for _, m := range cutoff {
		var left antipode.Frontier
		if m.Origin.Region == ts.cfg.Self {
			if m.Origin == ts.origin || ts.fill.on.Load() {
				continue
			}
			left = sh.Applied()
		} else {
			r := state.Regions[m.Origin.Region]
			left = sh.Held(m.Origin.Region)
			if r == nil || m.Origin.Incarnation >= r.Incarnation || len(left) == 0 {
				continue
			}
		}
		if n := left.Seq(m.Origin); n < m.Seq {
			out = slices.DeleteFunc(slices.Clone(out), func(o antipode.Mark) bool { return o.Origin == m.Origin }).With(m.Origin, n)
		}
	}
	return out
}

// sealedShard reports whether anything of a shard is sealed for another region, or,
// unless this one is being filled, for itself.
func (ts *Tables) sealedShard(shard antipode.Shard) bool {
	ts.tn.mu.RLock()
	defer ts.tn.mu.RUnlock()
	for _, k := range ts.tn.shards[shard] {
		if k.seal != (control.Tenure{}) && (k.seal.Holder != ts.cfg.Self || !ts.fill.on.Load()) {
			return true
		}
	}
	return false
}

// forgetShard is called when all rows of a shard but its seals were removed. The
// shard is locked.
func (ts *Tables) forgetShard(shard antipode.Shard) {
	ts.index.forget(shard)
	ts.tn.mu.Lock()
	for id, k := range ts.tn.shards[shard] {
		ts.tn.shards[shard][id] = &known{seal: k.seal}
	}
	ts.tn.mu.Unlock()
	for _, k := range ts.pend.list(func(k *pendingKey) bool { return k.shard == shard }) {
		ts.pend.forget(k.item)
	}
}

// shardSpan is where the rows of a shard under a prefix lie, or those of all.
func shardSpan(prefix byte, only *antipode.Shard) journal.Span {
	if only == nil {
		return journal.Span{Lower: []byte{prefix}, Upper: []byte{prefix + 1}}
	}
	return journal.Span{
		Lower: binary.BigEndian.AppendUint64([]byte{prefix}, uint64(*only)),
		Upper: binary.BigEndian.AppendUint64([]byte{prefix}, uint64(*only)+1),
	}
}

func (ts *Tables) eachRow(s journal.Span, visit func(key, value []byte) error) error {
	it, err := ts.cfg.Store.Iterate(s.Lower, s.Upper)
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		if err := visit(slices.Clone(it.Key()), slices.Clone(it.Value())); err != nil {
			return errors.Join(err, it.Close())
		}
	}
	return it.Close()
}

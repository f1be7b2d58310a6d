package table

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/engine"
	"github.com/antipode-io/antipode/internal/replica/collision"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// opening is a role that this region takes over in one shard.
type opening struct {
	id     control.RoleID
	row    tenure
	cutoff bool // the row's is the group's; else it is all that is applied here then
}

// openFailovers appends this region's first entries under the roles that it has
// got by failovers whose cutoff is fixed, and so opens them.
func (w *work) openFailovers(ctx context.Context) error {
	ts := w.ts
	errs := []error{w.sealNew()}
	if errs[0] != nil {
		return errs[0]
	}
	for _, f := range w.failovers(fixed) {
		if f.Successor != ts.cfg.Self {
			continue
		}
		for _, id := range shardsOf(f.Set) {
			var open []opening
			for _, r := range f.Roles {
				t, ok := w.state.TableByID(r.Table)
				at := control.Tenure{Epoch: r.Epoch, Holder: ts.cfg.Self}
				if !ok || t.Role(r.Home).Tenure() != at {
					continue // it has gone on
				}
				open = append(open, opening{r.RoleID, tenure{Tenure: at, Failover: f.ID, Cutoff: f.Cutoff[id], Bound: true}, true})
			}
			if err := w.open(ctx, id, open); err != nil {
				errs = append(errs, fmt.Errorf("take over after failover %d: %w", f.ID, err))
			}
		}
	}
	return errors.Join(append(errs, w.synced())...)
}

// open opens roles in a shard, unless that has been done. Items that are pending
// under them are settled first: whoever opens a role is the one who is asked.
func (w *work) open(ctx context.Context, shard antipode.Shard, roles []opening) error {
	ts := w.ts
	mine := func(o opening) bool {
		k := ts.known(shard, o.id)
		last := k.last()
		if t, ok := w.state.TableByID(o.id.Table); !ok || t.Role(o.id.Home).Tenure().Compare(o.row.Tenure) > 0 {
			return false
		}
		return k.of(o.row.Tenure).Opened.IsZero() && !k.sealed(o.row.Tenure) && (last == nil || last.Tenure.Compare(o.row.Tenure) <= 0)
	}
	roles = slices.DeleteFunc(roles, func(o opening) bool { return !mine(o) })
	if len(roles) == 0 {
		return nil
	}
	under := func(k *pendingKey) bool {
		return k.shard == shard && slices.ContainsFunc(roles, func(o opening) bool { return o.id.Table == k.table && o.id.Home == k.home })
	}
	if len(ts.pend.list(under)) > 0 && !w.fetchAnywhere(ctx, shard, under) {
		w.later = true
		return nil
	}
	k, err := ts.inShard(shard, func(c *change) (some bool, err error) { // not durable yet; see synced
		here := c.txn.Applied().Clone()
		for _, o := range roles {
			if !mine(o) {
				continue
			}
			if o.cutoff && !c.txn.Applied().Covers(ts.reachable(shard, o.row.Cutoff)) {
				w.later = true // it lost its disk since, and waits for what it had
				continue
			}
			if !o.cutoff {
				o.row.Cutoff, o.row.Bound = here, true // one for all of them
			}
			if err := ts.openOne(c, o, !some); err != nil { // the first of them carries what all need
				return false, err
			}
			some = true
		}
		return some, nil
	})
	if k != nil {
		w.commits = append(w.commits, k)
		w.kick = true
	}
	return err
}

// synced returns once what was opened is durable, with one sync for all shards.
func (w *work) synced() error {
	commits := w.commits
	w.commits = nil
	return journal.Sync(commits...)
}

// sealNew seals what has come to be under way within this step.
func (w *work) sealNew() error {
	for _, f := range w.failovers(underWay) {
		if err := w.ts.sealRoles(f); err != nil {
			return err
		}
	}
	return nil
}

// otherCutoffs lists the cutoffs of the set that are in force in the shard, but
// for those that all members have passed: a region that hears from this one only
// has to know them to tell what counts.
func (ts *Tables) otherCutoffs(c *change, but roleTenure) (out []noteCutoff) {
	stable := ts.cfg.Journal.Shard(c.shard).Stable(ts.Members(c.shard))
	ids := ts.knownRoles(c.shard)
	for id := range c.next {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, control.RoleID.Compare)
	for _, id := range ids {
		k := c.known(id)
		for _, r := range k.rows {
			own := id == but.RoleID && r.Tenure == but.row.Tenure
			if r.Bound && !own && (r.Opened.IsZero() || !stable.Includes(r.Opened)) {
				out = append(out, noteCutoff{id, r.Tenure.Epoch, r.Tenure.Holder, r.Cutoff.Marks()})
			}
		}
	}
	return out
}

// openOne appends the first entry of a tenure, and settles what is pending.
func (ts *Tables) openOne(c *change, o opening, others bool) error {
	t, ok := ts.cfg.Catalog().TableByID(o.id.Table)
	if !ok {
		return nil
	}
	row := o.row
	n := &note{Failover: row.Failover, Forced: row.Forced, Cutoff: row.Cutoff.Marks()}
	k := c.known(o.id)
	if others {
		n.Earlier = ts.otherCutoffs(c, roleTenure{o.id, row})
	}
	e, err := ts.roleEntry(journal.KindEpoch, o.id, row.Tenure.Epoch, n)
	if err != nil {
		return err
	}
	c.txn.Append(e)
	row.Opened = e.Dot
	if err := ts.takeGrants(c, t, o.id, k.of(row.Tenure)); err != nil {
		return err
	}
	if err := c.bind(roleTenure{o.id, row}); err != nil {
		return err
	}
	return ts.rewrite(c, t, o.id, row.Tenure)
}

func (ts *Tables) roleEntry(kind journal.Kind, id control.RoleID, epoch uint64, n *note) (*journal.Entry, error) {
	stamp := ts.cfg.Clock.Last()
	if ts.cfg.Clock.Check() == nil { // else its time must not get into the others' clocks: no version is compared by this one
		var err error
		if stamp, err = ts.cfg.Clock.Now(); err != nil {
			return nil, fmt.Errorf("append %s: %w", kind, err)
		}
	}
	body, err := json.Marshal(n)
	if err != nil {
		return nil, fmt.Errorf("append %s: %w", kind, err)
	}
	return &journal.Entry{
		Stamp: stamp, Kind: kind, Uncertainty: ts.uncertainty(), Epoch: epoch, Role: id.Home,
		Mutation: antipode.Mutation{Table: id.Table, Body: body},
	}, nil
}

// rewrite settles what is pending at the holder of its role. Nobody else can be
// asked: the last version that is known, though it does not count, is written
// anew, so that nothing that it was built on vanishes.
func (ts *Tables) rewrite(c *change, t *TableRef, id control.RoleID, under control.Tenure) error {
	keys := ts.pend.list(func(k *pendingKey) bool { return k.shard == c.shard && k.table == id.Table && k.home == id.Home })
	for _, k := range keys {
		v, single, err := collision.DecodeSingle(k.void)
		if err != nil || !single {
			return fmt.Errorf("%w: pending item %x", engine.ErrCorrupt, k.item)
		}
		stamp, err := ts.cfg.Clock.Now()
		if err != nil {
			return fmt.Errorf("settle an item of %s: %w", t.Name, err)
		}
		e := &journal.Entry{
			Stamp: stamp, Kind: journal.KindWrite, Uncertainty: ts.uncertainty(), Epoch: under.Epoch, Replaced: k.dot,
			Mutation: antipode.Mutation{Table: t.ID, Key: k.key, Body: v.Body, Delete: v.Delete, Home: id.Home},
		}
		c.txn.Append(e)
		c.txn.Batch().Set(k.item, collision.AppendItem(nil, []collision.Version{versionOf(e)}))
		c.txn.Batch().Delete(keyed(prefixPending, t.ID, k.key))
		if err := ts.markRewritten(c, k.dot); err != nil {
			return err
		}
		c.after = append(c.after, func() {
			ts.pend.forget(k.item)
			ts.wakeRoles() // a write may wait for it
		})
		ts.cfg.Logger.Info("wrote anew what did not count, as nothing older is left", "table", t.Name, "dot", k.dot.String(), "as", e.Dot.String())
	}
	return nil
}

// markRewritten records that a stranded write was written anew by itself.
func (ts *Tables) markRewritten(c *change, d antipode.Dot) error {
	raw, err := journal.Load(ts.cfg.Store, d)
	if errors.Is(err, engine.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	row, err := (&storedStranded{State: StrandedRestored, By: "antipode", At: ts.cfg.Clock.Wall().UnixMilli()}).row(raw)
	if err != nil {
		return err
	}
	c.txn.Batch().Set(strandedKey(d), row)
	return nil
}

// fetchTries is how many steps wait for a live region that has to be asked for
// items before what is known here is made do with.
const fetchTries = 10

// fetchAnywhere asks every other region for items that are pending here, before
// this region becomes the one that is asked. It returns false where a live one
// could not be asked yet.
func (w *work) fetchAnywhere(ctx context.Context, shard antipode.Shard, want func(*pendingKey) bool) (asked bool) {
	ts := w.ts
	ctx, cancel := context.WithTimeout(ctx, pullTime)
	defer cancel()
	asked = true
	for _, r := range w.state.Members() {
		if def := w.state.Regions[r]; r == ts.cfg.Self || def == nil {
			continue
		}
		for keys := ts.pend.list(want); len(keys) > 0; {
			n := 1
			for n < len(keys) && n < versionsAtOnce && keys[n].table == keys[0].table && keys[n].home == keys[0].home {
				n++
			}
			t, ok := w.state.TableByID(keys[0].table)
			if ok && t.HasReplica(r) {
				if err := ts.fetch(ctx, t, r, keys[:n]); err != nil {
					ts.cfg.Logger.Info("ask for what stands in the place of stranded writes", "table", t.Name, "peer", string(r), "error", err)
					asked = asked && w.state.Regions[r].Lease.Fenced
				}
			}
			keys = keys[n:]
		}
	}
	if len(ts.pend.list(want)) == 0 {
		return true
	}
	step := &ts.tn.step
	if step.tries == nil {
		step.tries = make(map[antipode.Shard]int)
	}
	step.tries[shard]++
	return asked || step.tries[shard] > fetchTries
}

// pending has items that are pending become known: their role's holder is asked,
// and where that is this region, it settles them.
func (w *work) pending(ctx context.Context) error {
	ts := w.ts
	keys := ts.pend.list(func(*pendingKey) bool { return true })
	if len(keys) == 0 {
		return nil
	}
	w.later = true
	if !ts.fill.on.Load() {
		if err := ts.settleOwn(keys); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, pullTime)
	defer cancel()
	if err := ts.resolvePending(ctx, ts.pend.list(func(*pendingKey) bool { return true })); err != nil {
		ts.cfg.Logger.Info("ask for what stands in the place of stranded writes", "error", err)
	}
	return nil
}

// settleOwn writes items anew that are pending though this region holds their
// role, and has opened it: it learned of an earlier cutoff too late to ask anybody.
func (ts *Tables) settleOwn(keys []*pendingKey) error {
	type where struct {
		shard antipode.Shard
		id    control.RoleID
	}
	done := make(map[where]bool)
	for _, k := range keys {
		at := where{k.shard, control.RoleID{Table: k.table, Home: k.home}}
		t, ok := ts.cfg.Catalog().TableByID(k.table)
		if !ok || done[at] {
			continue
		}
		done[at] = true
		err := ts.inShards([]antipode.Shard{k.shard}, func(c *change) (bool, error) {
			under, err := ts.act(t, k.home, k.shard)
			if err != nil {
				return false, nil //nolint:nilerr // another region's, or not yet
			}
			return true, ts.rewrite(c, t, at.id, under)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// forced is a failover that a person forced here and the group has not adopted.
type forced struct {
	Set   antipode.Shard      `json:"set"`
	Lost  antipode.Region     `json:"lost"`
	Roles []control.RoleEpoch `json:"roles"`
	By    string              `json:"by"`
	Why   string              `json:"why"`
	At    int64               `json:"at"`
}

// Forced is a failover that a person forced at this region, and that the group does
// not know of yet.
type Forced struct {
	Lost    antipode.Region
	Roles   []control.RoleEpoch // that this region took, and under what epochs
	By, Why string
	At      int64 // milliseconds since the Unix epoch
}

// Forced lists them, from this region's own record.
func (ts *Tables) Forced() (out []Forced, err error) {
	all, err := ts.forcedHere()
	for _, f := range all {
		out = append(out, Forced{f.Lost, f.Roles, f.By, f.Why, f.At})
	}
	return out, err
}

func forcedKey(set antipode.Shard, lost antipode.Region) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{prefixForced}, uint64(set)), lost...)
}

// Force takes the roles of a region over without the group, because a person says
// so: it returns when this region accepts their writes. What the other region has
// written and this one has not, does not count from here on; it is listed as stranded when
// it arrives. Asked again, it goes on where it was interrupted.
func (ts *Tables) Force(ctx context.Context, lost antipode.Region, by, why string) ([]control.RoleEpoch, error) {
	if err := ts.ready(); err != nil {
		return nil, fmt.Errorf("force a failover of %s: %w", lost, err)
	}
	ts.tn.step.mu.Lock()
	defer ts.tn.step.mu.Unlock()
	w := &work{ts: ts, state: ts.cfg.Catalog()}
	if lost == ts.cfg.Self {
		return nil, fmt.Errorf("force a failover of %s: %w: it can't be asked of that region itself", lost, control.ErrInvalid)
	}
	bySet := ts.rolesToForce(w.state, lost)
	var all []control.RoleEpoch
	for _, set := range slices.Sorted(maps.Keys(bySet)) {
		f := &forced{Set: set, Lost: lost, Roles: bySet[set], By: by, Why: why, At: ts.cfg.Clock.Wall().UnixMilli()}
		if err := ts.storeForced(f); err != nil {
			return nil, fmt.Errorf("force a failover of %s: %w", lost, err)
		}
	}
	open, err := ts.forcedHere()
	if err != nil {
		return nil, fmt.Errorf("force a failover of %s: %w", lost, err)
	}
	for _, f := range open {
		if f.Lost != lost {
			continue
		}
		if err := w.openForced(ctx, f); err != nil {
			return nil, fmt.Errorf("force a failover of %s: %w", lost, err)
		}
		all = append(all, f.Roles...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("force a failover of %s: %w: it holds no role of a table that %s keeps", lost, control.ErrInvalid, ts.cfg.Self)
	}
	ts.wakeRoles()
	return all, nil
}

// rolesToForce lists the roles that a region holds or is being handed, by set,
// with the epochs under which this region takes them.
func (ts *Tables) rolesToForce(state *control.State, lost antipode.Region) map[antipode.Shard][]control.RoleEpoch {
	out := make(map[antipode.Shard][]control.RoleEpoch)
	for _, t := range state.Tables {
		if !t.HasReplica(ts.cfg.Self) {
			continue
		}
		for home, r := range t.Roles {
			held, epoch := r.Holder == lost || r.Next == lost, r.Epoch
			if r.Next != "" {
				epoch++
			}
			for _, shard := range shardsOf(t.Shards()) {
				if last := ts.known(shard, control.RoleID{Table: t.ID, Home: home}).last(); last != nil && last.Tenure.Compare(r.Tenure()) > 0 {
					held = last.Tenure.Holder == lost
					epoch = max(epoch, last.Tenure.Epoch)
				}
			}
			if held {
				out[t.Shards()] = append(out[t.Shards()], control.RoleEpoch{RoleID: control.RoleID{Table: t.ID, Home: home}, Epoch: epoch + 1})
			}
		}
	}
	for _, roles := range out {
		slices.SortFunc(roles, func(a, b control.RoleEpoch) int { return a.Compare(b.RoleID) })
	}
	return out
}

// storeForced records durably what is about to be taken, so that a crash leaves
// nothing half done, along with what was taken before and the group does not know.
func (ts *Tables) storeForced(f *forced) error {
	all, err := ts.forcedHere()
	if err != nil {
		return err
	}
	for _, was := range all {
		for _, r := range was.Roles {
			again := slices.ContainsFunc(f.Roles, func(o control.RoleEpoch) bool { return o.RoleID == r.RoleID })
			if was.Set == f.Set && was.Lost == f.Lost && !again {
				f.Roles = append(f.Roles, r)
			}
		}
	}
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	b := ts.cfg.Store.NewBatch()
	b.Set(forcedKey(f.Set, f.Lost), text)
	return ts.durable(b)
}

func (ts *Tables) forcedHere() (out []*forced, err error) {
	err = ts.eachRow(shardSpan(prefixForced, nil), func(key, value []byte) error {
		f := new(forced)
		if err := json.Unmarshal(value, f); err != nil {
			return fmt.Errorf("%w: forced failover %x: %w", engine.ErrCorrupt, key, err)
		}
		out = append(out, f)
		return nil
	})
	return out, err
}

func (w *work) openForced(ctx context.Context, f *forced) error {
	for _, shard := range shardsOf(f.Set) {
		var open []opening
		for _, r := range f.Roles {
			open = append(open, opening{id: r.RoleID, row: tenure{Tenure: control.Tenure{Epoch: r.Epoch, Holder: w.ts.cfg.Self}, Forced: true}})
		}
		if err := w.open(ctx, shard, open); err != nil {
			return err
		}
	}
	return w.synced()
}

// adopt finishes forced failovers, and has the group take them over as soon as it
// can be reached.
func (w *work) adopt(ctx context.Context) error {
	ts := w.ts
	all, err := ts.forcedHere()
	if err != nil {
		return err
	}
	for _, f := range all {
		f.Roles = slices.DeleteFunc(f.Roles, func(r control.RoleEpoch) bool { // of a table that was deleted since
			_, ok := w.state.TableByID(r.Table)
			return !ok && r.Table < w.state.NextTable
		})
		if err := w.openForced(ctx, f); err != nil {
			return err
		}
		w.later = true
		for _, a := range ts.adoptions(f) {
			err := w.propose(ctx, control.Command{Adopt: a})
			if err != nil && !errors.Is(err, control.ErrStale) && !errors.Is(err, control.ErrInvalid) {
				return fmt.Errorf("tell the group of the forced failover of %s: %w", f.Lost, err)
			}
		}
		b := ts.cfg.Store.NewBatch() // adopted, or overtaken
		b.Delete(forcedKey(f.Set, f.Lost))
		if err := ts.durable(b); err != nil {
			return err
		}
	}
	return nil
}

// adoptions are what the group has to know of a forced failover: the roles that
// were taken at once, and so have the same cutoffs, go together.
func (ts *Tables) adoptions(f *forced) (out []*control.Adopt) {
	for _, r := range f.Roles {
		cutoff := make(control.Frontiers)
		for _, shard := range shardsOf(f.Set) {
			row := ts.known(shard, r.RoleID).of(control.Tenure{Epoch: r.Epoch, Holder: ts.cfg.Self})
			if row.Bound && len(row.Cutoff) > 0 {
				cutoff[shard] = row.Cutoff
			}
		}
		i := slices.IndexFunc(out, func(a *control.Adopt) bool { return a.Cutoff.Covers(cutoff) && cutoff.Covers(a.Cutoff) })
		if i < 0 {
			i = len(out)
			out = append(out, &control.Adopt{Region: ts.cfg.Self, Set: f.Set, Lost: f.Lost, Cutoff: cutoff, By: f.By, Why: f.Why, At: f.At})
		}
		out[i].Roles = append(out[i].Roles, r)
	}
	return out
}

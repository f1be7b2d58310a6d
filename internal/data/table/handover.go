package table

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// release hands over the roles that are being switched to another region, once
// the group has let this one go: from this entry on, it forwards. Those of one
// table go at once, since a birth may need two of them.
func (w *work) release() error {
	ts := w.ts
	leaving := make(map[antipode.TableID][]control.RoleID)
	for _, id := range w.state.RolesOf(ts.cfg.Self) {
		if t, ok := w.state.TableByID(id.Table); ok {
			if r := t.Role(id.Home); r.Holder == ts.cfg.Self && r.Leaving {
				leaving[t.ID] = append(leaving[t.ID], id)
			}
		}
	}
	var errs []error
	for _, table := range slices.Sorted(maps.Keys(leaving)) {
		t, _ := w.state.TableByID(table)
		err := ts.inShards(shardsOf(t.Shards()), func(c *change) (some bool, err error) {
			for _, id := range leaving[table] {
				r, s := t.Role(id.Home), ts.standing(t, id.Home, c.shard)
				switch {
				case s.Tenure != r.Tenure(): // done
				case !ts.canLeave(t, s):
					w.later = true
				default:
					if err := ts.releaseOne(c, t, id, r); err != nil {
						return false, err
					}
					some = true
				}
			}
			return some, nil
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("hand %s over: %w", t.Name, err))
		}
	}
	return errors.Join(errs...)
}

// canLeave reports whether a role that stands like that here may be released.
func (ts *Tables) canLeave(t *TableRef, s standing) bool {
	return s.open && !s.sealed && ts.leased(t, s.forced)
}

func (ts *Tables) releaseOne(c *change, t *TableRef, id control.RoleID, r control.Role) error {
	grants, err := ts.grantsOf(c, t, id, r.Tenure())
	if err != nil {
		return err
	}
	e, err := ts.roleEntry(journal.KindRelease, id, r.Epoch, &note{To: r.Next, Grants: grants})
	if err != nil {
		return err
	}
	c.txn.Append(e)
	_, err = c.learn(id, tenure{Tenure: control.Tenure{Epoch: r.Epoch + 1, Holder: r.Next}, Released: e.Dot})
	return err
}

// grantsOf lists the births that were granted under a tenure and have not
// happened: whoever arbitrates next has to know of them.
func (ts *Tables) grantsOf(c *change, t *TableRef, id control.RoleID, under control.Tenure) (out []noteGrant, err error) {
	if t.Writes != antipode.WritePartitioned || t.HomeBy == antipode.HomePrefix {
		return nil, nil
	}
	prefix := tablePrefix(prefixGrant, t.ID)
	err = ts.eachRow(journal.Span{Lower: prefix, Upper: after(prefix)}, func(row, _ []byte) error {
		p := locateEncoded(t, row[len(prefix):])
		if p.shard != c.shard || arbiterOf(t, p.key) != id.Home {
			return nil
		}
		b, err := ts.storedGrant(t, p, under)
		if err == nil && b != nil {
			out = append(out, noteGrant{Key: p.key, Home: b.Home, Tomb: b.Tomb})
		}
		return err
	})
	return out, err
}

// takeGrants stores the grants that came with a release as this region's own.
func (ts *Tables) takeGrants(c *change, t *TableRef, id control.RoleID, row tenure) error {
	if row.Released.IsZero() {
		return nil
	}
	for _, g := range row.Grants {
		p := locateEncoded(t, g.Key)
		if there, err := ts.visible(t, p); err == nil && lives(there) {
			continue
		}
		text, err := json.Marshal(&birth{Home: g.Home, Tomb: g.Tomb, Epoch: row.Tenure.Epoch, Holder: row.Tenure.Holder})
		if err != nil {
			return fmt.Errorf("store grant: %w", err)
		}
		c.txn.Batch().Set(keyed(prefixGrant, id.Table, g.Key), text)
	}
	return nil
}

// take opens the roles that are handed to this region, shard by shard as the
// releases arrive. It waits for nobody: the next release may be there already.
func (w *work) take(ctx context.Context) error {
	ts := w.ts
	errs := []error{w.sealNew()}
	if errs[0] != nil {
		return errs[0]
	}
	byTable := make(map[antipode.TableID][]control.RoleEpoch)
	for _, r := range w.state.HandedTo(ts.cfg.Self) {
		byTable[r.Table] = append(byTable[r.Table], r)
	}
	for _, table := range slices.Sorted(maps.Keys(byTable)) {
		t, _ := w.state.TableByID(table)
		for _, shard := range shardsOf(t.Shards()) {
			var open []opening
			for _, r := range byTable[table] {
				row := ts.known(shard, r.RoleID).of(control.Tenure{Epoch: r.Epoch, Holder: ts.cfg.Self})
				if row.Opened.IsZero() && !row.Released.IsZero() {
					row.Bound = false
					open = append(open, opening{id: r.RoleID, row: row})
				}
			}
			if err := w.open(ctx, shard, open); err != nil {
				errs = append(errs, fmt.Errorf("take %s over: %w", t.Name, err))
			}
		}
	}
	return errors.Join(append(errs, w.synced())...)
}

// tell tells the group what comes before and after a release: that this region
// is about to hand roles over, and which it has taken over.
func (ts *Tables) tell(ctx context.Context) (again time.Duration, err error) {
	if ts.cfg.Propose == nil || ts.fill.on.Load() {
		return 0, nil
	}
	leave, later := ts.leaves(ts.cfg.Catalog())
	err = ts.tellOf(ctx, leave, func(roles []control.RoleEpoch) control.Command {
		return control.Command{Leave: &control.Leave{Roles: roles, By: ts.cfg.Self}}
	})
	took, tookErr := ts.taken(ctx, ts.cfg.Catalog())
	if tookErr == nil {
		tookErr = ts.tellOf(ctx, took, func(roles []control.RoleEpoch) control.Command {
			return control.Command{Took: &control.Took{Roles: roles, By: ts.cfg.Self}}
		})
	}
	if err = errors.Join(err, tookErr); err != nil || later {
		again = stepAgain
	}
	return again, err
}

// leaves lists the roles that this region is ready to hand over: it may write
// under them, and who is to have them answers. The others it keeps until then,
// and a person may call the switch off.
func (ts *Tables) leaves(state *control.State) (out []control.RoleEpoch, later bool) {
	for _, id := range state.RolesOf(ts.cfg.Self) {
		t, ok := state.TableByID(id.Table)
		if !ok {
			continue
		}
		r := t.Role(id.Home)
		if r.Holder != ts.cfg.Self || r.Next == "" || r.Leaving {
			continue
		}
		ready := ts.cfg.Reaches == nil || ts.cfg.Reaches(r.Next)
		for _, shard := range shardsOf(t.Shards()) {
			s := ts.standing(t, id.Home, shard)
			ready = ready && (s.Tenure != r.Tenure() || ts.canLeave(t, s))
		}
		if ready {
			out = append(out, control.RoleEpoch{RoleID: id, Epoch: r.Epoch})
		}
		later = later || !ready
	}
	return out, later
}

// taken lists the roles that this region has taken over in all shards, durably,
// and that the group takes for its predecessor's still.
func (ts *Tables) taken(ctx context.Context, state *control.State) (out []control.RoleEpoch, err error) {
	for _, r := range state.HandedTo(ts.cfg.Self) {
		t, _ := state.TableByID(r.Table)
		all := true
		for _, shard := range shardsOf(t.Shards()) {
			opened := ts.known(shard, r.RoleID).of(control.Tenure{Epoch: r.Epoch, Holder: ts.cfg.Self}).Opened
			if all = all && !opened.IsZero(); !all {
				break
			}
			if err := ts.cfg.Journal.Shard(shard).WaitDurable(ctx, opened.Seq); err != nil {
				return nil, err
			}
		}
		if all {
			out = append(out, r)
		}
	}
	return out, nil
}

// tellOf proposes a command for all roles at once, or, where one of them has gone
// on, for each.
func (ts *Tables) tellOf(ctx context.Context, roles []control.RoleEpoch, command func([]control.RoleEpoch) control.Command) error {
	if len(roles) == 0 {
		return nil
	}
	w := &work{ts: ts, state: ts.cfg.Catalog()}
	err := w.propose(ctx, command(roles))
	if !errors.Is(err, control.ErrStale) && !errors.Is(err, control.ErrNoTable) {
		return err
	}
	if len(roles) == 1 {
		return nil
	}
	var errs []error
	for i := range roles {
		errs = append(errs, ts.tellOf(ctx, roles[i:i+1], command))
	}
	return errors.Join(errs...)
}

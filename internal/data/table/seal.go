package table

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/antipode-io/antipode/internal/control"
)

// failovers lists those of sets that this region is a member of, oldest first.
func (w *work) failovers(want func(*control.Failover) bool) []*control.Failover {
	var out []*control.Failover
	for _, id := range slices.Sorted(maps.Keys(w.state.Failovers)) {
		f := w.state.Failovers[id]
		if want(f) && slices.Contains(w.state.MembersOf(f.Set), w.ts.cfg.Self) {
			out = append(out, f)
		}
	}
	return out
}

func underWay(f *control.Failover) bool { return f.Cutoff == nil }

func fixed(f *control.Failover) bool { return f.Cutoff != nil }

// seal seals what failovers under way end, durably, and then tells the group all
// that is here: nothing of it is written, applied, acknowledged or relayed any
// more until the cutoff is known.
func (w *work) seal(ctx context.Context) error {
	ts := w.ts
	open := w.failovers(underWay)
	w.fences = w.state.Fences
	for _, f := range open {
		if err := ts.sealRoles(f); err != nil {
			return fmt.Errorf("seal for failover %d: %w", f.ID, err)
		}
	}
	for _, f := range open {
		if _, told := f.Sealed[ts.cfg.Self]; told || f.Successor == ts.cfg.Self {
			continue // the cutoff will tell what the successor has, and that it has sealed
		}
		err := w.propose(ctx, control.Command{Seal: &control.Seal{Failover: f.ID, Region: ts.cfg.Self, Had: ts.frontiers(f.Set), Fences: w.fences}})
		if err != nil && !errors.Is(err, control.ErrStale) {
			return fmt.Errorf("tell the group what %s has for failover %d: %w", ts.cfg.Self, f.ID, err)
		}
	}
	return nil
}

// proposeTime bounds a proposal: there may be no majority.
const proposeTime = 3 * time.Second

// propose proposes a command, and goes on with the state after it.
func (w *work) propose(ctx context.Context, c control.Command) error {
	ctx, cancel := context.WithTimeout(ctx, proposeTime)
	defer cancel()
	state, err := w.ts.cfg.Propose(ctx, c)
	if err != nil {
		return err
	}
	if state != nil && state.Index > w.state.Index {
		w.state = state
	}
	return nil
}

func (ts *Tables) sealRoles(f *control.Failover) error {
	return ts.inShards(shardsOf(f.Set), func(c *change) (some bool, err error) {
		for _, r := range f.Roles {
			end := control.Tenure{Epoch: r.Epoch, Holder: f.Successor}
			k := c.known(r.RoleID)
			if k != nil && (k.seal.Compare(end) >= 0 || k.of(end).Bound) {
				continue
			}
			row, err := json.Marshal(storedSeal{Epoch: end.Epoch, Holder: end.Holder})
			if err != nil {
				return false, err
			}
			c.txn.Batch().Set(roleRow(prefixSeal, c.shard, r.RoleID), row)
			next := &known{}
			if k != nil {
				*next = *k
			}
			next.seal = end
			c.next[r.RoleID] = next
			some = true
		}
		return some, nil
	})
}

// install puts the cutoffs that the group has fixed in force here.
func (w *work) install() error {
	ts := w.ts
	for _, f := range w.failovers(fixed) {
		if ts.tn.step.installed[f.ID] && !ts.fill.on.Load() {
			continue
		}
		err := ts.inShards(shardsOf(f.Set), func(c *change) (some bool, err error) {
			return ts.installRoles(c, f)
		})
		if err != nil {
			return fmt.Errorf("put the cutoff of failover %d in force: %w", f.ID, err)
		}
		w.kick = true
		if ts.fill.on.Load() {
			continue // a copy may replace what is stored of it
		}
		if ts.tn.step.installed == nil {
			ts.tn.step.installed = make(map[uint64]bool)
		}
		ts.tn.step.installed[f.ID] = true
	}
	return nil
}

// installRoles puts a cutoff in force in one shard.
func (ts *Tables) installRoles(c *change, f *control.Failover) (some bool, err error) {
	cutoff := f.Cutoff[c.shard]
	fresh := false
	for _, r := range c.ts.roles(f) {
		end := control.Tenure{Epoch: r.Epoch, Holder: f.Successor}
		if c.known(r.RoleID).of(end).Bound {
			continue
		}
		if _, err := c.learn(r.RoleID, tenure{Tenure: end, Failover: f.ID, Cutoff: cutoff, Bound: true}); err != nil {
			return false, err
		}
		fresh = true
	}
	if !fresh {
		return false, nil
	}
	return true, c.takeOut(cutoff)
}

// roles lists a failover's roles but for those of tables that were deleted since:
// of them nothing is kept.
func (ts *Tables) roles(f *control.Failover) (out []control.RoleEpoch) {
	state := ts.cfg.Catalog()
	for _, r := range f.Roles {
		if _, ok := state.TableByID(r.Table); ok {
			out = append(out, r)
		}
	}
	return out
}

// Installed reports whether the cutoff of a failover is in force here in all
// shards, or does not concern this region.
func (ts *Tables) Installed(failover uint64) bool {
	state := ts.cfg.Catalog()
	f, ok := state.Failovers[failover]
	if !ok || !slices.Contains(state.MembersOf(f.Set), ts.cfg.Self) {
		return true
	}
	if f.Cutoff == nil {
		return false
	}
	for _, id := range shardsOf(f.Set) {
		for _, r := range ts.roles(f) {
			if !ts.known(id, r.RoleID).of(control.Tenure{Epoch: r.Epoch, Holder: f.Successor}).Bound {
				return false
			}
		}
	}
	return true
}

package table

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// stepper is what steps remember between each other. Losing it does no harm.
type stepper struct {
	mu        sync.Mutex
	seen      uint64                       // index of the state that was looked at last
	proposed  map[uint64]control.Frontiers // by failover: the cutoff, while it isn't known what became of it
	installed map[uint64]bool              // by failover
	tries     map[antipode.Shard]int       // how often items were asked for in vain before a role was opened
}

// stepAgain is how long a step that could not do everything waits for the next.
const stepAgain = 200 * time.Millisecond

// RunRoles takes its part in failovers and switches until ctx ends: it looks
// again whenever the agreed state changes, or the journal says something of roles.
// What it tells the group of handovers it tells beside that: a round trip to the
// leader would hold up all that is handed over meanwhile.
func (ts *Tables) RunRoles(ctx context.Context, changed func() <-chan struct{}) {
	var wg sync.WaitGroup
	wg.Go(func() { ts.eachChange(ctx, changed, ts.tell) })
	ts.eachChange(ctx, changed, ts.step)
	wg.Wait()
}

// eachChange calls step now, whenever something changes that roles depend on, and
// when the time has passed that step returns; 0 for never.
func (ts *Tables) eachChange(ctx context.Context, changed func() <-chan struct{}, step func(context.Context) (again time.Duration, err error)) {
	for ctx.Err() == nil {
		state, roles := changed(), ts.rolesChanged()
		again, err := step(ctx)
		if err != nil && ctx.Err() == nil {
			ts.cfg.Logger.Warn("roles", "error", err)
		}
		var timer <-chan time.Time
		if again > 0 {
			timer = time.After(again)
		}
		select {
		case <-state:
		case <-roles:
		case <-timer:
		case <-ctx.Done():
		}
	}
}

// StepRoles does what can be done now about failovers, switches and items that
// are pending. It says after which time to look again, should nothing change
// before; 0 for never. What can't be done yet is no error.
func (ts *Tables) StepRoles(ctx context.Context) (again time.Duration, err error) {
	again, err = ts.step(ctx)
	if err != nil {
		return again, err
	}
	soon, err := ts.tell(ctx)
	if again == 0 || soon > 0 && soon < again {
		again = soon
	}
	return again, err
}

// step is all of StepRoles but what waits for the group with nothing to be done
// here. Steps do not overlap.
func (ts *Tables) step(ctx context.Context) (again time.Duration, err error) {
	ts.tn.step.mu.Lock()
	defer ts.tn.step.mu.Unlock()
	if ts.tn.broken != nil {
		return 0, ts.tn.broken
	}
	if ts.cfg.Propose == nil {
		return 0, nil
	}
	state := ts.cfg.Catalog()
	if state.Index != ts.tn.step.seen {
		ts.tn.step.seen = state.Index
		ts.wakeRoles() // what the group says of roles counts, too
		ts.passOver()
	}
	w := &work{ts: ts, state: state}
	// Cutoffs are in force before anything is reported or gathered, and everything
	// that has ended is sealed before anything new is decided.
	if err := w.install(); err != nil {
		return stepAgain, err
	}
	if err := w.seal(ctx); err != nil {
		return stepAgain, err
	}
	if !ts.fill.on.Load() {
		w.note(w.fix(ctx))
		w.note(w.openFailovers(ctx))
		w.note(w.release())
		w.note(w.take(ctx))
		w.note(w.adopt(ctx))
	}
	w.note(w.pending(ctx))
	if w.kick && ts.cfg.Kick != nil {
		ts.cfg.Kick()
	}
	if w.later || len(w.errs) > 0 {
		again = stepAgain
	}
	return again, errors.Join(w.errs...)
}

// work is one step.
type work struct {
	ts    *Tables
	state *control.State
	errs  []error
	later bool // something can't be done yet
	// fences is how many fencings everything is sealed for.
	fences uint64
	kick   bool // entries that have waited may be applied
	// commits are what has been opened and is not durable yet.
	commits []*journal.Commit
}

func (w *work) note(err error) {
	if err != nil {
		w.errs = append(w.errs, err)
	}
}

// shardsOf lists the shards of a set.
func shardsOf(set antipode.Shard) []antipode.Shard {
	out := make([]antipode.Shard, antipode.ShardsPerSet)
	for i := range out {
		out[i] = set.Set() | antipode.Shard(i)
	}
	return out
}

// inShards runs change in each shard's critical section, and returns once what
// it has stored is durable everywhere. A change that stores nothing costs nothing.
func (ts *Tables) inShards(shards []antipode.Shard, change func(c *change) (some bool, err error)) error {
	var commits []*journal.Commit
	for _, id := range shards {
		k, err := ts.inShard(id, change)
		if k != nil {
			commits = append(commits, k)
		}
		if err != nil {
			return errors.Join(err, journal.Sync(commits...))
		}
	}
	return journal.Sync(commits...)
}

func (ts *Tables) inShard(id antipode.Shard, change func(c *change) (some bool, err error)) (*journal.Commit, error) {
	sh := ts.cfg.Journal.Shard(id)
	sh.Lock()
	defer sh.Unlock()
	if sh.Copying() {
		return nil, fmt.Errorf("%w: shard %s is being replaced by a copy", ErrUnavailable, id)
	}
	txn := sh.Begin(ts.cfg.Store.NewBatch())
	c := ts.change(id, txn)
	some, err := change(c)
	if err != nil || !some {
		txn.Discard()
		return nil, err
	}
	k, err := txn.Commit()
	if err != nil {
		return nil, err
	}
	c.committed()
	return k, nil
}

// frontiers returns what is durable here of a set's shards.
func (ts *Tables) frontiers(set antipode.Shard) control.Frontiers {
	out := make(control.Frontiers)
	for _, id := range shardsOf(set) {
		if f := ts.cfg.Journal.Shard(id).Durable(); len(f) > 0 {
			out[id] = f
		}
	}
	return out
}

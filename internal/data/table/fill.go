package table

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/antipode-io/antipode"
)

// errServing says that a copy comes too late.
var errServing = errors.New("this region serves its items already, and would lose what was written here; if its items are damaged, stop it, move its store away and start it again")

// filling is the time of a region that lost its disk before it has everything
// back: it receives, and decides nothing. Copies are taken then, and only then.
type filling struct {
	on atomic.Bool

	mu     sync.Mutex // guards what follows, and on's change
	begun  int        // copies, in this run
	active map[antipode.Shard]struct{}
}

func (f *filling) begin(id antipode.Shard) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.on.Load() {
		return errServing
	}
	if f.active == nil {
		f.active = make(map[antipode.Shard]struct{})
	}
	f.active[id] = struct{}{}
	f.begun++
	return nil
}

func (f *filling) has(id antipode.Shard) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.active[id]
	return ok
}

func (f *filling) end(id antipode.Shard) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.active, id)
}

// Copies counts the copies of shards that were begun in this run.
func (ts *Tables) Copies() int {
	ts.fill.mu.Lock()
	defer ts.fill.mu.Unlock()
	return ts.fill.begun
}

// Serve ends the time in which a region that lost its disk is being filled (see
// Config.Filling), and records that with done. It returns false, and changes
// nothing, where a copy is under way or was begun since Copies returned what is
// given: what was known to be here then may have been replaced.
func (ts *Tables) Serve(copies int, done func() error) (bool, error) {
	for _, id := range ts.cfg.Journal.Shards() {
		if ts.cfg.Journal.Shard(id).Copying() && !ts.fill.has(id) {
			if err := ts.Abort(id); err != nil { // of a run before, and nobody has sent anything since
				return false, err
			}
		}
	}
	ts.fill.mu.Lock()
	defer ts.fill.mu.Unlock()
	if ts.fill.begun != copies || len(ts.fill.active) > 0 {
		return false, nil
	}
	if err := done(); err != nil {
		return false, err
	}
	ts.fill.on.Store(false)
	return true, nil
}

// Filling reports whether this region lost its disk and does not serve yet.
func (ts *Tables) Filling() bool { return ts.fill.on.Load() }

// ready refuses to decide anything while the region is being filled: what it had
// decided before it lost its disk may not have come back yet.
func (ts *Tables) ready() error {
	if ts.tn.broken != nil {
		return fmt.Errorf("read what is stored of roles: %w", ts.tn.broken)
	}
	if ts.fill.on.Load() {
		return fmt.Errorf("%w: %s lost its disk and waits to be given what the other regions hold; try again, or see `antipode status`", ErrUnavailable, ts.cfg.Self)
	}
	return nil
}

// Handlers returns what this region answers for its peers, by method.
func (ts *Tables) Handlers() map[string]Handler {
	all := ts.handlers()
	for method, h := range all {
		all[method] = func(ctx context.Context, from antipode.Region, body []byte) ([]byte, error) {
			if err := ts.ready(); err != nil {
				return refuse(err)
			}
			return h(ctx, from, body)
		}
	}
	return all
}

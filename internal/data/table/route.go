package table

import (
	"context"
	"errors"
	"fmt"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/replica/collision"
)

// movedError says that another region has to be asked: the item belongs to
// another home, or the role is held elsewhere.
type movedError struct {
	home   antipode.Region // whose the item is; "" in global tables
	tenure control.Tenure  // who holds that role; zero where the teller only knows the home
	after  antipode.Dot    // what the holder must have applied to know it; zero where nothing
}

func (e *movedError) Error() string {
	if e.tenure.Holder != "" {
		return fmt.Sprintf("it is decided in %s", e.tenure.Holder)
	}
	return fmt.Sprintf("item belongs to %s", e.home)
}

// meant is the role and tenure for which a request was forwarded. It is refused
// under any other: it may have been repeated elsewhere since. The zero value is
// for requests of this region's own clients.
type meant struct {
	home  antipode.Region
	epoch uint64
}

// actAs is act for a request that was meant for a role and a tenure.
func (ts *Tables) actAs(t *TableRef, home antipode.Region, shard antipode.Shard, m meant) (control.Tenure, error) {
	under, err := ts.act(t, home, shard)
	if m.epoch == 0 {
		return under, err
	}
	asked := control.Tenure{Epoch: m.epoch, Holder: ts.cfg.Self}
	switch {
	case m.home != home:
		return under, &movedError{home: home}
	case under.Compare(asked) < 0:
		return under, errNotOpen // this region is about to learn of it
	case under != asked && err == nil:
		return under, &movedError{home: home, tenure: under}
	}
	return under, err
}

// way is how a request finds the region that decides: it follows what regions
// say of each other, a bounded number of times.
type way struct {
	ts    *Tables
	t     *TableRef
	shard antipode.Shard
	home  antipode.Region
	hint  control.Tenure
	after antipode.Dot
	// request is the id under which a write was forwarded, if it was: every entry
	// that comes of it has it, so that a stranded one can be told from a lost one.
	request []byte
}

// to returns who holds the role, as far as is known here or was said.
func (y *way) to() control.Tenure {
	y.t = y.ts.fresh(y.t)
	s := y.ts.standing(y.t, y.home, y.shard)
	if y.hint.Compare(s.Tenure) > 0 {
		return y.hint
	}
	if y.after.IsZero() {
		y.after = s.after
	}
	return s.Tenure
}

// follow takes note of where a refusal points, and reports whether it is one
// that does.
func (y *way) follow(err error) bool {
	moved, ok := errors.AsType[*movedError](err)
	if !ok {
		return false
	}
	if moved.home != y.home {
		y.hint = control.Tenure{}
	}
	y.home, y.after = moved.home, moved.after
	if moved.tenure.Compare(y.hint) > 0 {
		y.hint = moved.tenure
	}
	return true
}

// fresh returns a table as the group knows it by now.
func (ts *Tables) fresh(t *TableRef) *TableRef {
	if cur, ok := ts.cfg.Catalog().TableByID(t.ID); ok {
		return cur
	}
	return t
}

// writeGlobal writes where the table's writer is.
func (ts *Tables) writeGlobal(ctx context.Context, w WriteRequest) (WriteResult, error) {
	p := locate(w.Table, w.Key)
	y := &way{ts: ts, t: w.Table, shard: p.shard}
	if y.to().Holder == ts.cfg.Self {
		res, err := ts.commit(ctx, p, &w, terms{})
		if !y.follow(err) {
			return res, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, ts.cfg.Timeout)
	defer cancel()
	for range maxHops {
		var res WriteResult
		var err error
		if to := y.to(); to.Holder != ts.cfg.Self {
			res, err = ts.forward(ctx, to, &w, p, y)
		} else if err = ts.awaitHanded(ctx, y.after); err == nil {
			res, err = ts.commit(ctx, p, &w, terms{request: y.request})
		}
		if !y.follow(err) {
			return res, err
		}
	}
	return WriteResult{}, fmt.Errorf("%w: the writer of %s moved %d times while it was asked; try again", ErrUnavailable, w.Table.Name, maxHops)
}

// getGlobal answers a consistent read of a global table: at its writer.
func (ts *Tables) getGlobal(ctx context.Context, t *TableRef, p place, dst []byte) ([]byte, error) {
	y := &way{ts: ts, t: t, shard: p.shard}
	if y.to().Holder == ts.cfg.Self {
		item, err := ts.getHeld(ctx, t, p, "", meant{})
		if !y.follow(err) {
			return appendItem(dst, item), err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, ts.cfg.Timeout)
	defer cancel()
	for range maxHops {
		var item []byte
		var err error
		if to := y.to(); to.Holder != ts.cfg.Self {
			item, err = ts.getFrom(ctx, to, t, p, y)
		} else if err = ts.awaitHanded(ctx, y.after); err == nil {
			item, err = ts.getHeld(ctx, t, p, "", meant{})
		}
		if !y.follow(err) {
			return appendItem(dst, item), err
		}
	}
	return nil, fmt.Errorf("%w: the writer of %s moved %d times while it was asked; try again", ErrUnavailable, t.Name, maxHops)
}

func appendItem(dst, item []byte) []byte {
	if item == nil {
		return nil
	}
	if dst == nil {
		return item
	}
	return append(dst, item...)
}

// getHeld reads an item under a role that this region holds before and after:
// under the very same tenure, or what was read may be older than what another
// region has acknowledged in between.
func (ts *Tables) getHeld(ctx context.Context, t *TableRef, p place, home antipode.Region, m meant) ([]byte, error) {
	under, err := ts.awaitAct(ctx, t, home, p, m)
	if err != nil {
		return nil, err
	}
	if ts.pend.has(p.item) {
		return nil, ts.pendingError(t)
	}
	item, err := ts.getHere(ctx, t, p, nil)
	if err != nil {
		return nil, err
	}
	return item, ts.stands(t, home, p.shard, under, antipode.Dot{})
}

// awaitAct is actAs outside the critical section, for answers that are checked
// again when they are there. It waits while the role is being taken over.
func (ts *Tables) awaitAct(ctx context.Context, t *TableRef, home antipode.Region, p place, m meant) (control.Tenure, error) {
	var under control.Tenure
	err := ts.whenOpen(ctx, t, func(t *TableRef) (err error) {
		under, err = ts.actAs(t, home, p.shard, m)
		return err
	})
	return under, err
}

// lives reports whether there is an item.
func lives(there *collision.Version) bool { return there != nil && !there.Delete }

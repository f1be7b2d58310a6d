package table

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/replica/journal"
)

// requests are the writes that this region has forwarded and has no answer to.
// The journal tells what became of one: an entry carries the request's id.
type requests struct {
	n atomic.Int64

	mu   sync.Mutex
	open map[string]*request
}

// request is one of them.
type request struct {
	role  control.RoleID
	shard antipode.Shard
	to    control.Tenure
	stop  context.CancelFunc // of the call: its answer is not waited for any more
	seen  chan struct{}      // closed when the entry is applied here
	entry *journal.Entry     // then it is this one
}

// found reports whether its entry is applied here.
func (r *request) found() bool {
	select {
	case <-r.seen:
		return true
	default:
		return false
	}
}

func (q *requests) add(id []byte, r *request) {
	q.n.Add(1)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open == nil {
		q.open = make(map[string]*request)
	}
	q.open[string(id)] = r
}

func (q *requests) drop(id []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.open, string(id))
	q.n.Add(-1)
}

// found takes note of an entry that was applied here and counts.
func (q *requests) found(e *journal.Entry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if r := q.open[string(e.Request)]; r != nil && r.entry == nil {
		r.entry = e
		close(r.seen)
	}
}

// passOver ends the waiting for answers of regions whose tenure has ended.
func (ts *Tables) passOver() {
	if ts.asked.n.Load() == 0 {
		return
	}
	ts.asked.mu.Lock()
	defer ts.asked.mu.Unlock()
	for _, r := range ts.asked.open {
		if _, ended := ts.known(r.shard, r.role).bound(r.to); ended {
			r.stop()
		}
	}
}

// bound returns the highest cutoff that bounds a tenure, if any.
func (k *known) bound(t control.Tenure) (antipode.Frontier, bool) {
	if k == nil {
		return nil, false
	}
	for i := len(k.rows) - 1; i >= 0 && t.Compare(k.rows[i].Tenure) < 0; i-- {
		if k.rows[i].Bound {
			return k.rows[i].Cutoff, true
		}
	}
	return nil, false
}

// forward sends a write to whoever holds the role and waits until it has come
// back, so that the next local read sees it. Where no answer comes, the journal
// tells: the write is here, or the holder's tenure has ended without it, and then
// the error says where to ask next.
func (ts *Tables) forward(ctx context.Context, to control.Tenure, w *WriteRequest, p place, y *way) (WriteResult, error) {
	if y.request == nil {
		y.request = newRequestID()
	}
	id := y.request
	asking, stop := context.WithCancel(ctx)
	defer stop()
	r := &request{role: control.RoleID{Table: w.Table.ID, Home: y.home}, shard: p.shard, to: to, stop: stop, seen: make(chan struct{})}
	ts.asked.add(id, r)
	defer ts.asked.drop(id)
	res, err := ts.forwardOnce(asking, to, w, y, id)
	switch {
	case errors.Is(err, ErrOutcomeUnknown):
		return ts.findOut(ctx, w, r, err)
	case errors.Is(err, ErrUnavailable) && ts.standing(ts.fresh(w.Table), y.home, p.shard).Compare(to) > 0:
		return res, ts.pastTenure(w.Table, r) // nothing was written, and somebody else holds the role now
	}
	return res, err
}

func (ts *Tables) forwardOnce(ctx context.Context, to control.Tenure, w *WriteRequest, y *way, id []byte) (WriteResult, error) {
	req := &call{
		Table: w.Table.ID, Verb: w.Verb, Old: w.WantOld, New: w.WantNew, ID: id,
		Home: y.home, Epoch: to.Epoch, Blobs: [2][]byte{w.Payload},
	}
	if !y.after.IsZero() {
		req.After = y.after.String()
	}
	answer, err := ts.ask(ctx, to.Holder, methodWrite, req)
	if err != nil {
		return WriteResult{}, err
	}
	res := WriteResult{Old: answer.Blobs[0], New: answer.Blobs[1]}
	if answer.Dot == "" {
		return res, nil // nothing had to be written
	}
	if res.Dot, err = antipode.ParseDot(answer.Dot); err != nil {
		return WriteResult{}, fmt.Errorf("answer of %s: %w", to.Holder, err)
	}
	if err := ts.cfg.Journal.WaitApplied(ctx, res.Dot.Shard, res.Dot.Origin, res.Dot.Seq); err != nil {
		return WriteResult{}, fmt.Errorf("%w: it was written in %s (%s) but has not arrived here in time; it will, unless %s is lost", ErrOutcomeUnknown, to.Holder, res.Dot, to.Holder)
	}
	return res, nil
}

func (ts *Tables) pastTenure(t *TableRef, r *request) error {
	return &movedError{home: r.role.Home, tenure: ts.standing(ts.fresh(t), r.role.Home, r.shard).Tenure}
}

// findOut learns from the journal what became of a write, for as long as the
// request has time.
func (ts *Tables) findOut(ctx context.Context, w *WriteRequest, r *request, unknown error) (WriteResult, error) {
	sh := ts.cfg.Journal.Shard(r.shard)
	for {
		changed := ts.rolesChanged()
		cutoff, ended := ts.known(r.shard, r.role).bound(r.to)
		if ended {
			if ts.cfg.Journal.WaitCovers(ctx, r.shard, ts.reachable(r.shard, cutoff)) != nil {
				return WriteResult{}, unknown
			}
			sh.Lock() // once it can be had, what is applied has been looked at for requests
			seen := r.found()
			sh.Unlock()
			if !seen {
				return WriteResult{}, ts.pastTenure(w.Table, r)
			}
		}
		select {
		case <-r.seen:
		case <-changed:
		case <-ctx.Done():
		}
		ts.cfg.Journal.Resume(ctx)
		// Of several that have happened, the first of these counts.
		select {
		case <-r.seen:
			return ts.resultOf(w, r.entry)
		default:
		}
		if ctx.Err() != nil {
			return WriteResult{}, unknown
		}
	}
}

// resultOf makes the answer that was lost. What it leans on is durable here.
func (ts *Tables) resultOf(w *WriteRequest, e *journal.Entry) (res WriteResult, err error) {
	if err := ts.durable(ts.cfg.Store.NewBatch()); err != nil { // the entry is, then
		return res, fmt.Errorf("write to %s: %w", w.Table.Name, err)
	}
	res.Dot = e.Dot
	if w.WantNew && !e.Mutation.Delete {
		res.New = e.Mutation.Body
	}
	if w.WantOld && !e.Replaced.IsZero() {
		old, err := ts.versionAt(e.Replaced)
		if err != nil {
			return WriteResult{}, fmt.Errorf("%w: it was written (%s), and what was there before can't be told any more", ErrOutcomeUnknown, e.Dot)
		}
		if !old.Delete {
			res.Old = old.Body
		}
	}
	return res, nil
}

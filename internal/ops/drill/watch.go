package drill

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/operator"
)

const (
	watchEvery  = 200 * time.Millisecond
	watchAnswer = time.Second // a region that takes longer counts as down
	// behind is the lag from which a region is not yet back. Under load it is never 0.
	behind = time.Second
)

// watch follows how the regions are doing, as an operator would see it.
type watch struct {
	run *run
	wg  sync.WaitGroup

	mu      sync.Mutex
	last    []operator.RegionStatus // by site; of one that does not answer, its state only
	index   uint64                  // of the agreed state that holders are of
	holders map[role]antipode.Region
	moves   []Move
}

// role is a right to accept writes: of a table's writer, or of a home in it.
type role struct {
	table string
	home  antipode.Region
}

func newWatch(r *run) *watch {
	return &watch{run: r, last: make([]operator.RegionStatus, len(r.cfg.Sites)), holders: map[role]antipode.Region{}}
}

// start asks each region at a steady beat until ctx ends.
func (w *watch) start(ctx context.Context) {
	for i := range w.run.cfg.Sites {
		w.wg.Go(func() {
			tick := time.NewTicker(watchEvery)
			defer tick.Stop()
			for {
				w.ask(ctx, i)
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
			}
		})
	}
}

func (w *watch) ask(ctx context.Context, site int) {
	asking, cancel := context.WithTimeout(ctx, watchAnswer)
	defer cancel()
	s, err := w.run.cfg.Sites[site].Operator.Status(asking)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		s = operator.RegionStatus{Name: w.run.cfg.Sites[site].Name, State: operator.StateDown, Reason: err.Error()}
	}
	w.mu.Lock()
	was := w.last[site].State
	w.last[site] = s
	moves := w.noteHoldersLocked(&s)
	w.mu.Unlock()
	if was != "" && was != s.State {
		w.run.event(EventRegion, "%s is %s", s.Name, s.State)
	}
	for _, m := range moves {
		w.run.event(EventRole, "%s passed from %s to %s", m.role(), m.From, m.To)
	}
}

// noteHoldersLocked takes over who holds which role, from whoever knows the
// newest of what the regions agreed on.
func (w *watch) noteHoldersLocked(s *operator.RegionStatus) (moves []Move) {
	if s.Index < w.index {
		return nil
	}
	w.index = s.Index
	for _, now := range s.Roles {
		id := role{now.Table, now.Home}
		if was, known := w.holders[id]; known && was != now.Holder {
			moves = append(moves, Move{At: w.run.now(), Table: now.Table, Home: now.Home, From: was, To: now.Holder})
		}
		w.holders[id] = now.Holder
	}
	w.moves = append(w.moves, moves...)
	return moves
}

func (w *watch) movesSoFar() []Move {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Move{}, w.moves...)
}

// complaint says what is not well, or "".
func (w *watch) complaint() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.last {
		if text := complaintOf(&w.last[i]); text != "" {
			return text
		}
	}
	return ""
}

func complaintOf(s *operator.RegionStatus) string {
	if s.State != operator.StateLive {
		if s.Reason != "" {
			return fmt.Sprintf("%s is %s (%s)", s.Name, s.State, s.Reason)
		}
		return fmt.Sprintf("%s is %s", s.Name, s.State)
	}
	for origin, lag := range s.LagMS {
		if lag > behind.Milliseconds() {
			return fmt.Sprintf("%s is %d ms behind %s", s.Name, lag, origin)
		}
	}
	for _, p := range s.Peers {
		if p.Cut {
			return fmt.Sprintf("the link from %s to %s is cut; mend it with antipode link heal %s %s", s.Name, p.Name, s.Name, p.Name)
		}
		if !p.Connected {
			return fmt.Sprintf("%s is not connected to %s", s.Name, p.Name)
		}
	}
	switch {
	case s.Clock.SkewMS != 0:
		return fmt.Sprintf("the clock of %s is set wrong by %d ms", s.Name, s.Clock.SkewMS)
	case s.Clock.Refuses != "":
		return fmt.Sprintf("%s refuses writes: %s", s.Name, s.Clock.Refuses)
	}
	return ""
}

// statuses asks all regions once, and fails when one is not well.
func (r *run) statuses(ctx context.Context) ([]operator.RegionStatus, error) {
	out := make([]operator.RegionStatus, len(r.cfg.Sites))
	for i, s := range r.cfg.Sites {
		asking, cancel := context.WithTimeout(ctx, 3*time.Second)
		st, err := s.Operator.Status(asking)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("%w: %s does not answer: %w", ErrDegraded, s.Name, err)
		}
		if text := complaintOf(&st); text != "" {
			return nil, fmt.Errorf("%w: %s", ErrDegraded, text)
		}
		out[i] = st
	}
	return out, nil
}

// oneWay gives the least time from one region to another: somewhat less than
// half of the measured round trip, since it need not be even.
func oneWay(sites []Site, before []operator.RegionStatus) func(from, to int) time.Duration {
	return func(from, to int) time.Duration {
		for _, p := range before[from].Peers {
			if p.Name == sites[to].Name {
				return time.Duration(p.RTTMS * 0.4 * float64(time.Millisecond))
			}
		}
		return 0
	}
}

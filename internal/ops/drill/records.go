package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/operator"
)

// undecided refuses a system on which a failover is under way, or stranded
// writes wait for a decision: a drill would mix its own among them.
func (r *run) undecided(ctx context.Context) error {
	list, err := r.cfg.Sites[r.target].Operator.Failovers(ctx)
	if err != nil {
		return fmt.Errorf("list failovers: %w", err)
	}
	for _, f := range list.Failovers {
		if f.Fixed == 0 {
			return fmt.Errorf("%w: failover %d of %s to %s is under way; see antipode failover list", ErrDegraded, f.ID, f.Lost, f.Successor)
		}
	}
	for _, l := range list.Leases {
		if l.Fenced {
			return fmt.Errorf("%w: %s has no lease; it is not back yet", ErrDegraded, l.Region)
		}
	}
	for _, site := range r.data {
		stranded, err := r.cfg.Sites[site].Operator.Stranded(ctx, "")
		if err != nil {
			return fmt.Errorf("list stranded writes at %s: %w", r.cfg.Sites[site].Name, err)
		}
		open := 0
		for _, w := range stranded {
			if w.State == strandedOpen && !strings.HasPrefix(w.Table, tablePrefix) {
				open++
			}
		}
		if open > 0 {
			return fmt.Errorf("%w: %d stranded writes wait for a decision at %s; see antipode stranded list", ErrDegraded, open, r.cfg.Sites[site].Name)
		}
	}
	return nil
}

const strandedOpen = "open"

// records asks the regions for what they have on record: collisions, stranded
// writes, failovers.
func (r *run) records(ctx context.Context, e *Evidence) error {
	e.Moves = r.watch.movesSoFar()
	if err := r.failovers(ctx, e); err != nil {
		return err
	}
	if err := r.awaitStranded(ctx, e); err != nil {
		return err
	}
	e.Collisions = make([]map[string][][]int64, len(r.tables))
	for i, t := range r.tables {
		e.Collisions[i] = map[string][][]int64{}
		if t.Writes != antipode.WriteLocal {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, time.Minute)
		err := r.cfg.Sites[r.data[0]].Operator.Collisions(asking, t.Name, 0, func(c operator.Collision) error {
			key, values, err := collided(c)
			e.Collisions[i][key] = append(e.Collisions[i][key], values)
			return err
		})
		cancel()
		if err != nil {
			return fmt.Errorf("list collisions of %s: %w", t.Name, err)
		}
	}
	return nil
}

// failovers takes over those since the drill began. Their times are wall clocks',
// of regions on this machine or near it.
func (r *run) failovers(ctx context.Context, e *Evidence) error {
	list, err := r.cfg.Sites[r.data[0]].Operator.Failovers(ctx)
	if err != nil {
		return fmt.Errorf("list failovers: %w", err)
	}
	since := func(ms int64) time.Duration { return time.Duration(ms-r.began.UnixMilli()) * time.Millisecond }
	for _, f := range slices.Backward(list.Failovers) {
		if since(f.Began) < 0 {
			continue
		}
		out := Failover{ID: f.ID, Lost: f.Lost, To: f.Successor, Began: since(f.Began), Forced: f.Forced, Explains: f.Why}
		for _, role := range f.Roles {
			out.Tables = append(out.Tables, role.Table)
		}
		if f.Fixed != 0 {
			out.Fixed = since(f.Fixed)
		}
		e.Failovers = append(e.Failovers, out)
	}
	return nil
}

// strandedWait is how long a region may take to list what it left behind, once
// it is back.
const strandedWait = 15 * time.Second

// awaitStranded takes over the lists of stranded writes, and looks again while
// a receipt is neither anywhere nor on them.
func (r *run) awaitStranded(ctx context.Context, e *Evidence) error {
	for began := r.now(); ; {
		if err := r.stranded(ctx, func(_ int, w *operator.Stranded) error {
			var i item
			if err := json.Unmarshal(w.Item, &i); err != nil {
				return fmt.Errorf("stranded write %s: %w", w.Dot, err)
			}
			if n, err := strconv.ParseInt(i.V.N, 10, 64); err == nil { // what moves a home has no value
				e.Stranded[n] = true
			}
			return nil
		}); err != nil {
			return err
		}
		j := &judge{Evidence: e}
		missing := false
		for i := range e.Ops {
			o := &e.Ops[i]
			missing = missing || o.Verb == Receipt && o.Outcome == Done && !e.Stranded[o.Value] && j.gone(o)
		}
		if !missing || r.now()-began > strandedWait || !r.wait(ctx, time.Second) {
			return ctx.Err()
		}
	}
}

// stranded visits the stranded writes of the drill's tables, at each site.
func (r *run) stranded(ctx context.Context, visit func(site int, w *operator.Stranded) error) error {
	for _, site := range r.data {
		list, err := r.cfg.Sites[site].Operator.Stranded(ctx, "")
		if err != nil {
			return fmt.Errorf("list stranded writes at %s: %w", r.cfg.Sites[site].Name, err)
		}
		for i := range list {
			if strings.HasPrefix(list[i].Table, tablePrefix) {
				if err := visit(site, &list[i]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// discardStranded takes the drill's own off the lists, so that none of them
// waits for a person to decide.
func (r *run) discardStranded(ctx context.Context) error {
	dots := map[int][]string{}
	if err := r.stranded(ctx, func(site int, w *operator.Stranded) error {
		if w.State == strandedOpen {
			dots[site] = append(dots[site], w.Dot)
		}
		return nil
	}); err != nil {
		return err
	}
	total := 0
	for _, list := range dots {
		total += len(list)
	}
	if total == 0 {
		return nil
	}
	r.event(EventPhase, "taking the drill's %d stranded writes off the lists", total)
	// Each is told to all regions, a round trip, so many are under way at once.
	const atOnce, each = 8, 8
	errs := make([]error, atOnce*len(r.cfg.Sites))
	var wg sync.WaitGroup
	for site, list := range dots {
		chunks := slices.Collect(slices.Chunk(list, each))
		for n := range atOnce {
			wg.Go(func() {
				for i := n; i < len(chunks) && errs[site*atOnce+n] == nil; i += atOnce {
					_, errs[site*atOnce+n] = r.cfg.Sites[site].Operator.DecideStranded(ctx, operator.DecideRequest{Dots: chunks[i], By: "drill " + r.id})
				}
			})
		}
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("discard the drill's stranded writes: %w", err)
	}
	return nil
}

// item is an item of the drill's tables as DynamoDB JSON.
type item struct {
	ID struct {
		S string `json:"S"`
	} `json:"id"`
	V struct {
		N string `json:"N"`
	} `json:"v"`
}

func collided(c operator.Collision) (key string, values []int64, err error) {
	var k item
	if err := json.Unmarshal(c.Key, &k); err != nil {
		return "", nil, fmt.Errorf("key of a collision: %w", err)
	}
	for _, v := range c.Versions {
		var i item
		if err := json.Unmarshal(v.Item, &i); err != nil {
			return "", nil, fmt.Errorf("version in a collision: %w", err)
		}
		n, err := strconv.ParseInt(i.V.N, 10, 64)
		if err != nil {
			return "", nil, fmt.Errorf("version in a collision: %w", err)
		}
		values = append(values, n)
	}
	return k.ID.S, values, nil
}

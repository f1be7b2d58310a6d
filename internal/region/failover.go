package region

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/control/failover"
)

const (
	// methodView asks a region for its failover.Report.
	methodView = "region.view"
	// viewEvery is how often the leader asks for reports and decides.
	viewEvery = 250 * time.Millisecond
	// viewAge is how old a report may be and still count.
	viewAge = 1500 * time.Millisecond
	// viewTimeout bounds one question.
	viewTimeout = time.Second
	// stepTimeout bounds one command of the failover machine. A later decision
	// repeats what is still called for.
	stepTimeout = 3 * time.Second
)

// view is a report and when it was asked for.
type view struct {
	report failover.Report
	at     time.Duration
}

// report says what this region sees.
func (r *Region) report() failover.Report {
	out := failover.Report{Reaches: append(r.mesh.Reaches(), r.cfg.Name)}
	d := r.data.Load()
	if d == nil {
		return out
	}
	select {
	case <-r.ready:
		out.Serving = r.ctx.Err() == nil
	default:
	}
	out.Lag = d.ship.Lag()
	if err := r.clock.Check(); err != nil {
		out.Refuses = err.Error()
	}
	return out
}

func (r *Region) serveView(context.Context, antipode.Region, []byte) ([]byte, error) {
	return json.Marshal(r.report())
}

// openFailover makes this region answer what it sees, and decide when it leads.
func (r *Region) openFailover() error {
	r.mesh.HandleCall(methodView, r.serveView)
	r.views = map[antipode.Region]view{}
	for _, def := range r.cfg.Spec.Regions {
		if def.Name != r.cfg.Name {
			r.wg.Go(func() { r.askViews(def.Name) })
		}
	}
	r.wg.Go(r.decide)
	r.wg.Go(r.chronicle)
	return nil
}

// leads reports whether this region leads the control group.
func (r *Region) leads() bool {
	leader, ok := r.group.Leader()
	return ok && leader == r.cfg.Name
}

// askViews asks one region for what it sees as long as this one leads.
func (r *Region) askViews(peer antipode.Region) {
	for r.every(viewEvery) {
		if !r.leads() {
			continue
		}
		ctx, cancel := context.WithTimeout(r.ctx, viewTimeout)
		if err := r.askView(ctx, peer); err != nil {
			r.log.Debug("ask what a region sees", "peer", string(peer), "error", err)
		}
		cancel()
	}
}

func (r *Region) askView(ctx context.Context, peer antipode.Region) error {
	v := view{at: r.cfg.Boottime()}
	answer, err := r.mesh.Call(ctx, peer, methodView, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, &v.report); err != nil {
		return err
	}
	r.watchMu.Lock()
	defer r.watchMu.Unlock()
	r.views[peer] = v
	return nil
}

// ask asks all others at once for what they see, for a person who asks here.
func (r *Region) ask(ctx context.Context) failover.View {
	ctx, cancel := context.WithTimeout(ctx, viewTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, peer := range r.mesh.Reaches() {
		wg.Go(func() { _ = r.askView(ctx, peer) }) // who does not answer is not counted
	}
	wg.Wait()
	return r.look()
}

// look gathers what this region knows of the others. It is to be used at once.
func (r *Region) look() failover.View {
	v := failover.View{
		State: r.group.State(), Self: r.cfg.Name, Reports: map[antipode.Region]failover.Report{r.cfg.Name: r.report()},
		Now: r.cfg.Boottime(), Wall: r.wall().UnixMilli(),
	}
	lapsed := map[antipode.Region]bool{}
	r.watchMu.Lock()
	for _, def := range r.cfg.Spec.Regions {
		v.Voters = append(v.Voters, def.Name)
		lapsed[def.Name] = r.watch.Lapsed(def.Name)
		if seen, ok := r.views[def.Name]; ok && v.Now-seen.at <= viewAge {
			v.Reports[def.Name] = seen.report
		}
	}
	r.watchMu.Unlock()
	v.Lapsed = func(name antipode.Region) bool { return lapsed[name] }
	return v
}

// decide runs the failover machine while this region leads the group.
func (r *Region) decide() {
	var machine *failover.Machine
	var better antipode.Region // who would lead better, and since when
	var since time.Duration
	for r.every(viewEvery) {
		if !r.leads() {
			machine = nil
			r.seen.Store(nil)
			continue
		}
		if machine == nil {
			machine, better = failover.New(time.Duration(r.cfg.Spec.ReturnAfter)), ""
		}
		v := r.look()
		steps, seen := machine.Decide(v)
		r.seen.Store(&seen)
		for _, s := range steps {
			r.log.Info("propose a failover", "why", s.Why)
			ctx, cancel := context.WithTimeout(r.ctx, stepTimeout)
			_, err := r.group.Propose(ctx, s.Command)
			cancel()
			if err != nil && r.ctx.Err() == nil {
				r.log.Warn("failover was not agreed on", "why", s.Why, "error", err)
			}
		}
		if heir := r.heir(v); heir != better {
			better, since = heir, v.Now
		} else if heir != "" && v.Now-since > betterFor {
			since = v.Now // not again at once if nothing comes of it
			ctx, cancel := context.WithTimeout(r.ctx, stepTimeout)
			r.group.Transfer(ctx, heir)
			cancel()
		}
	}
}

// betterFor is for how long another region must have been the better leader
// before it gets the leadership. When a region dies, some notice it earlier than
// others; those must not play ball. It counts against the lease of a region that
// reaches the others and not the leader.
const betterFor = 700 * time.Millisecond

// heir is a region that would lead better than this one: it reaches more voters,
// or as many and is a witness. A witness has no data to lose, so the loss of a
// region with data then costs no election; and a leader that everybody reaches
// keeps the lease of a region alive that some can't reach. It is empty while
// there is none better.
func (r *Region) heir(v failover.View) antipode.Region {
	score := func(name antipode.Region) int {
		n := 0
		for _, other := range v.Voters {
			if slices.Contains(v.Reports[name].Reaches, other) {
				n += 2
			}
		}
		if def, ok := r.cfg.Spec.Region(name); ok && def.Witness {
			n++
		}
		return n
	}
	best := r.cfg.Name
	for _, name := range v.Voters {
		if _, answers := v.Reports[name]; answers && score(name) > score(best) {
			best = name
		}
	}
	if best == r.cfg.Name {
		return ""
	}
	return best
}

// rejoinEvery is how often a detached region looks whether it may come back.
const rejoinEvery = 250 * time.Millisecond

// rejoin brings this region back after it was detached: once every failover of
// the tables that it keeps has its cutoff, and the cutoffs are in force here.
func (r *Region) rejoin(installed func(failover uint64) bool) {
	for {
		changed := r.group.Changed()
		if !r.group.State().Fenced(r.cfg.Name) {
			if r.awaitChange(changed) != nil {
				return
			}
			continue
		}
		if state := r.group.State(); r.mayRejoin(state, installed) {
			_, err := r.propose(control.Command{Rejoin: &control.Rejoin{
				Region: r.cfg.Name, Number: state.Regions[r.cfg.Name].Lease.Number, At: r.wall().UnixMilli(),
			}})
			if err == nil {
				continue
			}
			r.log.Info("rejoin", "error", err)
		}
		if !r.every(rejoinEvery) {
			return
		}
	}
}

func (r *Region) mayRejoin(s *control.State, installed func(failover uint64) bool) bool {
	for id, f := range s.Failovers {
		if slices.Contains(s.MembersOf(f.Set), r.cfg.Name) && (f.Cutoff == nil || !installed(id)) {
			return false
		}
	}
	return true
}

// detached says why this region is detached, or nothing.
func (r *Region) detached() string {
	s := r.group.State()
	if !s.Fenced(r.cfg.Name) {
		return ""
	}
	const what = "while it was out of reach its place was given to others; it takes out what they don't have"
	for _, f := range s.Failovers {
		if f.Cutoff == nil && slices.Contains(s.MembersOf(f.Set), r.cfg.Name) {
			return what + ", once " + string(f.Successor) + " has fixed how far that goes"
		}
	}
	return what + ", and comes back"
}

package sim

import (
	"context"
	"slices"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/control/failover"
)

const (
	leaseLength = 3 * time.Second
	// drift is by how much clocks that count leases may run apart.
	drift = 0.01
	// healthyFor is how long a region that is back has to be well before roles
	// return to it.
	healthyFor = 4 * time.Second
)

// leased is table.Config.Lease: whether the region may use its roles now. It may
// be called from any goroutine.
func (s *simulation) leased(c *core) bool {
	return c.keeper.Valid() || s.bugs.is(BugIgnoreLease)
}

// leases reports whether a region has need of a lease: a witness does not, nor do
// two regions, of which neither is a majority without the other.
func (s *simulation) leases(r *site) bool { return !r.witness && !s.cfg.Alone }

// keepLease has a region renew its lease, as long as its run lasts.
func (s *simulation) keepLease(c *core) {
	if c.site.core != c || !s.leases(c.site) {
		return
	}
	name := c.site.name
	if l := s.regionHere(c).Lease; l.Fenced {
		c.keeper.Drop()
	} else {
		begun := c.keeper.Begin()
		renew := &control.Renew{Region: name, Number: l.Number, Length: leaseLength.Milliseconds()}
		s.propose(name, control.Command{Renew: renew}, func(err error) {
			if err != nil || c.site.core != c {
				return
			}
			if s.bugs.is(BugLeaseFromAnswer) {
				begun = c.keeper.Begin()
			}
			c.keeper.Renewed(begun)
		})
	}
	s.later(name, c.keeper.Every(), func() { s.keepLease(c) })
}

// regionHere is a region as its own copy of the agreed state has it.
func (s *simulation) regionHere(c *core) *control.Region {
	if r := c.site.state().Regions[c.site.name]; r != nil {
		return r
	}
	return &control.Region{Name: c.site.name}
}

// stepRoles has a region do what the agreed state asks of it, again and again.
func (s *simulation) stepRoles(c *core) {
	if c.site.core != c || c.stepping || s.group == nil {
		c.kicked = true
		return
	}
	c.stepping, c.kicked = true, false
	s.spawn(c, func(ctx context.Context, a *actor) {
		again, err := c.tables.StepRoles(ctx)
		s.post(a.id, func() {
			c.stepping = false
			if c.site.core != c {
				return
			}
			if err != nil {
				s.note("%s: roles: %v", c.site.name, err)
			}
			if again <= 0 || again > time.Second {
				again = time.Second
			}
			if c.kicked {
				again = time.Millisecond
			}
			c.steps++
			n := c.steps
			s.after(again, func() {
				s.on(c.site.name, func() {
					if c.steps == n {
						s.stepRoles(c)
					}
				})
			})
		})
	})
}

// stepProtect has a region look after what tables promise about the loss of
// regions, now and then.
func (s *simulation) stepProtect(c *core) {
	if c.site.core != c {
		return
	}
	s.spawn(c, func(_ context.Context, a *actor) {
		err := c.tables.StepProtect()
		s.post(a.id, func() {
			if err != nil && c.site.core == c {
				s.fail("%s: look after what is promised: %v", c.site.name, err)
			}
		})
	})
	s.later(c.site.name, time.Second, func() { s.stepProtect(c) })
}

// kickRoles has the region look at its roles now: something has changed.
func (s *simulation) kickRoles(c *core) {
	if c.stepping {
		c.kicked = true
		return
	}
	c.steps++ // the step that was to come is this one
	s.stepRoles(c)
}

// goBack has a fenced region ask for a lease again, once all cutoffs that it
// knows of are in force there.
func (s *simulation) goBack(c *core) {
	if c.site.core != c {
		return
	}
	again := func() {
		s.after(500*time.Millisecond, func() { s.on(c.site.name, func() { s.goBack(c) }) })
	}
	here := s.regionHere(c)
	s.bugs.pretend(c)
	if !here.Lease.Fenced {
		again()
		return
	}
	state := c.site.state()
	for _, id := range sortedKeys(state.Failovers) {
		f := state.Failovers[id]
		if slices.Contains(state.MembersOf(f.Set), here.Name) && (f.Cutoff == nil || !c.tables.Installed(id)) {
			again()
			return
		}
	}
	s.propose(here.Name, control.Command{Rejoin: &control.Rejoin{Region: here.Name, Number: here.Lease.Number}}, func(error) {})
	again()
}

// lead is what the leader of the group does besides: it gives up regions that
// are lost, and sends roles home.
func (s *simulation) lead() {
	s.after(250*time.Millisecond, func() {
		if l := s.group.leader; l != "" && s.up(l) {
			s.on(l, func() {
				if s.group.leader == l && s.up(l) {
					s.decide(s.group.voters[l])
				}
			})
		}
		s.lead()
	})
}

// decide asks the group for what the failover machine wants now.
func (s *simulation) decide(v *voter) {
	now := s.mono(v)
	view := failover.View{
		State: s.catalog[v.copy], Self: v.name, Voters: s.group.order, Reports: map[antipode.Region]failover.Report{},
		Lapsed: func(r antipode.Region) bool { return v.watch.Lapsed(r) || s.bugs.gone(v, r) },
		Now:    now, Wall: wallNow().UnixMilli(),
	}
	for name, o := range v.view {
		if now-o.at < silent {
			view.Reports[name] = o.Report
		}
	}
	steps, _ := v.machine.Decide(view)
	for _, step := range steps {
		s.propose(v.name, step.Command, func(error) {})
	}
}

package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
)

// Incident is one thing that went wrong, or that an operator did. Its number
// stays the same when others, or operations, are left out of the run.
type Incident struct {
	ID   int
	Text string
}

// chance draws what goes wrong, apart from all else that is drawn.
type chance struct{ *rand.Rand }

func (c chance) between(least, most time.Duration) time.Duration {
	return least + time.Duration(c.Int64N(int64(max(most-least, 0))+1))
}

const troubleEvery = 100 * time.Millisecond

// trouble makes things go wrong, for as long as clients are at work.
func (s *simulation) trouble(tick uint64) {
	s.after(troubleEvery, func() {
		if s.healing {
			return
		}
		c := chance{rand.New(rand.NewPCG(s.cfg.Seed, 1<<32+tick))} //nolint:gosec // the same seed must give the same run
		for i, k := range s.dangers() {
			d := chance{rand.New(rand.NewPCG(c.Uint64(), 0))} //nolint:gosec // as above
			if d.Float64() < k.rate*troubleEvery.Seconds() {
				s.incident(int(tick)*100+i, func() string { return k.do(d) })
			}
		}
		s.trouble(tick + 1)
	})
}

// incident has something happen, unless it is to be left out.
func (s *simulation) incident(id int, do func() string) {
	if slices.Contains(s.cfg.Without, id) {
		return
	}
	if text := do(); text != "" {
		s.note("incident %d: %s", id, text)
		s.incidents = append(s.incidents, Incident{id, fmt.Sprintf("[%v] %s", s.now().Round(time.Millisecond), text)})
	}
}

// danger is a kind of incident, and how often it happens in a second.
type danger struct {
	rate float64
	do   func(c chance) string // "" when it can't happen now
}

func (s *simulation) dangers() []danger {
	lose := 0.0
	switch {
	case !s.cfg.LoseDisk:
	case s.group == nil:
		lose = 0.3
	case s.failing():
		lose = 0.5 // just now it is worst
	default:
		lose = 0.02
	}
	f := s.faults
	return []danger{
		{f.Crashes, s.crashes},
		{lose, func(c chance) string { return s.lose(s.anySite(c)) }},
		{f.Cuts, s.cuts},
		{f.Resets, s.resets},
		{f.Stalls, s.stalls},
		{f.ClockJumps, s.clockJumps},
		{f.Isolations, s.isolates},
		{f.Losses, s.goesDown},
		{f.PairCuts, s.pairCuts},
		{f.Freezes, s.freezes},
		{f.Switches, s.switches},
		{f.Hours, s.hours},
		{f.Forced, s.forces},
		{f.Lags, s.lags},
		{f.Hangs, s.hangs},
		{f.Tardy, s.isTardy},
	}
}

// failing reports whether a failover is under way.
func (s *simulation) failing() bool {
	for _, f := range s.last().Failovers {
		if f.Cutoff == nil {
			return true
		}
	}
	return false
}

func (s *simulation) anySite(c chance) *site { return s.order[c.IntN(len(s.order))] }

// anyNode picks a region, or the witness.
func (s *simulation) anyNode(c chance) antipode.Region {
	if s.group == nil {
		return s.anySite(c).name
	}
	return s.group.order[c.IntN(len(s.group.order))]
}

// goesBad takes a region down for a while.
func (s *simulation) goesBad(r *site, d time.Duration) string {
	if r.core == nil {
		return ""
	}
	s.crash(r)
	s.after(d, func() { s.restart(r) })
	return fmt.Sprintf("%s crashes, for %v", r.name, d.Round(time.Millisecond))
}

func (s *simulation) crashes(c chance) string {
	return s.goesBad(s.anySite(c), c.between(10*time.Millisecond, 3*time.Second))
}

// goesDown takes a region down for longer than its lease, and now and then
// another one while the first one's roles are on their way.
func (s *simulation) goesDown(c chance) string {
	text := s.goesBad(s.anySite(c), c.between(5*time.Second, 20*time.Second))
	if other, after, d := s.anySite(c), c.between(0, 9*time.Second), c.between(4*time.Second, 12*time.Second); text != "" && c.IntN(3) == 0 {
		s.after(after, func() {
			if !s.healing {
				s.note("%s", s.goesBad(other, d))
			}
		})
		text += fmt.Sprintf("; %v later %s, for %v", after, other.name, d)
	}
	return text
}

// cutWays cuts directions for a while.
func (s *simulation) cutWays(d time.Duration, ways ...way) string {
	if s.healing {
		return "" // it was to come later
	}
	s.count(statLinkCuts)
	for _, w := range ways {
		s.cut[w]++
	}
	s.after(d, func() {
		s.note("mend %v", ways)
		for _, w := range ways {
			s.cut[w] = max(0, s.cut[w]-1)
		}
	})
	return fmt.Sprintf("cut %v for %v", ways, d.Round(time.Millisecond))
}

func (s *simulation) cuts(c chance) string {
	a, b := s.anyNode(c), s.anyNode(c)
	if a == b {
		return ""
	}
	ways := []way{{a, b}}
	if c.IntN(2) == 0 {
		ways = append(ways, ways[0].back())
	}
	return s.cutWays(c.between(50*time.Millisecond, 7*time.Second), ways...)
}

// isolates cuts one region off from all others; its clients still reach it.
func (s *simulation) isolates(c chance) string {
	r := s.anySite(c)
	var ways []way
	oneWay := c.IntN(5) == 0
	for _, other := range s.group.order {
		if other != r.name {
			ways = append(ways, way{r.name, other})
			if !oneWay {
				ways = append(ways, way{other, r.name})
			}
		}
	}
	s.count(statIsolations)
	return s.cutWays(c.between(3*time.Second, 20*time.Second), ways...)
}

// pairCuts cuts two regions off from each other: both still reach a majority.
func (s *simulation) pairCuts(c chance) string {
	a, b := s.anySite(c), s.anySite(c)
	if a == b {
		return ""
	}
	return s.cutWays(c.between(4*time.Second, 15*time.Second), way{a.name, b.name}, way{b.name, a.name})
}

func (s *simulation) resets(c chance) string {
	n := c.Int()
	if len(s.live) == 0 {
		return ""
	}
	x := s.live[n%len(s.live)]
	s.count(statResets)
	s.breakSoon(x)
	return fmt.Sprintf("reset %v", x)
}

func (s *simulation) stalls(c chance) string {
	r := s.anySite(c)
	r.slow = 1 + c.IntN(30)
	return fmt.Sprintf("the disk of %s takes %d times as long", r.name, r.slow)
}

func (s *simulation) clockJumps(c chance) string {
	r := s.anySite(c)
	r.jumped = true
	skew := c.between(-s.faults.Skew, s.faults.Skew)
	if c.IntN(2) == 0 {
		skew = skew.Abs() + time.Duration(1+c.IntN(4))*time.Second
	}
	r.skew.Store(int64(skew))
	return fmt.Sprintf("the clock of %s is off by %v", r.name, skew)
}

// hours sets a clock an hour off, for a while.
func (s *simulation) hours(c chance) string {
	r := s.anySite(c)
	was, by := r.skew.Load(), time.Hour
	if c.IntN(2) == 0 {
		by = -by
	}
	r.skew.Add(int64(by))
	r.jumped = true
	s.count(statHours)
	d := c.between(500*time.Millisecond, 6*time.Second)
	s.after(d, func() {
		if !s.healing {
			r.skew.Store(was)
		}
	})
	return fmt.Sprintf("the clock of %s is off by %v, for %v", r.name, by, d)
}

func (s *simulation) freezes(c chance) string {
	name, d := s.anyNode(c), c.between(200*time.Millisecond, 9*time.Second)
	if c.IntN(3) == 0 {
		d /= 10
	}
	s.freeze(name, d)
	return fmt.Sprintf("%s is stopped for %v", name, d.Round(time.Millisecond))
}

// forces has a person at one of two regions take over what the other one has,
// which can't be reached: perhaps it is lost, perhaps only cut off.
func (s *simulation) forces(c chance) string {
	at, lost := s.anySite(c), s.anySite(c)
	if at == lost || at.core == nil || s.reaches(at.name, lost.name) {
		return ""
	}
	// Two persons who each hold the other's region to be lost would give the roles
	// of both sides away at once.
	if by := s.forcer; by != nil && by != at && (s.adopted == 0 || at.catalog < s.adopted) {
		return ""
	}
	s.forcer, s.adopted = at, 0
	s.force(at.core, lost)
	return fmt.Sprintf("a person at %s forces the failover of %s", at.name, lost.name)
}

// force takes over by hand. It waits for a step that is under way, which has the
// roles locked.
func (s *simulation) force(c *core, lost *site) {
	if c.site.core != c {
		return
	}
	if c.stepping {
		s.later(c.site.name, 10*time.Millisecond, func() { s.force(c, lost) })
		return
	}
	c.stepping = true
	s.spawn(c, func(ctx context.Context, a *actor) {
		_, err := c.tables.Force(ctx, lost.name, "a person", "it can't be reached")
		s.post(a.id, func() {
			s.note("forced at %s: %v", c.site.name, err)
			if err == nil {
				s.count(statForced)
			}
			c.stepping = false
			s.stepRoles(c)
		})
	})
}

// switches has an operator move a table's roles somewhere.
func (s *simulation) switches(c chance) string {
	at, to, n := s.anySite(c), s.anySite(c), c.Int()
	if at.core == nil {
		return ""
	}
	state := at.state()
	var with []*control.Table
	for _, name := range sortedKeys(state.Tables) {
		if t := state.Tables[name]; t.Writes != antipode.WriteLocal && t.HasReplica(to.name) {
			with = append(with, t)
		}
	}
	if len(with) == 0 {
		return ""
	}
	t := with[n%len(with)]
	var roles []control.RoleEpoch
	for _, home := range sortedKeys(t.Roles) {
		if t.Roles[home].Holder != to.name {
			roles = append(roles, control.RoleEpoch{RoleID: control.RoleID{Table: t.ID, Home: home}, Epoch: t.Roles[home].Epoch})
		}
	}
	if len(roles) == 0 {
		return ""
	}
	s.count(statSwitches)
	s.propose(at.name, control.Command{Switch: &control.Switch{Roles: roles, To: to.name, By: "operator"}}, func(error) {})
	return fmt.Sprintf("an operator at %s switches %s to %s", at.name, t.Name, to.name)
}

package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/control/failover"
	"github.com/antipode-io/antipode/internal/control/lease"
)

// witness is the voter that keeps no tables.
const witness = antipode.Region("witness")

// errNoAnswer is what a proposal comes to whose outcome nobody told.
var errNoAnswer = errors.New("the group gave no answer")

// voter is a region as the control group has it: its copy of the agreed state,
// and a clock that goes on whatever is done to the wall clock.
type voter struct {
	name   antipode.Region
	copy   int     // how many commands of the log are in its copy
	rate   float64 // of its monotonic clock
	frozen bool
	thaw   []func()                          // what waits for it to go on
	watch  *lease.Watch                      // what it has seen of leases since it last started
	heard  map[antipode.Region]time.Duration // when it last reached another, by its monotonic clock
	// At the leader:
	machine *failover.Machine
	view    map[antipode.Region]outage // what others said last
}

// outage is what a voter says of whom it reaches, and when that was heard by the
// leader's clock.
type outage struct {
	failover.Report

	at time.Duration
}

// group is the control group: one log that all copies follow, as Raft makes it.
// What Raft does inside is not simulated, only what it promises: a command is in
// the log when a majority that the leader reaches has it, and copies come later.
type group struct {
	voters map[antipode.Region]*voter
	order  []antipode.Region
	leader antipode.Region
	term   int
	fine   time.Duration // when the leader last reached a majority
}

func (s *simulation) newGroup() {
	g := &group{voters: map[antipode.Region]*voter{}}
	add := func(name antipode.Region) {
		g.voters[name] = &voter{
			name: name, rate: 1 + (s.rng.Float64()*2-1)*drift/2,
			heard: map[antipode.Region]time.Duration{}, view: map[antipode.Region]outage{},
		}
		s.beginsWatch(g.voters[name])
		g.order = append(g.order, name)
	}
	for _, r := range s.order {
		add(r.name)
	}
	if len(s.order)%2 == 0 && !s.cfg.Alone { // it keeps nothing
		add(witness)
	}
	s.group = g
}

// mono is the voter's monotonic clock: it runs at its own rate, through freezes
// and crashes.
func (s *simulation) mono(v *voter) time.Duration {
	return time.Duration(float64(s.now()) * v.rate)
}

// on runs what a node does, once it isn't frozen.
func (s *simulation) on(name antipode.Region, do func()) {
	if s.group == nil {
		do()
		return
	}
	if v := s.group.voters[name]; v != nil && v.frozen {
		v.thaw = append(v.thaw, do)
		return
	}
	do()
}

// later is after, at a node: a frozen one does it when it goes on.
func (s *simulation) later(name antipode.Region, d time.Duration, do func()) {
	s.after(d, func() { s.on(name, do) })
}

// ask has some region propose a change again and again until it is agreed on.
func (s *simulation) ask(cmd control.Command) {
	agreed := false
	from := s.order[s.rng.IntN(len(s.order))]
	var try func()
	try = func() {
		if agreed {
			return
		}
		if from.core != nil {
			s.propose(from.name, cmd, func(error) { agreed = true }) // twice: the second one is refused
		}
		s.after(2*time.Second, try)
	}
	s.after(s.between(time.Second, 4*time.Second), try)
}

// freeze stops a node, as SIGSTOP does: what comes waits, its clock goes on.
func (s *simulation) freeze(name antipode.Region, d time.Duration) {
	v := s.group.voters[name]
	if v.frozen {
		return
	}
	s.count(statFreezes)
	s.note("freeze %s %v", name, d)
	v.frozen = true
	s.after(d, func() { s.unfreeze(v) })
}

func (s *simulation) unfreeze(v *voter) {
	if !v.frozen {
		return
	}
	s.note("thaw %s", v.name)
	v.frozen = false
	waiting := v.thaw
	v.thaw = nil
	for _, do := range waiting {
		do()
		s.settle()
	}
}

// up reports whether a node runs, frozen or not.
func (s *simulation) up(name antipode.Region) bool {
	if r := s.sites[name]; r != nil {
		return r.core != nil
	}
	return true // a witness that keeps nothing does not crash: being cut off does the same to a group
}

// reaches reports whether a round trip between two nodes is possible now.
func (s *simulation) reaches(a, b antipode.Region) bool {
	if a == b {
		return s.up(a)
	}
	va, vb := s.group.voters[a], s.group.voters[b]
	return s.up(a) && s.up(b) && !va.frozen && !vb.frozen && s.passes(way{a, b}) && s.passes(way{b, a})
}

// quorum reports whether a node reaches a majority of the voters.
func (s *simulation) quorum(name antipode.Region) bool {
	n := 0
	for _, v := range s.group.order {
		if s.reaches(name, v) {
			n++
		}
	}
	return 2*n > len(s.group.order)
}

// last is the agreed state, of which copies may be behind.
func (s *simulation) last() *control.State { return s.catalog[len(s.catalog)-1] }

// govern keeps the group going: elections, copies that follow, and who is heard.
func (s *simulation) govern() {
	s.after(100*time.Millisecond, func() {
		s.elect()
		for _, a := range s.group.order {
			v := s.group.voters[a]
			for _, b := range s.group.order {
				if a != b && s.reaches(a, b) {
					v.heard[b] = s.mono(v)
				}
			}
			if l := s.group.leader; l != "" && v.copy < len(s.catalog)-1 {
				s.spread(l, a)
			}
			s.tellLeader(v)
		}
		s.govern()
	})
}

// tellLeader sends the leader what a voter can't reach.
func (s *simulation) tellLeader(v *voter) {
	l := s.group.leader
	if l == "" || !s.up(v.name) || v.frozen {
		return
	}
	var r outage
	for _, b := range s.group.order {
		if b != v.name && s.mono(v)-v.heard[b] < s.bugs.silent() {
			r.Reaches = append(r.Reaches, b)
		}
	}
	if site := s.sites[v.name]; site != nil {
		r.Serving = !site.filling
	}
	s.carry(v.name, l, func() {
		lv := s.group.voters[l]
		r.at = s.mono(lv)
		lv.view[v.name] = r
	})
}

// beginsWatch has a voter that starts count all leases anew.
func (s *simulation) beginsWatch(v *voter) {
	v.watch = lease.NewWatch(leaseLength, func() time.Duration { return s.mono(v) })
}

// silent is after how long a region counts as out of reach.
const silent = 1500 * time.Millisecond

// carry takes a message of the group from one node to another, if it arrives.
func (s *simulation) carry(from, to antipode.Region, do func()) {
	if from == to {
		s.on(to, do)
		return
	}
	if !s.up(from) || !s.passes(way{from, to}) {
		return
	}
	s.after(s.delay(), func() {
		s.on(to, func() {
			if s.up(to) {
				do()
			}
		})
	})
}

// elect replaces a leader that has not reached a majority for a while.
func (s *simulation) elect() {
	g := s.group
	if g.leader != "" && s.up(g.leader) && s.quorum(g.leader) {
		g.fine = s.now()
		return
	}
	if g.leader != "" && s.now()-g.fine < time.Second {
		return
	}
	var can []antipode.Region
	for _, name := range g.order {
		if !g.voters[name].frozen && s.quorum(name) {
			can = append(can, name)
		}
	}
	if len(can) == 0 {
		g.leader = ""
		return
	}
	name := can[s.rng.IntN(len(can))]
	v := g.voters[name]
	g.leader, g.fine = name, s.now()
	g.term++
	v.view, v.machine = map[antipode.Region]outage{}, failover.New(healthyFor)
	s.note("elected %s", name)
	s.advance(v, len(s.catalog)-1)
}

// spread sends the log to a voter.
func (s *simulation) spread(leader, to antipode.Region) {
	n := len(s.catalog) - 1
	s.carry(leader, to, func() { s.advance(s.group.voters[to], n) })
}

// advance brings a copy up to a place in the log.
func (s *simulation) advance(v *voter, n int) {
	if v.copy >= n {
		return
	}
	v.watch.Observe(s.catalog[n])
	v.copy = n
	if r := s.sites[v.name]; r != nil {
		s.learn(r, n)
	}
}

// propose has a node put a command forward. What is passed is called at the node
// when the answer arrives there, if it does.
func (s *simulation) propose(from antipode.Region, cmd control.Command, done func(error)) {
	leader, term := s.group.leader, s.group.term
	if leader == "" {
		return
	}
	s.carry(from, leader, func() {
		// A round trip to a majority.
		s.after(s.delay()+s.delay(), func() {
			s.on(leader, func() {
				switch {
				case s.group.term == term && s.up(leader) && s.quorum(leader):
				case s.group.term != term && s.group.leader != "" && s.quorum(s.group.leader) && s.rng.IntN(3) == 0:
					// It had reached those who elected another leader, so it is in the log.
				default:
					return
				}
				n, err := s.commit(from, cmd)
				s.answered(leader, from, n, err, s.tardily(from, cmd), done)
			})
		})
	})
}

// answered tells the proposer, now and then late or never.
func (s *simulation) answered(leader, from antipode.Region, n int, err error, late time.Duration, done func(error)) {
	if !s.healing && late == 0 {
		switch s.rng.IntN(30) {
		case 0:
			s.count(statSilences)
			return
		case 1, 2:
			late = s.between(0, 3*time.Second)
			s.count(statLate)
		}
	}
	s.after(late, func() {
		s.carry(leader, from, func() {
			s.advance(s.group.voters[from], n)
			done(err)
		})
	})
}

// commit puts a command into the log.
func (s *simulation) commit(from antipode.Region, cmd control.Command) (int, error) {
	next, err := control.Apply(s.last(), s.last().Index+1, cmd)
	n := len(s.catalog)
	if err != nil {
		s.note("refused %s of %s: %v", what(cmd), from, err)
		return n - 1, err
	}
	was := s.last()
	s.catalog = append(s.catalog, next)
	for _, t := range next.Tables {
		if s.tables[t.ID] == nil {
			s.tables[t.ID] = t
		}
	}
	if cmd.Renew == nil {
		s.note("agreed %d %s of %s", n, what(cmd), from)
	}
	s.agreed(was, next, cmd)
	s.bugs.agreed(cmd)
	for _, to := range s.group.order {
		s.spread(s.group.leader, to)
	}
	return n, nil
}

// what names a command.
func what(c control.Command) string {
	switch {
	case c.CreateTable != nil:
		return "create " + c.CreateTable.Name
	case c.DeleteTable != "":
		return "delete " + c.DeleteTable
	case c.Renew != nil:
		return "renew " + string(c.Renew.Region)
	case c.Fence != nil:
		return fmt.Sprintf("fence %s, give %v", c.Fence.Region, c.Fence.Assign)
	case c.Seal != nil:
		return fmt.Sprintf("seal %d at %s", c.Seal.Failover, c.Seal.Region)
	case c.Fix != nil:
		return fmt.Sprintf("fix %d", c.Fix.Failover)
	case c.Switch != nil:
		return fmt.Sprintf("switch %v to %s", c.Switch.Roles, c.Switch.To)
	case c.Took != nil:
		return fmt.Sprintf("took %v by %s", c.Took.Roles, c.Took.By)
	case c.Rejoin != nil:
		return "rejoin " + string(c.Rejoin.Region)
	case c.Adopt != nil:
		return fmt.Sprintf("adopt %v by %s", c.Adopt.Roles, c.Adopt.Region)
	default:
		return "command"
	}
}

// proposeFor is table.Config.Propose: it waits for the answer, or until its
// caller gives up.
func (s *simulation) proposeFor(ctx context.Context, c *core, cmd control.Command) (*control.State, error) {
	a, ok := ctx.Value(actorKey{}).(*actor)
	if !ok {
		return nil, errNoAnswer
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer := make(chan error, 1)
	s.post(a.id, func() {
		s.propose(c.site.name, cmd, func(err error) {
			if c.site.core == c {
				answer <- err
			}
		})
	})
	select {
	case err := <-answer:
		return c.site.state(), err
	case <-ctx.Done():
		s.yield(ctx)
		return nil, errNoAnswer
	}
}

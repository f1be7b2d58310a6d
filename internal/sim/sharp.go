package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
)

// Faults that are aimed at one rule each: chance alone brings them about too seldom.

// passes reports whether messages of the group, and calls, get through: where a link
// is mute, only journals do.
func (s *simulation) passes(w way) bool { return s.open(w) && s.mute[w] == 0 }

// lags has what a region ships to one other arrive seconds late, and cuts it off from
// all else: what it wrote last comes to light when its roles have gone on.
func (s *simulation) lags(c chance) string {
	r, x := s.anySite(c), s.anySite(c)
	if r == x {
		return ""
	}
	late, begins, lasts := c.between(4*time.Second, 9*time.Second), c.between(0, 1500*time.Millisecond), c.between(6*time.Second, 12*time.Second)
	to := way{r.name, x.name}
	s.lag[to] += late
	s.after(begins+lasts, func() { s.lag[to] = max(0, s.lag[to]-late) })
	for n := range 12 {
		at, i := time.Duration(n)*c.between(100*time.Millisecond, 300*time.Millisecond), c.Int()
		s.after(at, func() { s.giveAway(r, x, i) })
	}
	pause := c.between(0, 2500*time.Millisecond)
	s.onSeal = func(f *control.Failover, by antipode.Region) {
		if f.Lost == r.name && by == x.name { // what comes late comes before the cutoff is known
			s.freeze(f.Successor, pause)
			s.onSeal = nil
		}
	}
	s.after(begins, func() {
		if s.healing {
			return
		}
		var ways []way
		for _, other := range s.group.order {
			switch other {
			case r.name:
			case x.name:
				s.mute[to]++
				s.mute[to.back()]++
			default:
				ways = append(ways, way{r.name, other}, way{other, r.name})
			}
		}
		s.note("%s", s.cutWays(lasts, ways...))
		s.after(lasts, func() {
			s.mute[to], s.mute[to.back()] = max(0, s.mute[to]-1), max(0, s.mute[to.back()]-1)
		})
	})
	return fmt.Sprintf("what %s ships to %s takes %v longer; %v later it is cut off from all else for %v", r.name, x.name, late, begins, lasts)
}

// giveAway has a client ask a region to move an item to another one.
func (s *simulation) giveAway(r, x *site, i int) {
	if r.core == nil || r.filling || s.healing {
		return
	}
	var moves []*operation
	for _, t := range s.kept(r) {
		if t.Writes == antipode.WritePartitioned && t.HasReplica(x.name) {
			for _, key := range s.keys(t) {
				moves = append(moves, &operation{region: r.name, table: t, key: key, verb: verbMove, to: x.name})
			}
		}
	}
	if len(moves) > 0 {
		s.start(moves[i%len(moves)], func() {})
	}
}

// isTardy has the next renewal of a region's lease be answered late. Nothing of it is
// heard from the moment when that is agreed on, and it hears nothing after the answer.
func (s *simulation) isTardy(c chance) string {
	r := s.anySite(c)
	if r.core == nil || !s.leases(r) {
		return ""
	}
	late, lasts := c.between(2*time.Second, 2900*time.Millisecond), c.between(7*time.Second, 11*time.Second)
	s.tardy[r.name] = func() time.Duration {
		delete(s.tardy, r.name)
		var out, in []way
		for _, other := range s.group.order {
			if other != r.name {
				out, in = append(out, way{r.name, other}), append(in, way{other, r.name})
			}
		}
		s.note("%s", s.cutWays(lasts, out...))
		s.after(late+time.Millisecond, func() { s.note("%s", s.cutWays(lasts-late, in...)) })
		return late
	}
	return fmt.Sprintf("the next lease of %s is told %v late, and nothing of it is heard for %v", r.name, late, lasts)
}

// tardily returns how much later a proposal is answered.
func (s *simulation) tardily(from antipode.Region, cmd control.Command) time.Duration {
	if f := s.tardy[from]; f != nil && cmd.Renew != nil && cmd.Renew.Region == from && !s.healing {
		return f()
	}
	return 0
}

// hang is a forwarded write that is to hang in its link while its role goes away
// and comes back.
type hang struct{ back, late time.Duration }

func (s *simulation) hangs(c chance) string {
	s.hang = &hang{back: c.between(300*time.Millisecond, 1500*time.Millisecond), late: c.between(1500*time.Millisecond, 4200*time.Millisecond)}
	return fmt.Sprintf("the next forwarded write hangs for %v, and its role is switched away and, %v later, back", s.hang.late, s.hang.back)
}

// heldUp returns how much longer a request takes, and moves its role meanwhile.
func (s *simulation) heldUp(q *request) time.Duration {
	h, ok, hung := head{}, false, s.hang
	if hung != nil && q.method == methodWrite {
		h, _, ok = unseal(q.body)
	}
	if !ok {
		return 0
	}
	s.hang = nil
	role := control.RoleID{Table: h.Table, Home: h.Home}
	s.note("hangs: %s %s>%s %v for %v", q.method, q.from, q.to, role, hung.late)
	s.moveRole(role, q.from, 10)
	s.after(hung.back, func() { s.moveRole(role, q.to, 30) })
	return hung.late
}

// moveRole has an operator switch a role, as soon as it isn't on its way elsewhere.
func (s *simulation) moveRole(id control.RoleID, to antipode.Region, tries int) {
	t, ok := s.last().TableByID(id.Table)
	if !ok || tries == 0 || s.healing {
		return
	}
	r := t.Role(id.Home)
	if r.Next == "" && r.Holder != to && slices.Contains(t.Replicas, to) {
		s.propose(to, control.Command{Switch: &control.Switch{Roles: []control.RoleEpoch{{RoleID: id, Epoch: r.Epoch}}, To: to, By: "operator"}}, func(error) {})
		return
	}
	s.after(100*time.Millisecond, func() { s.moveRole(id, to, tries-1) })
}

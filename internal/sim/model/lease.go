package model

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
)

// The third model: one region's lease, in ticks, to show what the model of roles
// takes for granted: when the group goes on without a region, the region does not
// believe in its lease, and no answer that is still on its way can make it.

// LeaseBug is a rule about leases turned off.
type LeaseBug string

// The planted bugs.
const (
	CountFromAnswer   LeaseBug = "count-from-answer"   // a lease is counted from when its answer arrived
	ClockStops        LeaseBug = "clock-stops"         // the holder's clock stands still while its machine sleeps
	IgnoreDrift       LeaseBug = "ignore-drift"        // the holder does not shorten it by how clocks may differ
	LeaderForgets     LeaseBug = "leader-forgets"      // a new leader goes by the renewals that it happens to know of
	OldLeaderGrants   LeaseBug = "old-leader-grants"   // a leader renews without asking the others whether it still is
	RenewAfterFence   LeaseBug = "renew-after-fence"   // a fenced region's lease is renewed, and not waited for
	TrustAfterRestart LeaseBug = "trust-after-restart" // a region that restarts counts the lease it had from its restart
)

// LeaseBugs lists the planted bugs.
func LeaseBugs() []LeaseBug {
	return []LeaseBug{CountFromAnswer, ClockStops, IgnoreDrift, LeaderForgets, OldLeaderGrants, RenewAfterFence, TrustAfterRestart}
}

// The leader waits leaseLength of its ticks. In that time the holder's clock may
// lose a tick and the leader's gain one, so the holder counts two less.
const (
	leaseLength = 4
	leaseDrift  = 2
)

// leases is the model.
type leases struct {
	bugs []LeaseBug
	seed maphash.Seed
}

// leaseState is everything there is: ages, each by the clock of who counts it.
type leaseState struct {
	held, age       uint8 // the holder has a lease, counted since its request, or leaseLength and more
	asked, askedAge uint8 // a request or its answer is on its way
	waited          uint8 // since the leader last granted or was elected, by its clock
	slow, fast      uint8 // ticks since a clock last went wrong
	leaders         uint8 // that there were
	fenced, over    uint8
}

const (
	asksNothing   = iota
	asksRequest   // on its way to the leader
	asksAnswer    // on its way back
	asksOldLeader // on its way to a leader that is one no more
)

// leaseStep is a step: a tick of all clocks, or something that takes no time.
type leaseStep uint8

const (
	leaseTick     leaseStep = iota // all clocks agree
	leaseSlow                      // but the holder's, which loses the tick
	leaseFast                      // but the leader's, which gains one
	leaseBoth                      // both
	leaseSleep                     // the holder's machine sleeps for the tick
	leaseAsk                       // the holder asks
	leaseGrant                     // the request is granted
	leaseArrive                    // the answer arrives
	leaseElect                     // another leader is elected
	leaseFence                     // the group fences the region
	leaseRestart                   // the region restarts
	leaseNumSteps                  // not a step
)

// String says the step in words.
func (t leaseStep) String() string {
	return [...]string{
		"a tick", "a tick that the holder's clock loses", "a tick that the leader's clock counts twice", "a tick, one clock slow, one fast",
		"a tick that the holder sleeps through", "the holder asks", "the request is granted", "the answer arrives", "another leader is elected",
		"the region is fenced", "the region restarts",
	}[t]
}

// CheckLeases walks all states of the model of a lease, and says what is wrong with
// one, and how it comes about.
func CheckLeases(bugs ...LeaseBug) (states int, wrong string) {
	m := &leases{bugs, maphash.MakeSeed()}
	f := explore(&machine[leaseState, leaseStep]{
		start: leaseState{slow: leaseLength, fast: leaseLength, waited: leaseLength},
		enabled: func(s *leaseState, out []leaseStep) []leaseStep {
			for t := range leaseNumSteps {
				if m.may(s, t) {
					out = append(out, t)
				}
			}
			return out
		},
		do: m.do,
		key: func(s *leaseState, buf []byte) (uint64, []byte) {
			buf = append(buf[:0], s.held, s.age, s.asked, s.askedAge, s.waited, s.slow, s.fast, s.leaders, s.fenced, s.over)
			return maphash.Bytes(m.seed, buf), buf
		},
		wrong: m.wrong,
	})
	if f.wrong == "" {
		return f.states, ""
	}
	var b strings.Builder
	for _, t := range f.trace {
		fmt.Fprintf(&b, "  %v\n", t)
	}
	return f.states, b.String() + "  " + f.wrong
}

func (m *leases) has(b LeaseBug) bool { return slices.Contains(m.bugs, b) }

func (m *leases) may(s *leaseState, t leaseStep) bool {
	switch t {
	case leaseTick, leaseSleep:
		return true
	case leaseSlow: // clocks go wrong by a tick in the length of a lease, no more
		return s.slow >= leaseLength
	case leaseFast:
		return s.fast >= leaseLength
	case leaseBoth:
		return s.slow >= leaseLength && s.fast >= leaseLength
	case leaseAsk:
		return s.asked == asksNothing || s.asked == asksOldLeader
	case leaseGrant:
		return s.asked == asksRequest && (s.fenced == 0 || m.has(RenewAfterFence)) || s.asked == asksOldLeader && m.has(OldLeaderGrants)
	case leaseArrive:
		return s.asked == asksAnswer
	case leaseElect:
		return s.leaders < 1
	case leaseFence:
		return s.fenced == 0
	case leaseRestart:
		return s.held == 1
	case leaseNumSteps:
	}
	return false
}

func (m *leases) do(s *leaseState, t leaseStep) {
	switch t {
	case leaseTick:
		s.tick(1, 1)
	case leaseSlow:
		s.tick(0, 1)
	case leaseFast:
		s.tick(1, 2)
	case leaseBoth:
		s.tick(0, 2)
	case leaseSleep:
		slow := s.slow
		s.tick(1-flag(m.has(ClockStops)), 1)
		s.slow = min(slow+1, leaseLength)
	case leaseAsk:
		s.asked, s.askedAge = asksRequest, 0
	case leaseGrant:
		if s.asked == asksRequest && s.fenced == 0 {
			s.waited = 0
		}
		s.asked = asksAnswer
	case leaseArrive:
		s.asked, s.held, s.age = asksNothing, 1, s.askedAge
		if m.has(CountFromAnswer) {
			s.age = 0
		}
	case leaseElect:
		s.leaders++
		s.waited = 0
		if m.has(LeaderForgets) {
			s.waited = leaseLength
		}
		if s.asked == asksRequest {
			s.asked = asksOldLeader
		}
	case leaseFence:
		s.fenced = 1
	case leaseRestart:
		s.held, s.age = flag(m.has(TrustAfterRestart)), 0
	case leaseNumSteps:
	}
	if s.fenced == 1 && s.waited >= leaseLength {
		s.over = 1
	}
}

// tick lets the clocks of the holder and of the leader go on by so much.
func (s *leaseState) tick(holder, leader uint8) {
	older := func(age *uint8, by uint8) { *age = min(*age+by, leaseLength+leaseDrift) }
	older(&s.age, holder)
	older(&s.askedAge, holder)
	older(&s.waited, leader)
	older(&s.slow, 1)
	older(&s.fast, 1)
	if holder == 0 {
		s.slow = 0
	}
	if leader == 2 {
		s.fast = 0
	}
}

func (m *leases) wrong(s *leaseState) string {
	valid := uint8(leaseLength - leaseDrift)
	if m.has(IgnoreDrift) {
		valid = leaseLength
	}
	if s.over == 1 && s.held == 1 && s.age < valid {
		return "the group has gone on, and the holder believes that it has a lease"
	}
	return ""
}

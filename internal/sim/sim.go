// Package sim runs whole region cores (tables, journal, shipping, clock and
// store, the very code that serves) against each other under faults, in virtual
// time, out of one seed. A kernel holds every event in one heap: what clients do,
// frames and calls on their way, disks catching up, crashes, cut links, clocks
// that jump. It delivers one event, waits until everything that it set off has
// come to rest, and only then delivers the next, so that the same seed gives the
// same trace. After a while everything is healed, and checkers compare what
// clients were told with what is there. See Run.
//
// The simulator keeps its own books of what each region has applied, from what
// it sees the store being given, and judges by those, never by the contexts and
// frontiers of the code under test.
//
// It is test support: only tests import it. A run belongs to one goroutine, and
// several may not share a process at the same time.
package sim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Config says what to simulate.
type Config struct {
	Seed uint64
	// Regions is how many there are, from 2 to 4. Default 3.
	Regions int
	// Steps is how many operations clients do. Default 300.
	Steps int
	// Faults are what goes wrong. Nil draws a mix from the seed.
	Faults *Faults
	// LoseDisk has one region, once, lose its disk with all that is on it.
	LoseDisk bool
	// Group has a simulated control group, with leases, failovers and switches.
	Group bool
	// Alone is two regions without a witness: their tables are pinned, and a person
	// forces failovers. It goes with Group.
	Alone bool
	// Journaling is two regions with a witness that keeps journals. It goes with Group.
	Journaling bool
	// Without names incidents that are left out, and Skip operations, by the order
	// in which clients drew them: see Shrink.
	Without, Skip []int
	// Bug plants a bug; none by default.
	Bug Bug
	// OutcomesOnly leaves out the checks that look inside while it runs, so that
	// only what clients and operators could notice counts.
	OutcomesOnly bool
	// Log, if set, receives the trace.
	Log io.Writer
}

// Faults say how often what goes wrong, per virtual second, and how bad it is.
type Faults struct {
	Crashes    float64       // regions that crash and start again
	Isolations float64       // regions that are cut off from all others, for long
	Losses     float64       // regions that crash and stay away for long
	PairCuts   float64       // two regions that are cut off from each other, for long
	Freezes    float64       // regions that are stopped, and go on
	Switches   float64       // operators who move a table's roles
	Hours      float64       // wall clocks that are an hour off for a while
	Forced     float64       // persons who force a failover
	Lags       float64       // regions that are heard late by one other, and by nobody else
	Tardy      float64       // leases that are told late, to regions that nobody hears
	Hangs      float64       // forwarded writes that hang in a link while their role goes round
	Cuts       float64       // links that are cut, in one direction or both
	Resets     float64       // connections that break
	Stalls     float64       // disks that take their time
	ClockJumps float64       // wall clocks that are set
	Delay      time.Duration // one way
	Jitter     time.Duration
	Disk       time.Duration // an fsync
	Skew       time.Duration // bound of each wall clock's error
}

func drawFaults(rng *rand.Rand, group, alone bool) *Faults {
	f := &Faults{
		Delay:  time.Duration(1+rng.IntN(150)) * time.Millisecond,
		Jitter: time.Duration(1+rng.IntN(60)) * time.Millisecond,
		Disk:   time.Duration(1+rng.IntN(40)) * time.Millisecond,
		Skew:   time.Duration(rng.IntN(400)) * time.Millisecond,
	}
	rate := func(most float64) float64 {
		if rng.IntN(3) == 0 {
			return 0 // swarm: each run leaves some faults out
		}
		return most * rng.Float64()
	}
	f.Crashes, f.Cuts, f.Resets = rate(0.8), rate(1.5), rate(1.5)
	f.Stalls, f.ClockJumps = rate(0.5), rate(0.5)
	if group {
		f.Crashes, f.Cuts = f.Crashes/4, f.Cuts/3
		f.Delay, f.Jitter = f.Delay*2/3, f.Jitter*2/3
		f.Isolations, f.Losses, f.PairCuts = rate(0.15), rate(0.15), rate(0.15)
		f.Freezes, f.Switches, f.Hours = rate(0.25), rate(0.3), rate(0.1)
	}
	if alone {
		f.Forced = 0.3
	} else if group {
		f.Lags, f.Hangs, f.Tardy = rate(0.1), rate(0.2), rate(0.1)
	}
	return f
}

// Result is what a run came to.
type Result struct {
	Seed uint64
	// Trace is a hash of all that happened, in order.
	Trace uint64
	// Events is how many events the kernel delivered, Virtual how long they took.
	Events  int
	Virtual time.Duration
	// Violations are what the checkers found, the first ones first.
	Violations []string
	// Incidents are what went wrong, in order.
	Incidents []Incident
	// Stats count what happened, by name; see Sometimes.
	Stats map[string]int
}

// Sometimes lists the Stats that some run of a few must have, or the runs have
// tested nothing.
func Sometimes() []string {
	return []string{
		statAcked, statCollisions, statSiblings, statCrashes, statTorn, statForwards, statBirths, statHandoffs, statAccepts,
		statTombstones, statCuts, statRelays, statUnknownTable, statLinkCuts, statResets, statUnknown, statUnavailable,
		statRefused, statRewinds, statDurableWaits, statConsistent, statMoves, statAheads, statDeletedTables,
	}
}

// The names of Stats.
const (
	statAcked         = "acknowledged writes"
	statCollisions    = "collisions on record"
	statSiblings      = "siblings met"
	statCrashes       = "crashes"
	statTorn          = "writes lost before they were durable"
	statForwards      = "forwarded writes"
	statBirths        = "births granted"
	statHandoffs      = "handoffs"
	statAccepts       = "accepts"
	statTombstones    = "tombstones dropped"
	statCuts          = "journals cut"
	statRelays        = "entries relayed"
	statUnknownTable  = "entries of unknown tables"
	statLinkCuts      = "links cut"
	statResets        = "connections broken"
	statUnknown       = "outcomes unknown"
	statUnavailable   = "operations unavailable"
	statRefused       = "conditions failed"
	statRewinds       = "rewinds"
	statDurableWaits  = "reads that waited for the disk"
	statConsistent    = "consistent reads"
	statMoves         = "moves asked for"
	statAheads        = "writes refused for a fast clock"
	statDeletedTables = "entries of deleted tables"
	statLosses        = "disks lost"
	statCopies        = "shards copied"
	statForced        = "failovers forced"
	statFreezes       = "freezes"
	statIsolations    = "regions isolated"
	statHours         = "clocks an hour off"
	statSwitches      = "switches asked for"
	statSilences      = "proposals never answered"
	statLate          = "proposals answered late"
	statFences        = "leases ended"
	statFailovers     = "failovers"
	statCutoffs       = "cutoffs fixed"
	statAbandoned     = "failovers overtaken by another"
	statTakeovers     = "roles switched"
	statReturns       = "regions back"
	statEpochs        = "epoch and release entries"
	statTakenOut      = "items taken out or put back"
	statStranded      = "stranded rows"
	statVoid          = "writes that do not count"
	statVoidAcked     = "acknowledged writes that do not count"
	statRestored      = "writes restored by a successor"
)

// Run simulates, heals, and checks. It must not run in parallel with others.
func Run(t *testing.T, cfg Config) Result {
	t.Helper()
	if cfg.Regions == 0 {
		cfg.Regions = 3
	}
	if cfg.Steps == 0 {
		cfg.Steps = 300
	}
	var s *simulation
	synctest.Test(t, func(t *testing.T) {
		s = newSimulation(t.Context(), cfg)
		defer s.shutdown()
		s.run()
	})
	s.buryLost()
	s.checkHistory()
	s.checkAnswers()
	return Result{
		Seed: cfg.Seed, Trace: s.trace.Sum64(), Events: int(s.events.Load()), Virtual: s.virtual,
		Violations: slices.Clone(s.violations), Incidents: s.incidents, Stats: s.stats,
	}
}

// maxViolations bounds what is listed: one bug shows itself everywhere.
const maxViolations = 20

// fail notes a violation.
func (s *simulation) fail(format string, args ...any) {
	if len(s.violations) < maxViolations {
		text := fmt.Sprintf("[%v] ", s.now()) + fmt.Sprintf(format, args...)
		s.violations = append(s.violations, text)
		s.note("VIOLATION %s", text)
	}
}

// suspect is fail for what only a look inside can tell.
func (s *simulation) suspect(format string, args ...any) {
	if !s.cfg.OutcomesOnly {
		s.fail(format, args...)
	}
}

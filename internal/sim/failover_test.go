package sim

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// kinds are what else regions with a control group have to survive.
var kinds = map[string]func(seed uint64) Config{
	"lease": failoverConfig,
	"disk": func(seed uint64) Config {
		cfg := failoverConfig(seed)
		cfg.LoseDisk = true
		return cfg
	},
	"alone": func(seed uint64) Config {
		return Config{Seed: seed, Regions: 2, Steps: 200 + int(seed%3)*100, Group: true, Alone: true}
	},
	"witness": func(seed uint64) Config {
		return Config{Seed: seed, Regions: 2, Steps: 200 + int(seed%3)*100, Group: true, Journaling: true}
	},
}

// failoverConfig is what a seed runs with a control group.
func failoverConfig(seed uint64) Config {
	return Config{Seed: seed, Regions: []int{3, 2, 3, 4}[seed%4], Steps: 200 + int(seed%4)*100, Group: true}
}

// TestFailovers runs a few seeds with a control group, leases, failovers and
// switches. ANTIPODE_KIND names one of kinds, ANTIPODE_SEED a seed, and prints its
// trace; ANTIPODE_FAILOVER_SEEDS says how many, ANTIPODE_FIRST the first.
func TestFailovers(t *testing.T) {
	first, only := number(t, "ANTIPODE_FIRST", 1), os.Getenv("ANTIPODE_SEED") != ""
	for _, kind := range sortedKeys(kinds) {
		if want := os.Getenv("ANTIPODE_KIND"); want != "" && want != kind {
			continue
		}
		n := uint64(1)
		if kind == "lease" {
			n = 4
		}
		n = number(t, "ANTIPODE_FAILOVER_SEEDS", n)
		if only {
			first, n = number(t, "ANTIPODE_SEED", 0), 1
		}
		t.Run(kind, func(t *testing.T) {
			total := map[string]int{}
			for seed := first; seed < first+n; seed++ {
				began := time.Now()
				cfg := kinds[kind](seed)
				if only && testing.Verbose() {
					cfg.Log = os.Stdout
				}
				res := Run(t, cfg)
				t.Logf("seed %d: %d events, %v of virtual time in %v, %d incidents", seed, res.Events, res.Virtual, time.Since(began), len(res.Incidents))
				reportShrunk(t, cfg, res, fmt.Sprintf("ANTIPODE_KIND=%s ANTIPODE_SEED=%d go test ./internal/sim -run '^TestFailovers$' -v", kind, seed))
				for name, n := range res.Stats {
					total[name] += n
				}
			}
			for _, name := range sortedKeys(total) {
				t.Logf("%8d %s", total[name], name)
			}
		})
	}
}

// TestPlantedFailovers checks that the checkers notice each planted bug about
// losing a region within a few seeds.
func TestPlantedFailovers(t *testing.T) {
	const most = 60
	harsh := Faults{
		Crashes: 0.05, Isolations: 0.08, Losses: 0.05, PairCuts: 0.05, Freezes: 0.1, Switches: 0.2, Cuts: 0.1, Stalls: 0.1,
		Delay: 60 * time.Millisecond, Jitter: 40 * time.Millisecond, Disk: 30 * time.Millisecond, Skew: 100 * time.Millisecond,
	}
	// Where the search begins: these were the first to find it when it was written.
	first := map[Bug]uint64{BugSkipFence: 29, BugLeaseByWall: 5, BugLeaseFromAnswer: 2, BugOneOrigin: 46, BugNoEqualise: 79, BugSwitchEarly: 34, BugNoSeal: 18, BugLateForward: 2}
	for _, bug := range FailoverBugs() {
		t.Run(string(bug), func(t *testing.T) {
			for n := range uint64(most) {
				faults, seed := harsh, max(1, first[bug])+n
				if bug == BugLeaseByWall {
					faults.Hours = 0.5
				}
				if bug == BugNoEqualise {
					faults.PairCuts, faults.Losses = 0.2, 0.1 // one survivor has what another lacks
				}
				switch bug {
				case BugNoSeal:
					faults.Lags, faults.Isolations, faults.Losses, faults.PairCuts, faults.Cuts = 0.08, 0, 0, 0, 0
				case BugLeaseFromAnswer:
					faults = Faults{Tardy: 0.1, Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond, Disk: 5 * time.Millisecond}
				case BugLateForward:
					faults.Hangs, faults.Switches = 1, 0
				}
				cfg := failoverConfig(seed)
				cfg.Faults, cfg.Bug, cfg.OutcomesOnly = &faults, bug, true
				res := Run(t, cfg)
				if len(res.Violations) == 0 {
					continue
				}
				t.Logf("seed %d: %s", seed, res.Violations[0])
				if cfg.Bug = ""; soaking(t) == 0 {
					return
				}
				if res := Run(t, cfg); len(res.Violations) > 0 {
					t.Errorf("seed %d, without the bug: %s", seed, res.Violations[0])
				}
				return
			}
			t.Errorf("%d seeds did not find it", most)
		})
	}
}

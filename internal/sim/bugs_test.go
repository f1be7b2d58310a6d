package sim

import (
	"testing"
	"time"
)

// TestPlanted checks that the checkers notice each planted bug within a few
// seeds, by its outcome alone: they are the measure of what a clean run is worth.
func TestPlanted(t *testing.T) {
	const most = 60
	harsh := Faults{
		Crashes: 1, Cuts: 1.5, Resets: 1, Stalls: 1, ClockJumps: 0.3,
		Delay: 60 * time.Millisecond, Jitter: 60 * time.Millisecond, Disk: 60 * time.Millisecond, Skew: 300 * time.Millisecond,
	}
	// Where the search begins: these were the first to find it when it was written.
	first := map[Bug]uint64{BugSkipCausalWait: 8, BugAckEarly: 2, BugCountAcks: 35, BugLonelyBirth: 3, BugStableAtOnce: 39, BugUnknownTable: 44}
	for _, bug := range Bugs() {
		t.Run(string(bug), func(t *testing.T) {
			for n := range uint64(most) {
				faults, seed := harsh, max(1, first[bug])+n
				res := Run(t, Config{Seed: seed, Faults: &faults, Bug: bug, OutcomesOnly: true})
				if len(res.Violations) > 0 {
					t.Logf("seed %d: %s", seed, res.Violations[0])
					return
				}
			}
			t.Errorf("%d seeds did not find it", most)
		})
	}
}

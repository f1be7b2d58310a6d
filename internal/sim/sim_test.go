package sim

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q: want a number", name, text)
	}
	return n
}

// soaking says how long to go on; 0 for a short run. ANTIPODE_SOAK is a duration,
// or 1 with the duration in DURATION, as make soak has it.
func soaking(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("ANTIPODE_SOAK")
	if text == "1" {
		text = cmp.Or(os.Getenv("DURATION"), "10m")
	}
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("ANTIPODE_SOAK=%q: want a duration, as in 10m", text)
	}
	return d
}

func report(t *testing.T, res Result) {
	t.Helper()
	for _, v := range res.Violations {
		t.Errorf("seed %d: %s", res.Seed, v)
	}
	if len(res.Violations) > 0 {
		t.Fatalf("run it again, with its trace: ANTIPODE_SEED=%d go test ./internal/sim -run TestSeeds -v", res.Seed)
	}
}

// TestSeeds runs a few seeds, or those that it is told to: ANTIPODE_SEED names
// one and prints its trace, ANTIPODE_SEEDS says how many.
func TestSeeds(t *testing.T) {
	if os.Getenv("ANTIPODE_SEED") != "" {
		seed := number(t, "ANTIPODE_SEED", 0)
		cfg := Config{Seed: seed, Regions: regionsOf(seed), Steps: stepsOf(seed), LoseDisk: os.Getenv("ANTIPODE_LOSE") != ""}
		if testing.Verbose() {
			cfg.Log = os.Stdout
		}
		res := Run(t, cfg)
		t.Logf("%d events, %v of virtual time, %v", res.Events, res.Virtual, res.Stats)
		report(t, res)
		return
	}
	total := map[string]int{}
	first := number(t, "ANTIPODE_FIRST", 13)
	for seed := first; seed < first+number(t, "ANTIPODE_SEEDS", 12); seed++ {
		began := time.Now()
		res := Run(t, Config{Seed: seed, Regions: regionsOf(seed), Steps: stepsOf(seed)})
		t.Logf("seed %d: %d events, %v of virtual time in %v", seed, res.Events, res.Virtual, time.Since(began))
		report(t, res)
		for name, n := range res.Stats {
			total[name] += n
		}
	}
	if total[statTimeouts] > 0 {
		t.Errorf("%d %s", total[statTimeouts], statTimeouts)
	}
	for _, name := range Sometimes() {
		t.Logf("%8d %s", total[name], name)
		if total[name] == 0 {
			t.Errorf("nothing was tested of: %s", name)
		}
	}
}

func stepsOf(seed uint64) int { return 100 + int(seed%5)*100 }

func regionsOf(seed uint64) int { return []int{3, 3, 2, 4}[seed%4] }

// TestLostDisk checks regions that come back without their disks.
// ANTIPODE_LOST_SEEDS says how many seeds, ANTIPODE_FIRST the first.
func TestLostDisk(t *testing.T) {
	lost, copied := 0, 0
	first := number(t, "ANTIPODE_FIRST", 1)
	for seed := first; seed < first+number(t, "ANTIPODE_LOST_SEEDS", 6); seed++ {
		res := Run(t, Config{Seed: seed, Regions: regionsOf(seed), Steps: stepsOf(seed), LoseDisk: true})
		for _, v := range res.Violations {
			t.Errorf("seed %d: %s", res.Seed, v)
		}
		if len(res.Violations) > 0 {
			t.Fatalf("run it again, with its trace: ANTIPODE_LOSE=1 ANTIPODE_SEED=%d go test ./internal/sim -run TestSeeds -v", res.Seed)
		}
		lost += res.Stats[statLosses]
		copied += res.Stats[statCopies]
	}
	if lost == 0 || copied == 0 {
		t.Errorf("%d disks lost, %d shards copied", lost, copied)
	}
}

// soakConfig takes turns: with a control group three times out of four.
func soakConfig(seed uint64) Config {
	switch seed % 8 {
	case 0:
		return Config{Seed: seed, Regions: regionsOf(seed / 8), Steps: stepsOf(seed)}
	case 1:
		return Config{Seed: seed, Regions: regionsOf(seed / 8), Steps: stepsOf(seed), LoseDisk: true}
	case 2:
		return kinds["alone"](seed)
	case 3:
		return kinds["disk"](seed)
	case 4:
		return kinds["witness"](seed)
	default:
		return kinds["lease"](seed)
	}
}

// reportShrunk is report, with as little as still fails: ANTIPODE_SHRINK is how
// long to look for it.
func reportShrunk(t *testing.T, cfg Config, res Result, again string) {
	t.Helper()
	if len(res.Violations) == 0 {
		return
	}
	limit := time.Minute
	if text := os.Getenv("ANTIPODE_SHRINK"); text != "" {
		var err error
		if limit, err = time.ParseDuration(text); err != nil {
			t.Fatalf("ANTIPODE_SHRINK=%q: want a duration, as in 1m", text)
		}
	}
	t.Errorf("as it was: %s", res.Describe(cfg))
	small, less := Shrink(t, cfg, res, limit)
	t.Errorf("as little as still fails: %s", less.Describe(small))
	t.Fatalf("run it again, with its trace: %s", again)
}

// TestSoakSeed runs the seed of a soak that ANTIPODE_SEED names, with its trace.
func TestSoakSeed(t *testing.T) {
	if os.Getenv("ANTIPODE_SEED") == "" {
		t.Skip("ANTIPODE_SEED names a seed that a soak has found")
	}
	seed := number(t, "ANTIPODE_SEED", 0)
	cfg := soakConfig(seed)
	trace := cfg
	if testing.Verbose() {
		trace.Log = os.Stdout
	}
	reportShrunk(t, cfg, Run(t, trace), soakAgain(seed))
}

// soakAgain says how to run a seed of a soak again.
func soakAgain(seed uint64) string {
	return fmt.Sprintf("ANTIPODE_SEED=%d go test ./internal/sim -run '^TestSoakSeed$' -v", seed)
}

// TestSoak runs new seeds for as long as ANTIPODE_SOAK says. ANTIPODE_FIRST names
// the first.
func TestSoak(t *testing.T) {
	limit := soaking(t)
	if limit == 0 {
		t.Skip("ANTIPODE_SOAK says how long to run")
	}
	first := number(t, "ANTIPODE_FIRST", uint64(time.Now().Unix())<<10)
	total := map[string]int{}
	seed := first
	for began := time.Now(); time.Since(began) < limit; seed++ {
		cfg := soakConfig(seed)
		res := Run(t, cfg)
		reportShrunk(t, cfg, res, soakAgain(seed))
		for name, n := range res.Stats {
			total[name] += n
		}
	}
	t.Logf("%d seeds from %d: %v", seed-first, first, total)
}

// TestSameSeed checks that a seed says everything.
func TestSameSeed(t *testing.T) {
	for seed := uint64(100); seed < 104; seed++ {
		var first Result
		for n := range 3 {
			res := Run(t, Config{Seed: seed, Regions: regionsOf(seed), Steps: 150})
			if n == 0 {
				first = res
				report(t, res)
			} else if diff := gocmp.Diff(first, res); diff != "" {
				t.Errorf("seed %d ran differently: %s", seed, diff)
			}
		}
	}
}

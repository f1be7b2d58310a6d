package group

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/cryptotest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/antipode-io/antipode"
)

// TestRandomHistories: voters under a scheduler that drops, delays, doubles and
// reorders messages, cuts links, and stops machines in the middle of a write.
// All agree at every index, and nothing acknowledged is lost.
func TestRandomHistories(t *testing.T) {
	seeds := uint64(12)
	if testing.Short() {
		seeds = 4
	}
	for n := range seeds {
		seed := n
		if n >= seeds/2 {
			seed = rand.Uint64() // some fixed ones, and new ones in each run
		}
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, seed)
			rng := rand.New(rand.NewPCG(seed, 3))
			voters := three()
			switch seed % 4 {
			case 2:
				voters = append(voters, "sydney", "saopaulo")
			case 3:
				voters = voters[:2]
			}
			c := newCluster(t, voters...)
			c.upAll()
			proposed := 0
			for range 6000 {
				c.randomStep(rng, &proposed)
			}
			c.settleAndCheck(proposed)
		})
	}
}

func (c *cluster) randomStep(rng *rand.Rand, proposed *int) {
	m := c.members[c.voters[rng.IntN(len(c.voters))]]
	switch n := rng.IntN(1000); {
	case n < 550 && len(c.wire) > 0:
		c.deliver(min(rng.IntN(len(c.wire)), rng.IntN(len(c.wire)))) // older ones first, mostly
	case n < 560 && len(c.wire) > 0:
		i := rng.IntN(len(c.wire))
		c.wire = slices.Delete(c.wire, i, i+1)
	case n < 570 && len(c.wire) > 0:
		c.wire = append(c.wire, c.wire[rng.IntN(len(c.wire))])
	case n < 850:
		if m.core != nil {
			_ = m.core.Tick()
			c.after(m)
		}
	case n < 890:
		if m.core != nil {
			*proposed++
			c.propose(m, fmt.Sprint("p", *proposed))
		}
	case n < 893:
		c.isolate(m.name, rng.IntN(2) == 0)
	case n < 895:
		to := c.voters[rng.IntN(len(c.voters))]
		c.cut[[2]antipode.Region{m.name, to}] = rng.IntN(2) == 0
	case n < 900:
		maps.DeleteFunc(c.cut, func([2]antipode.Region, bool) bool { return true })
	case n < 902:
		if c.othersJoined(m) {
			c.wipe(m)
		}
	case n < 908:
		if m.core != nil {
			m.mu.Lock()
			m.crashIn = 1 + rng.IntN(12)
			m.cfg = vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rand.New(rand.NewPCG(rng.Uint64(), 4))}
			m.mu.Unlock()
		}
	default:
		if m.core == nil && rng.IntN(10) == 0 {
			c.up(m)
		}
	}
}

// othersJoined reports whether the cluster can bear the loss of this disk.
func (c *cluster) othersJoined(m *member) bool {
	for _, o := range c.members {
		if o != m && (o.core == nil || !o.core.Status().Joined || o.core.applied < 3) {
			return false
		}
		// Of two, one votes before it has got everything again.
		if len(c.voters) == 2 && (m.core == nil || o.core == nil || o.core.applied < m.core.applied) {
			return false
		}
	}
	return true
}

// settleAndCheck heals everything and compares.
func (c *cluster) settleAndCheck(proposed int) {
	t := c.t
	clear(c.cut)
	for _, v := range c.voters {
		m := c.members[v]
		m.mu.Lock()
		m.crashIn = 0
		m.mu.Unlock()
		if m.core == nil {
			c.up(m)
		}
	}
	c.propose(c.members[c.voters[0]], "end")
	c.unknown = nil
	c.until("no progress after everything was healed", 500, func() bool {
		if slices.Contains(c.unknown, "end") {
			c.unknown = nil
			c.propose(c.members[c.voters[0]], "end")
		}
		return !slices.ContainsFunc(c.voters, func(v antipode.Region) bool { return !c.has(c.members[v], "end") })
	})
	c.run(50)
	want := c.members[c.voters[0]].core.State()
	for _, v := range c.voters {
		got := c.members[v].core.State()
		if got.Index != want.Index {
			t.Errorf("%s is at index %d, %s at %d", v, got.Index, c.voters[0], want.Index)
		}
		for name := range c.acked {
			if !c.has(c.members[v], name) {
				t.Errorf("%s: %s was acknowledged and is missing", v, name)
			}
		}
	}
	if len(c.acked) < proposed/10 {
		t.Errorf("only %d of %d proposals were acknowledged: the test tests little", len(c.acked), proposed)
	}
	t.Logf("%d proposed, %d acknowledged, index %d", proposed, len(c.acked), want.Index)
}

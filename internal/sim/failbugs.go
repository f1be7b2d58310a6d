package sim

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
	"github.com/antipode-io/antipode/internal/replica/journal"
	"github.com/antipode-io/antipode/internal/replica/ship"
)

// The planted bugs that are about losing a region, and about handing roles over.
const (
	BugSkipFence       Bug = "skip-fence"        // roles are given away before the lease of who had them has ended
	BugLeaseFromAnswer Bug = "lease-from-answer" // a lease is counted from the answer, not from the question
	BugLeaseByWall     Bug = "lease-by-wall"     // a lease is counted by a clock that can be set
	BugIgnoreLease     Bug = "ignore-lease"      // a region goes on, and accepts, without a lease
	BugNoSeal          Bug = "no-seal"           // a region says that it has sealed, and goes on
	BugNoEqualise      Bug = "no-equalise"       // a successor does not ask for what the others have
	BugOneOrigin       Bug = "one-origin"        // a cutoff bounds the region that was lost, and nobody else
	BugApplyBeyond     Bug = "apply-beyond"      // what comes late is applied, though it lies beyond a cutoff
	BugForgetStranded  Bug = "forget-stranded"   // a stranded write is not listed
	BugSwitchEarly     Bug = "switch-early"      // a switch is over before the holder has released the role
	BugLeanUnsafe      Bug = "lean-unsafe"       // a failed condition is answered before what it leans on is safe
	BugCopiesAtOnce    Bug = "copies-at-once"    // what is durable here counts as durable in other regions
	BugLateForward     Bug = "late-forward"      // a forwarded write is taken under any tenure
)

// FailoverBugs lists the planted bugs that take a control group to show.
func FailoverBugs() []Bug {
	return []Bug{
		BugSkipFence, BugLeaseFromAnswer, BugLeaseByWall, BugIgnoreLease, BugNoEqualise, BugOneOrigin,
		BugApplyBeyond, BugForgetStranded, BugSwitchEarly, BugLeanUnsafe, BugCopiesAtOnce, BugNoSeal, BugLateForward,
	}
}

// roles gives a region's tables what they need to take part in failovers.
func (g bugs) roles(c *core, cfg *table.Config) {
	if g.s.leases(c.site) {
		cfg.Lease = func() bool { return g.s.leased(c) }
	}
	cfg.Propose = func(ctx context.Context, cmd control.Command) (*control.State, error) { return g.propose(ctx, c, cmd) }
	cfg.DegradeAfter = leaseLength + time.Second
	cfg.Kick = func() {
		commits, err := c.ship.Kick()
		if err != nil && !errors.Is(err, errCrashed) {
			g.s.fail("%s: apply what waited for a role: %v", c.site.name, err)
		}
		_ = journal.Sync(commits...) // fails in a crash only
	}
	if g.is(BugNoSeal) {
		cfg.Catalog = func() *control.State { return g.unsealed(c) }
	}
}

// silent is after how long a region counts as out of reach.
func (g bugs) silent() time.Duration {
	if g.is(BugSkipFence) {
		return silent / 5
	}
	return silent
}

// gone has a lease count as over at once where its holder is not heard of.
func (g bugs) gone(v *voter, r antipode.Region) bool {
	return g.is(BugSkipFence) && r != v.name && g.s.mono(v)-v.heard[r] > g.silent()
}

// clock is what a region counts its lease by.
func (g bugs) clock(r *site) func() time.Duration {
	v := g.s.group.voters[r.name]
	if g.is(BugLeaseByWall) {
		return func() time.Duration { return g.s.mono(v) + time.Duration(r.skew.Load()) + 2*time.Hour }
	}
	return func() time.Duration { return g.s.mono(v) }
}

// propose is table.Config.Propose.
func (g bugs) propose(ctx context.Context, c *core, cmd control.Command) (*control.State, error) {
	if g.is(BugNoEqualise) && cmd.Seal != nil {
		seal := *cmd.Seal
		seal.Had = control.Frontiers{}
		cmd.Seal = &seal
	}
	state, err := g.s.proposeFor(ctx, c, cmd)
	if state != nil && g.is(BugNoSeal) {
		state = g.unsealed(c)
	}
	return state, err
}

// unsealed is the agreed state without the failovers that are under way, but for
// the successor's own: nothing is sealed for them.
func (g bugs) unsealed(c *core) *control.State {
	state := *c.site.state()
	state.Failovers = maps.Clone(state.Failovers)
	for id, f := range state.Failovers {
		if f.Cutoff == nil && f.Successor != c.site.name {
			delete(state.Failovers, id)
		}
	}
	return &state
}

// pretend has a region that does not seal say that it has.
func (g bugs) pretend(c *core) {
	if !g.is(BugNoSeal) {
		return
	}
	state := c.site.state()
	for _, id := range sortedKeys(state.Failovers) {
		f := state.Failovers[id]
		_, told := f.Sealed[c.site.name]
		if f.Cutoff != nil || f.Successor == c.site.name || told || !slices.Contains(state.MembersOf(f.Set), c.site.name) {
			continue
		}
		had := control.Frontiers{}
		for _, shard := range c.log.Shards() {
			if shard.Set() == f.Set {
				had[shard] = c.log.Shard(shard).Durable()
			}
		}
		seal := &control.Seal{Failover: id, Region: c.site.name, Had: had, Fences: state.Fences}
		g.s.propose(c.site.name, control.Command{Seal: seal}, func(error) {})
	}
}

// agreed sees a command that was agreed on.
func (g bugs) agreed(cmd control.Command) {
	if !g.is(BugSwitchEarly) || cmd.Switch == nil {
		return
	}
	took := &control.Took{By: cmd.Switch.To}
	for _, r := range cmd.Switch.Roles {
		took.Roles = append(took.Roles, control.RoleEpoch{RoleID: r.RoleID, Epoch: r.Epoch + 1})
	}
	g.s.after(time.Millisecond, func() { _, _ = g.s.commit(took.By, control.Command{Took: took}) })
}

// session applies entries within a transaction.
func (g bugs) session(c *core, txn *journal.Txn) ship.Session {
	inner := c.tables.Session(txn)
	if g.is(BugApplyBeyond) || g.is(BugOneOrigin) {
		return beyond{inner, g}
	}
	return inner
}

// beyond applies entries as if they had been written under a later tenure.
type beyond struct {
	ship.Session

	g bugs
}

// Apply implements ship.Session.
func (b beyond) Apply(e *journal.Entry) error {
	w := b.g.s.writes[e.Dot]
	if w == nil || !w.item() {
		return b.Session.Apply(e)
	}
	if r := b.g.s.voider(w); r != nil && (b.g.is(BugApplyBeyond) || e.Dot.Origin.Region != r.lost) {
		later := *e
		later.Epoch = 1 << 40
		return b.Session.Apply(&later)
	}
	return b.Session.Apply(e)
}

// stores reports whether a row is stored.
func (g bugs) stores(key []byte) bool { return !g.is(BugForgetStranded) || key[0] != rowStranded }

// leak answers a condition that has failed from inside the critical section.
func (g bugs) leak(x execution, old []byte) {
	if !g.is(BugLeanUnsafe) || x.leaked || x.region != x.c.site.name {
		return
	}
	x.leaked = true
	x.ret, x.out, x.old = g.s.tick(), refused, valueOf(old)
}

// sent sees a frame that comes back to a sender.
func (g bugs) sent(n *connection) {
	if !g.is(BugCopiesAtOnce) {
		return
	}
	for _, id := range n.a.log.Shards() {
		if slices.Contains(n.a.tables.Members(id), n.to) {
			sh := n.a.log.Shard(id)
			sh.Acked(n.to, sh.Durable())
		}
	}
}

// forAnyTenure takes the tenure that it is meant for out of a forwarded write.
func forAnyTenure(body []byte) []byte {
	var all map[string]json.RawMessage
	rest, ok := unsealInto(body, &all)
	if !ok {
		return body
	}
	delete(all, "epoch")
	return seal(all, rest)
}

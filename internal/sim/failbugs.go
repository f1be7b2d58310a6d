package sim

import (
	"context"
	"errors"

	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
	"github.com/antipode-io/antipode/internal/replica/journal"
	"github.com/antipode-io/antipode/internal/replica/ship"
)

// The planted bugs that are about losing a region.
const (
	BugSkipFence       Bug = "skip-fence"        // roles are given away before the lease of who had them has ended
	BugLeaseFromAnswer Bug = "lease-from-answer" // a lease is counted from the answer, not from the question
	BugIgnoreLease     Bug = "ignore-lease"      // a region goes on without a lease
	BugEarlyReturn     Bug = "early-return"      // a region gets a lease again before it knows what has not counted
)

// FailoverBugs lists the planted bugs that take a control group to show.
func FailoverBugs() []Bug {
	return []Bug{BugSkipFence, BugLeaseFromAnswer, BugIgnoreLease, BugEarlyReturn}
}

// roles gives a region's tables what they need to take part in failovers.
func (g bugs) roles(c *core, cfg *table.Config) {
	cfg.Lease = func() bool { return g.s.leased(c) }
	cfg.Propose = func(ctx context.Context, cmd control.Command) (*control.State, error) {
		return g.s.proposeFor(ctx, c, cmd)
	}
	cfg.Kick = func() {
		commits, err := c.ship.Kick()
		if err != nil && !errors.Is(err, errCrashed) {
			g.s.fail("%s: apply what waited for a role: %v", c.site.name, err)
		}
		_ = journal.Sync(commits...) // fails in a crash only
	}
}

// session applies entries within a transaction.
func (g bugs) session(c *core, txn *journal.Txn) ship.Session { return c.tables.Session(txn) }

package sim

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/control/lease"
	"github.com/antipode-io/antipode/internal/data/table"
	"github.com/antipode-io/antipode/internal/engine/pebblekv"
	"github.com/antipode-io/antipode/internal/hlc"
	"github.com/antipode-io/antipode/internal/replica/journal"
	"github.com/antipode-io/antipode/internal/replica/ship"
)

// site is one region: what outlives its crashes.
type site struct {
	name    antipode.Region
	index   int
	core    *core // nil while it is down
	mem     *vfs.MemFS
	ceiling antipode.Stamp
	skew    atomic.Int64 // of the wall clock, nanoseconds: whoever wakes up by a timer reads it
	catalog int          // how many changes of the catalog it has heard of
	known   atomic.Pointer[control.State]
	slow    int // its disk takes this many times as long
	books   *books
	tuning  tuning
	// incarnation is how many journals it has begun: one more for each lost disk.
	incarnation uint32
	jumped      bool // its wall clock was set
	filling     bool // it lost its disk, and has not been given everything back yet
	witness     bool // it keeps journals, and no tables
}

// tuning makes limits small, so that they are met.
type tuning struct {
	frame, waiting, recent int
	retention              time.Duration
}

// core is one run of a region, from its start to its crash.
type core struct {
	s      *simulation
	site   *site
	disk   *disk
	store  *store
	log    *journal.Journal
	clock  *hlc.Clock
	tables *table.Tables
	ship   *ship.Ship

	ctx      context.Context //nolint:containedctx // the life of this run
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	syncing  bool
	deciding *operation // whose decision was made last: the next own write is its
	sweeping bool
	// inline is true while the kernel itself runs code under test: what that waits
	// for can't be an event.
	inline  bool
	copying map[antipode.Shard]bool

	keeper   *lease.Keeper
	stepping bool // it is looking after its roles
	kicked   bool // and has to look again
	steps    int
}

const stripes = 2

// timeout is odd: it never ends at the time of an event.
const timeout = 4500*time.Millisecond + time.Nanosecond

func (r *site) origin() antipode.Origin {
	return antipode.Origin{Region: r.name, Incarnation: r.incarnation}
}

// state is the agreed state as the region knows it. It may be called from any
// goroutine.
func (r *site) state() *control.State { return r.known.Load() }

// learn brings the region's copy of the agreed state up to a change.
func (r *site) learn(n int, state *control.State) {
	r.catalog = n
	r.known.Store(state)
}

// boot starts a region on what its disk holds.
func (s *simulation) boot(r *site) {
	c := &core{s: s, site: r, disk: newDisk(r.mem), inline: true, copying: map[antipode.Shard]bool{}}
	defer func() { c.inline = false }()
	c.ctx, c.cancel = context.WithCancel(s.ctx)
	inner, err := pebblekv.Open(pebblekv.Config{
		FS: c.disk, Dir: "data", CacheBytes: 1 << 20, MemTableBytes: 1 << 20, ReserveBytes: -1,
	})
	if err != nil {
		s.fail("%s does not start: %v", r.name, err)
		return
	}
	c.store = &store{Store: inner, c: c}
	if err := c.open(); err != nil {
		s.fail("%s does not start: %v", r.name, errors.Join(err, inner.Close()))
		return
	}
	if err := c.disk.flush(); err != nil {
		s.fail("%s: %v", r.name, err)
	}
	r.core = c
	s.recovered(c)
	if s.group != nil {
		s.after(s.between(0, 20*time.Millisecond), func() { s.on(r.name, func() { s.keepLease(c) }) })
		s.after(0, func() { s.on(r.name, func() { s.stepRoles(c) }) })
		s.later(r.name, s.between(0, time.Second), func() { s.stepProtect(c) })
		s.after(s.between(0, 500*time.Millisecond), func() { s.on(r.name, func() { s.goBack(c) }) })
	}
	if r.filling {
		s.after(grantsExpire, func() { s.refill(c) })
	}
}

func (c *core) open() (err error) {
	s, r := c.s, c.site
	if s.cfg.Bug == BugReuseSequence {
		if err := s.forgetLast(c); err != nil {
			return err
		}
	}
	c.log, err = journal.Open(journal.Config{Store: c.store, Origin: r.origin(), RecentBytes: r.tuning.recent, Resume: s.yield})
	if err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	c.clock, err = hlc.New(hlc.Config{
		Wall: func() time.Time { return wallNow().Add(time.Duration(r.skew.Load())) }, Ceiling: r.ceiling,
		Persist: func(n antipode.Stamp) error { r.ceiling = n; return nil },
	})
	if err != nil {
		return fmt.Errorf("start clock: %w", err)
	}
	tc := table.Config{
		Self: r.name, Store: c.store, Journal: c.log, Clock: c.clock,
		Catalog: func() *control.State { return r.state() },
		Call: func(ctx context.Context, to antipode.Region, method string, body []byte) ([]byte, error) {
			return s.bugs.call(c, ctx, to, method, body)
		},
		NotSent:   func(err error) bool { return errors.Is(err, errNotSent) },
		Compile:   c.compile,
		Filling:   r.filling,
		Timeout:   timeout,
		Retention: r.tuning.retention, AdaptAfter: 3, AdaptDwell: 500 * time.Millisecond,
	}
	if s.group != nil {
		v := s.group.voters[r.name]
		s.beginsWatch(v)
		v.watch.Observe(r.state())
		c.keeper = lease.NewKeeper(leaseLength, s.bugs.clock(r))
		s.bugs.roles(c, &tc)
	}
	c.tables = table.New(tc)
	c.ship = ship.New(ship.Config{
		Journal: c.log, Known: c.known, Admit: c.tables.Admit, Stripes: stripes,
		Members:    func(id antipode.Shard) []antipode.Region { return s.bugs.members(c, id) },
		Session:    func(txn *journal.Txn) ship.Session { return s.bugs.session(c, txn) },
		Stamp:      c.clock.Last,
		Copier:     c.tables,
		Filling:    c.tables.Filling,
		FrameBytes: r.tuning.frame, WaitingBytes: r.tuning.waiting,
	})
	return nil
}

func (c *core) known(e *journal.Entry) bool {
	known := c.tables.Known(e)
	if !known {
		c.s.count(statUnknownTable)
	} else if _, ok := c.site.state().TableByID(e.Mutation.Table); !ok {
		c.s.count(statDeletedTables)
	}
	return known || c.s.bugs.is(BugUnknownTable)
}

// diskWork lets the disk catch up after a while. It is called by whoever applies.
func (s *simulation) diskWork(c *core) {
	s.post(diskPost+uint64(c.site.index), func() {
		if c.syncing {
			return
		}
		c.syncing = true
		took := s.between(s.faults.Disk/4, s.faults.Disk*time.Duration(c.site.slow))
		s.after(took, func() { s.on(c.site.name, func() { s.caughtUp(c) }) })
	})
}

// caughtUp ends a sync of the disk.
func (s *simulation) caughtUp(c *core) {
	c.syncing = false
	if c.site.core != c {
		return
	}
	done, err := c.store.sync()
	if err != nil {
		s.fail("%s: %v", c.site.name, err)
	}
	s.note("sync %s", c.site.name)
	for _, w := range done {
		s.ready = append(s.ready, func() { w.done <- nil })
	}
}

// crash ends a region as a power cut does.
func (s *simulation) crash(r *site) {
	c := r.core
	if c == nil {
		return
	}
	mode := s.rng.IntN(3)
	mem, err := c.disk.crash(func(n int) int {
		switch mode {
		case 0:
			return 0
		case 1:
			return n - 1
		default:
			return s.rng.IntN(n)
		}
	})
	if err != nil {
		s.fail("%s: %v", r.name, err)
	}
	s.note("crash %s", r.name)
	s.count(statCrashes)
	s.stop(c)
	r.core, r.mem = nil, mem
}

// stop ends a run of a region, leaving its disk as it is.
func (s *simulation) stop(c *core) {
	c.site.core = nil
	for _, w := range c.store.kill() {
		s.ready = append(s.ready, func() { w.done <- errCrashed })
	}
	c.cancel()
	s.settle()
	c.wg.Wait()
	s.dropConnections(c)
	_ = c.store.Close() // on a disk that nobody looks at any more
}

// restart boots a crashed region.
func (s *simulation) restart(r *site) {
	if r.core != nil || s.group != nil && s.last().Regions[r.name].Incarnation < r.incarnation {
		return
	}
	s.note("restart %s", r.name)
	s.boot(r)
	s.sweepLater(r)
}

// sweepLater lets a region let go of what nobody needs, again and again.
func (s *simulation) sweepLater(r *site) {
	c := r.core
	if c == nil || c.sweeping {
		return
	}
	c.sweeping = true
	s.later(r.name, s.between(200*time.Millisecond, 1500*time.Millisecond), func() {
		if r.core != c {
			return
		}
		s.note("sweep %s", r.name)
		s.spawn(c, func(ctx context.Context, a *actor) {
			err := c.tables.Sweep(ctx)
			s.post(a.id, func() {
				c.sweeping = false
				if r.core != c {
					return
				}
				if err != nil {
					s.fail("sweep of %s: %v", r.name, err)
				}
				s.sweepLater(r)
			})
		})
	})
}

package sim

import (
	"context"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/klauspost/compress/zstd"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
)

// simulation is one run.
type simulation struct {
	*kernel
	ctx    context.Context //nolint:containedctx // the life of the run
	cfg    Config
	faults *Faults
	bugs   bugs
	zstd   *zstd.Decoder
	think  time.Duration

	sites       map[antipode.Region]*site
	order       []*site
	catalog     []*control.State // after each of its changes
	tables      map[antipode.TableID]*control.Table
	cut         map[way]int // by how many faults
	dialled     map[dialling]*connection
	live        []*connection
	connections int

	hotKeys    int          // of each table
	habits     map[verb]int // how often clients do what
	habitSum   int
	favourite  int // percent of the operations go to one table
	ops        []*operation
	pending    int // operations without an answer
	writes     map[antipode.Dot]*write
	ended      map[antipode.Origin]bool // authors that lost their disks
	spoilt     map[cell]bool            // items of which writes went with a disk
	healing    bool
	virtual    time.Duration
	violations []string
	stats      map[string]int
}

func (s *simulation) count(name string) { s.stats[name]++ }

func newSimulation(ctx context.Context, cfg Config) *simulation {
	s := &simulation{
		kernel: newKernel(cfg.Seed, cfg.Log), ctx: ctx, cfg: cfg, faults: cfg.Faults,
		sites: map[antipode.Region]*site{}, tables: map[antipode.TableID]*control.Table{}, cut: map[way]int{},
		dialled: map[dialling]*connection{}, writes: map[antipode.Dot]*write{}, ended: map[antipode.Origin]bool{}, spoilt: map[cell]bool{}, stats: map[string]int{},
	}
	s.bugs = bugs{s: s}
	if s.faults == nil {
		s.faults = drawFaults(s.rng)
	}
	s.drawHabits()
	s.think = thinking(s.rng.IntN(2) == 0)
	var err error
	if s.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1)); err != nil {
		s.fail("%v", err)
	}
	pick := func(of ...int) int { return of[s.rng.IntN(len(of))] }
	for i := range cfg.Regions {
		r := &site{
			name: antipode.Region([]string{"oregon", "mumbai", "paris", "lagos"}[i]), index: i,
			mem: vfs.NewCrashableMem(), books: newBooks(), slow: 1, incarnation: 1, skew: s.between(-s.faults.Skew, s.faults.Skew),
			tuning: tuning{
				frame: pick(200, 2000, 100_000), waiting: pick(300, 2000, 1<<20), recent: pick(1, 1000, 1<<20),
				retention: s.between(time.Millisecond, 4*time.Second),
			},
		}
		s.sites[r.name] = r
		s.order = append(s.order, r)
	}
	return s
}

// run is the whole story.
func (s *simulation) run() {
	s.newCatalog()
	for _, r := range s.order {
		s.boot(r)
		s.sweepLater(r)
	}
	if len(s.violations) > 0 {
		return
	}
	s.settle()
	for _, a := range s.order {
		for _, b := range s.order {
			if a != b {
				for stripe := range stripes {
					s.dial(way{a.name, b.name}, stripe, s.between(0, 50*time.Millisecond))
				}
				s.compareClocks(a, b)
			}
		}
	}
	for _, r := range s.order {
		for range 2 {
			s.client(r)
		}
	}
	s.trouble()
	s.spreadCatalog()
	// As long as clients have something to do: until the last answer.
	for limit := 10 * time.Minute; !s.quiet() && s.now() < limit && len(s.violations) == 0; {
		if !s.next() {
			break
		}
		s.wake()
	}
	if len(s.violations) == 0 {
		s.heal()
	}
	s.virtual = s.now()
}

// quiet reports whether clients have done all that they were to do.
func (s *simulation) quiet() bool {
	return len(s.ops) >= s.cfg.Steps && s.pending == 0
}

// compareClocks lets a region observe another's clock now and then.
func (s *simulation) compareClocks(a, b *site) {
	s.after(s.between(500*time.Millisecond, 1500*time.Millisecond), func() {
		w := way{a.name, b.name}
		if a.core != nil && b.core != nil && s.open(w) && s.open(w.back()) {
			a.core.clock.Observe(b.name, b.core.clock.Wall(), 2*s.faults.Delay+time.Millisecond)
		}
		s.compareClocks(a, b)
	})
}

// spreadCatalog lets changes of the catalog reach regions, each in its time.
func (s *simulation) spreadCatalog() {
	for n := 1; n < len(s.catalog); n++ {
		from := s.between(0, 2*time.Second) + time.Duration(n)*time.Second
		for _, r := range s.order {
			s.after(from+s.between(0, 3*time.Second), func() { s.learn(r, n) })
		}
	}
}

// learn tells a region of a change of the catalog.
func (s *simulation) learn(r *site, n int) {
	if r.catalog >= n {
		return
	}
	r.catalog = n
	s.note("catalog %s %d", r.name, n)
	c := r.core
	if c == nil {
		return
	}
	commits, err := c.ship.Kick()
	if err != nil {
		s.fail("%s: apply what waited for a table: %v", r.name, err)
	}
	s.spawn(c, func(context.Context, *actor) {
		for _, k := range commits {
			_ = k.Wait() // fails in a crash only
		}
	})
}

// trouble makes things go wrong, for as long as clients are at work.
func (s *simulation) trouble() {
	const every = 100 * time.Millisecond
	s.after(every, func() {
		if s.healing {
			return
		}
		happens := func(rate float64) bool { return s.rng.Float64() < rate*every.Seconds() }
		r := s.order[s.rng.IntN(len(s.order))]
		if happens(s.faults.Crashes) && r.core != nil {
			s.crash(r)
			s.after(s.between(10*time.Millisecond, 3*time.Second), func() { s.restart(r) })
		}
		if s.cfg.LoseDisk && happens(0.3) {
			s.lose(r)
		}
		if happens(s.faults.Cuts) {
			s.cutLink()
		}
		if happens(s.faults.Resets) && len(s.live) > 0 {
			n := s.live[s.rng.IntN(len(s.live))]
			s.note("reset %v", n)
			s.count(statResets)
			s.breakSoon(n)
		}
		if happens(s.faults.Stalls) {
			r.slow = 1 + s.rng.IntN(30)
			s.note("disk %s %d", r.name, r.slow)
		}
		if happens(s.faults.ClockJumps) {
			r.skew = s.between(-s.faults.Skew, s.faults.Skew)
			if s.rng.IntN(2) == 0 {
				r.skew = r.skew.Abs() + time.Duration(1+s.rng.IntN(4))*time.Second
			}
			s.note("clock %s %v", r.name, r.skew)
		}
		s.trouble()
	})
}

func (s *simulation) cutLink() {
	a := s.order[s.rng.IntN(len(s.order))]
	b := s.order[s.rng.IntN(len(s.order))]
	if a == b {
		return
	}
	ways := []way{{a.name, b.name}}
	if s.rng.IntN(2) == 0 {
		ways = append(ways, ways[0].back())
	}
	s.count(statLinkCuts)
	s.note("cut %v", ways)
	for _, w := range ways {
		s.cut[w]++
	}
	s.after(s.between(50*time.Millisecond, 7*time.Second), func() {
		s.note("mend %v", ways)
		for _, w := range ways {
			s.cut[w] = max(0, s.cut[w]-1)
		}
	})
}

// heal ends all trouble and waits until everything has arrived everywhere.
func (s *simulation) heal() {
	s.healing = true
	s.note("heal")
	for w := range s.cut {
		s.cut[w] = 0
	}
	for _, r := range s.order {
		r.slow, r.skew = 1, s.between(-s.faults.Skew/4, s.faults.Skew/4)
		s.restart(r)
		s.learn(r, len(s.catalog)-1)
	}
	s.settle()
	const patience = 2 * time.Minute
	why := ""
	for limit := s.now() + patience; s.now() < limit && len(s.violations) == 0; {
		for until := s.now() + 500*time.Millisecond; s.now() < until && s.next(); {
			s.wake()
		}
		if why = s.unequal(); why == "" {
			s.checkFinal()
			return
		}
	}
	if len(s.violations) == 0 {
		s.fail("not equal %v after everything was healed: %s", patience, why)
	}
}

// shutdown ends everything, so that the bubble can end.
func (s *simulation) shutdown() {
	s.healing = true
	s.queue = nil
	for _, r := range s.order {
		if r.core != nil {
			s.stop(r.core)
		}
	}
	s.zstd.Close()
}

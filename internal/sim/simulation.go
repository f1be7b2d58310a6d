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
	mute        map[way]int // by how many faults only journals get through
	lag         map[way]time.Duration
	hang        *hang
	tardy       map[antipode.Region]func() time.Duration      // whose next renewal is answered late, and by how much
	onSeal      func(f *control.Failover, by antipode.Region) // nil: nothing
	dialled     map[dialling]*connection
	live        []*connection
	connections int

	hotKeys     int          // of each table
	habits      map[verb]int // how often clients do what
	habitSum    int
	favourite   int // percent of the operations go to one table
	ops         []*operation
	drawn       int // operations that clients drew
	pending     int // operations without an answer
	writes      map[antipode.Dot]*write
	ended       map[antipode.Origin]bool // authors that lost their disks
	spoilt      map[cell]bool            // items of which writes went with a disk
	group       *group                   // nil: the catalog changes by itself, and nothing fails over
	changes     []control.Command        // of the catalog, while it runs
	incidents   []Incident
	reigns      map[control.RoleID][]reign
	restores    []restore
	unprotected map[antipode.Dot]bool // on record as answered without the copies promised
	holders     map[tenureKey]antipode.Region
	forcer      *site // who was made to take over last, and with which change the group took note
	adopted     int
	fencings    map[antipode.Region]int64
	shards      map[cell]antipode.Shard
	healing     bool
	lively      bool
	virtual     time.Duration
	violations  []string
	stats       map[string]int
}

func (s *simulation) count(name string) { s.stats[name]++ }

func newSimulation(ctx context.Context, cfg Config) *simulation {
	s := &simulation{
		kernel: newKernel(cfg.Seed, cfg.Log), ctx: ctx, cfg: cfg, faults: cfg.Faults,
		sites: map[antipode.Region]*site{}, tables: map[antipode.TableID]*control.Table{}, cut: map[way]int{}, mute: map[way]int{}, tardy: map[antipode.Region]func() time.Duration{}, lag: map[way]time.Duration{},
		dialled: map[dialling]*connection{}, writes: map[antipode.Dot]*write{}, ended: map[antipode.Origin]bool{}, spoilt: map[cell]bool{}, stats: map[string]int{},
		reigns: map[control.RoleID][]reign{}, holders: map[tenureKey]antipode.Region{}, fencings: map[antipode.Region]int64{}, shards: map[cell]antipode.Shard{}, unprotected: map[antipode.Dot]bool{},
	}
	s.bugs = bugs{s: s}
	if s.faults == nil {
		s.faults = drawFaults(s.rng, cfg.Group, cfg.Alone)
	}
	s.drawHabits()
	s.think = thinking(s.rng.IntN(2) == 0)
	if cfg.Group {
		s.think = 3*s.think + 400*time.Millisecond // what is to be survived takes seconds
	}
	var err error
	if s.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1)); err != nil {
		s.fail("%v", err)
	}
	pick := func(of ...int) int { return of[s.rng.IntN(len(of))] }
	names := []antipode.Region{"oregon", "mumbai", "paris", "lagos"}[:cfg.Regions]
	if cfg.Journaling {
		names = append(names[:2:2], witness)
	}
	for i, name := range names {
		skew := s.between(-s.faults.Skew, s.faults.Skew)
		r := &site{
			name: name, index: i, witness: name == witness,
			mem: vfs.NewCrashableMem(), books: newBooks(), slow: 1, incarnation: 1,
			tuning: tuning{
				frame: pick(200, 2000, 100_000), waiting: pick(300, 2000, 1<<20), recent: pick(1, 1000, 1<<20),
				retention: s.between(time.Millisecond, 4*time.Second),
			},
		}
		r.skew.Store(int64(skew))
		s.sites[r.name] = r
		s.order = append(s.order, r)
	}
	if cfg.Group {
		s.newGroup()
	}
	return s
}

// run is the whole story.
func (s *simulation) run() {
	s.newCatalog()
	if s.group != nil {
		s.govern()
		s.lead()
	}
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
			if !r.witness {
				s.client(r)
			}
		}
	}
	s.trouble(0)
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
	return s.drawn >= s.cfg.Steps && s.pending == 0
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
	if s.group != nil {
		for _, cmd := range s.changes {
			s.ask(cmd)
		}
		return
	}
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
	r.learn(n, s.catalog[n])
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
	if s.group != nil {
		s.kickRoles(c)
	}
}

// heal ends all trouble and waits until everything has arrived everywhere.
func (s *simulation) heal() {
	s.healing = true
	s.note("heal")
	clear(s.cut)
	clear(s.mute)
	clear(s.lag)
	clear(s.tardy)
	s.hang, s.onSeal = nil, nil
	if s.group != nil {
		for _, name := range s.group.order {
			s.unfreeze(s.group.voters[name])
		}
	}
	for _, r := range s.order {
		r.slow = 1
		r.skew.Store(int64(s.between(-s.faults.Skew/4, s.faults.Skew/4)))
		s.restart(r)
		if s.group == nil {
			s.learn(r, len(s.catalog)-1)
		}
	}
	s.settle()
	const patience = 2 * time.Minute
	why, lively := "", false
	for limit := s.now() + patience; s.now() < limit && len(s.violations) == 0; {
		for until := s.now() + 500*time.Millisecond; s.now() < until && s.next(); {
			s.wake()
		}
		if why = s.unsettled(); why == "" {
			why = s.unequal()
		}
		switch {
		case why != "":
		case s.group != nil && !lively:
			lively = true
			limit = s.now() + patience
			s.checkLiveness()
		default:
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

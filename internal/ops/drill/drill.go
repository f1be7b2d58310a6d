// Package drill hurts a running system on purpose and compares what comes of it
// with what was promised. It uses what every user has: the client API with signed
// requests, the operator API, and signals to the regions' processes.
//
// A drill keeps a ledger of its own: every operation of its load, with when it
// was sent and answered by the client's clock. Judge makes a verdict of the
// ledger and of what the regions hold in the end; it is pure.
//
// Whatever happens, a drill heals what it did: at its end, on an error, a panic
// or the end of its context; and when its process was killed, the next Run or
// Heal finds the injury on record and heals it first. One drill runs at a time on
// a data directory.
//
// Run owns all goroutines that it starts and returns when they have ended.
package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/operator"
)

// run is the state of one drill.
type run struct {
	cfg     Config
	kind    Kind
	id      string
	began   time.Time
	target  int
	peer    int   // the other end where one link is cut
	data    []int // sites that store tables
	tables  []Table
	before  []operator.RegionStatus
	load    *load
	watch   *watch
	injury  injury
	eventMu sync.Mutex
	events  []Event

	fault, healed, recovered time.Duration
}

// Run runs a drill and returns its record, which is on disk too. It returns an
// error when the drill could not be run, or not be ended well; that promises were
// broken is no error but in the record.
func Run(ctx context.Context, cfg Config) (*Record, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	r := newRun(cfg)
	unlock, err := r.lock()
	if err != nil {
		return nil, err
	}
	defer unlock.Close() //nolint:errcheck // it holds nothing but the lock
	if err := r.healLeft(ctx); err != nil {
		return nil, err
	}
	if r.before, err = r.statuses(ctx); err != nil {
		return nil, err
	}
	if err := r.undecided(ctx); err != nil {
		return nil, err
	}
	return r.drill(ctx)
}

// Heal undoes what a drill that was killed left behind, and reports whether
// there was anything.
func Heal(ctx context.Context, cfg Config) (bool, error) {
	if err := cfg.fill(); err != nil {
		return false, err
	}
	r := newRun(cfg)
	unlock, err := r.lock()
	if err != nil {
		return false, err
	}
	defer unlock.Close() //nolint:errcheck // it holds nothing but the lock
	left, err := readInjury(cfg.FS, cfg.Dir)
	if left == nil || err != nil {
		return false, err
	}
	return true, r.healLeft(ctx)
}

func newRun(cfg Config) *run {
	r := &run{cfg: cfg, began: cfg.Now(), tables: drillTables(), target: -1, recovered: -1}
	r.kind, _ = KindOf(cfg.Kind)
	r.id = r.began.UTC().Format("20060102-150405") + "-" + cfg.Kind
	for i, s := range cfg.Sites {
		if s.Witness {
			continue
		}
		r.data = append(r.data, i)
		if s.Name == cfg.Region || cfg.Region == "" && r.target < 0 {
			r.target = i
		}
	}
	for _, i := range r.data {
		if i != r.target {
			r.peer = i
			break
		}
	}
	r.load = &load{run: r, errors: make([]errorCounts, len(cfg.Sites))}
	r.watch = newWatch(r)
	return r
}

// lock keeps other drills away, and is gone with this process.
func (r *run) lock() (io.Closer, error) {
	if err := r.cfg.FS.MkdirAll(r.cfg.Dir, dirMode); err != nil {
		return nil, fmt.Errorf("make the folder of the drills' records: %w", err)
	}
	l, err := r.cfg.FS.Lock(r.cfg.FS.PathJoin(r.cfg.Dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrBusy, err)
	}
	return l, nil
}

// now is the time since the drill began.
func (r *run) now() time.Duration { return r.cfg.Now().Sub(r.began) }

// wait waits and reports whether ctx still lives.
func (r *run) wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// The kinds of events.
const (
	EventPhase  = "phase"
	EventFault  = "fault"
	EventHeal   = "heal"
	EventRegion = "region"
	EventRole   = "role"
)

// Event is something that happened in a drill.
type Event struct {
	At   Millis `json:"at_ms"` // since the drill began
	Kind string `json:"kind"`
	Text string `json:"text"`
}

func (r *run) event(kind, format string, args ...any) {
	r.eventMu.Lock()
	defer r.eventMu.Unlock()
	e := Event{At: millis(r.now()), Kind: kind, Text: fmt.Sprintf(format, args...)}
	r.events = append(r.events, e)
	r.cfg.Progress(e)
}

// healLeft heals what an earlier drill left behind.
func (r *run) healLeft(ctx context.Context) error {
	left, err := readInjury(r.cfg.FS, r.cfg.Dir)
	if left == nil || err != nil {
		return err
	}
	r.event(EventHeal, "drill %s was ended before it had healed what it did; that is done now", left.Drill)
	mine := r.id
	r.injury, r.id = *left, left.Drill
	defer func() { r.injury, r.id = injury{}, mine }()
	if err := r.heal(ctx); err != nil {
		return err
	}
	// A region that was started again needs a moment, and so may the majority.
	r.awaitWell(ctx, time.Minute)
	if left.Tables && len(r.data) > 0 {
		if err := r.clean(ctx); err != nil {
			return err
		}
	}
	return r.forget()
}

// clean removes the drill's tables, and its stranded writes from the lists.
func (r *run) clean(ctx context.Context) error {
	return errors.Join(r.discardStranded(ctx), r.dropTables(ctx, r.data[0]))
}

// awaitWell waits until all regions are live, and says whether they are.
func (r *run) awaitWell(ctx context.Context, most time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for {
		if _, err := r.statuses(ctx); err == nil {
			return true
		}
		if !r.wait(ctx, watchEvery) {
			return false
		}
	}
}

const (
	steadyMost   = 10 * time.Second // of load before the fault
	settleMost   = 5 * time.Second  // of load after the return
	recoverWait  = 60 * time.Second
	readBackWait = 30 * time.Second
)

// drill does it all; what was done is undone whatever happens.
func (r *run) drill(ctx context.Context) (rec *Record, err error) {
	life := context.WithoutCancel(ctx) // healing goes on after a Ctrl-C
	r.injury.Tables = !r.cfg.Keep
	if err := r.sustain(); err != nil {
		return nil, err
	}
	hurt := false
	defer func() {
		r.load.stop()
		if hurt {
			r.event(EventHeal, "healing at once, as the drill was broken off")
			err = errors.Join(err, r.heal(life))
		}
		if !r.cfg.Keep {
			err = errors.Join(err, r.clean(life))
		}
		if len(r.injury.Cut)+len(r.injury.Frozen)+len(r.injury.Killed)+len(r.injury.Skewed) == 0 {
			err = errors.Join(err, r.forget())
		}
	}()
	watching, stop := context.WithCancel(life)
	defer r.watch.wg.Wait()
	defer stop()
	if err := r.warm(ctx); err != nil {
		return nil, err
	}
	r.watch.start(watching)
	if !r.wait(ctx, min(steadyMost, max(r.cfg.For/6, time.Second))) {
		return nil, ctx.Err()
	}
	hurt = true
	evidence, err := r.hurtAndWatch(ctx)
	if err != nil {
		return nil, err
	}
	r.event(EventHeal, "healing")
	hurt = false
	if err := r.heal(life); err != nil {
		hurt = true
		return nil, err
	}
	if err := r.aftermath(ctx, evidence); err != nil {
		return nil, err
	}
	stop()
	r.watch.wg.Wait()
	return r.conclude(evidence)
}

// warm makes the tables and starts the load.
func (r *run) warm(ctx context.Context) error {
	r.event(EventPhase, "making the drill's tables, and their first items")
	if err := r.makeTables(ctx); err != nil {
		return err
	}
	if err := r.fillRegisters(ctx); err != nil {
		return err
	}
	r.event(EventPhase, "load: %d writes a second at %d regions", r.cfg.Rate, len(r.data))
	return r.load.start(context.WithoutCancel(ctx))
}

// hurtAndWatch injects the fault, and ends just before it is to be healed.
func (r *run) hurtAndWatch(ctx context.Context) (*Evidence, error) {
	during, err := r.inject(ctx)
	r.fault = r.now()
	if err != nil {
		return nil, err
	}
	r.event(EventFault, "%s", r.faultText())
	over, stop := context.WithTimeout(ctx, r.cfg.For)
	defer stop()
	if during != nil {
		during(over)
	}
	<-over.Done()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	e := r.evidence()
	if r.kind.alone {
		r.lookElsewhere(ctx, e)
	}
	e.Healed = r.now()
	r.healed = e.Healed
	return e, nil
}

func (r *run) faultText() string {
	self, peer := r.cfg.Sites[r.target].Name, r.cfg.Sites[r.peer].Name
	switch r.kind.Name {
	case RegionDown:
		return fmt.Sprintf("%s is killed (process %d, SIGKILL)", self, r.before[r.target].PID)
	case RegionFrozen:
		return fmt.Sprintf("%s is frozen (process %d, SIGSTOP)", self, r.before[r.target].PID)
	case LinkCut, Flap:
		return fmt.Sprintf("the link between %s and %s is cut", self, peer)
	case OneWayCut:
		return fmt.Sprintf("what %s sends to %s is lost", self, peer)
	case Isolated:
		return fmt.Sprintf("%s is cut off from all others", self)
	case SlowRegion:
		return fmt.Sprintf("%s runs %v of each %v", self, slowSlice-slowStop, slowSlice)
	default:
		return fmt.Sprintf("the clock of %s is set %v ahead", self, r.cfg.Skew)
	}
}

func (r *run) evidence() *Evidence {
	e := &Evidence{
		Kind: r.kind, Data: r.data, Target: r.target, Tables: r.tables, RTO: r.cfg.RTO, Fault: r.fault, Recovered: -1,
		Majority: len(r.cfg.Sites)-1 > len(r.cfg.Sites)/2, OneWay: oneWay(r.cfg.Sites, r.before),
		Found: map[int][]map[string]int64{}, Missing: map[int64]bool{}, Stranded: map[int64]bool{},
	}
	for _, s := range r.cfg.Sites {
		e.Sites = append(e.Sites, s.Name)
	}
	return e
}

// lookElsewhere notes which receipts no other region has while the target is
// away: what would be lost if it never came back. Where a table can't be read,
// nothing is known.
func (r *run) lookElsewhere(ctx context.Context, e *Evidence) {
	r.event(EventPhase, "reading back what the other regions have")
	ops := r.load.ledger.all()
	keys := keysOf(ops, len(r.tables), func(o *Op) bool { return o.Verb == Receipt && o.Outcome == Done })
	e.Away = true
	for table := range r.tables {
		have := map[string]bool{}
		for _, site := range r.data {
			if site == r.target {
				continue
			}
			got, err := r.collect(ctx, site, table, keys[table])
			if err != nil {
				r.event(EventPhase, "can't tell what is missing: %v", err)
				e.Away = false
				return
			}
			for k := range got {
				have[k] = true
			}
		}
		for i := range ops {
			if o := &ops[i]; o.Table == table && o.Verb == Receipt && o.Outcome == Done && !have[keyOf(Receipt, o.Key)] {
				e.Missing[o.Value] = true
			}
		}
	}
}

// aftermath waits for the regions to be well again, ends the load and reads
// back what there is.
func (r *run) aftermath(ctx context.Context, e *Evidence) error {
	for r.wait(ctx, watchEvery) {
		if r.watch.complaint() == "" {
			r.recovered = r.now()
			r.event(EventRegion, "all regions are live again")
			break
		}
		if r.now()-r.healed > recoverWait {
			r.event(EventRegion, "not all is well after %v: %s", recoverWait, r.watch.complaint())
			break
		}
	}
	e.Recovered = r.recovered
	if !r.wait(ctx, min(settleMost, max(r.cfg.For/6, time.Second))) {
		return ctx.Err()
	}
	r.load.stop()
	r.event(EventPhase, "load ended; reading back what every region has")
	e.Ops = r.load.ledger.all()
	if err := r.readBack(ctx, e); err != nil {
		return err
	}
	return r.records(ctx, e)
}

// readBack reads every key at every region, again and again where they differ,
// since what was written last needs its time.
func (r *run) readBack(ctx context.Context, e *Evidence) error {
	keys := keysOf(e.Ops, len(r.tables), func(*Op) bool { return true })
	for _, site := range r.data {
		e.Found[site] = make([]map[string]int64, len(r.tables))
	}
	for table := range r.tables {
		open := keys[table]
		for _, site := range r.data {
			e.Found[site][table] = map[string]int64{}
		}
		for began := r.now(); len(open) > 0; {
			for _, site := range r.data {
				got, err := r.collect(ctx, site, table, open)
				if err != nil {
					return err
				}
				for _, k := range open {
					delete(e.Found[site][table], k)
					if v, ok := got[k]; ok {
						e.Found[site][table][k] = v
					}
				}
			}
			open = r.differing(e, table, open)
			if r.now()-began > readBackWait || len(open) > 0 && !r.wait(ctx, time.Second) {
				break
			}
		}
	}
	return ctx.Err()
}

func (r *run) differing(e *Evidence, table int, keys []string) (out []string) {
	for _, k := range keys {
		for _, site := range r.data[1:] {
			if e.Found[site][table][k] != e.Found[r.data[0]][table][k] {
				out = append(out, k)
				break
			}
		}
	}
	return out
}

// targetName is the region that is hurt.
func (r *run) targetName() antipode.Region { return r.cfg.Sites[r.target].Name }

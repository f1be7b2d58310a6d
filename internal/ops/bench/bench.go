// Package bench drives DynamoDB endpoints with load and says what they gave:
// acknowledged operations per second, latencies, errors by type, and how long
// acknowledged writes took to be visible in the other regions.
//
// What its figures mean:
//
//   - Throughput counts answers of success only, from the end of the warm-up to
//     the later of the end of the run and the last answer awaited.
//   - With a rate (open loop), the latency of an operation counts from when it
//     should have been sent, so a stall is charged to all that it held up and
//     not only to the one that met it. Without a rate (closed loop), each client
//     sends its next operation after the answer to the one before, and latency
//     counts from the sending.
//   - Lag is measured on writes of its own, spread evenly over the run, each to
//     a key that no one else writes. It ends when the answer to a read that
//     showed the write has arrived, so it is an upper bound, by about one read.
//
// The driver shares the machine with what it drives, so it is made to be cheap:
// one connection per client, requests put together from prepared pieces, one
// write and one read per operation, and a signature that costs two hashes.
//
// Run may be called concurrently. It owns every goroutine and connection that it
// starts, and returns only when all have ended.
package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Run drives the endpoints as the configuration says. It returns early, with an
// error, when the configuration is wrong, when an endpoint can't be used at all
// (ErrUnusable), or when ctx ends; single failed operations are counted in the
// result instead.
func Run(ctx context.Context, cfg Config) (Result, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return Result{}, err
	}
	r := &run{cfg: cfg, versions: uint64(cfg.Now().UnixMicro())}
	if err := r.prepare(ctx); err != nil {
		return Result{}, err
	}
	defer r.close()
	stop := r.reportProgress(ctx)
	defer stop()
	if cfg.Fill {
		if err := r.fill(ctx); err != nil {
			return Result{}, err
		}
	}
	if err := r.load(ctx); err != nil {
		return Result{}, err
	}
	return r.result(), nil
}

// run is the state of one Run.
type run struct {
	cfg     Config
	schema  schema
	targets []*target // as in cfg.Endpoints
	workers []*worker
	pairs   []*pair // of regions between which lag is measured
	lag     *lagSampler
	fsync   *recorder // nil unless cfg.Fsync is set

	text     string // what payloads are cut from
	versions uint64 // the version that this run's writes start from
	window   window
	filled   atomic.Int64 // keys handed out by fill
	phase    atomic.Pointer[phase]
	errors   errorCounts // of the measured part
}

// window is the part of a run that counts.
type window struct {
	start, end time.Time
}

func (w window) contains(t time.Time) bool { return !t.Before(w.start) && t.Before(w.end) }

// phase is what a run is doing, for the progress reports.
type phase struct {
	name    string
	started time.Time
	lasts   time.Duration // 0 when it lasts until it is done
}

// prepare looks at the endpoints and makes the clients, without connecting them.
func (r *run) prepare(ctx context.Context) error {
	for i, e := range r.cfg.Endpoints {
		t, err := newTarget(r.cfg, e)
		if err != nil {
			return err
		}
		s, err := describe(ctx, t)
		if err != nil {
			return err
		}
		if i > 0 && s != r.schema {
			return fmt.Errorf("%w: table %s has other keys at %s than at %s; the endpoints are not regions of one system",
				ErrUnusable, r.cfg.Table, e.URL, r.cfg.Endpoints[0].URL)
		}
		r.schema = s
		r.targets = append(r.targets, t)
	}
	r.text = newPool(r.cfg.Seed, r.cfg.ItemBytes)
	driven := r.driven()
	for i := range r.cfg.Clients {
		t := r.targets[driven[i%len(driven)]]
		r.workers = append(r.workers, newWorker(r, i, t))
	}
	if r.cfg.LagSamples > 0 {
		r.lag = newLagSampler(r, driven)
	}
	if r.cfg.Fsync != nil {
		r.fsync = newRecorder()
	}
	return nil
}

// driven lists the endpoints that get load, by index.
func (r *run) driven() []int {
	var out []int
	for i, e := range r.cfg.Endpoints {
		if !e.Observe {
			out = append(out, i)
		}
	}
	return out
}

func (r *run) close() {
	for _, w := range r.workers {
		w.client.close()
	}
	if r.lag != nil {
		r.lag.close()
	}
}

func (r *run) enter(name string, started time.Time, lasts time.Duration) {
	r.phase.Store(&phase{name: name, started: started, lasts: lasts})
}

// fill writes every key once, so that reads find something.
func (r *run) fill(ctx context.Context) error {
	r.enter("fill", r.cfg.Now(), 0)
	var wg sync.WaitGroup
	failed := make([]error, len(r.workers))
	for i, w := range r.workers {
		wg.Go(func() { failed[i] = w.fill(ctx) })
	}
	wg.Wait()
	for _, err := range failed {
		if err != nil {
			return fmt.Errorf("write the keys that the run shall read: %w", err)
		}
	}
	return ctx.Err()
}

// load runs the clients and the probes through warm-up and measured time.
func (r *run) load(ctx context.Context) error {
	now := r.cfg.Now()
	r.window.start = now.Add(r.cfg.Warmup)
	r.window.end = r.window.start.Add(r.cfg.Duration)
	if r.cfg.Warmup > 0 {
		r.enter("warm-up", now, r.cfg.Warmup)
	}
	var wg sync.WaitGroup
	for _, w := range r.workers {
		wg.Go(func() { w.load(ctx, now) })
	}
	wg.Go(func() {
		if newPacer(r.cfg.Now).until(ctx, r.window.start) {
			r.enter("measure", r.window.start, r.cfg.Duration)
		}
	})
	if r.lag != nil {
		wg.Go(func() { r.lag.run(ctx) })
	}
	if r.fsync != nil {
		wg.Go(func() { r.probeFsync(ctx) })
	}
	wg.Wait()
	return ctx.Err()
}

// probeFsync times one fsync at a time on the disk that the caller chose, often
// enough for a p99 and seldom enough not to be a load.
func (r *run) probeFsync(ctx context.Context) {
	pace := newPacer(r.cfg.Now)
	for at := r.window.start; at.Before(r.window.end) && pace.until(ctx, at); at = at.Add(fsyncInterval) {
		took, err := r.cfg.Fsync()
		if err != nil {
			r.errors.add("fsync", err)
			return
		}
		r.fsync.record(took)
	}
}

// fsyncInterval is the time between two probes of the disk.
const fsyncInterval = 40 * time.Millisecond

// pacer waits until points in time, reusing one timer.
type pacer struct {
	now   func() time.Time
	timer *time.Timer
}

func newPacer(now func() time.Time) *pacer { return &pacer{now: now} }

// until returns true at time t, or false when ctx has ended. A time that has
// passed is answered at once.
func (p *pacer) until(ctx context.Context, t time.Time) bool {
	wait := t.Sub(p.now())
	if wait <= 0 {
		return ctx.Err() == nil
	}
	if p.timer == nil {
		p.timer = time.NewTimer(wait)
	} else {
		p.timer.Reset(wait)
	}
	select {
	case <-p.timer.C:
		return true
	case <-ctx.Done():
		p.timer.Stop()
		return false
	}
}

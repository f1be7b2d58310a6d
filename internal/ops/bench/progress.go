package bench

import (
	"context"
	"sync"
	"time"
)

// Snapshot is what a run looks like while it is under way.
type Snapshot struct {
	Phase        string        // fill, warm-up or measure
	Elapsed      time.Duration // of the phase
	Lasts        time.Duration // the phase; 0 where it lasts until it is done
	PerSecond    float64       // acknowledged operations, since the last snapshot
	Mean         time.Duration // latency, since the last snapshot
	Acknowledged int64         // since the run began
	Failed       int64         // since the run began
}

// reportProgress calls cfg.Progress once a second until the function that it
// returns is called.
func (r *run) reportProgress(ctx context.Context) (stop func()) {
	if r.cfg.Progress == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		before := r.totals()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			now := r.totals()
			if ph := r.phase.Load(); ph != nil {
				r.cfg.Progress(now.since(before, ph))
			}
			before = now
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// totals is the sum of the workers' live counts at one time.
type totals struct {
	at                            time.Time
	acknowledged, latency, failed int64
}

func (r *run) totals() totals {
	t := totals{at: r.cfg.Now()}
	for _, w := range r.workers {
		t.latency += w.live.latency.Load()
		t.acknowledged += w.live.acknowledged.Load()
		t.failed += w.live.failed.Load()
	}
	return t
}

func (t totals) since(before totals, ph *phase) Snapshot {
	s := Snapshot{
		Phase: ph.name, Elapsed: max(0, t.at.Sub(ph.started)), Lasts: ph.lasts,
		Acknowledged: t.acknowledged, Failed: t.failed,
	}
	n := t.acknowledged - before.acknowledged
	if took := t.at.Sub(before.at).Seconds(); took > 0 {
		s.PerSecond = float64(n) / took
	}
	if n > 0 {
		s.Mean = time.Duration((t.latency - before.latency) / n)
	}
	return s
}

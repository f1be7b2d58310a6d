package bench

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// worker is one client of the load.
type worker struct {
	run      *run
	index    int
	client   *client
	requests *requests
	rng      *rand.Rand
	pace     *pacer
	written  uint64 // writes sent, for their versions
	failures int    // in a row

	// Of the measured part; read when the worker has ended.
	writes, reads *recorder // nil where the workload has none
	behind        int64     // operations that the rate asked for and no time was left for
	last          time.Time // of the last answer that counts

	live liveCounts
}

// liveCounts is what progress reports read while the worker runs.
type liveCounts struct {
	acknowledged, latency, failed atomic.Int64 // latency in nanoseconds, of all acknowledged
}

func newWorker(r *run, index int, t *target) *worker {
	rng := rand.New(rand.NewPCG(r.cfg.Seed, uint64(index)+1))
	w := &worker{
		run: r, index: index, client: newClient(t), rng: rng, pace: newPacer(r.cfg.Now),
		requests: newRequests(r.cfg, r.schema, r.text, rng),
	}
	if r.cfg.Workload != Read {
		w.writes = newRecorder()
	}
	if r.cfg.Workload != Write {
		w.reads = newRecorder()
	}
	return w
}

// fill takes keys until there are none left, and gives up where it is no use.
func (w *worker) fill(ctx context.Context) error {
	const hopeless = 8 // failures in a row: the backoff has come to seconds by then
	for {
		n := w.run.filled.Add(1) - 1
		if n >= int64(w.run.cfg.Keys) {
			return nil
		}
		for {
			started := w.run.cfg.Now()
			_, err := w.client.call(ctx, targetPut, w.requests.putItem(uint64(n), w.nextVersion()))
			if w.settle(ctx, w.run.cfg.Now().Sub(started), err) {
				break
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if w.failures >= hopeless {
				return err
			}
		}
	}
}

// load sends operations until the window ends.
func (w *worker) load(ctx context.Context, started time.Time) {
	for i := 0; ; i++ {
		at, ok := w.due(ctx, started, i)
		if !ok {
			return
		}
		write := w.reads == nil || w.writes != nil && w.rng.Uint64()&1 == 0
		err := w.operate(ctx, write)
		done := w.run.cfg.Now()
		if w.run.window.contains(at) && ctx.Err() == nil {
			w.count(write, done.Sub(at), err)
			w.last = done
		}
		w.settle(ctx, done.Sub(at), err)
	}
}

// due waits until operation i should be sent and returns from when its latency
// counts; false when there is no more to send.
func (w *worker) due(ctx context.Context, started time.Time, i int) (time.Time, bool) {
	cfg := &w.run.cfg
	now := cfg.Now()
	if cfg.Rate == 0 {
		return now, now.Before(w.run.window.end) && ctx.Err() == nil
	}
	at := started.Add(intended(w.index, i, cfg.Clients, cfg.Rate))
	if !at.Before(w.run.window.end) {
		return at, false
	}
	if !now.Before(w.run.window.end) {
		w.behind = w.unsent(started, i)
		return at, false
	}
	return at, w.pace.until(ctx, at)
}

// unsent counts the operations from i on that should be sent within the window.
func (w *worker) unsent(started time.Time, i int) int64 {
	for n := int64(0); ; i++ {
		at := started.Add(intended(w.index, i, w.run.cfg.Clients, w.run.cfg.Rate))
		if !at.Before(w.run.window.end) {
			return n
		}
		if w.run.window.contains(at) {
			n++
		}
	}
}

// intended is when operation i of a client should be sent, from the start: the
// clients take turns, evenly spaced.
func intended(index, i, clients int, rate float64) time.Duration {
	return time.Duration((float64(i)*float64(clients) + float64(index)) / rate * float64(time.Second))
}

func maxTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func (w *worker) operate(ctx context.Context, write bool) error {
	key := w.rng.Uint64N(uint64(w.run.cfg.Keys))
	if write {
		_, err := w.client.call(ctx, targetPut, w.requests.putItem(key, w.nextVersion()))
		return err
	}
	_, err := w.client.call(ctx, targetGet, w.requests.getItem(key))
	return err
}

func (w *worker) nextVersion() uint64 {
	w.written++
	return w.run.versions + w.written*uint64(w.run.cfg.Clients) + uint64(w.index)
}

// count puts one outcome into the figures.
func (w *worker) count(write bool, latency time.Duration, err error) {
	switch {
	case err != nil:
		w.run.errors.add(kind(err), err)
	case write:
		w.writes.record(latency)
	default:
		w.reads.record(latency)
	}
}

// settle tells the progress report of an outcome, and after a failure waits, ever
// longer, so that a region that is down is not also hammered. It reports success.
func (w *worker) settle(ctx context.Context, latency time.Duration, err error) bool {
	if err == nil {
		w.failures = 0
		w.live.latency.Add(int64(latency))
		w.live.acknowledged.Add(1)
		return true
	}
	w.live.failed.Add(1)
	w.failures++
	w.pace.until(ctx, w.run.cfg.Now().Add(backoff(w.failures, w.rng)))
	return false
}

// backoff is the pause after so many failures in a row: 10 ms doubling up to 1 s,
// of which one half is random so that clients don't come back all at once.
func backoff(failures int, rng *rand.Rand) time.Duration {
	pause := min(10*time.Millisecond<<min(failures-1, 10), time.Second)
	return pause/2 + time.Duration(rng.Int64N(int64(pause/2)))
}

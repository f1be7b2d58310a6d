package bench

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxInFlight bounds how many lag samples are under way at once. Beyond it a
	// sample is skipped, and counted as such.
	maxInFlight = 128

	// A sample is polled as fast as answers come for hotPolling, then every
	// coolInterval: what comes on time is measured to a fraction of a
	// millisecond, and what comes late does not cost the machine its cores.
	hotPolling   = 8 * time.Millisecond
	coolInterval = time.Millisecond

	// errorInterval is the pause after a poll that failed.
	errorInterval = 50 * time.Millisecond
)

// pair is the way from the region that acknowledged a write to one that shall
// show it.
type pair struct {
	from, to int // indices of targets
	// floor is about the least lag from acknowledgement seen so far, in
	// nanoseconds: there is no use in asking much earlier.
	floor atomic.Int64

	mu                sync.Mutex
	fromAck, fromSend *recorder
	unseen            int64
}

// wait returns how long after its acknowledgement a write need not be asked for.
func (p *pair) wait() time.Duration {
	floor := time.Duration(p.floor.Load())
	return max(0, floor-2*time.Millisecond-floor/20)
}

// seen records that a write was shown. When the very first poll, after a wait,
// showed it, then it may have been there for long: the next waits are shorter.
func (p *pair) seen(ack, send time.Duration, atOnce bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fromAck.record(ack)
	p.fromSend.record(send)
	floor := time.Duration(p.floor.Load())
	switch {
	case atOnce && floor > 0:
		p.floor.Store(int64(floor / 2))
	case floor == 0 || ack < floor:
		p.floor.Store(int64(ack))
	}
}

func (p *pair) missed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unseen++
}

// lagSampler writes probes and follows each to the other endpoints.
type lagSampler struct {
	r       *run
	driven  []int
	skipped int64
	idle    chan *prober
	made    []*prober // every prober there is; touched by run's goroutine only
}

func newLagSampler(r *run, driven []int) *lagSampler {
	for _, from := range driven {
		for to := range r.targets {
			if to != from {
				r.pairs = append(r.pairs, &pair{from: from, to: to, fromAck: newRecorder(), fromSend: newRecorder()})
			}
		}
	}
	return &lagSampler{r: r, driven: driven, idle: make(chan *prober, maxInFlight)}
}

// run starts samples evenly over the window, the driven regions taking turns,
// and returns when each was seen or given up.
func (s *lagSampler) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	cfg := &s.r.cfg
	pace := newPacer(cfg.Now)
	for i := range cfg.LagSamples {
		at := s.r.window.start.Add(time.Duration(float64(cfg.Duration) * float64(i) / float64(cfg.LagSamples)))
		if !pace.until(ctx, at) {
			return
		}
		p, ok := s.prober()
		if !ok {
			s.skipped++
			continue
		}
		from := s.driven[i%len(s.driven)]
		wg.Go(func() {
			p.sample(ctx, from)
			s.idle <- p
		})
	}
}

func (s *lagSampler) prober() (*prober, bool) {
	select {
	case p := <-s.idle:
		return p, true
	default:
	}
	if len(s.made) == maxInFlight {
		return nil, false
	}
	p := newProber(s.r, len(s.made))
	s.made = append(s.made, p)
	return p, true
}

func (s *lagSampler) close() {
	for _, p := range s.made {
		for _, e := range p.ends {
			e.client.close()
		}
	}
}

// prober follows one write at a time, to a key of its own.
type prober struct {
	r       *run
	key     uint64
	version uint64
	ends    []*proberEnd // one per target
}

// proberEnd is a prober's way to one endpoint.
type proberEnd struct {
	client   *client
	requests *requests
	pace     *pacer
}

func newProber(r *run, index int) *prober {
	p := &prober{r: r, key: uint64(r.cfg.Keys) + uint64(index), version: r.versions}
	for i, t := range r.targets {
		rng := rand.New(rand.NewPCG(r.cfg.Seed, uint64(index+1)<<32|uint64(i)))
		p.ends = append(p.ends, &proberEnd{
			client: newClient(t), requests: newRequests(r.cfg, r.schema, r.text, rng), pace: newPacer(r.cfg.Now),
		})
	}
	return p
}

// sample writes once and waits until the write is seen everywhere else.
func (p *prober) sample(ctx context.Context, from int) {
	p.version++
	e := p.ends[from]
	sent := p.r.cfg.Now()
	_, err := e.client.call(ctx, targetPut, e.requests.putItem(p.key, p.version))
	acked := p.r.cfg.Now()
	if err != nil {
		if ctx.Err() == nil {
			p.r.errors.add("lag sample: "+kind(err), err)
		}
		return
	}
	var wg sync.WaitGroup
	for _, pair := range p.r.pairs {
		if pair.from == from {
			wg.Go(func() { p.follow(ctx, pair, sent, acked) })
		}
	}
	wg.Wait()
}

// follow asks one endpoint for the item until it shows this version.
func (p *prober) follow(ctx context.Context, pair *pair, sent, acked time.Time) {
	e, cfg := p.ends[pair.to], &p.r.cfg
	wait := pair.wait()
	from, version := acked.Add(wait), p.r.schema.free("n")
	if !e.pace.until(ctx, from) {
		return
	}
	for polls := 0; ; polls++ {
		reply, err := e.client.call(ctx, targetGet, e.requests.getItem(p.key))
		var got uint64
		if err == nil {
			got, err = parseVersion(&e.client.json, version, reply)
		}
		now := cfg.Now()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && got >= p.version:
			pair.seen(now.Sub(acked), now.Sub(sent), polls == 0 && wait > 0)
			return
		case now.Sub(acked) > cfg.LagTimeout:
			pair.missed()
			return
		case err != nil:
			p.r.errors.add("lag sample: "+kind(err), err)
			now = now.Add(errorInterval)
		case now.Sub(from) > hotPolling:
			now = now.Add(coolInterval)
		}
		if !e.pace.until(ctx, now) {
			return
		}
	}
}

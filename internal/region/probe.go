package region

import (
	"context"
	"sync"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/operator"
)

// pingPatience is how long one round trip may take: longer than any on Earth.
const pingPatience = 3 * time.Second

// Probe measures the round trips to all other regions at once.
func (r *Region) Probe(ctx context.Context, samples int) (operator.ProbeStatus, error) {
	peers := r.mesh.Peers()
	out := operator.ProbeStatus{Region: r.cfg.Name, Links: make([]operator.LinkProbe, len(peers))}
	var wg sync.WaitGroup
	for i, peer := range peers {
		wg.Go(func() { out.Links[i] = r.probeLink(ctx, peer, samples) })
	}
	wg.Wait()
	return out, ctx.Err()
}

func (r *Region) probeLink(ctx context.Context, peer antipode.Region, samples int) operator.LinkProbe {
	l := operator.LinkProbe{To: peer, SamplesMS: []float64{}}
	if delay, err := r.mesh.Delay(peer); err == nil {
		l.Emulated, l.DelayMS = true, inMillis(delay)
	}
	for range samples {
		rtt, err := r.ping(ctx, peer)
		if err != nil {
			l.Error = err.Error()
			break
		}
		l.SamplesMS = append(l.SamplesMS, inMillis(rtt))
	}
	return l
}

func (r *Region) ping(ctx context.Context, peer antipode.Region) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, pingPatience)
	defer cancel()
	return r.mesh.Ping(ctx, peer)
}

func inMillis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

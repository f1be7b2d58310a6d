package region

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/control/lease"
)

// openLease starts to count leases: the others' in case this region comes to
// lead the group, and its own if it stores data. Two voters have no use for
// leases, since neither is a majority without the other.
func (r *Region) openLease() error {
	length := time.Duration(r.cfg.Spec.Lease)
	r.watch = lease.NewWatch(length, r.cfg.Boottime)
	r.mesh.HandleCall(methodRenew, r.serveRenew)
	r.wg.Go(r.watchLeases)
	if r.spec.Witness || !r.cfg.Spec.HasSpareMajority() {
		return nil
	}
	r.lease = lease.NewKeeper(length, r.cfg.Boottime)
	r.wg.Go(r.keepLease)
	return nil
}

// watchLeases looks at every state as soon as it is agreed on: what is seen late
// is waited out for longer.
func (r *Region) watchLeases() {
	for {
		changed := r.group.Changed()
		r.watchMu.Lock()
		r.watch.Observe(r.group.State())
		r.watchMu.Unlock()
		if r.awaitChange(changed) != nil {
			return
		}
	}
}

// keepLease renews the lease, each time without waiting for the renewal before:
// one that is slow or lost costs nothing as long as the next one is not.
func (r *Region) keepLease() {
	for {
		changed := r.group.Changed()
		self, ok := r.group.State().Regions[r.cfg.Name]
		switch {
		case !ok:
		case self.Lease.Fenced:
			r.lease.Drop()
		default:
			number := self.Lease.Number
			r.wg.Go(func() { r.renew(number) })
		}
		if ok && !self.Lease.Fenced {
			if !r.every(r.lease.Every()) {
				return
			}
		} else if r.awaitChange(changed) != nil {
			return
		}
	}
}

// methodRenew asks another voter to pass a renewal on to the leader.
const methodRenew = "region.renew"

// renew asks for a renewal, and, where no answer comes before the next one is
// due, asks the other voters to pass it on: this region may be cut from the leader
// alone. It counts from before it was asked for first, whichever way it went.
func (r *Region) renew(number uint64) {
	begun := r.lease.Begin()
	ctx, cancel := context.WithTimeout(r.ctx, r.lease.Length())
	defer cancel()
	c := control.Renew{Region: r.cfg.Name, Number: number, Length: r.lease.Length().Milliseconds(), Incarnation: r.incarnation.Load()}
	peers := r.mesh.Peers()
	answers := make(chan error, 1+len(peers))
	r.wg.Go(func() {
		_, err := r.group.Propose(ctx, control.Command{Renew: &c})
		answers <- err
	})
	asked, relay := 1, time.After(r.lease.Every())
	for {
		select {
		case err := <-answers:
			if err == nil {
				r.lease.Renewed(begun)
				return
			}
			if asked--; asked == 0 {
				if r.ctx.Err() == nil {
					r.log.Debug("renew lease", "error", err)
				}
				return
			}
		case <-relay:
			for _, peer := range peers {
				asked++
				r.wg.Go(func() { answers <- r.renewBy(ctx, peer, c) })
			}
		}
	}
}

func (r *Region) renewBy(ctx context.Context, peer antipode.Region, c control.Renew) error {
	body, err := json.Marshal(c)
	if err != nil {
		return err
	}
	_, err = r.mesh.Call(ctx, peer, methodRenew, body)
	return err
}

// serveRenew passes another region's renewal on.
func (r *Region) serveRenew(ctx context.Context, from antipode.Region, body []byte) ([]byte, error) {
	var c control.Renew
	if err := json.Unmarshal(body, &c); err != nil {
		return nil, err
	}
	if c.Region != from {
		return nil, fmt.Errorf("%w: %s asks for a lease of %s", control.ErrInvalid, from, c.Region)
	}
	_, err := r.proposeStep(ctx, control.Command{Renew: &c})
	return nil, err
}

// leaseGrace is how long a region waits for its lease before it serves without.
const leaseGrace = 3 * time.Second

// awaitLease waits for the lease, so that who hears that the region is ready can
// write. Without a majority there is none to be had, and the region serves what
// needs none; neither is there while it is detached.
func (r *Region) awaitLease() error {
	if r.lease == nil {
		return nil
	}
	r.because("it waits for a lease, to accept writes")
	end := r.cfg.Boottime() + leaseGrace
	for !r.lease.Valid() && r.detached() == "" && r.cfg.Boottime() < end {
		if !r.every(10 * time.Millisecond) {
			return r.ctx.Err()
		}
	}
	return nil
}

// leases is how tables ask for the lease; nil where there are none.
func (r *Region) leases() func() bool {
	if r.lease == nil {
		return nil
	}
	return r.lease.Valid
}

// proposeStep proposes a command of a failover. It gives up early: a step that
// can't be agreed on now is tried again, and a forced failover, which needs no
// agreement, must not have to wait behind it.
func (r *Region) proposeStep(ctx context.Context, c control.Command) (*control.State, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	return r.group.Propose(ctx, c)
}

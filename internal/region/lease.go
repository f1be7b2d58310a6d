package region

import (
	"context"
	"time"

	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/control/lease"
)

// openLease starts to count leases: the others' in case this region comes to
// lead the group, and its own if it stores data. Two voters have no use for
// leases, since neither is a majority without the other.
func (r *Region) openLease() error {
	length := time.Duration(r.cfg.Spec.Lease)
	r.watch = lease.NewWatch(length, r.cfg.Boottime)
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

func (r *Region) renew(number uint64) {
	begun := r.lease.Begin()
	ctx, cancel := context.WithTimeout(r.ctx, r.lease.Length())
	defer cancel()
	_, err := r.group.Propose(ctx, control.Command{Renew: &control.Renew{
		Region: r.cfg.Name, Number: number, Length: r.lease.Length().Milliseconds(), Incarnation: r.incarnation.Load(),
	}})
	if err == nil {
		r.lease.Renewed(begun)
	} else if r.ctx.Err() == nil {
		r.log.Debug("renew lease", "error", err)
	}
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

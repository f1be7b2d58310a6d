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
		Region: r.cfg.Name, Number: number, Length: r.lease.Length().Milliseconds(),
	}})
	if err == nil {
		r.lease.Renewed(begun)
	} else if r.ctx.Err() == nil {
		r.log.Debug("renew lease", "error", err)
	}
}

// leased reports whether this region may act in its roles, as far as leases go.
func (r *Region) leased() bool { return r.lease != nil && r.lease.Valid() }

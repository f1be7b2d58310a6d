// Package lease counts leases. A region that holds roles has one, which the
// control group renews; once it has ended, another region may be given the roles.
// A Keeper counts the lease of this region, a Watch those that this region would
// have to see ended before it asks the group to fence their holders.
//
// Nobody agrees on any time of day. The holder counts from before it asked for a
// renewal, and makes the lease shorter by the drift bound; who ends it counts
// from when the renewal was applied there, and makes it longer. Both count on a
// clock that runs on while the machine sleeps. So as long as no two clocks run
// apart by more than Drift, the holder's count has run out first. A renewal that
// the group agrees on while somebody asks for the fence defeats the fence
// (control.Fence), so it does not matter how old a watcher's state is.
//
// A Keeper may be used concurrently; a Watch not.
package lease

import (
	"sync/atomic"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
)

const (
	// driftParts is the bound on how far apart two clocks run: one part in so many.
	// Crystals are a thousand times better.
	driftParts = 100
	// margin is taken off by the holder and added by the others, for what lies
	// between the reading of a clock and what is done with it.
	margin = 20 * time.Millisecond
)

// Keeper is the holder's side. The zero of its clock means nothing.
type Keeper struct {
	length time.Duration
	now    func() time.Duration
	until  atomic.Int64 // in terms of now; 0 for none
}

// NewKeeper returns a keeper without a lease: a process that has just started
// has none until a renewal comes back. The clock is as Boottime gives it.
func NewKeeper(length time.Duration, clock func() time.Duration) *Keeper {
	return &Keeper{length: length, now: clock}
}

// Length returns what a renewal asks for.
func (k *Keeper) Length() time.Duration { return k.length }

// Every returns how often to renew: four renewals in a row may be lost, and the
// group has time to elect another leader in between.
func (k *Keeper) Every() time.Duration { return k.length / 6 }

// Begin returns the instant from which a renewal that is asked for now counts.
func (k *Keeper) Begin() time.Duration { return k.now() }

// Renewed says that the renewal begun then was agreed on.
func (k *Keeper) Renewed(begun time.Duration) {
	until := int64(begun + k.length - k.length/driftParts - margin)
	for {
		was := k.until.Load()
		if until <= was || k.until.CompareAndSwap(was, until) {
			return
		}
	}
}

// Drop ends the lease: the group has fenced it.
func (k *Keeper) Drop() { k.until.Store(0) }

// Valid reports whether the lease is held, now.
func (k *Keeper) Valid() bool {
	until := k.until.Load()
	return until != 0 && int64(k.now()) < until
}

// Left returns for how long the lease is held at least, 0 or less for none.
func (k *Keeper) Left() time.Duration {
	until := k.until.Load()
	if until == 0 {
		return 0
	}
	return time.Duration(until) - k.now()
}

// Watch is the other side: it tells which leases have lapsed.
type Watch struct {
	length time.Duration // at least
	now    func() time.Duration
	seen   map[antipode.Region]seen
}

// seen is a lease as it was last seen to change.
type seen struct {
	number, renewed uint64
	at, length      time.Duration
}

// NewWatch returns a watch that counts every lease anew.
func NewWatch(length time.Duration, clock func() time.Duration) *Watch {
	return &Watch{length: length, now: clock, seen: map[antipode.Region]seen{}}
}

// Observe looks at the agreed state. It is to be called at each change; when it
// is called late, leases are waited out for longer.
func (w *Watch) Observe(s *control.State) {
	now := w.now()
	for name, r := range s.Regions {
		was, ok := w.seen[name]
		if !ok || was.number != r.Lease.Number || was.renewed != r.Lease.Renewed {
			length := max(w.length, time.Duration(r.Lease.Length)*time.Millisecond)
			w.seen[name] = seen{number: r.Lease.Number, renewed: r.Lease.Renewed, at: now, length: length}
		}
	}
}

// Lapsed reports whether a region's lease has ended for sure, as of the state
// last observed.
func (w *Watch) Lapsed(region antipode.Region) bool {
	s, ok := w.seen[region]
	return ok && w.now()-s.at > s.length+s.length/driftParts+margin
}

// Age returns how long ago the lease was seen to be renewed.
func (w *Watch) Age(region antipode.Region) time.Duration {
	s, ok := w.seen[region]
	if !ok {
		return 0
	}
	return w.now() - s.at
}

package lease_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/control/lease"
)

func state(tb testing.TB, commands ...control.Command) *control.State {
	tb.Helper()
	s := apply(tb, control.NewState(), control.Command{PutRegion: &control.Region{Name: "oregon"}})
	for _, c := range commands {
		s = apply(tb, s, c)
	}
	return s
}

func renewal(length time.Duration) control.Command {
	return control.Command{Renew: &control.Renew{Region: "oregon", Length: length.Milliseconds()}}
}

func TestKeeper(t *testing.T) {
	now := 5 * time.Second
	k := lease.NewKeeper(3*time.Second, func() time.Duration { return now })
	if k.Valid() || k.Left() > 0 {
		t.Error("a new keeper has a lease")
	}
	begun := k.Begin()
	now += 500 * time.Millisecond // the renewal's way
	k.Renewed(begun)
	if got, want := k.Left(), 2450*time.Millisecond; got != want || !k.Valid() {
		t.Errorf("left %v, want %v: 3 s from before the request, less 30 ms of drift and 20 ms", got, want)
	}
	now += k.Left() - 1
	if !k.Valid() {
		t.Error("ended early")
	}
	now++
	if k.Valid() {
		t.Error("ended late")
	}
	// An answer that comes late counts from its request, and never shortens.
	later := k.Begin()
	k.Renewed(later)
	k.Renewed(begun)
	if got, want := k.Left(), 2950*time.Millisecond; got != want {
		t.Errorf("left %v, want %v", got, want)
	}
	k.Drop()
	if k.Valid() {
		t.Error("held after it was fenced")
	}
	if k.Every() != 500*time.Millisecond || k.Length() != 3*time.Second {
		t.Error("renewed at another pace than six times a length")
	}
}

func TestWatch(t *testing.T) {
	now := 5 * time.Second
	w := lease.NewWatch(3*time.Second, func() time.Duration { return now })
	if w.Lapsed("oregon") {
		t.Error("lapsed before anything was seen")
	}
	w.Observe(state(t, renewal(0)))
	now += 3050 * time.Millisecond
	if w.Lapsed("oregon") {
		t.Error("lapsed after 3.05 s")
	}
	w.Observe(state(t, renewal(0))) // nothing new
	if w.Age("oregon") != 3050*time.Millisecond {
		t.Error("counted anew without a renewal")
	}
	now++
	if !w.Lapsed("oregon") || w.Lapsed("atlantis") {
		t.Error("not lapsed after 3 s, their drift and the margin")
	}
	// The holder counts on ten seconds, whatever this region's spec says.
	w.Observe(state(t, renewal(0), renewal(10*time.Second)))
	now += 10 * time.Second
	if w.Lapsed("oregon") {
		t.Error("lapsed before the holder's own count")
	}
	now += 200 * time.Millisecond
	if !w.Lapsed("oregon") {
		t.Error("never lapsed")
	}
	// A fence and a return are changes too.
	w.Observe(state(t, renewal(0), renewal(0), control.Command{Fence: &control.Fence{Region: "oregon", Renewed: 2}}))
	if w.Lapsed("oregon") {
		t.Error("lapsed at the instant of a change")
	}
}

// TestNeverBoth lets renewals travel for random times between clocks that run
// apart as far as is allowed, and checks that the holder's count is over whenever
// the other side's is.
func TestNeverBoth(t *testing.T) {
	const idle = time.Duration(-1)
	lapses, holds := 0, 0
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		var passed time.Duration
		clock := func() func() time.Duration {
			rate, offset := 0.995+rnd.Float64()/100, time.Duration(rnd.Int64N(1e12)) // 1 % apart at most
			return func() time.Duration { return offset + time.Duration(float64(passed)*rate) }
		}
		way := func() time.Duration { return passed + time.Duration(rnd.Int64N(int64(2*time.Second))) }
		k := lease.NewKeeper(3*time.Second, clock())
		watcher := clock()
		w := lease.NewWatch(time.Second, watcher) // the holder's length counts, not its own
		s := state(t)
		begun, applied, answered := time.Duration(0), idle, idle
		for range 2000 {
			passed += time.Duration(rnd.Int64N(int64(20 * time.Millisecond)))
			switch {
			case applied != idle && passed >= applied:
				s = apply(t, s, renewal(3*time.Second))
				w.Observe(s)
				applied, answered = idle, way()
			case answered != idle && passed >= answered:
				k.Renewed(begun)
				answered = idle
			case applied == idle && answered == idle && rnd.IntN(200) == 0:
				begun, applied = k.Begin(), way()
			case rnd.IntN(1000) == 0: // it starts anew
				w = lease.NewWatch(time.Second, watcher)
				w.Observe(s)
			}
			lapsed, held := w.Lapsed("oregon"), k.Valid()
			if lapsed && held {
				t.Fatalf("seed %d, at %v: ended there, and held here for %v", seed, passed, k.Left())
			}
			if lapsed {
				lapses++
			}
			if held {
				holds++
			}
		}
	}
	if lapses == 0 || holds == 0 {
		t.Errorf("%d lapses and %d holds: nothing was tried", lapses, holds)
	}
}

func apply(tb testing.TB, s *control.State, c control.Command) *control.State {
	tb.Helper()
	next, err := control.Apply(s, s.Index+1, c)
	if err != nil {
		tb.Fatal(err)
	}
	return next
}

package region

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/link"
)

// eventually waits, in the test's synctest bubble, and returns how long it took.
func (w *world) eventually(limit time.Duration, what string, done func() bool) time.Duration {
	w.t.Helper()
	start := time.Now()
	for !done() {
		if time.Since(start) > limit {
			w.t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(start)
}

// leased reports whether a region may act in its roles, as far as leases go.
func (w *world) leased(region antipode.Region) bool {
	r := w.regions[region]
	return r.lease != nil && r.lease.Valid()
}

// isolate cuts a region off from everybody.
func (w *world) isolate(name antipode.Region) {
	w.t.Helper()
	for _, peer := range w.regions[name].mesh.Peers() {
		if err := w.regions[name].mesh.Cut(peer, link.Both); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) heal(name antipode.Region) {
	w.t.Helper()
	for _, peer := range w.regions[name].mesh.Peers() {
		if err := w.regions[name].mesh.Heal(peer); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) stateOf(at antipode.Region) *control.State { return w.regions[at].group.State() }

// TestLeaseEnds isolates a region: it stops by itself before the others fence it,
// its roles go to the other one, and the witness, which leads, is not disturbed.
func TestLeaseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.ready()
		w.eventually(10*time.Second, "the witness leads", func() bool { return w.regions["frankfurt"].leads() })
		w.eventually(5*time.Second, "oregon has a lease", func() bool { return w.leased("oregon") })
		// Nothing moves as long as everybody is well, nor when two are cut from each other.
		if err := w.regions["oregon"].mesh.Cut("mumbai", link.Both); err != nil {
			t.Fatal(err)
		}
		for range 600 {
			time.Sleep(50 * time.Millisecond)
			if !w.leased("oregon") || !w.leased("mumbai") {
				t.Fatal("a region lost its lease while it reached a majority")
			}
		}
		if err := w.regions["oregon"].mesh.Heal("mumbai"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if s := w.stateOf("mumbai"); s.Fenced("oregon") || s.Fenced("mumbai") || s.LastFailover != 0 {
			t.Fatalf("failovers without cause: %+v", s.Failovers)
		}

		w.isolate("oregon")
		for !w.stateOf("mumbai").Fenced("oregon") {
			time.Sleep(time.Millisecond)
		}
		if w.leased("oregon") {
			t.Error("it was fenced while it had a lease")
		}
		role := w.stateOf("mumbai").Tables["catalog"].Role("")
		if role.Holder != "mumbai" || role.Epoch != 2 {
			t.Errorf("catalog: %+v", role)
		}
		if state, why := w.regions["oregon"].state(); state != "detached" {
			t.Errorf("oregon is %s: %s", state, why)
		}
	})
}

// TestFencedInTime: from the death of a region to the agreement on its successor
// it takes little more than a lease, whoever leads.
func TestFencedInTime(t *testing.T) {
	for _, leader := range []antipode.Region{"frankfurt", "oregon"} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			defer w.close()
			w.ready()
			w.eventually(10*time.Second, "the witness leads", func() bool { return w.regions["frankfurt"].leads() })
			if leader == "oregon" {
				time.Sleep(time.Second) // until frankfurt knows where oregon's log stands
				w.regions["frankfurt"].group.Transfer(t.Context(), "oregon")
				w.eventually(time.Second, "oregon leads", func() bool { return w.regions["oregon"].leads() })
			}
			if err := w.regions["oregon"].Close(); err != nil {
				t.Fatal(err)
			}
			took := w.eventually(20*time.Second, "mumbai is told that it is the successor", func() bool {
				return w.stateOf("mumbai").Tables["catalog"].Role("").Holder == "mumbai"
			})
			t.Logf("with %s leading: %v", leader, took)
			if took > 4*time.Second {
				t.Errorf("with %s leading it took %v", leader, took)
			}
			w.start("oregon")
			w.eventually(10*time.Second, "it is detached", func() bool { return w.regions["oregon"].detached() != "" })
		})
	}
}

// TestCutFromLeader cuts a region from the leader alone: others pass its renewals
// on, so that it has its lease without a break until another one leads.
func TestCutFromLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.ready()
		w.eventually(10*time.Second, "the witness leads", func() bool { return w.regions["frankfurt"].leads() })
		for round, name := range []antipode.Region{"oregon", "mumbai", "oregon"} {
			w.eventually(5*time.Second, "it has a lease", func() bool { return w.leased(name) })
			time.Sleep(5*time.Second + time.Duration(round)*170*time.Millisecond)
			leader, _ := w.regions[name].group.Leader()
			if leader == name {
				t.Fatalf("%s leads", name)
			}
			if err := w.regions[name].mesh.Cut(leader, link.Both); err != nil {
				t.Fatal(err)
			}
			for range 1000 {
				time.Sleep(10 * time.Millisecond)
				if !w.leased(name) {
					t.Fatalf("%s lost its lease, cut from %s alone", name, leader)
				}
			}
			if err := w.regions[name].mesh.Heal(leader); err != nil {
				t.Fatal(err)
			}
			w.eventually(20*time.Second, "the witness leads again", func() bool { return w.regions["frankfurt"].leads() })
		}
		if s := w.stateOf("mumbai"); s.LastFailover != 0 || s.Fences != 0 {
			t.Errorf("failovers without cause: %+v", s.Failovers)
		}
	})
}

// TestLeaderFrozen: the voter that leads, a witness, stands still. Another one
// leads soon enough for nobody to be without a lease for long, again and again.
func TestLeaderFrozen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.ready()
		leads := func(names ...antipode.Region) func() bool {
			return func() bool {
				return slices.ContainsFunc(names, func(n antipode.Region) bool { return w.regions[n].leads() })
			}
		}
		var longest time.Duration
		for range 4 {
			w.eventually(20*time.Second, "the witness leads", leads("frankfurt"))
			time.Sleep(time.Second)
			w.isolate("frankfurt")
			longest = max(longest, w.eventually(10*time.Second, "another one leads", leads("oregon", "mumbai")))
			// Where two voters stand at once, a lease may end before there is a leader:
			// then writes wait for a moment, and nobody takes anything over.
			without := time.Duration(0)
			for range 300 {
				time.Sleep(10 * time.Millisecond)
				if !w.leased("oregon") || !w.leased("mumbai") {
					without += 10 * time.Millisecond
				}
			}
			if without > time.Second {
				t.Fatalf("a region was without a lease for %v over the election", without)
			}
			w.heal("frankfurt")
		}
		t.Logf("the longest time without a leader: %v", longest)
		if longest > 2400*time.Millisecond {
			t.Errorf("it took %v to elect another leader", longest)
		}
		if s := w.stateOf("oregon"); s.LastFailover != 0 {
			t.Errorf("failovers without cause: %+v", s.Failovers)
		}
	})
}

// TestFrozen: a region that stands still counts as out of reach within two
// seconds, though its connections are up.
func TestFrozen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.ready()
		time.Sleep(2 * time.Second)
		m := w.regions["frankfurt"].mesh
		w.isolate("oregon") // a black hole: nothing is refused
		took := w.eventually(5*time.Second, "oregon is missed", func() bool { return len(m.Reaches()) == 1 })
		if took > 2*time.Second || !m.Connected("oregon") {
			t.Errorf("missed after %v, connected: %v", took, m.Connected("oregon"))
		}
		w.heal("oregon")
		w.eventually(2*time.Second, "oregon is reached again", func() bool { return len(m.Reaches()) == 2 })
	})
}

// TestFailover kills the writer's region under writes. The other one accepts
// writes within five seconds, with everything that was acknowledged to it; the
// region comes back, takes its own last write out, and gets its homes back.
func TestFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.ready()
		w.eventually(10*time.Second, "the witness leads", func() bool { return w.regions["frankfurt"].leads() })
		w.eventually(5*time.Second, "both have leases", func() bool { return w.leased("oregon") && w.leased("mumbai") })
		for _, name := range []string{"catalog", "users"} {
			if err := w.put("oregon", name, "before"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		w.isolate("oregon")
		cut := time.Now()
		// It still has its lease, and nobody hears of this one.
		if err := w.put("oregon", "catalog", "stranded"); err != nil {
			t.Fatal(err)
		}
		var served time.Duration
		for i := 0; served == 0; i++ {
			if err := w.put("mumbai", "catalog", "after"); err == nil {
				served = time.Since(cut)
			} else if time.Since(cut) > 20*time.Second {
				t.Fatalf("mumbai does not take over: %v", err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Logf("mumbai accepts writes of catalog %v after the cut", served)
		if served > 5*time.Second {
			t.Errorf("mumbai accepts writes only %v after the cut", served)
		}
		if err := w.put("mumbai", "users", "before"); err != nil { // oregon's item
			t.Errorf("write to an item of the lost home: %v", err)
		}
		if err := w.put("oregon", "catalog", "late"); err == nil {
			t.Error("oregon accepts writes after its lease")
		}
		if !w.has("mumbai", "catalog", "before") || w.has("mumbai", "catalog", "stranded") {
			t.Error("mumbai does not have what it should")
		}

		w.heal("oregon")
		healed := time.Now()
		w.eventually(20*time.Second, "oregon rejoins", func() bool {
			l := w.stateOf("oregon").Regions["oregon"].Lease
			return !l.Fenced && l.Number == 2 && w.leased("oregon")
		})
		t.Logf("oregon is back %v after the heal", time.Since(healed))
		w.eventually(5*time.Second, "oregon has what was written meanwhile", func() bool { return w.has("oregon", "catalog", "after") })
		if w.has("oregon", "catalog", "stranded") {
			t.Error("oregon shows the write that does not count")
		}
		for _, at := range []antipode.Region{"oregon", "mumbai"} {
			w.eventually(10*time.Second, "the stranded write is listed", func() bool {
				list, err := w.regions[at].Stranded(t.Context(), "oregon")
				return err == nil && len(list) == 1 && list[0].State == "open"
			})
		}
		w.eventually(45*time.Second, "homes go back to oregon", func() bool {
			r := w.stateOf("oregon").Tables["users"].Role("oregon")
			return r.Holder == "oregon" && r.Next == ""
		})
		if r := w.stateOf("oregon").Tables["catalog"].Role(""); r.Holder != "mumbai" {
			t.Errorf("the writer went back by itself: %+v", r)
		}
		if err := w.put("oregon", "users", "before"); err != nil {
			t.Errorf("oregon writes its item again: %v", err)
		}
	})
}

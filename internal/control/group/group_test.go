package group

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/engine"
	"github.com/antipode-io/antipode/internal/link"
)

// region is a whole voter: links, transport, group, store.
type region struct {
	name  antipode.Region
	fs    vfs.FS
	store engine.Store
	mesh  *link.Mesh
	tr    *Transport
	*Group
}

// world is three regions far apart in a synctest bubble.
type world struct {
	t       *testing.T
	net     *link.MemoryNetwork
	regions map[antipode.Region]*region
}

const oneWay = 110 * time.Millisecond

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, net: link.NewMemoryNetwork(time.Now, three()...), regions: map[antipode.Region]*region{}}
	for _, from := range three() {
		w.regions[from] = &region{name: from, fs: vfs.NewMem()}
		for _, to := range three() {
			if from != to {
				if err := w.net.Shape(from, to, link.Shape{Delay: oneWay}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return w
}

func (w *world) up(name antipode.Region) *region {
	w.t.Helper()
	r := w.regions[name]
	ctx := context.Background()
	r.store = openStore(w.t, r.fs)
	mesh, err := link.NewMemory(ctx, w.net, name)
	if err != nil {
		w.t.Fatal(err)
	}
	r.mesh = mesh
	// The group's messages and the transport's need each other: what comes before
	// both are there is lost, as anything may be.
	var mu sync.Mutex
	var tr *Transport
	r.Group, err = Open(ctx, Config{
		Self: name, Voters: three(), Store: r.store,
		Send: func(to antipode.Region, msg []byte) {
			mu.Lock()
			defer mu.Unlock()
			if tr != nil {
				tr.Send(to, msg)
			}
		},
		OnFatal: func(err error) { w.t.Errorf("%s: %v", name, err) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	mu.Lock()
	tr = NewTransport(ctx, TransportConfig{Self: name, Voters: three(), Links: mesh, Receive: r.Receive})
	mu.Unlock()
	r.tr = tr
	return r
}

func (w *world) down(name antipode.Region) {
	w.t.Helper()
	r := w.regions[name]
	if r.Group == nil {
		return
	}
	if err := errors.Join(r.Close(), r.tr.Close(), r.mesh.Close(), r.store.Close()); err != nil {
		w.t.Errorf("%s: %v", name, err)
	}
	r.Group = nil
}

func (w *world) close() {
	for name := range w.regions {
		w.down(name)
	}
}

// await waits for a condition; it is called in synctest bubbles.
func (w *world) await(what string, limit time.Duration, ok func() bool) time.Duration {
	w.t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > limit {
			for _, r := range w.regions {
				if r.Group != nil {
					w.t.Logf("%+v", r.Status())
				}
			}
			w.t.Fatalf("after %v: %s", limit, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(start)
}

func (w *world) led() bool {
	for _, r := range w.regions {
		if r.Group != nil {
			if _, ok := r.Leader(); !ok {
				return false
			}
		}
	}
	return true
}

func bubble(t *testing.T, test func(w *world)) {
	t.Helper()
	cryptotest.SetGlobalRandom(t, 1)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		test(w)
	})
}

// TestStart: three regions 220 ms apart have a leader soon, and agree from anywhere.
func TestStart(t *testing.T) {
	bubble(t, func(w *world) {
		for _, r := range three() {
			w.up(r)
		}
		took := w.await("no leader", 10*time.Second, w.led)
		t.Logf("a leader after %v", took)
		if took > 3*time.Second {
			t.Errorf("it took %v to elect a leader at first, want 3 s at most", took)
		}
		for _, name := range three() {
			r := w.regions[name]
			changed, before := r.Changed(), time.Now()
			ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
			state, err := r.Propose(ctx, putRegion("from "+string(name)))
			cancel()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			t.Logf("%s: agreed after %v", name, time.Since(before))
			if _, ok := state.Regions["from "+name]; !ok || r.State().Index < state.Index {
				t.Errorf("%s: what was agreed is not in its state", name)
			}
			select {
			case <-changed:
			default:
				t.Errorf("%s: the change was not announced", name)
			}
			// Refusals come back as they are, wherever they were asked for.
			if _, err := r.Propose(w.t.Context(), control.Command{DeleteTable: "none"}); !errors.Is(err, control.ErrNoTable) {
				t.Errorf("%s: got %v, want ErrNoTable", name, err)
			}
		}
		reg := prometheus.NewPedanticRegistry()
		if err := reg.Register(NewCollector(w.regions[oregon].Group)); err != nil {
			t.Fatal(err)
		}
		if got, err := reg.Gather(); err != nil || len(got) != 6 {
			t.Errorf("got %d metrics, %v; want 6", len(got), err)
		}
	})
}

// TestLeaderLost: the others elect one, and the lost one catches up.
func TestLeaderLost(t *testing.T) {
	bubble(t, func(w *world) {
		for _, r := range three() {
			w.up(r)
		}
		w.await("no leader", 10*time.Second, w.led)
		w.down(oregon)
		ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
		defer cancel()
		before := time.Now()
		if _, err := w.regions[mumbai].Propose(ctx, putRegion("without oregon")); err != nil {
			t.Fatal(err)
		}
		t.Logf("agreed %v after the leader was lost", time.Since(before))
		r := w.up(oregon)
		w.await("oregon has not caught up", 5*time.Second, func() bool {
			_, ok := r.State().Regions["without oregon"]
			return ok
		})
	})
}

// TestRestart: all go down and come up again.
func TestRestart(t *testing.T) {
	bubble(t, func(w *world) {
		for _, r := range three() {
			w.up(r)
		}
		w.await("no leader", 10*time.Second, w.led)
		if _, err := w.regions[frankfurt].Propose(w.t.Context(), putRegion("tokyo")); err != nil {
			t.Fatal(err)
		}
		w.await("not everywhere", time.Second, func() bool {
			for _, r := range w.regions {
				if _, ok := r.State().Regions["tokyo"]; !ok {
					return false
				}
			}
			return true
		})
		w.close()
		for _, name := range three() {
			if _, ok := w.up(name).State().Regions["tokyo"]; !ok {
				t.Errorf("%s does not know at once what it knew", name)
			}
		}
		took := w.await("no leader", 10*time.Second, w.led)
		t.Logf("a leader after %v", took)
		if took > 3*time.Second {
			t.Errorf("it took %v to elect a leader again, want 3 s at most", took)
		}
	})
}

// TestNoMajority: a region that is cut off serves what it has, and says why it
// can't change it. It runs in a synctest bubble.
func TestNoMajority(t *testing.T) {
	bubble(t, func(w *world) {
		for _, r := range three() {
			w.up(r)
		}
		w.await("no leader", 10*time.Second, w.led)
		alone := w.regions[frankfurt]
		for _, peer := range []antipode.Region{oregon, mumbai} {
			if err := alone.mesh.Cut(peer, link.Both); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
		_, err := alone.Propose(ctx, putRegion("alone"))
		cancel()
		if !errors.Is(err, ErrNoQuorum) || !strings.Contains(err.Error(), "reachable 1 of 3 (frankfurt)") {
			t.Errorf("got %v, want ErrNoQuorum", err)
		}
		if _, err := w.regions[oregon].Propose(w.t.Context(), putRegion("by two")); err != nil {
			t.Errorf("the others can't agree: %v", err)
		}
		for _, peer := range []antipode.Region{oregon, mumbai} {
			if err := alone.mesh.Heal(peer); err != nil {
				t.Fatal(err)
			}
		}
		w.await("it does not catch up", 10*time.Second, func() bool {
			_, ok := alone.State().Regions["by two"]
			return ok
		})
		ctx, cancel = context.WithTimeout(w.t.Context(), 5*time.Second)
		defer cancel()
		if _, err := alone.Propose(ctx, putRegion("together")); err != nil {
			t.Error(err)
		}
	})
}

func TestManyProposals(t *testing.T) {
	bubble(t, func(w *world) {
		for _, r := range three() {
			w.up(r)
		}
		w.await("no leader", 10*time.Second, w.led)
		var wg sync.WaitGroup
		before := time.Now()
		for i := range 200 {
			wg.Go(func() {
				r := w.regions[three()[i%3]]
				if _, err := r.Propose(w.t.Context(), putRegion(fmt.Sprint("r", i))); err != nil {
					t.Errorf("proposal %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		t.Logf("200 proposals took %v", time.Since(before))
		if n := len(w.regions[oregon].State().Regions); n < 200-67 {
			t.Errorf("%d are there", n)
		}
	})
}

func TestClosed(t *testing.T) {
	bubble(t, func(w *world) {
		g := w.up(oregon).Group
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
		_, err := g.Propose(ctx, putRegion("too early"))
		cancel()
		if !errors.Is(err, ErrNoQuorum) {
			t.Errorf("got %v, want ErrNoQuorum", err)
		}
		w.down(oregon)
		if _, err := g.Propose(w.t.Context(), putRegion("late")); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
		if g.State() == nil {
			t.Error("no state after Close")
		}
		g.Receive(mumbai, []byte("late"))
	})
}

// TestFatal: a store that fails ends the voter, not the region.
func TestFatal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := openStore(t, vfs.NewMem())
		told := make(chan error, 1)
		g, err := Open(t.Context(), Config{
			Self: oregon, Voters: []antipode.Region{oregon}, Store: store,
			Send: func(antipode.Region, []byte) {}, OnFatal: func(err error) { told <- err },
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Propose(t.Context(), putRegion("tokyo")); err != nil {
			t.Fatal(err)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Propose(t.Context(), putRegion("sydney")); !errors.Is(err, engine.ErrClosed) {
			t.Errorf("got %v, want the store's error", err)
		}
		if err := <-told; !errors.Is(err, engine.ErrClosed) {
			t.Errorf("OnFatal: got %v, want the store's error", err)
		}
		if _, ok := g.State().Regions["tokyo"]; !ok || g.Status().Err == nil {
			t.Error("the state is gone, or the status does not say what happened")
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
}

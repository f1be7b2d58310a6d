package table_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
	"github.com/antipode-io/antipode/internal/replica/journal"
	"github.com/antipode-io/antipode/internal/replica/ship"
)

// aged is three regions with collisions, tombstones, homes and handoffs, whose
// journals were cut, and some entries that are younger than that.
func aged(t testing.TB) *cluster {
	t.Helper()
	c := newCluster(t, oregon, mumbai, paris)
	c.make("carts", antipode.WriteLocal, nil)
	c.make("users", antipode.WritePartitioned, nil)
	c.make("catalog", antipode.WriteGlobal, func(t *control.Table) { t.Writer = mumbai })
	c.age("old")
	c.wall = c.wall.Add(25 * time.Hour)
	for _, r := range []antipode.Region{oregon, mumbai, paris} {
		check(t, c.regions[r].ts.Sweep(context.Background()))
		if n := count(t, c.regions[r], 'f'); n == 0 {
			t.Fatalf("%s has cut nothing", r)
		}
	}
	c.age("young")
	return c
}

// age writes something of every kind.
func (c *cluster) age(prefix string) {
	c.t.Helper()
	for i := range 20 {
		key := fmt.Sprint(prefix, i)
		check(c.t, c.write(oregon, "carts", key, "put o"))
		c.wall = c.wall.Add(time.Millisecond)
		check(c.t, c.write(paris, "carts", key, "put p")) // has not seen the other
		check(c.t, c.write(oregon, "users", key, "put u"))
		check(c.t, c.write(mumbai, "catalog", key, "put g"))
	}
	c.exchange()
	tbl, err := c.regions[oregon].ts.Table("users")
	check(c.t, err)
	for i := range 5 {
		key := fmt.Sprint(prefix, i)
		check(c.t, c.write(mumbai, "carts", key, "delete"))
		check(c.t, c.write(oregon, "users", key, "delete"))
		check(c.t, c.regions[oregon].ts.Move(context.Background(), tbl, table.Key{Partition: []byte(fmt.Sprint(prefix, i+5))}, paris))
	}
	c.exchange()
}

// lose starts a region over an empty disk.
func (c *cluster) lose(name antipode.Region) {
	c.t.Helper()
	c.lost[name]++
	c.start(name, vfs.NewCrashableMem())
}

// dump returns all rows that a copy has to bring.
func (c *cluster) dump(name antipode.Region) map[string]string {
	c.t.Helper()
	rows := make(map[string]string)
	for _, prefix := range []byte("ikcjf") {
		it, err := c.regions[name].store.Iterate([]byte{prefix}, []byte{prefix + 1})
		check(c.t, err)
		for ok := it.First(); ok; ok = it.Next() {
			rows[string(it.Key())] = string(it.Value())
		}
		check(c.t, it.Close())
	}
	return rows
}

func (c *cluster) same(names ...antipode.Region) {
	c.t.Helper()
	for _, n := range names[1:] {
		if diff := cmp.Diff(c.dump(names[0]), c.dump(n)); diff != "" {
			c.t.Errorf("%s and %s differ: %s", names[0], n, diff)
		}
		for _, tbl := range []string{"carts", "users"} {
			if diff := cmp.Diff(c.collisions(names[0], tbl), c.collisions(n, tbl)); diff != "" {
				c.t.Errorf("collisions of %s in %s and %s differ: %s", tbl, names[0], n, diff)
			}
		}
	}
}

func (c *cluster) serve(name antipode.Region) {
	c.t.Helper()
	ts := c.regions[name].ts
	if ok, err := ts.Serve(ts.Copies(), func() error { return nil }); !ok || err != nil {
		c.t.Fatalf("%s does not serve: %v", name, err)
	}
}

// TestCopyAfterLostDisk loses a disk after the journals were cut: the region gets
// everything back, and goes on in both directions.
func TestCopyAfterLostDisk(t *testing.T) {
	c := aged(t)
	c.lose(oregon)
	if err := c.write(oregon, "carts", "k", "put x"); !errors.Is(err, table.ErrUnavailable) {
		t.Errorf("a write while it is being filled: %v", err)
	}
	if err := c.write(mumbai, "users", "old7", "append x"); err != nil && !errors.Is(err, table.ErrUnavailable) {
		t.Errorf("a write that needs it: %v", err)
	}
	c.exchange()
	c.same(mumbai, oregon, paris)
	if n := c.regions[oregon].log.Origin(); n.Incarnation != 2 {
		t.Fatalf("origin %s", n)
	}
	c.serve(oregon)
	for i := range 4 {
		key := fmt.Sprint("old", i)
		check(t, c.write(oregon, "carts", key, "put new"))
		check(t, c.write(mumbai, "users", key, "append n"))
		check(t, c.write(oregon, "catalog", key, "append n"))
		c.exchange()
		for _, r := range []antipode.Region{oregon, mumbai, paris} {
			if got := c.read(r, "carts", key, false) + c.read(r, "catalog", key, true); got != "newgn" {
				t.Errorf("%s in %s: %q", key, r, got)
			}
		}
	}
	c.same(mumbai, oregon, paris)
	// What is stable again goes, here as elsewhere.
	c.wall = c.wall.Add(25 * time.Hour)
	for _, r := range c.regions {
		check(t, r.ts.Sweep(context.Background()))
		if n := count(t, r, 'j'); n != 0 {
			t.Errorf("%s keeps %d entries", r.name, n)
		}
	}
	c.same(mumbai, oregon, paris)
}

// wire is a connection that a test drives frame by frame.
type wire struct {
	c *cluster
	x *ship.Sender
	r *ship.Receiver
}

func (c *cluster) connect(from, to antipode.Region) *wire {
	c.t.Helper()
	x, err := c.regions[from].ship.NewSender(to, 0)
	check(c.t, err)
	r, err := c.regions[to].ship.NewReceiver(from)
	check(c.t, err)
	w := &wire{c, x, r}
	hello, err := x.Hello()
	check(c.t, err)
	w.deliver(hello)
	return w
}

func (w *wire) close() { w.x.Close(); w.r.Close() }

func (w *wire) deliver(frame []byte) {
	w.c.t.Helper()
	reply, commits, err := w.r.Receive(frame)
	check(w.c.t, err)
	for _, k := range commits {
		check(w.c.t, k.Wait())
	}
	if reply != nil {
		check(w.c.t, w.x.Receive(reply))
	}
}

// flow carries up to so many frames and reports whether there are more.
func (w *wire) flow(frames int) bool {
	w.c.t.Helper()
	for range frames {
		acks, err := w.r.Ack()
		check(w.c.t, err)
		for _, a := range acks {
			check(w.c.t, w.x.Receive(a))
		}
		frame, err := w.x.Next()
		check(w.c.t, err)
		if frame == nil {
			return false
		}
		w.deliver(frame)
	}
	return true
}

const all = 1 << 20

// TestCopyCrash takes the power away in the middle of copies, again and again.
func TestCopyCrash(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	c := aged(t)
	c.lose(oregon)
	for range 25 {
		w := c.connect(mumbai, oregon)
		w.flow(rng.IntN(40))
		w.x.Close() // and nobody gives up the copy
		c.start(oregon, c.regions[oregon].fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng}))
	}
	c.exchange()
	c.same(mumbai, oregon, paris)
	c.serve(oregon)
}

// TestCopyWhileWriting copies from two regions at once, over connections that
// end at any time, while both go on writing.
func TestCopyWhileWriting(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 1))
		c := aged(t)
		c.lose(oregon)
		wires := map[antipode.Region]*wire{}
		for i := range 300 {
			from := []antipode.Region{mumbai, paris}[rng.IntN(2)]
			switch n := rng.IntN(40); {
			case n == 0 && wires[from] != nil:
				wires[from].close()
				delete(wires, from)
			case n == 1:
				c.carry(mumbai, paris)
			case n == 2:
				c.carry(paris, mumbai)
			case n < 8:
				key := fmt.Sprint([]string{"old", "young", "new"}[rng.IntN(3)], rng.IntN(20))
				check(t, c.write(from, "carts", key, []string{"put w", "delete"}[rng.IntN(2)]))
			case wires[from] == nil:
				wires[from] = c.connect(from, oregon)
			default:
				wires[from].flow(1 + rng.IntN(4))
			}
			if i == 150 {
				check(t, c.regions[mumbai].ts.Sweep(context.Background()))
			}
		}
		for more := true; more; {
			more = false
			for _, w := range wires {
				more = w.flow(1) || more
			}
		}
		for _, w := range wires {
			w.close()
		}
		c.exchange()
		c.serve(oregon)
		for _, r := range c.regions { // tombstones that are stable everywhere go
			check(t, r.ts.Sweep(context.Background()))
		}
		for _, r := range []antipode.Region{oregon, paris} {
			if diff := cmp.Diff(c.contents(mumbai), c.contents(r)); diff != "" {
				t.Errorf("seed %d: items of %s: %s", seed, r, diff)
			}
			if diff := cmp.Diff(c.collisions(mumbai, "carts"), c.collisions(r, "carts")); diff != "" {
				t.Errorf("seed %d: collisions of %s: %s", seed, r, diff)
			}
		}
	}
}

// contents returns the item and collision rows: journals may be cut elsewhere.
func (c *cluster) contents(name antipode.Region) map[string]string {
	c.t.Helper()
	rows := c.dump(name)
	maps.DeleteFunc(rows, func(k, _ string) bool { return k[0] != 'i' && k[0] != 'c' })
	return rows
}

// TestCopyResurrectsNothing has a region get an old write by journal whose
// removal was forgotten: the copy takes it away again.
func TestCopyResurrectsNothing(t *testing.T) {
	c := newCluster(t, oregon, mumbai, paris)
	c.make("carts", antipode.WriteLocal, nil)
	check(t, c.write(paris, "carts", "k", "put a"))
	c.exchange()
	for range 3 { // the last one is served from memory
		check(t, c.write(mumbai, "carts", "k", "put b"))
		check(t, c.write(mumbai, "carts", "k", "delete"))
	}
	c.exchange()
	c.wall = c.wall.Add(25 * time.Hour)
	check(t, c.regions[mumbai].ts.Sweep(context.Background())) // paris has not cut anything yet
	c.lose(oregon)
	fromMumbai, fromParis := c.connect(mumbai, oregon), c.connect(paris, oregon)
	defer fromMumbai.close()
	defer fromParis.close()
	fromParis.flow(all)
	if got := c.read(oregon, "carts", "k", false); got != "a" {
		t.Fatalf("the write did not come by journal: %q", got)
	}
	fromMumbai.flow(all)
	fromParis.flow(all)
	if got := c.read(oregon, "carts", "k", false); got != "" {
		t.Errorf("%q is back", got)
	}
	if diff := cmp.Diff(c.dump(mumbai), c.dump(oregon)); diff != "" {
		t.Errorf("oregon differs from mumbai: %s", diff)
	}
	if c.regions[oregon].ts.Copies() != 1 {
		t.Error("no copy was taken")
	}
}

// TestFillingAcceptsNothing replays a handoff to a region that had accepted it
// before it lost its disk: it does not accept twice.
func TestFillingAcceptsNothing(t *testing.T) {
	c := newCluster(t, oregon, mumbai)
	c.make("users", antipode.WritePartitioned, nil)
	check(t, c.write(mumbai, "users", "k", "put a"))
	c.exchange()
	tbl, err := c.regions[mumbai].ts.Table("users")
	check(t, err)
	check(t, c.regions[mumbai].ts.Move(context.Background(), tbl, table.Key{Partition: []byte("k")}, oregon))
	c.exchange()
	check(t, c.write(oregon, "users", "k", "append b"))
	c.exchange()
	c.lose(oregon)
	c.exchange()
	c.serve(oregon)
	check(t, c.write(mumbai, "users", "k", "append c"))
	c.exchange()
	for _, r := range []antipode.Region{oregon, mumbai} {
		if got := c.read(r, "users", "k", true); got != "abc" {
			t.Errorf("%s reads %q", r, got)
		}
		if count(t, c.regions[r], 'c') != 0 {
			t.Errorf("two timelines in %s", r)
		}
	}
}

// FuzzInstall feeds a shard that is being copied arbitrary rows, and real ones
// that were changed.
func FuzzInstall(f *testing.F) {
	c := aged(f)
	carts, err := c.regions[mumbai].ts.Table("carts")
	check(f, err)
	id := carts.Shards() | 2
	source, err := c.regions[mumbai].ts.Export(id)
	check(f, err)
	for more := true; more; {
		var rows []byte
		rows, more, err = source.Next(nil, 400)
		check(f, err)
		f.Add(rows)
	}
	want := source.State()
	check(f, source.Close())
	c.lose(oregon)
	ts := c.regions[oregon].ts
	f.Fuzz(func(t *testing.T, rows []byte) {
		check(t, ts.Begin(id))
		if k, err := ts.Install(id, rows); err == nil {
			check(t, k.Wait())
			if _, err := ts.Finish(id, want); err == nil {
				t.Error("one part passed for the whole")
			}
		}
		check(t, ts.Abort(id))
		if s := c.regions[oregon].log.Shard(id); s.Applied() != nil || s.Copying() {
			t.Errorf("%v is left of a copy that was given up", s.Applied())
		}
		_ = journal.EachRow(rows, func(_, _ []byte) error { return nil })
	})
}

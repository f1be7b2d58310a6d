package table_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
)

// TestForced takes over from a region without the group, and meets it again.
func TestForced(t *testing.T) {
	for _, restart := range []bool{false, true} {
		c := newCluster(t, oregon, mumbai)
		c.make("catalog", antipode.WriteGlobal, nil) // pinned
		c.make("users", antipode.WritePartitioned, nil)
		c.make("carts", antipode.WriteLocal, nil)
		check(t, c.write(oregon, "catalog", "k", "put 1"))
		check(t, c.write(oregon, "users", "u", "put 1"))
		c.exchange()
		c.isolate(oregon)
		c.isolate(mumbai)
		check(t, c.write(oregon, "catalog", "k", "append o")) // pinned: it goes on
		check(t, c.write(oregon, "users", "u", "append o"))
		if err := c.write(mumbai, "catalog", "k", "append m"); !errors.Is(err, table.ErrUnavailable) {
			t.Errorf("mumbai writes without a word: %v", err)
		}
		ctx := context.Background()
		if _, err := c.regions[mumbai].ts.Force(ctx, "nowhere", "ada", "test"); !errors.Is(err, control.ErrInvalid) {
			t.Errorf("force a region that there is not: %v", err)
		}
		roles, err := c.regions[mumbai].ts.Force(ctx, oregon, "ada", "it burned down")
		check(t, err)
		if len(roles) != 2 || roles[0].Epoch != 2 || roles[1].Epoch != 2 {
			t.Errorf("roles taken: %+v", roles)
		}
		check(t, c.write(mumbai, "catalog", "k", "append 2"))
		check(t, c.write(mumbai, "users", "u", "append 2"))
		if restart {
			c.restart(mumbai)
		}
		check(t, c.write(mumbai, "catalog", "k", "append 3"))
		c.rejoin(mumbai)
		c.rejoin(oregon)
		if restart {
			c.exchange() // oregon hears of it by the journal
		}
		c.settle()
		if r := c.ref("catalog").Role(""); r.Holder != mumbai || r.Epoch != 2 {
			t.Errorf("the group did not adopt it: %+v", r)
		}
		c.wantRead("catalog", "k", "123")
		c.wantRead("users", "u", "12")
		c.wantStranded(oregon, "catalog write k=1o now=123 open", "users write u=1o now=12 open")
		check(t, c.write(oregon, "catalog", "k", "append 4"))
		c.wantRead("catalog", "k", "1234")
		if n := count(t, c.regions[mumbai], 'a'); n != 0 {
			t.Errorf("%d forced failovers are not adopted still", n)
		}
	}
}

// TestForcedTwice has both survivors of a region take its roles: the higher name
// has them in the end, and everything that does not count is listed.
func TestForcedTwice(t *testing.T) {
	c := newCluster(t, oregon, mumbai, paris)
	c.make("catalog", antipode.WriteGlobal, nil)
	c.make("carts", antipode.WriteLocal, nil)
	check(t, c.write(oregon, "catalog", "k", "put 1"))
	check(t, c.write(oregon, "catalog", "j", "put 1"))
	c.exchange()
	c.cut[[2]antipode.Region{oregon, mumbai}] = true
	check(t, c.write(oregon, "catalog", "j", "append x")) // paris has it, mumbai doesn't
	c.carry(oregon, paris)
	for _, n := range []antipode.Region{oregon, mumbai, paris} {
		c.isolate(n)
	}
	ctx := context.Background()
	for _, n := range []antipode.Region{mumbai, paris} {
		_, err := c.regions[n].ts.Force(ctx, oregon, "ada", "test")
		check(t, err)
		check(t, c.write(n, "catalog", "k", "append "+string(n[:1])))
	}
	check(t, c.write(paris, "catalog", "j", "append p"))
	c.rejoin(mumbai)
	c.rejoin(paris)
	c.settle()
	if h := c.regions[mumbai].ts.Holder(c.ref("catalog"), ""); h.Holder != paris || h.Epoch != 2 {
		t.Errorf("holder: %+v", h)
	}
	c.wantRead("catalog", "k", "1p")
	c.wantRead("catalog", "j", "1xp")
	c.rejoin(oregon)
	c.settle()
	c.wantRead("catalog", "k", "1p")
	c.wantRead("catalog", "j", "1xp")
	c.wantStranded(mumbai, "catalog write k=1m now=1p open")
	for _, n := range []antipode.Region{oregon, mumbai, paris} {
		check(t, c.write(n, "catalog", "k", "append ."))
	}
	c.exchange()
	c.wantRead("catalog", "k", "1p...")
}

// TestForcedOutUnheard has a writer that was forced out, and has not heard of it, be
// told that others have its write: they do, and it does not count.
func TestForcedOutUnheard(t *testing.T) {
	bubble(t, func(c *cluster) {
		t := c.t
		c.make("t", antipode.WriteGlobal, func(t *control.Table) {
			rpo("0s", block)(t)
			t.Failover = control.FailoverPinned
		})
		c.sever(paris, true)
		c.writing(oregon, "t", "k", "put a").waits(t, "write")
		c.carry(oregon, mumbai)
		c.isolate(oregon)
		c.isolate(mumbai)
		if _, err := c.regions[mumbai].ts.Force(t.Context(), oregon, "ada", "it burned down"); err != nil {
			t.Fatal(err)
		}
		w := c.writing(oregon, "t", "k", "append b")
		c.carry(oregon, mumbai) // and it says so
		w.waits(t, "write that mumbai has beyond its cutoff")
		c.carry(mumbai, oregon)
		w.fails(t, "write that does not count", table.ErrOutcomeUnknown)
		if got := c.stranded(oregon, oregon); len(got) != 1 {
			t.Errorf("stranded: %v", got)
		}
	})
}

// TestForcedAgain takes what a lost region got hold of since it was forced out first,
// before the group knows of any of it: it adopts all, each with its own cutoff.
func TestForcedAgain(t *testing.T) {
	c := newCluster(t, oregon, mumbai)
	c.make("catalog", antipode.WriteGlobal, nil)
	c.make("stock", antipode.WriteGlobal, func(t *control.Table) { t.Writer = mumbai })
	check(t, c.write(oregon, "catalog", "k", "put 1"))
	check(t, c.write(oregon, "stock", "k", "put 1"))
	c.exchange()
	c.isolate(oregon)
	c.isolate(mumbai)
	force := func(at, lost antipode.Region) {
		t.Helper()
		_, err := c.regions[at].ts.Force(t.Context(), lost, "ada", "test")
		check(t, err)
	}
	force(mumbai, oregon) // catalog
	force(oregon, mumbai) // stock: it has not heard
	check(t, c.write(oregon, "stock", "k", "append o"))
	check(t, c.write(oregon, "catalog", "k", "append x")) // nobody hears of it in time
	c.cut[[2]antipode.Region{oregon, mumbai}] = false
	c.carry(oregon, mumbai)
	c.cut[[2]antipode.Region{oregon, mumbai}] = true
	force(mumbai, oregon) // stock, with a cutoff of its own
	c.rejoin(mumbai)
	c.rejoin(oregon)
	c.settle()
	for name, epoch := range map[string]uint64{"catalog": 2, "stock": 3} {
		if r := c.ref(name).Role(""); r.Holder != mumbai || r.Epoch != epoch {
			t.Errorf("the group has %s as %+v, want it in mumbai since epoch %d", name, r, epoch)
		}
	}
	c.wantRead("catalog", "k", "1")
	c.wantRead("stock", "k", "1o")
	c.wantStranded(oregon, "catalog write k=1x now=1 open")
}

// TestLostDiskAfterFailover gives a region that lost its disk the roles, the
// stranded writes and what is pending along with its items.
func TestLostDiskAfterFailover(t *testing.T) {
	c := three(t)
	check(t, c.write(oregon, "catalog", "k", "put 1"))
	check(t, c.write(oregon, "users", "u", "put 1"))
	c.exchange()
	c.isolate(oregon)
	check(t, c.write(oregon, "catalog", "k", "append o"))
	c.unhold[oregon] = true
	c.fence(oregon, mumbai)
	c.settle()
	check(t, c.write(mumbai, "catalog", "k", "append 2"))
	c.rejoin(oregon)
	c.settle()
	c.back(oregon)
	c.settle()
	c.wall = c.wall.Add(25 * time.Hour)
	for _, r := range c.regions {
		check(t, r.ts.Sweep(context.Background()))
	}
	c.lose(paris)
	c.settle()
	c.serve(paris)
	c.settle()
	c.wantRead("catalog", "k", "12")
	c.wantStranded(oregon, "catalog write k=1o now=12 open")
	check(t, c.write(paris, "catalog", "k", "append 3"))
	c.wantRead("catalog", "k", "123")
	if h := c.regions[paris].ts.Holder(c.ref("users"), oregon); h.Holder != mumbai {
		t.Errorf("holder of oregon's homes: %+v", h)
	}
	// The successor loses its disk: it goes on holding its roles.
	c.lose(mumbai)
	c.settle()
	c.serve(mumbai)
	c.settle()
	check(t, c.write(paris, "catalog", "k", "append 4"))
	check(t, c.write(mumbai, "users", "u", "append 2"))
	c.wantRead("catalog", "k", "1234")
	c.wantRead("users", "u", "12")
	check(t, c.regions[paris].ts.DiscardStranded(context.Background(), func() antipode.Dot {
		all, err := c.regions[paris].ts.Stranded(context.Background(), oregon)
		check(t, err)
		return all[0].Dot
	}(), "ada"))
	c.wantStranded(oregon, "catalog write k=1o now=1234 discarded")
}

// TestLostDiskOfSuccessor takes the disk of a region that has taken over, or is about
// to, while nobody else has what it wrote: it gets what there is, and goes on.
func TestLostDiskOfSuccessor(t *testing.T) {
	for _, late := range []bool{false, true} {
		c := newCluster(t, oregon, mumbai)
		c.make("catalog", antipode.WriteGlobal, leased)
		c.make("users", antipode.WritePartitioned, leased)
		c.make("carts", antipode.WriteLocal, nil)
		c.apply(control.Command{Incarnate: &control.Incarnate{Region: mumbai}})
		check(t, c.write(oregon, "catalog", "k", "put 1"))
		c.exchange()
		c.isolate(oregon)
		check(t, c.write(oregon, "catalog", "k", "append o"))
		for _, k := range keysOf(20) {
			check(t, c.write(mumbai, "carts", k, "put 1"))
		}
		c.unhold[oregon] = true
		c.fence(oregon, mumbai)
		want := "1o"
		if late {
			want = "1"
			c.settle()
		}
		c.lose(mumbai)
		c.apply(control.Command{Incarnate: &control.Incarnate{Region: mumbai, Was: 1}})
		c.steps(mumbai)
		c.rejoin(oregon)
		c.settle()
		for _, id := range c.regions[oregon].log.Shards() {
			if want, got := c.regions[oregon].log.Shard(id).Applied(), c.regions[mumbai].log.Shard(id).Applied(); !got.Covers(want) {
				t.Errorf("shard %s: mumbai was given %v of %v", id, got, want)
			}
		}
		c.serve(mumbai)
		c.settle()
		c.back(oregon)
		c.wantRead("catalog", "k", want)
		check(t, c.write(oregon, "catalog", "k", "append 2"))
		for _, k := range keysOf(8) { // some of them are born by mumbai's leave, the others by oregon's, which mumbai gives now
			check(t, c.write(oregon, "users", k, "put o"))
			check(t, c.write(mumbai, "users", k, "append m"))
		}
		c.wantRead("catalog", "k", want+"2")
		c.wantRead("users", "k0", "om")
	}
}

// TestDeletedTable deletes tables in the middle of all that may be known of their
// roles: nothing is left of it, and other tables' roles are not held up by it.
func TestDeletedTable(t *testing.T) {
	ctx := context.Background()
	sweep := func(c *cluster) {
		for _, r := range c.regions {
			check(t, r.ts.Sweep(ctx))
		}
	}
	// After a switch, and while everybody has sealed for a failover.
	c := three(t)
	check(t, c.write(oregon, "catalog", "k", "put 1"))
	check(t, c.write(oregon, "users", "k", "put 1"))
	c.exchange()
	c.switchTo(paris, c.role("catalog", ""))
	c.settle()
	c.kill(paris)
	c.fence(paris, oregon)
	c.steps(mumbai)
	for _, name := range []string{"catalog", "users"} {
		c.apply(control.Command{DeleteTable: name})
	}
	c.steps(oregon, mumbai)
	if count(t, c.regions[mumbai], 'e') == 0 || count(t, c.regions[mumbai], 's') == 0 {
		t.Fatal("nothing was known of the roles")
	}
	c.rejoin(paris)
	c.settle()
	sweep(c)
	nothingLeft := func() {
		t.Helper()
		for _, n := range []antipode.Region{oregon, mumbai, paris} {
			for _, prefix := range []byte("esbip") {
				if got := count(t, c.regions[n], prefix); got != 0 {
					t.Errorf("%d rows %c are left in %s", got, prefix, n)
				}
			}
			for id := range c.state.Failovers {
				if !c.regions[n].ts.Installed(id) {
					t.Errorf("failover %d, whose tables are gone, keeps %s from coming back", id, n)
				}
			}
		}
	}
	nothingLeft()
	for _, n := range []antipode.Region{oregon, mumbai, paris} {
		c.restart(n)
	}
	c.settle()
	nothingLeft()

	// After a failover that is over: it stays on record.
	c = three(t)
	check(t, c.write(oregon, "users", "k", "put 1"))
	c.exchange()
	c.isolate(oregon)
	c.fence(oregon, mumbai)
	c.settle()
	c.rejoin(oregon)
	c.settle()
	c.back(oregon)
	for _, name := range []string{"catalog", "users"} {
		c.apply(control.Command{DeleteTable: name})
	}
	if len(c.state.Failovers) == 0 {
		t.Fatal("no failover is on record")
	}
	sweep(c)
	nothingLeft()
	for _, n := range []antipode.Region{oregon, mumbai, paris} {
		c.restart(n)
	}
	c.settle()
	nothingLeft()

	// Between a forced failover and the reunion.
	c = newCluster(t, oregon, mumbai)
	c.make("catalog", antipode.WriteGlobal, nil) // pinned
	c.make("users", antipode.WritePartitioned, nil)
	check(t, c.write(oregon, "users", "u", "put 1"))
	c.exchange()
	c.isolate(oregon)
	c.isolate(mumbai)
	_, err := c.regions[mumbai].ts.Force(ctx, oregon, "ada", "it burned down")
	check(t, err)
	list, err := c.regions[mumbai].ts.Forced()
	if err != nil || len(list) != 1 || list[0].Lost != oregon || list[0].By != "ada" || list[0].Why != "it burned down" || len(list[0].Roles) != 2 {
		t.Errorf("forced: %+v, %v", list, err)
	}
	c.apply(control.Command{DeleteTable: "catalog"})
	c.rejoin(mumbai)
	c.rejoin(oregon)
	c.settle()
	if r := c.ref("users").Role(oregon); r.Holder != mumbai || r.Epoch != 2 {
		t.Errorf("the group did not adopt what is left of it: %+v", r)
	}
	if list, err := c.regions[mumbai].ts.Forced(); err != nil || len(list) != 0 {
		t.Errorf("forced, once the group knows: %+v, %v", list, err)
	}
	check(t, c.write(oregon, "users", "u", "append 2"))
	c.wantRead("users", "u", "12")
}

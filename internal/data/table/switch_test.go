package table_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
)

func (c *cluster) switchTo(to antipode.Region, ids ...control.RoleID) {
	c.t.Helper()
	cmd := &control.Switch{To: to, By: "ada"}
	for _, id := range ids {
		t, _ := c.state.TableByID(id.Table)
		cmd.Roles = append(cmd.Roles, control.RoleEpoch{RoleID: id, Epoch: t.Role(id.Home).Epoch})
	}
	c.apply(control.Command{Switch: cmd})
}

func (c *cluster) role(tbl string, home antipode.Region) control.RoleID {
	return control.RoleID{Table: c.ref(tbl).ID, Home: home}
}

// TestSwitchUnderWrites hands a writer and a home over while every region writes:
// no write fails, and none is lost or done twice.
func TestSwitchUnderWrites(t *testing.T) {
	c := three(t)
	keys := keysOf(6)
	for _, k := range keys {
		check(t, c.write(oregon, "catalog", k, "put ."))
		check(t, c.write(oregon, "users", k, "put ."))
	}
	c.exchange()
	turn := make(chan struct{}, 1000)
	var wg sync.WaitGroup
	wrote := make([]map[string]int, 3)
	for i, at := range []antipode.Region{oregon, mumbai, paris} {
		wrote[i] = map[string]int{}
		wg.Go(func() {
			n := 0
			for range turn {
				n++
				k, tbl := keys[n%len(keys)], []string{"catalog", "users"}[n/2%2]
				if err := c.write(at, tbl, k, "append "+string(rune('a'+i))); err != nil {
					t.Errorf("write of %s in %s: %v", k, at, err)
					return
				}
				wrote[i][tbl+k]++
			}
		})
	}
	some := func() {
		for range 6 {
			turn <- struct{}{}
		}
	}
	for _, to := range []antipode.Region{mumbai, paris, oregon} {
		some()
		c.switchTo(to, c.role("catalog", ""), c.role("users", oregon))
		for range 6 {
			c.steps(oregon)
			some()
			c.exchange()
			c.steps()
		}
		c.settle()
		for _, id := range []control.RoleID{c.role("catalog", ""), c.role("users", oregon)} {
			tbl, _ := c.state.TableByID(id.Table)
			if r := tbl.Role(id.Home); r.Holder != to || r.Next != "" {
				t.Errorf("role %v after a switch to %s: %+v", id, to, r)
			}
		}
	}
	close(turn)
	wg.Wait()
	c.exchange()
	for _, tbl := range []string{"catalog", "users"} {
		for _, k := range keys {
			got := c.read(oregon, tbl, k, true)
			c.wantRead(tbl, k, got)
			for i := range wrote {
				n := 0
				for _, r := range got {
					if r == rune('a'+i) {
						n++
					}
				}
				if n != wrote[i][tbl+k] {
					t.Errorf("%s of %s has %d appends of region %d, acknowledged were %d", k, tbl, n, i, wrote[i][tbl+k])
				}
			}
		}
	}
	c.wantStranded("")
}

// TestSwitchCalledOff: a holder keeps its role, and writes, while who is to have
// it can't be reached; until then the switch can be called off.
func TestSwitchCalledOff(t *testing.T) {
	c := three(t)
	id := c.role("catalog", "")
	holder := func() control.Role { return c.ref("catalog").Role("") }
	cut := func(is bool) {
		c.cut[[2]antipode.Region{oregon, mumbai}], c.cut[[2]antipode.Region{mumbai, oregon}] = is, is
	}
	check(t, c.write(oregon, "catalog", "k", "put 1"))
	cut(true)
	c.switchTo(mumbai, id)
	c.settle()
	if r := holder(); r.Holder != oregon || r.Next != mumbai || r.Leaving {
		t.Fatalf("while mumbai can't be reached: %+v", r)
	}
	check(t, c.write(oregon, "catalog", "k", "append 2"))
	c.apply(control.Command{CallOff: &control.CallOff{To: mumbai, Roles: []control.RoleEpoch{{RoleID: id, Epoch: holder().Epoch}}, By: "ada"}})
	cut(false)
	c.settle()
	if r := holder(); r.Holder != oregon || r.Next != "" || r.Epoch != 1 {
		t.Fatalf("called off: %+v", r)
	}
	check(t, c.write(paris, "catalog", "k", "append 3"))

	// The loss of mumbai calls it off, too: the writer goes on under its tenure.
	cut(true)
	c.switchTo(mumbai, id)
	c.settle()
	c.kill(mumbai)
	c.fence(mumbai, paris)
	c.settle()
	if r := holder(); r.Holder != oregon || r.Next != "" || r.Epoch != 1 {
		t.Fatalf("mumbai is lost: %+v", r)
	}
	check(t, c.write(oregon, "catalog", "k", "append 4"))
	c.rejoin(mumbai)
	c.settle()
	c.back(mumbai)
	delete(c.unhold, mumbai)

	// And a switch that nobody calls off goes through once mumbai is reached.
	cut(true)
	c.switchTo(mumbai, id)
	c.settle()
	cut(false)
	c.settle()
	if r := holder(); r.Holder != mumbai || r.Next != "" || r.Epoch != 2 {
		t.Fatalf("switched: %+v", r)
	}
	check(t, c.write(oregon, "catalog", "k", "append 5"))
	c.exchange()
	c.wantRead("catalog", "k", "12345")
}

// TestSwitchKeepsGrants hands the role of a birth arbiter over between a grant
// and its birth.
func TestSwitchKeepsGrants(t *testing.T) {
	c := three(t)
	for _, k := range keysOf(12) {
		c.answer = func(_, to antipode.Region, method string) error {
			if method == "table.birth" && to == oregon {
				return errors.New("connection reset") // granted, and the asker does not know
			}
			return nil
		}
		err := c.write(mumbai, "users", k, "put m")
		c.answer = nil
		if err == nil {
			continue // arbitrated elsewhere
		}
		c.switchTo(paris, c.role("users", oregon))
		c.settle()
		check(t, c.write(paris, "users", k, "put p")) // goes to the home that it was granted to
		h, err := c.regions[paris].ts.Home(context.Background(), c.ref("users"), table.Key{Partition: []byte(k)})
		if err != nil || h != mumbai {
			t.Errorf("home of %s: %s %v", k, h, err)
		}
		c.wantRead("users", k, "p")
		return
	}
	t.Error("no key was arbitrated in oregon")
}

// TestHandoffAndFailover has items on their way between homes when one is lost.
func TestHandoffAndFailover(t *testing.T) {
	for _, arrived := range []bool{false, true} {
		for _, lost := range []antipode.Region{oregon, mumbai} {
			t.Run(fmt.Sprint(lost, arrived), func(t *testing.T) {
				c := three(t)
				for _, k := range keysOf(4) {
					check(t, c.write(oregon, "users", k, "put 1"))
				}
				c.exchange()
				other := mumbai // which survives, or not
				for _, k := range keysOf(4) {
					c.cut[[2]antipode.Region{oregon, other}] = true
					check(t, c.regions[oregon].ts.Move(context.Background(), c.ref("users"), table.Key{Partition: []byte(k)}, other))
					delete(c.cut, [2]antipode.Region{oregon, other})
				}
				if arrived {
					c.exchange()
				} else if lost == mumbai {
					c.carry(oregon, paris)
				}
				c.kill(lost)
				c.fence(lost, paris)
				c.settle()
				for _, k := range keysOf(4) {
					check(t, c.write(paris, "users", k, "append 2"))
					c.exchange()
					c.wantRead("users", k, "12")
				}
				c.rejoin(lost)
				c.settle()
				c.back(lost)
				for _, k := range keysOf(4) {
					check(t, c.write(lost, "users", k, "append 3"))
					c.exchange()
					c.wantRead("users", k, "123")
				}
				if arrived || lost == mumbai {
					c.wantStranded("")
				}
			})
		}
	}
}

// TestBirthsAfterFailover gives birth to the same keys everywhere around a failover.
func TestBirthsAfterFailover(t *testing.T) {
	c := three(t)
	for _, k := range keysOf(10) {
		check(t, c.write(paris, "users", k, "put p"))
	}
	c.exchange()
	for _, k := range keysOf(10) {
		check(t, c.write(paris, "users", k, "delete"))
	}
	// Born again in oregon, of which nobody hears.
	c.isolate(oregon)
	born := map[string]bool{}
	for _, k := range append(keysOf(10), "n0", "n1", "n2", "n3", "n4", "n5") {
		if c.write(oregon, "users", k, "put o") == nil {
			born[k] = true
		}
	}
	if len(born) == 0 {
		t.Fatal("oregon arbitrates none of the keys")
	}
	c.unhold[oregon] = true
	c.fence(oregon, mumbai)
	c.settle()
	for k := range born {
		check(t, c.write(paris, "users", k, "create x"))
		if err := c.write(mumbai, "users", k, "create y"); err == nil {
			t.Errorf("%s was born twice", k)
		}
		c.wantRead("users", k, "x")
	}
	c.rejoin(oregon)
	c.settle()
	c.back(oregon)
	for k := range born {
		c.wantRead("users", k, "x")
	}
	if got := c.stranded(paris, oregon); len(got) != len(born) {
		t.Errorf("stranded births: %q, want %d", got, len(born))
	}
	for _, k := range []string{"z0", "z1", "z2", "z3"} {
		check(t, c.write(oregon, "users", k, "create o")) // for a home whose role mumbai has
		c.wantRead("users", k, "o")
	}
}

// TestFailoverMidSwitch loses the holder after it has released a role in some
// shards, before the other region has them.
func TestFailoverMidSwitch(t *testing.T) {
	for carried := range 2 {
		c := three(t)
		for _, k := range keysOf(20) {
			check(t, c.write(oregon, "catalog", k, "put 1"))
		}
		c.exchange()
		c.switchTo(mumbai, c.role("catalog", ""))
		c.steps(oregon)
		if carried == 1 {
			c.carry(oregon, mumbai)
			c.steps(mumbai)
			check(t, c.write(mumbai, "catalog", "k0", "append m"))
			c.exchange()
		}
		c.kill(oregon)
		c.fence(oregon, mumbai)
		c.settle()
		for _, k := range keysOf(20) {
			check(t, c.write(paris, "catalog", k, "append 2"))
			want := "12"
			if k == "k0" && carried == 1 {
				want = "1m2"
			}
			c.wantRead("catalog", k, want)
		}
		c.rejoin(oregon)
		c.settle()
		c.back(oregon)
		check(t, c.write(oregon, "catalog", "k1", "append 3"))
		c.wantRead("catalog", "k1", "123")
		c.wantStranded("")
	}
}

package table_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode"
)

// TestHistory checks that versions which collide with none leave no rows, and that
// a collision has all its versions, however long ago they were replaced where it is
// found, and though the region has crashed in between.
func TestHistory(t *testing.T) {
	c := newCluster(t, oregon, mumbai, paris)
	c.make("carts", antipode.WriteLocal, nil)
	tick := func() { c.wall = c.wall.Add(time.Millisecond) }
	write := func(at antipode.Region, texts ...string) {
		t.Helper()
		for _, text := range texts {
			tick()
			check(t, c.write(at, "carts", "k", "put "+text))
			check(t, c.write(at, "carts", fmt.Sprintf("other of %s %s", at, text), "put x"))
		}
	}
	rows := func(want int) {
		t.Helper()
		for _, r := range c.regions {
			if n := count(t, r, 'k'); (n == 0) != (want == 0) || n > want {
				t.Errorf("%s has %d rows of versions, want at most %d, none without a collision", r.name, n, want)
			}
		}
	}
	same := func(want ...string) {
		t.Helper()
		for r := range c.regions {
			if diff := cmp.Diff(want, c.collisions(r, "carts")); diff != "" {
				t.Errorf("collisions in %s: %s", r, diff)
			}
		}
	}
	write(oregon, "base")
	c.exchange()
	write(mumbai, "seen")
	c.carry(mumbai, oregon)
	c.carry(oregon, mumbai)
	rows(0)

	// Paris has seen the base only; Oregon and Mumbai meet before they meet Paris.
	write(oregon, "a1", "a2")
	write(mumbai, "b")
	c.start(oregon, c.regions[oregon].fs.CrashClone(crashed))
	c.carry(mumbai, oregon)
	c.carry(oregon, mumbai)
	write(oregon, "after") // has seen all three
	write(mumbai, "b2")
	c.carry(mumbai, oregon)
	write(paris, "p")
	c.exchange()
	same("k: seen a1 a2 b after b2 p -> p final=true")

	write(mumbai, "end")
	c.exchange()
	write(oregon, "x")
	write(mumbai, "y")
	c.exchange()
	same("k: seen a1 a2 b after b2 p -> p final=true", "k: x y -> y final=true")
	rows(20)
}

package table_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/data/table"
)

const (
	oregon = antipode.Region("oregon")
	mumbai = antipode.Region("mumbai")
	paris  = antipode.Region("paris")
)

func (c *cluster) make(name string, writes antipode.WriteMode, edit func(*control.Table)) {
	c.t.Helper()
	t := &control.Table{
		Name: name, Writes: writes, Replicas: c.state.Members(),
		Partition: control.KeyAttribute{Name: "id", Type: "S"}, HomeBy: antipode.HomeCreator,
	}
	switch writes {
	case antipode.WriteGlobal:
		t.Writer = oregon
	case antipode.WriteLocal:
		t.Rule = antipode.RuleLastWriter
	case antipode.WritePartitioned:
	}
	if edit != nil {
		edit(t)
	}
	c.apply(control.Command{CreateTable: t})
}

func TestLocalCollision(t *testing.T) {
	c := newCluster(t, oregon, mumbai, paris)
	c.make("carts", antipode.WriteLocal, nil)
	check(t, c.write(oregon, "carts", "k", "put base"))
	c.exchange()
	check(t, c.write(oregon, "carts", "k", "put a"))
	c.wall = c.wall.Add(time.Millisecond)
	check(t, c.write(mumbai, "carts", "k", "put b"))
	c.wall = c.wall.Add(time.Millisecond)
	check(t, c.write(paris, "carts", "k", "put c"))
	check(t, c.write(paris, "carts", "other", "put x"))
	c.exchange()
	check(t, c.write(mumbai, "carts", "k", "put after")) // has seen all: no collision
	c.exchange()
	for _, r := range []antipode.Region{oregon, mumbai, paris} {
		if got := c.read(r, "carts", "k", false); got != "after" {
			t.Errorf("%s reads %q", r, got)
		}
		want := []string{"k: a b c -> c final=true"}
		if diff := cmp.Diff(want, c.collisions(r, "carts")); diff != "" {
			t.Errorf("collisions in %s: %s", r, diff)
		}
	}
}

func TestGlobalForwards(t *testing.T) {
	c := newCluster(t, oregon, mumbai)
	c.make("catalog", antipode.WriteGlobal, nil)
	check(t, c.write(mumbai, "catalog", "k", "put a"))
	if got := c.read(mumbai, "catalog", "k", false); got != "a" {
		t.Errorf("local read after a forwarded write: %q", got)
	}
	err := c.write(mumbai, "catalog", "k", "create b")
	var refused *table.Error
	if !errors.As(err, &refused) || refused.Code != "ConditionalCheckFailedException" || string(refused.Item) != "a" {
		t.Errorf("refusal from afar: %v", err)
	}
	c.cut[[2]antipode.Region{mumbai, oregon}] = true
	if err := c.write(mumbai, "catalog", "k", "put c"); !errors.Is(err, table.ErrUnavailable) {
		t.Errorf("write without the writer: %v", err)
	}
	if got := c.read(mumbai, "catalog", "k", false); got != "a" {
		t.Errorf("read while cut off: %q", got)
	}
}

func TestPartitionedHomes(t *testing.T) {
	c := newCluster(t, oregon, mumbai, paris)
	c.make("users", antipode.WritePartitioned, nil)
	for _, k := range []string{"a", "b", "c", "d", "e", "f"} {
		check(t, c.write(mumbai, "users", k, "put 1"))
	}
	// Unknown in oregon yet (nothing exchanged beyond what answers brought): its
	// arbiter knows, so the second write goes to the same home.
	for _, k := range []string{"a", "b", "c", "d", "e", "f"} {
		check(t, c.write(oregon, "users", k, "append 2"))
		tbl, err := c.regions[oregon].ts.Table("users")
		check(t, err)
		home, err := c.regions[oregon].ts.Home(context.Background(), tbl, table.Key{Partition: []byte(k)})
		if err != nil || home != mumbai {
			t.Errorf("home of %s: %s %v", k, home, err)
		}
		if got := c.read(paris, "users", k, true); got != "12" {
			t.Errorf("consistent read of %s: %q", k, got)
		}
	}
	tbl, err := c.regions[oregon].ts.Table("users")
	check(t, err)
	check(t, c.regions[oregon].ts.Move(context.Background(), tbl, table.Key{Partition: []byte("a")}, paris))
	c.exchange()
	check(t, c.write(oregon, "users", "a", "append 3"))
	if home, err := c.regions[oregon].ts.Home(context.Background(), tbl, table.Key{Partition: []byte("a")}); err != nil || home != paris {
		t.Errorf("home after the move: %s %v", home, err)
	}
	c.exchange()
	// Deleted at home, born again elsewhere.
	check(t, c.write(oregon, "users", "a", "delete"))
	check(t, c.write(oregon, "users", "a", "create again"))
	if home, err := c.regions[oregon].ts.Home(context.Background(), tbl, table.Key{Partition: []byte("a")}); err != nil || home != oregon {
		t.Errorf("home after rebirth: %s %v", home, err)
	}
	c.exchange()
	for r := range c.regions {
		if got := c.read(r, "users", "a", false); got != "again" {
			t.Errorf("%s reads %q", r, got)
		}
		if got := c.collisions(r, "users"); got != nil {
			t.Errorf("two timelines in %s: %v", r, got)
		}
	}
}

func TestAdaptiveMove(t *testing.T) {
	c := newCluster(t, oregon, mumbai)
	c.make("users", antipode.WritePartitioned, nil)
	check(t, c.write(oregon, "users", "k", "put x"))
	c.exchange()
	for range 12 {
		c.wall = c.wall.Add(500 * time.Millisecond)
		check(t, c.write(mumbai, "users", "k", "append y"))
	}
	tbl, err := c.regions[oregon].ts.Table("users")
	check(t, err)
	c.exchange()
	if home, err := c.regions[oregon].ts.Home(context.Background(), tbl, table.Key{Partition: []byte("k")}); err != nil || home != mumbai {
		t.Errorf("home after a run of writes from mumbai: %s %v", home, err)
	}
	if got := c.read(oregon, "users", "k", true); got != "xyyyyyyyyyyyy" {
		t.Errorf("item after the move: %q", got)
	}
}

func TestSweep(t *testing.T) {
	c := newCluster(t, oregon, mumbai)
	c.make("carts", antipode.WriteLocal, nil)
	check(t, c.write(oregon, "carts", "gone", "put a"))
	check(t, c.write(oregon, "carts", "hot", "put a"))
	check(t, c.write(mumbai, "carts", "hot", "put b"))
	c.exchange()
	check(t, c.write(mumbai, "carts", "gone", "delete"))
	c.exchange()
	before := c.collisions(oregon, "carts")
	c.wall = c.wall.Add(25 * time.Hour)
	for _, r := range c.regions {
		check(t, r.ts.Sweep(context.Background()))
		if n := count(t, r, 'i'); n != 1 {
			t.Errorf("%s keeps %d item rows, want 1", r.name, n)
		}
		if n := count(t, r, 'j'); n != 0 {
			t.Errorf("%s keeps %d journal entries, want none", r.name, n)
		}
		if n := count(t, r, 'k'); n != 2 {
			t.Errorf("%s keeps %d versions, want the two that collided", r.name, n)
		}
		if diff := cmp.Diff(before, c.collisions(r.name, "carts")); diff != "" {
			t.Errorf("collisions after the cut in %s: %s", r.name, diff)
		}
	}
	// A restart goes on where the journal was cut.
	fs := c.regions[oregon].fs.CrashClone(crashed)
	c.start(oregon, fs)
	check(t, c.write(oregon, "carts", "gone", "create new"))
	c.exchange()
	if got := c.read(mumbai, "carts", "gone", false); got != "new" {
		t.Errorf("after cut and restart: %q", got)
	}
}

// TestSweepBesideTombstone has the write beside a tombstone become stable last,
// so that it is the one that has to let go of both.
func TestSweepBesideTombstone(t *testing.T) {
	c := newCluster(t, oregon, mumbai, paris)
	c.make("carts", antipode.WriteLocal, nil)
	check(t, c.write(oregon, "carts", "x", "put a"))
	check(t, c.write(oregon, "carts", "other", "put a"))
	c.exchange()
	check(t, c.write(mumbai, "carts", "x", "put b"))
	c.wall = c.wall.Add(time.Second)
	check(t, c.write(oregon, "carts", "x", "delete"))
	c.carry(oregon, paris)
	c.carry(oregon, mumbai)
	c.carry(mumbai, oregon)
	at := c.regions[oregon]
	for _, want := range []int{2, 1} {
		check(t, at.ts.Sweep(context.Background()))
		if n := count(t, at, 'i'); n != want {
			t.Errorf("oregon keeps %d item rows, want %d", n, want)
		}
		c.carry(mumbai, paris)
		c.carry(oregon, paris) // and says that it holds mumbai's write
	}
}

func count(t testing.TB, r *region, prefix byte) (n int) {
	t.Helper()
	it, err := r.store.Iterate([]byte{prefix}, []byte{prefix + 1})
	check(t, err)
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	check(t, it.Close())
	return n
}

// TestPrefixHomeAfterMove checks that a key that names its home is born there
// again after the item was moved away and removed, and nowhere else.
func TestPrefixHomeAfterMove(t *testing.T) {
	c := newCluster(t, oregon, mumbai)
	c.make("users", antipode.WritePartitioned, func(t *control.Table) { t.HomeBy = antipode.HomePrefix })
	key := "at-oregon#1" // the code of its location stands for the region
	check(t, c.write(mumbai, "users", key, "put 1"))
	tbl, err := c.regions[oregon].ts.Table("users")
	check(t, err)
	check(t, c.regions[oregon].ts.Move(context.Background(), tbl, table.Key{Partition: []byte(key)}, mumbai))
	c.exchange()
	check(t, c.write(mumbai, "users", key, "delete"))
	check(t, c.write(mumbai, "users", key, "create 2"))
	if home, err := c.regions[oregon].ts.Home(context.Background(), tbl, table.Key{Partition: []byte(key)}); err != nil || home != oregon {
		t.Errorf("home after the rebirth: %s %v", home, err)
	}
	c.exchange()
	for r := range c.regions {
		if got := c.read(r, "users", key, true); got != "2" {
			t.Errorf("%s reads %q", r, got)
		}
	}
	err = c.write(mumbai, "users", "nowhere", "put 1")
	var refused *table.Error
	if !errors.As(err, &refused) || refused.Code != "ValidationException" {
		t.Errorf("a key that names no region: %v", err)
	}
}

// TestHomeBeforeArrival asks a region for the home of an item whose birth has
// not arrived there.
func TestHomeBeforeArrival(t *testing.T) {
	c := newCluster(t, oregon, mumbai)
	c.make("users", antipode.WritePartitioned, nil)
	for _, key := range []string{"a", "b", "c", "d", "e", "f"} { // some have oregon as their arbiter
		check(t, c.write(mumbai, "users", key, "put 1"))
		tbl, err := c.regions[oregon].ts.Table("users")
		check(t, err)
		if home, err := c.regions[oregon].ts.Home(context.Background(), tbl, table.Key{Partition: []byte(key)}); err != nil || home != mumbai {
			t.Errorf("home of %s as oregon knows it: %s %v", key, home, err)
		}
	}
}

package table_test

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/data/table"
)

// TestConsistentReadBeforeHandoffArrives checks that a region to which an item
// was handed does not answer a consistent read before it has received the item,
// though the arbiter says already that the item is its own.
func TestConsistentReadBeforeHandoffArrives(t *testing.T) {
	const paris = antipode.Region("paris")
	c := newCluster(t, oregon, mumbai, paris)
	c.make("users", antipode.WritePartitioned, nil)
	tbl, err := c.regions[oregon].ts.Table("users")
	check(t, err)
	cut := func(on bool) {
		for _, r := range []antipode.Region{oregon, mumbai} {
			c.cut[[2]antipode.Region{r, paris}] = on
		}
	}
	for i := range 4 { // whoever the arbiter is
		key := "user" + strconv.Itoa(i)
		check(t, c.write(oregon, "users", key, "put 1"))
		cut(true)
		check(t, c.write(oregon, "users", key, "put 2"))
		check(t, c.regions[oregon].ts.Move(context.Background(), tbl, table.Key{Partition: []byte(key)}, paris))
		c.exchange() // mumbai knows of it, paris doesn't
		cut(false)
		c.held = true
		b, err := c.regions[paris].ts.Get(context.Background(), tbl, table.Key{Partition: []byte(key)}, true, nil)
		c.held = false
		if !errors.Is(err, table.ErrUnavailable) {
			t.Errorf("%s reads %q, %v", key, b, err)
		}
		c.exchange()
		if got := c.read(paris, "users", key, true); got != "2" {
			t.Errorf("%s reads %q once it has arrived", key, got)
		}
	}
}

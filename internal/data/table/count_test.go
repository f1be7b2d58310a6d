package table_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/antipode-io/antipode"
)

// A table that takes long to walk is counted a piece a call, so that nobody who
// asks waits for all of it.
func TestCountPiecewise(t *testing.T) {
	c := newCluster(t, oregon)
	c.make("carts", antipode.WriteLocal, nil)
	const items = 1000
	put := func(from, to int) {
		for i := from; i < to; i++ {
			check(t, c.write(oregon, "carts", fmt.Sprintf("k%04d", i), "put x"))
		}
	}
	put(0, items)
	ts := c.regions[oregon].ts
	tbl, err := ts.Table("carts")
	check(t, err)
	count := func() int64 {
		n, size, err := ts.Count(t.Context(), tbl)
		check(t, err)
		if n != size {
			t.Errorf("%d items of a byte each have %d bytes", n, size)
		}
		return n
	}
	c.step = time.Second // each look at the clock takes as long
	var seen []int64
	for range 4 {
		seen = append(seen, count())
	}
	if want := []int64{256, 512, 768, items}; fmt.Sprint(seen) != fmt.Sprint(want) {
		t.Errorf("counted %v, want %v", seen, want)
	}
	put(items, items+1)
	if got := count(); got != items {
		t.Errorf("counted again too soon: %d", got)
	}
	c.step = 0
	c.wall = c.wall.Add(time.Hour)
	if got := count(); got != items+1 {
		t.Errorf("counted %d, want %d", got, items+1)
	}
}

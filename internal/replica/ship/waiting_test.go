package ship

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode"
)

// TestFullOfWhatWaits checks that entries that fill the room while they wait
// for others' do not keep out the very entries that they wait for, not even
// through a third region's.
func TestFullOfWhatWaits(t *testing.T) {
	four := func(c *Config) {
		c.Members = func(antipode.Shard) []antipode.Region { return append([]antipode.Region{"lagos"}, regions...) }
	}
	small := func(c *Config) { four(c); c.WaitingBytes = 1 }
	a, b, c, d := newMember(t, "oregon", four), newMember(t, "mumbai", four), newMember(t, "paris", four), newMember(t, "lagos", small)
	d1 := a.write(0, "1")
	ab, ac, bc := connect(t, a, b, 0), connect(t, a, c, 0), connect(t, b, c, 0)
	defer ab.close()
	defer ac.close()
	defer bc.close()
	ab.flow()
	d2 := b.write(0, "2") // has seen 1
	ac.flow()
	bc.flow()
	d3, d4 := c.write(0, "3"), c.write(0, "4") // have seen both
	cd, bd, ad := connect(t, c, d, 0), connect(t, b, d, 0), connect(t, a, d, 0)
	for _, w := range []*wire{cd, bd, ad} { // the latest first
		defer w.close()
		for range 3 {
			w.acks()
			w.flow()
		}
	}
	for range 3 {
		cd.acks()
		cd.flow()
	}
	if diff := cmp.Diff([]antipode.Dot{d1, d2, d3, d4}, d.applied); diff != "" {
		t.Errorf("lagos applied: %s", diff)
	}
}

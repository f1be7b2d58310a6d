package region

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/antipode-io/antipode/internal/api/operator"
	"github.com/antipode-io/antipode/internal/hlc"
)

// TestSkewedClock: a region whose clock is set ahead soon refuses writes, one
// whose clock is behind goes on, and both are well once the clock is right.
func TestSkewedClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.ready()
		time.Sleep(3 * time.Second) // until the clocks have been compared
		oregon := w.regions["oregon"]
		for _, skew := range []time.Duration{5 * time.Second, time.Hour} {
			if err := oregon.SkewClock(skew); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
			if err := w.put("oregon", "carts", "ahead"); !errors.Is(err, hlc.ErrAhead) {
				t.Errorf("a write at a region whose clock is %v ahead: %v", skew, err)
			}
			if err := w.put("mumbai", "carts", "right"); err != nil {
				t.Errorf("a write elsewhere: %v", err)
			}
		}
		for _, skew := range []time.Duration{-time.Hour, 0} {
			if err := oregon.SkewClock(skew); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
			if err := w.put("oregon", "carts", "k"); err != nil {
				t.Errorf("a write at a region whose clock is off by %v: %v", skew, err)
			}
		}
		if st, err := oregon.Status(t.Context()); err != nil || st.Clock.SkewMS != 0 || st.Clock.Refuses != "" {
			t.Errorf("status says %+v, %v", st.Clock, err)
		}
		oregon.cfg.WAN = "" // as on a real network
		if err := oregon.SkewClock(time.Second); !errors.Is(err, operator.ErrConflict) {
			t.Errorf("the clock of a real region was set: %v", err)
		}
	})
}

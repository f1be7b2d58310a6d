package hlc

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/antipode-io/antipode"
)

func TestCheck(t *testing.T) {
	const rtt = 200 * time.Millisecond
	type peer struct {
		name  antipode.Region
		ahead time.Duration // this clock ahead of it, in truth
	}
	for _, tc := range []struct {
		name   string
		peers  []peer
		refuse bool
	}{
		{"no peers", nil, false},
		{"agreeing", []peer{{"mumbai", 0}}, false},
		{"ahead within the bound", []peer{{"mumbai", 450 * time.Millisecond}}, false},
		{"ahead, but the round trip may explain it", []peer{{"mumbai", 550 * time.Millisecond}}, false},
		{"ahead of one peer", []peer{{"mumbai", 700 * time.Millisecond}}, true},
		{"ahead of all", []peer{{"frankfurt", time.Hour}, {"mumbai", 700 * time.Millisecond}}, true},
		{"one agrees", []peer{{"frankfurt", 0}, {"mumbai", time.Hour}}, false},
		{"behind", []peer{{"mumbai", -time.Hour}}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := wallAt(start)
			c := newClock(t, Config{Wall: w.now})
			for _, p := range tc.peers {
				// The peer read its clock half a round trip ago.
				c.Observe(p.name, w.now().Add(-p.ahead-rtt/2), rtt)
			}
			err := c.Check()
			if errors.Is(err, ErrAhead) != tc.refuse || (err != nil) != tc.refuse {
				t.Fatalf("Check() = %v, refuse %v wanted", err, tc.refuse)
			}
			for _, p := range tc.peers {
				if tc.refuse && !strings.Contains(err.Error(), string(p.name)) {
					t.Errorf("%q does not name %s", err, p.name)
				}
			}
		})
	}
}

func TestCheckMessage(t *testing.T) {
	w := wallAt(start)
	c := newClock(t, Config{Wall: w.now})
	c.Observe("mumbai", w.now().Add(-time.Hour-110*time.Millisecond), 220*time.Millisecond)
	c.Observe("frankfurt", w.now().Add(-2*time.Second-70*time.Millisecond), 140*time.Millisecond)
	want := "clock ahead of its peers: this clock is 2s ahead of frankfurt (±70ms), 1h0m0s ahead of mumbai (±110ms), and the bound is 500ms; " +
		"writes here are refused, since their stamps would win over writes made later elsewhere; set this machine's clock and see that NTP keeps it " +
		"(chronyc tracking, timedatectl), or the others' if it is they that are wrong"
	if err := c.Check(); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestStalePeersDoNotCount(t *testing.T) {
	w := wallAt(start)
	c := newClock(t, Config{Wall: w.now})
	c.Observe("frankfurt", w.now(), 0) // agrees
	w.move(20 * time.Second)
	c.Observe("mumbai", w.now().Add(-time.Minute), 0)
	if err := c.Check(); err != nil {
		t.Errorf("frankfurt still vouches for this clock: %v", err)
	}
	w.move(11 * time.Second)
	if err := c.Check(); !errors.Is(err, ErrAhead) {
		t.Errorf("only mumbai is live: %v", err)
	}
	c.Forget("mumbai")
	if err := c.Check(); err != nil {
		t.Errorf("nobody is left: %v", err)
	}
	if got := len(c.Peers()); got != 1 {
		t.Errorf("%d peers, want frankfurt", got)
	}
}

// TestJumpsAreNoticed: the wall clock is set while running. Old comparisons,
// though of a shorter round trip, must not hide it.
func TestJumpsAreNoticed(t *testing.T) {
	w, truth := wallAt(start), wallAt(start)
	c := newClock(t, Config{Wall: w.now})
	tick := func(rtt time.Duration) {
		w.move(time.Second)
		truth.move(time.Second)
		c.Observe("mumbai", truth.now().Add(-rtt/2), rtt)
	}
	for range 10 {
		tick(20 * time.Millisecond)
	}
	for _, jump := range []time.Duration{time.Hour, 5 * time.Second} {
		w.move(jump)
		tick(220 * time.Millisecond)
		if err := c.Check(); !errors.Is(err, ErrAhead) {
			t.Errorf("%v forward: %v", jump, err)
		}
		w.move(-jump)
		tick(220 * time.Millisecond)
		if err := c.Check(); err != nil {
			t.Errorf("set right again: %v", err)
		}
	}
}

// TestSampleAges: a comparison gets less certain with time, and only with that.
func TestSampleAges(t *testing.T) {
	here := time.Now()
	for _, at := range []time.Time{here, here.Round(0)} { // with and without a monotonic reading
		got := sample{peer: "mumbai", at: at, offset: time.Second}.now(at.Add(time.Hour))
		if got.offset != time.Second || got.err != 720*time.Millisecond {
			t.Errorf("an hour later: offset %v ±%v, want 1s ±720ms", got.offset, got.err)
		}
	}
}

func TestUncertainty(t *testing.T) {
	w := wallAt(start)
	c := newClock(t, Config{Wall: w.now})
	if got := c.Uncertainty(); got != Unknown {
		t.Errorf("before any peer: %v", got)
	}
	c.Observe("mumbai", w.now().Add(-110*time.Millisecond), 220*time.Millisecond)
	if got := c.Uncertainty(); got != 110*time.Millisecond {
		t.Errorf("clocks that agree, 220 ms apart: %v", got)
	}
	c.Observe("frankfurt", w.now().Add(200*time.Millisecond), 20*time.Millisecond)
	if got := c.Uncertainty(); got != 220*time.Millisecond {
		t.Errorf("frankfurt 210 ms ahead ±10: %v", got)
	}
	w.move(time.Hour)
	if got, want := c.Uncertainty(), 220*time.Millisecond+720*time.Millisecond; got != want {
		t.Errorf("an hour cut off: %v, want %v", got, want)
	}
}

// TestEstimateHoldsTheTruth: whatever the delays in the two directions, the
// true offset lies within what Peers says, and Check refuses no clock that is
// within the bound, and every one that is beyond it by more than a round trip.
func TestEstimateHoldsTheTruth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		skew := time.Duration(rapid.IntRange(-3000, 3000).Draw(t, "skew")) * time.Millisecond // this minus peer
		w, truth := wallAt(start+skew.Milliseconds()), wallAt(start)
		c, err := New(Config{Wall: w.now})
		if err != nil {
			t.Fatal(err)
		}
		best := time.Hour
		for range rapid.IntRange(1, 20).Draw(t, "n") {
			there := time.Duration(rapid.IntRange(0, 300).Draw(t, "there")) * time.Millisecond
			back := time.Duration(rapid.IntRange(0, 300).Draw(t, "back")) * time.Millisecond
			for _, d := range []*fakeWall{w, truth} {
				d.move(there)
			}
			theirs := truth.now()
			for _, d := range []*fakeWall{w, truth} {
				d.move(back)
			}
			best = min(best, there+back)
			c.Observe("mumbai", theirs, there+back)
		}
		p := c.Peers()[0]
		if off := (p.Offset + skew).Abs(); off > p.Uncertainty {
			t.Fatalf("offset %v ±%v, in truth %v", p.Offset, p.Uncertainty, -skew)
		}
		if got := c.Uncertainty(); got < skew.Abs() {
			t.Fatalf("Uncertainty() = %v, the clocks differ by %v", got, skew)
		}
		refused := c.Check() != nil
		if refused && skew <= 500*time.Millisecond {
			t.Fatalf("refused at a skew of %v", skew)
		}
		if !refused && skew > 500*time.Millisecond+best+10*time.Millisecond {
			t.Fatalf("not refused at a skew of %v, compared within %v", skew, best)
		}
	})
}

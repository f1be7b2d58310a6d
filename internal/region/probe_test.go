package region

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/antipode-io/antipode/internal/api/operator"
)

// TestProbe: each round trip takes what the emulated link is set to, and a link
// that is cut gives no samples but a reason.
func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		w.ready()
		const delay = 50 * time.Millisecond
		oregon := w.regions["oregon"]
		if err := oregon.DelayLink("mumbai", delay); err != nil {
			t.Fatal(err)
		}
		back := w.regions["mumbai"].spec // its own direction stays as the places say
		least := inMillis(delay + w.spec.OneWay(back.Name, "oregon"))
		got, err := oregon.Probe(t.Context(), 3)
		if err != nil || len(got.Links) != 2 || got.Links[1].To != "mumbai" {
			t.Fatalf("%+v, %v", got, err)
		}
		l := got.Links[1]
		if !l.Emulated || l.DelayMS != inMillis(delay) || len(l.SamplesMS) != 3 || l.Error != "" {
			t.Errorf("%+v", l)
		}
		for _, ms := range l.SamplesMS {
			if ms < least || ms > least+5 {
				t.Errorf("a round trip took %v ms; the link is set to %v", ms, least)
			}
		}
		if err := oregon.CutLink("mumbai", operator.Both); err != nil {
			t.Fatal(err)
		}
		got, err = oregon.Probe(t.Context(), 3)
		if err != nil || len(got.Links[1].SamplesMS) != 0 || got.Links[1].Error == "" || len(got.Links[0].SamplesMS) != 3 {
			t.Errorf("with a cut: %+v, %v", got, err)
		}
		if err := oregon.HealLink("mumbai"); err != nil {
			t.Fatal(err)
		}
	})
}

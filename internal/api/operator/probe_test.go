package operator

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestProbe(t *testing.T) {
	c, _ := serve(t, &fake{})
	got, err := c.Probe(t.Context(), 3)
	want := ProbeStatus{Region: "oregon", Links: []LinkProbe{{To: "mumbai", SamplesMS: []float64{0, 0, 0}, Emulated: true, DelayMS: 111}}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v; -want +got\n%s", err, diff)
	}
	for _, n := range []int{0, -1, maxSamples + 1} {
		if _, err := c.Probe(t.Context(), n); !errors.Is(err, ErrInvalid) {
			t.Errorf("a probe with %d samples: %v", n, err)
		}
	}
}

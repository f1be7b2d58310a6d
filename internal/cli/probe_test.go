package cli

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/operator"
	"github.com/antipode-io/antipode/internal/spec"
)

// TestProbeReport: the samples of both ends are one set, and a link that nobody
// could measure says so.
func TestProbeReport(t *testing.T) {
	at := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	got := newProbeReport(spec.Builtin(), []operator.ProbeStatus{
		{Region: "oregon", Links: []operator.LinkProbe{
			{To: "mumbai", SamplesMS: []float64{230, 222, 224}},
			{To: "frankfurt", SamplesMS: []float64{}, Error: "it is lost"},
		}},
		{Region: "frankfurt", Links: []operator.LinkProbe{{To: "oregon", SamplesMS: []float64{140}, Emulated: true}}},
	}, at)
	want := &probeReport{At: at, Emulated: true, Pairs: []probePair{
		{A: "oregon", B: "mumbai", Samples: 3, MinMS: 222, P50MS: 224, P99MS: 230, TableMS: 221.6, FloorMS: 126.855},
		{A: "oregon", B: "frankfurt", Samples: 1, MinMS: 140, P50MS: 140, P99MS: 140, Emulated: true, TableMS: 136, Estimated: true, FloorMS: 82.5, Error: "it is lost"},
		{A: "mumbai", B: "frankfurt", TableMS: 129, FloorMS: 65.5, Error: "neither of them could be asked from here"},
	}, matrix: map[[2]antipode.Region]float64{{"oregon", "mumbai"}: 224, {"frankfurt", "oregon"}: 140}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(probeReport{}), cmpopts.EquateApprox(0, 1)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestQuantiles(t *testing.T) {
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(100-i))
	}
	if least, p50, p99 := quantiles(hundred); least != 1 || p50 != 50 || p99 != 99 {
		t.Errorf("of 1 to 100: %v, %v, %v", least, p50, p99)
	}
	if least, p50, p99 := quantiles([]float64{7}); least != 7 || p50 != 7 || p99 != 7 {
		t.Errorf("of one: %v, %v, %v", least, p50, p99)
	}
}

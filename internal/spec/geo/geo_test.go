package geo

import (
	"math"
	"slices"
	"testing"
	"time"
)

func place(t *testing.T, code string) Place {
	t.Helper()
	p, ok := Lookup(code)
	if !ok {
		t.Fatalf("%s is not in the table", code)
	}
	return p
}

func TestRTT(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want time.Duration
	}{
		{"us-west-2", "ap-south-1", 221600 * time.Microsecond},
		{"ap-south-1", "us-west-2", 221600 * time.Microsecond},
		{"ap-south-1", "eu-central-1", 129 * time.Millisecond},
		{"eastus", "japaneast", 158 * time.Millisecond},
		{"us-west-2", "us-west-2", 4 * time.Millisecond},
	} {
		if got := RTT(place(t, tc.a), place(t, tc.b)); got != tc.want {
			t.Errorf("RTT(%s, %s) = %v, want %v", tc.a, tc.b, got, tc.want)
		}
	}
	oregon, frankfurt := place(t, "us-west-2"), place(t, "eu-central-1")
	if _, ok := Measured(oregon, frankfurt); ok {
		t.Fatal("us-west-2 to eu-central-1 was not measured; pick another pair for the estimate")
	}
	want := 4*time.Millisecond + time.Duration(1.6*Distance(oregon, frankfurt)/100*float64(time.Millisecond))
	if got := RTT(oregon, frankfurt); (got - want).Abs() > time.Microsecond {
		t.Errorf("estimate %v, want %v", got, want)
	}
	if got := OneWay(oregon, frankfurt); got != RTT(oregon, frankfurt)/2 {
		t.Errorf("OneWay = %v", got)
	}
}

func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b Place
		km   float64
	}{
		{Place{}, Place{}, 0},
		{Place{}, Place{Longitude: 180}, 20015},
		{Place{Latitude: 90}, Place{Latitude: -90}, 20015},
		{Place{Latitude: 51.51, Longitude: -0.13}, Place{Latitude: 40.71, Longitude: -74.01}, 5570},
		{Place{Longitude: 179}, Place{Longitude: -179}, 222},
	} {
		if got := Distance(tc.a, tc.b); math.Abs(got-tc.km) > tc.km/500+0.1 {
			t.Errorf("Distance(%v, %v) = %.0f km, want %.0f", tc.a, tc.b, got, tc.km)
		}
	}
	if got := Floor(Place{}, Place{Longitude: 180}); got.Round(time.Millisecond) != 200*time.Millisecond {
		t.Errorf("to the antipode and back: %v, want 200ms", got)
	}
}

// TestTables: each measured pair is of known places, once, and no quicker than
// light; the estimate is in the right region.
func TestTables(t *testing.T) {
	codes := Codes()
	if sorted := slices.Sorted(slices.Values(codes)); len(slices.Compact(sorted)) != len(codes) {
		t.Error("a region is listed twice")
	}
	seen := map[[2]string]bool{}
	for _, m := range measurements() {
		a, b := place(t, m.a), place(t, m.b)
		if seen[[2]string{m.a, m.b}] || seen[[2]string{m.b, m.a}] {
			t.Errorf("%s %s is listed twice", m.a, m.b)
		}
		seen[[2]string{m.a, m.b}] = true
		if rtt, floor := RTT(a, b), Floor(a, b); rtt < floor || rtt > 7*floor {
			t.Errorf("%s %s: measured %v, the floor is %v", m.a, m.b, rtt, floor)
		}
	}
	for _, p := range places() {
		if math.Abs(p.Latitude) > 90 || math.Abs(p.Longitude) > 180 || p.City == "" {
			t.Errorf("%+v is nowhere", p)
		}
	}
}

package plan_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/ops/drill"
	"github.com/antipode-io/antipode/internal/ops/plan"
	"github.com/antipode-io/antipode/internal/spec"
)

const accounts = `regions:
  - {name: oregon, location: us-west-2}
  - {name: mumbai, location: ap-south-1}
  - {name: frankfurt, location: eu-central-1, witness: true}
needs:
  data:
    - name: accounts
      why: [continuity]
      rpo: 1s
      rto: 30s
      invariants: [unique-names]
`

// record is a drill that was run with a failover, of the table written in one place.
func record(t *testing.T, day int, passed bool, recovery, rpo float64, sites ...antipode.Region) *drill.Record {
	t.Helper()
	kind, ok := drill.KindOf(drill.RegionDown)
	if !ok {
		t.Fatal("there is no such drill")
	}
	seen := drill.Millis(rpo)
	f := drill.Figures{Table: "antipode-drill-global", Writes: antipode.WriteGlobal, RPOSeen: &seen}
	if recovery >= 0 {
		f.Recovery = &drill.Recovery{Total: drill.Millis(recovery)}
	}
	at := time.Date(2026, 11, day, 7, 0, 0, 0, time.UTC)
	r := &drill.Record{ID: at.Format("20060102"), Kind: kind, Region: sites[0], Started: at, Verdict: drill.Verdict{Passed: passed, Figures: []drill.Figures{f}}}
	for _, s := range sites {
		r.Sites = append(r.Sites, drill.SiteRecord{Name: s})
	}
	return r
}

func TestDrillsChangeTheReport(t *testing.T) {
	in := input(t, accounts)
	advise := func(drills ...*drill.Record) plan.Answer {
		in.Drills = drills
		return plan.Advise(in).Data[0]
	}
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-4 {
			t.Errorf("%s is %.5f, want %.5f", what, got, want)
		}
	}
	a := advise()
	if a.RPO.State != plan.Unproven || a.RTO.State != plan.Unproven || a.Availability.Proven {
		t.Errorf("nothing was drilled: %+v %+v %+v", a.RPO, a.RTO, a.Availability)
	}
	// 0.6 × 65 s + 0.4 × 525.6 min + 0.2 × 65 s = 0.65 + 210.24 + 0.2167 = 211.1067 min of 525,600.
	near("availability without drills", a.Availability.Today, 100-100*211.106667/525600)

	a = advise(record(t, 3, true, 3900, 96, "oregon", "mumbai"), record(t, 1, true, 4100, 50, "oregon", "mumbai"), record(t, 2, true, 4000, 50, "mumbai", "oregon"))
	if a.RPO.State != plan.Proven || *a.RPO.Measured != spec.Duration(96*time.Millisecond) || a.RPO.Drill != "20261103" || a.RPO.Date.Day() != 3 {
		t.Errorf("the latest drill saw 96 ms: %+v", a.RPO)
	}
	if a.RTO.State != plan.Proven || *a.RTO.Measured != spec.Duration(3900*time.Millisecond) {
		t.Errorf("the latest drill took 3.9 s: %+v", a.RTO)
	}
	// p = (3 + 0.6) / 4 = 0.9; a switch takes 3.9 s and a minute until users are there:
	// 0.9 × 1.065 + 0.1 × 525.6 + 0.2 × 1.065 = 53.7315 min.
	near("availability after three drills", a.Availability.Today, 100-100*53.7315/525600)
	if d := a.Drills[0]; d.Name != drill.RegionDown || d.Last == nil || d.Last.Day() != 3 || !d.Passed || d.Command != "antipode drill run region-down --region oregon" {
		t.Errorf("the drill that was run: %+v", d)
	}

	a = advise(record(t, 1, true, 3900, 96, "oregon", "mumbai"), record(t, 2, false, -1, 2000, "oregon", "mumbai"))
	if a.RPO.State != plan.Broken || a.RTO.State != plan.Broken || a.RTO.Measured != nil || a.RTO.Note == "" {
		t.Errorf("the latest drill lost 2 s and nothing took over: %+v %+v", a.RPO, a.RTO)
	}
	// p = (1 + 0.6) / 3.
	near("availability after one of two", a.Availability.Today, 100-100*((1.6/3+0.2)*1.065+(1-1.6/3)*525.6)/525600)

	if a = advise(record(t, 1, true, 3900, 96, "oregon", "tokyo")); a.RPO.State != plan.Unproven {
		t.Errorf("a drill on other regions proves nothing: %+v", a.RPO)
	}
	other := record(t, 1, true, 3900, 96, "oregon", "mumbai")
	other.Figures[0].Writes = antipode.WritePartitioned
	if a = advise(other); a.RPO.State != plan.Unproven {
		t.Errorf("a drill of another kind of table proves nothing: %+v", a.RPO)
	}
	cut := record(t, 1, true, 3900, 96, "oregon", "mumbai")
	cut.Kind, _ = drill.KindOf(drill.LinkCut)
	if a = advise(cut); a.RTO.State != plan.Unproven || a.Availability.Proven {
		t.Errorf("a cut link is no failover: %+v", a.RTO)
	}
}

// TestStandbyProof: the data of a standby can be proven, its machines not.
// TestLocalProof: where every region accepts writes there is nothing to recover,
// and what passes between two writes of a drill's load is no outage.
func TestLocalProof(t *testing.T) {
	in := input(t, `regions:
  - {name: oregon, location: us-west-2}
  - {name: mumbai, location: ap-south-1}
  - {name: frankfurt, location: eu-central-1, witness: true}
needs:
  data:
    - {name: carts, why: [continuity], rpo: 5s, rto: 0s, commute: true}
`)
	for _, c := range []struct {
		pause drill.Millis
		state string
	}{{48, plan.Proven}, {1200, plan.Broken}} {
		r := record(t, 3, true, -1, 96, "oregon", "mumbai")
		r.Figures[0].Writes, r.Figures[0].Pause = antipode.WriteLocal, c.pause
		in.Drills = []*drill.Record{r}
		if a := plan.Advise(in).Data[0]; a.Writes != antipode.WriteLocal || a.RTO.State != c.state {
			t.Errorf("a pause of %v ms: written %s, RTO %+v", c.pause, a.Writes, a.RTO)
		}
	}
}

func TestStandbyProof(t *testing.T) {
	in := input(t, strings.Replace(accounts, "rto: 30s", "rto: 5m", 1))
	in.Drills = []*drill.Record{record(t, 1, true, 3900, 96, "oregon", "mumbai")}
	a := plan.Advise(in).Data[0]
	if a.Strategy != plan.WarmStandby || a.RPO.State != plan.Proven || a.RTO.State != plan.Unproven || a.RTO.Note == "" {
		t.Errorf("%s: %+v %+v", a.Strategy, a.RPO, a.RTO)
	}
}

// TestMeasuredRoundTrips: what was measured counts more than the table.
func TestMeasuredRoundTrips(t *testing.T) {
	in := input(t, strings.Replace(accounts, "rto: 30s", "rto: 30s\n      reads: {p99: 300ms}\n      staleness: 0s", 1)+`  users:
    - {name: india, location: ap-south-1}
`)
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	in.RoundTrips = []plan.RoundTrip{
		{From: "mumbai", To: "oregon", RTT: spec.Duration(80 * time.Millisecond), Measured: at.Add(time.Hour)},
		{From: "oregon", To: "mumbai", RTT: spec.Duration(400 * time.Millisecond), Measured: at},
		{From: "mumbai", To: "india", RTT: spec.Duration(5 * time.Millisecond), P99: spec.Duration(9 * time.Millisecond), Measured: at},
	}
	a := plan.Advise(in).Data[0]
	p := a.Latency[0].Read
	if p.Via[0] != "mumbai" || p.Estimate != spec.Duration(9*time.Millisecond) || !p.Measured {
		t.Errorf("a read takes %+v, want the 9 ms that were measured", p)
	}
	in.RoundTrips = nil
	if p := plan.Advise(in).Data[0].Latency[0].Read; p.Measured || p.Estimate != spec.Duration(2*time.Millisecond) {
		t.Errorf("a read takes %+v without a measurement", p)
	}
}

// TestRoundTripsAreKept: what probe measured is read back as it was written.
func TestRoundTripsAreKept(t *testing.T) {
	want := plan.RoundTrip{From: "a", To: "b", RTT: spec.Duration(221600 * time.Microsecond), P99: spec.Duration(time.Second), Samples: 9, Measured: time.Date(2026, 11, 1, 2, 3, 4, 0, time.UTC)}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got plan.RoundTrip
	if err := json.Unmarshal(text, &got); err != nil || got != want {
		t.Errorf("%s: %+v (%v)", text, got, err)
	}
	if err := json.Unmarshal([]byte(`{"rtt": "soon"}`), &got); err == nil {
		t.Error("soon is no duration")
	}
}

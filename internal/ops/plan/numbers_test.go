package plan_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/antipode-io/antipode/internal/ops/plan"
	"github.com/antipode-io/antipode/internal/spec"
)

// workload reads what a script asks.
func workload(t *testing.T, path string) plan.Input {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\nadvise ")
	_, rest, _ = strings.Cut(rest, "\n")
	yaml, _, _ := strings.Cut(rest, "\n----\n")
	return input(t, yaml)
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-6*math.Max(1, math.Abs(want)) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// TestLedgerByHand: each number of one answer, worked out by hand.
func TestLedgerByHand(t *testing.T) {
	a := plan.Advise(workload(t, "testdata/workloads/ledger")).Data[0]
	c := a.Cost
	near(t, "machines", c.Compute, 1000*2)                    // n/(n-1) with n = 2
	near(t, "storage", c.Storage, 10*0.25*2)                  // 10 GB were assumed
	near(t, "gigabytes", c.TransferGB, 657)                   // 500/s × 500 B × 2,628,000 s
	near(t, "transfer", c.Transfer, 13.14)                    // × 0.02
	near(t, "a month", c.Month, 2018.14)                      //
	near(t, "a month in one region", c.MonthOne, 1002.5)      //
	near(t, "factor", c.Factor, 2018.14/1002.5)               //
	near(t, "risk with one region", *c.RiskYearOne, 876_000)  // 525.6 min × 100,000 / 60
	near(t, "down", a.Availability.MinutesDrilled, 6.5451667) // 0.99 × 65 s + 0.01 × 525.6 min + 0.2 × 65 s = 64.35 + 315.36 + 13 = 392.71 s
	near(t, "risk", *c.RiskYear, 392.71/3600*100_000)
	if !*c.Worth { // 12 × 1015.64 against 876,000 − 10,908.6
		t.Errorf("865,091 a year for 12,188 is worth it: %s", c.Note)
	}
	l := a.Latency[0]
	near(t, "a read", float64(l.Read.Estimate), 2e6)      // one's own city
	near(t, "a write", float64(l.Write.Estimate), 17.4e6) // and to Ohio and back
	if want := []string{"virginia", "ohio"}; !slices.Equal(l.Write.Via, want) {
		t.Errorf("a write passes %v, want %v", l.Write.Via, want)
	}
	// Ashburn to Columbus is 484 km: 4.84 ms by light.
	if f := time.Duration(l.Write.Floor); f < 4800*time.Microsecond || f > 4900*time.Microsecond {
		t.Errorf("light takes %v", f)
	}
}

// TestOnCallByHand: with office hours a person's part waits 15.24 h on average, which is longer than the
// outage of 8.76 h, so a restore by hand is no better than to wait.
func TestOnCallByHand(t *testing.T) {
	a := plan.Advise(workload(t, "testdata/workloads/office-hours")).Data[0]
	near(t, "availability of a restore", a.Ladder[plan.BackupRestore.Rank()].Availability, 99.9)
	near(t, "availability of a standby", a.Availability.Drilled, 100-100*(0.99*2+0.01*525.6+0.2*2)/525600)
}

// TestSensitivities: what is said to change the answer does.
func TestSensitivities(t *testing.T) {
	files, err := filepath.Glob("testdata/workloads/*")
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, f := range files {
		in := workload(t, f)
		before := plan.Advise(in).Data[0]
		for _, s := range before.Sensitive {
			if s.Then == before.Strategy && s.Writes == before.Writes {
				t.Errorf("%s: %+v changes nothing", f, s)
			}
			d := in.Spec.Needs.Data[0]
			old := d
			var span spec.Duration
			if parsed, err := time.ParseDuration(strings.NewReplacer(" ", "", "min", "m").Replace(s.If)); err == nil {
				span = spec.Duration(parsed)
			}
			switch s.Input {
			case "rto":
				d.RTO = &span
			case "rpo":
				d.RPO = &span
			case "reads.p99":
				d.Reads.P99 = &span
			case "survive":
				d.Survive = s.If
			case "written_by":
				d.WrittenBy = s.If
			case "availability":
				var v float64
				if _, err := fmt.Sscanf(s.If, "%g %%", &v); err != nil {
					t.Fatal(err)
				}
				d.Availability = &v
			default:
				continue
			}
			in.Spec.Needs.Data[0] = d
			after := plan.Advise(in).Data[0]
			in.Spec.Needs.Data[0] = old
			if after.Strategy != s.Then || s.Writes != "" && after.Writes != s.Writes {
				t.Errorf("%s: with %s %s it is %s %s, and %s %s was said", f, s.Input, s.If, after.Strategy, after.Writes, s.Then, s.Writes)
			}
			tried++
		}
	}
	if tried < 30 {
		t.Errorf("only %d were tried", tried)
	}
}

// TestSpan writes durations as people do.
func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 1500 * time.Microsecond: "1.5 ms", 221600 * time.Microsecond: "222 ms", 5 * time.Second: "5 s", 65 * time.Second: "65 s",
		time.Minute: "1 min", 90 * time.Minute: "90 min", time.Hour: "1 h", 24 * time.Hour: "24 h", 720 * time.Hour: "30 days", 525*time.Minute + 36*time.Second: "8.76 h",
	} {
		if got := plan.Span(spec.Duration(d)); got != want {
			t.Errorf("Span(%v) = %q, want %q", d, got, want)
		}
	}
}

package view

import (
	"encoding/json"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/ops/plan"
	"github.com/antipode-io/antipode/internal/spec"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares with a file, or writes it with -update.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: -want +got\n%s", path, diff)
	}
}

func span2(d time.Duration) *spec.Duration { s := spec.Duration(d); return &s }

// sample is a report with one of everything, made by hand: what the renderers
// show must not change because the rules do.
func sample() *plan.Report {
	day := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	asked, risk, riskOne, worth := 99.99, 300.0, 90_000.0, true
	write := plan.Path{Via: []string{"mumbai", "oregon"}, Floor: ms(127), Low: ms(165), Estimate: ms(223), High: ms(406), Measured: true, Budget: span2(80 * time.Millisecond), Over: true}
	read := plan.Path{Via: []string{"mumbai"}, Floor: ms(3), Low: ms(4), Estimate: ms(9), High: ms(10)}
	cost := func(month float64) plan.Cost {
		return plan.Cost{Factor: month / 500, Month: month, MonthOne: 500, Compute: month - 40, Storage: 30, Transfer: 10, ComputeFactor: 2, StorageFactor: 2, TransferGB: 520}
	}
	dear := cost(1234)
	dear.RiskYear, dear.RiskYearOne, dear.Worth, dear.Note = &risk, &riskOne, &worth, "it costs 8,808 USD a year more, and takes away outages worth 89,700"
	return &plan.Report{
		Currency: "USD", Month: 1739, MonthOne: 1000,
		Regions: []plan.Site{
			{Name: "oregon", Code: "us-west-2", City: "Boardman", Latitude: 45.84, Longitude: -119.7},
			{Name: "mumbai", Code: "ap-south-1", City: "Mumbai", Latitude: 19.08, Longitude: 72.88},
			{Name: "frankfurt", Code: "eu-central-1", City: "Frankfurt", Latitude: 50.11, Longitude: 8.68, Witness: true, Added: true},
			{Name: "tokyo", Code: "ap-northeast-1", City: "Tokyo", Latitude: 35.69, Longitude: 139.69, Unused: true},
		},
		Users:   []plan.Group{{Name: "india", Share: 0.6, Latitude: 19, Longitude: 73}, {Name: "<b>west</b>", Share: 0.4, Latitude: 45, Longitude: -120}},
		Assumed: []plan.Assume{{Field: "region.availability", Assumed: "99.9 %", Because: "what clouds promise for zones"}},
		NotYet:  []string{"backups: use your own"},
		Lints: []plan.Lint{
			{Rule: "no-backup", Severity: plan.Warning, Data: "carts", Line: 12, Column: 5, Message: "carts has no backup", Fix: "add backup: {every: 24h}", Source: "AWS DR whitepaper"},
			{Rule: "zone", Severity: plan.Error, Data: "carts", Message: "rto is below zone_rto", Fix: "raise one of them"},
		},
		Data: []plan.Answer{
			{
				Name: "carts", Strategy: plan.ActiveActive, Writes: antipode.WriteLocal, Rule: antipode.RuleLastWriter, Kind: "table", IsTable: true, Asked: true, Scope: "region",
				Why:      "warm-standby is not enough: RTO 2 min, asked 30 s. Writes are local: they commute.",
				RPO:      plan.Promise{Asked: span2(5 * time.Second), Promised: span2(5 * time.Second), Measured: span2(1200 * time.Millisecond), Date: &day, Drill: "d1", State: plan.Proven},
				RTO:      plan.Promise{Asked: span2(30 * time.Second), Promised: span2(0), State: plan.Unproven},
				Replicas: []antipode.Region{"oregon", "mumbai"}, Witness: "frankfurt", Successors: []antipode.Region{"mumbai"}, Failover: "lease",
				Availability: plan.Availability{Asked: &asked, Today: 99.9598, Drilled: 99.9989, MinutesToday: 211, MinutesDrilled: 5.8, Formula: "1 × (0.6 × 65 + 0.4 × 480) / 525600"},
				Cost:         dear, Consistency: "a local read may miss the writes of the last 5 s elsewhere",
				Backup:     plan.BackupAdvice{Every: spec.Duration(24 * time.Hour), Keep: spec.Duration(30 * 24 * time.Hour), In: []string{"frankfurt"}},
				Reasons:    []plan.Reason{{Rule: "rto", Text: "RTO of 30 s rules out warm-standby", Source: "AWS DR whitepaper"}},
				Ladder:     sampleLadder(dear, cost),
				Latency:    []plan.Latency{{Users: "india", Share: 0.6, Read: read, Write: write}},
				Impossible: []plan.Impossible{{Wish: "writes within 1 ms", Because: "light alone takes 127 ms.", Nearest: "writes within 224 ms"}},
				Sensitive:  []plan.Sensitivity{{Input: "rto", Now: "30 s", If: "2 min", Then: plan.WarmStandby, Month: 800}},
				Assumed:    []plan.Assume{{Field: "item_bytes", Assumed: "1000", Because: "nobody said"}},
				First:      []string{"spread it over zones"},
				Drills:     []plan.Drill{{Name: "region-down", Region: "oregon", Shows: "RPO and RTO", Command: "antipode drill run region-down", Last: &day}, {Name: "restore", Shows: "that the backup is good"}},
				NotYet:     []string{"backups"},
			},
			{
				Ladder: []plan.Rung{{Strategy: plan.PilotLight, Misses: []string{"it may be in one place only"}}},
				Name:   "archive", Strategy: plan.BackupRestore, Kind: "objects", Asked: true, Scope: "region", Why: "single-region is not enough: RTO 72 h, asked 24 h.",
				RPO: plan.Promise{Promised: span2(24 * time.Hour), State: plan.Unproven}, RTO: plan.Promise{Promised: span2(12 * time.Hour), Measured: span2(30 * time.Hour), State: plan.Broken},
				Replicas: []antipode.Region{"oregon"}, Cost: cost(505), First: []string{"spread it over zones", "practise a restore"},
			},
			{Name: "old", Kind: "table", IsTable: true},
		},
	}
}

func ms(n int) spec.Duration { return spec.Duration(time.Duration(n) * time.Millisecond) }

func sampleLadder(dear plan.Cost, cost func(float64) plan.Cost) []plan.Rung {
	return []plan.Rung{
		{Strategy: plan.SingleRegion, Misses: []string{"RTO 72 h, asked 30 s", "RPO 24 h, asked 5 s", "99.9 %, asked 99.99 %", "a fourth thing"}, RPO: span2(24 * time.Hour), Availability: 99.9, Cost: cost(500)},
		{Strategy: plan.BackupRestore, Misses: []string{"RTO 4 h, asked 30 s"}, RPO: span2(24 * time.Hour), RTO: span2(4 * time.Hour), Availability: 99.95, Cost: cost(525)},
		{Strategy: plan.PilotLight, Misses: []string{"RTO 30 min, asked 30 s"}, RPO: span2(5 * time.Second), RTO: span2(30 * time.Minute), Availability: 99.99, Cost: cost(575)},
		{Strategy: plan.WarmStandby, Misses: []string{"RTO 2 min, asked 30 s"}, RPO: span2(5 * time.Second), RTO: span2(2 * time.Minute), Availability: 99.99, Cost: cost(700)},
		{Strategy: plan.ActiveActive, Meets: true, Chosen: true, RPO: span2(5 * time.Second), RTO: span2(0), Availability: 99.9989, Cost: dear},
	}
}

func TestText(t *testing.T) {
	got := Text(sample(), "antipode.yaml", Style{Width: 100})
	golden(t, "testdata/text.txt", got)
	for i, l := range strings.Split(got, "\n") {
		if utf8.RuneCountInString(l) > 100 || strings.HasSuffix(l, " ") {
			t.Errorf("line %d is too long, or ends in a blank: %q", i+1, l)
		}
	}
	if strings.Contains(got, "\x1b") {
		t.Error("there is colour where there shall be none")
	}
	colored := Text(sample(), "antipode.yaml", Style{Width: 100, Color: true})
	if !strings.Contains(colored, "\x1b[35mactive-active\x1b[0m") {
		t.Error("no colour where it was asked for")
	}
	if bare := regexp.MustCompile("\x1b\\[[0-9]+m").ReplaceAllString(colored, ""); bare != got {
		t.Error("colours change the layout")
	}
	for _, w := range []int{0, 40, 60, 80, 140} {
		Text(sample(), "antipode.yaml", Style{Width: w})
	}
}

func TestWhy(t *testing.T) {
	r := sample()
	golden(t, "testdata/why.txt", Why(r, &r.Data[0], Style{Width: 110}))
}

func TestMarkdown(t *testing.T) {
	got := Markdown(sample(), "antipode.yaml")
	golden(t, "testdata/report.md", got)
	for line := range strings.SplitSeq(got, "\n") {
		if strings.HasPrefix(line, "|") && !strings.HasSuffix(line, "|") {
			t.Errorf("a row is broken: %q", line)
		}
	}
}

func TestPage(t *testing.T) {
	got, err := HTML(sample(), Page{Source: "antipode.yaml", Made: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC), Measured: []plan.RoundTrip{{From: "mumbai", To: "oregon", RTT: ms(231)}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"For 1 of 2 data sets: carts.", "prefers-color-scheme: dark", "&lt;b&gt;west&lt;/b&gt;", `class="way active-active"`, "231 ms", "and 1 more",
		`class="region unused"`, `class="region witness added"`, "writes within 1 ms: not possible, because light alone takes 127 ms.", "antipode.yaml:12:5", "Natural Earth",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if bad := regexp.MustCompile(`(?i)(src|href)=|@import|url\(|<script|NaN|Inf\b|ZgotmplZ|%!`).FindString(got); bad != "" {
		t.Errorf("the page has %q", bad)
	}
	if !strings.Contains(got, "<em>not possible</em><p>RPO -, RTO -</p>") {
		t.Error("a strategy that can't be had is shown as if it could")
	}
	if strings.Count(got, `<div class="rung`) != 6 {
		t.Error("the ladders have not five steps and one")
	}
}

// TestEmpty: a report without anything is shown, too.
func TestEmpty(t *testing.T) {
	r := &plan.Report{Currency: "USD"}
	if got := Text(r, "antipode.yaml", Style{}); !strings.Contains(got, "Nobody has said yet") {
		t.Error(got)
	}
	if _, err := HTML(r, Page{}); err != nil {
		t.Error(err)
	}
	Markdown(r, "antipode.yaml")
}

func TestVerdict(t *testing.T) {
	answers := func(strategies ...plan.Strategy) *plan.Report {
		r := &plan.Report{}
		for i, s := range strategies {
			r.Data = append(r.Data, plan.Answer{Name: string(rune('a' + i)), Strategy: s, Asked: true})
		}
		return r
	}
	for _, tc := range []struct {
		r    *plan.Report
		want string
	}{
		{answers(), "Nobody has said yet what the data has to survive."},
		{answers(plan.SingleRegion), "No."},
		{answers(plan.ActiveActive), "Yes."},
		{answers(plan.SingleRegion, plan.WarmStandby), "No: something cheaper does for each of the 2 data sets."},
		{answers(plan.ActiveActive, plan.ActiveActive), "Yes, for all 2 data sets."},
		{answers(plan.ActiveActive, plan.PilotLight, plan.ActiveActive), "For 2 of 3 data sets: a, c."},
	} {
		if got := Verdict(tc.r); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}

func TestNumbers(t *testing.T) {
	for got, want := range map[string]string{
		money(0): "0", money(0.5): "0.50", money(7): "7", money(12.4): "12", money(1234567): "1,234,567", money(-1234): "-1,234", money(999.5): "1,000",
		percent(99.9): "99.9 %", percent(99.9956): "99.9956 %", percent(100): "100 %", times(1.5): "×1.50", minutes(0): "no minute", minutes(5.83): "5.8 min", minutes(110): "110 min", minutes(526): "9 h",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestJSON: the shape that scripts were promised.
func TestJSON(t *testing.T) {
	text, err := json.Marshal(sample())
	if err != nil {
		t.Fatal(err)
	}
	var shape struct {
		Data []map[string]any `json:"data"`
		Lint []map[string]any `json:"lints"`
	}
	if err := json.Unmarshal(text, &shape); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"name", "strategy", "writes", "rule", "rpo", "rto", "cost", "why"} {
		if _, ok := shape.Data[0][field]; !ok {
			t.Errorf("data lacks %s", field)
		}
	}
	if len(shape.Lint) != 2 {
		t.Errorf("%d lints", len(shape.Lint))
	}
}
